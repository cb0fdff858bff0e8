"""Claims: sentences of the report that the runs decide, whichever way they fall."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Literal

from vitrail.analysis import Estimate, counted, points

Verdict = Literal["supported", "refuted", "undecided"]


@dataclass(frozen=True)
class Claim:
    """One assertion, how it is decided, on what evidence, and how it came out.

    `sentence` is what was asserted before the runs, `finding` what is true after them.
    """

    id: str
    sentence: str
    test: str
    evidence: str
    verdict: Verdict
    finding: str

    @property
    def instead(self) -> bool:
        """Whether the finding of a refuted claim tells what holds instead of the sentence."""
        return self.verdict == "refuted" and self.sentence not in self.finding

    def row(self) -> dict[str, str]:
        """As a row of claims.csv."""
        return asdict(self)


def higher_accuracy(
    claim_id: str,
    sentence: str,
    better: str,
    worse: str,
    difference: Estimate,
    by: float = 0,
) -> Claim:
    """`better` beats `worse` when the paired interval of the difference is above zero.

    Or above `by` percentage points, which is refuted when the interval lies below them.
    """
    test = f"95 % interval of the paired difference of test accuracy, {better} minus {worse}"
    if by:
        test += f", above {by:g} points"
    finding = compared(better, worse, difference)
    if difference.n == 0:
        missing = "an arm of the comparison did not run"
        return Claim(claim_id, sentence, test, missing, "undecided", finding)
    evidence = f"{points(difference)} points over {counted(difference.n, 'seed')}"
    if math.isnan(difference.half_width):
        evidence += "; one seed has no interval"
    return Claim(claim_id, sentence, test, evidence, _verdict(difference, by / 100), finding)


def _verdict(difference: Estimate, bar: float = 0) -> Verdict:
    """Decided when the interval excludes the bar; one seed has no interval."""
    if difference.low > bar:
        return "supported"
    return "refuted" if difference.high < bar else "undecided"


def compared(first: str, second: str, difference: Estimate) -> str:
    """What the runs say of two arms, for prose: the winner is named only when there is one."""
    if difference.n == 0:
        return f"Here {first} and {second} could not be compared: one of them did not run."
    if math.isnan(difference.half_width):
        ahead, behind = (first, second) if difference.mean >= 0 else (second, first)
        return f"With one seed, {ahead} is ahead of {behind}, which one seed cannot decide."
    verdict = _verdict(difference)
    if verdict == "undecided":
        return f"Here {first} and {second} cannot be told apart ({points(difference)} points)."
    ahead, behind = (first, second) if verdict == "supported" else (second, first)
    size = Estimate(abs(difference.mean), difference.half_width, difference.n)
    return f"Here {ahead} is better than {behind} by {points(size).removeprefix('+')} points."


def all_above_zero(gaps: Iterable[Estimate]) -> bool | None:
    """True when every interval lies above zero, False when one lies below, else None.

    A gap that was not measured, or has one seed, has no interval. For True all have to hold,
    so their number calls for no correction (an intersection-union test, Berger 1982).
    """
    known = list(gaps)
    if any(gap.high < 0 for gap in known):
        return False
    return True if all(gap.low > 0 for gap in known) else None


def holds(
    claim_id: str,
    sentence: str,
    test: str,
    evidence: str,
    outcome: bool | None,
    otherwise: str = "",
) -> Claim:
    """A claim that a computation decides; None when it could not be made.

    `otherwise` is the sentence that is true when the claim is not; by default the claim
    is said to be refuted.
    """
    verdict: Verdict = "undecided" if outcome is None else "supported" if outcome else "refuted"
    finding = {
        "supported": sentence,
        "refuted": otherwise or f"The runs speak against this: {sentence}",
        "undecided": f"The runs do not decide this: {sentence}",
    }[verdict]
    return Claim(claim_id, sentence, test, evidence, verdict, finding)
