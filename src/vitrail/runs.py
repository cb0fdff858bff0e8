"""From the config to the run table: which arms, which seeds, which settings.

An *arm* is one set of settings; a *run* is an arm with one seed. An experiment is a
comparison of arms under a question. The same arm in two experiments is trained once.
"""

from __future__ import annotations

import argparse
import csv
import io
import json
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from vitrail.asked import Asked, every_arm
from vitrail.config import STEMS, Config
from vitrail.errors import VitrailError, run_command
from vitrail.files import write_text
from vitrail.pretraining.plan import Starts
from vitrail.reserved import RESERVED, RESERVED_EVERYWHERE
from vitrail.setting_checks import checked
from vitrail.settings import Settings, arm_id, run_id

BASE_NAMES = ("base", "base", "base ViT")  # experiment, arm, label
HEADLINE = ("q6_vit", "headline")  # the question and the experiment of the long run


@dataclass(frozen=True)
class Arm:
    """One set of settings, with the place where it was first asked for.

    `seeds` are those of all experiments that compare it. Arms with the same `job` are trained
    in one process: a method at all its label budgets; '' is a process of its own.
    """

    arm_id: str
    settings: Settings
    question: str
    experiment: str
    name: str
    label: str
    seeds: tuple[int, ...]
    job: str = ""


@dataclass(frozen=True)
class Member:
    """An arm as a member of an experiment, under the name and label it has there.

    In an experiment over label budgets `method` is the name that it shares with the same
    method at other budgets, otherwise ''.
    """

    name: str
    label: str
    arm: Arm
    method: str = ""


@dataclass(frozen=True)
class Experiment:
    """A comparison: its arms in display order and what is claimed of them.

    `factors` are the settings that `vary` varies: none, one, or the two of a grid. `methods`
    are the labels of an experiment over label budgets by the names of its methods; its
    `reference` is one of them. Both are empty for any other.
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
    methods: dict[str, str] = field(default_factory=dict)

    def reference_of(self, member: Member) -> Member:
        """The arm that another is compared with: under label budgets, at the same budget."""
        if not self.methods:
            return self.member(self.reference)
        return self.member(f"{self.reference}-{member.arm.settings['label_budget']}")

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
    pretrainings: dict[str, Settings]  # by their id, which is the `start` of an arm

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
    starts = Starts(config.get("pretraining") or {})
    experiments = []
    for stem in STEMS:
        for name, block in (config["questions"][stem].get("experiments") or {}).items():
            if block is not None:  # null takes an experiment out of the study
                _check_name(stem, name)
                experiments.append(_experiment(stem, name, block, defaults, seeds, arms, starts))
    _check_claims(experiments)
    return Plan(config["study"], seeds, tuple(experiments), arms, base, starts.found)


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
    starts: Starts,
) -> Experiment:
    where = f"questions.{stem}.experiments.{name}"
    shared = block.get("settings") or {}
    seeds = tuple(int(seed) for seed in block.get("seeds") or seeds)
    resolved: list[tuple[Asked, Settings]] = []
    for asked in every_arm(block, where):
        place = f"{where}.arms.{asked.name}"
        settings = checked(defaults, {**shared, **asked.own}, place)
        if settings.get("start"):
            settings["start"] = starts.id_of(settings, place)
        resolved.append((asked, settings))
    _name_teachers(resolved, where)
    members: list[Member] = []
    for asked, settings in resolved:
        identity = arm_id(settings)
        job = f"{name}__{asked.method}" if asked.method else ""
        arm = arms.get(identity) or Arm(
            identity, settings, stem, name, f"{name}.{asked.name}", asked.label, seeds, job
        )
        if set(seeds) - set(arm.seeds):  # another experiment compares it over fewer
            arm = replace(arm, seeds=tuple(sorted({*arm.seeds, *seeds})))
        arms[identity] = arm
        members.append(Member(asked.name, asked.label, arms[identity], asked.method))
    names = [member.name for member in members]
    if not names:
        raise VitrailError(f"config: {where}.arms has no arm left; set the experiment to null")
    _check_distinct(members, where)
    if (stem, name) == HEADLINE:
        _check_headline(members, where)
    methods = {
        member.method: block["arms"][member.method].get("label", member.method)
        for member in members
        if member.method
    }
    reference = str(block.get("reference") or next(iter(methods), names[0]))
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
    if reference not in (methods or names):
        raise VitrailError(
            f"config: {where}.reference names the arm {reference!r}, "
            f"but the arms are {', '.join(methods or names)}"
        )
    _check_reference(reference, members, where)
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
        methods=methods,
    )


def _check_reference(reference: str, members: list[Member], where: str) -> None:
    """Every method is compared with the reference at its own label budget."""
    names = {member.name for member in members}
    for member in members:
        budget = member.arm.settings.get("label_budget")
        if member.method and f"{reference}-{budget}" not in names:
            raise VitrailError(
                f"config: {where}: {member.name} has no reference, because the arm {reference} "
                f"leaves the budget of {budget} labels out; add it there or name another reference"
            )


def _name_teachers(resolved: list[tuple[Asked, Settings]], where: str) -> None:
    """Put the id of its teacher's arm into every student: under budgets, of the same budget."""
    teachers = [(asked, own) for asked, own in resolved if not own.get("teacher")]
    for student, settings in resolved:
        if not settings.get("teacher"):
            continue
        place, name = f"{where}.arms.{student.name}", settings["teacher"]
        budget = settings.get("label_budget", 0)
        alike = [(asked, own) for asked, own in teachers if own.get("label_budget", 0) == budget]
        found = [own for asked, own in alike if name in (asked.name, asked.method)]
        if not found:
            known = ", ".join(asked.method or asked.name for asked, _ in alike) or "none"
            raise VitrailError(
                f"config: {place}: teacher must name an arm of the experiment that has none itself"
                f"{f' and has {budget} labels' if budget else ''}; {name!r} is not among: {known}"
            )
        if found[0].get("pretrained"):
            raise VitrailError(
                f"config: {place}: teacher {name} has ImageNet weights, which may be missing; "
                "name one without"
            )
        if any(found[0][key] != settings[key] for key in ("pixel_mean", "pixel_std")):
            raise VitrailError(
                f"config: {place}: teacher {name} has pixels of another scale; give both the same "
                "pixel_mean and pixel_std"
            )
        settings["teacher"] = arm_id(found[0])


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
