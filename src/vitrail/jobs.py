"""Which trainings share a job, and which go first.

Imports neither torch nor pandas, because Snakemake reads it each time it parses the workflow.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from vitrail.config import STEMS
from vitrail.runs import Plan
from vitrail.settings import Settings, digest, steps_of

# Snakemake starts what can be started by priority. A question whose runs are there is answered
# and recorded at once; of the trainings the longest come first, then question by question.
ANSWER, PRETRAIN, LONGEST, THRESHOLDS = 50, 30, 25, 20
# By rule; the rules that train have theirs from the plan, and a rule that is not named has none.
PRIORITIES = {
    "timing": 100,  # takes all cores: later it would wait for every training to end
    **dict.fromkeys(("mlflow_store", "question_runs", "track", *STEMS), ANSWER),
    **dict.fromkeys(("mnist", "imagenet_weights", "pretrain"), PRETRAIN),
    "learn_thresholds": THRESHOLDS,
}
LONGEST_NAME = 100  # a rule's name is part of the name of its log, which may have 255 bytes
Trainings = tuple[str, int, tuple[int, ...], list[str]]  # name, priority, seeds, arms


def training_work(settings: Settings) -> float:
    """Rough work of an arm, to start the longest trainings first."""
    images = steps_of(settings) * settings["batch_size"]
    if settings["model"] == "cnn":
        return float(images * settings["channels"] ** 2 * 300)
    if "patch_size" not in settings:
        # A CNN of timm costs about as much as EfficientNet-Lite0; an MLP hardly anything.
        return images * (1e7 if settings["model"] == "timm" else 1e5)
    tokens = (settings.get("img_size", 28) // settings["patch_size"]) ** 2 + 1
    # timm's models are taken for ViT-S, the only one that the study has.
    width, depth = settings.get("embed_dim", 384), settings.get("depth", 12)
    return float(images * tokens * width**2 * depth)


def training_together(plan: Plan) -> list[Trainings]:
    """Name, priority, seeds and arms of each rule that trains a method at all its label budgets.

    They are so short that starting a process for each would cost as much as the training.
    """
    groups: dict[tuple[str, tuple[int, ...]], list[str]] = {}
    for arm, one in plan.arms.items():
        if one.job:
            groups.setdefault((one.job, one.seeds), []).append(arm)
    several = len({job for job, _ in groups}) < len(groups)
    return [
        (
            f"train_{job}{_named(seeds) if several else ''}",
            of_question(asked_first(plan, arms[0])),
            seeds,
            arms,
        )
        for (job, seeds), arms in groups.items()
    ]


def pattern_of(arms: Iterable[str]) -> str:
    """A regular expression that matches these arms and nothing else.

    Thousands of them share a few slugs, each of which stands here once: Snakemake compiles the
    expression for every output of a rule, and tries it on every file of the others.
    """
    hashes: dict[str, list[str]] = {}
    for arm in arms:
        slug, _, code = arm.rpartition("-")
        hashes.setdefault(slug, []).append(re.escape(code))
    return "|".join(f"{re.escape(slug)}-(?:{'|'.join(codes)})" for slug, codes in hashes.items())


def priorities(plan: Plan) -> dict[str, int]:
    """Of every rule that has one."""
    training = (*training_rules(plan), *training_together(plan))
    return PRIORITIES | {name: priority for name, priority, _, _ in training}


def of_question(stem: str) -> int:
    """The priority of a question's trainings, 18 to 11."""
    return 10 + len(STEMS) - STEMS.index(stem)


def asked_first(plan: Plan, arm: str) -> str:
    """The first question that reads an arm; the base ViT is in the pictures of all."""
    return next(stem for stem in STEMS if arm in (*plan.arms_of(stem), plan.base))


def training_rules(plan: Plan) -> list[Trainings]:
    """Name, priority, seeds and arms of each rule that trains arms one by one.

    The outputs of a job are the runs of all its arm's seeds, so arms with other seeds need
    their own rule. So do the longest trainings: priorities are fixed numbers, and one of them
    started last would keep a single core busy at the end. The others are trained question by
    question, so that the first answers and their runs in MLflow can be looked at early.
    """
    alone = {arm: one for arm, one in plan.arms.items() if not one.job}
    work = {arm: training_work(one.settings) * len(one.seeds) for arm, one in alone.items()}
    long = 2 * sum(work.values()) / len(work)
    groups: dict[tuple[str, int, tuple[int, ...]], list[str]] = {}
    for arm, one in alone.items():
        stem = asked_first(plan, arm)
        longest = work[arm] > long
        name = "train_longest" if longest else f"train_{stem}"
        if one.seeds != plan.seeds:
            name += _named(one.seeds)
        priority = LONGEST if longest else of_question(stem)
        groups.setdefault((name, priority, one.seeds), []).append(arm)
    return [(*key, sorted(arms)) for key, arms in groups.items()]


def _named(seeds: tuple[int, ...]) -> str:
    """Seeds as part of a rule's name; many of them by a hash."""
    name = f"_seeds_{'_'.join(map(str, seeds))}"
    return name if len(name) <= LONGEST_NAME else f"_seeds_{digest({'seeds': list(seeds)})}"
