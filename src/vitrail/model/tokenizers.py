"""Q8: two patch embeddings for small data, with as many tokens as the linear one of Q1.

Both let a token see beyond the border of its patch, which the linear projection does not.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vitrail.efficiency import tokenizer_stages, tokenizer_widths
from vitrail.model.patch_embedding import PatchEmbed, PatchGrid, Size, cut_patches

PatchEmbedKind = Literal["linear", "conv", "shifted"]


class ConvTokenizer(PatchGrid):
    """Convolutions in place of patches: (B, C, height, width) -> (B, N, D).

    Hassani et al. 2021 (CCT, arXiv 2104.05704), section 3.2: stages of a 3x3 convolution
    without bias, ReLU and max-pooling of 3x3 with stride 2. Each stage halves the sides,
    rounded up; there are as many as bring the image to the grid of `patch_size`, with twice
    the maps from one to the next and D in the last. Convolutions start as in CCT (He et al.
    2015, normal).

    Raises:
        ValueError: when `patch_size` does not divide `img_size` or no number of stages leads
            to its grid, or an image of another size or number of channels is given.
    """

    def __init__(
        self, img_size: Size = 224, patch_size: Size = 16, in_chans: int = 3, embed_dim: int = 768
    ) -> None:
        super().__init__(img_size, patch_size, in_chans)
        widths = tokenizer_widths(tokenizer_stages(self.img_size, self.patch_size), embed_dim)
        self.stages = nn.Sequential(
            *(
                nn.Sequential(
                    nn.Conv2d(before, after, kernel_size=3, padding=1, bias=False),
                    nn.ReLU(),
                    nn.MaxPool2d(kernel_size=3, stride=2, padding=1),
                )
                for before, after in pairwise([in_chans, *widths])
            )
        )
        for module in self.stages.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight)
        # The layout that CPU convolutions are fastest in, and that the tokens have anyway.
        self.to(memory_format=torch.channels_last)

    def forward(self, images: Tensor) -> Tensor:
        self.check(images)
        # region: conv_tokenizer
        maps = self.stages(images.contiguous(memory_format=torch.channels_last))
        return maps.flatten(2).transpose(1, 2)  # (B, D, rows, columns) -> (B, N, D)
        # endregion: conv_tokenizer


class ShiftedPatchEmbed(PatchGrid):
    """Shifted patch tokenization (SPT): (B, C, height, width) -> (B, N, D).

    Lee et al. 2021 (arXiv 2112.13492), section 3.2: S(x) = LN(P([x s_1 s_2 s_3 s_4])) E_S.
    The image and its copies moved by half a patch (rounded down) along the four diagonals
    are concatenated along the channels and cut into patches P, which are normalised and
    projected. What a copy lacks at its border is zero, as in the paper's code.

    Raises:
        ValueError: when `patch_size` does not divide `img_size` or has no half, or an image
            of another size or number of channels is given.
    """

    def __init__(
        self, img_size: Size = 224, patch_size: Size = 16, in_chans: int = 3, embed_dim: int = 768
    ) -> None:
        super().__init__(img_size, patch_size, in_chans)
        if min(self.patch_size) < 2:
            raise ValueError("patch_embed 'shifted' moves by half a patch: set patch_size above 1")
        values = 5 * in_chans * self.patch_size[0] * self.patch_size[1]
        self.norm = nn.LayerNorm(values)
        self.proj = nn.Linear(values, embed_dim)

    def shifted(self, images: Tensor) -> Tensor:
        """The images and their four copies, moved left-up, right-up, left-down, right-down.

        (B, C, height, width) -> (B, 5C, height, width).
        """
        (height, width), (down, right) = self.img_size, (side // 2 for side in self.patch_size)
        padded = F.pad(images, (right, right, down, down))
        copies = [
            padded[:, :, top : top + height, left : left + width]
            for top in (2 * down, 0)
            for left in (2 * right, 0)
        ]
        return torch.cat([images, *copies], dim=1)

    def forward(self, images: Tensor) -> Tensor:
        self.check(images)
        # region: shifted_patches
        patches = cut_patches(self.shifted(images), self.patch_size)  # (B, N, 5C*P*P)
        return self.proj(self.norm(patches))  # (B, N, D)
        # endregion: shifted_patches


def make_patch_embed(
    kind: PatchEmbedKind, img_size: Size, patch_size: Size, in_chans: int, embed_dim: int
) -> PatchGrid:
    """The patch embedding of a model: "linear" (ViT), "conv" (CCT) or "shifted" (SPT).

    Raises:
        ValueError: when the kind is unknown, or as its class says.
    """
    kinds = {"linear": PatchEmbed, "conv": ConvTokenizer, "shifted": ShiftedPatchEmbed}
    if kind not in kinds:
        raise ValueError(f"patch_embed must be one of {', '.join(kinds)}, not {kind!r}")
    return kinds[kind](img_size, patch_size, in_chans, embed_dim)
