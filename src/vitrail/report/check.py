"""Is the rendered report whole? And did somebody type a result by hand?"""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path

from vitrail.errors import VitrailError

SECTIONS = tuple(f"sec-q{number}" for number in range(1, 9))
_MARKERS = re.compile(
    r"\?@[\w-]*|\?var:[\w.-]*|\?meta:[\w.-]*|\?invalid[\w: .-]*|\{\{<.*?>\}\}|\{\{<|"
    r"(?<![\w.@])@(?:fig|tbl|eq|sec)-[\w-]+|\{#(?:fig|tbl|eq|sec)-[\w-]+"
)
_FETCH = re.compile(r"(?:url\(\s*|@import\s*)['\"]?((?:https?:)?//[^'\")\s]+)")
# What our own links lead to; a page made by Quarto has others, for its scripts.
_OURS = ("fig-", "tbl-", "eq-", "sec-", "ref-", "fn")


class _Reader(HTMLParser):
    """Collects what `check_html` looks at, each with the section that it stands in."""

    def __init__(self) -> None:
        super().__init__()
        self.ids: set[str] = set()
        self.section = "the top of the report"
        self.problems: list[str] = []
        self.remote: list[str] = []
        self.links: list[tuple[str, str]] = []
        self._skip: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = {name: value or "" for name, value in attrs}
        if "id" in values:
            self.ids.add(values["id"])
            if values["id"].startswith("sec-"):
                self.section = f"section {values['id']}"
        if tag in ("code", "pre", "script", "style", "annotation"):
            self._skip.append(tag)
        if tag in ("img", "image"):
            source = values.get("src") or values.get("href") or values.get("xlink:href", "")
            if not source.startswith(("data:", "#")):
                self.problems.append(f"the figure {source!r} is not in the file ({self.section})")
        if tag == "a" and values.get("href", "").startswith("#"):
            self.links.append((values["href"][1:], self.section))
        loads = values.get("src", "") if tag != "a" else ""
        if tag in ("link", "use", "object"):
            loads = values.get("href", "") or values.get("data", "")
        if re.match(r"(?:https?:)?//", loads):
            self.remote.append(f"<{tag}> loads {loads}")
        for found in _FETCH.findall(values.get("style", "")):
            self.remote.append(f"<{tag}> loads {found}")

    def handle_endtag(self, tag: str) -> None:
        if self._skip and self._skip[-1] == tag:
            self._skip.pop()

    def handle_data(self, data: str) -> None:
        if self._skip and self._skip[-1] == "style":
            for found in _FETCH.findall(data):
                self.remote.append(f"a style sheet loads {found}")
        if self._skip:
            return
        for marker in _MARKERS.findall(data):
            self.problems.append(f"{marker!r} was not resolved ({self.section})")


def remote_loads(html: str) -> list[str]:
    """What a browser would fetch from the network to show this page (links do not count)."""
    reader = _Reader()
    reader.feed(html)
    return reader.remote


def check_html(file: Path, sections: tuple[str, ...] = SECTIONS) -> None:
    """Look for anything unresolved, missing or remote in the rendered HTML.

    Args:
        file: the rendered page.
        sections: ids that must be there.

    Raises:
        VitrailError: names what is wrong and the section that it is in.
    """
    reader = _Reader()
    reader.feed(file.read_text(encoding="utf-8"))
    problems = reader.problems + reader.remote
    problems += [
        f"the section {name!r} is not there" for name in sections if name not in reader.ids
    ]
    problems += [
        f"a link leads to {target!r}, which is not there ({section})"
        for target, section in reader.links
        if target.startswith(_OURS) and target not in reader.ids
    ]
    if problems:
        shown = "; ".join(dict.fromkeys(problems[:8]))
        more = f"; and {len(problems) - 8} more" if len(problems) > 8 else ""
        raise VitrailError(f"{file.name} is not whole: {shown}{more}. Mend the chapter it names")


def check_pdf(file: Path) -> None:
    """A PDF must be there, start as one and end as one.

    Raises:
        VitrailError: the file is missing or torn.
    """
    content = file.read_bytes() if file.is_file() else b""
    if not content.startswith(b"%PDF-") or b"%%EOF" not in content[-64:]:
        raise VitrailError(f"{file} is missing or torn; render the report again")


_RESULT = re.compile(
    r"(?P<number>(?<![\w.,/-])[-+±]?\s?\d+(?:,\d{3})*(?:\.\d+)?"
    r"(?:\s*(?:±|to|\u2013|-)\s*\d+(?:\.\d+)?)?)[\s\u00a0]*"
    r"(?P<unit>%|per\s?cent\b|percentage points?\b|points?\b|pp\b|errors?\b|"
    r"images?/s\b|images per second\b|G?MACs?\b|GFLOPs?\b|FLOP/s\b|ms\b|seconds?\b|minutes?\b|"
    r"MB\b|MiB\b|GB\b|GiB\b)"
)
_SCORE = re.compile(
    r"(?:accuracy|loss|error rate|exponent|slope|p-value|speed-?up|correlation)\s+"
    r"(?:of|is|was|=|reaches|reached|at)\s+(?:about\s+)?(?P<number>\d+\.\d+)",
    re.IGNORECASE,
)
_LEVELS = re.compile(r"(?:9[059](?:\.\d)?|100|50|0|10)\s*%\s*(?:confidence|interval|CI\b|of\b)")


def hand_typed_results(qmd_text: str) -> list[str]:
    """Places in a chapter where a result looks typed by hand instead of coming from ``var``.

    A measured value has a unit that only runs can give (%, points, errors, images/s, ms, MB, …)
    or follows the name of a score. Constants of the design (28 x 28, 10,000 images, 3 seeds)
    pass, and so does what stands in math, code, citations, quotations, links, attributes,
    comments, or after ``<!-- design -->`` on the same line.

    Returns:
        One text per finding: line number, what was found, and the line around it.
    """
    found = []
    for number, line in enumerate(_blank_out(qmd_text).splitlines(), start=1):
        spans = [match.span() for match in _LEVELS.finditer(line)]
        for pattern in (_RESULT, _SCORE):
            for match in pattern.finditer(line):
                if any(start <= match.start("number") < end for start, end in spans):
                    continue
                found.append(f"line {number}: {match.group(0).strip()!r} in {line.strip()!r}")
    return found


def _blank_out(text: str) -> str:
    """The prose alone: everything else becomes spaces, line breaks stay."""

    def blank(match: re.Match[str]) -> str:
        return re.sub(r"[^\n]", " ", match.group(0))

    for pattern, flags in (
        (r"\A---\n.*?\n---\n", re.DOTALL),
        (r"^[^\n]*<!--\s*design\s*-->[^\n]*$", re.MULTILINE),
        (r"<!--.*?-->", re.DOTALL),
        (r"^(`{3,}|~{3,})[^\n]*\n.*?^\1[^\n]*$", re.DOTALL | re.MULTILINE),
        (r"\$\$.*?\$\$", re.DOTALL),
        (r"(`+)(?!`).+?(?<!`)\1(?!`)", re.DOTALL),
        (r"\{\{<.*?>\}\}", re.DOTALL),
        (r"(?<![\\$])\$(?=\S)[^$\n]*(?<=\S)\$(?!\d)", 0),
        (r"\]\([^)\n]*\)", 0),
        (r"\{[.#][^}\n]*\}|\{[\w-]+=[^}\n]*\}", 0),
        (r"\[[^\]\n]*@[^\]\n]*\]", 0),
        (r"^>.*$", re.MULTILINE),
    ):
        text = re.sub(pattern, blank, text, flags=flags)
    return text
