"""What attention does, in numbers: entropy, reach, and how far it follows the image.

Every measure is a mean over the first test digits and over all queries, per block and head.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from vitrail.questions.study import Study
from vitrail.questions.tiles import tiles

if TYPE_CHECKING:
    from torch import Tensor

IMAGES = 200  # the first of the test set
BATCH = 20  # images at once: the tables of all blocks of a batch are in memory together
START, TRAINED = "start", "trained"


def test_digits(study: Study, arm: str, count: int = IMAGES) -> tuple[Tensor, np.ndarray]:
    """The first test images as an arm reads them, and their raw pixels (count, 28, 28)."""
    import torch

    from vitrail.train import pixels

    raw = study.mnist.test_images[:count]
    return pixels(raw, study.plan.arms[arm].settings, torch.device("cpu")), raw


def measured(study: Study, arms: Iterable[str]) -> pd.DataFrame:
    """`head_measures` of all seeds of some arms, as trained and as they were at the start."""
    frames = []
    for arm in arms:
        chosen = study.plan.arms[arm]
        images, _ = test_digits(study, arm)
        prefix = int(chosen.settings["class_token"])
        for seed in chosen.seeds:
            networks = {
                START: untrained(chosen.settings, seed),
                TRAINED: study.network(arm, seed),
            }
            for state, network in networks.items():
                frame = head_measures(network, images, prefix)
                frames.append(frame.assign(arm=arm, seed=seed, state=state))
    return pd.concat(frames, ignore_index=True)


def head_width(settings: dict[str, Any]) -> int:
    """d_k of an arm."""
    return int(settings["head_dim"] or settings["embed_dim"] // settings["num_heads"])


def untrained(settings: dict[str, Any], seed: int) -> Any:
    """The network that the training of this seed starts from."""
    import torch

    from vitrail.networks import build

    torch.manual_seed(seed)
    return build(settings).eval()


def head_measures(network: Any, images: Tensor, prefix: int) -> pd.DataFrame:
    """One row per block and head.

    Columns: `entropy` as a share of a uniform row's, also `_unscaled`, with the same weights
    but without 1/sqrt(d_k); `variance` of the scaled logits of a row; `distance` in patches;
    `tv_images`, the total variation distance of a row between two images, and `tv_heads`, that
    between two heads of a block.
    """
    from vitrail.model.attention import attention_weights

    rows = []
    for batch in images.split(BATCH):
        for block, (query, key) in enumerate(queries_and_keys(network, batch), start=1):
            logits = query @ key.transpose(-2, -1)
            scaled = attention_weights(query, key).numpy()
            unscaled = logits.softmax(dim=-1).numpy()
            columns = {
                "entropy": entropy_share(scaled),
                "entropy_unscaled": entropy_share(unscaled),
                "variance": logits.numpy().var(axis=-1).mean(axis=(0, 2)) / query.shape[-1],
                "distance": distance(scaled, prefix),
                "tv_images": tv_images(scaled),
                "tv_heads": tv_heads(scaled),
            }
            rows.append(
                pd.DataFrame(columns).assign(block=block, head=range(1, len(scaled[0]) + 1))
            )
    return pd.concat(rows).groupby(["block", "head"], as_index=False).mean()


def queries_and_keys(network: Any, images: Tensor) -> list[tuple[Tensor, Tensor]]:
    """Queries and keys of each block, (B, H, N, d_k) twice."""
    import torch

    found = []
    with torch.no_grad():
        tokens = network.embed(images)
        for block in network.blocks:
            query, key, _ = block.attn.split_heads(block.attention_input(tokens))
            found.append((query, key))
            tokens = block(tokens)
    return found


def entropy_share(attention: np.ndarray) -> np.ndarray:
    """Mean entropy of the rows of each head over that of a uniform row, in [0, 1].

    (B, H, N, N) -> (H,). The only row over a single token is uniform.
    """
    rows = np.clip(attention, 1e-12, None)
    entropy = -(rows * np.log(rows)).sum(axis=-1).mean(axis=(0, 2))
    tokens = attention.shape[-1]
    return entropy / np.log(tokens) if tokens > 1 else np.ones(attention.shape[1])


def share(value: float) -> str:
    """A share for print: "56 %"."""
    return f"{100 * value:.0f} %"


def distance(attention: np.ndarray, prefix: int) -> np.ndarray:
    """Mean distance in patches between a patch and what it reads (Dosovitskiy et al. 2021, fig. 7).

    (B, H, N, N) -> (H,). The first `prefix` tokens, which have no place, are left out on
    both sides and the rows rescaled to sum to one.
    """
    patches = attention[..., prefix:, prefix:]
    weights = patches / patches.sum(axis=-1, keepdims=True)
    return (weights * grid_distances(patches.shape[-1])).sum(axis=-1).mean(axis=(0, 2))


def grid_distances(patches: int) -> np.ndarray:
    """Distance between the centres of any two patches of a square grid, in patches."""
    side = round(patches**0.5)
    rows, columns = np.divmod(np.arange(patches), side)
    return np.hypot(rows[:, None] - rows, columns[:, None] - columns)


def uniform_distance(patches: int) -> float:
    """What `distance` gives for uniform attention."""
    return float(grid_distances(patches).mean())


def window_distance(patches: int) -> float:
    """The same for a uniform 3 x 3 window of patches, cut off at the border of the image."""
    apart = grid_distances(patches)
    inside = apart < 1.5  # the eight neighbours and the patch itself
    return float(((apart * inside).sum(axis=1) / inside.sum(axis=1)).mean())


def tv_images(attention: np.ndarray) -> np.ndarray:
    """Mean total variation distance of a row between one image and the next, in [0, 1].

    (B, H, N, N) -> (H,): half the sum of the absolute differences of the weights.

    Zero for weights that do not depend on the image, such as those of a convolution.
    """
    if len(attention) < 2:
        return np.full(attention.shape[1], np.nan)
    return np.abs(np.diff(attention, axis=0)).sum(axis=-1).mean(axis=(0, 2)) / 2


def tv_heads(attention: np.ndarray) -> np.ndarray:
    """Mean total variation distance of a head's rows to those of the other heads.

    (B, H, N, N) -> (H,), in [0, 1].
    """
    heads = attention.shape[1]
    if heads < 2:
        return np.full(heads, np.nan)
    others = [np.roll(attention, shift, axis=1) for shift in range(1, heads)]
    return np.mean(
        [np.abs(attention - other).sum(axis=-1).mean(axis=(0, 2)) / 2 for other in others], axis=0
    )


def maps_of(network: Any, images: Tensor) -> list[np.ndarray]:
    """Attention of each block, (B, H, N, N) arrays."""
    return [attention.numpy() for attention in network.attention_maps(images)]


def readout(network: Any, images: Tensor) -> np.ndarray:
    """The share of each last token in what the head of the network reads, (B, prefix + N).

    All of the class token, the same of every patch, or the weights that SeqPool gives them:
    the rows sum to one, and their products with the last tokens are what the pooling gives.
    """
    import torch

    prefix, patches = network.num_prefix_tokens, network.patch_embed.num_patches
    shares = torch.zeros(len(images), prefix + patches)
    if network.global_pool == "token":
        shares[:, 0] = 1
    elif network.global_pool == "avg":
        shares[:, prefix:] = 1 / patches
    else:
        with torch.no_grad():
            tokens = network.norm(network.blocks(network.embed(images)))
            shares[:, prefix:] = network.attention_pool.weights(tokens[:, prefix:])
    return shares.numpy()


def rollout(maps: list[np.ndarray], read: np.ndarray, prefix: int) -> np.ndarray:
    """How much of each patch reaches the output when attention is followed through all blocks.

    Attention rollout (Abnar and Zuidema 2020, section 3): the mean over heads, half of it
    replaced by the identity for the residual path, multiplied block by block. The rows of the
    last block are weighted by `read`, see `readout`.

    Args:
        maps: the attention of each block, (B, H, prefix + N, prefix + N).
        read: the share of each last token in what the head reads, (B, prefix + N).
        prefix: tokens before the patches.

    Returns:
        The shares of the patches, (B, N), rescaled to sum to one.
    """
    # region: rollout
    identity = np.eye(maps[0].shape[-1])
    flow = identity
    for attention in maps:
        flow = (attention.mean(axis=1) + identity) / 2 @ flow  # (B, 1 + N, 1 + N)
    shares = (read[:, None] @ flow)[:, 0, prefix:]  # (B, N), without the class token's
    return shares / shares.sum(axis=1, keepdims=True)
    # endregion: rollout


def rollout_of(network: Any, images: Tensor) -> np.ndarray:
    """The rollout of a network up to what its head reads, (B, N)."""
    maps = maps_of(network, images)
    return rollout(maps, readout(network, images), network.num_prefix_tokens)


def inked(raw: np.ndarray, patch: int) -> np.ndarray:
    """Which patches hold a pixel of the stroke, (B, patches)."""
    return tiles(raw, patch).max(axis=(2, 3)) > 127


def gain_on_ink(network: Any, images: Tensor, raw: np.ndarray, patch: int) -> float:
    """Share of the rollout on patches with ink, minus that of uniform weights."""
    # batch by batch, as above
    parts = [rollout_of(network, batch) for batch in images.split(BATCH)]
    ink = inked(raw, patch)
    return float(((np.concatenate(parts) * ink).sum(axis=1) - ink.mean(axis=1)).mean())
