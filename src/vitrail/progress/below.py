"""A few lines that stay below what somebody else writes to the same terminal.

The other writes through `Below`, which takes its lines away, lets the text through unchanged and
puts them back. The cursor is never hidden and always stands at the start of a line, so that a
process that is killed leaves a terminal as it should be.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Sequence
from typing import Any, TextIO

from rich.text import Text


class Below:
    """A terminal with lines at its end.

    Args:
        stream: of the terminal.
        quiet: asked before each drawing; once it says so, nothing is drawn any more.
    """

    def __init__(self, stream: TextIO, quiet: Callable[[], bool] = lambda: False) -> None:
        self.stream = stream
        self._quiet = quiet
        self._lock = threading.RLock()
        self._lines: list[str] = []  # asked for
        self._there: list[int] = []  # columns of those that are drawn
        self._at_start = True  # of a line, as far as what went through says

    def size(self) -> os.terminal_size:
        try:
            return os.get_terminal_size(self.stream.fileno())
        except (OSError, ValueError):
            return os.terminal_size((80, 24))

    def write(self, text: str) -> int:
        """What the other writes, above the lines."""
        with self._lock:
            self._take_away()
            written = self.stream.write(text)
            if text:
                self._at_start = text.endswith("\n")
            if self._at_start:
                self._put()
            return written

    def flush(self) -> None:
        with self._lock:
            self.stream.flush()

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)

    def show(self, lines: Sequence[str]) -> None:
        """Draw other lines in place of those that are there."""
        with self._lock:
            self._lines = list(lines)
            if self._at_start and not self._quiet():
                self._take_away()
                self._put()
                self.stream.flush()

    def clear(self) -> None:
        """Take the lines away for good."""
        with self._lock:
            self._lines = []
            self._take_away()
            self.stream.flush()

    def _take_away(self) -> None:
        if not self._there:
            return
        # A terminal that became narrower has broken them.
        width = max(1, self.size().columns)
        rows = sum(max(1, -(-columns // width)) for columns in self._there)
        self._there = []
        self.stream.write(f"\r\x1b[{rows}A\x1b[J")

    def _put(self) -> None:
        if not self._lines or self._quiet():
            return
        encoding = getattr(self.stream, "encoding", None) or "utf-8"
        text = "".join(f"{line}\n" for line in self._lines)
        self.stream.write(text.encode(encoding, "replace").decode(encoding))
        self._there = [Text.from_ansi(line).cell_len for line in self._lines]
