"""MNIST as arrays: reading the four IDX files and holding a validation set out.

Nothing here is random and nothing is scaled: pixels stay bytes, and `MEAN` and `STD`
are what the models subtract and divide by. Where the files come from is the business
of `vitrail.download`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vitrail.errors import VitrailError
from vitrail.files import sha256

Bytes = NDArray[np.uint8]

# SHA-256 of the decompressed files: the one test that every source has to pass.
FILES = {
    "train-images-idx3-ubyte": "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
    "train-labels-idx1-ubyte": "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
    "t10k-images-idx3-ubyte": "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
    "t10k-labels-idx1-ubyte": "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
}

# Of the pixels of the 60,000 training images, as fractions of 255.
MEAN = 0.1307
STD = 0.3081

_AGAIN = "delete it and run the same command again to obtain it anew"


@dataclass(frozen=True)
class Mnist:
    """The two sets as they are in the files.

    Images are uint8 of shape (images, 28, 28), 0 is the background; labels are uint8 of
    shape (images,), 0 to 9.
    """

    train_images: Bytes
    train_labels: Bytes
    test_images: Bytes
    test_labels: Bytes


@dataclass(frozen=True)
class Split:
    """Training and validation images and labels; views of the arrays of `Mnist`."""

    train_images: Bytes
    train_labels: Bytes
    validation_images: Bytes
    validation_labels: Bytes


def read_idx(path: Path) -> Bytes:
    """Read an uncompressed IDX file of bytes.

    The file starts with two zero bytes, the type (8 for unsigned bytes), the number of
    dimensions and each dimension as a big-endian 32-bit integer; the values follow.

    Raises:
        VitrailError: the file is missing, is not such a file, or is longer or shorter
            than its header says.
    """
    if (path.exists() or path.is_symlink()) and not path.is_file():
        # A folder, a link that leads nowhere, or a pipe, which could be waited for without end.
        raise VitrailError(f"{path} is no file; {_AGAIN}")
    try:
        # `fromfile` rather than `frombuffer` over the bytes read: the array is then
        # writable and PyTorch can share its memory without a warning.
        content = np.fromfile(path, dtype=np.uint8)
    except FileNotFoundError as error:
        raise VitrailError(
            f"{path} is missing; run `python -m vitrail.download --out {path.parent}`"
        ) from error
    if content.size < 4 or content[:3].tolist() != [0, 0, 8] or content[3] == 0:
        raise VitrailError(f"{path} is not an IDX file of bytes (or is torn); {_AGAIN}")
    header = 4 + 4 * int(content[3])
    if content.size < header:
        raise VitrailError(f"{path} ends inside its header after {content.size} bytes; {_AGAIN}")
    shape = tuple(content[4:header].view(">u4").tolist())
    if content.size != header + math.prod(shape):
        raise VitrailError(
            f"{path} has {content.size:,} bytes and its header promises "
            f"{header + math.prod(shape):,}; {_AGAIN}"
        )
    return content[header:].reshape(shape)


def load_mnist(folder: Path, verify: bool = False) -> Mnist:
    """Read the four files of a folder that `vitrail.download` filled.

    Args:
        folder: where the four uncompressed IDX files are.
        verify: compare the SHA-256 of each file with `FILES` first (about 0.1 s).

    Raises:
        VitrailError: a file is missing, torn, altered, or does not fit the others.
    """
    arrays = {}
    for name, expected in FILES.items():
        path = folder / name
        arrays[name] = read_idx(path)
        if verify and (actual := sha256(path)) != expected:
            raise VitrailError(f"{path} has SHA-256 {actual} and should have {expected}; {_AGAIN}")
    mnist = Mnist(*arrays.values())
    for images, labels, which in (
        (mnist.train_images, mnist.train_labels, "train"),
        (mnist.test_images, mnist.test_labels, "t10k"),
    ):
        if images.ndim != 3 or labels.ndim != 1 or len(images) != len(labels):
            raise VitrailError(
                f"the {which} images {images.shape} and labels {labels.shape} in {folder} "
                "do not belong together; delete the folder and run the same command again"
            )
    return mnist


def split(mnist: Mnist, validation: int, train_size: int | None = None) -> Split:
    """Hold the last `validation` training images out and train on the first of the rest.

    Args:
        mnist: the data as read; nothing is copied.
        validation: images held out for every choice, so that the test set is left alone.
        train_size: images to train on; None for all that remain.

    Raises:
        VitrailError: there are not so many images; names the key of the config.
    """
    available = len(mnist.train_images)
    if not 1 <= validation < available:
        raise VitrailError(
            f"data.validation is {validation} and has to lie between 1 and {available - 1}: "
            f"there are {available} training images and some have to be left to train on"
        )
    rest = available - validation
    size = rest if train_size is None else train_size
    if not 1 <= size <= rest:
        raise VitrailError(
            f"train_size is {size} and has to lie between 1 and {rest}: {available} training "
            f"images less the {validation} of data.validation"
        )
    return Split(
        train_images=mnist.train_images[:size],
        train_labels=mnist.train_labels[:size],
        validation_images=mnist.train_images[rest:],
        validation_labels=mnist.train_labels[rest:],
    )
