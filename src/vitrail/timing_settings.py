"""What the timing step may be told, and a sentence for every way to tell it wrong."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable
from typing import Any

from vitrail.errors import VitrailError

DEFAULTS: dict[str, Any] = {
    "tokens": [17, 50, 197, 512, 1024, 2048, 4096],  # N of attention and of one block
    "widths": [64],  # their embed_dim
    "heads": 4,
    "mlp_ratio": 4.0,  # of the block
    "batch_size": 1,
    "patch_sizes": [14, 7, 4, 2],  # of the whole model
    "model_batch_size": 16,
    "model": {"img_size": 28, "in_chans": 1, "num_classes": 10}
    | {"embed_dim": 64, "depth": 6, "num_heads": 4},
    "repeats": 15,  # samples of a cell
    "min_seconds": 0.01,  # the least that one sample lasts
    "max_seconds": 1.0,  # about the most for all samples of a cell
    "memory_gib": 4.0,  # cells that need more are skipped, with the reason
    "keep_memory": False,  # keep freed memory in the process; only the command does this
    "threads": 1,
    "device": "auto",
}


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0


def _is_amount(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 < value < math.inf


def _are_counts(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(_is_count(item) for item in value)


COUNT = ("a whole number above zero", _is_count)
COUNTS = ("a list of whole numbers above zero", _are_counts)
AMOUNT = ("a number above zero", _is_amount)
KINDS: dict[str, tuple[str, Callable[[Any], bool]]] = {
    "tokens": COUNTS,
    "widths": COUNTS,
    "patch_sizes": COUNTS,
    "heads": COUNT,
    "batch_size": COUNT,
    "model_batch_size": COUNT,
    "repeats": ("a whole number of at least 3", lambda value: _is_count(value) and value >= 3),
    "threads": COUNT,
    "mlp_ratio": AMOUNT,
    "min_seconds": AMOUNT,
    "max_seconds": AMOUNT,
    "memory_gib": AMOUNT,
    "model": ("a mapping of VisionTransformer settings", lambda value: isinstance(value, dict)),
    "keep_memory": ("true or false", lambda value: isinstance(value, bool)),
    "device": (
        "one of auto, cpu, cuda, mps",
        lambda value: value in ("auto", "cpu", "cuda", "mps"),
    ),
}


def read_settings(settings: Any) -> dict[str, Any]:
    """The settings with defaults filled in, sizes in rising order, all of them checked.

    `model` takes every argument of `VisionTransformer`; a `patch_size` in it is left out,
    since `patch_sizes` sets it.

    Raises:
        VitrailError: when a key is unknown or its value cannot be; the key is named.
    """
    if not isinstance(settings, dict):
        raise VitrailError(f"timing: the settings are a mapping, not {settings!r}")
    if unknown := sorted(set(settings) - set(DEFAULTS)):
        raise VitrailError(f"timing: unknown key {unknown[0]!r}; the keys are {sorted(DEFAULTS)}")
    settings = DEFAULTS | settings
    for key, (kind, fits) in KINDS.items():
        if not fits(settings[key]):
            raise VitrailError(f"timing.{key} is {kind}, not {settings[key]!r}")
    for key in ("tokens", "widths", "patch_sizes"):
        settings[key] = sorted(set(settings[key]))
    for width in settings["widths"]:
        if width % settings["heads"]:
            raise VitrailError(
                f"timing.heads {settings['heads']} does not divide {width} in timing.widths"
            )
    settings["model"] = _model_settings(settings["model"], settings["patch_sizes"])
    return settings


def _model_settings(given: dict[str, Any], patch_sizes: list[int]) -> dict[str, Any]:
    """Every argument of the model but the patch size, with a trial of each patch size."""
    import torch

    from vitrail.model import VisionTransformer

    parameters = inspect.signature(VisionTransformer).parameters
    if unknown := sorted(set(given) - set(parameters)):
        raise VitrailError(
            f"timing.model: unknown key {unknown[0]!r}; the keys are {sorted(parameters)}"
        )
    model = {key: parameter.default for key, parameter in parameters.items()}
    model |= DEFAULTS["model"] | given
    del model["patch_size"]
    for patch in patch_sizes:
        try:
            with torch.device("meta"):  # shapes only, no memory
                VisionTransformer(**model, patch_size=patch)
        except (KeyError, RuntimeError, TypeError, ValueError) as error:
            if isinstance(error, KeyError):
                error = ValueError(f"the model does not know the value {error}")
            raise VitrailError(
                f"timing.model with {patch} of timing.patch_sizes cannot be built: {error}"
            ) from error
    return model
