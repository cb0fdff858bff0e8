"""The networks that the study trains, built from an arm's settings."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from vitrail.errors import VitrailError
from vitrail.files import read_json
from vitrail.settings import IMAGE_SIZE, MODEL_FIELDS, NUM_CLASSES, Settings, takes_patches

IN_CHANS = 1
# Up to about so many tokens the fused kernel's fixed cost is more than it saves: a training
# step of the base ViT with 17 tokens is 1.1 to 1.3 times faster written out (one CPU core).
SHORT = 64


class SmallCnn(nn.Module):
    """The yardstick: three 3x3 convolutions and a linear head, (B, 1, 28, 28) -> (B, 10).

    Convolution with stride 2, batch norm and ReLU, three times, with `channels`,
    2 `channels` and 4 `channels` maps; then the mean over the last 4x4 map. `channels`
    sets the number of parameters, which the study matches to the base ViT.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        widths = [IN_CHANS, channels, 2 * channels, 4 * channels]
        self.features = nn.Sequential(
            *(
                nn.Sequential(
                    nn.Conv2d(before, after, kernel_size=3, stride=2, padding=1, bias=False),
                    nn.BatchNorm2d(after),
                    nn.ReLU(),
                )
                for before, after in pairwise(widths)
            )
        )
        self.head = nn.Linear(widths[-1], NUM_CLASSES)
        # The layout that CPU convolutions are fastest in: 1.6 times the images per second.
        self.to(memory_format=torch.channels_last)

    def forward(self, images: Tensor) -> Tensor:
        images = images.contiguous(memory_format=torch.channels_last)
        return self.head(self.features(images).mean(dim=(2, 3)))


class PixelMlp(nn.Sequential):
    """A network without any notion of an image: (B, 1, 28, 28) -> (B, 10).

    Two hidden layers of `hidden` units with ReLU on the flattened pixels.
    """

    def __init__(self, hidden: int) -> None:
        super().__init__(
            nn.Flatten(),
            nn.Linear(IN_CHANS * IMAGE_SIZE**2, hidden),
            nn.ReLU(),
            nn.Linear(hidden, hidden),
            nn.ReLU(),
            nn.Linear(hidden, NUM_CLASSES),
        )


class LogisticRegression(nn.Sequential):
    """Multinomial logistic regression on the pixels: (B, 1, 28, 28) -> (B, 10)."""

    def __init__(self) -> None:
        super().__init__(nn.Flatten(), nn.Linear(IN_CHANS * IMAGE_SIZE**2, NUM_CLASSES))


def head_of(network: nn.Module) -> nn.Module:
    """The last linear layer: of a timm model its classifier, of ours `head`."""
    there: Any = network
    head: nn.Module = there.get_classifier() if hasattr(there, "get_classifier") else there.head
    return head


def fuses(settings: Settings) -> bool:
    """Whether the attention of a ViT is long enough for the fused kernel."""
    side = settings.get("window_size", IMAGE_SIZE // settings["patch_size"])
    return side**2 > SHORT


def build(settings: Settings, weights: dict[str, Any] | None = None) -> nn.Module:
    """The network of an arm, freshly initialised (or pretrained, for such an arm).

    Takes images (B, 1, 28, 28) and gives logits (B, 10). `weights` is what
    `vitrail.weights` found; only arms with `pretrained` need it.

    Raises:
        VitrailError: when the settings name no network, or the weights do not fit.
    """
    kind = settings["model"]
    if kind == "vit":
        from vitrail.model import VisionTransformer

        arguments = {field: settings[field] for field in MODEL_FIELDS["vit"] if field in settings}
        return VisionTransformer(
            img_size=IMAGE_SIZE,
            in_chans=IN_CHANS,
            num_classes=NUM_CLASSES,
            fused_attn=fuses(settings),
            **arguments,
        )
    if kind == "cnn":
        return SmallCnn(settings["channels"])
    if kind == "mlp":
        return PixelMlp(settings["hidden"])
    if kind == "logistic":
        return LogisticRegression()
    return _timm_model(settings, weights)


def _timm_model(settings: Settings, weights: dict[str, Any] | None) -> nn.Module:
    """A model of timm adapted to MNIST: one channel, ten classes and, for a ViT, 28 pixels."""
    adapted = {"in_chans": IN_CHANS, "num_classes": NUM_CLASSES}
    if takes_patches(settings):
        adapted |= {"img_size": IMAGE_SIZE, "patch_size": settings["patch_size"]}
    name = settings["timm_model"]
    if settings["pretrained"]:
        from vitrail.weights import create_pretrained

        if weights is None:
            raise VitrailError(f"{name}: a pretrained arm needs --weights (see vitrail.weights)")
        _check_pixels(settings, weights)
        network = create_pretrained(name, weights, **adapted)
    else:
        network = _from_scratch(name, adapted)
    if not takes_patches(settings):
        # timm draws EfficientNet's head by the number of its classes: with ten it is eleven times
        # as large as torch's, by the number of features, and the loss starts at 7 and not at 2.3.
        head: Any = head_of(network)
        head.reset_parameters()
        # EfficientNet-Lite0 trains 1.9 times as fast in this layout, and infers 3.2 times.
        network.to(memory_format=torch.channels_last)
    return network


def _from_scratch(name: str, adapted: dict[str, Any]) -> nn.Module:
    """A model of timm with random weights that takes an image of MNIST."""
    import timm

    try:
        network: nn.Module = timm.create_model(name, pretrained=False, **adapted)
        if "patch_size" not in adapted:
            # Whether a CNN halves its maps too often, or is no CNN, shows only when it runs.
            with torch.inference_mode():
                network.eval()(torch.zeros(1, IN_CHANS, IMAGE_SIZE, IMAGE_SIZE))
    except (AssertionError, RuntimeError, TypeError) as error:
        raise VitrailError(
            f"config: timm_model {name!r} cannot be built for {IMAGE_SIZE} px images: {error}"
        ) from error
    return network.train()


def _check_pixels(settings: Settings, weights: dict[str, Any]) -> None:
    """Pretrained weights fed with pixels of another scale lose accuracy in silence."""
    for key, name in (("pixel_mean", "mean"), ("pixel_std", "std")):
        expected = sum(weights[name]) / len(weights[name])
        if abs(settings[key] - expected) > 0.01:
            raise VitrailError(
                f"config: {key} is {settings[key]}, but the weights {weights['tag']} were trained "
                f"with {expected:.3g}; set it in the settings of the experiment"
            )


def load_run(folder: Path) -> nn.Module:
    """The trained network of a finished run, in evaluation mode.

    Raises:
        VitrailError: when the folder's weights are damaged.
    """
    from safetensors.torch import load_model

    settings = read_json(folder / "config.json")["settings"]
    # The weights of the run replace the pretrained ones, so none need be found again.
    network = build({**settings, "pretrained": ""} if "pretrained" in settings else settings)
    try:
        load_model(network, folder / "model.safetensors")
    except Exception as error:  # safetensors raises its own and torch's errors
        raise VitrailError(
            f"{folder / 'model.safetensors'} is damaged ({error}); delete the folder {folder} "
            "and run the same command again"
        ) from error
    return network.eval()
