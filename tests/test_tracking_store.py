"""Where MLflow keeps the record, and what is said when that is damaged or not there."""

from __future__ import annotations

import os
import re
import shutil
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("mlflow", reason="MLflow is not installed")

from made_tracked import STUDY, counted, dump, go, state
from vitrail import tracking  # noqa: F401  (turns telemetry off before MLflow is imported)
from vitrail.config import STEMS
from vitrail.errors import VitrailError
from vitrail.tracking import store


@pytest.mark.parametrize(
    ("reason", "advice"),
    [
        ("database or disk is full", "free the disk"),
        ("attempt to write a readonly database", "permission"),
        ("database is locked", "another program holds it"),
    ],
)
def test_what_the_database_refuses_is_told_in_one_sentence(
    results: Path, monkeypatch: pytest.MonkeyPatch, reason: str, advice: str
) -> None:
    from mlflow import MlflowClient
    from mlflow.exceptions import MlflowException

    def refuses(*_: Any, **__: Any) -> None:
        raise MlflowException(f"(sqlite3.OperationalError) {reason}\n[SQL: INSERT ...]")

    monkeypatch.setattr(MlflowClient, "create_run", refuses)
    with pytest.raises(VitrailError, match=f"{reason}.*{advice}.*same command") as caught:
        go(results)
    assert "SQL:" not in str(caught.value)


def test_experiments_have_the_same_numbers_in_every_fresh_store(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The report links to them; they count the questions in their order, study by study."""
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    found = []
    for clone in ("one", "two"):
        results = tmp_path / clone / "results"
        for study in ("tiny", "small", "tiny"):
            store.initialise(study, results)
        with store.open_client(results) as client:
            known = {e.name: e.experiment_id for e in client.search_experiments()}
        found.append({name: number for name, number in known.items() if "/" in name})
    first, second = found
    assert first == second and len(first) == 2 * len(STEMS)
    studies = [f"{study}/{stem}" for study in ("tiny", "small") for stem in STEMS]
    assert sorted(studies, key=lambda name: int(first[name])) == studies


def test_initialising_again_changes_nothing(results: Path) -> None:
    store.initialise(STUDY, results)
    go(results)
    before = dump(results)
    assert store.initialise(STUDY, results).endswith("is ready")
    assert dump(results) == before
    assert not list(results.glob(".mlflow.*.db*"))


@pytest.mark.parametrize(
    "damage",
    [
        lambda whole: b"not a database at all" * 100,
        lambda whole: whole[: len(whole) // 2],
        lambda whole: whole[:20000] + b"\xff" * 30000 + whole[50000:],
        lambda whole: b"",
    ],
    ids=["other", "torn", "overwritten", "empty"],
)
def test_a_damaged_database_is_named(results: Path, damage: Any) -> None:
    path = store.database(results)
    path.write_bytes(damage(path.read_bytes()))
    for step in (lambda: store.initialise(STUDY, results), lambda: go(results)):
        with pytest.raises(
            VitrailError, match=r"mlflow\.db is (damaged|empty).*delete it.*--forcerun"
        ):
            step()


def test_flipped_bits_are_refused_or_mended(results: Path, tmp_path: Path) -> None:
    """A page full of them, at places of a fixed seed: a sentence, or the record as it was.

    What may stay unseen is a point of a curve before its last, and what MLflow has of no use.
    """
    go(results)
    with store.open_client(results) as client:
        before = state(client)
    path = store.database(results)
    whole = path.read_bytes()
    places = np.random.default_rng(3).integers(0, len(whole) // 4096, 25)
    refused = 0
    for place in places:
        damaged = bytearray(whole)
        part = slice(int(place) * 4096, int(place) * 4096 + 4096)
        damaged[part] = bytes(byte ^ 0x10 for byte in damaged[part])
        path.write_bytes(damaged)
        try:
            go(results)
        except VitrailError as error:
            assert "\n" not in str(error) and "delete it" in str(error)
            refused += 1
            continue
        with store.open_client(results) as client:
            assert state(client) == before, place
    assert refused > len(places) / 2


def test_a_folder_in_the_place_of_the_database_is_named(results: Path) -> None:
    path = store.database(results)
    path.unlink()
    path.mkdir()
    for step in (lambda: store.initialise(STUDY, results), lambda: go(results)):
        with pytest.raises(VitrailError, match=r"mlflow\.db is a folder .*delete it and run"):
            step()


@pytest.mark.parametrize("closed", ["the database", "its folder"])
def test_a_store_that_may_not_be_written_is_named(results: Path, closed: str) -> None:
    """Asked by a user who is not root: nothing is refused to that one."""
    path = store.database(results)
    program = (
        "import os, sys\n"
        "from pathlib import Path\n"
        "from vitrail import run_lock, watch\n"  # before it may no longer read them
        "from vitrail.tracking import store\n"
        "from vitrail.errors import run_command\n"
        "if os.geteuid() == 0: os.setgid(65534); os.setuid(65534)\n"
        "run_command(lambda: store.open_client(Path(sys.argv[1])).__enter__())\n"
    )
    for folder in [results, *results.parents][:-1]:
        if folder.stat().st_uid == os.geteuid() and folder != Path("/tmp"):
            folder.chmod(0o777 if folder == results else 0o755)
    path.chmod(0o666)
    target = path if closed == "the database" else results
    target.chmod(0o444 if target == path else 0o555)
    try:
        done = subprocess.run(
            [sys.executable, "-c", program, results], capture_output=True, text=True
        )
    finally:
        target.chmod(0o777)
    assert done.returncode == 1
    assert re.fullmatch(
        rf"vitrail: {re.escape(str(target))} may not be written, .*chmod u\+w.*\n", done.stderr
    )


OLDER = """
import sys
import alembic.command, sqlalchemy
from alembic.script import ScriptDirectory
from mlflow.store.db.utils import _get_alembic_config
from mlflow.store.tracking.dbmodels.initial_models import Base

uri = "sqlite:///" + sys.argv[1]
Base.metadata.create_all(sqlalchemy.create_engine(uri))
config = _get_alembic_config(uri)
scripts = ScriptDirectory.from_config(config)
alembic.command.upgrade(config, scripts.get_revision("head").down_revision)
"""


def test_a_database_of_an_older_mlflow_is_upgraded(results: Path) -> None:
    """By `init`, which runs alone, before any sync."""
    path = store.database(results)
    path.unlink()
    environment = {key: value for key, value in os.environ.items() if key != "MLFLOW_TRACKING_URI"}

    def python(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, *arguments],
            cwd=results.parent, env=environment, capture_output=True, text=True,
        )  # fmt: skip

    made = python("-c", OLDER, str(path))
    assert made.returncode == 0, made.stderr
    study = ["--study", STUDY, "--results", "results"]
    done = python("-m", "vitrail.tracking", "init", *study)
    assert done.stdout == "tracking: results/mlflow.db is ready\n", done.stderr
    assert go(results)[0] == counted(logged=6)


def test_a_database_of_a_newer_mlflow_is_refused(results: Path) -> None:
    with sqlite3.connect(store.database(results)) as opened:
        opened.execute("UPDATE alembic_version SET version_num = 'ffffffffffff'")
    opened.close()
    with pytest.raises(VitrailError, match=r"another version of MLflow.*delete it and run"):
        store.initialise(STUDY, results)


def test_a_database_of_another_program_is_refused(results: Path) -> None:
    path = store.database(results)
    path.unlink()
    opened = sqlite3.connect(path)
    opened.execute("CREATE TABLE experiments (x)")
    opened.commit()
    opened.close()
    with pytest.raises(VitrailError, match=r"mlflow\.db .*delete it and run"):
        store.initialise(STUDY, results)


def test_a_missing_store_is_named(results: Path) -> None:
    store.database(results).unlink()
    with pytest.raises(VitrailError, match=r"mlflow\.db is missing.*--forcerun mlflow_store"):
        go(results)


def test_a_given_uri_is_honoured_unchanged(
    results: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = tmp_path / "other.db"
    shutil.copy(store.database(results), other)
    with (
        closing(sqlite3.connect(other)) as opened,
        opened,
    ):  # else they go where all tests copy from
        opened.execute(
            "UPDATE experiments SET artifact_location = ? || experiment_id",
            (f"{tmp_path.as_uri()}/artifacts/",),
        )
    before = dump(results)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{other}")
    assert store.initialise(STUDY, results).endswith("is asked")
    go(results)
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    assert dump(results) == before
    with closing(sqlite3.connect(other)) as opened:
        assert opened.execute("SELECT count(*) FROM runs").fetchone() == (6,)
    assert any((tmp_path / "artifacts").rglob("model.safetensors"))


def test_a_server_that_is_not_there_is_told_without_its_password(
    results: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://me:secret@127.0.0.1:9")
    for step in (lambda: store.initialise(STUDY, results), lambda: go(results)):
        with pytest.raises(VitrailError, match=r"127\.0\.0\.1:9 does not answer") as caught:
            step()
        assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("uri", "said"),
    [
        ("postgresql://me:secret@127.0.0.1:9/runs", r"127\.0\.0\.1:9/runs does not answer"),
        ("mysql://me:secret@/runs", "No module named 'MySQLdb'; install that driver"),
    ],
)
def test_a_database_that_cannot_be_used_is_told_in_seconds(
    results: Path, monkeypatch: pytest.MonkeyPatch, uri: str, said: str
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    begun = time.monotonic()
    with pytest.raises(VitrailError, match=said) as caught:
        store.initialise(STUDY, results)
    assert time.monotonic() - begun < 20
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("uri", "shown"),
    [
        (
            "postgresql://me:secret@db.example.org:5432/runs",
            "postgresql://db.example.org:5432/runs",
        ),
        ("sqlite:////a/b.db", "sqlite:////a/b.db"),
    ],
)
def test_uris_are_shown_without_passwords(uri: str, shown: str) -> None:
    assert store.without_password(uri) == shown


def test_telemetry_is_off() -> None:
    from mlflow.telemetry.utils import is_telemetry_disabled

    assert is_telemetry_disabled()
    assert os.environ["MLFLOW_DISABLE_TELEMETRY"] == "true"
