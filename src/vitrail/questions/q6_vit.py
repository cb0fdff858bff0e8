"""Q6: the whole ViT: how good it is, and what each choice changes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from vitrail import style
from vitrail.analysis import counted, estimate, percent
from vitrail.claims import holds
from vitrail.questions.answer import Answer, markdown_table
from vitrail.questions.experiments import add, error_count, mean_of
from vitrail.questions.study import Study

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# The worked example of the lab report: width 4, positions 0 to 5.
EXAMPLE_WIDTH, EXAMPLE_POSITIONS = 4, 6
SHOWN_ERRORS = 24
MODEL_NAMES = {"vit": "our ViT", "cnn": "CNN", "timm": "timm"}


def answer(study: Study) -> Answer:
    """Final performance of the base ViT, its errors, the ablations, accuracy against cost."""
    result = Answer(sentence="", table=pd.DataFrame())
    base = base_summary(study)
    value = estimate(base["test_accuracy"].tolist())
    errors = mean_of(base, "test_errors")
    result.numbers["base"] = {
        "accuracy": percent(value),
        "val_accuracy": percent(estimate(base["val_accuracy"].tolist())),
        "errors": error_count(errors),
        "parameters": f"{base['parameters'].iloc[0]:,}",
        "macs": f"{base['macs'].iloc[0] / 1e6:.2f}",
        "images_per_second": f"{mean_of(base, 'train_samples_per_second'):,.0f}",
        "seconds": f"{mean_of(base, 'seconds'):,.0f}",
        "samples": f"{base['samples'].iloc[0]:,}",
        "seeds": counted(len(base), "seed"),
    }
    result.data["base_runs"] = base
    result.tables["position_example"], worst = position_example()
    result.numbers["position_example"] = {"worst": f"{worst:.3f}"}
    result.claims.append(
        holds(
            "q6-base-reaches-97",
            "The mean test accuracy of the base ViT is at least 97 % at this budget.",
            "mean test accuracy over the seeds; the interval is printed beside it",
            percent(value),
            value.mean >= 0.97,
        )
    )
    result.figures["errors"] = draw_errors(study)
    result.figures["positions"] = draw_position_similarity(study)
    tables = add(study, result, "q6_vit", reserved=("cost",))
    if tables:
        result.figures["cost"] = draw_cost(pd.concat(tables.values(), ignore_index=True))
    result.sentence = (
        f"The base ViT ({base['parameters'].iloc[0]:,} parameters, trained from scratch on "
        f"{base['samples'].iloc[0]:,} images in {mean_of(base, 'seconds'):,.0f} s on one core) "
        f"reaches **{percent(value)}** test accuracy over {counted(len(base), 'seed')}, "
        f"{error_count(errors)} errors in 10,000. " + strongest(tables)
    )
    return result


def base_summary(study: Study) -> pd.DataFrame:
    """The summary of each seed of the base arm."""
    plan = study.plan
    return pd.DataFrame(
        [
            {"seed": seed}
            | {k: v for k, v in study.summary(plan.base, seed).items() if k != "files"}
            for seed in plan.seeds
        ]
    )


def strongest(tables: dict[str, pd.DataFrame]) -> str:
    """Which ablation changes the accuracy of the ViT most, and which least."""
    spans = {}
    for name, table in tables.items():
        ran = table[(table["seeds"] > 0) & (table["model"] == "vit")]
        if len(ran) > 1:
            spans[name] = 100 * (ran["test_accuracy"].max() - ran["test_accuracy"].min())
    if len(spans) < 2:
        return ""
    most, least = max(spans, key=lambda k: spans[k]), min(spans, key=lambda k: spans[k])
    return (
        f"Among the choices varied, {most.replace('_', ' ')} moves the mean accuracy most "
        f"({spans[most]:.1f} points from worst to best arm) and {least.replace('_', ' ')} least "
        f"({spans[least]:.1f} points)."
    )


def position_example() -> tuple[str, float]:
    """The worked table of the lab report, computed; and the largest error of what it printed."""
    from vitrail.model import sinusoidal_1d

    right = sinusoidal_1d(EXAMPLE_POSITIONS, EXAMPLE_WIDTH).numpy()
    position = np.arange(EXAMPLE_POSITIONS)
    # What its exponents 0/4 and 1/4 give instead of 0/4 and 2/4.
    slow = position / 10000 ** (1 / 4)
    printed = np.stack([np.sin(position), np.cos(position), np.sin(slow), np.cos(slow)], axis=1)
    columns = {"k": [f"$P({k})$" for k in position]}
    for column in range(EXAMPLE_WIDTH):
        columns[f"column {column}"] = [decimals(value) for value in right[:, column]]
    for column in (2, 3):
        columns[f"lab report, column {column}"] = [decimals(value) for value in printed[:, column]]
    caption = (
        "The worked example of the lab report (d = 4), computed from the formula, and what its "
        "exponents of 1/4 in place of 2/4 give in the two columns that they touch."
    )
    table = markdown_table(pd.DataFrame(columns), caption, "q6-positions-example")
    return table, float(np.abs(right - printed).max())


def decimals(value: float) -> str:
    """Four decimals with a true minus sign."""
    return f"{value:.4f}".replace("-", "−")


def draw_errors(study: Study) -> Figure:
    """The test digits that the first seed of the base ViT gets wrong, surest first."""
    import matplotlib.pyplot as plt
    from scipy.special import softmax

    chances = softmax(study.test_logits(study.plan.base, study.plan.seeds[0]), axis=1)
    truth = study.mnist.test_labels
    guess = chances.argmax(axis=1)
    wrong = np.flatnonzero(guess != truth)
    worst = wrong[np.argsort(-chances[wrong, guess[wrong]], kind="stable")][:SHOWN_ERRORS]
    drawing, grid = plt.subplots(3, SHOWN_ERRORS // 3, figsize=(style.WIDTH, 3.1))
    for axes in grid.flat:
        axes.set_axis_off()
    for axes, index in zip(grid.flat, worst, strict=False):
        axes.imshow(study.mnist.test_images[index], cmap=style.DIGITS)
        axes.set_title(f"{truth[index]} as {guess[index]}", fontsize=8, loc="center", pad=2)
    return drawing


def draw_position_similarity(study: Study) -> Figure:
    """Cosine of the learned embedding of some patches with that of all patches."""
    import matplotlib.pyplot as plt

    network: Any = study.network(study.plan.base)
    settings = study.plan.arms[study.plan.base].settings
    prefix, side = int(settings["class_token"]), 28 // settings["patch_size"]
    if network.pos_embed is None:
        table = np.zeros((side * side, 1))
    else:
        table = network.pos_embed.detach().numpy()[0, prefix:]
    table = table / np.maximum(np.linalg.norm(table, axis=1, keepdims=True), 1e-12)
    similarity = table @ table.T
    drawing, grid = plt.subplots(
        side, side, figsize=(style.WIDTH * 0.55, style.WIDTH * 0.5), squeeze=False
    )
    for index, axes in enumerate(grid.flat):
        shown = axes.imshow(similarity[index].reshape(side, side), cmap=style.HEAT, vmin=-1, vmax=1)
        axes.set_axis_off()
    drawing.colorbar(shown, ax=grid, shrink=0.7, label="cosine similarity")
    return drawing


def draw_cost(table: pd.DataFrame) -> Figure:
    """Errors against the cost of a forward pass, one point per arm."""
    import matplotlib.pyplot as plt

    ran = table[table["seeds"] > 0].drop_duplicates("run_ids")
    drawing, (left, right) = plt.subplots(1, 2, figsize=(style.WIDTH, 2.9), sharey=True)
    for axes, column, label in (
        (left, "macs", "MACs of one forward pass"),
        (right, "parameters", "parameters"),
    ):
        for model, rows in ran.groupby("model"):
            axes.scatter(
                rows[column], 100 * (1 - rows["test_accuracy"]), s=28,
                color=style.COLOURS[str(model)],
                label=MODEL_NAMES[str(model)],
            )  # fmt: skip
        # Many arms cost the same; only the best of each cost is named.
        named = ran.sort_values("test_accuracy").drop_duplicates(column, keep="last")
        for row in named.to_dict("records"):
            axes.annotate(
                row["label"], (row[column], 100 * (1 - row["test_accuracy"])), fontsize=7,
                xytext=(4, -9), textcoords="offset points",
            )  # fmt: skip
        axes.set(xscale="log", xlabel=label)
        axes.xaxis.set_minor_formatter(lambda *_: "")
        axes.margins(x=0.15)
        style.plain_log_ticks(axes)
    left.set_ylabel("test error (%)")
    right.legend()
    return drawing
