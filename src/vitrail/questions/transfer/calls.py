"""Q8a: what timm does with tensors of MNIST's shape, tried when the report is made."""

from __future__ import annotations

from typing import Any

import pandas as pd

MODEL = "vit_small_patch16_224"

# (what is tried, model, arguments of timm.create_model, shape of the tensor)
TRIALS: list[tuple[str, str, dict[str, Any], tuple[int, ...]]] = [
    ("ViT-S as it comes, gray 28 px", MODEL, {}, (1, 1, 28, 28)),
    ("ViT-S as it comes, RGB 28 px", MODEL, {}, (1, 3, 28, 28)),
    ("ViT-S as it comes, gray 224 px", MODEL, {}, (1, 1, 224, 224)),
    ("img_size=28, patch 16 kept", MODEL, {"img_size": 28}, (1, 3, 28, 28)),
    (
        "img_size=28, patch_size=7, in_chans=1",
        MODEL,
        {"img_size": 28, "patch_size": 7, "in_chans": 1},
        (1, 1, 28, 28),
    ),
    ("dynamic_img_size=True, RGB 28 px", MODEL, {"dynamic_img_size": True}, (1, 3, 28, 28)),
    ("ResNet-18, RGB 28 px", "resnet18", {}, (1, 3, 28, 28)),
    ("ResNet-18, gray 28 px", "resnet18", {}, (1, 1, 28, 28)),
    ("VGG-11, RGB 28 px", "vgg11", {}, (1, 3, 28, 28)),
]


def input_table() -> pd.DataFrame:
    """Try each call and keep the exception or the shape that comes out."""
    import timm
    import torch

    rows = []
    for tried, name, arguments, shape in TRIALS:
        try:
            model: Any = timm.create_model(name, pretrained=False, **arguments).eval()
            with torch.inference_mode():
                logits = model(torch.zeros(shape))
            outcome = f"runs, logits {tuple(logits.shape)}"
            if hasattr(model, "patch_embed"):
                grid = model.patch_embed.grid_size
                outcome += f", {counted_patches(grid)}"
                if grid[0] * model.patch_embed.patch_size[0] < shape[-1]:
                    outcome += "; **the rest of the image is ignored**"
        except Exception as error:  # the exception is the result here
            outcome = f"`{type(error).__name__}: {str(error).splitlines()[0][:110]}`"
        rows.append({"tried": tried, "shape": str(shape), "outcome": outcome})
    return pd.DataFrame(rows)


def counted_patches(grid: tuple[int, int]) -> str:
    """How many patches a grid has, in words."""
    number = grid[0] * grid[1]
    return f"{number} patch" if number == 1 else f"{number} patches"
