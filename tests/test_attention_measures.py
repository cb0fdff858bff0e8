"""What Q3 and Q4 measure of attention is what they say it is."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from model_tools import POOLINGS, random_images, small
from vitrail.questions.attention import measures
from vitrail.questions.attention.claims import of_random_logits
from vitrail.questions.attention.scale import scale_table, share_of_few

seeds = st.integers(0, 2**32 - 1)


def attention(seed: int, tokens: int = 5, heads: int = 3, images: int = 4) -> np.ndarray:
    """Random attention, (images, heads, tokens, tokens), rows summing to one."""
    rows = np.random.default_rng(seed).gamma(0.5, size=(images, heads, tokens, tokens)) + 1e-9
    return rows / rows.sum(axis=-1, keepdims=True)


def test_entropy_is_one_for_uniform_and_zero_for_certain_rows() -> None:
    both = np.stack([np.full((6, 6), 1 / 6), np.eye(6)])[None]
    np.testing.assert_allclose(measures.entropy_share(both), [1, 0], atol=1e-9)
    assert measures.entropy_share(np.ones((1, 2, 1, 1))).tolist() == [1, 1]


@given(seed=seeds, first=st.floats(0, 10), factor=st.floats(1, 10))
def test_larger_logits_never_raise_the_entropy(seed: int, first: float, factor: float) -> None:
    """What @eq-entropy of the report proves."""
    logits = np.random.default_rng(seed).normal(size=(1, 1, 4, 7))

    def entropy(scale: float) -> float:
        powers = np.exp(scale * (logits - logits.max(axis=-1, keepdims=True)))
        return measures.entropy_share(powers / powers.sum(axis=-1, keepdims=True))[0]

    assert entropy(first * factor) <= entropy(first) + 1e-9


def test_entropy_changes_with_the_scale_as_its_derivative_says() -> None:
    logits, step = np.random.default_rng(0).normal(size=(1, 1, 1, 7)), 1e-5

    def softmax(scale: float) -> np.ndarray:
        powers = np.exp(scale * logits)
        return powers / powers.sum()

    up, down = (measures.entropy_share(softmax(0.8 + s))[0] for s in (step, -step))
    p = softmax(0.8)
    variance = (p * logits**2).sum() - (p * logits).sum() ** 2
    assert (up - down) / (2 * step) * np.log(7) == pytest.approx(-0.8 * variance, rel=1e-5)


def test_distance_knows_near_far_and_uniform() -> None:
    far = np.zeros((4, 4))
    far[[0, 1, 2, 3], [3, 2, 1, 0]] = 1  # each patch of 2 x 2 reads the opposite corner
    maps = np.stack([np.eye(4), far, np.full((4, 4), 0.25)])[None]
    expected = [0, 2**0.5, (2 + 2**0.5) / 4]
    np.testing.assert_allclose(measures.distance(maps, 0), expected)
    assert measures.uniform_distance(4) == pytest.approx(expected[2])


@given(seed=seeds)
def test_distance_does_not_see_the_class_token(seed: int) -> None:
    patches = attention(seed, tokens=9)
    whole = np.full((*patches.shape[:2], 10, 10), 0.3)
    whole[..., 1:, 1:] = 0.7 * patches
    np.testing.assert_allclose(measures.distance(whole, 1), measures.distance(patches, 0))


def test_window_is_the_eight_neighbours() -> None:
    # 3 x 3: the middle sees four at 1 and four at sqrt 2; an edge and a corner see less.
    diagonal = 2**0.5
    middle, edge, corner = (4 + 4 * diagonal) / 9, (3 + 2 * diagonal) / 6, (2 + diagonal) / 4
    assert measures.window_distance(9) == pytest.approx((middle + 4 * edge + 4 * corner) / 9)
    assert measures.window_distance(4) == measures.uniform_distance(4)


def test_total_variation_is_zero_for_equal_and_one_for_disjoint_rows() -> None:
    a, b = np.eye(4), np.roll(np.eye(4), 1, axis=1)
    assert measures.tv_images(np.stack([[a, a], [a, b], [a, a]])).tolist() == [0, 1]
    assert measures.tv_heads(np.stack([[a, b], [b, a]])).tolist() == [1, 1]
    assert measures.tv_heads(np.stack([[a, a]])).tolist() == [0, 0]
    assert np.isnan(measures.tv_heads(a[None, None])).all()


@given(seed=seeds, prefix=st.integers(0, 1))
def test_rollout_shares_out_one(seed: int, prefix: int) -> None:
    read = attention(seed, heads=1)[:, 0, 0]
    row = measures.rollout([attention(seed), attention(seed + 1)], read, prefix)
    np.testing.assert_allclose(row.sum(axis=-1), 1)


CLASS_TOKEN = np.array([[1.0, 0, 0]])


def test_rollout_goes_through_the_blocks_in_order() -> None:
    """The class token reads patch 1 last, which has read patch 2 before: patch 2 has a share."""
    first, second = np.eye(3), np.eye(3)
    first[1] = [0, 0, 1]
    second[0] = [0, 1, 0]
    through = measures.rollout([first[None, None], second[None, None]], CLASS_TOKEN, 1)
    np.testing.assert_allclose(through, [[0.5, 0.5]])
    back = measures.rollout([second[None, None], first[None, None]], CLASS_TOKEN, 1)
    np.testing.assert_allclose(back, [[1, 0]])


@pytest.mark.parametrize(
    ("read", "expected"),
    [
        ([1, 0, 0], [0, 1]),  # the class token, which has read patch 2 alone
        ([0, 0.5, 0.5], [0.5, 0.5]),  # the mean of the patches, which have read themselves
        ([0, 0.8, 0.2], [0.8, 0.2]),  # a mean with weights
    ],
)
def test_rollout_ends_with_what_the_head_reads(read: list[float], expected: list[float]) -> None:
    block = np.eye(3)
    block[0] = [0, 0, 1]
    found = measures.rollout([block[None, None]], np.array([read]), 1)
    np.testing.assert_allclose(found, [expected])


@pytest.mark.parametrize("pooling", POOLINGS)
def test_readout_is_what_the_network_pools_with(pooling: str) -> None:
    """The last tokens, weighted by it, are the vector that the head gets."""
    import torch

    network, images = small(**POOLINGS[pooling]), random_images()
    read = measures.readout(network, images)
    with torch.no_grad():
        tokens = network.norm(network.blocks(network.embed(images)))
        expected = network.pool(tokens).numpy()
    np.testing.assert_allclose(np.einsum("bn,bnd->bd", read, tokens), expected, atol=1e-5)
    maps, prefix = measures.maps_of(network, images), network.num_prefix_tokens
    rows = measures.rollout_of(network, images)
    np.testing.assert_allclose(rows, measures.rollout(maps, read, prefix))
    if pooling != "token" and prefix:  # what the class token has gathered is not read
        read = np.eye(tokens.shape[1])[[0] * len(images)]
        assert np.abs(measures.rollout(maps, read, prefix) - rows).max() > 1e-3


def test_ink_is_found_where_it_is() -> None:
    raw = np.zeros((1, 28, 28), dtype=np.uint8)
    raw[0, 7, 27] = 200  # second row, last column of 4 x 4
    assert np.flatnonzero(measures.inked(raw, 7)[0]).tolist() == [7]


@pytest.mark.parametrize(("patch", "gain"), [(7, 1 - 1 / 16), (6, -1 / 16)])
def test_gain_on_ink_by_hand(patch: int, gain: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """All of the rollout on one patch: the only one with ink of the sixteen, or another."""
    raw = np.zeros((50, 28, 28), dtype=np.uint8)
    raw[:, 7, 27] = 200
    block = np.eye(17)
    block[0] = np.eye(17)[1 + patch]
    monkeypatch.setattr(
        measures, "maps_of", lambda _, images: [np.stack([block[None]] * len(images))]
    )
    network, images = small(), random_images(50)
    assert measures.gain_on_ink(network, images, raw, 7) == pytest.approx(gain)


def test_head_measures_are_those_of_the_maps() -> None:
    import torch

    from vitrail.model import VisionTransformer

    torch.manual_seed(0)
    network = VisionTransformer(28, 7, 1, 10, embed_dim=24, depth=2, num_heads=3).eval()
    images = torch.randn(40, 1, 28, 28)
    found = measures.head_measures(network, images, 1).set_index(["block", "head"])
    drawn_or_claimed = {"entropy", "entropy_unscaled", "variance", "distance"}
    assert set(found.columns) == drawn_or_claimed | {"tv_images", "tv_heads"}
    for block, table in enumerate(measures.maps_of(network, images), start=1):
        mine = found.loc[block]
        np.testing.assert_allclose(mine["entropy"], measures.entropy_share(table), rtol=1e-5)
        np.testing.assert_allclose(mine["distance"], measures.distance(table, 1), rtol=1e-5)
        # The scaled logits of a row are the logarithms of its weights, up to a constant.
        variance = np.log(table).var(axis=-1).mean(axis=(0, 2))
        np.testing.assert_allclose(mine["variance"], variance, rtol=1e-4)
        # Without the scale the logits are sqrt(8) times as large: weights to that power.
        powers = table ** (8**0.5)
        unscaled = powers / powers.sum(axis=-1, keepdims=True)
        expected = measures.entropy_share(unscaled)
        np.testing.assert_allclose(mine["entropy_unscaled"], expected, rtol=1e-4)


@pytest.mark.parametrize("scaled", [True, False])
def test_scale_table_measures_the_gradient_that_autograd_gives(scaled: bool) -> None:
    """One query by hand: dL/dq = scale * sum_j p_j (g·v_j - sum_i p_i g·v_i) k_j."""
    import torch

    from vitrail.questions.attention import scale as attention_scale

    drawn = torch.randn(4, 1, 3, 16, generator=torch.Generator().manual_seed(1))
    logits, weights, gradients = attention_scale._through_softmax(drawn, scaled)
    query, key, value, upstream = drawn.double().numpy()
    scale = 0.25 if scaled else 1.0
    by_hand = scale * query[0, 0] @ key[0].T
    np.testing.assert_allclose(logits[0, 0] - logits[0, 0, 0], by_hand - by_hand[0], atol=1e-5)
    p, pulled = weights[0, 0].astype(float), value[0] @ upstream[0, 0]
    np.testing.assert_allclose(p, np.exp(by_hand) / np.exp(by_hand).sum(), rtol=1e-5)
    by_hand = scale * (p * (pulled - p @ pulled)) @ key[0]
    assert gradients[0, 0] == pytest.approx(np.sqrt((by_hand**2).mean()), rel=1e-5)


def test_scale_table_has_the_variances_that_the_scale_promises() -> None:
    found = scale_table()
    assert found["variance_scaled"].between(0.95, 1.05).all()
    assert (found["variance"] / found["d_k"]).between(0.95, 1.05).all()


def test_scale_table_shows_the_scale_of_the_model(monkeypatch: pytest.MonkeyPatch) -> None:
    """A model without it has another table, and the claim about its variance falls."""
    from vitrail.model import attention as model

    monkeypatch.setattr(
        model, "attention_weights", lambda query, key: (query @ key.mT).softmax(dim=-1)
    )
    # Exponentials of wide heads' logits underflow: without its scale the model has no logarithm.
    monkeypatch.setattr("vitrail.questions.attention.scale.WIDTHS", (4, 16))
    found = scale_table()
    assert found["variance_scaled"].tolist() == pytest.approx(found["variance"].tolist(), rel=1e-3)
    (claim,) = (claim for claim in of_random_logits(found) if claim.id == "q3-scale-keeps-variance")
    assert claim.verdict == "refuted"


def test_share_of_few_knows_equal_and_unequal() -> None:
    assert share_of_few(np.full((4, 5), 3.0)) == pytest.approx(0.1)
    values = np.ones(20)
    values[[3, 17]] = 41, 41  # two of twenty have 82 of 100
    assert share_of_few(values) == pytest.approx(0.82)


def test_share_of_the_gradient_is_that_of_its_square() -> None:
    from vitrail.questions.attention import scale as attention_scale

    found = scale_table().iloc[-1]
    assert found["gradient_share"] > 0.8
    assert 0.1 < found["gradient_share_scaled"] < 0.4
    assert attention_scale.FEW == 0.1  # "a tenth" in the chapter
