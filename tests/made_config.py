"""Configs with the experiments that a test asks for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from vitrail.config import STEMS, validate

ROOT = Path(__file__).parents[1]
SCHEMA = ROOT / "workflow" / "schemas" / "config.schema.yaml"
Config = dict[str, Any]


def with_experiments(config: Config, stem: str = "q2_mlp", **experiments: Any) -> Config:
    """A config that holds these experiments of one question and nothing else."""
    for name in STEMS:
        config["questions"][name].pop("experiments", None)
    config["questions"][stem]["experiments"] = experiments
    validate(config, SCHEMA)
    return config


def experiment(**content: Any) -> Config:
    return {"title": "An experiment", **content}
