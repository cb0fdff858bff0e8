"""The smoke study as SLURM jobs, one of them cancelled and a node lost, against the local run."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from made_slurm import NODES, Cluster
from small_workflow import within
from smoke_study import FROM_OUTSIDE, LIMIT, SMOKE, Study
from vitrail import outside, slurm
from vitrail.hashes import differences, kinds_of

pytestmark = pytest.mark.end_to_end


class OnSlurm:
    """The finished study, and what was done to it."""

    def __init__(self, project: Path, cluster: Cluster) -> None:
        self.project, self.cluster = project, cluster
        self.folder = project / "results" / "smoke"
        self.cancelled, self.lost, self.said = "", "", ""
        self.seconds = 0.0

    def snakemake(self, *arguments: str) -> subprocess.Popen[str]:
        environment = {k: v for k, v in os.environ.items() if k not in FROM_OUTSIDE}
        environment |= {outside.OFFLINE: "1", **self.cluster.environment()}
        return subprocess.Popen(
            [sys.executable, "-m", "snakemake", "--profile", "profiles/slurm",
             "--configfile", SMOKE, "--slurm-init-seconds-before-status-checks", "2", *arguments],
            cwd=self.project, env=environment, text=True, start_new_session=True,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip

    def training(self, node: str) -> str:
        """A training at work on a node; '' if there is none."""
        return next(
            (
                number
                for number, about in self.cluster.jobs("RUNNING").items()
                if about[1] == node and about[3].startswith("rule_train")
            ),
            "",
        )

    def suffer(self) -> None:
        """Cancel a training, and let the node of another die and come back."""
        assert within(LIMIT, lambda: bool(self.training(NODES[0])))
        self.cancelled = self.training(NODES[0])
        time.sleep(3)  # into the job's work, or into its start on a busy machine
        self.cluster.ask("scancel", self.cancelled)
        assert within(LIMIT, lambda: bool(self.training(NODES[1])))
        self.lost = self.training(NODES[1])
        self.cluster.crash(NODES[1])
        assert within(60, lambda: self.lost in self.cluster.jobs("PENDING"))
        self.cluster.start_node(NODES[1])


@pytest.fixture(scope="module")
def on_slurm(
    cluster: Cluster,
    study: Study,
    copy_project: Callable[[Path], Path],
    tmp_path_factory: pytest.TempPathFactory,
) -> OnSlurm:
    """The study in a fresh clone."""
    project = copy_project(tmp_path_factory.mktemp("slurm_study") / "my cluster")
    # With its source.json: the report says where the data come from.
    shutil.copytree(study.project / "results" / "data", project / "results" / "data")
    made = OnSlurm(project, cluster)
    begun = time.monotonic()
    snakemake = made.snakemake()
    try:
        made.suffer()
        made.said, _ = snakemake.communicate(timeout=LIMIT)
    finally:
        if snakemake.poll() is None:
            os.killpg(snakemake.pid, signal.SIGKILL)
            made.said, _ = snakemake.communicate()
            cluster.ask("scancel", "--user=root")
    made.seconds = time.monotonic() - begun
    assert snakemake.returncode == 0, made.said[-8000:]
    return made


def test_everything_computed_is_as_in_the_local_run(study: Study, on_slurm: OnSlurm) -> None:
    ours, theirs = kinds_of(study.folder), kinds_of(on_slurm.folder)
    assert all(ours[kind] for kind in ours)
    assert differences(ours, theirs) == []


def test_the_cancelled_job_was_submitted_again(on_slurm: OnSlurm) -> None:
    number = on_slurm.cancelled
    assert on_slurm.cluster.jobs()[number][0] == "CANCELLED"
    assert f"SLURM-job '{number}' failed, SLURM status is: 'CANCELLED'" in on_slurm.said


def test_the_job_of_the_lost_node_was_started_again(on_slurm: OnSlurm) -> None:
    state, _, restarts, *_ = on_slurm.cluster.jobs()[on_slurm.lost]
    assert (state, restarts) == ("COMPLETED", "1")


def test_what_needs_the_network_or_sqlite_stays_on_the_submitting_host(on_slurm: OnSlurm) -> None:
    submitted = {about[3] for about in on_slurm.cluster.jobs().values()}
    assert any(name.startswith("rule_train") for name in submitted)
    local = ("rule_mnist", "rule_imagenet_weights", "rule_mlflow_store", "rule_track")
    assert not [name for name in submitted if name.startswith(local)]


def test_only_the_logs_of_jobs_that_failed_are_kept(on_slurm: OnSlurm) -> None:
    kept = (on_slurm.project / "results" / "logs" / "slurm").rglob("*.log")
    assert [path.stem for path in kept] == [on_slurm.cancelled]


def test_afterwards_nothing_is_left_to_do(on_slurm: OnSlurm) -> None:
    again = on_slurm.snakemake()
    said, _ = again.communicate(timeout=LIMIT)
    assert again.returncode == 0
    assert "Nothing to be done" in said
    assert not (on_slurm.project / slurm.NOTE).exists()
