"""From the config to the run table: which arms there are, and what makes an arm the same."""

from __future__ import annotations

import copy
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from made_config import Config, experiment, with_experiments
from vitrail import complexity_plan, runs
from vitrail import settings as arms
from vitrail.config import STEMS, load, merge, validate
from vitrail.errors import VitrailError

ROOT = Path(__file__).parents[1]
SCHEMA = ROOT / "workflow" / "schemas" / "config.schema.yaml"
ALONE = ("headline", "reduced")  # experiments of one arm
TRAINING: Config = {
    "train_size": 55000,
    "validation": 5000,
    "epochs": 2,
    "batch_size": 64,
    "optimizer": "adamw",
    "learning_rate": 0.003,
    "weight_decay": 0.05,
    "warmup": 0.1,
    "schedule": "cosine",
    "label_smoothing": 0,
    "rotation": 0,
    "translation": 0,
    "scaling": 0,
    "evaluations": 4,
    "precision": "fp32",
    "pixel_mean": 0.1307,
    "pixel_std": 0.3081,
}
VIT: Config = TRAINING | {
    "model": "vit",
    "patch_size": 7,
    "embed_dim": 64,
    "depth": 4,
    "num_heads": 4,
    "head_dim": 0,
    "mlp_ratio": 2,
    "qkv_bias": True,
    "class_token": True,
    "global_pool": "token",
    "pos_embed": "learned",
    "pos_embed_std": 0.02,
    "norm": "pre",
    "act": "gelu",
}
CNN: Config = TRAINING | {"model": "cnn", "channels": 38}
MLP: Config = TRAINING | {"model": "mlp", "hidden": 148}
LOGISTIC: Config = TRAINING | {"model": "logistic"}
MUON: Config = VIT | {"optimizer": "muon", "matrix_learning_rate": 0.01}
TIMM: Config = TRAINING | {
    "model": "timm",
    "timm_model": "vit_small_patch16_224",
    "patch_size": 7,
    "pretrained": "augreg_in1k",
}
OTHER = {
    "schedule": "linear",
    "label_smoothing": 0.1,
    "rotation": 15,
    "translation": 2,
    "scaling": 0.1,
    "head_dim": 8,
    "optimizer": "sgd",
    "precision": "bf16",
    "global_pool": "avg",
    "pos_embed": "none",
    "norm": "post",
    "act": "relu",
    "timm_model": "vit_tiny_patch16_224",
    "pretrained": "",
}


# --- Identity


def test_ids_never_change_unnoticed() -> None:
    """A new id means that every result computed so far is computed again: on purpose only."""
    assert arms.arm_id(VIT) == "vit-p7-d64-l4-h4-d4f55f6d"
    assert arms.arm_id(CNN) == "cnn-c38-e2432ce5"
    assert arms.arm_id(TIMM) == "vit-small-p7-augreg-in1k-9e042344"
    assert arms.run_id(arms.arm_id(CNN), 2) == "cnn-c38-e2432ce5-s2"


@pytest.mark.parametrize(
    ("kind", "field"), [(s["model"], field) for s in (VIT, CNN, TIMM) for field in s]
)
def test_every_setting_that_matters_is_part_of_the_id(kind: str, field: str) -> None:
    if field == "model":
        return
    settings = {"vit": VIT, "cnn": CNN, "timm": TIMM}[kind]
    old = settings[field]
    new = OTHER.get(field, (not old) if isinstance(old, bool) else 2 * old)
    assert new != old
    assert arms.arm_id({**settings, field: new}) != arms.arm_id(settings)


def test_what_a_model_reads_is_what_the_schema_describes() -> None:
    import yaml

    known = yaml.safe_load(SCHEMA.read_text(encoding="utf-8"))["$defs"]["settings"]["properties"]
    read = {
        *arms.TRAINING_FIELDS,
        *(name for names in arms.MODEL_FIELDS.values() for name in names),
    }
    assert read == set(known)
    # Fixed positions have a size of their own, and no start.
    fixed = {name: value for name, value in VIT.items() if name != "pos_embed_std"}
    fixed |= {"pos_embed": "sinusoidal", "pos_embed_rms": 0}
    everything = fixed | MUON | CNN | MLP | TIMM
    for settings in (VIT, CNN, MLP, LOGISTIC, TIMM, MUON, fixed):
        assert set(arms.relevant({**everything, **settings})) == set(settings)


def test_whole_floats_are_whole_numbers(config: Config) -> None:
    written = copy.deepcopy(config)
    for name, value in written["defaults"].items():
        if isinstance(value, int) and not isinstance(value, bool):
            written["defaults"][name] = float(value)
    written["seeds"] = [float(seed) for seed in written["seeds"]]
    validate(written, SCHEMA)
    assert runs.rows(runs.expand(written)) == runs.rows(runs.expand(config))
    for row in runs.rows(runs.expand(written)):
        assert "." not in row["run_id"]
    timing = complexity_plan.timing_settings(written)["model"]
    assert not any(isinstance(value, float) and value.is_integer() for value in timing.values())


def test_an_experiment_of_q7_is_computed_before_one_of_the_same_name(
    config: dict[str, Any],
) -> None:
    q7 = config["questions"]["q7_complexity"]
    q7["subject"] = ["patch_size", "4"]
    elsewhere = complexity_plan.subject(config, runs.expand(config))
    assert elsewhere.settings["patch_size"] == 4 and elsewhere.question == "q6_vit"
    own = {"title": "Own", "arms": {"4": {"settings": {"patch_size": 4, "depth": 2}}}}
    q7["experiments"] = {"patch_size": own}
    found = complexity_plan.subject(config, runs.expand(config))
    assert found.settings["depth"] == 2 and found.question == "q7_complexity"


@given(
    name=st.text(st.characters(codec="utf-8", exclude_characters="\n"), min_size=1, max_size=30),
    tag=st.text(st.characters(codec="utf-8"), max_size=20),
)
def test_an_id_is_a_safe_file_name(name: str, tag: str) -> None:
    identity = arms.arm_id({**TIMM, "timm_model": name, "pretrained": tag})
    assert re.fullmatch(r"[A-Za-z0-9-]+", identity)


@pytest.mark.parametrize("study", ["default", "smoke", "full"])
def test_ids_have_no_dot_no_float_and_no_date(study: str) -> None:
    files = [ROOT / "config" / f"{name}.yaml" for name in dict.fromkeys(("default", study))]
    for row in runs.rows(runs.expand(load(files))):
        assert re.fullmatch(r"[a-z0-9-]+-[0-9a-f]{8}-s\d+", row["run_id"]), row["run_id"]
        assert "20" not in row["run_id"].rsplit("-", 2)[0], "a year in a path"


def test_what_does_not_change_the_outcome_does_not_change_the_ids(config: Config) -> None:
    before = set(runs.expand(config).arms)
    changed = copy.deepcopy(config)
    changed["study"], changed["device"] = "another", "cpu"
    changed["data"]["folder"] = changed["pretrained"]["path"] = "/elsewhere"
    changed["questions"] = {
        stem: dict(reversed(block.items())) for stem, block in changed["questions"].items()
    }
    for block in changed["questions"].values():
        for about in (block.get("experiments") or {}).values():
            about["title"], about["description"] = "Another title", "Another description"
            about["claims"] = []
            if "arms" in about:
                about["arms"] = {
                    name: {**arm, "label": f"New label {name}"}
                    for name, arm in reversed(about["arms"].items())
                }
            else:
                about["vary"] = {name: values[::-1] for name, values in about["vary"].items()}
        if "experiments" in block:
            block["experiments"] = dict(reversed(block["experiments"].items()))
    validate(changed, SCHEMA)
    assert set(runs.expand(changed).arms) == before


def test_a_setting_that_changes_nothing_is_no_part_of_the_identity(config: Config) -> None:
    """Arms from before a setting was added keep their ids, and `in_full` knows its value."""
    for name, value in arms.NEUTRAL.items():
        settings = {**config["defaults"], "validation": 1, name: value}
        assert name not in arms.relevant(settings), name
        assert arms.in_full(arms.relevant(settings))[name] == value
    softmax = {**config["defaults"], "validation": 1}
    assert arms.relevant(softmax) == arms.relevant({**softmax, "window_size": 4})
    windows = {**softmax, "attention": "window"}
    assert arms.relevant(windows) != arms.relevant({**windows, "window_size": 4})


# --- Expansion


# A long run, and the network whose tokens Q7 reduces; all other experiments compare.


def test_default_study(config: Config) -> None:
    validate(config, SCHEMA)
    plan = runs.expand(config)
    table = runs.rows(plan)
    assert plan.study == "default"
    assert len(table) == sum(len(arm.seeds) for arm in plan.arms.values()) > 20
    assert len({row["run_id"] for row in table}) == len(table)
    compared = {identity for stem in STEMS for identity in plan.arms_of(stem)}
    assert set(plan.arms) == compared | {plan.base}
    for stem in STEMS[1:5] + STEMS[6:]:
        assert plan.of_question(stem), stem
    assert len(plan.of_question("q6_vit")) == 11
    for about in plan.experiments:
        # The headline and the ViT whose tokens are reduced are one run; all others compare.
        assert len(about.members) >= (1 if about.name in ALONE else 2)
        assert about.reference_of(about.members[0]) in about.members
        with pytest.raises(KeyError):
            about.member("no such arm")


def test_compared_arms_share_their_budget(config: Config) -> None:
    """Within an experiment: images, epochs, evaluations; batch size where it is not compared.

    Over label budgets: the same steps at each budget. Arms that compare just that are left out.
    """
    compared = {"longer", "stopped"}
    for about in runs.expand(config).experiments:
        names = ["train_size", "validation", "epochs", "steps", "evaluations"]
        names += ["batch_size"] if about.name != "training" else []
        budgets: dict[Any, set[Any]] = {}
        for member in about.members:
            own = member.arm.settings
            if member.method not in compared:
                spent = tuple(own.get(name) for name in names)
                budgets.setdefault(own.get("label_budget"), set()).add(spent)
        assert all(len(alike) == 1 for alike in budgets.values()), about.name


def shape(plan: runs.Plan) -> dict[tuple[str, str], list[str]]:
    """The arms of each experiment, in order."""
    return {
        (about.question, about.name): [member.name for member in about.members]
        for about in plan.experiments
    }


@pytest.mark.parametrize("study", ["smoke", "full"])
def test_other_sizes_are_the_same_study(config: Config, study: str) -> None:
    """The small study leaves arms out; the full one has those of Q8 that take too long here."""
    merged = load([ROOT / "config" / "default.yaml", ROOT / "config" / f"{study}.yaml"])
    validate(merged, SCHEMA)
    plan, whole = runs.expand(merged), runs.expand(config)
    assert plan.study == study
    assert not set(plan.arms) & set(whole.arms)
    if study == "full":
        assert list(shape(plan)) == list(shape(whole))
        for place, names in shape(plan).items():
            assert set(shape(whole)[place]) <= set(names)
            assert set(names) == set(shape(whole)[place]) or place[0] == "q8_transfer"
        assert [about.claims for about in plan.experiments] == [
            about.claims for about in whole.experiments
        ]
        return
    order = list(shape(whole))
    assert [order.index(place) for place in shape(plan)] == sorted(map(order.index, shape(plan)))
    for place, names in shape(plan).items():
        assert len(names) == 1 if place[1] in ALONE else len(names) > 1
        assert [n for n in shape(whole)[place] if n in names] == names
    # Every question that compares arms still does.
    assert {question for question, _ in shape(plan)} == {question for question, _ in shape(whole)}


def test_the_base_belongs_to_q6(config: Config) -> None:
    """Even when another question is the first to compare it."""
    arms = {"base": {}, "deep": {"settings": {"depth": 6}}}
    plan = runs.expand(with_experiments(config, depth=experiment(arms=arms)))
    assert plan.arms[plan.base].question == "q6_vit"
    assert plan.arms[plan.base].label == "base ViT"
    assert plan.arms_of("q2_mlp")[0] == plan.base
    assert [arm.question for arm in plan.arms.values()] == ["q6_vit", "q2_mlp"]


def test_a_study_without_experiments_trains_the_base(config: Config) -> None:
    plan = runs.expand(with_experiments(config))
    assert list(plan.arms) == [plan.base]
    assert len(runs.rows(plan)) == len(plan.seeds)


def test_the_same_arm_is_trained_once(config: Config) -> None:
    first = experiment(arms={"a": {"label": "A", "settings": {"depth": 2}}})
    second = experiment(vary={"depth": [2, 3]})
    plan = runs.expand(with_experiments(config, first=first, second=second))
    one, other = plan.of_question("q2_mlp")
    assert one.members[0].arm is other.members[0].arm
    assert len(plan.arms) == 3
    # It lies where it was first asked for and keeps its own name in each comparison.
    assert one.members[0].arm.experiment == "first"
    assert (one.members[0].label, other.members[0].label) == ("A", "depth 2")


def test_default_study_shares_its_ablation_base(config: Config) -> None:
    plan = runs.expand(config)
    q2, q3, q4 = (plan.of_question(stem)[0] for stem in STEMS[1:4])
    shared = {q2.member("gelu").arm.arm_id, q3.member("base").arm.arm_id, q4.member("4").arm.arm_id}
    assert len(shared) == 1


def test_settings_of_experiment_and_arm_are_laid_over_the_defaults(config: Config) -> None:
    about = experiment(
        settings={"depth": 2, "epochs": 0.5},
        arms={"a": {}, "b": {"settings": {"depth": 3, "norm": "post"}}},
    )
    a, b = runs.expand(with_experiments(config, x=about)).experiments[0].members
    assert (a.arm.settings["depth"], a.arm.settings["epochs"]) == (2, 0.5)
    assert (b.arm.settings["depth"], b.arm.settings["epochs"]) == (3, 0.5)
    assert (a.arm.settings["norm"], b.arm.settings["norm"]) == ("pre", "post")
    assert a.arm.settings["embed_dim"] == config["defaults"]["embed_dim"]
    assert a.arm.settings["validation"] == config["data"]["validation"]


def test_validation_of_the_study_and_of_an_experiment(config: Config) -> None:
    """data.validation holds for every arm that asks for no other; no key is ignored."""
    about = experiment(settings={"validation": 700}, arms={"a": {"settings": {"depth": 2}}})
    config = with_experiments(config, x=about)
    plan = runs.expand(config)
    assert plan.arms[plan.base].settings["validation"] == config["data"]["validation"] == 5000
    assert plan.experiments[0].members[0].arm.settings["validation"] == 700
    config["defaults"]["validation"] = 3000
    try:
        validate(config, SCHEMA)
        base = runs.expand(config).base
    except VitrailError as error:
        assert "validation" in str(error)
    else:
        assert runs.expand(config).arms[base].settings["validation"] == 3000


def test_vary_names_and_labels(config: Config) -> None:
    about = experiment(vary={"learning_rate": [0.001, 0.01]}, reference="0.01")
    found = runs.expand(with_experiments(config, rate=about)).experiments[0]
    assert [member.name for member in found.members] == ["0.001", "0.01"]
    assert [member.label for member in found.members] == [
        "learning_rate 0.001",
        "learning_rate 0.01",
    ]
    assert found.reference == "0.01"
    assert found.factors == ("learning_rate",)


def test_two_factors_make_a_grid(config: Config) -> None:
    about = experiment(vary={"embed_dim": [16, 32], "depth": [1, 2, 3]}, reference="32-2")
    found = runs.expand(with_experiments(config, grid=about)).experiments[0]
    assert found.factors == ("embed_dim", "depth")
    assert [member.name for member in found.members] == [
        "16-1", "16-2", "16-3", "32-1", "32-2", "32-3",
    ]  # fmt: skip
    assert found.member("32-3").label == "embed_dim 32, depth 3"
    settings = found.member("16-3").arm.settings
    assert (settings["embed_dim"], settings["depth"]) == (16, 3)


def test_three_factors_are_refused(config: Config) -> None:
    about = experiment(vary={"embed_dim": [16, 32], "depth": [1, 2], "mlp_ratio": [1, 2]})
    with pytest.raises(VitrailError, match="vary"):
        with_experiments(config, grid=about)


def test_an_experiment_may_have_seeds_of_its_own(config: Config) -> None:
    """An arm that two experiments compare is trained with the seeds of both."""
    arms = {"a": {"settings": {"depth": 2}}, "b": {"settings": {"depth": 3}}}
    one = experiment(arms=arms, seeds=[7.0])
    two = experiment(arms={"a": arms["a"], "c": {"settings": {"depth": 5}}})
    plan = runs.expand(with_experiments(config, one=one, two=two))
    seeds = {arm.settings["depth"]: arm.seeds for arm in plan.arms.values()}
    assert seeds[2] == (0, 1, 2, 7)
    assert seeds[3] == (7,)
    assert seeds[5] == plan.seeds == (0, 1, 2)
    assert [about.seeds for about in plan.experiments] == [(7,), (0, 1, 2)]
    ids = [row["run_id"] for row in runs.rows(plan)]
    assert len(ids) == len(set(ids)) == 3 + 4 + 1 + 3


def test_heads_of_the_usual_width_are_the_same_arm(config: Config) -> None:
    """head_dim 16 says of four heads and a width of 64 what 0 says."""
    about = experiment(arms={"a": {"settings": {"head_dim": 16}}})
    assert runs.expand(with_experiments(config, x=about)).arms.keys() == {
        runs.expand(with_experiments(config)).base
    }


def test_muon_needs_blocks(config: Config) -> None:
    about = experiment(arms={"a": {"settings": {"model": "cnn", "optimizer": "muon"}}})
    with pytest.raises(VitrailError, match=r"x\.arms\.a: optimizer muon .* model 'cnn'"):
        runs.expand(with_experiments(config, x=about))


def test_null_takes_an_experiment_out(config: Config) -> None:
    merge(config, {"questions": {"q2_mlp": {"experiments": {"activation": None}}}})
    validate(config, SCHEMA)
    plan = runs.expand(config)
    assert plan.of_question("q2_mlp") == []
    assert all(arm.experiment != "activation" for arm in plan.arms.values())


def test_null_takes_an_arm_out(config: Config) -> None:
    arms = {"a": {}, "b": {"settings": {"depth": 3}}, "c": {"settings": {"depth": 5}}}
    config = with_experiments(config, x=experiment(arms=arms))
    change = {"questions": {"q2_mlp": {"experiments": {"x": {"arms": {"b": None}}}}}}
    merge(config, change)
    validate(config, SCHEMA)
    plan = runs.expand(config)
    assert [member.name for member in plan.experiments[0].members] == ["a", "c"]
    assert 3 not in [arm.settings["depth"] for arm in plan.arms.values()]


def test_an_added_arm_leaves_the_others_alone(config: Config) -> None:
    before = runs.expand(config)
    merge(
        config,
        {"questions": {"q6_vit": {"experiments": {"depth": {"vary": {"depth": [2, 4, 6, 8]}}}}}},
    )
    after = runs.expand(config)
    assert len(set(after.arms) - set(before.arms)) == 1
    assert set(before.arms) < set(after.arms)


def test_steps_of_a_run() -> None:
    def steps(**changes: Any) -> int:
        return arms.steps_of({**VIT, **changes})

    assert steps(train_size=640, epochs=1) == 10
    assert steps(train_size=700, epochs=1) == 10  # the last 60 images fill no batch
    assert steps(train_size=700, epochs=2) == 20
    assert steps(train_size=640, epochs=0.5) == 5
    assert steps(train_size=640, epochs=2.25) == 22
    assert steps(train_size=640, epochs=0.09) == 0
