"""Snakemake hands out parts of a GPU: several small trainings share one, the others have it alone.

The steps are stubs that note when they were at work; the rules, the profile and Snakemake's
scheduler are real.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from stub_project import SMOKE, STUB_HEAD, STUBS, Project

# Around the stub of a training: what it takes of a GPU, and from when until when.
NOTED = """
import time
from vitrail import gpus
begun, asked = time.time(), json.loads(of("--settings"))
percent = gpus.percent(asked if isinstance(asked, list) else [asked])
time.sleep(0.7)
"""
WRITTEN = """
with open("noted.jsonl", "a") as stream:
    stream.write(json.dumps([begun, time.time(), percent]) + chr(10))
"""
STEPS = {
    "mnist": (None, None),
    "imagenet_weights": (None, None),
    "pretrain": (1, "by settings"),
    "train_q6_vit": (1, "by settings"),
    "train_small_data__vit": (1, 25),
    "timing": (1, 100),
    "execution": (1, 100),
    "step_memory": (1, 25),
    "input_seconds": (None, None),  # of a CPU, whatever the device
    "learn_thresholds": (1, 25),
    "reduce_tokens": (1, 100),  # it measures speed
    "q7_complexity": (None, None),
    "report": (None, None),
}


@pytest.fixture(scope="module")
def project(
    copy_project: Callable[[Path], Path], tmp_path_factory: pytest.TempPathFactory
) -> Project:
    """The project with stubs, nothing computed."""
    project = Project(copy_project(tmp_path_factory.mktemp("shared") / "vitrail"))
    for name, body in STUBS.items():
        whole = NOTED + body + WRITTEN if name == "train.py" else body
        (project.folder / "src" / "vitrail" / name).write_text(STUB_HEAD + whole)
    return project


def most_at_once(project: Project, device: str, *more: str) -> tuple[int, int, int]:
    """Of the trainings of Q6 and Q8: most per cent, most jobs, most jobs beside a whole one."""
    notes = project.folder / "noted.jsonl"
    notes.unlink(missing_ok=True)
    overlay = project.overlay({"device": device, "study": f"for_{device}_{len(more)}"})
    done = project.snakemake(
        "--cores", "8", "q6_vit", "q8_transfer", "--configfile", SMOKE, overlay, *more
    )
    assert done.returncode == 0, done.stdout
    jobs = [json.loads(line) for line in notes.read_text(encoding="utf-8").splitlines()]
    assert len(jobs) > 10 and {percent for *_, percent in jobs} == {25, 100}
    moments = [
        [percent for begun, ended, percent in jobs if begun <= moment < ended]
        for moment, *_ in jobs
    ]
    beside = [len(there) - 1 for there in moments if 100 in there]
    return max(map(sum, moments)), max(map(len, moments)), max(beside)


def test_four_small_trainings_share_a_gpu_and_others_have_it_alone(project: Project) -> None:
    """As profiles/default says, without a word on the command line."""
    assert most_at_once(project, "cuda") == (100, 4, 0)


def test_two_gpus_take_twice_as_much(project: Project) -> None:
    percent, jobs, _ = most_at_once(project, "mps", "--resources", "gpu_percent=200")
    assert percent == 200 and 4 < jobs <= 8


def test_half_a_gpu_takes_two_small_trainings_and_still_a_large_one(project: Project) -> None:
    """What a job takes is at most what there is, or it would never run."""
    assert most_at_once(project, "cuda", "--resources", "gpu_percent=50") == (100, 2, 0)


def test_a_cpu_is_shared_by_cores(project: Project) -> None:
    _, jobs, beside = most_at_once(project, "cpu")
    assert jobs > 4 and beside > 0


def test_every_step_says_what_it_takes(project: Project) -> None:
    """`gpu`, which a cluster grants whole, and `gpu_percent`, which only this machine counts."""
    script = """
import json
from pathlib import Path
from snakemake.api import OutputSettings, ResourceSettings, SnakemakeApi
from snakemake.settings.types import ConfigSettings

with SnakemakeApi(OutputSettings()) as api:
    made = api.workflow(
        ResourceSettings(cores=2),
        ConfigSettings(configfiles=[Path("config/smoke.yaml")], config={"device": "cuda"}),
        snakefile=Path("Snakefile"),
    )._workflow
    found = {
        rule.name: [
            "by settings" if name in rule.resources and rule.resources[name].raw is None
            else rule.resources[name].raw if name in rule.resources else None
            for name in ("gpu", "gpu_percent")
        ]
        for rule in made.rules
    }
    local = [made.resource_scopes.is_local(name) for name in ("gpu", "gpu_percent")]
print("found:" + json.dumps([found, local]))
"""
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=project.folder, capture_output=True, text=True,
        timeout=300,
    )  # fmt: skip
    assert "found:" in done.stdout, done.stdout + done.stderr
    found, local = json.loads(done.stdout.partition("found:")[2])
    assert {name: tuple(found[name]) for name in STEPS} == STEPS
    # A cluster grants whole GPUs to jobs; shares count where the jobs run on this machine.
    assert local == [False, True]
    # Whatever trains or computes on a device has both.
    assert all((gpu is None) == (percent is None) for gpu, percent in found.values())


def test_a_training_is_not_repeated_for_another_share(project: Project) -> None:
    """How much of a GPU there is changes no result, so it is no reason to run again."""
    overlay = project.overlay({"device": "cuda", "study": "for_cuda_0"})
    asked = ("--cores", "2", "q6_vit", "--configfile", SMOKE, overlay)
    done = project.snakemake(*asked)
    assert done.returncode == 0, done.stdout
    done = project.snakemake("-n", *asked, "--resources", "gpu_percent=50", "gpu=1")
    assert done.returncode == 0 and "Nothing to be done" in done.stdout, done.stdout
