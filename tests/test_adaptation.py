"""Adapting a checkpoint in timm's format to MNIST: what must be kept, and what must follow.

The weights are random numbers, a file that is made here; what is computed beside timm's own
adaptation shares no code with it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file

from vitrail import input_seconds, weights
from vitrail.efficiency import count_macs, count_parameters
from vitrail.errors import VitrailError
from vitrail.networks import build
from vitrail.questions.answer import Answer
from vitrail.questions.study import Study
from vitrail.questions.transfer import adaptation, input_cost
from vitrail.questions.transfer.adaptation import enlarged, resized, resizing, responses
from vitrail.setting_checks import checked

MODEL, TAG = "vit_tiny_patch16_224", "augreg_in21k_ft_in1k"
KERNEL, HEAD = "patch_embed.proj.weight", {"head.weight", "head.bias"}
State = dict[str, torch.Tensor]


def checkpoint(folder: Path, model: str, tag: str) -> dict[str, Any]:
    """A file of random weights under timm's names, and what `weights.find` says of it."""
    import timm

    with torch.device("meta"):
        shapes = {key: value.shape for key, value in timm.create_model(model).state_dict().items()}
    generator = torch.Generator().manual_seed(0)
    state = {key: 0.05 * torch.randn(shape, generator=generator) for key, shape in shapes.items()}
    for key in state:  # near one, as they are: near zero an image would hardly reach the logits
        if "norm" in key and key.endswith("weight"):
            state[key] += 1
    path = folder / f"{model}.{tag}.safetensors"
    save_file(state, path)
    return weights.find(model, tag, str(path))


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return checkpoint(tmp_path_factory.mktemp("weights"), MODEL, TAG)


@pytest.fixture(scope="module")
def before(found: dict[str, Any]) -> State:
    return load_file(found["path"])


def adapt(found: dict[str, Any], **arguments: Any) -> Any:
    torch.manual_seed(1)
    small = {"img_size": 28, "patch_size": 7, "num_classes": 10}
    return weights.create_pretrained(MODEL, found, **{**small, **arguments}).eval()


# The independent computation


@pytest.mark.parametrize(("size", "to"), [(14, 4), (14, 7), (14, 2), (4, 14), (16, 7), (7, 7)])
def test_our_resizing_is_bicubic_with_antialiasing(size: int, to: int) -> None:
    """Against Pillow, which is neither timm nor torch."""
    from PIL import Image

    image = np.random.default_rng(size).random((size, size)).astype(np.float32)
    theirs = Image.fromarray(image).resize((to, to), Image.Resampling.BICUBIC)
    np.testing.assert_allclose(resized(image, to), np.asarray(theirs), atol=1e-5)
    np.testing.assert_allclose(resizing(size, to).sum(axis=1), 1)


@pytest.mark.parametrize("to", [5, 7, 14])
def test_an_enlarged_patch_shrinks_to_what_it_was(to: int) -> None:
    small = np.random.default_rng(0).random((3, to, to))
    large = enlarged(small, 16)
    np.testing.assert_allclose([resized(patch, to) for patch in large], small, atol=1e-9)
    # The smallest of them: adding what shrinks to nothing makes it larger.
    back = np.linalg.pinv(resizing(16, to))
    noise = np.random.default_rng(1).random((16, 16))
    nothing = noise - back @ resized(noise, to) @ back.T
    assert np.abs(resized(nothing, to)).max() < 1e-9 < np.abs(nothing).max()
    assert np.square(large[0] + nothing).sum() > np.square(large[0]).sum()


# What timm's adaptation does


@pytest.mark.parametrize("patch_size", [14, 7, 4, 2])
def test_positions_are_resampled_and_the_class_tokens_is_kept(
    found: dict[str, Any], before: State, patch_size: int
) -> None:
    side = 28 // patch_size
    after = adapt(found, patch_size=patch_size, in_chans=1).state_dict()
    assert after["pos_embed"].shape == (1, side**2 + 1, 192)
    assert torch.equal(after["pos_embed"][:, 0], before["pos_embed"][:, 0])
    assert torch.equal(after["cls_token"], before["cls_token"])
    grid = before["pos_embed"][0, 1:].reshape(14, 14, 192).numpy()
    ours = resized(grid, side).reshape(side**2, 192)
    np.testing.assert_allclose(after["pos_embed"][0, 1:].numpy(), ours, atol=1e-6)


@pytest.mark.parametrize("patch_size", [14, 7, 4])
def test_a_smaller_kernel_answers_as_the_old_one_to_what_shrinks_to_the_patch(
    found: dict[str, Any], before: State, patch_size: int
) -> None:
    """FlexiViT's property, in the direction in which it holds exactly when patches shrink.

    w' = pinv(B^T) w gives <y, w'> = <pinv(B) y, w> for every small patch y; the other way
    <B x, w'> is <x, w> only for patches x that shrinking loses nothing of.
    """
    kernel = adapt(found, patch_size=patch_size).state_dict()[KERNEL].numpy()
    old = before[KERNEL].numpy()
    rng = np.random.default_rng(0)
    small = rng.standard_normal((5, 3, patch_size, patch_size))
    wanted = responses(old, enlarged(small, 16))
    assert np.abs(wanted).max() > 1
    np.testing.assert_allclose(responses(kernel, small), wanted, atol=1e-4)
    smooth = enlarged(small, 16)
    shrunk = np.stack([[resized(one, patch_size) for one in patch] for patch in smooth])
    np.testing.assert_allclose(responses(kernel, shrunk), responses(old, smooth), atol=1e-4)
    rough = rng.standard_normal((5, 3, 16, 16))
    shrunk = np.stack([[resized(one, patch_size) for one in patch] for patch in rough])
    assert np.abs(responses(kernel, shrunk) - responses(old, rough)).max() > 0.1


def test_a_larger_kernel_answers_the_enlarged_patch_as_the_old_one_the_patch(
    found: dict[str, Any], before: State
) -> None:
    """When patches grow nothing is lost, and <B x, w'> = <x, w> holds for every patch."""
    kernel = adapt(found, patch_size=28).state_dict()[KERNEL].numpy()
    patches = np.random.default_rng(0).standard_normal((5, 3, 16, 16))
    grown = np.stack([[resized(one, 28) for one in patch] for patch in patches])
    wanted = responses(before[KERNEL].numpy(), patches)
    assert np.abs(wanted).max() > 1
    np.testing.assert_allclose(responses(kernel, grown), wanted, atol=1e-4)


def test_the_colours_are_summed(found: dict[str, Any], before: State) -> None:
    """Logits of one channel are those of the gray image three times, under the same head."""
    gray = torch.randn(3, 1, 28, 28, generator=torch.Generator().manual_seed(0))
    one, three = adapt(found, in_chans=1), adapt(found)
    one.head.load_state_dict(three.head.state_dict())
    with torch.no_grad():
        logits, repeated = one(gray), three(gray.expand(-1, 3, -1, -1))
        single = three(torch.cat([gray, torch.zeros(3, 2, 28, 28)], dim=1))
    torch.testing.assert_close(logits, repeated, rtol=1e-4, atol=1e-4)
    assert (logits - single).abs().max() > 0.1, "one colour alone is another image"
    native = adapt(found, in_chans=1, img_size=224, patch_size=16).state_dict()
    assert torch.equal(native[KERNEL], before[KERNEL].sum(dim=1, keepdim=True))


def test_the_head_is_replaced_and_nothing_else(found: dict[str, Any], before: State) -> None:
    after = adapt(found, in_chans=1).state_dict()
    assert after["head.weight"].shape == (10, 192)
    assert not torch.equal(after["head.weight"], before["head.weight"][:10])
    changed = {key for key in before if not torch.equal(after[key], before[key])}
    assert changed == {"pos_embed", KERNEL, *HEAD}


@pytest.mark.parametrize(
    ("model", "tag", "mean", "std"),
    [
        ("vit_tiny_patch16_224", "augreg_in21k_ft_in1k", (0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),
        ("deit_tiny_patch16_224", "fb_in1k", (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    ],
)
def test_the_scale_of_pixels_is_that_of_the_weights(
    tmp_path: Path, config: dict[str, Any], model: str, tag: str, mean: Any, std: Any
) -> None:
    """And an arm that scales them otherwise is refused, with what to set."""
    found = checkpoint(tmp_path, model, tag)
    assert found["status"] == "available"
    assert (found["mean"], found["std"]) == (list(mean), list(std))
    own = {"model": "timm", "timm_model": model, "pretrained": tag, "patch_size": 14}
    scale = {"pixel_mean": round(sum(mean) / 3, 3), "pixel_std": round(sum(std) / 3, 3)}
    build(checked(settings(config), {**own, **scale}, "a test"), found)
    for key, value in scale.items():
        wrong = {**own, **scale, key: value + 0.1}
        with pytest.raises(VitrailError, match=rf"{key} is .*{tag} were trained with {value:.3g}"):
            build(checked(settings(config), wrong, "a test"), found)


def settings(config: dict[str, Any]) -> dict[str, Any]:
    return {**config["defaults"], "validation": 1, "optimizer": "adamw"}


# Enlarging instead


def test_at_224_pixels_pretrained_weights_stay_as_they_are(
    found: dict[str, Any], before: State, config: dict[str, Any]
) -> None:
    own = {"model": "timm", "timm_model": MODEL, "pretrained": TAG, "patch_size": 16}
    scale = {"pixel_mean": 0.5, "pixel_std": 0.5}
    arm = checked(settings(config), {**own, **scale, "img_size": 224}, "a test")
    net = build(arm, found)
    after = net.state_dict()
    assert set(after) == set(before)
    for key in set(before) - {KERNEL, *HEAD}:
        assert torch.equal(after[key], before[key]), key
    assert torch.equal(after[KERNEL], before[KERNEL].sum(dim=1, keepdim=True))
    # Digits of 28 pixels give what the plain network gives for the enlarged ones.
    plain = adapt(found, in_chans=1, img_size=224, patch_size=16)
    plain.head.load_state_dict(net.head.state_dict())  # type: ignore[union-attr, arg-type]
    digits = torch.rand(1, 1, 28, 28)
    with torch.no_grad():
        wanted = plain(F.interpolate(digits, size=224, mode="bilinear"))
        torch.testing.assert_close(net.eval()(digits), wanted, rtol=0, atol=0)


def test_patches_of_16_on_28_pixels_are_refused_on_both_ways(
    found: dict[str, Any], config: dict[str, Any]
) -> None:
    """By the config before anything runs, and by the pretrained route itself."""
    own = {"model": "timm", "timm_model": MODEL, "pretrained": TAG, "patch_size": 16}
    with pytest.raises(VitrailError, match="patch_size 16 does not divide the image size 28"):
        checked(settings(config), own, "experiments.transfer.arms.imagenet")
    with pytest.raises(VitrailError, match=r"16 does not divide the image size 28: only 16 pixels"):
        adapt(found, patch_size=16)


# The tables of the report


def test_the_table_of_the_adaptation(monkeypatch: pytest.MonkeyPatch) -> None:
    result = Answer(sentence="", table=pd.DataFrame())
    adaptation.add(result)
    table = result.data["adaptation"].set_index("part")
    for part in ("class token", "its position", "all else but the head", "at 224 px: patch kernel"):
        assert table.loc[part, "deviation"] == 0, part
    assert table.loc["at 224 px: all but the next two", "deviation"] == 0
    rounded = ["positions of the patches", "patch kernel", "its colours"]
    assert (table.loc[rounded, "deviation"].between(1e-12, 1e-5)).all()
    assert table.loc["positions of the patches", ["before", "after"]].tolist() == [
        "14 × 14 × 384", "4 × 4 × 384",
    ]  # fmt: skip
    assert table.loc["its colours", "after"] == "384 × 1 × 7 × 7"
    assert table["deviation"].isna().sum() == 2, "the two new heads"
    assert "random numbers" in result.tables["adaptation"]


@pytest.mark.parametrize("part", ["pos_embed", KERNEL, "blocks.0.mlp.fc1.bias"])
def test_a_wrong_adaptation_would_be_seen(monkeypatch: pytest.MonkeyPatch, part: str) -> None:
    make = weights.create_pretrained

    def spoiled(model: str, found: dict[str, Any], **arguments: Any) -> Any:
        net = make(model, found, **arguments)
        with torch.no_grad():
            net.get_parameter(part).mul_(1.5)
        return net

    monkeypatch.setattr(weights, "create_pretrained", spoiled)
    assert adaptation.adaptation_table()["deviation"].max() > 1e-3


def test_the_cost_of_the_ways_is_counted(
    config: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The formula's MACs and parameters are those of the networks that an arm would have."""
    monkeypatch.setattr(input_seconds, "ROUNDS", 1)
    study = Study(config, tmp_path)
    file = study.folder / "input_seconds.csv"
    monkeypatch.setattr("sys.argv", ["input_seconds", "--out", str(file)])
    input_seconds.main()
    result = Answer(sentence="", table=pd.DataFrame())
    input_cost.add(study, result)
    table = result.data["input_cost"]
    for row, (size, net) in zip(
        table.to_dict("records"), input_seconds.networks().items(), strict=True
    ):
        assert (row["img_size"], row["patch_size"]) == size
        assert row["parameters"] == count_parameters(net)
        assert row["macs"] == count_macs(net.to("meta"), torch.zeros(1, 1, 28, 28, device="meta"))
        assert row["seconds"] > 0
    by_size = table.set_index(["img_size", "patch_size"])
    assert by_size.loc[(28, 7), "ratio"] == 1
    assert by_size.loc[(224, 16), "ratio"] == pytest.approx(12.5, abs=0.1)
    assert by_size.loc[(224, 16), "seconds"] > 2 * by_size.loc[(28, 7), "seconds"]
    assert result.numbers["input_cost"]["ratio"] == "12.5"
    assert "| 224 | 16 | 197 |" in result.tables["input_cost"]


def test_the_clock_takes_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every network once per round, the first round for nothing."""
    order: list[tuple[int, int]] = []

    class Stub(torch.nn.Module):
        def __init__(self, size: tuple[int, int]) -> None:
            super().__init__()
            self.size = size

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            order.append(self.size)
            return images

    made: Any = {size: Stub(size) for size in input_seconds.SIZES}
    assert set(input_seconds.seconds_per_image(made)) == set(made)
    assert order == input_seconds.SIZES * (input_seconds.ROUNDS + 1)
