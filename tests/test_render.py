"""The report renderer: what it understands, what it refuses, and what it promises."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from made_report import RENDERS, add, built, make_project, words_of
from vitrail.errors import VitrailError
from vitrail.report.check import check_html, check_pdf, hand_typed_results, remote_loads
from vitrail.report.source import expand
from vitrail.report.stage import stage

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """The small project of `made_report`."""
    return make_project(tmp_path)


@RENDERS
def test_page_understands_every_construct(project: Path) -> None:
    html, _ = built(project)
    words = words_of(html)
    assert "91.20 % ± 0.30 of them." in words
    assert "in Figure 1, Figure 2 (a), Table 1, Table 2, Equation 1, Section 2 and" in words
    assert "Figure 2, Table 1, after Vaswani (2017) and (Vaswani 2017, p. 3)" in words
    assert "Made by the built-in route (pandoc " in words and "on 60,000." in words
    assert "Figure 1. Slope matters at 91.20 % ± 0.30." in words
    assert "(a) One head" in words and "Figure 2. Two views." in words
    assert words.index("Table 1. The arms.") < words.index("281")
    assert "src/a.py:2" in words and "On scale" in words and "Folded" in words
    assert "{{< var x >}} is how" in words
    assert '<span class="verdict refuted">refuted</span>' in html
    assert 'alt="A rising curve"' in html and html.count("data:image/svg+xml;base64,") == 3
    assert (
        html.count("<details class=") == 1 and "<math " in html and '<div class="answer">' in html
    )
    assert "<title>A &amp; B</title>" in html
    contents = html[html.index("<nav") : html.index("</nav>")]
    assert 'href="#sec-reading"' in contents and "1.1" in contents


@RENDERS
def test_page_fetches_nothing(project: Path) -> None:
    html, _ = built(project)
    assert remote_loads(html) == []
    assert "<script" not in html and "<link" not in html
    assert not re.search(r"(?:src|srcset)=\"(?!data:)|url\(|@import|@font-face", html)


@RENDERS
def test_pdf_has_the_same_numbers(project: Path) -> None:
    if not shutil.which("pdftotext"):
        pytest.skip("pdftotext (poppler) is not installed")
    html, _ = built(project)
    pdf = project / "results" / "tiny" / "report" / "report.pdf"
    done = subprocess.run(["pdftotext", pdf, "-"], capture_output=True, text=True, check=True)
    words = " ".join(done.stdout.replace("\u00a0", " ").split())
    assert "in Figure 1, Figure 2 (a), Table 1, Table 2, Equation 1, Section 2 and" in words
    assert "Figure 2, Table 1, after Vaswani (2017) and (Vaswani 2017, p. 3)" in words
    for text in ("Figure 1. Slope", "(a) One head", "Table 2. Tokens", "91.20 % ± 0.30 of them"):
        assert text in words
    for text in ("On scale", "Inside the fold.", "src/a.py:2", "ANSWER", "supported"):
        assert text in words
    for number in range(2, 9):
        assert f"{number} Question {number}" in words and f"{number} Question" in words_of(html)


@RENDERS
def test_same_input_gives_the_same_bytes(project: Path) -> None:
    first = built(project)
    os.utime(project / "report" / "report.qmd", (1, 1))
    assert built(project) == first


@RENDERS
def test_wide_table_stays_on_the_page(project: Path) -> None:
    head = " | ".join(f"column {number}" for number in range(11))
    row = " | ".join(["a rather long label of an arm", *["97.20 % ± 0.30"] * 10])
    add(project, f"| {head} |\n|:--{'|--:' * 10}|\n| {row} |\n\n: Wide {{#tbl-wide}}")
    built(project)
    typ = (project / "results" / "tiny" / "report_build" / "report.typ").read_text()
    size = float(re.search(r"#fitted\(([\d.]+)pt\)", typ).group(1))  # type: ignore[union-attr]
    table = typ[typ.index("#fitted(") :]
    widths = re.search(r"columns: \((.*?)\)", table).group(1)  # type: ignore[union-attr]
    shares = [float(width) for width in re.findall(r"([\d.]+)%", widths)]
    assert 6 <= size < 9 and len(shares) == 11 and sum(shares) < 100.1


REFUSED = {
    "include outside": ("{{< include ../../../../../../etc/passwd >}}", r"q2_mlp\.qmd:5"),
    "variable that is a group": ("{{< var q2.base >}}", r"q2_mlp\.qmd:5: .*'q2\.base'"),
    "other shortcode": ("{{< video x.mp4 >}}", r"q2_mlp\.qmd:5: .*video"),
    "executable cell": ("```{python}\n1\n```", r"q2_mlp\.qmd:5: .*executable"),
    "remote image": ("![c](https://example.org/x.png)", r"example\.org/x\.png"),
    "id twice": ("$$ x $$ {#eq-loss}", r"'eq-loss' is used twice"),
    "caption": ("::: {#fig-z}\n\n![](figures/q2_mlp/a.svg){#fig-y}\n:::", r"'fig-z' needs a cap"),
    "table too wide": (f"|{'x|' * 60}\n|{'--:|' * 60}\n|{'97.20|' * 60}", "60 columns is too wide"),
    "formula": ("$\\nosuchcommand{x}$", r"nosuchcommand"),
}


@RENDERS
@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_rendered_is_named(project: Path, name: str) -> None:
    text, message = REFUSED[name]
    add(project, text, "q2_mlp")
    with pytest.raises(VitrailError, match=message):
        built(project)
    assert not (project / "results" / "tiny" / "report").exists()


@RENDERS
@pytest.mark.parametrize(
    ("file", "old", "new", "message"),
    [
        ("report.qmd", 'title: "A & B"', 'title: "A" B', r"report\.qmd:1: YAML"),
        ("report.qmd", "references.bib", "gone.bib", r"report: File gone\.bib not found .*path$"),
        ("references.bib", "}}", "", r"references\.bib: .*unexpected"),
    ],
)
def test_broken_front_matter_and_bibliography_are_named(
    project: Path, file: str, old: str, new: str, message: str
) -> None:
    path = project / "report" / file
    path.write_text(path.read_text().replace(old, new))
    with pytest.raises(VitrailError, match=message):
        built(project)


@RENDERS
def test_failed_render_keeps_the_old_report(project: Path) -> None:
    before = built(project)
    add(project, "{{< var q9.x >}}")
    with pytest.raises(VitrailError, match=r"q9\.x"):
        built(project)
    folder = project / "results" / "tiny" / "report"
    assert (folder / "report.html").read_text() == before[0]


def test_front_matter_takes_no_variables(project: Path) -> None:
    file = project / "report" / "report.qmd"
    file.write_text(file.read_text().replace('"sub"', '"{{< var q1.base.accuracy >}}"'))
    with pytest.raises(VitrailError, match=r"report\.qmd:3: .*front matter"):
        expand(file, {})


def test_files_that_include_each_other_stop(tmp_path: Path) -> None:
    (tmp_path / "a.qmd").write_text("{{< include b.qmd >}}\n")
    (tmp_path / "b.qmd").write_text("\n{{< include a.qmd >}}\n")
    with pytest.raises(VitrailError, match=r"b\.qmd:2: 'a\.qmd' includes itself"):
        expand(tmp_path / "a.qmd", {})


def test_expanded_lines_know_where_they_come_from(tmp_path: Path) -> None:
    (tmp_path / "a.qmd").write_text("one\n{{< include b.qmd >}}\nlast\n")
    (tmp_path / "b.qmd").write_text("x\n@fig-here and {{< var n >}}\n| {{< var n >}} |\n")
    text = expand(tmp_path / "a.qmd", {"n": "a|b"})
    assert text.where("@fig-here") == "b.qmd:2" and text.where("last") == "a.qmd:3"
    assert text.where("@fig") == ""
    assert "and a|b" in str(text) and "| a\\|b |" in str(text)


def test_stage_starts_anew_and_keeps_values_as_text(project: Path) -> None:
    build = stage("tiny", project / "results", project / "report", project)
    (build / "left-over").touch()
    stage("tiny", project / "results", project / "report", project)
    assert not (build / "left-over").exists() and not (build / "_builtin").exists()
    assert (build / "figures" / "q8_transfer" / "a.svg").is_file()
    variables = (build / "_variables.yml").read_text()
    assert "tokens: '17'" in variables and "accuracy: 91.20 % ± 0.30" in variables


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"a": {"b": 97.20}}', r"a\.b is 97\.2"),
        ('{"a": ["x"]}', "a is"),
        ('{"a.b": "x"}', r"'a\.b'"),
        ('{"a": ', "not readable JSON"),
    ],
)
def test_numbers_that_prose_cannot_quote_are_named(
    project: Path, content: str, message: str
) -> None:
    (project / "results" / "tiny" / "q3_self_attention" / "numbers.json").write_text(content)
    with pytest.raises(VitrailError, match=f"q3_self_attention.*{message}"):
        stage("tiny", project / "results", project / "report", project)


def test_question_that_was_not_run_is_named_with_its_command(project: Path) -> None:
    (project / "results" / "tiny" / "q5_block" / "answer.md").unlink()
    with pytest.raises(VitrailError, match=r"answer\.md is missing.*snakemake .* q5_block"):
        stage("tiny", project / "results", project / "report", project)


WHOLE = "".join(f'<h2 id="sec-q{number}">Q</h2>' for number in range(1, 9))


@pytest.mark.parametrize(
    ("html", "message"),
    [
        (WHOLE + "<p>see ?@fig-x</p>", r"'\?@fig-x' .*section sec-q8"),
        (WHOLE + "<p>?var:q1.x</p>", r"\?var:q1\.x"),
        (WHOLE + "<p>{{&lt; var q1.x &gt;}}</p>", r"\{\{< var q1\.x"),
        (WHOLE + "<p>see @tbl-arms</p>", "@tbl-arms"),
        (WHOLE + '<img src="figures/x.svg">', r"figures/x\.svg"),
        (WHOLE + '<a href="#fig-gone">x</a>', "fig-gone"),
        (WHOLE + '<script src="https://cdn.example/x.js"></script>', r"cdn\.example"),
        (WHOLE + '<link href="//fonts.example/x.css" rel="stylesheet">', r"fonts\.example"),
        (WHOLE + "<style>@import url(https://fonts.example/a.css)</style>", r"fonts\.example"),
        (WHOLE.replace("sec-q4", "sec-four"), "'sec-q4' is not there"),
    ],
)
def test_check_names_what_is_wrong(tmp_path: Path, html: str, message: str) -> None:
    page = tmp_path / "report.html"
    page.write_text(html)
    with pytest.raises(VitrailError, match=message):
        check_html(page)


def test_check_passes_a_whole_page_that_shows_markers_as_code(tmp_path: Path) -> None:
    page = tmp_path / "report.html"
    page.write_text(WHOLE + "<code>{{&lt; var x &gt;}} ?@fig-x</code><a href='https://x.org'>x</a>")
    check_html(page)


def test_torn_pdf_is_refused(tmp_path: Path) -> None:
    (tmp_path / "report.pdf").write_bytes(b"%PDF-1.7 and then nothing")
    with pytest.raises(VitrailError, match="torn"):
        check_pdf(tmp_path / "report.pdf")


@pytest.mark.parametrize(
    "text",
    [
        "The accuracy is 97.2 % on the test set.",
        "It is 1.3 percentage points better.",
        "An accuracy of 0.972 was reached.",
        "There were 281 errors.",
        "It trains at 1,600 images/s.",
        "The step takes 12 ms and 412 MB.",
        "| base | 97.2 % |",
    ],
)
def test_typed_results_are_found(text: str) -> None:
    assert hand_typed_results(f"First line.\n\n{text}\n")[0].startswith("line 3: ")


@pytest.mark.parametrize(
    "text",
    [
        "Images are 28 x 28 pixels; 10,000 of them test the model, with 3 seeds.",
        "Bands are 95 % confidence intervals over 5,000 validation images.",
        "The accuracy is {{< var q6.base.accuracy >}} with {{< var q6.base.errors >}} errors.",
        "The step $t = 12$ ms and `97.2 %` in code.",
        "$$ 97.2\\% $$ {#eq-x}",
        "They reach 88.55 % on ImageNet [@dosovitskiy2021, table 2, 88.55 %]. <!-- design -->",
        "![c](x.svg){#fig-x width=80%}",
        "> They report 97 % accuracy.",
        "```\naccuracy 97.2 %\n```",
        "Patch 7 gives 16 tokens; depth 6, 4 heads, width 64, MLP ratio 4.0, epoch 1.5.",
    ],
)
def test_constants_of_the_design_pass(text: str) -> None:
    assert hand_typed_results(f"---\ntitle: 97.2 %\n---\n{text}\n") == []


@RENDERS
def test_command_prints_one_line(project: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "vitrail.report.render", "--study", "tiny", "--route", "builtin"],
        cwd=project,
        env={**os.environ, "PYTHONPATH": str(ROOT / "src")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert re.fullmatch(r"vitrail: .* the built-in route \(.*\) in \d+\.\d s\n", done.stdout)
    assert done.stderr == ""  # nothing kept the PDF from being PDF/UA


@RENDERS
def test_the_first_figure_of_a_chapter_leaves_its_head_to_the_heading(project: Path) -> None:
    """Figures of the PDF float; one that floats to the head of a page would stand above it."""
    picture = "![{0}](figures/q1_patch_embedding/a.svg){{#fig-{0} fig-alt=seen}}\n\n"
    for stem in ("q2_mlp", "q3_self_attention"):
        text = f"## On {stem} {{#sec-{stem[:2]}}}\n\n"
        text += picture.format(f"first-{stem[:2]}") + picture.format(f"second-{stem[:2]}")
        (project / "report" / f"{stem}.qmd").write_text(text)
    built(project)
    typst = (project / "results" / "tiny" / "report_build" / "report.typ").read_text()
    assert "#show figure.where(kind: image): set figure(placement: auto)" in typst
    assert "place.flush()" in typst  # nothing floats into the next chapter
    for stem in ("q2", "q3"):
        chapter = typst.split(f"= On {stem}")[1]
        figures = re.findall(r"#figure\((placement: bottom, )?kind: image", chapter)[:2]
        assert figures == ["placement: bottom, ", ""]
