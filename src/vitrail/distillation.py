"""Knowledge distillation: a student that also learns from a teacher's outputs.

Hinton, Vinyals and Dean 2015 (arXiv 1503.02531), as DeiT compares it for ViTs with a CNN as
teacher (Touvron et al. 2021, arXiv 2012.12877, equation 2). Teacher and student see the same
images, after the same random maps.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vitrail.device import autocast

TEMPERATURE = 3.0  # of both softmaxes, as in DeiT
WEIGHT = 0.7  # share of the teacher's term; the larger part, as a teacher's outputs tell more


@torch.no_grad()
def taught(teacher: nn.Module, images: Tensor, precision: str) -> Tensor:
    """The teacher's logits (B, classes), float32. The teacher is in evaluation mode."""
    with autocast(images.device, precision):
        return teacher(images).float()


def distilled(loss: Tensor, logits: Tensor, teacher_logits: Tensor) -> Tensor:
    """The student's loss with the teacher's term: (1 - w) loss + w T^2 KL(teacher || student).

    T^2 keeps the size of the term's gradients alike for all temperatures.
    """
    # region: distilled
    student = F.log_softmax(logits.float() / TEMPERATURE, dim=1)
    teacher = F.log_softmax(teacher_logits / TEMPERATURE, dim=1)
    gap = F.kl_div(student, teacher, reduction="batchmean", log_target=True)
    return (1 - WEIGHT) * loss + WEIGHT * TEMPERATURE**2 * gap
    # endregion: distilled
