"""What a change of config, code, text or data runs again, and what it leaves alone."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import pytest

from stub_project import (
    TABLES,
    Project,
    answered,
    experiment,
    finished_study,
)
from vitrail.views import VIEWS

ROOT = Path(__file__).parents[1]
COARSER = experiment("q6_vit", "patch_size", vary={"patch_size": [14, 7, 28]})


@pytest.fixture(scope="module")
def finished(
    copy_project: Callable[[Path], Path], tmp_path_factory: pytest.TempPathFactory
) -> Project:
    return finished_study(copy_project, tmp_path_factory.mktemp("finished"))


def test_added_arm_runs_alone(finished: Project) -> None:
    (new,) = set(finished.plan(COARSER).arms) - set(finished.plan().arms)
    assert finished.planned(COARSER) == TABLES | answered("q6_vit") | {f"Train {new}"}


def test_removed_experiment_trains_nothing(finished: Project) -> None:
    change = {"questions": {"q6_vit": {"experiments": {"pooling": None}}}}
    assert finished.planned(change) == TABLES | answered("q6_vit")


def test_new_label_trains_nothing(finished: Project) -> None:
    change = experiment("q5_block", "norm", arms={"post": {"label": "as in 2017"}})
    assert finished.planned(change) == TABLES | answered("q5_block")


def test_added_method_runs_alone_at_all_its_budgets(finished: Project) -> None:
    arms = {"wide": {"label": "wide", "settings": {"mlp_ratio": 4}}}
    change = experiment("q8_transfer", "small_data", arms=arms)
    assert finished.planned(change) == TABLES | answered("q8_transfer") | {"Train small_data: wide"}


def test_another_recipe_pretrains_and_trains_what_starts_from_it(finished: Project) -> None:
    change = {"pretraining": {"strokes": {"classes": 19}}}
    started = {
        f"Train {arm.job.replace('__', ': ') or arm.arm_id}"
        for arm in finished.plan(change).arms.values()
        if arm.settings.get("start", "").startswith("strokes-")
    }
    new = {start for start in finished.plan(change).pretrainings if start.startswith("strokes-")}
    planned = finished.planned(change)
    assert planned == TABLES | answered("q8_transfer") | started | {f"Pretrain {x}" for x in new}
    assert started and new


def test_moved_arm_is_not_trained_again(finished: Project) -> None:
    """An arm that another question now asks for first has a new home and its old results."""
    plan = finished.plan()
    arm = next(
        member.arm
        for about in plan.of_question("q6_vit")
        for member in about.members
        if about.name == "patch_size" and member.name == "14"
    )
    settings = {"epochs": arm.settings["epochs"], "evaluations": arm.settings["evaluations"]}
    arms = {"base": {}, "coarse": {"settings": {"patch_size": 14}}}
    change = experiment("q2_mlp", "coarse", title="Coarse", settings=settings, arms=arms)
    assert finished.plan(change).arms[arm.arm_id].question == "q2_mlp"
    planned = finished.planned(change)
    assert not any(message.startswith("Train") for message in planned)
    # Both questions' records change: the one that has the arm now, and the one that had it.
    assert {"Answer q2_mlp", "Record q2_mlp in MLflow", "Record q6_vit in MLflow"} <= planned


@pytest.mark.parametrize(
    "name", ["report/q3_self_attention.qmd", "report/style.css", "report/explore/attention.js"]
)
def test_new_prose_renders_alone(finished: Project, name: str) -> None:
    with finished.changed(name, "\n"):
        assert finished.planned() == {"Render the report"}


def test_data_of_the_views_are_made_by_their_questions_and_rendered(finished: Project) -> None:
    files = {
        f"results/smoke/{stem}/explore/{view}.json": f"Answer {stem}"
        for view, stem in VIEWS.items()
    }
    with ExitStack() as stack:
        for file in files:
            stack.enter_context(finished.changed(file, "more"))
        assert finished.planned() == {"Render the report"}
        for file in files:
            (finished.folder / file).unlink()
        assert {*files.values()} <= finished.planned(targets=(*files,))


@pytest.mark.parametrize(
    ("name", "again", "kept"),
    [
        ("model/block.py", {"Train", "Answer", "Time", "Render"}, {"Fetch", "Look"}),
        ("questions/q5_block.py", {"Answer q5_block", "Record q5_block"}, {"Train", "Answer q2"}),
        ("timing.py", {"Time", "Answer q7", "Render"}, {"Train", "Answer q6"}),
        (
            "execution/offload.py",
            {"Compute", "Answer q7", "Render"},
            {"Train", "Time", "Answer q6"},
        ),
        (
            "reduction/learn.py",
            {"Learn", "Compare", "Answer q7", "Render"},
            {"Train", "Time", "Answer q6"},
        ),
        ("tracking/sync.py", {"Record"}, {"Train", "Answer", "Time"}),
    ],
)
def test_edited_code_runs_what_depends_on_it(
    finished: Project, name: str, again: set[str], kept: set[str]
) -> None:
    with finished.changed(f"src/vitrail/{name}", "\n# edited\n"):
        planned = finished.planned()
    for start in again:
        assert any(message.startswith(start) for message in planned), start
    for start in kept:
        assert not any(message.startswith(start) for message in planned), start


def test_weights_that_come_later_fill_the_arm_in(finished: Project) -> None:
    file = finished.folder / "results" / "weights" / "model.safetensors"
    file.parent.mkdir()
    file.write_bytes(b"x")
    try:
        planned = finished.planned()
    finally:
        shutil.rmtree(file.parent)
    pretrained = {
        f"Train {arm.arm_id}"
        for arm in finished.plan().arms.values()
        if arm.settings.get("pretrained")
    }
    assert pretrained
    assert {message for message in planned if message.startswith("Train")} == pretrained
    looked = {message for message in planned if message.startswith("Look for the weights")}
    assert looked and {"Answer q8_transfer", "Render the report"} <= planned
