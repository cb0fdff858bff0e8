"""MLflow says what the files say, however often and after whatever accident it is synced."""

from __future__ import annotations

import csv
import json
import math
import os
import shutil
import sqlite3
import statistics
import struct
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from urllib.request import url2pathname

import numpy as np
import pytest

pytest.importorskip("mlflow", reason="MLflow is not installed")

from vitrail import tracking  # noqa: F401  (turns telemetry off before MLflow is imported)
from vitrail.config import STEMS
from vitrail.errors import VitrailError
from vitrail.files import read_json, write_json, write_text
from vitrail.run_folder import write_run
from vitrail.settings import Settings, arm_id, run_id
from vitrail.tracking import headline, records, store
from vitrail.tracking.sync import sync

STUDY, STEM = "tiny", "q6_vit"
BASE: Settings = {
    "model": "vit", "train_size": 100, "validation": 20, "epochs": 1, "batch_size": 10,
    "optimizer": "adamw", "learning_rate": 0.001, "weight_decay": 0.05, "warmup": 0.1,
    "evaluations": 2, "precision": "fp32", "pixel_mean": 0.1307, "pixel_std": 0.3081,
    "patch_size": 14, "embed_dim": 8, "depth": 1, "num_heads": 2, "mlp_ratio": 2.0,
    "qkv_bias": True, "class_token": True, "global_pool": "token", "pos_embed": "learned",
    "pos_embed_std": 0.02, "pos_embed_rms": 0, "norm": "pre", "act": "gelu",
}  # fmt: skip
CNN: Settings = {key: BASE[key] for key in list(BASE)[:13]} | {"model": "cnn", "channels": 2}
FACTS = {"commit": "0123456789ab-dirty", "threads": 1, "data": {"sha256": {"b": "22", "a": "11"}}}
STEPS = (5, 10)


def digits(count: int) -> np.ndarray:
    """Random bytes in the shape of images."""
    return np.random.default_rng(0).integers(0, 256, (count, 28, 28), dtype=np.uint8)


def fake_run(results: Path, settings: Settings, seed: int, accuracy: float) -> str:
    """A finished run with untrained weights, written as training writes it."""
    import torch

    from vitrail.networks import build
    from vitrail.train import logits_of, pixels

    torch.manual_seed(seed)
    network = build(settings).eval()
    logits = logits_of(network, pixels(digits(7), settings, torch.device("cpu")), "fp32").numpy()
    history = [
        {
            "step": step,
            "epoch": step / 10,
            "samples": step * 10,
            "train_loss": math.pi / step,
            "val_loss": math.nan if settings["model"] == "cnn" else math.e / step,
            "val_accuracy": accuracy - 0.1 / step,
            "learning_rate": 1e-3 / 3,
        }
        for step in STEPS
    ]
    clock = [{"step": step, "seconds": step / 10} for step in STEPS]
    summary = {
        "status": "finished", "reason": "", "parameters": 1234, "macs": 5678, "samples": 100,
        "seconds": 1.5, "train_samples_per_second": 66.7, "peak_memory_mb": 12.5,
        "train_loss": math.pi / 10, "val_loss": None, "val_accuracy": accuracy - 0.01,
        "test_loss": 1 / 3, "test_accuracy": 1 - accuracy, "test_errors": 17,
    }  # fmt: skip
    name = run_id(arm_id(settings), seed)
    tables = {"history.csv": history, "timing.csv": clock}
    write_run(
        results / STUDY / "runs" / name, settings, seed, summary, FACTS, (network, tables, logits)
    )
    return name


def row(settings: Settings, seed: int, arm: str, **other: Any) -> dict[str, Any]:
    identity = arm_id(settings)
    return {
        "run_id": run_id(identity, seed), "arm_id": identity, "arm": arm, "label": f"The {arm}",
        "question": STEM, "experiment": "models", "seed": seed, "status": "finished", "reason": "",
    } | other  # fmt: skip


def write_table(results: Path, rows: list[dict[str, Any]]) -> None:
    path = results / STUDY / STEM / "runs.csv"
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.DictWriter(stream, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


@pytest.fixture(scope="module")
def pattern(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Results with a fresh store and a study: two seeds of a ViT, one CNN, one not run."""
    results = tmp_path_factory.mktemp("a folder, with spaces ü") / "results"
    # The more accurate seed on the validation images is the less accurate on the test set.
    rows = [row(BASE, 0, "base"), row(BASE, 1, "base"), row(CNN, 0, "cnn")]
    for wanted, settings, accuracy in zip(rows, (BASE, BASE, CNN), (0.8, 0.9, 0.99), strict=True):
        assert fake_run(results, settings, wanted["seed"], accuracy) == wanted["run_id"]
    absent = {"status": "not run", "reason": "no weights here"}
    rows.append(row(BASE | {"depth": 2}, 0, "imagenet", **absent))
    rows.append(row(BASE | {"depth": 3}, 0, "elsewhere", question="q5_block"))
    write_table(results, rows)
    folder = results / STUDY / STEM
    write_text(folder / "table.csv", "arm,accuracy\nbase,0.9\n")
    write_text(folder / "figures" / "curves.svg", "<svg xmlns='http://www.w3.org/2000/svg'/>")
    claim = {"id": "q6-better", "sentence": "It is better.", "verdict": "supported"}
    write_json(folder / "claims.json", [claim])
    (results / "data").mkdir()
    images = digits(3)
    header = bytes([0, 0, 8, 3]) + struct.pack(">III", *images.shape)
    (results / "data" / "train-images-idx3-ubyte").write_bytes(header + images.tobytes())
    with without_uri():
        store.initialise(STUDY, results)
    return results


@contextmanager
def without_uri() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        yield


@pytest.fixture
def results(
    pattern: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Path:  # a copy: each test may spoil it
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    copy = tmp_path / "results"
    shutil.copytree(pattern, copy)
    return copy


def go(results: Path, stem: str = STEM) -> tuple[dict[str, int], dict[str, Any]]:
    """Sync and read tracking.json."""
    out = results / STUDY / stem / "tracking.json"
    return sync(STUDY, stem, results, out), read_json(out)


def dump(results: Path) -> list[str]:
    """Every row of the database."""
    opened = sqlite3.connect(results / "mlflow.db")
    try:
        return sorted(opened.iterdump())
    finally:
        opened.close()


def test_mlflow_returns_the_numbers_of_the_files(results: Path) -> None:
    counts, told = go(results)
    assert counts == {"logged": 6, "unchanged": 0, "deleted": 0}
    assert len(told["runs"]) == 3
    assert list(told["runs"]) == sorted(told["runs"])
    with store.open_client(results) as client:
        for name, identity in told["runs"].items():
            folder = results / STUDY / "runs" / name
            run = client.get_run(identity)
            assert (run.info.run_name, run.info.status) == (name, "FINISHED")
            with (folder / "history.csv").open(newline="") as stream:
                history = list(csv.DictReader(stream))
            for curve in records.CURVES:
                logged = client.get_metric_history(identity, curve)
                assert [point.step for point in logged] == list(STEPS)
                wanted = [float(at[curve]) for at in history]
                assert np.array_equal([point.value for point in logged], wanted, equal_nan=True)
            summary = read_json(folder / "summary.json")
            for final in records.FINALS:
                assert run.data.metrics[final] == summary[final]
            config = read_json(folder / "config.json")
            assert run.data.params == {
                key: value if isinstance(value, str) else json.dumps(value)
                for key, value in {"seed": config["seed"], **config["settings"]}.items()
            }
            assert run.info.end_time - run.info.start_time == 1500
            for file in records.RUN_ARTIFACTS:
                copy = client.download_artifacts(identity, file)
                assert Path(copy).read_bytes() == (folder / file).read_bytes()


def test_runs_are_nested_and_tagged(results: Path) -> None:
    _, told = go(results)
    with store.open_client(results) as client:
        assert client.get_experiment(told["experiment_id"]).name == f"{STUDY}/{STEM}"
        for name, identity in told["runs"].items():
            tags = client.get_run(identity).data.tags
            arm = name.rpartition("-s")[0]
            assert tags["mlflow.parentRunId"] == told["arms"][arm]
            assert tags["vitrail.run_id"] == name
            assert tags["vitrail.arm_id"] == arm
            assert (tags["vitrail.study"], tags["vitrail.question"]) == (STUDY, STEM)
            assert tags["vitrail.commit"] == FACTS["commit"]
            assert tags["vitrail.data_sha256"] == records.data_checksum({"a": "11", "b": "22"})
            assert tags["vitrail.claims"] == "q6-better"
        parent = client.get_run(told["arms"][arm_id(BASE)])
        assert parent.info.run_name == "base"
        values = [1 - 0.8, 1 - 0.9]
        assert parent.data.metrics["test_accuracy_mean"] == statistics.fmean(values)
        assert parent.data.metrics["test_accuracy_std"] == statistics.stdev(values)
        single = client.get_run(told["arms"][arm_id(CNN)]).data.metrics
        assert single["seeds"] == 1
        assert "test_accuracy_std" not in single
        shown = {item.path for item in client.list_artifacts(told["results"])}
        assert shown == {"table.csv", "claims.json", "figures"}
        figures = [item.path for item in client.list_artifacts(told["results"], "figures")]
        assert figures == ["figures/curves.svg"]


def test_a_run_that_was_not_run_is_told_but_not_logged(results: Path) -> None:
    _, told = go(results)
    absent = run_id(arm_id(BASE | {"depth": 2}), 0)
    assert told["not_run"] == [absent]
    with store.open_client(results) as client:
        experiment = client.get_experiment(told["experiment_id"])
        note = experiment.tags["mlflow.note.content"]
        assert absent in note
        assert "no weights here" in note
        names = [run.info.run_name for run in client.search_runs([experiment.experiment_id])]
    assert len(names) == 6
    assert absent not in names


def test_syncing_again_changes_nothing(results: Path) -> None:
    _, told = go(results)
    before = dump(results)
    for path in (results / STUDY).rglob("*"):
        os.utime(path, (1, 1))  # as after a copy: the same files at another time
    counts, again = go(results)
    assert counts == {"logged": 0, "unchanged": 6, "deleted": 0}
    assert again == told
    assert dump(results) == before


def test_a_changed_run_replaces_its_record_and_its_arm(results: Path) -> None:
    _, told = go(results)
    name = fake_run(results, BASE, 1, 0.5)
    counts, again = go(results)
    assert counts == {"logged": 2, "unchanged": 4, "deleted": 2}
    changed = {key for key in told["runs"] if told["runs"][key] != again["runs"][key]}
    assert changed == {name}
    with store.open_client(results) as client:
        assert client.get_run(again["runs"][name]).data.metrics["test_accuracy"] == 0.5
        assert client.get_run(told["runs"][name]).info.lifecycle_stage == "deleted"
        parents = {
            client.get_run(again["runs"][run_id(arm_id(BASE), seed)]).data.tags[
                "mlflow.parentRunId"
            ]
            for seed in (0, 1)
        }
    assert parents == {again["arms"][arm_id(BASE)]}
    # Seed 0 is now the best on the validation images, so the model is logged anew.
    assert told["headline"]["run_id"] == name
    assert again["headline"]["run_id"] == run_id(arm_id(BASE), 0)


def test_claims_and_labels_are_mended_in_place(results: Path) -> None:
    _, told = go(results)
    write_json(results / STUDY / STEM / "claims.json", [{"id": "x"}, {"id": "y"}])
    _, again = go(results)
    assert again["runs"] == told["runs"]
    with store.open_client(results) as client:
        for identity in again["runs"].values():
            assert client.get_run(identity).data.tags["vitrail.claims"] == "x,y"


def test_a_sync_that_was_killed_is_completed(
    results: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mlflow import MlflowClient

    calls = 0

    def dies(*_: Any, **__: Any) -> None:
        nonlocal calls
        calls += 1
        if calls == 4:  # the parents are in; the second seed is half-way
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        whole = MlflowClient.log_batch
        patch.setattr(
            MlflowClient, "log_batch", lambda *a, **k: (dies(), whole(*a, **k))[1]
        )  # fmt: skip
        with pytest.raises(KeyboardInterrupt):
            go(results)
    with store.open_client(results) as client:
        identity = client.get_experiment_by_name(f"{STUDY}/{STEM}").experiment_id
        stuck = [run for run in client.search_runs([identity]) if run.info.status == "RUNNING"]
        assert len(stuck) == 1
    counts, told = go(results)
    assert counts == {"logged": 3, "unchanged": 3, "deleted": 1}
    with store.open_client(results) as client:
        states = [run.info.status for run in client.search_runs([told["experiment_id"]])]
    assert states == ["FINISHED"] * 6


def test_a_model_that_was_cut_short_is_logged_anew(
    results: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mlflow import MlflowClient

    def dies(*_: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(MlflowClient, "log_model_artifacts", dies)
        with pytest.raises(KeyboardInterrupt):
            go(results)
    counts, told = go(results)
    assert counts == {"logged": 0, "unchanged": 6, "deleted": 0}
    with store.open_client(results) as client:
        models = client.search_logged_models([told["experiment_id"]])
    assert [f"models:/{model.model_id}" for model in models] == [told["headline"]["model_uri"]]
    assert models[0].status == "READY"


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


def test_runs_that_the_config_dropped_go_and_runs_by_hand_stay(results: Path) -> None:
    _, told = go(results)
    write_table(results, [row(BASE, 0, "base"), row(BASE, 1, "base")])
    with store.open_client(results) as client:
        mine = client.create_run(told["experiment_id"], run_name="by hand").info.run_id
        counts, again = go(results)
        assert counts["deleted"] == 2  # the CNN and its parent
        assert set(again["runs"]) == {run_id(arm_id(BASE), seed) for seed in (0, 1)}
        left = {run.info.run_id for run in client.search_runs([told["experiment_id"]])}
    assert left == {mine, again["results"], *again["arms"].values(), *again["runs"].values()}


def test_a_question_without_runs_still_shows_its_figures(results: Path) -> None:
    write_text(results / STUDY / "q7_complexity" / "runs.csv", "run_id,arm_id,question,status\n")
    write_text(results / STUDY / "q7_complexity" / "figures" / "time.svg", "<svg/>")
    counts, told = go(results, "q7_complexity")
    assert counts["logged"] == 1
    assert told["runs"] == {}
    assert "headline" not in told
    with store.open_client(results) as client:
        assert client.list_artifacts(told["results"])[0].path == "figures"


def test_a_deleted_experiment_comes_back(results: Path) -> None:
    _, told = go(results)
    with store.open_client(results) as client:
        client.delete_experiment(told["experiment_id"])
        _, again = go(results)
        assert again["experiment_id"] == told["experiment_id"]
        assert client.get_experiment(told["experiment_id"]).lifecycle_stage == "active"
        states = [run.info.status for run in client.search_runs([told["experiment_id"]])]
    assert states == ["FINISHED"] * 6


def test_a_copied_project_leaves_the_artifacts_of_the_first_alone(
    results: Path, tmp_path: Path
) -> None:
    go(results)
    before = sorted(store.artifacts(results).rglob("*"))
    copy = tmp_path / "copy"
    shutil.copytree(results, copy)
    counts, told = go(copy)
    assert counts["logged"] == 6
    assert sorted(store.artifacts(results).rglob("*")) == before
    with store.open_client(copy) as client:
        uri = client.get_run(next(iter(told["runs"].values()))).info.artifact_uri
    assert uri.startswith(store.artifacts(copy).as_uri())


def test_the_headline_model_gives_the_logits_of_its_run(
    results: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import mlflow

    _, told = go(results)
    chosen = told["headline"]
    # Seed 1 is better on the validation images, seed 0 on the test set, the CNN is no ViT.
    assert chosen["run_id"] == run_id(arm_id(BASE), 1)
    with monkeypatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_URI", store.tracking_uri(results))
        patch.setattr(sys, "path", list(sys.path))  # loading puts the model's code in front
        model = mlflow.pyfunc.load_model(chosen["model_uri"])
    assert model.metadata.signature.inputs.to_dict()[0]["tensor-spec"]["shape"] == (-1, 1, 28, 28)
    assert model.input_example.shape == (2, 1, 28, 28)
    batch = (digits(7)[:, None] / 255).astype(np.float32)
    with np.load(results / STUDY / "runs" / chosen["run_id"] / "predictions.npz") as arrays:
        expected = arrays["test_logits"]
    np.testing.assert_allclose(model.predict(batch), expected, rtol=1e-5, atol=1e-6)
    with pytest.raises(Exception, match="shape"):
        model.predict(batch[:, 0])
    with store.open_client(results) as client:
        run = client.get_run(told["runs"][chosen["run_id"]])
        logged = client.get_logged_model(chosen["model_uri"].removeprefix("models:/"))
        assert {at.key: at.value for at in logged.metrics} == {
            key: run.data.metrics[key] for key in headline.SHOWN
        }
        assert len(client.get_metric_history(run.info.run_id, "val_accuracy")) == len(STEPS)
        assert [output.model_id for output in run.outputs.model_outputs] == [logged.model_id]
    folder = Path(url2pathname(urlsplit(logged.artifact_location).path))
    assert (folder / "MLmodel").exists()
    assert not [path for path in folder.rglob("*") if path.suffix in (".pkl", ".pth", ".pt")]


def test_the_model_folder_works_without_the_project(results: Path, tmp_path: Path) -> None:
    name = run_id(arm_id(BASE), 0)
    batch = (digits(7)[:, None] / 255).astype(np.float32)
    headline.save(results / STUDY / "runs" / name, tmp_path / "model", batch)
    np.save(tmp_path / "batch.npy", batch)
    program = (
        "import mlflow, numpy, sys\n"
        "model = mlflow.pyfunc.load_model('model')\n"
        "numpy.save('logits.npy', model.predict(numpy.load('batch.npy')))\n"
        "import vitrail; assert 'model/code' in vitrail.__file__, vitrail.__file__\n"
    )
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    subprocess.run([sys.executable, "-c", program], cwd=tmp_path, env=environment, check=True)
    with np.load(results / STUDY / "runs" / name / "predictions.npz") as arrays:
        expected = arrays["test_logits"]
    np.testing.assert_allclose(np.load(tmp_path / "logits.npy"), expected, rtol=1e-5, atol=1e-6)


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
    assert not list(results.glob(".mlflow*"))


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


def test_missing_and_torn_files_are_named(results: Path) -> None:
    folder = results / STUDY / "runs" / run_id(arm_id(BASE), 0)
    (folder / "history.csv").write_text("step,train_loss\n1,abc\n")
    with pytest.raises(VitrailError, match=f"{folder.name} is damaged"):
        go(results)
    shutil.rmtree(folder)
    with pytest.raises(VitrailError, match=f"{folder.name}.* is missing"):
        go(results)
    (results / STUDY / STEM / "runs.csv").unlink()
    with pytest.raises(VitrailError, match=r"runs\.csv is missing"):
        go(results)


def test_a_given_uri_is_honoured_unchanged(
    results: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = tmp_path / "other.db"
    shutil.copy(store.database(results), other)
    before = dump(results)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{other}")
    assert store.initialise(STUDY, results).endswith("is asked")
    go(results)
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    assert dump(results) == before
    opened = sqlite3.connect(other)
    assert opened.execute("SELECT count(*) FROM runs").fetchone() == (6,)
    opened.close()


def test_a_server_that_is_not_there_is_told_without_its_password(
    results: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://me:secret@127.0.0.1:9")
    for step in (lambda: store.initialise(STUDY, results), lambda: go(results)):
        with pytest.raises(VitrailError, match=r"127\.0\.0\.1:9 does not answer") as caught:
            step()
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
