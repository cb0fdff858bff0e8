"""The README's opening: answers written by a command, in the form that it writes today."""

from __future__ import annotations

import csv
import json
import re
import struct
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from vitrail import readme
from vitrail.errors import VitrailError
from vitrail.opening import ASKED
from vitrail.pictures import LIMIT

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "README.md").read_text(encoding="utf-8")


def staleness(text: str) -> list[str]:
    """Why the answers in the text of a README are not what the command would write today."""
    facts, rows = readme.read_back(text)
    faults = []
    if not facts or readme.block(facts, rows) not in text:
        faults.append("not written by this version of `make readme`")
    asked = [(stem.split("_")[0].upper(), *about) for stem, about in ASKED.items()]
    if [(row["question"], row["title"], row["asks"]) for row in rows] != asked:
        faults.append("not the eight questions that the report asks")
    faults += [f"{row['question']} has no answer" for row in rows if len(row["answer"]) < 20]
    for commit in ("commit", "answered"):
        if not re.fullmatch(r"[0-9a-f]{7,40}", facts.get(commit, "")):
            faults.append(f"no clean commit named ({commit})")
    if facts.get("name") not in ("default", "tiny"):  # tiny is that of these tests
        faults.append("not the default study")
    if not facts.get("hardware", "").strip():
        faults.append("no machine named")
    for name, sign in readme.SIGNS.items():
        counts = [int(n) for row in rows for n in re.findall(rf"\{sign}\u00a0(\d+)", row["claims"])]
        if name in facts and sum(counts) != int(facts[name]):
            faults.append(f"the {name} claims do not add up")
    return faults


def test_the_answers_are_not_stale_in_form() -> None:
    assert staleness(TEXT) == [], "write them again: make readme"


@pytest.mark.parametrize(
    ("old", "new", "fault"),
    [
        (r"\| Key number \|", "| Number |", "this version"),
        (r"Written by `make readme`", "Written by hand", "this version"),
        (r"\| \*\*Q3\..*\n", "", "eight questions"),
        (r"\*\*Q1\. Patch embedding", "**Q1. Patches", "eight questions"),
        (r"at commit `\w+`", "at commit `some`", "no clean commit"),
        (r"answered at `\w+`", "answered at `1234567-dirty`", r"no clean commit named (answered)"),
        (r"` on .*? \(", "` on   (", "no machine"),
        (r"support \d+ \(", "support 9999 (", "supported claims do not add up"),
        (rf"{readme.BEGIN}[\s\S]*{readme.END}", "", "this version"),
    ],
)
def test_stale_answers_are_found(tmp_path: Path, old: str, new: str, fault: str) -> None:
    facts, rows = readme.answers(made(tmp_path) / "tiny")
    text = readme.put_in(TEXT, readme.block(facts, rows))
    assert staleness(text) == []
    changed = re.sub(old, new, text, count=1)
    assert changed != text
    assert any(fault in found for found in staleness(changed))


def test_the_opening_shows_before_it_asks() -> None:
    """What it is, the answers, the pictures, the two commands: in this order, near the top."""
    places = [
        TEXT.index(part)
        for part in (readme.BEGIN, readme.END, "docs/pictures/report.png", "    make report",
                     "    make test", "## What comes out")
    ]  # fmt: skip
    assert places == sorted(places)
    assert len(TEXT.splitlines()) < 200


def test_its_pictures_are_small_and_have_words() -> None:
    pictures = re.findall(r"!\[([^\]]*)\]\((docs/pictures/\w+\.png)\)", TEXT)
    assert {file for _, file in pictures} == {
        f"docs/pictures/{path.name}" for path in (ROOT / "docs" / "pictures").iterdir()
    }
    assert 2 <= len(pictures) <= 3
    for words, file in pictures:
        content = (ROOT / file).read_bytes()
        assert len(words) > 20, file
        assert content.startswith(b"\x89PNG\r\n") and len(content) < LIMIT, file
        assert struct.unpack(">I", content[16:20])[0] >= 600, file


# --- The command

SHORT = r"It reads $\sqrt{d_k}$ | so."
NUMBERS = {
    "name": "tiny", "commit": "0123abc", "answered": "4567def", "hardware": "A | machine",
    "cores": "2", "finished": "9", "runs": "10", "minutes": "3", "claims": "8",
    "supported": "8", "refuted": "0", "undecided": "0", "torch": "2",
}  # fmt: skip


def made(results: Path, **change: Any) -> Path:
    """A study that has come to its answers; `change` goes into the second row."""
    folder = results / "tiny" / "study"
    folder.mkdir(parents=True)
    (folder / "numbers.json").write_text(json.dumps(NUMBERS))
    rows = []
    for stem, about in ASKED.items():
        rows.append(
            {"stem": stem, "question": stem.split("_")[0].upper(), "title": about.title,
             "asks": about.question, "answer": SHORT, "key": "98.9 % ± 0.1",
             "key_name": "of the digits", "supported": 1, "refuted": 0, "undecided": 0,
             "not_run": 0}
        )  # fmt: skip
    rows[1].update(change)
    with (folder / "answers.csv").open("w", newline="") as stream:
        writer = csv.DictWriter(stream, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    return results


def test_what_is_written_can_be_read_back(tmp_path: Path) -> None:
    facts, rows = readme.answers(made(tmp_path, key="", refuted=2, not_run=1) / "tiny")
    text = readme.block(facts, rows)
    back, again = readme.read_back(f"before\n{text}\nafter")
    assert back == facts and readme.block(back, again) == text
    assert len(again) == 8 and again[0]["answer"] == SHORT
    assert again[0]["number"] == "**98.9 % ± 0.1** of the digits"
    assert again[1]["number"] == "–" and again[1]["claims"] == "✓\u00a01 ✗\u00a02 –\u00a01"


def command(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    (folder / "tiny.yaml").write_text("study: tiny\n")
    config = [str(ROOT / "config" / "default.yaml"), str(folder / "tiny.yaml")]
    return subprocess.run(
        [sys.executable, "-m", "vitrail.readme", "--config", *config, "--results", str(folder)],
        cwd=folder, capture_output=True, text=True, check=False,
    )  # fmt: skip


def test_the_command_changes_the_block_alone_and_twice_the_same(tmp_path: Path) -> None:
    made(tmp_path)
    file = tmp_path / "README.md"
    file.write_text(f"# A\n{readme.BEGIN}\nold\n{readme.END}\nrest\n")
    assert command(tmp_path).returncode == 0
    text = file.read_text(encoding="utf-8")
    assert text.startswith(f"# A\n{readme.BEGIN}\n| Question") and text.endswith("\nrest\n")
    assert "old" not in text and "`0123abc`" in text and text.count("\n| **Q") == 8
    command(tmp_path)
    assert file.read_text(encoding="utf-8") == text


@pytest.mark.parametrize("text", ["no marks", f"{readme.END}\n{readme.BEGIN}", readme.BEGIN * 2])
def test_a_readme_without_its_marks_is_left_alone(text: str) -> None:
    with pytest.raises(VitrailError, match=r"README\.md should hold the lines"):
        readme.put_in(text, "new")


def test_a_page_that_cannot_be_read_is_told_with_its_option(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    with pytest.raises(VitrailError, match=r"^--page: there is no page .*page\.md; name one"):
        readme.check_page(page, (readme.BEGIN, readme.END), "--page")
    page.write_bytes(f"{readme.BEGIN} é {readme.END}".encode("latin-1"))
    with pytest.raises(VitrailError, match=r"page\.md is no text in UTF-8 .*save it as UTF-8"):
        readme.check_page(page, (readme.BEGIN, readme.END))


def test_a_page_that_cannot_be_written_is_told_by_its_check(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[Path, str]] = []
    monkeypatch.setattr(readme, "check_writable", lambda *given: asked.append(given))
    page = tmp_path / "page.md"
    page.write_text(f"{readme.BEGIN}{readme.END}")
    readme.check_page(page, (readme.BEGIN, readme.END), "--page")
    assert asked == [(page, "--page")]


def test_a_readme_that_is_not_there_is_told_as_such(tmp_path: Path) -> None:
    made(tmp_path)
    done = command(tmp_path)
    assert done.returncode == 1
    assert re.fullmatch(r"vitrail: --readme: there is no page .*README\.md; name .*\n", done.stderr)


def test_without_a_study_it_says_what_to_run(tmp_path: Path) -> None:
    done = command(tmp_path)
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert re.fullmatch(r"vitrail: .*answers\.csv is missing.*`make report`.*\n", done.stderr)


@pytest.mark.parametrize(
    "answer", ["See @fig-x.", "It is [so]{.verdict}.", "{{< var q1.x >}}", "As [@vaswani2017]."]
)
def test_what_only_quarto_understands_is_refused(tmp_path: Path, answer: str) -> None:
    with pytest.raises(VitrailError, match=r"the answer of Q2 has .* only Quarto"):
        readme.answers(made(tmp_path, answer=answer) / "tiny")
