"""The route with Quarto, when a new enough one is at hand."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

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
