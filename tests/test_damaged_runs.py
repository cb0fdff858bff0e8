"""Everything that a later step reads from an earlier one, damaged: never taken in silence.

Each row is a kind of damage to a finished run, to a pretraining or to what the report takes
from a question, and the words that must be said. Those of the data are in test_data.py and
test_download_damage.py, those of weights from outside in test_weights.py.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from vitrail import collect, networks, run_folder
from vitrail.config import load
from vitrail.errors import VitrailError
from vitrail.files import read_json, write_json
from vitrail.intact import checksums, compare, read_summary, sealed
from vitrail.questions.study import Study
from vitrail.report.stage import stage
from vitrail.setting_checks import checked
from vitrail.settings import arm_id, run_id

ROOT = Path(__file__).parents[1]
FACTS = {"hardware": "a test", "threads": 1, "versions": {"torch": "0"}}
SMALL = {"embed_dim": 8, "depth": 2, "num_heads": 2, "head_dim": 0}


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], Path]:
    """A config and its results folder, with two finished runs of the base ViT, untrained."""
    config = load([ROOT / "config" / "default.yaml"])
    config["defaults"] |= SMALL
    config["study"] = "made"
    settings = checked({**config["defaults"], "validation": 5000}, {}, "defaults")
    results = tmp_path_factory.mktemp("results")
    for seed in (0, 1):
        torch.manual_seed(seed)
        folder = results / "made" / "runs" / run_id(arm_id(settings), seed)
        row = {"step": 1, "val_accuracy": 0.9, "train_loss": 1.0}
        tables = {"history.csv": [row], "timing.csv": [{"step": 1, "seconds": 0.5}]}
        logits = np.zeros((200, 10), np.float32)
        summary = {"status": "finished", "reason": "", "test_accuracy": 0.9123, "seconds": 1.5}
        result = (networks.build(settings), tables, logits)
        run_folder.write_run(folder, settings, seed, summary, FACTS, result)
    return config, results


@pytest.fixture
def run(finished: tuple[dict[str, Any], Path], tmp_path: Path) -> tuple[Study, str, Path]:
    """A copy: the study, the arm and the folder of its first run."""
    config, results = finished
    shutil.copytree(results, tmp_path / "results")
    study = Study(config, tmp_path / "results")
    return study, study.plan.base, study.run_folder(study.plan.base, 0)


def flip(path: Path, place: float = 0.5) -> None:
    """One bit."""
    content = bytearray(path.read_bytes())
    content[int(len(content) * place)] ^= 1
    path.write_bytes(content)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def empty(path: Path) -> None:
    path.write_bytes(b"")


def other(folder: Path) -> Path:
    """The folder of the second run."""
    return folder.with_name(folder.name.replace("-s0", "-s1"))


def last_line_gone(path: Path) -> None:
    path.write_text("\n".join(path.read_text().splitlines()[:-1]) + "\n")


def not_finite(path: Path) -> None:
    tensors = load_file(path)
    next(iter(tensors.values())).fill_(torch.nan)
    save_file(tensors, path)


def digit(path: Path) -> None:
    """Still JSON, another accuracy."""
    text = path.read_text()
    assert "0.9123" in text
    path.write_text(text.replace("0.9123", "0.9823"))


def loop(path: Path) -> None:
    path.unlink()
    path.symlink_to(path.name)


def folder_instead(path: Path) -> None:
    path.unlink()
    path.mkdir()


def moved_in(folder: Path) -> None:
    """A whole run under the name of another."""
    shutil.rmtree(folder)
    shutil.copytree(other(folder), folder)


def network(study: Study, arm: str) -> Any:
    return study.network(arm, 0)


def logits(study: Study, arm: str) -> Any:
    return study.test_logits(arm, 0)


def summary(study: Study, arm: str) -> Any:
    return study.summary(arm, 0)


def facts(study: Study, arm: str) -> Any:
    return study.hardware


def table(study: Study, arm: str) -> Any:
    rows = [{"arm_id": arm, "seeds": [0, 1]}]
    return collect.question_table(study.folder, rows)


def curves(study: Study, arm: str) -> Any:
    """The histories of an experiment that has this arm."""
    about = next(
        about
        for about in study.plan.experiments
        if any(member.arm.arm_id == arm for member in about.members)
    )
    members = tuple(member for member in about.members if member.arm.arm_id == arm)
    return study.histories(about.__class__(**{**vars(about), "members": members, "seeds": (0, 1)}))


Read = Callable[[Study, str], Any]
KINDS: list[tuple[str, Callable[[Path], Any], Read, str]] = [
    # kind, damage to the run folder, who reads it, what is said
    ("weights: a bit", lambda run: flip(run / "model.safetensors", 0.9), network, "is damaged"),
    ("weights: header bit", lambda run: flip(run / "model.safetensors", 0.01), network, "damaged"),
    ("weights: cut", lambda run: cut(run / "model.safetensors"), network, "is damaged"),
    (
        "weights: empty",
        lambda run: (run / "model.safetensors").write_bytes(b""),
        network,
        "damaged",
    ),
    ("weights: NaN", lambda run: not_finite(run / "model.safetensors"), network, "is damaged"),
    ("weights: gone", lambda run: (run / "model.safetensors").unlink(), network, "is missing"),
    ("weights: link to itself", lambda run: loop(run / "model.safetensors"), network, "is missing"),
    (
        "weights: a folder",
        lambda run: folder_instead(run / "model.safetensors"),
        network,
        "missing",
    ),
    (
        "weights of another run",
        lambda run: shutil.copy(other(run) / "model.safetensors", run),
        network,
        "model.safetensors is damaged",
    ),
    (
        "config of another run",
        lambda run: shutil.copy(other(run) / "config.json", run),
        network,
        "config.json is damaged",
    ),
    ("another run in its folder", moved_in, network, "holds the run"),
    ("another run in its folder, its table", moved_in, table, "holds the run"),
    ("logits: a bit", lambda run: flip(run / "predictions.npz"), logits, "npz is damaged"),
    ("logits: cut", lambda run: cut(run / "predictions.npz"), logits, "npz is damaged"),
    ("logits: gone", lambda run: (run / "predictions.npz").unlink(), logits, "npz is missing"),
    ("history: a line lost", lambda run: last_line_gone(run / "history.csv"), curves, "damaged"),
    ("history: cut", lambda run: cut(run / "history.csv"), curves, "history.csv is damaged"),
    ("history: gone", lambda run: (run / "history.csv").unlink(), curves, "history.csv is missing"),
    ("summary: cut", lambda run: cut(run / "summary.json"), summary, "not readable JSON"),
    ("summary: empty", lambda run: empty(run / "summary.json"), summary, "not readable JSON"),
    (
        "summary: a list",
        lambda run: (run / "summary.json").write_text("[]"),
        summary,
        "how the run",
    ),
    ("summary: a digit", lambda run: digit(run / "summary.json"), summary, "not its own"),
    ("summary: a digit, its table", lambda run: digit(run / "summary.json"), table, "not its own"),
    ("summary: gone", lambda run: (run / "summary.json").unlink(), table, "is missing"),
    ("facts: cut", lambda run: cut(run / "env.json"), facts, "env.json is damaged"),
    ("facts: a bit", lambda run: flip(run / "env.json"), facts, "env.json is damaged"),
]


@pytest.mark.parametrize(("kind", "damage", "read", "said"), KINDS, ids=[row[0] for row in KINDS])
def test_a_damaged_run_is_named(
    run: tuple[Study, str, Path],
    kind: str,
    damage: Callable[[Path], Any],
    read: Read,
    said: str,
) -> None:
    study, arm, folder = run
    read(study, arm)  # whole, it is read
    damage(folder)
    with pytest.raises(VitrailError) as caught:
        read(Study(study.config, study.results), arm)
    sentence = str(caught.value)
    assert said in sentence
    assert str(folder) in sentence
    assert "run" in sentence.rpartition(";")[2], "it says what to do"
    assert "\n" not in sentence


def test_a_start_of_a_damaged_pretraining_is_refused(tmp_path: Path) -> None:
    """A bit of it would train on in silence, for a start has no accuracy of its own."""
    config = load([ROOT / "config" / "default.yaml"])
    settings = checked({**config["defaults"], **SMALL, "validation": 5000}, {}, "defaults")
    trained = networks.build(settings)
    file = tmp_path / "start" / "model.safetensors"
    file.parent.mkdir()
    save_file({name: value.contiguous() for name, value in trained.state_dict().items()}, file)
    write_json(file.with_name("summary.json"), {"files": checksums(file.parent, "model*")})
    networks.load_start(networks.build(settings), file)
    flip(file, 0.9)
    with pytest.raises(VitrailError, match=r"model\.safetensors is damaged .*; delete the folder"):
        networks.load_start(networks.build(settings), file)


SHOWN = ["answer.md", "numbers.json", "figures/a.svg", "tables/a.md", "explore/a.json"]


@pytest.mark.parametrize("name", SHOWN)
@pytest.mark.parametrize("damage", [cut, flip, Path.unlink])
def test_what_the_report_takes_is_as_it_was_written(
    tmp_path: Path, name: str, damage: Callable[[Path], Any]
) -> None:
    """Half a table is still a table, and would be printed."""
    folder = tmp_path / "results" / "made" / "q1_patch_embedding"
    for file in SHOWN:
        (folder / file).parent.mkdir(parents=True, exist_ok=True)
        (folder / file).write_text(json.dumps({"text": "as it was written"}))
    write_json(folder / "sources.json", {"files": checksums(folder, "*.*", "*/*")})
    (tmp_path / "report").mkdir()
    (tmp_path / "report" / "report.qmd").write_text("A report.")
    damage(folder / name)
    with pytest.raises(VitrailError) as caught:
        stage("made", tmp_path / "results", tmp_path / "report", ROOT)
    assert f"{folder / name} is " in str(caught.value)
    assert "snakemake --cores all q1_patch_embedding" in str(caught.value)


def test_a_sealed_summary_is_read_as_it_was(tmp_path: Path) -> None:
    content = {"status": "finished", "loss": 0.1 + 0.2, "none": None, "text": "Zürich", "n": 10**12}
    write_json(tmp_path / "summary.json", sealed(content))
    assert read_summary(tmp_path) == content
    assert set(read_json(tmp_path / "summary.json")) == {*content, "checksum"}


def test_a_file_that_cannot_be_read_is_no_match(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")  # reading it would wait for ever
    with pytest.raises(VitrailError, match=r"pipe is missing; do this"):
        compare(tmp_path / "pipe", "0" * 64, "do this")
