"""Reduction, timing and execution away from the CPU, and where memory ends in them.

Tensors of the device "meta" have shapes and no values; see `test_device_steps.py`.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from model_tools import random_images, small
from test_device_steps import NOT_REPEATABLE, Watched
from test_timing import TINY, cell
from vitrail import timing, timing_cells
from vitrail.data import Mnist
from vitrail.execution import inference, training, tuning
from vitrail.execution import settings as execution_settings
from vitrail.execution.ways import Way, failing
from vitrail.meters import ran_out_of_memory
from vitrail.model import VisionTransformer
from vitrail.reduction.learn import learn
from vitrail.reduction.network import reduced
from vitrail.reduction.thresholds import Thresholds, forward
from vitrail.reduction.ways import Merge, Prune, Threshold
from vitrail.timing_settings import read_settings

CPU, META = torch.device("cpu"), torch.device("meta")
NO_MEMORY = "the device ran out of memory"
OUT = torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB.")


def a_vit() -> VisionTransformer:
    network = small(fused_attn=False)
    assert isinstance(network, VisionTransformer)
    return network.eval()


# --- Away from the CPU


@pytest.mark.parametrize("importance", ["received", "class"])
def test_thresholds_learn_without_a_tensor_of_the_cpu(
    importance: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    reads: list[Tensor] = []
    vit, images = a_vit().to(META), random_images(64).to(META)
    labels = torch.zeros(64, dtype=torch.long, device=META)
    monkeypatch.setattr(Tensor, "item", lambda value: reads.append(value) or 1.0)
    rates = {"merge_rate": 1e-2, "prune_rate": 1e-3}
    with Watched() as watched:
        thresholds, log = learn(vit, images, labels, 0.5, importance, batch_size=2, seed=0, **rates)
    assert thresholds.merge.is_meta
    assert not [name for name in watched.operations if NOT_REPEATABLE.search(name)]
    # Of 32 steps the first, the 21st and the last tell their loss and share.
    assert [row["step"] for row in log] == [1, 21, 32] and len(reads) >= 6


def test_the_class_token_is_never_pruned_and_all_others_can_be() -> None:
    vit = a_vit()
    thresholds = Thresholds(len(vit.blocks))
    torch.nn.init.constant_(thresholds.prune, 2.0)  # no token is as important
    left = forward(vit, thresholds, random_images(3))[2]
    assert (left == 1).all()


@pytest.mark.parametrize("way", [Merge(2), Prune(2), Threshold((0.5,) * 9, (0.01,) * 9)])
def test_reduced_passes_hold_no_tensor_of_the_cpu(
    way: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """How many tokens the longest image keeps has to be read; here it is played."""
    vit, images = a_vit().to(META), random_images(3).to(META)
    monkeypatch.setattr(Tensor, "__int__", lambda _: 4)
    passed = reduced(vit, images, way, follow=True)
    assert passed.logits.shape == (3, 10) and passed.logits.is_meta
    assert passed.owners is not None and passed.owners.is_meta


def test_cells_of_the_timing_hold_no_tensor_of_the_cpu() -> None:
    found = list(timing_cells.cells(read_settings(TINY | {"tokens": [16]}), META))
    for one in found:
        for call in (one.call, one.single):
            made = call() if call else ()
            assert all(part.is_meta for part in (made if isinstance(made, tuple) else (made,)))
    assert {one.what for one in found} == {"attention", "products", "linear", "block", "model"}


@pytest.mark.parametrize("name", ["plain", "sdpa", "checkpointing"])
def test_gradients_of_the_ways_are_on_the_device(name: str, tmp_path: Path) -> None:
    network = a_vit().to(META)
    gradients = training.WAYS[name][1](network, META, tmp_path)
    found = gradients(random_images(3).to(META), torch.zeros(3, dtype=torch.long, device=META))
    assert len(found) == len(list(network.parameters())) and all(one.is_meta for one in found)


# --- Where memory ends


@pytest.mark.parametrize(
    "error",
    [
        OUT,
        RuntimeError("MPS backend out of memory (MPS allocated: 9.05 GB, max allowed: 9.07 GB)."),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
        RuntimeError("CUDA error: out of memory"),
        RuntimeError("[enforce fail at alloc_cpu.cpp:121] DefaultCPUAllocator: can't allocate memory"),  # noqa: E501
        MemoryError(),
    ],
    ids=lambda error: str(error)[:20],
)  # fmt: skip
def test_every_library_s_words_for_want_of_memory_are_known(error: Exception) -> None:
    assert ran_out_of_memory(error)
    way = Way("a", "g", "train", "a", "", 1, accuracy=0.9, images=100)
    with failing(way):
        raise error
    assert way.reason == NO_MEMORY and way.accuracy != way.accuracy and not way.images
    assert not ran_out_of_memory(RuntimeError("CUDA error: device-side assert triggered"))


def at(turn: int, error: Exception = OUT) -> Callable[[], object]:
    """A call that fails when it is made for the so manieth time."""
    turns = iter(range(1, 10**6))

    def call() -> object:
        if next(turns) == turn:
            raise error
        return None

    return call


def played(monkeypatch: pytest.MonkeyPatch, call: Any, single: Any = None) -> Any:
    """The table and the samples of a cell with these calls beside a sound one."""
    cells = [cell("played", 0, []), cell("sound", 0, [])]
    cells[0].call, cells[0].single = call, single
    monkeypatch.setattr(timing, "cells", lambda *_: iter(cells))
    table, samples = timing.measure(TINY | {"min_seconds": 1e-9})
    table = table.set_index("what")
    assert table.loc["sound", "reason"] == "" and table.loc["sound", "median_seconds"] > 0
    return table.loc["played"], samples[samples["what"] == "played"]


@pytest.mark.parametrize("turn", [1, 3, 4, 6])
def test_memory_may_end_at_any_call_of_a_cell(monkeypatch: pytest.MonkeyPatch, turn: int) -> None:
    """At the first, in the warm-up, at the first sample, at a later one."""
    row, samples = played(monkeypatch, at(turn))
    assert row["reason"] == NO_MEMORY and samples.empty and row["repeats"] == row["inner"] == 0
    assert row[["median_seconds", "min_seconds", "peak_mib", "page_faults"]].isna().all()


@pytest.mark.parametrize("turn", [1, 2])
def test_memory_may_end_while_it_is_measured(monkeypatch: pytest.MonkeyPatch, turn: int) -> None:
    row, samples = played(monkeypatch, lambda: None, at(turn))
    assert row["reason"] == NO_MEMORY and samples.empty
    assert row[["median_seconds", "peak_mib"]].isna().all()


@pytest.mark.parametrize("turn", [1, 4])
def test_a_bug_in_a_cell_keeps_its_traceback(monkeypatch: pytest.MonkeyPatch, turn: int) -> None:
    with pytest.raises(RuntimeError, match="sizes"):
        played(monkeypatch, at(turn, RuntimeError("the sizes do not fit")))


def test_inputs_that_do_not_fit_are_rows_with_a_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    real = torch.randn

    def randn(*shape: Any, **how: Any) -> Tensor:
        if shape[1:] == (32, 8):
            raise OUT
        return real(*shape, **how)

    monkeypatch.setattr(torch, "randn", randn)
    table, _ = timing.measure(TINY | {"repeats": 3})
    assert set(table.loc[table["n"] == 32, "reason"]) == {NO_MEMORY}
    assert set(table.loc[table["n"] != 32, "reason"]) == {""}


def test_a_measured_call_does_not_count_its_input() -> None:
    """A MiB of input, made before the meter is read; the identity makes nothing more."""
    made = timing_cells.Later(
        timing_cells._passing, torch.nn.Identity(), cache(partial(torch.randn, 2**18)), "forward"
    )  # fmt: skip
    cells = [cell("a", 0, [])]
    cells[0].single = made
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(timing, "cells", lambda *_: iter(cells))
        table, _ = timing.measure(TINY)
    assert table["peak_mib"].tolist() == [0]


def without_memory(*_: Any, **__: Any) -> Any:
    raise OUT


def test_accuracies_that_need_too_much_memory_are_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inference, "WAYS", {"plain": inference.WAYS["plain"]})
    monkeypatch.setattr(inference, "score", without_memory)
    asked = execution_settings.read_settings({"batch_size": 4, "rounds": 3, "device": "cpu"})
    labels = torch.zeros(8, dtype=torch.long)
    (way,) = inference.measure_inference(a_vit(), random_images(8), labels, asked)
    assert way.reason == NO_MEMORY and not way.seconds and not way.images


@pytest.mark.parametrize("phase", ["build", "tuned_accuracy"])
def test_tunings_that_need_too_much_memory_are_rows(
    monkeypatch: pytest.MonkeyPatch, mnist: Mnist, phase: str
) -> None:
    """The steps were measured from random weights; ImageNet's do not fit, or their tuning."""

    def build(name: str, settings: Any, weights: Any) -> Any:
        if weights and phase == "build":
            raise OUT
        return torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(784, 10))

    monkeypatch.setattr(tuning, "build", build)
    monkeypatch.setattr(tuning, "tuned_accuracy", without_memory)
    monkeypatch.setattr(tuning, "missing_weights", lambda _: "")
    asked = execution_settings.read_settings({"train_rounds": 3, "device": "cpu"})
    labels = torch.zeros(2, dtype=torch.long)
    ways = tuning.measure_tuning(random_images(2), labels, mnist, asked, {"status": "available"})
    assert [way.reason for way in ways] == [NO_MEMORY] * 2
