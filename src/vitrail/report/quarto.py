"""The route with Quarto, when a new enough one is at hand."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import yaml

from vitrail.errors import VitrailError
from vitrail.report.source import Text

NEEDED = (1, 6)
_TROUBLE = re.compile(
    r"^.*?(?:\bWARN(?:ING)?\b|\bERROR\b|\?@[\w-]+|\?var:[\w.-]+|[Uu]nable to resolve).*$",
    re.MULTILINE,
)
_COLOUR = re.compile(r"\x1b\[[0-9;]*m")


def find_quarto() -> tuple[str, str] | str:
    """Quarto's command and version; or a sentence on why there is none to use.

    ``$QUARTO`` goes before PATH. A Quarto older than 1.6 or one that does not answer is not
    used: it lacks Typst features that the report needs.
    """
    named = os.environ.get("QUARTO", "")
    command = shutil.which(named or "quarto")
    if command is None:
        if named:
            return f"$QUARTO names {named}, which cannot be run"
        return "there is no quarto on PATH"
    try:
        done = subprocess.run(
            [command, "--version"], capture_output=True, text=True, timeout=60, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return f"{command} does not tell its version"
    version = done.stdout.strip().split("\n")[-1].strip()
    numbers = re.match(r"(\d+)\.(\d+)", version)
    if numbers is None:
        return f"{command} does not tell its version"
    if (int(numbers[1]), int(numbers[2])) < NEEDED:
        return f"Quarto {version} is older than 1.6 and is not used"
    return command, version


def check_settings(build: Path) -> None:
    """Look for settings in ``_quarto.yml`` that only show in the finished report.

    Raises:
        VitrailError: a theme or a kind of mathematics that a browser would fetch something for,
            a page that is not one file, a filter or style that is not there, or `columns`,
            which Quarto's Typst format takes for the columns of a page.
    """
    settings = yaml.safe_load((build / "_quarto.yml").read_text(encoding="utf-8"))
    html, typ = settings["format"]["html"], settings["format"]["typst"]
    told = []
    if html.get("theme") not in ("default", "none"):
        told.append(f"the theme {html.get('theme')} may fetch fonts; the report keeps to default")
    for key, value in (("html-math-method", "mathml"), ("embed-resources", True)):
        if html.get(key) != value:
            told.append(f"{key} has to be {str(value).lower()}, or the page is not one file")
    if "columns" in settings or "columns" in typ:
        told.append("columns would set the PDF in columns")
    named = [*settings["filters"], *html["css"], typ["include-before-body"]]
    told += [f"the file {name} is not there" for name in named if not (build / name).is_file()]
    if told:
        raise VitrailError(f"_quarto.yml: {'; '.join(told)}")


def render_quarto(build: Path, text: Text, command: str) -> None:
    """Write ``report.html`` and ``report.pdf`` in `build` with Quarto.

    Args:
        build: the staged folder.
        text: the report with includes, variables and sources in; it takes the place of the
            staged ``report.qmd``.
        command: Quarto's.

    Raises:
        VitrailError: Quarto stopped, or warned about something (it only warns about references
            and variables that it cannot resolve).
    """
    # What looks like a shortcode now is one that the text only shows.
    shown = re.sub(r"\{\{<.*?>\}\}", r"{\g<0>}", str(text))
    (build / "report.qmd").write_text(shown, encoding="utf-8")
    environment = {"SOURCE_DATE_EPOCH": "0", **os.environ}
    for target in ("html", "typst"):
        done = subprocess.run(
            [command, "render", "report.qmd", "--to", target],
            cwd=build,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        log = _COLOUR.sub("", done.stdout)
        (build / f"quarto-{target}.log").write_text(log, encoding="utf-8")
        told = list(dict.fromkeys(line.strip() for line in _TROUBLE.findall(log)))
        if done.returncode:
            last = told or log.strip().splitlines()[-3:]
            raise VitrailError(f"Quarto stopped while making {target}: {' '.join(last)}")
        if told:
            raise VitrailError(f"Quarto warns while making {target}: {'; '.join(told)}")
