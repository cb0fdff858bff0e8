"""What the report claims of the headline run, decided by its test logits."""

from __future__ import annotations

from dataclasses import dataclass

from vitrail.analysis import CONFIDENCE, p_words, percent
from vitrail.claims import Claim, holds
from vitrail.questions.headline.run import Headline, Rival
from vitrail.questions.headline.scores import Share

TARGET = 0.994
MOST_PARAMETERS = 500_000


@dataclass(frozen=True)
class Published:
    """A ViT from scratch on MNIST with the figures that its authors give."""

    key: str  # of the claim
    source: str  # of the bibliography
    name: str
    accuracy: float
    parameters: str
    epochs: int


PUBLISHED = (
    Published("schh", "schh2024", "s-chh", 0.995, "0.21 M", 100),
    Published("asnelt", "asnelt", "mnistvit", 0.9965, "11 M", 60),
)


def decide(headline: Headline) -> list[Claim]:
    """All claims; those about another network only where that network was trained."""
    return [
        reaches_target(headline),
        few_parameters(headline),
        *(matches(headline.score, published) for published in PUBLISHED),
        *(beats(rival, headline.seeds[0]) for rival in headline.rivals),
        calibrated(headline),
        probabilities_true(headline),
        agrees_with_raters(headline),
    ]


def reaches_target(headline: Headline) -> Claim:
    """The accuracy itself; the interval of sampling the images stands beside it."""
    accuracy, score = headline.accuracy, headline.score
    return holds(
        "q6-headline-reaches-99-4",
        f"The headline ViT reads at least {100 * TARGET:.1f} % of the test images right.",
        "share of these images, mean over the seeds; Wilson's 95 % interval of the first seed, "
        "for digits of the same kind in general, stands beside it and does not decide",
        f"{percent(accuracy)}, interval {score.words}",
        accuracy.mean >= TARGET,
        f"The headline ViT stays below {100 * TARGET:.1f} %: it reaches {percent(accuracy)}.",
    )


def few_parameters(headline: Headline) -> Claim:
    """The size of the network."""
    parameters = headline.summaries[0]["parameters"]
    size = f"{MOST_PARAMETERS / 1e6:g} million"
    return holds(
        "q6-headline-parameters",
        f"The headline ViT has no more than {size} parameters.",
        "trained parameters of the network",
        f"{parameters:,} parameters",
        parameters <= MOST_PARAMETERS,
        f"The headline ViT has more than {size} parameters: {parameters:,}.",
    )


def matches(score: Share, published: Published) -> Claim:
    """A published accuracy inside the run's own interval cannot be told apart from it."""
    value = f"{100 * published.accuracy:g} %"
    side = "below" if score.high < published.accuracy else "above"
    return holds(
        f"q6-headline-matches-{published.key}",
        f"The accuracy of {value} published for {published.name} lies inside the 95 % interval "
        "of the headline ViT.",
        "Wilson's 95 % interval of the first seed over the test images contains the value",
        f"{100 * score.value:.2f} %, interval {score.words}",
        score.low <= published.accuracy <= score.high,
        f"The 95 % interval of the headline ViT lies {side} the {value} of {published.name}.",
    )


def beats(rival: Rival, seed: int) -> Claim:
    """McNemar's exact test: undecided unless p is below 0.05."""
    test = rival.test
    decided = test.p_value < 1 - CONFIDENCE
    return holds(
        f"q6-headline-beats-{rival.name}",
        f"The headline ViT reads more test digits right than the {rival.label}.",
        "McNemar's exact test on the test images at the 5 % level, one trained network each",
        f"only the headline ViT (seed {seed}) is right on {test.only_first}, only the "
        f"{rival.label} (seed {rival.seed}) on {test.only_second}; p: {p_words(test.p_value)}",
        test.only_first > test.only_second if decided else None,
        f"The {rival.label} reads more test digits right than the headline ViT.",
    )


def calibrated(headline: Headline) -> Claim:
    """The number of errors against what the stated probabilities allow."""
    found, score = headline.calibration, headline.score
    errors = score.total - score.count
    return holds(
        "q6-headline-calibrated",
        "The number of errors of the headline ViT is compatible with its probabilities.",
        "the number of errors lies in the 95 % range of simulated outcomes, each image drawn "
        "with the probability that the network states",
        f"{errors:,} errors, {found.expected_errors:,.1f} predicted, range "
        f"{found.errors_low:,} to {found.errors_high:,}",
        found.errors_low <= errors <= found.errors_high,
        "The headline ViT is too sure of itself: it makes more errors than it predicts."
        if errors > found.errors_high
        else "The headline ViT is not sure enough: it makes fewer errors than it predicts.",
    )


def probabilities_true(headline: Headline) -> Claim:
    """The calibration error against what chance alone gives; finer than the number of errors."""
    found = headline.calibration
    sentence = (
        "On this test set the probabilities of the headline ViT are off by {} chance explains."
    )
    return holds(
        "q6-headline-probabilities-true",
        sentence.format("no more than"),
        "the expected calibration error is within what 95 of 100 simulated outcomes have, each "
        "image drawn with the probability that the network states",
        f"{100 * found.ece:.2f} points; by chance {100 * found.ece_by_chance:.2f} on average and "
        f"up to {100 * found.ece_limit:.2f}",
        found.ece <= found.ece_limit,
        sentence.format("more than"),
    )


def agrees_with_raters(headline: Headline) -> Claim:
    """On the images whose label the raters replaced by another."""
    known = headline.on_label_errors
    tie = known.as_raters == known.as_label
    return holds(
        "q6-headline-agrees-with-raters",
        "Where raters agree that a test label is wrong, the headline ViT answers as the raters "
        "more often than as the label.",
        "answers on the known label errors on whose digit at least three of five raters agree",
        f"{known.as_raters} of {known.agreed} as the raters, {known.as_label} as the label",
        None if tie else known.as_raters > known.as_label,
        "Where raters agree that a test label is wrong, the headline ViT more often repeats "
        "the label.",
    )
