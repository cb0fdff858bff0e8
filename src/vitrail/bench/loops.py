"""The loops that the networks are trained in, each timed over the same images.

Every loop begins with the bytes of MNIST in memory and ends with updated weights: images are
moved at random (by `vitrail.augment` or torchvision, alike in kind and strength), put into
batches, and the optimiser steps. Building the network is not timed. What else a loop needs to
begin is timed for ours (pixels as float32, the optimiser) and not for the others.
"""

from __future__ import annotations

import contextlib
import io
import tempfile
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from vitrail.bench.networks import Missing
from vitrail.settings import IMAGE_SIZE, Settings

if TYPE_CHECKING:
    from torch import nn
    from torch.utils.data import Dataset

    from vitrail.data import Mnist

LEARNING_RATE = 1e-3  # of the others, Adam's usual one; the speed does not depend on it
clock = time.process_time  # seconds that the core gave to this process


@contextlib.contextmanager
def repeatably() -> Iterator[None]:
    """Deterministic kernels, as the study trains with; afterwards torch's default again."""
    import torch

    from vitrail.device import compute_repeatably

    compute_repeatably()
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(False)


def ours(network: nn.Module, mnist: Mnist, settings: Settings, steps: int) -> float:
    """Seconds of `vitrail.train.fit`, with all that it does, for so many steps.

    It evaluates once, at the end, on a single image: it cannot do without one.
    """
    import torch

    from vitrail.data import split
    from vitrail.train import fit

    data = split(mnist, 1, steps * settings["batch_size"])
    asked = {**settings, "steps": steps, "evaluations": 1}
    with repeatably(), contextlib.redirect_stderr(io.StringIO()):  # its bar
        begin = clock()
        fit(network, data, asked, 0, torch.device("cpu"), settings["precision"], "bench")
        return clock() - begin


def dataset(mnist: Mnist, settings: Settings, images: int) -> Dataset[Any]:
    """torchvision's MNIST with its random affine maps, of the first training images."""
    from torch import from_numpy
    from torchvision import transforms
    from torchvision.datasets import MNIST

    shift, scale = settings["translation"] / IMAGE_SIZE, settings["scaling"]
    moved = transforms.RandomAffine(
        settings["rotation"],
        translate=(shift, shift),
        scale=(1 - scale, 1 + scale),
        interpolation=transforms.InterpolationMode.BILINEAR,
    )
    normalised = transforms.Normalize((settings["pixel_mean"],), (settings["pixel_std"],))

    class InMemory(MNIST):
        """torchvision's class with what it would have read from its files."""

        def __init__(self) -> None:
            self.data = from_numpy(mnist.train_images[:images].copy())
            self.targets = from_numpy(mnist.train_labels[:images].copy()).long()
            self.transform = transforms.Compose([moved, transforms.ToTensor(), normalised])
            self.target_transform = None

    return InMemory()


def tutorial(network: nn.Module, mnist: Mnist, settings: Settings, steps: int) -> float:
    """Seconds of the loop that tutorials show: torchvision, DataLoader, Adam."""
    import torch.nn.functional as F
    from torch.optim import Adam
    from torch.utils.data import DataLoader

    size = settings["batch_size"]
    # No worker processes: with one core they would only take turns with the loop.
    loader = DataLoader(
        dataset(mnist, settings, steps * size), batch_size=size, shuffle=True, drop_last=True
    )
    optimizer = Adam(network.parameters(), lr=LEARNING_RATE)
    network.train()
    begin = clock()
    for images, labels in loader:
        optimizer.zero_grad()
        loss = F.cross_entropy(network(images), labels)
        loss.backward()
        optimizer.step()
    return clock() - begin


def trainer(network: nn.Module, mnist: Mnist, settings: Settings, steps: int) -> float:
    """Seconds of transformers' `Trainer` with its own optimiser, from its first step to its last.

    Its clock starts when it says that training begins: what it sets up before is left out.

    Raises:
        Missing: transformers or accelerate is not installed.
    """
    import torch

    try:
        import accelerate  # noqa: F401 - Trainer asks for it only when it is made
        from transformers import Trainer, TrainerCallback, TrainingArguments
    except ImportError as error:
        raise Missing("transformers with accelerate is not installed") from error
    size = settings["batch_size"]
    times: list[float] = []

    class Clock(TrainerCallback):
        """Looks at the clock at both ends."""

        def on_train_begin(self, *_: Any, **__: Any) -> None:
            times.append(clock())

        def on_train_end(self, *_: Any, **__: Any) -> None:
            times.append(clock())

    def collate(samples: list[tuple[Any, int]]) -> dict[str, Any]:
        return {
            "pixel_values": torch.stack([image for image, _ in samples]),
            "labels": torch.tensor([label for _, label in samples]),
        }

    with tempfile.TemporaryDirectory() as folder:
        arguments = TrainingArguments(
            output_dir=folder,
            per_device_train_batch_size=size,
            num_train_epochs=1,
            learning_rate=LEARNING_RATE,
            dataloader_drop_last=True,
            remove_unused_columns=False,
            use_cpu=True,
            # What does not train is off, to its advantage; it would also find MLflow and log there.
            report_to="none",
            logging_strategy="no",
            save_strategy="no",
            disable_tqdm=True,
        )
        with contextlib.redirect_stdout(io.StringIO()):  # its summary
            Trainer(
                model=network,
                args=arguments,
                train_dataset=dataset(mnist, settings, steps * size),
                data_collator=collate,
                callbacks=[Clock()],
            ).train()
    begin, end = times
    return end - begin


Loop = Callable[["nn.Module", "Mnist", Settings, int], float]
LOOPS: dict[str, Loop] = {"ours": ours, "tutorial": tutorial, "Trainer": trainer}
