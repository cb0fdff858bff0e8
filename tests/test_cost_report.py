"""What a study cost, from logs that are written by hand."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

from vitrail import cost, schedule
from vitrail.cost_report import SEVERAL, by_kind, kinds_table, main
from vitrail.errors import VitrailError
from vitrail.intact import write_vouched

RUNS = pd.DataFrame(
    {
        "arm_id": ["vit-1a"], "experiment": ["base"], "question": ["q6_vit"],
        "status": ["finished"], "seconds": ["50"], "samples": ["4000"],
        "train_samples_per_second": ["100"],
    }
)  # fmt: skip


SUMMARY = (
    "output_file", "date", "rule", "log-file(s)", "input-file(s)", "shellcmd", "status", "plan",
)  # fmt: skip


def log(core_seconds: float, starting: float, seconds: float, begun: float = 1000) -> str:
    return (
        f"vitrail: {core_seconds:.2f} core-seconds\n"
        f"vitrail: {starting:.2f} of them to start; "
        f"from {begun:.2f} to {begun + seconds:.2f} on 1 threads\n"
    )


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    logs = {
        "train/vit-1a.log": log(30, 3, 60),  # half a core, as on a busy machine
        "timing.log": log(12, 2, 12),
        "step_memory.log": log(3, 1, 3),
        "q6_vit.log": log(6, 4, 6),
        "track_q6_vit.log": log(5, 2, 5),
        "report.log": log(4, 1, 4),
        "snakemake.log": log(8, 2, 100) + "vitrail: 63.00 core-seconds in its steps\n",
    }
    for name, text in logs.items():
        (tmp_path / "s" / "logs" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "s" / "logs" / name).write_text(text)
    timing = tmp_path / "s" / "timing" / "env.json"
    timing.parent.mkdir()
    timing.write_text(json.dumps({"seconds": 9}))
    return tmp_path / "s"


def test_core_seconds_are_told_apart_by_what_they_were_spent_on(folder: Path) -> None:
    spent = by_kind(folder, RUNS)
    assert {name: round(value, 6) for name, value in spent.items() if value} == {
        "training": 20,  # 4,000 images at 100/s, on half a core
        "evaluation": 5,  # the other 10 of its 50 seconds
        # What is left of 30 - 3, and of the clock's 12 - 2.
        "loading and writing": 2 + 1,
        "timing": 9,
        "metering memory": 2,
        "figures and tables": 2,
        "tracking": 3,
        "rendering": 3,
        "starting Python": 3 + 2 + 4 + 2 + 1 + 1,
        "Snakemake itself": 8,
        "shells, steps that ended early": 63 - 30 - 12 - 6 - 5 - 4 - 3,
    }
    said = kinds_table(spent)
    # Of 71 core-seconds 29 are training and timing, and 5 evaluation.
    assert f"neither training nor timing: {42 / 71:.1%}" in said
    assert f"(without the evaluation of networks {37 / 71:.1%})" in said
    # What could not be told apart is named.
    assert "training: with what pretraining evaluates" in said
    assert "timing: with the memory, the imports" in said
    shares = [float(number) for number in re.findall(r"([\d.]+)%$", said, re.MULTILINE)]
    assert sum(shares) == pytest.approx(100, abs=0.5)


def test_work_is_never_more_than_the_process_took(folder: Path) -> None:
    """A training that went on from a state counts the seconds of earlier processes too."""
    (folder / "logs" / "train" / "vit-1a.log").write_text(log(10, 3, 10))
    spent = by_kind(folder, RUNS)
    assert spent["training"] + spent["evaluation"] == pytest.approx(7)
    assert spent["loading and writing"] == pytest.approx(1)  # the clock's


def test_a_study_that_has_not_told_is_named(folder: Path) -> None:
    (folder / "logs" / "timing.log").write_text("vitrail: 12.00 core-seconds\n")
    with pytest.raises(VitrailError, match=r"\(Timing attention\): it was run by an older"):
        by_kind(folder, RUNS)
    (folder / "logs" / "timing.log").write_text(log(12, 2, 12))
    (folder / "logs" / "snakemake.log").unlink()
    with pytest.raises(VitrailError, match="Snakemake itself"):
        by_kind(folder, RUNS)


def test_a_log_that_tells_of_no_threads_is_damaged(folder: Path) -> None:
    for name, named in (("timing.log", "Timing attention"), ("snakemake.log", "Snakemake itself")):
        whole = (folder / "logs" / name).read_text()
        (folder / "logs" / name).write_text(whole.replace("on 1 threads", "on 0 threads"))
        with pytest.raises(VitrailError, match=rf"\({named}\).* a log is damaged"):
            by_kind(folder, RUNS)
        (folder / "logs" / name).write_text(whole)


def test_a_finished_step_without_its_log_is_named(
    tmp_path: Path,
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Else the table would be short of it and would not say so."""
    write_vouched(folder / "runs.csv", RUNS.to_csv(index=False))
    config = tmp_path / "c.yaml"
    config.write_text("study: s\n")
    row = ("results/s/timing/env.json", "-", "timing", "results/s/logs/timing.log")
    said = "\n".join(map("\t".join, [SUMMARY, (*row, "src.py", "x", "ok", "no update")]))
    monkeypatch.setattr(schedule, "ask_snakemake", lambda files, root: said)
    default = Path(__file__).parents[1] / "config" / "default.yaml"
    arguments = ["--results", str(tmp_path), "--config", str(default), str(config)]
    monkeypatch.setattr(sys, "argv", ["vitrail.cost_report", *arguments])
    main()
    assert "timing 12" in capsys.readouterr().out
    (folder / "logs" / "timing.log").unlink()
    with pytest.raises(VitrailError, match=r"there is no log \(results/s/logs/timing.log\); put"):
        main()
    assert not capsys.readouterr().out


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


def test_a_study_that_took_several_runs_is_known(folder: Path) -> None:
    assert cost.in_one_run(folder)
    mine, early = folder / cost.SNAKEMAKE, folder / "logs" / "train" / "vit-1a.log"
    once = mine.read_text()
    mine.write_text(once + once)
    assert not cost.in_one_run(folder)
    # The first was killed and told nothing, but a step had ended before the second began.
    mine.write_text(once)
    early.write_text(log(30, 3, 60, begun=900))
    assert not cost.in_one_run(folder)
    early.write_text(log(30, 3, 60, begun=999.99))
    assert cost.in_one_run(folder)


def test_a_study_on_a_cluster_is_refused(tmp_path: Path, folder: Path, root: Path) -> None:
    (folder / cost.SNAKEMAKE).unlink()
    cost.tell_of_snakemake(folder, 1, "local")
    cost.tell_of_snakemake(folder, 1, "touch")
    assert by_kind(folder, RUNS)
    cost.tell_of_snakemake(folder, 1, "slurm")
    with pytest.raises(VitrailError, match="were jobs of slurm, on cores that no log tells"):
        by_kind(folder, RUNS)
    # The workflow says who ran its jobs, however it ends.
    said = (root / "Snakefile").read_text(encoding="utf-8")
    told = re.findall(r"tell_of_snakemake\(\s*([^)]*\), [^)]*?)\s*\)", said)
    assert told == ["Path(RESULTS, STUDY), CORES, workflow.executor_plugin.name"] * 2


def test_copied_results_tell_what_they_can_and_say_what_they_cannot(
    tmp_path: Path, folder: Path, copy_project: Callable[[Path], Path]
) -> None:
    """Without Snakemake's notes nobody knows which job waited for which."""
    config = tmp_path / "c.yaml"
    config.write_text("study: s\n")
    write_vouched(folder / "runs.csv", RUNS.to_csv(index=False))
    (folder / "logs" / "train" / "vit-1a.log").write_text(log(30, 3, 60, begun=900))
    project = copy_project(tmp_path / "vitrail")
    done = subprocess.run(
        [sys.executable, "-m", "vitrail.cost_report", "--results", str(tmp_path), "--config",
         "config/default.yaml", "config/smoke.yaml", str(config)],
        cwd=project, env={**os.environ, "PYTHONPATH": str(project / "src")},
        capture_output=True, text=True, timeout=100,
    )  # fmt: skip
    assert done.returncode == 1
    assert done.stdout.startswith(f"vitrail: study s\n\n{SEVERAL}\n")
    assert "neither training nor timing" in done.stdout
    assert done.stderr.startswith("vitrail: how the study filled its cores cannot be told: ")
    assert "Traceback" not in done.stderr
