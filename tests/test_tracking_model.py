"""The best network as an MLflow model: anybody can load it, and it is the network of its run."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from urllib.request import url2pathname

import numpy as np
import pytest

pytest.importorskip("mlflow", reason="MLflow is not installed")

from made_tracked import (
    BASE,
    IMAGES,
    ROWS,
    STEM,
    STEPS,
    STUDY,
    counted,
    digits,
    fake_run,
    go,
    state,
)  # fmt: skip
from vitrail import tracking  # noqa: F401  (turns telemetry off before MLflow is imported)
from vitrail.errors import VitrailError
from vitrail.files import read_json
from vitrail.settings import arm_id, run_id
from vitrail.tracking import headline, held, measure, store


@pytest.fixture
def measured(results: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Models are loaded and asked, as outside of the tests; some seconds for each."""
    monkeypatch.setattr(headline, "remeasured", measure.remeasured)


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
    batch = (digits(IMAGES)[:, None] / 255).astype(np.float32)
    with np.load(results / STUDY / "runs" / chosen["run_id"] / "predictions.npz") as arrays:
        expected = arrays["test_logits"]
    np.testing.assert_allclose(model.predict(batch), expected, rtol=1e-5, atol=1e-6)
    with pytest.raises(Exception, match="shape"):
        model.predict(batch[:, 0])
    with store.open_client(results) as client:
        run = client.get_run(told["runs"][chosen["run_id"]])
        logged = client.get_logged_model(chosen["model_uri"].removeprefix("models:/"))
        assert {at.key: at.value for at in logged.metrics} == {
            key: run.data.metrics[key] for key in (*headline.SHOWN, *held.REMEASURED)
        }
        assert len(client.get_metric_history(run.info.run_id, "val_accuracy")) == len(STEPS)
        assert [output.model_id for output in run.outputs.model_outputs] == [logged.model_id]
    folder = Path(url2pathname(urlsplit(logged.artifact_location).path))
    assert (folder / "MLmodel").exists()
    assert not [path for path in folder.rglob("*") if path.suffix in (".pkl", ".pth", ".pt")]


def test_the_model_folder_works_without_the_project(results: Path, tmp_path: Path) -> None:
    name = run_id(arm_id(BASE), 0)
    batch = (digits(IMAGES)[:, None] / 255).astype(np.float32)
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
    assert counts == counted(unchanged=6)
    with store.open_client(results) as client:
        models = client.search_logged_models([told["experiment_id"]])
    assert [f"models:/{model.model_id}" for model in models] == [told["headline"]["model_uri"]]
    assert models[0].status == "READY"


def test_a_model_is_measured_after_loading_and_only_once(
    results: Path, measured: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its errors are those of its run; a second sync asks nobody."""
    _, told = go(results)
    chosen = told["headline"]
    summary = read_json(results / STUDY / "runs" / chosen["run_id"] / "summary.json")
    assert chosen["remeasured_test_errors"] == summary["test_errors"]
    with store.open_client(results) as client:
        run = client.get_run(told["runs"][chosen["run_id"]])
    assert run.data.metrics["remeasured_test_accuracy"] == summary["test_accuracy"]
    assert not (results / STUDY / STEM / ".tracking").exists()

    def fails(*_: Any) -> None:
        raise AssertionError("measured once more")

    monkeypatch.setattr(headline, "remeasured", fails)
    assert go(results) == (counted(unchanged=6), told)


def test_the_process_that_loads_a_model_cannot_see_the_project(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither on PYTHONPATH nor from the folder that it stands in; other paths stay."""
    other = tmp_path / "other"
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(measure.SOURCES), str(other)]))
    monkeypatch.chdir(measure.SOURCES)
    monkeypatch.setattr(measure, "PROGRAM", """
import importlib.util, json, sys
spec = importlib.util.find_spec("vitrail")
with open(sys.argv[3], "w") as stream:
    json.dump([spec and spec.origin, sys.path], stream)
""")  # fmt: skip
    measure._predict("models:/none", "sqlite://", tmp_path)
    origin, paths = json.loads((tmp_path / "logits.npy").read_text())
    assert origin is None or not Path(origin).is_relative_to(measure.SOURCES), origin
    assert str(other) in paths and not {"", str(measure.SOURCES)} & set(paths)


def test_a_model_that_is_not_its_run_is_refused(results: Path, measured: None) -> None:
    """The weights of one seed, the answers of another: named, and never READY."""
    name = ROWS[1]["run_id"]
    other = results / STUDY / "runs" / ROWS[0]["run_id"] / "model.safetensors"
    shutil.copy(other, results / STUDY / "runs" / name / "model.safetensors")
    with pytest.raises(
        VitrailError, match=rf"{name}, loaded from MLflow, gives \d+ of {IMAGES}.*same command"
    ):
        go(results)
    assert not (results / STUDY / STEM / "tracking.json").exists()
    with store.open_client(results) as client:
        found = client.get_experiment_by_name(f"{STUDY}/{STEM}").experiment_id
        assert [model.status for model in client.search_logged_models([found])] == ["PENDING"]
        fake_run(results, BASE, 1, 0.9)
        go(results)
        assert [model.status for model in client.search_logged_models([found])] == ["READY"]


def test_a_model_that_cannot_be_loaded_is_told(
    results: Path, measured: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(measure, "PROGRAM", "raise ImportError('no torch here')")
    with pytest.raises(VitrailError, match=r"cannot be loaded .*no torch here.*same command"):
        go(results)


def test_a_model_that_lost_a_file_is_logged_anew(results: Path) -> None:
    _, told = go(results)
    with store.open_client(results) as client:
        before = state(client)
        identity = told["headline"]["model_uri"].removeprefix("models:/")
        location = client.get_logged_model(identity).artifact_location
        folder = Path(url2pathname(urlsplit(location).path))
        next(folder.rglob("model.safetensors")).unlink()
        counts, again = go(results)
        assert counts == counted(unchanged=6)
        assert again["headline"]["model_uri"] != told["headline"]["model_uri"]
        after = state(client)
    # The run was kept, and names the model that it had besides; MLflow cannot take that back.
    for about in (before, after):
        for run in about[f"{STUDY}/{STEM}"]["runs"]:
            run.pop("outputs")
    assert after == before


def test_mlflow_scores_json_with_it(results: Path, tmp_path: Path) -> None:
    """`mlflow models predict` as its manual has it: {"inputs": ...} in, predictions out."""
    _, told = go(results)
    batch = (digits(IMAGES)[:2, None] / 255).astype(np.float32)
    (tmp_path / "in.json").write_text(json.dumps({"inputs": batch.tolist()}))
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    environment["MLFLOW_TRACKING_URI"] = f"sqlite:///{results / 'mlflow.db'}"
    command = [sys.executable, "-m", "mlflow", "models", "predict"]
    command += ["--model-uri", told["headline"]["model_uri"], "--env-manager", "local"]
    command += ["--content-type", "json", "--input-path", "in.json", "--output-path", "out.json"]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    found = np.array(json.loads((tmp_path / "out.json").read_text())["predictions"])
    with np.load(results / STUDY / "runs" / told["headline"]["run_id"] / "predictions.npz") as run:
        np.testing.assert_allclose(found, run["test_logits"][:2], rtol=1e-4, atol=1e-5)
