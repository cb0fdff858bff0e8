"""Q1: cut an image into patches and project each one linearly.

Shapes use four letters in the whole package: B images in a batch, N tokens,
D = ``embed_dim``, H heads. An image is (B, C, height, width).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Size = int | tuple[int, int]


def pair(size: Size) -> tuple[int, int]:
    """(height, width) from one number or two."""
    return (size, size) if isinstance(size, int) else (size[0], size[1])


def cut_patches(images: Tensor, patch_size: tuple[int, int]) -> Tensor:
    """Flattened patches in reading order: (B, C, height, width) -> (B, N, C*P*P).

    The values of a patch are ordered channel, row, column, as in the kernel of a
    convolution, so that both forms of the projection can share their weights.
    """
    batch, channels, height, width = images.shape
    rows, columns = patch_size
    # region: cut_patches
    grid = images.reshape(batch, channels, height // rows, rows, width // columns, columns)
    grid = grid.permute(0, 2, 4, 1, 3, 5)  # (B, grid rows, grid columns, C, P, P)
    return grid.flatten(1, 2).flatten(2)  # (B, N, C*P*P)
    # endregion: cut_patches


class PatchGrid(nn.Module):
    """The sizes of image and patches, which every patch embedding has.

    Raises:
        ValueError: when `patch_size` does not divide `img_size`.
    """

    def __init__(self, img_size: Size, patch_size: Size, in_chans: int) -> None:
        super().__init__()
        self.img_size = pair(img_size)
        self.patch_size = pair(patch_size)
        self.in_chans = in_chans
        for image, patch in zip(self.img_size, self.patch_size, strict=True):
            # Without this check the border that does not fill a patch is lost in silence.
            if patch <= 0 or image % patch:
                raise ValueError(f"patch_size {patch} does not divide img_size {image}")
        self.grid_size = (
            self.img_size[0] // self.patch_size[0],
            self.img_size[1] // self.patch_size[1],
        )
        self.num_patches = self.grid_size[0] * self.grid_size[1]

    def check(self, images: Tensor) -> None:
        """Raise a ValueError for images of another size or number of channels."""
        expected = (self.in_chans, *self.img_size)
        if tuple(images.shape[1:]) != expected:
            raise ValueError(f"images have shape {tuple(images.shape[1:])}, expected {expected}")


class PatchEmbed(PatchGrid):
    """Linear projection of flattened patches (Dosovitskiy et al. 2021, equation 1).

    (B, C, height, width) -> (B, N, D) with N = height * width / P^2. The same function
    as a convolution with kernel and stride P: `proj.weight` is its flattened kernel.

    Raises:
        ValueError: when `patch_size` does not divide `img_size`, or an image of
            another size or number of channels is given.
    """

    def __init__(
        self, img_size: Size = 224, patch_size: Size = 16, in_chans: int = 3, embed_dim: int = 768
    ) -> None:
        super().__init__(img_size, patch_size, in_chans)
        self.proj = nn.Linear(in_chans * self.patch_size[0] * self.patch_size[1], embed_dim)

    def forward(self, images: Tensor) -> Tensor:
        self.check(images)
        # region: patch_embedding
        patches = cut_patches(images, self.patch_size)  # (B, N, C*P*P)
        return self.proj(patches)  # (B, N, D)
        # endregion: patch_embedding

    def as_convolution(self, images: Tensor) -> Tensor:
        """The same projection written as a convolution, to show that they are one."""
        kernel = self.proj.weight.view(-1, self.in_chans, *self.patch_size)
        maps = F.conv2d(images, kernel, self.proj.bias, stride=self.patch_size)
        return torch.flatten(maps, 2).transpose(1, 2)
