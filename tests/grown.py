"""How the workflow grows: a generated study of many runs, planned and found finished.

    python tests/grown.py 100 1000 10000

(`make growth`) prints, for each number of runs, seconds and peak memory of `snakemake -n` on a
fresh copy of the project, and of `snakemake` where everything is done. The steps themselves are
left out: their files are made empty, and `snakemake --touch` takes note of them as of any others.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from vitrail.config import STEMS, load
from vitrail.errors import VitrailError, check_count, run_command
from vitrail.runs import expand

ROOT = Path(__file__).parents[1]
SEEDS = 3  # as in config/default.yaml
MOST_SEEDS = 1000  # that the schema of the config takes
SMOKE_RUNS = 38
# Q7's meter of memory gets the settings of all its arms on its command line, which holds few.
GROWING = tuple(stem for stem in STEMS if stem != "q7_complexity")
FIRST = 1000  # training images of the first arm; each has one more
NOTHING = "Nothing to be done"


class Cost(NamedTuple):
    """What a command took: seconds by the clock and of a core, peak memory in MiB."""

    seconds: float
    core_seconds: float
    peak_mib: float


def grown(runs: int, seeds: int = SEEDS) -> dict[str, Any]:
    """The changes to the smoke study that give it about so many runs in all.

    Every question but Q7 gets an experiment, whose arms differ in their training images.
    """
    arms = max(1, (runs - SMOKE_RUNS) // seeds)
    each = math.ceil(arms / len(GROWING))
    sizes = [FIRST + place for place in range(arms)]
    return {
        "study": f"grown-{runs}",
        "questions": {
            stem: {
                "experiments": {
                    "grown": {
                        "title": "A generated comparison",
                        "seeds": list(range(seeds)),
                        "settings": {"evaluations": 1},
                        "vary": {"train_size": sizes[at * each : (at + 1) * each]},
                    }
                }
            }
            for at, stem in enumerate(GROWING)
            if sizes[at * each :]
        },
    }


# Between the two, a small process: Linux counts to the peak of a program what the process was
# that it was started from, and a test process may hold gigabytes.
LAUNCHER = """
import json, os, subprocess, sys
process = subprocess.Popen(sys.argv[2:])
_, status, used = os.wait4(process.pid, 0)
code = os.waitstatus_to_exitcode(status)
with open(sys.argv[1], "w") as told:
    json.dump([code, used.ru_utime + used.ru_stime, used.ru_maxrss], told)
"""


def snakemake(folder: Path, *arguments: str) -> tuple[Cost, str]:
    """Snakemake in a folder: what it took and what it said."""
    return measured(folder, sys.executable, "-m", "snakemake", "--cores", "2", *arguments)


def measured(folder: Path, *command: str) -> tuple[Cost, str]:
    """A command in a folder: what it took and what it said.

    Raises:
        RuntimeError: it failed.
    """
    hidden = ("MAKELEVEL", "VITRAIL_MAKE", "MLFLOW_TRACKING_URI")
    environment = {name: value for name, value in os.environ.items() if name not in hidden}
    environment["PYTHONPATH"] = str(ROOT / "src")  # a copy of the project puts its own first
    with tempfile.TemporaryFile() as output, tempfile.NamedTemporaryFile("r") as told:
        begun = time.perf_counter()
        subprocess.run(
            [sys.executable, "-c", LAUNCHER, told.name, *command],
            cwd=folder, env=environment, stdout=output, stderr=subprocess.STDOUT, check=True,
        )  # fmt: skip
        seconds = time.perf_counter() - begun
        code, core_seconds, kib = json.loads(told.read())
        output.seek(0)
        said = output.read().decode(errors="replace")
    if code:
        raise RuntimeError(f"{' '.join(command)} failed: {said[-2000:]}")
    return Cost(seconds, core_seconds, kib / 1024), said


class Grown:
    """A copy of the project with a study of so many runs.

    Raises:
        RuntimeError: Snakemake fails in it.
    """

    def __init__(self, project: Path, runs: int, seeds: int = SEEDS) -> None:
        self.folder = project
        self.config = f"grown-{runs}.yaml"
        (project / self.config).write_text(yaml.safe_dump(grown(runs, seeds)), encoding="utf-8")
        self.options = ("--configfile", "config/smoke.yaml", self.config)

    def count(self) -> tuple[int, int]:
        """How many arms and runs there are."""
        files = ["config/default.yaml", "config/smoke.yaml", self.config]
        plan = expand(load([self.folder / name for name in files]))
        return len(plan.arms), sum(len(arm.seeds) for arm in plan.arms.values())

    def dry(self) -> Cost:
        """Everything has to be done, and nothing is."""
        return snakemake(self.folder, "-n", "--quiet", "all", *self.options)[0]

    def finish(self) -> int:
        """Make every file of the study as it stands when it is done; says how many there are."""
        _, said = snakemake(self.folder, "--summary", *self.options)
        header, *rows = (line.split("\t") for line in said.splitlines() if "\t" in line)
        outputs = [
            Path(self.folder, dict(zip(header, row, strict=True))["output_file"]) for row in rows
        ]
        for path in outputs:
            if path.name in ("figures", "tables"):
                path.mkdir(parents=True, exist_ok=True)
            else:
                path.parent.mkdir(parents=True, exist_ok=True)
                path.touch()
        snakemake(self.folder, "--touch", "--quiet", "all", *self.options)
        return len(outputs)

    def nothing(self) -> Cost:
        """Everything is done, and Snakemake finds that it is."""
        cost, said = snakemake(self.folder, *self.options)
        if NOTHING not in said:
            raise RuntimeError(f"the study is not finished: {said[-2000:]}")
        return cost


def copy_project(project: Path) -> None:
    """The files of the project that git knows or does not ignore, in a folder of their own.

    Raises:
        VitrailError: git does not know this folder.
    """
    command = ["git", "ls-files", "-co", "--exclude-standard", "-z"]
    try:
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
        names = done.stdout.split("\0")
    except OSError:  # no git
        names = []
    if "Snakefile" not in names:
        raise VitrailError(
            f"git does not list the files of {ROOT}, so that no copy of the project can be made to "
            "measure in; run this in a checkout (git clone)"
        )
    for name in filter(None, names):
        if (ROOT / name).is_file():
            (project / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, project / name)


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure how planning grows with the runs.")
    parser.add_argument("runs", type=int, nargs="+")
    parser.add_argument("--seeds", type=int, default=SEEDS, help="runs of each arm")
    parser.add_argument("--folder", type=Path, help="keep the copies of the project there")
    parser.add_argument("--dry-only", action="store_true", help="leave the finished studies out")
    arguments = parser.parse_args()
    for runs in arguments.runs:
        check_count("runs", runs)
    check_count("--seeds", arguments.seeds, MOST_SEEDS)
    print("| Runs | Arms | Files | | Seconds | Core-seconds | Peak memory (MiB) |")
    print("|--:|--:|--:|:--|--:|--:|--:|")
    for runs in arguments.runs:
        with tempfile.TemporaryDirectory() as temporary:
            project = (arguments.folder or Path(temporary)) / f"vitrail-{runs}"
            copy_project(project)
            study = Grown(project, runs, arguments.seeds)
            arms, number = study.count()
            costs = {"dry run": study.dry()}
            files = 0
            if not arguments.dry_only:
                files = study.finish()
                costs["nothing to do"] = study.nothing()
            for what, cost in costs.items():
                cells = (f"{number:,}", f"{arms:,}", f"{files:,}", what, *map(_shown, cost))
                print(f"| {' | '.join(cells)} |", flush=True)


def _shown(value: float) -> str:
    return f"{value:,.1f}"


if __name__ == "__main__":
    run_command(main)
