"""The part of the headline page about errors: which, how sure, and whose."""

from __future__ import annotations

import numpy as np

from vitrail.analysis import counted
from vitrail.label_errors import MAJORITY, RATED, RATERS
from vitrail.questions.headline.claims import calibrated, probabilities_true
from vitrail.questions.headline.figures import AS_RATERS, KNOWN, gallery
from vitrail.questions.headline.run import Headline
from vitrail.questions.headline.scores import Predictions, share

UNSURE = 100  # images that a person could look at again


def drawn(name: str, caption: str, alt: str) -> str:
    """A figure of Q6 in Markdown."""
    label = f"#fig-q6-{name.replace('_', '-')}"
    return f'![{caption}](figures/q6_vit/{name}.svg){{{label} fig-alt="{alt}"}}'


def confusion_words(seen: Predictions) -> str:
    """The most frequent confusions and the confusion matrix."""
    table = seen.confusion()
    np.fill_diagonal(table, 0)
    pairs = [(int(table[row, column]), row, column) for row, column in np.argwhere(table).tolist()]
    top = sorted(pairs, key=lambda pair: (-pair[0], pair[1], pair[2]))[:3]
    named = ", ".join(
        f"{row} read as {column} ({counted(count, 'time')})" for count, row, column in top
    )
    sentence = f"The most frequent ones: {named}." if top else "There are none."
    figure = drawn(
        "headline_confusion",
        "Confusion matrix on the test set. Colour shows the errors alone; the grey diagonal holds "
        "the digits read right. Right edge: errors by label. Lower edge: errors by answer.",
        "A ten by ten table of counts with a grey diagonal; frequent confusions are dark.",
    )
    return f"**Confusions.** {sentence}\n\n{figure}"


def calibration_words(headline: Headline, quoted: dict[str, str]) -> str:
    """Whether the probabilities come true, and what so few errors can say about that."""
    found, seen = headline.calibration, headline.predictions
    errors = len(seen.wrong)
    lost = seen.losses[~seen.right].sum() / seen.losses.sum()
    unsure = np.argsort(-seen.doubt, kind="stable")[:UNSURE]
    caught = int((~seen.right[unsure]).sum())
    figure = drawn(
        "headline_calibration",
        "Calibration on the test set. Left: observed share of errors against the mean doubt of "
        "each bin, with Wilson's 95 % intervals; a triangle is the upper end of the interval of a "
        "bin without errors; the dashed line is perfect calibration. Right: errors that remain "
        "when the least sure images are set aside, observed and as the probabilities predict.",
        "Two panels: error rate against doubt beside a diagonal, and falling remaining errors.",
    )
    return f"""**Calibration.** Do the probabilities come true? The network gives
{100 * (seen.confidence > 0.99).mean():.1f} % of its answers a probability above 0.99, and the usual
diagram with bins of equal width puts all of these into one bin. @fig-q6-headline-calibration sorts
the images by doubt (one minus the probability of the answer), takes bins that double in size from
the least sure image on, and has logarithmic axes.

By its own probabilities the network should make {found.expected_errors:,.1f} errors, and between
{found.errors_low:,} and {found.errors_high:,} in 95 of 100 test sets; it makes {errors:,}.
{calibrated(headline).finding}
The expected calibration error [@guo2017] over these bins is {quoted["ece"]} points. That number
alone says little: a network whose probabilities are exactly true would show
{quoted["ece_by_chance"]} on average with so many images, and up to
{100 * found.ece_limit:.2f} in 95 of 100 test sets. {probabilities_true(headline).finding}
The negative log-likelihood is {quoted["nll"]} nats per image; the errors carry
{100 * lost:.0f} % of it. {caught:,} of the {errors:,} errors are among the {UNSURE} least sure
images. No temperature is fitted, as that needs logits of the validation split, which the runs do
not keep.

{figure}"""


def gallery_words(seen: Predictions) -> str:
    """Every misread digit, or the surest ones of very many."""
    errors, parts, figures = len(seen.wrong), gallery(seen), []
    if not errors:
        return "**Errors.** The network misreads no test digit."
    count = 0
    for name, part in parts.items():
        first, count = count + 1, count + len(part)
        which = (
            f"All {errors:,} misread test digits"
            if len(part) == errors
            else f"Misread test digits {first} to {count} of {errors:,}"
        )
        figures.append(
            drawn(
                name,
                f"{which}, the surest first: label → answer, and the probability of the answer. "
                f"Framed: known label errors of the test set; {AS_RATERS} the network says what "
                f"the raters agree on, {KNOWN} it does not, or the raters do not agree.",
                "Small misread digits with label, answer and probability; a known label error "
                "has a frame and a sign.",
            )
        )
    shown = "every misread digit" if count == errors else f"the {count} surest of {errors:,} errors"
    names = ", ".join(f"@fig-q6-{name.replace('_', '-')}" for name in parts)
    sentence = (
        f"**Errors.** {names} {'shows' if len(parts) == 1 else 'show'} what is left to learn: "
        f"{shown}. All are listed in `headline_errors.csv`."
    )
    return "\n\n".join([sentence, *figures])


def label_error_words(headline: Headline, quoted: dict[str, str]) -> str:
    """The known label errors, and the score that they distort."""
    known, total = headline.on_label_errors, headline.score.total
    ceiling = share(total - known.agreed, total).value
    doubtful = known.known - known.agreed
    figure = drawn(
        "headline_label_errors",
        f"The {known.known} known label errors of the test set: given label; what each of the "
        f"{RATERS} raters saw (? is neither of the two digits that they were asked about); answer "
        f"of the network with its probability. Framed and {AS_RATERS}: the network says what the "
        "raters agree on.",
        "Fifteen digits, each with its label, five votes, and the answer of the network.",
    )
    return f"""**Wrong labels.** Some labels of the test set are wrong. {RATED} of its images that
looked suspicious to a classifier were shown to {RATERS} people each [@northcutt2021]. For
{known.known} of them fewer than {MAJORITY} people saw the given label. On {known.agreed} of these
at least {MAJORITY} people agree on another digit, on {doubtful} they do not. Whoever reads every
digit as these people do is charged with at least {known.agreed} errors: the ceiling is no higher
than {100 * ceiling:.2f} %.

Of the {quoted["errors"]} errors of this run, {known.among_errors} are known label errors; in
{known.as_raters} of them the network says what the raters agree on. On the {known.agreed} images
with an agreed digit it answers {counted(known.as_raters, "time")} as the raters and
{counted(known.as_label, "time")} as the label. The *corrected score* takes the raters' digit where
they agree and leaves the {doubtful} other images out. It is **{quoted["corrected_accuracy"]}**,
{quoted["corrected_errors"]} errors in {quoted["corrected_images"]}, interval
{known.corrected.words}. Images that were never shown to people keep their label. Only the
uncorrected score can be compared with other work.

{figure}"""
