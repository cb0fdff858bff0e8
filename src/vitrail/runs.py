"""From the config to the run table: which arms, which seeds, which settings.

An *arm* is one set of settings; a *run* is an arm with one seed. An experiment is a
comparison of arms under a question. The same arm in two experiments is trained once.
"""

from __future__ import annotations

import argparse
import csv
import io
import itertools
import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from vitrail.config import STEMS, Config
from vitrail.errors import VitrailError, run_command
from vitrail.files import write_text
from vitrail.settings import (
    IMAGE_SIZE,
    MODEL_FIELDS,
    NEUTRAL,
    Settings,
    arm_id,
    canonical,
    checked,
    in_full,
    run_id,
)

BASE_NAMES = ("base", "base", "base ViT")  # experiment, arm, label
HEADLINE = ("q6_vit", "headline")  # the question and the experiment of the long run
# What the base ViT must have because Q7 accounts for its cost, by the setting of it.
ACCOUNTED = {
    "attention": "softmax attention",
    "patch_embed": "linear patches",
    "drop_rate": "a network without dropout",
}
# Figures, tables, numbers and data that a question makes itself; no experiment has such a name.
RESERVED_EVERYWHERE = {"claims", "experiments", "table"}
RESERVED: dict[str, set[str]] = {
    "q1_patch_embedding": {"filter_findings", "filters", "patch_sizes", "patches"},
    "q2_mlp": {
        "embed_dim", "gelu", "hidden", "in_reach", "input_findings", "mlp_ratio", "negative",
        "parameters", "share", "tanh_gap",
    },
    "q3_self_attention": {
        "entropy", "found_networks", "found_order", "found_random", "maps", "scale", "shown",
        "tv_images",
    },
    "q4_multi_head": {
        "architecture", "attention", "distance", "distance_high", "distance_low",
        "distance_uniform", "found_distance", "found_heads", "found_proofs", "found_rollout",
        "grid", "maps", "rollout",
    },
    "q5_block": {"block", "curves", "token_norms"},
    "q6_vit": {
        "architecture", "base", "base_runs", "cost", "effects", "errors", "patch_shuffle",
        "position_example", "position_findings", "position_size", "positions",
    },
    "q7_complexity": {
        "base_macs", "block_inside", "block_miss", "block_weighted_inside", "costs", "crossover",
        "crossovers", "exponents", "fused_memory", "fused_memory_exponent", "fused_speedup",
        "gains", "goal", "hardware", "kinds", "kinds_longest", "kinds_near", "linear_crossover",
        "linear_speedup", "linear_time", "longest", "memory", "mlp_ratio", "model", "naive_inside",
        "naive_memory", "naive_memory_exponent", "naive_weighted_inside", "products_speedup",
        "reduction", "reduction_pictures", "reference", "share", "shares", "slope_at_base",
        "speedup_at_reference", "time", "timed_width", "tokens", "tokens_per_call",
        "training_factor", "ways", "ways_inference", "ways_step", "ways_training", "weights_mib",
        "width", "window_size", "window_speedup", "window_time", "window_tokens",
    },
    "q8_transfer": {"budget", "inputs", "mcnemar", "weights"},
}  # fmt: skip


@dataclass(frozen=True)
class Arm:
    """One set of settings, with the place where it was first asked for.

    `seeds` are those of all experiments that compare it.
    """

    arm_id: str
    settings: Settings
    question: str
    experiment: str
    name: str
    label: str
    seeds: tuple[int, ...]


@dataclass(frozen=True)
class Member:
    """An arm as a member of an experiment, under the name and label it has there."""

    name: str
    label: str
    arm: Arm


@dataclass(frozen=True)
class Experiment:
    """A comparison: its arms in display order and what is claimed of them.

    `factors` are the settings that `vary` varies: none, one, or the two of a grid.
    """

    question: str
    name: str
    title: str
    description: str
    members: tuple[Member, ...]
    claims: tuple[dict[str, Any], ...]
    reference: str
    seeds: tuple[int, ...]
    factors: tuple[str, ...]

    def member(self, name: str) -> Member:
        """The arm of that name.

        Raises:
            KeyError: when the experiment has none.
        """
        for member in self.members:
            if member.name == name:
                return member
        raise KeyError(name)


@dataclass(frozen=True)
class Plan:
    """Everything that the config asks for."""

    study: str
    seeds: tuple[int, ...]
    experiments: tuple[Experiment, ...]
    arms: dict[str, Arm]
    base: str  # arm_id of the settings in `defaults`

    def of_question(self, stem: str) -> list[Experiment]:
        """The experiments of one question, in the order of the config."""
        return [experiment for experiment in self.experiments if experiment.question == stem]

    def arms_of(self, stem: str) -> list[str]:
        """The arm ids that a question compares, each once."""
        return list(
            dict.fromkeys(
                member.arm.arm_id
                for experiment in self.of_question(stem)
                for member in experiment.members
            )
        )


def expand(config: Config) -> Plan:
    """All experiments, arms and seeds of a checked config.

    Raises:
        VitrailError: when settings do not fit together; the sentence names the key.
    """
    if "validation" in config["defaults"]:
        raise VitrailError("config: defaults.validation is not read; set data.validation")
    defaults = {**config["defaults"], "validation": config["data"]["validation"]}
    base_settings = checked(defaults, {}, "defaults")
    base = arm_id(base_settings)
    seeds = tuple(int(seed) for seed in config["seeds"])
    # Every study trains the base ViT, which belongs to Q6 whichever comparison mentions it.
    arms = {base: Arm(base, base_settings, "q6_vit", *BASE_NAMES, seeds)}
    experiments = []
    for stem in STEMS:
        for name, block in (config["questions"][stem].get("experiments") or {}).items():
            if block is not None:  # null takes an experiment out of the study
                _check_name(stem, name)
                experiments.append(_experiment(stem, name, block, defaults, seeds, arms))
    _check_claims(experiments)
    return Plan(config["study"], seeds, tuple(experiments), arms, base)


def _check_name(stem: str, name: str) -> None:
    """An experiment does not write over what its question makes itself."""
    taken = name in RESERVED[stem] | RESERVED_EVERYWHERE
    if taken or (stem == HEADLINE[0] and name.startswith(f"{HEADLINE[1]}_")):
        raise VitrailError(
            f"config: questions.{stem}.experiments.{name}: this question has a figure, table or "
            "number of that name already; choose another name"
        )


def _check_claims(experiments: list[Experiment]) -> None:
    """A claim's name is its question and its id, and stands for one claim."""
    seen = set()
    for experiment in experiments:
        for claim in experiment.claims:
            name = (experiment.question, claim["id"])
            if name in seen:
                raise VitrailError(
                    f"config: questions.{experiment.question} has two claims with the id "
                    f"{claim['id']!r}; give one of them another"
                )
            seen.add(name)


def _experiment(
    stem: str,
    name: str,
    block: Config,
    defaults: Settings,
    seeds: tuple[int, ...],
    arms: dict[str, Arm],
) -> Experiment:
    where = f"questions.{stem}.experiments.{name}"
    shared = block.get("settings") or {}
    seeds = tuple(int(seed) for seed in block.get("seeds") or seeds)
    members = []
    for arm_name, label, own in _asked(block, where):
        settings = checked(defaults, {**shared, **own}, f"{where}.arms.{arm_name}")
        identity = arm_id(settings)
        own_name = f"{name}.{arm_name}"
        arm = arms.get(identity) or Arm(identity, settings, stem, name, own_name, label, seeds)
        if set(seeds) - set(arm.seeds):  # another experiment compares it over fewer
            arm = replace(arm, seeds=tuple(sorted({*arm.seeds, *seeds})))
        arms[identity] = arm
        members.append(Member(arm_name, label, arms[identity]))
    names = [member.name for member in members]
    if not names:
        raise VitrailError(f"config: {where}.arms has no arm left; set the experiment to null")
    _check_distinct(members, where)
    if (stem, name) == HEADLINE:
        _check_headline(members, where)
    reference = str(block.get("reference") or names[0])
    for claim in block.get("claims") or []:
        for role in ("better", "worse"):
            if str(claim[role]) not in names:
                raise VitrailError(
                    f"config: {where}.claims.{claim['id']}.{role} names the arm "
                    f"{claim[role]!r}, but the arms are {', '.join(names)}"
                )
        if str(claim["better"]) == str(claim["worse"]):
            raise VitrailError(
                f"config: {where}.claims.{claim['id']} names the arm {claim['better']!r} as both "
                "better and worse; name another as one of them"
            )
    if reference not in names:
        raise VitrailError(
            f"config: {where}.reference names the arm {reference!r}, "
            f"but the arms are {', '.join(names)}"
        )
    return Experiment(
        question=stem,
        name=name,
        title=block["title"],
        description=block.get("description", ""),
        members=tuple(members),
        claims=tuple(block.get("claims") or []),
        reference=reference,
        seeds=seeds,
        factors=tuple(block.get("vary") or ()),
    )


def _check_distinct(members: list[Member], where: str) -> None:
    """Two names for one arm compare it with itself, whatever their labels say."""
    first: dict[str, str] = {}
    for member in members:
        other = first.setdefault(member.arm.arm_id, member.name)
        if other != member.name:
            raise VitrailError(
                f"config: {where}: the arms {other} and {member.name} have the same settings; "
                "change one of them or set it to null"
            )


def _check_headline(members: list[Member], where: str) -> None:
    """The headline is one long run of a ViT of ours; its page reads no other arm."""
    if len(members) > 1:
        names = ", ".join(member.name for member in members)
        raise VitrailError(
            f"config: {where} has the arms {names}, but is one long run; "
            "keep one of them or choose another name for the experiment"
        )
    model = members[0].arm.settings["model"]
    if model != "vit":
        raise VitrailError(
            f"config: {where}.arms.{members[0].name}: model is {model!r}, but the headline run "
            "is of a vit; choose another name for the experiment"
        )


def _asked(block: Config, where: str) -> Iterator[tuple[str, str, Settings]]:
    """(name, label, own settings) of each arm, from `vary` or from `arms`."""
    vary, arms = block.get("vary") or {}, block.get("arms") or {}
    if bool(vary) == bool(arms):
        raise VitrailError(f"config: {where} needs either vary or arms, not both and not none")
    for values in itertools.product(*vary.values()) if vary else ():
        own = dict(zip(vary, values, strict=True))
        label = ", ".join(f"{field} {value}" for field, value in own.items())
        yield "-".join(map(str, values)), label, own
    for name, arm in arms.items():
        if arm is not None:
            yield str(name), arm.get("label", str(name)), arm.get("settings") or {}


def timing_settings(config: Config) -> dict[str, Any]:
    """What Q7 times: its own block, on the architecture of the base ViT.

    Raises:
        VitrailError: when a number of heads does not divide its width, a width is there twice,
            or the base ViT has a part whose cost Q7 does not account for.
    """
    for field, accounted in ACCOUNTED.items():
        if config["defaults"][field] != NEUTRAL[field]:
            raise VitrailError(
                f"config: defaults.{field} is {config['defaults'][field]}, but Q7 accounts for "
                f"{accounted}; set {field} in the settings of an experiment or arm instead"
            )
    asked = config["questions"]["q7_complexity"]["timing"]
    timing = {key: canonical(value) for key, value in asked.items()}
    seen = set()
    for entry in timing.get("widths", []):
        width, heads = entry["embed_dim"], entry["num_heads"]
        where = "config: questions.q7_complexity.timing.widths"
        if width % heads:
            raise VitrailError(f"{where}: num_heads {heads} does not divide embed_dim {width}")
        if width in seen:
            raise VitrailError(f"{where} has embed_dim {width} twice; leave one of them out")
        seen.add(width)
    base = config["defaults"]
    fields = [field for field in MODEL_FIELDS["vit"] if field != "patch_size"]
    model = {field: canonical(base[field]) for field in fields}
    model |= {"img_size": IMAGE_SIZE, "in_chans": 1, "num_classes": 10}
    return {"mlp_ratio": base["mlp_ratio"], **timing, "model": model, "device": config["device"]}


def execution_settings(config: Config) -> dict[str, Any]:
    """What Q7 measures of the ways to compute a network, without which network."""
    asked = config["questions"]["q7_complexity"]["execution"]
    return {**{key: canonical(value) for key, value in asked.items()}, "device": config["device"]}


def reduction_settings(config: Config, plan: Plan) -> dict[str, Any]:
    """How Q7 reduces the tokens of a network, without which network.

    Raises:
        VitrailError: when the network has no class token, by which tokens are chosen.
    """
    settings = in_full(subject(config, plan).settings)
    if settings["global_pool"] != "token" or settings["norm"] != "pre":
        raise VitrailError(
            "config: questions.q7_complexity.subject names a ViT whose tokens cannot be reduced; "
            "name one with global_pool token and norm pre, or set them on that arm"
        )
    if settings["attention"] != "softmax":
        raise VitrailError(
            "config: questions.q7_complexity.subject names a ViT whose tokens cannot be reduced; "
            f"its attention is {settings['attention']}, name one with softmax"
        )
    if settings["patch_embed"] != "linear":
        raise VitrailError(
            "config: questions.q7_complexity.subject names a ViT whose tokens cannot be reduced; "
            f"its patch_embed is {settings['patch_embed']}, name one with linear"
        )
    asked = config["questions"]["q7_complexity"]["reduction"]
    size = min(asked["train_size"], settings["train_size"])
    if asked["batch_size"] > size:
        raise VitrailError(
            "config: questions.q7_complexity.reduction.batch_size is "
            f"{asked['batch_size']}, but there are {size} images (train_size); lower it"
        )
    return {key: canonical(value) for key, value in asked.items()}


def trained_for_less(plan: Plan) -> dict[str, Settings]:
    """Settings by arm id of the trainings that Q7 compares: its experiments of several arms."""
    return {
        member.arm.arm_id: member.arm.settings
        for experiment in plan.of_question("q7_complexity")
        if len(experiment.members) > 1
        for member in experiment.members
    }


def subject(config: Config, plan: Plan) -> Arm:
    """The arm whose trained network Q7 computes in several ways and with fewer tokens.

    An experiment of Q7 goes before one of the same name elsewhere.

    Raises:
        VitrailError: when there is no such experiment or arm, or it is no ViT of ours.
    """
    where = "config: questions.q7_complexity.subject"
    name, arm = config["questions"]["q7_complexity"]["subject"]
    order = sorted(plan.experiments, key=lambda about: about.question != "q7_complexity")
    about = next((about for about in order if about.name == name), None)
    if about is None:
        known = ", ".join(dict.fromkeys(about.name for about in order))
        raise VitrailError(f"{where} names the experiment {name!r}, but the study has {known}")
    try:
        found = about.member(arm).arm
    except KeyError:
        known = ", ".join(member.name for member in about.members)
        raise VitrailError(
            f"{where} names the arm {arm!r} of {name}, but its arms are {known}"
        ) from None
    if found.settings["model"] != "vit":
        raise VitrailError(
            f"{where}: {name}.{arm} is of model {found.settings['model']!r}; name an arm of "
            "model 'vit'"
        )
    return found


def rows(plan: Plan) -> list[dict[str, Any]]:
    """The run table, one row per run, in the order of the config."""
    return [
        {
            "run_id": run_id(arm.arm_id, seed),
            "arm_id": arm.arm_id,
            "arm": arm.name,
            "label": arm.label,
            "question": arm.question,
            "experiment": arm.experiment,
            "seed": seed,
            **arm.settings,
        }
        for arm in plan.arms.values()
        for seed in arm.seeds
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description="Write the run table of a config.")
    parser.add_argument("--config", type=json.loads, required=True, help="the config as JSON")
    parser.add_argument("--out", type=Path, required=True, help="the CSV file to write")
    arguments = parser.parse_args()
    table = rows(expand(arguments.config))
    fields = list(dict.fromkeys(field for row in table for field in row))
    text = io.StringIO()
    writer = csv.DictWriter(text, fields, lineterminator="\n")
    writer.writeheader()
    writer.writerows(table)
    write_text(arguments.out, text.getvalue())
    print(f"runs: {len(table)} planned -> {arguments.out}")


if __name__ == "__main__":
    run_command(main)
