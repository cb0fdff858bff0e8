"""A run's folder: what a training leaves on disk, whole or not at all."""

from __future__ import annotations

import csv
import math
from pathlib import Path
from typing import Any

import numpy as np
from torch import nn

from vitrail.files import sha256, whole_folder, write_json
from vitrail.intact import sealed
from vitrail.settings import FINISHED_FILES, Settings, arm_id, run_id

Rows = list[dict[str, Any]]


def write_run(
    folder: Path,
    settings: Settings,
    seed: int,
    summary: dict[str, Any],
    facts: dict[str, Any],
    result: tuple[nn.Module, dict[str, Rows], np.ndarray] | None = None,
) -> None:
    """Write a run folder; its `summary.json` names the checksums of its siblings and its own.

    `result` is (trained network, tables by file name, test logits (10000, 10)); a run
    that could not be run has none.
    """
    identity = arm_id(settings)
    with whole_folder(folder) as draft:
        write_json(
            draft / "config.json",
            {"run_id": run_id(identity, seed), "arm_id": identity, "seed": seed}
            | {"settings": settings},
        )
        write_json(draft / "env.json", facts)
        files = ["config.json", "env.json"]
        if result is not None:
            from safetensors.torch import save_model

            network, tables, logits = result
            for name, table in tables.items():
                write_rows(draft / name, table)
            np.savez_compressed(draft / "predictions.npz", test_logits=logits)
            save_model(network.cpu(), str(draft / "model.safetensors"))
            files += FINISHED_FILES
        sums = {name: sha256(draft / name) for name in files}
        write_json(draft / "summary.json", sealed({**finite(summary), "files": sums}))


def write_rows(path: Path, rows: Rows) -> None:
    """A CSV with every digit of its numbers."""
    with path.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.DictWriter(stream, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def finite(values: dict[str, Any]) -> dict[str, Any]:
    """JSON knows no NaN: a diverged loss becomes null."""
    return {
        key: None if isinstance(value, float) and not math.isfinite(value) else value
        for key, value in values.items()
    }
