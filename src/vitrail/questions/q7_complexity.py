"""Q7: time and memory of attention against the number of tokens."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Any

import pandas as pd

from vitrail import style
from vitrail.analysis import counted
from vitrail.claims import Claim, holds
from vitrail.efficiency import crossover, local_slope, quadratic_share
from vitrail.files import read_json
from vitrail.questions.answer import Answer, markdown_table
from vitrail.questions.experiments.common import add
from vitrail.questions.study import Study
from vitrail.scaling import Slope, local_slopes, predicted_slopes

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Exponents that count as "nearly quadratic" and as "clearly not".
LONG, SHORT = 1.7, 1.5
MNIST_TOKENS = 28 * 28 // 4 + 1  # patches of 2 pixels and a class token
VARIANTS = {"naive": style.COLOURS["cnn"], "fused": style.COLOURS["vit"]}


def answer(study: Study) -> Answer:
    """Slopes beside the formula, fused beside naive, and where the quadratic part begins."""
    folder = study.folder / "timing"
    table = pd.read_csv(folder / "attention.csv")
    samples = pd.read_csv(folder / "attention_samples.csv")
    facts = read_json(folder / "env.json")
    settings = study.plan.arms[study.plan.base].settings
    width, ratio = settings["embed_dim"], settings["mlp_ratio"]
    tokens = (28 // settings["patch_size"]) ** 2 + int(settings["class_token"])
    alone = attention_rows(table)
    timed_width = int(alone["embed_dim"].iloc[0])
    slopes = {name: slopes_of(samples, name, timed_width) for name in VARIANTS}
    result = Answer(sentence="", table=table)
    result.data["slopes"] = slope_frame(slopes, timed_width)
    result.figures["time"] = draw_time(alone, slopes, timed_width)
    result.figures["memory"] = draw_memory(alone)
    result.figures["model"] = draw_model(table)
    result.tables["slopes"] = slopes_markdown(result.data["slopes"], facts)
    ratio_at_end, memory_at_end, longest = compare_at_longest(alone)
    share = quadratic_share(tokens, width, ratio)
    result.numbers |= {
        "tokens": str(tokens),
        "width": str(width),
        "mlp_ratio": f"{ratio:g}",
        "share": f"{100 * share:.0f} %",
        "slope_at_base": f"{local_slope(tokens, width, ratio):.2f}",
        "crossover": f"{crossover(width, ratio):,.0f}",
        "longest": f"{longest:,}",
        "fused_speedup": f"{ratio_at_end:.1f}",
        "naive_memory": f"{memory_at_end['naive']:,.1f}",
        "fused_memory": f"{memory_at_end['fused']:,.1f}",
        "hardware": hardware(facts),
        "batch_size": str(alone["batch_size"].iloc[0]),
    }
    result.claims += claims(slopes, memory_slopes(alone), share, timed_width)
    add(study, result, "q7_complexity")
    result.table = table
    first, last = slopes["naive"][0], slopes["naive"][-1]
    result.sentence = (
        f"One block costs (4 + 2r) n d² + 2 n² d multiply-accumulates: the part linear in the "
        f"number of tokens n is the larger one up to n = (2 + r) d, the quadratic one beyond. "
        f"For the base ViT that point is "
        f"{crossover(width, ratio):,.0f} tokens, and at its {tokens} tokens the quadratic part is "
        f"{100 * share:.0f} % of the work. Measured on attention alone, written out, time grows as "
        f"n^{first.slope:.2f}^ between {first.n_from} and {first.n_to} tokens and as "
        f"n^{last.slope:.2f}^ between {last.n_from:,} and {last.n_to:,}; the fused kernel is "
        f"{ratio_at_end:.1f} times as fast at {longest:,} tokens and needs "
        f"{memory_at_end['fused']:,.1f} MiB where the written-out form needs "
        f"{memory_at_end['naive']:,.1f}."
    )
    return result


def hardware(facts: dict[str, Any]) -> str:
    """The machine of the timing, for captions."""
    return (
        f"{facts['hardware']}, {counted(facts['threads'], 'thread')}, "
        f"load average {facts['load_average']} before and {facts['load_average_after']} after"
    )


def attention_rows(table: pd.DataFrame) -> pd.DataFrame:
    """Forward pass of attention alone at the first width, where it could be measured."""
    rows = table[(table["what"] == "attention") & (table["pass"] == "forward")]
    rows = rows[rows["embed_dim"] == rows["embed_dim"].iloc[0]]
    return rows.dropna(subset=["median_seconds"]).sort_values("n")


def slopes_of(samples: pd.DataFrame, variant: str, width: int) -> list[Slope]:
    """Local slopes of one variant, with bootstrap intervals from the raw samples."""
    rows = samples[
        (samples["what"] == "attention")
        & (samples["pass"] == "forward")
        & (samples["variant"] == variant)
        & (samples["embed_dim"] == width)
    ]
    by_size = {int(str(n)): part["seconds"].to_numpy() for n, part in rows.groupby("n")}
    sizes = sorted(by_size)
    return local_slopes(sizes, [by_size[size] for size in sizes])


def slope_frame(slopes: dict[str, list[Slope]], width: int) -> pd.DataFrame:
    """Measured beside predicted slopes, one row per step between two sizes."""
    rows = []
    for variant, found in slopes.items():
        sizes = [found[0].n_from, *(slope.n_to for slope in found)]
        for slope, predicted in zip(found, predicted_slopes(sizes, width, r=None), strict=True):
            rows.append(
                {
                    "variant": variant,
                    "n_from": slope.n_from,
                    "n_to": slope.n_to,
                    "slope": slope.slope,
                    "low": slope.low,
                    "high": slope.high,
                    "predicted": float(predicted),
                }
            )
    return pd.DataFrame(rows)


def slopes_markdown(frame: pd.DataFrame, facts: dict[str, Any]) -> str:
    """Slopes of both variants side by side."""
    rows = []
    for (start, end), part in frame.groupby(["n_from", "n_to"], sort=True):
        row = {"Tokens": f"{start:,} to {end:,}", "Formula": f"{part['predicted'].iloc[0]:.2f}"}
        for entry in part.to_dict("records"):
            name = "Written out" if entry["variant"] == "naive" else "Fused"
            row[name] = f"{entry['slope']:.2f} ({entry['low']:.2f} to {entry['high']:.2f})"
        rows.append(row)
    return markdown_table(
        pd.DataFrame(rows),
        "Local exponents of time against the number of tokens, attention alone, forward pass, with "
        f"95 % bootstrap intervals of the repeats, beside those of the work. {hardware(facts)}.",
        "q7-slopes",
    )


def memory_slopes(alone: pd.DataFrame) -> dict[str, float]:
    """Exponent of peak memory between the two longest sequences."""
    import numpy as np

    found = {}
    for variant, rows in alone.groupby("variant"):
        (n1, m1), (n2, m2) = rows[["n", "peak_mib"]].to_numpy()[-2:]
        found[str(variant)] = float(np.log(m2 / m1) / np.log(n2 / n1))
    return found


def compare_at_longest(alone: pd.DataFrame) -> tuple[float, dict[str, float], int]:
    """(time ratio naive / fused, peak MiB of each, n) at the longest n that both reached."""
    wide = alone.set_index(["n", "variant"])[["median_seconds", "peak_mib"]].unstack().dropna()  # noqa: PD010
    last = wide.iloc[-1]
    ratio = last["median_seconds", "naive"] / last["median_seconds", "fused"]
    memory = {name: float(last["peak_mib", name]) for name in VARIANTS}
    return float(ratio), memory, int(wide.index[-1])


def claims(
    slopes: dict[str, list[Slope]], memory: dict[str, float], share: float, width: int
) -> list[Claim]:
    """What Q7 asserts, decided by the measured slopes.

    Undecided where the lengths that were timed are not short or long enough for the claim:
    long is beyond the point where the quadratic part of attention alone is the larger one.
    """
    first, last = slopes["naive"][0], slopes["naive"][-1]
    fused_last = slopes["fused"][-1]

    def told(slope: Slope) -> str:
        return f"n^{slope.slope:.2f}^ ({slope.low:.2f} to {slope.high:.2f})"

    return [
        holds(
            "q7-quadratic-for-long-sequences",
            "For long sequences the time of attention grows nearly with n².",
            f"slope of the written-out form between the two longest sequences above {LONG}",
            f"{told(last)} between {last.n_from:,} and {last.n_to:,} tokens",
            above(last, LONG) if last.n_from > crossover(width, 0) else None,
        ),
        holds(
            "q7-not-quadratic-at-mnist-sizes",
            "At the sizes of MNIST the time of attention does not grow with n².",
            f"slope between the two shortest sequences below {SHORT}",
            f"{told(first)} between {first.n_from:,} and {first.n_to:,} tokens; the quadratic "
            f"part is {100 * share:.0f} % of the base ViT's work",
            below(first, SHORT) if first.n_to <= MNIST_TOKENS else None,
        ),
        holds(
            "q7-fused-keeps-the-exponent",
            "The fused kernel does not change the exponent of the time for long sequences.",
            f"its slope between the two longest sequences above {LONG} as well",
            f"{told(fused_last)} between {fused_last.n_from:,} and {fused_last.n_to:,} tokens",
            above(fused_last, LONG) if fused_last.n_from > crossover(width, 0) else None,
        ),
        holds(
            "q7-fused-memory-is-linear",
            "The fused kernel needs memory linear in n; the written-out form needs n².",
            "exponent of peak memory between the two longest sequences below 1.2 and above 1.8",
            f"fused n^{memory['fused']:.2f}^, written out n^{memory['naive']:.2f}^",
            memory["fused"] < 1.2 and memory["naive"] > 1.8,
        ),
    ]


def above(slope: Slope, bound: float) -> bool | None:
    """Whether the interval lies above a bound; None when it holds the bound or is missing."""
    if slope.low > bound:
        return True
    return False if slope.high <= bound else None


def below(slope: Slope, bound: float) -> bool | None:
    """The same the other way round."""
    if slope.high < bound:
        return True
    return False if slope.low >= bound else None


def draw_time(alone: pd.DataFrame, slopes: dict[str, list[Slope]], width: int) -> Figure:
    """Left: time against n on log-log axes. Right: local exponents beside the formula's."""
    import matplotlib.pyplot as plt

    drawing, (left, right) = plt.subplots(1, 2, figsize=(style.WIDTH, 3.0))
    for variant, rows in alone.groupby("variant"):
        colour = VARIANTS[str(variant)]
        left.plot(rows["n"], 1e3 * rows["median_seconds"], marker="o", markersize=4, color=colour)
        left.fill_between(
            rows["n"], 1e3 * rows["q25_seconds"], 1e3 * rows["q75_seconds"], color=colour, alpha=0.2
        )
    naive = alone[alone["variant"] == "naive"]
    scale = naive["median_seconds"].iloc[-1] / naive["macs"].iloc[-1]
    left.plot(
        naive["n"], 1e3 * scale * naive["macs"], color=style.COLOURS["reference"], linestyle="--",
        label="4nd² + 2n²d, through the last point",
    )  # fmt: skip
    sizes = sorted(int(n) for n in alone["n"].unique())
    left.set(xlabel="tokens n", ylabel="time of a call (ms)")
    style.token_ticks(left, sizes)
    style.plain_log_ticks(left)
    left.legend(loc="upper left", fontsize=7.5)
    for variant, found in slopes.items():
        middle = [slope.n_middle for slope in found]
        right.errorbar(
            middle, [slope.slope for slope in found],
            yerr=[
                [max(0.0, slope.slope - slope.low) for slope in found],
                [max(0.0, slope.high - slope.slope) for slope in found],
            ],
            color=VARIANTS[variant], marker="o", markersize=4, capsize=3,
            label={"naive": "written out", "fused": "fused"}[variant],
        )  # fmt: skip
    middles = [(a * b) ** 0.5 for a, b in pairwise(sizes)]
    right.plot(
        middles, predicted_slopes(sizes, width, r=None), color=style.COLOURS["reference"],
        linestyle="--", label="formula",
    )  # fmt: skip
    right.axhline(2, color=style.GRID, zorder=0)
    right.set(xlabel="tokens n", ylabel="local exponent")
    style.token_ticks(right, sizes)
    right.legend(fontsize=7.5)
    return drawing


def draw_memory(alone: pd.DataFrame) -> Figure:
    """Peak memory of the temporary tensors against n."""
    import matplotlib.pyplot as plt

    drawing, axes = plt.subplots(figsize=(style.WIDTH * 0.62, 2.8))
    for variant, rows in alone.groupby("variant"):
        axes.plot(
            rows["n"], rows["peak_mib"], marker="o", markersize=4, color=VARIANTS[str(variant)],
            label={"naive": "written out", "fused": "fused"}[str(variant)],
        )  # fmt: skip
    axes.set(xlabel="tokens n", ylabel="peak memory (MiB)")
    style.token_ticks(axes, sorted(int(n) for n in alone["n"].unique()))
    style.plain_log_ticks(axes)
    axes.legend()
    return drawing


def draw_model(table: pd.DataFrame) -> Figure:
    """The whole model at several patch sizes: time of forward and of a training step."""
    import matplotlib.pyplot as plt

    rows = table[(table["what"] == "model")].dropna(subset=["median_seconds"])
    drawing, axes = plt.subplots(figsize=(style.WIDTH * 0.62, 2.8))
    names = {"forward": "forward", "train": "forward and backward"}
    for colour, (name, part) in zip(style.SERIES, rows.groupby("pass"), strict=False):
        for variant, line in part.sort_values("n").groupby("variant"):
            axes.plot(
                line["n"], 1e3 * line["median_seconds"] / line["batch_size"], marker="o",
                markersize=4, color=colour, linestyle="-" if variant == "fused" else ":",
                label=f"{names[str(name)]}, {'fused' if variant == 'fused' else 'written out'}",
            )  # fmt: skip
    axes.set(xlabel="tokens n", ylabel="time per image (ms)")
    style.token_ticks(axes, sorted(int(n) for n in rows["n"].unique()))
    style.plain_log_ticks(axes)
    axes.legend(fontsize=7.5)
    return drawing
