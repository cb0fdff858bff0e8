"""Positional embeddings: the worked example, and how alike the places are."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from vitrail import style
from vitrail.analysis import Estimate, counted, estimate
from vitrail.claims import Claim, holds
from vitrail.questions.answer import markdown_table
from vitrail.questions.study import Study
from vitrail.settings import IMAGE_SIZE, Settings

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# The worked example of the lab report: width 4, positions 0 to 5.
EXAMPLE_WIDTH, EXAMPLE_POSITIONS = 4, 6
MOVED = 0.9  # correlation with the start below which positions count as moved


def worked_example() -> tuple[pd.DataFrame, float]:
    """The worked table of the lab report, computed; and the largest error of what it printed.

    A row per position, with the columns of the formula and those of the lab report beside them.
    """
    from vitrail.model import sinusoidal_1d

    right = sinusoidal_1d(EXAMPLE_POSITIONS, EXAMPLE_WIDTH).numpy()
    position = np.arange(EXAMPLE_POSITIONS)
    # What its exponents 0/4 and 1/4 give instead of 0/4 and 2/4.
    slow = position / 10000 ** (1 / 4)
    printed = np.stack([np.sin(position), np.cos(position), np.sin(slow), np.cos(slow)], axis=1)
    columns = {"k": position}
    columns |= {f"column {column}": right[:, column] for column in range(EXAMPLE_WIDTH)}
    columns |= {f"lab report, column {column}": printed[:, column] for column in (2, 3)}
    return pd.DataFrame(columns), float(np.abs(right - printed).max())


def example_markdown(example: pd.DataFrame) -> str:
    """The worked example for print."""
    printed = example.drop(columns="k").map(decimals)
    printed.insert(0, "k", [f"$P({k})$" for k in example["k"]])
    caption = (
        "The worked example of the lab report (d = 4), computed from the formula, and what its "
        "exponents of 1/4 in place of 2/4 give in the two columns that they touch."
    )
    return markdown_table(printed, caption, "q6-positions-example")


def decimals(value: float) -> str:
    """Five decimals with a true minus sign: four would print cos 0.01 as one."""
    return f"{value:.5f}".replace("-", "−")


@dataclass(frozen=True)
class Learned:
    """An arm whose learned positions are looked at, and what it is called."""

    claim: str  # start of the claim's name
    title: str
    about: str
    arm: str
    seeds: tuple[int, ...]

    def table(self, study: Study, seed: int) -> np.ndarray:
        """The positions of the patches after training, (N, D), without the class token's row."""
        network: Any = study.network(self.arm, seed)
        return _patch_rows(network)

    def start(self, study: Study, seed: int) -> np.ndarray:
        """The same rows before training, drawn again from the seed."""
        import torch

        from vitrail.networks import build

        torch.manual_seed(seed)
        return _patch_rows(build(study.plan.arms[self.arm].settings))


def _patch_rows(network: Any) -> np.ndarray:
    rows: np.ndarray = network.pos_embed.detach().numpy()[0, network.num_prefix_tokens :]
    return rows


def similarity(table: np.ndarray) -> np.ndarray:
    """Cosine of every row with every row, the mean row taken off first: (N, D) -> (N, N).

    What all places have in common tells none from another, and would hide the rest.
    """
    table = table - table.mean(axis=0)
    unit = table / np.maximum(np.linalg.norm(table, axis=1, keepdims=True), 1e-12)
    return unit @ unit.T


def size(table: np.ndarray) -> float:
    """Root mean square of what differs from place to place, of positions (N, D)."""
    return float(np.sqrt(np.mean((table - table.mean(axis=0)) ** 2)))


def neighbour_contrast(similar: np.ndarray) -> float:
    """Mean similarity of patches that share a side minus that of all other pairs; NaN for one.

    Args:
        similar: (N, N), the patches of a square grid in reading order.
    """
    side = round(len(similar) ** 0.5)
    row, column = np.divmod(np.arange(len(similar)), side)
    steps = np.abs(row[:, None] - row) + np.abs(column[:, None] - column)
    if not (steps > 1).any():
        return float("nan")
    return float(similar[steps == 1].mean() - similar[steps > 1].mean())


def learned_arms(study: Study) -> list[Learned]:
    """The base ViT and, of the experiment `pos_embed_std`, the smallest start."""
    plan = study.plan
    base = plan.arms[plan.base].settings
    found = []
    if _is_learned(base):
        found.append(Learned("q6-positions", "learned", "the base ViT", plan.base, plan.seeds))
    for experiment in plan.of_question("q6_vit"):
        arms = [member.arm for member in experiment.members if _is_learned(member.arm.settings)]
        if experiment.name != "pos_embed_std" or not arms:
            continue
        smallest = min(arms, key=lambda arm: arm.settings["pos_embed_std"])
        start = smallest.settings["pos_embed_std"]
        if start < base.get("pos_embed_std", float("inf")):
            title, about = f"learned from {start:g}", f"the ViT whose positions start at {start:g}"
            found.append(
                Learned("q6-small-positions", title, about, smallest.arm_id, experiment.seeds)
            )
    return found


def _is_learned(settings: Settings) -> bool:
    return settings.get("pos_embed") == "learned"


def claims(study: Study) -> list[Claim]:
    """Has training moved the learned positions, and put the grid into them?"""
    found = []
    for one in learned_arms(study):
        trained = {seed: one.table(study, seed) for seed in one.seeds}
        contrasts = [neighbour_contrast(similarity(table)) for table in trained.values()]
        kept = [
            float(np.corrcoef(table.ravel(), one.start(study, seed).ravel())[0, 1])
            for seed, table in trained.items()
        ]
        found.append(start_claim(one.claim, one.about, estimate(kept)))
        found.append(grid_claim(one.claim, one.about, estimate(contrasts)))
    return found


def start_claim(prefix: str, about: str, kept: Estimate) -> Claim:
    """Training moves positions when their correlation with the start falls below MOVED."""
    evidence = f"correlation of trained positions with their start {kept.mean:.3f}"
    if kept.n > 1:
        evidence += f" ± {kept.half_width:.3f}"
    clear = abs(kept.mean - MOVED) > kept.half_width
    return holds(
        f"{prefix}-leave-their-start",
        f"Training moves the learned positions of {about} away from their random start.",
        f"95 % interval over the seeds of their correlation with the start lies below {MOVED}",
        f"{evidence} over {counted(kept.n, 'seed')}",
        kept.mean < MOVED if clear else None,
        f"Training hardly moves the learned positions of {about}: they remain random codes, which "
        "tell places apart without saying which are near.",
    )


def grid_claim(prefix: str, about: str, contrast: Estimate) -> Claim:
    """Neighbours are more alike than other pairs when the interval over seeds is above zero."""
    evidence = f"{contrast.mean:+.3f}".replace("-", "−")
    if contrast.n > 1:
        evidence += f" ± {contrast.half_width:.3f}"
    clear = abs(contrast.mean) > contrast.half_width
    sentence = (
        f"The learned positions of neighbouring patches in {about} are {{}} alike than those of "
        "other patches."
    )
    return holds(
        f"{prefix}-know-the-grid",
        sentence.format("more"),
        "95 % interval over the seeds of the mean cosine of patches that share a side minus that "
        "of all other pairs",
        f"{evidence} over {counted(contrast.n, 'seed')}",
        contrast.mean > 0 if clear else None,
        sentence.format("less"),
    )


def fixed(settings: Settings) -> dict[str, np.ndarray]:
    """The two tables of sinusoids for the grid of an arm, at its width or just below."""
    from vitrail.model import sinusoidal_1d, sinusoidal_2d

    side = IMAGE_SIZE // settings["patch_size"]
    width = max(4, settings["embed_dim"] // 4 * 4)
    return {
        "sinusoidal, one axis": sinusoidal_1d(side * side, width).numpy(),
        "sinusoidal, two axes": sinusoidal_2d((side, side), width).numpy(),
    }


def draw(study: Study) -> tuple[Figure, pd.DataFrame]:
    """Each table as a mosaic: the map at a patch's place is its similarity to all patches.

    With the cosines that are drawn: a row for each kind, patch and other patch.
    """
    import matplotlib.pyplot as plt

    tables = {one.title: one.table(study, one.seeds[0]) for one in learned_arms(study)}
    tables |= fixed(study.plan.arms[study.plan.base].settings)
    drawing, grid = plt.subplots(
        1, len(tables), figsize=(style.WIDTH, style.WIDTH / len(tables) + 0.5), squeeze=False
    )
    for axes, (name, table) in zip(grid[0], tables.items(), strict=True):
        shown = axes.imshow(mosaic(similarity(table)), cmap=style.HEAT, vmin=-1, vmax=1)
        axes.set_axis_off()
        axes.set_title(name, loc="center")
    drawing.colorbar(
        shown,
        ax=grid,
        location="bottom",
        shrink=0.4,
        aspect=30,
        label="cosine of positions",
    )
    cosines = pd.concat([_pairs(similarity(table), kind) for kind, table in tables.items()])
    return drawing, cosines


def _pairs(similar: np.ndarray, kind: str) -> pd.DataFrame:
    """A matrix of cosines (N, N) in long form."""
    patch, other = (index.ravel() for index in np.indices(similar.shape))
    columns = {"patch": patch, "other": other, "cosine": similar.ravel().round(4)}
    return pd.DataFrame({"kind": kind, **columns})


def mosaic(similar: np.ndarray) -> np.ma.MaskedArray:
    """(N, N) as a square of maps with a blank line between them."""
    side = round(len(similar) ** 0.5)
    maps = similar.reshape(side, side, side, side)
    canvas = np.full((side, side + 1, side, side + 1), np.nan)
    canvas[:, :side, :, :side] = maps.transpose(0, 2, 1, 3)
    size = side * (side + 1)
    return np.ma.masked_invalid(canvas.reshape(size, size)[:-1, :-1])
