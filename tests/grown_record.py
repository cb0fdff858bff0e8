"""How the record in MLflow grows: a question of many runs is synced, and synced again.

    python tests/grown_record.py 100 1000

prints seconds, core-seconds and peak memory of the sync of runs with 1,000 points of curves each,
and of the same sync once more, which finds everything there. Each is a process of its own, as in
the workflow; starting it, MLflow included, takes some seconds of both.
"""

from __future__ import annotations

import argparse
import csv
import json
import math
import shutil
import sys
import tempfile
from pathlib import Path

from grown import measured
from vitrail.errors import check_count, run_command

STUDY = "tiny"  # of made_tracked, which is imported where it is used: torch takes memory
POINTS = 1000  # of the curves of a run
SEEDS = 10
STEM = "q2_mlp"


def long_run(results: Path) -> Path:
    """A run of the made study with curves of so many points."""
    from made_run import reseal
    from made_tracked import BASE, fake_run

    folder = results / STUDY / "runs" / fake_run(results, BASE, 0, 0.9)
    for name in ("history.csv", "timing.csv"):
        with (folder / name).open(newline="") as stream:
            rows = list(csv.DictReader(stream))
        with (folder / name).open("w", newline="") as stream:
            writer = csv.DictWriter(stream, list(rows[0]))
            writer.writeheader()
            # Four curves.
            writer.writerows(rows[-1] | {"step": step + 1} for step in range(POINTS // 4))
    reseal(folder)
    return folder


def make(results: Path, runs: int) -> None:
    """A question with so many runs, ten seeds to an arm."""
    from made_run import reseal
    from made_tracked import BASE, answer, make_study, row, write_table

    make_study(results)
    pattern = long_run(results)
    rows = []
    for number in range(runs):
        arm, seed = divmod(number, SEEDS)
        about = row(BASE, seed, f"arm-{arm}", question=STEM)
        about |= {"arm_id": f"vit-{arm:08x}", "run_id": f"vit-{arm:08x}-s{seed}"}
        folder = results / STUDY / "runs" / about["run_id"]
        shutil.copytree(pattern, folder)
        config = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(
            json.dumps(config | {"run_id": about["run_id"], "seed": seed})
        )
        reseal(folder)
        rows.append(about)
    write_table(results, rows, STEM)
    answer(results, STEM)


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure how the record in MLflow grows.")
    parser.add_argument("runs", type=int, nargs="+")
    parser.add_argument("--make", type=Path, help=argparse.SUPPRESS)  # of the process for that
    arguments = parser.parse_args()
    for runs in arguments.runs:
        check_count("runs", runs)
    if arguments.make:
        make(arguments.make, arguments.runs[0])
        return
    print("| Runs | | Seconds | Core-seconds | Peak memory (MiB) |")
    print("|--:|:--|--:|--:|--:|")
    for runs in arguments.runs:
        with tempfile.TemporaryDirectory() as temporary:
            results = Path(temporary) / "results"
            # A process of its own: what it takes would count as the peak of those that follow.
            measured(Path(temporary), sys.executable, __file__, "--make", str(results), str(runs))
            command = [sys.executable, "-m", "vitrail.tracking"]
            study = ["--study", STUDY, "--results", str(results)]
            measured(Path(temporary), *command, "init", *study)
            out = ["--question", STEM, "--out", str(results / STUDY / STEM / "tracking.json")]
            for what in ("first sync", "again"):
                cost, said = measured(Path(temporary), *command, "sync", *study, *out)
                records = runs + math.ceil(runs / SEEDS) + 1
                wanted = f"{records} {'logged' if what == 'first sync' else 'unchanged'}"
                if wanted not in said:
                    raise RuntimeError(f"not {wanted}: {said}")
                cells = (f"{runs:,}", what, *(f"{value:,.1f}" for value in cost))
                print(f"| {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    run_command(main)
