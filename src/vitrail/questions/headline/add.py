"""Final performance: one long run of a ViT from scratch, looked at from all sides.

The run is the first arm of the experiment `headline` of Q6. A config without that
experiment, or one whose arm could not be run, gives a page that says so.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from vitrail.analysis import counted, percent
from vitrail.label_errors import LABEL_ERRORS
from vitrail.questions.answer import Answer
from vitrail.questions.headline import figures
from vitrail.questions.headline.claims import decide
from vitrail.questions.headline.page import (
    absent,
    page,
    published,
    published_table,
    rival_table,
    rivals,
)
from vitrail.questions.headline.run import NAME, STEM, Headline
from vitrail.questions.headline.scores import Predictions
from vitrail.questions.sources import source_of
from vitrail.questions.study import Study

POINTS = 300  # of the curve of remaining errors
MILESTONES = (0.98, 0.99)  # validation accuracies whose time is told


def add_headline(study: Study, answer: Answer) -> None:
    """Add the final performance to the answer of Q6.

    To be called after the experiments were added. Figures, tables and data are named
    ``headline_…``; ``tables/q6_vit/headline_page.md`` holds the text with its figures and is
    there in every case, so that a chapter can include it.

    Raises:
        VitrailError: a run folder is missing or damaged, or the labels are not MNIST's.
    """
    experiments = [e for e in study.plan.of_question(STEM) if e.name == NAME]
    quoted = answer.numbers.setdefault(NAME, {})
    if not experiments:
        quoted["status"] = "not asked for"
        answer.tables["headline_page"] = absent(
            "This study has no long run: its config has no experiment `headline` under "
            "`questions.q6_vit`."
        )
        return
    experiment = experiments[0]
    member = experiment.members[0]
    seeds = study.finished_seeds(member.arm.arm_id, experiment.seeds)
    if not seeds:
        quoted["status"] = "not run"
        reason = study.summary(member.arm.arm_id, experiment.seeds[0])["reason"]
        answer.tables["headline_page"] = absent(f"The headline run was **not run**: {reason}.")
        return
    headline = Headline(study, experiment, seeds)
    mine = numbers(headline)
    quoted |= mine
    add_figures(headline, answer)
    answer.data |= {"headline_published": published(headline), "headline_mcnemar": rivals(headline)}
    one, run = "headline_published", headline.run_ids[:1]
    answer.sources.tables["q6-headline-published"] = source_of(published_table, [one], run)
    others, runs = "headline_mcnemar", [*run, *(rival.run_id for rival in headline.rivals)]
    answer.sources.tables["q6-headline-mcnemar"] = source_of(rival_table, [others], runs)
    answer.tables["headline_page"] = page(headline, mine)
    answer.claims += decide(headline)


def add_figures(headline: Headline, answer: Answer) -> None:
    """The figures with their data; all but the curve are of the first finished seed."""
    images, seen = headline.study.mnist.test_images, headline.predictions
    run, known = headline.run_ids[:1], label_error_table(seen)
    answer.data["headline_errors"] = error_table(seen)
    curve = pd.concat(headline.curves, ignore_index=True)
    confusion, found = confusion_table(seen), headline.calibration
    answer.data["headline_remaining"] = remaining_errors(seen)
    answer.data["headline_calibration"] = found.bins
    both = ("headline_calibration", "headline_remaining")
    answer.draw(
        "headline_curve", figures.draw_curve, headline.curves, data=curve, runs=headline.run_ids
    )
    answer.draw("headline_confusion", figures.draw_confusion, seen, data=confusion, runs=run)
    answer.draw("headline_calibration", figures.draw_calibration, seen, found, data=both, runs=run)
    for name, part in figures.gallery(seen).items():
        errors = (images, seen, part)
        answer.draw(name, figures.draw_gallery, *errors, data="headline_errors", runs=run)
    answer.draw(
        "headline_label_errors", figures.draw_label_errors, images, seen, data=known, runs=run
    )


def confusion_table(seen: Predictions) -> pd.DataFrame:
    """Counts by label (rows) and answer (columns)."""
    table = pd.DataFrame(seen.confusion()).add_prefix("answer_")
    table.insert(0, "label", range(len(table)))
    return table


def remaining_errors(seen: Predictions) -> pd.DataFrame:
    """Errors left when the least sure images are set aside, at numbers evenly spread on a log axis.

    The figure draws every number; the file has enough of them to draw it again.
    """
    order = np.argsort(-seen.doubt, kind="stable")
    aside = np.unique(np.geomspace(1, len(order) - 1, POINTS).astype(int))
    wrong, doubt = ~seen.right[order], seen.doubt[order]
    left = {"observed": wrong.sum() - np.cumsum(wrong), "predicted": doubt.sum() - np.cumsum(doubt)}
    columns = {name: values[aside - 1] for name, values in left.items()}
    return pd.DataFrame({"images_set_aside": aside, **columns})


def label_error_table(seen: Predictions) -> pd.DataFrame:
    """The known label errors with the votes on them and the answers of the network."""
    return pd.DataFrame(
        {
            "index": error.index,
            "label": error.given,
            "raters": figures.votes(error),
            "answer": seen.answers[error.index],
            "probability": seen.confidence[error.index],
        }
        for error in LABEL_ERRORS
    )


def error_table(seen: Predictions) -> pd.DataFrame:
    """The misread test images, the surest first."""
    known = {error.index: error for error in LABEL_ERRORS}
    wrong = seen.wrong
    return pd.DataFrame(
        {
            "index": wrong,
            "label": seen.labels[wrong],
            "answer": seen.answers[wrong],
            "probability": seen.confidence[wrong],
            "probability_of_label": seen.chances[wrong, seen.labels[wrong]],
            "known_label_error": [index in known for index in wrong],
            "raters": [known[index].agreed if index in known else None for index in wrong],
        }
    )


def numbers(headline: Headline) -> dict[str, str]:
    """The strings that prose may quote."""
    score, seen, known = headline.score, headline.predictions, headline.on_label_errors
    last, calibration = headline.summaries[0], headline.calibration
    errors = score.total - score.count
    quoted = {
        "status": "finished",
        "label": headline.member.label,
        "seeds": counted(len(headline.seeds), "seed"),
        "accuracy": f"{100 * score.value:.2f} %",
        "accuracy_over_seeds": percent(headline.accuracy),
        "interval": score.words,
        "half_width": f"{100 * score.half_width:.2f}",
        "errors": f"{errors:,}",
        "errors_interval": score.rest_words,
        "images": f"{score.total:,}",
        "val_accuracy": f"{100 * last['val_accuracy']:.2f} %",
        "parameters": f"{last['parameters']:,}",
        "macs": f"{last['macs'] / 1e6:.2f}",
        "samples": f"{last['samples']:,}",
        "epochs": f"{headline.member.arm.settings['epochs']:g}",
        "minutes": f"{headline.curves[0]['minutes'].iloc[-1]:,.1f}",
        "nll": f"{seen.losses.mean():.4f}",
        "ece": f"{100 * calibration.ece:.2f}",
        "ece_by_chance": f"{100 * calibration.ece_by_chance:.2f}",
        "expected_errors": f"{calibration.expected_errors:.1f}",
        "label_errors_among_errors": str(known.among_errors),
        "as_raters": str(known.as_raters),
        "corrected_accuracy": f"{100 * known.corrected.value:.2f} %",
        "corrected_errors": f"{known.corrected.total - known.corrected.count:,}",
        "corrected_images": f"{known.corrected.total:,}",
    }
    for goal in MILESTONES:
        quoted[f"minutes_to_{100 * goal:.0f}"] = minutes_to(headline.curves[0], goal)
    return quoted


def minutes_to(curve: pd.DataFrame, goal: float) -> str:
    """Minutes until the first evaluation with that validation accuracy, or "not reached"."""
    there = curve.loc[curve["val_accuracy"] >= goal, "minutes"]
    return f"{there.iloc[0]:,.1f}" if len(there) else "not reached"
