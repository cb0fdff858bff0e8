"""Progress of jobs on a cluster: they wait in its queue, begin, and end unseen by Snakemake."""

from __future__ import annotations

import logging
import os
import threading
from dataclasses import replace
from pathlib import Path

import pytest

from vitrail.progress import notes
from vitrail.progress.elsewhere import Elsewhere
from vitrail.progress.estimate import Step, slots_of, slowness, time_left
from vitrail.progress.follow import Follower
from vitrail.progress.notes import FAILED, FINISHED, RUNNING, SUBMITTED, WAITING, Job, Reader

NOW = 1_000_000.0


def job(number: int, **about: str) -> Job:
    names = {"log": f"{number}.log", "target": f"{number}.txt"} | about
    return Job(number, "step", f"Job {number}", threads=1, expected=60.0, **names)


class Queue:
    """Jobs of a minute each, as their files and Snakemake tell of them; seconds after `NOW`."""

    def __init__(self, count: int, slots: int) -> None:
        self.jobs = [job(number) for number in range(1, count + 1)]
        self.elsewhere = Elsewhere(self.jobs)
        self.place = notes.place("x", Path())
        self.writer = notes.Writer(self.place, "x", slots, self.jobs)

    def submit(self, *numbers: int, at: float = 0.0) -> None:
        for number in numbers:
            self.elsewhere.submit(number)
            self.writer.write(SUBMITTED, job=number, at=NOW + at)

    def begin(self, number: int, at: float) -> None:
        self._log(number, "at work\n", at)

    def end(self, number: int, at: float, seconds: float = 60.0) -> None:
        told = f"of them to start; from {NOW + at - seconds:.2f} to {NOW + at:.2f} on 1 threads\n"
        self._log(number, f"vitrail: 59.00 core-seconds\nvitrail: 1.00 {told}", at)
        Path(f"{number}.txt").write_text("done")

    def _log(self, number: int, text: str, at: float) -> None:
        Path(f"{number}.log").write_text(text)
        os.utime(f"{number}.log", (NOW + at, NOW + at))

    def look(self) -> list[tuple[str, int, float]]:
        found = [(kind, number, round(at - NOW, 1)) for kind, number, at in self.elsewhere.look()]
        self._write(found)
        return found

    def finished(self, number: int) -> None:
        """Snakemake says so."""
        self._write([(kind, n, at - NOW) for kind, n, at in self.elsewhere.end(number)])

    def _write(self, found: list[tuple[str, int, float]]) -> None:
        for kind, number, at in found:
            self.writer.write(kind, job=number, at=NOW + at)

    def steps(self) -> dict[int, Step]:
        noted = self.noted()
        return {n: Step(noted.jobs[n], stand) for n, stand in noted.stands.items()}

    def noted(self) -> notes.Noted:
        found = Reader(self.place).look()
        assert found is not None
        return found

    def left(self, at: float) -> float | None:
        noted = self.noted()
        slots = slots_of(self.steps(), noted.slots, noted.most, NOW + at)
        return time_left(self.steps(), slots, NOW + at)


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_a_job_that_waits_is_not_at_work_and_its_wait_is_not_its_speed() -> None:
    queue = Queue(49, 1)
    queue._log(1, "of an earlier attempt\n", -50.0)
    queue.submit(1)
    assert queue.look() == []
    stand = queue.steps()[1].stand
    assert (stand.state, stand.queued) == (WAITING, True)
    queue.begin(1, 3600.0)
    assert queue.look() == [(RUNNING, 1, 3600.0)]
    assert queue.look() == []
    stand = queue.steps()[1].stand
    assert (stand.state, stand.queued, stand.started) == (RUNNING, False, NOW + 3600)
    queue.end(1, 3660.0)
    assert queue.look() == [(FINISHED, 1, 3660.0)]
    queue.finished(1)  # as much as three minutes later
    assert queue.steps()[1].stand.ended == NOW + 3660
    assert slowness(queue.steps()) == pytest.approx(1.0)
    assert queue.left(3800.0) == pytest.approx(48 * 60)  # 0.8 hours, and not 50


def test_a_short_job_is_measured_by_what_its_log_tells() -> None:
    queue = Queue(1, 1)
    queue.submit(1)
    queue.end(1, 100.0, seconds=40.0)
    queue.finished(1)
    assert slowness(queue.steps()) == pytest.approx(40 / 60)


def test_slots_are_what_the_cluster_gives() -> None:
    """Two nodes, 64 jobs asked for."""
    queue = Queue(72, 64)
    queue.submit(*range(1, 65))
    assert queue.left(10.0) is None
    for number in (1, 2):
        queue.begin(number, 20.0)
    queue.look()
    assert sum(step.stand.state == RUNNING for step in queue.steps().values()) == 2
    for number in (1, 2):
        queue.end(number, 80.0)
        queue.begin(number + 2, 81.0)
    queue.look()
    assert queue.noted().most == 2  # the ends came first
    assert queue.left(81.0) == pytest.approx(70 * 60 / 2)
    for number in (3, 4):
        queue.end(number, 141.0)
    queue.look()
    assert queue.left(150.0) == pytest.approx(68 * 60 / 2)  # until the next ones begin
    assert queue.left(141.0 + 121.0) is None  # others have the nodes now
    for number in range(5, 65):
        queue.begin(number, 200.0)
    queue.look()
    assert slots_of(queue.steps(), 64, queue.noted().most, NOW + 201) == 64  # nothing waits


def test_a_job_that_is_submitted_again_waits_again() -> None:
    queue = Queue(1, 1)
    queue.submit(1)
    queue.begin(1, 10.0)
    queue.look()
    queue.elsewhere.fail(1)
    queue.writer.write(FAILED, job=1)
    assert queue.look() == []
    queue.submit(1, at=50.0)
    assert queue.look() == []
    assert queue.steps()[1].stand == notes.Stand(queued=True)
    queue.begin(1, 70.0)
    assert queue.look() == [(RUNNING, 1, 70.0)]


def test_a_job_is_not_over_before_its_output_is_there() -> None:
    queue = Queue(1, 1)
    queue.submit(1)
    queue.end(1, 60.0)
    Path("1.txt").unlink()
    assert queue.look() == [(RUNNING, 1, 0.0)]
    queue.finished(1)
    assert queue.steps()[1].stand.state == FINISHED


def test_a_job_without_a_log_is_taken_to_begin_at_once() -> None:
    silent = Elsewhere([replace(job(1), log="")])
    silent.submit(1)
    ((kind, number, _),) = silent.look()
    assert (kind, number) == (RUNNING, 1)
    assert [what for what, *_ in silent.end(1)] == [FINISHED]
    assert [*silent.look(), *silent.end(1)] == []


def test_what_snakemake_says_of_a_job_elsewhere_is_not_taken_for_its_start() -> None:
    queue = Queue(1, 64)
    follower = Follower.__new__(Follower)  # without a Snakemake
    follower._open, follower._noting = {1: None}, threading.Lock()
    follower._elsewhere, follower._writer, follower._told = queue.elsewhere, queue.writer, True

    def say(**about: object) -> None:
        follower.emit(logging.makeLogRecord(about))

    say(event="job_started", jobs=[1])
    assert queue.steps()[1].stand == notes.Stand(queued=True)
    queue.begin(1, 30.0)
    follower._note_elsewhere()
    assert queue.steps()[1].stand.started == NOW + 30
    say(event="job_error", jobid=1)
    assert queue.steps()[1].stand.state == FAILED
    say(event="job_started", jobs=[1])
    queue.end(1, 100.0)
    say(event="job_finished", job_id=1)
    stand = queue.steps()[1].stand
    assert (stand.started, stand.ended) == (NOW + 40, NOW + 100)
