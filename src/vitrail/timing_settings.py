"""What the timing step may be told, and a sentence for every way to tell it wrong."""

from __future__ import annotations

import inspect
import math
import os
from collections.abc import Callable
from typing import Any

from vitrail.errors import VitrailError

DEFAULTS: dict[str, Any] = {
    # N of attention and of one block
    "tokens": [16, 32, 64, 128, 256, 384, 512, 768, 1024, 2048, 4096],
    # of attention and of one block; an entry may have passes and threads of its own
    "widths": [{"embed_dim": 64, "num_heads": 4}],
    "mlp_ratio": 4.0,  # of the block
    "tokens_per_call": 2048,  # a call holds as many sequences as make about so many tokens
    "passes": ["forward", "train"],
    "threads": [1],  # numbers of threads, or all for one per core; the first also for memory
    "patch_sizes": [14, 7, 4, 2],  # of the whole model
    "model": {"img_size": 28, "in_chans": 1, "num_classes": 10}
    | {"embed_dim": 64, "depth": 6, "num_heads": 4},
    "repeats": 15,  # samples of a cell
    "min_seconds": 0.01,  # the least that one sample lasts
    "max_seconds": 1.0,  # about the most for all samples of a cell
    "memory_gib": 4.0,  # cells that need more are skipped, with the reason
    "keep_memory": False,  # keep freed memory in the process; only the command does this
    "device": "auto",
}


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0


def _is_amount(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 < value < math.inf


def _are_widths(value: Any) -> bool:
    needed = {"embed_dim", "num_heads"}
    return (
        isinstance(value, list)
        and bool(value)
        and all(
            isinstance(item, dict)
            and needed <= set(item) <= needed | {"passes", "threads"}
            and all(_is_count(item[key]) for key in needed)
            and all(KINDS[key][1](item[key]) for key in set(item) - needed)
            for item in value
        )
    )


def _are_passes(value: Any) -> bool:
    known = ("forward", "train")
    return isinstance(value, list) and bool(value) and all(item in known for item in value)


def _are_threads(value: Any) -> bool:
    return isinstance(value, list) and _are_counts([1 if n == "all" else n for n in value])


def _are_counts(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(_is_count(item) for item in value)


COUNT = ("a whole number above zero", _is_count)
COUNTS = ("a list of whole numbers above zero", _are_counts)
AMOUNT = ("a number above zero", _is_amount)
KINDS: dict[str, tuple[str, Callable[[Any], bool]]] = {
    "tokens": COUNTS,
    "widths": (
        "a list of mappings of embed_dim and num_heads, and passes and threads where an entry "
        "has its own",
        _are_widths,
    ),
    "passes": ("a list of forward and train, or of one of them", _are_passes),
    "threads": ("a list of whole numbers above zero, or all for one per core", _are_threads),
    "patch_sizes": COUNTS,
    "tokens_per_call": COUNT,
    "repeats": ("a whole number of at least 3", lambda value: _is_count(value) and value >= 3),
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
    for key in ("tokens", "patch_sizes"):
        settings[key] = sorted(set(settings[key]))
    for key in ("passes", "threads"):
        settings[key] = _unique(settings[key])
    shared = {key: settings[key] for key in ("passes", "threads")}
    settings["widths"] = [
        {key: _unique(value) if key in shared else value for key, value in (shared | width).items()}
        for width in settings["widths"]
    ]
    seen = set()
    for width in settings["widths"]:
        d, heads = width["embed_dim"], width["num_heads"]
        if d % heads:
            raise VitrailError(f"timing.widths: num_heads {heads} does not divide embed_dim {d}")
        if d in seen:
            raise VitrailError(f"timing.widths has embed_dim {d} twice; leave one of them out")
        seen.add(d)
    settings["model"] = _model_settings(settings["model"], settings["patch_sizes"])
    return settings


def _unique(values: list[Any]) -> list[Any]:
    """Each value once, in the order given; `all` becomes the number of cores."""
    return list(dict.fromkeys(os.cpu_count() or 1 if v == "all" else v for v in values))


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
