"""The Vision Transformer from scratch, read in the order of the questions.

`patch_embedding` (Q1), `mlp` (Q2), `attention` (Q3, Q4), `block` (Q5), `positions`,
`pooling` and `vit` (Q6), `efficient_attention`, `initialisation` and `patch_dropout` (Q7),
`tokenizers` and `locality_attention` (Q8).
Nothing here knows of training, data or timm's internals beyond `from_timm` and `to_timm`.
"""

from vitrail.model.attention import MultiHeadSelfAttention, SelfAttention, attention_weights
from vitrail.model.block import Block
from vitrail.model.efficient_attention import LinearAttention, WindowAttention
from vitrail.model.locality_attention import LocalitySelfAttention
from vitrail.model.mlp import Mlp
from vitrail.model.patch_dropout import PatchDropout, patch_generators, seed_patches
from vitrail.model.patch_embedding import PatchEmbed
from vitrail.model.pooling import SeqPool
from vitrail.model.positions import sinusoidal, sinusoidal_1d, sinusoidal_2d
from vitrail.model.timm_bridge import from_timm, to_timm
from vitrail.model.tokenizers import ConvTokenizer, ShiftedPatchEmbed
from vitrail.model.vit import VisionTransformer

__all__ = [
    "Block",
    "ConvTokenizer",
    "LinearAttention",
    "LocalitySelfAttention",
    "Mlp",
    "MultiHeadSelfAttention",
    "PatchDropout",
    "PatchEmbed",
    "SelfAttention",
    "SeqPool",
    "ShiftedPatchEmbed",
    "VisionTransformer",
    "WindowAttention",
    "attention_weights",
    "from_timm",
    "patch_generators",
    "seed_patches",
    "sinusoidal",
    "sinusoidal_1d",
    "sinusoidal_2d",
    "to_timm",
]
