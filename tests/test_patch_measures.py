"""What shuffled patches, positions and patch filters are measured by."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vitrail.questions import (
    patch_filters,
)
from vitrail.questions.positions import embedding as positions
from vitrail.questions.positions import shuffle as patch_shuffle

# --- The patch-shuffle test


@given(seed=st.integers(0, 99), patch=st.sampled_from([1, 2, 4, 7, 14, 28]))
def test_shuffling_moves_whole_patches(seed: int, patch: int) -> None:
    images = np.random.default_rng(seed).integers(0, 256, (3, 28, 28), dtype=np.uint8)
    side = 28 // patch
    order = patch_shuffle.permutations(3, side * side)
    moved = patch_shuffle.shuffled(images, patch, order)

    def patch_at(image: np.ndarray, place: int) -> np.ndarray:
        y, x = divmod(place, side)
        return image[y * patch : (y + 1) * patch, x * patch : (x + 1) * patch]

    for n in range(3):
        assert sorted(order[n]) == list(range(side * side))
        for place in range(min(side * side, 20)):
            assert np.array_equal(patch_at(moved[n], place), patch_at(images[n], order[n, place]))
    back = patch_shuffle.shuffled(moved, patch, order.argsort(axis=1))
    assert np.array_equal(back, images)


def shuffle_results(**values: tuple[float, float]) -> pd.DataFrame:
    """Accuracies intact and shuffled by kind of positions, three seeds."""
    return pd.DataFrame(
        [
            {
                "arm": kind, "label": f"pos_embed {kind}", "positions": kind, "seed": seed,
                "images": 100, "patch_size": 14, "intact": before + 1e-3 * seed,
                "shuffled": after + 2e-3 * seed, "change": 1e-7 if kind == "none" else 0.5,
            }
            for kind, (before, after) in values.items()
            for seed in range(3)
        ]
    )  # fmt: skip


def test_shuffle_claims_turn() -> None:
    usual = shuffle_results(learned=(0.9, 0.3), none=(0.8, 0.8))
    found = {claim.id.removeprefix("q6-shuffle-"): claim for claim in patch_shuffle.decide(usual)}
    assert set(found) == {"hurts-learned", "none-unchanged", "none-beats-learned"}
    assert {claim.verdict for claim in found.values()} == {"supported"}
    assert "learned on intact digits is better" in found["hurts-learned"].finding
    assert "pos_embed none on shuffled digits is better" in found["none-beats-learned"].finding

    odd = shuffle_results(learned=(0.3, 0.9), none=(0.8, 0.8)).assign(change=0.1)
    turned = {claim.id.removeprefix("q6-shuffle-"): claim for claim in patch_shuffle.decide(odd)}
    assert {claim.verdict for claim in turned.values()} == {"refuted"}
    assert "learned on shuffled digits is better" in turned["hurts-learned"].finding
    assert "changes the logits" in turned["none-unchanged"].finding
    assert "pos_embed learned on shuffled digits is better" in turned["none-beats-learned"].finding


# --- Positions


def test_neighbour_contrast_tells_a_grid_from_a_line() -> None:
    from vitrail.model import sinusoidal_1d, sinusoidal_2d

    def contrast(table: Any) -> float:
        return positions.neighbour_contrast(positions.similarity(np.asarray(table)))

    two, one = contrast(sinusoidal_2d((7, 7), 64)), contrast(sinusoidal_1d(49, 64))
    noise = np.random.default_rng(0).normal(size=(49, 64))
    assert two > one > 0
    assert abs(contrast(noise)) < 0.05
    signs = (-1.0) ** np.add.outer(np.arange(7), np.arange(7)).reshape(-1, 1)
    assert contrast(signs * np.ones(64) + 0.1 * noise) < -0.5  # a chessboard
    assert np.isnan(positions.neighbour_contrast(np.ones((1, 1))))
    assert np.isnan(positions.neighbour_contrast(np.ones((4, 4)) * np.nan))


def test_what_all_places_share_does_not_count() -> None:
    table = np.random.default_rng(0).normal(size=(16, 8))
    assert np.allclose(positions.similarity(table), positions.similarity(table + 5))


def test_a_map_lies_where_its_patch_lies() -> None:
    similar = np.arange(81.0).reshape(9, 9)
    shown = positions.mosaic(similar)
    assert shown.shape == (11, 11)
    assert np.array_equal(shown[4:7, 8:11], similar[5].reshape(3, 3))  # row 1, column 2
    assert shown.mask[3].all() and shown.mask[:, 7].all()


# --- The patch filters


def test_overlap_of_subspaces() -> None:
    rng = np.random.default_rng(0)
    frame = np.linalg.qr(rng.normal(size=(49, 49)))[0]
    assert patch_filters.overlap(frame[:8], frame[:8][::-1]) == pytest.approx(1)
    assert patch_filters.overlap(frame[:8], frame[8:16]) == pytest.approx(0)
    others = [np.linalg.qr(rng.normal(size=(49, 8)))[0].T for _ in range(200)]
    mean = np.mean([patch_filters.overlap(frame[:8], other) for other in others])
    assert mean == pytest.approx(8 / 49, abs=0.01)


def test_principal_components_are_numpys() -> None:
    """Against the singular values of the centred patches, cut one by one."""
    images = np.random.default_rng(0).integers(0, 256, (50, 28, 28))
    images[:, ::14] += 500  # a direction that stands out
    cut = [i[y : y + 14, x : x + 14].ravel() for i in images for y in (0, 14) for x in (0, 14)]
    rows = np.array(cut, dtype=float)
    _, strength, expected = np.linalg.svd(rows - rows.mean(axis=0), full_matrices=False)
    found, shares = patch_filters.principal_components(images, 14)
    assert abs(found[0] @ expected[0]) == pytest.approx(1, abs=1e-6)
    assert shares[:5] == pytest.approx((strength**2 / np.sum(strength**2))[:5])
