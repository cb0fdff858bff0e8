"""Jobs that are killed: the runs that were finished come back, the others go on."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from made_attempts import SAME, Attempts, Interrupted, flip, kill_at, small_vit, start
from vitrail import train
from vitrail.files import read_json, sha256
from vitrail.settings import FINISHED_FILES, RUN_FILES, arm_id, run_id

Settings = dict[str, Any]
ROOT = Path(__file__).parents[1]
torch.set_num_threads(1)
pytestmark = pytest.mark.usefixtures("deterministic")


@pytest.fixture
def vit(config: Settings) -> Settings:
    return small_vit(config)


@pytest.fixture
def attempts(tmp_path: Path, data_folder: Path, monkeypatch: pytest.MonkeyPatch) -> Attempts:
    return Attempts(tmp_path / "study", data_folder, monkeypatch, [20])


def test_finished_runs_of_a_killed_job_come_back(
    attempts: Attempts, vit: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    """Byte for byte, with the seconds that they took; not if a byte of them was changed."""
    patch, study = attempts.patch, attempts.study
    real = train.run
    trained = []

    def stopping(settings: Settings, seed: int, *rest: Any) -> Any:
        trained.append(seed)
        if len(trained) == 3:
            raise Interrupted
        return real(settings, seed, *rest)

    attempts.stops.clear()
    patch.setattr(train, "run", stopping)
    with pytest.raises(Interrupted):
        attempts(vit, 0, more=[1, 2])
    folders = [study / "runs" / run_id(arm_id(vit), seed) for seed in (0, 1, 2)]
    before = {path: path.read_bytes() for folder in folders[:1] for path in folder.iterdir()}
    for folder in folders[:2]:  # as Snakemake does
        for name in RUN_FILES:
            (folder / name).unlink()
    flip(study / "unfinished" / folders[1].name / "run" / "predictions.npz", 0.5)
    capsys.readouterr()
    attempts(vit, 0, more=[1, 2])
    printed = capsys.readouterr().out
    assert f"{folders[0].name} was finished by an earlier attempt" in printed
    assert "run/predictions.npz has another checksum than when it was written" in printed
    assert trained == [0, 1, 2, 1, 2]
    assert {path: path.read_bytes() for path in folders[0].iterdir()} == before
    for folder in folders:
        assert {path.name for path in folder.iterdir()} == {*RUN_FILES, *FINISHED_FILES}
        for name, sum_ in read_json(folder / "summary.json")["files"].items():
            assert sha256(folder / name) == sum_
    assert not (study / "unfinished").exists()


def test_a_job_killed_again_and_again_ends_in_the_same_bits(
    attempts: Attempts, vit: Settings, tmp_path: Path
) -> None:
    """SIGKILL at steps drawn from a fixed seed, of either run; then the same command."""
    vit = {**vit, "epochs": 8, "drop_rate": 0.1, "rotation": 10}
    source, killed = tmp_path / "src", tmp_path / "killed"
    shutil.copytree(ROOT / "src" / "vitrail", source / "vitrail")

    def attempt() -> Any:
        for seed in (0, 1):
            for name in RUN_FILES:  # as Snakemake does
                (killed / "runs" / run_id(arm_id(vit), seed) / name).unlink(missing_ok=True)
        given = ["--settings", json.dumps(vit), "--seeds", "0", "1", "--device", "cpu"]
        given += ["--data", str(attempts.data), "--study", str(killed)]
        return start([*given, "--checkpoint-seconds", "0"], source=source)

    attempts.stops.clear()
    straight = attempts(vit, 0, more=[1]).parent
    first, second = (killed / "unfinished" / run_id(arm_id(vit), seed) for seed in (0, 1))
    steps = sorted(np.random.default_rng(0).integers(5, 50, 2).tolist())
    kill_at(attempt(), first, steps[0])
    kill_at(attempt(), first, steps[1])
    with (source / "vitrail" / "sam.py").open("a") as stream:
        stream.write("# another line, which makes it other code\n")
    printed = kill_at(attempt(), second, steps[0])
    assert "not used: it was made with another code sam.py; starting anew" in printed
    last = attempt()
    printed = last.communicate(timeout=120)[0]
    assert last.returncode == 0, printed
    assert f"{first.name} was finished by an earlier attempt" in printed
    assert "resumed at step" in printed
    for seed in (0, 1):
        for name in SAME:
            mine, other = (
                (runs / run_id(arm_id(vit), seed) / name).read_bytes()
                for runs in (killed / "runs", straight)
            )
            assert mine == other, name
    assert not (killed / "unfinished").exists()
