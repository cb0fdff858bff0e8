"""Snakemake's own scheduler: no rate limit, and strictly by priority."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml

from vitrail.scheduler import drop_rate_limit

ROOT = Path(__file__).parents[1]
# Thirty short jobs on one of two cores beside a long one, which others wait behind.
SNAKEFILE = f"""
import sys, threading
sys.path.insert(0, {str(ROOT / "src")!r})
from vitrail.scheduler import drop_rate_limit

rule all:
    input: "long.txt", expand("short{{i}}.txt", i=range(10)), "both.txt"
rule long:
    output: "long.txt"
    priority: 3
    shell: "sleep 2; touch {{output}}"
rule short:
    output: "short{{i}}.txt"
    priority: 2
    shell: "touch {{output}}"
rule both:
    output: "both.txt"
    threads: 2
    priority: 4
    shell: "touch {{output}}"

def timers():
    return sum(isinstance(thread, threading.Timer) for thread in threading.enumerate())

onstart:
    if config.get("drop"):
        print("dropped:", drop_rate_limit(workflow.scheduler))

onsuccess:
    print("timers:", timers())
"""


def snakemake(folder: Path, *arguments: str) -> str:
    (folder / "Snakefile").write_text(SNAKEFILE)
    done = subprocess.run(
        [sys.executable, "-m", "snakemake", "--cores", "2", *arguments],
        cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=100,
        env={**os.environ, "XDG_CACHE_HOME": str(folder)},
    )  # fmt: skip
    assert done.returncode == 0, done.stdout
    return done.stdout


def test_jobs_that_have_ended_leave_no_timers(tmp_path: Path) -> None:
    said = snakemake(tmp_path, "--config", "drop=1", "--scheduler", "greedy")
    assert "dropped: True" in said
    assert "timers: 0" in said


def test_a_limit_that_was_asked_for_is_kept(tmp_path: Path) -> None:
    more = ("--config", "drop=1", "--max-jobs-per-timespan", "50/1s")
    assert "dropped: False" in snakemake(tmp_path, *more)


@pytest.mark.parametrize(
    "scheduler",
    [
        SimpleNamespace(),
        SimpleNamespace(job_rate_limiter=None),
        SimpleNamespace(job_rate_limiter=SimpleNamespace(per_span=100, span=1)),
    ],
    ids=["no such thing", "no limit", "other names"],
)
def test_a_snakemake_without_a_limit_is_left_alone(scheduler: Any) -> None:
    assert not drop_rate_limit(scheduler)


def test_the_study_drops_it_and_starts_the_first_job_first(root: Path) -> None:
    """`onstart` runs when the scheduler is made and has started nothing."""
    snakefile = (root / "Snakefile").read_text(encoding="utf-8")
    onstart = snakefile.partition("onstart:")[2].partition("onsuccess:")[0]
    assert "drop_rate_limit(workflow.scheduler)" in onstart
    profile = yaml.safe_load((root / "profiles" / "default" / "config.yaml").read_text())
    assert profile["scheduler"] == "greedy"


def test_greedy_takes_the_highest_priority_where_sums_would_not(tmp_path: Path) -> None:
    """Two jobs of 3 and 2 together beat one of 4 that takes both cores, by their sum."""
    said = snakemake(tmp_path, "--scheduler", "greedy")
    order = [line.split()[1].rstrip(":") for line in said.splitlines() if "rule " in line]
    assert order[:2] == ["both", "long"], order
