"""The commands ``init``, ``sync`` and ``prune``."""

from __future__ import annotations

import argparse
from pathlib import Path

from vitrail.config import STEMS, load
from vitrail.errors import run_command


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m vitrail.tracking", description="Keep the MLflow record of the runs."
    )
    commands = parser.add_subparsers(dest="command", required=True)
    init = commands.add_parser("init", help="make the store, or ask whether the server answers")
    sync_ = commands.add_parser("sync", help="log a question's runs; again changes nothing")
    prune_ = commands.add_parser(
        "prune", help="delete the runs that the last sync found no longer in the config"
    )
    for command in (init, sync_, prune_):
        command.add_argument("--results", type=Path, default=Path("results"))
    for command in (init, sync_):
        command.add_argument("--study", required=True)
    sync_.add_argument("--question", required=True, help="stem, for example q6_vit")
    sync_.add_argument("--out", type=Path, required=True, help="tracking.json to write")
    which = prune_.add_mutually_exclusive_group(required=True)
    which.add_argument("--study")
    which.add_argument("--config", type=Path, nargs="+", help="name the study by its config")
    prune_.add_argument("--question", choices=STEMS, help="only this one")
    prune_.add_argument("--dry-run", action="store_true", help="say what would go, delete nothing")
    arguments = parser.parse_args()
    if arguments.command == "init":
        from vitrail.tracking.store import initialise

        print(f"tracking: {initialise(arguments.study, arguments.results)}")
        return
    if arguments.command == "prune":
        from vitrail.tracking.prune import prune

        study = arguments.study or load(arguments.config)["study"]
        stems = [arguments.question] if arguments.question else STEMS
        told = prune(study, arguments.results, stems, arguments.dry_run)
        print("\n".join(told), end="\n" if told else "")
        done = "would be deleted" if arguments.dry_run else "deleted"
        print(f"tracking: study {study}: {len(told)} outdated runs {done}")
        return
    from vitrail.tracking.sync import sync

    counts = sync(arguments.study, arguments.question, arguments.results, arguments.out)
    told = [f"{count} {what}" for what, count in counts.items()]
    print(f"tracking: {arguments.question}: {', '.join(told)} -> {arguments.out}")


if __name__ == "__main__":
    run_command(main)
