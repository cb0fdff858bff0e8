"""Q1: the directions that it draws, and the gap that it measures, are what it says they are."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from model_tools import random_images, small
from vitrail.questions.patch_filters import learned_directions
from vitrail.questions.q1_patch_embedding import convolution_gap


@pytest.mark.parametrize("width", [16, 64])  # fewer and more columns than a patch has pixels
def test_directions_are_those_of_pixels_that_the_matrix_stretches_most(width: int) -> None:
    """Left singular vectors of E: no other patch of unit length gets a longer token."""
    network = small(embed_dim=width)
    matrix = network.patch_embed.proj.weight.detach().numpy().T.astype(float)  # (P*P, D)
    assert matrix.shape == (49, width)
    directions, shares = learned_directions(network)
    assert directions.shape == (min(49, width), 49)
    np.testing.assert_allclose(directions @ directions.T, np.eye(len(directions)), atol=1e-5)
    lengths = np.linalg.norm(directions @ matrix, axis=1)
    assert (np.diff(lengths) <= 1e-5).all()
    np.testing.assert_allclose(shares, lengths**2 / np.sum(matrix**2), atol=1e-5)
    others = np.random.default_rng(0).normal(size=(1000, 49))
    others /= np.linalg.norm(others, axis=1, keepdims=True)
    assert np.linalg.norm(others @ matrix, axis=1).max() < lengths[0]


def test_gap_to_the_convolution_sees_another_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    network, images = small(), random_images()
    assert convolution_gap(network, images) < 1e-5
    embed = network.patch_embed
    right = embed.as_convolution
    monkeypatch.setattr(embed, "as_convolution", lambda images: right(images.mT))
    assert convolution_gap(network, images) > 0.1
    monkeypatch.setattr(embed, "as_convolution", lambda images: right(images) + torch.tensor(0.3))
    assert convolution_gap(network, images) == pytest.approx(0.3, abs=1e-4)
