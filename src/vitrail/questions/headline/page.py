"""The text about the headline run; every sentence that compares is chosen by the run."""

from __future__ import annotations

import pandas as pd

from vitrail.analysis import counted, p_words, percent
from vitrail.questions.answer import markdown_table
from vitrail.questions.headline.claims import PUBLISHED
from vitrail.questions.headline.error_page import (
    calibration_words,
    confusion_words,
    drawn,
    gallery_words,
    label_error_words,
)
from vitrail.questions.headline.run import Headline
from vitrail.questions.headline.scores import Share


def absent(sentence: str) -> str:
    """The page of a study without the run: why, and the errors of the base ViT instead."""
    figure = drawn(
        "errors",
        "Test digits that the first seed of the base ViT gets wrong, the surest mistakes first: "
        "what they are and what the network says.",
        "A grid of misread digits, each under its label and the wrong answer.",
    )
    return f"{sentence}\n\n{figure}"


def page(headline: Headline, quoted: dict[str, str]) -> str:
    """The whole subsection, with its figures and tables.

    Args:
        headline: the run.
        quoted: its numbers for prose, see `vitrail.questions.headline.add.numbers`.
    """
    parts = [
        score_words(headline, quoted),
        published_table(headline),
        rival_table(headline),
        curve_words(headline, quoted),
        confusion_words(headline.predictions),
        calibration_words(headline, quoted),
        gallery_words(headline.predictions),
        label_error_words(headline, quoted),
        next_words(headline),
    ]
    return "\n\n".join(part for part in parts if part)


def score_words(headline: Headline, quoted: dict[str, str]) -> str:
    """Accuracy, errors, interval, and what the interval is of."""
    facts = headline.facts
    if len(headline.seeds) == 1:
        seeds = "There is one seed, so nothing can be said about the spread over seeds."
    else:
        seeds = (
            f"Over {quoted['seeds']} the mean is {percent(headline.accuracy)}, an interval of the "
            f"seeds. All that follows is about seed {headline.seeds[0]}."
        )
    return f"""**{headline.experiment.title}.** {headline.experiment.description.strip()}
The {headline.member.label} has {quoted["parameters"]} parameters and {quoted["macs"]} million
multiply-accumulates per image. It saw {quoted["samples"]} training images
({quoted["epochs"]} epochs) in {quoted["minutes"]} minutes of training
({facts["hardware"]}, {counted(facts["threads"], "thread")}).
It reads **{quoted["accuracy"]}** of the test digits right, which is
**{quoted["errors"]} errors** in {quoted["images"]} (95 % interval {quoted["errors_interval"]});
on the validation split it reaches {quoted["val_accuracy"]}.

The 95 % interval [@wilson1927] of the accuracy is {quoted["interval"]}. It is about
this one trained network on digits of this kind without end: the accuracies that agree with the
count on these {quoted["images"]}. {seeds} Half of the interval is {quoted["half_width"]} points.
Two networks that lie closer cannot be told apart by their counts alone; compared image by image
they sometimes can."""


def published(headline: Headline) -> pd.DataFrame:
    """The run beside published ViTs, and on which side of its interval they lie, as printed."""
    score, settings = headline.score, headline.member.arm.settings
    rows = [
        (
            f"{headline.member.label} (this run)",
            f"{headline.summaries[0]['parameters'] / 1e6:.2f} M",
            f"{settings['epochs']:g}",
            f"{100 * score.value:.2f}",
            score.words,
        )
    ]
    rows += [
        (
            f"{other.name} [@{other.source}]",
            other.parameters,
            str(other.epochs),
            f"{100 * other.accuracy:g}",
            side(score, other.accuracy),
        )
        for other in PUBLISHED
    ]
    columns = ["ViT from scratch", "Parameters", "Epochs", "Accuracy (%)", "Interval of this run"]
    return pd.DataFrame(rows, columns=columns)


def published_table(headline: Headline) -> str:
    """The same for the page."""
    caption = (
        "The long run beside published ViTs that were trained on MNIST alone, with augmentation; "
        "their figures are those of their authors. Last column: the 95 % interval of this run, "
        "and on which side of it the others lie."
    )
    return markdown_table(published(headline), caption, "q6-headline-published").strip()


def side(score: Share, value: float) -> str:
    """Where another accuracy lies, seen from the interval of the run."""
    if score.low <= value <= score.high:
        return "inside"
    return "above" if value > score.high else "below"


def rivals(headline: Headline) -> pd.DataFrame:
    """McNemar's test against the networks of the first experiment, as printed."""
    rows = [
        (
            rival.label,
            f"{100 * rival.accuracy:.2f}",
            f"{rival.test.only_first:,}",
            f"{rival.test.only_second:,}",
            p_words(rival.test.p_value),
        )
        for rival in headline.rivals
    ]
    columns = ["Network", "Accuracy (%)", "Only this run right", "Only the other right", "p"]
    return pd.DataFrame(rows, columns=columns)


def rival_table(headline: Headline) -> str:
    """The same for the page; nothing where there is no such network."""
    if not headline.rivals:
        return ""
    caption = (
        "The long run against the networks of the first experiment on the same test images, by "
        "McNemar's exact test. It compares trained networks, not recipes: the networks differ in "
        "training and may differ in architecture."
    )
    return markdown_table(rivals(headline), caption, "q6-headline-mcnemar").strip()


def curve_words(headline: Headline, quoted: dict[str, str]) -> str:
    """The learning curve, the way to 98 % and 99 %, and which loss ends lower."""
    ways = " and ".join(
        f"{goal} % at no evaluation"
        if quoted[f"minutes_to_{goal}"] == "not reached"
        else f"{goal} % after {quoted[f'minutes_to_{goal}']} minutes"
        for goal in (98, 99)
    )
    last = headline.curves[0].iloc[-1]
    place = "below" if fits_better(headline) else "at or above"
    figure = drawn(
        "headline_curve",
        f"Learning curve of the {headline.member.label}. Left: cross-entropy. Right: validation "
        "error. The vertical axes are logarithmic; below are the images seen, above the minutes "
        "of training, evaluation excluded.",
        "Two panels: training and validation loss, and validation error, against images seen.",
    )
    return f"""**Learning curve.** The validation accuracy first reaches {ways}. The training loss
({last["train_loss"]:.4f} at the end) ends {place} the validation loss ({last["val_loss"]:.4f}).
It is a mean over the batches as the recipe presents them, with augmentation and other
regularisation if the recipe has any, so it need not be the lower one.

{figure}"""


def fits_better(headline: Headline) -> bool:
    """Whether the network ends with a lower loss on its training images than on new ones."""
    last = headline.curves[0].iloc[-1]
    return bool(last["train_loss"] < last["val_loss"])


def next_words(headline: Headline) -> str:
    """What the run itself says about the way further up."""
    score, known = headline.score, headline.on_label_errors
    errors = score.total - score.count
    if headline.member.arm.settings["label_smoothing"]:
        lever = (
            "Label smoothing puts a floor under the training loss, so the two losses do not tell "
            "whether training or regularisation comes first."
        )
    elif fits_better(headline):
        lever = (
            "The network fits its training images better than new ones: a hint, from one seed, "
            "that more training or a larger network alone would gain little."
        )
    else:
        lever = (
            "The training images, as the recipe presents them, are no easier for the network than "
            "new ones: a hint, from one seed, that longer training or a larger network would gain."
        )
    best = max(PUBLISHED, key=lambda other: other.accuracy)
    missing = round(errors - (1 - best.accuracy) * score.total)
    gap = (
        f"It makes {missing:,} errors more than the best ViT of @tbl-q6-headline-published."
        if missing > 0
        else "No ViT of @tbl-q6-headline-published makes fewer errors."
    )
    return f"""**What the run says about the next step.** {lever} {gap}
Of its {errors:,} errors, {known.as_raters:,} are the reading of the raters; most of the others no
rater has been asked about. A step that mends fewer than {score.half_width * score.total:.0f} of
them stays within half the interval of one test, so it has to be judged on the validation split,
over seeds and image by image."""
