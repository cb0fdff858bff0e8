"""How far a step is, from the progress line that tqdm writes at the end of its log."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

END = 4096  # bytes of a log that are read; a line has about 150
_BAR = re.compile(
    r"(?P<title>[^\r\n|%]*?):\s+\d+%\|[^|\r\n]*\|\s*(?P<done>\d+)/(?P<total>\d+) "
    r"\[(?P<gone>[\d:]+)<(?P<left>[\d:]+|\?)(?P<rest>[^\]\r\n]*)\]"
)
_ACCURACY = re.compile(r"val_accuracy=([\d.]+)")


@dataclass(frozen=True)
class Bar:
    """A line of tqdm: its title, steps done and in all, and seconds gone and left.

    `left` is None as long as tqdm does not know; `accuracy` is the last one on the validation
    split, in [0, 1], None before the first.
    """

    title: str
    done: int
    total: int
    gone: float
    left: float | None
    accuracy: float | None

    @property
    def share(self) -> float:
        return self.done / self.total if self.total else 0.0


def last_bar(text: str) -> Bar | None:
    """The last progress line of a log's end; None without one."""
    all_of_them = list(_BAR.finditer(text))
    if not all_of_them:
        return None
    found = all_of_them[-1]
    told = _ACCURACY.search(found["rest"])
    return Bar(
        found["title"].strip(),
        int(found["done"]),
        int(found["total"]),
        _seconds(found["gone"]),
        None if found["left"] == "?" else _seconds(found["left"]),
        float(told[1]) if told else None,
    )


def _seconds(clock: str) -> float:
    """Seconds of 05:12 or 1:02:03."""
    seconds = 0
    for part in clock.split(":"):
        seconds = 60 * seconds + int(part)
    return float(seconds)


class Log:
    """A growing log; its end is read again only when it has changed."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._seen: tuple[int, int] | None = None
        self._bar: Bar | None = None
        self.changed = 0.0  # when, by the clock of its disk

    def bar(self) -> Bar | None:
        """The last progress line; None without a log or without one in it."""
        try:
            about = self.path.stat()
            now = (about.st_mtime_ns, about.st_size)
            if now != self._seen:
                self._seen, self.changed = now, about.st_mtime
                self._bar = last_bar(end_of(self.path))
        except OSError:
            self._seen = self._bar = None
        return self._bar


def end_of(path: Path) -> str:
    """The last bytes of a file, as text.

    Raises:
        OSError: it cannot be read.
    """
    with path.open("rb") as stream:
        size = stream.seek(0, 2)
        stream.seek(max(0, size - END))
        return stream.read().decode("utf-8", errors="replace")
