"""The benchmark: equal networks, loops that train, turns that interleave, tables that add up."""

from __future__ import annotations

import ast
import math
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from vitrail.bench import contestants as who
from vitrail.bench import loops, networks, table, turns
from vitrail.bench.__main__ import csv_text
from vitrail.bench.contestants import MOVES, Contestant, contestants
from vitrail.bench.networks import Missing
from vitrail.data import Mnist
from vitrail.errors import VitrailError
from vitrail.readme import put_in

ROOT = Path(__file__).parents[1]
LIBRARIES = ("vitrail", "timm", "vit-pytorch", "transformers")
PAIRS = (("vitrail", "ours"), ("timm", "tutorial"), ("vit-pytorch", "tutorial"),
         ("transformers", "Trainer"), ("timm", "ours"))  # fmt: skip


def settings(config: dict[str, Any]) -> dict[str, Any]:
    """The base ViT, trained as in the benchmark."""
    return {**config["defaults"], **MOVES, "optimizer": "adamw"}


@pytest.fixture
def mnist() -> Mnist:
    """Noise in the shape of MNIST, enough for seven batches: more than a turn is to read."""
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (450, 28, 28), dtype=np.uint8)
    labels = rng.integers(0, 10, 450, dtype=np.uint8)
    return Mnist(images, labels, images, labels)


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


def contestant(
    name: str, turn: Callable[[int], float], config: dict[str, Any], library: str = "vitrail",
    task: str = "train",
) -> Contestant:  # fmt: skip
    asked = settings(config)
    return Contestant(name, task, library, "ours", "AdamW", asked, 64, 10, turn)


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
    assert 1e8 < tiny < large < 1e12


# --- Tables


@pytest.fixture
def measured(config: dict[str, Any]) -> tuple[list[Contestant], dict[str, list[float]]]:
    """Made-up turns: ours takes 1 s, then 2 s; the other twice as long; one is missing."""
    ours = contestant("ours", lambda _: 0.0, config)
    other = contestant("timm, tutorial", lambda _: 0.0, config, "timm")
    gone = contestant("vit-pytorch, tutorial", lambda _: 0.0, config, "vit-pytorch")
    ours.seconds, other.seconds, gone.reason = [1.0, 2.0, 1.0], [2.0, 4.0, 2.0], "not installed"
    for one in (ours, other):
        one.parameters, one.macs = 1000, 10**6
    return [ours, other, gone], {"fp32": [7.68e9, 3.84e9, 7.68e9]}


def test_rows_are_medians_and_ratios_within_a_round(measured: Any) -> None:
    first, second, third = table.rows(*measured)
    assert (first["images_per_second"], first["low"], first["high"]) == (640, 320, 640)
    # The slow round hits both: the ratio does not see it.
    assert [second[name] for name in ("ours_times", "ours_times_low", "ours_times_high")] == [2] * 3
    assert first["ours_times"] == 1
    # 640 images of 3 passes of 2 x 1e6 operations in 1 s are 3.84 GFLOP/s, half of the peak of
    # the first round and, at 2 s, of the second.
    assert first["gflops"] == pytest.approx(3.84) and first["share_of_peak"] == pytest.approx(0.5)
    assert second["share_of_peak"] == pytest.approx(0.25)
    assert math.isnan(third["images_per_second"]) and third["reason"] == "not installed"


def test_inference_counts_one_pass(config: dict[str, Any]) -> None:
    train, infer = (contestant("a", lambda _: 1.0, config, task=t) for t in ("train", "infer"))
    train.macs = infer.macs = 5
    assert (train.flops, infer.flops) == (2 * 3 * 5 * 640, 2 * 5 * 640)


def test_csv_has_every_column(measured: Any) -> None:
    lines = csv_text(table.rows(*measured)).splitlines()
    assert lines[0] == ",".join(table.COLUMNS)
    assert len(lines) == 4 and lines[3].endswith(",not installed")


FACTS = {
    "hardware": "A core", "rounds": "3", "cores": "2", "pinned": "", "torch": "2", "timm": "1",
    "vit_pytorch": "1", "transformers": "5", "commit": "0123abc", "peak": "90", "bf16": "",
}  # fmt: skip


def test_the_tables_of_a_whole_measurement(config: dict[str, Any], mnist: Mnist) -> None:
    """All rows in both, with a dash-free cell for each column, and no NaN."""
    found = contestants(config["defaults"], mnist, bf16=False)
    for one in found:
        if not one.reason and one.library != "vit-pytorch":
            one.seconds, one.parameters, one.macs = [0.5, 1.0], 1000, 10**6
        else:
            one.reason = one.reason or "vit-pytorch is not installed"
    made = table.rows(found, {"fp32": [1e9, 1e9]})
    short, full = table.readme_block(made, FACTS), table.full_block(made, FACTS)
    for text in (short, full):
        assert text.startswith(table.BEGIN) and text.endswith(table.END) and "nan" not in text
        grid = [line for line in text.splitlines() if line.startswith("|")]
        assert len({line.count("|") for line in grid}) == 1
        assert "vit-pytorch is not installed" in text and facts_in(text) == FACTS
    assert len(full.splitlines()) == len(made) + 6
    assert "**ours**, in our loop | 4,800 | 1.00 × as fast | " in short
    assert "**ours**, in our loop: ViT-S in bf16 | this processor has no bf16 products |" in short


def test_the_readme_shows_vit_s(config: dict[str, Any], mnist: Mnist) -> None:
    """Two steps of 64 images in two and in four seconds, by its own name and size."""
    found = contestants(config["defaults"], mnist, bf16=True)
    for one in found:
        one.seconds, one.parameters, one.macs = [0.5], 1000, 10**6
    for one, seconds in zip(found[-10:-8], (2.0, 4.0), strict=True):
        assert one.task == "train ViT-S"
        one.seconds, one.parameters, one.macs = [seconds], 21_000_000, 10**9
    short = table.readme_block(table.rows(found, {"fp32": [1e9], "bf16": [1e12]}), FACTS)
    ours, timms = (line for line in short.splitlines() if "ViT-S" in line)
    # 128 images of 6 GFLOP in 2 s are 384 GFLOP/s.
    start = "| **ours**, in our loop: ViT-S in bf16 (21,000,000 parameters)"
    assert ours == f"{start} | 64.0 | 1.00 × as fast | 38 % |  |  |"
    start = "| timm, our loop: ViT-S in bf16 (21,000,000 parameters)"
    assert timms == f"{start} | 32.0 | 2.00 × as fast | 19 % |  |  |"


def facts_in(block: str) -> dict[str, str]:
    """The facts that a block tells; empty for one of another version."""
    pattern = re.sub(r"\\\{(\w+)\\\}", r"(?P<\1>.*?)", re.escape(table.FACTS))
    found = re.search(pattern, block)
    return found.groupdict() if found else {}


def test_readme_and_page_hold_a_measurement_or_say_that_there_is_none() -> None:
    """One that was written by this version of the table: a clean commit, a machine, all rows."""
    for name, least in (("README.md", 9), ("docs/benchmarks.md", 18)):
        text = (ROOT / name).read_text(encoding="utf-8")
        put_in(text, "", (table.BEGIN, table.END), name)
        if table.UNMEASURED in text:
            continue
        inside = text.partition(table.BEGIN)[2].partition(table.END)[0]
        assert inside.count("\n|") >= least, f"{name}: write it again: make bench"
        told = facts_in(inside)
        assert told, f"{name}: write it again: make bench"
        assert re.fullmatch(r"[0-9a-f]{7,40}", told["commit"]), "not of a clean commit"
        assert told["hardware"].strip() and "not installed" not in inside


# --- The command


def test_nothing_heavy_at_import() -> None:
    for path in sorted((ROOT / "src" / "vitrail" / "bench").glob("*.py")):
        heavy = {"torch", "torchvision", "timm", "transformers", "vit_pytorch", "pandas"}
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            names = [alias.name for alias in getattr(node, "names", [])]
            names += [getattr(node, "module", "") or ""]
            assert not heavy & {name.partition(".")[0] for name in names}, path.name


def test_a_page_without_marks_is_told_before_anything_is_measured(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("nothing")
    with pytest.raises(VitrailError, match=r"page\.md should hold the lines"):
        put_in("nothing", "", (table.BEGIN, table.END), str(page))
    done = subprocess.run(
        [sys.executable, "-m", "vitrail.bench", "--rounds", "0"],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 1
    assert done.stderr == "vitrail: --rounds is 0 and has to be at least 1\n"


def test_the_command_writes_both_pages_and_the_rows(
    config: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str], mnist: Mnist,
) -> None:  # fmt: skip
    """Turns and peak are made up; what is around the blocks stays."""
    from vitrail.bench import __main__ as command

    found = contestants(config["defaults"], mnist, bf16=False)
    for one in found:
        one.turn, one.parameters, one.macs = lambda _: 0.5, 1000, 10**6
    monkeypatch.setattr(command, "load_mnist", lambda *_, **__: mnist)
    monkeypatch.setattr(command, "contestants", lambda *_: found)
    order: list[str] = []
    monkeypatch.setattr(command, "one_core", lambda: order.append("one core") or True)
    monkeypatch.setattr(command, "prepare", lambda _: order.append("prepare"))
    monkeypatch.setattr(turns, "matrix_peak", lambda _: 1e9)
    pages = [tmp_path / "README.md", tmp_path / "page.md"]
    for page in pages:
        page.write_text(f"before\n{table.UNMEASURED}\nafter\n")
    words = ["bench", "--config", str(ROOT / "config" / "default.yaml"), "--rounds", "2"]
    words += ["--readme", str(pages[0]), "--page", str(pages[1]), "--out", str(tmp_path / "b.csv")]
    monkeypatch.setattr(sys, "argv", words)
    command.main()
    assert order == ["one core", "prepare"]
    for page in pages:
        text = page.read_text(encoding="utf-8")
        assert text.startswith(f"before\n{table.BEGIN}\n| ") and text.endswith("\nafter\n")
        assert facts_in(text)["rounds"] == "2" and table.UNMEASURED not in text
    assert len((tmp_path / "b.csv").read_text().splitlines()) == 1 + len(found)
    said = capsys.readouterr().out
    assert "ViT-S, ours is left out: this processor has no bf16 products" in said
    for share, told in ((0.5, True), (0.94, True), (0.96, False)):
        monkeypatch.setattr(command, "take_turns", lambda *_, s=share: ({"fp32": [1e9]}, s))
        command.main()
        said = capsys.readouterr().out
        assert (f"other programs took {1 - share:.0%} of the core" in said) == told
