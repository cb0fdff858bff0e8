"""Training steps as a GPU takes them, as far as a machine without one can show.

Tensors of the device "meta" have shapes and no values: to read one is an error, and so is to
combine one with a tensor of the CPU. A step that runs there waits for no device and leaves no
tensor behind on the CPU.
"""

from __future__ import annotations

import json
import re
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from made_attempts import SAME, small_vit
from test_resume import METHODS, PRETRAININGS
from vitrail import data as mnist_data
from vitrail import distillation, gradients, linear_probe, train
from vitrail.data import Mnist, split
from vitrail.device import mean_of
from vitrail.errors import run_command
from vitrail.files import sha256
from vitrail.growing import first_stage
from vitrail.networks import build
from vitrail.optimizers import make_optimizers
from vitrail.pretraining import learn as pretraining
from vitrail.pretraining.recipe import read_recipe
from vitrail.settings import arm_id, in_full, relevant, run_id

Settings = dict[str, Any]
CPU, META = torch.device("cpu"), torch.device("meta")
torch.set_num_threads(1)
pytestmark = pytest.mark.usefixtures("deterministic")

# What has no deterministic kernel on CUDA, as the documentation of
# `torch.use_deterministic_algorithms` lists it: an error there.
NOT_REPEATABLE = re.compile(
    r"^(avg_pool3d_backward|_?adaptive_(avg|max)_pool.*_backward|fractional_max_pool.*_backward"
    r"|max_unpool.*|upsample_(linear|bilinear|bicubic|trilinear).*_backward|reflection_pad.*_backward"
    r"|nll_loss2d.*|_ctc_loss_backward|put_?|histc|bincount|median|grid_sampler_.*_backward)$"
)

# Their batches are drawn by scores, which are read: no way around it.
READS_SCORES = {name for name, own in METHODS.items() if own.get("selection") == "importance"}


@pytest.fixture
def small(config: Settings) -> Any:
    """A function that gives the settings of a small arm of 6 steps; one that grows does at 3."""

    def made(**changes: Any) -> Settings:
        asked = {"embed_dim": 16, "depth": 2, "num_heads": 2, "train_size": 320}
        asked |= {"validation": 100, "epochs": 0.6, "batch_size": 32, "evaluations": 3}
        if "steps" in changes:
            changes["steps"] = 6
        return relevant({**config["defaults"], **asked, **changes})

    return made


class Watched(TorchDispatchMode):
    """Counts what is read from tensors, notes operations, and stops at float64 on the device."""

    def __init__(self) -> None:
        super().__init__()
        self.read = 0
        self.operations: Counter[str] = Counter()

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        found = func(*args, **(kwargs or {}))
        self.read += func is torch.ops.aten._local_scalar_dense.default
        name = func.overloadpacket.__name__
        self.operations[name] += not func.is_view and name != "_unsafe_view"
        for value in tree_leaves(found):
            if isinstance(value, Tensor) and value.is_meta:
                assert value.dtype != torch.float64, func
        return found


@pytest.fixture
def evaluations(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """Notes each time that values are read to be logged, which a device without any needs."""
    noted: list[str] = []

    def noting(name: str, answer: Any) -> Any:
        return lambda *_: noted.append(name) or answer

    for module in (train, pretraining):
        monkeypatch.setattr(module, "mean_of", noting("mean", 0.0))
    monkeypatch.setattr(train, "score", noting("score", (0.0, 0.0)))
    for module in (train, gradients, distillation, linear_probe, pretraining):
        monkeypatch.setattr(module, "autocast", lambda *_: nullcontext())  # unknown to "meta"
    real = torch.optim.AdamW  # fused, it has kernels for a CPU, CUDA and MPS
    monkeypatch.setattr(torch.optim, "AdamW", lambda groups, lr, fused: real(groups, lr=lr))
    yield noted


def on_meta(settings: Settings, mnist: Mnist, teacher: nn.Module | None) -> train.Log:
    """A whole training without values."""
    network = build(first_stage(in_full(settings))).to(META)
    data = split(mnist, settings["validation"], settings["train_size"])
    with Watched() as watched:
        log = train.fit(network, data, settings, 0, META, "fp32", "meta", teacher)
    assert not [name for name in watched.operations if NOT_REPEATABLE.search(name)]
    assert watched.operations["mm"] + watched.operations["convolution_backward"]
    return log


@pytest.mark.parametrize("method", METHODS)
def test_a_training_reads_from_the_device_at_evaluations_alone(
    method: str, small: Any, mnist: Mnist, evaluations: list[str]
) -> None:
    settings = small(**METHODS[method])
    teacher = (
        build(small(model="cnn", channels=4)).eval().to(META) if method == "distilled" else None
    )
    if method in READS_SCORES:
        with pytest.raises(NotImplementedError, match="Cannot copy out of meta"):
            on_meta(settings, mnist, teacher)
        assert not evaluations
        return
    log = on_meta(settings, mnist, teacher)
    assert [row["step"] for row in log.history] == [2, 4, 6]
    looks = 2 if method == "early_stopping" else 1
    assert evaluations == (["mean"] + ["score"] * looks) * 3


@pytest.mark.parametrize("kind", PRETRAININGS)
def test_a_pretraining_reads_from_the_device_when_it_logs(
    kind: str, small: Any, mnist: Mnist, evaluations: list[str]
) -> None:
    asked, own = PRETRAININGS[kind]
    model = small(**own)
    recipe = read_recipe({"classes": 10, "steps": 20, "batch_size": 16, **asked}, model)
    with pytest.raises(NotImplementedError, match="Cannot copy out of meta"), Watched():
        pretraining.learn(
            recipe, model, mnist.train_images, META, "fp32"
        )  # the weights, at the end
    columns = 1 if asked.get("task") == "masked" else 2  # loss, accuracy
    assert len(evaluations) == 20 * columns


@pytest.mark.parametrize(
    "method", ["muon", "sgd", "lion", "sam", "moved", "patch_drop_rate", "cnn"]
)
def test_more_steps_read_no_more_values(method: str, small: Any, mnist: Mnist) -> None:
    """On the CPU, with all its values: `item()` and `if tensor:` are counted wherever they hide."""
    counts = []
    for epochs in (0.4, 1.2):
        settings = small(**METHODS[method], epochs=epochs, evaluations=2)
        network = build(in_full(settings))
        data = split(mnist, settings["validation"], settings["train_size"])
        with Watched() as watched:
            train.fit(network, data, settings, 0, CPU, "fp32", method)
        counts.append(watched.read)
    assert counts[0] == counts[1] > 0


@pytest.mark.parametrize("method", [name for name in METHODS if "grow" not in name])
def test_networks_have_the_same_shapes_without_values(method: str, small: Any) -> None:
    """Forward and backward of each builder, on the device that has shapes alone."""
    settings = in_full(small(**METHODS[method]))
    with torch.device("meta") if settings["model"] == "vit" else nullcontext():
        network = build(settings)
    network = network.to(META)
    logits = network(torch.empty(3, 1, 28, 28, device=META))
    assert logits.shape == (3, 10) and logits.is_meta
    logits.sum().backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None and parameter.grad.shape == parameter.shape, name


def test_a_step_is_many_small_operations(config: Settings) -> None:
    """Of the base ViT, without views: why small trainings share a GPU (docs/devices.md)."""
    settings = in_full(relevant({**config["defaults"], "validation": 5000}))
    network = build(settings)
    optimizers = make_optimizers(network, settings)
    batch = torch.zeros(64, 1, 28, 28), torch.zeros(64).long(), None
    for _ in range(2):  # the first makes the state of the optimisers
        with Watched() as watched:
            gradients.step(network, batch, optimizers, settings, CPU, "fp32")
    assert 400 < watched.operations.total() < 500


# --- A GPU that fails


class Command:
    """The command line of a training on a stand-in for MNIST, in this process."""

    def __init__(self, data: Path, settings: Settings, patch: pytest.MonkeyPatch) -> None:
        self.data, self.settings, self.patch = data, settings, patch
        patch.setattr(mnist_data, "FILES", {name: sha256(data / name) for name in mnist_data.FILES})

    def __call__(self, study: Path) -> Path:
        given = ["--settings", json.dumps(self.settings), "--seeds", "0", "--data", str(self.data)]
        given += ["--study", str(study), "--device", "cpu", "--checkpoint-seconds", "0"]
        self.patch.setattr(sys, "argv", ["train", *given])
        run_command(train.main)
        return study / "runs" / run_id(arm_id(self.settings), 0)


@pytest.fixture
def command(
    config: Settings, data_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Command]:
    yield Command(data_folder, small_vit(config), monkeypatch)


FAULTS = {
    "memory": (
        torch.OutOfMemoryError(
            "CUDA out of memory. Tried to allocate 20.00 MiB. GPU 0 has a total capacity of 7 GiB"
        ),
        ("the GPU had not enough memory", "allocate 20.00 MiB", "gpu_percent=50", "batch_size"),
    ),
    "mps memory": (
        RuntimeError("MPS backend out of memory (MPS allocated: 9.05 GB, max allowed: 9.07 GB)."),
        ("the GPU had not enough memory", "MPS allocated: 9.05 GB"),
    ),
    "lost": (
        torch.AcceleratorError("CUDA error: unspecified launch failure\nCUDA kernel errors"),
        ("the GPU failed (CUDA error: unspecified launch failure)", "nvidia-smi"),
    ),
    "library": (
        RuntimeError("cuDNN error: CUDNN_STATUS_EXECUTION_FAILED"),
        ("the GPU failed (cuDNN error: CUDNN_STATUS_EXECUTION_FAILED)",),
    ),
}  # fmt: skip


@pytest.mark.parametrize("fault", FAULTS)
def test_a_gpu_that_fails_is_told_and_nothing_is_lost(
    fault: str, command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    """At step 17: a sentence; then the same command goes on from step 16 to the same files."""
    error, said = FAULTS[fault]
    straight = command(tmp_path / "straight")
    real, steps = train.one_step, iter(range(1, 100))

    def failing(*given: Any) -> Tensor:
        if next(steps) == 17:
            raise error
        return real(*given)

    with monkeypatch.context() as patch:
        patch.setattr(train, "one_step", failing)
        with pytest.raises(SystemExit) as ended:
            command(tmp_path / "study")
    sentence = str(ended.value)
    assert sentence.startswith("vitrail: ") and "\n" not in sentence
    for part in (*said, "run the same command again", "go on from their last state"):
        assert part in sentence
    capsys.readouterr()
    again = command(tmp_path / "study")
    assert "resumed at step 16 of 30" in capsys.readouterr().out
    for name in SAME:
        assert (again / name).read_bytes() == (straight / name).read_bytes(), name


def test_an_assertion_of_a_kernel_is_a_bug_with_a_traceback(
    command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(*_: Any) -> Tensor:
        raise torch.AcceleratorError("CUDA error: device-side assert triggered")

    monkeypatch.setattr(train, "one_step", failing)
    with pytest.raises(torch.AcceleratorError):
        command(tmp_path / "study")


def test_the_mean_of_scalars_is_that_of_float64() -> None:
    values = [torch.tensor(value) for value in (0.1, 0.2, 1e-9)]
    assert mean_of(iter(values)) == torch.stack(values).double().mean().item()
    assert mean_of(values) != torch.stack(values).mean().item()
    with pytest.raises(NotImplementedError, match="Cannot copy out of meta"), Watched():
        mean_of([torch.empty((), device=META)])  # not in float64 before it is on the CPU


def test_jobs_hand_in_what_they_take_of_a_gpu(
    config: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A network of ours a quarter; with one of timm among them, all of it."""
    asked: list[int] = []

    class Stop(Exception):
        pass

    def pick(_: str, percent: int) -> torch.device:
        asked.append(percent)
        raise Stop

    monkeypatch.setattr(train, "pick_device", pick)
    ours = small_vit(config)
    theirs = relevant(
        {**config["defaults"], "model": "timm", "timm_model": "test_vit", "validation": 100}
    )
    for settings in (ours, [ours, ours], [ours, theirs]):
        words = ["--seeds", "0", "--data", ".", "--study", "."]
        monkeypatch.setattr(sys, "argv", ["t", "--settings", json.dumps(settings), *words])
        with pytest.raises(Stop):
            train.main()
    assert asked == [25, 25, 100]
