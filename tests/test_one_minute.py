"""The one-minute ViT: what two processes compute, on which batches, and when they end."""

from __future__ import annotations

import copy
import json
import re
import subprocess
import sys
import threading
import time
from collections.abc import Callable
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
from vitrail.one_minute.together import Gradients, Meeting, same_everywhere, size_of
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


def test_weights_that_differ_are_seen() -> None:
    """One number of one process, in two threads in place of processes."""
    networks = [build(RECIPES["cnn"], 0) for _ in range(2)]
    meeting = Meeting(2, size_of(networks[0]))
    assert in_threads(lambda rank, mine: same_everywhere(networks[rank], mine, rank), meeting) == [
        True,
        True,
    ]
    with torch.no_grad():
        networks[1][0].bias[3] += 1e-6  # type: ignore[index]
    assert in_threads(lambda rank, mine: same_everywhere(networks[rank], mine, rank), meeting) == [
        False,
        False,
    ]


def in_threads(work: Callable[[int, Meeting], Any], meeting: Meeting) -> list[Any]:
    """What both ranks give, or the error that they raise."""
    found: list[Any] = [None, None]

    def run(rank: int) -> None:
        try:
            found[rank] = work(rank, copy.copy(meeting))
        except VitrailError as error:
            found[rank] = str(error)

    threads = [threading.Thread(target=run, args=(rank,)) for rank in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return found


@pytest.fixture
def no_reading(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fail where the test set is read, and leave torch as it was."""

    def refuse(*_: Any) -> None:
        raise AssertionError("the test set was read")

    monkeypatch.setattr(train, "read", refuse)
    monkeypatch.setattr(train, "compute_repeatably", lambda: None)


def test_unequal_weights_end_a_run(
    data_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, no_reading: None
) -> None:
    starts = [build(RECIPES["cnn"], seed) for seed in (0, 1)]
    monkeypatch.setattr(train, "build", lambda *_: starts.pop())
    order = Order(RECIPES["cnn"], 0, str(data_folder), steps=1)
    meeting = Meeting(2, size_of(starts[0]))
    said = in_threads(lambda rank, mine: train.work(rank, order, str(tmp_path), mine), meeting)
    assert all("ended with different weights" in str(one) for one in said)


def test_a_training_that_diverges_is_told_as_such(
    data_folder: Path, tmp_path: Path, no_reading: None
) -> None:
    """Not as a fault of the memory, though a NaN differs from itself."""
    recipe = replace(RECIPES["cnn"], learning_rate=float("inf"))
    order = Order(recipe, 0, str(data_folder), steps=2, processes=1)
    meeting = Meeting(1, size_of(build(recipe, 0)))
    with pytest.raises(VitrailError, match="the training diverged"):
        train.work(0, order, str(tmp_path), meeting)


@pytest.mark.parametrize(
    ("spent", "told"),
    [
        ([(9, 59.9), (9, 60.01)], "ended after 60.01 of 60 seconds"),
        ([(9, 60.01), (9, 59.9)], "ended after 60.01 of 60 seconds"),
        ([(0, 0.0), (0, 0.0)], "no update ended within 60 seconds"),
    ],
)
def test_a_run_over_its_time_is_refused_before_the_test_set_is_read(
    spent: list[tuple[int, float]], told: str, data_folder: Path, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch, no_reading: None,
) -> None:  # fmt: skip
    """Whichever process was late."""
    order = Order(RECIPES["cnn"], 0, str(data_folder))
    monkeypatch.setattr(
        train,
        "fit",
        lambda network, stream, order, meeting, rank: train.Spent(*spent[rank], cpu_seconds=50.0),
    )
    meeting = Meeting(2, size_of(build(order.recipe, 0)))
    said = in_threads(lambda rank, mine: train.work(rank, order, str(tmp_path), mine), meeting)
    assert all(told in str(one) for one in said)
    accepted = train.Spent(9, 60.0, 50.0)
    train.accept(build(order.recipe, 0), accepted, order)
    train.accept(build(order.recipe, 0), train.Spent(9, 99.0, 50.0), replace(order, steps=9))


def test_the_latest_clock_ends_the_training_of_all() -> None:
    """A process held up brings a late clock, and the other does not average it away."""
    networks = [build(RECIPES["cnn"], 0) for _ in range(2)]
    meeting = Meeting(2, size_of(networks[0]))

    def work(rank: int, mine: Meeting) -> float:
        gradients = Gradients(networks[rank], mine, rank)
        gradients.buffer.fill_(rank)
        share = gradients.average((0.2, 1.1)[rank])
        assert gradients.buffer[:-1].unique().tolist() == [0.5]
        return share

    assert in_threads(work, meeting) == [pytest.approx(1.1)] * 2


# --- Seeds


@pytest.mark.parametrize("name", MODELS)
def test_another_seed_is_another_start(name: str) -> None:
    """In every weight matrix; and the same seed is the same start."""
    first, again, other = (build(RECIPES[name], seed) for seed in (3, 3, 4))
    for one, same, changed in zip(*(n.parameters() for n in (first, again, other)), strict=True):
        assert torch.equal(one, same)
        assert one.ndim < 2 or not torch.equal(one, changed)


def test_another_seed_moves_the_same_images_otherwise(
    digits: tuple[torch.Tensor, torch.Tensor],
) -> None:
    """As does the other half of a batch."""
    images = digits[0][:8]
    moved = [stream(digits, seed=seed)._moved(images, half) for seed in (3, 4) for half in (0, 1)]
    assert torch.equal(moved[0], stream(digits, seed=3)._moved(images, 0))
    assert not [(a, b) for a in range(4) for b in range(a) if torch.equal(moved[a], moved[b])]


def test_reading_is_without_dropout() -> None:
    class Probe(torch.nn.Module):
        """Ten logits that show whether it is training."""

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            return F.one_hot(torch.full((len(images),), int(self.training)), 10).float()

    found = train.read(Probe().train(), torch.zeros(4, 1, 28, 28), torch.zeros(4).long(), 28)
    assert found["errors"] == 0


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
    """Steps of a second: the gradient of the eleventh is there after 10.5 seconds, too late."""
    rates = []
    monkeypatch.setattr(train.time, "perf_counter", Clock(0.5))  # looked at twice in a step
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
    assert spent.steps == len(updates) == len(rates) == 10
    assert spent.seconds == 10.0  # when the last update had ended, not when the time was over
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
