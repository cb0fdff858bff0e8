"""The smoke study, run from nothing in a copy of the project (some minutes)."""

from __future__ import annotations

import csv
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import pytest

import sealed
from vitrail import outside, runs
from vitrail.config import load
from vitrail.settings import MNIST_FILES

ROOT = Path(__file__).parents[1]
SMOKE = "config/smoke.yaml"
LIMIT = 1800  # seconds for the study; a busy machine takes ten minutes
FROM_OUTSIDE = (
    # Of `make`, of the tests, of the user's MLflow: the study is run as in a fresh shell.
    "MAKELEVEL", "MAKEFLAGS", "PYTHONPATH", "OMP_NUM_THREADS", "MKL_NUM_THREADS",
    "MLFLOW_TRACKING_URI", "QUARTO",
    # What keeps tools quiet, the project itself has to set; in a CI or a test some are quiet
    # by themselves, and a proxy on this machine would hide who they talk to.
    *outside.QUIET, *outside.CLOSED, "CI", "GITHUB_ACTIONS", "PYTEST_CURRENT_TEST",
    "http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY",
)  # fmt: skip
TALK = Path(__file__).parent / "talk"
Rows = list[dict[str, str]]


class Study:
    """The finished smoke study."""

    def __init__(self, project: Path) -> None:
        self.project = project
        self.folder = project / "results" / "smoke"
        self.said = ""  # what Snakemake printed
        self.seconds = 0.0
        self.wanted: list[str] = []  # what wanted to leave the machine, of all runs
        self.unsealed = ""  # why they were not sealed
        if isinstance(why := sealed.way_in(), str):
            self.unsealed = why

    def snakemake(self, *arguments: str) -> str:
        """Run Snakemake in the copy; gives its output, both streams together.

        Where the system allows it, the run has no network, and notes who wanted one.
        """
        environment = {k: v for k, v in os.environ.items() if k not in FROM_OUTSIDE}
        # With the hub out of reach the pretrained arm is not run, wherever the test is run.
        environment[outside.OFFLINE] = "1"
        # Where SLURM's commands are installed its executor asks them about the cluster each time
        # that Snakemake starts, and they ask the name server where none is configured.
        environment["SLURM_CONF"] = os.devnull
        notes = Path(tempfile.mkdtemp(prefix="vitrail-talk-"))
        environment |= {"PYTHONPATH": str(TALK), "TALK_LOG": str(notes / "talk.log")}
        command = [sys.executable, "-m", "snakemake", "--cores", "all", *arguments]
        if not self.unsealed:
            command = sealed.sealed(command, notes / "packets.json")
        process = subprocess.Popen(
            command, cwd=self.project, env=environment, text=True, start_new_session=True,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip
        try:
            said, _ = process.communicate(timeout=LIMIT)
        except subprocess.TimeoutExpired:
            pytest.fail(f"snakemake {' '.join(arguments)} has not ended after {LIMIT} s")
        finally:
            if process.poll() is None:  # after Ctrl-C as well: Snakemake and its jobs
                os.killpg(process.pid, signal.SIGKILL)
            self._note(notes)
        assert process.returncode == 0, said[-8000:]
        return said

    def _note(self, notes: Path) -> None:
        """Keep what wanted to leave: packets, and the places in the code that asked."""
        if (packets := notes / "packets.json").exists():
            self.wanted += json.loads(packets.read_text(encoding="utf-8"))
        if (talk := notes / "talk.log").exists():
            self.wanted.append(talk.read_text(encoding="utf-8"))
        shutil.rmtree(notes)

    def planned(self, *files: str) -> set[str]:
        """The messages of the jobs that would be run."""
        said = self.snakemake("-n", "--configfile", SMOKE, *files)
        return {
            message.removesuffix(" (one of the longest)")
            for message in re.findall(r"^Job \d+: (.*)$", said, re.MULTILINE)
        }

    def plan(self, *files: str) -> runs.Plan:
        names = ["config/default.yaml", SMOKE, *files]
        return runs.expand(load([self.project / name for name in names]))

    def table(self, name: str) -> Rows:
        with (self.folder / name).open(encoding="utf-8", newline="") as stream:
            return list(csv.DictReader(stream))

    def finished(self) -> Rows:
        return [row for row in self.table("runs.csv") if row["status"] == "finished"]


def obtain_mnist(folder: Path) -> None:
    """The four files as a user may put them there; the study itself runs without a network."""
    folder.mkdir(parents=True)
    data = ROOT / "results" / "data"
    if all((data / name).is_file() for name in MNIST_FILES):
        for name in MNIST_FILES:
            shutil.copy2(data / name, folder / name)
        return
    command = [sys.executable, "-m", "vitrail.download", "--out", str(folder)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    (folder / "source.json").unlink()


@pytest.fixture(scope="session")
def study(copy_project: Callable[[Path], Path], tmp_path_factory: pytest.TempPathFactory) -> Study:
    """The smoke study, run once for all tests that look at it; they leave it as it is."""
    # A blank in the path, as in "My Documents".
    project = copy_project(tmp_path_factory.mktemp("end_to_end") / "my vitrail")
    made = Study(project)
    obtain_mnist(project / "results" / "data")
    begun = time.monotonic()
    made.said = made.snakemake("--configfile", SMOKE)
    made.seconds = time.monotonic() - begun
    return made
