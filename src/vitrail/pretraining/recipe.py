"""The recipe of a pretraining: which keys there are, and whether they make sense."""

from __future__ import annotations

from typing import Any

from vitrail.errors import VitrailError
from vitrail.settings import Settings, in_full

IMAGES = ("strokes", "fractals", "digits")
TASKS = ("classify", "masked")
# Found by trials on the validation split, see docs/pretraining.md.
DEFAULTS: dict[str, Any] = {
    "images": "strokes",
    "task": "classify",
    "shuffled_labels": False,
    "classes": 300,
    "steps": 1500,
    "batch_size": 128,
    "optimizer": "muon",
    "learning_rate": 0.003,
    "matrix_learning_rate": 0.02,
    "weight_decay": 0.05,
    "warmup": 0.1,
    "schedule": "cosine",
    "mask_ratio": 0.75,
    "seed": 0,
}


def read_recipe(recipe: dict[str, Any], model: Settings) -> dict[str, Any]:
    """The recipe with its defaults, checked against the network's settings.

    Raises:
        VitrailError: a key or a value that makes no sense; it is named.
    """
    for key in recipe:
        if key not in DEFAULTS:
            raise VitrailError(
                f"pretraining: {key} is no key of a recipe; there are {', '.join(DEFAULTS)}"
            )
    full = {**DEFAULTS, **recipe}
    for key, known in (("images", IMAGES), ("task", TASKS)):
        if full[key] not in known:
            raise VitrailError(
                f"pretraining: {key} is {full[key]!r} and must be one of {', '.join(known)}"
            )
    for key, least in (("classes", 2), ("steps", 1), ("batch_size", 1)):
        if full[key] < least:
            raise VitrailError(f"pretraining: {key} is {full[key]} and must be at least {least}")
    if full["task"] == "masked":
        _check_masked(full, in_full(model))
    elif full["images"] == "digits":
        raise VitrailError(
            "pretraining: the digits are taken without their labels, so there is nothing to "
            "classify; set task to masked"
        )
    if full["optimizer"] == "muon" and model["model"] not in ("vit", "timm"):
        raise VitrailError(
            "pretraining: optimizer muon works on the matrices of transformer blocks, and model "
            f"{model['model']!r} has none; choose adamw or sgd"
        )
    return full


def _check_masked(recipe: dict[str, Any], model: Settings) -> None:
    if model["model"] != "vit" or model.get("patch_embed", "linear") != "linear":
        raise VitrailError(
            "pretraining: task masked needs model vit with patch_embed linear, where a hidden "
            "patch is seen by no other token; set task to classify"
        )
    if model["attention"] == "window":
        raise VitrailError(
            "pretraining: task masked leaves gaps in the grid of patches, which attention window "
            "does not take; set task to classify"
        )
    if recipe["shuffled_labels"]:
        raise VitrailError(
            "pretraining: task masked has no labels to shuffle; set shuffled_labels to false"
        )
    if not 0 < recipe["mask_ratio"] < 1:
        raise VitrailError(
            f"pretraining: mask_ratio is {recipe['mask_ratio']} and must lie between 0 and 1"
        )
