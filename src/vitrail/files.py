"""Small file habits that every step shares: whole files or none, and checksums."""

from __future__ import annotations

import glob
import hashlib
import json
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from vitrail.errors import VitrailError

OLD = ".old"  # end of the name of a folder that is being replaced


def sha256(path: Path) -> str:
    """Hexadecimal SHA-256 of a file's bytes."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def read_json(path: Path) -> Any:
    """The content of a JSON file; a torn one is named in a `VitrailError`."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise VitrailError(
            f"{path} is not readable JSON ({error}); delete it and run the same command again"
        ) from error


def json_params(text: str, command: str, option: str = "--params") -> Any:
    """The JSON of a command's option; what is none is named in a `VitrailError`."""
    try:
        return json.loads(text)
    except ValueError as error:
        raise VitrailError(f"{option} of {command} is not JSON: {error}") from error


def draft_of(path: Path) -> Path:
    """Where this process makes what will be moved to `path` when it is whole."""
    return path.with_name(f".{path.name}.{os.getpid()}")


def forget_drafts(path: Path) -> None:
    """Clear away what killed processes left beside `path`; a replaced folder comes back.

    A process that is at work keeps its draft: several may make the same file.
    """
    left = re.compile(rf"\.{re.escape(path.name)}\.(\d+)(\.old|-\w+)?")  # -wal of SQLite
    for other in sorted(path.parent.glob(f".{glob.escape(path.name)}.*")):
        found = left.fullmatch(other.name)
        if found is None or _at_work(int(found[1])):
            continue
        if found[2] == OLD and not path.exists():
            other.rename(path)
        elif other.is_dir():
            shutil.rmtree(other, ignore_errors=True)
        else:
            other.unlink(missing_ok=True)


def _at_work(process: int) -> bool:
    """Whether another process of this machine has that number."""
    if process == os.getpid():
        return False  # as in a container, where numbers come again: this one has no draft yet
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:  # somebody else's
        return True
    return True


def check_writable(path: Path, option: str) -> None:
    """Make sure that a file can be written, before the work whose result it is to hold.

    Nothing is left behind, neither the file nor a folder.

    Raises:
        VitrailError: it cannot; names the option that the file was given with.
    """
    made: list[Path] = []
    try:
        made = [folder for folder in path.parents if not folder.exists()]
        path.parent.mkdir(parents=True, exist_ok=True)
        draft = draft_of(path)  # beside the file, as `write_bytes` makes it
        draft.touch()
        draft.unlink()
        if path.exists() and not path.is_file():  # a folder, or a device that would be replaced
            raise OSError("it is no regular file")
        if path.exists():
            path.open("ab").close()
    except OSError as error:
        raise VitrailError(
            f"{option}: {path} cannot be written ({error.strerror or error}); free the space or "
            "the permission for it, or name another file"
        ) from error
    finally:
        for folder in made:  # the deepest first
            with suppress(OSError):
                folder.rmdir()


def write_text(path: Path, text: str) -> None:
    """Write a file so that a reader sees either the old content or the new one."""
    write_bytes(path, text.encode("utf-8"))


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file so that a reader sees either the old content or the new one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    forget_drafts(path)
    draft = draft_of(path)
    try:
        draft.write_bytes(content)
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)  # after a full disk


def write_json(path: Path, content: Any) -> None:
    """Write JSON with sorted keys, whole or not at all."""
    write_text(path, json.dumps(content, indent=2, sort_keys=True, ensure_ascii=False) + "\n")


@contextmanager
def whole_folder(folder: Path) -> Iterator[Path]:
    """Give a temporary folder that becomes `folder` when the block ends well.

    What stood at `folder` is replaced; after an exception or a kill it is as before,
    so a half-written folder never looks finished. A kill in the instant of the exchange
    leaves the old folder beside its place, where the next attempt finds it.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    forget_drafts(folder)
    draft = draft_of(folder)
    draft.mkdir()
    try:
        yield draft
        _exchange(draft, folder)
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def _exchange(draft: Path, folder: Path) -> None:
    """Put a folder in the place of another. Two renames: files go one by one only afterwards."""
    old = draft.with_name(draft.name + OLD)
    try:
        folder.rename(old)
    except FileNotFoundError:
        draft.rename(folder)
        return
    try:
        draft.rename(folder)
    except BaseException:
        old.rename(folder)
        raise
    shutil.rmtree(old, ignore_errors=True)
