"""Numbers of a column line up at the point, on both routes, without a trace in the text."""

from __future__ import annotations

import re
import subprocess
from html import unescape
from pathlib import Path

import pytest

from vitrail.report import builtin

TABLE = """\
| Way | Accuracy | Time | Difference | Words | Plain |
|:---|---:|---:|---:|---:|---:|
| a | 97.9 ± 0.14 | 1 | reference | many words | 1.20 |
| b | 281 | 1.08 (0.93 to 1.11) | **−12.50 ± 10.20** | [x](y) 2 | 13.40 |
| c | not run | 0.6 | +0.5 ± 0.3 | — | — |
| d | 6.25 | 12.48 | 4 | $x$ | 0.10 |
"""


@pytest.fixture(params=["html", "typst"])
def cells(request: pytest.FixtureRequest, root: Path) -> list[list[str]]:
    """The cells of the table by row, as they are laid out: room for text as ``{text}``."""
    command = [
        str(builtin.find_pandoc()),
        "--from=markdown",
        f"--to={request.param}",
        "--wrap=none",
    ]
    command += ["--wrap=none", f"--lua-filter={root / 'report' / 'decimals.lua'}"]
    done = subprocess.run(command, input=TABLE, capture_output=True, text=True, check=True)
    if request.param == "html":
        text = re.sub(r'<span class="room" data-room="([^"]*)"></span>', r"{\1}", done.stdout)
        rows = re.findall(r"<tr>(.*?)</tr>", text, re.DOTALL)[1:]
        every = [re.findall(r"<td[^>]*>(.*?)</td>", row, re.DOTALL) for row in rows]
        return [[unescape(re.sub(r"<[^>]+>", "", cell)) for cell in row] for row in every]
    text = re.sub(r'#hide\("([^"]*)"\);', r"{\1}", done.stdout)
    rows = re.findall(r"^    (\[[a-d]\], .*),$", text, re.MULTILINE)
    text = "\n".join(re.sub(r"#strong\[(.*?)\]", r"\1", row) for row in rows)
    return [re.findall(r"\[(.*?)\](?:, |$)", row) for row in text.splitlines()]


def test_points_and_intervals_stand_below_each_other(cells: list[list[str]]) -> None:
    assert len(cells) == 4 and len(cells[0]) == 6
    columns = [[row[place] for row in cells] for place in range(6)]
    for column, numbers in ((columns[1], 3), (columns[2], 4), (columns[3], 3)):
        laid_out = [re.sub(r"[{}]", "", cell) for cell in column]
        points = [len(text) - text.index(".") for text in laid_out if "." in text]
        assert len(points) == numbers and len(set(points)) == 1, laid_out
        signs = [len(text) - text.index("±") for text in laid_out if "±" in text]
        assert len(set(signs)) <= 1, laid_out


def test_what_is_read_stays_as_it_was(cells: list[list[str]]) -> None:
    asked = [
        [cell.strip(" *") for cell in line.strip("|").split("|")] for line in TABLE.splitlines()[2:]
    ]
    for row, wanted in zip(cells, asked, strict=True):
        seen = [re.sub(r"\{[^}]*\}", "", cell) for cell in row]
        assert seen[1:4] == wanted[1:4]


def test_what_lines_up_by_itself_is_left_alone(cells: list[list[str]]) -> None:
    assert [row[5] for row in cells if "—" not in row[5] and "-" not in row[5]] == [
        "1.20",
        "13.40",
        "0.10",
    ]
    assert not any("{" in row[4] for row in cells)
