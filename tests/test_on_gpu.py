"""What only a GPU can show: `pytest -m gpu` on a machine that has one, CUDA's or Apple's.

On other machines these are skipped; what can be shown there is in `test_devices.py` and
`test_device_steps.py`.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from made_attempts import COMMAND, SAME, small_vit
from test_resume import METHODS
from vitrail import meters, train
from vitrail.data import Mnist
from vitrail.device import compute_repeatably, faster_precision, pick_device, sent
from vitrail.settings import arm_id, run_id

Settings = dict[str, Any]
CPU = torch.device("cpu")
KIND = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else ""
pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not KIND, reason="this machine has no CUDA device and no other GPU"),
]


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> Iterator[torch.device]:
    """The GPU as a step of the workflow opens it."""
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", torch.backends.cudnn.allow_tf32)
    before = torch.are_deterministic_algorithms_enabled()
    device = pick_device(KIND)
    compute_repeatably(device)
    yield device
    torch.use_deterministic_algorithms(before)


@pytest.mark.parametrize("method", METHODS)
def test_a_training_gives_the_same_bits_twice(
    method: str, small: Any, mnist: Mnist, gpu: torch.device
) -> None:
    """On CUDA; MPS promises no more than that every method trains."""
    settings = small(**METHODS[method])
    teacher = None
    if method == "distilled":
        teacher = train.build(small(model="cnn", channels=4)).eval().to(gpu)
    runs = [train.run(settings, 0, mnist, gpu, None, None, teacher) for _ in range(2)]
    (one, log, logits, _), (other, again, others, _) = runs
    if gpu.type == "mps":
        assert torch.tensor([row["train_loss"] for row in log.history]).isfinite().all()
        return
    assert log.history == again.history and logits.tobytes() == others.tobytes()
    for name, value in one.state_dict().items():
        assert torch.equal(value, other.state_dict()[name]), name


@pytest.mark.parametrize("method", ["muon", "adamw", "cnn", "timm", "timm cnn", "conv"])
def test_the_first_steps_are_those_of_a_cpu(
    method: str, small: Any, mnist: Mnist, gpu: torch.device
) -> None:
    """fp32 is fp32: with TF32 the losses of three steps would part in the third digit."""
    settings = small(**METHODS[method], train_size=96, epochs=1, evaluations=1)
    here, there = (
        train.run(settings, 0, mnist, device, None)[1].history[0] for device in (CPU, gpu)
    )
    assert there["train_loss"] == pytest.approx(here["train_loss"], rel=1e-4)
    assert there["samples"] == here["samples"]


def test_a_trained_network_is_as_good_as_that_of_a_cpu(
    small: Any, mnist: Mnist, gpu: torch.device
) -> None:
    """At the precision that the GPU is fastest in."""
    settings = small(epochs=6, precision=faster_precision(gpu))
    here = train.run(small(epochs=6), 0, mnist, CPU, None)[3]["test_accuracy"]
    there = train.run(settings, 0, mnist, gpu, None)[3]["test_accuracy"]
    assert here > 0.9 and there > here - 0.05


@pytest.mark.skipif(KIND == "mps", reason="this machine has no CUDA device, whose waits torch sees")
@pytest.mark.parametrize("method", ["muon", "sam", "moved", "patch_drop_rate", "cnn", "distilled"])
def test_a_step_never_waits_for_the_gpu(
    method: str, small: Any, mnist: Mnist, gpu: torch.device, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = small(**METHODS[method])
    teacher = None
    if method == "distilled":
        teacher = train.build(small(model="cnn", channels=4)).eval().to(gpu)
    strict = {"sent": sent, "moved": train.moved, "one_step": train.one_step}

    def watched(call: Any) -> Any:
        def called(*given: Any) -> Any:
            torch.cuda.set_sync_debug_mode("error")
            try:
                return call(*given)
            finally:
                torch.cuda.set_sync_debug_mode("default")

        return called

    for name, call in strict.items():
        monkeypatch.setattr(train, name, watched(call))
    train.run(settings, 0, mnist, gpu, None, None, teacher)


def test_the_clock_counts_the_work_and_not_the_queuing(gpu: torch.device) -> None:
    x = torch.ones(2048, 2048, device=gpu)
    once = meters.seconds_per_call(lambda: x @ x, 1, gpu)
    begun = time.perf_counter()
    mean = meters.seconds_per_call(lambda: x @ x, 20, gpu)
    assert 0 < mean * 20 <= (time.perf_counter() - begun) * 1.1
    assert once > 0


def test_the_memory_meter_counts_tensors(gpu: torch.device) -> None:
    def call() -> None:
        held = torch.ones(64, 2**18, device=gpu)  # 64 MiB
        held.sum().cpu()

    call()
    assert meters.peak_mib(call, gpu) == pytest.approx(64, abs=4)


def test_two_trainings_share_the_gpu_and_do_not_disturb_each_other(
    config: Settings, data_folder: Path, tmp_path: Path
) -> None:
    """The real command, twice at the same time: the same files as one alone."""
    settings = small_vit(config)

    def start(study: str) -> subprocess.Popen[str]:
        given = ["--settings", json.dumps(settings), "--seeds", "0", "--data", str(data_folder)]
        given += ["--study", str(tmp_path / study), "--device", KIND]
        return subprocess.Popen(
            [sys.executable, "-c", COMMAND, *given],
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=dict(os.environ),
        )  # fmt: skip

    for together in (("alone",), ("one", "other")):
        for job in [start(study) for study in together]:
            said = job.communicate(timeout=600)[0]
            assert job.returncode == 0, said
    folders = [
        tmp_path / study / "runs" / run_id(arm_id(settings), 0)
        for study in ("alone", "one", "other")
    ]
    facts = json.loads((folders[0] / "env.json").read_text(encoding="utf-8"))
    assert facts["device"] == KIND
    for name in SAME if KIND == "cuda" else ("config.json",):
        assert len({(folder / name).read_bytes() for folder in folders}) == 1, name
