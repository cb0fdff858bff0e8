"""Q5: what its claim says when tokens grow the other way, and its figure for any arms."""

from __future__ import annotations

import pandas as pd
import pytest

from vitrail import style
from vitrail.questions.q5_block import draw_norms, growth, growth_claims


def lengths(pre: float, post: float, depths: tuple[int, ...] = (2, 4)) -> pd.DataFrame:
    """Tokens of length one that grow by these factors from the embedding to the last block."""
    return pd.DataFrame(
        [
            {
                "arm": f"{norm}-{depth}-{warmup}",
                "depth": depth,
                "norm": norm,
                "warmup": warmup,
                "after_block": block,
                "length": 1 + (factor - 1) * block / depth,
            }
            for depth in depths
            for norm, factor in (("pre", pre), ("post", post))
            for warmup in (0.1, 0)
            for block in range(depth + 1)
        ]
    )


@pytest.mark.parametrize(
    ("pre", "post", "verdict", "said"),
    [
        (3.0, 1.5, "supported", "grow more from the embedding"),
        (1.5, 3.0, "refuted", "do not grow more under pre-norm"),
        (2.0, 2.0, "refuted", "do not grow more under pre-norm"),
    ],
)
def test_claim_turns_with_the_lengths(pre: float, post: float, verdict: str, said: str) -> None:
    (claim,) = growth_claims(lengths(pre, post))
    assert claim.verdict == verdict
    assert said in claim.finding
    assert f"pre-norm {pre:.1f}" in claim.evidence


def test_growth_is_last_over_first() -> None:
    found = growth(lengths(3.0, 1.5))
    assert len(found) == 8
    for (norm, _), factor in found.items():
        assert factor == pytest.approx(3.0 if norm == "pre" else 1.5)


def test_one_kind_of_block_compares_nothing() -> None:
    norms = lengths(3.0, 1.5)
    assert growth_claims(norms[norms["norm"] == "pre"]) == []


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
        assert axes.get_title(loc="left") == f"{depth} blocks"
        assert len(axes.lines) == 4
        assert {len(line.get_xdata()) for line in axes.lines} == {depth + 1}
        looks = {(line.get_color(), line.get_linestyle()) for line in axes.lines}
        assert len(looks) == 4, "norm by colour, warm-up by line style"
