"""The line below each figure and table that leads back to its data, its code and its runs.

It is put into the text that both routes render, as a division that report/sources.lua lays
out. What a question made has its record in ``<stem>/sources.json``; a table that is typed in a
chapter has the chapter for its source; anything else is refused by name.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from os.path import relpath
from pathlib import Path
from typing import Any
from urllib.parse import quote

from vitrail.config import STEMS
from vitrail.errors import VitrailError
from vitrail.files import read_json
from vitrail.report.source import Text

_FENCE = re.compile(r"^\s{0,3}(`{3,}|~{3,})")
_OPENS = re.compile(r"^\s{0,3}:{3,}\s*(?P<attributes>\S.*?)\s*:*\s*$")
_CLOSES = re.compile(r"^\s{0,3}:{3,}\s*$")
# A paragraph that is only an image; a picture in a line of text is no figure.
_FIGURE = re.compile(r"\s*!\[.*\]\((?P<path>[^)\s]+)\)(\{.*\})?\s*", re.DOTALL)
_TABLE = re.compile(r"^\s{0,3}(?::|Table:)\s.*?\{#tbl-(?P<label>[\w-]+)", re.DOTALL | re.MULTILINE)
_DIVISION = re.compile(r"#(?P<kind>fig|tbl)-(?P<label>[\w-]+)")
_MADE = "tables/"  # where the staged tables of the questions lie

Record = dict[str, Any]


@dataclass(frozen=True)
class Origin:
    """From where the report is rendered, and where its links lead.

    Attributes:
        results: ``results/<study>``; the report lies in its folder ``report``.
        root: the project root, with ``src/``.
        commit: of the code, with "-dirty" where files differ from it.
        repository: address of the project on a host; empty for links to the files here.
        mlflow: address of MLflow's UI; empty for no links there.
    """

    results: Path
    root: Path
    commit: str = "unknown"
    repository: str = ""
    mlflow: str = ""

    def file(self, path: Path) -> str:
        """A file as the report's links see it."""
        there = relpath(path.resolve(), (self.results / "report").resolve())
        return quote(Path(there).as_posix())

    def code(self, file: str, line: int) -> str:
        """A line of the code, at the commit where the host is known."""
        if self.repository:
            known = self.commit != "unknown"  # HEAD is what hosts call their newest commit
            at = self.commit.removesuffix("-dirty") if known else "HEAD"
            return f"{self.repository.rstrip('/')}/blob/{at}/{quote(file)}#L{line}"
        return self.file(self.root / file)

    def runs(self, experiment: str, wanted: str = "") -> str:
        """The runs of an MLflow experiment, all or those that a filter of its search finds.

        MLflow draws the ids of its runs by chance; a search leads to the same runs in every
        store. Without a filter in the link it would show those of the last search.
        """
        page = f"{self.mlflow.rstrip('/')}/#/experiments/{experiment}/runs"
        filters = f"workflowType=machine_learning&searchFilter={quote(wanted, safe='')}"
        return f"{page}?{filters}"


class SourceLines:
    """The records of a study, and the lines made of them."""

    def __init__(self, origin: Origin, build: Path) -> None:
        """Read what the questions and the study noted, and where MLflow keeps the runs.

        Args:
            origin: from where the links lead.
            build: the staged folder.
        """
        self.origin, self.build = origin, build
        self.figures: dict[str, tuple[str, Record]] = {}
        self.tables: dict[str, tuple[str, Record]] = {}
        self.experiments: dict[str, str] = {}
        self.homes: dict[str, str] = {}
        for stem in (*STEMS, "study"):
            folder = origin.results / stem
            if (folder / "sources.json").is_file():
                found = read_json(folder / "sources.json")
                for name, record in found["figures"].items():
                    self.figures[f"figures/{stem}/{name}.svg"] = stem, record
                self.tables |= {label: (stem, record) for label, record in found["tables"].items()}
            if origin.mlflow and (folder / "tracking.json").is_file():
                tracked = read_json(folder / "tracking.json")
                self.experiments[stem] = tracked["experiment_id"]
                self.homes |= dict.fromkeys(tracked["runs"], tracked["experiment_id"])

    def figure(self, path: str, where: str) -> list[str]:
        """The line of a figure; nothing for one that is not there, which the routes tell.

        Raises:
            VitrailError: nothing is noted about it.
        """
        if not (self.build / path).is_file():
            return []
        if path not in self.figures:
            raise VitrailError(
                f"{where}: the figure {path} has no source; a question notes it when it makes a "
                "figure by `Answer.draw`"
            )
        return self._line(*self.figures[path])

    def table(self, label: str, where: str, typed: bool) -> list[str]:
        """The line of a table; one that is typed in a chapter comes from there.

        Raises:
            VitrailError: a question made it and noted nothing.
        """
        if label in self.tables:
            return self._line(*self.tables[label])
        if not typed:
            raise VitrailError(
                f"{where}: the table #tbl-{label} has no source; a question notes it when it "
                "makes a table by `Answer.tabulate`"
            )
        chapter, _, number = where.partition(":")
        return self._divided([f"Text {self._code(f'report/{chapter}', int(number))}"], [])

    def _line(self, stem: str, record: Record) -> list[str]:
        parts = []
        if record["data"]:
            files = [self.origin.results / name for name in record["data"]]
            named = [f"[{file.name}]({self.origin.file(file)})" for file in files]
            parts.append(f"Data {', '.join(named)}")
        parts.append(f"Code {self._code(record['code']['file'], record['code']['line'])}")
        experiment = self.experiments.get(stem)
        if experiment:
            link = self.origin.runs(experiment, "attributes.run_name = 'results'")
            parts.append(f"MLflow [experiment]({self.origin.runs(experiment)}), [results]({link})")
        if record["basis"]:
            parts.append(f"From {record['basis']}")
        return self._divided(parts, record["runs"])

    def _code(self, file: str, line: int) -> str:
        commit, _, dirty = self.origin.commit.partition("-")
        at = f"{commit[:7]}{' and changes' if dirty else ''}"
        if commit == "unknown":
            at = "a commit that is not known"
        link = self.origin.code(file, line)
        return f"[{Path(file).name}, line {line}]({link}) at {at}"

    def _divided(self, parts: list[str], runs: list[str]) -> list[str]:
        lines = ["", "::: {.source}", " · ".join(parts)]
        if runs:
            count = f"{len(runs)} run{'s' if len(runs) != 1 else ''}"
            lines += ["", f'::: {{.runs title="{count}"}}', "; ".join(self._arms(runs)), ":::"]
        return [*lines, ":::", ""]

    def _arms(self, runs: list[str]) -> list[str]:
        """The runs by arm, each arm with the search for it."""
        seeds: dict[str, list[str]] = {}
        for run in runs:
            arm, _, seed = run.rpartition("-s")
            seeds.setdefault(arm, []).append(f"-s{seed}")
        said = []
        for arm, own in seeds.items():
            experiment = self.homes.get(f"{arm}{own[0]}")
            wanted = f"tags.`vitrail.arm_id` = '{arm}'"
            name = f"[{arm}]({self.origin.runs(experiment, wanted)})" if experiment else arm
            said.append(f"{name}: {', '.join(own)}")
        return said


def with_source_lines(text: Text, lines: SourceLines) -> Text:
    """The text with a line below each figure and each table that has a label.

    Raises:
        VitrailError: names a figure or table of which nobody knows where it comes from.
    """
    walk = _Walk(text, lines)
    for position in range(len(text.lines)):
        walk.step(position)
    walk.end_paragraph()
    return walk.out


@dataclass
class _Division:
    """A division that is still open.

    Attributes:
        label: of a table that is the whole division, else empty.
        is_float: whether it is one figure, one table or a row of figures.
        where: file and line where it opens.
        typed: whether all in it stands in a chapter.
        due: what is added below it when it closes.
    """

    label: str
    is_float: bool
    where: str
    typed: bool = True
    due: list[str] = field(default_factory=list)


class _Walk:
    """Goes through a text line by line and writes it out with the lines of the sources."""

    def __init__(self, text: Text, lines: SourceLines) -> None:
        self.text, self.lines, self.out = text, lines, Text()
        self.fence = ""  # that ends the code block we are in
        self.paragraph: list[int] = []  # its lines so far
        self.open: list[_Division] = []

    def step(self, position: int) -> None:
        """Take the next line."""
        line, origin = self.text.lines[position], self.text.origins[position]
        for division in self.open:
            division.typed &= not origin[0].startswith(_MADE)
        is_code = self._in_code(line)
        opens, closes = (None if is_code else mark.match(line) for mark in (_OPENS, _CLOSES))
        if not is_code and line.strip() and not opens and not closes:
            self.paragraph.append(position)
        else:
            self.end_paragraph()
        self._add([line], origin)
        if opens:
            named = _DIVISION.search(opens["attributes"])
            label = named["label"] if named and named["kind"] == "tbl" else ""
            is_float = named is not None or "layout-ncol" in opens["attributes"]
            self.open.append(_Division(label, is_float, self._where(position)))
        elif closes and self.open:
            division = self.open.pop()
            if division.label:
                found = self.lines.table(division.label, division.where, division.typed)
                division.due += found
            self._add(division.due, origin)

    def end_paragraph(self) -> None:
        """Add what belongs below the paragraph that was read, or below the float around it."""
        if not self.paragraph:
            return
        first, last = self.paragraph[0], self.paragraph[-1]
        block = "\n".join(self.text.lines[position] for position in self.paragraph)
        self.paragraph = []
        found: list[str] = []
        image = _FIGURE.fullmatch(block)
        if image:
            found += self.lines.figure(image["path"], self._where(first))
        table = _TABLE.search(block)
        if table:
            typed = not self.text.origins[first][0].startswith(_MADE)
            found += self.lines.table(table["label"], self._where(first), typed)
        around = next((division for division in self.open if division.is_float), None)
        if around:
            around.due += found
        else:
            self._add(found, self.text.origins[last])

    def _in_code(self, line: str) -> bool:
        """Whether a line is code or a fence around it."""
        ticks = _FENCE.match(line)
        if self.fence:
            if ticks and line.strip().startswith(self.fence):
                self.fence = ""
            return True
        self.fence = ticks[1] if ticks else ""
        return bool(ticks)

    def _where(self, position: int) -> str:
        file, number = self.text.origins[position]
        return f"{file}:{number}"

    def _add(self, added: list[str], origin: tuple[str, int]) -> None:
        self.out.lines += added
        self.out.origins += [origin] * len(added)
