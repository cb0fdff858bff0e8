"""The same against a tracking server with PostgreSQL behind it: nothing is done differently."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("mlflow", reason="MLflow is not installed")

from made_server import mlflow_server, postgresql
from made_tracked import (
    BASE,
    IMAGES,
    ROWS,
    STEM,
    STUDY,
    counted,
    digits,
    fake_run,
    go,
    row,
    state,
    write_table,
)  # fmt: skip
from together import eight_for_one_question, eight_questions
from vitrail import tracking  # noqa: F401  (turns telemetry off before MLflow is imported)
from vitrail.config import STEMS
from vitrail.settings import arm_id, run_id
from vitrail.tracking import headline, measure, store
from vitrail.tracking.prune import prune


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    """The address of a server with PostgreSQL behind it, once for all tests here."""
    # Not in pytest's own folder, which other users (PostgreSQL is one) may not enter; and short,
    # for the path of a socket has a hundred characters.
    folder = Path(tempfile.mkdtemp(prefix="vitrail-"))
    folder.chmod(0o755)
    try:
        with postgresql(folder / "pg") as uri, mlflow_server(folder / "mlflow", uri) as address:
            yield address
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def served(results: Path, server: str, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Results whose record is kept by the server, with all that earlier tests left deleted."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server)
    store.database(results).unlink()
    # Every test starts with fresh experiments; MLflow keeps names of deleted ones, so rename.
    with store.open_client(results) as client:
        for about in client.search_experiments(filter_string=f"name LIKE '{STUDY}/%'"):
            client.rename_experiment(about.experiment_id, f"old {about.experiment_id}")
    store.initialise(STUDY, results)
    return results


def test_a_server_holds_what_a_file_holds(
    served: Path, server: str, monkeypatch: pytest.MonkeyPatch, tracked_pattern: Path
) -> None:
    """Everything that can be asked by the client, from both stores, and again with no change."""
    counts, told = go(served)
    assert counts == counted(logged=6)
    with store.open_client(served) as client:
        on_server = state(client)
        assert go(served) == (counted(unchanged=6), told)
        assert state(client) == on_server
    assert not (served / "mlflow-artifacts").exists()
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    shutil.copy(store.database(tracked_pattern), store.database(served))
    go(served)
    with store.open_client(served) as client:
        assert state(client) == on_server
    assert set(on_server) == {f"{STUDY}/{stem}" for stem in STEMS}


def test_changed_dropped_and_pruned_runs_on_a_server(served: Path) -> None:
    _, told = go(served)
    name = fake_run(served, BASE, 1, 0.5)
    write_table(served, ROWS[:2])
    counts, again = go(served)
    assert counts == counted(logged=2, unchanged=2, deleted=2, outdated=2)
    assert again["runs"][name] != told["runs"][name]
    assert again["headline"]["run_id"] == run_id(arm_id(BASE), 0)
    assert len(prune(STUDY, served)) == 2
    assert go(served)[0] == counted(unchanged=4)


def test_long_words_reach_postgresql(served: Path) -> None:
    """Its columns have a length and refuse the character NUL, unlike those of SQLite."""
    rows = [about | {"label": "é" * 9000, "arm": "a\0rm " * 100} for about in ROWS]
    absent = {"status": "not run", "reason": "no weights, " * 2000}
    write_table(served, [*rows, row(BASE | {"depth": 2}, 0, "imagenet", **absent)])
    assert go(served)[0] == counted(logged=6)
    assert go(served)[0] == counted(unchanged=6)


def test_the_model_is_measured_and_loads_over_http(
    served: Path, server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(headline, "remeasured", measure.remeasured)
    _, told = go(served)
    batch = (digits(IMAGES)[:, None] / 255).astype(np.float32)
    np.save(tmp_path / "images.npy", batch)
    measure._predict(told["headline"]["model_uri"], server, tmp_path)
    with np.load(served / STUDY / "runs" / told["headline"]["run_id"] / "predictions.npz") as run:
        np.testing.assert_allclose(
            np.load(tmp_path / "logits.npy"), run["test_logits"], rtol=1e-4, atol=1e-5
        )


def test_a_killed_sync_is_completed_on_a_server(served: Path) -> None:
    """Killed by SIGKILL at moments of a fixed list, at work with the server."""
    go(served)
    with store.open_client(served) as client:
        undisturbed = state(client)
    for seconds in (0.1, 0.6):
        with store.open_client(served) as client:
            for about in client.search_experiments(filter_string=f"name = '{STUDY}/{STEM}'"):
                client.rename_experiment(about.experiment_id, f"old {about.experiment_id}")
        store.initialise(STUDY, served)
        command = [sys.executable, "-m", "vitrail.tracking", "sync", "--study", STUDY]
        command += ["--question", STEM, "--results", str(served)]
        command += ["--out", str(served / STUDY / STEM / "tracking.json")]
        (served / STUDY / STEM / "tracking.json").unlink()
        process = subprocess.Popen(command, start_new_session=True)
        with store.open_client(served) as client:  # until its first run is there
            found = client.get_experiment_by_name(f"{STUDY}/{STEM}").experiment_id
            while process.poll() is None and not client.search_runs([found], max_results=1):
                time.sleep(0.02)
        time.sleep(seconds)
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        go(served)
        with store.open_client(served) as client:
            assert state(client) == undisturbed


def test_eight_syncs_at_once_on_a_server(served: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for at_once in (eight_questions, eight_for_one_question):
        told = at_once(served)
        with capsys.disabled():
            print(f"\n  PostgreSQL, {told}")
