"""The tables of Q7's steps that measure ways to lower the cost, made by hand."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from vitrail.execution.table import COLUMNS as EXECUTION
from vitrail.questions.complexity.ways import INFERENCE, STEP
from vitrail.reduction.compare import COLUMNS as REDUCTION

MACHINE = {
    "device": "cpu",
    "hardware": "a CPU",
    "load_average": 0.5,
    "threads": 1,
    "settings": {"batch_size": 100, "images": 10000, "timed_images": 400},
    "images": 10000,
    "test_images": 10000,
    "run": "vit-s0",
    "seconds": 1,
}
GROUPS = {"inference": INFERENCE, "training": STEP, "tuning": STEP}


def execution_table(**changes: dict[str, Any]) -> pd.DataFrame:
    """The table of vitrail.execution: `group.name` -> figures that differ from the plain ones."""
    rows = []
    for group, names in GROUPS.items():
        for name in names:
            if (name in ("full", "lora")) != (group == "tuning"):
                continue
            row = dict.fromkeys(EXECUTION, math.nan) | {
                "name": name, "group": group, "baseline": "full" if group == "tuning" else "plain",
                "seconds_per_image": 2e-3, "time_ratio": 1.0, "time_low": 0.9, "time_high": 1.1,
                "peak_mib": 8.0, "memory_ratio": 1.0, "trainable_parameters": 1000, "reason": "",
            }  # fmt: skip
            if group == "inference":
                row |= {"images": 10000, "accuracy": 0.9, "accuracy_points": 0.0}
                row |= {"logit_difference": 1e-6}
            rows.append(row | changes.get(f"{group}.{name}", {}))
    return pd.DataFrame(rows)


def reduction_table() -> pd.DataFrame:
    """ToMe at two settings and LTMP at one; nothing was pruned."""
    rows = []
    for way, setting, share, speed in [
        ("none", 0, 1.0, 1000.0), ("tome", 4, 0.8, 1250.0), ("tome", 8, 0.55, 2000.0),
        ("ltmp", 50, 0.5, 800.0),
    ]:  # fmt: skip
        row = dict.fromkeys(REDUCTION, 1.0) | {"way": way, "setting": setting}
        row |= {"macs_ratio": share, "test_accuracy": 0.8 + 0.1 * share, "peak_mib": 10 * share}
        row |= {"difference": -0.1 * (1 - share), "difference_half_width": 0.01}
        rows.append(row | {"images_per_second": speed, "tokens_left": "4.00 3.50"})
    return pd.DataFrame(rows)


def write_steps(
    folder: Path,
    execution: pd.DataFrame | None = None,
    peaks: dict[str, float] | None = None,
    run: str = MACHINE["run"],
) -> None:
    """What Q7 reads in results/<study>, beside its clock; `peaks` in MiB by arm id.

    `run` is the run whose tokens were reduced, a network of one block.
    """
    memory = pd.DataFrame({"arm_id": [*(peaks or {})], "peak_mib": [*(peaks or {}).values()]})
    for path, table in {
        "execution/ways.csv": execution_table() if execution is None else execution,
        "reduction/table.csv": reduction_table(),
        "training_memory.csv": memory,
    }.items():
        file = folder / path
        file.parent.mkdir(parents=True, exist_ok=True)
        table.to_csv(file, index=False)
        if file.parent != folder:
            (file.parent / "env.json").write_text(json.dumps(MACHINE | {"run": run}))
    learned = {"merge": [0.9], "prune": [0.01], "importance": "received"}
    (folder / "reduction" / "thresholds_received_50.json").write_text(json.dumps(learned))
    owners = np.arange(5)[None, None].repeat(2, axis=1)  # a block, two images, 2 x 2 patches
    np.savez(
        folder / "reduction" / "pictures.npz",
        images=np.zeros((2, 28, 28), dtype=np.uint8), labels=np.arange(2),
        right=np.ones((4, 100), dtype=bool),
        ltmp_owners=owners, ltmp_predicted=np.arange(2), ltmp_setting=50,
    )  # fmt: skip
