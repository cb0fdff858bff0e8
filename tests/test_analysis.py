"""Intervals, paired differences, McNemar's test, how they are printed, and verdicts."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from vitrail.analysis import (
    Estimate,
    count,
    counted,
    difference_words,
    estimate,
    mcnemar,
    p_words,
    paired_difference,
    percent,
    points,
)
from vitrail.claims import Claim, all_above_zero, higher_accuracy, holds

MINUS = "\N{MINUS SIGN}"
accuracies = st.lists(st.floats(0, 1), min_size=2, max_size=8)


def test_interval_by_hand() -> None:
    """Three seeds: Student's t with two degrees of freedom is 4.302653 at 97.5 %."""
    value = estimate([0.96, 0.97, 0.98])
    assert value.n == 3
    assert value.mean == pytest.approx(0.97)
    assert value.half_width == pytest.approx(4.302653 * 0.01 / math.sqrt(3), rel=1e-6)
    assert value.low == pytest.approx(0.97 - 0.0248414, abs=1e-6)
    assert value.high == pytest.approx(0.97 + 0.0248414, abs=1e-6)


def test_interval_of_two_seeds_is_wide() -> None:
    assert estimate([0.1, 0.2]).half_width == pytest.approx(12.706205 * 0.05, rel=1e-6)


@given(accuracies)
def test_interval_is_that_of_scipy(values: list[float]) -> None:
    ours = estimate(values)
    low, high = stats.ttest_1samp(values, 0).confidence_interval(0.95)
    if len(set(values)) > 1:
        assert ours.low == pytest.approx(low, abs=1e-9)
        assert ours.high == pytest.approx(high, abs=1e-9)
    else:
        assert ours.half_width == pytest.approx(0, abs=1e-12)


def test_one_value_has_no_interval_and_none_no_mean() -> None:
    one = estimate([0.9])
    assert (one.mean, one.n) == (0.9, 1)
    assert math.isnan(one.half_width)
    nothing = estimate([])
    assert nothing.n == 0
    assert math.isnan(nothing.mean)


def test_the_interval_holds_the_truth_about_95_times_of_100() -> None:
    rng = np.random.default_rng(0)
    found = [estimate(row) for row in rng.normal(0.5, 0.1, (4000, 3)).tolist()]
    inside = np.mean([value.low <= 0.5 <= value.high for value in found])
    assert inside == pytest.approx(0.95, abs=0.012)


def test_difference_is_paired_by_seed() -> None:
    """Seeds differ by far more than the arms do: only the pairing sees the difference."""
    first = {0: 0.90, 1: 0.80, 2: 0.95}
    second = {2: 0.94, 1: 0.79, 0: 0.89}
    value = paired_difference(first, second)
    assert value.mean == pytest.approx(0.01)
    assert value.half_width == pytest.approx(0, abs=1e-9)
    assert points(value) == "+1.00 ± 0.00"
    assert paired_difference(second, first).mean == pytest.approx(-0.01)


def test_difference_is_over_the_seeds_that_both_have() -> None:
    value = paired_difference({0: 0.9, 1: 0.8, 5: 0.1}, {1: 0.6, 0: 0.8, 7: 0.9})
    assert value.n == 2
    assert value.mean == pytest.approx(0.15)
    assert paired_difference({0: 0.9}, {1: 0.9}).n == 0
    assert paired_difference({}, {0: 0.5}).n == 0


def test_mcnemar_by_hand() -> None:
    """9 images to 1: two-sided, twice (1 + 10) / 1024."""
    first = np.array([True] * 9 + [False] + [True] * 50 + [False] * 5)
    second = np.array([False] * 9 + [True] + [True] * 50 + [False] * 5)
    result = mcnemar(first, second)
    assert (result.only_first, result.only_second) == (9, 1)
    assert result.p_value == pytest.approx(2 * 11 / 1024)
    swapped = mcnemar(second, first)
    assert (swapped.only_first, swapped.only_second) == (1, 9)
    assert swapped.p_value == pytest.approx(result.p_value)


@given(st.integers(0, 60), st.integers(0, 60))
def test_mcnemar_is_the_sign_test(only_first: int, only_second: int) -> None:
    first = np.array([True] * only_first + [False] * only_second + [True, False])
    second = np.array([False] * only_first + [True] * only_second + [True, False])
    result = mcnemar(first, second)
    assert (result.only_first, result.only_second) == (only_first, only_second)
    discordant = only_first + only_second
    tail = stats.binom.cdf(min(only_first, only_second), discordant, 0.5)
    assert result.p_value == pytest.approx(min(1, 2 * tail))


def test_mcnemar_of_equal_classifiers() -> None:
    right = np.array([True, False, True])
    assert mcnemar(right, right).p_value == 1


@pytest.mark.parametrize(
    ("value", "accuracy", "difference"),
    [
        (Estimate(0.97314, 0.00241, 3), "97.31 % ± 0.24", "+97.31 ± 0.24"),
        (Estimate(0.5, math.nan, 1), "50.00 %", "+50.00"),
        (Estimate(1.0, 0.0, 3), "100.00 % ± 0.00", "+100.00 ± 0.00"),
        (Estimate(math.nan, math.nan, 0), "not run", "not run"),
        (Estimate(math.nan, math.nan, 3), "not run", "not run"),
    ],
)
def test_print(value: Estimate, accuracy: str, difference: str) -> None:
    assert percent(value) == accuracy
    assert points(value) == difference


def test_print_of_differences_has_a_sign_and_a_true_minus() -> None:
    assert points(Estimate(-0.0042, 0.002, 3)) == f"{MINUS}0.42 ± 0.20"
    assert points(Estimate(0.0042, 0.002, 3)) == "+0.42 ± 0.20"
    assert points(Estimate(-0.5, math.nan, 1), digits=1) == f"{MINUS}50.0"
    assert "-" not in points(Estimate(-0.0042, 0.002, 3))
    assert percent(Estimate(0.12345, math.nan, 1), digits=1) == "12.3 %"
    assert count(1234567) == "1,234,567"


# --- Verdicts


def decide(first: dict[int, float], second: dict[int, float]) -> Claim:
    return higher_accuracy("q0-a", "A beats B.", "A", "B", paired_difference(first, second))


def seeds(*values: float) -> dict[int, float]:
    return dict(enumerate(values))


@pytest.mark.parametrize(
    ("first", "second", "verdict", "evidence"),
    [
        (seeds(0.95, 0.96, 0.97), seeds(0.90, 0.91, 0.925), "supported", "+4.83 ± 0.72"),
        (seeds(0.90, 0.91, 0.925), seeds(0.95, 0.96, 0.97), "refuted", f"{MINUS}4.83 ± 0.72"),
        (seeds(0.90, 0.99, 0.80), seeds(0.89, 0.91, 0.95), "undecided", "over 3 seeds"),
        (seeds(0.90, 0.91), seeds(0.90, 0.91), "undecided", "+0.00 ± 0.00"),
        (seeds(0.99), seeds(0.10), "undecided", "one seed has no interval"),
        (seeds(0.99, 0.98), {}, "undecided", "did not run"),
        ({}, {}, "undecided", "did not run"),
        ({0: 0.9, 1: 0.8}, {2: 0.1, 3: 0.2}, "undecided", "did not run"),
    ],
)
def test_verdict(
    first: dict[int, float], second: dict[int, float], verdict: str, evidence: str
) -> None:
    claim = decide(first, second)
    assert claim.verdict == verdict
    assert evidence in claim.evidence
    assert "paired difference of test accuracy, A minus B" in claim.test


@given(accuracies, accuracies)
def test_verdict_turns_with_the_claim(first: list[float], second: list[float]) -> None:
    """What supports a claim refutes its opposite, whatever the numbers are."""
    opposite = {"supported": "refuted", "refuted": "supported", "undecided": "undecided"}
    there, back = decide(seeds(*first), seeds(*second)), decide(seeds(*second), seeds(*first))
    assert back.verdict == opposite[there.verdict]


@pytest.mark.parametrize(
    ("outcome", "verdict"), [(True, "supported"), (False, "refuted"), (None, "undecided")]
)
def test_verdict_of_a_computation(outcome: bool | None, verdict: str) -> None:
    claim = holds("q0-b", "It holds.", "as computed", "0.1", outcome)
    assert claim.verdict == verdict
    assert claim.row() == {
        "id": "q0-b",
        "sentence": "It holds.",
        "test": "as computed",
        "evidence": "0.1",
        "verdict": verdict,
        "finding": claim.finding,
    }
    # What is printed as found is true whichever way it came out.
    assert (claim.finding == "It holds.") == (verdict == "supported")


def test_finding_of_a_computation_turns_with_it() -> None:
    there = holds("q0-b", "A is at most B.", "as computed", "0.1", True, otherwise="A exceeds B.")
    back = holds("q0-b", "A is at most B.", "as computed", "0.1", False, otherwise="A exceeds B.")
    assert (there.finding, back.finding) == ("A is at most B.", "A exceeds B.")
    assert "decide" in holds("q0-b", "A is at most B.", "as computed", "", None).finding


@pytest.mark.parametrize(
    ("first", "second", "finding"),
    [
        (seeds(0.95, 0.96, 0.97), seeds(0.90, 0.91, 0.925), "A is better than B by 4.83 ± 0.72"),
        (seeds(0.90, 0.91, 0.925), seeds(0.95, 0.96, 0.97), "B is better than A by 4.83 ± 0.72"),
        (seeds(0.90, 0.99, 0.80), seeds(0.89, 0.91, 0.95), "A and B cannot be told apart"),
        (seeds(0.99), seeds(0.10), "A is ahead of B"),
        (seeds(0.10), seeds(0.99), "B is ahead of A"),
        (seeds(0.99, 0.98), {}, "could not be compared"),
    ],
)
def test_finding_names_the_winner(
    first: dict[int, float], second: dict[int, float], finding: str
) -> None:
    assert finding in decide(first, second).finding


@given(accuracies, accuracies)
def test_finding_does_not_depend_on_the_order(first: list[float], second: list[float]) -> None:
    """Whoever was expected to win, the sentence about a decided pair is the same."""
    there, back = decide(seeds(*first), seeds(*second)), decide(seeds(*second), seeds(*first))
    reversed_ = higher_accuracy(
        "q0-a", "B beats A.", "B", "A", paired_difference(seeds(*second), seeds(*first))
    )
    if there.verdict != "undecided":
        assert there.finding == reversed_.finding != back.finding


@pytest.mark.parametrize(
    ("value", "words"), [(0.0123, "0.012"), (1.0, "1"), (3e-9, "3e-09"), (0.0, "< 1e-16")]
)
def test_a_p_value_is_never_printed_as_zero(value: float, words: str) -> None:
    assert p_words(value) == words


def test_all_intervals_have_to_lie_above_zero() -> None:
    high, low, unclear = Estimate(0.2, 0.1, 3), Estimate(-0.2, 0.1, 3), Estimate(0.05, 0.1, 3)
    one_seed, absent = Estimate(0.2, math.nan, 1), Estimate(math.nan, math.nan, 0)
    assert all_above_zero([]) is True
    assert all_above_zero([high, high]) is True
    for open_ in (unclear, one_seed, absent):
        assert all_above_zero([high, open_]) is None
        assert all_above_zero(iter([open_, high, low])) is False, "one below zero is enough"


def test_an_exact_zero_is_said_in_words() -> None:
    assert difference_words(0.0) == "0 (equal to the last bit)"
    assert difference_words(4.2e-6) == "4.2e-06"


def test_counts_agree_with_their_nouns() -> None:
    assert [counted(number, "seed") for number in (0, 1, 2, 1.0)] == [
        "0 seeds", "1 seed", "2 seeds", "1 seed",
    ]  # fmt: skip
    assert counted(0.25, "epoch") == "0.25 epochs" and counted(1_234_567, "step")[:9] == "1,234,567"
