"""Which source files decide the outcome of a training.

They are inputs of the rules that train, and a part of what identifies unfinished work: one
list for both. Snakemake reads it each time it parses the workflow.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

PACKAGE = Path(__file__).parent
MODEL = ("model/*.py", "networks.py", "efficiency.py")
# Of every optimiser's steps, on whatever data.
STEPS = (
    *("optimizers.py", "muon.py", "data.py", "device.py", "resume.py", "run_folder.py"),
    "settings.py",
)
TRAIN = (
    *MODEL,
    *STEPS,
    *("train.py", "gradients.py", "augment.py", "sam.py", "selection.py", "growing.py"),
    *("linear_probe.py", "few_labels.py", "early_stopping.py", "distillation.py"),
)
PRETRAIN = (*MODEL, *STEPS, "pretraining/*.py", "formula/*.py")
# How ImageNet weights are read. No inputs of the rules, where the weights themselves are; but
# work that is not finished is gone on from by the very code that made it.
READING = ("weights.py", "checkpoint.py")


def files(patterns: Iterable[str]) -> list[Path]:
    """The files of the package that some patterns name, in the order of the patterns."""
    return [path for pattern in patterns for path in sorted(PACKAGE.glob(pattern))]
