"""A study whose runs are written by hand: small untrained networks, accuracies as asked for."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from vitrail.input_seconds import COLUMNS, SIZES
from vitrail.questions.study import Study
from vitrail.runs import Experiment
from vitrail.settings import steps_of

# Small networks of a plain recipe, whatever the shipped base ViT is at the moment.
SMALL = {
    "patch_size": 14, "embed_dim": 8, "depth": 1, "num_heads": 2, "head_dim": 0, "mlp_ratio": 2,
    "class_token": True, "global_pool": "token", "pos_embed": "learned", "pos_embed_std": 0.7,
    "pos_embed_rms": 0,
    "norm": "pre", "act": "gelu", "channels": 2, "hidden": 4, "optimizer": "adamw", "epochs": 2,
}  # fmt: skip


def small(config: dict[str, Any], stem: str, **experiments: Any) -> dict[str, Any]:
    """The shipped config with small networks and these experiments of one question alone."""
    config["defaults"] |= SMALL
    config["seeds"] = [0, 1, 2]
    for question in config["questions"].values():
        question.pop("experiments", None)
    config["questions"][stem]["experiments"] = experiments
    return config


def experiment(**about: Any) -> dict[str, Any]:
    """An experiment with a title."""
    return {"title": "A title", **about}


def write_runs(study: Study, accuracy: Callable[[str, int], float | None]) -> None:
    """Write every run folder of a study: `accuracy(arm_id, seed)`, None for "not run"."""
    import torch
    from safetensors.torch import save_model

    from vitrail.networks import build

    for arm in study.plan.arms.values():
        for seed in arm.seeds:
            folder = study.run_folder(arm.arm_id, seed)
            folder.mkdir(parents=True)
            facts = {"hardware": "a test", "threads": 1, "versions": {"torch": "0"}}
            (folder / "env.json").write_text(json.dumps(facts))
            (folder / "config.json").write_text(json.dumps({"settings": arm.settings}))
            value = accuracy(arm.arm_id, seed)
            if value is None:
                summary: dict[str, Any] = {"status": "not run", "reason": "a test"}
                (folder / "summary.json").write_text(json.dumps(summary))
                continue
            torch.manual_seed(seed)
            network = build(arm.settings)
            save_model(network, str(folder / "model.safetensors"))
            size = sum(part.numel() for part in network.parameters())
            summary = {
                "status": "finished", "reason": "", "parameters": size, "macs": 10 * size,
                "samples": steps_of(arm.settings) * arm.settings["batch_size"],
                "seconds": 30.0, "train_samples_per_second": 1e6 / size, "val_accuracy": value,
                "test_accuracy": value, "test_errors": round(1e4 * (1 - value)), "test_loss": 0.1,
            }  # fmt: skip
            (folder / "summary.json").write_text(json.dumps(summary))
            curve = {
                "step": [1, 2], "epoch": [0.5, 1], "samples": [100, 200],
                "train_loss": [2.0, 1.0 + 0.1 * seed], "val_loss": [2.0, 1.0],
                "val_accuracy": [value / 2, value], "learning_rate": [0.001, 0],
            }  # fmt: skip
            pd.DataFrame(curve).to_csv(folder / "history.csv", index=False)
            logits = np.random.default_rng(seed).normal(size=(200, 10)).astype(np.float32)
            np.savez_compressed(folder / "predictions.npz", test_logits=logits)


def write_input_seconds(study: Study) -> None:
    """What Q8's clock has measured: more for more tokens."""
    table = pd.DataFrame(SIZES, columns=COLUMNS[:2])
    table["seconds"] = [0.01 * (place + 1) for place in range(len(SIZES))]
    study.folder.mkdir(parents=True, exist_ok=True)
    table.to_csv(study.folder / "input_seconds.csv", index=False)


@dataclass(frozen=True)
class Table(Study):
    """A study that has nothing but the test accuracies given, by arm and seed."""

    accuracies: dict[str, dict[int, float]] = field(default_factory=dict)

    def accuracy_by_seed(self, experiment: Experiment, arm: str) -> dict[int, float]:
        """The accuracies of an arm, none where it did not run."""
        return self.accuracies.get(experiment.member(arm).arm.arm_id, {})


def around(value: float, seeds: int = 3, spread: float = 1e-4) -> dict[int, float]:
    """Accuracies close to a value, by seed."""
    return {seed: value + spread * (seed % 3 - 1) for seed in range(seeds)}


def table_of(config: dict[str, Any], stem: str, values: dict[str, dict[str, Any]]) -> Table:
    """A table with accuracies by experiment and arm: a number, or values by seed."""
    study = Table(config, Path())
    found: dict[str, dict[int, float]] = {}
    for about in study.plan.of_question(stem):
        for name, value in values.get(about.name, {}).items():
            arm = about.member(name).arm.arm_id
            found[arm] = value if isinstance(value, dict) else around(value)
    return Table(config, Path(), found)
