"""Where figures and tables come from: noted when they are made, told below them in the report."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from html import unescape
from pathlib import Path
from urllib.parse import unquote

import matplotlib.pyplot as plt
import pandas as pd
import pytest
from matplotlib.figure import Figure

from made_report import RENDERS, add, built, make_project, words_of
from vitrail import style
from vitrail.errors import VitrailError
from vitrail.questions.answer import Answer, markdown_table
from vitrail.report.render import render
from vitrail.report.source import Text
from vitrail.report.source_lines import Origin, SourceLines, with_source_lines

ROOT = Path(__file__).resolve().parents[1]
FRAME = pd.DataFrame({"arm": ["a"], "errors": [281]})


def line_of(text: str) -> int:
    """Where a line of this file is, counted from 1."""
    lines = Path(__file__).read_text(encoding="utf-8").splitlines()
    return 1 + lines.index(text)


def drawn(frame: pd.DataFrame) -> Figure:
    """A figure of nothing."""
    del frame
    return plt.figure(figsize=(style.WIDTH, 1))


def drawn_with_data() -> tuple[Figure, pd.DataFrame]:
    """The same with what it shows."""
    return drawn(FRAME), FRAME


def printed(frame: pd.DataFrame) -> str:
    """A table with a label."""
    return markdown_table(frame, "The arms.", "q1-arms")


@pytest.fixture
def here_is_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    """The functions of this file stand in for those of the package."""
    monkeypatch.setattr("vitrail.questions.sources.PACKAGE", Path(__file__).parent)


@pytest.mark.usefixtures("here_is_the_package")
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


@pytest.mark.usefixtures("here_is_the_package")
def test_nothing_is_saved_without_a_source(tmp_path: Path) -> None:
    answer = Answer("", FRAME, figures={"lost": drawn(FRAME)}, tables={"t": printed(FRAME)})
    with pytest.raises(VitrailError, match=r"q1: the figure 'lost', the table 'q1-arms' has no"):
        answer.save(tmp_path / "q1")
    assert not (tmp_path / "q1").exists()


@pytest.mark.usefixtures("here_is_the_package")
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


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A small project, see `made_report`."""
    return make_project(tmp_path)


SOURCE = re.compile(r'<div class="source">.*?</div>', re.DOTALL)
LINE = "Data table.csv · Code a.py, line 2 at"


def links(html: str) -> list[str]:
    """Where the lines below figures and tables lead."""
    found = [link for line in SOURCE.findall(html) for link in re.findall('href="([^"]+)"', line)]
    return [unescape(link) for link in found]


@RENDERS
def test_every_figure_and_table_has_its_line_in_page_and_pdf(project: Path) -> None:
    html, _ = built(project)
    lines = [words_of(line) for line in SOURCE.findall(html)]
    # A figure, two side by side, a table of a question, and one that is typed in the chapter.
    assert [line.startswith(LINE) for line in lines] == [True, True, True, True, False]
    assert all("3 runs vit-1a2b: -s0, -s1; cnn-3c4d: -s0" in line for line in lines[:3])
    assert "From a test" in lines[3] and "runs" not in lines[3]
    where = (project / "report" / "q1_patch_embedding.qmd").read_text().splitlines()
    typed = 1 + where.index(": Tokens {#tbl-pipe}")
    assert lines[4].startswith(f"Text q1_patch_embedding.qmd, line {typed} at")
    after = html.index('class="source"')
    assert html.rindex("<figcaption>", 0, after) > html.rindex('id="fig-curve"', 0, after)
    if shutil.which("pdftotext"):
        pdf = project / "results" / "tiny" / "report" / "report.pdf"
        done = subprocess.run(["pdftotext", pdf, "-"], capture_output=True, text=True, check=True)
        words = " ".join(done.stdout.split())
        assert words.count(LINE) == 4 and words.count("· 3 runs") == 3
        assert "vit-1a2b" not in words and "Text q1_patch_embedding.qmd" in words


@RENDERS
def test_links_lead_to_files_that_are_there(project: Path) -> None:
    """From the folder of the report, wherever the project lies."""
    html, _ = built(project)
    folder = project / "results" / "tiny" / "report"
    files = {(folder / unquote(link)).resolve() for link in links(html)}
    assert files == {
        project / "results" / "tiny" / "q1_patch_embedding" / "table.csv",
        project / "src" / "a.py",
        project / "report" / "q1_patch_embedding.qmd",
    }
    assert all(file.is_file() for file in files)


@RENDERS
def test_with_a_repository_code_is_linked_at_its_commit(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vitrail.report.render.commit", lambda _: "0123456789ab-dirty")
    address = "https://example.org/me/vitrail/"
    render("tiny", project / "results", project / "report", project, repository=address)
    html = (project / "results" / "tiny" / "report" / "report.html").read_text()
    assert "https://example.org/me/vitrail/blob/0123456789ab/src/a.py#L2" in links(html)
    assert "a.py, line 2 at 0123456 and changes" in words_of(html)


@RENDERS
def test_links_to_mlflow_do_not_depend_on_its_random_ids(project: Path) -> None:
    pages = []
    for random in ("f00d", "beef"):
        for number, folder in enumerate(sorted((project / "results" / "tiny").glob("q*")), 1):
            runs = ["vit-1a2b-s0", "vit-1a2b-s1"] if number == 1 else ["cnn-3c4d-s0"]
            tracked = {"experiment_id": str(number), "runs": dict.fromkeys(runs, random)}
            (folder / "tracking.json").write_text(json.dumps(tracked))
        mlflow = "http://127.0.0.1:5000"
        render("tiny", project / "results", project / "report", project, mlflow=mlflow)
        pages.append((project / "results" / "tiny" / "report" / "report.html").read_text())
    assert pages[0] == pages[1]
    found = [unquote(link) for link in links(pages[0]) if link.startswith("http")]
    # The experiment of the question and its results; an arm in the experiment that keeps it.
    start, end = "http://127.0.0.1:5000/#/experiments/", "/runs?workflowType=machine_learning"
    assert f"{start}1{end}&searchFilter=" in found
    assert f"{start}1{end}&searchFilter=attributes.run_name = 'results'" in found
    assert f"{start}1{end}&searchFilter=tags.`vitrail.arm_id` = 'vit-1a2b'" in found
    assert f"{start}8{end}&searchFilter=tags.`vitrail.arm_id` = 'cnn-3c4d'" in found


UNKNOWN = {
    "figure": ("![c](figures/q2_mlp/b.svg){#fig-b}", r"q2_mlp\.qmd:5: the figure figures/q2_mlp/b"),
    "in a row": (
        "::: {#fig-c layout-ncol=2}\n\n![c](figures/q2_mlp/b.svg){#fig-b}\n\nC.\n:::",
        r"q2_mlp\.qmd:7: the figure figures/q2_mlp/b\.svg has no source",
    ),
    "table": ("{{< include tables/q2_mlp/lost.md >}}", r"lost\.md:1: the table #tbl-lost has no"),
    "table in a division": (
        "::: {#tbl-gone}\n\n{{< include tables/q2_mlp/arms.md >}}\n\nC.\n:::",
        r"q2_mlp\.qmd:5: the table #tbl-gone has no source",
    ),
}


@pytest.mark.parametrize("name", UNKNOWN)
def test_what_has_no_source_is_named_with_its_place(project: Path, name: str) -> None:
    text, message = UNKNOWN[name]
    made = project / "results" / "tiny" / "q2_mlp"
    shutil.copyfile(made / "figures" / "a.svg", made / "figures" / "b.svg")
    (made / "tables" / "lost.md").write_text("| a |\n|:--|\n| 1 |\n: Lost {#tbl-lost}\n")
    add(project, text)
    with pytest.raises(VitrailError, match=message):
        built(project)
    assert not (project / "results" / "tiny" / "report").exists()


def test_a_removed_record_is_missed(project: Path) -> None:
    (project / "results" / "tiny" / "q1_patch_embedding" / "sources.json").unlink()
    with pytest.raises(VitrailError, match=r"figures/q1_patch_embedding/a\.svg has no source"):
        built(project)


def test_added_lines_keep_the_places_of_the_others(project: Path) -> None:
    """What is said of the text after it still names the line of the chapter."""
    lines = SourceLines(Origin(project / "results" / "tiny", project), project)
    (project / "figures" / "q2_mlp").mkdir(parents=True)
    (project / "figures" / "q2_mlp" / "a.svg").touch()
    typed = [
        "```", "![no](figures/q2_mlp/a.svg)", "```", "", "![yes](figures/q2_mlp/a.svg){#fig-y", "}",
        "", "The ![swatch](figures/q2_mlp/a.svg) in a line.", "@fig-y",
    ]  # fmt: skip
    text = Text(typed, [("a.qmd", number) for number in range(1, 10)])
    made = with_source_lines(text, lines)
    assert [line for line in made.lines if not line.startswith((":::", "Data", "vit"))] == [
        *typed[:6], "", "", "", *typed[6:],
    ]  # fmt: skip
    assert made.where("@fig-y") == "a.qmd:9" and str(made).count("::: {.source}") == 1
