"""The commands ``init`` and ``sync``."""

from __future__ import annotations

import argparse
from pathlib import Path

from vitrail.errors import run_command


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m vitrail.tracking", description="Keep the MLflow record of the runs."
    )
    commands = parser.add_subparsers(dest="command", required=True)
    init = commands.add_parser("init", help="make the store, or ask whether the server answers")
    sync_ = commands.add_parser("sync", help="log a question's runs; again changes nothing")
    for command in (init, sync_):
        command.add_argument("--results", type=Path, default=Path("results"))
        command.add_argument("--study", required=True)
    sync_.add_argument("--question", required=True, help="stem, for example q6_vit")
    sync_.add_argument("--out", type=Path, required=True, help="tracking.json to write")
    arguments = parser.parse_args()
    if arguments.command == "init":
        from vitrail.tracking.store import initialise

        print(f"tracking: {initialise(arguments.study, arguments.results)}")
        return
    from vitrail.tracking.sync import sync

    counts = sync(arguments.study, arguments.question, arguments.results, arguments.out)
    told = ", ".join(f"{count} {what}" for what, count in counts.items())
    print(f"tracking: {arguments.question}: {told} -> {arguments.out}")


if __name__ == "__main__":
    run_command(main)
