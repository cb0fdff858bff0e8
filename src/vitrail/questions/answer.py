"""What a question hands to the report, and how it lies on disk."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from vitrail import style
from vitrail.claims import Claim
from vitrail.files import write_json, write_text
from vitrail.intact import SHOWN, checksums
from vitrail.questions import plain_text
from vitrail.questions.plain_text import as_markdown, as_text, everywhere
from vitrail.questions.sources import Basis, Sources, source_of

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Data = str | Sequence[str] | pd.DataFrame


@dataclass(frozen=True)
class Key:
    """The number that says most about a question, for the opening page.

    Attributes:
        value: ready to be printed, with its interval where it has one: "98.91 % ± 0.10".
        name: what it is a number of, without a full stop.
    """

    value: str
    name: str


@dataclass
class Answer:
    """One question, answered.

    Attributes:
        sentence: the answer in a line or two of Markdown, numbers first.
        table: the question's main table, as data.
        numbers: nested mapping of strings, ready to be printed in prose.
        claims: what the report asserts here.
        figures: name -> figure; saved as figures/<name>.svg.
        tables: name -> Markdown; saved as tables/<name>.md for inclusion.
        data: name -> further frame; saved as <name>.csv.
        short: the answer for a reader of the opening page alone, in one or two sentences.
        key: its most telling number.
        sources: of every figure and every labelled table; saved as sources.json.
        explore: view of `vitrail.views` -> its data; saved as explore/<view>.json.
    """

    sentence: str
    table: pd.DataFrame
    numbers: dict[str, Any] = field(default_factory=dict)
    claims: list[Claim] = field(default_factory=list)
    figures: dict[str, Figure] = field(default_factory=dict)
    tables: dict[str, str] = field(default_factory=dict)
    data: dict[str, pd.DataFrame] = field(default_factory=dict)
    short: str = ""
    key: Key = Key("", "")
    sources: Sources = field(default_factory=Sources.none)
    explore: dict[str, Any] = field(default_factory=dict)

    def draw(
        self,
        name: str,
        function: Callable[..., Figure | tuple[Figure, pd.DataFrame]],
        *arguments: Any,
        data: Data = (),
        runs: Basis,
    ) -> None:
        """Add the figure that a function draws, and note where it comes from.

        Args:
            name: of the figure.
            function: draws it; one whose data are in no frame yet returns them beside it.
            arguments: of the function.
            data: what is drawn: names of frames in `data` (or ``table``), or a frame, which is
                saved under the name of the figure.
            runs: ids of the runs that it was computed from, or in words what else it was.
        """
        drawn = function(*arguments)
        self.figures[name], data = drawn if isinstance(drawn, tuple) else (drawn, data)
        names = self._data_names(name, data)
        self.sources.figures[name] = source_of(function, names, runs)

    def tabulate(
        self,
        name: str,
        function: Callable[..., str],
        *arguments: Any,
        data: Data = (),
        runs: Basis,
    ) -> None:
        """Add Markdown that a function writes; its tables get this source, see `draw`."""
        self.tables[name] = text = function(*arguments)
        names = self._data_names(name, data)
        self.sources.add_tables(text, source_of(function, names, runs))

    def _data_names(self, name: str, data: Data) -> Sequence[str]:
        if isinstance(data, pd.DataFrame):
            self.data[name] = data
            return (name,)
        return (data,) if isinstance(data, str) else data

    def save(self, folder: Path) -> None:
        """Write everything below `folder`; leftovers of an earlier config go away.

        Raises:
            VitrailError: a figure or a table has no source, or one that is not there.
        """
        tables = {"claims": claims_markdown(self.claims), **self.tables}
        frames = {"table": self.table, **self.data}
        self.sources.check(folder.name, self.figures, tables.values(), frames)
        for part in ("figures", "tables", "explore"):
            shutil.rmtree(folder / part, ignore_errors=True)
        for name, figure in self.figures.items():
            plain_text.figure_as_text(figure)
            style.save(figure, folder / "figures" / f"{name}.svg")
        for file in folder.glob("*.csv"):
            if file.name != "runs.csv":  # of another step
                file.unlink()
        for name, text in tables.items():
            write_text(folder / "tables" / f"{name}.md", as_markdown(text.strip()) + "\n")
        for name, frame in frames.items():
            written = plain_text.frame_as_text(frame).to_csv(index=False, lineterminator="\n")
            write_text(folder / f"{name}.csv", written)
        for view, content in self.explore.items():
            content = everywhere(content, as_text)
            text = json.dumps(content, sort_keys=True, separators=(",", ":"), allow_nan=False)
            write_text(folder / "explore" / f"{view}.json", text + "\n")
        write_json(folder / "numbers.json", everywhere(self.numbers, as_markdown))
        write_json(
            folder / "claims.json", everywhere([claim.row() for claim in self.claims], as_markdown)
        )
        write_text(folder / "answer.md", as_markdown(self.sentence.strip()) + "\n")
        opening = {"answer": self.short, "key": self.key.value, "key_name": self.key.name}
        write_json(folder / "opening.json", everywhere(opening, as_markdown))
        sources = self.sources.content(f"{folder.name}/")
        write_json(folder / "sources.json", {**sources, "files": checksums(folder, *SHOWN)})


def claims_markdown(claims: list[Claim]) -> str:
    """The claims of a question as a list with their verdicts, and what holds instead.

    A verdict leads to the row of the table of all claims that has its test.
    """
    return "\n".join(
        f"- [[{claim.verdict}]{{.verdict .{claim.verdict}}}](#claim-{claim.id}) {claim.sentence} "
        + (f"{claim.finding} " if claim.instead else "")
        + f"*{claim.evidence}* (`{claim.id}`)"
        for claim in claims
    )


def markdown_table(
    frame: pd.DataFrame, caption: str, label: str, left: int = 1, widths: Sequence[int] = ()
) -> str:
    """A pipe table with a caption; the first `left` columns are text, the rest figures.

    `widths` of the columns are in per cent, for tables of prose; else they follow the content.
    """
    names = [str(name) for name in frame.columns]
    rule = [":---" if position < left else "---:" for position in range(len(names))]
    rows = [[str(cell) for cell in row] for row in frame.itertuples(index=False)]
    lines = [f"| {' | '.join(cells)} |" for cells in [names, rule, *rows]]
    shares = f' tbl-colwidths="[{",".join(map(str, widths))}]"' if widths else ""
    return "\n".join(lines) + f"\n\n: {caption} {{#tbl-{label}{shares}}}\n"
