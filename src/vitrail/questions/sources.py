"""Where each figure and each table of the report comes from: its data, its code, its runs."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

import vitrail
from vitrail.errors import VitrailError

# Run ids; or, where no run is behind it, what it was computed from, in words.
Basis = Sequence[str] | str
PACKAGE = Path(vitrail.__file__).parent
LABEL = re.compile(r"\{#tbl-([\w-]+)")

SETTINGS = "the settings of the base ViT"


@dataclass(frozen=True)
class Source:
    """The way back from something that the report shows.

    Attributes:
        data: names of the CSV files with what is drawn or printed, without ending.
        file: where the function that made it is, relative to the project's root.
        line: its first line there.
        runs: ids of the runs that it was computed from.
        basis: what it was computed from where that is no run; else empty.
    """

    data: tuple[str, ...]
    file: str
    line: int
    runs: tuple[str, ...] = ()
    basis: str = ""

    def row(self, folder: str) -> dict[str, Any]:
        """For JSON; `folder` of the data, from the folder of the study, ends with a slash."""
        return {
            "data": [f"{folder}{name}.csv" for name in self.data],
            "code": {"file": self.file, "line": self.line},
            "runs": list(self.runs),
            "basis": self.basis,
        }


def source_of(code: Callable[..., Any], data: Iterable[str], runs: Basis) -> Source:
    """The source of what a function of this package made.

    Raises:
        VitrailError: neither runs nor what stands in their place are given.
    """
    function: Any = inspect.unwrap(code)
    file = Path(function.__code__.co_filename).resolve().relative_to(PACKAGE.resolve())
    line, place = function.__code__.co_firstlineno, f"src/vitrail/{file.as_posix()}"
    if not runs:
        raise VitrailError(
            f"{place}:{line}: what {function.__name__} makes names neither its runs nor what else "
            "it was computed from"
        )
    if isinstance(runs, str):
        return Source(tuple(data), place, line, basis=runs)
    return Source(tuple(data), place, line, runs=tuple(dict.fromkeys(runs)))


def listed(settings: dict[str, Any]) -> pd.DataFrame:
    """Settings as the data of a drawing that is made from them."""
    return pd.DataFrame(list(settings.items()), columns=["setting", "value"])


@dataclass
class Sources:
    """The sources of a question or of the study: figures by name, tables by label."""

    figures: dict[str, Source]
    tables: dict[str, Source]

    @classmethod
    def none(cls) -> Sources:
        """No figure and no table yet."""
        return cls({}, {})

    def add_tables(self, text: str, source: Source) -> None:
        """Note the source of the tables of a text; those that have one already keep it."""
        for label in LABEL.findall(text):
            self.tables.setdefault(label, source)

    def check(
        self, where: str, figures: Iterable[str], texts: Iterable[str], frames: Iterable[str]
    ) -> None:
        """Nothing is shown without a source.

        Args:
            where: the question, for the message.
            figures: names of the figures.
            texts: Markdown with tables.
            frames: names of the data that are saved.

        Raises:
            VitrailError: names what has no source, or one whose data are not saved.
        """
        known, sources = set(frames), [*self.figures.items(), *self.tables.items()]
        for name, source in sources:
            if not set(source.data) <= known:
                raise VitrailError(
                    f"{where}: {name!r} is said to come from {', '.join(source.data)}, but there "
                    f"is no such data; known: {', '.join(sorted(known))}"
                )
        missing = [f"the figure {name!r}" for name in figures if name not in self.figures]
        labels = (label for text in texts for label in LABEL.findall(text))
        missing += [f"the table {name!r}" for name in labels if name not in self.tables]
        if missing:
            raise VitrailError(
                f"{where}: {', '.join(missing)} has no source; make it by `Answer.draw` or "
                "`Answer.tabulate`, which note its data, its code and its runs"
            )

    def content(self, folder: str) -> dict[str, Any]:
        """For `sources.json`; `folder` as in `Source.row`."""
        return {
            kind: {name: source.row(folder) for name, source in sorted(found.items())}
            for kind, found in (("figures", self.figures), ("tables", self.tables))
        }
