"""What a Vision Transformer costs: an exact formula, and a counter that checks it.

Costs are multiply-accumulates (MACs) for one image; twice as many floating-point
operations. Only matrix products count, as in the usual tables: norms, softmax, GELU and
additions are linear in the number of activations and cost a few per cent at most.

With N tokens of width D and an MLP of r*D hidden units, one block costs
(4 + 2r) N D^2 for its projections and 2 N^2 D for the attention itself. The second
part is the larger one only above N = (2 + r) D, so a measured exponent of 2 in N is
not to be expected at the sizes of MNIST. All this is for heads that share the width D;
heads of a width of their own have together `attn_dim` columns instead of D.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor, nn

Sides = int | tuple[int, int]  # of an image or a patch: both alike, or (height, width)


def hidden_width(dim: int, mlp_ratio: float) -> int:
    """Units of the MLP's hidden layer, rounded down as in timm.

    A ratio that was computed from a width may lie a rounding error below it.
    """
    return int(dim * mlp_ratio + 1e-6)


def attention_macs(n: int, d: int, attn_dim: int | None = None) -> int:
    """MACs of multi-head self-attention: 4 N D^2 + 2 N^2 D, whatever the number of heads.

    `attn_dim` is the width of all heads together, D unless the heads have a width of
    their own.
    """
    # region: attention_macs
    attn_dim = attn_dim or d  # columns of all heads together
    projections = 4 * n * d * attn_dim  # Q, K, V and the output projection
    products = 2 * n**2 * attn_dim  # Q K^T, and the weights times V
    return projections + products
    # endregion: attention_macs


def linear_attention_macs(n: int, d: int, num_heads: int, attn_dim: int | None = None) -> int:
    """MACs of `LinearAttention`: 4 N D^2 + 2 N D d_k + N D, with d_k = D / `num_heads`."""
    attn_dim = attn_dim or d
    keys_values = n * attn_dim * (attn_dim // num_heads)  # phi(K)^T V, one matrix per head
    queries = keys_values + n * attn_dim  # phi(Q) times it, and what the weights sum to
    return 4 * n * d * attn_dim + keys_values + queries


def window_attention_macs(n: int, d: int, window_size: int, attn_dim: int | None = None) -> int:
    """MACs of `WindowAttention`: 4 N D^2 + 2 N w^2 D; shifted windows cost the same."""
    attn_dim = attn_dim or d
    return 4 * n * d * attn_dim + 2 * n * window_size**2 * attn_dim


def block_macs(n: int, d: int, r: float = 4.0, attn_dim: int | None = None) -> int:
    """MACs of one block: (4 + 2r) N D^2 + 2 N^2 D; `attn_dim` as in `attention_macs`."""
    return attention_macs(n, d, attn_dim) + 2 * n * d * hidden_width(d, r)


def quadratic_share(n: float, d: int, r: float = 4.0) -> float:
    """Share of a block's MACs that grows with N^2: N / (N + (2 + r) D), from 0 to 1."""
    return n / (n + (2 + r) * d)


def local_slope(n: float, d: int, r: float = 4.0) -> float:
    """d log(cost) / d log(N) of a block: 1 where it is linear, 2 where it is quadratic."""
    return 1 + quadratic_share(n, d, r)


def crossover(d: int, r: float = 4.0) -> float:
    """Number of tokens above which the quadratic part of a block costs more: (2 + r) D.

    For attention alone, without the MLP, take r = 0.
    """
    return (2 + r) * d


def linear_attention_crossover(head_dim: float) -> float:
    """Tokens above which softmax attention costs more MACs than linear: d_k + 1/2.

    From 2 N^2 D = 2 N D d_k + N D; the projections are the same.
    """
    return head_dim + 0.5


def window_attention_crossover(window_size: int) -> int:
    """Tokens above which attention to all costs more MACs than in windows: w^2, one window."""
    return window_size**2


def tokenizer_stages(img_size: Sides, patch_size: Sides) -> int:
    """Stages of `ConvTokenizer`: halvings, rounded up, from the image to its grid of patches.

    28 pixels become 14, 7, 4, 2, 1: one stage for patches of 2 pixels, then 4, 7, 14 and 28.

    Raises:
        ValueError: when no number of halvings, at least one, leads to the grid.
    """
    sides, patches = _pair(img_size), _pair(patch_size)
    grid = tuple(side // patch for side, patch in zip(sides, patches, strict=True))
    for stages in range(1, max(sides).bit_length() + 1):
        if tuple(-(-side // 2**stages) for side in sides) == grid:
            return stages
    raise ValueError(
        f"patch_embed 'conv' halves the image stage by stage, and patch_size {patch_size} is none "
        f"of its steps from img_size {img_size}"
    )


def tokenizer_widths(stages: int, embed_dim: int) -> list[int]:
    """Maps after each stage of `ConvTokenizer`: twice as many each time, D at the end."""
    return [max(1, embed_dim // 2**later) for later in reversed(range(stages))]


def patch_embedding_macs(
    kind: str, img_size: Sides, patch_size: Sides, in_chans: int, embed_dim: int
) -> int:
    """MACs of the patch embedding `kind` of `VisionTransformer` for one image.

    N P^2 C D for linear patches, five times that for shifted ones. For convolutions the sum
    over the stages of 9 C_before C_after times the pixels, which are pooled afterwards.
    """
    height, width = _pair(img_size)
    if kind != "conv":
        return (5 if kind == "shifted" else 1) * height * width * in_chans * embed_dim
    macs, before = 0, in_chans
    for after in tokenizer_widths(tokenizer_stages(img_size, patch_size), embed_dim):
        macs += 9 * height * width * before * after
        height, width, before = -(-height // 2), -(-width // 2), after
    return macs


def vit_macs(
    *,
    img_size: Sides,
    patch_size: Sides,
    in_chans: int,
    num_classes: int,
    embed_dim: int,
    depth: int,
    num_heads: int = 1,
    mlp_ratio: float = 4.0,
    class_token: bool = True,
    head_dim: int = 0,
    global_pool: str = "token",
    attention: str = "softmax",
    window_size: int = 7,
    patch_embed: str = "linear",
) -> dict[str, int]:
    """MACs of a whole Vision Transformer for one image, part by part, with their `total`.

    The arguments are those of `VisionTransformer`. `num_heads` has no effect as long as
    `head_dim` is 0: H heads of width D/H cost as much as one of width D (not in linear attention).

    Raises:
        ValueError: when `patch_size` does not divide `img_size`.
    """
    n = token_count(img_size, patch_size, class_token=class_token)
    patches = n - int(class_token)
    d, hidden = embed_dim, hidden_width(embed_dim, mlp_ratio)
    attn_dim = num_heads * head_dim if head_dim else d
    # What each query meets: those of its window, the d_k rows of phi(K)^T V, or all tokens.
    met = {"window": window_size**2, "linear": attn_dim // num_heads}.get(attention, n)
    total = int(attention == "linear")  # the sums of the weights are a product of their own
    parts = {
        "patch_embedding": patch_embedding_macs(patch_embed, img_size, patch_size, in_chans, d),
        "qkv": depth * 3 * n * d * attn_dim,
        "attention_scores": depth * n * met * attn_dim,  # Q K^T; linear: phi(K)^T V
        "attention_values": depth * n * (met + total) * attn_dim,  # the weights times V
        "projection": depth * n * d * attn_dim,
        "mlp": depth * 2 * n * d * hidden,
        # A score for each patch, and the scores times the patches. A plain mean has none.
        "pooling": 2 * patches * d if global_pool == "seq" else 0,
        "head": d * num_classes,
    }
    return {**parts, "total": sum(parts.values())}


def token_count(img_size: Sides, patch_size: Sides, *, class_token: bool = True) -> int:
    """Tokens of an image: its patches, and the class token if there is one."""
    patches = 1
    for image, patch in zip(_pair(img_size), _pair(patch_size), strict=True):
        if patch <= 0 or image % patch:
            raise ValueError(f"patch_size {patch} does not divide img_size {image}")
        patches *= image // patch
    return patches + int(class_token)


def count_macs(module: nn.Module, x: Tensor) -> int:
    """MACs of one forward pass over the whole batch `x`, counted while it runs.

    Works for any module (a CNN, a model of timm), also on the meta device, where
    nothing is computed. The formula above does not enter.
    """
    import torch
    from torch.nn.attention import SDPBackend, sdpa_kernel
    from torch.utils.flop_counter import FlopCounterMode

    training = module.training
    module.eval()
    try:
        # PyTorch's counter does not know the fused attention kernel of the CPU and would
        # count zero for it: the written-out form has the same products.
        with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as flops:
            module(x)
    finally:
        module.train(training)
    return int(flops.get_total_flops()) // 2


def count_parameters(module: nn.Module) -> int:
    """Number of trainable parameters; one that is shared counts once."""
    return sum(parameter.numel() for parameter in module.parameters() if parameter.requires_grad)


def _pair(size: Sides) -> tuple[int, int]:
    return (size, size) if isinstance(size, int) else (size[0], size[1])
