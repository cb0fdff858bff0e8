"""Q5: what its claim says when tokens grow the other way, and its figures for any arms."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from made_study import experiment, small, write_runs
from vitrail import data, style
from vitrail.data import Mnist
from vitrail.questions.block.arms import LOOKS, Pair, finished, pairs
from vitrail.questions.block.curves import draw_curves, training_curves
from vitrail.questions.block.lengths import draw_norms, growth, growth_claims, token_norms
from vitrail.questions.study import Study

SEEDS = (0, 1, 2)
PAIRS = [
    Pair(f"{depth} blocks{words}", f"pre-{depth}-{warmup}", f"post-{depth}-{warmup}")
    for depth in (2, 4)
    for warmup, words in ((0.1, ""), (0, ", no warm-up"))
]
FACTORS = {0: 0.9, 1: 1.0, 2: 1.1}  # by seed, of both arms of a pair


def lengths(
    pre: float,
    post: float,
    depths: tuple[int, ...] = (2, 4),
    seeds: tuple[int, ...] = SEEDS,
    **own: dict[int, float],
) -> pd.DataFrame:
    """Tokens of length one that grow by these factors from the embedding to the last block.

    `own` has factors by seed for arms whose name has `_` where it has `-`.
    """
    rows = []
    for depth in depths:
        for norm, usual in (("pre", pre), ("post", post)):
            for warmup in (0.1, 0):
                arm = f"{norm}-{depth}-{warmup}"
                look = {"arm": arm, "depth": depth, "norm": norm, "warmup": warmup}
                for seed in seeds:
                    factor = own.get(arm.replace("-", "_"), {}).get(seed, usual * FACTORS[seed])
                    rows += [
                        {**look, "seed": seed, "after_block": b, "length": factor ** (b / depth)}
                        for b in range(depth + 1)
                    ]
    return pd.DataFrame(rows)


# --- The claim


@pytest.mark.parametrize(
    ("pre", "post", "verdict", "said"),
    [
        (3.0, 1.5, "supported", "Tokens grow more from the embedding"),
        (1.5, 3.0, "refuted", "Tokens grow less from the embedding"),
    ],
)
def test_claim_turns_with_the_lengths(pre: float, post: float, verdict: str, said: str) -> None:
    """The factors of a seed differ by a tenth, their ratio within a seed does not."""
    (claim,) = growth_claims(lengths(pre, post), PAIRS)
    assert claim.verdict == verdict
    assert claim.finding.startswith(said)
    ratio = f"{pre / post:.2f}"
    assert f"2 blocks: {ratio} times ({ratio} to {ratio} over 3 seeds)" in claim.evidence
    assert all(f"{pair.label}: " in claim.evidence for pair in PAIRS)


def test_one_pair_that_turns_refutes_and_is_named() -> None:
    own = {"pre_4_0": {0: 1.0, 1: 1.1, 2: 1.2}}
    (claim,) = growth_claims(lengths(3.0, 1.5, **own), PAIRS)
    assert claim.verdict == "refuted"
    assert claim.finding.endswith("under pre-norm than under post-norm: 4 blocks, no warm-up.")


def test_one_pair_whose_seeds_disagree_leaves_it_open() -> None:
    """The first seed alone says that pre-norm grows more."""
    own = {"pre_2_0.1": {0: 3.0, 1: 0.8, 2: 1.9}}
    norms = lengths(3.0, 1.5, **own)
    (claim,) = growth_claims(norms, PAIRS)
    assert claim.verdict == "undecided"
    assert claim.finding.startswith("The runs do not decide this")
    (claim,) = growth_claims(norms, PAIRS[1:])
    assert claim.verdict == "supported"


def test_one_seed_decides_nothing() -> None:
    (claim,) = growth_claims(lengths(3.0, 1.5, seeds=(0,)), PAIRS)
    assert claim.verdict == "undecided"
    assert "2.00 times (one seed has no interval)" in claim.evidence


def test_a_pair_that_did_not_run_leaves_it_open() -> None:
    norms = lengths(3.0, 1.5)
    (claim,) = growth_claims(norms[norms["arm"] != "post-4-0.1"], PAIRS)
    assert claim.verdict == "undecided"
    assert "4 blocks: no run to compare" in claim.evidence
    worse = lengths(1.5, 3.0)
    (claim,) = growth_claims(worse[worse["arm"] != "post-4-0.1"], PAIRS)
    assert claim.verdict == "refuted"  # the other pairs are enough


def test_growth_is_last_over_first() -> None:
    norms = lengths(3.0, 1.5)
    for pair in PAIRS:
        for arm, factor in ((pair.pre, 3.0), (pair.post, 1.5)):
            expected = {seed: factor * FACTORS[seed] for seed in SEEDS}
            assert growth(norms, arm) == pytest.approx(expected)
    diverged = (norms["seed"] == 1) & (norms["after_block"] > 0)
    norms.loc[diverged, "length"] = np.nan
    assert sorted(growth(norms, PAIRS[0].pre)) == [0, 2]


def test_one_kind_of_block_compares_nothing() -> None:
    assert growth_claims(lengths(3.0, 1.5), []) == []


# --- The figures


@pytest.mark.parametrize("depths", [(4,), (4, 8), (1, 2, 3)])
def test_every_arm_is_drawn_in_the_panel_of_its_depth(depths: tuple[int, ...]) -> None:
    style.use()
    norms = lengths(3.0, 1.5, depths)
    norms.loc[norms["depth"] == depths[-1], "length"] *= 2  # the deepest grow further
    drawing = draw_norms(norms)
    assert len(drawing.axes) == len(depths)
    low, high = drawing.axes[0].get_ylim()
    assert low == 0 and high > 6, "every panel's tokens fit, not those of the first alone"
    for axes, depth in zip(drawing.axes, depths, strict=True):
        assert axes.get_title(loc="left") == ("1 block" if depth == 1 else f"{depth} blocks")
        assert len(axes.lines) == len(axes.collections) == 4
        assert {len(line.get_xdata()) for line in axes.lines} == {depth + 1}
        looks = {(line.get_color(), line.get_linestyle()) for line in axes.lines}
        assert len(looks) == 4, "norm by colour, warm-up by line style"


def test_line_is_the_mean_over_seeds_and_band_their_range() -> None:
    style.use()
    axes = draw_norms(lengths(3.0, 1.5, (2,))).axes[0]
    assert axes.lines[0].get_ydata()[-1] == pytest.approx(3.0)
    ends = axes.collections[0].get_paths()[0].vertices[:, 1]
    assert (ends.min(), ends.max()) == pytest.approx((1.0, 3.3))


@pytest.fixture
def made(
    config: dict[str, Any], mnist: Mnist, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., Study]:
    """A function from experiments, and accuracies by arm id and seed, to a study with runs."""
    monkeypatch.setattr(data, "load_mnist", lambda folder, verify: mnist)
    style.use()

    def build(accuracy: Callable[[Study, str, int], float | None], **experiments: Any) -> Study:
        study = Study(small(config, "q5_block", **experiments), tmp_path)
        write_runs(study, lambda arm, seed: accuracy(study, arm, seed))
        return study

    return build


def norms_at(depth: int, *names: str) -> dict[str, Any]:
    """An experiment with these arms: pre, post, pre_cold, post_cold."""
    arms = {
        name: {"settings": {"norm": name.split("_")[0], "warmup": 0 if "cold" in name else 0.1}}
        for name in names
    }
    return experiment(arms=arms, settings={"depth": depth})


def test_lengths_and_curves_have_every_finished_seed(made: Any) -> None:
    def accuracy(study: Study, arm: str, seed: int) -> float | None:
        settings = study.plan.arms[arm].settings
        failed = settings["norm"] == "post" and (settings["depth"] == 2 or seed == 1)
        return None if failed else 0.9 + 0.01 * seed

    study = made(accuracy, flat=norms_at(1, "pre", "post"), deep=norms_at(2, "pre", "post"))
    norms, curves = token_norms(study), training_curves(study)
    for table in (norms, curves):
        seeds = table.groupby(["depth", "norm"])["seed"].unique().map(list).to_dict()
        assert seeds == {(1, "pre"): [0, 1, 2], (1, "post"): [0, 2], (2, "pre"): [0, 1, 2]}
    assert norms.groupby(["arm", "seed"])["after_block"].max().tolist() == [
        study.plan.arms[arm].settings["depth"]
        for arm, seeds in sorted(finished(study).items())
        for _ in seeds
    ]
    assert norms.groupby(["arm", "after_block"])["length"].nunique().min() > 1  # seeds differ
    labels = [pair.label for pair in pairs(study)]
    assert labels == ["1 block", "2 blocks"]  # also the pair of which one did not run
    (claim,) = growth_claims(norms, pairs(study))
    assert "2 blocks: no run to compare" in claim.evidence


def test_curves_have_a_row_of_panels_per_depth(made: Any) -> None:
    """An arm that only the second depth has is in the legend too."""
    study = made(
        lambda _, arm, seed: 0.9 + 0.01 * seed,
        flat=norms_at(1, "pre"),
        deep=norms_at(2, "pre", "post", "post_cold"),
    )
    drawing = draw_curves(training_curves(study))
    (loss, accuracy), (deep_loss, deep_accuracy) = np.reshape(drawing.axes, (2, 2))
    assert loss.get_title(loc="left") == "1 block"
    assert deep_loss.get_title(loc="left") == "2 blocks"
    assert [len(axes.lines) for axes in (loss, accuracy)] == [1, 1]
    assert [len(axes.lines) for axes in (deep_loss, deep_accuracy)] == [3, 3]
    assert list(loss.lines[0].get_ydata()) == pytest.approx([2.0, 1.1])
    assert list(accuracy.lines[0].get_ydata()) == pytest.approx([45.5, 91.0])
    assert list(accuracy.lines[0].get_xdata()) == [1, 2]
    band = accuracy.collections[0].get_paths()[0].vertices[:, 1]
    assert band.max() == pytest.approx(92.0)
    names = [text.get_text() for text in loss.get_legend().get_texts()]
    assert names == ["pre-norm", "post-norm", "post-norm, no warm-up"]
    looks = [(line.get_color(), line.get_linestyle()) for line in deep_loss.lines]
    pre, post = LOOKS["pre"].colour, LOOKS["post"].colour
    assert looks == [(pre, "-"), (post, "-"), (post, "--")]


def test_without_an_arm_the_base_vit_is_drawn(made: Any) -> None:
    study = made(lambda *_: 0.9)
    assert list(finished(study)) == [study.plan.base] and pairs(study) == []
    assert len(draw_curves(training_curves(study)).axes) == 2
    assert len(draw_norms(token_norms(study)).axes) == 1
