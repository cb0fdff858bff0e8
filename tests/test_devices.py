"""Which device a job computes on, its clock and its meters, with devices that are played."""

from __future__ import annotations

import os
import subprocess
import sys
import warnings
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
import torch._dynamo  # before functions of torch are played: it wants the real ones
from torch import Tensor

from vitrail import device, gpus, meters, timing
from vitrail.data import Mnist
from vitrail.errors import VitrailError
from vitrail.execution import __main__ as execution
from vitrail.execution import measure

CPU, CUDA, MPS = (torch.device(name) for name in ("cpu", "cuda", "mps"))
CALLED_BROKEN = (
    "CUDA initialization: The NVIDIA driver on your system is too old (found version 11040).\n"
    "Please update your GPU driver"
)
MNIST = Mnist(*[np.zeros((1, 28, 28), np.uint8), np.zeros(1, np.uint8)] * 2)


@pytest.fixture
def played(monkeypatch: pytest.MonkeyPatch) -> Any:
    """A function that makes torch claim what a machine has; no sum is computed there."""

    def play(cuda: int = 0, mps: bool = False, warning: str = "", error: str = "") -> list[Any]:
        chosen: list[Any] = []

        def available() -> bool:
            if warning:
                warnings.warn(warning, stacklevel=2)
            return cuda > 0

        def ones(count: int, device: torch.device) -> torch.Tensor:
            if error:
                raise torch.AcceleratorError(error)
            return torch.full((count,), 1.0)

        about = lambda index: SimpleNamespace(uuid=f"GPU-{index}")  # noqa: E731
        monkeypatch.setattr(torch.cuda, "is_available", available)
        monkeypatch.setattr(torch.backends.mps, "is_available", lambda: mps)
        monkeypatch.setattr(torch.cuda, "device_count", lambda: cuda)
        monkeypatch.setattr(torch.cuda, "get_device_properties", about)
        monkeypatch.setattr(torch.cuda, "set_device", chosen.append)
        monkeypatch.setattr(torch, "ones", ones)
        monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", True)
        monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", "")  # to be unset again afterwards
        monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG")
        return chosen

    return play


# --- Which device


@pytest.mark.parametrize(
    ("cuda", "mps", "wanted", "found"),
    [
        (1, True, "auto", torch.device("cuda", 0)),
        (0, True, "auto", MPS),
        (0, False, "auto", CPU),
        (1, True, "mps", MPS),
        (1, True, "cpu", CPU),
        (1, False, "cuda", torch.device("cuda", 0)),
    ],
)
def test_the_device_of_a_machine(
    played: Any, cuda: int, mps: bool, wanted: str, found: torch.device
) -> None:
    chosen = played(cuda, mps)
    assert device.pick_device(wanted) == found
    # Events and meters of torch.cuda mean the current device.
    assert chosen == ([found] if found.type == "cuda" else [])


def test_a_gpu_computes_fp32_in_fp32_and_repeatably(played: Any) -> None:
    played(cuda=1)
    device.pick_device("cpu")
    assert torch.backends.cudnn.allow_tf32 and "CUBLAS_WORKSPACE_CONFIG" not in os.environ
    device.pick_device("cuda")
    assert not torch.backends.cudnn.allow_tf32
    assert torch.get_float32_matmul_precision() == "highest"
    assert os.environ["CUBLAS_WORKSPACE_CONFIG"] == ":4096:8"


def test_a_broken_driver_is_said_and_the_cpu_taken(
    played: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    played(warning=CALLED_BROKEN)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert device.pick_device("auto") == CPU
    said = capsys.readouterr().out
    assert said.count("\n") == 1 and "found version 11040" in said and "computing on cpu" in said
    assert device.pick_device("cpu") == CPU
    assert capsys.readouterr().out == ""
    with pytest.raises(VitrailError, match=r"offers cpu; CUDA cannot .*too old.*; set device"):
        device.pick_device("cuda")


@pytest.mark.parametrize("wanted", ["auto", "cuda"])
def test_a_gpu_that_cannot_be_used_stops_the_job_at_once(played: Any, wanted: str) -> None:
    """Also with "auto": else some arms of a study would silently be of another device."""
    played(
        cuda=1, error="CUDA error: all CUDA-capable devices are busy or unavailable\nCUDA kernel"
    )
    with pytest.raises(VitrailError, match="busy or unavailable") as told:
        device.pick_device(wanted)
    assert "\n" not in str(told.value) and "set device to cpu" in str(told.value)


def test_kernels_are_deterministic_where_they_can_be() -> None:
    before = torch.are_deterministic_algorithms_enabled()
    try:
        for name, warns in ((CPU, False), (CUDA, False), (MPS, True)):
            device.compute_repeatably(name)
            assert torch.are_deterministic_algorithms_enabled()
            assert torch.is_deterministic_algorithms_warn_only_enabled() == warns
    finally:
        torch.use_deterministic_algorithms(before)


@pytest.mark.parametrize(("hardware", "precision"), [(True, "bf16"), (False, "fp32")])
def test_precision_auto_is_bf16_where_a_gpu_multiplies_it(
    monkeypatch: pytest.MonkeyPatch, hardware: bool, precision: str
) -> None:
    """Turing and Volta emulate it, which torch counts as support unless it is asked not to."""
    monkeypatch.setattr(
        torch.cuda,
        "is_bf16_supported",
        lambda including_emulation=True: including_emulation or hardware,
    )
    assert device.faster_precision(CUDA) == precision
    assert device.faster_precision(MPS) == "fp32"


@pytest.mark.parametrize(
    ("capability", "flags", "name"),
    [
        ("AVX2", "avx avx2", "A chip with AVX2"),
        ("AVX512", "avx512f", "A chip with AVX-512"),
        ("AVX512", "avx512f avx512_bf16", "A chip with AVX-512 and bf16"),
        ("DEFAULT", "", "A chip"),
    ],
)
def test_a_processor_is_named_with_its_instructions(
    monkeypatch: pytest.MonkeyPatch, capability: str, flags: str, name: str
) -> None:
    """In a virtual machine several generations of one maker have the same name."""
    fields = {"model name": "A chip", "flags": flags}
    monkeypatch.setattr(device, "_cpu_field", fields.__getitem__)
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: capability)
    assert device.cpu_name() == name
    facts = device.environment(CPU)
    assert facts["hardware"] == name and facts["bf16"] == ("bf16" in flags)


@pytest.mark.parametrize("kind", ["cpu", "cuda", "mps"])
def test_autocast_is_of_the_device(kind: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch misses the GPU
        context = device.autocast(torch.device(kind), "bf16")
    assert context.device == kind and context.fast_dtype == torch.bfloat16
    assert not device.autocast(torch.device(kind), "fp32")._enabled


def test_what_is_sent_to_cuda_is_pinned_and_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    tensor, calls = torch.arange(3), []

    def to(self: torch.Tensor, where: torch.device, non_blocking: bool = False) -> torch.Tensor:
        calls.append((self is tensor, where.type, non_blocking))
        return self

    monkeypatch.setattr(torch.Tensor, "pin_memory", lambda self: self.clone())
    monkeypatch.setattr(torch.Tensor, "to", to)
    for where in (CUDA, MPS, CPU):
        device.sent(tensor, where)
    # MPS has no memory to pin; the tensor is not to change before it is there.
    assert calls == [(False, "cuda", True), (True, "mps", False), (True, "cpu", False)]


def test_a_tensor_of_the_cpu_is_sent_nowhere() -> None:
    tensor = torch.arange(3)
    assert device.sent(tensor, CPU) is tensor


@pytest.mark.parametrize(("system", "unit"), [("linux", 2**10), ("darwin", 2**20)])
def test_peak_memory_is_in_mib_on_every_system(
    monkeypatch: pytest.MonkeyPatch, system: str, unit: int
) -> None:
    import resource

    monkeypatch.setattr(sys, "platform", system)
    used = SimpleNamespace(ru_maxrss=300 * unit)
    monkeypatch.setattr(resource, "getrusage", lambda _: used)
    assert device.peak_memory_mb(CPU) == {"peak_memory_mb": 300}
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda _: 5 * 2**19)
    assert device.peak_memory_mb(CUDA) == {"peak_memory_mb": 300, "device_peak_memory_mb": 2.5}


def test_a_run_on_cuda_notes_what_chooses_its_kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda _: "NVIDIA of a test")
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    facts = device.environment(torch.device("cuda", 1))
    assert facts["device"] == "cuda" and facts["hardware"] == "NVIDIA of a test"
    assert facts["versions"]["cuda"] == "13.0" and "cudnn" in facts["versions"]
    assert "cuda" not in device.environment(CPU)["versions"]


# --- Meters


class PlayedGpu:
    """A device that does what is queued 3 ms each, when somebody waits for it."""

    def __init__(self) -> None:
        self.queue: list[Any] = []
        self.clock = 0.0

    def Event(self, enable_timing: bool) -> Any:
        assert enable_timing
        event = SimpleNamespace(at=None)
        event.record = lambda: self.queue.append(event)
        event.elapsed_time = lambda other: other.at - event.at
        return event

    def call(self) -> None:
        self.queue.append(None)

    def synchronize(self) -> None:
        for entry in self.queue:
            if entry is None:
                self.clock += 3
            else:
                entry.at = self.clock
        self.queue = []


@pytest.mark.parametrize("kind", [CUDA, MPS])
def test_time_on_a_gpu_is_that_between_two_events(
    kind: torch.device, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not what was queued before, and not how long queuing takes, which is next to nothing."""
    gpu = PlayedGpu()
    monkeypatch.setattr(torch, "get_device_module", lambda asked: gpu if asked is kind else None)
    gpu.call()
    assert meters.seconds_per_call(gpu.call, 4, kind) == pytest.approx(0.003)
    assert gpu.clock == 15 and not gpu.queue


def test_peak_memory_of_a_gpu_without_a_peak_is_looked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """After each operation, those of the backward pass included; here by tensors that live."""
    alive = 10 * meters.MIB
    shown: list[int] = []

    def meter() -> int:
        shown.append(alive + len(shown) * meters.MIB if len(shown) < 5 else alive)
        return shown[-1]

    monkeypatch.setattr(torch.mps, "current_allocated_memory", meter)
    weight = torch.ones(3, requires_grad=True)
    assert meters.peak_mib(lambda: (weight * 2).sum().backward(), MPS) == 4
    assert len(shown) > 5


def test_the_peak_on_cuda_is_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    memory = {"now": 7 * meters.MIB, "peak": 99 * meters.MIB}

    def call() -> None:
        memory["peak"] = 12 * meters.MIB

    monkeypatch.setattr(torch.cuda, "synchronize", lambda _: None)
    reset = lambda _: memory.update(peak=memory["now"])  # noqa: E731
    monkeypatch.setattr(torch.cuda, "reset_peak_memory_stats", reset)
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda _: memory["now"])
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda _: memory["peak"])
    assert meters.peak_mib(call, CUDA) == 5


# --- Which GPU of several


def test_jobs_go_to_the_gpu_that_is_least_taken(tmp_path: Path) -> None:
    """Processes that hold theirs: a whole one, and quarters beside it."""
    source = f"""
import sys
from pathlib import Path
from vitrail import gpus
print(gpus.take(["a", "b"], int(sys.argv[1]), Path({str(tmp_path / "locks")!r})), flush=True)
sys.stdin.read()
"""
    held: list[subprocess.Popen[str]] = []

    def start(percent: int) -> int:
        job = subprocess.Popen(
            [sys.executable, "-c", source, str(percent)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        held.append(job)
        assert job.stdout is not None
        return int(job.stdout.readline())

    try:
        assert start(gpus.WHOLE) == 0
        assert [start(gpus.SMALL) for _ in range(4)] == [1, 1, 1, 1]
        assert start(gpus.SMALL) == 0  # both have a whole job's worth
        held[0].kill()  # whatever ends a process gives its part back
        held[0].wait()
        assert [start(gpus.SMALL) for _ in range(3)] == [0, 0, 0]
    finally:
        for job in held:
            job.kill()
            job.communicate()


def test_one_gpu_needs_no_locks(tmp_path: Path) -> None:
    assert gpus.take(["a"], 25, tmp_path / "locks") == 0
    assert not (tmp_path / "locks").exists()


def test_without_locks_the_first_gpu_is_taken(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    assert gpus.take(["a", "b"], 25, tmp_path / "file") == 0


def test_a_process_takes_the_gpu_that_is_left(played: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []
    monkeypatch.setattr(gpus, "take", lambda names, percent: asked.append((names, percent)) or 1)
    chosen = played(cuda=2)
    assert device.pick_device("cuda", 25) == torch.device("cuda", 1)
    assert asked == [(["GPU-0", "GPU-1"], 25)] and chosen == [torch.device("cuda", 1)]


@pytest.fixture
def two_gpus(played: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    """Two GPUs, real locks, and a process that has taken none of them yet."""
    held: list[int] = []
    monkeypatch.setattr(gpus.tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(gpus, "_held", held)
    monkeypatch.setattr(gpus, "_chosen", {})
    played(cuda=2)
    yield held
    for file in held:
        os.close(file)


def test_a_process_that_asks_again_keeps_its_gpu(two_gpus: Any) -> None:
    picked = [device.pick_device("cuda", percent) for percent in (gpus.WHOLE, gpus.WHOLE, 25)]
    assert picked == [torch.device("cuda", 0)] * 3
    assert len(two_gpus) == gpus.WHOLE // gpus.UNIT  # and holds no more of it


def test_the_machine_that_a_timing_notes_is_the_measured_one(
    two_gpus: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    seen: list[torch.device] = []
    monkeypatch.setattr(timing, "environment", lambda device: seen.append(device) or {})
    monkeypatch.setattr(timing, "cells", lambda _, device: seen.append(device) or iter([]))
    timing.write_timing({"device": "cuda"}, tmp_path / "out.csv", tmp_path / "env.json")
    assert seen == [torch.device("cuda", 0)] * 2


def test_the_machine_that_execution_notes_is_the_measured_one(
    two_gpus: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    seen: list[Any] = []
    network = SimpleNamespace(to=lambda device: seen.append(device))
    monkeypatch.setattr(execution, "environment", lambda device: seen.append(device) or {})
    monkeypatch.setattr(execution, "load_mnist", lambda *_, **__: MNIST)
    monkeypatch.setattr(execution, "keep_freed_memory", lambda: False)
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", "as before")  # the command sets it
    monkeypatch.setattr(measure, "trained", lambda _: (network, {}))
    monkeypatch.setattr(measure, "pixels", lambda *given: seen.append(given[2]))
    monkeypatch.setattr(Tensor, "to", lambda self, device: seen.append(device))
    for group in ("inference", "training", "tuning"):
        monkeypatch.setattr(measure, f"measure_{group}", lambda *_: [])
    outputs = tmp_path / "ways.csv", tmp_path / "env.json"
    execution.write_ways(tmp_path, tmp_path, {"device": "cuda"}, None, *outputs)
    assert len(seen) == 8 and set(seen) == {torch.device("cuda", 0)}


# --- What is planned


def test_a_gpu_is_expected_where_its_driver_is(tmp_path: Path) -> None:
    assert not gpus._nvidia(tmp_path)
    (tmp_path / "dev").mkdir()
    (tmp_path / "dev" / "nvidiactl").touch()
    assert not gpus._nvidia(tmp_path)
    (tmp_path / "dev" / "nvidia3").touch()
    assert gpus._nvidia(tmp_path)


@pytest.mark.parametrize(
    ("wanted", "driver", "visible", "system", "machine", "found"),
    [
        ("auto", True, None, "linux", "x86_64", "cuda"),
        ("auto", True, "1", "linux", "x86_64", "cuda"),
        ("auto", True, "", "linux", "x86_64", ""),
        ("auto", True, "-1", "linux", "x86_64", ""),
        ("auto", False, None, "linux", "x86_64", ""),
        ("auto", False, None, "darwin", "arm64", "mps"),
        ("auto", False, None, "darwin", "x86_64", ""),
        ("cuda", False, None, "linux", "x86_64", "cuda"),  # a machine that plans for a cluster
        ("cpu", True, None, "linux", "x86_64", ""),
        ("mps", False, None, "darwin", "arm64", "mps"),
    ],
)
def test_what_jobs_will_compute_on(
    monkeypatch: pytest.MonkeyPatch, wanted: str, driver: bool, visible: str | None, system: str,
    machine: str, found: str,
) -> None:  # fmt: skip
    monkeypatch.setattr(gpus, "_nvidia", lambda: driver)
    monkeypatch.setattr(gpus.sys, "platform", system)
    monkeypatch.setattr(gpus.platform, "machine", lambda: machine)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert gpus.expected(wanted) == found
    assert gpus.granted(wanted) == (found == "cuda")
    assert gpus.planned(wanted) == (100 if found else 0)
    assert gpus.planned(wanted, [{"model": "vit"}, {"model": "cnn"}]) == (25 if found else 0)
    assert gpus.planned(wanted, [{"model": "vit"}, {"model": "timm"}]) == (100 if found else 0)
