"""The opening page: every question answered, with its number, its verdicts and what is missing."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pandas as pd
import pytest

from vitrail.config import STEMS
from vitrail.errors import VitrailError
from vitrail.opening import ASKED, answers, markdown
from vitrail.provenance import claims_table
from vitrail.questions.answer import Answer, Key

CLAIMS = pd.DataFrame(
    {
        "question": ["q2_mlp", "q2_mlp", "q8_transfer"],
        "id": ["q2-a", "q2-b", "q8-a"],
        "sentence": ["A holds.", "B holds.", "C holds."],
        "test": ["interval above zero", "difference below 1e-5", "interval above 3 points"],
        "evidence": ["+0.1", "1e-7", "an arm did not run"],
        "verdict": ["refuted", "supported", "undecided"],
    }
)
RUNS = pd.DataFrame(
    {
        "question": ["q2_mlp", "q8_transfer", "q8_transfer"],
        "status": ["finished", "not run", "not run"],
    }
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A study whose questions have answered, Q2 with a number."""
    for stem in STEMS:
        key = Key("+0.42 ± 0.20", "points, a | b") if stem == "q2_mlp" else Key("", "")
        Answer("long", pd.DataFrame(), short=f"Short {stem}.", key=key).save(tmp_path / stem)
    return tmp_path


def test_each_question_has_its_row(folder: Path) -> None:
    table = answers(folder, CLAIMS, RUNS).set_index("stem")
    assert list(table.index) == list(STEMS)
    mlp, transfer = table.loc["q2_mlp"], table.loc["q8_transfer"]
    assert (mlp["supported"], mlp["refuted"], mlp["undecided"], mlp["not_run"]) == (1, 1, 0, 0)
    assert (transfer["undecided"], transfer["not_run"]) == (1, 2)
    assert mlp["key"] == "+0.42 ± 0.20"


def test_the_table_shows_what_went_against_us(folder: Path) -> None:
    text = markdown(answers(folder, CLAIMS, RUNS))
    rows = {
        line.split("**")[1].split(".")[0]: line for line in text.splitlines() if "#sec-" in line
    }
    assert list(rows) == [f"Q{number}" for number in range(1, 9)]
    assert "[1 refuted]{.verdict .refuted}" in rows["Q2"]
    assert "[2 runs not made]{.verdict .notrun}" in rows["Q8"]
    assert "**+0.42 ± 0.20** points, a \\| b" in rows["Q2"]  # a bar would open a column
    assert "| – |" in rows["Q1"]  # no number is better than none that is named


def test_a_question_without_a_short_answer_is_named(folder: Path) -> None:
    file = folder / "q5_block" / "opening.json"
    file.write_text(json.dumps({"answer": "", "key": "", "key_name": ""}))
    with pytest.raises(VitrailError, match=r"q5_block.*no answer in short"):
        answers(folder, CLAIMS, RUNS)


@pytest.mark.parametrize("stem", STEMS)
def test_the_chapter_asks_what_the_opening_page_asks(stem: str, root: Path) -> None:
    chapter = (root / "report" / f"{stem}.qmd").read_text(encoding="utf-8")
    number = stem.split("_")[0]
    heading, question = re.match(
        r"## (.*?) \{#sec-\w+\}\n\n\*(.*?)\*\n\n", chapter, re.DOTALL
    ).groups()  # type: ignore[union-attr]
    assert heading == f"{number.upper()}. {ASKED[stem].title}"
    assert " ".join(question.split()) == ASKED[stem].question


def test_every_verdict_has_its_test_in_the_table_that_it_leads_to() -> None:
    text = claims_table(CLAIMS)
    for claim in CLAIMS.to_dict("records"):
        (line,) = (line for line in text.splitlines() if f"{{#claim-{claim['id']}}}" in line)
        assert claim["test"] in line
        assert f"[{claim['verdict']}]{{.verdict .{claim['verdict']}}}" in line
