"""The workflow itself: what is planned and run, in which order, and what a wrong config says."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from stub_project import (
    SMOKE,
    TABLES,
    Project,
    answered,
    experiment,
    finished_study,
    jobs,
    trainings,
)
from vitrail import complexity_plan, runs
from vitrail import settings as study_settings
from vitrail.config import STEMS, load

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def fresh(
    copy_project: Callable[[Path], Path], tmp_path_factory: pytest.TempPathFactory
) -> Project:
    """The project as it is cloned, with nothing computed."""
    return Project(copy_project(tmp_path_factory.mktemp("fresh") / "vitrail"))


@pytest.fixture(scope="module")
def finished(
    copy_project: Callable[[Path], Path], tmp_path_factory: pytest.TempPathFactory
) -> Project:
    return finished_study(copy_project, tmp_path_factory.mktemp("finished"))


# --- Planning


@pytest.mark.parametrize("study", ["default", "full"])
def test_every_study_can_be_planned(fresh: Project, study: str) -> None:
    """A dry run on a fresh clone; nothing is written but Snakemake's own notes."""
    more = () if study == "default" else ("--configfile", f"config/{study}.yaml")
    done = fresh.snakemake("-n", "--cores", "2", *more)
    assert done.returncode == 0, done.stdout
    files = [fresh.folder / "config" / f"{name}.yaml" for name in dict.fromkeys(("default", study))]
    plan = runs.expand(load(files))
    expected = trainings(plan) | TABLES
    expected |= {job for stem in STEMS for job in answered(stem)}
    assert jobs(done.stdout) > expected
    q7 = complexity_plan.reduction_settings(load(files), plan)
    thresholds = len(q7["targets"]) + len(q7["class_targets"])
    found = {study_settings.weights_file(arm.settings) for arm in plan.arms.values()} - {""}
    # data, store; timing, execution, input seconds, step memory, the comparison of thresholds
    assert len(jobs(done.stdout) - expected) == 7 + thresholds + len(found)
    results = fresh.folder / "results"
    assert [path.name for path in results.iterdir()] == ["README.md"]


def test_every_stem_is_a_target(fresh: Project) -> None:
    planned = fresh.planned(targets=STEMS)
    assert {f"Answer {stem}" for stem in STEMS} < planned
    assert not any(message.startswith(("Record", "Render", "Write")) for message in planned)


def test_a_question_needs_its_own_arms_alone(fresh: Project) -> None:
    plan = fresh.plan()
    planned = fresh.planned(targets=("q5_block",))
    assert planned == {"Fetch MNIST and check it", "Answer q5_block"} | {
        f"Train {arm}" for arm in {*plan.arms_of("q5_block"), plan.base}
    }


def test_finished_study_has_nothing_to_do(finished: Project) -> None:
    begun = time.perf_counter()
    done = finished.snakemake("--cores", "2", "--configfile", SMOKE)
    seconds = time.perf_counter() - begun
    assert done.returncode == 0, done.stdout
    assert jobs(done.stdout) == set()
    assert "Nothing to be done" in done.stdout
    assert seconds < 20, f"{seconds:.1f} s for nothing"  # 2 s on an idle machine


def test_overlays_do_not_change_the_order(finished: Project) -> None:
    """Experiments and arms come in the order of default.yaml, whatever an overlay mentions.

    The first arm is the one that the others are compared with, unless `reference` names one.
    """
    change = experiment("q5_block", "norm", arms={"post": {"label": "as in 2017"}})
    change["study"] = "ordered"
    change["questions"]["q6_vit"] = {"experiments": {"pooling": {"title": "Pooling"}}}
    overlay = finished.overlay(change)
    done = finished.snakemake("--cores", "2", "q5_block", "q6_vit", "--configfile", SMOKE, overlay)
    assert done.returncode == 0, done.stdout
    wanted = finished.plan(change)
    for stem in ("q5_block", "q6_vit"):
        # The stub of a question leaves the config that it was given.
        given = json.loads(
            (finished.folder / "results" / "ordered" / stem / "claims.json").read_text()
        )
        found = runs.expand(given)
        assert [
            (about.name, [member.name for member in about.members], about.reference)
            for about in found.of_question(stem)
        ] == [
            (about.name, [member.name for member in about.members], about.reference)
            for about in wanted.of_question(stem)
        ]


def test_questions_are_answered_and_recorded_while_the_study_runs(finished: Project) -> None:
    """Not all at its end: the longest trainings first, then question by question."""
    plan = finished.plan()
    readers = {
        arm: next(stem for stem in STEMS if arm in {*plan.arms_of(stem), plan.base})
        for arm in plan.arms
    }
    order = re.findall(r"^Job \d+: (.*)$", finished.said, re.MULTILINE)
    begun = {message: place for place, message in enumerate(order)}
    jobs_of = dict(re.findall(r"^Job (\d+): Train (\S+)$", finished.said, re.MULTILINE))
    ended = re.findall(r"^Finished jobid: (\d+) \(Rule: train_longest", finished.said, re.MULTILINE)
    long = {jobs_of[number] for number in ended}
    assert long
    trained = {arm: begun[f"Train {arm}"] for arm, one in plan.arms.items() if not one.job}
    for stem in STEMS:
        if stem == "q7_complexity":  # waits for a measurement that takes all cores
            continue
        recorded = begun[f"Record {stem} in MLflow"]
        later = [
            arm
            for arm, place in trained.items()
            if STEMS.index(readers[arm]) > STEMS.index(stem)
            and arm not in long
            and place < recorded
        ]
        # Answering and recording are three jobs one after the other; a second core goes on.
        assert len(later) <= 8, (stem, later)
    # What the longest wait for is not left to the end, when they would keep one core busy.
    last = begun[f"Answer {STEMS[-1]}"]
    assert all(trained[arm] < last / 2 for arm in long), [trained[arm] for arm in long]
    first = begun[f"Record {STEMS[0]} in MLflow"]
    assert sum(place > first for place in trained.values()) > len(trained) / 2


# --- Running


def test_one_broken_arm_does_not_stop_the_others(finished: Project) -> None:
    """The good one is trained, the reason is shown, and the next run does the rest."""
    change = experiment("q6_vit", "patch_size", vary={"patch_size": [14, 7, 28, 2]})
    new = set(finished.plan(change).arms) - set(finished.plan().arms)
    (bad,) = [arm for arm in new if "-p2-" in arm]
    (good,) = new - {bad}
    files = (SMOKE, finished.overlay(change))
    done = finished.snakemake("--cores", "1", "--configfile", *files, BREAK=bad)
    assert done.returncode != 0
    assert "vitrail: this arm breaks" in done.stdout  # the end of the job's log
    runs_folder = finished.folder / "results" / "smoke" / "runs"
    assert (runs_folder / f"{good}-s0" / "summary.json").exists()
    assert not (runs_folder / f"{bad}-s0").exists()
    again = finished.planned(change)
    assert f"Train {bad}" in again
    assert f"Train {good}" not in again


def test_awkward_words_reach_the_steps_as_they_are(finished: Project) -> None:
    """Quotes, braces, dollars, line breaks: a title is no shell and no wildcard."""
    words = 'it\'s "50 %" of {this} & $HOME; `ls` \\n <b>é</b> {0} \n * ?'
    change = experiment("q2_mlp", "activation", title=words, description=words)
    change["data"] = {"folder": "/a folder's {name}"}
    change["pretrained"] = {"path": "w's $HOME.npz"}
    change["study"] = "awkward"
    files = (SMOKE, finished.overlay(change))
    done = finished.snakemake(
        "--cores", "2", "q2_mlp", "results/awkward/weights/m.t.json", "--configfile", *files
    )
    assert done.returncode == 0, done.stdout
    results = finished.folder / "results"
    config = json.loads((results / "awkward" / "q2_mlp" / "claims.json").read_text())
    about = config["questions"]["q2_mlp"]["experiments"]["activation"]
    assert about["title"] == about["description"] == words
    told = json.loads((results / "awkward" / "weights" / "m.t.json").read_text())
    assert told["path"] == "w's $HOME.npz"
    told = json.loads((results / "data" / "source.json").read_text())
    assert told["folder"] == "/a folder's {name}"


def test_timing_has_the_machine_to_itself() -> None:
    """It takes all cores, so nothing that could disturb it runs beside it."""
    text = (ROOT / "workflow" / "rules" / "timing.smk").read_text(encoding="utf-8")
    rules = dict(re.findall(r"^rule (\w+):\n(.*?)(?=^rule |\Z)", text, re.MULTILINE | re.DOTALL))
    alone = {name for name, body in rules.items() if "threads: CORES" in body}
    assert alone == {"timing", "execution"}
    # The first counts bytes; the second is a rough clock, and its table says so.
    assert set(rules) - alone == {"step_memory", "input_seconds"}


# --- A wrong config


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"sede": [1]}, "config: unknown key sede; did you mean seeds?"),
        ({"defaults": {"patch_size": 5}}, "patch_size 5 does not divide the image size 28"),
        ({"defaults": {"num_heads": 5}}, "num_heads 5 does not divide embed_dim 64"),
        ({"defaults": {"epochs": 0}}, "defaults.epochs is 0, but must be greater than 0"),
        ({"defaults": {"optimizer": "adam"}}, "defaults.optimizer is 'adam', but must be one of"),
        ({"seeds": []}, "config: seeds is []"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_wrong_config_stops_before_any_job(
    fresh: Project, change: dict[str, Any], words: str
) -> None:
    done = fresh.snakemake("--cores", "1", "--configfile", SMOKE, fresh.overlay(change))
    assert done.returncode != 0
    assert words in done.stdout
    (said,) = [line for line in done.stdout.splitlines() if "config: " in line]
    assert said.startswith("vitrail: config: ")
    assert "Traceback" not in done.stdout
    assert jobs(done.stdout) == set()
    assert [path.name for path in (fresh.folder / "results").iterdir()] == ["README.md"]


def test_every_set_of_weights_is_looked_for_once(fresh: Project) -> None:
    """Arms of other networks or tags bring their own file; two arms of one set share it."""
    tiny = {"model": "timm", "timm_model": "vit_tiny_patch16_224", "pretrained": "augreg_in21k"}
    scale = {"pixel_mean": 0.5, "pixel_std": 0.5, "optimizer": "adamw"}
    arms = {
        "tiny": {"settings": tiny | scale},
        "probe": {"settings": tiny | scale | {"tune": "head"}},
    }
    change = experiment("q8_transfer", "transfer", arms=arms)
    planned = fresh.planned(change, targets=("q8_transfer",))
    sets = {message for message in planned if message.startswith("Look for the weights")}
    named = {
        f"Look for the weights {arm.settings['timm_model']}.{arm.settings['pretrained']}"
        for arm in fresh.plan(change).arms.values()
        if arm.settings.get("pretrained")
    }
    assert sets == named >= {"Look for the weights vit_tiny_patch16_224.augreg_in21k"}
    assert len(sets) > 1
