"""The headline run, read from its run folders: scores, curves, rivals."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import pandas as pd

from vitrail.analysis import Estimate, McNemar, estimate, mcnemar
from vitrail.files import read_json
from vitrail.intact import intact
from vitrail.questions.headline.scores import (
    Calibration,
    OnLabelErrors,
    Predictions,
    Share,
    calibrate,
    on_label_errors,
    share,
)
from vitrail.questions.study import Study
from vitrail.runs import Experiment, Member
from vitrail.settings import run_id

STEM, NAME, YARDSTICKS = "q6_vit", "headline", "budget"


@dataclass(frozen=True)
class Rival:
    """Another trained network on the same test images, and McNemar's test against it."""

    name: str
    label: str
    seed: int
    accuracy: float
    test: McNemar
    run_id: str


@dataclass(frozen=True)
class Headline:
    """The finished seeds of the headline arm; pictures and probabilities are of the first."""

    study: Study
    experiment: Experiment
    seeds: tuple[int, ...]

    @property
    def member(self) -> Member:
        """The arm."""
        return self.experiment.members[0]

    @property
    def run_ids(self) -> list[str]:
        """The finished runs."""
        return [run_id(self.member.arm.arm_id, seed) for seed in self.seeds]

    @cached_property
    def summaries(self) -> list[dict[str, Any]]:
        """summary.json of each finished seed."""
        return [self.study.summary(self.member.arm.arm_id, seed) for seed in self.seeds]

    @cached_property
    def facts(self) -> dict[str, Any]:
        """env.json of the first finished seed: where it was computed."""
        folder = self.study.run_folder(self.member.arm.arm_id, self.seeds[0])
        return dict(read_json(intact(folder, "env.json")))

    @cached_property
    def predictions(self) -> Predictions:
        """The first finished seed on the test set."""
        logits = self.study.test_logits(self.member.arm.arm_id, self.seeds[0])
        return Predictions.from_logits(logits, self.study.mnist.test_labels)

    @cached_property
    def score(self) -> Share:
        """Test images that the first finished seed reads right."""
        right = self.predictions.right
        return share(int(right.sum()), len(right))

    @property
    def accuracy(self) -> Estimate:
        """Mean test accuracy over the finished seeds."""
        return estimate([summary["test_accuracy"] for summary in self.summaries])

    @cached_property
    def curves(self) -> list[pd.DataFrame]:
        """History of each finished seed, with the minutes of training until each row."""
        curves = []
        for seed in self.seeds:
            folder = self.study.run_folder(self.member.arm.arm_id, seed)
            clock = pd.read_csv(intact(folder, "timing.csv"))
            curve = pd.read_csv(intact(folder, "history.csv")).merge(clock, on="step")
            curves.append(curve.assign(seed=seed, minutes=curve["seconds"] / 60))
        return curves

    @cached_property
    def calibration(self) -> Calibration:
        """Of the first finished seed."""
        return calibrate(self.predictions)

    @cached_property
    def on_label_errors(self) -> OnLabelErrors:
        """Of the first finished seed."""
        return on_label_errors(self.predictions)

    @cached_property
    def rivals(self) -> list[Rival]:
        """The finished arms of the experiment `budget`, at the same seed where they have it."""
        found = []
        for experiment in self.study.plan.of_question(STEM):
            if experiment.name != YARDSTICKS:
                continue
            for member in experiment.members:
                seeds = self.study.finished_seeds(member.arm.arm_id, experiment.seeds)
                if member.arm.arm_id == self.member.arm.arm_id or not seeds:
                    continue
                seed = self.seeds[0] if self.seeds[0] in seeds else seeds[0]
                logits = self.study.test_logits(member.arm.arm_id, seed)
                right = logits.argmax(axis=1) == self.predictions.labels
                test = mcnemar(self.predictions.right, right)
                run, share_right = run_id(member.arm.arm_id, seed), float(right.mean())
                found.append(Rival(member.name, member.label, seed, share_right, test, run))
        return found
