"""Contestants of the benchmark whose turns are made up, and the facts that a table tells."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import numpy as np

from vitrail.bench import table
from vitrail.bench.contestants import MOVES, Contestant
from vitrail.data import Mnist

FACTS = {
    "hardware": "A core", "rounds": "3 rounds", "cores": "2 cores", "torch": "2", "timm": "1",
    "vit_pytorch": "1", "transformers": "5", "commit": "0123abc", "peak": "90", "bf16": "",
}  # fmt: skip


def settings(config: dict[str, Any]) -> dict[str, Any]:
    """The base ViT, trained as in the benchmark."""
    return {**config["defaults"], **MOVES, "optimizer": "adamw"}


def noise() -> Mnist:
    """Noise in the shape of MNIST, enough for seven batches: more than a turn is to read."""
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (450, 28, 28), dtype=np.uint8)
    labels = rng.integers(0, 10, 450, dtype=np.uint8)
    return Mnist(images, labels, images, labels)


def contestant(
    name: str, turn: Callable[[int], float], config: dict[str, Any], library: str = "vitrail",
    task: str = "train",
) -> Contestant:  # fmt: skip
    asked = settings(config)
    return Contestant(name, task, library, "ours", "AdamW", asked, 64, 10, turn)


def facts_in(block: str) -> dict[str, str]:
    """The facts that a block tells; empty for one of another version."""
    pattern = re.sub(r"\\\{(\w+)\\\}", r"(?P<\1>.*?)", re.escape(table.FACTS))
    found = re.search(pattern, block)
    return found.groupdict() if found else {}
