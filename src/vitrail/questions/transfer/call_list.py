"""Q8a: the calls of timm's networks that are tried, each with why it ends as it does.

What happens is not written here: `calls` makes them. The tests hold the two together by a
table that was checked by hand (tests/timm_calls.csv).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from vitrail.input_seconds import VIT

if TYPE_CHECKING:
    from torch import nn

Shape = tuple[int, int, int, int]
GRAY, RGB, RGB_32 = (1, 1, 28, 28), (1, 3, 28, 28), (1, 3, 32, 32)
GRAY_224, RGB_224, OBLONG = (1, 1, 224, 224), (1, 3, 224, 224), (1, 3, 224, 28)


@dataclass(frozen=True)
class Call:
    """One row: which network, the images that it is given, and the reason for what happens.

    Attributes:
        shape: of the tensor, (B, C, H, W).
        why: what is fixed, or is not.
        arguments: of `timm.create_model`.
        model: name in timm, or of one of `OWN`.
        after: what is done to the network before the call: as one types it, and done.
    """

    shape: Shape
    why: str
    arguments: dict[str, Any] = field(default_factory=dict)
    model: str = VIT
    after: tuple[str, Callable[[Any], None]] | None = None

    @property
    def code(self) -> str:
        """The arguments, or what is done afterwards."""
        words = [f"{name}={value!r}" for name, value in self.arguments.items()]
        return self.after[0] if self.after else ", ".join(words)


def drop_assertion(model: Any) -> None:
    """Switch the check of the size off."""
    model.patch_embed.strict_img_size = False


def set_input_size(model: Any) -> None:
    """Rebuild for 28 pixels and patches of 4."""
    model.set_input_size(img_size=28, patch_size=4)


_AS_BUILT = "The patch embedding asserts the size it was built for"
VIT_CALLS = [
    Call(GRAY, f"{_AS_BUILT}, before it looks at the channels."),
    Call(RGB, f"{_AS_BUILT}; three channels do not help."),
    Call(RGB_32, "The same, although 32 is a multiple of the patch."),
    Call(OBLONG, "The width is asserted as the height is."),
    Call(GRAY_224, "Size right, but the kernel has three channels."),
    Call(RGB_224, "What it was built for: 14 × 14 patches and the class token."),
    Call(GRAY_224, "A kernel of one channel.", {"in_chans": 1}),
    Call(
        RGB_32,
        "Behind the assertion: the learned positions are a table of 197 rows.",
        after=(".patch_embed.strict_img_size = False", drop_assertion),
    ),
    Call(RGB, "The trap: 28 // 16 = 1, one patch, and no word about the rest.", {"img_size": 28}),
    *(
        Call(GRAY, why, {"img_size": 28, "patch_size": patch, "in_chans": 1})
        for patch, why in {
            14: "Rebuilt: 14 divides 28, positions for 2 × 2 patches.",
            7: "Rebuilt for 4 × 4 patches.",
            4: "Rebuilt for 7 × 7 patches.",
            2: "Rebuilt for 14 × 14, as many tokens as 224 pixels give.",
        }.items()
    ),
    Call(
        (1, 1, 32, 32),
        "The same assertion, now of 28.",
        {"img_size": 28, "patch_size": 7, "in_chans": 1},
    ),
    Call(
        RGB,
        "Any multiple of the patch is taken, and 28 is none of 16.",
        {"dynamic_img_size": True},
    ),
    Call(
        RGB_32,
        "Positions are resampled to 2 × 2 in every call.",
        {"dynamic_img_size": True},
    ),
    Call(
        RGB,
        "Zeros at the right and lower edge make it 32; then as above.",
        {"dynamic_img_size": True, "dynamic_img_pad": True},
    ),
    Call(RGB, "Padding alone leaves the assertion in place.", {"dynamic_img_pad": True}),
    Call(
        RGB,
        "An argument of the patch embedding, which `dynamic_img_size` sets.",
        {"strict_img_size": False},
    ),
    Call(
        RGB,
        "Rebuilt afterwards: positions and patch kernel are resampled.",
        after=(".set_input_size(img_size=28, patch_size=4)", set_input_size),
    ),
]
CNN_CALLS = [
    Call(GRAY, "The first kernel has three channels.", model="resnet18"),
    Call(GRAY, "A kernel of one channel.", {"in_chans": 1}, model="resnet18"),
    Call(RGB, "Five halvings leave one place; the head takes the mean.", model="resnet18"),
    Call(OBLONG, "Nothing asserts a size.", model="resnet18"),
    Call(RGB, "The same: five halvings, and the mean.", model="tf_efficientnet_lite0"),
    Call(RGB, "One halving too many: 2 × 2 windows on one place.", model="vgg11"),
    Call(RGB, "One halving too many: a 2 × 2 kernel on one place.", model="convnext_atto"),
    Call(GRAY, "The linear layer was made for 32 maps of 7 × 7.", model="flatten"),
    Call((1, 1, 32, 32), "32 maps of 8 × 8 do not fit it.", model="flatten"),
    Call(GRAY, "The mean over all places gives 32 numbers.", model="mean"),
    Call((1, 1, 32, 32), "The mean gives 32 numbers at any size.", model="mean"),
]


def small_cnn(*head: nn.Module) -> nn.Module:
    """Two convolutions that halve the image, 32 maps, and a head."""
    from torch import nn

    def halve(before: int, after: int) -> list[nn.Module]:
        return [nn.Conv2d(before, after, 3, stride=2, padding=1), nn.ReLU()]

    return nn.Sequential(*halve(1, 16), *halve(16, 32), *head)


def flatten_net() -> nn.Module:
    """A CNN with the head that ties it to 28 pixels."""
    from torch import nn

    return small_cnn(nn.Flatten(), nn.Linear(32 * 7 * 7, 10))


def mean_net() -> nn.Module:
    """The same with a head that takes any size."""
    from torch import nn

    return small_cnn(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(32, 10))


OWN = {"flatten": flatten_net, "mean": mean_net}
NAMES = {
    "flatten": "two convolutions, `Flatten`, `Linear(1568, 10)`",
    "mean": "two convolutions, mean, `Linear(32, 10)`",
}
