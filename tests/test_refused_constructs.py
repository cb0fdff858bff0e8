"""What a route would lose or draw otherwise is refused, with file and line and what it is."""

from __future__ import annotations

from importlib import util
from pathlib import Path

import pytest

from made_report import add, built, make_project
from vitrail.errors import VitrailError

pytestmark = pytest.mark.skipif(
    not (util.find_spec("pypandoc") and util.find_spec("typst")),
    reason="the wheels pypandoc_binary and typst are not installed",
)

# A chapter's fifth line; what is said of it, and of which line. Each was once lost or looked
# different in one of the outputs.
LOST = {
    "tabset": ("::: {.panel-tabset}\nx\n:::", 5, r"'\.panel-tabset'"),
    "margin": ("[x]{.column-margin}", 5, r"'\.column-margin'"),
    "layout": ("::: {layout='[1,2]'}\nx\n:::", 5, "'layout'"),
    "box with two classes": ("::: {.answer .small}\nx\n:::", 5, "one class"),
    "attribute of a box": ("::: {.answer style='color: red'}\nx\n:::", 5, "'style'"),
    "attribute of a heading": ("## A {foo=1}", 5, "'foo'"),
    "heading out of the contents": ("## A {.unlisted}", 5, r"'\.unlisted'"),
    "heading in a box": ("::: {.answer}\n## Inside\n:::", 6, "a heading stands at the left"),
    "heading in a list": ("- one\n- \n  ## Inside", 7, "a heading stands at the left"),
    "heading with a reference": ("## As @sec-q1", 5, "a reference cannot stand in a heading"),
    "heading with a footnote": ("## A[^n]\n\n[^n]: B", 7, "a footnote cannot stand in a heading"),
    "image title": ('![c](figures/q2_mlp/a.svg "title"){fig-alt="a"}', 5, "title of an image"),
    "image alignment": ("![c](figures/q2_mlp/a.svg){fig-align=left}", 5, "'fig-align'"),
    "no alternative text": ("![c](figures/q2_mlp/a.svg)", 5, "say in fig-alt"),
    "image height": ("A ![c](figures/q2_mlp/a.svg){height=3cm}.", 5, "'height'"),
    "image width": ("![c](figures/q2_mlp/a.svg){width=50px}", 5, "80%, 6cm or 3in"),
    "id of an image in a line": (
        "A ![c](figures/q2_mlp/a.svg){#fig-a}.",
        5,
        "'fig-a' on an image",
    ),
    "footnote in a caption": ("![c[^n]](figures/q2_mlp/a.svg)\n\n[^n]: B", 7, "a footnote cannot"),
    "figure in a footnote": (
        "A[^n]\n\n[^n]: B\n\n    ![f](figures/q2_mlp/a.svg)",
        9,
        "a figure cannot",
    ),
    "equation in a footnote": ("A[^n]\n\n[^n]: $$ x $$ {#eq-n}", 7, "a numbered equation cannot"),
    "panel without ids": (
        "::: {layout-ncol=2}\n\n![One](figures/q2_mlp/a.svg)\n\n:::",
        7,
        "needs an id",
    ),
    "text in a panel": (
        "::: {#fig-p layout-ncol=2}\n\n![](figures/q2_mlp/a.svg)\n\nText.\n\nCaption.\n:::",
        5,
        "only figures can stand",
    ),
    "table as a figure": ("::: {#fig-p}\n\n|a|\n|-|\n|b|\n\nC.\n:::", 5, "only figures can stand"),
    "table class": ("|a|\n|-|\n|b|\n\n: C {#tbl-c .striped}", 9, r"'\.striped'"),
    "grid table": ("+---+---+\n| a | b |\n+===+===+\n| c | d |\n+---+---+", 6, "pipes"),
    "multi-line table": (
        "----- ----\nbird  eggs\n----- ----\nheron 4\n----- ----",
        6,
        "pipes",
    ),
    "callout of another kind": ("::: {.callout-danger}\nx\n:::", 5, r"'\.callout-danger'"),
    "callout with an id": ("::: {#nte-a .callout-note}\nx\n:::", 5, "'nte-a' on a callout"),
    "callout's looks": ('::: {.callout-note appearance="minimal"}\nx\n:::', 5, "'appearance'"),
    "callout half folded": ("::: {.callout-note collapse=false}\nx\n:::", 5, "folded by"),
    "raw HTML in a title": ('::: {.callout-note title="<b>x</b>"}\nx\n:::', 5, "raw html"),
    "verdict of another kind": ("[x]{.verdict .maybe}", 5, r"'\.maybe'"),
    "verdict without a kind": ("A grey [parrot]{.verdict}", 5, "a verdict is written"),
    "span class": ("[x]{.smallcaps}", 5, "smallcaps"),
    "listing": ('```{.python #lst-a lst-cap="C"}\nx\n```', 5, "'lst-a'"),
    "line numbers": ('```{.python code-line-numbers="true"}\nx\n```', 5, "'code-line-numbers'"),
    "language": ("```klingon\nx\n```", 5, r"'\.klingon'"),
    "code with a language in a line": ("A `x = 1`{.python}.", 5, r"'\.python' on a code"),
    "link that opens a window": ("[x](https://a.org){target=_blank}", 5, "'target'"),
    "link title": ('[x](https://a.org "why")', 5, "title of a link"),
    "link to nowhere": ("[x](#nowhere)", 5, "#nowhere leads nowhere"),
    "link to a file that is not there": ("[x](nofile.html)", 5, "a link leads to"),
    "link that runs a script": ("[x](javascript:alert(1))", 5, "a link leads to"),
    "link to a chapter": ("[x](q1_patch_embedding.qmd)", 5, "not to a file of the sources"),
    "list with letters": ("Wild\n\na. geese\nb. ducks", 7, r"1\. 2\. 3\."),
    "list of tasks": ("- [ ] feed the ducks", 5, "list of tasks"),
    "lines of verse": ("| The lark\n|   sings", 5, "lineblock"),
    "LaTeX": ("Before\n\n\\newpage", 7, r"raw tex .*\\newpage"),
    "LaTeX in a line": ("A \\textbf{b}", 5, "raw tex"),
    "HTML": ("<div class='x'>\nx\n</div>", 5, r"'\.x'"),
    "HTML in a line": ("Some <b>bold</b>.", 5, "raw html"),
    "reference with words": ("[see @sec-q1]", 5, "text beside @sec-q1"),
    "reference beside a citation": ("[@sec-q1; @vaswani2017]", 5, "do not mix"),
    "reference without a number": (
        "## Odd {#sec-odd .unnumbered}\n\n@sec-odd",
        7,
        "without a number",
    ),
    "attributes of nothing": ("$x$ {#eq-a}", 5, "belong to nothing"),
    "attributes misspelt": ("[x]{.a b c}", 5, "belong to nothing"),
    "footnote undefined": ("A[^gone].", 5, "this footnote is not defined"),
    "link undefined": ("A [link][gone].", 5, "this link is not defined"),
    "division closed twice": ("x\n\n:::\n", 7, "division"),
    "indented include": ("- a\n\n  {{< include tables/q2_mlp/arms.md >}}", 7, "left margin"),
    "shortcode over two lines": ("{{< var\nq2.base.tokens >}}", 5, "not closed"),
    "anchor twice": ("[a]{#here} [b]{#here}", 5, "'here' is used twice"),
}


@pytest.mark.parametrize("name", LOST)
def test_what_would_be_lost_is_named(tmp_path: Path, name: str) -> None:
    text, line, message = LOST[name]
    project = make_project(tmp_path)
    add(project, text)
    with pytest.raises(VitrailError, match=rf"q2_mlp\.qmd:{line}: [^;]*{message}"):
        built(project)
    assert not (project / "results" / "tiny" / "report").exists()


def test_front_matter_of_another_kind_is_named(tmp_path: Path) -> None:
    project = make_project(tmp_path)
    main = project / "report" / "report.qmd"
    main.write_text(main.read_text().replace("lang: en", "lang: en\nkeywords: [x]"))
    with pytest.raises(VitrailError, match=r"report\.qmd:7: .*'keywords' in the front matter"):
        built(project)
