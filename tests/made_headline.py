"""A study with a headline run whose logits are written by hand."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from vitrail.claims import Claim
from vitrail.data import Mnist
from vitrail.label_errors import LABEL_ERRORS
from vitrail.questions.headline.add import numbers
from vitrail.questions.headline.claims import decide
from vitrail.questions.headline.page import page
from vitrail.questions.headline.run import Headline
from vitrail.questions.study import Study

IMAGES = 10_000


def noise() -> Mnist:
    """Noise with the labels of MNIST at the 15 places of the list."""
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 10, IMAGES, dtype=np.uint8)
    for error in LABEL_ERRORS:
        labels[error.index] = error.given
    images = rng.integers(0, 256, (IMAGES, 28, 28), dtype=np.uint8)
    return Mnist(images[:1], labels[:1], images, labels)


def answering(labels: np.ndarray, changed: dict[int, int], margin: float = 12.0) -> np.ndarray:
    """Logits whose answers are the labels but for the changed images; less sure of those."""
    answers = labels.astype(int)
    sure = np.full(len(labels), margin)
    for index, answer in changed.items():
        answers[index], sure[index] = answer, 3.0
    logits = np.zeros((len(labels), 10), dtype=np.float32)
    logits[np.arange(len(labels)), answers] = sure
    return logits


def misread(labels: np.ndarray, count: int, start: int = 100) -> dict[int, int]:
    """`count` images from `start` on, none of them on the list, read as the next digit."""
    listed = {error.index for error in LABEL_ERRORS}
    chosen = [index for index in range(start, IMAGES) if index not in listed][:count]
    return {index: int(labels[index] + 1) % 10 for index in chosen}


@dataclass
class Made:
    """A study in a folder whose runs are written by hand."""

    study: Study
    labels: np.ndarray
    answers: dict[str, Any] = field(default_factory=dict)

    def run(
        self,
        experiment: str,
        arm: str,
        changed: dict[int, int],
        seed: int = 0,
        margin: float = 12.0,
        **given: Any,
    ) -> None:
        """Write the run folder of an arm that misreads the changed images."""
        facts = {"train_loss": 0.02, "val_loss": 0.03, "parameters": 300_000, **given}
        logits = answering(self.labels, changed, margin)
        right = float((logits.argmax(axis=1) == self.labels).mean())
        summary = {
            "status": "finished", "reason": "", "macs": 2_000_000, "samples": 200_000,
            "test_accuracy": right, "val_accuracy": 0.993, **facts,
        }  # fmt: skip
        folder = self._folder(experiment, arm, seed, summary)
        np.savez_compressed(folder / "predictions.npz", test_logits=logits)
        pd.DataFrame(
            {
                "step": [10, 20],
                "samples": [100_000, 200_000],
                "train_loss": [0.3, facts["train_loss"]],
                "val_loss": [0.2, facts["val_loss"]],
                "val_accuracy": [0.981, facts.get("val_accuracy", 0.993)],
            }
        ).to_csv(folder / "history.csv", index=False)
        clock = pd.DataFrame({"step": [10, 20], "seconds": [300.0, 630.0]})
        clock.to_csv(folder / "timing.csv", index=False)

    def not_run(self, experiment: str, arm: str, reason: str, seed: int = 0) -> None:
        """Write the folder of a run that could not be made."""
        self._folder(experiment, arm, seed, {"status": "not run", "reason": reason})

    def _folder(self, experiment: str, arm: str, seed: int, summary: dict[str, Any]) -> Path:
        block = next(e for e in self.study.plan.of_question("q6_vit") if e.name == experiment)
        folder = self.study.run_folder(block.member(arm).arm.arm_id, seed)
        folder.mkdir(parents=True)
        (folder / "summary.json").write_text(json.dumps(summary))
        (folder / "env.json").write_text(json.dumps({"hardware": "a test", "threads": 1}))
        return folder

    def headline(self) -> Headline:
        """The headline run as the report reads it."""
        block = self.study.plan.of_question("q6_vit")[-1]
        return Headline(
            self.study, block, self.study.finished_seeds(block.members[0].arm.arm_id, block.seeds)
        )

    def claims(self) -> dict[str, Claim]:
        return {claim.id: claim for claim in decide(self.headline())}

    def page(self) -> str:
        """The page with its line ends as blanks."""
        headline = self.headline()
        return " ".join(page(headline, numbers(headline)).split())
