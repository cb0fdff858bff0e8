"""The sizes that a drawing prints: shapes and parameters of an arm's ViT, part by part."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from vitrail.efficiency import hidden_width
from vitrail.settings import IMAGE_SIZE, NUM_CLASSES


@dataclass(frozen=True)
class Sizes:
    """Sizes of one arm of model `vit`, from its settings."""

    settings: dict[str, Any]

    @property
    def patch(self) -> int:
        """Side of a patch in pixels."""
        return int(self.settings["patch_size"])

    @property
    def grid(self) -> int:
        """Patches along one side of the image."""
        return IMAGE_SIZE // self.patch

    @property
    def patches(self) -> int:
        return self.grid**2

    @property
    def tokens(self) -> int:
        """N of the attention: the patches and the class token."""
        return self.patches + int(self.settings["class_token"])

    @property
    def dim(self) -> int:
        return int(self.settings["embed_dim"])

    @property
    def heads(self) -> int:
        return int(self.settings["num_heads"])

    @property
    def head_dim(self) -> int:
        """d_k; `head_dim` 0 (or none) means that the heads share the width."""
        return int(self.settings.get("head_dim") or self.dim // self.heads)

    @property
    def heads_dim(self) -> int:
        """Width of all heads together."""
        return self.heads * self.head_dim

    @property
    def hidden(self) -> int:
        """Units of the MLP's hidden layer."""
        return hidden_width(self.dim, self.settings["mlp_ratio"])

    def block_parameters(self) -> dict[str, int]:
        """Trainable parameters of each part of one block."""
        dim, inner, biased = self.dim, self.heads_dim, bool(self.settings["qkv_bias"])
        return {
            "norms": 4 * dim,
            "attention": 3 * dim * inner + 3 * inner * biased + inner * dim + dim,
            "mlp": 2 * dim * self.hidden + self.hidden + dim,
        }

    def parameters(self) -> dict[str, int]:
        """Trainable parameters of each part; `block` is those of one block."""
        dim, settings = self.dim, self.settings
        return {
            "projection": self.patch**2 * dim + dim,
            "class_token": dim if settings["class_token"] else 0,
            "positions": self.tokens * dim if settings["pos_embed"] == "learned" else 0,
            "block": sum(self.block_parameters().values()),
            "norm": 2 * dim if settings["norm"] == "pre" else 0,
            "pooling": dim if settings["global_pool"] == "seq" else 0,
            "head": dim * NUM_CLASSES + NUM_CLASSES,
        }

    def total(self) -> int:
        """Trainable parameters of the whole network."""
        parts = self.parameters()
        return sum(parts.values()) + (int(self.settings["depth"]) - 1) * parts["block"]


def counted(parameters: int) -> str:
    """A count of parameters for print."""
    return f"{parameters:,} parameters" if parameters else "no parameters"
