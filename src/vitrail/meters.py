"""Two meters for one call of a model: seconds and memory."""

from __future__ import annotations

import ctypes
import os
import time
from collections.abc import Callable
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from vitrail.machine import GPU_MEMORY, MEMORY

MIB = 2**20
Call = Callable[[], object]


def seconds_per_call(call: Call, inner: int, device: torch.device) -> float:
    """Mean seconds of `inner` calls in a row, timed as one span.

    On a GPU, CUDA's or Apple's, the span is taken between two events on the device itself, so
    that work still in its queue is neither missed nor counted twice.
    """
    if device.type == "cpu":
        begin_time = time.perf_counter()
        for _ in range(inner):
            call()
        return (time.perf_counter() - begin_time) / inner
    gpu: Any = torch.get_device_module(device)  # torch.cuda or torch.mps
    begin, end = (gpu.Event(enable_timing=True) for _ in range(2))
    gpu.synchronize()
    begin.record()
    for _ in range(inner):
        call()
    end.record()
    gpu.synchronize()
    return float(begin.elapsed_time(end)) / 1000 / inner


def peak_mib(call: Call, device: torch.device) -> float:
    """Most memory alive at one time during a call, in MiB above what was alive before it.

    Counts every tensor the call makes, its output and gradients too. Slows the call
    down, so never measure time along with it. NaN on a device without such a meter.
    """
    if device.type == "cuda":
        torch.cuda.synchronize(device)
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        call()
        torch.cuda.synchronize(device)
        return float(torch.cuda.max_memory_allocated(device) - before) / MIB
    if device.type == "mps":
        with _AfterEachOperation(torch.mps.current_allocated_memory) as meter:
            call()
        return (meter.most - meter.before) / MIB
    if device.type != "cpu":
        return float("nan")
    # The profiler's own messages would fill the log, one pair for each call.
    os.environ.setdefault("KINETO_LOG_LEVEL", "99")
    cpu_only = [torch.profiler.ProfilerActivity.CPU]
    with torch.profiler.profile(activities=cpu_only, profile_memory=True) as profiler:
        call()
    # Only the raw events keep the order of allocations; the public tables give net sums.
    raw: Any = profiler.profiler
    events = [event for event in raw.kineto_results.events() if event.name() == "[memory]"]
    alive = peak = 0
    for event in sorted(events, key=lambda event: event.start_ns()):
        alive += event.nbytes()
        peak = max(peak, alive)
    return peak / MIB


def ran_out_of_memory(error: Exception) -> bool:
    """Whether a call failed for want of memory; most libraries have only words for that."""
    words = str(error).lower()
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or any(
        part in words for part in (*GPU_MEMORY, *MEMORY)
    )


def page_faults() -> int | None:
    """Memory pages that the system has handed to this process so far; None if unknown.

    Each costs time: a tensor whose memory is new to the process pays for every 4 KiB.
    """
    try:
        import resource
    except ImportError:  # not a Unix system
        return None
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt


def keep_freed_memory() -> bool:
    """Let this process keep the memory it frees, so that large tensors find it again.

    The GNU C library gives blocks of more than 32 MiB back to the system at once and
    fetches them anew at every call. Returns whether it could be told otherwise; a block
    that fits nowhere in what is kept is still fetched, and `page_faults` shows it.
    """
    trim_threshold, mmap_max = -1, -4  # M_TRIM_THRESHOLD and M_MMAP_MAX of mallopt(3)
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):  # another C library
        return False
    return bool(mallopt(mmap_max, 0) and mallopt(trim_threshold, -1))


class _AfterEachOperation(TorchDispatchMode):
    """The most that a meter of bytes shows after any operation of a block, backward ones too.

    MPS keeps no peak of its own. What an operation frees before its end is not seen.
    """

    def __init__(self, meter: Callable[[], int]) -> None:
        super().__init__()
        self.meter = meter
        self.before = self.most = meter()

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        found = func(*args, **(kwargs or {}))
        self.most = max(self.most, self.meter())
        return found
