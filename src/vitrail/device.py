"""The device that a job computes on, and the facts about it that results carry."""

from __future__ import annotations

import os
import platform
import subprocess
import warnings
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from vitrail import gpus
from vitrail.errors import VitrailError
from vitrail.machine import first_line

CPU = torch.device("cpu")


def pick_device(wanted: str, percent: int = gpus.WHOLE) -> torch.device:
    """The device of the config key `device`; "auto" takes CUDA, then MPS, then the CPU.

    A process computes on one GPU: of several that it sees, the one that is least taken by others.
    Where CUDA is installed and does not work, "auto" says so and computes without it.

    Args:
        wanted: auto, cpu, cuda or mps.
        percent: what the job takes of a GPU (`vitrail.gpus.percent`).

    Raises:
        VitrailError: when a device is named that this machine does not have, or the GPU that it
            has cannot be used.
    """
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        has = {
            "cuda": torch.cuda.is_available(),
            "mps": torch.backends.mps.is_available(),
            "cpu": True,
        }
    reasons = [first_line(one.message) for one in said if "CUDA" in str(one.message)]
    broken = f"CUDA cannot be used here ({reasons[0]})" if reasons else ""
    if wanted == "auto":
        wanted = next(name for name, there in has.items() if there)
        if broken and wanted != "cuda":
            print(f"device: {broken}; computing on {wanted}", flush=True)
    if not has.get(wanted, False):
        there = ", ".join(name for name, found in has.items() if found)
        why = f"; {broken}" if broken and wanted == "cuda" else ""
        raise VitrailError(
            f"config: device is {wanted!r}, but this machine offers {there}{why}; "
            "set device to auto or to one of these"
        )
    return CPU if wanted == "cpu" else _opened(wanted, percent)


def _opened(kind: str, percent: int) -> torch.device:
    """A GPU, after a sum on it has come out: better now than after the data were read."""
    # cuBLAS asks for this, before its first product, to promise the same bits twice.
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    # fp32 means fp32: TF32, which convolutions would use, has 10 of the 23 bits of a fraction.
    torch.backends.cudnn.allow_tf32 = False
    try:
        device = torch.device(kind)
        if kind == "cuda":
            about = map(torch.cuda.get_device_properties, range(torch.cuda.device_count()))
            device = torch.device(kind, gpus.take([str(one.uuid) for one in about], percent))
            torch.cuda.set_device(device)  # events and memory meters mean this one from now on
        if torch.ones(2, device=device).sum().item() != 2:
            raise RuntimeError("1 + 1 is not 2 there")
    except RuntimeError as error:
        raise VitrailError(
            f"the device {kind} is there, but cannot be used ({first_line(error)}); see what else "
            "runs on it and whether its driver fits, or set device to cpu"
        ) from error
    return device


def compute_repeatably(device: torch.device = CPU) -> None:
    """One thread and deterministic kernels, for the rest of the process.

    On MPS an operation without a deterministic kernel is named in the log and used; on a CPU and
    on CUDA, where no training has one, it is an error.
    """
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True, warn_only=device.type == "mps")
    # Else every fresh tensor is filled with NaN first, against code that reads what it has not
    # written; no step here does, and a training would take some percent longer.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]


def autocast(device: torch.device, precision: str) -> torch.autocast:
    """Context in which matrix products run in bf16 when `precision` says so.

    bf16 has the range of fp32, so that no gradient has to be scaled, as fp16 would need it.
    """
    return torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16")


def sent(tensor: Tensor, device: torch.device) -> Tensor:
    """A tensor of the CPU on the device; a step does not wait until CUDA has taken it.

    From pinned memory a copy runs while the CPU goes on; torch keeps that memory until then.
    """
    if device.type != "cuda":
        return tensor.to(device)
    return tensor.pin_memory().to(device, non_blocking=True)


def mean_of(scalars: Iterable[Tensor]) -> float:
    """The mean of scalars, read from the device in one go; MPS has no float64 of its own."""
    return torch.stack(list(scalars)).cpu().double().mean().item()


def faster_precision(device: torch.device) -> str:
    """bf16 where the hardware multiplies it, else fp32.

    A CPU without AVX-512 BF16 or AMX emulates bf16: measured 17 times slower on ViT-S. So does a
    GPU before NVIDIA's Ampere; its fp16 would be another precision than the study names.
    """
    if device.type == "cuda":
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp32"
    if device.type == "mps":
        return "fp32"
    return "bf16" if _multiplies_bf16() else "fp32"


def environment(device: torch.device) -> dict[str, Any]:
    """Versions, hardware, load and commit: what a reader needs to judge a run."""
    from importlib.metadata import version

    name, more = cpu_name(), {}
    if device.type == "cuda":
        name = torch.cuda.get_device_name(device)
        # They choose the kernels, hence the bits.
        more = {"cuda": torch.version.cuda, "cudnn": torch.backends.cudnn.version()}
    return {
        "device": device.type,
        "hardware": name,
        "bf16": faster_precision(device) == "bf16",
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "load_average": round(os.getloadavg()[0], 2),
        "platform": platform.platform(),
        "versions": {
            "python": platform.python_version(),
            "torch": torch.__version__,
            "timm": version("timm"),
            "numpy": version("numpy"),
            **more,
        },
        "commit": commit(),
    }


def cpu_name() -> str:
    """The processor's name, as the system gives it, and the widest instructions that torch uses.

    In a virtual machine one name stands for several generations of a processor.
    """
    found = _cpu_field("model name") or _told("sysctl", "-n", "machdep.cpu.brand_string")
    found = found or platform.processor() or platform.machine()
    wide = {"AVX2": "AVX2", "AVX512": "AVX-512"}.get(torch.backends.cpu.get_cpu_capability())
    if wide and _multiplies_bf16():
        wide += " and bf16"
    return f"{found} with {wide}" if wide else found


def peak_memory_mb(device: torch.device) -> dict[str, float]:
    """Most memory so far, in MiB: of the process, and on CUDA of its tensors on the GPU."""
    import resource
    import sys

    unit = 2**20 if sys.platform == "darwin" else 2**10  # macOS counts bytes
    found = {"peak_memory_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit}
    if device.type == "cuda":
        found["device_peak_memory_mb"] = torch.cuda.max_memory_allocated(device) / 2**20
    return {name: round(value, 1) for name, value in found.items()}


def _multiplies_bf16() -> bool:
    """Whether the CPU has products of bf16; one without them emulates each."""
    return bool({"avx512_bf16", "amx_bf16"} & set(_cpu_field("flags").split()))


def _cpu_field(field: str) -> str:
    """The first value of a field of /proc/cpuinfo; empty where there is no such file."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return ""
    found = (line.split(":", 1)[1].strip() for line in lines if line.startswith(field))
    return next(found, "")


def commit() -> str:
    """The commit of the code, with "-dirty" when tracked files differ from it."""
    found = _told("git", "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*")
    return found or "unknown"


def _told(*command: str) -> str:
    """What a command prints; empty where it is not there or fails."""
    try:
        answer = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return ""
    return answer.stdout.strip()
