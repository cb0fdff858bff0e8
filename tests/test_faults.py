"""The study is killed again and again, the same command goes on, and nothing tells afterwards.

One disturbed study stands for three promises at once: it runs in another clone, with another
number of cores, and is killed at random moments, and still comes to the same bits as the
undisturbed one. CI does the short list of kills; ``make faults`` the long one.
"""

from __future__ import annotations

import os
import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from faults import Disturbed, Fault
from smoke_study import Study
from vitrail.config import STEMS
from vitrail.hashes import differences, kinds_of
from vitrail.measured import COLUMNS
from vitrail.settings import MNIST_FILES

pytestmark = pytest.mark.end_to_end

ROOT = Path(__file__).parents[1]
LONG = bool(os.environ.get("VITRAIL_FAULTS"))
SEED = int(os.environ.get("VITRAIL_FAULTS_SEED", "7"))
Rounds = list[tuple[Fault, ...]]


def snakemake(number: signal.Signals, jobs: int = 0, during: str = "") -> Fault:
    return Fault("Snakemake", number, jobs, during)


KILL, TERM, INT = signal.SIGKILL, signal.SIGTERM, signal.SIGINT
# One command each; what the last command of a list leaves is made by one without faults.
# First the runs and the meters, then the answers, then the report.
SHORT_PLAN: tuple[Rounds, Rounds, Rounds] = (
    [(Fault("training"), snakemake(KILL, jobs=3))],
    [(Fault("sync"), snakemake(TERM, jobs=2))],
    [(Fault("render"),)],
)
LONG_PLAN: tuple[Rounds, Rounds, Rounds] = (
    [
        (Fault("timing"), Fault("pretraining"), snakemake(KILL, jobs=2)),
        (Fault("training"), Fault("training"), snakemake(TERM, jobs=2)),
        (Fault("training"), snakemake(INT, during="training")),
        (Fault("training"), Fault("training"), snakemake(KILL, during="training")),
        (Fault("reduction"), Fault("execution")),
        (snakemake(KILL, during="execution"),),
    ],
    [
        (Fault("answer"), Fault("sync"), snakemake(KILL, jobs=2)),
        (Fault("answer"), Fault("sync"), snakemake(TERM, jobs=2)),
        (Fault("answer"), snakemake(INT, during="sync")),
        (Fault("sync"), snakemake(KILL, during="answer")),
    ],
    [
        (Fault("facts"),),
        (Fault("render"),),
        (snakemake(KILL, during="render"),),
        (snakemake(TERM, during="render"),),
        (Fault("render"),),
    ],
)


@pytest.fixture(scope="module")
def disturbed(
    study: Study, copy_project: Callable[[Path], Path], tmp_path_factory: pytest.TempPathFactory
) -> Disturbed:
    """The other study, finished in spite of the kills."""
    project = copy_project(tmp_path_factory.mktemp("faults") / "another clone")
    made = Disturbed(project, cores="all" if LONG else "1", seed=SEED)
    if (study.project / "results" / "data").is_dir():
        (project / "results" / "data").mkdir(parents=True)
        for name in MNIST_FILES:
            shutil.copy2(study.project / "results" / "data" / name, project / "results" / "data")
    runs, answers, report = LONG_PLAN if LONG else SHORT_PLAN
    below = "results/smoke"
    run_targets = [
        f"{below}/{name}"
        for name in ("runs.csv", "timing/attention.csv", "execution/ways.csv")
    ] + [f"{below}/training_memory.csv", f"{below}/reduction/table.csv"]  # fmt: skip
    answer_targets = [f"{below}/{stem}/tracking.json" for stem in STEMS]
    answer_targets += [f"{below}/claims.csv", f"{below}/study/rules.csv"]

    def go_on(rounds: Rounds, targets: list[str]) -> None:
        for faults in rounds:
            assert made.command(*targets, faults=faults) != 0
        assert made.command(*targets) == 0, made.said[-6000:]

    go_on(runs, run_targets)
    ours, theirs = (kinds_of(folder) for folder in (study.folder, made.folder))
    of_runs = ("histories", "predictions", "weights", "runs")
    assert {kind: theirs[kind].keys() for kind in of_runs} == {
        kind: ours[kind].keys() for kind in of_runs
    }
    made.same_runs = all(
        theirs[kind][name].computed == one.computed
        for kind in of_runs
        for name, one in ours[kind].items()
    )
    # No clock shows the same time twice. With the values that the other run has measured,
    # all that is derived from them has to come to the same bits, to the last page.
    made.put_measured(study.folder)
    go_on(answers, answer_targets)
    made.put_logs(study.folder)
    go_on(report, [])
    return made


def test_every_kill_is_recovered_from_by_the_same_command(
    disturbed: Disturbed, capsys: pytest.CaptureFixture[str]
) -> None:
    with capsys.disabled():
        print(f"\n{disturbed.table()}")
    assert len(disturbed.kills) >= (25 if LONG else 5)
    assert "report.html" in disturbed.said


def test_histories_predictions_and_weights_are_the_same_bits(disturbed: Disturbed) -> None:
    assert disturbed.same_runs


def test_nothing_is_left_at_work_or_lying_about(disturbed: Disturbed) -> None:
    assert list(disturbed.at_work()) == []
    assert disturbed.litter() == []


def test_every_byte_of_tables_figures_and_report_is_the_same(
    study: Study, disturbed: Disturbed
) -> None:
    ours, theirs = kinds_of(study.folder), kinds_of(disturbed.folder)
    assert all(ours[kind] for kind in ours)
    assert differences(ours, theirs, whole=True) == []


def test_mlflow_holds_every_run_once(study: Study, disturbed: Disturbed) -> None:
    def stored(project: Path) -> dict[str, dict[str, Any]]:
        from mlflow import MlflowClient

        client = MlflowClient(f"sqlite:///{project / 'results' / 'mlflow.db'}")
        found: dict[str, dict[str, Any]] = {}
        for stem in STEMS:
            experiment = client.get_experiment_by_name(f"smoke/{stem}")
            assert experiment is not None
            for run in client.search_runs([experiment.experiment_id], max_results=1000):
                assert run.info.status == "FINISHED"
                key = f"{stem} {run.data.tags['vitrail.kind']} {run.data.tags['vitrail.key']}"
                assert key not in found, "recorded twice"
                metrics = {k: v for k, v in run.data.metrics.items() if k not in COLUMNS}
                found[key] = {"params": run.data.params, "metrics": metrics}
        return found

    assert stored(disturbed.project) == stored(study.project)


def test_afterwards_there_is_nothing_to_do(disturbed: Disturbed) -> None:
    begun = time.monotonic()
    assert disturbed.command() == 0
    assert "Nothing to be done" in disturbed.said
    assert time.monotonic() - begun < 60
