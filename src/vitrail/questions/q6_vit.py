"""Q6: the whole ViT: how good it is, and what each choice changes."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from vitrail import drawings, style
from vitrail.analysis import Estimate, counted, estimate, percent
from vitrail.claims import Claim, holds
from vitrail.questions.answer import Answer, Key
from vitrail.questions.experiments import cost, effects
from vitrail.questions.experiments.common import add, error_count, findings_markdown, mean_of
from vitrail.questions.explore import effects as effects_view
from vitrail.questions.headline.add import add_headline
from vitrail.questions.positions import embedding as positions
from vitrail.questions.positions.shuffle_page import add_patch_shuffle
from vitrail.questions.sources import SETTINGS, Basis, listed
from vitrail.questions.study import Study

if TYPE_CHECKING:
    from matplotlib.figure import Figure

STEM = "q6_vit"
GOAL = 0.97
SHOWN_ERRORS = 24


def answer(study: Study) -> Answer:
    """Positions, final performance, the ablations, accuracy against cost."""
    result = Answer(sentence="", table=pd.DataFrame())
    base = base_summary(study)
    value = estimate(base["test_accuracy"].tolist())
    result.numbers["base"] = base_numbers(base, value)
    result.data["base_runs"] = base
    settings = study.plan.arms[study.plan.base].settings
    digit = study.images(6, study.plan.base)[1][5]
    result.draw("architecture", drawings.vit, settings, digit, data=listed(settings), runs=SETTINGS)
    result.claims.append(reaches_goal(value))
    add_positions(study, result)
    add_patch_shuffle(study, result)
    tables = add(
        study,
        result,
        STEM,
        reserved=("effects", "cost", "errors"),
        elsewhere=("headline",),
    )
    changes = add_comparisons(study, result, tables, float(base["samples"].min()))
    add_headline(study, result)
    if result.numbers["headline"]["status"] != "finished":
        result.draw("errors", draw_errors, study, runs=study.first_run)
    result.sentence = " ".join(
        filter(None, [base_words(result), headline_words(result), effects.sentence(changes)])
    )
    result.short, result.key = opening(result, effects.sentence(changes))
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


def base_numbers(base: pd.DataFrame, value: Estimate) -> dict[str, str]:
    """The strings about the base ViT that prose may quote."""
    return {
        "accuracy": percent(value),
        "val_accuracy": percent(estimate(base["val_accuracy"].tolist())),
        "errors": error_count(mean_of(base, "test_errors")),
        "parameters": f"{base['parameters'].iloc[0]:,}",
        "macs": f"{base['macs'].iloc[0] / 1e6:.2f}",
        "images_per_second": f"{mean_of(base, 'train_samples_per_second'):,.0f}",
        "seconds": f"{mean_of(base, 'seconds'):,.0f}",
        "samples": f"{base['samples'].iloc[0]:,}",
        "seeds": counted(len(base), "seed"),
    }


def reaches_goal(value: Estimate) -> Claim:
    """Decided where the interval of the mean lies on one side of the goal."""
    sentence = f"The mean test accuracy of the base ViT is {{}} {100 * GOAL:.0f} % at this budget."
    clear = abs(value.mean - GOAL) > value.half_width
    return holds(
        "q6-base-reaches-97",
        sentence.format("above"),
        f"95 % interval of the mean over the seeds lies above {100 * GOAL:.0f} %",
        percent(value),
        value.mean > GOAL if clear else None,
        sentence.format("below"),
    )


def add_positions(study: Study, result: Answer) -> None:
    """The worked example and the similarity of positions."""
    example, worst = positions.worked_example()
    printed = positions.example_markdown
    result.tabulate("position_example", printed, example, data=example, runs="a formula")
    result.numbers["position_example"] = {"worst": f"{worst:.3f}"}
    one, two = positions.fixed(study.plan.arms[study.plan.base].settings).values()
    result.numbers["position_size"] = {
        "one_axis": f"{positions.size(one):.2f}",
        "two_axes": f"{positions.size(two):.2f}",
        "learned": f"{study.config['defaults']['pos_embed_std']:.2f}",
    }
    learned = positions.learned_arms(study)
    runs = _together(study.run_ids([one.arm], one.seeds[:1]) for one in learned)
    result.draw("positions", positions.draw, study, runs=runs or "formulas")
    claims = positions.claims(study)
    result.claims += claims
    result.tables["position_findings"] = (
        findings_markdown(claims) or "<!-- no learned positions in this study -->"
    )


def add_comparisons(
    study: Study, result: Answer, tables: dict[str, pd.DataFrame], budget: float
) -> pd.DataFrame:
    """All experiments side by side: effects and costs. Gives the table of the effects."""
    changes = effects.effects(study, STEM)
    matter = effects.positions_matter_most(study, STEM)
    result.claims += matter
    result.data["effects"] = changes
    result.explore["effects"] = effects_view.effects(study, STEM, changes)
    result.tables["effects"] = effects.section(STEM, changes, matter)
    compared = filter(effects.one_factor, study.plan.of_question(STEM))
    runs = _together(study.runs_of(experiment) for experiment in compared)
    if len(changes):
        result.draw("effects", effects.draw, changes, data="effects", runs=runs)
    points = cost.points_of(tables, budget)
    dominated = cost.claims(study, tables)
    result.claims += dominated
    result.tables["cost"] = cost.section(points, dominated)
    if len(points):
        runs = " ".join(points["run_ids"]).split()
        result.draw("cost", cost.draw, points, data=points, runs=runs)
    return changes


def _together(parts: Iterable[Basis]) -> list[str]:
    """The runs of several experiments."""
    return [run for part in parts if not isinstance(part, str) for run in part]


def base_words(result: Answer) -> str:
    """Size, budget and accuracy of the base ViT."""
    base = result.numbers["base"]
    return (
        f"The base ViT ({base['parameters']} parameters, trained from scratch on "
        f"{base['samples']} images in {base['seconds']} s on one core) reaches "
        f"**{base['accuracy']}** test accuracy over {base['seeds']}, {base['errors']} errors in "
        "10,000."
    )


def headline_words(result: Answer) -> str:
    """What the long run reaches; nothing where there is none."""
    found = result.numbers["headline"]
    if found["status"] != "finished":
        return ""
    return (
        f"The {found['label']} ({found['parameters']} parameters, {found['samples']} images) "
        f"reaches **{found['accuracy']}**, {found['errors']} errors."
    )


def opening(result: Answer, changes: str) -> tuple[str, Key]:
    """What the opening page says: the long run, where there is one, beside the base ViT."""
    base, best = result.numbers["base"], result.numbers["headline"]
    said = [
        "A class token, positions and a linear head.",
        f"The base ViT ({base['parameters']} parameters) reads {base['accuracy']} of the test "
        f"digits rightly after {base['samples']} images.",
    ]
    key = Key(base["accuracy"], "test accuracy of the base ViT")
    if best["status"] == "finished":
        key = Key(
            f"{best['accuracy']} ± {best['half_width']}",
            f"test accuracy of the {best['label']} (interval over the test images)",
        )
        said.append(f"The {best['label']} reaches {best['accuracy']} after {best['samples']}.")
    said.append(changes or "Which choices matter, one seed of each cannot tell.")
    return " ".join(said), key


def draw_errors(study: Study) -> tuple[Figure, pd.DataFrame]:
    """The test digits that the first seed of the base ViT gets wrong, surest first.

    With their indices, labels, answers and the probabilities of these.
    """
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
        axes.set_title(
            f"{truth[index]} as {guess[index]}", fontsize=style.SMALL, loc="center", pad=2
        )
    answers = guess[worst]
    columns = {"index": worst, "label": truth[worst], "answer": answers}
    return drawing, pd.DataFrame(columns | {"probability": chances[worst, answers]})
