"""Can the study write where it has to? Asked before any job, and after one that failed.

Imports nothing heavy, because Snakemake reads it each time it parses the workflow.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

from vitrail.errors import VitrailError

LITTLE = 20 << 20  # bytes; a study of the default size writes about 100 MB
NOTES = 1 << 20  # bytes that Snakemake's notes may need at once
REMEDY = "(another owner, or a disk that is mounted read-only)"


def _folders(results: Path, study: str) -> Iterator[Path]:
    yield from (results, results / "data", results / "logs", results / study)
    yield from (results / study / name for name in ("runs", "logs", "pretraining", "weights"))


def check_kinds(results: Path, study: str) -> None:
    """Make sure that the folders of results are folders, as far as they are there.

    A symbolic link to a folder is as good as a folder.

    Args:
        results: the folder of all results.
        study: the name of the study in it.

    Raises:
        VitrailError: names the place and what it is instead.
    """
    for place in _folders(results, study):
        if place.is_symlink() and not place.exists():
            raise VitrailError(
                f"{place} is a link to {place.readlink()}, which is not there; make that folder, "
                "or remove the link"
            )
        if place.exists() and not place.is_dir():
            raise VitrailError(
                f"{place} is a file, but results are kept in a folder of that name; move the file"
            )


def check_writable(results: Path, study: str) -> None:
    """Make sure that results can be written.

    Raises:
        VitrailError: names the folder that refuses.
    """
    for place in _folders(results, study):
        if not os.access(nearest := _nearest(place), os.W_OK | os.X_OK):
            raise VitrailError(
                f"{nearest} cannot be written to {REMEDY}; change that, or make results a link to "
                "a folder elsewhere"
            )


def check_snakemake(project: Path) -> None:
    """Make sure that Snakemake can write its own notes and its cache.

    It needs both before it reads a Snakefile, and ends in a traceback without them.

    Raises:
        VitrailError: names the folder that refuses.
    """
    if not os.access(nearest := _nearest(project / ".snakemake"), os.W_OK | os.X_OK):
        raise VitrailError(
            f"{nearest} cannot be written to {REMEDY}, but Snakemake keeps its notes there; work "
            "in a copy of the project"
        )
    disk = os.statvfs(nearest)
    if disk.f_bavail * disk.f_frsize < NOTES:
        raise VitrailError(
            f"the disk of {nearest.absolute()} is full, and Snakemake keeps its notes there; make "
            "room and run the same command again"
        )
    cache = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser()
    if not os.access(nearest := _nearest(cache), os.W_OK | os.X_OK):
        raise VitrailError(
            f"{nearest} cannot be written to {REMEDY}, but Snakemake keeps a cache there; set "
            "XDG_CACHE_HOME to a folder that can"
        )


def before_jobs(results: Path, study: str) -> None:
    """Stop Snakemake, with the reason, before it starts a job whose results have no place."""
    try:
        check_writable(results, study)
    except VitrailError as error:
        sys.exit(f"vitrail: {error}")


def shortage(results: Path) -> str:
    """What a study lacks to write on, in a sentence; empty when there is room.

    After a job that failed: on a full disk its log may have no room for the reason.
    """
    disk = os.statvfs(_nearest(results))
    free = disk.f_bavail * disk.f_frsize
    if disk.f_files and not disk.f_favail:
        what = "no room for another file"
    elif free < LITTLE:
        what = f"{free / (1 << 20):.1f} MB left"
    else:
        return ""
    return (
        f"vitrail: the disk of {results} has {what}, which may be why a job failed; make room and "
        "run the same command again: what is finished is kept"
    )


def _nearest(place: Path) -> Path:
    """The place, or of what is not there yet the nearest folder above it that is."""
    return next(folder for folder in (place, *place.absolute().parents) if folder.exists())
