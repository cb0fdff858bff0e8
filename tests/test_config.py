"""Every mistake in a config: one sentence that names the key, before anything runs."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from vitrail import complexity_plan, runs
from vitrail.config import STEMS, load, merge, validate
from vitrail.errors import VitrailError

ROOT = Path(__file__).parents[1]
SCHEMA = ROOT / "workflow" / "schemas" / "config.schema.yaml"
Config = dict[str, Any]


def check(config: Config) -> runs.Plan:
    """What Snakemake does with a config when it parses the workflow."""
    validate(config, SCHEMA)
    plan = runs.expand(config)
    complexity_plan.timing_settings(config)
    complexity_plan.execution_settings(config)
    complexity_plan.reduction_settings(config, plan)
    return plan


def executing(**change: Any) -> Config:
    """A change of what Q7 computes in several ways."""
    return {"questions": {"q7_complexity": {"execution": change}}}


def reducing(**change: Any) -> Config:
    """A change of how Q7 reduces tokens."""
    return {"questions": {"q7_complexity": {"reduction": change}}}


def subject(*names: str) -> Config:
    """Another network for both."""
    return {"questions": {"q7_complexity": {"subject": list(names)}}}


def sentence(config: Config, change: Config) -> str:
    """What is said about a changed config; every such sentence has one form."""
    merge(config, change)
    with pytest.raises(VitrailError) as caught:
        check(config)
    said = str(caught.value)
    assert said.startswith("config: "), said
    assert "\n" not in said
    assert len(said) < 400, f"a sentence should not hold half of the config: {said}"
    assert not re.search(r"is not valid under any|Traceback|\$defs|schema", said), said
    return said


def at(stem: str, name: str, **content: Any) -> Config:
    """A change to one experiment."""
    return {"questions": {stem: {"experiments": {name: content}}}}


def timed(**content: Any) -> Config:
    """A change of what Q7 times."""
    return {"questions": {"q7_complexity": {"timing": content}}}


CLAIM = {"id": "a", "sentence": "A.", "better": "gelu", "worse": "relu"}

MISSPELT = [
    ({"sede": [1]}, "sede", "seeds"),
    ({"devise": "cpu"}, "devise", "device"),
    ({"data": {"foldr": ""}}, "data.foldr", "folder"),
    ({"pretrained": {"paht": ""}}, "pretrained.paht", "path"),
    ({"defaults": {"patchsize": 7}}, "defaults.patchsize", "patch_size"),
    ({"questions": {"q2_mpl": {}}}, "questions.q2_mpl", "q2_mlp"),
    (
        {"questions": {"q2_mlp": {"experiment": {}}}},
        "questions.q2_mlp.experiment",
        "experiments",
    ),
    (
        at("q2_mlp", "activation", titel="x"),
        "questions.q2_mlp.experiments.activation.titel",
        "title",
    ),
    (
        at("q2_mlp", "activation", settings={"epoch": 1}),
        "questions.q2_mlp.experiments.activation.settings.epoch",
        "epochs",
    ),
    (
        at("q2_mlp", "activation", arms={"relu": {"lable": "x"}}),
        "questions.q2_mlp.experiments.activation.arms.relu.lable",
        "label",
    ),
    (
        at("q2_mlp", "activation", arms={"relu": {"settings": {"actt": "relu"}}}),
        "questions.q2_mlp.experiments.activation.arms.relu.settings.actt",
        "act",
    ),
    (
        at("q4_multi_head", "heads", title="x", vary={"num_head": [1]}),
        "questions.q4_multi_head.experiments.heads.vary.num_head",
        "num_heads",
    ),
    (
        {"questions": {"q7_complexity": {"timing": {"token": [1, 2]}}}},
        "questions.q7_complexity.timing.token",
        "tokens",
    ),
]


@pytest.mark.parametrize(("change", "key", "meant"), MISSPELT, ids=[case[1] for case in MISSPELT])
def test_misspelt_key(config: Config, change: Config, key: str, meant: str) -> None:
    assert sentence(config, change) == f"config: unknown key {key}; did you mean {meant}?"


def test_unknown_key_like_no_other_lists_the_known_ones(config: Config) -> None:
    said = sentence(config, {"data": {"zzz": 1}})
    assert said == "config: unknown key data.zzz; known here: folder, validation"


def test_misspelt_key_of_a_claim(config: Config) -> None:
    """There a key is unknown and another missing at once; either may be named."""
    claim = {**CLAIM, "beter": "gelu"}
    del claim["better"]
    said = sentence(config, at("q2_mlp", "activation", claims=[claim]))
    assert "questions.q2_mlp.experiments.activation.claims.0" in said
    assert "beter" in said or "key better is missing" in said


WRONG = [
    # (change, key that is named, what is said of it)
    ({"study": 2026}, "study", "must be of type string"),
    ({"study": "a/b"}, "study", "letters, digits"),
    ({"study": "../up"}, "study", "letters, digits"),
    ({"study": ""}, "study", "letters, digits"),
    ({"study": "data"}, "study", "taken"),
    ({"study": "logs"}, "study", "taken"),
    ({"study": "weights"}, "study", "taken"),
    ({"study": "mlflow-artifacts"}, "study", "taken"),
    ({"study": "one_minute"}, "study", "taken"),
    ({"seeds": []}, "seeds", "at least 1"),
    ({"seeds": [1, 1]}, "seeds", "twice"),
    ({"seeds": [0, 0.0]}, "seeds", "twice"),
    ({"seeds": [-1]}, "seeds.0", "at least 0"),
    ({"seeds": [0, 2**32]}, "seeds.1", "at most 4294967295"),
    (at("q2_mlp", "activation", seeds=[2**32]), "activation.seeds.0", "at most 4294967295"),
    ({"seeds": [0, "a"]}, "seeds.1", "of type integer"),
    ({"seeds": [0.5]}, "seeds.0", "of type integer"),
    ({"seeds": [True]}, "seeds.0", "of type integer"),
    ({"seeds": 3}, "seeds", "of type array"),
    ({"device": "gpu"}, "device", "'auto', 'cpu', 'cuda', 'mps'"),
    ({"data": None}, "data", "of type object"),
    ({"data": {"folder": 3}}, "data.folder", "of type string"),
    ({"data": {"validation": 0}}, "data.validation", "at least 1"),
    ({"data": {"validation": 60000}}, "data.validation", "at most"),
    ({"defaults": None}, "defaults", "of type object"),
    ({"defaults": {"model": "cnn"}}, "defaults.model", "'vit'"),
    ({"defaults": {"patch_size": "7"}}, "defaults.patch_size", "of type integer"),
    ({"defaults": {"patch_size": 7.5}}, "defaults.patch_size", "of type integer"),
    ({"defaults": {"patch_size": 0}}, "defaults.patch_size", "at least 1"),
    ({"defaults": {"patch_size": 56}}, "defaults.patch_size", "at most 28"),
    ({"defaults": {"depth": 0}}, "defaults.depth", "at least 1"),
    ({"defaults": {"num_heads": 0}}, "defaults.num_heads", "at least 1"),
    ({"defaults": {"qkv_bias": "yes"}}, "defaults.qkv_bias", "of type boolean"),
    ({"defaults": {"optimizer": "adam"}}, "defaults.optimizer", "'adamw', 'sgd'"),
    ({"defaults": {"epochs": 0}}, "defaults.epochs", "greater than 0"),
    ({"defaults": {"epochs": -1}}, "defaults.epochs", "greater than 0"),
    ({"defaults": {"epochs": "2"}}, "defaults.epochs", "of type number"),
    ({"defaults": {"epochs": math.inf}}, "defaults.epochs", "finite"),
    ({"defaults": {"learning_rate": math.nan}}, "defaults.learning_rate", "finite"),
    ({"defaults": {"learning_rate": "1e-3"}}, "defaults.learning_rate", "of type number"),
    ({"defaults": {"warmup": 1.5}}, "defaults.warmup", "less than 1"),
    ({"defaults": {"warmup": 1}}, "defaults.warmup", "less than 1"),
    ({"defaults": {"pos_embed": None}}, "defaults.pos_embed", "'none'"),
    ({"questions": {"q2_mlp": None}}, "questions.q2_mlp", "of type object"),
    (
        {"questions": {"q2_mlp": {"experiments": {"activation": [1]}}}},
        "questions.q2_mlp.experiments.activation",
        "object",
    ),
    (at("q2_mlp", "activation", title=3), "activation.title", "of type string"),
    (at("q2_mlp", "activation", title=""), "activation.title", "empty"),
    (at("q2_mlp", "activation", arms={"gelu": "x"}), "activation.arms.gelu", "object"),
    (at("q2_mlp", "Bad Name", title="x"), "questions.q2_mlp.experiments", "'Bad Name'"),
    (at("q2_mlp", "activation", arms={"a b": {}}), "activation.arms", "'a b'"),
    (at("q2_mlp", "activation", arms={1: {}}), "activation.arms", "not text"),
    (at("q2_mlp", "activation", arms={False: {}}), "activation.arms", "not text"),
    (at("q2_mlp", "x", title="x", vary={}, arms={}), "vary", "at least 1"),
    (at("q6_vit", "depth", vary={"norm": ["pre"], "act": ["relu"]}), "depth.vary", "at most 2"),
    (at("q6_vit", "depth", vary={"depth": []}), "vary.depth", "at least 1"),
    (at("q6_vit", "depth", vary={"depth": 4}), "vary.depth", "of type array"),
    (at("q6_vit", "depth", vary={"depth": [2, 2]}), "vary.depth", "twice"),
    (at("q6_vit", "depth", vary={"depth": [2, 0]}), "vary.depth.1", "at least 1"),
    (at("q6_vit", "depth", vary={"depth": ["two"]}), "vary.depth.0", "of type integer"),
    (at("q6_vit", "depth", vary={"depth": [None]}), "vary.depth.0", "of type integer"),
    (at("q6_vit", "depth", vary={"depth": [True, 2]}), "vary.depth.0", "of type integer"),
    (at("q6_vit", "patch_size", vary={"patch_size": [0]}), "vary.patch_size.0", "at least 1"),
    (at("q6_vit", "pos_embed", vary={"pos_embed": ["learnt"]}), "vary.pos_embed.0", "'learned'"),
    (at("q6_vit", "r", title="x", vary={"epochs": [1, -1]}), "vary.epochs.1", "greater than 0"),
    (
        at("q2_mlp", "activation", claims=[{**CLAIM, "id": "A b"}]),
        "activation.claims.0.id",
        "must",
    ),
    (
        {"questions": {"q7_complexity": {"timing": {"tokens": [17]}}}},
        "timing.tokens",
        "at least 2",
    ),
    (
        {"questions": {"q7_complexity": {"timing": {"repeats": 2}}}},
        "timing.repeats",
        "at least 3",
    ),
    (
        {"questions": {"q7_complexity": {"timing": {"patch_sizes": [14, 3]}}}},
        "timing.patch_sizes.1",
        "one of",
    ),
    (subject("patch_size"), "q7_complexity.subject", "at least 2"),
    (reducing(removed=[0]), "reduction.removed.0", "at least 1"),
    (reducing(targets=[101]), "reduction.targets.0", "at most 100"),
    (reducing(targets=[50, 50]), "reduction.targets", "names an item twice"),
    (reducing(merge_rate=0), "reduction.merge_rate", "greater than 0"),
    (executing(rounds=2), "execution.rounds", "at least 3"),
    (executing(train_batch_size=33), "execution.train_batch_size", "multiple of 2"),
    (executing(tune_patch_size=16), "execution.tune_patch_size", "one of"),
    (timed(widths=[{"embed_dim": 64}]), "timing.widths.0", "num_heads"),
    (timed(threads=[1, 0]), "timing.threads.1", "must be"),
    (timed(threads=["every"]), "timing.threads.0", "integer or 'all'"),
    (timed(passes=["train"]), "timing.passes", "forward"),
    (timed(tokens_per_call=0), "timing.tokens_per_call", "at least 1"),
]


@pytest.mark.parametrize(("change", "key", "words"), WRONG, ids=lambda value: str(value)[:60])
def test_wrong_value(config: Config, change: Config, key: str, words: str) -> None:
    said = sentence(config, change)
    assert key in said
    assert words in said


NO_TOKEN = {"class_token": False, "global_pool": "avg"}
WINDOWS = {"attention": "window", "window_size": 2, "class_token": False, "global_pool": "avg"}
SENSE = [
    # (change, words that must be said, the key first)
    ({"defaults": {"patch_size": 5}}, ["patch_size 5", "28", "1, 2, 4, 7, 14 or 28"]),
    ({"defaults": {"patch_size": 8}}, ["patch_size 8", "28"]),
    (
        at("q6_vit", "patch_size", vary={"patch_size": [7, 5]}, reference="7", claims=[]),
        ["questions.q6_vit.experiments.patch_size", "patch_size 5"],
    ),
    ({"defaults": {"num_heads": 5}}, ["num_heads 5", "embed_dim 64"]),
    (
        at("q4_multi_head", "num_heads", vary={"num_heads": [1, 4, 7]}),
        ["questions.q4_multi_head.experiments.num_heads", "num_heads 7"],
    ),
    (
        {"defaults": {"embed_dim": 30, "num_heads": 2, "pos_embed": "sinusoidal_2d"}},
        ["embed_dim 30", "multiple of 4", "sinusoidal_2d"],
    ),
    (
        {"defaults": {"embed_dim": 33, "num_heads": 3, "pos_embed": "sinusoidal"}},
        ["embed_dim 33", "multiple of 2"],
    ),
    ({"defaults": {"class_token": False}}, ["global_pool token", "class_token"]),
    (
        {"defaults": {"attention": "window"}},
        ["attention window", "class token", "class_token to false", "global_pool to avg or seq"],
    ),
    (
        {
            "defaults": {
                "attention": "window",
                "window_size": 3,
                "class_token": False,
                "global_pool": "avg",
            }
        },
        ["window_size 3", "4 x 4 patches", "patch_size 7"],
    ),
    (
        {"defaults": WINDOWS | {"patch_drop_rate": 0.5}},
        ["attention window", "patch_drop_rate to 0"],
    ),
    (
        {"defaults": {"patch_embed": "conv", "patch_size": 1}},
        ["patch_embed conv", "patch_size 1", "2, 4, 7, 14 or 28", "patch_embed to linear"],
    ),
    (
        {"defaults": {"patch_embed": "shifted", "patch_size": 1}},
        ["patch_embed shifted", "patch_size 1"],
    ),
    (
        {"defaults": {"attention": "lsa", "patch_size": 28, **NO_TOKEN}},
        ["attention lsa", "two tokens", "class_token to true", "patch_size or patch_drop_rate"],
    ),
    (
        {"defaults": {"attention": "lsa", "patch_size": 14, "patch_drop_rate": 0.7, **NO_TOKEN}},
        ["attention lsa", "two tokens"],
    ),
    (
        {"defaults": {"attention": "lsa", "patch_size": 14, "grow": "patch_size", **NO_TOKEN}},
        ["attention lsa", "two tokens"],
    ),
    (
        {"defaults": {"patch_embed": "conv", "grow": "patch_size"}},
        ["grow patch_size", "patch_embed to linear", "null"],
    ),
    (
        at("q6_vit", "budget", arms={"cnn": {"settings": {"drop_rate": 0.1}}}),
        ["budget.arms.cnn", "drop_rate has no effect on model 'cnn'"],
    ),
    ({"defaults": {"init": "mimetic", "head_dim": 8}}, ["init mimetic", "head_dim to 0"]),
    ({"defaults": {"grow": "depth", "depth": 5}}, ["grow depth", "depth 5", "multiple of 2"]),
    (
        {"defaults": WINDOWS | {"grow": "depth", "depth": 6}},
        ["grow depth", "depth 6", "multiple of 4"],
    ),
    (
        {"defaults": {"grow": "patch_size", "patch_size": 4}},
        ["grow patch_size", "8 pixels", "patch_size 4", "choose 1, 2, 7 or 14"],
    ),
    (
        {"defaults": {"grow": "patch_size", "pos_embed": "sinusoidal"}},
        ["grow patch_size", "pos_embed", "learned or none"],
    ),
    (
        {"defaults": WINDOWS | {"grow": "patch_size", "window_size": 4}},
        ["window_size 4", "14 pixels", "grow patch_size"],
    ),
    (
        at("q6_vit", "budget", arms={"cnn": {"settings": {"grow": "depth"}}}),
        ["questions.q6_vit.experiments.budget.arms.cnn", "grow depth", "model vit", "'cnn'"],
    ),
    ({"data": {"validation": 5001}}, ["train_size 55000", "validation", "5001", "60,000"]),
    ({"defaults": {"train_size": 55001}}, ["train_size 55001", "60,000"]),
    ({"defaults": {"batch_size": 60000}}, ["batch_size 60000", "train_size 55000"]),
    ({"defaults": {"epochs": 0.001}}, ["epochs 0.001", "evaluations 4"]),
    ({"defaults": {"evaluations": 10000}}, ["evaluations 10000"]),
    (
        timed(widths=[{"embed_dim": 64, "num_heads": 5}]),
        ["timing.widths", "num_heads 5", "embed_dim 64"],
    ),
    (
        timed(widths=[{"embed_dim": 64, "num_heads": 4}, {"embed_dim": 64, "num_heads": 8}]),
        ["timing.widths", "embed_dim 64 twice"],
    ),
    ({"defaults": {"attention": "linear"}}, ["defaults.attention is linear", "an experiment"]),
    ({"defaults": {"attention": "lsa"}}, ["defaults.attention is lsa", "softmax attention"]),
    (
        at("q7_complexity", "reduced", arms={"vit": {"settings": {"patch_embed": "shifted"}}}),
        ["q7_complexity.subject", "patch_embed is shifted", "name one with linear"],
    ),
    (
        at("q7_complexity", "reduced", arms={"vit": {"settings": {"attention": "lsa"}}}),
        ["q7_complexity.subject", "attention is lsa", "name one with softmax"],
    ),
    (subject("patch_sizes", "4"), ["subject", "experiment 'patch_sizes'", "patch_size, depth"]),
    (subject("patch_size", "2"), ["subject", "arm '2' of patch_size", "14, 7, 4"]),
    (subject("budget", "cnn"), ["subject: budget.cnn", "'cnn'", "model 'vit'"]),
    (subject("pooling", "avg"), ["subject", "global_pool token"]),
    (subject("norm", "post"), ["subject", "norm pre"]),
    (reducing(batch_size=128, train_size=100), ["reduction.batch_size is 128", "100 images"]),
    (
        at("q6_vit", "headline", arms={"other": {"settings": {"depth": 2}}}),
        ["questions.q6_vit.experiments.headline has the arms vit, other", "keep one"],
    ),
    (
        at(
            "q6_vit",
            "headline",
            arms={"vit": None, "cnn": {"settings": {"model": "cnn"}}},
        ),
        ["questions.q6_vit.experiments.headline.arms.cnn", "model"],
    ),
    (
        at("q2_mlp", "activation", claims=[{**CLAIM, "worse": "gelu"}]),
        ["questions.q2_mlp.experiments.activation.claims.a", "'gelu'", "both better and worse"],
    ),
]


@pytest.mark.parametrize(("change", "words"), SENSE, ids=lambda value: str(value)[:60])
def test_values_that_do_not_fit_together(config: Config, change: Config, words: list[str]) -> None:
    said = sentence(config, change)
    for word in words:
        assert word in said


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("attention", "lsa", "softmax attention"),
        ("patch_embed", "conv", "linear patches"),
        ("drop_rate", 0.1, "a network without dropout"),
    ],
)
def test_the_base_is_what_q7_accounts_for(
    config: Config, key: str, value: object, words: str
) -> None:
    """Its tables are by formulas that know no other part."""
    config["defaults"][key] = value
    with pytest.raises(VitrailError, match=f"^config: defaults.{key} is {value}, .*{words}"):
        complexity_plan.timing_settings(config)


@pytest.mark.parametrize("key", ["study", "seeds", "device", "data", "defaults", "questions"])
def test_missing_key(config: Config, key: str) -> None:
    del config[key]
    with pytest.raises(VitrailError, match=rf"^config: \(top level\): the key {key} is missing$"):
        check(config)


def test_every_default_must_be_there(config: Config) -> None:
    for key in list(config["defaults"]):
        changed = {**config, "defaults": {**config["defaults"]}}
        del changed["defaults"][key]
        with pytest.raises(VitrailError, match=f"^config: defaults: the key {key} is missing$"):
            check(changed)


# --- Files


@pytest.mark.parametrize("name", ["default", "smoke", "full"])
def test_shipped_configs_are_right(name: str) -> None:
    files = [ROOT / "config" / f"{file}.yaml" for file in dict.fromkeys(("default", name))]
    config = load(files)
    check(config)
    assert config["study"] == name


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"study: caf\xe9\n", "UTF-8"),
        (b"\xff\xfes\x00t\x00", "UTF-8"),
        (b"study: [a\nfoo: : :\n", "YAML"),
        (b"a: 1\n\tb: 2\n", "YAML"),
        (b"- a\n- b\n", "keys and values"),
        (b"", "keys and values"),
        (b"just words", "keys and values"),
    ],
)
def test_file_that_is_no_config(tmp_path: Path, content: bytes, words: str) -> None:
    file = tmp_path / "my.yaml"
    file.write_bytes(content)
    with pytest.raises(VitrailError) as caught:
        load([file])
    said = str(caught.value)
    assert said.startswith(f"config: {file} ")
    assert words in said
    assert "\n" not in said


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(VitrailError, match=r"^config: .*nothing\.yaml cannot be read: No such"):
        load([tmp_path / "nothing.yaml"])


def test_files_are_merged_as_snakemake_does(tmp_path: Path) -> None:
    """Mappings are merged, all else replaced; an anchor's other places are left alone."""
    from snakemake.utils import update_config

    base, over = tmp_path / "base.yaml", tmp_path / "over.yaml"
    base.write_text("a: {list: [1, 2], deep: &d {x: 1, y: 2}}\nb: {deep: *d}\nc: 1\ngone: {z: 1}\n")
    over.write_text("a: {list: [3], deep: {y: 5}}\nc: {new: 1}\ngone: null\n")
    merged = load([base, over])
    assert merged == {
        "a": {"list": [3], "deep": {"x": 1, "y": 5}},
        "b": {"deep": {"x": 1, "y": 2}},
        "c": {"new": 1},
        "gone": None,
    }
    theirs: Config = {}
    update_config(theirs, yaml.safe_load(base.read_text()))
    update_config(theirs, {"a": yaml.safe_load(over.read_text())["a"]})
    assert theirs["a"] == merged["a"]
    assert theirs["b"] == merged["b"]


# --- The schema itself


def parts(schema: Any, where: str = "") -> Iterator[tuple[str, Config]]:
    """Every subschema with the path to it."""
    if isinstance(schema, dict):
        yield where, schema
        for key, value in schema.items():
            yield from parts(value, f"{where}/{key}")
    elif isinstance(schema, list):
        for position, value in enumerate(schema):
            yield from parts(value, f"{where}/{position}")


@pytest.fixture(scope="module")
def schema() -> Config:
    return yaml.safe_load(SCHEMA.read_text(encoding="utf-8"))


def resolve(schema: Config, part: Config) -> Config:
    """What a $ref leads to, with what stands beside it."""
    while "$ref" in part:
        found: Any = schema
        for step in part["$ref"].removeprefix("#/").split("/"):
            found = found[step]
        part = {**found, **{key: value for key, value in part.items() if key != "$ref"}}
    return part


def test_schema_is_a_schema(schema: Config) -> None:
    jsonschema.Draft202012Validator.check_schema(schema)
    for where, part in parts(schema):
        if isinstance(part.get("$ref"), str):
            assert resolve(schema, part), where


def test_every_object_is_closed(schema: Config) -> None:
    """Either unknown keys are refused, or every key's content is described."""
    for where, part in parts(schema):
        if "properties" not in part or where.endswith("/properties"):
            continue
        if "allOf" in part:
            closed = [resolve(schema, one).get("additionalProperties") for one in part["allOf"]]
            assert False in closed, where
        else:
            assert part.get("additionalProperties") is False, where
    for where, part in parts(schema):
        if where.endswith("/if"):
            continue
        if part.get("type") == "object" and "properties" not in part:
            assert "additionalProperties" in part, where


def test_every_key_is_described(schema: Config) -> None:
    missing = []
    for where, part in parts(schema):
        keys = part.get("properties")
        if where.endswith("/properties") or not isinstance(keys, dict) or "allOf" in part:
            continue
        for name, content in keys.items():
            items = resolve(schema, content).get("items", {})
            described = resolve(schema, content).get("description") or (
                where.endswith("/vary") and resolve(schema, items).get("description")
            )
            if not described:
                missing.append(f"{where}/{name}")
    assert missing == []


def test_default_sets_every_key(schema: Config, config: Config) -> None:
    """A reader of default.yaml sees all that can be set, without looking further."""
    assert set(config) == set(schema["properties"])
    for block in ("data", "pretrained"):
        assert set(config[block]) == set(schema["properties"][block]["properties"])
    settings = set(schema["$defs"]["settings"]["properties"])
    assert settings - {"validation"} == set(config["defaults"])  # that one stands under data
    assert tuple(config["questions"]) == STEMS
    assert tuple(schema["properties"]["questions"]["properties"]) == STEMS


def test_vary_lists_settings_by_their_own_rules(schema: Config) -> None:
    """Each setting that vary knows takes exactly the values that an arm would take."""
    settings = schema["$defs"]["settings"]["properties"]
    for name, rule in schema["$defs"]["experiment"]["properties"]["vary"]["properties"].items():
        assert resolve(schema, resolve(schema, rule)["items"]) == settings[name], name


@pytest.mark.parametrize("address", ["javascript:alert(1)", "github.com/a/b", "https://a b"])
def test_an_address_of_the_report_is_one(config: dict[str, Any], address: str) -> None:
    config["report"]["repository"] = address
    with pytest.raises(VitrailError, match=r"report\.repository.*starts with http"):
        validate(config, SCHEMA)
