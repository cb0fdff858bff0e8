"""Pretraining without foreign weights: what it learns from, what it leaves, what it refuses."""

from __future__ import annotations

import csv
import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from vitrail import data
from vitrail.data import Mnist
from vitrail.errors import VitrailError
from vitrail.files import read_json, sha256
from vitrail.networks import build, load_start
from vitrail.pretraining import __main__ as step
from vitrail.pretraining import learn as learning
from vitrail.pretraining.learn import learn, mean_image_loss
from vitrail.pretraining.masked import MaskedAutoencoder
from vitrail.pretraining.recipe import DEFAULTS, read_recipe
from vitrail.pretraining.stream import batches
from vitrail.settings import relevant

Settings = dict[str, Any]
CPU = torch.device("cpu")
TINY = {"classes": 10, "steps": 60, "batch_size": 32, "learning_rate": 0.003}
torch.set_num_threads(1)


pytestmark = pytest.mark.usefixtures("deterministic")


@pytest.fixture
def vit(config: Settings) -> Settings:
    """A ViT that learns ten classes in a second or two."""
    small = {"embed_dim": 32, "depth": 2, "num_heads": 2, "validation": 100}
    return relevant({**config["defaults"], **small})


@pytest.fixture
def cnn(config: Settings) -> Settings:
    own = {"model": "cnn", "channels": 8, "optimizer": "adamw", "validation": 100}
    return relevant({**config["defaults"], **own})


@pytest.fixture
def timm_vit(config: Settings) -> Settings:
    own = {"model": "timm", "timm_model": "vit_tiny_patch16_224", "patch_size": 14}
    return relevant({**config["defaults"], **own, "pretrained": "", "validation": 100})


def tiny(model: Settings, **more: Any) -> Settings:
    return read_recipe({**TINY, **more}, model)


def masked(model: Settings, **more: Any) -> Settings:
    return tiny(model, images="digits", task="masked", **more)


# --- What is learnt, and from what


@pytest.mark.parametrize("kind", ["strokes", "fractals", "cnn", "timm", "digits"])
def test_same_seed_same_bits(kind: str, mnist: Mnist, request: pytest.FixtureRequest) -> None:
    """Weights and losses; another seed gives others."""
    names = {"cnn": ("cnn", {"optimizer": "adamw"}), "timm": ("timm_vit", {"optimizer": "adamw"})}
    fixture, own = names.get(kind, ("vit", {"images": kind} if kind != "digits" else {}))
    model = request.getfixturevalue(fixture)
    make = masked if kind == "digits" else tiny

    def once(seed: int) -> tuple[dict[str, torch.Tensor], list[Settings]]:
        recipe = make(model, steps=3, seed=seed, **own)
        weights, log = learn(recipe, model, mnist.train_images, CPU, "fp32")
        torch.rand(17)
        return weights, log.history

    (first, rows), (again, same), (_, others) = once(0), once(0), once(1)
    assert rows == same != others
    assert all(torch.equal(first[name], again[name]) for name in first)


@pytest.mark.parametrize("images", ["strokes", "fractals"])
def test_classes_are_learnt_but_not_shuffled_labels(images: str, vit: Settings) -> None:
    """From a loss of ln 10; the control sees the same images and learns nothing."""
    _, log = learn(tiny(vit, images=images), vit, None, CPU, "fp32")
    _, control = learn(tiny(vit, images=images, shuffled_labels=True), vit, None, CPU, "fp32")
    assert log.history[-1]["train_loss"] < 1.7
    assert log.history[-1]["train_accuracy"] > 0.5
    assert control.history[-1]["train_loss"] > 2.2
    assert control.history[-1]["train_accuracy"] < 0.3


def test_control_differs_in_the_labels_alone(vit: Settings) -> None:
    pairs = zip(
        batches(tiny(vit), None), batches(tiny(vit, shuffled_labels=True), None), strict=True
    )
    agree = []
    for (images, labels), (same, others) in pairs:
        assert torch.equal(images, same)
        agree.append((labels == others).float().mean())
    assert len(agree) == TINY["steps"]
    assert 0.05 < torch.stack(agree).mean() < 0.15  # one in ten


def test_bf16_is_used_when_asked_for(vit: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[torch.dtype] = []

    def spy(settings: Settings, **more: Any) -> nn.Module:
        network = build(settings, **more)
        network.register_forward_hook(lambda module, given, found: seen.append(found.dtype))
        return network

    monkeypatch.setattr(learning, "build", spy)
    learn(tiny(vit, steps=1), vit, None, CPU, "bf16")
    learn(tiny(vit, steps=1), vit, None, CPU, "fp32")
    assert seen == [torch.bfloat16, torch.float32]


# --- The masked autoencoder


@pytest.mark.parametrize("pooling", ["token", "seq", "avg"])
def test_hidden_patches_reach_the_encoder_in_no_way(vit: Settings, pooling: str) -> None:
    model = vit | {"global_pool": pooling, "class_token": pooling == "token"}
    torch.manual_seed(0)
    autoencoder = MaskedAutoencoder(build(model), mask_ratio=0.75).eval()
    images = torch.rand(3, 1, 28, 28)
    order = torch.rand(3, 16).argsort(dim=1)
    assert autoencoder.shown == 4
    before = autoencoder.encode(images, order[:, :4])
    rows, columns = order // 4, order % 4
    for position, same in ((3, False), (4, True), (15, True)):
        changed = images.clone()
        for image in range(3):
            row, column = 7 * rows[image, position], 7 * columns[image, position]
            changed[image, :, row : row + 7, column : column + 7] += 1
        assert torch.equal(autoencoder.encode(changed, order[:, :4]), before) == same
        # The loss is over the hidden patches alone, drawn in their own places.
        drawn = autoencoder(images, order)[1]
        assert torch.equal(autoencoder(changed, order)[1], drawn) == same


def test_loss_is_that_of_the_hidden_patches(vit: Settings) -> None:
    torch.manual_seed(0)
    autoencoder = MaskedAutoencoder(build(vit), mask_ratio=0.75)
    images, order = torch.rand(2, 1, 28, 28), torch.rand(2, 16).argsort(dim=1)
    loss, drawn = autoencoder(images, order)
    errors = []
    for image in range(2):
        for place in order[image, 4:].tolist():
            row, column = 7 * (place // 4), 7 * (place % 4)
            patch = images[image, 0, row : row + 7, column : column + 7].flatten()
            errors.append((drawn[image, place] - patch).square().mean())
    assert torch.allclose(loss, torch.stack(errors).mean())


def test_autoencoder_draws_better_than_the_mean_image(vit: Settings, mnist: Mnist) -> None:
    """Of the stand-in for MNIST, whose digits are textures that repeat from patch to patch."""
    recipe = masked(vit, steps=150)
    _, log = learn(recipe, vit, mnist.train_images, CPU, "fp32")
    reference = mean_image_loss(recipe, vit, mnist.train_images)
    assert log.history[-1]["train_loss"] < 0.6 * reference


@pytest.mark.parametrize(("ratio", "shown"), [(0.01, 15), (0.5, 8), (0.99, 1)])
def test_something_is_hidden_and_something_shown(vit: Settings, ratio: float, shown: int) -> None:
    assert MaskedAutoencoder(build(vit), ratio).shown == shown


# --- The command and its folder


def command(
    monkeypatch: pytest.MonkeyPatch, asked: Settings, data_folder: Path, out: Path
) -> Settings:
    places = ["--data", str(data_folder), "--out", str(out), "--device", "cpu"]
    monkeypatch.setattr(sys, "argv", ["pretraining", "--settings", json.dumps(asked), *places])
    step.main()
    return read_json(out / "summary.json")


@pytest.mark.parametrize("task", ["classify", "masked"])
def test_folder_is_whole_and_starts_a_network(
    task: str, vit: Settings, data_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sums = {name: sha256(data_folder / name) for name in data.FILES}
    monkeypatch.setattr(data, "FILES", sums)
    images = "digits" if task == "masked" else "strokes"
    recipe = {**TINY, "steps": 40, "images": images, "task": task}
    asked = {"recipe": recipe, "model": vit, "train_size": 500}
    out = tmp_path / "pretraining" / "start"
    summary = command(monkeypatch, asked, data_folder, out)
    assert [path.name for path in out.parent.iterdir()] == ["start"]  # no draft is left
    assert {path.name for path in out.iterdir()} == {*summary["files"], "summary.json"}
    assert {"model.safetensors", "history.csv", "timing.csv", "config.json", "env.json"} == set(
        summary["files"]
    )
    for name, sum_ in summary["files"].items():
        assert sha256(out / name) == sum_, name
    assert read_json(out / "config.json") == {"model": vit, "recipe": {**DEFAULTS, **recipe}}
    with (out / "history.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert [int(row["step"]) for row in rows] == list(range(2, 41, 2))
    assert int(rows[-1]["samples"]) == summary["samples"] == 40 * 32
    assert float(rows[-1]["train_loss"]) == summary["train_loss"]
    assert float(rows[0]["train_loss"]) > summary["train_loss"]
    assert ("data" in read_json(out / "env.json")) == (task == "masked")
    if task == "classify":
        assert summary["chance_accuracy"] == 0.1
        assert float(rows[-1]["train_accuracy"]) == summary["train_accuracy"]
    else:
        assert summary["mean_image_loss"] > 0

    torch.manual_seed(5)
    network = build(vit)
    fresh = {name: value.clone() for name, value in network.state_dict().items()}
    load_start(network, out / "model.safetensors")
    found = load_file(out / "model.safetensors")
    for name, value in network.state_dict().items():
        expected = fresh if name.startswith("head.") else found
        assert torch.equal(value, expected[name]), name
    assert not torch.equal(fresh["norm.weight"], found["norm.weight"])

    before = {path.name: path.read_bytes() for path in out.iterdir()}
    command(monkeypatch, asked, data_folder, out)  # again: the same bits
    for name in ("model.safetensors", "history.csv", "config.json"):
        assert (out / name).read_bytes() == before[name], name


def test_only_training_images_are_handed_on(
    vit: Settings, mnist: Mnist, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither validation nor test images: those are marked here, and no batch has the mark."""
    images = mnist.train_images // 2
    images[-100:] = 255
    marked = replace(mnist, train_images=images, test_images=np.full_like(mnist.test_images, 255))
    monkeypatch.setattr(step, "load_mnist", lambda folder, verify: marked)
    handed = step.unlabelled({"train_size": 500}, Path("nowhere"))
    assert handed.shape == (500, 28, 28)
    seen = torch.cat([images for images, _ in batches(masked(vit), handed)])
    assert seen.max() < 0.51
    assert len(seen.flatten(1).unique(dim=0)) > 450  # and of those nearly all


def test_formula_needs_no_data(vit: Settings, tmp_path: Path) -> None:
    asked = {"recipe": {**TINY, "steps": 1}, "model": vit}
    step.pretrain(asked, tmp_path / "nowhere", tmp_path / "start", CPU)
    assert (tmp_path / "start" / "model.safetensors").is_file()


# --- What is refused


@pytest.mark.parametrize(
    ("recipe", "own", "words"),
    [
        ({"images": "letters"}, {}, "images is 'letters' and must be one of strokes, fractals"),
        ({"task": "rotate"}, {}, "task is 'rotate' and must be one of classify, masked"),
        ({"step": 3}, {}, "step is no key of a recipe; there are images, task"),
        ({"steps": 0}, {}, "steps is 0 and must be at least 1"),
        ({"classes": 1}, {}, "classes is 1 and must be at least 2"),
        ({"batch_size": 0}, {}, "batch_size is 0 and must be at least 1"),
        ({"images": "digits"}, {}, "without their labels.*set task to masked"),
        ({"task": "masked", "mask_ratio": 1}, {}, "mask_ratio is 1 and must lie between 0 and 1"),
        ({"task": "masked", "shuffled_labels": True}, {}, "no labels to shuffle"),
        ({"task": "masked"}, {"model": "timm"}, "needs model vit with patch_embed linear"),
        ({"task": "masked"}, {"patch_embed": "conv"}, "needs model vit with patch_embed linear"),
        ({"task": "masked"}, {"attention": "window"}, "attention window does not take"),
        ({}, {"model": "cnn"}, "optimizer muon works on the matrices.*choose adamw or sgd"),
    ],
)
def test_recipe_that_makes_no_sense_is_named(
    recipe: Settings, own: Settings, words: str, vit: Settings
) -> None:
    with pytest.raises(VitrailError, match=words):
        read_recipe(recipe, vit | own)


def test_start_that_does_not_fit_is_named(vit: Settings, tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    with pytest.raises(VitrailError, match=r"is missing or damaged.*delete the folder"):
        load_start(build(vit), path)
    path.write_bytes(b"torn")
    with pytest.raises(VitrailError, match="is missing or damaged"):
        load_start(build(vit), path)
    whole = build(vit, num_classes=30).state_dict()
    save_file(whole, path)
    network = build(vit)
    load_start(network, path)
    assert network.head.out_features == 10
    for wrong in (
        {name: value for name, value in whole.items() if name != "norm.weight"},
        whole | {"norm.scale": torch.ones(1)},
        whole | {"pos_embed": torch.zeros(1, 50, 32)},
    ):
        save_file(wrong, path)
        with pytest.raises(VitrailError, match=r"(norm|pos_embed).*\(1 in all\) is missing or of"):
            load_start(network, path)


@pytest.mark.parametrize("kind", ["vit", "cnn", "timm_vit"])
def test_networks_take_any_number_of_classes(kind: str, request: pytest.FixtureRequest) -> None:
    model = request.getfixturevalue(kind)
    assert build(model, num_classes=37).eval()(torch.zeros(2, 1, 28, 28)).shape == (2, 37)
    assert build(model).eval()(torch.zeros(2, 1, 28, 28)).shape == (2, 10)
