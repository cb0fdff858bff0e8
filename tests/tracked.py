"""Fixtures: results with a small study and a fresh MLflow store, a copy for each test."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def tracked_pattern(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The study of `made_tracked` with a fresh store, to be copied."""
    pytest.importorskip("mlflow", reason="MLflow is not installed")
    from made_tracked import STUDY, make_study
    from vitrail.tracking import store

    results = tmp_path_factory.mktemp("a folder, with spaces ü") / "results"
    make_study(results)
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        store.initialise(STUDY, results)
    return results


def believed(uri: str, tracking: str, folder: Path, results: Path, work: Path) -> tuple[int, int]:
    """What measuring a logged model gives when the model is right."""
    from vitrail.data import read_idx
    from vitrail.files import read_json
    from vitrail.settings import MNIST_FILES

    labels = read_idx(results / "data" / MNIST_FILES[3])
    return read_json(folder / "summary.json")["test_errors"], len(labels)


@pytest.fixture
def results(
    tracked_pattern: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Path:  # a copy: each test may spoil it
    """Results of its own for a test, with nothing in MLflow yet."""
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    # To load a model takes a process and its seconds; test_tracking_model.py does it.
    monkeypatch.setattr("vitrail.tracking.headline.remeasured", believed)
    copy = tmp_path / "results"
    shutil.copytree(tracked_pattern, copy)
    return copy
