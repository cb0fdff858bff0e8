"""Who takes part: which network, in which loop or in inference, at which batch size."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING

from vitrail.bench.loops import LOOPS, clock
from vitrail.bench.networks import made
from vitrail.settings import Settings

if TYPE_CHECKING:
    from torch import Tensor

    from vitrail.data import Mnist

# A small random affine map, as strong as in the headline run and a usual addition to MNIST;
# PyTorch's own example moves nothing, and would be faster by what the maps cost.
MOVES: Settings = {"rotation": 15, "translation": 1.5, "scaling": 0.1}
VIT_S: Settings = {
    "embed_dim": 384, "depth": 12, "num_heads": 6, "mlp_ratio": 4, "precision": "bf16",
}  # fmt: skip
FORWARD = 1  # of the products of a forward pass; backward has twice as many
TRAINING = 3
TRAIN_STEPS, VIT_S_STEPS = 50, 2  # of one turn, about two seconds
LARGE = 256  # a larger batch, for the share of the peak
BATCHES = {1: 200, 100: 20}  # of inference: batch size -> calls of one turn
WARM_UP = 2  # steps or calls before the first turn


@dataclass
class Contestant:
    """One row of the table.

    Attributes:
        name: of the row; the first one of a task is what the others are compared with.
        task: "train" (the base ViT), "train ViT-S" or "infer"; ratios are taken within one.
        library: whose network it is, see `networks.BUILDERS`.
        loop: see `loops.LOOPS`; "forward" for inference.
        optimizer: in words.
        settings: of the network and of our loop.
        batch_size, batches: images of a step or call, steps or calls of a turn.
        turn: takes a number of steps or calls and gives the seconds they took.
        seconds: of each turn so far.
        parameters, macs: of the network; MACs of one image forward.
        reason: why it could not be measured; empty for one that was.
    """

    name: str
    task: str
    library: str
    loop: str
    optimizer: str
    settings: Settings
    batch_size: int
    batches: int
    turn: Callable[[int], float]
    seconds: list[float] = field(default_factory=list)
    parameters: int = 0
    macs: int = 0
    reason: str = ""

    @property
    def images(self) -> int:
        """Images of a turn."""
        return self.batch_size * self.batches

    @property
    def flops(self) -> float:
        """Floating-point operations of a turn: two for each MAC."""
        passes = FORWARD if self.task == "infer" else TRAINING
        return 2.0 * self.macs * passes * self.images if self.macs else math.nan


def training(
    name: str, library: str, loop: str, optimizer: str, settings: Settings, mnist: Mnist,
    task: str = "train", steps: int = TRAIN_STEPS,
) -> Contestant:  # fmt: skip
    """A network in a loop; each turn begins with a fresh network."""

    def turn(steps: int) -> float:
        return LOOPS[loop](made(library, settings), mnist, settings, steps)

    size = settings["batch_size"]
    return Contestant(name, task, library, loop, optimizer, settings, size, steps, turn)


def inference(name: str, library: str, settings: Settings, images: Tensor) -> Contestant:
    """A network that gives the logits of ready images (B, 1, 28, 28), batch after batch."""
    import torch

    size = len(images)
    ready: list[torch.nn.Module] = []

    def turn(calls: int) -> float:
        if not ready:
            ready.append(made(library, settings).eval())
        with torch.inference_mode():
            begin = clock()
            for _ in range(calls):
                ready[0](images)
            return clock() - begin

    return Contestant(name, "infer", library, "forward", "", settings, size, BATCHES[size], turn)


def contestants(defaults: Settings, mnist: Mnist, bf16: bool) -> list[Contestant]:
    """All that take part, in the order of the table.

    Args:
        defaults: the settings of the base ViT.
        mnist: whose images are read.
        bf16: whether the processor multiplies it, which ViT-S is trained in.
    """
    import torch

    from vitrail.train import pixels

    base = {**defaults, **MOVES, "optimizer": "adamw", "precision": "fp32"}
    small = {**base, **VIT_S}
    trains = partial(training, mnist=mnist)
    found = [
        trains("ours", "vitrail", "ours", "AdamW", base),
        trains("timm, tutorial", "timm", "tutorial", "Adam", base),
        trains("vit-pytorch, tutorial", "vit-pytorch", "tutorial", "Adam", base),
        trains("transformers, Trainer", "transformers", "Trainer", "AdamW", base),
        trains("timm in our loop", "timm", "ours", "AdamW", base),
        trains("ours with Muon", "vitrail", "ours", "Muon", {**base, "optimizer": "muon"}),
        trains("ours, larger batch", "vitrail", "ours", "AdamW", {**base, "batch_size": LARGE},
               steps=TRAIN_STEPS * base["batch_size"] // LARGE),
    ]  # fmt: skip
    for name, library in (("ViT-S, ours", "vitrail"), ("ViT-S, timm in our loop", "timm")):
        one = trains(name, library, "ours", "AdamW", small, task="train ViT-S", steps=VIT_S_STEPS)
        if not bf16:
            one.reason = "this processor has no bf16 products"
        found.append(one)
    for size in sorted(BATCHES, reverse=True):
        images = pixels(mnist.test_images[:size], base, torch.device("cpu"))
        for library in ("vitrail", "timm", "vit-pytorch", "transformers"):
            name = "ours" if library == "vitrail" else library
            found.append(inference(name, library, base, images))
    return found
