"""Jobs that SLURM owns end with their run too, as far as somebody is there to end them.

A local step ends with the Snakemake that started it (`vitrail.watch`). A job on a cluster does
not: after a SIGKILL of Snakemake it goes on, and one that waits starts hours later, beside the
same job of the next run. So a run that submits jobs leaves a note in its folder; the run after it
reads the note, asks SLURM for jobs of this folder, and cancels what a dead run has left.
"""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
import time
from pathlib import Path

from vitrail.errors import VitrailError

NOTE = Path(".snakemake") / "vitrail.slurm"  # the host from which jobs were submitted here
PATIENCE = 120.0  # seconds for cancelled jobs to be gone; SLURM sends SIGKILL after some 30 s
ANSWER = 60.0  # seconds for SLURM to answer
# Snakemake's executor looks at the queue every 10 s at first, and every 180 s at last; a job that
# SLURM has forgotten in between it would wait for.
REMEMBER = 300
FORMAT = "%i|%j|%Z"  # number, name, folder
# The executor names its jobs by a number of the run, behind a prefix.
NAME = re.compile(r"(.+_)?[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


def inside() -> bool:
    """Whether this process runs in a SLURM job."""
    return "SLURM_JOB_ID" in os.environ


def cpus() -> int:
    """How many CPUs of its node SLURM has given this job; 0 outside of one."""
    return int(os.environ.get("SLURM_CPUS_ON_NODE", "0")) if inside() else 0


def take_note(executor: str) -> bool:
    """Note that this run submits jobs, so that the next one looks for them.

    Args:
        executor: Snakemake's name of what runs its jobs.

    Returns: whether that is SLURM.
    """
    if executor == "slurm":
        NOTE.write_text(socket.gethostname(), encoding="utf-8")
        warn_of_forgetting()
    return executor == "slurm"


def warn_of_forgetting() -> None:
    """Say so where SLURM forgets ended jobs before Snakemake looks.

    Silent where it cannot be asked.
    """
    try:
        said = subprocess.run(
            ("scontrol", "show", "config"), capture_output=True, text=True, timeout=10.0
        ).stdout
    except (OSError, subprocess.SubprocessError, ValueError):
        return
    found = re.search(r"^MinJobAge\s*=\s*(\d+)", said, re.MULTILINE)
    if found and int(found[1]) < REMEMBER:
        print(
            f"vitrail: this SLURM forgets ended jobs after {found[1]} s (MinJobAge), and Snakemake "
            "looks every 10 to 180 s, so that it may wait for such a job for ever; have MinJobAge "
            f"set to {REMEMBER} or more, or use --slurm-status-command sacct where SLURM has "
            "accounting",
            file=sys.stderr,
        )


def jobs_of(folder: Path) -> dict[str, str]:
    """Jobs in SLURM's queue that a Snakemake in this folder has submitted.

    Returns: the name that all jobs of one Snakemake have, by job number.

    Raises:
        VitrailError: SLURM does not answer.
    """
    said = _ask("squeue", f"--user={os.getuid()}", "--noheader", f"--format={FORMAT}")
    lines = [line.split("|", 2) for line in said.splitlines()]
    return {
        number: name
        for number, name, where in lines
        if NAME.fullmatch(name) and Path(where) == folder
    }


def cancel(jobs: dict[str, str]) -> None:
    """Tell SLURM to end jobs and all others of their names; it does so in its own time."""
    if jobs:
        _ask("scancel", f"--user={os.getuid()}", f"--name={_names(jobs)}")


def cancel_own() -> None:
    """Cancel what this Snakemake has in the queue, when it has to end; silent in any case.

    Its executor cancels what it knows of; a job that is being submitted in that moment it does not.
    """
    try:
        cancel(jobs_of(Path.cwd()))
    except VitrailError:
        return  # the next run looks again


def end_left_jobs(alone: bool) -> None:
    """See that no job of an earlier run of this folder is at work or waits.

    Args:
        alone: it is known that no other Snakemake is at work here, if file locks are known on
            all hosts; they may hold on one host alone.

    Raises:
        VitrailError: the earlier run may be at work on another host, the jobs do not end, or SLURM
            does not answer.
    """
    if not NOTE.exists():
        return
    here = Path.cwd()
    if left := jobs_of(here):
        host = NOTE.read_text(encoding="utf-8")
        if not alone or host != socket.gethostname():
            raise VitrailError(
                f"SLURM jobs {_listed(left)} of an earlier run in {here} are not over, and it may "
                f"still be at work on {host or 'another host'}; if it is not, end them (scancel "
                f"--name={_names(left)}) and run the same command again"
            )
        print(
            f"vitrail: ending the SLURM jobs that a killed run has left: {_listed(left)}",
            file=sys.stderr,
        )
        cancel(left)
        end = time.monotonic() + PATIENCE
        while left := jobs_of(here):
            if time.monotonic() > end:
                raise VitrailError(
                    f"SLURM jobs {_listed(left)} of a killed run do not end; ask `squeue` why, and "
                    "run the same command again when they are gone"
                )
            time.sleep(1.0)
    NOTE.unlink(missing_ok=True)


def _names(jobs: dict[str, str]) -> str:
    return ",".join(sorted({*jobs.values()}))


def _listed(jobs: dict[str, str], most: int = 20) -> str:
    shown = ", ".join([*jobs][:most])
    return shown if len(jobs) <= most else f"{shown} and {len(jobs) - most} more"


def _ask(*command: str) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=ANSWER)
    except (OSError, subprocess.TimeoutExpired) as error:
        why = str(error)
    else:
        if done.returncode == 0 or command[0] == "scancel":  # which complains of ended jobs
            return done.stdout
        why = done.stderr.strip().replace("\n", "; ")
    raise VitrailError(
        f"jobs of an earlier run may be at work on the cluster, but SLURM does not answer "
        f"({command[0]}: {why}); run the same command again when it does, or remove {NOTE} if "
        "there are none"
    )
