"""One epoch for the thresholds of LTMP; the network itself is not trained."""

from __future__ import annotations

import sys
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from vitrail.device import sent
from vitrail.model import VisionTransformer
from vitrail.reduction.cost import cost_of
from vitrail.reduction.thresholds import Thresholds, forward
from vitrail.reduction.ways import Importance

PENALTY = 10.0  # lambda of the paper


def learn(
    vit: VisionTransformer,
    images: Tensor,
    labels: Tensor,
    target: float,
    importance: Importance = "received",
    *,
    batch_size: int,
    merge_rate: float,
    prune_rate: float,
    seed: int,
) -> tuple[Thresholds, list[dict[str, Any]]]:
    """Thresholds that bring the MACs of `vit` to `target` times what they were.

    One pass over the images (N, C, height, width) in an order that depends on the seed
    alone, with AdamW and rates that fall linearly to zero. The loss is that of the paper:
    cross-entropy plus lambda (target - r)^2, r the share of MACs that is left, here of the
    whole network, with what the matching costs.

    Returns:
        The thresholds, and one row per 20 steps: step, loss, share of MACs.
    """
    from tqdm import tqdm

    vit.requires_grad_(requires_grad=False)
    thresholds = Thresholds(len(vit.blocks), importance).to(images.device)
    cost = cost_of(vit)
    optimizer = torch.optim.AdamW(
        [
            {"params": [thresholds.merge], "lr": merge_rate},
            {"params": [thresholds.prune], "lr": prune_rate},
        ],
        weight_decay=0.0,
    )
    order = torch.randperm(len(images), generator=torch.Generator().manual_seed(seed))
    steps = len(images) // batch_size
    decay = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1 - step / steps)
    log: list[dict[str, Any]] = []
    for step in tqdm(range(steps), desc=f"target {target:g}", mininterval=5, file=sys.stderr):
        chosen = sent(order[step * batch_size : (step + 1) * batch_size], images.device)
        logits, attended, left = forward(vit, thresholds, images[chosen])
        # region: ltmp_loss
        share = cost.macs(attended, left, matches=True).mean() / cost.whole
        loss = F.cross_entropy(logits, labels[chosen]) + PENALTY * (target - share) ** 2
        # endregion: ltmp_loss
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        decay.step()
        if step % 20 == 0 or step == steps - 1:
            row = {"step": step + 1, "loss": loss.item(), "share": share.item()}
            log.append(row)
    return thresholds, log
