"""Measure, and write the tables: ``make bench``."""

from __future__ import annotations

import argparse
import csv
import io
import os
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from vitrail.analysis import counted
from vitrail.bench.contestants import contestants
from vitrail.bench.table import BEGIN, COLUMNS, END, Row, full_block, readme_block, rows
from vitrail.bench.turns import Peaks, one_core, prepare, take_turns
from vitrail.config import load
from vitrail.data import load_mnist
from vitrail.errors import check_count, run_command
from vitrail.files import check_writable, write_text
from vitrail.readme import check_page, write_block

ROUNDS = 7
QUIET = 0.95  # share of the core below which the machine was too busy to be trusted


def facts(peaks: Peaks, rounds: int, pinned: bool) -> dict[str, str]:
    """What the tables say about the machine and the versions."""
    from statistics import median

    import torch

    from vitrail.commit import commit
    from vitrail.device import cpu_name

    def of(package: str) -> str:
        try:
            return version(package)
        except PackageNotFoundError:
            return "not installed"

    bf16 = f", {median(peaks['bf16']) / 1e9:.0f} in bf16" if peaks.get("bf16") else ""
    return {
        "hardware": cpu_name(),
        "rounds": counted(rounds, "round"),
        "cores": counted(os.cpu_count() or 1, "core") + (", pinned to one" if pinned else ""),
        "torch": torch.__version__,
        "timm": of("timm"),
        "vit_pytorch": of("vit-pytorch"),
        "transformers": of("transformers"),
        "commit": commit(Path()),
        "peak": f"{median(peaks['fp32']) / 1e9:.0f}",
        "bf16": bf16,
    }


def csv_text(made: Sequence[Row]) -> str:
    """The rows as CSV, numbers with six digits."""
    out = io.StringIO()
    writer = csv.DictWriter(out, COLUMNS, lineterminator="\n")
    writer.writeheader()
    for row in made:
        writer.writerow({k: f"{v:.6g}" if isinstance(v, float) else v for k, v in row.items()})
    return out.getvalue()


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description="Measure ours beside other libraries.")
    parser.add_argument("--config", type=Path, default=Path("config/default.yaml"))
    parser.add_argument("--data", type=Path, default=Path("results/data"))
    parser.add_argument("--out", type=Path, default=Path("results/benchmarks.csv"))
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--readme", type=Path, default=Path("README.md"))
    parser.add_argument("--page", type=Path, default=Path("docs/benchmarks.md"))
    arguments = parser.parse_args()
    check_count("--rounds", arguments.rounds)
    pages = {"--readme": arguments.readme, "--page": arguments.page}
    for option, page in pages.items():  # before minutes are spent
        check_page(page, (BEGIN, END), option)
    check_writable(arguments.out, "--out")
    defaults = load([arguments.config])["defaults"]
    mnist = load_mnist(arguments.data, verify=True)

    pinned = one_core()
    import torch

    from vitrail.device import faster_precision

    found = contestants(defaults, mnist, faster_precision(torch.device("cpu")) == "bf16")
    prepare(found)
    for one in found:
        if one.reason:
            print(f"bench: {one.name} is left out: {one.reason}")
    peaks, share = take_turns(found, arguments.rounds)
    made = rows(found, peaks)
    write_text(arguments.out, csv_text(made))
    about = facts(peaks, arguments.rounds, pinned)
    blocks = {"--readme": readme_block(made, about), "--page": full_block(made, about)}
    for option, page in pages.items():
        write_block(page, blocks[option], (BEGIN, END), option)
    print(f"bench: {arguments.out}, {arguments.readme} and {arguments.page} have the new numbers")
    if share < QUIET:
        print(
            f"bench: other programs took {1 - share:.0%} of the core; the numbers are of this "
            "process's own seconds, but repeat this on a quiet machine before you quote them"
        )


if __name__ == "__main__":
    run_command(main)
