"""The patch-shuffle test: what is left of a ViT when the patches of an image are permuted."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd

from vitrail.analysis import paired_difference
from vitrail.claims import Claim, higher_accuracy, holds
from vitrail.questions.study import Study
from vitrail.questions.tiles import tiles
from vitrail.runs import Experiment, Member

NAME = "pos_embed"  # the experiment whose arms are tested
EVERY = 5  # every fifth test digit: enough for effects of this size
SEED = 0  # of the permutations
BATCH = 500
# Largest difference of logits, as a share of the largest logit, that rounding may leave.
TOLERANCE = 1e-4


def permutations(images: int, patches: int) -> np.ndarray:
    """One random order of the patches for each image, (images, patches), always the same."""
    order = np.tile(np.arange(patches), (images, 1))
    return np.random.default_rng(SEED).permuted(order, axis=1)


def shuffled(images: np.ndarray, patch_size: int, order: np.ndarray) -> np.ndarray:
    """The images with their patches put in another order: (N, H, H) -> (N, H, H).

    Place i of image n gets the patch that was at place `order[n, i]`.
    """
    side = images.shape[1] // patch_size
    moved = np.take_along_axis(tiles(images, patch_size), order[:, :, None, None], axis=1)
    rows = moved.reshape(len(images), side, side, patch_size, patch_size).swapaxes(2, 3)
    return rows.reshape(images.shape)


def measure(study: Study, experiment: Experiment) -> pd.DataFrame:
    """One row per finished ViT: accuracy on intact and on shuffled digits.

    Columns: arm, label, positions, seed, images, patch_size, intact, shuffled (fractions),
    and `change`, the largest difference of the logits as a share of the largest logit.
    """
    rows = []
    images, truth = study.mnist.test_images[::EVERY], study.mnist.test_labels[::EVERY]
    for member, seed in finished(study, experiment):
        settings = member.arm.settings
        patch_size = settings["patch_size"]
        order = permutations(len(images), (images.shape[1] // patch_size) ** 2)
        network = study.network(member.arm.arm_id, seed)
        before = logits(network, images, settings)
        after = logits(network, shuffled(images, patch_size, order), settings)
        rows.append(
            {
                "arm": member.name,
                "label": member.label,
                "positions": settings["pos_embed"],
                "seed": seed,
                "images": len(images),
                "patch_size": patch_size,
                "intact": float((before.argmax(axis=1) == truth).mean()),
                "shuffled": float((after.argmax(axis=1) == truth).mean()),
                "change": float(np.abs(after - before).max() / np.abs(before).max()),
            }
        )
    return pd.DataFrame(rows)


def finished(study: Study, experiment: Experiment) -> Iterator[tuple[Member, int]]:
    """The trained ViTs of an experiment."""
    for member in experiment.members:
        for seed in experiment.seeds:
            status = study.summary(member.arm.arm_id, seed)["status"]
            if status == "finished" and member.arm.settings["model"] == "vit":
                yield member, seed


def logits(network: Any, images: np.ndarray, settings: dict[str, Any]) -> np.ndarray:
    """(N, 28, 28) -> (N, 10), on the CPU in single precision."""
    import torch

    from vitrail.train import pixels

    with torch.inference_mode():
        parts = pixels(images, settings, torch.device("cpu")).split(BATCH)
        return torch.cat([network(part) for part in parts]).numpy()


def decide(results: pd.DataFrame) -> list[Claim]:
    """Without positions nothing changes; with them the accuracy falls; which reads bags best."""
    claims = []
    for arm, rows in results.groupby("arm", sort=False):
        label, positions = rows["label"].iloc[0], rows["positions"].iloc[0]
        claims.append(
            unchanged(str(arm), label, rows)
            if positions == "none"
            else higher_accuracy(
                f"q6-shuffle-hurts-{str(arm).replace('_', '-')}",
                f"Shuffling the patches lowers the accuracy of the ViT with {label}.",
                f"{label} on intact digits",
                f"{label} on shuffled digits",
                paired_difference(by_seed(rows, "intact"), by_seed(rows, "shuffled")),
            )
        )
    bags, learned = (results[results["positions"] == kind] for kind in ("none", "learned"))
    if len(bags) and len(learned):
        claims.append(
            higher_accuracy(
                "q6-shuffle-none-beats-learned",
                "On shuffled digits the ViT without positions is more accurate than the one with "
                "learned positions.",
                f"{bags['label'].iloc[0]} on shuffled digits",
                f"{learned['label'].iloc[0]} on shuffled digits",
                paired_difference(by_seed(bags, "shuffled"), by_seed(learned, "shuffled")),
            )
        )
    return claims


def by_seed(rows: pd.DataFrame, column: str) -> dict[int, float]:
    """A column of one arm by seed."""
    return dict(zip(rows["seed"], rows[column], strict=True))


def unchanged(arm: str, label: str, rows: pd.DataFrame) -> Claim:
    """A set has no order: only rounding may change the logits."""
    worst = float(rows["change"].max())
    return holds(
        f"q6-shuffle-{arm}-unchanged",
        f"Shuffling the patches changes nothing for the ViT with {label} but rounding.",
        f"largest difference of the logits over all digits and seeds below {TOLERANCE:.0e} of the "
        "largest logit",
        f"largest difference {worst:.1e} of the largest logit",
        worst < TOLERANCE,
        f"Shuffling the patches changes the logits of the ViT with {label} by up to {worst:.1e} of "
        "the largest.",
    )
