"""The benchmark: equal networks, loops that train, turns that interleave, tables that add up."""

from __future__ import annotations

import ast
import math
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

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
    """Noise in the shape of MNIST, enough for two batches."""
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (200, 28, 28), dtype=np.uint8)
    labels = rng.integers(0, 10, 200, dtype=np.uint8)
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


# --- Turns and peak


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


def facts_in(block: str) -> dict[str, str]:
    """The facts that a block tells; empty for one of another version."""
    pattern = re.sub(r"\\\{(\w+)\\\}", r"(?P<\1>.*?)", re.escape(table.FACTS))
    found = re.search(pattern, block)
    return found.groupdict() if found else {}


def test_readme_and_page_hold_a_measurement_or_say_that_there_is_none() -> None:
    """One that was written by this version of the table: a clean commit, a machine, all rows."""
    for name, least in (("README.md", 7), ("docs/benchmarks.md", 18)):
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
    monkeypatch.setattr(command, "one_core", lambda: True)
    monkeypatch.setattr(command, "prepare", lambda _: None)
    monkeypatch.setattr(turns, "matrix_peak", lambda _: 1e9)
    pages = [tmp_path / "README.md", tmp_path / "page.md"]
    for page in pages:
        page.write_text(f"before\n{table.UNMEASURED}\nafter\n")
    words = ["bench", "--config", str(ROOT / "config" / "default.yaml"), "--rounds", "2"]
    words += ["--readme", str(pages[0]), "--page", str(pages[1]), "--out", str(tmp_path / "b.csv")]
    monkeypatch.setattr(sys, "argv", words)
    command.main()
    for page in pages:
        text = page.read_text(encoding="utf-8")
        assert text.startswith(f"before\n{table.BEGIN}\n| ") and text.endswith("\nafter\n")
        assert facts_in(text)["rounds"] == "2" and table.UNMEASURED not in text
    assert len((tmp_path / "b.csv").read_text().splitlines()) == 1 + len(found)
    said = capsys.readouterr().out
    assert "ViT-S, ours is left out: this processor has no bf16 products" in said
