"""Experiments over label budgets in the plan: every arm at each, compared at equal budgets."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from made_study import experiment
from vitrail import runs
from vitrail.config import merge
from vitrail.errors import VitrailError

BUDGETS = [{"label_budget": 100, "steps": 20}, {"label_budget": 1000, "steps": 40}]
RECIPE = {"images": "strokes", "steps": 10, "classes": 5}
Config = dict[str, Any]


def planned(config: Config, recipes: Config | None = None, **about: Any) -> runs.Plan:
    config = copy.deepcopy(config)
    config["pretraining"] = recipes or {}
    for question in config["questions"].values():
        question.pop("experiments", None)
    block = experiment(**{"budgets": BUDGETS, **about})
    merge(config, {"questions": {"q8_transfer": {"experiments": {"few": block}}}})
    return runs.expand(config)


def few(plan: runs.Plan) -> runs.Experiment:
    (found,) = plan.of_question("q8_transfer")
    return found


ARMS: Config = {"vit": {"label": "ViT"}, "deep": {"settings": {"depth": 2}, "budgets": [1000]}}


def test_every_arm_is_there_at_each_of_its_budgets(config: Config) -> None:
    about = few(planned(config, arms=ARMS))
    assert [member.name for member in about.members] == ["vit-100", "vit-1000", "deep-1000"]
    assert about.member("vit-1000").label == "ViT (1,000 labels)"
    assert about.methods == {"vit": "ViT", "deep": "deep"}
    assert about.reference == "vit"
    sizes = [(m.arm.settings["label_budget"], m.arm.settings["steps"]) for m in about.members]
    assert sizes == [(100, 20), (1000, 40), (1000, 40)]


def test_arms_are_compared_at_equal_budgets(config: Config) -> None:
    about = few(planned(config, arms=ARMS))
    assert about.reference_of(about.member("deep-1000")).name == "vit-1000"
    assert about.reference_of(about.member("vit-100")).name == "vit-100"


def test_a_method_is_one_job(config: Config) -> None:
    plan = planned(config, arms=ARMS)
    jobs = {arm.name: arm.job for arm in plan.arms.values()}
    assert jobs["few.vit-100"] == jobs["few.vit-1000"] == "few__vit"
    assert jobs["few.deep-1000"] == "few__deep"
    assert plan.arms[plan.base].job == ""


def test_an_arm_may_set_its_own_steps(config: Config) -> None:
    about = few(planned(config, arms={"vit": {}, "longer": {"settings": {"steps": 99}}}))
    assert about.member("longer-100").arm.settings["steps"] == 99


@pytest.mark.parametrize(
    ("about", "words"),
    [
        ({"vary": {"depth": [1, 2]}}, "budgets go with arms, not with vary"),
        ({"arms": {"a": {"budgets": [50]}}}, r"arms\.a\.budgets has 50, but .* 100, 1000"),
        (
            {"arms": {"a": {"budgets": [1000]}, "b": {"settings": {"depth": 2}}}},
            "b-100 has no reference, because the arm a leaves the budget of 100",
        ),
        ({"arms": ARMS, "reference": "other"}, "reference names the arm 'other', .* vit, deep"),
        (
            {"arms": {"a": {}, "b": {"settings": {"teacher": "c"}}}},
            r"arms\.b-100: teacher must name an arm .* has 100 labels; 'c' is not among: a$",
        ),
        (
            {"arms": {"a": {"settings": {"teacher": "a"}}, "b": {"settings": {"depth": 2}}}},
            r"arms\.a-100: teacher must name an arm .* that has none itself .* among: b$",
        ),
        (
            {"arms": {"a": {"settings": {"start": "strokes"}}}},
            r"arms\.a-100: start names the pretraining 'strokes', but .*: none",
        ),
    ],
)
def test_what_does_not_fit_is_named(config: Config, about: Config, words: str) -> None:
    with pytest.raises(VitrailError, match=rf"^config: questions\.q8_transfer\..*{words}"):
        planned(config, **about)


def test_budgets_of_an_arm_need_budgets_of_the_experiment(config: Config) -> None:
    block = experiment(arms={"a": {"budgets": [100]}})
    merge(config, {"questions": {"q8_transfer": {"experiments": {"few": block}}}})
    with pytest.raises(VitrailError, match="picks from the budgets of the experiment"):
        runs.expand(config)


# --- Teachers


def test_the_teacher_has_the_same_labels(config: Config) -> None:
    arms: Config = {"vit": {}, "taught": {"settings": {"teacher": "cnn"}}}
    arms["cnn"] = {"settings": {"model": "cnn", "optimizer": "adamw"}}  # further down
    about = few(planned(config, arms=arms, reference="vit"))
    for budget in (100, 1000):
        taught = about.member(f"taught-{budget}").arm.settings["teacher"]
        assert taught == about.member(f"cnn-{budget}").arm.arm_id


def test_a_teacher_sees_the_same_pixels(config: Config) -> None:
    arms = {"cnn": {"settings": {"model": "cnn", "optimizer": "adamw", "pixel_mean": 0.5}}}
    arms["taught"] = {"settings": {"teacher": "cnn"}}
    with pytest.raises(VitrailError, match="taught-100: teacher cnn has pixels of another scale"):
        planned(config, arms=arms)


def test_a_label_budget_stands_once(config: Config) -> None:
    with pytest.raises(VitrailError, match=r"few\.budgets has a label_budget twice; leave one out"):
        planned(config, arms={"vit": {}}, budgets=[*BUDGETS, {"label_budget": 100, "steps": 9}])


def test_a_teacher_that_may_be_missing_is_refused(config: Config) -> None:
    own = {"model": "timm", "timm_model": "vit_small_patch16_224", "pretrained": "augreg_in1k"}
    arms = {"big": {"settings": own}, "taught": {"settings": {"teacher": "big"}}}
    with pytest.raises(VitrailError, match="teacher big has ImageNet weights, which may be"):
        planned(config, arms=arms)


# --- Starts


def started(config: Config, recipe: Config, **own: Any) -> runs.Plan:
    arms = {"vit": {}, "made": {"settings": {"start": "made", **own}}}
    return planned(config, {"made": recipe}, arms=arms)


def test_arms_with_one_network_share_a_pretraining(config: Config) -> None:
    plan = started(config, RECIPE)
    (identity,) = plan.pretrainings
    assert identity.startswith("made-vit-p7-d64-l4-h4-")
    assert {m.arm.settings.get("start") for m in few(plan).members} == {None, identity}
    found = plan.pretrainings[identity]
    assert found["recipe"]["images"] == "strokes"
    assert found["model"]["embed_dim"] == 64
    # What follows the pretraining is no part of it.
    assert list(started(config, RECIPE, weight_decay=0.5).pretrainings) == [identity]
    assert list(started(config, RECIPE, label_smoothing=0.1).pretrainings) == [identity]


@pytest.mark.parametrize("other", [{**RECIPE, "steps": 11}, {**RECIPE, "images": "fractals"}])
def test_another_recipe_is_another_start_and_another_run(config: Config, other: Config) -> None:
    first, second = started(config, RECIPE), started(config, other)
    assert not {*first.pretrainings} & {*second.pretrainings}
    ids = [few(plan).member("made-100").arm.arm_id for plan in (first, second)]
    assert ids[0] != ids[1]


@pytest.mark.parametrize("own", [{"depth": 2}, {"pixel_mean": 0.5}, {"pos_embed": "sinusoidal"}])
def test_another_network_needs_its_own_pretraining(config: Config, own: Config) -> None:
    before = {*started(config, RECIPE).pretrainings}
    assert not before & {*started(config, RECIPE, **own).pretrainings}


@pytest.mark.parametrize(
    ("recipe", "own", "words"),
    [
        (RECIPE, {"model": "logistic", "optimizer": "adamw"}, "start works on model vit, cnn"),
        ({"images": "digits"}, {}, "start made: .*set task to masked"),
        ({"optimizer": "muon"}, {"model": "cnn", "optimizer": "adamw"}, "muon works on"),
    ],
)
def test_a_recipe_that_does_not_fit_stops_at_planning(
    config: Config, recipe: Config, own: Config, words: str
) -> None:
    with pytest.raises(VitrailError, match=rf"^config: questions\..*{words}"):
        started(config, recipe, **own)
