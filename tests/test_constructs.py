"""The list of constructs: the chapters keep to it, both routes render all of it, no more passes."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from html import unescape
from pathlib import Path
from typing import Any

import pytest
import yaml

from made_report import RENDERS, ROOT, add, built, make_project, words_of
from vitrail.report import source
from vitrail.report.builtin import find_pandoc
from vitrail.report.constructs import LIST, read_constructs
from vitrail.report.quarto import find_quarto

BUILTIN = ROOT / "report" / "_builtin"
CONTENT = yaml.safe_load((BUILTIN / LIST).read_text())
SAMPLES = {entry["name"]: entry for entry in CONTENT["constructs"]}
needs_quarto = pytest.mark.skipif(
    isinstance(find_quarto(), str), reason="Quarto 1.6 or newer is neither on PATH nor in $QUARTO"
)

# Ids that Quarto numbers by their prefix.
NUMBERED = "fig|tbl|eq|sec|lst|thm|lem|cor|prp|cnj|def|exm|exr|sol|rem|alg|nte|tip|wrn|imp|cau"
# Where the attributes (id, classes, pairs) of an element are in pandoc's JSON.
ATTRIBUTES = {"Div": 0, "Span": 0, "CodeBlock": 0, "Code": 0, "Link": 0, "Image": 0, "Figure": 0}


def marks_of(node: Any) -> Iterator[str]:
    """The marks of everything in a tree of pandoc's JSON, found without the filter."""
    if isinstance(node, list):
        equation = False
        for item in node:
            kind = item.get("t") if isinstance(item, dict) else None
            if kind == "Str" and equation and item["c"].startswith("{#eq-"):
                yield "NumberedEquation #eq-"
            if kind not in ("Space", "SoftBreak"):
                equation = kind == "Math" and item["c"][0]["t"] == "DisplayMath"
            yield from marks_of(item)
        return
    if not isinstance(node, dict):
        return
    kind, content = node.get("t", ""), node.get("c")
    if kind in ("Para", "Plain") and [item["t"] for item in content] == ["Image"]:
        kind, content = "Figure", [content[0]["c"][0], [], content[0]["c"][1]]
        yield from facets("Figure", content[0])
        yield from marks_of(content[2])
        return
    if kind == "Figure":
        image = content[2][0]["c"][0]["c"]
        yield from facets("Figure", content[0])
        yield from (mark for mark in facets("Figure", image[0]) if mark != "Figure #")
        yield from marks_of(content[1])
        return
    if kind == "Header":
        yield from facets("Header", content[1])
        yield from marks_of(content[2])
        return
    if kind == "Table":
        yield from facets("Table", content[0])
        yield from marks_of(content[1:])
        return
    if kind == "Math":
        yield content[0]["t"]
        return
    if kind in ("RawBlock", "RawInline"):
        yield "Comment" if content[1].lstrip().startswith("<!--") else f"Raw {content[0]}"
        return
    if kind == "Cite":
        ids = [citation["citationId"] for citation in content[0]]
        if not re.match(r"(fig|tbl|eq|sec)-", ids[0]):
            yield "Cite"
            return
        yield "Reference"
        for citation in content[0]:
            if citation["citationMode"]["t"] == "SuppressAuthor":
                yield "Reference suppressed"
            if citation["citationPrefix"] or citation["citationSuffix"]:
                yield "Reference affix"
        return
    if kind in ATTRIBUTES:
        attributes = content[ATTRIBUTES[kind]]
        yield from facets(kind_of(kind, attributes), attributes)
    elif kind and not re.match(r"Align|ColWidth|Decimal|Default|Period|(Single|Double)Quote", kind):
        yield kind
    yield from marks_of(content)


def kind_of(kind: str, attributes: list[Any]) -> str:
    """Divisions and spans, told apart."""
    name, classes, pairs = attributes
    if kind == "Span" and "verdict" in classes:
        return "Verdict"
    if kind != "Div":
        return kind
    if any(text.startswith("callout-") for text in classes):
        return "Callout"
    for prefix, told in (("fig-", "FigureDiv"), ("tbl-", "TableDiv")):
        if name.startswith(prefix):
            return told
    if "explore" in classes:
        return "View"
    return "Columns" if "layout-ncol" in dict(pairs) else "Div"


def facets(kind: str, attributes: list[Any]) -> Iterator[str]:
    """The marks of one element with its attributes."""
    name, classes, pairs = attributes
    yield kind
    if name:
        prefix = re.match(rf"({NUMBERED})-", name)
        yield f"{kind} #{prefix[0] if prefix else 'refs' if name == 'refs' else ''}"
    for text in classes:
        if (kind, text) not in (("Verdict", "verdict"), ("Link", "uri")):
            yield f"{kind} .{text}"
    for key, _ in pairs:
        yield f"{kind} {key}="


def tree(markdown: str) -> Any:
    """Pandoc's tree of some Markdown, without shortcodes."""
    text = re.sub(r"^\{\{< include .*$", "", markdown, flags=re.MULTILINE)
    text = re.sub(r"\{\{< var [^>]*>\}\}", "17", text)
    command = [str(find_pandoc()), "--from=markdown", "--to=json", "--columns=10000"]
    done = subprocess.run(command, input=text, capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


CHAPTERS = sorted(path.name for path in (ROOT / "report").glob("*.qmd"))


@RENDERS
@pytest.mark.parametrize("name", CHAPTERS)
def test_chapters_use_what_is_listed_and_no_more(name: str) -> None:
    parsed = tree((ROOT / "report" / name).read_text())
    found = set(marks_of(parsed["blocks"]))
    assert "Para" in found and len(found) > 5
    assert found - read_constructs(BUILTIN).marks == set()
    assert set(parsed["meta"]) <= set(CONTENT["front_matter"])


def test_shortcodes_are_those_that_the_sources_are_read_with() -> None:
    assert read_constructs(BUILTIN).shortcodes == source.SHORTCODES


@RENDERS
def test_samples_have_every_mark_and_no_other() -> None:
    samples = "\n\n".join(entry["sample"] for entry in SAMPLES.values())
    assert set(marks_of(tree(samples)["blocks"])) == read_constructs(BUILTIN).marks


@pytest.fixture(scope="module")
def everything(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project whose report is all samples, in the order of the list."""
    project = make_project(tmp_path_factory.mktemp("constructs"))
    (project / "report" / "q1_patch_embedding.qmd").write_text("## Question 1 {#sec-q1}\n\nText.\n")
    main = project / "report" / "report.qmd"
    main.write_text(main.read_text().partition("## References")[0])
    for entry in SAMPLES.values():
        add(project, entry["sample"])
    return project


def shown(project: Path, wish: str) -> tuple[str, str, str]:
    """The HTML, its words and the words of the PDF, rendered by one of the routes."""
    html, _ = built(project, wish)
    if not shutil.which("pdftotext"):
        pytest.skip("pdftotext (poppler) is not installed")
    pdf = project / "results" / "tiny" / "report" / "report.pdf"
    done = subprocess.run(["pdftotext", pdf, "-"], capture_output=True, text=True, check=True)
    page = re.sub(r"<script.*?</script>", "", html, flags=re.DOTALL)
    return html, words_of(page), done.stdout


@pytest.fixture(scope="module")
def by_builtin(everything: Path) -> tuple[str, str, str]:
    return shown(everything, "builtin")


@pytest.fixture(scope="module")
def by_quarto(everything: Path) -> tuple[str, str, str]:
    return shown(everything, "quarto")


def plain(text: str) -> str:
    """Words alone: a page and a PDF differ in spaces, signs of lists, quotes and hyphens."""
    return "".join(re.findall(r"[\w.,:()=/]+", unescape(text)))


@RENDERS
@pytest.mark.parametrize("name", SAMPLES)
def test_builtin_route_renders_every_construct(by_builtin: tuple[str, str, str], name: str) -> None:
    html, words, pdf = by_builtin
    for text in SAMPLES[name]["shows"]:
        assert plain(text) in plain(words)
        assert plain(text) in plain(pdf)
    assert re.search(SAMPLES[name].get("html", "<p>"), html)


@needs_quarto
@pytest.mark.parametrize("name", SAMPLES)
def test_quarto_renders_every_construct(by_quarto: tuple[str, str, str], name: str) -> None:
    _, words, pdf = by_quarto
    for text in SAMPLES[name]["shows"]:
        assert plain(text) in plain(words)
        assert plain(text) in plain(pdf)
