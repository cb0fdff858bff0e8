"""The command of the one-minute ViT: its options, what it keeps, and its table in the README."""

from __future__ import annotations

import json
import re
import sys
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.multiprocessing as mp

from made_bench import noise
from vitrail.analysis import estimate
from vitrail.errors import VitrailError
from vitrail.one_minute import __main__ as command
from vitrail.one_minute import runs, table, train
from vitrail.one_minute.networks import build
from vitrail.one_minute.recipes import RECIPES, changed
from vitrail.one_minute.stream import HALVES, Stream

ROOT = Path(__file__).parents[1]


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ("--seconds 0", "--seconds is 0 and has to be a number from 0.5 on"),
        ("--seconds nan", "--seconds is nan"),
        ("--seconds inf", "--seconds is inf"),
        ("--steps -1", "--steps is -1 and has to be 1 or more"),
        ("--seeds 1 1", "different numbers"),
        ("--seeds -1", "different numbers from 0 to 4294967295"),
        ("--seeds 0 4294967296", "different numbers from 0 to 4294967295"),
        ("--seeds 99999999999999999999", "different numbers from 0 to 4294967295"),
        ("--models vit vit", "--models have to be different ones"),
        ("--models vit vit cnn cnn_tuned", "--models have to be different ones"),
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
        ("optimizer=foo", "optimizer is 'foo' and has to be one of adamw, sgd, muon, lion"),
        ("learning_rate=-1", "learning_rate has to be a number from 1e-09 to 1000"),
        ("learning_rate=0", "learning_rate has to be a number from 1e-09 to 1000"),
        ("matrix_learning_rate=NaN", "has to be a number from"),
        ("weight_decay=-0.1", "has to be a number from 0 to 1000"),
        ("rotation=1e9", "has to be a number from 0 to 180"),
        ("translation=-1", "has to be a number from 0 to 28"),
        ("scaling=1", "has to be a number from 0 to 0.99"),
        ("network.depth=-1", "has to be a number from 1 to 100"),
        ("network.pos_embed_std=-1", "has to be a number from 0 to 1000"),
    ],
)
def test_settings_that_make_no_sense_are_told_in_a_sentence(word: str, told: str) -> None:
    with pytest.raises(VitrailError, match=re.escape(told)):
        changed(RECIPES["vit"], [word])


def test_muon_needs_blocks() -> None:
    assert changed(RECIPES["cnn"], ["optimizer=lion"]).optimizer == "lion"
    with pytest.raises(VitrailError, match=r"small CNN.*has none; choose one of adamw, sgd, lion"):
        changed(RECIPES["cnn"], ["optimizer=muon"])


@pytest.mark.parametrize(
    ("word", "told"),
    [
        ("num_heads=5", "num_heads 5 does not divide the width 64"),
        ("num_heads=0", "num_heads must be positive"),
        ("patch_size=5", "patch_size 5 does not divide img_size 24"),
        ("patch_size=0", "cannot be trained with these settings"),
        ("embed_dim=-64", "cannot be trained with these settings"),
        ("mlp_ratio=-2", "cannot be trained with these settings"),
        ("patch_embed=lineal", "cannot be trained with these settings"),
        ("global_pool=token", "reads the class token"),
        ("in_chans=3", "cannot be trained with these settings"),
        ("num_classes=9", "gives (9,) numbers for an image"),
    ],
)
def test_networks_that_cannot_be_are_told_before_any_training(
    word: str, told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runs, "run", lambda order: pytest.fail("it was trained"))
    words = ["--models", "vit", "--set", f"network.{word}"]
    with pytest.raises(VitrailError, match=re.escape(told)):
        command.measure(command.parse(words))


@pytest.mark.parametrize(
    "words",
    [
        "--validation", "--models vit --seeds 0", "--models vit cnn", "--seeds 0 1 2 3",
        "--steps 5", "--seconds 59", "--processes 1", "--set batch_size=64", "--out other.json",
    ],
)  # fmt: skip
def test_other_options_leave_the_record_alone(words: str) -> None:
    arguments = command.parse(words.split())
    assert not arguments.record and arguments.out != table.RUNS


def test_the_record_is_made_without_options_or_resumed() -> None:
    for words in ("", "--resume", "--seeds 4 3 2 1 0", "--models cnn_tuned cnn vit"):
        arguments = command.parse(words.split())
        assert arguments.record and arguments.out == table.RUNS


def test_the_highest_seed_starts_every_generator() -> None:
    (seed,) = command.parse(["--seeds", "4294967295"]).seeds
    build(RECIPES["cnn"], seed)
    Stream(torch.zeros(4, 1, 28, 28), torch.zeros(4), RECIPES["cnn"], seed, range(HALVES))


@pytest.mark.parametrize(
    ("words", "most"), [("--set batch_size=452", 450), ("--set batch_size=200000", 450)]
)
def test_a_batch_of_more_than_all_images_is_told_before_any_training(
    words: str, most: int, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(runs, "run", lambda order: pytest.fail("it was trained"))
    monkeypatch.setattr(runs, "cores", lambda: 2)
    monkeypatch.setattr("vitrail.data.load_mnist", lambda folder, verify: noise())
    arguments = command.parse([*words.split(), "--models", "cnn", "--out", str(tmp_path / "o")])
    with pytest.raises(VitrailError, match=rf"batch_size is \d+ and has to be at most {most}, the"):
        command.measure(arguments)


def test_images_held_out_are_in_no_batch(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(runs, "run", lambda order: pytest.fail("it was trained"))
    monkeypatch.setattr(runs, "cores", lambda: 2)
    monkeypatch.setattr("vitrail.data.load_mnist", lambda folder, verify: noise())
    monkeypatch.setattr(train, "HELD_OUT", 400)
    words = ["--models", "cnn", "--validation", "--out", str(tmp_path / "o")]
    with pytest.raises(VitrailError, match="batch_size is 128 and has to be at most 50, the"):
        command.measure(command.parse(words))


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
    errors = {"vit": (80, 90, 100, 90, 90), "cnn": (120,) * 5, "cnn_tuned": (99,) * 5}
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
    monkeypatch.setattr("vitrail.data.load_mnist", lambda folder, verify: noise())
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


def spoilt(name: str, value: Any) -> list[dict[str, Any]]:
    """The made runs, where one of them has another value, or none at all."""
    first, *rest = made()["runs"]
    first = {**first, name: value}
    return [{key: one for key, one in first.items() if one is not None}, *rest]


@pytest.mark.parametrize(
    "content",
    [
        [], "abc", None, 3, {}, {"runs": []},
        *(made(runs=rows) for rows in (3, [3], [{}], "abc", None, {}, [None])),
        *(made(runs=spoilt(name, value)) for name, value in (
            ("model", "mlp"), ("model", []), ("seed", "0"), ("errors", None), ("read", "train"),
            ("accuracy", "high"), ("seconds", 0), ("cpu_seconds", [])
        )),
        made(runs=[*made()["runs"], made()["runs"][0]]),
    ],
)  # fmt: skip
def test_a_file_that_is_no_record_is_not_gone_on_from(content: Any, tmp_path: Path) -> None:
    """Or one that was made otherwise, where it holds runs and nothing beside them."""
    file = tmp_path / "runs.json"
    file.write_text(json.dumps(content))
    found = made()
    del found["runs"]
    said = "have another" if content == {"runs": []} else "is not a record of .*; delete it or name"
    with pytest.raises(VitrailError, match=rf"^--resume: .*runs\.json.*{said}"):
        command.kept(file, found)


def test_one_of_a_kind_is_told_in_the_singular(monkeypatch: pytest.MonkeyPatch) -> None:
    one = table.table(made(runs=made()["runs"][:1], steps=1, cores=1))
    assert "\n1 seed each" in one and " 1 step, " in one and "(1 core), torch" in one
    assert " 1 second, " in table.table(made(seconds=1.0))
    assert " 1,234,567 steps, " in table.table(made(steps=1_234_567))
    spent, order = train.Spent(0, 0.0, 0.0), train.Order(RECIPES["cnn"], 0, "", seconds=1.0)
    with pytest.raises(VitrailError, match="within 1 second;"):
        train.accept(build(RECIPES["cnn"], 0), spent, order)
    with pytest.raises(VitrailError, match=r"1\.20 of 1 second, since"):
        train.accept(build(RECIPES["cnn"], 0), replace(spent, steps=1, seconds=1.2), order)

    def fails(*_: Any, **__: Any) -> None:
        raise mp.ProcessRaisedException("ValueError: of 3", 0, 1)

    monkeypatch.setattr(mp, "spawn", fails)
    for processes, who in ((1, "the process"), (2, "one of the 2 processes")):
        with pytest.raises(VitrailError, match=rf"^{who} failed \(ValueError: of 3\); run"):
            runs.run(replace(order, processes=processes))


def test_the_table_says_what_the_runs_say() -> None:
    text = table.table(made())
    assert (
        "| ViT, ours | 1,234 | **99.10 ± 0.09** | 80, 90, 100, 90, 90 | 5,000 "
        "| 100 to 104 of 120 |" in text
    )
    assert "5 seeds each" in text and "60 seconds" in text and "`0123abc`, clean" in text
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


def fewer(**wanted: Any) -> list[dict[str, Any]]:
    """The made runs but those with these values."""
    return [run for run in made()["runs"] if any(run[key] != wanted[key] for key in wanted)]


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"seconds": 1.0}, "60 seconds and 2 processes"),
        ({"processes": 1}, "60 seconds and 2 processes"),
        ({"runs": fewer(seed=4)}, "seeds 0 to 4"),
        ({"runs": fewer(seed=4, model="cnn")}, "seeds 0 to 4"),
        ({"runs": fewer(model="cnn_tuned")}, "3 networks"),
        ({"runs": [*made()["runs"], made()["runs"][0]]}, "these runs are others"),
        (
            {"runs": [{**run, "seconds": 60.5} for run in made()["runs"]]},
            "15 of the runs took more",
        ),
    ],
)
def test_the_readme_takes_the_whole_record_alone(change: dict[str, Any], told: str) -> None:
    with pytest.raises(VitrailError, match=told):
        table.block(made(**change))


def run_main(folder: Path, monkeypatch: pytest.MonkeyPatch, *words: str) -> Path:
    """The command with made runs, in a folder of its own; its README."""
    rows = {(run["model"], run["seed"]): run for run in made()["runs"]}
    monkeypatch.chdir(folder)
    monkeypatch.setattr(
        runs,
        "run",
        lambda order: {
            **rows[names[order.recipe.label], order.seed], "start_up_seconds": 3.0, "loss": 0.03,
        },
    )  # fmt: skip
    names = {recipe.label: name for name, recipe in RECIPES.items()}
    monkeypatch.setattr(runs, "cores", lambda: 2)
    monkeypatch.setattr("vitrail.data.load_mnist", lambda folder, verify: noise())
    monkeypatch.setattr(sys, "argv", ["minute", *words])
    readme = folder / "README.md"
    if not readme.exists():
        readme.write_text(f"# A\n{table.BEGIN}\nold\n{table.END}\nrest\n")
    command.main()
    return readme


def test_the_command_writes_the_record_into_the_readme_and_a_trial_beside_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = run_main(tmp_path, monkeypatch).read_text()
    assert text.startswith(f"# A\n{table.BEGIN}\n| |") and text.endswith("\nrest\n")
    assert "old" not in text and "99.10 ± 0.09" in text
    record = (tmp_path / table.RUNS).read_text()
    assert run_main(tmp_path, monkeypatch, "--models", "vit", "--seeds", "0").read_text() == text
    assert (tmp_path / table.RUNS).read_text() == record
    assert len(json.loads((tmp_path / command.TRIED).read_text())["runs"]) == 1


def test_a_readme_without_marks_is_told_before_minutes_are_spent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "README.md").write_text("nothing")
    with pytest.raises(VitrailError, match="should hold the lines"):
        run_main(tmp_path, monkeypatch)
    assert not (tmp_path / table.RUNS).exists()


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ("--out /proc/x/o.json", r"^--out: /proc/x/o\.json cannot be written"),
        ("--readme none.md", r"^--readme: there is no page none\.md"),
        ("--readme latin.md", r"^--readme: latin\.md is no text in UTF-8"),
        ("--readme bare.md", r"bare\.md should hold the lines"),
    ],
)
def test_files_that_cannot_be_written_are_told_before_minutes_are_spent(
    words: str, told: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "latin.md").write_bytes(f"é{table.BEGIN}{table.END}".encode("latin-1"))
    (tmp_path / "bare.md").touch()
    monkeypatch.setattr(command, "measure", lambda _: pytest.fail("too late"))
    with pytest.raises(VitrailError, match=told):
        run_main(tmp_path, monkeypatch, *words.split())
    assert not (tmp_path / "results").exists()


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
    assert labels == [recipe.label for recipe in RECIPES.values()]
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
