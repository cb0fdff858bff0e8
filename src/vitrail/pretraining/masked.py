"""The masked autoencoder (He et al. 2022) around our ViT."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from vitrail.model import Block, VisionTransformer, sinusoidal_2d
from vitrail.model.patch_embedding import PatchEmbed, cut_patches
from vitrail.networks import HEAD


class MaskedAutoencoder(nn.Module):
    """Hides most patches from the network and draws them from what the others tell.

    The encoder is the ViT without its head and sees the patches that are left, so that a
    hidden one can reach it in no way. The decoder puts a learned token in the place of each
    hidden patch, adds fixed positions and draws the pixels of all.

    Pixels are not normalised patch by patch as in the paper's best variant: most patches
    of a digit's border are blank, and their noise would be blown up.

    Args:
        network: the ViT, whose `head` is not used.
        mask_ratio: share of the patches that is hidden; at least one is, and one is not.
        depth: blocks of the decoder, as wide as the network.
    """

    def __init__(self, network: VisionTransformer, mask_ratio: float, depth: int = 1) -> None:
        super().__init__()
        patches = network.patch_embed.num_patches
        self.network = network
        self.shown = min(max(1, round((1 - mask_ratio) * patches)), patches - 1)
        self.decoder = Decoder(network, depth)

    def encode(self, images: Tensor, shown: Tensor) -> Tensor:
        """Tokens of the shown patches, (B, C, height, width) -> (B, prefix + shown, D)."""
        vit = self.network
        tokens = vit.embed(images)
        prefix, patches = tokens.split(
            [vit.num_prefix_tokens, tokens.shape[1] - vit.num_prefix_tokens], dim=1
        )
        index = shown[..., None].expand(-1, -1, patches.shape[2])
        seen = torch.cat([prefix, patches.gather(1, index)], dim=1)
        return vit.fc_norm(vit.norm(vit.blocks(seen)))  # one of the two is the identity

    def forward(self, images: Tensor, order: Tensor) -> tuple[Tensor, Tensor]:
        """Loss and drawn patches, (B, N, C*P*P).

        `order` (B, N) is a permutation of each image's patches; its first ones are shown.
        The loss is the mean squared error of the hidden patches' pixels.
        """
        vit = self.network
        tokens = self.encode(images, order[:, : self.shown])
        drawn = self.decoder(tokens[:, vit.num_prefix_tokens :], order)
        hidden = order[:, self.shown :, None].expand(-1, -1, drawn.shape[2])
        wanted = cut_patches(images, vit.patch_embed.patch_size)
        error = drawn.float().gather(1, hidden) - wanted.gather(1, hidden)
        return error.square().mean(), drawn

    def weights(self) -> dict[str, Tensor]:
        """The weights under the ViT's own names, with the decoder in the place of its head."""
        trunk = {k: v for k, v in self.network.state_dict().items() if not k.startswith(HEAD)}
        return trunk | {HEAD + name: value for name, value in self.decoder.state_dict().items()}


class Decoder(nn.Module):
    """Tokens of the shown patches -> pixels of all: (B, shown, D) -> (B, N, C*P*P)."""

    positions: Tensor

    def __init__(self, network: VisionTransformer, depth: int) -> None:
        super().__init__()
        block = network.blocks[0]
        assert isinstance(block, Block)
        embed = network.patch_embed
        assert isinstance(embed, PatchEmbed)
        pixels, width = embed.proj.in_features, embed.proj.out_features
        heads = max(1, width // 16)
        self.mask_token = nn.Parameter(torch.zeros(1, 1, width))
        self.register_buffer("positions", sinusoidal_2d(embed.grid_size, width)[None])
        self.blocks = nn.Sequential(*(Block(width, heads, mlp_ratio=2.0) for _ in range(depth)))
        self.norm = nn.LayerNorm(width)
        self.pixels = nn.Linear(width, pixels)

    def no_weight_decay(self) -> set[str]:
        """As of the ViT's own tokens."""
        return {"mask_token"}

    def forward(self, shown: Tensor, order: Tensor) -> Tensor:
        hidden = self.mask_token.expand(len(shown), order.shape[1] - shown.shape[1], -1)
        tokens = torch.cat([shown, hidden.to(shown.dtype)], dim=1)
        places = order.argsort(dim=1)[..., None].expand_as(tokens)
        tokens = tokens.gather(1, places) + self.positions  # back in reading order
        return self.pixels(self.norm(self.blocks(tokens)))
