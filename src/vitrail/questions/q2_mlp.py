"""Q2: the MLP of the block, its GELU, and what it weighs."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from vitrail import style
from vitrail.analysis import count
from vitrail.claims import holds
from vitrail.efficiency import hidden_width
from vitrail.questions.answer import Answer
from vitrail.questions.experiments import add
from vitrail.questions.study import Study

if TYPE_CHECKING:
    from matplotlib.figure import Figure

TANH_BOUND = 5e-4


def answer(study: Study) -> Answer:
    """GELU beside ReLU, the MLP's share of the block, and the activation ablation."""
    settings = study.plan.arms[study.plan.base].settings
    width, ratio = settings["embed_dim"], settings["mlp_ratio"]
    hidden = hidden_width(width, ratio)
    mlp = 2 * width * hidden + hidden + width
    attention = 4 * width * width + 4 * width
    block = mlp + attention + 4 * width
    gap = tanh_gap()
    result = Answer(
        sentence="",
        table=pd.DataFrame(),
        numbers={
            "hidden": count(hidden),
            "embed_dim": count(width),
            "mlp_ratio": f"{ratio:g}",
            "parameters": count(mlp),
            "share": f"{100 * mlp / block:.0f} %",
            "tanh_gap": f"{gap:.1e}",
        },
        figures={"gelu": draw_gelu()},
    )
    tables = add(study, result, "q2_mlp")
    result.claims.append(
        holds(
            "q2-tanh-form-is-close",
            "The tanh form of GELU stays within 5e-4 of the exact one.",
            "largest difference on [-6, 6]",
            f"largest difference {gap:.1e}",
            gap < TANH_BOUND,
        )
    )
    result.sentence = (
        f"The MLP maps each token from {width} to {hidden} units, applies GELU and maps back to "
        f"{width}: {mlp:,} parameters, {100 * mlp / block:.0f} % of a block. "
        + "".join(_measured(result, name) for name in tables)
    )
    return result


def _measured(result: Answer, name: str) -> str:
    """A clause of the answer from the arms of one experiment."""
    quoted = result.numbers[name]
    arms = [arm for arm in quoted.values() if isinstance(arm, dict)]
    said = "; ".join(f"{arm['label']}: {arm['accuracy']}" for arm in arms)
    return f"Measured test accuracy: {said}. "


def gelu(x: np.ndarray) -> np.ndarray:
    """x Phi(x) (Hendrycks and Gimpel 2016), elementwise."""
    from scipy.special import ndtr

    return x * ndtr(x)


def tanh_gap() -> float:
    """Largest difference between exact GELU and its tanh form on [-6, 6]."""
    x = np.linspace(-6, 6, 12_001)
    tanh = 0.5 * x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)))
    return float(np.abs(gelu(x) - tanh).max())


def draw_gelu() -> Figure:
    """Left: GELU and ReLU. Right: their slopes."""
    import matplotlib.pyplot as plt

    x = np.linspace(-4, 4, 801)
    drawing, (left, right) = plt.subplots(1, 2, figsize=(style.WIDTH, 2.4))
    curves = {
        "GELU": (gelu(x), style.COLOURS["vit"]),
        "ReLU": (np.maximum(x, 0), style.COLOURS["cnn"]),
    }
    for name, (y, colour) in curves.items():
        left.plot(x, y, color=colour, label=name)
        right.plot(x, np.gradient(y, x), color=colour, label=name)
    left.set(title="activation", xlabel="input", ylabel="output")
    right.set(title="slope", xlabel="input", ylabel="derivative")
    left.legend()
    return drawing
