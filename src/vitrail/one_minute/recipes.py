"""What is trained for a minute, and how; chosen on the validation split (docs/one_minute.md).

Imports no torch, so that a mistyped option is told at once.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from difflib import get_close_matches
from typing import Any

from vitrail.errors import VitrailError
from vitrail.settings import IMAGE_SIZE, NUM_CLASSES

HELD_OUT = 5_000  # the last training images, on which the settings were chosen
OPTIMIZERS = ("adamw", "sgd", "muon", "lion")
# Setting: its lowest and highest value.
BOUNDS = {
    "learning_rate": (1e-9, 1e3),
    "matrix_learning_rate": (1e-9, 1e3),
    "weight_decay": (0, 1e3),
    "rotation": (0, 180),
    "translation": (0, IMAGE_SIZE),
    "scaling": (0, 0.99),
    "network.depth": (1, 100),
    "network.pos_embed_std": (0, 1e3),
}


@dataclass(frozen=True)
class Recipe:
    """A network and its training.

    Args:
        label: what it is called in tables.
        network: arguments of `VisionTransformer`; none for the CNN.
        crop: side in pixels of the middle of the image that the network reads, of 28.
        batch_size: images of a step, an even number, half of them for each process.
        optimizer: with its rates and its decay as in `vitrail.optimizers`; "adamw" without
            decay is Adam.
        warmup: share of the time in which the rates rise.
        falling: whether they then fall to zero along a straight line, or stay.
        rotation, translation, scaling: random affine maps as in `vitrail.augment`.
    """

    label: str
    network: dict[str, Any] = field(default_factory=dict)
    crop: int = 28
    batch_size: int = 128
    optimizer: str = "adamw"
    learning_rate: float = 0.001
    matrix_learning_rate: float = 0.02
    weight_decay: float = 0.0
    warmup: float = 0.0
    falling: bool = False
    rotation: float = 0.0
    translation: float = 0.0
    scaling: float = 0.0

    def rate(self, share: float) -> float:
        """Share of the peak learning rates when `share` of the training has passed."""
        if share < self.warmup:
            return share / self.warmup
        return 1 - (share - self.warmup) / (1 - self.warmup) if self.falling else 1.0


RECIPES = {
    "vit": Recipe(
        label="ViT, ours",
        # The digits lie in the middle 20 x 20 pixels: without two pixels of border, 4 x 4
        # patches of 6 are finer than those of 7, and as many.
        crop=24,
        network={
            "img_size": 24,
            "patch_size": 6,
            "patch_embed": "shifted",
            "in_chans": 1,
            "num_classes": NUM_CLASSES,
            "embed_dim": 64,
            "depth": 4,
            "num_heads": 4,
            "mlp_ratio": 2,
            "class_token": False,
            "global_pool": "avg",
            "pos_embed_std": 0.7,
            "fused_attn": False,
        },
        optimizer="muon",
        learning_rate=0.003,
        matrix_learning_rate=0.02,
        weight_decay=0.05,
        warmup=0.05,
        falling=True,
        rotation=15.0,
        translation=1.5,
        scaling=0.1,
    ),
    "cnn": Recipe(label="small CNN, usual recipe"),
    "cnn_tuned": Recipe(
        label="small CNN, maps and schedule of the ViT",
        learning_rate=0.003,
        warmup=0.05,
        falling=True,
        rotation=15.0,
        translation=1.5,
        scaling=0.1,
    ),
}


def changed(recipe: Recipe, words: list[str]) -> Recipe:
    """A recipe with other settings, each as `name=value`; `network.depth=3` for the ViT's.

    Raises:
        VitrailError: no such setting, a value of another kind, or one that makes no sense.
            Whether the parts of a network fit together only building it tells, see
            `networks.check`.
    """
    settings = asdict(recipe)
    for word in words:
        name, _, text = word.partition("=")
        part, _, inner = name.rpartition(".")
        there = settings["network"] if part == "network" else settings if not part else {}
        known = [*settings, *(f"network.{key}" for key in settings["network"])]
        known.remove("network")
        if name not in known:
            close = get_close_matches(name, known, n=1)
            hint = f"did you mean {close[0]}?" if close else f"there are {', '.join(known)}"
            raise VitrailError(f"--set {word}: {name!r} is no setting of {recipe.label}; {hint}")
        try:
            value = json.loads(text)
        except ValueError:
            value = text  # a word, such as linear
        old = there[inner]
        kinds = (int, float) if isinstance(old, float) else (type(old),)
        if not isinstance(value, kinds) or isinstance(value, bool) != isinstance(old, bool):
            raise VitrailError(f"--set {word}: {name} is {old!r}, and {text!r} is of another kind")
        low, high = BOUNDS.get(name, (float("-inf"), float("inf")))
        if isinstance(value, (int, float)) and not low <= value <= high:  # NaN is in no bounds
            raise VitrailError(f"--set {word}: {name} has to be a number from {low:g} to {high:g}")
        there[inner] = value
    new = Recipe(**settings)
    if new.optimizer not in OPTIMIZERS:
        raise VitrailError(
            f"optimizer is {new.optimizer!r} and has to be one of {', '.join(OPTIMIZERS)}"
        )
    if new.optimizer == "muon" and not new.network:
        raise VitrailError(
            "optimizer muon works on the matrices of transformer blocks, and "
            f"{new.label} has none; choose one of adamw, sgd, lion"
        )
    if new.batch_size < 2 or new.batch_size % 2:
        raise VitrailError(
            f"batch_size is {new.batch_size} and has to be even: a half for each process"
        )
    if not 0 <= new.warmup < 1:
        raise VitrailError(f"warmup is {new.warmup} and has to be a share from 0 up to below 1")
    side = new.network.get("img_size", IMAGE_SIZE)
    if new.crop != side or not 2 <= side <= IMAGE_SIZE or side % 2:
        raise VitrailError(
            f"crop is {new.crop} and the network reads {side} pixels; both have to be the same "
            f"even number up to {IMAGE_SIZE}"
        )
    return new
