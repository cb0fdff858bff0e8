"""The study is killed again and again, the same command goes on, and nothing tells afterwards.

One disturbed study stands for three promises at once: it runs in another clone, with another
number of cores, and is killed at random moments, and still comes to the same bits as the
undisturbed one. CI does the short list of kills; ``make faults`` the long one.
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from faults import LONG_PLAN, SHORT_PLAN, Disturbed
from smoke_study import Study
from vitrail.config import STEMS
from vitrail.hashes import differences, kinds_of
from vitrail.measured import COLUMNS

pytestmark = pytest.mark.end_to_end

LONG = bool(os.environ.get("VITRAIL_FAULTS"))
SEED = int(os.environ.get("VITRAIL_FAULTS_SEED", "7"))


@pytest.fixture(scope="module")
def disturbed(
    study: Study, copy_project: Callable[[Path], Path], tmp_path_factory: pytest.TempPathFactory
) -> Disturbed:
    """The other study, finished in spite of the kills."""
    project = copy_project(tmp_path_factory.mktemp("faults") / "another clone")
    made = Disturbed(project, cores="all" if LONG else "1", seed=SEED)
    # With its source.json: the report says where the data come from.
    shutil.copytree(study.project / "results" / "data", project / "results" / "data")
    made.suffer(LONG_PLAN if LONG else SHORT_PLAN, study.folder)
    return made


def test_every_kill_is_recovered_from_by_the_same_command(
    disturbed: Disturbed, capsys: pytest.CaptureFixture[str]
) -> None:
    with capsys.disabled():
        print(f"\n{disturbed.table()}")
    assert len(disturbed.kills) >= (25 if LONG else 5)
    assert "report.html" in disturbed.said


def test_histories_predictions_and_weights_are_the_same_bits(disturbed: Disturbed) -> None:
    assert disturbed.other_runs == []


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
