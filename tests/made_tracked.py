"""A small study as MLflow gets it, and all that MLflow then holds, asked by its client.

Two seeds of a ViT, one CNN, one arm that was not run; the weights are untrained.
"""

from __future__ import annotations

import csv
import hashlib
import math
import shutil
import sqlite3
import struct
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np

from made_run import reseal
from vitrail.files import read_json, write_json, write_text
from vitrail.run_folder import write_run
from vitrail.settings import MNIST_FILES, Settings, arm_id, run_id

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
IMAGES = 40


def digits(count: int) -> np.ndarray:
    """Random bytes in the shape of images."""
    return np.random.default_rng(0).integers(0, 256, (count, 28, 28), dtype=np.uint8)


def logits_of_seed(settings: Settings, seed: int) -> tuple[Any, np.ndarray]:
    """An untrained network and its logits of the test images."""
    import torch

    from vitrail.networks import build
    from vitrail.train import logits_of, pixels

    torch.manual_seed(seed)
    network = build(settings).eval()
    # Otherwise nearly all images fall into the class with the largest bias.
    torch.nn.init.zeros_(list(network.parameters())[-1])
    images = pixels(digits(IMAGES), settings, torch.device("cpu"))
    return network, logits_of(network, images, "fp32").numpy()


def fake_run(results: Path, settings: Settings, seed: int, accuracy: float) -> str:
    """A finished run as training writes it; `accuracy` is that of its validation images."""
    from vitrail.data import read_idx

    network, logits = logits_of_seed(settings, seed)
    errors = int((logits.argmax(axis=1) != read_idx(results / "data" / MNIST_FILES[3])).sum())
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
        "test_seconds": 0.25, "precision_used": "fp32",
        "train_loss": math.pi / 10, "val_loss": None, "val_accuracy": accuracy - 0.01,
        "test_loss": 1 / 3, "test_accuracy": 1 - errors / IMAGES, "test_errors": errors,
    }  # fmt: skip
    name = run_id(arm_id(settings), seed)
    tables = {"history.csv": history, "timing.csv": clock}
    write_run(
        results / STUDY / "runs" / name, settings, seed, summary, FACTS, (network, tables, logits)
    )
    return name


def row(settings: Settings, seed: int, arm: str, **other: Any) -> dict[str, Any]:
    """A row of the question's run table."""
    identity = arm_id(settings)
    return {
        "run_id": run_id(identity, seed), "arm_id": identity, "arm": arm, "label": f"The {arm}",
        "question": STEM, "experiment": "models", "seed": seed, "status": "finished", "reason": "",
    } | other  # fmt: skip


def write_table(results: Path, rows: list[dict[str, Any]], stem: str = STEM) -> None:
    """Write the question's run table."""
    path = results / STUDY / stem / "runs.csv"
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.DictWriter(stream, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


ROWS = [row(BASE, 0, "base"), row(BASE, 1, "base"), row(CNN, 0, "cnn")]


def make_study(results: Path) -> None:
    """Write the study; the store is not made."""
    idx = {0: digits(3), 2: digits(IMAGES)}
    # Seed 1 is better on the validation images, seed 0 on the test set: its own answers are
    # the labels of two images in three.
    labels = logits_of_seed(BASE, 0)[1].argmax(axis=1).astype(np.uint8)
    labels[::3] = 9 - labels[::3]
    idx |= {1: labels[:3], 3: labels}
    (results / "data").mkdir(parents=True)
    for number, array in idx.items():
        header = struct.pack(f">4B{array.ndim}I", 0, 0, 8, array.ndim, *array.shape)
        (results / "data" / MNIST_FILES[number]).write_bytes(header + array.tobytes())
    for wanted, settings, accuracy in zip(ROWS, (BASE, BASE, CNN), (0.8, 0.9, 0.99), strict=True):
        assert fake_run(results, settings, wanted["seed"], accuracy) == wanted["run_id"]
    absent = {"status": "not run", "reason": "no weights here"}
    others = [
        row(BASE | {"depth": 2}, 0, "imagenet", **absent),
        row(BASE | {"depth": 3}, 0, "elsewhere", question="q5_block"),
    ]
    write_table(results, [*ROWS, *others])
    answer(results, STEM)


def answer(results: Path, stem: str) -> None:
    """Write what a question comes to: a table, a figure, a claim."""
    folder = results / STUDY / stem
    write_text(folder / "table.csv", "arm,accuracy\nbase,0.9\n")
    write_text(folder / "figures" / "curves.svg", "<svg xmlns='http://www.w3.org/2000/svg'/>")
    claim = {"id": "q6-better", "sentence": "It is better.", "verdict": "supported"}
    write_json(folder / "claims.json", [claim])


def make_question(results: Path, stem: str) -> None:
    """Give another question three runs of its own, copies under names of its own."""
    rows = []
    for about in ROWS:
        name = f"{stem}-{about['run_id']}"
        copy = results / STUDY / "runs" / name
        shutil.copytree(results / STUDY / "runs" / about["run_id"], copy)
        write_json(copy / "config.json", read_json(copy / "config.json") | {"run_id": name})
        reseal(copy)
        rows.append(
            about | {"run_id": name, "arm_id": f"{stem}-{about['arm_id']}", "question": stem}
        )
    write_table(results, rows, stem)
    answer(results, stem)


def go(results: Path, stem: str = STEM) -> tuple[dict[str, int], dict[str, Any]]:
    """Sync and read tracking.json."""
    from vitrail.tracking.sync import sync

    out = results / STUDY / stem / "tracking.json"
    return sync(STUDY, stem, results, out), read_json(out)


def dump(results: Path) -> list[str]:
    """Every row of the database."""
    with closing(sqlite3.connect(results / "mlflow.db")) as opened:
        return sorted(opened.iterdump())


def counted(**other: int) -> dict[str, int]:
    """What a sync says that it did, by what it did more than no times."""
    return dict.fromkeys(("logged", "unchanged", "deleted", "no longer in the config"), 0) | {
        name.replace("outdated", "no longer in the config"): count for name, count in other.items()
    }


def listed(listing: Callable[[str | None], Any], fetch: Callable[[str], str] | None) -> Any:
    """Paths of an artifact folder; with the checksums of the files when they can be fetched."""
    from vitrail.tracking.held import files

    return {
        item.path: hashlib.sha256(Path(fetch(item.path)).read_bytes()).hexdigest() if fetch else ""
        for item in files(listing)
    }


def state(
    client: Any, study: str = STUDY, stem: str = "", checksums: bool = True
) -> dict[str, Any]:
    """All that MLflow holds of a study, with names in place of the ids that it draws.

    Of one question when `stem` is given. Without `checksums` files are listed and not read, and
    of the curves only that of the training loss is asked for: hundreds of calls less.
    """
    told: dict[str, Any] = {}
    names: dict[str, str] = {}
    for about in client.search_experiments(filter_string=f"name LIKE '{study}/{stem}%'"):
        where = [about.experiment_id]
        runs = client.search_runs(where, max_results=1000)
        for run in runs:
            tags = run.data.tags
            names[run.info.run_id] = f"{tags.get('vitrail.kind')} {tags.get('vitrail.key')}"
        models = client.search_logged_models(where)
        names |= {model.model_id: "the model" for model in models}
        told[about.name] = {
            "tags": dict(about.tags),
            "runs": sorted((_run(client, run, names, checksums) for run in runs), key=str),
            "models": [_model(client, model, names) for model in models],
        }
    return told


def _run(client: Any, run: Any, names: dict[str, str], checksums: bool) -> dict[str, Any]:
    tags = dict(run.data.tags)
    if "mlflow.parentRunId" in tags:
        tags["mlflow.parentRunId"] = names.get(tags["mlflow.parentRunId"], "one that is not there")
    identity = run.info.run_id
    outputs = run.outputs.model_outputs if run.outputs else []
    return {
        "about": [run.info.run_name, run.info.status, run.info.start_time, run.info.end_time],
        "tags": tags,
        "params": dict(run.data.params),
        "curves": {
            key: sorted(
                (point.step, point.timestamp, repr(point.value))
                for point in client.get_metric_history(identity, key)
            )
            for key in run.data.metrics
            if checksums or key == "train_loss"
        },
        "artifacts": listed(
            lambda folder: client.list_artifacts(identity, folder),
            (lambda path: client.download_artifacts(identity, path)) if checksums else None,
        ),
        "outputs": [names.get(output.model_id, "one that is not there") for output in outputs],
    }


def _model(client: Any, model: Any, names: dict[str, str]) -> dict[str, Any]:
    tags = {key: value for key, value in model.tags.items() if key != "vitrail.files"}
    return {
        "about": [model.name, str(model.status), model.model_type, names.get(model.source_run_id)],
        "tags": tags,
        "params": dict(model.params),
        "metrics": sorted((at.key, at.step, repr(at.value)) for at in model.metrics),
        # Not their bytes: MLmodel has the time at which it was written.
        "artifacts": listed(
            lambda folder: client.list_logged_model_artifacts(model.model_id, folder), None
        ),
    }
