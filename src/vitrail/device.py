"""The device that a job computes on, and the facts about it that results carry."""

from __future__ import annotations

import os
import platform
import subprocess
from pathlib import Path
from typing import Any

import torch

from vitrail.errors import VitrailError


def pick_device(wanted: str) -> torch.device:
    """The device of the config key `device`; "auto" takes CUDA, then MPS, then the CPU.

    Raises:
        VitrailError: when a device is named that this machine does not have.
    """
    has = {
        "cuda": torch.cuda.is_available(),
        "mps": torch.backends.mps.is_available(),
        "cpu": True,
    }
    if wanted == "auto":
        wanted = next(name for name, there in has.items() if there)
    if not has.get(wanted, False):
        there = ", ".join(name for name, found in has.items() if found)
        raise VitrailError(
            f"config: device is {wanted!r}, but this machine offers {there}; "
            "set device to auto or to one of these"
        )
    return torch.device(wanted)


def compute_repeatably() -> None:
    """One thread and deterministic kernels, for the rest of the process."""
    torch.set_num_threads(1)
    # cuBLAS asks for this before it promises the same bits twice.
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(True)


def autocast(device: torch.device, precision: str) -> torch.autocast:
    """Context in which matrix products run in bf16 when `precision` says so."""
    return torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16")


def faster_precision(device: torch.device) -> str:
    """bf16 where the hardware multiplies it, else fp32.

    A CPU without AVX-512 BF16 or AMX emulates bf16: measured 17 times slower on ViT-S.
    """
    if device.type == "cuda":
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp32"
    if device.type == "mps":
        return "fp32"
    flags = _cpu_field("flags").split()
    return "bf16" if {"avx512_bf16", "amx_bf16"} & set(flags) else "fp32"


def environment(device: torch.device) -> dict[str, Any]:
    """Versions, hardware, load and commit: what a reader needs to judge a run."""
    from importlib.metadata import version

    name = torch.cuda.get_device_name(device) if device.type == "cuda" else cpu_name()
    return {
        "device": device.type,
        "hardware": name,
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "load_average": round(os.getloadavg()[0], 2),
        "platform": platform.platform(),
        "versions": {
            "python": platform.python_version(),
            "torch": torch.__version__,
            "timm": version("timm"),
            "numpy": version("numpy"),
        },
        "commit": commit(),
    }


def cpu_name() -> str:
    """The processor's name, as the system gives it."""
    return _cpu_field("model name") or platform.processor() or platform.machine()


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
    command = ["git", "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"]
    try:
        answer = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return "unknown"
    return answer.stdout.strip()
