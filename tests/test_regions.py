"""Named regions of code: what a chapter shows is what the file says, or the build stops."""

from __future__ import annotations

import re
import textwrap
from pathlib import Path

import pytest

from vitrail.errors import VitrailError
from vitrail.report.regions import collect_regions, requested_regions, write_regions

CODE = """\
class Attention:
    def forward(self, x):
        # region: scores
        q, k = self.query(x), self.key(x)
        # region: softmax
        weights = (q @ k.T).softmax(-1)
        # endregion: softmax

        # why the rows sum to one
        return weights
        # endregion: scores
"""


def make_project(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        file = root / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")
    return root


def test_region_is_dedented_without_markers_and_knows_its_lines(tmp_path: Path) -> None:
    make_project(tmp_path, {"src/vitrail/model/attention.py": CODE})
    regions = collect_regions(tmp_path / "src", tmp_path)
    scores = regions["scores"]
    assert scores.text == (
        "q, k = self.query(x), self.key(x)\n"
        "weights = (q @ k.T).softmax(-1)\n"
        "\n"
        "# why the rows sum to one\n"
        "return weights"
    )
    assert (scores.path, scores.first, scores.last) == ("src/vitrail/model/attention.py", 4, 10)
    assert regions["softmax"].markdown() == (
        '```{.python filename="src/vitrail/model/attention.py:6"}\n'
        "weights = (q @ k.T).softmax(-1)\n"
        "```\n"
    )


def test_fence_is_longer_than_any_inside(tmp_path: Path) -> None:
    make_project(tmp_path, {"src/a.py": '# region: doc\nx = "````"\n# endregion: doc\n'})
    markdown = collect_regions(tmp_path / "src", tmp_path)["doc"].markdown()
    assert markdown.startswith("`````{.python") and markdown.endswith("\n`````\n")


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("# region: a\nx = 1\n", r"src/a\.py:1: .*'a' is never closed"),
        ("x = 1\n# endregion: a\n", r"src/a\.py:2: .*not open"),
        ("# region: a\nx = 1\n# endregion: b\n", r"src/a\.py:3: 'endregion: b'"),
        ("# region: a\nx\n# endregion: a\n# region: a\nx\n# endregion: a\n", r"src/a\.py:4: .*'a'"),
        ("# region: a\n\n# endregion: a\n", r"src/a\.py:1: .*'a' is empty"),
        ("# region: Not A Name\nx\n# endregion: Not A Name\n", r"src/a\.py:1: 'Not A Name'"),
    ],
)
def test_wrong_markers_are_named_with_file_and_line(
    tmp_path: Path, code: str, message: str
) -> None:
    make_project(tmp_path, {"src/a.py": code})
    with pytest.raises(VitrailError, match=message):
        collect_regions(tmp_path / "src", tmp_path)


def test_same_name_in_two_files_names_both(tmp_path: Path) -> None:
    region = "# region: core\nx = 1\n# endregion: core\n"
    make_project(tmp_path, {"src/a.py": region, "src/b.py": "\n" + region})
    with pytest.raises(VitrailError, match=r"src/b\.py:2: .*already at src/a\.py:1"):
        collect_regions(tmp_path / "src", tmp_path)


def test_only_what_chapters_ask_for_is_written(tmp_path: Path) -> None:
    code = "# region: one\nx = 1\n# endregion: one\n# region: two\ny = 2\n# endregion: two\n"
    chapter = "text\n\n{{< include code/one.md >}}\n\n`{{{< include code/no.md >}}}`\n"
    make_project(tmp_path, {"src/a.py": code, "report/q1.qmd": chapter})
    assert requested_regions(tmp_path / "report" / "q1.qmd") == {"one": 3}
    write_regions(tmp_path / "report", tmp_path / "src", tmp_path, tmp_path / "code")
    assert [file.name for file in (tmp_path / "code").iterdir()] == ["one.md"]


def test_region_that_is_gone_names_region_and_chapter(tmp_path: Path) -> None:
    make_project(
        tmp_path, {"src/a.py": "x = 1\n", "report/q3.qmd": "\n{{< include code/gone.md >}}\n"}
    )
    with pytest.raises(VitrailError, match=r"q3\.qmd:2 .*'gone'"):
        write_regions(tmp_path / "report", tmp_path / "src", tmp_path, tmp_path / "code")


ROOT = Path(__file__).resolve().parents[1]
CHAPTERS = sorted((ROOT / "report").glob("*.qmd"))
# Equations that no lines of ours compute, and why.
WITHOUT_CODE = {
    "eq-gelu": "PyTorch's own",
    "eq-equivariance": "a property, which tests/test_model_properties.py shows",
    "eq-entropy": "a derivation",
    "eq-heads-sum": "an identity of the product that multi_head computes",
    "eq-q8-tokens": "timm's, which the chapter calls",
    "eq-q8-input": "timm's, which the chapter calls",
    "eq-q8-conv": "PyTorch's own",
}


def test_what_the_chapters_show_stands_in_the_source_at_these_lines() -> None:
    regions = collect_regions(ROOT / "src", ROOT)
    asked = {name for chapter in CHAPTERS for name in requested_regions(chapter)}
    assert len(asked) > 20
    for name in asked:
        region = regions[name]
        lines = (ROOT / region.path).read_text().splitlines()[region.first - 1 : region.last]
        own = [line for line in lines if not re.match(r"\s*# (end)?region:", line)]
        assert textwrap.dedent("\n".join(own)).strip("\n") == region.text
        assert f'filename="{region.path}:{region.first}' in region.markdown()


def test_every_equation_that_is_computed_has_its_code_nearby() -> None:
    bare = set()
    for chapter in CHAPTERS:
        lines = chapter.read_text().splitlines()
        shown = [at for at, line in enumerate(lines) if "include code/" in line]
        for at, line in enumerate(lines):
            for label in re.findall(r"\{#(eq-[\w-]+)\}", line):
                after = any(0 < place - at <= 20 for place in shown)
                bare |= set() if after else {label}
    assert bare == set(WITHOUT_CODE)
