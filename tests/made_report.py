"""A small project whose report has every construct, for tests that render and look."""

from __future__ import annotations

import json
import re
import shutil
from html import unescape
from importlib import util
from pathlib import Path
from typing import Any

import pytest

from vitrail.report.render import render
from vitrail.report.stage import STEMS
from vitrail.views import VIEWS

ROOT = Path(__file__).resolve().parents[1]

RENDERS = pytest.mark.skipif(
    not (util.find_spec("pypandoc") and util.find_spec("typst")),
    reason="the wheels pypandoc_binary and typst are not installed",
)
SVG = (
    '<svg xmlns="http://www.w3.org/2000/svg" width="200" height="100">'
    "<style>*{stroke-linejoin:round}</style>"
    '<rect width="200" height="100" fill="#1d4f7c"/></svg>'
)
BIBLIOGRAPHY = """\
@article{vaswani2017, title={Attention Is All You Need}, author={Vaswani, Ashish},
  journal={NeurIPS}, year={2017}}
"""
RICH = """\
## A *rich* chapter {#sec-q1}

::: {.answer}
{{< include answers/q1_patch_embedding.md >}}
:::

### Reading {#sec-reading}

{{< var q1.base.accuracy >}} in @fig-curve, @fig-left, @tbl-arms, @tbl-pipe, @eq-loss,
@sec-q2 and [@fig-panel; @tbl-arms], after @vaswani2017 and [@vaswani2017, p. 3].

$$ L = -\\log p_y $$ {#eq-loss}

![Slope **matters** at {{< var q1.base.accuracy >}}.](figures/q1_patch_embedding/a.svg){#fig-curve
fig-alt="A rising curve" width=80%}

::: {#fig-panel layout-ncol=2}

![One head](figures/q1_patch_embedding/a.svg){#fig-left fig-alt="left"}

![Four heads](figures/q1_patch_embedding/a.svg){#fig-right fig-alt="right"}

Two views.
:::

::: {#tbl-arms}

{{< include tables/q1_patch_embedding/arms.md >}}

The arms.
:::

| patch | tokens |
|------:|-------:|
| 7     | {{< var q1.base.tokens >}} |

: Tokens {#tbl-pipe}

{{< include code/core.md >}}

::: {.callout-note title="On *scale*"}
Inside the note.
:::

::: {.callout-warning}
## First heading
Inside the warning.
:::

::: {.callout-tip collapse="true" title="Folded"}
Inside the fold.
:::

[supported]{.verdict .supported} [refuted]{.verdict .refuted} [not run]{.verdict .notrun}

`{{{< var x >}}}` is how a number is asked for.[^1]

[^1]: A footnote.

::: {#where .provenance}
Table `table.csv`, see [the answer](#sec-q1) and [above](#where).
:::
"""


def made_sources(stem: str) -> dict[str, dict[str, Any]]:
    """What a question of the small project notes of its figure and its table."""
    code, runs = {"file": "src/a.py", "line": 2}, ["vit-1a2b-s0", "vit-1a2b-s1", "cnn-3c4d-s0"]
    record = {"data": [f"{stem}/table.csv"], "code": code, "runs": runs, "basis": ""}
    table = record | {"runs": [], "basis": "a test"}
    labels = ("arms", "arms-of-birds") if stem == STEMS[0] else ()
    return {"figures": {"a": record}, "tables": dict.fromkeys(labels, table)}


def make_project(folder: Path) -> Path:
    """A small project: sources, one code region, products of the eight questions."""
    report = folder / "report"
    report.mkdir()
    for name in ("_builtin", "explore"):
        shutil.copytree(ROOT / "report" / name, report / name)
    filters = ("decimals.lua", "quarto.lua", "sources.lua")
    styles = ("citations.csl", "style.css", "quarto.css", "quarto.typ")
    for name in ("_quarto.yml", *filters, *styles):
        shutil.copyfile(ROOT / "report" / name, report / name)
    chapters = [f"{{{{< include {stem}.qmd >}}}}\n" for stem in STEMS]
    (report / "report.qmd").write_text(
        '---\ntitle: "A & B"\nsubtitle: "sub"\nabstract: |\n  With $N^2$.\nlang: en\n'
        "bibliography: references.bib\ncsl: citations.csl\n---\n\n"
        "## In short {#sec-short .unnumbered}\n\nMade by {{< var report.route >}} "
        "({{< var report.versions >}}), on {{< var study.images >}}.\n\n"
        + "\n".join(chapters)
        + "\n## References {.unnumbered}\n\n::: {#refs}\n:::\n"
    )
    (report / "references.bib").write_text(BIBLIOGRAPHY)
    for number, stem in enumerate(STEMS, start=1):
        (report / f"{stem}.qmd").write_text(f"## Question {number} {{#sec-q{number}}}\n\nText.\n")
        made = folder / "results" / "tiny" / stem
        (made / "figures").mkdir(parents=True)
        (made / "tables").mkdir()
        (made / "figures" / "a.svg").write_text(SVG)
        (made / "tables" / "arms.md").write_text("| arm | errors |\n|:--|--:|\n| a | 281 |\n")
        (made / "answer.md").write_text(f"**{{{{< var q{number}.base.accuracy >}}}}** of them.\n")
        (made / "sources.json").write_text(json.dumps(made_sources(stem)))
        (made / "table.csv").write_text("arm,errors\na,281\n")
        (made / "numbers.json").write_text(
            json.dumps({"base": {"accuracy": f"9{number}.20 % ± 0.30", "tokens": "17"}})
        )
    for view, stem in VIEWS.items():  # nothing to explore: the figures stand alone
        made = folder / "results" / "tiny" / stem / "explore"
        made.mkdir()
        (made / f"{view}.json").write_text("null\n")
    (folder / "results" / "tiny" / "study").mkdir()
    (folder / "results" / "tiny" / "study" / "numbers.json").write_text('{"images": "60,000"}')
    (report / "q1_patch_embedding.qmd").write_text(RICH)
    (folder / "src").mkdir()
    (folder / "src" / "a.py").write_text("# region: core\nx = 1  # ones\n# endregion: core\n")
    return folder


def built(project: Path, wish: str = "builtin") -> tuple[str, bytes]:
    """Render and give back the page and the PDF."""
    render("tiny", project / "results", project / "report", project, wish)
    folder = project / "results" / "tiny" / "report"
    return (folder / "report.html").read_text(), (folder / "report.pdf").read_bytes()


def words_of(html: str) -> str:
    """What a reader sees, without line breaks and non-breaking spaces."""
    body = re.sub(r"<style>.*?</style>|<annotation.*?</annotation>", "", html, flags=re.DOTALL)
    text = unescape(re.sub(r"<[^>]+>", "", body))
    return " ".join(text.replace("\u00a0", " ").split())


def add(project: Path, text: str, stem: str = "q2_mlp") -> None:
    """Append to a chapter."""
    with (project / "report" / f"{stem}.qmd").open("a") as stream:
        stream.write(f"\n{text}\n")
