"""A label is text: HTML, Markdown, shortcodes, TeX and Typst in it are printed, not obeyed."""

from __future__ import annotations

import csv
import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from made_report import RENDERS, add, built, make_project, words_of
from made_study import small, write_runs
from pdf_pages import pages_of_text
from vitrail import style
from vitrail.questions import plain_text
from vitrail.questions.answer import Answer
from vitrail.questions.experiments import common
from vitrail.questions.study import Study

STEM = "q2_mlp"
HOSTILE = {
    "script": "<script>alert(1)</script>",
    "image": "<img src=x onerror=alert(1)>",
    "link": "[x](javascript:alert(1)) <http://e.example>",
    "broken_link": "](javascript:alert(1))",
    "remote": "![x](http://e.example/x.png)",
    "file": "![x](/etc/passwd)",
    "include": "{{< include /etc/passwd >}}",
    "number": "{{< var q1.base.accuracy >}} {{< env HOME >}}",
    "raw_html": "`<b>x</b>`{=html}",
    "raw_typst": '`#read("/etc/passwd")`{=typst} #read("/etc/passwd")',
    "tex": r"\input{/etc/passwd} $x^2$ $HOME",
    "attributes": '[x]{onclick="alert(1)" style="color:red"}',
    "citation": "@vaswani2017 [@nobody] @fig-nope ?@x ?var:y",
    "marks": "a | b *c* **d _e_ ~f~ ^g^ `h &lt; &amp; 'i' \"j\" !k #l [^1] ^[m]",
    "comment": "<!-- c --> ... ---",
    "lines": "first\n\n# second {#sec-q3}\n:::",
}
# The two that are rendered, and read, in lines of their own: a caption and a heading.
TITLE = "<script>alert(2)</script> {{< include /etc/passwd >}} `x`{=html} $y$"


class Active(HTMLParser):
    """What a browser would run or fetch: handlers, scripts, addresses that are not ours."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag in ("script", "iframe", "object", "embed", "form"):
            self.found.append(tag)
        for name, value in attrs:
            leads = name in ("href", "src", "srcset", "action", "data", "style")
            if name.startswith("on") or (
                leads and re.search(r"script:|e\.example|passwd|color:red", value or "")
            ):
                self.found.append(f"{tag} {name}={value}")


def meant(label: str) -> str:
    """What is to be read: a label is one line."""
    return " ".join(label.split())


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The project of a small report with an experiment whose arms have these labels."""
    from vitrail.config import load

    root = Path(__file__).parents[1]
    config: dict[str, Any] = load([root / "config" / "default.yaml"])
    arms = {
        name: {"label": label, "settings": {"hidden": 4 + at, "model": "mlp"}}
        for at, (name, label) in enumerate(HOSTILE.items())
    }
    claims = [{"id": "c", "sentence": "One is better.", "better": "script", "worse": "marks"}]
    small(config, STEM, hostile={"title": TITLE, "arms": arms, "claims": claims})
    config["study"], config["seeds"] = "tiny", [0, 1]
    project = make_project(tmp_path_factory.mktemp("plain"))
    study = Study(plain_text.shielded(config), project / "results")
    write_runs(study, lambda _, seed: 0.9 + 0.01 * seed)
    style.use()
    answer = Answer(sentence="", table=study.runs(study.plan.of_question(STEM)[0]))
    common.add(study, answer, STEM)
    # A label may also be quoted in the answer and by `var`.
    answer.sentence = " ".join(member.label for member in study.plan.experiments[0].members)
    answer.save(project / "results" / "tiny" / STEM)
    add(project, "{{< include answers/q2_mlp.md >}}")
    add(project, "{{< include tables/q2_mlp/experiments.md >}}")
    quoted = "".join(f"| {{{{< var q2.hostile.{name}.label >}}}} |\n" for name in HOSTILE)
    add(project, f"| x |\n|:---|\n{quoted}\n: Quoted {{#tbl-quoted}}")
    return project


def test_data_hold_the_labels_as_they_were_written(saved: Path) -> None:
    folder = saved / "results" / "tiny" / STEM
    with (folder / "hostile.csv").open(encoding="utf-8", newline="") as stream:
        assert [row["label"] for row in csv.DictReader(stream)] == list(
            map(meant, HOSTILE.values())
        )
    for file in folder.rglob("*"):
        if file.is_file():
            assert not re.search("[\ue000-\uf8ff]", file.read_text(encoding="utf-8")), file


@RENDERS
def test_page_and_pdf_print_the_labels(saved: Path) -> None:
    html, pdf = built(saved)
    page = words_of(html.replace("\u2060", ""))
    for name, label in HOSTILE.items():
        # In the answer, in a row of the table, quoted by its name.
        assert page.count(meant(label)) >= 3, (name, page[:3000])
    assert page.count(TITLE) >= 3  # heading, caption of the table, caption of the figure
    tags = re.sub(r"<(script|style)>.*?</\1>", "", html[html.index("<body") :], flags=re.DOTALL)
    assert "<script>alert" not in html
    reader = Active()
    reader.feed(tags)
    assert reader.found == []
    assert "root:" not in page  # of /etc/passwd
    (saved / "report.pdf").write_bytes(pdf)
    # Letters alone: the PDF sets its own line breaks and quotation marks.
    letters = re.sub(r"\W", "", "".join(pages_of_text(saved / "report.pdf")))
    for name, label in HOSTILE.items():
        assert re.sub(r"\W", "", label) in letters, name
    assert "root:x" not in letters


@pytest.mark.parametrize("label", HOSTILE.values())
def test_a_figure_draws_the_label(label: str, tmp_path: Path) -> None:
    """Mathematics that is none would stop Matplotlib; the words are looked for in the text."""
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots()
    shielded = plain_text.shield(label)
    axes.set_title(shielded)
    axes.barh([0, 1], [1, 2], label=shielded)
    axes.set_yticks([0, 1], [shielded, "b"])
    axes.legend()
    plain_text.figure_as_text(figure)
    with plt.rc_context({"svg.fonttype": "none"}):
        figure.savefig(tmp_path / "a.svg")
    plt.close(figure)
    from html import unescape

    drawn = unescape((tmp_path / "a.svg").read_text(encoding="utf-8"))
    assert drawn.count(f">{meant(label)}<") == 3


def test_shipped_labels_are_left_alone(config: dict[str, Any]) -> None:
    """Their only mark is _ in the names of settings, which reads the same with a backslash."""
    shielded = plain_text.shielded(config)
    assert plain_text.everywhere(shielded, plain_text.as_text) == config
    written = plain_text.everywhere(shielded, plain_text.as_markdown)
    assert json.loads(json.dumps(written).replace(r"\\_", "_")) == config


def test_stand_ins_in_a_label_are_not_believed() -> None:
    code = chr(0xE000 + ord("<"))
    assert plain_text.as_text(plain_text.shield(code)) == "\ufffd"


def test_nested_texts_are_changed_with_their_keys() -> None:
    shielded = plain_text.shield("<b>")
    content = {shielded: [shielded, 1, (shielded,)]}
    assert json.dumps(plain_text.everywhere(content, plain_text.as_text)) == (
        '{"<b>": ["<b>", 1, ["<b>"]]}'
    )
