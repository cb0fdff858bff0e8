"""Q8b: what becomes of each part of a checkpoint that is adapted to MNIST, checked.

The checkpoint is made here: timm's ViT-S in timm's own format, with random numbers for
weights. It takes the way of real ones (`vitrail.weights`), and each part is compared with
what it must be by a computation that shares no code with timm's.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from vitrail.questions.answer import Answer, markdown_table
from vitrail.questions.transfer.calls import DASH, TIMES

if TYPE_CHECKING:
    import torch

    State = dict[str, torch.Tensor]

MODEL, TAG = "vit_small_patch16_224", "augreg_in1k"
SMALL = {"img_size": 28, "patch_size": 7, "num_classes": 10}
ARGUMENTS: dict[str, dict[str, Any]] = {
    "rgb": SMALL,
    "gray": {**SMALL, "in_chans": 1},
    "large": {"img_size": 224, "patch_size": 16, "num_classes": 10, "in_chans": 1},
}
KERNEL, POSITIONS, HEAD = "patch_embed.proj.weight", "pos_embed", ("head.weight", "head.bias")
AS_BEFORE, NEW = "as before", "new, drawn by the seed"
RESIZED = "the grid resized, bicubic with antialiasing"
RESAMPLED = "answers to a patch as the old kernel to the smallest that shrinks to it"
SUMMED = "features of a gray image as of the same image three times"


def resizing(before: int, after: int) -> np.ndarray:
    """The matrix (after, before) that resizes a row of pixels: bicubic, antialiased.

    The cubic convolution of Keys (1981) with a = -1/2; where the row shrinks the kernel is as
    much wider, so that every pixel counts. At the ends what is left is scaled to a sum of one.
    """
    scale = max(1.0, before / after)
    centres = (np.arange(after) + 0.5) * before / after
    x = np.abs(np.arange(before) + 0.5 - centres[:, None]) / scale
    near = 1.5 * x**3 - 2.5 * x**2 + 1
    far = -0.5 * x**3 + 2.5 * x**2 - 4 * x + 2
    weights = np.where(x < 1, near, np.where(x < 2, far, 0.0))
    matrix: np.ndarray = weights / weights.sum(axis=1, keepdims=True)
    return matrix


def resized(grid: np.ndarray, side: int) -> np.ndarray:
    """A square grid (S, S, ...) resized to (side, side, ...) along both axes."""
    matrix = resizing(len(grid), side)
    return np.einsum("ai,bj,ij...->ab...", matrix, matrix, grid, optimize=True)


def enlarged(patches: np.ndarray, side: int) -> np.ndarray:
    """The smallest patches (N, side, side) that `resized` shrinks to these (N, P, P).

    Smallest in the sum of squares: the pseudo-inverse of resizing, with which FlexiViT (Beyer
    et al. 2023, "PI-resize") resamples the patch kernel.
    """
    back = np.linalg.pinv(resizing(side, patches.shape[-1]))
    return np.asarray(back @ patches @ back.T)


def made_checkpoint(folder: Path) -> dict[str, Any]:
    """Random weights in timm's format as a file, and what `vitrail.weights` says of it."""
    import timm
    import torch
    from safetensors.torch import save_file

    from vitrail import weights

    torch.manual_seed(0)
    state = timm.create_model(f"{MODEL}.{TAG}", pretrained=False).state_dict()
    # timm starts biases, the class token and much else at zero, which would prove little.
    state = {key: value + 0.02 * torch.randn_like(value) for key, value in state.items()}
    path = folder / f"{MODEL}.{TAG}.safetensors"
    save_file(state, path)
    return weights.find(MODEL, TAG, str(path))


def responses(kernels: np.ndarray, patches: np.ndarray) -> np.ndarray:
    """What kernels (D, C, P, P) answer to patches (N, C, P, P): (N, D)."""
    found: np.ndarray = np.einsum("dcij,ncij->nd", kernels, patches, optimize=True)
    return found


def adapted_networks() -> tuple[State, dict[str, Any]]:
    """The checkpoint, and networks made from it: rgb and gray at 28 px, large at 224 px."""
    import torch
    from safetensors.torch import load_file

    from vitrail.weights import create_pretrained

    with tempfile.TemporaryDirectory() as folder:
        found = made_checkpoint(Path(folder))
        networks = {}
        for name, arguments in ARGUMENTS.items():
            torch.manual_seed(1)  # of the head
            networks[name] = create_pretrained(MODEL, found, **arguments).eval()
        return load_file(found["path"]), networks


def row(part: str, rule: str, shapes: tuple[Any, Any], *pairs: tuple[Any, Any]) -> dict[str, Any]:
    """One part: its shapes, and how far apart is what must be equal, beside its largest number."""
    gaps = [np.abs(np.asarray(one) - np.asarray(other)).max() for one, other in pairs]
    sizes = [np.abs(np.asarray(one)).max() for one, _ in pairs]
    before, after = (
        shape if isinstance(shape, str) else TIMES.join(map(str, shape)) for shape in shapes
    )
    deviation = float(max(gaps) / max(sizes)) if pairs else float("nan")
    return {"part": part, "before": before, "after": after, "rule": rule, "deviation": deviation}


def adaptation_table() -> pd.DataFrame:
    """Adapt a made checkpoint: part, shape before and after, rule, largest deviation from it.

    Deviations are shares of the largest number compared; a new part has none.
    """
    import torch

    before, networks = adapted_networks()
    rgb, gray, large = (networks[name].state_dict() for name in ("rgb", "gray", "large"))
    rest = [key for key in before if key not in (KERNEL, POSITIONS, "cls_token", *HEAD)]

    def kept(key: str, after: State) -> tuple[Any, Any]:
        return before[key], after[key]

    def shapes(key: str, after: State) -> tuple[Any, Any]:
        return before[key].shape, after[key].shape

    width = before[POSITIONS].shape[-1]
    grids = [state[POSITIONS][0, 1:].numpy() for state in (before, gray)]
    old, new = (grid.reshape(round(len(grid) ** 0.5), -1, width) for grid in grids)
    patches = np.random.default_rng(0).standard_normal((8, 3, 7, 7))
    answers = (
        responses(before[KERNEL].numpy(), enlarged(patches, 16)),
        responses(rgb[KERNEL].numpy(), patches),
    )
    images = torch.randn(2, 1, 28, 28, generator=torch.Generator().manual_seed(2))
    with torch.inference_mode():
        # What the head reads: the heads themselves are drawn after kernels of different sizes.
        read = (
            networks["rgb"].forward_features(images.expand(-1, 3, -1, -1))[:, 0],
            networks["gray"].forward_features(images)[:, 0],
        )
    first = before[POSITIONS][:, 0], gray[POSITIONS][:, 0]
    untouched = [kept(key, large) for key in (*rest, "cls_token", POSITIONS)]
    count = (f"{len(rest)} tensors",) * 2
    summed = before[KERNEL].sum(dim=1, keepdim=True), large[KERNEL]
    return pd.DataFrame(
        [
            row("class token", AS_BEFORE, shapes("cls_token", gray), kept("cls_token", gray)),
            row("its position", AS_BEFORE, (first[0].shape, first[1].shape), first),
            row("positions of the patches", RESIZED, (old.shape, new.shape),
                (resized(old, len(new)), new)),
            row("patch kernel", RESAMPLED, shapes(KERNEL, rgb), answers),
            row("its colours", SUMMED, (rgb[KERNEL].shape, gray[KERNEL].shape), read),
            row("all else but the head", AS_BEFORE, count, *(kept(key, gray) for key in rest)),
            row("head", NEW, shapes("head.weight", gray)),
            row("at 224 px: all but the next two", AS_BEFORE,
                (f"{len(untouched)} tensors",) * 2, *untouched),
            row("at 224 px: patch kernel", "sum over the colours", shapes(KERNEL, large), summed),
            row("at 224 px: head", NEW, shapes("head.weight", large)),
        ]
    )  # fmt: skip


def adaptation_markdown(table: pd.DataFrame) -> str:
    """The table for print: exactly equal is `0`."""
    deviations = [
        DASH if pd.isna(value) else "0" if value == 0 else f"{value:.0e}"
        for value in table["deviation"]
    ]
    printed = pd.DataFrame(
        {
            "Part": table["part"],
            "Shape before": table["before"],
            "after": table["after"],
            "What it must be": table["rule"],
            "Largest deviation": deviations,
        }
    )
    caption = (
        f"A checkpoint in the format of `{MODEL}.{TAG}`, with random numbers for weights, adapted "
        "to gray digits of 28 pixels with patches of 7, and below to 224 pixels with patches of "
        "16: the mechanism, no result. Deviations are shares of the largest number compared; 0 is "
        "equality bit for bit, the others are rounding in float32."
    )
    return markdown_table(printed, caption, "q8-adaptation", left=4)


def add(result: Answer) -> None:
    """The table of the parts."""
    table = adaptation_table()
    made = "a checkpoint of random numbers"
    result.tabulate("adaptation", adaptation_markdown, table, data=table, runs=made)
