"""The chapters as panache, a linter and formatter of Quarto Markdown, reads them."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from made_report import ROOT

PANACHE = shutil.which("panache") or shutil.which("panache", path=Path(sys.executable).parent)
pytestmark = pytest.mark.skipif(PANACHE is None, reason="panache-cli is not installed")
CHAPTERS = sorted((ROOT / "report").glob("*.qmd"))
# Tables of long sentences: panache would pad each line to hundreds of columns.
WIDE = ("errata.qmd", "provenance.qmd")


@pytest.fixture
def chapters(tmp_path: Path) -> Path:
    """The sources beside empty files in place of what the questions make."""
    for file in (*CHAPTERS, ROOT / "report" / "references.bib", ROOT / "panache.toml"):
        shutil.copyfile(file, tmp_path / file.name)
        for name in re.findall(r"\{\{< include (\w+/\S+) >\}\}", file.read_text()):
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).touch()
    return tmp_path


def panache(folder: Path, *command: str) -> tuple[int, str]:
    """Exit status and words of panache, which keeps nothing of what it reads."""
    done = subprocess.run(
        [str(PANACHE), "--no-cache", *command], cwd=folder, capture_output=True, text=True
    )
    return done.returncode, done.stdout + done.stderr


def test_linter_finds_nothing(chapters: Path) -> None:
    status, said = panache(chapters, "lint", "--message-format=short", ".")
    assert status == 0, said


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ("#### Three levels down", "heading-hierarchy"),
        ("[there](#nowhere)", "undefined-anchor"),
        ("{{< include gone.qmd >}}", "include-not-found"),
    ],
)
def test_linter_would_find(chapters: Path, text: str, rule: str) -> None:
    with (chapters / "q2_mlp.qmd").open("a") as stream:
        stream.write(f"\n{text}\n")
    status, said = panache(chapters, "lint", "--message-format=short", "q2_mlp.qmd")
    assert status == 1 and rule in said


def test_chapters_are_in_the_house_format(chapters: Path) -> None:
    names = [file.name for file in CHAPTERS if file.name not in WIDE]
    status, said = panache(chapters, "format", "--check", *names)
    assert status == 0, said
    (chapters / "q2_mlp.qmd").write_text("Title\n=====\n\n* one\n* two\n")
    assert panache(chapters, "format", "--check", "q2_mlp.qmd")[0] == 1
