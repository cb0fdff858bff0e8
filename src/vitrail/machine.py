"""What an error says about the machine rather than about the program: memory, disk.

Libraries say it in errors of their own (safetensors and SQLite on a full disk, torch without
memory), so it is told by their words.
"""

from __future__ import annotations

from collections.abc import Iterator

KEPT = "and run the same command again; finished runs are kept"
DISK = ("no space left on device", "disk is full", "disk quota exceeded", "(os error 28)")
READ_ONLY = ("read-only file system", "readonly database")
# Of torch on a GPU. An assertion of a kernel is a bug of a program and keeps its traceback.
GPU_MEMORY = (
    *("cuda out of memory", "cuda error: out of memory", "cublas_status_alloc_failed"),
    *("hip out of memory", "mps backend out of memory"),
)
GPU = ("cuda error", "hip error", "cudnn error", "cudnn_status", "cublas_status", "cuda driver")
KERNEL_BUG = "device-side assert"
GOES_ON = "and trainings go on from their last state"
MEMORY = ("can't allocate memory", "cannot allocate memory", "out of memory", "unable to allocate")


def fault(error: BaseException) -> str:
    """The sentence for an error that the machine is behind; empty for any other.

    A program that calls a library passes its errors on as the cause of its own.
    """
    for one in _chain(error):
        words = str(one).lower()
        if any(part in words for part in GPU_MEMORY):
            return (
                f"the GPU had not enough memory ({first_line(one)}); let fewer jobs share it "
                "(snakemake --resources gpu_percent=50), see what else runs on it, or lower "
                f"batch_size, {KEPT}, {GOES_ON}"
            )
        if KERNEL_BUG not in words and any(part in words for part in GPU):
            return (
                f"the GPU failed ({first_line(one)}); see whether nvidia-smi still finds it, "
                f"restart the machine if not, {KEPT}, {GOES_ON}"
            )
        if isinstance(one, MemoryError) or any(part in words for part in MEMORY):
            return (
                "there was not enough memory; close other programs, start Snakemake with fewer "
                f"--cores (a training takes about 1.5 GB), or lower batch_size, {KEPT}"
            )
        if any(part in words for part in DISK):
            return f"the disk is full ({first_line(one)}); make room {KEPT}"
        if any(part in words for part in READ_ONLY):
            return f"the disk cannot be written to ({first_line(one)}); change that {KEPT}"
    return ""


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = error.__cause__ or error.__context__


def first_line(error: object) -> str:
    """What an error or a warning begins with, short enough for a sentence."""
    return next(iter(str(error).splitlines()), type(error).__name__)[:200]
