"""Watch a study from another terminal.

make watch                                   # until the run ends, or Ctrl-C
python -m vitrail.progress --once            # as it stands now, once
python -m vitrail.progress --html            # write its page anew, as after a kill
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from pathlib import Path

from vitrail.config import load
from vitrail.errors import run_command
from vitrail.planning import plan_study
from vitrail.progress import notes, terminal
from vitrail.progress.below import Below
from vitrail.progress.page import write_page
from vitrail.progress.state import Watched

PAUSE = 2.0  # seconds between two looks
WAITS = "Waiting for one to start; Ctrl-C ends the watch."
ROOT = Path(__file__).parents[3]


def watch(watched: Watched, once: bool) -> None:
    """Show how the study stands; without `once`, wait for its run and show it until it ends.

    As below the output of Snakemake no mode of the terminal is changed, so that there is nothing
    to be put right when this is killed.
    """
    from rich.console import Console

    console = Console(highlight=False)
    state = watched.look(time.time())
    if not once and not state.ending:
        shown = Below(sys.stdout)
        while not state.ending:
            size = shown.size()
            rows = size.lines - 1  # the cursor stands below
            what = terminal.whole(state, rows)
            lines = terminal.drawn(what, size.columns - 1, console.color_system is not None)
            if not state.noted:
                lines.insert(2, WAITS)
            shown.show(lines[:rows])
            time.sleep(PAUSE)
            state = watched.look(time.time())
        shown.clear()
    console.print(terminal.whole(state))


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description="Show the progress of a study.")
    parser.add_argument("--config", type=Path, nargs="+", help="config files that name the study")
    parser.add_argument("--results", type=Path, default=Path("results"))
    parser.add_argument("--once", action="store_true", help="as it stands now, and no longer")
    parser.add_argument("--html", action="store_true", help="write its status page")
    arguments = parser.parse_args()
    files = arguments.config or [ROOT / "config" / "default.yaml"]
    plan = plan_study(load(files), ROOT).plan
    place = notes.place(plan.study, arguments.results.parent / ".snakemake")
    watched = Watched(plan, arguments.results, place)
    if arguments.html:
        path = arguments.results / plan.study / "status.html"
        write_page(path, watched.look(time.time()))
        print(f"vitrail: {path} is written")
        return
    try:
        plain = not sys.stdout.isatty() or os.environ.get("TERM", "dumb") == "dumb"
        watch(watched, arguments.once or plain)
    except KeyboardInterrupt:
        return


if __name__ == "__main__":
    run_command(main)
