"""Every attention table of the base ViT on one digit of each class, for the attention explorer."""

from __future__ import annotations

from typing import Any

import numpy as np

from vitrail import style
from vitrail.questions.attention.measures import maps_of
from vitrail.questions.explore import BUDGET, packed
from vitrail.questions.study import Study

WHOLE = 65535  # a weight of one


def attention(study: Study) -> dict[str, Any] | None:
    """What the base ViT of the first seed attends to; None where one digit is too much for a page.

    `weights` holds each weight times `WHOLE` as uint16: (digits, blocks, heads, N, N) with the
    class token, if there is one, before the patches; `images` the raw pixels.
    """
    import torch

    arm = study.plan.arms[study.plan.base]
    images, raw = study.images(10, arm.arm_id)
    network: Any = study.network(arm.arm_id)
    maps = np.stack(maps_of(network, images), axis=1)
    digits = min(len(maps), BUDGET // (2 * maps[0].size))
    if not digits:
        return None
    with torch.no_grad():
        read = network(images).argmax(dim=1)
    maps = maps[:digits]
    return {
        "blocks": maps.shape[1],
        "heads": maps.shape[2],
        "tokens": maps.shape[-1],
        "prefix": int(arm.settings["class_token"]),
        "pixels": raw.shape[-1],
        "images": packed(raw[:digits]),
        "labels": list(range(digits)),
        "read": read[:digits].tolist(),
        "weights": packed(np.rint(WHOLE * maps).astype(np.uint16)),
        "top": round(float(maps.max()), 4),
        "colours": heat_colours(),
        "mark": style.MARK,
    }


def heat_colours() -> str:
    """The colour map of the static maps: 256 colours of three bytes."""
    import matplotlib as mpl

    return packed(mpl.colormaps[style.HEAT](np.arange(256), bytes=True)[:, :3])
