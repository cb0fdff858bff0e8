"""Ways to compute the same network: which give the same numbers, and what a failure says."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from model_tools import random_images, small
from vitrail.execution import inference, offload, parallel, training, tuning
from vitrail.execution.parallel import TwoProcesses
from vitrail.execution.rounds import paired_ratio, read_memory, take_turns
from vitrail.execution.settings import read_settings
from vitrail.execution.table import table
from vitrail.execution.ways import Unavailable, Way, failing, loss_gradients

CPU = torch.device("cpu")
TINY = {"batch_size": 20, "rounds": 3, "train_batch_size": 4, "train_rounds": 3}
TINY |= {"tune_batch_size": 2, "tune_steps": 2, "device": "cpu"}
needs_two_cores = pytest.mark.skipif(parallel.cores() < 2, reason="two processes need two cores")


@pytest.fixture(scope="module")
def network() -> nn.Module:
    """A ViT with attention written out, no weight at its initial value."""
    return small(fused_attn=False)


@pytest.fixture(scope="module")
def batch() -> tuple[Tensor, Tensor]:
    return random_images(8), torch.arange(8)


def test_training_is_measured_on_all_patches(
    batch: tuple[Tensor, Tensor], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Ways that draw their own patches would differ by more than the arithmetic does."""
    kept = ("plain", "sdpa", "checkpointing")
    monkeypatch.setattr(training, "WAYS", {name: training.WAYS[name] for name in kept})

    def no_processes(*_: Any) -> Any:
        raise Unavailable("not in this test")

    monkeypatch.setattr(training, "TwoProcesses", no_processes)
    dropping = small(fused_attn=False, patch_drop_rate=0.5, drop_rate=0.5)
    found = table(training.measure_training(dropping, *batch, read_settings(TINY), tmp_path))
    found = found.set_index("name")
    assert found.loc["checkpointing", "gradient_difference"] == 0
    assert found.loc["sdpa", "gradient_difference"] < 1e-4
    assert dropping.patch_drop.prob == 0.5  # type: ignore[union-attr]
    assert dropping.pos_drop.p == 0.5


def gradients_of(
    name: str, network: nn.Module, batch: tuple[Tensor, Tensor], folder: Path
) -> list[Tensor]:
    return training.WAYS[name][1](network, CPU, folder)(*batch)


# --- The same numbers


@pytest.mark.parametrize("name", ["sdpa", "compile"])
def test_exact_ways_give_the_same_logits_and_gradients(
    name: str, network: nn.Module, batch: tuple[Tensor, Tensor], tmp_path: Path
) -> None:
    """Up to the rounding of float32, in which another order of a sum shows."""
    if name == "compile" and not shutil.which(os.environ.get("CXX", "g++")):
        pytest.skip("no C++ compiler")
    with torch.inference_mode():
        found = inference.WAYS[name][1](network, CPU)(batch[0])
        torch.testing.assert_close(found, network(batch[0]), atol=1e-5, rtol=1e-5)
    expected = loss_gradients(network, *batch)
    for one, other in zip(gradients_of(name, network, batch, tmp_path), expected, strict=True):
        torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("name", ["checkpointing", "offloading"])
def test_ways_to_save_memory_give_the_same_bits(
    name: str, network: nn.Module, batch: tuple[Tensor, Tensor], tmp_path: Path
) -> None:
    expected = loss_gradients(network, *batch)
    found = gradients_of(name, network, batch, tmp_path)
    assert max(gradient.abs().max() for gradient in expected) > 0
    assert all(torch.equal(one, other) for one, other in zip(found, expected, strict=True))


@pytest.mark.parametrize(("name", "bound"), [("bf16", 0.1), ("int8", 0.5)])
def test_fewer_bits_give_other_logits_near_by(name: str, bound: float, network: nn.Module) -> None:
    images = random_images(64)
    with torch.inference_mode():
        found, exact = inference.WAYS[name][1](network, CPU)(images), network(images)
    assert found.dtype == torch.float32
    assert 1e-4 < (found - exact).abs().max() < bound * exact.abs().max()


def test_int8_warns_of_nothing(network: nn.Module, recwarn: pytest.WarningsRecorder) -> None:
    quantised = inference.int8(network, CPU)
    kinds = [type(part) for part in quantised.modules()]  # type: ignore[attr-defined]
    assert kinds.count(torch.ao.nn.quantized.dynamic.Linear) == 10 and nn.Linear not in kinds
    assert not [str(one.message) for one in recwarn if "deprecated" in str(one.message)]
    assert sum(type(part) is nn.Linear for part in network.modules()) == 10  # it is a copy


def test_only_the_named_kernel_is_used(
    network: nn.Module, batch: tuple[Tensor, Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch.nn.functional as F

    calls = []
    kernel = F.scaled_dot_product_attention
    monkeypatch.setattr(
        F, "scaled_dot_product_attention", lambda *qkv: calls.append(1) or kernel(*qkv)
    )
    inference.WAYS["plain"][1](network, CPU)(batch[0])
    assert not calls
    inference.WAYS["sdpa"][1](network, CPU)(batch[0])
    assert len(calls) == 2  # blocks


# --- Memory


def test_checkpointing_and_offloading_need_less_memory(network: nn.Module, tmp_path: Path) -> None:
    images, labels = random_images(32), torch.arange(32) % 10
    ways = []
    for name in ("plain", "checkpointing", "offloading"):
        way = Way(name, "training", "train", "plain", "", 32)
        gradients = training.WAYS[name][1](network, CPU, tmp_path)
        way.step = lambda _, gradients=gradients: gradients(images, labels)  # type: ignore[misc]
        ways.append(way)
    read_memory(ways, CPU)
    plain, checkpointing, offloading = (way.peak_mib for way in ways)
    assert offloading < 0.7 * plain
    assert checkpointing < 0.8 * plain


def test_offloaded_activations_are_in_files_until_they_are_used(
    network: nn.Module, batch: tuple[Tensor, Tensor], tmp_path: Path
) -> None:
    with offload.OnDisk(tmp_path, network):
        loss = nn.functional.cross_entropy(network(batch[0]), batch[1])
    files = list(tmp_path.iterdir())
    assert len(files) > 20 and sum(file.stat().st_size for file in files) > 1e5
    loss.backward()
    del loss
    assert not list(tmp_path.iterdir())
    network.zero_grad()


@pytest.mark.parametrize("shape", [(), (3,), (2, 3, 4)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.int64, torch.bool])
def test_a_stored_tensor_comes_back_as_it_was(
    shape: tuple[int, ...], dtype: torch.dtype, tmp_path: Path
) -> None:
    tensor = (10 * torch.randn(shape)).to(dtype)
    tensor = tensor.transpose(0, -1) if shape else tensor
    found = offload._Stored(tensor, tmp_path / "a.bin").read()
    assert torch.equal(found, tensor) and found.dtype == dtype
    assert found.stride() == tensor.stride()


def test_a_full_disk_is_the_reason_of_the_row(
    network: nn.Module, batch: tuple[Tensor, Tensor], tmp_path: Path
) -> None:
    way = Way("offloading", "training", "train", "plain", "", 8)
    with failing(way):
        gradients_of("offloading", network, batch, tmp_path / "gone")
    assert "activations could not be written" in way.reason
    assert "No such file" in way.reason


# --- Two processes


@needs_two_cores
def test_two_processes_give_the_gradients_of_one_and_a_hung_one_ends(
    network: nn.Module, batch: tuple[Tensor, Tensor]
) -> None:
    expected = loss_gradients(network, *batch)
    with TwoProcesses(network, *batch, seconds=60) as two:
        for one, other in zip(two.gradients(), expected, strict=True):
            torch.testing.assert_close(one, other, atol=1e-6, rtol=1e-4)
        way = Way("plain", "training", "train", "plain", "", 8)
        way.step = lambda _: loss_gradients(network, *batch)
        read_memory([way], CPU)
        assert 0.3 * way.peak_mib < two.peak_mib() < 0.9 * way.peak_mib
        two.step(0)
        two.seconds = 1
        os.kill(two.workers[1].pid, signal.SIGSTOP)
        begin = time.perf_counter()
        with pytest.raises(Unavailable, match="no answer within 1 seconds"):
            two.step(0)
        assert time.perf_counter() - begin < 10
    assert not any(worker.is_alive() for worker in two.workers)
    assert not any(parameter.is_shared() for parameter in network.parameters())


@needs_two_cores
def test_a_killed_process_is_told(network: nn.Module, batch: tuple[Tensor, Tensor]) -> None:
    with TwoProcesses(network, *batch, seconds=60) as two:
        two.workers[0].kill()
        with pytest.raises(Unavailable, match="ended early"):
            two.step(0)


def test_one_core_is_too_few(
    network: nn.Module, batch: tuple[Tensor, Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parallel, "cores", lambda: 1)
    with pytest.raises(Unavailable, match="two processes need two cores"):
        TwoProcesses(network, *batch, seconds=1)


# --- LoRA


def test_lora_starts_as_the_network_and_trains_its_additions_alone() -> None:
    import timm

    torch.manual_seed(0)
    network = timm.create_model("vit_tiny_patch16_224", img_size=28, patch_size=14, in_chans=1)
    tuned = tuning.with_lora(network, rank=4).eval()
    images = random_images(2)
    with torch.inference_mode():
        assert torch.equal(tuned(images), network.eval()(images))
    names = {name for name, one in tuned.named_parameters() if one.requires_grad}
    lora = 12 * (4 * 192 + 4 * 3 * 192)  # blocks x (A and B)
    head = sum(one.numel() for one in network.head.parameters())
    assert sum(one.numel() for one in tuned.parameters() if one.requires_grad) == lora + head
    assert all("lora_" in name or "head" in name for name in names)
    assert all(one.requires_grad for one in network.parameters())  # the copy was frozen, not it


def test_peft_is_imported_by_its_row_alone() -> None:
    code = "import sys, vitrail.execution.measure; print('peft' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_without_peft_the_row_has_a_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "peft", None)
    with pytest.raises(Unavailable, match="pip install peft"):
        tuning.with_lora(small(), 4)


@pytest.mark.parametrize(
    ("weights", "words"),
    [
        (None, "--weights was not given.*--forcerun imagenet_weights"),
        ({"status": "not available", "reason": "no hub", "remedy": "go online"}, "hub.*go online"),
        ({"status": "available", "model": "vit_tiny"}, "those of vit_tiny"),
        ({"status": "available", "model": tuning.MODEL}, "^$"),
    ],
)
def test_no_accuracy_has_its_reason(weights: dict[str, Any] | None, words: str) -> None:
    assert re.search(words, tuning.missing_weights(weights))


# --- Rounds and rows


def test_rounds_take_turns_and_every_second_goes_backwards() -> None:
    order: list[str] = []
    ways = [Way(name, "g", "forward", "a", "", 1) for name in "abc"]
    for way in ways:
        way.step = lambda number, way=way: order.append(way.name) or number  # type: ignore[misc]
    ways[1].step = None
    take_turns(ways, 3, CPU, "")
    assert "".join(order) == "ac" + "ca" + "ac"
    assert ways[0].results == ways[2].results == [0, 1, 2]
    assert len(ways[0].seconds) == 3 and not ways[1].seconds


def test_a_way_that_fails_in_a_round_is_out_and_the_others_go_on() -> None:
    def fails(number: int) -> None:
        if number:
            raise Unavailable("gone")

    ways = [Way(name, "g", "train", "a", "", 1, step=lambda _: 1) for name in "ab"]
    ways[1].step = fails
    take_turns(ways, 3, CPU, "")
    assert len(ways[0].seconds) == 3
    assert ways[1].reason == "gone" and not ways[1].seconds and ways[1].step is None


def test_a_bug_is_no_reason() -> None:
    way = Way("a", "g", "train", "a", "", 1)
    with pytest.raises(RuntimeError, match="size"), failing(way):
        torch.ones(2) @ torch.ones(3)
    with failing(way):
        torch.empty(10**15)
    assert way.reason == "the device ran out of memory"


def test_the_ratio_is_taken_within_rounds() -> None:
    """A machine that gets slower from round to round does not widen the interval."""
    baseline = np.array([1.0, 2, 4, 8, 16, 32])
    assert paired_ratio(0.5 * baseline, baseline) == (0.5, 0.5, 0.5)
    middle, low, high = paired_ratio([1.0, 2, 3, 4, 5], [1.0] * 5)
    assert 1 <= low < middle == 3 < high <= 5
    assert np.isnan(paired_ratio([], [])).all()
    assert np.isnan(paired_ratio([2.0], [1.0])[1:]).all()
    with pytest.raises(ValueError, match="pairs"):
        paired_ratio([1.0], [1.0, 2.0])


def test_a_row_says_how_a_way_differs_from_its_baseline() -> None:
    plain = Way("plain", "g", "train", "plain", "", 2, seconds=[1.0, 2.0, 3.0], peak_mib=8)
    other = Way("other", "g", "train", "plain", "", 2, seconds=[0.5, 1.0, 1.5], peak_mib=2)
    plain.results, other.results = [[torch.tensor([4.0, 1.0])]], [[torch.tensor([4.0, 3.0])]]
    failed = Way("failed", "g", "train", "plain", "", 2, reason="no compiler")
    found = table([plain, other, failed]).set_index("name")
    row = found.loc["other"]
    assert (row["seconds_per_image"], row["time_ratio"], row["memory_ratio"]) == (0.5, 0.5, 0.25)
    assert row["gradient_difference"] == 0.5 and np.isnan(row["logit_difference"])
    assert found.loc["failed", "reason"] == "no compiler"
    figures = ["seconds_per_image", "time_ratio", "peak_mib", "accuracy", "gradient_difference"]
    assert found.loc["failed", figures].isna().all()
