"""All ways to reduce the tokens of one trained network, side by side."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from vitrail.analysis import accuracy_gap, mcnemar
from vitrail.meters import peak_mib
from vitrail.model import VisionTransformer
from vitrail.reduction.cost import cost_of
from vitrail.reduction.evaluate import BATCH, Scored, score, speeds
from vitrail.reduction.network import reduced
from vitrail.reduction.ways import Merge, Prune, Threshold, Way

COLUMNS = [
    *("way", "setting", "macs", "macs_ratio", "test_accuracy", "test_errors"),
    *("difference", "difference_half_width", "only_plain", "only_reduced", "p_value"),
    *("images_per_second", "images_per_second_one", "peak_mib", "tokens_left"),
]


@dataclass(frozen=True)
class Entry:
    """One row of the comparison: `setting` is r, or the target of LTMP in per cent."""

    name: str  # none, tome, prune, ltmp or ltmp_class
    setting: int
    way: Way | None


def entries(removed: Sequence[int], thresholds: dict[tuple[str, int], Threshold]) -> list[Entry]:
    """The network as it is, ToMe and the pruner at every r, LTMP at every target."""
    found = [Entry("none", 0, None)]
    found += [Entry("tome", r, Merge(r)) for r in removed]
    found += [Entry("prune", r, Prune(r)) for r in removed]
    return found + [Entry(*key, way) for key, way in sorted(thresholds.items())]


def compare(
    vit: VisionTransformer, asked: list[Entry], images: Tensor, labels: Tensor, timed: int
) -> tuple[pd.DataFrame, np.ndarray]:
    """One row (COLUMNS) for each entry, the first of which reduces nothing.

    Beside it which image each row gets right, (rows, images), to compare rows in pairs.

    Accuracies are fractions, differences are to the first row, on the same images.
    `images_per_second` is for batches of 100, `images_per_second_one` for single images, of
    the first `timed`, `peak_mib` the most memory of a batch of 100 above the weights;
    `tokens_left` lists the mean after each block.
    """
    ways = [entry.way for entry in asked]
    plain = torch.no_grad()(partial(vit, images[:BATCH]))
    scored = [score(vit, way, images, labels) for way in ways]
    many = speeds(vit, ways, images[:timed], BATCH)
    single = speeds(vit, ways, images[: max(1, timed // 8)], 1)
    calls = [partial(reduced, vit, images[:BATCH], way) if way else plain for way in ways]
    peaks = [peak_mib(call, images.device) for call in calls]
    rows = [
        row(entry, one, scored[0], cost_of(vit).whole) | {
            "images_per_second": fast, "images_per_second_one": slow, "peak_mib": peak
        }
        for entry, one, fast, slow, peak in zip(asked, scored, many, single, peaks, strict=True)
    ]  # fmt: skip
    return pd.DataFrame(rows, columns=COLUMNS), np.stack([one.right for one in scored])


def row(entry: Entry, found: Scored, plain: Scored, whole: float) -> dict[str, Any]:
    """The figures of one way beside those of the network as it is."""
    gap = accuracy_gap(found.right, plain.right)
    test = mcnemar(plain.right, found.right)
    return {
        "way": entry.name,
        "setting": entry.setting,
        "macs": found.macs,
        "macs_ratio": found.macs / whole,
        "test_accuracy": float(found.right.mean()),
        "test_errors": int((~found.right).sum()),
        "difference": gap.mean,
        "difference_half_width": gap.half_width,
        "only_plain": test.only_first,
        "only_reduced": test.only_second,
        "p_value": test.p_value,
        "tokens_left": " ".join(f"{tokens:.2f}" for tokens in found.left),
    }


def pictured(
    vit: VisionTransformer, table: pd.DataFrame, asked: list[Entry], images: Tensor
) -> dict[str, np.ndarray]:
    """Where every token of some images went, for each way at about equal MACs.

    The most saving LTMP, and of the others the setting nearest to it (to half without LTMP).

    Returns:
        `<way>_owners` (blocks, B, N_0), `<way>_predicted` (B,) and `<way>_setting` for each.
    """
    ltmp = table[table["way"] == "ltmp"]
    goal = 0.5 if ltmp.empty else ltmp["macs_ratio"].min()
    found: dict[str, np.ndarray] = {}
    for name, part in table[table["way"] != "none"].groupby("way"):
        nearest = int(str((part["macs_ratio"] - goal).abs().idxmin()))
        passed = reduced(vit, images, asked[nearest].way, follow=True)
        assert passed.owners is not None
        found[f"{name}_owners"] = passed.owners.cpu().numpy().astype(np.int16)
        found[f"{name}_predicted"] = passed.logits.argmax(dim=1).cpu().numpy()
        found[f"{name}_setting"] = np.array(asked[nearest].setting)
    return found


def first_of_each_digit(labels: Tensor, digits: int) -> Tensor:
    """Positions of the first image of each of the digits 0, 1, ...; (digits,)."""
    return torch.stack([(labels == digit).nonzero()[0, 0] for digit in range(digits)])
