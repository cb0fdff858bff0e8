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
from vitrail.reserved import RESERVED, RESERVED_EVERYWHERE
from vitrail.settings import Settings, arm_id, checked, run_id

BASE_NAMES = ("base", "base", "base ViT")  # experiment, arm, label
HEADLINE = ("q6_vit", "headline")  # the question and the experiment of the long run


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
