"""The PDF of the report: a small made one, and that of the smoke study."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from made_report import RENDERS, add, built, make_project
from vitrail.config import load
from vitrail.report.render import render

pytest.importorskip("pypdfium2", reason="pypdfium2 is not installed")
from pdf_pages import (
    Margins,
    access_faults,
    font_faults,
    fonts,
    outline,
    outside_faults,
    pages_of_text,
    text_faults,
)

ROOT = Path(__file__).parents[1]
MARGINS = Margins.of_template(ROOT / "report" / "_builtin" / "page.typ")
PAGES = {"made": (5, 15), "smoke": (40, 110)}


@pytest.fixture(
    scope="module",
    params=[
        pytest.param("made", marks=RENDERS),
        pytest.param("smoke", marks=pytest.mark.end_to_end),
    ],
)
def report(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[str, Path]:
    """Which study it is, and the folder with its page and its PDF."""
    if request.param == "smoke":
        return "smoke", request.getfixturevalue("study").folder / "report"
    project = make_project(tmp_path_factory.mktemp("made"))
    built(project)
    return "made", project / "results" / "tiny" / "report"


@pytest.fixture
def pdf(report: tuple[str, Path]) -> Path:
    return report[1] / "report.pdf"


def by_quarto(pdf: Path) -> bool:
    return 'content="vitrail"' not in pdf.with_name("report.html").read_text(encoding="utf-8")


def test_it_has_as_many_pages_as_a_report_should(report: tuple[str, Path], pdf: Path) -> None:
    least, most = PAGES[report[0]]
    pages = pages_of_text(pdf)
    assert least <= len(pages) <= most
    assert all(pages), "a page without a word"


def test_nothing_leaves_its_page(pdf: Path) -> None:
    assert outside_faults(pdf, MARGINS) == []


def test_its_fonts_are_in_the_file(pdf: Path) -> None:
    assert font_faults(pdf) == []
    assert len(fonts(pdf)) >= 3


def test_its_text_can_be_copied(pdf: Path) -> None:
    assert text_faults(pdf) == []
    words = " ".join(pages_of_text(pdf))
    assert len(words.split()) > 200
    for text in ("Figure 1.", "Table 1.", "References", "Attention is all you need"):
        assert text.lower() in words.lower()


def test_its_outline_leads_to_the_questions(report: tuple[str, Path], pdf: Path) -> None:
    """In the order of the report, each to the page on which its heading stands."""
    entries = outline(pdf)
    chapters = [entry for entry in entries if entry[0] == 0 and re.match(r"[1-8] ", entry[1])]
    assert [title.split()[0] for _, title, _ in chapters] == list("12345678")
    if report[0] == "smoke":
        assert [title.split()[1] for _, title, _ in chapters] == [f"Q{n}." for n in range(1, 9)]
    pages = pages_of_text(pdf)
    starts = [page for _, _, page in chapters]
    assert starts == sorted(starts) and starts[0] > 0
    for _, title, page in entries:
        if not re.search(r"[^\w .,:-]", title):  # formulas are set in other letters
            assert title.split(" ", 1)[-1] in pages[page - 1], title


def test_it_can_be_read_aloud(pdf: Path) -> None:
    if by_quarto(pdf):
        pytest.skip("Quarto's Typst writes no PDF/UA")
    assert access_faults(pdf) == []


@pytest.mark.end_to_end
def test_the_study_renders_to_the_same_bytes_elsewhere(study: Any, tmp_path: Path) -> None:
    """From a copy in another folder: no clock, no path, no name of a machine gets in."""
    made = study.folder / "report"
    there = tmp_path / "elsewhere"
    large = (
        "runs",
        "pretraining",
        "weights",
        "logs",
        "data",
        ".snakemake",
        "mlflow*",
        "report_build",
    )
    shutil.copytree(study.project, there, ignore=shutil.ignore_patterns(*large))
    wish = "quarto" if by_quarto(made / "report.pdf") else "builtin"
    about = load([there / "config" / "default.yaml"])["report"]
    render("smoke", there / "results", there / "report", there, wish, **about)
    for name in ("report.html", "report.pdf"):
        again = there / "results" / "smoke" / "report" / name
        assert again.read_bytes() == (made / name).read_bytes(), name


@RENDERS
def test_a_long_name_in_a_narrow_column_goes_on_in_the_next_line(tmp_path: Path) -> None:
    project = make_project(tmp_path)
    name = "a_name_that_is_far_too_long_for_its_column"
    add(
        project, f"| a | b |\n|:--|:--|\n| x | `{name}` |\n\n: N {{#tbl-n tbl-colwidths='[85,15]'}}"
    )
    built(project)
    pdf = project / "results" / "tiny" / "report" / "report.pdf"
    assert outside_faults(pdf, MARGINS) == []
    assert name in "".join(pages_of_text(pdf)).replace(" ", "")


# --- Each check finds what it looks for

HEAD = """#set document(title: "Good")
#set text(lang: "en")
#set page(paper: "a4", margin: (top: 2.7cm, bottom: 2.6cm, x: 2.6cm), footer: align(center)[1])
= Good
"""


@pytest.fixture
def compiled(tmp_path: Path) -> Callable[..., Path]:
    """A function that makes a PDF of a few lines of Typst."""
    typst = pytest.importorskip("typst", reason="the wheel typst is not installed")

    def compile(body: str, head: str = HEAD, standard: str | None = "ua-1") -> Path:
        source, target = tmp_path / "page.typ", tmp_path / "page.pdf"
        source.write_text(head + body, encoding="utf-8")
        target.write_bytes(typst.compile(str(source), pdf_standards=standard))
        return target

    return compile


def test_a_good_pdf_has_no_faults(compiled: Callable[..., Path]) -> None:
    pdf = compiled("Some fine text, and an office.\n#rect(width: 100%)\n")
    assert outside_faults(pdf, MARGINS) == font_faults(pdf) == text_faults(pdf) == []
    assert access_faults(pdf) == []
    assert outline(pdf) == [(0, "Good", 1)]
    assert "an office" in pages_of_text(pdf)[0]


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("#move(dx: 12cm, [some words that go on to the right])", "text sticks out"),
        ("#move(dx: -1cm)[left]", r"text sticks out by 28 pt"),
        ("#rect(width: 120%)", "a line or shape sticks out by"),
        ("#block(width: 150%, fill: red)[x]", "a line or shape sticks out by"),
        ("#rect(height: 26cm)", "a line or shape runs into the foot"),
        ("#box(width: 2cm)[`a_very_long_name_that_nothing_breaks_in_two_or_three_and_so_it_goes_"
         "on_and_on_until_the_edge_of_the_page`]", "text sticks out"),
    ],
)  # fmt: skip
def test_what_leaves_the_page_is_found(
    compiled: Callable[..., Path], body: str, message: str
) -> None:
    faults = outside_faults(compiled(body), MARGINS)
    assert any(re.search(f"page [12]: {message}", fault) for fault in faults), faults


def test_a_picture_that_leaves_the_page_is_found(
    compiled: Callable[..., Path], tmp_path: Path
) -> None:
    (tmp_path / "a.svg").write_text(
        '<svg xmlns="http://www.w3.org/2000/svg" width="600" height="50">'
        '<rect width="600" height="50" fill="#1d4f7c"/></svg>'
    )
    pdf = compiled('#image("a.svg", width: 600pt, alt: "a bar")')
    assert outside_faults(pdf, MARGINS)


def test_a_font_that_is_not_in_the_file_is_found(tmp_path: Path) -> None:
    """A PDF by hand, because Typst cannot leave a font out."""
    content = b"BT /F1 24 Tf 100 700 Td (Hello) Tj ET"
    objects = [
        b"<< /Type /Catalog /Pages 2 0 R >>",
        b"<< /Type /Pages /Kids [3 0 R] /Count 1 >>",
        b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 595 842] /Contents 4 0 R"
        b" /Resources << /Font << /F1 5 0 R >> >> >>",
        b"<< /Length %d >>\nstream\n%s\nendstream" % (len(content), content),
        b"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>",
    ]
    body = b"%PDF-1.7\n"
    places = []
    for number, thing in enumerate(objects, start=1):
        places.append(len(body))
        body += b"%d 0 obj\n%s\nendobj\n" % (number, thing)
    table = b"".join(b"%010d 00000 n \n" % place for place in places)
    (tmp_path / "a.pdf").write_bytes(
        body + b"xref\n0 6\n0000000000 65535 f \n" + table
        + b"trailer << /Size 6 /Root 1 0 R >>\nstartxref\n%d\n%%%%EOF\n" % len(body)
    )  # fmt: skip
    assert font_faults(tmp_path / "a.pdf") == ["the font Helvetica is not in the file"]
    faults = access_faults(tmp_path / "a.pdf")
    for missing in ("no title", "no tags", "language", "PDF/UA"):
        assert any(missing in fault for fault in faults), missing
    assert outline(tmp_path / "a.pdf") == []


def test_a_letter_that_is_none_is_found(compiled: Callable[..., Path]) -> None:
    (fault,) = text_faults(compiled("A sign of its own: \ue000", standard=None))
    assert fault == "page 1: U+E000 is no letter"


def test_a_pdf_that_is_not_pdf_ua_is_found(compiled: Callable[..., Path]) -> None:
    pdf = compiled("Text", standard=None)
    assert access_faults(pdf) == ["the file does not say that it is PDF/UA"]
