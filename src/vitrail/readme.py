"""The answers of a finished study as the opening table of README.md: ``make readme``.

The block is a pure function of a few facts and eight rows, and can be read back: a block that
does not come out the same again was written by another version of this file, or by hand.
"""

from __future__ import annotations

import argparse
import re
from pathlib import Path

from vitrail.config import load
from vitrail.errors import VitrailError, run_command
from vitrail.files import check_writable, read_json, write_text
from vitrail.intact import check_shown, read_rows

BEGIN, END = "<!-- answers: begin -->", "<!-- answers: end -->"
HEAD = "| Question | Answer | Key number | Claims |\n|:--|:--|:--|:--|"
ROW = "| **{question}. {title}.** {asks} | {answer} | {number} | {claims} |"
FACTS = (
    "Study `{name}`, run at commit `{commit}` on {hardware} ({cores} cores) and answered at "
    "`{answered}`: {finished} of {runs} runs finished, {minutes} minutes of computing. Of its "
    "{claims} claims the runs support {supported} (✓), refute {refuted} (✗) and leave {undecided} "
    "undecided (?); – counts runs that could not be made. Written by `make readme`."
)
SIGNS = {"supported": "✓", "refuted": "✗", "undecided": "?", "not_run": "–"}
# What Quarto knows and a README does not.
_QUARTO = re.compile(r"\{\{<|\]\{|\{[.#]\w|(?<!\w)@(?:fig|tbl|eq|sec)-|\[@\w")
Rows = list[dict[str, str]]
Marks = tuple[str, str]


def answers(folder: Path) -> tuple[dict[str, str], Rows]:
    """(facts, rows) of the study in `folder`.

    Raises:
        VitrailError: the study has not come so far, or an answer cannot stand in a README.
    """
    table, numbers = folder / "study" / "answers.csv", folder / "study" / "numbers.json"
    for file in (table, numbers):
        if not file.is_file():
            raise VitrailError(
                f"{file} is missing, so there are no answers to show; run `make report` first, "
                "with the same CONFIG"
            )
    check_shown(table.parent, f"delete the folder {table.parent} and run `make report`")
    rows = read_rows(table, *SIGNS, "question", "title", "asks", "answer", "key", "key_name")
    for row in rows:
        row["claims"] = " ".join(
            f"{sign}\u00a0{row[name]}" for name, sign in SIGNS.items() if row[name] != "0"
        )
        row["number"] = f"**{row['key']}** {row['key_name']}" if row["key"] else "–"
        if found := _QUARTO.search(row["answer"] + row["number"]):
            raise VitrailError(
                f"{table}: the answer of {row['question']} has {found[0]!r}, which only Quarto "
                "understands; put the short answer in plain Markdown"
            )
    wanted = re.findall(r"\{(\w+)\}", FACTS)
    facts = read_json(numbers)
    return {name: facts[name] for name in wanted}, rows


def block(facts: dict[str, str], rows: Rows) -> str:
    """What stands between the two marks, with them."""
    lines = [ROW.format_map({name: _cell(text) for name, text in row.items()}) for row in rows]
    return "\n".join([BEGIN, HEAD, *lines, "", FACTS.format_map(facts), END])


def _cell(text: str) -> str:
    return re.sub(r"[ \t\r\n]+", " ", text).strip(" ").replace("|", "\\|")


def read_back(text: str) -> tuple[dict[str, str], Rows]:
    """(facts, rows) of the block in the text of a README; what does not fit is left out."""
    inside = text.partition(BEGIN)[2].partition(END)[0]
    rows = [
        {name: cell.replace("\\|", "|") for name, cell in found.groupdict().items()}
        for line in inside.splitlines()
        if (found := _pattern(ROW).fullmatch(line))
    ]
    found = _pattern(FACTS).search(inside)
    return (found.groupdict() if found else {}), rows


def _pattern(template: str) -> re.Pattern[str]:
    return re.compile(re.sub(r"\\\{(\w+)\\\}", r"(?P<\1>.+?)", re.escape(template)))


def put_in(text: str, new: str, marks: Marks = (BEGIN, END), page: str = "README.md") -> str:
    """The text of a page with the block between two marks replaced, marks and all.

    Raises:
        VitrailError: the two marks are not there, once each and in order.
    """
    begin, end = marks
    if text.count(begin) != 1 or text.count(end) != 1 or text.index(begin) > text.index(end):
        raise VitrailError(
            f"{page} should hold the lines {begin} and {end}, once each and in this order; "
            "put them where the block is to stand"
        )
    return text.partition(begin)[0] + new + text.partition(end)[2]


def text_of(page: Path, option: str = "--readme") -> str:
    """The text of a page that a block stands in.

    Raises:
        VitrailError: there is no such page, or it is not UTF-8; names the option that it was
            given with.
    """
    if not page.is_file():
        raise VitrailError(
            f"{option}: there is no page {page}; name one that holds the lines of the block"
        )
    try:
        return page.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise VitrailError(
            f"{option}: {page} is no text in UTF-8 ({error.reason} at byte {error.start}); "
            "save it as UTF-8 or name another page"
        ) from error


def check_page(page: Path, marks: Marks, option: str = "--readme") -> None:
    """Make sure that a block can be written into a page, before minutes are spent on it.

    Raises:
        VitrailError: the page is not there, not UTF-8, without the marks, or cannot be written.
    """
    put_in(text_of(page, option), "", marks, str(page))
    check_writable(page, option)


def write_block(
    page: Path, block: str, marks: Marks = (BEGIN, END), option: str = "--readme"
) -> None:
    """Replace the block of a page as it is now: what was edited since its check stays.

    Raises:
        VitrailError: as `check_page`.
    """
    write_text(page, put_in(text_of(page, option), block, marks, str(page)))


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description="Write the answers of a study into README.md.")
    parser.add_argument("--config", type=Path, nargs="+", required=True, help="names the study")
    parser.add_argument("--results", type=Path, default=Path("results"))
    parser.add_argument("--readme", type=Path, default=Path("README.md"))
    arguments = parser.parse_args()
    study = load(arguments.config)["study"]
    facts, rows = answers(arguments.results / study)
    write_block(arguments.readme, block(facts, rows))
    print(f"vitrail: {arguments.readme} shows the answers of study {study}")


if __name__ == "__main__":
    run_command(main)
