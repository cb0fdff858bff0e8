"""Claims: sentences of the report that the runs decide, whichever way they fall."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Literal

from vitrail.analysis import Estimate, counted, points

Verdict = Literal["supported", "refuted", "undecided"]


@dataclass(frozen=True)
class Claim:
    """One assertion, how it is decided, on what evidence, and how it came out."""

    id: str
    sentence: str
    test: str
    evidence: str
    verdict: Verdict

    def row(self) -> dict[str, str]:
        """As a row of claims.csv."""
        return asdict(self)


def higher_accuracy(
    claim_id: str, sentence: str, better: str, worse: str, difference: Estimate
) -> Claim:
    """`better` beats `worse` when the paired interval of the difference is above zero."""
    test = f"95 % interval of the paired difference of test accuracy, {better} minus {worse}"
    if difference.n == 0:
        return Claim(claim_id, sentence, test, "an arm of the comparison did not run", "undecided")
    evidence = f"{points(difference)} points over {counted(difference.n, 'seed')}"
    if math.isnan(difference.half_width):
        return Claim(claim_id, sentence, test, f"{evidence}; one seed has no interval", "undecided")
    verdict: Verdict = "undecided"
    if difference.low > 0:
        verdict = "supported"
    elif difference.high < 0:
        verdict = "refuted"
    return Claim(claim_id, sentence, test, evidence, verdict)


def holds(claim_id: str, sentence: str, test: str, evidence: str, outcome: bool | None) -> Claim:
    """A claim that a computation decides; None when it could not be made."""
    verdict: Verdict = "undecided" if outcome is None else "supported" if outcome else "refuted"
    return Claim(claim_id, sentence, test, evidence, verdict)
