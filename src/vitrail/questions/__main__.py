"""Answer one question from the finished runs: `python -m vitrail.questions q6_vit ...`."""

from __future__ import annotations

import argparse
import importlib
import json
from pathlib import Path

from vitrail import style
from vitrail.config import STEMS
from vitrail.errors import run_command
from vitrail.questions import plain_text
from vitrail.questions.study import Study


def main() -> None:
    parser = argparse.ArgumentParser(description="Answer one question from the finished runs.")
    parser.add_argument("stem", choices=STEMS)
    parser.add_argument("--config", type=json.loads, required=True, help="the config as JSON")
    parser.add_argument("--results", type=Path, required=True)
    arguments = parser.parse_args()

    style.use()
    study = Study(plain_text.shielded(arguments.config), arguments.results)
    module = importlib.import_module(f"vitrail.questions.{arguments.stem}")
    answer = module.answer(study)
    answer.save(study.folder / arguments.stem)
    print(f"{arguments.stem}: {plain_text.as_text(answer.sentence)}")


if __name__ == "__main__":
    run_command(main)
