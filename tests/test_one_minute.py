"""The one-minute ViT: what two processes compute, when they end, and what is told of it."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import torch
import torch.nn.functional as F

from vitrail.analysis import estimate
from vitrail.data import Mnist
from vitrail.errors import VitrailError
from vitrail.one_minute import __main__ as command
from vitrail.one_minute import runs, table, train
from vitrail.one_minute.networks import build
from vitrail.one_minute.recipes import HELD_OUT, RECIPES, changed
from vitrail.one_minute.stream import HALVES, Stream, chosen, middle, normalised
from vitrail.one_minute.together import Gradients
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
        mp.spawn(train.work, args=(order, str(tmp_path / name)), nprocs=order.processes)
        found[name] = json.loads((tmp_path / name / "result.json").read_text())
    assert found["two"]["weights_sha256"] == found["again"]["weights_sha256"]
    alone = build(RECIPES["vit"], 3)
    fit(alone, stream(digits, seed=3), replace(order, processes=1))
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
    gradients = Gradients(buffered, 1)
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
    spent = fit(network, stream(digits), Order(RECIPES["vit"], 0, "", 10.0, processes=1))
    assert spent.steps == len(updates) == len(rates) == 9
    falling = rates[1:]
    assert falling == sorted(falling, reverse=True) and 0 < falling[-1] < 0.15


def test_steps_ask_no_clock(
    digits: tuple[torch.Tensor, torch.Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(train.time, "perf_counter", Clock(1000.0))
    order = Order(RECIPES["cnn"], 0, "", steps=4, processes=1)
    assert fit(build(RECIPES["cnn"], 0), stream(digits, "cnn"), order).steps == 4


@pytest.mark.parametrize("name", MODELS)
def test_networks_learn(name: str, mnist: Mnist, digits: tuple[torch.Tensor, torch.Tensor]) -> None:
    """Forty steps on textures under noise, which the random maps make harder."""
    network = build(RECIPES[name], 0)
    unseen = tensors(mnist.test_images, mnist.test_labels)
    before = train.read(network, *unseen, RECIPES[name].crop)
    fit(network, stream(digits, name), Order(RECIPES[name], 0, "", steps=40, processes=1))
    after = train.read(network, *unseen, RECIPES[name].crop)
    assert after["accuracy"] > before["accuracy"] + 0.3
    assert after["errors"] == round(200 * (1 - after["accuracy"]))


def test_rates_rise_and_fall_with_the_time() -> None:
    recipe = replace(RECIPES["vit"], warmup=0.25, falling=True)
    assert [recipe.rate(share) for share in (0, 0.125, 0.25, 0.625, 1)] == [0, 0.5, 1, 0.5, 0]
    assert {replace(recipe, warmup=0, falling=False).rate(share) for share in (0, 0.5, 1)} == {1}


# --- The command


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ("--seconds 0", "--seconds is 0 and has to be a number from 0.5 on"),
        ("--seconds nan", "--seconds is nan"),
        ("--seconds inf", "--seconds is inf"),
        ("--steps -1", "--steps is -1 and has to be 1 or more"),
        ("--seeds 1 1", "different numbers"),
        ("--seeds -1", "from 0 on"),
    ],
)
def test_options_that_make_no_sense_are_told_in_a_sentence(words: str, told: str) -> None:
    with pytest.raises(VitrailError, match=re.escape(told)):
        command.parse(words.split())


def test_settings_are_changed_by_name() -> None:
    words = ["matrix_learning_rate=0.01", "network.depth=3", "network.patch_embed=linear"]
    recipe = changed(RECIPES["vit"], words)
    assert (recipe.matrix_learning_rate, recipe.network["depth"]) == (0.01, 3)
    assert recipe.network["patch_embed"] == "linear"
    assert asdict(changed(recipe, [])) == asdict(recipe)
    assert RECIPES["vit"].network["depth"] == 4


@pytest.mark.parametrize(
    ("word", "told"),
    [
        ("learningrate=1", "did you mean learning_rate?"),
        ("network.dept=3", "did you mean network.depth?"),
        ("network=3", "no setting"),
        ("batch_size=0.5", "batch_size is 128, and '0.5' is of another kind"),
        ("falling=1", "falling is True, and '1' is of another kind"),
        ("learning_rate=fast", "learning_rate is 0.003, and 'fast' is of another kind"),
        ("batch_size=127", "has to be even"),
        ("warmup=1", "below 1"),
        ("crop=28", "both have to be the same"),
    ],
)
def test_settings_that_make_no_sense_are_told_in_a_sentence(word: str, told: str) -> None:
    with pytest.raises(VitrailError, match=re.escape(told)):
        changed(RECIPES["vit"], [word])


def test_one_core_is_told_with_the_way_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runs, "cores", lambda: 1)
    with pytest.raises(VitrailError, match=r"2 processes need 2 cores .* --processes 1"):
        runs.check(2)
    runs.check(1)


def test_data_that_is_not_there_is_told_before_any_process(tmp_path: Path) -> None:
    with pytest.raises(VitrailError, match="idx3-ubyte"):
        command.measure(command.parse(["--data", str(tmp_path), "--processes", "1"]))


def made(**change: Any) -> dict[str, Any]:
    """What the command leaves, of made runs."""
    run = {
        "training_images": 60_000, "read_images": 10_000, "read": "test", "parameters": 1234,
        "images": 300_000, "seconds": 60.0,
    }  # fmt: skip
    errors = {"vit": (80, 90, 100), "cnn": (120, 110, 130), "cnn_tuned": (99, 98, 97)}
    return {
        "hardware": "A | machine", "cores": 2, "torch": "2.0", "commit": "0123abc", "seconds": 60.0,
        "steps": 0, "processes": 2, "recipes": {name: asdict(RECIPES[name]) for name in errors},
        "runs": [
            {**run, "model": name, "seed": seed, "errors": wrong, "accuracy": 1 - wrong / 10_000,
             "cpu_seconds": 100.0 + seed}
            for name, counts in errors.items() for seed, wrong in enumerate(counts)
        ],
        **change,
    }  # fmt: skip


def test_measured_runs_are_kept_as_they_finish(
    data_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second run fails; the first stands in the file."""
    row = {**made()["runs"][0], "start_up_seconds": 3.0, "loss": 0.03}
    answers = iter([row])
    monkeypatch.setattr(runs, "run", lambda order: dict(next(answers)))
    monkeypatch.setattr("vitrail.data.load_mnist", lambda folder, verify: None)
    words = ["--seeds", "0", "1", "--models", "vit", "--out", str(tmp_path / "runs.json")]
    with pytest.raises(StopIteration):
        command.measure(command.parse(words))
    kept = json.loads((tmp_path / "runs.json").read_text())
    assert [run["errors"] for run in kept["runs"]] == [80]
    assert kept["recipes"]["vit"]["network"]["patch_embed"] == RECIPES["vit"].network["patch_embed"]


def test_runs_that_are_there_are_kept_on_demand_if_they_were_made_alike(tmp_path: Path) -> None:
    found = made()
    runs_there = found.pop("runs")
    file = tmp_path / "runs.json"
    assert command.kept(file, found) == []
    file.write_text(json.dumps({**found, "runs": runs_there}))
    assert command.kept(file, found) == runs_there
    with pytest.raises(VitrailError, match=r"have another commit, seconds; leave --resume out"):
        command.kept(file, {**found, "commit": "4567def", "seconds": 30.0})


def test_the_table_says_what_the_runs_say() -> None:
    text = table.table(made())
    assert (
        "| ViT, ours | 1,234 | **99.10 ± 0.25** | 80, 90, 100 | 5,000 | 100 to 102 of 120 |" in text
    )
    assert "3 seeds each" in text and "60 seconds" in text and "`0123abc`, clean" in text
    assert "last 5,000" in table.table(
        made(runs=[{**run, "read": "validation"} for run in made()["runs"]])
    )


@pytest.mark.parametrize("change", [{"steps": 5}, {"runs": [{"read": "validation"}]}])
def test_the_readme_takes_runs_against_the_clock_on_the_test_set_alone(
    change: dict[str, Any],
) -> None:
    with pytest.raises(VitrailError, match="without these options"):
        table.block(made(**change))
    with pytest.raises(VitrailError, match="without --set"):
        table.block(made(recipes={name: {} for name in RECIPES}))


def test_the_block_of_the_readme_is_replaced(tmp_path: Path) -> None:
    readme, file = tmp_path / "README.md", tmp_path / "runs.json"
    file.write_text(json.dumps(made()))
    readme.write_text(f"# A\n{table.BEGIN}\nold\n{table.END}\nrest\n")
    words = [sys.executable, "-m", "vitrail.one_minute.table", "--runs", str(file)]
    done = subprocess.run(
        [*words, "--readme", str(readme)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    text = readme.read_text()
    assert text.startswith(f"# A\n{table.BEGIN}\n| |") and text.endswith("\nrest\n")
    assert "old" not in text and "99.10 ± 0.25" in text


def rows_of(text: str) -> list[dict[str, str]]:
    """The rows of the table in a README."""
    inside = text.partition(table.BEGIN)[2].partition(table.END)[0]
    pattern = re.sub(r"\\\{(\w+)\\\}", r"(?P<\1>[^|]+?)", re.escape(table.ROW))
    lines = inside.splitlines()
    return [found.groupdict() for line in lines if (found := re.fullmatch(pattern, line))]


def test_the_readme_shows_the_table_as_it_is_written_today() -> None:
    """Each accuracy is that of the errors beside it, and the commit was clean."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    rows = rows_of(text)
    assert [row["label"] for row in rows] == [recipe.label for recipe in RECIPES.values()]
    for row in rows:
        errors = [int(count) for count in row["errors"].split(", ")]
        assert len(errors) == 5
        accuracy = estimate([100 - count / 100 for count in errors])
        assert row["accuracy"] == f"{accuracy.mean:.2f} ± {accuracy.half_width:.2f}"
    inside = text.partition(table.BEGIN)[2].partition(table.END)[0]
    assert "60 seconds" in inside and "test set is read once" in inside
    assert re.search(r"at commit `[0-9a-f]{12}`, clean", inside)
    network = build(RECIPES["vit"], 0)
    assert rows[0]["parameters"] == f"{sum(p.numel() for p in network.parameters()):,}"
