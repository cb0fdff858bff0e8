"""The route with Quarto: how it is called, what is looked at before and after, its traps.

Where Quarto is not installed a stub on PATH records how it was called.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from made_report import RENDERS, add, built, make_project, words_of
from vitrail.errors import VitrailError
from vitrail.report.builtin import find_pandoc
from vitrail.report.check import remote_loads
from vitrail.report.quarto import check_settings, find_quarto
from vitrail.report.render import choose_route
from vitrail.report.stage import stage

WHOLE = "".join(f'<h2 id="sec-q{number}">Q</h2>' for number in range(1, 9))


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """The small project of `made_report`."""
    return make_project(tmp_path)


STUB = """\
#!{python}
import os, pathlib, sys
if sys.argv[1:] == ["--version"]:
    print({version!r}); raise SystemExit
here = pathlib.Path.cwd()
with open({record!r}, "a") as stream:
    epoch = os.environ.get("SOURCE_DATE_EPOCH")
    stream.write(f"{{' '.join(sys.argv[1:])}} in {{here.name}} at {{epoch}}\\n")
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
        "render report.qmd --to html in report_build at 0",
        "render report.qmd --to typst in report_build at 0",
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


# What Quarto would print with a mark, or leave out, with exit status 0.
UNRESOLVED = {
    "variable": ("It is {{< var q2.no.such >}}.", r"no number called 'q2\.no\.such'"),
    "included file": ("{{< include tables/no.md >}}", r"'tables/no\.md' is not there"),
    "region": ("{{< include code/gone.md >}}", r"the code region 'gone'"),
    "reference": ("See @fig-nowhere.", r"the reference @fig-nowhere leads nowhere"),
    "reference to a section": ("See @sec-none.", r"the reference @sec-none leads nowhere"),
    "citation": ("As [@nobody2020] says.", r"@nobody2020 is neither in the bibliography"),
    "image": ('![c](figures/no.svg){fig-alt="a"}', r"the image figures/no\.svg is not there"),
    "link": ("[there](#nowhere)", r"the link to #nowhere leads nowhere"),
}


@RENDERS
@pytest.mark.parametrize("wish", ["builtin", "quarto"])
@pytest.mark.parametrize("name", UNRESOLVED)
def test_what_leads_nowhere_is_named_before_anything_is_rendered(
    project: Path, stub: Callable[..., Path], name: str, wish: str
) -> None:
    record = stub()
    text, message = UNRESOLVED[name]
    add(project, text)
    with pytest.raises(VitrailError, match=rf"q2_mlp\.qmd:5:? [^;]*{message}"):
        built(project, wish)
    assert not record.exists()
    assert not (project / "results" / "tiny" / "report").exists()


def test_without_the_wheel_quarto_brings_its_own_pandoc(
    project: Path, stub: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    record = stub()
    monkeypatch.setattr("vitrail.report.builtin.find_pandoc", lambda: None)
    built(project, "quarto")
    assert record.read_text().startswith("pandoc report.md --from=markdown")


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("theme: default", "theme: cosmo", "theme cosmo .* fonts"),
        ("theme: default", "theme: [default, dark.scss]", r"theme .*dark\.scss"),
        ("html-math-method: mathml", "html-math-method: mathjax", "html-math-method"),
        ("embed-resources: true", "embed-resources: false", "embed-resources"),
        ("papersize: a4", "papersize: a4\n    columns: 2", "columns"),
        ("- quarto.lua", "- gone.lua", r"gone\.lua"),
    ],
)
def test_settings_that_break_the_report_are_named(
    project: Path, stub: Callable[..., Path], old: str, new: str, message: str
) -> None:
    record = stub()
    file = project / "report" / "_quarto.yml"
    check_settings(project / "report")
    file.write_text(file.read_text().replace(old, new))
    with pytest.raises(VitrailError, match=rf"_quarto\.yml: .*{message}"):
        built(project, "quarto")
    assert not record.exists()


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

::: {#refs}
:::
"""


def through_quarto_filter(project: Path, to: str) -> str:
    """What pandoc makes of `FOR_QUARTO` with the filter of the Quarto route."""
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
    assert "hanging-indent: 1.4em" in typ and "columns: 2" in typ and "test_\u200bthat_" in typ
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
    named.append(html["include-after-body"])
    build = stage("tiny", project / "results", project / "report", project)
    assert len(named) >= 6 and all((build / name).is_file() for name in named)
    # For Quarto's Typst format this is the number of columns on a page.
    assert "columns" not in settings and "columns" not in typ


@pytest.mark.skipif(
    isinstance(find_quarto(), str), reason="Quarto 1.6 or newer is neither on PATH nor in $QUARTO"
)
def test_quarto_gives_the_same_numbers(project: Path) -> None:
    html, pdf = built(project, "quarto")
    words = words_of(re.sub(r"<script.*?</script>", "", html, flags=re.DOTALL))
    assert "in Figure 1, Figure 2 (a), Table 1, Table 2, Equation 1, Section 2 and" in words
    assert "after Vaswani (2017) and (Vaswani 2017, p. 3)" in words
    for text in (
        "Figure 1. Slope matters at 91.20 % ± 0.30.",
        "Figure 2. Two views.",
        "src/a.py:2",
    ):
        assert text in words
    assert words.index("Table 1. The arms.") < words.index("Table 2. Tokens")
    assert remote_loads(html) == [] and pdf.startswith(b"%PDF-")
    assert built(project, "quarto") == (html, pdf)
