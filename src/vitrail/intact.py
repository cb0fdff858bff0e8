"""Are the files of a finished step those that it wrote? Asked where they are read.

A run's summary.json keeps the checksums of its siblings, and one of itself; a question's
sources.json those of what is taken from it; a table that is a step's whole result has a file
beside it that ``sha256sum --check`` reads, too. A bit that flips on a disk, a file that was cut
or copied from elsewhere is then named instead of used.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
import re
from pathlib import Path
from typing import Any

from vitrail.errors import VitrailError
from vitrail.files import read_json, sha256, write_text

# What the report, MLflow and README.md take from the folder of a question, or of the study.
SHOWN = (
    *("answer.md", "numbers.json", "claims.json", "answers.csv"),
    *("figures/*", "tables/*", "explore/*"),
)
SUM = ".sha256"  # end of the name of the file beside a table that has its checksum
OWN = "checksum"  # the key of a summary that holds its own


def sealed(content: dict[str, Any]) -> dict[str, Any]:
    """The content of a summary.json with its own checksum."""
    return {**content, OWN: _checksum(content)}


def _checksum(content: dict[str, Any]) -> str:
    text = json.dumps(content, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def read_summary(folder: Path) -> dict[str, Any]:
    """The summary.json of a run, without its own checksum.

    Raises:
        VitrailError: it is missing, torn or altered, or the folder holds another run.
    """
    path = folder / "summary.json"
    if not path.is_file():
        raise VitrailError(f"{path} is missing; run snakemake --cores all again")
    summary = read_json(path)
    again = f"delete the folder {folder} and run the same command again"
    if not isinstance(summary, dict) or "status" not in summary:
        raise VitrailError(f"{path} does not say how the run ended; {again}")
    if summary.pop(OWN, None) not in (None, _checksum(summary)):
        raise VitrailError(f"{path} is damaged (its checksum is not its own); {again}")
    if "config.json" in summary.get("files", {}):
        named = read_json(intact(folder, "config.json")).get("run_id", folder.name)
        if named != folder.name:
            raise VitrailError(f"{folder} holds the run {named}; {again}")
    return summary


def intact(folder: Path, name: str) -> Path:
    """The path of a file that its folder's summary.json vouches for.

    A folder without such checksums (a model in MLflow holds two files of a run) passes.

    Raises:
        VitrailError: the file is missing or is not what the step wrote.
    """
    path, record = folder / name, folder / "summary.json"
    sums = read_json(record).get("files", {}) if record.is_file() else {}
    if name in sums:
        compare(path, sums[name], f"delete the folder {folder} and run the same command again")
    return path


def checksums(folder: Path, *patterns: str) -> dict[str, str]:
    """The SHA-256 of the files below a folder that fit the patterns, by their path in it."""
    found = sorted(path for pattern in patterns for path in folder.glob(pattern) if path.is_file())
    return {path.relative_to(folder).as_posix(): sha256(path) for path in found}


def check_shown(folder: Path, remedy: str) -> None:
    """Compare what is taken from a question, or from the study, with its sources.json.

    Raises:
        VitrailError: names the file that is missing or altered.
    """
    record = folder / "sources.json"
    for name, expected in (read_json(record) if record.is_file() else {}).get("files", {}).items():
        compare(folder / name, expected, remedy)


def compare(path: Path, expected: str, remedy: str) -> None:
    """Compare a file with the SHA-256 that was written down for it.

    Raises:
        VitrailError: they differ, or there is no such file.
    """
    if not path.is_file():
        raise VitrailError(f"{path} is missing; {remedy}")
    if (actual := sha256(path)) != expected:
        raise VitrailError(
            f"{path} is damaged (its SHA-256 starts with {actual[:8]} instead of {expected[:8]}); "
            f"{remedy}"
        )


def vouch(path: Path) -> None:
    """Write the checksum of a finished file beside it, in the form of ``sha256sum``."""
    write_text(path.with_name(path.name + SUM), f"{sha256(path)}  {path.name}\n")


def write_vouched(path: Path, text: str) -> None:
    """Write a table, and its checksum beside it."""
    write_text(path, text)
    vouch(path)


def vouched(path: Path) -> Path:
    """The path of a file that has its checksum beside it.

    A file without one passes: an older version of the step has written it.

    Raises:
        VitrailError: it is missing, or is not what the step wrote.
    """
    remedy = "delete it and run the same command again"
    beside = path.with_name(path.name + SUM)
    if not path.is_file():
        raise VitrailError(f"{path} is missing; run the same command again")
    if beside.is_file():
        noted = beside.read_text(encoding="utf-8", errors="replace")
        if not (found := re.fullmatch(r"([0-9a-f]{64})  [^\n]*\n", noted)):
            raise VitrailError(f"{beside} is damaged (it holds no SHA-256); {remedy}")
        compare(path, found[1], remedy)
    return path


def read_rows(path: Path, *columns: str) -> list[dict[str, str]]:
    """The rows of a table by the names of its columns, all as text.

    Args:
        path: a CSV file, with or without its checksum beside it.
        columns: those that it has to have.

    Raises:
        VitrailError: it is missing, altered, no CSV in UTF-8, or a row or a column of it is
            not whole.
    """
    try:
        text = vouched(path).read_bytes().decode("utf-8")
        reader = csv.DictReader(io.StringIO(text, newline=""), strict=True)
        rows = list(reader)
        if lacking := [name for name in columns if name not in (reader.fieldnames or ())]:
            raise ValueError(f"it has no column {lacking[0]}")
        if any(None in row or None in row.values() for row in rows):
            raise ValueError("a row has more or fewer values than the header")
        if not text.endswith("\n"):
            raise ValueError("its last line does not end")
    except (ValueError, csv.Error) as error:
        raise VitrailError(
            f"{path} is damaged ({error}); delete it and run the same command again"
        ) from error
    return rows
