"""What a question may read: the plan, the finished runs, their curves and weights."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from vitrail.config import Config
from vitrail.errors import VitrailError
from vitrail.files import read_json
from vitrail.intact import intact, read_summary
from vitrail.questions.sources import Basis
from vitrail.runs import Experiment, Plan, expand
from vitrail.settings import run_id

if TYPE_CHECKING:
    from torch import nn

    from vitrail.data import Mnist


@dataclass(frozen=True)
class Study:
    """The finished part of a study, as one question sees it."""

    config: Config
    results: Path

    @cached_property
    def plan(self) -> Plan:
        """Arms and experiments of the config."""
        return expand(self.config)

    @property
    def folder(self) -> Path:
        """results/<study>."""
        return self.results / self.plan.study

    @cached_property
    def mnist(self) -> Mnist:
        """The data of every run."""
        from vitrail.data import load_mnist

        return load_mnist(self.results / "data", verify=True)

    def run_folder(self, arm_id: str, seed: int) -> Path:
        """Where a run lies."""
        return self.folder / "runs" / run_id(arm_id, seed)

    def summary(self, arm_id: str, seed: int) -> dict[str, Any]:
        """The figures of a run, or the reason why there are none."""
        folder = self.run_folder(arm_id, seed)
        if folder not in self._summaries:
            self._summaries[folder] = read_summary(folder)
        return self._summaries[folder]

    def finished_seeds(self, arm_id: str, asked: tuple[int, ...] | None = None) -> tuple[int, ...]:
        """The seeds of an arm, or those asked for, whose run ended with a trained network."""
        seeds = self.plan.arms[arm_id].seeds if asked is None else asked
        return tuple(s for s in seeds if self.summary(arm_id, s)["status"] == "finished")

    def run_ids(self, arms: Iterable[str], seeds: tuple[int, ...] | None = None) -> Basis:
        """The finished runs of some arms, as the source of what was made of them."""
        found = [run_id(arm, seed) for arm in arms for seed in self.finished_seeds(arm, seeds)]
        return found or "no run, for none finished"

    def runs_of(self, experiment: Experiment) -> Basis:
        """The finished runs of an experiment, in the same way."""
        return self.run_ids([m.arm.arm_id for m in experiment.members], experiment.seeds)

    @property
    def first_run(self) -> list[str]:
        """The run that pictures show: the first seed of the base ViT."""
        return [run_id(self.plan.base, self.plan.arms[self.plan.base].seeds[0])]

    @cached_property
    def _summaries(self) -> dict[Path, dict[str, Any]]:
        """What was read: tables, figures and claims ask for the same runs many times."""
        return {}

    def runs(self, experiment: Experiment) -> pd.DataFrame:
        """One row per run of an experiment: arm, label, seed and the summary's figures."""
        rows = []
        for member in experiment.members:
            for seed in experiment.seeds:
                summary = self.summary(member.arm.arm_id, seed)
                rows.append(
                    {
                        "arm": member.name,
                        "label": member.label,
                        "model": member.arm.settings["model"],
                        "run_id": run_id(member.arm.arm_id, seed),
                        "seed": seed,
                        **{key: value for key, value in summary.items() if key != "files"},
                    }
                )
        return pd.DataFrame(rows)

    def histories(self, experiment: Experiment) -> pd.DataFrame:
        """The curves of all finished runs of an experiment, with arm, label and seed."""
        frames = []
        for member in experiment.members:
            for seed in experiment.seeds:
                if self.summary(member.arm.arm_id, seed)["status"] == "finished":
                    folder = self.run_folder(member.arm.arm_id, seed)
                    curve = pd.read_csv(intact(folder, "history.csv"))
                    frames.append(curve.assign(arm=member.name, label=member.label, seed=seed))
        return pd.concat(frames, ignore_index=True) if frames else pd.DataFrame()

    def accuracy_by_seed(self, experiment: Experiment, arm: str) -> dict[int, float]:
        """Test accuracy of each finished run of an arm."""
        runs = self.runs(experiment)
        finished = runs[(runs["arm"] == arm) & (runs["status"] == "finished")]
        return dict(zip(finished["seed"], finished["test_accuracy"], strict=True))

    def test_logits(self, arm_id: str, seed: int) -> np.ndarray:
        """Logits on the test set, (10000, 10)."""
        path = intact(self.run_folder(arm_id, seed), "predictions.npz")
        try:
            with np.load(path, allow_pickle=False) as stored:
                return stored["test_logits"]
        except (OSError, ValueError, KeyError) as error:
            raise VitrailError(
                f"{path} is missing or damaged ({error}); delete its folder and run again"
            ) from error

    def network(self, arm_id: str, seed: int | None = None) -> nn.Module:
        """The trained network of an arm, by default of the first seed."""
        from vitrail.networks import load_run

        first = self.plan.arms[arm_id].seeds[0]
        return load_run(self.run_folder(arm_id, first if seed is None else seed))

    def images(self, count: int, arm_id: str) -> tuple[Any, np.ndarray]:
        """The first test image of each of `count` digits: (normalised tensor, raw pixels)."""
        import torch

        from vitrail.train import pixels

        labels = self.mnist.test_labels
        chosen = [int(np.flatnonzero(labels == digit)[0]) for digit in range(count)]
        raw = self.mnist.test_images[chosen]
        settings = self.plan.arms[arm_id].settings
        return pixels(raw, settings, torch.device("cpu")), raw

    @property
    def hardware(self) -> str:
        """Where the first run of the base arm was computed, for captions."""
        folder = self.run_folder(self.plan.base, self.plan.seeds[0])
        facts = read_json(intact(folder, "env.json"))
        return f"{facts['hardware']}, {facts['threads']} thread, torch {facts['versions']['torch']}"
