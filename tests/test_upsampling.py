"""Images enlarged inside the network (`img_size`), the way that leaves pretrained weights alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F

from vitrail.config import load, merge, validate
from vitrail.data import Mnist
from vitrail.errors import VitrailError
from vitrail.networks import build, load_run
from vitrail.run_folder import write_run
from vitrail.runs import expand
from vitrail.setting_checks import checked
from vitrail.settings import arm_id, run_id
from vitrail.train import run

ROOT = Path(__file__).parents[1]
TINY = {"model": "timm", "timm_model": "test_vit", "patch_size": 14, "optimizer": "adamw"}
BUDGET = {"train_size": 32, "validation": 20, "batch_size": 32, "epochs": 1, "evaluations": 1}
Settings = dict[str, Any]


@pytest.fixture
def defaults(config: Settings) -> Settings:
    return {**config["defaults"], **BUDGET}


def test_the_network_sees_the_enlarged_images(defaults: Settings) -> None:
    import timm

    net = build(checked(defaults, {**TINY, "img_size": 56}, "a test")).eval()
    plain = timm.create_model("test_vit", img_size=56, patch_size=14, in_chans=1, num_classes=10)
    plain.load_state_dict(net.state_dict())  # the same names: Muon and checkpoints go by them
    images = torch.rand(2, 1, 28, 28)
    enlarged = F.interpolate(images, size=56, mode="bilinear")
    torch.testing.assert_close(net(images), plain.eval()(enlarged), rtol=0, atol=0)
    assert net.forward_features(images).shape[1] == (56 // 14) ** 2 + 1


def test_28_pixels_are_left_alone(defaults: Settings) -> None:
    """And the arms from before the setting was there keep their names."""
    as_before, asked = ({**TINY}, {**TINY, "img_size": 28})
    settings = checked(defaults, asked, "a test")
    assert settings == checked(defaults, as_before, "a test")
    assert not build(settings).patch_embed._forward_pre_hooks
    larger = checked(defaults, {**TINY, "img_size": 56}, "a test")
    assert arm_id(larger).startswith("test-vit-p14-56px-scratch-")
    assert arm_id(settings).startswith("test-vit-p14-scratch-")


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_it_trains_and_comes_back_from_its_folder(
    defaults: Settings, mnist: Mnist, tmp_path: Path, optimizer: str
) -> None:
    own = {**TINY, "img_size": 56, "optimizer": optimizer}
    settings = checked(defaults, own, "a test")
    network, log, logits, summary = run(settings, 0, mnist, torch.device("cpu"), None)
    assert len(log.history) == 1
    small = run(checked(defaults, TINY, "a test"), 0, mnist, torch.device("cpu"), None)[3]
    assert summary["macs"] > 3 * small["macs"], "17 tokens instead of 5"
    folder = tmp_path / run_id(arm_id(settings), 0)
    tables = {"history.csv": log.history, "timing.csv": log.seconds}
    write_run(folder, settings, 0, summary, {}, (network, tables, logits))
    images = torch.rand(2, 1, 28, 28)
    with torch.no_grad():
        assert torch.equal(load_run(folder)(images), network.eval()(images))


@pytest.mark.parametrize(
    ("own", "said"),
    [
        ({"patch_size": 16}, "patch_size 16 does not divide the image size 28; choose one that"),
        (
            {"patch_size": 16, "img_size": 100},
            "patch_size 16 does not divide the image size 100; choose one that does, or set "
            "img_size to a multiple of it",
        ),
        ({"model": "vit", "img_size": 56}, "img_size has no effect on model 'vit'"),
    ],
)
def test_patches_that_do_not_tile_the_image_are_refused(
    defaults: Settings, own: Settings, said: str
) -> None:
    """timm itself takes the first of them and reads a third of the image."""
    arm = own if "model" in own else {**TINY, "timm_model": "vit_small_patch16_224", **own}
    with pytest.raises(VitrailError, match=said):
        checked(defaults, arm, "a test")


def test_the_config_may_ask_for_it_and_not_for_less(config: Settings) -> None:
    schema = ROOT / "workflow" / "schemas" / "config.schema.yaml"

    def with_side(side: int) -> Settings:
        arm = {"label": "enlarged", "settings": {**TINY, "patch_size": 14, "img_size": side}}
        changed = load([ROOT / "config" / "default.yaml"])
        block = {"title": "A title", "arms": {"small": {"settings": TINY}, "enlarged": arm}}
        merge(changed, {"questions": {"q8_transfer": {"experiments": {"sides": block}}}})
        return changed

    validate(with_side(56), schema)
    plan = expand(with_side(56))
    sides = next(one for one in plan.experiments if one.name == "sides")
    assert sides.member("enlarged").arm.settings["img_size"] == 56
    with pytest.raises(VitrailError, match=r"img_size.*14|14.*img_size"):
        validate(with_side(14), schema)
