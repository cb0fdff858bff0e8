"""Killed and resumed trainings end in the same bits, by every method that the study has."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from made_attempts import Interrupted, Killed
from vitrail import train
from vitrail.data import Mnist
from vitrail.pretraining.learn import learn
from vitrail.pretraining.recipe import read_recipe
from vitrail.resume import Unfinished
from vitrail.settings import steps_of

Settings = dict[str, Any]
CPU = torch.device("cpu")
torch.set_num_threads(1)
pytestmark = pytest.mark.usefixtures("deterministic")

# 30 steps, evaluated after 10, 20 and 30; a network that grows does so after 15.
STOPS = (4, 10, 15, 16, 29, 30)
METHODS: dict[str, Settings] = {
    "muon": {},
    "adamw": {"optimizer": "adamw", "schedule": "linear", "label_smoothing": 0.1},
    "sgd": {"optimizer": "sgd"},
    "lion": {"optimizer": "lion"},
    "moved": {"rotation": 15, "translation": 2, "scaling": 0.1},
    "dropout": {"drop_rate": 0.2},
    "sam": {"sam_radius": 0.05, "drop_rate": 0.1},
    "importance": {"selection": "importance"},
    "grow depth": {"grow": "depth"},
    "grow patch_size": {"grow": "patch_size", "optimizer": "adamw", "drop_rate": 0.1},
    "patch_drop_rate": {"patch_drop_rate": 0.5},
    "much at once": {
        "patch_drop_rate": 0.5, "sam_radius": 0.05, "grow": "depth", "selection": "importance",
        "rotation": 5, "drop_rate": 0.1,
    },
    "early_stopping": {"early_stopping": True, "label_budget": 200, "steps": 30, "drop_rate": 0.1},
    "bf16": {"precision": "bf16"},
    "linear attention": {"attention": "linear"},
    "window attention": {"attention": "window", "class_token": False, "global_pool": "avg"},
    "lsa": {"attention": "lsa", "patch_embed": "shifted"},
    "conv": {"patch_embed": "conv", "class_token": False, "global_pool": "seq"},
    "distilled": {"teacher": "a CNN"},
    "probe": {"tune": "head", "optimizer": "adamw"},
    "probe of moved images": {"tune": "head", "optimizer": "adamw", "rotation": 5},
    "cnn": {"model": "cnn", "channels": 4, "optimizer": "adamw"},
    "mlp": {"model": "mlp", "hidden": 16, "optimizer": "adamw"},
    "logistic": {"model": "logistic", "optimizer": "adamw"},
    "timm": {
        "model": "timm", "timm_model": "test_vit", "pretrained": "", "patch_size": 14,
        "img_size": 56, "optimizer": "adamw",
    },
    "timm cnn": {
        "model": "timm", "timm_model": "test_efficientnet", "pretrained": "",
        "optimizer": "adamw",
    },
}  # fmt: skip


def bits(network: nn.Module) -> dict[str, bytes]:
    return {name: value.numpy().tobytes() for name, value in network.state_dict().items()}


def resumed_and_straight(
    method: str, small: Any, mnist: Mnist, folder: Path, device: torch.device
) -> tuple[train.Log, train.Log]:
    """The logs of a training that was stopped at all `STOPS`, and of one that was not.

    History, logits and weights are compared here.
    """
    settings = small(**METHODS[method])
    assert steps_of(settings) == 30
    teacher = None
    if method == "distilled":
        torch.manual_seed(7)
        teacher = train.build(small(model="cnn", channels=4)).eval().to(device)
    straight = train.run(settings, 0, mnist, device, None, None, teacher)
    for stop in STOPS:
        torch.rand(stop)  # another process would stand elsewhere
        with pytest.raises(Interrupted):
            train.run(
                settings, 0, mnist, device, None, None, teacher,
                Killed(folder, {"of": method}, [stop]),
            )  # fmt: skip
    resumed = train.run(
        settings, 0, mnist, device, None, None, teacher, Unfinished(folder, {"of": method})
    )
    assert resumed[1].history == straight[1].history
    assert resumed[2].tobytes() == straight[2].tobytes()
    assert bits(resumed[0].cpu()) == bits(straight[0].cpu())
    for name in ("test_loss", "parameters", "macs", "kept_step", "samples"):
        assert resumed[3][name] == straight[3][name]
    assert resumed[3]["seconds"] >= resumed[1].seconds[-1]["seconds"] - 0.001
    return resumed[1], straight[1]


@pytest.mark.parametrize("method", METHODS)
def test_resumed_trainings_end_in_the_same_bits(
    method: str, small: Any, mnist: Mnist, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Stopped six times: history, logits and weights as straight through; seconds go on."""
    resumed, straight = resumed_and_straight(method, small, mnist, tmp_path / "run", CPU)
    assert resumed.kept == straight.kept
    assert resumed.resumed_at == list(STOPS)
    assert "resumed at step 30 of 30" in capsys.readouterr().out
    seconds = [row["seconds"] for row in resumed.seconds]
    assert seconds == sorted(seconds) and seconds[0] > 0


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="this machine has no CUDA device")
@pytest.mark.parametrize("method", ["muon", "much at once", "early_stopping", "cnn", "bf16"])
def test_resumed_trainings_end_in_the_same_bits_on_a_gpu(
    method: str, small: Any, mnist: Mnist, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Dropout draws from the device's own random numbers there."""
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    resumed_and_straight(method, small, mnist, tmp_path / "run", torch.device("cuda"))


def test_early_stopping_goes_on_with_its_best(small: Any, mnist: Mnist, tmp_path: Path) -> None:
    """Also when the best evaluation lies before the kill and the last is worse."""
    settings = small(
        early_stopping=True, label_budget=100, steps=40, evaluations=8, optimizer="sgd",
        learning_rate=3.0,
    )  # fmt: skip
    straight = train.run(settings, 0, mnist, CPU, None)
    assert 0 <= straight[1].kept < 7
    with pytest.raises(Interrupted):
        train.run(settings, 0, mnist, CPU, None, None, None, Killed(tmp_path / "run", {}, [39]))
    resumed = train.run(settings, 0, mnist, CPU, None, None, None, Unfinished(tmp_path / "run", {}))
    assert resumed[1].kept == straight[1].kept
    assert bits(resumed[0]) == bits(straight[0])


PRETRAININGS: dict[str, tuple[Settings, Settings]] = {
    "strokes": ({"images": "strokes"}, {}),
    "fractals": ({"images": "fractals", "optimizer": "adamw"}, {"drop_rate": 0.1}),
    "shuffled": ({"shuffled_labels": True}, {}),
    "masked": ({"images": "digits", "task": "masked"}, {}),
    "cnn": ({"optimizer": "adamw"}, {"model": "cnn", "channels": 4, "optimizer": "adamw"}),
}


@pytest.mark.parametrize("kind", PRETRAININGS)
def test_resumed_pretrainings_end_in_the_same_bits(
    kind: str, small: Any, mnist: Mnist, tmp_path: Path
) -> None:
    asked, own = PRETRAININGS[kind]
    model = small(**own)
    recipe = read_recipe({"classes": 10, "steps": 50, "batch_size": 16, **asked}, model)
    weights, log = learn(recipe, model, mnist.train_images, CPU, "fp32")
    for stop in (1, 5, 22, 49, 50):
        torch.rand(stop)
        with pytest.raises(Interrupted):
            killed = Killed(tmp_path / "start", {}, [stop])
            learn(recipe, model, mnist.train_images, CPU, "fp32", killed)
    again, resumed = learn(
        recipe, model, mnist.train_images, CPU, "fp32", Unfinished(tmp_path / "start", {})
    )
    assert resumed.history == log.history
    assert all(torch.equal(again[name], weights[name]) for name in weights)
    assert resumed.resumed_at == [1, 5, 22, 49, 50]
    seconds = [row["seconds"] for row in resumed.seconds]
    assert seconds == sorted(seconds) and len(seconds) == 20
