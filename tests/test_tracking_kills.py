"""A sync that was killed anywhere is completed by the same command.

The killing itself is in `killed_sync.py`. Here a sample of fixed seed is killed; with
VITRAIL_ALL_KILLS=1 every call of the client, every statement that writes and some files.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("mlflow", reason="MLflow is not installed")
if not hasattr(os, "fork"):
    pytest.skip("processes are forked and killed", allow_module_level=True)

from made_tracked import STEM, STUDY, counted, go, state
from vitrail import tracking  # noqa: F401  (turns telemetry off before MLflow is imported)
from vitrail.tracking import store

HERE = Path(__file__).parent
GONE = 2**22 + 1  # no process has this number: it is beyond the largest
ALL = bool(os.environ.get("VITRAIL_ALL_KILLS"))


def killed(pattern: Path, work: Path, step: str, points: list[int | None]) -> None:
    """Run `killed_sync.py`; what MLflow held after each kill is in `work`."""
    environment = {key: value for key, value in os.environ.items() if key != "MLFLOW_TRACKING_URI"}
    done = subprocess.run(
        [sys.executable, str(HERE / "killed_sync.py"), pattern, work, step, json.dumps(points)],
        env=environment, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr


def sample(told: list[str], fine: int, files: int) -> list[int]:
    """Points to be killed at, counted from 1: client calls and statements, and files."""
    draw = random.Random(20)
    kinds: dict[bool, list[int]] = {True: [], False: []}
    for number, what in enumerate(told, start=1):
        kinds[what.startswith("file")].append(number)
    chosen = kinds[False] if ALL else draw.sample(kinds[False], fine)
    return sorted(chosen + draw.sample(kinds[True], min(len(kinds[True]), 60) if ALL else files))


@pytest.mark.parametrize(("step", "fine", "files"), [("sync", 6, 2), ("init", 1, 0)])
def test_the_same_command_completes_what_a_kill_cut_short(
    tracked_pattern: Path, tmp_path: Path, step: str, fine: int, files: int
) -> None:
    """Exactly the state of a sync that nobody disturbed, and no file more."""
    pattern = tmp_path / "pattern"
    shutil.copytree(tracked_pattern, pattern)
    if step == "init":
        store.database(pattern).unlink()
    work = tmp_path / "work"
    killed(pattern, work, step, [None])
    told = json.loads((work / "told.json").read_text())
    undisturbed: dict[str, Any] = json.loads((work / "after-None.json").read_text())
    if step == "sync":
        runs = undisturbed["state"][f"{STUDY}/{STEM}"]["runs"]
        assert [run["about"][1] for run in runs] == ["FINISHED"] * 6
        clients = {what for what in told if what.startswith("client")}
        assert {"client create_run", "client log_artifact", "client create_logged_model"} < clients
    points = sample(told, fine, files)
    killed(pattern, work, step, [*points])
    for point in points:
        after = json.loads((work / f"after-{point}.json").read_text())
        assert after == undisturbed, f"killed at {point}, {told[point - 1]}"


def test_what_a_kill_left_is_gone(results: Path) -> None:
    """Drafts of the model, of tracking.json and of the database."""
    folder = results / STUDY / STEM
    (folder / ".tracking" / "model").mkdir(parents=True)
    (folder / f".tracking.json.{GONE}").write_text("{")
    (results / f".mlflow.db.{GONE}-journal").write_text("")
    store.initialise(STUDY, results)
    assert go(results)[0] == counted(logged=6)
    left = [path.name for path in results.rglob(".*")]
    assert sorted(left) == [".mlflow.lock", ".tracking.lock"]
    with store.open_client(results) as client:
        assert len(state(client)[f"{STUDY}/{STEM}"]["models"]) == 1
