"""One run: its processes are started, watched and ended, whatever they do."""

from __future__ import annotations

import os
import tempfile
import time
from pathlib import Path
from typing import Any

import torch.multiprocessing as mp

from vitrail.errors import VitrailError
from vitrail.files import read_json
from vitrail.one_minute.networks import build
from vitrail.one_minute.together import Meeting, size_of
from vitrail.one_minute.train import Order, work

TOLD = f"{VitrailError.__module__}.{VitrailError.__name__}: "


def cores() -> int:
    """The cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def check(processes: int) -> None:
    """Make sure that so many processes can train together here.

    Raises:
        VitrailError: there are too few cores.
    """
    if cores() < processes:
        raise VitrailError(
            f"{processes} processes need {processes} cores and this one may use {cores()}; "
            "add --processes 1, or give it more cores (taskset, or the limits of the container)"
        )


def run(order: Order) -> dict[str, Any]:
    """Train and read once; what `vitrail.one_minute.train.work` found, and the load beside it.

    Raises:
        VitrailError: a process ended early. The other one is ended too.
    """
    who = "the process" if order.processes == 1 else f"one of the {order.processes} processes"
    before, began = os.getloadavg()[0], time.perf_counter()
    meeting = Meeting(order.processes, size_of(build(order.recipe, order.seed)))
    with tempfile.TemporaryDirectory(prefix="vitrail-minute-") as folder:
        try:
            mp.spawn(work, args=(order, folder, meeting), nprocs=order.processes)
        except mp.ProcessExitedException as error:
            raise VitrailError(
                f"{who} was ended from outside ({_last_line(error)}); free some memory and run the "
                "same command again"
            ) from error
        except mp.ProcessRaisedException as error:
            said = _last_line(error)
            if said.startswith(TOLD):  # a sentence already
                raise VitrailError(said.removeprefix(TOLD)) from error
            raise VitrailError(f"{who} failed ({said}); run the same command again") from error
        found = read_json(Path(folder) / "result.json")
    return {
        **found,
        "wall_seconds": round(time.perf_counter() - began, 2),
        "load_before": round(before, 2),
        "load_after": round(os.getloadavg()[0], 2),
    }


def _last_line(error: Exception) -> str:
    """The last line of an error that quotes the traceback of another process."""
    lines = [line for line in str(error).splitlines() if line.strip()]
    return lines[-1].strip()[:300] if lines else type(error).__name__
