"""The arm with pretrained weights, from a file on disk to a finished run folder.

The checkpoint is made here, in timm's own format: random numbers, so nothing is said of
accuracy, only that they arrive where they should.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from vitrail import train, weights
from vitrail.data import Mnist
from vitrail.errors import VitrailError
from vitrail.files import read_json, write_json
from vitrail.networks import build
from vitrail.settings import arm_id, relevant, run_id

MODEL, TAG = "vit_tiny_patch16_224", "augreg_in21k_ft_in1k"


@pytest.fixture
def found(tmp_path: Path) -> dict[str, Any]:
    """What the weights step says of a made checkpoint."""
    import timm

    torch.manual_seed(5)
    path = tmp_path / f"{MODEL}.{TAG}.safetensors"
    save_file(timm.create_model(MODEL).state_dict(), path)
    return weights.find(MODEL, TAG, str(path))


@pytest.fixture
def settings(config: dict[str, Any]) -> dict[str, Any]:
    return relevant(
        config["defaults"]
        | {"model": "timm", "timm_model": MODEL, "pretrained": TAG, "patch_size": 14}
        | {"pixel_mean": 0.5, "pixel_std": 0.5, "validation": 20, "train_size": 64}
        | {"batch_size": 32, "epochs": 1, "evaluations": 1}
        | {"optimizer": "adamw", "learning_rate": 1e-9}
    )


def test_a_found_checkpoint_fills_the_arm(
    tmp_path: Path,
    found: dict[str, Any],
    settings: dict[str, Any],
    mnist: Mnist,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert found["status"] == "available"
    write_json(tmp_path / "weights.json", found)
    write_json(tmp_path / "data" / "source.json", {"route": "made", "sha256": {}})
    monkeypatch.setattr(train, "load_mnist", lambda _, verify: mnist)
    arguments = {
        "--settings": json.dumps(settings), "--seeds": "0", "--data": str(tmp_path / "data"),
        "--study": str(tmp_path), "--weights": str(tmp_path / "weights.json"),
    }  # fmt: skip
    monkeypatch.setattr(
        sys, "argv", ["train", *(word for pair in arguments.items() for word in pair)]
    )
    train.main()
    folder = tmp_path / "runs" / run_id(arm_id(settings), 0)
    assert read_json(folder / "summary.json")["status"] == "finished"
    # At a learning rate next to zero the trunk is still the one of the checkpoint.
    trained, given = load_file(folder / "model.safetensors"), load_file(found["path"])
    torch.testing.assert_close(
        trained["blocks.3.mlp.fc1.weight"], given["blocks.3.mlp.fc1.weight"], atol=1e-5, rtol=0
    )
    assert trained["pos_embed"].shape == (1, 5, 192)
    torch.testing.assert_close(
        trained["pos_embed"][:, 0], given["pos_embed"][:, 0], atol=1e-5, rtol=0
    )
    assert trained["patch_embed.proj.weight"].shape == (192, 1, 14, 14)


def test_pixels_of_another_scale_are_refused(
    found: dict[str, Any], settings: dict[str, Any]
) -> None:
    with pytest.raises(VitrailError, match=r"pixel_mean is 0.1307"):
        build(settings | {"pixel_mean": 0.1307}, found)
