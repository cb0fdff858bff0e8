"""How much of a GPU a job takes, and which GPU of several: small trainings share one on purpose.

A training of 64 images of 17 tokens leaves most of a GPU idle, because starting its kernels takes
longer than running them. What a job takes is planned by Snakemake (resource `gpu_percent`), so
this module, which it reads each time it parses the workflow, imports no torch. Which GPU it gets
is settled when it starts, by locks of the kernel that go with the process, whatever ends it.
Neither changes a result.
"""

from __future__ import annotations

import fcntl
import itertools
import os
import platform
import sys
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from vitrail.settings import Settings

SMALL, WHOLE = 25, 100  # per cent of a GPU
UNIT = 5  # per cent that a lock stands for
LOCKS = 64  # of a GPU: it can be asked for more than there is of it
_held: list[int] = []  # open files: closing one would give its lock back
_chosen: dict[tuple[str, ...], int] = {}  # by the names of the GPUs


def expected(device: str) -> str:
    """The GPU that jobs will compute on with this `device` of the config: cuda, mps or "".

    For "auto" the files of NVIDIA's driver tell, and the kind of the machine. Where they are
    wrong, a job waits for a GPU that it does not use, or goes uncounted: nothing else.
    """
    if device != "auto":
        return device if device in ("cuda", "mps") else ""
    if os.environ.get("CUDA_VISIBLE_DEVICES", "all").strip() not in ("", "-1") and _nvidia():
        return "cuda"
    return "mps" if sys.platform == "darwin" and platform.machine() == "arm64" else ""


def _nvidia(root: Path = Path("/")) -> bool:
    """Whether NVIDIA's driver has a GPU."""
    files = (*root.glob("dev/nvidia[0-9]*"), *root.glob("proc/driver/nvidia/gpus/*"))
    return bool(files)


def granted(device: str) -> int:
    """Whole GPUs that a cluster has to give to a job, the resource `gpu`: 0 or 1."""
    return int(expected(device) == "cuda")


def percent(settings: Iterable[Settings] = ()) -> int:
    """What trainings of these arms take of a GPU; a network of timm, or another job, all of it."""
    kinds = {one["model"] for one in settings}
    return SMALL if kinds and "timm" not in kinds else WHOLE


def planned(device: str, settings: Iterable[Settings] = ()) -> int:
    """The resource `gpu_percent` of a job: `percent`, or 0 where it computes on a CPU."""
    return percent(settings) if expected(device) else 0


def take(names: Sequence[str], wanted: int, folder: Path | None = None) -> int:
    """Hold so many per cent of the GPU that is least taken, until this process ends.

    A process computes on one GPU: asked again, it gets the same one and holds no more of it. Its
    own locks would send it to another.

    Args:
        names: of the GPUs, the same in every process that can see them.
        wanted: per cent of one of them.
        folder: where the locks are files; of this user and machine if not given.

    Returns:
        The place of that GPU among the names. The first one where files cannot be locked.
    """
    if len(names) < 2:
        return 0
    if tuple(names) not in _chosen:
        _chosen[tuple(names)] = _least_taken(names, wanted, folder)
    return _chosen[tuple(names)]


def _least_taken(names: Sequence[str], wanted: int, folder: Path | None) -> int:
    folder = folder or Path(tempfile.gettempdir()) / f"vitrail-gpus-{os.getuid()}"
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
        with _alone(folder):
            free = [_free(folder, name) for name in names]
            best = max(range(len(names)), key=lambda place: len(free[place]))
            share = -(-wanted // UNIT)
            _held.extend(free[best][:share])
            free[best] = free[best][share:]
            for file in itertools.chain(*free):
                os.close(file)
    except OSError:
        return 0
    return best


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """While one process chooses, the others wait; it takes a few milliseconds."""
    file = _open(folder / "choosing")
    try:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
    finally:
        os.close(file)


def _free(folder: Path, name: str) -> list[int]:
    """The locks of a GPU that nobody held, now held by this process."""
    found = []
    for number in range(LOCKS):
        file = _open(folder / f"{name}-{number}")
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(file)
        else:
            found.append(file)
    return found


def _open(path: Path) -> int:
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
