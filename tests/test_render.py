"""The report renderer: what it understands, what it refuses, and what it promises."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from made_report import RENDERS, add, built, make_project, words_of
from vitrail.errors import VitrailError
from vitrail.report.check import check_html, check_pdf, hand_typed_results, remote_loads
from vitrail.report.quarto import find_quarto
from vitrail.report.render import choose_route
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
    assert "Figure 2, Table 1, after Vaswani (2017) and (Vaswani 2017, 3)" in words
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
    assert "Figure 2, Table 1, after Vaswani (2017) and (Vaswani 2017, 3)" in words
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
    "include": ("{{< include tables/no.md >}}", r"q2_mlp\.qmd:5: .*tables/no\.md"),
    "include outside": ("{{< include ../../../../../../etc/passwd >}}", r"q2_mlp\.qmd:5"),
    "variable": ("It is {{< var q2.no.such >}}.", r"q2_mlp\.qmd:5: .*'q2\.no\.such'"),
    "variable that is a group": ("{{< var q2.base >}}", r"q2_mlp\.qmd:5: .*'q2\.base'"),
    "other shortcode": ("{{< video x.mp4 >}}", r"q2_mlp\.qmd:5: .*video"),
    "executable cell": ("```{python}\n1\n```", r"q2_mlp\.qmd:5: .*executable"),
    "reference": ("See @fig-nowhere.", r"q2_mlp\.qmd:5: .*@fig-nowhere leads nowhere"),
    "section reference": ("See @sec-none.", r"q2_mlp\.qmd:5: .*@sec-none"),
    "citation": ("As [@nobody2020] says.", r"q2_mlp\.qmd:5: @nobody2020 .*bibliography"),
    "image": ("![c](figures/no.svg){#fig-n}", r"q2_mlp\.qmd:5: .*figures/no\.svg is not there"),
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


STUB = """\
#!{python}
import os, pathlib, sys
if sys.argv[1:] == ["--version"]:
    print({version!r}); raise SystemExit
here = pathlib.Path.cwd()
with open({record!r}, "a") as stream:
    stream.write(f"{{' '.join(sys.argv[1:])}} in {{here.name}}\\n")
print({says!r}, file=sys.stderr)
if sys.argv[-1] == "html":
    (here / "report.html").write_text({html!r})
else:
    (here / "report.pdf").write_bytes(b"%PDF-1.7\\n%%EOF\\n")
"""


@pytest.fixture
def stub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Path]:
    """A `quarto` on PATH that records how it was called."""

    def make(version: str = "1.6.40", says: str = "Output created", html: str = WHOLE) -> Path:
        record = tmp_path / "calls.txt"
        folder = tmp_path / "bin"
        folder.mkdir()
        script = folder / "quarto"
        script.write_text(
            STUB.format(
                python=sys.executable, version=version, record=str(record), says=says, html=html
            )
        )
        script.chmod(0o755)
        monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
        monkeypatch.delenv("QUARTO", raising=False)
        return record

    return make


def test_new_quarto_is_used(project: Path, stub: Callable[..., Path]) -> None:
    record = stub()
    assert built(project, "auto")[0] == WHOLE
    assert record.read_text().splitlines() == [
        "render report.qmd --to html in report_build",
        "render report.qmd --to typst in report_build",
    ]
    variables = (project / "results" / "tiny" / "report_build" / "_variables.yml").read_text()
    assert "route: Quarto" in variables and "versions: Quarto 1.6.40" in variables


@RENDERS
def test_old_quarto_is_left_alone_with_a_sentence(
    stub: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    record = stub(version="1.5.57")
    assert choose_route("auto").name == "builtin"
    assert "Quarto 1.5.57 is older than 1.6" in capsys.readouterr().err
    assert not record.exists()
    with pytest.raises(VitrailError, match=r"older than 1\.6"):
        choose_route("quarto")


@pytest.mark.parametrize(
    ("says", "html", "message"),
    [
        ("\x1b[33mWARN: Unable to resolve crossref @fig-gone\x1b[39m", WHOLE, "@fig-gone"),
        ("[WARNING] Citeproc: citation nobody not found", WHOLE, "nobody"),
        ("fine", WHOLE + "<strong>?@fig-lost</strong>", r"\?@fig-lost"),
        ("fine", WHOLE + "<strong>?var:q1.lost</strong>", r"\?var:q1\.lost"),
    ],
)
def test_what_quarto_only_warns_about_stops(
    project: Path, stub: Callable[..., Path], says: str, html: str, message: str
) -> None:
    stub(says=says, html=html)
    with pytest.raises(VitrailError, match=message):
        built(project, "quarto")
    assert not (project / "results" / "tiny" / "report").exists()


def test_quarto_route_checks_numbers_before_quarto_runs(
    project: Path, stub: Callable[..., Path]
) -> None:
    record = stub()
    add(project, "{{< var q2.gone >}}")
    with pytest.raises(VitrailError, match=r"q2_mlp\.qmd:5"):
        built(project, "quarto")
    assert not record.exists()


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


FOR_QUARTO = """\
::: {#where .answer}
It is [refuted]{.verdict .refuted} by $\\operatorname{softmax}\\!\\left(x\\right)$, as told
[above](#where).
:::

| arm with a long label that makes this line of the table longer than 72 letters | errors |
|:-------------------------------------------------------------------------------|-------:|
| `test_that_is_named_at_length`                                                 | 281    |

```{.python filename="src/a.py:2"}
x = 1
```
"""


def through_quarto_filter(project: Path, to: str) -> str:
    """What pandoc makes of `FOR_QUARTO` with the filter of the Quarto route."""
    from vitrail.report.builtin import find_pandoc

    done = subprocess.run(
        [str(find_pandoc()), f"--to={to}", f"--lua-filter={project / 'report' / 'quarto.lua'}"],
        input=FOR_QUARTO,
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout


@RENDERS
def test_quarto_draws_its_pdf_like_the_page(project: Path) -> None:
    import typst

    typ = through_quarto_filter(project, "typst")
    assert typ.count("#answer[") == 1 and "<where>" in typ
    assert '#verdict("refuted")[refuted]' in typ and '#code-block("src/a.py:2")[' in typ
    # Pandoc's own way would print the bracket over the word (a space of -1em).
    assert "upright(s o f t m a x) (x)" in typ and "-1em" not in typ
    assert "columns: 2" in typ and "test_\u200bthat_" in typ
    style = (project / "report" / "quarto.typ").read_text()
    callout = "#callout(body: [a], title: [b], icon: [i], icon_color: blue)\n"
    source = project / "quarto-test.typ"
    source.write_text(style + callout + typ[typ.index("#answer[") : typ.index("#figure(")])
    content, warnings = typst.compile_with_warnings(str(source))
    assert warnings == [] and bytes(content).startswith(b"%PDF-")


@RENDERS
def test_quarto_filter_leaves_the_page_its_classes(project: Path) -> None:
    html = through_quarto_filter(project, "html")
    assert 'class="answer"' in html and 'class="verdict refuted"' in html
    assert "<col" not in html and "\u200b" not in html and "#code-block" not in html


def test_files_that_quarto_is_told_to_read_are_staged(project: Path) -> None:
    settings = yaml.safe_load((project / "report" / "_quarto.yml").read_text())
    html, typ = settings["format"]["html"], settings["format"]["typst"]
    named = [*html["css"], *settings["filters"], typ["include-before-body"]]
    build = stage("tiny", project / "results", project / "report", project)
    assert len(named) == 5 and all((build / name).is_file() for name in named)
    # For Quarto's Typst format this is the number of columns on a page.
    assert "columns" not in settings and "columns" not in typ


@pytest.mark.skipif(
    isinstance(find_quarto(), str), reason="Quarto 1.6 or newer is neither on PATH nor in $QUARTO"
)
def test_quarto_gives_the_same_numbers(project: Path) -> None:
    html, pdf = built(project, "quarto")
    words = words_of(re.sub(r"<script.*?</script>", "", html, flags=re.DOTALL))
    assert "in Figure 1, Figure 2 (a), Table 1, Table 2, Equation 1, Section 2 and" in words
    assert "after Vaswani (2017) and (Vaswani 2017, 3)" in words
    for text in (
        "Figure 1. Slope matters at 91.20 % ± 0.30.",
        "Figure 2. Two views.",
        "src/a.py:2",
    ):
        assert text in words
    assert words.index("Table 1. The arms.") < words.index("Table 2. Tokens")
    assert remote_loads(html) == [] and pdf.startswith(b"%PDF-")
    assert built(project, "quarto") == (html, pdf)
