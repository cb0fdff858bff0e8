"""What a study cost, from logs that are written by hand."""

from __future__ import annotations

import os
import re
import time
from pathlib import Path

import pandas as pd
import pytest

from vitrail import cost
from vitrail.cost_report import by_kind, kinds_table
from vitrail.errors import VitrailError

RUNS = pd.DataFrame(
    {
        "arm_id": ["vit-1a"], "experiment": ["base"], "question": ["q6_vit"],
        "status": ["finished"], "seconds": ["50"], "samples": ["4000"],
        "train_samples_per_second": ["100"],
    }
)  # fmt: skip


def log(core_seconds: float, starting: float, seconds: float) -> str:
    return (
        f"vitrail: {core_seconds:.2f} core-seconds\n"
        f"vitrail: {starting:.2f} of them to start; "
        f"from 1000.00 to {1000 + seconds:.2f} on 1 threads\n"
    )


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    logs = {
        "train/vit-1a.log": log(30, 3, 60),  # half a core, as on a busy machine
        "timing.log": log(12, 2, 12),
        "q6_vit.log": log(6, 4, 6),
        "track_q6_vit.log": log(5, 2, 5),
        "report.log": log(4, 1, 4),
        "snakemake.log": log(8, 2, 100) + "vitrail: 60.00 core-seconds in its steps\n",
    }
    for name, text in logs.items():
        (tmp_path / "s" / "logs" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "s" / "logs" / name).write_text(text)
    return tmp_path / "s"


def test_core_seconds_are_told_apart_by_what_they_were_spent_on(folder: Path) -> None:
    spent = by_kind(folder, RUNS)
    assert {name: round(value, 6) for name, value in spent.items() if value} == {
        "training": 20,  # 4,000 images at 100/s, on half a core
        "evaluation": 5,  # the other 10 of its 50 seconds
        "loading and writing": 2,  # what is left of 30 - 3
        "timing": 10,
        "figures and tables": 2,
        "tracking": 3,
        "rendering": 3,
        "starting Python": 3 + 2 + 4 + 2 + 1,
        "Snakemake itself": 8,
        "shells, steps that ended early": 60 - 30 - 12 - 6 - 5 - 4,
    }
    said = kinds_table(spent)
    # Of 68 core-seconds 30 are training and timing, and 5 evaluation.
    assert f"neither training nor timing: {38 / 68:.1%}" in said
    assert f"(without the evaluation of networks {33 / 68:.1%})" in said
    shares = [float(number) for number in re.findall(r"([\d.]+)%$", said, re.MULTILINE)]
    assert sum(shares) == pytest.approx(100, abs=0.5)


def test_work_is_never_more_than_the_process_took(folder: Path) -> None:
    """A training that went on from a state counts the seconds of earlier processes too."""
    (folder / "logs" / "train" / "vit-1a.log").write_text(log(10, 3, 10))
    spent = by_kind(folder, RUNS)
    assert spent["training"] + spent["evaluation"] == pytest.approx(7)
    assert spent["loading and writing"] == pytest.approx(0)


def test_a_study_that_has_not_told_is_named(folder: Path) -> None:
    (folder / "logs" / "timing.log").write_text("vitrail: 12.00 core-seconds\n")
    with pytest.raises(VitrailError, match=r"\(Timing attention\): it was run by an older"):
        by_kind(folder, RUNS)
    (folder / "logs" / "timing.log").write_text(log(12, 2, 12))
    (folder / "logs" / "snakemake.log").unlink()
    with pytest.raises(VitrailError, match="Snakemake itself"):
        by_kind(folder, RUNS)


def test_snakemake_adds_a_run_to_its_log(tmp_path: Path) -> None:
    cost.begin()
    for _ in range(2):
        cost.tell_of_snakemake(tmp_path / "s", 2)
    spans = cost.spans(tmp_path / "s" / cost.SNAKEMAKE)
    assert [threads for _, _, threads in spans] == [2, 2]
    assert spans[0][0] <= spans[0][1] <= time.time() + 1
    told = cost.told_by(tmp_path / "s" / cost.SNAKEMAKE)
    used = os.times()
    assert told is not None
    assert 0 < told.core_seconds <= 2 * (used.user + used.system) + 0.02
    assert told.starting <= told.core_seconds
    assert cost.in_steps(tmp_path / "s" / cost.SNAKEMAKE) >= 0


def test_a_folder_that_cannot_be_written_ends_no_run(tmp_path: Path) -> None:
    (tmp_path / "s").write_text("a file")
    cost.tell_of_snakemake(tmp_path / "s", 2)
    assert (tmp_path / "s").read_text() == "a file"
