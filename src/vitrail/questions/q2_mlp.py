"""Q2: the MLP of the block, its GELU, and what it weighs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from vitrail import style
from vitrail.analysis import count, estimate
from vitrail.claims import Claim, holds
from vitrail.drawings.sizes import Sizes
from vitrail.questions.answer import Answer
from vitrail.questions.experiments.common import (
    accuracies,
    add,
    decided,
    findings_markdown,
    key_difference,
)
from vitrail.questions.hidden_inputs import hidden_inputs, mostly_negative
from vitrail.questions.study import Study
from vitrail.runs import Experiment

if TYPE_CHECKING:
    from matplotlib.figure import Figure

STEM = "q2_mlp"
TANH_BOUND = 5e-4
ACTIVATION_NAMES = {"gelu": "GELU", "relu": "ReLU"}
REACH = 2.7  # beyond, GELU is within a hundredth of ReLU: 2.7 Phi(-2.7) = 0.009


def answer(study: Study) -> Answer:
    """GELU beside ReLU, the MLP's share of the block, and the activation ablation."""
    settings = study.plan.arms[study.plan.base].settings
    width, ratio = settings["embed_dim"], settings["mlp_ratio"]
    act = ACTIVATION_NAMES[settings["act"]]
    hidden = Sizes(settings).hidden
    mlp, share = weight(settings)
    gap = tanh_gap()
    inputs = [hidden_inputs(study, seed) for seed in study.plan.seeds]
    negative = estimate([float((part < 0).mean()) for part in inputs])
    sign = mostly_negative(negative)
    result = Answer(
        sentence="",
        table=pd.DataFrame(),
        numbers={
            "hidden": count(hidden),
            "embed_dim": count(width),
            "mlp_ratio": f"{ratio:g}",
            "parameters": count(mlp),
            "share": f"{100 * share:.0f} %",
            "tanh_gap": f"{gap:.1e}",
            "negative": f"{100 * negative.mean:.0f} %",
            "in_reach": f"{100 * np.mean([(np.abs(p) < REACH).mean() for p in inputs]):.0f} %",
        },
        tables={"input_findings": findings_markdown([sign])},
        claims=[sign, tanh_is_close(gap)],
    )
    result.draw("gelu", draw_gelu, inputs[0], data=gelu_frame(inputs[0]), runs=study.first_run)
    add(study, result, STEM)
    findings = [
        claim.finding
        for experiment in study.plan.of_question(STEM)
        for claim in decided(study, experiment)
    ]
    result.short = " ".join(
        [
            f"It widens each token by itself from {width} to {hidden} units, applies {act} and "
            f"maps back to {width}. GELU is smooth and lets small negative inputs through where "
            "ReLU cuts them off.",
            *findings,
        ]
    )
    result.key = key_difference(study, STEM)
    result.sentence = " ".join(
        [
            f"The MLP maps each token from {width} to {hidden} units, applies {act} and maps "
            f"back to {width}: {mlp:,} parameters, {100 * share:.0f} % of a block.",
            *(measured(study, experiment) for experiment in study.plan.of_question(STEM)),
        ]
    )
    return result


def weight(settings: dict[str, Any]) -> tuple[int, float]:
    """Parameters of the MLP of one block, and their share of the block, from 0 to 1."""
    parts = Sizes(settings).block_parameters()
    return parts["mlp"], parts["mlp"] / sum(parts.values())


def measured(study: Study, experiment: Experiment) -> str:
    """The accuracies of one experiment, and what its claims found."""
    findings = " ".join(claim.finding for claim in decided(study, experiment))
    return f"{accuracies(study, experiment)} {findings}".strip()


def tanh_is_close(gap: float) -> Claim:
    """The tanh form against the exact GELU."""
    sentence = f"The tanh form of GELU {{}} {TANH_BOUND:g} of the exact one."
    return holds(
        "q2-tanh-form-is-close",
        sentence.format("stays within"),
        "largest difference on [-6, 6]",
        f"largest difference {gap:.1e}",
        gap < TANH_BOUND,
        sentence.format("does not stay within"),
    )


def gelu(x: np.ndarray) -> np.ndarray:
    """x Phi(x) (Hendrycks and Gimpel 2016), elementwise."""
    from scipy.special import ndtr

    return x * ndtr(x)


def tanh_gap() -> float:
    """Largest difference between exact GELU and its tanh form on [-6, 6]."""
    x = np.linspace(-6, 6, 12_001)
    tanh = 0.5 * x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)))
    return float(np.abs(gelu(x) - tanh).max())


def gelu_frame(inputs: np.ndarray) -> pd.DataFrame:
    """What is drawn: a row per `input`, with the share of inputs in the bin that starts there."""
    x = np.linspace(-4, 4, 65)
    found = {"input": x, "gelu": gelu(x), "relu": np.maximum(x, 0)}
    slopes = {f"{name}_slope": np.gradient(found[name], x) for name in ("gelu", "relu")}
    shares = np.append(np.histogram(inputs, x)[0] / len(inputs), np.nan)
    return pd.DataFrame(found | slopes | {"share_of_inputs": shares})


def draw_gelu(inputs: np.ndarray) -> Figure:
    """GELU and ReLU, their slopes, and the inputs that the trained network gives them."""
    import matplotlib.pyplot as plt

    x = np.linspace(-4, 4, 801)
    drawing, (left, middle, right) = plt.subplots(1, 3, figsize=(style.WIDTH, 2.3), sharex=True)
    gelu_look, relu_look = style.vits(2)  # as in the comparison of the two
    curves = {
        "GELU": (gelu(x), gelu_look.colour, "-"),
        "ReLU": (np.maximum(x, 0), relu_look.colour, "--"),
    }
    for name, (y, colour, line) in curves.items():
        left.plot(x, y, line, color=colour, label=name)
        middle.plot(x, np.gradient(y, x), line, color=colour, label=name)
    left.set(title="activation", xlabel="input", ylabel="output")
    middle.set(title="slope", xlabel="input", ylabel="derivative")
    left.legend()
    bins = np.linspace(-4, 4, 65)
    shares = np.histogram(inputs, bins)[0] / len(inputs)
    right.stairs(100 * shares, bins, fill=True, color=style.VIT, alpha=0.6)
    right.axvline(0, color=style.INK, linewidth=0.9)
    right.set(title="inputs in the base ViT", xlabel="input", ylabel="share of inputs (%)")
    style.set_apart(drawing)
    return drawing
