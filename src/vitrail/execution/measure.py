"""All ways of the three groups, for one trained ViT."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from vitrail.data import Mnist
from vitrail.device import pick_device
from vitrail.errors import VitrailError
from vitrail.execution.inference import measure_inference
from vitrail.execution.settings import read_settings
from vitrail.execution.training import measure_training
from vitrail.execution.tuning import measure_tuning
from vitrail.execution.ways import Way, with_attention
from vitrail.files import read_json
from vitrail.intact import read_summary
from vitrail.networks import load_run
from vitrail.train import pixels


def measure(
    run: Path,
    mnist: Mnist,
    settings: dict[str, Any],
    weights: dict[str, Any] | None,
    folder: Path,
) -> list[Way]:
    """Every way, in the order of the table.

    Args:
        run: folder of a finished run of a ViT of ours.
        mnist: its data.
        settings: see `settings.DEFAULTS`.
        weights: what vitrail.weights found, None without.
        folder: for files that a way needs for a while; on a disk, not in memory.

    Raises:
        VitrailError: when a setting is wrong, or the run is no such run.
    """
    settings = read_settings(settings)
    device = pick_device(settings["device"])
    network, own = trained(run)
    network = network.to(device)

    def images(array: np.ndarray) -> Tensor:
        return pixels(array, own, device)

    def labels(array: np.ndarray) -> Tensor:
        return torch.from_numpy(array.astype(np.int64)).to(device)

    train, tune = slice(settings["train_batch_size"]), slice(settings["tune_batch_size"])
    threads_before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        torch.manual_seed(0)
        return [
            *measure_inference(
                network, images(mnist.test_images), labels(mnist.test_labels), settings
            ),
            *measure_training(
                network,
                images(mnist.train_images[train]),
                labels(mnist.train_labels[train]),
                settings,
                folder,
            ),
            *measure_tuning(
                images(mnist.train_images[tune]),
                labels(mnist.train_labels[tune]),
                mnist,
                settings,
                weights,
            ),
        ]
    finally:
        torch.set_num_threads(threads_before)


def trained(run: Path) -> tuple[nn.Module, dict[str, Any]]:
    """The network of a run with its attention written out, and the run's settings.

    Raises:
        VitrailError: when the folder holds no finished run of a ViT of ours.
    """
    if not (run / "summary.json").is_file():
        raise VitrailError(f"--run {run} is not the folder of a run; name one of results/*/runs")
    status = read_summary(run)["status"]
    settings = read_json(run / "config.json")["settings"]
    if status != "finished" or settings["model"] != "vit":
        raise VitrailError(
            f"--run {run} is of model {settings['model']!r} and {status}; "
            "name a finished run of model 'vit'"
        )
    return with_attention(load_run(run), fused=False), settings
