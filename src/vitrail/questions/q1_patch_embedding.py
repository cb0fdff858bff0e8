"""Q1: the patch embedding, and the proof that it is a convolution."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from vitrail import style
from vitrail.analysis import count, difference_words
from vitrail.claims import Claim, holds
from vitrail.questions import patch_filters
from vitrail.questions.answer import Answer, Key, markdown_table
from vitrail.questions.experiments.common import add, findings_markdown
from vitrail.questions.study import Study
from vitrail.questions.tiles import cells, tiles
from vitrail.settings import IMAGE_SIZE

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from torch import Tensor

TOLERANCE = 1e-5


def answer(study: Study) -> Answer:
    """The table of patch sizes, the patches of a digit, the learned filters."""
    settings = study.plan.arms[study.plan.base].settings
    patch, width = settings["patch_size"], settings["embed_dim"]
    network: Any = study.network(study.plan.base)
    images, raw = study.images(10, study.plan.base)
    gap = convolution_gap(network, images)
    table = patch_table(width)
    tokens = (IMAGE_SIZE // patch) ** 2
    is_convolution = same_function(gap)
    components = patch_filters.principal_components(
        study.mnist.train_images[: patch_filters.IMAGES], patch
    )
    shared, over, k = patch_filters.excess(study, components[0])
    follows = patch_filters.follows_pca(over, shared, k)
    sentence = (
        f"A {IMAGE_SIZE} × {IMAGE_SIZE} digit is cut into {tokens} patches of {patch} × {patch} "
        f"pixels, and one {patch * patch} × {width} matrix projects each of them. "
        f"{is_convolution.finding} On ten test digits the largest difference is "
        f"{difference_words(gap)}."
    )
    result = Answer(
        sentence=sentence,
        short=f"It is cut into {tokens} patches of {patch} × {patch} pixels, and one "
        f"{patch * patch} × {width} matrix, shared by all of them, turns each into a token. "
        f"{is_convolution.finding}",
        key=Key(
            difference_words(gap), "largest difference of matrix and convolution on ten images"
        ),
        table=table,
        numbers={
            "filters": {
                "compared": count(k),
                "overlap": f"{shared.mean:.2f}",
                "chance": f"{shared.mean - over.mean:.2f}",
            },
        },
        claims=[is_convolution, follows],
        tables={"filter_findings": findings_markdown([follows])},
    )
    result.draw("patches", draw_patches, raw[5], patch, data=cells(raw[5]), runs="a test digit")
    directions = patch_filters.learned_directions(network), components
    filters = patch_filters.frame(*directions)
    result.draw(
        "filters", patch_filters.draw, directions, patch, data=filters, runs=study.first_run
    )
    result.tabulate("patch_sizes", sizes_markdown, table, width, data="table", runs="formulas")
    add(study, result, "q1_patch_embedding")
    result.table = table
    return result


def same_function(gap: float) -> Claim:
    """Rounding is all that may lie between the two forms."""
    return holds(
        "q1-is-a-convolution",
        "Projecting flattened patches and convolving with stride P are one function.",
        f"largest difference of the two on ten test digits below {TOLERANCE:.0e}",
        f"largest difference {difference_words(gap)}",
        gap < TOLERANCE,
        "Projecting flattened patches and convolving with stride P differ by more than rounding.",
    )


def convolution_gap(network: Any, images: Tensor) -> float:
    """Largest difference between the projection of patches and the strided convolution."""
    import torch

    with torch.inference_mode():
        embed = network.patch_embed
        return float((embed(images) - embed.as_convolution(images)).abs().max())


def patch_table(width: int) -> pd.DataFrame:
    """Every patch size that divides the image, and what follows from it."""
    sizes = [size for size in range(1, IMAGE_SIZE + 1) if IMAGE_SIZE % size == 0]
    return pd.DataFrame(
        {
            "patch_size": sizes,
            "tokens": [(IMAGE_SIZE // size) ** 2 for size in sizes],
            "values": [size * size for size in sizes],
            "parameters": [f"{size * size * width + width:,}" for size in sizes],
            "ratio": [f"{width / size**2:.3g}" for size in sizes],
        }
    )


def sizes_markdown(table: pd.DataFrame, width: int) -> str:
    """The table that the report prints."""
    names = {
        "patch_size": "Patch size",
        "tokens": "Patches N",
        "values": "Values per patch",
        "parameters": "Parameters of the projection",
        "ratio": "Width per value",
    }
    caption = (
        f"What the patch size decides, for a {IMAGE_SIZE} × {IMAGE_SIZE} image of one channel and "
        f"a width of {width}."
    )
    return markdown_table(table.rename(columns=names), caption, "q1-sizes", left=0)


def draw_patches(image: np.ndarray, patch: int) -> Figure:
    """A digit, its grid, and the sequence that the transformer reads."""
    import matplotlib.pyplot as plt

    side, sequence = IMAGE_SIZE // patch, tiles(image[None], patch)[0]
    drawing = plt.figure(figsize=(style.WIDTH, 2.05))
    halves: Any = drawing.subfigures(1, 2, width_ratios=[1, 2])
    left, right = halves
    axes = left.subplots()
    axes.imshow(image, cmap=style.DIGITS)
    for line in range(0, IMAGE_SIZE + 1, patch):
        axes.axhline(line - 0.5, color=style.MARK, linewidth=1)
        axes.axvline(line - 0.5, color=style.MARK, linewidth=1)
    axes.set_axis_off()
    axes.set_title(f"{IMAGE_SIZE} × {IMAGE_SIZE} image")
    columns = min(len(sequence), 2 * side)
    grid = right.subplots(-(-len(sequence) // columns), columns, squeeze=False)
    right.suptitle(f"{len(sequence)} tokens of {patch * patch} values, in reading order")
    for index, cell in enumerate(grid.flat):
        cell.set(xticks=[], yticks=[])
        cell.spines[:].set_visible(index < len(sequence))
        if index < len(sequence):
            cell.imshow(sequence[index], cmap=style.DIGITS, vmin=0, vmax=255)
            cell.set_title(str(index + 1), fontsize=style.SMALL, loc="center", pad=2)
    return drawing
