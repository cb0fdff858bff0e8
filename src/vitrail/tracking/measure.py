"""A logged model asked once more: loaded from MLflow, does it still say what its run said?

It is loaded in a process of its own that cannot see this checkout, so the model works by what
is inside it.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from vitrail.errors import VitrailError
from vitrail.files import read_json
from vitrail.settings import MNIST_FILES

SOURCES = Path(__file__).parents[2]
# A class may differ from the run's only where its two highest logits were closer than this:
# another order of additions, or float32 where the run used bfloat16 (8 bits of precision).
CLOSE = {"fp32": 1e-3, "bf16": 0.5, "auto": 0.5}
PROGRAM = """
import sys
import mlflow, numpy
numpy.save(sys.argv[3], mlflow.pyfunc.load_model(sys.argv[1]).predict(numpy.load(sys.argv[2])))
"""


def remeasured(uri: str, tracking: str, folder: Path, results: Path, work: Path) -> tuple[int, int]:
    """Load a model from MLflow, ask it for the whole test set, and compare it with its run.

    Args:
        uri: of the model.
        tracking: URI of the store that has it.
        folder: the run folder it was made of.
        results: has the test set in `data`.
        work: an existing folder for drafts.

    Returns:
        (images that the loaded model gets wrong, images of the test set).

    Raises:
        VitrailError: the model cannot be loaded, or gives other classes than the run.
    """
    import numpy as np

    from vitrail.data import read_idx

    pixels, labels = (read_idx(results / "data" / name) for name in MNIST_FILES[2:])
    np.save(work / "images.npy", (pixels[:, None] / np.float32(255)).astype(np.float32))
    _predict(uri, tracking, work)
    logits = np.load(work / "logits.npy")
    with np.load(folder / "predictions.npz") as arrays:
        wanted = arrays["test_logits"]
    again = "delete the folder of that run and run the same command again"
    if logits.shape != wanted.shape:
        raise VitrailError(
            f"the model of {folder.name} gives logits of shape {logits.shape} for the test set and "
            f"its run gave {wanted.shape}; {again}"
        )
    second, first = np.sort(wanted, axis=1)[:, -2:].T
    close = first - second < CLOSE[read_json(folder / "config.json")["settings"]["precision"]]
    other = (logits.argmax(axis=1) != wanted.argmax(axis=1)) & ~close
    if other.any():
        raise VitrailError(
            f"the model of {folder.name}, loaded from MLflow, gives {int(other.sum())} of "
            f"{len(labels)} test images another class than its run did; {again}"
        )
    return int((logits.argmax(axis=1) != labels).sum()), len(labels)


def _predict(uri: str, tracking: str, work: Path) -> None:
    """Logits of `images.npy` as `logits.npy`, by a process without this checkout on its path."""
    given = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    paths = [path for path in given if path and Path(path).resolve() != SOURCES]
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join(paths),
        "PYTHONSAFEPATH": "1",
        "PYTHONDONTWRITEBYTECODE": "1",
        "MLFLOW_TRACKING_URI": tracking,
        "TMPDIR": str(work.resolve()),  # what is downloaded goes with the drafts
    }
    command = [
        sys.executable,
        "-c",
        PROGRAM,
        uri,
        str(work / "images.npy"),
        str(work / "logits.npy"),
    ]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    if done.returncode:
        reason = (done.stderr.strip().splitlines() or ["it says nothing"])[-1]
        raise VitrailError(
            f"{uri} was logged and cannot be loaded from MLflow ({reason[:300]}); see that the "
            "packages are those of requirements.lock and run the same command again"
        )


@contextmanager
def drafts_in(folder: Path) -> Iterator[None]:
    """Temporary files of the block, MLflow's too, are made in this folder, not in the system's."""
    before = tempfile.tempdir
    tempfile.tempdir = str(folder)
    try:
        yield
    finally:
        tempfile.tempdir = before
