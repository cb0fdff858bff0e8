"""Q8c: two classifiers on the same test images, by McNemar's test."""

from __future__ import annotations

from typing import Any

import pandas as pd

from vitrail.analysis import mcnemar, p_words
from vitrail.questions.answer import markdown_table
from vitrail.questions.study import Study
from vitrail.runs import Experiment

COLUMNS = [
    *("experiment", "first", "second", "seed"),
    *("only_first_right", "only_second_right", "p_value"),
]
LEVEL = 0.05


def head_to_head(study: Study, experiment: Experiment) -> pd.DataFrame:
    """McNemar's test of each pair that a claim of the experiment is about, seed by seed.

    One row per pair and seed in which both ran, with the columns of `COLUMNS`.
    """
    rows = []
    truth = study.mnist.test_labels
    pairs = {(str(claim["better"]), str(claim["worse"])): None for claim in experiment.claims}
    for names in pairs:
        first, second = (experiment.member(name) for name in names)
        for seed in experiment.seeds:
            ids = [first.arm.arm_id, second.arm.arm_id]
            if any(study.summary(arm, seed)["status"] != "finished" for arm in ids):
                continue
            right = [study.test_logits(arm, seed).argmax(axis=1) == truth for arm in ids]
            test = mcnemar(*right)
            counts = (test.only_first, test.only_second, test.p_value)
            rows.append((experiment.name, first.label, second.label, seed, *counts))
    return pd.DataFrame(rows, columns=COLUMNS)


def mcnemar_markdown(pairs: pd.DataFrame) -> str:
    """One row per pair: counts and p of every seed, and in how many seeds the pair differs."""
    if pairs.empty:
        return "No two arms of a claim ran, so there is nothing to test.\n"
    rows: list[dict[str, Any]] = []
    for (first, second), mine in pairs.groupby(["first", "second"], sort=False):
        clear = mine["p_value"] < LEVEL
        ahead = mine["only_first_right"] > mine["only_second_right"]
        rows.append(
            {
                "First": first,
                "Second": second,
                "Only the first is right": _listed(mine["only_first_right"]),
                "Only the second is right": _listed(mine["only_second_right"]),
                "p": ", ".join(p_words(value) for value in mine["p_value"]),
                "First ahead": f"{(clear & ahead).sum()} of {len(mine)}",
                "Second ahead": f"{(clear & ~ahead).sum()} of {len(mine)}",
            }
        )
    seeds = ", ".join(str(seed) for seed in sorted(pairs["seed"].unique()))
    return markdown_table(
        pd.DataFrame(rows),
        "McNemar's exact test of the pairs that the claims name, on the same test images, "
        f"for each seed ({seeds}) by itself: images that only one of the two gets right, and in "
        f"how many seeds one is ahead with p < {LEVEL:g}. It asks about other images, the "
        "intervals above about other trainings.",
        "q8-mcnemar",
        left=2,
    )


def _listed(values: pd.Series[int]) -> str:
    return ", ".join(f"{value:,}" for value in values)
