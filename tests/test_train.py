"""Training: repeatable to the bit, the same images for all arms, whole folders or none."""

from __future__ import annotations

import csv
import itertools
import json
import math
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from vitrail import data, run_folder, train
from vitrail.data import Mnist
from vitrail.errors import VitrailError
from vitrail.files import read_json, sha256
from vitrail.networks import LogisticRegression, PixelMlp, SmallCnn, build, head_of, load_run
from vitrail.runs import expand
from vitrail.settings import FINISHED_FILES, RUN_FILES, arm_id, relevant, run_id, steps_of

Settings = dict[str, Any]
CPU = torch.device("cpu")
FACTS = {"hardware": "a test"}
torch.set_num_threads(1)


pytestmark = pytest.mark.usefixtures("deterministic")


@pytest.fixture
def vit(config: Settings) -> Settings:
    """A ViT that learns the stand-in for MNIST in a second or two."""
    small = {"embed_dim": 16, "depth": 2, "num_heads": 2, "train_size": 500, "validation": 100}
    small |= {"epochs": 2, "batch_size": 32, "learning_rate": 0.01, "evaluations": 3}
    return relevant({**config["defaults"], **small})


@pytest.fixture
def cnn(vit: Settings, config: Settings) -> Settings:
    """A CNN with the same budget."""
    return relevant(
        {**config["defaults"], **vit, "model": "cnn", "channels": 4, "optimizer": "adamw"}
    )


def do(settings: Settings, mnist: Mnist, seed: int = 0) -> tuple[nn.Module, Any, Any, Settings]:
    return train.run(settings, seed, mnist, CPU, None)


def bits(network: nn.Module) -> dict[str, bytes]:
    return {name: value.numpy().tobytes() for name, value in network.state_dict().items()}


# --- What is computed


@pytest.mark.parametrize("kind", ["vit", "cnn", "moved"])
def test_same_seed_same_bits(kind: str, mnist: Mnist, request: pytest.FixtureRequest) -> None:
    """History, logits and weights, whatever was computed in between."""
    if kind == "moved":
        settings = request.getfixturevalue("vit") | {"rotation": 15, "translation": 2}
        settings |= {"optimizer": "muon", "matrix_learning_rate": 0.01}
    else:
        settings = request.getfixturevalue(kind)
    first = do(settings, mnist)
    torch.rand(17)
    np.random.default_rng().random(3)
    again, other = do(settings, mnist), do(settings, mnist, seed=1)
    assert first[1].history == again[1].history
    assert first[2].tobytes() == again[2].tobytes()
    assert bits(first[0]) == bits(again[0])
    assert first[1].history != other[1].history
    assert first[2].tobytes() != other[2].tobytes()
    for name in ("test_accuracy", "test_loss", "val_accuracy", "parameters", "macs"):
        assert first[3][name] == again[3][name]


@pytest.mark.parametrize(
    "change",
    [
        {"optimizer": "adamw"},
        {"optimizer": "sgd", "learning_rate": 0.05},
        {"optimizer": "muon", "matrix_learning_rate": 0.02, "schedule": "linear"},
        {"rotation": 3, "label_smoothing": 0.05},
        {"model": "mlp", "hidden": 32, "optimizer": "adamw"},
        {"model": "logistic", "optimizer": "adamw"},
    ],
)
def test_it_learns(vit: Settings, mnist: Mnist, change: Settings) -> None:
    _, log, logits, summary = do({**vit, "epochs": 6, **change}, mnist)
    assert summary["test_accuracy"] > 0.9
    assert summary["val_accuracy"] > 0.9
    assert log.history[-1]["train_loss"] < log.history[0]["train_loss"]
    assert logits.shape == (200, 10)
    assert logits.dtype == np.float32
    right = logits.argmax(1) == mnist.test_labels
    assert summary["test_accuracy"] == right.mean()
    assert summary["test_errors"] == (~right).sum()


def test_history(vit: Settings, mnist: Mnist) -> None:
    """Rows at equal distances, the last at the end, without a clock; the clock beside it."""
    _, log, _, summary = do(vit, mnist)
    steps = steps_of(vit)
    assert [row["step"] for row in log.history] == [10, 20, 30] == [10, 20, steps]
    assert list(log.history[0]) == (
        ["step", "epoch", "samples", "train_loss", "val_loss", "val_accuracy", "learning_rate"]
    )
    assert log.history[-1]["samples"] == 32 * steps == summary["samples"]
    assert log.history[0]["epoch"] == pytest.approx(320 / 500)
    assert [row["step"] for row in log.seconds] == [10, 20, 30]
    seconds = [row["seconds"] for row in log.seconds]
    assert seconds == sorted(seconds)
    assert all(0 <= row["val_accuracy"] <= 1 for row in log.history)
    assert summary["val_accuracy"] == log.history[-1]["val_accuracy"]


@given(
    samples=st.integers(4, 300),
    size=st.integers(1, 40),
    epochs=st.one_of(st.integers(1, 3), st.floats(0.05, 3)),
)
def test_steps_are_the_batches_that_come(samples: int, size: int, epochs: float) -> None:
    settings = {"train_size": samples, "batch_size": size, "epochs": epochs}
    found = list(train.batches(samples, settings, seed=0))
    assert len(found) == steps_of(settings)
    assert all(len(batch) == size for batch in found)
    # Within an epoch no image comes twice, and all come unless they fill no batch.
    whole = samples // size
    for epoch in range(int(epochs)):
        seen = torch.cat(found[epoch * whole : (epoch + 1) * whole]) if whole else torch.empty(0)
        assert len(seen.unique()) == whole * size


def test_every_epoch_has_its_own_order() -> None:
    settings = {"train_size": 64, "batch_size": 64, "epochs": 3}
    first, second, third = train.batches(64, settings, seed=0)
    for batch in (first, second, third):
        assert batch.sort().values.tolist() == list(range(64))
    assert not torch.equal(first, second)
    assert not torch.equal(second, third)
    (other,) = itertools.islice(train.batches(64, settings, seed=1), 1)
    assert not torch.equal(first, other)


def test_compared_arms_see_the_same_images(
    vit: Settings, cnn: Settings, mnist: Mnist, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The order depends on neither the model nor the random numbers that it drew."""
    seen: list[list[bytes]] = []
    real = train.build

    def spying(settings: Settings, weights: Any) -> nn.Module:
        network = real(settings, weights)
        mine: list[bytes] = []
        seen.append(mine)
        network.register_forward_pre_hook(
            lambda module, inputs: (
                mine.append(inputs[0].numpy().tobytes())
                if module.training and len(inputs[0]) == settings["batch_size"]
                else None
            )
        )
        return network

    monkeypatch.setattr(train, "build", spying)
    deep = {**vit, "depth": 1, "pos_embed": "none", "learning_rate": 0.001}
    for settings in (vit, deep, cnn):
        do(settings, mnist)
    assert len(seen[0]) == steps_of(vit)
    assert seen[0] == seen[1] == seen[2]


def test_a_longer_budget_starts_with_the_same_images(vit: Settings) -> None:
    short = [b.tolist() for b in train.batches(500, {**vit, "epochs": 0.5}, seed=3)]
    long = [b.tolist() for b in train.batches(500, {**vit, "epochs": 2}, seed=3)]
    assert short == long[: len(short)]


def test_pixels(vit: Settings, mnist: Mnist) -> None:
    out = train.pixels(mnist.train_images[:3], vit, CPU)
    assert out.shape == (3, 1, 28, 28)
    expected = (mnist.train_images[:3] / 255 - 0.1307) / 0.3081
    np.testing.assert_allclose(out[:, 0].numpy(), expected, rtol=1e-4, atol=1e-5)
    assert mnist.train_images.dtype == np.uint8


def test_the_test_set_is_read_once_and_last(
    vit: Settings, mnist: Mnist, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither its images nor its labels are touched before the last step."""
    order: list[str] = []

    class Watched:
        def __init__(self) -> None:
            self.train_images, self.train_labels = mnist.train_images, mnist.train_labels

        @property
        def test_images(self) -> np.ndarray:
            order.append("test images")
            return mnist.test_images

        @property
        def test_labels(self) -> np.ndarray:
            order.append("test labels")
            return mnist.test_labels

    real = train.fit

    def fit(*arguments: Any) -> Any:
        order.append("fit")
        log = real(*arguments)
        order.append("fitted")
        return log

    monkeypatch.setattr(train, "fit", fit)
    train.run(vit, 0, Watched(), CPU, None)  # type: ignore[arg-type]
    assert order == ["fit", "fitted", "test images", "test labels"]


def test_other_test_images_change_the_test_figures_alone(vit: Settings, mnist: Mnist) -> None:
    plain = do(vit, mnist)
    blank = replace(mnist, test_images=np.zeros_like(mnist.test_images))
    other = do(vit, blank)
    assert plain[1].history == other[1].history
    assert bits(plain[0]) == bits(other[0])
    assert plain[3]["test_loss"] != other[3]["test_loss"]


def test_validation_images_are_never_trained_on(vit: Settings, mnist: Mnist) -> None:
    """Other labels on the last images change the validation figures and nothing else."""
    labels = mnist.train_labels.copy()
    labels[-100:] = (labels[-100:] + 1) % 10
    plain, other = do(vit, mnist), do(vit, replace(mnist, train_labels=labels))
    assert bits(plain[0]) == bits(other[0])
    assert plain[2].tobytes() == other[2].tobytes()
    assert plain[3]["val_loss"] != other[3]["val_loss"]
    for mine, theirs in zip(plain[1].history, other[1].history, strict=True):
        assert mine["train_loss"] == theirs["train_loss"]


# --- Networks


def test_the_yardstick_has_as_many_parameters_as_the_base_vit(config: Settings) -> None:
    base = build(relevant(config["defaults"] | {"validation": 1}))
    others = [SmallCnn(config["defaults"]["channels"]), PixelMlp(config["defaults"]["hidden"])]
    sizes = [sum(p.numel() for p in network.parameters()) for network in (base, *others)]
    for network, size in zip(others, sizes[1:], strict=True):
        assert size == pytest.approx(sizes[0], rel=0.08)
        assert network(torch.zeros(2, 1, 28, 28)).shape == (2, 10)


def test_the_head_of_a_cnn_of_timm_starts_small(vit: Settings) -> None:
    """Else EfficientNet starts far above the loss of a guess, ln 10 = 2.3."""
    name = {"model": "timm", "timm_model": "tf_efficientnet_lite0", "pretrained": ""}
    head = head_of(build(relevant({**vit, **name})))
    assert head.weight.abs().max() <= 1280**-0.5  # type: ignore[union-attr, operator]


def test_logistic_regression_is_linear_in_the_pixels() -> None:
    network = LogisticRegression()
    assert sum(p.numel() for p in network.parameters()) == 7850
    first, second = torch.rand(2, 3, 1, 28, 28, generator=torch.Generator().manual_seed(0))
    zero = network(torch.zeros(1, 1, 28, 28))
    torch.testing.assert_close(
        network(first + second) - zero, network(first) + network(second) - 2 * zero
    )


def test_moving_images_changes_neither_their_order_nor_the_start(
    vit: Settings, mnist: Mnist, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Arms with and without augmentation stay paired."""
    seen: dict[str, list[bytes]] = {"still": [], "moved": []}

    def watch(images: torch.Tensor, settings: Settings, _: torch.Generator) -> torch.Tensor:
        seen["moved" if settings["rotation"] else "still"].append(images.numpy().tobytes())
        return images

    monkeypatch.setattr(train, "moved", watch)
    networks = [do({**vit, "rotation": angle}, mnist)[0] for angle in (0, 15)]
    assert seen["still"] == seen["moved"]
    assert bits(networks[0]) == bits(networks[1])


def test_every_arm_of_the_study_can_be_built(config: Settings) -> None:
    for arm in expand(config).arms.values():
        if arm.settings.get("pretrained"):
            with pytest.raises(VitrailError, match=r"needs --weights"):
                build(arm.settings)
            continue
        network = build(arm.settings).eval()
        with torch.no_grad():
            assert network(torch.zeros(1, 1, 28, 28)).shape == (1, 10)


@pytest.mark.parametrize("name", ["no_such_model", "vgg11", "mixer_s16_224", "vit_nano"])
def test_timm_model_that_does_not_fit_is_named(vit: Settings, name: str) -> None:
    settings = {**vit, "model": "timm", "timm_model": name, "pretrained": "", "patch_size": 7}
    with pytest.raises(VitrailError, match=f"timm_model '{name}' cannot be built"):
        build(settings)


def test_a_cnn_of_timm_takes_the_image_as_it_is(vit: Settings) -> None:
    cnn = relevant({**vit, "model": "timm", "timm_model": "resnet18", "pretrained": ""})
    assert "patch_size" not in cnn and arm_id(cnn).startswith("resnet18-scratch-")
    network = build(cnn)
    assert network.training
    assert network(torch.zeros(2, 1, 28, 28)).shape == (2, 10)


# --- Run folders


def write(folder: Path, settings: Settings, mnist: Mnist) -> tuple[Path, np.ndarray, Settings]:
    network, log, logits, summary = do(settings, mnist)
    target = folder / run_id(arm_id(settings), 0)
    tables = {"history.csv": log.history, "timing.csv": log.seconds}
    run_folder.write_run(target, settings, 0, summary, FACTS, (network, tables, logits))
    return target, logits, summary


@pytest.mark.parametrize("kind", ["vit", "cnn"])
def test_run_folder_is_whole(
    kind: str, mnist: Mnist, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    settings = request.getfixturevalue(kind)
    folder, logits, summary = write(tmp_path, settings, mnist)
    assert {path.name for path in folder.iterdir()} == {*RUN_FILES, *FINISHED_FILES}
    assert [path.name for path in tmp_path.iterdir()] == [folder.name]
    written = read_json(folder / "summary.json")
    assert set(written["files"]) == {"config.json", "env.json", *FINISHED_FILES}
    for name, sum_ in written["files"].items():
        assert sha256(folder / name) == sum_
    assert {name: written[name] for name in summary} == summary
    config = read_json(folder / "config.json")
    assert config["settings"] == settings
    assert config["arm_id"] == arm_id(config["settings"])
    assert (config["run_id"], config["seed"]) == (folder.name, 0)
    with np.load(folder / "predictions.npz") as stored:
        assert stored["test_logits"].tobytes() == logits.tobytes()
    with (folder / "history.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert float(rows[-1]["val_accuracy"]) == summary["val_accuracy"]
    assert float(rows[-1]["train_loss"]) == summary["train_loss"]
    assert "seconds" not in rows[0]

    # The network comes back from disk as it was.
    network = load_run(folder)
    assert not network.training
    images = train.pixels(mnist.test_images, settings, CPU)
    assert train.logits_of(network, images, "fp32").numpy().tobytes() == logits.tobytes()


def test_damaged_weights_are_named(vit: Settings, mnist: Mnist, tmp_path: Path) -> None:
    folder, _, _ = write(tmp_path, {**vit, "epochs": 0.3}, mnist)
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-50])
    with pytest.raises(VitrailError, match=r"model\.safetensors is damaged .* delete the folder"):
        load_run(folder)
    (folder / "config.json").write_text("{")
    with pytest.raises(VitrailError, match=r"config\.json is damaged"):
        load_run(folder)


def test_failure_leaves_no_folder(
    vit: Settings, mnist: Mnist, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whichever file fails: what stood there before stays, and nothing lies beside it."""
    vit = {**vit, "epochs": 0.3}
    folder, _, _ = write(tmp_path, vit, mnist)
    before = {path.name: sha256(path) for path in folder.iterdir()}

    def full(*_: Any, **__: Any) -> None:
        raise OSError(28, "No space left on device")

    for module, name in ((run_folder, "write_rows"), (np, "savez_compressed")):
        with monkeypatch.context() as patch:
            patch.setattr(module, name, full)
            with pytest.raises(OSError, match="No space"):
                write(tmp_path, vit, mnist)
            with pytest.raises(OSError, match="No space"):
                write(tmp_path / "new", vit, mnist)
        assert {path.name: sha256(path) for path in folder.iterdir()} == before
        assert list((tmp_path / "new").iterdir()) == []


def test_diverged_figures_become_null(vit: Settings, tmp_path: Path) -> None:
    summary = {"status": "finished", "test_loss": math.nan, "val_loss": math.inf, "macs": 3}
    run_folder.write_run(tmp_path / "run", vit, 0, summary, FACTS)
    text = (tmp_path / "run" / "summary.json").read_text()
    assert "NaN" not in text
    assert "Infinity" not in text
    written = json.loads(text)
    assert (written["test_loss"], written["val_loss"], written["macs"]) == (None, None, 3)


def test_diverged_training_is_a_finished_run(vit: Settings, mnist: Mnist, tmp_path: Path) -> None:
    """Nonsense settings give a bad accuracy, not an error: that is what the run found."""
    wild = {**vit, "optimizer": "sgd", "learning_rate": 1e12, "epochs": 1}
    folder, _, _ = write(tmp_path, wild, mnist)
    written = read_json(folder / "summary.json")
    assert written["status"] == "finished"
    assert written["test_loss"] is None
    assert 0 <= written["test_accuracy"] <= 1


# --- The command


def command(monkeypatch: pytest.MonkeyPatch, settings: Settings, *rest: str) -> None:
    arguments = ["train", "--settings", json.dumps(settings), "--device", "cpu", *rest]
    monkeypatch.setattr(sys, "argv", arguments)
    train.main()


def test_command_trains_all_seeds(
    vit: Settings, data_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mnist: Mnist
) -> None:
    """The same bits as one seed alone."""
    sums = {name: sha256(data_folder / name) for name in data.FILES}
    with pytest.raises(VitrailError, match="has SHA-256"):  # these files are not MNIST's
        command(monkeypatch, vit, "--seeds", "0", "--data", str(data_folder), "--study", "none")
    monkeypatch.setattr(data, "FILES", sums)
    vit = {**vit, "epochs": 0.5}
    places = ["--data", str(data_folder), "--study", str(tmp_path / "both")]
    command(monkeypatch, vit, "--seeds", "0", "1", *places)
    assert sorted(path.name for path in (tmp_path / "both" / "runs").iterdir()) == [
        f"{arm_id(vit)}-s0",
        f"{arm_id(vit)}-s1",
    ]
    command(monkeypatch, vit, "--seeds", "1", *places[:-1], str(tmp_path / "one"))
    for name in ("history.csv", "predictions.npz", "model.safetensors", "config.json"):
        both, one = (
            tmp_path / part / "runs" / f"{arm_id(vit)}-s1" / name for part in ("both", "one")
        )
        assert both.read_bytes() == one.read_bytes(), name
    facts = read_json(tmp_path / "one" / "runs" / f"{arm_id(vit)}-s1" / "env.json")
    assert facts["data"] == {"route": "made for a test"}
    assert facts["threads"] == 1
    assert facts["versions"]["torch"] == torch.__version__


@pytest.mark.parametrize("there", [True, False])
def test_arm_without_its_weights_leaves_the_reason(
    vit: Settings,
    data_folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    there: bool,
) -> None:
    """Three files that say so, and success: the rest of the study goes on."""
    own = {"model": "timm", "timm_model": "vit_small_patch16_224", "pretrained": "augreg_in1k"}
    settings = relevant({**vit, **own})
    reason = "no file in results/weights and no network"
    more = []
    if there:
        found = tmp_path / "weights.json"
        found.write_text(json.dumps({"status": "not available", "reason": reason}))
        more = ["--weights", str(found)]
    places = ["--data", str(data_folder), "--study", str(tmp_path), *more]
    command(monkeypatch, settings, "--seeds", "0", "1", *places)
    folders = sorted((tmp_path / "runs").iterdir())
    assert [folder.name for folder in folders] == [f"{arm_id(settings)}-s{seed}" for seed in (0, 1)]
    for folder in folders:
        assert {path.name for path in folder.iterdir()} == set(RUN_FILES)
        summary = read_json(folder / "summary.json")
        assert summary["status"] == "not run"
        assert summary["reason"] == (reason if there else "--weights was not given")
        assert summary["files"] == {
            name: sha256(folder / name) for name in ("config.json", "env.json")
        }
        assert read_json(folder / "config.json")["settings"] == settings


def test_device_that_is_not_there_is_named() -> None:
    from vitrail.device import pick_device

    assert pick_device("cpu") == CPU
    assert pick_device("auto").type in ("cpu", "cuda", "mps")
    for name, there in (
        ("cuda", torch.cuda.is_available()),
        ("mps", torch.backends.mps.is_available()),
    ):
        if not there:
            with pytest.raises(VitrailError, match=f"device is '{name}', but .* offers .*cpu"):
                pick_device(name)
