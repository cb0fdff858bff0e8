"""Where the hidden units of the trained MLPs work: the inputs of their activation."""

from __future__ import annotations

from typing import Any

import numpy as np

from vitrail.analysis import Estimate, counted
from vitrail.claims import Claim, holds
from vitrail.questions.study import Study

IMAGES = 100  # first test digits


def hidden_inputs(study: Study, seed: int) -> np.ndarray:
    """What the activations of all blocks of the base ViT read, one number per token and unit."""
    import torch

    from vitrail.train import pixels

    network: Any = study.network(study.plan.base, seed)
    settings = study.plan.arms[study.plan.base].settings
    seen: list[np.ndarray] = []
    for block in network.blocks:
        block.mlp.fc1.register_forward_hook(
            lambda module, args, output: seen.append(output.numpy().ravel())
        )
    with torch.inference_mode():
        network(pixels(study.mnist.test_images[:IMAGES], settings, torch.device("cpu")))
    return np.concatenate(seen)


def mostly_negative(share: Estimate) -> Claim:
    """Is most of what the activation reads on the side where it damps or blocks?"""
    sentence = "{} of the inputs of the activation in the base ViT are negative."
    return holds(
        "q2-most-inputs-are-negative",
        sentence.format("Most"),
        "95 % interval over the seeds of the share of negative inputs lies above one half",
        f"{100 * share.mean:.0f} % over {counted(share.n, 'seed')}",
        share.mean > 0.5 if abs(share.mean - 0.5) > share.half_width else None,
        sentence.format("Less than half"),
    )
