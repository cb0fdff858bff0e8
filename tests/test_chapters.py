"""Every chapter keeps to the skeleton that a reader learns once and finds eight times."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from vitrail.config import STEMS

# In this order; each is looked for after the one before it.
SKELETON = {
    "the heading": r"^## Q\d\. .*\{#sec-q\d\}$",
    "the question": r"^\*[A-Z][^*]*\?\*$",
    "the answer box": r"^::: \{\.answer\}\n\{\{< include answers/\w+\.md >\}\}\n:::$",
    "an equation": r"^\$\$ \{#eq-",
    "the claims": r"^\*\*Claims\*\*\n\n\{\{< include tables/\w+/claims\.md >\}\}$",
    "what the lab report said": r"^\*\*What the lab report said\.\*\* \S",
    "the limits": r"^\*\*Limits\.\*\* \S",
    "the provenance line": r"^::: \{\.provenance\}\nCode `",
}


def whole(report: Path, name: str) -> str:
    """A chapter with the parts of it that lie in files of their own."""
    text = (report / name).read_text(encoding="utf-8")
    return re.sub(r"\{\{< include (\w+\.qmd) >\}\}", lambda m: whole(report, m[1]), text)


def missing_parts(chapter: str) -> list[str]:
    """What of the skeleton is not there, or not in its place."""
    place, missing = 0, []
    for part, pattern in SKELETON.items():
        found = re.compile(pattern, re.MULTILINE).search(chapter, place)
        if found is None:
            missing.append(part)
        else:
            place = found.end()
    return missing


@pytest.mark.parametrize("stem", STEMS)
def test_chapter_has_its_skeleton(stem: str, root: Path) -> None:
    chapter = whole(root / "report", f"{stem}.qmd")
    assert missing_parts(chapter) == []
    assert "{{< include code/" in chapter  # equations stand beside the code that implements them
    assert "{#fig-" in chapter or "tables/q8_transfer/learning_curves.md" in chapter


def test_a_chapter_out_of_order_is_seen(root: Path) -> None:
    chapter = whole(root / "report", "q1_patch_embedding.qmd")
    limits = chapter.index("**Limits.**")
    assert missing_parts(chapter[:limits]) == ["the limits", "the provenance line"]
    moved = chapter[limits:] + chapter[:limits]
    assert "the limits" in missing_parts(moved)
