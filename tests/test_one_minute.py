"""The one-minute ViT: what two processes compute, on which batches, and when they end."""

from __future__ import annotations

import copy
import json
import re
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import torch
import torch.nn.functional as F

from vitrail.data import Mnist
from vitrail.errors import VitrailError
from vitrail.one_minute import together, train
from vitrail.one_minute.networks import build
from vitrail.one_minute.recipes import HELD_OUT, RECIPES
from vitrail.one_minute.stream import HALVES, Stream, chosen, middle, normalised
from vitrail.one_minute.together import Gradients, Meeting, size_of
from vitrail.one_minute.train import Order, arrays, fit, tensors

ROOT = Path(__file__).parents[1]
MODELS = sorted(RECIPES)


@pytest.fixture(scope="module")
def digits(mnist: Mnist) -> tuple[torch.Tensor, torch.Tensor]:
    return tensors(mnist.train_images, mnist.train_labels)


def stream(digits: tuple[torch.Tensor, torch.Tensor], name: str = "vit", **change: Any) -> Stream:
    halves = change.pop("halves", range(HALVES))
    return Stream(*digits, RECIPES[name], change.pop("seed", 0), halves)


# --- Two processes


def weights(folder: Path) -> dict[str, torch.Tensor]:
    from safetensors.torch import load_file

    return load_file(folder / "model.safetensors")


def test_two_processes_are_one_with_the_whole_batch_and_repeat_bit_for_bit(
    data_folder: Path, digits: tuple[torch.Tensor, torch.Tensor], tmp_path: Path
) -> None:
    """Up to rounding, since a sum of halves is not rounded as the whole; the same bits twice."""
    import torch.multiprocessing as mp

    found = {}
    order = Order(RECIPES["vit"], 3, str(data_folder), steps=6)
    for name in ("two", "again"):
        (tmp_path / name).mkdir()
        meeting = Meeting(2, size_of(build(order.recipe, 3)))
        mp.spawn(train.work, args=(order, str(tmp_path / name), meeting), nprocs=2)
        found[name] = json.loads((tmp_path / name / "result.json").read_text())
    assert found["two"]["weights_sha256"] == found["again"]["weights_sha256"]
    alone = build(RECIPES["vit"], 3)
    fit(alone, stream(digits, seed=3), replace(order, processes=1), Meeting(1, 0))
    two, one = weights(tmp_path / "two"), alone.state_dict()
    start = build(RECIPES["vit"], 3).state_dict()
    for key, value in two.items():
        torch.testing.assert_close(value, one[key], rtol=1e-3, atol=1e-4)
    assert any((value - start[key]).abs().max() > 0.01 for key, value in two.items())
    assert found["two"]["images"] == 6 * 128 and found["two"]["read_images"] == 200
    assert found["two"]["cpu_seconds"] > 0 and found["two"]["read"] == "test"


def test_a_process_that_is_killed_ends_the_other_with_a_sentence(data_folder: Path) -> None:
    code = (
        "from vitrail.errors import run_command\n"
        "from vitrail.one_minute.recipes import RECIPES\n"
        "from vitrail.one_minute.runs import run\n"
        "from vitrail.one_minute.train import Order\n"
        f"order = Order(RECIPES['cnn'], 0, {str(data_folder)!r}, seconds=3000)\n"
        "run_command(lambda: run(order))\n"
    )
    program = subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        workers = wait_for_workers(psutil.Process(program.pid))
        workers[1].kill()
        _, said = program.communicate(timeout=120)
    finally:
        program.kill()
    assert program.returncode == 1, said
    assert re.search(r"^vitrail: one of the 2 processes .*run the same command again$", said, re.M)
    psutil.wait_procs(workers, timeout=30)
    assert not [one for one in workers if one.is_running() and one.status() != "zombie"]


def wait_for_workers(parent: psutil.Process) -> list[psutil.Process]:
    """The two processes, once both have computed for a while."""
    until = time.monotonic() + 120
    while time.monotonic() < until:
        found = [one for one in parent.children() if "spawn_main" in " ".join(one.cmdline())]
        if len(found) == 2 and all(sum(one.cpu_times()[:2]) > 3 for one in found):
            return found
        time.sleep(0.2)
    raise AssertionError("the two processes did not start")


@pytest.mark.parametrize("name", MODELS)
def test_the_buffer_holds_the_gradients(
    name: str, digits: tuple[torch.Tensor, torch.Tensor]
) -> None:
    """Those that backward gives a network of its own, in every layout; and they can be cleared."""
    images, labels = next(stream(digits, name))
    plain, buffered = (build(RECIPES[name], 1) for _ in range(2))
    gradients = Gradients(buffered, Meeting(1, 0), 0)
    for network in (plain, buffered, buffered):
        if network is buffered:
            gradients.clear()
        F.cross_entropy(network(images), labels).backward()
    assert gradients.average(0.25) == 0.25
    for one, other in zip(plain.parameters(), buffered.parameters(), strict=True):
        assert one.grad is not None and other.grad is not None
        torch.testing.assert_close(one.grad, other.grad)
    pointers = {
        p.grad.untyped_storage().data_ptr() for p in buffered.parameters() if p.grad is not None
    }
    assert pointers == {gradients.buffer.untyped_storage().data_ptr()}


def test_nobody_overwrites_what_the_other_still_reads() -> None:
    """Two threads in place of processes, of which now one and now the other is late."""
    meeting, found = Meeting(2, 1), {}

    def work(rank: int) -> None:
        mine = copy.copy(meeting)  # the same rows and barrier, as in a process
        for step in range(200):
            if step % 3 == rank:
                time.sleep(0.001)
            rows = mine.bring(rank, torch.tensor([float(step + rank)]))
            if step % 5 == rank:
                time.sleep(0.001)
            found[rank, step] = rows.sum().item()

    threads = [threading.Thread(target=work, args=(rank,)) for rank in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == {(rank, step): 2 * step + 1 for rank in range(2) for step in range(200)}


def test_who_waits_in_vain_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(together, "ANSWER_SECONDS", 0.01)
    with pytest.raises(VitrailError, match=r"waited 0\.01 seconds for the other"):
        Meeting(2, 1).bring(0, torch.zeros(1))


# --- The batches


def test_halves_make_the_whole_batch(digits: tuple[torch.Tensor, torch.Tensor]) -> None:
    whole = stream(digits)
    halves = [stream(digits, halves=range(half, half + 1)) for half in range(HALVES)]
    for _ in range(6):  # more than an epoch of 600
        images, labels = next(whole)
        parts = [next(half) for half in halves]
        assert torch.equal(images, torch.cat([part for part, _ in parts]))
        assert torch.equal(labels, torch.cat([part for _, part in parts]))
    assert images.shape == (128, 1, 24, 24)


def test_every_epoch_has_a_new_order_of_its_own_seed() -> None:
    order = chosen(100, 32, seed=5)
    first, second = (torch.cat([next(order) for _ in range(3)]) for _ in range(2))
    assert len(set(first.tolist())) == 96 and len(set(second.tolist())) == 96
    assert not torch.equal(first, second)
    assert not torch.equal(first[:32], next(chosen(100, 32, seed=6)))


def test_the_middle_is_cut_out() -> None:
    image = torch.arange(28 * 28.0).view(1, 1, 28, 28)
    assert torch.equal(middle(image, 24), image[..., 2:26, 2:26])
    assert torch.equal(middle(image, 28), image)


def test_pixels_are_normalised_by_the_mean_of_mnist() -> None:
    """Black, and 0.1307 of white (33.33 of 255) between two levels."""
    levels = normalised(torch.tensor([0, 33, 34, 255], dtype=torch.uint8).view(1, 2, 2)).flatten()
    assert levels[0] == pytest.approx(-0.1307 / 0.3081)
    assert levels[1] < 0 < levels[2]


def test_what_is_read_was_not_trained_on() -> None:
    count = HELD_OUT + 40
    images = np.arange(count, dtype=np.int64).reshape(-1, 1, 1)
    mnist = Mnist(images, images[:, 0, 0], -images[:10] - 1, -images[:10, 0, 0] - 1)
    for validation in (False, True):
        seen, labels, unseen, unseen_labels = arrays(mnist, validation)
        assert not set(seen.flat) & set(unseen.flat)
        assert np.array_equal(seen.flat, labels) and np.array_equal(unseen.flat, unseen_labels)
        assert len(unseen) == (HELD_OUT if validation else 10)


# --- The clock


class Clock:
    """A clock that goes on by `tick` seconds each time it is looked at."""

    def __init__(self, tick: float) -> None:
        self.now, self.tick = 100.0, tick

    def __call__(self) -> float:
        self.now += self.tick
        return self.now


def test_the_time_ends_a_training_and_a_late_gradient_is_dropped(
    digits: tuple[torch.Tensor, torch.Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Steps of a second each: nine fit into 9.9 seconds, and the tenth comes too late."""
    rates = []
    monkeypatch.setattr(train.time, "perf_counter", Clock(1.0))
    monkeypatch.setattr(train, "set_rates", lambda _, share: rates.append(share))
    network = build(RECIPES["vit"], 0)
    updates = []
    monkeypatch.setattr(
        train,
        "make_optimizers",
        lambda *_: [type("One", (), {"step": lambda _: updates.append(1)})()],
    )
    spent = fit(
        network, stream(digits), Order(RECIPES["vit"], 0, "", 10.0, processes=1), Meeting(1, 0)
    )
    assert spent.steps == len(updates) == len(rates) == 9
    falling = rates[1:]
    assert falling == sorted(falling, reverse=True) and 0 < falling[-1] < 0.15


def test_steps_ask_no_clock(
    digits: tuple[torch.Tensor, torch.Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(train.time, "perf_counter", Clock(1000.0))
    order = Order(RECIPES["cnn"], 0, "", steps=4, processes=1)
    assert fit(build(RECIPES["cnn"], 0), stream(digits, "cnn"), order, Meeting(1, 0)).steps == 4


@pytest.mark.parametrize("name", MODELS)
def test_networks_learn(name: str, mnist: Mnist, digits: tuple[torch.Tensor, torch.Tensor]) -> None:
    """Forty steps on textures under noise, which are left where they are."""
    recipe = replace(RECIPES[name], rotation=0.0, translation=0.0, scaling=0.0)
    network = build(recipe, 0)
    unseen = tensors(mnist.test_images, mnist.test_labels)
    before = train.read(network, *unseen, recipe.crop)
    batches = Stream(*digits, recipe, 0, range(HALVES))
    fit(network, batches, Order(recipe, 0, "", steps=40, processes=1), Meeting(1, 0))
    after = train.read(network, *unseen, recipe.crop)
    assert after["accuracy"] > before["accuracy"] + 0.5
    assert after["errors"] == round(200 * (1 - after["accuracy"]))


def test_rates_rise_and_fall_with_the_time() -> None:
    recipe = replace(RECIPES["vit"], warmup=0.25, falling=True)
    assert [recipe.rate(share) for share in (0, 0.125, 0.25, 0.625, 1)] == [0, 0.5, 1, 0.5, 0]
    assert {replace(recipe, warmup=0, falling=False).rate(share) for share in (0, 0.5, 1)} == {1}
