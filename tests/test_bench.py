"""The benchmark: equal networks, loops that train, turns that interleave."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from typing import Any

import numpy as np
import pytest

from made_bench import contestant, noise, settings
from vitrail.bench import contestants as who
from vitrail.bench import loops, networks, table, turns
from vitrail.bench.contestants import MOVES, contestants
from vitrail.bench.networks import Missing
from vitrail.data import Mnist

LIBRARIES = ("vitrail", "timm", "vit-pytorch", "transformers")
PAIRS = (("vitrail", "ours"), ("timm", "tutorial"), ("vit-pytorch", "tutorial"),
         ("transformers", "Trainer"), ("timm", "ours"))  # fmt: skip


@pytest.fixture
def mnist() -> Mnist:
    return noise()


def made(library: str, asked: dict[str, Any]) -> Any:
    try:
        return networks.made(library, asked)
    except Missing as error:
        pytest.skip(f"{error} (make peers)")


# --- The networks


@pytest.mark.parametrize("library", LIBRARIES)
def test_the_networks_are_the_same_one(library: str, config: dict[str, Any]) -> None:
    """Parameters and products are those of ours, but for what vit-pytorch does otherwise."""
    import torch

    asked = settings(config)
    network = made(library, asked).eval()
    with torch.inference_mode():
        out = network(torch.zeros(2, 1, 28, 28))
    assert getattr(out, "logits", out).shape == (2, 10)
    parameters, macs = networks.cost(library, asked)
    own_parameters, own_macs = networks.cost("vitrail", asked)
    patch, width, depth = (asked[name] for name in ("patch_size", "embed_dim", "depth"))
    other = 2 * (patch**2 + width) - 3 * width * depth if library == "vit-pytorch" else 0
    assert parameters == own_parameters + other
    assert macs == own_macs


def test_their_blocks_have_no_dropout(config: dict[str, Any]) -> None:
    """Which would cost the others time that ours does not spend."""
    import torch

    for library in LIBRARIES:
        try:
            network = networks.made(library, settings(config))
        except Missing:
            continue
        rates = [m.p for m in network.modules() if isinstance(m, torch.nn.Dropout)]
        assert set(rates) <= {0.0}, library


@pytest.mark.parametrize(("library", "loop"), PAIRS)
def test_every_loop_trains(library: str, loop: str, config: dict[str, Any], mnist: Mnist) -> None:
    """Two steps take time and change every weight matrix."""
    asked = settings(config)
    network = made(library, asked)
    before = {name: p.detach().clone() for name, p in network.named_parameters() if p.ndim == 2}
    try:
        assert loops.LOOPS[loop](network, mnist, asked, 2) > 0
    except Missing as error:
        pytest.skip(f"{error} (make peers)")
    after = dict(network.named_parameters())
    assert before
    assert [name for name, old in before.items() if bool((after[name] == old).all())] == []


@pytest.mark.parametrize(("library", "loop"), PAIRS)
def test_a_turn_of_every_loop_does_the_work_that_it_is_asked_for(
    library: str, loop: str, config: dict[str, Any], mnist: Mnist, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Three updates from three whole batches, timed from one look at the clock to the next."""
    from torch.optim.optimizer import register_optimizer_step_post_hook

    asked = settings(config)
    network = made(library, asked)
    ticks = iter((100.0, 107.0))
    monkeypatch.setattr(loops, "clock", lambda: next(ticks))
    updates: list[Any] = []
    sizes: list[int] = []

    def seen(module: Any, arguments: tuple[Any, ...], named: dict[str, Any]) -> None:
        if module.training:  # ours reads one image in the end
            sizes.append(len(arguments[0] if arguments else named["pixel_values"]))

    network.register_forward_pre_hook(seen, with_kwargs=True)
    hook = register_optimizer_step_post_hook(lambda *_: updates.append(1))
    try:
        assert loops.LOOPS[loop](network, mnist, asked, 3) == 7.0
    except Missing as error:
        pytest.skip(f"{error} (make peers)")
    finally:
        hook.remove()
    assert sizes == [asked["batch_size"]] * 3 and len(updates) == 3
    assert next(ticks, None) is None


def test_every_loop_sees_the_same_images(config: dict[str, Any], mnist: Mnist) -> None:
    """Torchvision's set is as long as ours, normalised alike, and moves its images."""
    asked = settings(config)
    still = loops.dataset(mnist, {**asked, "rotation": 0, "translation": 0, "scaling": 0}, 128)
    assert len(still) == 128  # type: ignore[arg-type]
    image, label = still[3]
    expected = (mnist.train_images[3] / 255 - asked["pixel_mean"]) / asked["pixel_std"]
    assert np.abs(image[0].numpy() - expected).max() < 1e-5
    assert label == mnist.train_labels[3]
    moving = loops.dataset(mnist, asked, 128)
    assert np.abs(moving[3][0].numpy() - image.numpy()).max() > 0.1


def test_deterministic_kernels_are_of_our_loop_alone() -> None:
    import torch

    before = torch.are_deterministic_algorithms_enabled()
    with loops.repeatably():
        assert torch.are_deterministic_algorithms_enabled()
    assert not torch.are_deterministic_algorithms_enabled()
    torch.use_deterministic_algorithms(before)


def test_what_is_not_installed_gets_a_reason(
    config: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "vit_pytorch", None)
    one = contestant("a", lambda _: 1.0, config, library="vit-pytorch")
    turns.prepare([one])
    assert one.reason == "vit-pytorch is not installed"
    peaks, _ = turns.take_turns([one], 1)
    assert one.seconds == [] and peaks == {}


def test_all_take_part(config: dict[str, Any], mnist: Mnist) -> None:
    """Each library trains and infers, the README's names exist, and names are not shared."""
    found = contestants(config["defaults"], mnist, bf16=False)
    keys = [(one.task, one.name, one.batch_size) for one in found]
    assert len(set(keys)) == len(keys)
    for task in ("train", "infer"):
        assert {one.library for one in found if one.task == task} == set(LIBRARIES)
    for name, (_, forward) in table.SHOWN.items():
        assert ("train", name, config["defaults"]["batch_size"]) in keys
        assert not forward or {("infer", forward, 100), ("infer", forward, 1)} <= set(keys)
    small = [one for one in found if one.task == "train ViT-S"]
    assert len(small) == 2 and all("bf16" in one.reason for one in small)
    shared = next(one for one in found if one.loop == "ours").settings
    assert {one.settings["precision"] for one in found if one.task == "train"} == {"fp32"}
    assert all(one.settings[name] == shared[name] for one in found for name in MOVES)


def test_vit_s_takes_part_where_the_processor_multiplies_bf16(
    config: dict[str, Any], mnist: Mnist
) -> None:
    """It has the parameters and products of timm's own ViT-S at these sizes."""
    import timm

    from vitrail.efficiency import count_parameters

    small = [
        one
        for one in contestants(config["defaults"], mnist, bf16=True)
        if one.task == "train ViT-S"
    ]
    assert [one.name for one in small] == list(table.LARGE)
    asked = small[0].settings
    named = timm.create_model(
        "vit_small_patch16_224", img_size=28, patch_size=asked["patch_size"], in_chans=1,
        num_classes=10,
    )  # fmt: skip
    assert asked["depth"] == len(named.blocks)
    assert asked["num_heads"] == named.blocks[0].attn.num_heads
    for one in small:
        assert one.reason == "" and one.settings == asked and asked["precision"] == "bf16"
        assert one.loop == "ours" and one.batches == who.VIT_S_STEPS
        assert networks.cost(one.library, asked)[0] == count_parameters(named)


def test_a_turn_of_training_begins_with_a_fresh_network(
    config: dict[str, Any], mnist: Mnist, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And takes the steps that it is asked for, whoever's turn it is."""
    built: list[str] = []
    steps: list[int] = []
    monkeypatch.setattr(who, "made", lambda library, _: built.append(library))
    fake = {name: lambda *args: steps.append(args[3]) or 1.0 for name in loops.LOOPS}  # type: ignore[func-returns-value]
    monkeypatch.setattr(who, "LOOPS", fake)
    found = [one for one in contestants(config["defaults"], mnist, True) if one.task != "infer"]
    for one in found:
        assert one.turn(5) == one.turn(6) == 1.0
    assert steps == [5, 6] * len(found)
    assert built == [one.library for one in found for _ in range(2)]
    assert {one.images for one in found if one.task == "train" and one.batch_size == 64} == {3200}


def test_a_turn_of_inference_makes_the_calls_that_it_is_asked_for(
    config: dict[str, Any], mnist: Mnist, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each on the whole batch of each library, by the clock, without gradients or dropout."""
    import torch

    calls: list[tuple[str, int]] = []

    class Counts(torch.nn.Module):
        def __init__(self, library: str) -> None:
            super().__init__()
            self.library = library

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            assert torch.is_inference_mode_enabled() and not self.training
            calls.append((self.library, len(images)))
            return images

    ticks = iter(range(1000))
    monkeypatch.setattr(who, "made", lambda library, _: Counts(library))
    monkeypatch.setattr(who, "clock", lambda: float(next(ticks)))
    found = [one for one in contestants(config["defaults"], mnist, True) if one.task == "infer"]
    for one in found:
        assert one.turn(3) == one.turn(4) == 1.0  # two looks at the clock each
    assert calls == [(one.library, one.batch_size) for one in found for _ in range(7)]
    for size in who.BATCHES:
        mine = [one for one in found if one.batch_size == size]
        assert {one.batches for one in mine} == {who.BATCHES[size]} and len(mine) == len(LIBRARIES)


# --- Turns and peak


def test_seconds_are_those_that_the_core_gave() -> None:
    clocks = {loops.clock, who.clock, turns.clock}
    assert clocks == {time.process_time}


def test_everything_is_computed_on_one_core() -> None:
    """In a process of its own, which begins with two threads."""
    code = (
        "import os, torch\n"
        "from vitrail.bench.turns import one_core\n"
        "before = torch.get_num_threads()\n"
        "pinned = one_core()\n"
        "cores = len(os.sched_getaffinity(0)) if pinned else 1\n"
        "print(before, torch.get_num_threads(), cores, pinned == hasattr(os, 'sched_setaffinity'))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True,
        env={**os.environ, "OMP_NUM_THREADS": "2", "MKL_NUM_THREADS": "2"},
    )  # fmt: skip
    assert done.stdout.split() == ["2", "1", "1", "True"]


def test_the_share_of_the_core_is_that_of_the_process(
    config: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A turn that sleeps leaves the core to others."""
    monkeypatch.setattr(turns, "matrix_peak", lambda _: 1e9)
    one = contestant("a", lambda _: time.sleep(0.5) or 1.0, config)  # type: ignore[func-returns-value]
    assert turns.take_turns([one], 1)[1] < 0.5


def test_turns_interleave_and_go_back_and_forth(
    config: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(turns, "matrix_peak", lambda _: said.append("peak") or 1e9)
    said: list[str] = []
    found = [
        contestant(name, lambda n, name=name: said.append(name) or float(n), config)  # type: ignore[misc]
        for name in "abc"
    ]
    peaks, share = turns.take_turns(found, 3)
    assert " ".join(said) == "peak a b c peak c b a peak a b c"
    assert [one.seconds for one in found] == [[10.0] * 3] * 3  # turns of `batches` steps each
    assert peaks == {"fp32": [1e9] * 3} and 0 < share <= 1.05


def test_the_peak_is_that_of_large_products() -> None:
    """More than products that are bound by calls reach, and less than a core can do."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        tiny, large = turns.matrix_peak("fp32", (8,)), turns.matrix_peak("fp32", (384,))
    finally:
        torch.set_num_threads(before)
    assert 1e8 < tiny < large < 1e13
