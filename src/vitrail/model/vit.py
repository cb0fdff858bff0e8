"""Q6: the whole Vision Transformer, with timm's argument and parameter names."""

from __future__ import annotations

from typing import Literal, get_args

import torch
from torch import Tensor, nn

from vitrail.model.block import NORM_EPS, Block, Norm
from vitrail.model.efficient_attention import AttentionKind
from vitrail.model.initialisation import Init, initialise_blocks
from vitrail.model.mlp import Activation
from vitrail.model.patch_dropout import PatchDropout
from vitrail.model.patch_embedding import Size
from vitrail.model.pooling import SeqPool
from vitrail.model.positions import resized, sinusoidal_1d, sinusoidal_2d
from vitrail.model.tokenizers import PatchEmbedKind, make_patch_embed

Positions = Literal["learned", "sinusoidal", "sinusoidal_2d", "none"]
Pooling = Literal["token", "avg", "seq"]


class VisionTransformer(nn.Module):
    """ViT of Dosovitskiy et al. (2021): (B, in_chans, height, width) -> (B, num_classes).

    The defaults are ViT-B/16 at 224 pixels, as in timm. Beside timm's arguments:

    Args:
        global_pool: what the head reads: "token" (the class token), "avg" (the mean of the
            patch tokens) or "seq" (their mean with learned weights, see `SeqPool`).
        pos_embed: "learned" (ViT), "sinusoidal" (positions in reading order),
            "sinusoidal_2d" (row and column) or "none".
        pos_embed_std: standard deviation of learned positions at the start; 0.02 in ViT
            and timm.
        pos_embed_rms: of fixed positions; 0 keeps the values of the formula, otherwise see
            `resized`.
        norm: "pre" (ViT) or "post" (Vaswani et al. 2017; no last norm then).
        act: activation of the MLP, "gelu" (ViT) or "relu".
        fused_attn: PyTorch's fused attention kernel, or the written-out form.
        head_dim: width of one head; 0 is embed_dim / num_heads, as in timm.
        attention: "softmax" (ViT), "linear" or "window", see `efficient_attention`, or "lsa",
            see `LocalitySelfAttention`.
        window_size: patches on a side of a window; every second block shifts the windows
            by half of it. For attention "window" alone, which takes no class token.
        init: start of the blocks, see `initialise_blocks`.
        patch_drop_rate: share of the patches dropped in training, see `PatchDropout`.
        patch_embed: "linear" (ViT), "conv" or "shifted"; see `tokenizers`.
        drop_rate: dropout of ViT's appendix B.1, after the positions are added and after every
            linear layer of the blocks but that of queries, keys and values. timm calls these
            `pos_drop_rate` and `proj_drop_rate`; its `drop_rate` is another, of the head.

    Raises:
        ValueError: when `patch_size` does not divide `img_size`, `num_heads` does not
            divide `embed_dim` while `head_dim` is 0, a switch has an unknown value,
            `global_pool="token"` is asked without a class token, windows do not fit, "lsa" has
            a single token, or the patch embedding refuses the sizes.
    """

    def __init__(
        self,
        img_size: Size = 224,
        patch_size: Size = 16,
        in_chans: int = 3,
        num_classes: int = 1000,
        embed_dim: int = 768,
        depth: int = 12,
        num_heads: int = 12,
        mlp_ratio: float = 4.0,
        qkv_bias: bool = True,
        class_token: bool = True,
        global_pool: Pooling = "token",
        pos_embed: Positions = "learned",
        pos_embed_std: float = 0.02,
        pos_embed_rms: float = 0.0,
        norm: Norm = "pre",
        act: Activation = "gelu",
        fused_attn: bool = True,
        head_dim: int = 0,
        attention: AttentionKind = "softmax",
        window_size: int = 7,
        init: Init = "xavier",
        patch_drop_rate: float = 0.0,
        patch_embed: PatchEmbedKind = "linear",
        drop_rate: float = 0.0,
    ) -> None:
        super().__init__()
        for name, value, known in (
            ("global_pool", global_pool, get_args(Pooling)),
            ("pos_embed", pos_embed, get_args(Positions)),
            ("norm", norm, get_args(Norm)),
            ("act", act, get_args(Activation)),
            ("attention", attention, get_args(AttentionKind)),
        ):
            if value not in known:
                raise ValueError(f"{name} must be one of {', '.join(known)}, not {value!r}")
        if global_pool == "token" and not class_token:
            raise ValueError("global_pool 'token' reads the class token: set class_token to true")
        self.global_pool = global_pool
        if not 0 <= drop_rate < 1:
            raise ValueError(f"drop_rate must be at least 0 and below 1, not {drop_rate}")
        self.patch_embed = make_patch_embed(patch_embed, img_size, patch_size, in_chans, embed_dim)
        if attention == "window":
            self._check_windows(window_size, class_token, patch_drop_rate)
        kept = max(1, int(self.patch_embed.num_patches * (1 - patch_drop_rate)))
        if attention == "lsa" and kept + int(class_token) < 2:
            raise ValueError("attention 'lsa' needs two tokens: set class_token to true")
        self.num_prefix_tokens = int(class_token)
        self.cls_token = nn.Parameter(torch.zeros(1, 1, embed_dim)) if class_token else None
        self._add_positions(pos_embed, embed_dim, pos_embed_rms)
        self.pos_drop = nn.Dropout(drop_rate)
        self.patch_drop = (
            PatchDropout(patch_drop_rate, self.num_prefix_tokens)
            if patch_drop_rate
            else nn.Identity()
        )
        self.blocks = nn.Sequential(
            *(
                Block(
                    embed_dim,
                    num_heads,
                    mlp_ratio,
                    qkv_bias,
                    act,
                    norm,
                    fused_attn,
                    head_dim,
                    attention,
                    window_size,
                    shift=index % 2 * (window_size // 2),
                    drop_rate=drop_rate,
                )
                for index in range(depth)
            )
        )
        # One last norm, before the pooling (after it for the mean, as in timm). A post-norm
        # block already ends with a norm.
        last_norm = nn.LayerNorm(embed_dim, eps=NORM_EPS) if norm == "pre" else nn.Identity()
        self.norm = last_norm if global_pool != "avg" else nn.Identity()
        self.attention_pool = SeqPool(embed_dim) if global_pool == "seq" else None
        self.fc_norm = last_norm if global_pool == "avg" else nn.Identity()
        self.head = nn.Linear(embed_dim, num_classes) if num_classes else nn.Identity()
        self._initialise(init, pos_embed_std)

    def _check_windows(self, window_size: int, class_token: bool, drop_rate: float) -> None:
        """Windows need a square grid of patches and nothing beside it."""
        rows, columns = self.patch_embed.grid_size
        if class_token:
            raise ValueError("attention 'window' has no place for a class token: set it to false")
        if drop_rate:
            raise ValueError("attention 'window' needs all patches: set patch_drop_rate to 0")
        if rows != columns or window_size < 1 or rows % window_size:
            raise ValueError(
                f"window_size {window_size} does not divide the grid of {rows} x {columns} patches"
            )

    def _add_positions(self, pos_embed: Positions, embed_dim: int, rms: float) -> None:
        """Make `pos_embed`, (1, prefix + patches, D): a parameter, a constant or None."""
        patches = self.patch_embed.num_patches
        if pos_embed == "none":
            self.pos_embed = None
        elif pos_embed == "learned":
            self.pos_embed = nn.Parameter(
                torch.zeros(1, self.num_prefix_tokens + patches, embed_dim)
            )
        else:
            fixed = (
                sinusoidal_1d(patches, embed_dim)
                if pos_embed == "sinusoidal"
                else sinusoidal_2d(self.patch_embed.grid_size, embed_dim)
            )
            fixed = resized(fixed, rms) if rms else fixed
            # The class token has no place in the image: its row is zero.
            table = torch.cat([torch.zeros(self.num_prefix_tokens, embed_dim), fixed])
            self.register_buffer("pos_embed", table[None])

    def _initialise(self, init: Init, pos_embed_std: float) -> None:
        """The blocks as `init` says, by default as in the paper's own code; the rest as in timm.

        timm's 0.02 everywhere is near Xavier's standard deviation at the widths of
        ImageNet models; at a width of 64 Xavier's is 0.125, six times that. The class
        token starts at 1e-6 (timm; zero in the paper's code), not at random values.
        """
        initialise_blocks(self.blocks, init)
        if self.cls_token is not None:
            nn.init.normal_(self.cls_token, std=1e-6)
        if isinstance(self.pos_embed, nn.Parameter):
            nn.init.normal_(self.pos_embed, std=pos_embed_std)
        if isinstance(self.head, nn.Linear):
            nn.init.trunc_normal_(self.head.weight, std=0.02)
            nn.init.zeros_(self.head.bias)
        if self.attention_pool is not None:  # so small that it starts next to the mean
            nn.init.trunc_normal_(self.attention_pool.score.weight, std=0.02)

    def no_weight_decay(self) -> set[str]:
        """Names of the parameters that weight decay spares though they are no vectors."""
        return {"cls_token", "pos_embed"}

    def embed(self, images: Tensor) -> Tensor:
        """z_0 of equation 1: (B, C, height, width) -> (B, prefix + N, D)."""
        # region: tokens
        x = self.patch_embed(images)  # (B, N, D)
        if self.cls_token is not None:
            x = torch.cat([self.cls_token.expand(len(x), -1, -1), x], dim=1)
        if self.pos_embed is not None:
            x = x + self.pos_embed
        return x
        # endregion: tokens

    def pool(self, x: Tensor) -> Tensor:
        """One vector per image, (B, D), from the class token or from the patch tokens."""
        # region: pool
        if self.global_pool == "token":
            return x[:, 0]
        patches = x[:, self.num_prefix_tokens :]
        if self.attention_pool is not None:
            return self.attention_pool(patches)  # a mean with learned weights
        return patches.mean(dim=1)
        # endregion: pool

    def forward(self, images: Tensor) -> Tensor:
        # region: vit
        x = self.patch_drop(self.pos_drop(self.embed(images)))  # (B, 1 + N, D)
        x = self.norm(self.blocks(x))
        return self.head(self.fc_norm(self.pool(x)))  # (B, num_classes)
        # endregion: vit

    @torch.no_grad()
    def attention_maps(self, images: Tensor) -> list[Tensor]:
        """The attention of every block, (B, H, prefix + N, prefix + N) each."""
        x, maps = self.embed(images), []
        for block in self.blocks:
            assert isinstance(block, Block)
            maps.append(block.attn.weights(block.attention_input(x)))
            x = block(x)
        return maps
