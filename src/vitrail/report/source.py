"""The report's text with includes and variables put in, each line knowing where it came from.

Pandoc reads neither ``{{< include file >}}`` nor ``{{< var name >}}``; Quarto does, but only
warns about a name that it does not know. Both routes therefore read the sources here first,
where every problem is told with file and line.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from vitrail.errors import VitrailError

SHORTCODES = ("include", "var")
_SHORTCODE = re.compile(r"(?<!\{)\{\{<\s*(?P<call>.*?)\s*>\}\}(?!\})")
_ESCAPED = re.compile(r"\{(\{\{<.*?>\}\})\}")
_FENCE = re.compile(r"^\s{0,3}(?P<fence>`{3,}|~{3,})\s*(?P<info>.*?)\s*$")
_ATTRIBUTES = re.compile(r"(?<=[{ ])[#.][\w-]+")
_WORD = re.compile(r"\w+")
_CELL = re.compile(r"^\{\s*[A-Za-z]")


@dataclass
class Text:
    """Markdown lines, and for each one the file and line number that it came from."""

    lines: list[str] = field(default_factory=list)
    origins: list[tuple[str, int]] = field(default_factory=list)

    def __str__(self) -> str:
        return "\n".join(self.lines) + "\n"

    def where(self, token: str, before: str = "") -> str:
        """``file:line`` of a piece of the text; "" if it is not there.

        Args:
            token: what to look for, as a whole word. After ``~`` only its words count, which may
                stand in several lines and between marks, and the first of them will do.
                Alternatives have ``\\x1f`` between them.
            before: some text that stands before it, where one of several places is meant.
        """
        start = self._after(_WORD.findall(before)) if before else 0
        for alternative in token.split("\x1f"):
            if alternative.startswith("~"):
                found = self._lines_of_words(_WORD.findall(alternative))
            else:
                end = r"(?![\w-])" if re.search(r"[\w-]$", alternative) else ""
                pattern = re.compile(rf"(?<![\w-]){re.escape(alternative)}{end}")
                found = [at for at, line in enumerate(self.lines) if pattern.search(line)]
            if alternative and found:
                file, number = self.origins[next((at for at in found if at >= start), found[0])]
                return f"{file}:{number}"
        return ""

    def _words(self) -> list[tuple[str, int]]:
        # Attributes, as in "## Title {#sec-x}", are no words of the text.
        read = (_ATTRIBUTES.sub(" ", line) for line in self.lines)
        return [(word, at) for at, line in enumerate(read) for word in _WORD.findall(line)]

    def _lines_of_words(self, wanted: list[str]) -> list[int]:
        """The lines where these words begin, for as many of them as stand in a row."""
        words = self._words()
        for count in range(min(len(wanted), 8), 0, -1):
            if found := [words[at][1] for at in _rows(words, wanted[:count])]:
                return found
        return []

    def _after(self, before: list[str]) -> int:
        """The line where these words end, for as many of the last as stand in a row."""
        words = self._words()
        for count in range(min(len(before), 8), 0, -1):
            if found := _rows(words, before[-count:]):
                return words[found[0] + count - 1][1]
        return 0


def _rows(words: list[tuple[str, int]], wanted: list[str]) -> list[int]:
    """Where `wanted` begins among `words`."""
    last = len(words) - len(wanted) + 1
    starts = [at for at in range(last) if words[at][0] == wanted[0]]
    return [at for at in starts if [word for word, _ in words[at : at + len(wanted)]] == wanted]


def look_up(variables: dict[str, Any], name: str) -> str | None:
    """The text of ``a.b.c`` in nested dictionaries; None if there is no such text."""
    value: Any = variables
    for part in name.split("."):
        if not isinstance(value, dict) or part not in value:
            return None
        value = value[part]
    return value if isinstance(value, str) else None


def expand(main: Path, variables: dict[str, Any]) -> Text:
    """Read `main` and put in what its shortcodes ask for.

    Args:
        main: the main document; includes are looked up beside the file that has them.
        variables: nested dictionaries of text, the content of ``_variables.yml``.

    Raises:
        VitrailError: a file or a variable that is missing, a shortcode or a Quarto construct
            that the report does not know, or files that include each other.
    """
    text = Text()
    _expand_file(main, main.parent, variables, text, ())
    return text


def _expand_file(
    file: Path, top: Path, variables: dict[str, Any], text: Text, parents: tuple[Path, ...]
) -> None:
    name = file.relative_to(top).as_posix()
    lines = file.read_text(encoding="utf-8").splitlines()
    fence = ""
    front_matter = not parents and bool(lines) and lines[0].strip() == "---"
    for number, line in enumerate(lines, start=1):
        here = f"{name}:{number}"
        if front_matter:
            if "{{<" in line:
                raise VitrailError(
                    f"{here}: Quarto puts no variables into the front matter; "
                    "write that sentence in the body of the report"
                )
            front_matter = number == 1 or line.strip() not in ("---", "...")
        fence = _check_line(line, fence, here)
        if "{{<" in _SHORTCODE.sub("", _ESCAPED.sub("", line)):
            raise VitrailError(f"{here}: the shortcode is not closed on its line with '>}}}}'")
        calls = [match["call"].split() for match in _SHORTCODE.finditer(line)]
        if any(call[:1] == ["include"] for call in calls):
            if line.rstrip() != _SHORTCODE.search(line).group(0):  # type: ignore[union-attr]
                raise VitrailError(
                    f"{here}: an include stands alone on its line, at the left margin"
                )
            _include(calls[0], here, file, top, variables, text, (*parents, file))
            continue
        text.lines.append(_fill(line, variables, here))
        text.origins.append((name, number))


def _check_line(line: str, fence: str, here: str) -> str:
    """Follow code fences; refuse executable cells."""
    match = _FENCE.match(line)
    if fence:
        closes = match and match["fence"].startswith(fence) and not match["info"]
        return "" if closes else fence
    if match:
        if _CELL.match(match["info"]):
            raise VitrailError(
                f"{here}: the report has no executable cells; for code that is only shown "
                "write {.python} with the dot"
            )
        return match["fence"]
    return ""


def _include(
    call: list[str],
    here: str,
    file: Path,
    top: Path,
    variables: dict[str, Any],
    text: Text,
    parents: tuple[Path, ...],
) -> None:
    if len(call) != 2:
        raise VitrailError(f"{here}: an include names one file, as in {{{{< include x.md >}}}}")
    included = (file.parent / call[1]).resolve()
    if not included.is_relative_to(top.resolve()) or not included.is_file():
        raise VitrailError(
            f"{here}: the included file {call[1]!r} is not there; either the name is wrong or "
            "the question that makes it has not been run"
        )
    included = top / included.relative_to(top.resolve())
    if included in parents:
        raise VitrailError(f"{here}: {call[1]!r} includes itself")
    # A blank line on either side keeps a table or a heading from joining what stands around.
    origin = (here.rpartition(":")[0], int(here.rpartition(":")[2]))
    text.lines.append("")
    text.origins.append(origin)
    _expand_file(included, top, variables, text, parents)
    text.lines.append("")
    text.origins.append(origin)


def _fill(line: str, variables: dict[str, Any], here: str) -> str:
    """One line with its variables put in."""
    in_table = line.lstrip().startswith("|")

    def value(match: re.Match[str]) -> str:
        call = match["call"].split()
        if len(call) != 2 or call[0] != "var":
            known = " and ".join(SHORTCODES)
            raise VitrailError(
                f"{here}: the report does not know the shortcode {match.group(0)} (only {known})"
            )
        found = look_up(variables, call[1])
        if found is None:
            raise VitrailError(f"{here}: there is no number called {call[1]!r}")
        return re.sub(r"(?<!\\)\|", r"\\|", found) if in_table else found

    return _ESCAPED.sub(r"\1", _SHORTCODE.sub(value, line))
