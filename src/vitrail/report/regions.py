"""Named regions of source code, so that the report shows the lines that really ran.

In a Python file the lines between ``# region: name`` and ``# endregion: name`` are a region;
a chapter asks for it with ``{{< include code/name.md >}}``. Regions may nest. Names are
lower case letters, digits, ``-`` and ``_``, and unique in the whole of ``src/``.
"""

from __future__ import annotations

import re
import textwrap
from dataclasses import dataclass
from pathlib import Path

from vitrail.errors import VitrailError
from vitrail.files import write_text

_MARKER = re.compile(r"^\s*#\s*(?P<kind>region|endregion)\s*:\s*(?P<name>.*?)\s*$")
_NAME = re.compile(r"[a-z0-9][a-z0-9_-]*")
_REQUEST = re.compile(r"(?<!\{)\{\{<\s*include\s+code/(?P<name>\S+?)\.md\s*>\}\}")


@dataclass(frozen=True)
class Region:
    """Some lines of one source file.

    Attributes:
        name: what a chapter asks for.
        path: the file, relative to the project root, with forward slashes.
        first: line number (from 1) of the first line inside the markers.
        last: line number of the last line inside the markers.
        text: the lines, dedented and without any marker.
    """

    name: str
    path: str
    first: int
    last: int
    text: str

    def markdown(self) -> str:
        """A fenced code block that names its file and lines."""
        longest = max((len(run) for run in re.findall(r"`{3,}", self.text)), default=2)
        fence = "`" * (longest + 1)
        lines = f"{self.first}-{self.last}" if self.last > self.first else f"{self.first}"
        return f'{fence}{{.python filename="{self.path}:{lines}"}}\n{self.text}\n{fence}\n'


def read_regions(file: Path, root: Path) -> list[Region]:
    """The regions of one Python file.

    Raises:
        VitrailError: a marker without a usable name, a region opened twice, closed without
            being open, never closed, or empty; the message names file and line.
    """
    path = file.resolve().relative_to(root.resolve()).as_posix()
    lines = file.read_text(encoding="utf-8").splitlines()
    opened: dict[str, int] = {}
    found: list[Region] = []
    for number, line in enumerate(lines, start=1):
        marker = _MARKER.match(line)
        if marker is None:
            continue
        name, here = marker["name"], f"{path}:{number}"
        if not _NAME.fullmatch(name):
            raise VitrailError(
                f"{here}: {name!r} cannot name a code region; "
                "use lower case letters, digits, - and _"
            )
        if marker["kind"] == "region":
            if name in opened or any(region.name == name for region in found):
                raise VitrailError(f"{here}: the code region {name!r} is already in this file")
            opened[name] = number
            continue
        if name not in opened:
            raise VitrailError(f"{here}: 'endregion: {name}' closes a region that is not open")
        start = opened.pop(name)
        body = [text for text in lines[start : number - 1] if not _MARKER.match(text)]
        code = textwrap.dedent("\n".join(body)).strip("\n")
        if not code.strip():
            raise VitrailError(f"{path}:{start}: the code region {name!r} is empty")
        found.append(Region(name, path, start + 1, number - 1, code))
    for name, start in opened.items():
        raise VitrailError(
            f"{path}:{start}: the code region {name!r} is never closed; "
            f"add '# endregion: {name}' after its last line"
        )
    return found


def collect_regions(src: Path, root: Path) -> dict[str, Region]:
    """All regions below `src`, by name.

    Raises:
        VitrailError: as `read_regions`, and for a name used in two files.
    """
    regions: dict[str, Region] = {}
    for file in sorted(src.rglob("*.py")):
        for region in read_regions(file, root):
            if region.name in regions:
                other = regions[region.name]
                raise VitrailError(
                    f"{region.path}:{region.first - 1}: the code region {region.name!r} is "
                    f"already at {other.path}:{other.first - 1}; give one of them another name"
                )
            regions[region.name] = region
    return regions


def requested_regions(qmd: Path) -> dict[str, int]:
    """Names of the regions that a chapter includes, each with its (first) line number."""
    asked: dict[str, int] = {}
    for number, line in enumerate(qmd.read_text(encoding="utf-8").splitlines(), start=1):
        for match in _REQUEST.finditer(line):
            asked.setdefault(match["name"], number)
    return asked


def write_regions(sources: Path, src: Path, root: Path, target: Path) -> None:
    """Write ``target/<name>.md`` for every region that a ``.qmd`` in `sources` asks for.

    Raises:
        VitrailError: a chapter asks for a region that is in no source file.
    """
    regions = collect_regions(src, root)
    for qmd in sorted(sources.rglob("*.qmd")):
        for name, line in requested_regions(qmd).items():
            if name not in regions:
                raise VitrailError(
                    f"{qmd.relative_to(sources).as_posix()}:{line} shows the code region "
                    f"{name!r}, but no file in {src.name}/ has '# region: {name}'"
                )
            write_text(target / f"{name}.md", regions[name].markdown())
