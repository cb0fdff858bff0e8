"""The networks that the study trains, built from an arm's settings."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vitrail.errors import VitrailError
from vitrail.files import read_json
from vitrail.intact import intact, read_summary
from vitrail.settings import (
    IMAGE_SIZE,
    MODEL_FIELDS,
    NUM_CLASSES,
    Settings,
    in_full,
    takes_patches,
)

IN_CHANS = 1
HEAD = "head."  # how the names of a classifier's weights begin, in timm's models too
# Up to about so many tokens the fused kernel's fixed cost is more than it saves: a training
# step of the base ViT with 17 tokens is 1.1 to 1.3 times faster written out (one CPU core).
SHORT = 64


class SmallCnn(nn.Module):
    """The yardstick: three 3x3 convolutions and a linear head, (B, 1, 28, 28) -> (B, classes).

    Convolution with stride 2, batch norm and ReLU, three times, with `channels`,
    2 `channels` and 4 `channels` maps; then the mean over the last 4x4 map. `channels`
    sets the number of parameters, which the study matches to the base ViT.
    """

    def __init__(self, channels: int, num_classes: int = NUM_CLASSES) -> None:
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
        self.head = nn.Linear(widths[-1], num_classes)
        # The layout that CPU convolutions are fastest in: 1.6 times the images per second.
        self.to(memory_format=torch.channels_last)

    def forward(self, images: Tensor) -> Tensor:
        images = images.contiguous(memory_format=torch.channels_last)
        return self.head(self.features(images).mean(dim=(2, 3)))


class PixelMlp(nn.Sequential):
    """A network without any notion of an image: (B, 1, 28, 28) -> (B, classes).

    Two hidden layers of `hidden` units with ReLU on the flattened pixels.
    """

    def __init__(self, hidden: int, num_classes: int = NUM_CLASSES) -> None:
        super().__init__(
            nn.Flatten(),
            nn.Linear(IN_CHANS * IMAGE_SIZE**2, hidden),
            nn.ReLU(),
            nn.Linear(hidden, hidden),
            nn.ReLU(),
            nn.Linear(hidden, num_classes),
        )


class LogisticRegression(nn.Sequential):
    """Multinomial logistic regression on the pixels: (B, 1, 28, 28) -> (B, classes)."""

    def __init__(self, num_classes: int = NUM_CLASSES) -> None:
        super().__init__(nn.Flatten(), nn.Linear(IN_CHANS * IMAGE_SIZE**2, num_classes))


def head_of(network: nn.Module) -> nn.Module:
    """The last linear layer: of a timm model its classifier, of ours `head`."""
    there: Any = network
    head: nn.Module = there.get_classifier() if hasattr(there, "get_classifier") else there.head
    return head


def fuses(settings: Settings) -> bool:
    """Whether the attention of a ViT is long enough for the fused kernel."""
    side = settings.get("window_size", IMAGE_SIZE // settings["patch_size"])
    return side**2 > SHORT


def build(
    settings: Settings, weights: dict[str, Any] | None = None, num_classes: int = NUM_CLASSES
) -> nn.Module:
    """The network of an arm, freshly initialised (or pretrained, for such an arm).

    Takes images (B, 1, 28, 28) and gives logits (B, num_classes). `weights` is what
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
            num_classes=num_classes,
            fused_attn=fuses(settings),
            **arguments,
        )
    if kind == "cnn":
        return SmallCnn(settings["channels"], num_classes)
    if kind == "mlp":
        return PixelMlp(settings["hidden"], num_classes)
    if kind == "logistic":
        return LogisticRegression(num_classes)
    return _timm_model(settings, weights, num_classes)


def enlarge(module: nn.Module, inputs: tuple[Tensor]) -> tuple[Tensor]:
    """Images (B, C, H, W) -> (B, C, S, S), bilinear, with S the `img_size` of a `PatchEmbed`.

    A hook on the patch embedding and no module around the network: every parameter keeps the
    name that it has in timm, which pretrained weights and Muon go by.
    """
    side: Any = module.img_size
    return (F.interpolate(inputs[0], size=side, mode="bilinear", align_corners=False),)


def _timm_model(settings: Settings, weights: dict[str, Any] | None, num_classes: int) -> nn.Module:
    """A model of timm adapted to MNIST: one channel, its own head; a ViT may enlarge the images."""
    img_size = in_full(settings)["img_size"]
    net = _adapted(settings, weights, img_size, num_classes)
    if img_size != IMAGE_SIZE:
        patch_embed: Any = net.patch_embed
        patch_embed.register_forward_pre_hook(enlarge)
    return net


def _adapted(
    settings: Settings, weights: dict[str, Any] | None, img_size: int, num_classes: int
) -> nn.Module:
    """timm's network; a ViT for images of `img_size` pixels a side."""
    adapted: dict[str, Any] = {"in_chans": IN_CHANS, "num_classes": num_classes}
    if takes_patches(settings):
        adapted |= {"img_size": img_size, "patch_size": settings["patch_size"]}
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

    side = adapted.get("img_size", IMAGE_SIZE)
    try:
        network: nn.Module = timm.create_model(name, pretrained=False, **adapted)
        if "patch_size" not in adapted:
            # Whether a CNN halves its maps too often, or is no CNN, shows only when it runs.
            with torch.inference_mode():
                network.eval()(torch.zeros(1, IN_CHANS, IMAGE_SIZE, IMAGE_SIZE))
    except (AssertionError, RuntimeError, TypeError) as error:
        raise VitrailError(
            f"config: timm_model {name!r} cannot be built for {side} px images: {error}"
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


def load_start(network: nn.Module, path: Path) -> None:
    """Give a network the trunk of one that `vitrail.pretraining` wrote; its head stays as it is.

    Every weight comes from the file `model.safetensors` but those of the head (`head.*`),
    whose outputs were other classes, or pixels.

    Raises:
        VitrailError: the file is missing or damaged, or its trunk is not the network's.
    """
    from safetensors.torch import load_file

    again = f"delete the folder {path.parent} and run the same command again"
    try:
        found = load_file(intact(path.parent, path.name))
    except VitrailError:
        raise
    except Exception as error:  # safetensors raises its own errors
        raise VitrailError(f"{path} is missing or damaged ({error}); {again}") from error
    trunk = {name: value for name, value in found.items() if not name.startswith(HEAD)}
    own = {name: v for name, v in network.state_dict().items() if not name.startswith(HEAD)}
    wrong = sorted(trunk.keys() ^ own.keys())
    wrong += [name for name in trunk.keys() & own.keys() if trunk[name].shape != own[name].shape]
    if wrong:
        raise VitrailError(
            f"{path} does not fit the network: {wrong[0]} ({len(wrong)} in all) is missing or of "
            "another shape on one side; a start needs the model settings of its pretraining"
        )
    network.load_state_dict(trunk, strict=False)


def load_run(folder: Path) -> nn.Module:
    """The trained network of a finished run, in evaluation mode.

    Raises:
        VitrailError: when the folder's weights are damaged.
    """
    from safetensors.torch import load_model

    if (folder / "summary.json").is_file():  # MLflow keeps settings and weights alone
        read_summary(folder)
    settings = read_json(folder / "config.json")["settings"]
    # The weights of the run replace the pretrained ones, so none need be found again.
    network = build({**settings, "pretrained": ""} if "pretrained" in settings else settings)
    try:
        load_model(network, intact(folder, "model.safetensors"))
    except VitrailError:
        raise
    except Exception as error:  # safetensors raises its own and torch's errors
        raise VitrailError(
            f"{folder / 'model.safetensors'} is damaged ({error}); delete the folder {folder} "
            "and run the same command again"
        ) from error
    return network.eval()
