"""What a run notes for those who watch it: its jobs once, then when each started and ended.

A file of one JSON object a line, beside Snakemake's own notes. Only the Snakemake that a user
started writes it; everybody else reads, also while it grows. Lines that were torn or that a later
version wrote are passed over, and so are those with values that no run writes.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import psutil

from vitrail.files import write_text
from vitrail.watch import this_process

WAITING, RUNNING, FINISHED, FAILED = "waiting", "running", "finished", "failed"
SUBMITTED = "submitted"  # to a cluster, where the job waits until its note of `RUNNING`
STOPPED, KILLED = "stopped", "killed"
LATEST = 1e11  # seconds since the epoch, in the year 5138; no time and no cost is beyond it


@dataclass(frozen=True)
class Job:
    """A job that this run has to do.

    `expected` are seconds by the clock with its `threads`, roughly; `runs` the runs that it
    trains, in their order, and `parts` the expected seconds of each; `needs` the numbers of the
    jobs that it waits for; `log` and `target` (its first output) are paths as Snakemake has them.
    """

    number: int
    rule: str
    title: str
    log: str
    target: str
    threads: int
    expected: float
    runs: tuple[str, ...] = ()
    parts: tuple[float, ...] = ()
    needs: tuple[int, ...] = ()


@dataclass
class Stand:
    """How far a job is: its state, and seconds since the epoch of its start and its end.

    `queued`: it waits on a cluster, to which it was submitted.
    """

    state: str = WAITING
    started: float | None = None
    ended: float | None = None
    queued: bool = False


@dataclass
class Noted:
    """What is known of a run from its notes. `ending` is empty while it goes on.

    `most` is how many jobs have been at work at once; `slots` how many Snakemake asks for.
    """

    study: str = ""
    started: float = 0.0
    slots: int = 1
    process: str = ""
    created: float = 0.0
    jobs: dict[int, Job] = field(default_factory=dict)
    stands: dict[int, Stand] = field(default_factory=dict)
    ending: str = ""
    ended: float | None = None
    most: int = 0
    _at_work: set[int] = field(default_factory=set)

    def at_work(self) -> bool | None:
        """Whether the Snakemake that writes the notes is there; None when it cannot be seen.

        It may be in another container or on another machine.
        """
        number, _, namespace = self.process.partition(" ")
        if not number.isdigit() or namespace != this_process().partition(" ")[2]:
            return None
        try:
            process = psutil.Process(int(number))
            return bool(
                abs(process.create_time() - self.created) < 2.0
                and process.status() != psutil.STATUS_ZOMBIE
            )
        except psutil.NoSuchProcess:
            return False
        except psutil.Error:
            return None

    def take(self, note: dict[str, Any]) -> None:
        """Take in one line of the notes, whole or not at all.

        Raises:
            KeyError: something is missing, or is about a job that was not told of.
            TypeError, ValueError: a value is none that a run writes.
        """
        kind = note["note"]
        if kind == "run":
            study, process = _text(note["study"]), _text(note["process"])
            slots = max(1, _count(note["slots"]))
            created, at = _seconds(note["created"]), _seconds(note["at"])
            self.study, self.process, self.slots = study, process, slots
            self.created, self.started = created, at
        elif kind == "job":
            job = _job(note["job"])
            self.jobs[job.number], self.stands[job.number] = job, Stand()
        elif kind == "end":
            if note["how"] not in (FINISHED, FAILED, STOPPED, KILLED):
                raise ValueError
            self.ended, self.ending = _seconds(note["at"]), note["how"]
        elif kind == SUBMITTED:
            self.stands[self.jobs[note["job"]].number] = Stand(queued=True)
        elif kind in (RUNNING, FINISHED, FAILED):
            stand, at = self.stands[note["job"]], _seconds(note["at"])
            stand.state, stand.queued = kind, False
            (self._at_work.add if kind == RUNNING else self._at_work.discard)(note["job"])
            self.most = max(self.most, len(self._at_work))
            if kind == RUNNING:
                stand.started, stand.ended = at, None
            else:
                stand.ended = at


def _job(told: dict[str, Any]) -> Job:
    """The job of a note.

    Raises:
        KeyError, TypeError, ValueError: it is not as a run notes it.
    """
    job = Job(**{**told, **{key: tuple(told[key]) for key in ("runs", "parts", "needs")}})
    for text in (job.rule, job.title, job.log, job.target, *job.runs):
        _text(text)
    for number in (job.expected, *job.parts):
        _seconds(number)
    for count in (job.number, job.threads, *job.needs):
        _count(count)
    if len(job.parts) != len(job.runs):
        raise ValueError
    return job


def _text(value: Any) -> str:
    """Raises: TypeError: it is no text."""
    if not isinstance(value, str):
        raise TypeError
    return value


def _count(value: Any) -> int:
    """Raises: TypeError: it is no whole number."""
    if not isinstance(value, int):
        raise TypeError
    return value


def _seconds(value: Any) -> float:
    """Raises: TypeError: it is no number; ValueError: no time either, such as NaN."""
    if not 0 <= value <= LATEST:
        raise ValueError
    return float(value)


def place(study: str, folder: Path = Path(".snakemake")) -> Path:
    """Where the notes of a study's last run are."""
    return folder / f"vitrail.{study}.progress.jsonl"


class Writer:
    """Writes the notes of one run: the jobs at once, then line by line.

    Raises:
        OSError: the disk refuses.
    """

    def __init__(self, path: Path, study: str, slots: int, jobs: Iterable[Job]) -> None:
        self.path = path
        created = psutil.Process().create_time()
        run = {"note": "run", "study": study, "slots": slots, "process": this_process()}
        lines = [run | {"created": created, "at": time.time()}]
        lines += [{"note": "job", "job": asdict(job)} for job in jobs]
        write_text(path, "".join(map(_line, lines)))

    def write(self, kind: str, **about: Any) -> None:
        """Add a line; one write, so that a reader sees it whole or not yet."""
        with self.path.open("a", encoding="utf-8") as stream:
            stream.write(_line({"note": kind, "at": round(time.time(), 3), **about}))


def _line(note: dict[str, Any]) -> str:
    return json.dumps(note, ensure_ascii=False) + "\n"


class Reader:
    """Reads notes that may still grow; each look reads only what is new."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file, self._read, self._rest = -1, 0, b""
        self.noted = Noted()

    def look(self) -> Noted | None:
        """What is known now; None without notes."""
        try:
            with self.path.open("rb") as stream:
                about = os.fstat(stream.fileno())
                if about.st_ino != self._file or about.st_size < self._read:  # another run's
                    self._file, self._read, self._rest = about.st_ino, 0, b""
                    self.noted = Noted()
                stream.seek(self._read)
                new = stream.read()
        except OSError:
            return None
        self._read += len(new)
        *lines, self._rest = (self._rest + new).split(b"\n")
        for line in lines:
            try:
                self.noted.take(json.loads(line))
            except (ValueError, KeyError, TypeError):
                continue
        return self.noted if self.noted.study else None
