"""The command of the one-minute ViT: its options, what it keeps, and its table in the README."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from vitrail.analysis import estimate
from vitrail.errors import VitrailError
from vitrail.one_minute import __main__ as command
from vitrail.one_minute import runs, table
from vitrail.one_minute.networks import build
from vitrail.one_minute.recipes import RECIPES, changed

ROOT = Path(__file__).parents[1]


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
    labels = [row["label"] for row in rows]
    assert labels == [recipe.label for recipe in RECIPES.values() if recipe.label in labels]
    assert {RECIPES["vit"].label, RECIPES["cnn"].label} <= set(labels)
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
