"""From the config to the run table: which arms, which seeds, which settings.

An *arm* is one set of settings; a *run* is an arm with one seed. An experiment is a
comparison of arms under a question. The same arm in two experiments is trained once.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import io
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vitrail.config import STEMS, Config
from vitrail.errors import VitrailError, run_command
from vitrail.files import write_text

IMAGE_SIZE = 28
BASE_NAMES = ("base", "base", "base ViT")  # experiment, arm, label
Settings = dict[str, Any]

# What decides the outcome of a run, by kind of model. Labels, titles and the order in
# the config are no part of it; the study's device is not either.
TRAINING_FIELDS = (
    "model",
    "train_size",
    "validation",
    "epochs",
    "batch_size",
    "optimizer",
    "learning_rate",
    "weight_decay",
    "warmup",
    "evaluations",
    "precision",
    "pixel_mean",
    "pixel_std",
)
MODEL_FIELDS = {
    "vit": (
        "patch_size",
        "embed_dim",
        "depth",
        "num_heads",
        "mlp_ratio",
        "qkv_bias",
        "class_token",
        "global_pool",
        "pos_embed",
        "norm",
        "act",
    ),
    "cnn": ("channels",),
    "timm": ("timm_model", "patch_size", "pretrained"),
}
# Of the data step; vitrail.data has their checksums (and imports numpy, so not here).
MNIST_FILES = (
    "train-images-idx3-ubyte",
    "train-labels-idx1-ubyte",
    "t10k-images-idx3-ubyte",
    "t10k-labels-idx1-ubyte",
)
RUN_FILES = ("config.json", "env.json", "summary.json")
FINISHED_FILES = ("history.csv", "timing.csv", "predictions.npz", "model.safetensors")


@dataclass(frozen=True)
class Arm:
    """One set of settings, with the place where it was first asked for."""

    arm_id: str
    settings: Settings
    question: str
    experiment: str
    name: str
    label: str


@dataclass(frozen=True)
class Member:
    """An arm as a member of an experiment, under the name and label it has there."""

    name: str
    label: str
    arm: Arm


@dataclass(frozen=True)
class Experiment:
    """A comparison: its arms in display order and what is claimed of them."""

    question: str
    name: str
    title: str
    description: str
    members: tuple[Member, ...]
    claims: tuple[dict[str, Any], ...]
    reference: str

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


def run_id(arm_id: str, seed: int) -> str:
    """The name of a run and of its folder."""
    return f"{arm_id}-s{seed}"


def relevant(settings: Settings) -> Settings:
    """The settings that a model of this kind reads, in a fixed order."""
    fields = TRAINING_FIELDS + MODEL_FIELDS[settings["model"]]
    return {field: _canonical(settings[field]) for field in sorted(fields)}


def arm_id(settings: Settings) -> str:
    """A readable slug and a hash of exactly the settings that decide the outcome."""
    content = json.dumps(settings, sort_keys=True)
    digest = hashlib.sha256(content.encode()).hexdigest()[:8]
    return f"{_slug(settings)}-{digest}"


def _canonical(value: Any) -> Any:
    """4 and 4.0 are the same setting."""
    if isinstance(value, list):
        return [_canonical(item) for item in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _slug(settings: Settings) -> str:
    if settings["model"] == "vit":
        return (
            f"vit-p{settings['patch_size']}-d{settings['embed_dim']}"
            f"-l{settings['depth']}-h{settings['num_heads']}"
        )
    if settings["model"] == "cnn":
        return f"cnn-c{settings['channels']}"
    start = settings["pretrained"] or "scratch"
    name = settings["timm_model"].split("_patch")[0]
    # The slug is part of a path: whatever a name holds, only these characters go in.
    return re.sub(r"[^A-Za-z0-9]+", "-", f"{name}-p{settings['patch_size']}-{start}")


def steps_of(settings: Settings) -> int:
    """Optimiser steps of a run: every epoch drops the images that fill no batch."""
    whole, part = divmod(settings["epochs"], 1)
    size, samples = settings["batch_size"], settings["train_size"]
    return int(whole) * (samples // size) + round(part * samples) // size


def expand(config: Config) -> Plan:
    """All experiments, arms and seeds of a checked config.

    Raises:
        VitrailError: when settings do not fit together; the sentence names the key.
    """
    if "validation" in config["defaults"]:
        raise VitrailError("config: defaults.validation is not read; set data.validation")
    defaults = {**config["defaults"], "validation": config["data"]["validation"]}
    base_settings = _checked(defaults, {}, "defaults")
    base = arm_id(base_settings)
    # Every study trains the base ViT, which belongs to Q6 whichever comparison mentions it.
    arms = {base: Arm(base, base_settings, "q6_vit", *BASE_NAMES)}
    experiments = []
    for stem in STEMS:
        for name, block in (config["questions"][stem].get("experiments") or {}).items():
            if block is not None:  # null takes an experiment out of the study
                experiments.append(_experiment(stem, name, block, defaults, arms))
    _check_claims(experiments)
    seeds = tuple(int(seed) for seed in config["seeds"])
    return Plan(config["study"], seeds, tuple(experiments), arms, base)


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
    stem: str, name: str, block: Config, defaults: Settings, arms: dict[str, Arm]
) -> Experiment:
    where = f"questions.{stem}.experiments.{name}"
    shared = block.get("settings") or {}
    members = []
    for arm_name, label, own in _asked(block, where):
        settings = _checked(defaults, {**shared, **own}, f"{where}.arms.{arm_name}")
        identity = arm_id(settings)
        own_name = f"{name}.{arm_name}"
        arm = arms.setdefault(identity, Arm(identity, settings, stem, name, own_name, label))
        members.append(Member(arm_name, label, arm))
    names = [member.name for member in members]
    if not names:
        raise VitrailError(f"config: {where}.arms has no arm left; set the experiment to null")
    reference = str(block.get("reference") or names[0])
    for claim in block.get("claims") or []:
        for role in ("better", "worse"):
            if str(claim[role]) not in names:
                raise VitrailError(
                    f"config: {where}.claims.{claim['id']}.{role} names the arm "
                    f"{claim[role]!r}, but the arms are {', '.join(names)}"
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
    )


def _asked(block: Config, where: str) -> Iterator[tuple[str, str, Settings]]:
    """(name, label, own settings) of each arm, from `vary` or from `arms`."""
    vary, arms = block.get("vary") or {}, block.get("arms") or {}
    if bool(vary) == bool(arms):
        raise VitrailError(f"config: {where} needs either vary or arms, not both and not none")
    for field, values in vary.items():
        for value in values:
            yield str(value), f"{field} {value}", {field: value}
    for name, arm in arms.items():
        if arm is not None:
            yield str(name), arm.get("label", str(name)), arm.get("settings") or {}


def _checked(defaults: Settings, own: Settings, where: str) -> Settings:
    """The resolved settings of an arm, after the checks that a schema cannot make."""
    settings = {key: _canonical(value) for key, value in {**defaults, **own}.items()}
    kind = settings["model"]
    for field in own:
        if field not in TRAINING_FIELDS + MODEL_FIELDS[kind]:
            raise VitrailError(f"config: {where}: the key {field} has no effect on model {kind!r}")
    if kind == "timm" and not settings["timm_model"]:
        raise VitrailError(f"config: {where}: timm_model must name a model of timm")
    if kind in ("vit", "timm") and IMAGE_SIZE % settings["patch_size"]:
        raise VitrailError(
            f"config: {where}: patch_size {settings['patch_size']} does not divide the image "
            f"size {IMAGE_SIZE}; choose 1, 2, 4, 7, 14 or 28"
        )
    if kind == "vit":
        _check_vit(settings, where)
    if settings["batch_size"] > settings["train_size"]:
        raise VitrailError(
            f"config: {where}: batch_size {settings['batch_size']} is larger than "
            f"train_size {settings['train_size']}"
        )
    if steps_of(settings) < settings["evaluations"]:
        raise VitrailError(
            f"config: {where}: epochs {settings['epochs']} of {settings['train_size']} images make "
            f"{steps_of(settings)} steps of batch_size {settings['batch_size']}, fewer than "
            f"evaluations {settings['evaluations']}"
        )
    if settings["train_size"] + settings["validation"] > 60_000:
        raise VitrailError(
            f"config: {where}: train_size {settings['train_size']} and data.validation "
            f"{settings['validation']} together exceed the 60,000 training images of MNIST"
        )
    return relevant(settings)


def _check_vit(settings: Settings, where: str) -> None:
    width, heads = settings["embed_dim"], settings["num_heads"]
    if width % heads:
        raise VitrailError(
            f"config: {where}: num_heads {heads} does not divide embed_dim {width}; "
            "each head gets embed_dim / num_heads columns"
        )
    step = {"sinusoidal": 2, "sinusoidal_2d": 4}.get(settings["pos_embed"], 1)
    if width % step:
        raise VitrailError(
            f"config: {where}: embed_dim {width} must be a multiple of {step} "
            f"for pos_embed {settings['pos_embed']}"
        )
    if settings["global_pool"] == "token" and not settings["class_token"]:
        raise VitrailError(
            f"config: {where}: global_pool token reads the class token; set class_token to true"
        )


def timing_settings(config: Config) -> dict[str, Any]:
    """What Q7 times: its own block, on the architecture of the base ViT.

    Raises:
        VitrailError: when a number of heads does not divide a width.
    """
    asked = config["questions"]["q7_complexity"]["timing"]
    timing = {key: _canonical(value) for key, value in asked.items()}
    for width in timing.get("widths", []):
        if width % timing.get("heads", 1):
            raise VitrailError(
                f"config: questions.q7_complexity.timing.heads {timing['heads']} does not divide "
                f"{width} of widths"
            )
    base = config["defaults"]
    fields = [field for field in MODEL_FIELDS["vit"] if field != "patch_size"]
    model = {field: _canonical(base[field]) for field in fields}
    model |= {"img_size": IMAGE_SIZE, "in_chans": 1, "num_classes": 10}
    return {"mlp_ratio": base["mlp_ratio"], **timing, "model": model, "device": config["device"]}


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
        for seed in plan.seeds
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
