"""Jobs on a real SLURM, with the shipped profile: cancelled, lost, left behind, failed.

A workflow of one slow step stands for the study, which tests/test_slurm_study.py runs whole.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from made_slurm import NODES, WIDE, Cluster
from small_workflow import ROOT, Small, within
from vitrail import slurm, watch

pytestmark = pytest.mark.end_to_end

PROFILE = ROOT / "profiles" / "slurm"


class OnSlurm(Small):
    """The small workflow, its steps as jobs."""

    COMMAND = (
        sys.executable, "-m", "snakemake", "--profile", str(PROFILE), "--latency-wait", "10",
        "--slurm-init-seconds-before-status-checks", "1",
    )  # fmt: skip

    def __init__(self, folder: Path, cluster: Cluster) -> None:
        super().__init__(folder)
        self.cluster = cluster

    def begin(self, command: list[str]) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            command, cwd=self.folder, text=True, start_new_session=True,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            env=os.environ | self.cluster.environment(),
        )  # fmt: skip
        self.started.append(process)
        return process

    def ends_well(self, process: subprocess.Popen[str]) -> str:
        self.let_go()
        said, _ = process.communicate(timeout=180)
        assert process.returncode == 0, said
        for name in ("one", "two"):
            assert (self.folder / f"{name}.txt").read_text() == "done"
        return said

    def of_queue(self) -> dict[str, str]:
        """As the next run would see it."""
        before = os.environ.get("SLURM_CONF")
        os.environ |= self.cluster.environment()
        try:
            return slurm.jobs_of(self.folder)
        finally:
            os.environ.pop("SLURM_CONF")
            os.environ |= {"SLURM_CONF": before} if before else {}

    def end(self) -> None:
        super().end()
        if numbers := self.of_queue():
            self.cluster.ask("scancel", *numbers)


@pytest.fixture
def small(tmp_path: Path, cluster: Cluster) -> Iterator[OnSlurm]:
    made = OnSlurm(tmp_path.resolve(), cluster)
    yield made
    made.end()


def test_steps_run_on_both_nodes(small: OnSlurm) -> None:
    snakemake = small.start()
    small.wait_for("one.beat", "two.beat")
    assert {node for _, node, *_ in small.cluster.jobs("RUNNING").values()} == set(NODES)
    said = small.ends_well(snakemake)
    assert "another run" not in said


def test_a_cancelled_job_is_submitted_again_with_more_memory(small: OnSlurm) -> None:
    snakemake = small.start()
    small.wait_for("one.beat", "two.beat")
    first = [*small.of_queue()]
    small.cluster.ask("scancel", first[0])
    assert within(60, lambda: any(job not in first for job in small.of_queue()))
    (again,) = [job for job in small.of_queue() if job not in first]
    memory = small.cluster.ask("squeue", "--noheader", "--format=%m", f"--jobs={again}")
    assert memory.strip() == "8000M"  # twice what the profile gives at first
    said = small.ends_well(snakemake)
    assert f"SLURM-job '{first[0]}' failed, SLURM status is: 'CANCELLED'" in said
    assert "Trying to restart job" in said


def test_a_job_out_of_time_is_submitted_again_with_more(small: OnSlurm) -> None:
    """SLURM's shortest limit is a minute."""
    snakemake = small.start("--default-resources", "mem_mb=1000", "runtime=attempt")
    small.wait_for("one.beat", "two.beat")
    first = {*small.of_queue()}
    assert within(150, lambda: len({*small.of_queue()} - first) == 2)
    said = small.ends_well(snakemake)
    jobs = small.cluster.jobs()
    assert {jobs[number][0] for number in first} == {"TIMEOUT"}
    assert said.count("SLURM status is: 'TIMEOUT'") == 2


def test_the_job_of_a_node_that_dies_runs_on_another(small: OnSlurm) -> None:
    """SLURM itself starts it again, under its number, and Snakemake waits for it."""
    cluster = small.cluster
    snakemake = small.start()
    small.wait_for("one.beat", "two.beat")
    before = cluster.jobs("RUNNING")
    (lost,) = [number for number, about in before.items() if about[1] == NODES[1]]
    cluster.crash(NODES[1])
    try:
        # No node is free for it until the other step is done.
        assert within(60, lambda: lost in cluster.jobs("PENDING"))
        said = small.ends_well(snakemake)
    finally:
        cluster.start_node(NODES[1])
        cluster.wait_until_idle()
    state, node, restarts, *_ = cluster.jobs()[lost]
    assert (state, node, restarts) == ("COMPLETED", NODES[0], "1")
    assert "failed" not in said
    assert cluster.jobs().keys() & before.keys() == before.keys()


def test_a_job_that_gives_way_to_an_urgent_one_is_run_again(small: OnSlurm) -> None:
    """Preemption: SLURM takes the node away and queues the job again, under its number."""
    cluster = small.cluster
    snakemake = small.start()
    small.wait_for("one.beat", "two.beat")
    before = cluster.jobs("RUNNING")
    cluster.ask("sbatch", "--partition=urgent", "--output=/dev/null", "--wrap=sleep 3")
    assert within(60, lambda: any(about[2] == "1" for about in cluster.jobs().values()))
    assert within(60, lambda: cluster.jobs("RUNNING").keys() >= before.keys())
    said = small.ends_well(snakemake)
    after = {number: cluster.jobs()[number] for number in before}
    assert [about[0] for about in after.values()] == ["COMPLETED"] * 2
    assert sorted(about[2] for about in after.values()) == ["0", "1"]
    assert "failed" not in said


def test_a_clock_has_its_node_for_itself(small: OnSlurm) -> None:
    """By the profile's own words for the rule; other steps share the node's two CPUs."""
    (small.folder / "Snakefile").write_text(
        "rule all:\n    input: 'clock.txt', 'one.txt', 'two.txt'\n"
        "rule timing:\n    output: 'clock.txt'\n    shell: 'python spell.py {output}'\n"
        "rule step:\n    output: '{name}.txt'\n    shell: 'python spell.py {output}'\n"
    )
    (small.folder / "spell.py").write_text(
        "import socket, sys, time\nbegun = time.time()\ntime.sleep(6)\n"
        "print(socket.gethostname(), begun, time.time(), file=open(sys.argv[1], 'w'))\n"
    )
    snakemake = small.start("--default-resources", "mem_mb=1000", "slurm_partition='wide'")
    said, _ = snakemake.communicate(timeout=180)
    assert snakemake.returncode == 0, said
    spells = {}
    for name in ("clock", "one", "two"):
        node, begun, ended = (small.folder / f"{name}.txt").read_text().split()
        assert node == WIDE
        spells[name] = float(begun), float(ended)

    def together(one: str, other: str) -> bool:
        return max(spells[one][0], spells[other][0]) < min(spells[one][1], spells[other][1])

    assert together("one", "two")
    assert not together("clock", "one") and not together("clock", "two")


def test_jobs_of_a_killed_run_are_ended_by_the_next(small: OnSlurm) -> None:
    """One is at work and one waits for a node; neither may run beside the next run's own."""
    cluster = small.cluster
    cluster.ask("scontrol", "update", f"nodename={NODES[1]}", "state=drain", "reason=test")
    try:
        first = small.start()
        assert within(60, lambda: len(small.of_queue()) == 2)
        assert within(60, lambda: any(small.folder.glob("*.beat")))
        left = [*small.of_queue()]
        assert {cluster.jobs()[job][0] for job in left} == {"RUNNING", "PENDING"}
        os.kill(first.pid, signal.SIGKILL)
        first.wait()
        assert [*small.of_queue()] == left
    finally:
        cluster.ask("scontrol", "update", f"nodename={NODES[1]}", "state=resume")
    second = small.start()
    assert within(90, lambda: bool(small.of_queue()) and not {*small.of_queue()} & {*left})
    said = small.ends_well(second)
    (ended,) = re.findall("ending the SLURM jobs that a killed run has left: (.*)", said)
    assert {*ended.split(", ")} == {*left}
    assert "another run is" not in said
    for job in left:
        assert cluster.jobs()[job][0] == "CANCELLED"
    assert "ending the SLURM jobs" not in small.run()[1]
    assert not (small.folder / slurm.NOTE).exists()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_takes_the_jobs_along(small: OnSlurm, number: signal.Signals) -> None:
    snakemake = small.start()
    small.wait_for("one.beat", "two.beat")
    os.kill(snakemake.pid, number)
    begun = time.monotonic()
    said, _ = snakemake.communicate(timeout=60)
    assert time.monotonic() - begun < 2 * watch.GRACE
    assert said.strip().splitlines()[-1].startswith(f"vitrail: stopped by {number.name}")
    assert "Traceback" not in said
    assert within(10, lambda: not small.of_queue())
    small.ends_well(small.start())


def test_a_failed_job_names_its_log_and_shows_its_end(small: OnSlurm) -> None:
    (small.folder / "step.py").write_text(
        "from vitrail.errors import VitrailError, run_command\n"
        "def main(): raise VitrailError('the glass is broken; mend it')\n"
        "run_command(main)\n"
    )
    code, said = small.run("--retries", "0")
    assert code != 0
    assert "vitrail: the glass is broken; mend it" in said
    assert "one.log" in said
    (named,) = {Path(name) for name in re.findall(r"(\S+/rule_step/one/\d+\.log)", said)}
    assert named.is_relative_to(small.folder / "results" / "logs" / "slurm")
    assert named.is_file()


def test_a_gpu_is_asked_for(small: OnSlurm) -> None:
    """As the rules of the study do when the device is cuda, and not otherwise."""
    (small.folder / "Snakefile").write_text(
        "rule all:\n    input: 'with.txt', 'without.txt'\n"
        "rule with_gpu:\n    output: 'with.txt'\n    resources: gpu=1\n"
        "    shell: 'echo =${{CUDA_VISIBLE_DEVICES-}}= > {output}'\n"
        "rule without:\n    output: 'without.txt'\n    resources: gpu=0\n"
        "    shell: 'echo =${{CUDA_VISIBLE_DEVICES-}}= > {output}'\n"
    )
    code, said = small.run()
    assert code == 0, said
    assert (small.folder / "with.txt").read_text() == "=0=\n"
    assert (small.folder / "without.txt").read_text() == "==\n"
