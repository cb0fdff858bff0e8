"""Mistakes in a config that a schema does not see; the others are in test_config.py."""

from __future__ import annotations

import ast
import copy
import itertools
from pathlib import Path

import pytest

from made_config import Config, experiment, with_experiments
from vitrail import runs
from vitrail import settings as arms
from vitrail.config import STEMS, load, merge, validate
from vitrail.errors import VitrailError
from vitrail.reserved import RESERVED, RESERVED_EVERYWHERE

ROOT = Path(__file__).parents[1]
SCHEMA = ROOT / "workflow" / "schemas" / "config.schema.yaml"


@pytest.mark.parametrize(
    ("about", "named"),
    [
        ({"vary": {"depth": [1, 2]}, "arms": {"a": {}}}, "either vary or arms"),
        ({}, "either vary or arms"),
        ({"arms": {"a": None}}, r"x\.arms has no arm left"),
        ({"arms": {"a": {}}, "reference": "b"}, r"x\.reference names the arm 'b'.* are a$"),
        (
            {
                "arms": {"a": {}, "b": {"settings": {"depth": 2}}},
                "claims": [{"id": "i", "sentence": "s", "better": "a", "worse": "c"}],
            },
            r"x\.claims\.i\.worse names the arm 'c'.* are a, b$",
        ),
        (
            {
                "arms": {"a": {}, "b": {"settings": {"depth": 2}}},
                "claims": [{"id": "i", "sentence": "s", "better": "a", "worse": "b"}] * 2,
            },
            "two claims with the id 'i'",
        ),
        (
            {"arms": {"c": {"settings": {"model": "cnn", "depth": 3}}}},
            r"x\.arms\.c: the key depth has no effect on model 'cnn'",
        ),
        ({"vary": {"channels": [8, 16]}}, "the key channels has no effect on model 'vit'"),
        ({"arms": {"t": {"settings": {"model": "timm"}}}}, r"arms\.t: timm_model must name"),
        (
            {"arms": {"t": {"settings": {"pretrained": "augreg_in1k"}}}},
            "the key pretrained has no effect on model 'vit'",
        ),
    ],
)
def test_mistakes_are_named(config: Config, about: Config, named: str) -> None:
    with pytest.raises(VitrailError, match=named) as caught:
        runs.expand(with_experiments(config, x=experiment(**about)))
    assert str(caught.value).startswith("config: questions.q2_mlp")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("field", ["depth", "channels", "timm_model"])
def test_a_setting_that_a_model_does_not_read_is_refused(config: Config, field: str) -> None:
    """Else two arms of one outcome would differ in what they claim to be."""
    values = {"depth": 3, "channels": 8, "timm_model": "vit_tiny_patch16_224"}
    for kind, names in arms.MODEL_FIELDS.items():
        if field in names:
            continue
        own = {"model": kind, field: values[field]}
        if kind == "timm":
            own["timm_model"] = "vit_tiny_patch16_224"
        with pytest.raises(VitrailError, match=f"the key {field} has no effect on model '{kind}'"):
            runs.expand(with_experiments(config, x=experiment(arms={"a": {"settings": own}})))


def renamed(config: Config, stem: str, name: str) -> Config:
    """The config with one more experiment of that name."""
    about = experiment(arms={"a": {}, "b": {"settings": {"depth": 2}}})
    merge(config, {"questions": {stem: {"experiments": {name: about}}}})
    validate(config, SCHEMA)
    return config


@pytest.mark.parametrize("stem", STEMS)
def test_a_name_that_a_question_uses_itself_is_refused(config: Config, stem: str) -> None:
    names = RESERVED[stem] | RESERVED_EVERYWHERE
    for name in names | ({"headline_curve", "headline_new"} if stem == "q6_vit" else set()):
        with pytest.raises(
            VitrailError,
            match=rf"^config: questions\.{stem}\.experiments\.{name}: this question has .*; choose",
        ):
            runs.expand(renamed(copy.deepcopy(config), stem, name))


@pytest.mark.parametrize(
    ("stem", "name"), [("q2_mlp", "headline_x"), ("q2_mlp", "base"), ("q6_vit", "share")]
)
def test_a_name_that_only_another_question_uses_is_free(
    config: Config, stem: str, name: str
) -> None:
    plan = runs.expand(renamed(config, stem, name))
    assert name in [about.name for about in plan.of_question(stem)]


@pytest.mark.parametrize(
    "study", ["default", "smoke", "full", "headline", "recipe", "optimizers", "starts"]
)
def test_no_shipped_experiment_is_refused(study: str) -> None:
    config = load([ROOT / "config" / f"{name}.yaml" for name in dict.fromkeys(("default", study))])
    asked = {
        (stem, name)
        for stem in STEMS
        for name, block in (config["questions"][stem].get("experiments") or {}).items()
        if block is not None
    }
    plan = runs.expand(config)
    assert {(about.question, about.name) for about in plan.experiments} == asked


@pytest.mark.parametrize("stem", STEMS)
def test_every_name_that_a_question_writes_is_reserved(stem: str) -> None:
    """A figure added to a question is added to the table, else an experiment could take it."""
    parts, found = {"figures", "tables", "numbers", "data"}, set()
    folder = ROOT / "src" / "vitrail" / "questions"
    files = [
        folder / f"{stem}.py",
        *(folder.glob("transfer/*.py") if stem == "q8_transfer" else ()),
    ]
    trees = [ast.parse(file.read_text("utf-8")) for file in files]
    for node in itertools.chain.from_iterable(map(ast.walk, trees)):
        keys: list[ast.expr | None]
        match node:
            case ast.keyword(arg=part, value=ast.Dict(keys=keys)) if part in parts:
                pass
            case ast.AugAssign(target=ast.Attribute(attr=part), value=ast.Dict(keys=keys)):
                assert part in parts
            case ast.Subscript(value=ast.Attribute(attr=part), slice=key, ctx=ast.Store()):
                keys = [key] if part in parts else []
            case ast.Call(func=ast.Attribute(attr="draw" | "tabulate"), args=[key, *_]):
                keys = [key]
            case _:
                keys = []
        found |= {key.value for key in keys if isinstance(key, ast.Constant)}
    assert found
    assert found <= RESERVED[stem]
    if stem != "q6_vit":  # its patch_shuffle is written elsewhere
        assert found == RESERVED[stem]
