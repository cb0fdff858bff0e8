"""Where every token goes under each way to reduce them, for the token view of Q7."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from vitrail import style
from vitrail.files import read_json
from vitrail.questions.complexity.reduction import (
    LEARNED,
    LOOKS,
    NAMES,
    facts,
    loss_words,
    read,
)
from vitrail.questions.explore import BUDGET, packed
from vitrail.questions.study import Study

GONE = 65535  # the root of a patch that was dropped
IMPORTANCE = {"ltmp": "received", "ltmp_class": "class"}


def reduction(study: Study) -> dict[str, Any] | None:
    """All settings of all ways on one digit of each class; None where that is too much for a page.

    `roots` are uint16: (settings, digits, blocks, patches). Patches with the same root are one
    token: it is the first of them in reading order, and `GONE` where the token was dropped.
    """
    import torch

    from vitrail.networks import load_run
    from vitrail.reduction.network import reduced
    from vitrail.train import pixels

    table = read(study.folder)
    run = study.folder / "runs" / facts(study.folder)["run"]
    settings = read_json(run / "config.json")["settings"]
    network: Any = load_run(run)
    labels = study.mnist.test_labels
    raw = study.mnist.test_images[[int(np.flatnonzero(labels == d)[0]) for d in range(10)]]
    images = pixels(raw, settings, torch.device("cpu"))
    rows = table.to_dict("records")
    passed = [
        reduced(network, images, way_of(row, study.folder / "reduction"), follow=True)
        for row in rows
    ]
    owners = np.stack([one.owners.numpy() for one in passed if one.owners is not None])
    roots = roots_of(owners[..., network.num_prefix_tokens :]).swapaxes(1, 2)
    digits = min(len(raw), BUDGET // (2 * roots[:, 0].size))
    if not digits:
        return None
    return {
        "ways": [[way, NAMES[way]] for way in LOOKS if way in set(table["way"])],
        "settings": [
            words(row, rows[0], one.logits[:digits].argmax(dim=1).tolist())
            for row, one in zip(rows, passed, strict=True)
        ],
        "blocks": roots.shape[2],
        "patches": roots.shape[3],
        "pixels": raw.shape[-1],
        "images": packed(raw[:digits]),
        "labels": list(range(digits)),
        "roots": packed(roots[:, :digits]),
        "mark": style.MARK,
    }


def way_of(row: dict[Any, Any], folder: Path) -> Any:
    """What `vitrail.reduction` did in this row of its table; None for the network as it is."""
    from vitrail.reduction.ways import Merge, Prune, Threshold

    name, setting = row["way"], row["setting"]
    if name in LEARNED:
        found = read_json(folder / f"thresholds_{IMPORTANCE[name]}_{setting}.json")
        return Threshold(tuple(found["merge"]), tuple(found["prune"]), found["importance"])
    return {"none": None, "tome": Merge(setting), "prune": Prune(setting)}[name]


def roots_of(owners: np.ndarray) -> np.ndarray:
    """For each patch the first patch of its token: (..., patches) places -> uint16 roots.

    Places change from block to block as tokens move up; roots do not, so that a token keeps its
    colour.
    """
    same = owners[..., :, None] == owners[..., None, :]
    first = same.argmax(axis=-1)
    return np.where(owners < 0, GONE, first).astype(np.uint16)


def words(row: dict[Any, Any], plain: dict[Any, Any], read_as: list[int]) -> dict[str, Any]:
    """One setting: its name, its figures in print, and how it reads the digits."""
    way = row["way"]
    setting = f"target {row['setting']} %" if way in LEARNED else f"r = {row['setting']}"
    return {
        "way": way,
        "setting": NAMES["none"] if way == "none" else setting,
        "accuracy": f"{100 * row['test_accuracy']:.2f} %",
        "difference": loss_words(row),
        "macs": f"{row['macs'] / 1e6:.2f} million",
        "macs_ratio": round(row["macs_ratio"], 4),
        "speed": f"{row['images_per_second'] / plain['images_per_second']:.2f}",
        "left": [float(tokens) for tokens in str(row["tokens_left"]).split()],
        "read": read_as,
    }
