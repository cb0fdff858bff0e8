"""The route without Quarto: pandoc with a Lua filter, and Typst for the PDF.

Both come as wheels (`pypandoc_binary`, `typst`). The same sources give the same bytes: no
clock, no fonts of the system, no file names of this machine get into the output.
"""

from __future__ import annotations

import base64
import json
import os
import re
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from html import unescape
from importlib import metadata, util
from pathlib import Path
from typing import Any

from vitrail.errors import VitrailError
from vitrail.report.constructs import write_for_filter
from vitrail.report.explore import PAGE_PART, STYLE
from vitrail.report.source import Text

# pandoc 3.8 brought --syntax-highlighting, the wheel typst 0.15 the timestamp.
_NEEDED = {"pandoc": (3, 8), "Typst": (0, 15)}


def find_pandoc() -> Path | None:
    """The pandoc of the wheel; else the one on PATH; else None."""
    spec = util.find_spec("pypandoc")
    if spec and spec.origin:
        for name in ("pandoc", "pandoc.exe"):
            bundled = Path(spec.origin).parent / "files" / name
            if bundled.is_file():
                return bundled
    found = shutil.which("pandoc")
    return Path(found) if found else None


def pandoc_version(pandoc: Path) -> str:
    """The version that pandoc tells, such as ``3.9``."""
    answer = subprocess.run([pandoc, "--version"], capture_output=True, text=True, check=True)
    return answer.stdout.split("\n", 1)[0].split()[-1]


def versions() -> str:
    """Pandoc and Typst with their versions.

    Raises:
        VitrailError: one of them is missing or too old.
    """
    pandoc = find_pandoc()
    if pandoc is None or util.find_spec("typst") is None:
        raise VitrailError(
            "there is nothing to render the report with: neither Quarto 1.6 or newer, nor the "
            "wheels pypandoc_binary and typst; `pip install 'vitrail[render]'` brings the wheels"
        )
    found = {"pandoc": pandoc_version(pandoc), "Typst": metadata.version("typst")}
    for tool, version in found.items():
        if tuple(int(part) for part in version.split(".")[:2]) < _NEEDED[tool]:
            raise VitrailError(
                f"{tool} {version} is too old to render the report; "
                "`pip install --upgrade 'vitrail[render]'` brings a newer one"
            )
    return " and ".join(f"{tool} {version}" for tool, version in found.items())


def render_builtin(build: Path, text: Text, styles: Path) -> None:
    """Write ``report.html`` and ``report.pdf`` in `build`.

    Args:
        build: the staged folder.
        text: the report with includes and variables in.
        styles: the folder with the filter and the two templates.

    Raises:
        VitrailError: a reference, citation, image or construct that cannot be resolved, named
            with file and line; or a message of pandoc or Typst.
    """
    _prepare(build, text, styles)
    with ThreadPoolExecutor() as side_by_side:
        page = side_by_side.submit(_write_html, build, text, styles)
        pdf = side_by_side.submit(_write_pdf, build, text, styles)
    page.result()
    pdf.result()


def check_sources(build: Path, text: Text, styles: Path, pandoc: list[str] | None = None) -> None:
    """Look for what the other route would only warn about, without rendering.

    Args:
        build, text, styles: as for `render_builtin`.
        pandoc: the command to use where there is no wheel.

    Raises:
        VitrailError: as `render_builtin`.
    """
    _prepare(build, text, styles)
    found = find_pandoc()
    command = [str(found)] if found else pandoc or []
    _pandoc(build, text, styles, ["--to=html5", "--mathml"], command)


def _prepare(build: Path, text: Text, styles: Path) -> None:
    (build / "report.md").write_text(str(text), encoding="utf-8")
    write_for_filter(styles, build)


def _pandoc(
    build: Path, text: Text, styles: Path, options: list[str], pandoc: list[str] | None = None
) -> None:
    command = [
        *(pandoc or [str(find_pandoc())]),
        "report.md",
        "--from=markdown",
        "--standalone",
        # Wide pipe tables keep their natural column widths.
        "--columns=10000",
        "--toc",
        f"--lua-filter={(styles / 'filter.lua').resolve()}",
        "--lua-filter=sources.lua",
        *options,
    ]
    done = subprocess.run(command, cwd=build, capture_output=True, text=True, check=False)
    if done.returncode == 3:
        problems = [line.split("\t") for line in done.stderr.splitlines() if line.count("\t") == 2]
        told = [_placed(text, *problem) for problem in problems]
        raise VitrailError("the report cannot be rendered: " + "; ".join(dict.fromkeys(told)))
    if done.returncode or "[WARNING]" in done.stderr:
        raise VitrailError(f"pandoc stopped at the report: {_pandoc_says(text, done.stderr)}")


def _placed(text: Text, token: str, message: str, before: str) -> str:
    where = text.where(token, before) if token else ""
    return f"{where}: {message}" if where else message


def _pandoc_says(text: Text, stderr: str) -> str:
    """Pandoc's message on one line, without the filter's call stack, at the right place."""

    def place(match: re.Match[str]) -> str:
        line = min(int(match[1]), len(text.origins)) - 1
        file, number = text.origins[line]
        return f"{file}:{number}"

    told = stderr.split("stack traceback:")[0]
    told = re.sub(r"Error running filter \S+:\s*", "", told)
    told = re.sub(r'"report\.md" \(line (\d+), column \d+\)', place, told)
    return " ".join(told.split())


def _write_html(build: Path, text: Text, styles: Path) -> None:
    style = "\n".join(
        file.read_text(encoding="utf-8")
        for file in (build / "style.css", build / STYLE, styles / "page.css")
        if file.is_file()
    )
    options = {"style": style, "explore": (build / PAGE_PART).read_text(encoding="utf-8")}
    (build / "page.json").write_text(json.dumps({"variables": options}), encoding="utf-8")
    _pandoc(
        build,
        text,
        styles,
        [
            "--to=html5",
            "--defaults=page.json",
            f"--template={(styles / 'page.html').resolve()}",
            "--mathml",
            "--toc-depth=3",  # the title is level 1, chapters and their sections 2 and 3
            "--wrap=none",
            "--output=report.html",
        ],
    )
    page = build / "report.html"
    html = page.read_text(encoding="utf-8")
    page.write_text(_embed_images(html, build), encoding="utf-8")


_IMAGE = re.compile(r'(<img\b[^>]*?\bsrc=")([^"]+)(")')
_TYPES = {".svg": "image/svg+xml", ".png": "image/png", ".jpg": "image/jpeg"}


def _embed_images(html: str, build: Path) -> str:
    """Put the images into the page, each with its size, so that nothing moves while they load.

    Pandoc would put an SVG into the page as elements, where the style sheet inside it
    (Matplotlib writes one) would apply to the whole page.
    """

    def data(match: re.Match[str]) -> str:
        file = build / unescape(match[2])
        if file.suffix not in _TYPES:
            raise VitrailError(f"the image {match[2]} is neither SVG, PNG nor JPEG")
        content = file.read_bytes()
        encoded = base64.b64encode(content).decode("ascii")
        size = "".join(f' {name}="{value}"' for name, value in _size(content).items())
        return f"{match[1]}data:{_TYPES[file.suffix]};base64,{encoded}{match[3]}{size}"

    return _IMAGE.sub(data, html)


_SIZE = re.compile(
    rb'<svg\b[^>]*?\s(width|height)="([\d.]+)(pt|px|)"[^>]*?\s(width|height)="([\d.]+)'
)


def _size(image: bytes) -> dict[str, int]:
    """Width and height of an SVG in CSS pixels, as its first tag tells; else nothing."""
    found = _SIZE.search(image)
    if not found or found[1] == found[4]:
        return {}
    pixels = 4 / 3 if found[3] == b"pt" else 1
    sides = {found[1].decode(): found[2], found[4].decode(): found[5]}
    return {name: round(float(sides[name]) * pixels) for name in ("width", "height")}


def _write_pdf(build: Path, text: Text, styles: Path) -> None:
    import typst

    _pandoc(
        build,
        text,
        styles,
        [
            "--to=typst-citations",
            f"--template={(styles / 'page.typ').resolve()}",
            "--toc-depth=2",
            "--syntax-highlighting=idiomatic",
            "--output=report.typ",
        ],
    )
    try:
        content, warnings = _compile(build, accessible=True)
    except typst.TypstError as error:
        if "PDF/UA" not in str(error):
            raise VitrailError(f"Typst stopped at the report: {_one_line(error)}") from error
        print(f"vitrail: the PDF is not PDF/UA (accessible): {_one_line(error)}", file=sys.stderr)
        content, warnings = _compile(build, accessible=False)
    told = [_one_line(warning) for warning in warnings]
    if told:
        raise VitrailError(f"Typst warns about the report: {'; '.join(dict.fromkeys(told))}")
    (build / "report.pdf").write_bytes(content)


def _compile(build: Path, accessible: bool) -> tuple[bytes, list[Any]]:
    """The PDF, as PDF/UA if it is to be `accessible`, and what Typst warns about.

    The date inside is ``$SOURCE_DATE_EPOCH``, else 1970, so that the bytes stay the same.
    """
    import typst

    content, warnings = typst.compile_with_warnings(
        str(build / "report.typ"),
        root=str(build),
        ignore_system_fonts=True,
        pdf_standards="ua-1" if accessible else None,
        timestamp=int(os.environ.get("SOURCE_DATE_EPOCH", "0")),
    )
    return bytes(content), warnings


def _one_line(message: Any) -> str:
    text = getattr(message, "message", "") or str(message)
    return " ".join([*text.split(), *getattr(message, "hints", [])])
