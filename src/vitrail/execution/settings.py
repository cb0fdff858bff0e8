"""What the execution step may be told, and a sentence for every way to tell it wrong."""

from __future__ import annotations

from typing import Any

from vitrail.errors import VitrailError
from vitrail.settings import IMAGE_SIZE

DEFAULTS: dict[str, Any] = {
    "batch_size": 100,  # test images of a forward call
    "rounds": 14,  # forward calls of each way; every round takes the next batch
    "train_batch_size": 32,
    "train_rounds": 7,  # steps of each way, and of each tuning
    "tune_patch_size": 14,  # of ViT-S
    "tune_batch_size": 8,
    "tune_steps": 30,  # of the fine-tuning whose accuracy is read, with ImageNet weights
    "lora_rank": 8,
    "timeout_seconds": 60,  # for an answer of the two processes
    "device": "auto",
}
LEAST = {"rounds": 3, "train_rounds": 3, "train_batch_size": 2}


def read_settings(settings: Any) -> dict[str, Any]:
    """The settings with defaults filled in, all of them checked.

    Raises:
        VitrailError: when a key is unknown or its value cannot be; the key is named.
    """
    if not isinstance(settings, dict):
        raise VitrailError(f"execution: the settings are a mapping, not {settings!r}")
    if unknown := sorted(set(settings) - set(DEFAULTS)):
        raise VitrailError(
            f"execution: unknown key {unknown[0]!r}; the keys are {', '.join(sorted(DEFAULTS))}"
        )
    settings = DEFAULTS | settings
    for key, value in settings.items():
        least = LEAST.get(key, 1)
        whole = isinstance(value, int) and not isinstance(value, bool)
        if key != "device" and not (whole and value >= least):
            raise VitrailError(
                f"execution.{key} is a whole number of at least {least}, not {value!r}"
            )
    if settings["train_batch_size"] % 2:
        raise VitrailError(
            f"execution.train_batch_size {settings['train_batch_size']} is odd, but two processes "
            "share it in halves; set an even one"
        )
    if IMAGE_SIZE % settings["tune_patch_size"]:
        raise VitrailError(
            f"execution.tune_patch_size {settings['tune_patch_size']} does not divide the image "
            f"size {IMAGE_SIZE}; choose 1, 2, 4, 7, 14 or 28"
        )
    return settings
