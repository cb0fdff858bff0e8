"""Train for one minute, with several seeds, and say how well it reads: ``make minute``."""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from vitrail.errors import VitrailError, run_command
from vitrail.files import check_writable, read_json, write_json
from vitrail.one_minute.recipes import RECIPES, changed
from vitrail.one_minute.table import (
    BEGIN,
    END,
    PROCESSES,
    RUNS,
    SECONDS,
    SEEDS,
    block,
    recorded,
    table,
)
from vitrail.readme import check_page, write_block

MOST_SEED = 2**32 - 1  # as in the config of a study
SHORTEST = 0.5  # seconds; a tenth is kept for the last update
TRIED = RUNS.with_name("tried.json")  # runs with other options than those of the record


def parse(words: list[str] | None = None) -> argparse.Namespace:
    """The options.

    Raises:
        VitrailError: a number that makes no sense, told with what would.
    """
    parser = argparse.ArgumentParser(
        prog="python -m vitrail.one_minute", description="Train from scratch for one minute."
    )
    parser.add_argument("--models", nargs="+", choices=RECIPES, default=list(RECIPES))
    parser.add_argument("--seeds", type=int, nargs="+", default=list(SEEDS))
    parser.add_argument("--seconds", type=float, default=SECONDS, help="of each training")
    parser.add_argument(
        "--steps", type=int, default=0,
        help="count updates instead of seconds: the same bits each time, on one machine",
    )  # fmt: skip
    parser.add_argument(
        "--validation", action="store_true",
        help="train without the last 5,000 training images and read those, not the test set",
    )  # fmt: skip
    parser.add_argument(
        "--set", nargs="+", default=[], metavar="NAME=VALUE", dest="changes",
        help="other settings than the recipe's, as matrix_learning_rate=0.01 network.depth=3",
    )  # fmt: skip
    parser.add_argument("--processes", type=int, default=PROCESSES, choices=(1, 2))
    parser.add_argument(
        "--resume", action="store_true",
        help="keep the runs that stand in the file of --out already and make the others",
    )  # fmt: skip
    parser.add_argument("--data", type=Path, default=Path("results/data"))
    parser.add_argument(
        "--out", type=Path,
        help=f"{RUNS} for the runs that the README shows, {TRIED} for those with other options",
    )  # fmt: skip
    parser.add_argument("--readme", type=Path, default=Path("README.md"))
    arguments = parser.parse_args(words)
    # What the README shows: all of it, and nothing else, so that no trial replaces the record.
    asked = (set(arguments.models), set(arguments.seeds), arguments.seconds, arguments.processes)
    arguments.record = asked == (set(RECIPES), set(SEEDS), SECONDS, PROCESSES) and not (
        arguments.steps or arguments.validation or arguments.changes or arguments.out
    )
    arguments.out = arguments.out or (RUNS if arguments.record else TRIED)
    if not SHORTEST <= arguments.seconds < float("inf"):
        raise VitrailError(
            f"--seconds is {arguments.seconds:g} and has to be a number from {SHORTEST} on"
        )
    if arguments.steps < 0:
        raise VitrailError(f"--steps is {arguments.steps} and has to be 1 or more")
    if len(set(arguments.models)) < len(arguments.models):
        raise VitrailError("--models have to be different ones, as in --models vit cnn")
    seeds = arguments.seeds
    if not 0 <= min(seeds) <= max(seeds) <= MOST_SEED or len(set(seeds)) < len(seeds):
        raise VitrailError(
            f"--seeds have to be different numbers from 0 to {MOST_SEED}, as in --seeds 0 1 2"
        )
    return arguments


def measure(arguments: argparse.Namespace) -> dict[str, Any]:
    """All runs, seed by seed so that the networks share the state of the machine."""
    import os

    import torch

    from vitrail.data import load_mnist
    from vitrail.device import commit, cpu_name
    from vitrail.one_minute import networks
    from vitrail.one_minute.runs import check, run
    from vitrail.one_minute.train import Order, arrays

    recipes = dict(RECIPES)
    recipes |= {name: changed(RECIPES[name], arguments.changes) for name in arguments.models}
    for name in arguments.models:
        networks.check(recipes[name])
    check(arguments.processes)
    # Here, where a fault is told in one sentence.
    mnist = load_mnist(arguments.data, verify=True)
    images = len(arrays(mnist, arguments.validation)[0])
    for name in arguments.models:
        if (size := recipes[name].batch_size) > images:
            raise VitrailError(
                f"--set: batch_size is {size} and has to be at most {images}, the number of "
                "training images"
            )
    found: dict[str, Any] = {
        "hardware": cpu_name(),
        "cores": os.cpu_count() or 1,
        "torch": torch.__version__,
        "commit": commit(),
        "seconds": arguments.seconds,
        "steps": arguments.steps,
        "processes": arguments.processes,
        "validation": arguments.validation,
        "recipes": {name: asdict(recipe) for name, recipe in recipes.items()},
    }
    found["runs"] = kept(arguments.out, found) if arguments.resume else []
    there = {(run["model"], run["seed"]) for run in found["runs"]}
    for seed in arguments.seeds:
        for name in arguments.models:
            if (name, seed) in there:
                continue
            order = Order(
                recipes[name], seed, str(arguments.data), arguments.seconds, arguments.steps,
                arguments.validation, arguments.processes,
            )  # fmt: skip
            row = {"model": name, **run(order)}
            found["runs"].append(row)
            write_json(arguments.out, found)  # what is finished is kept
            print(f"{name} seed {seed}: {told(row)}", flush=True)
    return found


def told(row: dict[str, Any]) -> str:
    """A run in a line."""
    return (
        f"{row['errors']} of {row['read_images']:,} {row['read']} images misread "
        f"({100 * row['accuracy']:.2f} %, loss {row['loss']:.4f}) after {row['images']:,} images "
        f"in {row['seconds']:.1f} s, {row['cpu_seconds']:.1f} CPU-seconds, start-up "
        f"{row['start_up_seconds']:.1f} s"
    )


def kept(file: Path, found: dict[str, Any]) -> list[dict[str, Any]]:
    """The runs in a file of an earlier call, if it was made in the same way.

    Raises:
        VitrailError: it is no such file, or was made otherwise; names what differs.
    """
    if not file.is_file():
        return []
    earlier = read_json(file)
    runs = recorded(earlier)
    if runs is None:
        raise VitrailError(
            f"--resume: {file} is not a record of vitrail.one_minute; delete it or name another "
            "file with --out"
        )
    # Through JSON, as the file is.
    now = json.loads(json.dumps(found))
    if differs := [name for name in now if now[name] != earlier.get(name)]:
        raise VitrailError(
            f"--resume: the runs in {file} have another {', '.join(differs)}; leave --resume out "
            "to make all runs again, or name another file with --out"
        )
    return runs


def main() -> None:
    """The command line."""
    arguments = parse()
    check_writable(arguments.out, "--out")  # before minutes are spent
    if arguments.record:
        check_page(arguments.readme, (BEGIN, END))
    found = measure(arguments)
    print(f"\n{table(found)}\n\nvitrail: every run stands in {arguments.out}")
    if arguments.record:
        write_block(arguments.readme, block(found), (BEGIN, END))
        print(f"vitrail: {arguments.readme} shows them")


if __name__ == "__main__":
    run_command(main)
