"""The exact cost of a Vision Transformer, part by part: MACs, parameters, activation memory.

Holds for our `VisionTransformer` and for timm's plain one with the same arguments: the two
have the same parts (`PARTS`), whose costs a test takes from the real modules.

- MACs are those of the matrix products of one image; see `vitrail.efficiency`.
- Parameters are the trained ones. Fixed positions have none.
- Activations are the bytes that autograd keeps for the backward pass of one image in
  float32. What counts: each tensor that some operation saves, whole and once, even where
  only a part of it is read (the head reads one token, but the table of all tokens stays).
  The images themselves count, as the input of the patch embedding; parameters do not, nor
  what lives only while an operation runs. A tensor stands at the part that reads it.

In a batch every image costs as much, with one exception: the written-out products copy
queries, keys and values of two or more images into place, and then keep N * `attn_dim`
numbers less per image and block, because the projection's own output is dropped.
"""

from __future__ import annotations

from dataclasses import dataclass

from vitrail.efficiency import Sides, hidden_width, token_count, vit_macs

FLOAT = 4  # bytes of a number in float32
PARTS = {
    "patch_embedding": "patch embedding",
    "positions": "class token, positions",
    "norms": "layer norms",
    "qkv": "queries, keys, values",
    "attention_scores": "$QK^\\top$ and softmax",
    "attention_values": "$AV$",
    "projection": "output projection",
    "mlp": "MLP",
    "pooling": "pooling",
    "head": "head",
}


@dataclass(frozen=True)
class Cost:
    """MACs of one image, trained parameters, and bytes kept for its backward pass."""

    macs: int = 0
    parameters: int = 0
    activations: int = 0

    def __add__(self, other: Cost) -> Cost:
        return Cost(
            self.macs + other.macs,
            self.parameters + other.parameters,
            self.activations + other.activations,
        )


def vit_costs(
    *,
    img_size: Sides,
    patch_size: Sides,
    in_chans: int,
    num_classes: int,
    embed_dim: int,
    depth: int,
    num_heads: int,
    mlp_ratio: float = 4.0,
    qkv_bias: bool = True,
    class_token: bool = True,
    global_pool: str = "token",
    pos_embed: str = "learned",
    norm: str = "pre",
    act: str = "gelu",
    fused_attn: bool = True,
    head_dim: int = 0,
) -> dict[str, Cost]:
    """What each of `PARTS` costs; the arguments are those of `VisionTransformer`.

    Raises:
        ValueError: when `patch_size` does not divide `img_size`.
    """
    macs = vit_macs(
        img_size=img_size,
        patch_size=patch_size,
        in_chans=in_chans,
        num_classes=num_classes,
        embed_dim=embed_dim,
        depth=depth,
        num_heads=num_heads,
        mlp_ratio=mlp_ratio,
        class_token=class_token,
        head_dim=head_dim,
        global_pool=global_pool,
    )
    n, d = token_count(img_size, patch_size, class_token=class_token), embed_dim
    patches, attn_dim = n - int(class_token), num_heads * head_dim or d
    hidden = hidden_width(d, mlp_ratio)
    pixels = macs["patch_embedding"] // d  # of all patches, with their channels
    has_head = num_classes > 0
    # The last norm of a pre-norm network sees all tokens, or their mean alone.
    last = (1 if global_pool == "avg" else n) if norm == "pre" else 0
    parameters = {
        "patch_embedding": (pixels // patches + 1) * d,
        "positions": int(class_token) * d + (n * d if pos_embed == "learned" else 0),
        "norms": 2 * d * (2 * depth + int(norm == "pre")),
        "qkv": depth * 3 * attn_dim * (d + int(qkv_bias)),
        "projection": depth * d * (attn_dim + 1),
        "mlp": depth * (2 * d * hidden + hidden + d),
        "pooling": d if global_pool == "seq" else 0,
        "head": num_classes * (d + 1) if has_head else 0,
    }
    # The scores read queries and keys, and keep what the softmax gave: a weight for every
    # pair of tokens, or in the fused kernel the logarithm of each row's sum. Written out,
    # the scaled queries are a tensor of their own beside the projection's output.
    rows = num_heads * n
    scores = 2 * n * attn_dim + rows if fused_attn else 3 * n * attn_dim + rows * n
    numbers = {
        "patch_embedding": pixels,
        # The input of each norm, and each token's mean and deviation.
        "norms": (2 * depth * n + last) * (d + 2),
        "qkv": depth * n * d,
        "attention_scores": depth * scores,
        "attention_values": depth * n * attn_dim,
        "projection": depth * n * attn_dim,
        # What goes in, and the hidden layer before and after GELU; ReLU needs one of the two.
        "mlp": depth * n * (d + hidden * (2 if act == "gelu" else 1)),
        # The tokens that SeqPool weighs, and their weights.
        "pooling": n * d + patches if global_pool == "seq" else 0,
        # The token that the head reads is a row of the table of all tokens.
        "head": (n * d if global_pool == "token" else d) if has_head else 0,
    }
    return {
        part: Cost(macs.get(part, 0), parameters.get(part, 0), FLOAT * numbers.get(part, 0))
        for part in PARTS
    }


def total(costs: dict[str, Cost]) -> Cost:
    """All parts together."""
    return sum(costs.values(), Cost())


def training_macs(costs: dict[str, Cost], recomputed: bool = False) -> int:
    """MACs of a forward and a backward pass for one image.

    Each product C = A B has two in the backward pass, one for either factor's gradient;
    the images of the patch embedding need none. `recomputed`: a fused kernel that has not
    stored the weights computes Q K^T a second time (Dao et al. 2022, algorithm 4).
    """
    again = costs["attention_scores"].macs if recomputed else 0
    return 3 * total(costs).macs - costs["patch_embedding"].macs + again
