"""Where figures and tables come from: noted when they are made, told below them in the report."""

from __future__ import annotations

import json
from pathlib import Path

import matplotlib.pyplot as plt
import pandas as pd
import pytest
from matplotlib.figure import Figure

from vitrail.errors import VitrailError
from vitrail.questions.answer import Answer, markdown_table

ROOT = Path(__file__).resolve().parents[1]
FRAME = pd.DataFrame({"arm": ["a"], "errors": [281]})


def line_of(text: str) -> int:
    """Where a line of this file is, counted from 1."""
    lines = Path(__file__).read_text(encoding="utf-8").splitlines()
    return 1 + lines.index(text)


def drawn(frame: pd.DataFrame) -> Figure:
    """A figure of nothing."""
    del frame
    return plt.figure(figsize=(1, 1))


def drawn_with_data() -> tuple[Figure, pd.DataFrame]:
    """The same with what it shows."""
    return drawn(FRAME), FRAME


def printed(frame: pd.DataFrame) -> str:
    """A table with a label."""
    return markdown_table(frame, "The arms.", "q1-arms")


@pytest.fixture(autouse=True)
def here_is_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    """The functions of this file stand in for those of the package."""
    monkeypatch.setattr("vitrail.questions.sources.PACKAGE", Path(__file__).parent)


def test_what_is_made_has_its_data_code_and_runs(tmp_path: Path) -> None:
    answer = Answer("", FRAME)
    answer.draw("one", drawn, FRAME, data="table", runs=["a-s0", "a-s1", "a-s0"])
    answer.draw("two", drawn_with_data, runs="a formula")
    answer.tabulate("arms", printed, FRAME, data=FRAME, runs=["a-s0"])
    answer.save(tmp_path / "q1")
    found = json.loads((tmp_path / "q1" / "sources.json").read_text())
    one, two = found["figures"]["one"], found["figures"]["two"]
    assert one["data"] == ["q1/table.csv"] and one["runs"] == ["a-s0", "a-s1"]
    assert one["code"] == {
        "file": "src/vitrail/test_sources.py",
        "line": line_of("def drawn(frame: pd.DataFrame) -> Figure:"),
    }
    assert (two["data"], two["runs"], two["basis"]) == (["q1/two.csv"], [], "a formula")
    assert found["tables"]["q1-arms"]["data"] == ["q1/arms.csv"]
    for name in ("table", "two", "arms"):
        assert (tmp_path / "q1" / f"{name}.csv").read_text() == "arm,errors\na,281\n"


def test_nothing_is_saved_without_a_source(tmp_path: Path) -> None:
    answer = Answer("", FRAME, figures={"lost": drawn(FRAME)}, tables={"t": printed(FRAME)})
    with pytest.raises(VitrailError, match=r"q1: the figure 'lost', the table 'q1-arms' has no"):
        answer.save(tmp_path / "q1")
    assert not (tmp_path / "q1").exists()


def test_a_source_names_data_and_runs_that_are_there(tmp_path: Path) -> None:
    answer = Answer("", FRAME)
    with pytest.raises(VitrailError, match=r"test_sources\.py:\d+: what drawn makes names neither"):
        answer.draw("one", drawn, FRAME, data="table", runs=[])
    answer.draw("one", drawn, FRAME, data="tabel", runs="a formula")
    with pytest.raises(VitrailError, match=r"'one' is said to come from tabel.*known: table$"):
        answer.save(tmp_path / "q1")


def test_data_of_an_earlier_config_go_away(tmp_path: Path) -> None:
    for name in ("gone.csv", "runs.csv"):  # the second is written by another step
        (tmp_path / name).touch()
    Answer("", FRAME).save(tmp_path)
    assert not (tmp_path / "gone.csv").exists() and (tmp_path / "runs.csv").exists()
