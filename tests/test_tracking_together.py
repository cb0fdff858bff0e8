"""Eight syncs at once, on the database in the results: nothing lost, nothing doubled."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("mlflow", reason="MLflow is not installed")

from together import eight_for_one_question, eight_questions
from vitrail import tracking  # noqa: F401  (turns telemetry off before MLflow is imported)


def test_eight_syncs_at_once(results: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for at_once in (eight_questions, eight_for_one_question):
        told = at_once(results)
        with capsys.disabled():
            print(f"\n  SQLite, {told}")
