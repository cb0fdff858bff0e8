"""Read a file of ImageNet weights without running code from it, and check what it holds.

Three kinds of file: safetensors; `.pth`, through `torch.load` with `weights_only=True`;
`.npz` in the layout of the original JAX code, through NumPy without pickle and timm.
"""

from __future__ import annotations

import pickle  # noqa: TID251 - for the name of its error
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vitrail.errors import VitrailError
from vitrail.packaged import in_timm_names

if TYPE_CHECKING:
    import torch

    State = dict[str, torch.Tensor]

SUFFIXES = (".safetensors", ".npz", ".pth")


def pretrained_cfg(model: str, tag: str) -> Any:
    """timm's description of the weights.

    Raises:
        VitrailError: timm knows no such model or tag; lists the tags that it knows.
    """
    import timm

    known = timm.list_pretrained(f"{model}.*")
    if f"{model}.{tag}" not in known:
        tags = ", ".join(name.partition(".")[2] for name in known)
        hint = f"has the tags {tags}" if known else "is not a model with pretrained weights"
        raise VitrailError(
            f"config: pretrained: timm knows no weights {model}.{tag}; {model} {hint} "
            f"(timm {timm.__version__})"
        )
    return timm.get_pretrained_cfg(f"{model}.{tag}")


def _read_npz(path: Path, model: str, tag: str) -> State:
    """Weights in the layout of the original JAX code, turned into timm's by timm."""
    import numpy as np
    import timm

    arrays = np.load(path, allow_pickle=False)
    if isinstance(arrays, np.ndarray) or "embedding/kernel" not in arrays.files:
        raise ValueError("it is not an archive in the layout of the original ViT code")
    with arrays:
        heads = [len(arrays[key]) for key in ("head/bias",) if key in arrays.files]
    # In the geometry that it was trained with, so that nothing is resampled here.
    overlay = {"file": str(path), "custom_load": True}
    net = timm.create_model(
        f"{model}.{tag}",
        pretrained=True,
        pretrained_cfg_overlay=overlay,
        num_classes=heads[0] if heads else 0,
    )
    state: State = net.state_dict()
    return state


def _read_file(path: Path, model: str, tag: str) -> State:
    if path.suffix == ".npz":
        return _read_npz(path, model, tag)
    if path.suffix == ".safetensors":
        from safetensors.torch import load_file

        tensors: State = load_file(path)
        return tensors
    import torch

    content = torch.load(path, map_location="cpu", weights_only=True)
    for key in ("state_dict", "model"):
        if isinstance(content, dict) and isinstance(content.get(key), dict):
            content = content[key]
    if not isinstance(content, dict):
        raise ValueError("it does not hold named tensors")
    return {str(key).removeprefix("module."): value for key, value in content.items()}


def read_weights(path: Path, model: str, tag: str) -> State:
    """Read a file of weights and make sure that they are those of the model.

    timm loads what fits and only logs the rest when the number of classes changes, so a
    wrong file would pass for pretrained weights; hence the comparison name by name.

    Returns:
        tensors (float32, counters as they are) in timm's names and in the shapes of the model
        at its native image size; the classifier is there if the file has it.

    Raises:
        VitrailError: the file is torn, hostile, or belongs to another model or tag.
    """
    import timm
    import torch
    from safetensors import SafetensorError

    if path.suffix not in SUFFIXES:
        raise VitrailError(
            f"{path} is refused: the name has to end in one of {', '.join(SUFFIXES)}"
        )
    anew = "obtain it again, or name another file in pretrained.path"
    try:
        state = _read_file(path, model, tag)
    except pickle.UnpicklingError as error:
        raise VitrailError(
            f"{path} is refused: it holds more than tensors, and reading it could run code "
            "from it (or it is torn); use a .safetensors file"
        ) from error
    except (
        SafetensorError, OSError, EOFError, ValueError, RuntimeError, KeyError, zipfile.BadZipFile
    ) as error:  # fmt: skip
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise VitrailError(f"{path} cannot be read as weights ({reason}); {anew}") from error

    cfg = pretrained_cfg(model, tag)
    with torch.device("meta"):
        wanted = timm.create_model(model, num_classes=cfg.num_classes).state_dict()
    state = in_timm_names(state, wanted)
    state = {key: value for key, value in state.items() if not key.startswith("pre_logits.")}
    optional = {f"{cfg.classifier}.weight", f"{cfg.classifier}.bias"}
    lacking = [key for key in wanted if key not in state and key not in optional]
    foreign = [key for key in state if key not in wanted]
    if lacking or foreign:
        what = f"lacks {lacking[0]}" if lacking else f"has {foreign[0]} besides"
        raise VitrailError(f"{path} does not hold the weights of {model}.{tag}: it {what}; {anew}")
    for key, value in state.items():
        if not isinstance(value, torch.Tensor) or value.shape != wanted[key].shape:
            shape, right = tuple(getattr(value, "shape", ())), tuple(wanted[key].shape)
            raise VitrailError(
                f"{path} does not hold the weights of {model}.{tag}: {key} has shape {shape} "
                f"instead of {right}; {anew}"
            )
        if not bool(torch.isfinite(value).all()):
            raise VitrailError(f"{path} is damaged: {key} holds values that are not finite; {anew}")
    return {
        key: value.float() if value.is_floating_point() else value for key, value in state.items()
    }
