"""Q8c: two classifiers on the same test images, by McNemar's test."""

from __future__ import annotations

from typing import Any

import pandas as pd

from vitrail.analysis import mcnemar, p_words
from vitrail.questions.answer import markdown_table
from vitrail.questions.study import Study
from vitrail.runs import Experiment


def head_to_head(study: Study, experiment: Experiment) -> list[dict[str, Any]]:
    """McNemar's test of each arm against the reference, seed by seed."""
    rows = []
    truth = study.mnist.test_labels
    reference = experiment.member(experiment.reference)
    for member in experiment.members:
        for seed in experiment.seeds:
            ids = [reference.arm.arm_id, member.arm.arm_id]
            ran = [study.summary(arm, seed)["status"] == "finished" for arm in ids]
            if member is reference or not all(ran):
                continue
            first, second = (study.test_logits(arm, seed).argmax(axis=1) == truth for arm in ids)
            test = mcnemar(second, first)
            rows.append(
                {
                    "experiment": experiment.name,
                    "arm": member.label,
                    "reference": reference.label,
                    "seed": seed,
                    "only_arm_right": test.only_first,
                    "only_reference_right": test.only_second,
                    "p_value": test.p_value,
                }
            )
    return rows


def mcnemar_markdown(pairs: list[dict[str, Any]]) -> str:
    """The pairs of the first seed."""
    seed = min((row["seed"] for row in pairs), default=None)
    first = [row for row in pairs if row["seed"] == seed]
    if not first:
        return "No two arms ran, so there is nothing to test.\n"
    frame = pd.DataFrame(
        {
            "Arm": [row["arm"] for row in first],
            "Reference": [row["reference"] for row in first],
            "Only the arm is right": [row["only_arm_right"] for row in first],
            "Only the reference is right": [row["only_reference_right"] for row in first],
            "p": [p_words(row["p_value"]) for row in first],
        }
    )
    return markdown_table(
        frame,
        f"McNemar's exact test on the 10,000 test images, seed {seed}.",
        "q8-mcnemar",
        left=2,
    )
