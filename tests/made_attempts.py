"""Trainings that are interrupted: at fixed steps by an exception, or by a kill of the process."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from vitrail import data, train
from vitrail.files import sha256
from vitrail.resume import RECORD, State, Unfinished
from vitrail.settings import arm_id, relevant, run_id

# The command, with the checksums of whatever files lie in the folder of --data.
COMMAND = """
import sys
from pathlib import Path
from vitrail import data, train
from vitrail.errors import run_command
from vitrail.files import sha256
folder = Path(sys.argv[sys.argv.index("--data") + 1])
data.FILES = {name: sha256(folder / name) for name in data.FILES}
run_command(train.main)
"""
# Files of a run that a kill must not change.
SAME = ("history.csv", "predictions.npz", "model.safetensors", "config.json")
Settings = dict[str, Any]


def small_vit(config: Settings) -> Settings:
    """A ViT of 30 steps of some milliseconds."""
    small = {"embed_dim": 16, "depth": 2, "num_heads": 2, "train_size": 500, "validation": 100}
    small |= {"epochs": 2, "batch_size": 32, "evaluations": 3}
    return relevant({**config["defaults"], **small})


class Interrupted(Exception):
    """Stands for a kill, right after a state was saved."""


class Killed(Unfinished):
    """Saves after every step, and stops the training once after each of some steps."""

    def __init__(self, folder: Path, identity: dict[str, Any], at: Sequence[int]) -> None:
        super().__init__(folder, identity, every=0)
        self.at = at

    def due(self) -> bool:
        return True

    def save(self, step: int, state: State) -> None:
        if step in self.at:
            super().save(step, state)
            raise Interrupted(step)


def flip(path: Path, place: float) -> None:
    """Change one bit of a file."""
    content = bytearray(path.read_bytes())
    content[int(place * (len(content) - 1))] ^= 1
    path.write_bytes(bytes(content))


class Attempts:
    """The command, in this process, on a data folder of its own."""

    def __init__(
        self, study: Path, data_folder: Path, monkeypatch: pytest.MonkeyPatch, stops: list[int]
    ) -> None:
        self.study, self.data, self.patch = study, study.parent / "data", monkeypatch
        shutil.copytree(data_folder, self.data, dirs_exist_ok=True)
        self.stops = stops
        monkeypatch.setattr(train, "Unfinished", lambda *given: Killed(*given[:2], self.stops))

    def __call__(
        self, settings: Settings, seed: int = 0, study: Path | None = None, more: Sequence[int] = ()
    ) -> Path:
        """Train a seed of an arm, and more of them; the run folder of the first."""
        sums = {name: sha256(self.data / name) for name in data.FILES}
        self.patch.setattr(data, "FILES", sums)
        study = study or self.study
        places = ["--data", str(self.data), "--study", str(study), "--device", "cpu"]
        if (study / "weights.json").exists():
            places += ["--weights", str(study / "weights.json")]
        seeds = map(str, [seed, *more])
        given = ["train", "--settings", json.dumps(settings), "--seeds", *seeds, *places]
        self.patch.setattr(sys, "argv", given)
        train.main()
        return study / "runs" / run_id(arm_id(settings), seed)


def start(arguments: Sequence[str], source: Path) -> Any:
    """A process of the command; `source` is the folder to import vitrail from."""
    return subprocess.Popen(
        [sys.executable, "-c", COMMAND, *arguments],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        env={**os.environ, "PYTHONPATH": str(source)},
    )  # fmt: skip


def kill_at(process: Any, folder: Path, step: int, seconds: float = 60) -> str:
    """SIGKILL once a state of at least so many steps is kept in a folder; what was printed."""
    end = time.monotonic() + seconds
    while process.poll() is None and time.monotonic() < end:
        try:
            (name,) = json.loads((folder / RECORD).read_text(encoding="utf-8"))["files"]
            if name.endswith(".pt") and int(name.removesuffix(".pt")) >= step:
                break
        except (OSError, ValueError):
            pass
        time.sleep(0.002)
    was_running = process.poll() is None
    process.kill()
    printed: str = process.communicate()[0]
    assert was_running, f"over before step {step}: {printed}"
    assert time.monotonic() < end, printed
    return printed
