"""Files and folders are whole or as before, at whatever moment their process is killed."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest

from vitrail import files
from vitrail.errors import VitrailError
from vitrail.files import check_writable, draft_of, forget_drafts, whole_folder, write_text

# Kills itself when a call has been made so many times.
KILLED = """
    import os, signal, shutil, sys
    from pathlib import Path
    from vitrail import files

    def fatal(owner, name, times):
        real, left = getattr(owner, name), [times]
        def call(*arguments, **options):
            if left[0] == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            left[0] -= 1
            return real(*arguments, **options)
        setattr(owner, name, call)

    fatal(*{place})
    target = Path({target!r})
    if {folder}:
        with files.whole_folder(target) as draft:
            for name in "ab":
                (draft / name).write_text("new")
    else:
        files.write_text(target, "new")
"""


def kill_at(target: Path, folder: bool, place: str) -> None:
    code = textwrap.dedent(KILLED.format(place=place, target=str(target), folder=folder))
    done = subprocess.run([sys.executable, "-c", code], timeout=60)
    assert done.returncode == -9, "the place was never reached"


def held(folder: Path) -> dict[str, str]:
    return {path.name: path.read_text() for path in folder.iterdir()}


@pytest.mark.parametrize(
    "place",
    [
        "(Path, 'write_text', 0)",
        "(Path, 'write_text', 1)",
        "(Path, 'rename', 0)",
        "(Path, 'rename', 1)",
        "(shutil, 'rmtree', 0)",
    ],
)
def test_a_folder_is_old_or_new_after_a_kill(tmp_path: Path, place: str) -> None:
    target = tmp_path / "report"
    target.mkdir()
    for name in "ab":
        (target / name).write_text("old")
    kill_at(target, True, place)
    assert [path for path in tmp_path.iterdir() if path != target]  # something was left
    forget_drafts(target)
    assert list(tmp_path.iterdir()) == [target]
    new = "rmtree" in place
    assert held(target) == dict.fromkeys("ab", "new" if new else "old")


def test_the_next_attempt_clears_away_what_a_kill_left(tmp_path: Path) -> None:
    target = tmp_path / "report"
    kill_at(target, True, "(Path, 'write_text', 1)")
    assert not target.exists()
    with whole_folder(target) as draft:
        (draft / "a").write_text("newest")
    assert [path.name for path in tmp_path.iterdir()] == ["report"]
    assert held(target) == {"a": "newest"}


@pytest.mark.parametrize("place", ["(Path, 'write_bytes', 0)", "(Path, 'replace', 0)"])
def test_a_file_is_old_or_new_after_a_kill(tmp_path: Path, place: str) -> None:
    target = tmp_path / "table.csv"
    target.write_text("old")
    kill_at(target, False, place)
    assert target.read_text() == "old"
    write_text(target, "newest")
    assert held(tmp_path) == {"table.csv": "newest"}


def test_drafts_of_living_processes_and_other_files_stay(tmp_path: Path) -> None:
    kept = [
        f".table.csv.{os.getppid()}",  # somebody at work
        f".table.csv.gz.{2**22 + 1}",  # another file's
        ".table.csv.backup",
        f".tableXcsv.{2**22 + 1}",
    ]
    for name in [*kept, f".table.csv.{2**22 + 1}", f".table.csv.{2**22 + 1}-wal"]:
        (tmp_path / name).touch()
    write_text(tmp_path / "table.csv", "new")
    assert {path.name for path in tmp_path.iterdir()} == {"table.csv", *kept}


def test_numbers_of_processes_come_again(tmp_path: Path) -> None:
    """In a container the killed step had the number that this one has."""
    target = tmp_path / "report"
    draft_of(target).mkdir()
    (draft_of(target) / "rest").touch()
    with whole_folder(target) as draft:
        assert list(draft.iterdir()) == []
    assert held(target) == {}


def test_an_exchange_that_fails_puts_the_old_folder_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "report"
    target.mkdir()
    (target / "a").write_text("old")
    real = Path.rename

    def full(path: Path, to: Path) -> Path:
        if path == draft_of(target):
            raise OSError(28, "No space left on device")
        return real(path, to)

    monkeypatch.setattr(files.Path, "rename", full)
    with pytest.raises(OSError, match="No space"), whole_folder(target) as draft:
        (draft / "a").write_text("new")
    assert held(target) == {"a": "old"}
    assert [path.name for path in tmp_path.iterdir()] == ["report"]


@pytest.mark.parametrize("name", ["new.json", "folder/below/new.json", "old.json"])
def test_a_file_that_can_be_written_is_left_as_it_is_by_its_check(
    tmp_path: Path, name: str
) -> None:
    (tmp_path / "old.json").write_text("old")
    check_writable(tmp_path / name, "--out")
    assert held(tmp_path) == {"old.json": "old"}


@pytest.mark.parametrize(
    "name", ["/proc/x/o.json", "file/o.json", "folder", "/dev/null", "n" * 300]
)
def test_a_file_that_cannot_be_written_is_told_with_its_option(tmp_path: Path, name: str) -> None:
    """/dev/null could be, and would be a file afterwards."""
    (tmp_path / "file").touch()
    (tmp_path / "folder").mkdir()
    with pytest.raises(VitrailError, match=r"^--out: \S+ cannot be written \(.+\); free the space"):
        check_writable(tmp_path / name, "--out")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "folder"]


def test_a_file_that_may_not_be_opened_is_told_before_it_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Played, because root may open every file."""
    real = Path.open

    def refused(path: Path, mode: str = "r", *about: Any, **more: Any) -> Any:
        if path.name == "o.json" and "a" in mode:
            raise PermissionError(13, "Permission denied")
        return real(path, mode, *about, **more)

    (tmp_path / "o.json").write_text("old")
    monkeypatch.setattr(files.Path, "open", refused)
    with pytest.raises(VitrailError, match=r"cannot be written \(Permission denied\)"):
        check_writable(tmp_path / "o.json", "--out")
