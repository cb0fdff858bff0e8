"""The best network from scratch as an MLflow model that anybody can load and ask.

It is logged as code and weights: `served.py`, a copy of this package and the run's
safetensors file. The other ways of MLflow were left aside: a pickle runs code when it is
loaded, and an exported graph is tied to the version of PyTorch that wrote it.
"""

from __future__ import annotations

import math
import shutil
import tempfile
from collections.abc import Iterable
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vitrail.tracking import held, store
from vitrail.tracking.measure import drafts_in, remeasured
from vitrail.tracking.records import PARAM, Point, Question, Record, fits

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import LoggedModel

QUESTION = "q6_vit"
NAME = "vit-from-scratch"
REQUIRED = ("torch", "numpy", "safetensors")
FILES = ("config.json", "model.safetensors")
SHOWN = ("val_accuracy", "test_accuracy", "test_errors", "parameters", "macs")
FILES_TAG = "vitrail.files"
PACKAGE = Path(__file__).parents[1]


def best_run(question: Question) -> str | None:
    """The ViT with the highest validation accuracy; of equals the first by name.

    The test set has no part in the choice. Returns None when no ViT finished.
    """
    accuracies = {
        record.key: next(
            (p.value for p in reversed(record.points) if p.key == "val_accuracy"), math.nan
        )
        for record in question.records
        if record.kind == "run" and record.params.get("model") == "vit"
    }
    known = {key: value for key, value in accuracies.items() if not math.isnan(value)}
    return min(known, key=lambda key: (-known[key], key), default=None)


def log_headline(
    client: MlflowClient,
    experiment: str,
    question: Question,
    runs: dict[str, str],
    results: Path,
    work: Path,
) -> dict[str, Any] | None:
    """Log the best network's model unless it is there; models of other runs are deleted.

    A model that is logged is loaded again from MLflow, as a reader would load it, and gives
    its logits of the test set; these must be those of the run.

    Args:
        client: of the store that holds the experiment.
        experiment: its id.
        question: whose runs compete.
        runs: MLflow run id of each run.
        results: where the run folders and the data are.
        work: a folder for drafts, which need not exist.

    Returns:
        Run id, the URI for ``mlflow.pyfunc.load_model``, and how many of the test images the
        loaded model gets wrong; None without a ViT.

    Raises:
        VitrailError: the model cannot be loaded, or it is not the network of the run.
    """
    best = best_run(question)
    record = next((r for r in question.records if r.kind == "run" and r.key == best), None)
    wanted = (runs[record.key], record.content()) if record else None
    kept = None
    for model in client.search_logged_models([experiment], f"name = '{NAME}'"):
        here = (model.source_run_id, model.tags.get("vitrail.content"))
        if kept is None and here == wanted and _is_whole(client, model):
            kept = model
        else:
            client.delete_logged_model(model.model_id)
    if record is None:
        return None
    identity = runs[record.key]
    if kept is None:
        folder = results / question.study / "runs" / record.key
        kept = _log(client, experiment, identity, record, folder, results, work)
    _link(client, identity, kept)
    errors = next(at.value for at in kept.metrics or () if at.key == "remeasured_test_errors")
    return {
        "run_id": record.key,
        "model_uri": f"models:/{kept.model_id}",
        "remeasured_test_errors": int(errors),
    }


def _log(
    client: MlflowClient,
    experiment: str,
    run: str,
    record: Record,
    folder: Path,
    results: Path,
    work: Path,
) -> LoggedModel:
    """Log a run folder's network; the model is READY only when all is in and measured."""
    from mlflow.entities import Metric
    from mlflow.models import Model

    work.mkdir(parents=True, exist_ok=True)
    draft = work / "model"
    tags = {"vitrail.run_id": record.key, "vitrail.content": record.content()}
    params = {key: fits(value, PARAM) for key, value in record.params.items()}
    made = client.create_logged_model(
        experiment, NAME, run, tags, params=params, model_type="classifier"
    )
    card = Model(model_uuid=made.model_id, run_id=run, model_id=made.model_id)
    with drafts_in(work):
        save(folder, draft, example(results), mlflow_model=card)
        client.log_model_artifacts(made.model_id, str(draft))
    listed = held.files(partial(client.list_logged_model_artifacts, made.model_id))
    client.set_logged_model_tags(made.model_id, {FILES_TAG: _sizes(listed)})

    uri = f"models:/{made.model_id}"
    errors, images = remeasured(uri, store.tracking_uri(results), folder, results, work)
    # The run's figures once more, for the page of the model: the same points, so the run
    # itself keeps one of each.
    last = record.points[-1]
    shown = [at for at in record.points if at.key in SHOWN and at.step == last.step]
    shown += [
        Point("remeasured_test_accuracy", 1 - errors / images, last.step, record.end),
        Point("remeasured_test_errors", errors, last.step, record.end),
    ]
    client.log_batch(
        run,
        metrics=[
            Metric(at.key, at.value, at.time, at.step, model_id=made.model_id, run_id=run)
            for at in shown
        ],
    )
    client.finalize_logged_model(made.model_id, "READY")
    return client.get_logged_model(made.model_id)


def _is_whole(client: MlflowClient, model: LoggedModel) -> bool:
    """Whether the model was logged and measured to the end, and its files are all there."""
    measured = any(at.key == "remeasured_test_errors" for at in model.metrics or ())
    if model.status != "READY" or not measured:
        return False
    listed = held.files(partial(client.list_logged_model_artifacts, model.model_id))
    return bool(model.tags.get(FILES_TAG) == _sizes(listed))


def _link(client: MlflowClient, run: str, model: LoggedModel) -> None:
    """Let the page of the run name its model; last, so that a model half-way is never named."""
    from mlflow.entities import LoggedModelOutput

    named = client.get_run(run).outputs
    if model.model_id not in {output.model_id for output in (named.model_outputs if named else [])}:
        client.log_outputs(run, [LoggedModelOutput(model.model_id, step=0)])


def _sizes(listed: Iterable[Any]) -> str:
    """How many files an artifact folder has, and how many bytes, as a tag."""
    sizes = [item.file_size for item in listed]
    return f"{len(sizes)} files, {sum(sizes)} bytes"


def save(folder: Path, out: Path, images: Any, **card: Any) -> None:
    """Write a run folder's network as an MLflow model folder.

    Args:
        folder: the run folder.
        out: the model folder to write; it must not exist.
        images: input example, float32 (B, 1, 28, 28) in [0, 1].
        card: passed on to ``mlflow.pyfunc.save_model``.
    """
    import numpy as np
    from mlflow.models import ModelSignature
    from mlflow.pyfunc import save_model
    from mlflow.types import Schema, TensorSpec

    signature = ModelSignature(
        inputs=Schema([TensorSpec(np.dtype(np.float32), (-1, 1, 28, 28))]),
        outputs=Schema([TensorSpec(np.dtype(np.float32), (-1, 10))]),
    )
    with tempfile.TemporaryDirectory() as temporary:
        run, code = Path(temporary) / "run", Path(temporary) / "vitrail"
        run.mkdir()
        for name in FILES:
            shutil.copy2(folder / name, run / name)
        shutil.copytree(PACKAGE, code, ignore=shutil.ignore_patterns("__pycache__"))
        save_model(
            path=str(out),
            python_model=str(Path(__file__).with_name("served.py")),
            artifacts={"run": str(run)},
            code_paths=[str(code)],
            signature=signature,
            input_example=images,
            pip_requirements=[f"{name}=={version(name)}" for name in REQUIRED],
            **card,
        )


def example(results: Path) -> Any:
    """Two training images as the model wants them, float32 (2, 1, 28, 28) in [0, 1]."""
    import numpy as np

    from vitrail.data import read_idx

    images = read_idx(results / "data" / "train-images-idx3-ubyte")[:2]
    return (images[:, None] / np.float32(255)).astype(np.float32)
