"""LoRA (Hu et al. 2021, 2106.09685) on timm's ViT-S beside the tuning of all its weights.

Time and memory of a step do not depend on the values of the weights, so they are measured
from random ones. An accuracy does: it is there only when ImageNet weights are.
"""

from __future__ import annotations

import copy
from functools import partial
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vitrail.data import Mnist
from vitrail.efficiency import count_parameters
from vitrail.execution.rounds import read_memory, take_turns
from vitrail.execution.ways import Unavailable, Way, failing, loss_gradients, set_up, trainable
from vitrail.settings import IMAGE_SIZE, NUM_CLASSES
from vitrail.train import logits_of, pixels, score
from vitrail.weights import AGAIN, create_pretrained

GROUP = "tuning"
MODEL = "vit_small_patch16_224"
DETAILS = {
    "full": "ViT-S, all weights trained; time and memory from random weights",
    "lora": "ViT-S, trained are low-rank additions to the queries, keys and values of every block "
    "and the head; time and memory from random weights, set-up includes importing peft",
}
# Peak rates of AdamW. All weights: that of ViT-S in Q8. The few weights of LoRA, half of which
# start at zero, take a larger one. Neither was searched for.
RATES = {"full": 3e-4, "lora": 1e-3}
Found = dict[str, Any]  # what vitrail.weights found


def measure_tuning(
    images: Tensor, labels: Tensor, mnist: Mnist, settings: dict[str, Any], weights: Found | None
) -> list[Way]:
    """A step of ViT-S by all weights and by LoRA; with ImageNet weights the accuracy, too.

    `images` (B, 1, 28, 28) and `labels` (B,) are the batch of the step.
    """
    ways = []
    for name, detail in DETAILS.items():
        way = Way(name, GROUP, "train", "full", detail, len(images))
        with set_up(way):
            network = build(name, settings, None).to(images.device).train()
            way.parameters = count_parameters(network)
            way.step = partial(_step, network, images, labels)
            way.step(0)
        ways.append(way)
    take_turns(ways, settings["train_rounds"], images.device, GROUP)
    read_memory(ways, images.device)
    missing = missing_weights(weights)
    for way in ways:
        way.results = []  # gradients of different parameters: nothing to compare
        way.reason = way.reason or missing
        if weights and not way.reason:
            with failing(way):
                network = build(way.name, settings, weights).to(images.device)
                test = slice(settings["batch_size"] * settings["rounds"])
                way.images = len(mnist.test_labels[test])
                way.accuracy = tuned_accuracy(
                    network, RATES[way.name], mnist, settings, weights, test
                )
    return ways


def build(name: str, settings: dict[str, Any], weights: Found | None) -> nn.Module:
    """ViT-S for MNIST, from ImageNet or from random weights; `lora` freezes and extends it.

    Raises:
        Unavailable: when LoRA is asked for and peft is not installed.
    """
    adapted = {"img_size": IMAGE_SIZE, "patch_size": settings["tune_patch_size"]}
    adapted |= {"in_chans": 1, "num_classes": NUM_CLASSES}
    torch.manual_seed(0)
    if weights is not None:
        network = create_pretrained(MODEL, weights, **adapted)
    else:
        import timm

        network = timm.create_model(MODEL, **adapted)
    return with_lora(network, settings["lora_rank"]) if name == "lora" else network


def with_lora(network: nn.Module, rank: int) -> nn.Module:
    """A copy that computes W x + 2 B A x for the queries, keys and values (equation 3).

    A is (rank, D) and starts at random, B is (3 D, rank) and starts at zero, so the copy
    starts as the network itself. timm has the three projections in one matrix W, (3 D, D).
    A, B and the head are trained, the rest is not.

    Raises:
        Unavailable: when peft is not installed.
    """
    try:
        import peft
    except ImportError as error:
        raise Unavailable(f"peft cannot be imported ({error}); pip install peft") from error
    asked = peft.LoraConfig(
        r=rank, lora_alpha=2 * rank, target_modules=["qkv"], modules_to_save=["head"]
    )
    wrapped: nn.Module = peft.get_peft_model(copy.deepcopy(network), asked)
    return wrapped


def missing_weights(weights: Found | None) -> str:
    """Why there is no accuracy, and what brings it; empty when the weights are there."""
    if weights is None:
        return f"no accuracy: --weights was not given; to fill it in later: {AGAIN}"
    if weights["status"] != "available":
        return f"no accuracy: {weights['reason']}; to fill it in later: {weights['remedy']}"
    if weights["model"] != MODEL:
        return f"no accuracy: the ImageNet weights are those of {weights['model']}, not of {MODEL}"
    return ""


def tuned_accuracy(
    network: nn.Module,
    rate: float,
    mnist: Mnist,
    settings: dict[str, Any],
    weights: Found,
    test: slice,
) -> float:
    """Accuracy on test images after `tune_steps` steps of AdamW on what is trainable.

    Every network sees the same images in the same order, that of the file, which is a random
    one; the rate falls in a straight line to zero.
    """
    device = next(network.parameters()).device
    scale = {"pixel_mean": np.mean(weights["mean"]), "pixel_std": np.mean(weights["std"])}
    steps, size = settings["tune_steps"], settings["tune_batch_size"]
    chosen = np.arange(steps * size) % len(mnist.train_images)
    images = pixels(mnist.train_images[chosen], scale, device)
    labels = torch.from_numpy(mnist.train_labels[chosen].astype(np.int64)).to(device)
    optimizer = torch.optim.AdamW(trainable(network), rate)
    network.train()
    for step in range(steps):
        optimizer.param_groups[0]["lr"] = rate * (1 - step / steps)
        batch = slice(step * size, (step + 1) * size)
        loss = F.cross_entropy(network(images[batch]), labels[batch])
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
    answers = torch.from_numpy(mnist.test_labels[test].astype(np.int64))
    logits = logits_of(network, pixels(mnist.test_images[test], scale, device), "fp32")
    return score(logits.cpu(), answers)[1]


def _step(network: nn.Module, images: Tensor, labels: Tensor, _: int) -> list[Tensor]:
    """The gradients of the one batch, whatever the round."""
    return loss_gradients(network, images, labels)
