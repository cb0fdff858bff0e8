"""Kills the smoke study at random moments and repeats the same command after each."""

from __future__ import annotations

import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil

from smoke_study import FROM_OUTSIDE, SMOKE
from vitrail.config import STEMS
from vitrail.hashes import differences, kinds_of

LIMIT = 1800.0  # seconds for one command
GONE = 30.0  # seconds in which a step that was just importing notices that it is alone
TOLD = 60.0  # seconds after SIGTERM or SIGINT in which Snakemake has to end
# Steps by the words of their command, with seconds in which a kill finds them at work.
STEPS = {
    "timing": ("vitrail.timing", 4.0),
    "pretraining": ("vitrail.pretraining", 4.0),
    "training": ("vitrail.train", 8.0),
    "execution": ("vitrail.execution", 6.0),
    "reduction": ("vitrail.reduction", 6.0),
    "answer": ("vitrail.questions", 6.0),
    "sync": ("vitrail.tracking sync", 4.0),
    "rule graph": ("vitrail.rule_graph", 1.5),
    "facts": ("vitrail.provenance", 2.0),
    "render": ("vitrail.report.render", 2.0),
}
FINISHED = re.compile(r"^Finished jobid", re.MULTILINE)
# What an unfinished step leaves beside its target (vitrail.files), in any folder.
LITTER = re.compile(r"^\..+\.\d+(\.old|-\w+)?$")


@dataclass(frozen=True)
class Fault:
    """One kill: of a step by its name, or of Snakemake after some jobs or during a step."""

    target: str  # a key of STEPS, or "Snakemake"
    number: signal.Signals = signal.SIGKILL
    jobs: int = 0  # of this command, for Snakemake
    during: str = ""  # a step that is at work, for Snakemake

    def __str__(self) -> str:
        if self.target != "Snakemake":
            return f"{self.number.name} {self.target}"
        when = f"during {self.during}" if self.during else f"after {self.jobs} jobs"
        return f"{self.number.name} Snakemake {when}"


def snakemake(number: signal.Signals, jobs: int = 0, during: str = "") -> Fault:
    return Fault("Snakemake", number, jobs, during)


Rounds = list[tuple[Fault, ...]]
KILL, TERM, INT = signal.SIGKILL, signal.SIGTERM, signal.SIGINT
# One command each; what the last command of a list leaves is made by one without faults.
# First the runs and the meters, then the answers, then the report.
SHORT_PLAN: tuple[Rounds, Rounds, Rounds] = (
    [(Fault("training"), snakemake(KILL, jobs=3))],
    [(Fault("sync"), snakemake(TERM, jobs=2))],
    [(Fault("render"),)],
)
LONG_PLAN: tuple[Rounds, Rounds, Rounds] = (
    [
        (Fault("timing"), Fault("pretraining"), snakemake(KILL, jobs=2)),
        (Fault("training"), Fault("training"), snakemake(TERM, jobs=2)),
        (Fault("training"), snakemake(INT, during="training")),
        (Fault("training"), Fault("training"), snakemake(KILL, during="training")),
        (Fault("reduction"), Fault("execution")),
        (snakemake(KILL, during="execution"),),
    ],
    [
        (Fault("answer"), Fault("sync"), snakemake(KILL, jobs=2)),
        (Fault("answer"), Fault("sync"), snakemake(TERM, jobs=2)),
        (Fault("answer"), snakemake(INT, during="sync")),
        (Fault("sync"), snakemake(KILL, during="answer")),
    ],
    [
        (Fault("facts"),),
        (Fault("render"),),
        (snakemake(KILL, during="render"),),
        (snakemake(TERM, during="render"),),
        (Fault("render"),),
    ],
)


@dataclass
class Kill:
    """A fault that was done: the moment, and how the command ended after it."""

    fault: Fault
    delay: float  # seconds from what it waited for
    what: str  # the process
    seconds: float = 0.0  # until nothing of the command was left at work
    resumed: int = 0  # trainings that the next command resumed


class Missed(Exception):
    """The command ended before the fault could be done."""


class Disturbed:
    """A copy of the project whose commands are killed."""

    def __init__(self, project: Path, cores: str, seed: int) -> None:
        self.project = project.resolve()
        self.folder = self.project / "results" / "smoke"
        self.cores = cores
        self.random = random.Random(seed)
        self.kills: list[Kill] = []
        self.missed: list[Fault] = []
        self.commands = 0
        self.said = ""  # by the last command
        self.snakemake = 0  # its process
        self.other_runs: list[str] = []  # than in the undisturbed study

    def suffer(self, plan: tuple[Rounds, Rounds, Rounds], reference: Path) -> None:
        """Make the whole study in spite of the plan's kills.

        No clock shows the same time twice. So the runs are compared first, without what was
        measured; then the measured values of the reference are put in the place of ours, and
        all that is derived from them has to come to the same bits, to the last page.

        Args:
            plan: of the runs and meters, the answers, and the report.
            reference: ``results/smoke`` of an undisturbed run.
        """
        below = "results/smoke"
        runs = ["runs.csv", "training_memory.csv", "timing/attention.csv", "execution/ways.csv"]
        runs += ["reduction/table.csv", "input_seconds.csv"]
        answers = [f"{stem}/tracking.json" for stem in STEMS]
        answers += ["runs.csv", "claims.csv", "study/rules.csv"]
        self._go_on(plan[0], [f"{below}/{name}" for name in runs])
        self.other_runs = [
            name
            for name in differences(kinds_of(reference), kinds_of(self.folder))
            if name.startswith(("runs/", "pretraining/", "runs.csv", "reduction/"))
        ]
        self.put_measured(reference)
        self._go_on(plan[1], [f"{below}/{name}" for name in answers])
        self.put_logs(reference)
        self._go_on(plan[2], [])

    def _go_on(self, rounds: Rounds, targets: list[str]) -> None:
        """The same command for every round, and once more to its end."""
        for faults in rounds:
            before = len(self.kills)
            code = self.command(*targets, faults=faults)
            assert code != 0 or len(self.kills) == before, self.said[-3000:]
        assert self.command(*targets) == 0, self.said[-6000:]

    def command(self, *targets: str, faults: tuple[Fault, ...] = ()) -> int:
        """Run Snakemake for these targets, with faults one after the other; its exit code."""
        self.commands += 1
        environment = {k: v for k, v in os.environ.items() if k not in FROM_OUTSIDE}
        environment["HF_HUB_OFFLINE"] = "1"
        log = self.project / "said.log"
        line = [sys.executable, "-m", "snakemake", "--cores", self.cores, "--configfile", SMOKE]
        with log.open("w") as stream:
            snakemake = subprocess.Popen(
                [*line, *(["--", *targets] if targets else [])], cwd=self.project,
                env=environment, start_new_session=True, stdin=subprocess.DEVNULL,
                stdout=stream, stderr=subprocess.STDOUT,
            )  # fmt: skip
        self.snakemake = snakemake.pid
        try:
            begun = len(self.kills)
            for fault in faults:
                try:
                    self._do(fault, snakemake, log)
                except Missed:
                    self.missed.append(fault)
            snakemake.wait(LIMIT)
            self.said = log.read_text(errors="replace")
            resumed = self._resumed()
            for kill in self.kills[:begun][-1:]:
                kill.resumed = resumed
        finally:
            if snakemake.poll() is None:
                os.killpg(snakemake.pid, signal.SIGKILL)
                snakemake.wait()
        assert "LockException" not in self.said, self.said[-3000:]
        assert "Traceback" not in self.said, self.said[-6000:]
        return snakemake.returncode

    def _do(self, fault: Fault, snakemake: subprocess.Popen[bytes], log: Path) -> None:
        of_snakemake = fault.target == "Snakemake"
        step = fault.during if of_snakemake else fault.target
        while True:  # a step may end by itself before its moment has come
            found = None
            while found is None:
                if snakemake.poll() is not None:
                    raise Missed
                if step:
                    found = self._step(STEPS[step][0])
                elif len(FINISHED.findall(log.read_text(errors="replace"))) >= fault.jobs:
                    found = psutil.Process(snakemake.pid)
                time.sleep(0.05)
            delay = self.random.uniform(0, STEPS[step][1] if step else 2.0)
            time.sleep(delay)
            victim = psutil.Process(snakemake.pid) if of_snakemake else found
            kill = Kill(fault, delay, _words(found))
            begun = time.monotonic()
            try:
                if step and not found.is_running():
                    continue
                victim.send_signal(fault.number)
            except psutil.Error:
                continue
            break
        self.kills.append(kill)
        if not of_snakemake:
            while found.is_running() and found.status() != psutil.STATUS_ZOMBIE:
                time.sleep(0.01)
            kill.seconds = time.monotonic() - begun
            return
        snakemake.wait(TOLD)
        while left := list(self.at_work()):
            assert time.monotonic() < begun + TOLD + GONE, f"{fault}: {left} are still at work"
            time.sleep(0.02)
        kill.seconds = time.monotonic() - begun

    def _step(self, words: str) -> psutil.Process | None:
        """A step at work, itself and not the shell around it."""
        return next(
            (one for one in self.at_work() if _words(one).startswith(words)),
            None,
        )

    def at_work(self) -> Iterator[psutil.Process]:
        """Every process in this folder, but for the Snakemake of the command and zombies."""
        for process in psutil.process_iter():
            try:
                here = Path(process.cwd()) == self.project
                ours = process.pid == self.snakemake
                if here and not ours and process.status() != psutil.STATUS_ZOMBIE:
                    yield process
            except (psutil.Error, OSError):
                continue

    def _resumed(self) -> int:
        logs = (self.folder / "logs").rglob("*.log")
        return sum("resum" in log.read_text(errors="replace") for log in logs)

    def litter(self) -> list[Path]:
        """What killed steps and a killed Snakemake have left."""
        left = [path for path in (self.project / "results").rglob(".*") if LITTER.match(path.name)]
        for name in ("locks", "incomplete"):
            left += (self.project / ".snakemake" / name).rglob("*")
        return left

    def put_measured(self, reference: Path) -> None:
        """Take over what the steps of another run have measured, and what lies beside it.

        In the order in which the other made it: an input that is newer than what was made from
        it would have that made anew.
        """
        folders = ("pretraining", "runs", "timing", "execution", "reduction")
        files = [path for name in folders for path in (reference / name).rglob("*")]
        files = [path for path in files if path.is_file() and not path.name.startswith(".")]
        for name in ("training_memory.csv", "input_seconds.csv"):
            files += [reference / name, reference / f"{name}.sha256"]
        for path in sorted(files, key=lambda path: path.stat().st_mtime_ns):
            shutil.copyfile(path, self.folder / path.relative_to(reference))

    def put_logs(self, reference: Path) -> None:
        """The report says what each step has cost, which stands in the logs."""
        gathered = (reference / "study" / "costs.csv").stat().st_mtime_ns
        for folder, ours in (
            (reference / "logs", self.folder / "logs"),
            (reference.parent / "logs", self.folder.parent / "logs"),
        ):
            shutil.rmtree(ours, ignore_errors=True)
            for path in folder.rglob("*.log"):
                copy = ours / path.relative_to(folder)
                copy.parent.mkdir(parents=True, exist_ok=True)
                if path.stat().st_mtime_ns < gathered:
                    shutil.copyfile(path, copy)

    def table(self) -> str:
        """What was killed, when, and how long it took to be gone."""
        lines = [f"  {len(self.kills)} kills in {self.commands} commands"]
        lines += [
            f"  {kill.fault!s:40} {kill.delay:4.1f} s into {kill.what[:44]:44}"
            f" gone after {kill.seconds:5.2f} s"
            + (f", {kill.resumed} trainings resumed" if kill.resumed else "")
            for kill in self.kills
        ]
        if self.missed:
            lines.append(f"  the command ended before {', '.join(map(str, self.missed))}")
        return "\n".join(lines)


def _words(process: psutil.Process) -> str:
    """The module of a step and what follows it; '' for any other process."""
    try:
        command = process.cmdline()
    except psutil.Error:
        return ""
    return " ".join(command[2:]) if command[1:2] == ["-m"] else ""
