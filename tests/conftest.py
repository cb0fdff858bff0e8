"""What all tests share: the sources without an installation, one thread, small data."""

from __future__ import annotations

import json
import os
import shutil
import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import settings

if TYPE_CHECKING:
    import numpy as np

    from vitrail.data import Mnist

ROOT = Path(__file__).parents[1]
# For the tests, and for the processes that they start.
sys.path.insert(0, str(ROOT / "src"))
os.environ["PYTHONPATH"] = os.pathsep.join(
    [str(ROOT / "src"), *filter(None, [os.environ.get("PYTHONPATH")])]
)
# Torch reads these when it is imported. Two test processes on two cores then share them.
for variable in ("OMP_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(variable, "1")

# Examples are the same in every run, and none is hurried on a busy machine.
settings.register_profile(
    "vitrail", deadline=None, derandomize=True, max_examples=20, database=None
)
settings.load_profile("vitrail")

# Fixtures that several files share: the smoke study, a browser, a study for MLflow, SLURM. And no
# silent skips in CI.
pytest_plugins = ["smoke_study", "browser", "tracked", "no_skips", "made_slurm"]

LEFT_OUT = shutil.ignore_patterns(".*", "results", "__pycache__", "*.egg-info", "node_modules")


@pytest.hookimpl(optionalhook=True)  # of pytest-xdist
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """In two processes (`--dist loadgroup`) the study is run once, and SLURM waits beside it.

    The groups that tests name by a mark get lost between pytest 9.2 and pytest-xdist 3.8.
    """
    from xdist.scheduler import LoadScopeScheduling

    class Beside(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return "slurm" if nodeid.startswith("tests/test_slurm.py::") else "study"

    return Beside(config, log) if config.getvalue("dist") == "loadgroup" else None


@pytest.fixture(scope="session")
def root() -> Path:
    """The project's root."""
    return ROOT


@pytest.fixture
def config() -> dict[str, Any]:
    """The shipped default config, a fresh copy for each test."""
    from vitrail.config import load

    return load([ROOT / "config" / "default.yaml"])


@pytest.fixture
def small(config: dict[str, Any]) -> Any:
    """A function that gives the settings of a small arm of 30 steps."""

    from vitrail.settings import relevant

    def made(**changes: Any) -> dict[str, Any]:
        asked = {"embed_dim": 16, "depth": 2, "num_heads": 2, "train_size": 500}
        asked |= {"validation": 100, "epochs": 2, "batch_size": 32, "evaluations": 3}
        return relevant({**config["defaults"], **asked, **changes})

    return made


def sources() -> list[str]:
    """The files of the project that git would keep, or all where git is not there."""
    command = ["git", "ls-files", "-co", "--exclude-standard", "-z"]
    try:
        answer = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return []
    return [name for name in answer.stdout.split("\0") if name and (ROOT / name).is_file()]


@pytest.fixture(scope="session")
def copy_project() -> Callable[[Path], Path]:
    """A function that copies the project's sources, without results, to a folder."""

    def copy(target: Path) -> Path:
        names = sources()
        if not names:
            shutil.copytree(ROOT, target, ignore=LEFT_OUT)
        for name in names:
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, target / name)
        return target

    return copy


@pytest.fixture(scope="session")
def mnist() -> Mnist:
    """A stand-in for MNIST that can be learnt in seconds: 600 training and 200 test images.

    Each digit is a texture of its own under noise.
    """
    import numpy as np

    from vitrail.data import Mnist

    rng = np.random.default_rng(0)
    textures = np.tile(200 * rng.integers(0, 2, (10, 7, 7)), (1, 4, 4))

    def draw(count: int) -> tuple[np.ndarray, np.ndarray]:
        labels = rng.integers(0, 10, count, dtype=np.uint8)
        images = textures[labels] + rng.integers(0, 56, (count, 28, 28))
        return images.astype(np.uint8), labels

    return Mnist(*draw(600), *draw(200))


@pytest.fixture(scope="session")
def data_folder(mnist: Mnist, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The stand-in as the four IDX files of the data step, with their source.json."""
    from vitrail.settings import MNIST_FILES

    folder = tmp_path_factory.mktemp("data")
    arrays = (mnist.train_images, mnist.train_labels, mnist.test_images, mnist.test_labels)
    for name, array in zip(MNIST_FILES, arrays, strict=True):
        header = struct.pack(f">4B{array.ndim}I", 0, 0, 8, array.ndim, *array.shape)
        (folder / name).write_bytes(header + array.tobytes())
    (folder / "source.json").write_text(json.dumps({"route": "made for a test"}))
    return folder


@pytest.fixture
def deterministic() -> Any:
    """Repeatable kernels, as in the training steps; given back for the tests of other files."""
    import torch

    before = torch.are_deterministic_algorithms_enabled()
    torch.use_deterministic_algorithms(True)
    yield
    torch.use_deterministic_algorithms(before)
