"""In the Snakemake that a user started: note its jobs, draw below its output, write the page.

Whatever goes wrong here is told in one line, and the study goes on without.
"""

from __future__ import annotations

import atexit
import errno
import logging
import os
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vitrail import watch
from vitrail.places import shortage
from vitrail.progress import notes
from vitrail.progress.elsewhere import Elsewhere
from vitrail.progress.expected import jobs_of
from vitrail.progress.notes import FAILED, FINISHED, RUNNING, STOPPED, SUBMITTED

if TYPE_CHECKING:
    from vitrail.planning import Planned
    from vitrail.progress.below import Below

TICK, PAGE = 2.0, 5.0  # seconds between two looks, and between two pages
SHARE = 0.005  # of a core, the most that looking may take; with more to look at, it looks less
STREAM = "DefaultStreamHandler"  # Snakemake's name for what writes to the terminal
_run: Follower | None = None


def begin(workflow: Any, planned: Planned, results: Path) -> None:
    """Follow this run; called once, before its first job.

    Args:
        workflow: Snakemake's own.
        planned: the study.
        results: the folder of all results.
    """
    global _run
    if not workflow.is_main_process:
        return
    try:
        _run = Follower(workflow, planned, results)
    except Exception as error:  # a mistake in here must not cost anybody a study
        print(f"vitrail: progress is not shown ({_reason(error)})", file=sys.stderr)
        return
    atexit.register(end, STOPPED)


def end(how: str) -> None:
    """The run has ended: `FINISHED`, `FAILED` or `STOPPED`. Only the first call counts."""
    global _run
    run, _run = _run, None
    if run is not None:
        run.end(STOPPED if watch.told() else how)


class Follower(logging.Handler):
    """Takes what Snakemake says of its jobs, and looks at the study now and then."""

    def __init__(self, workflow: Any, planned: Planned, results: Path) -> None:
        super().__init__()
        from vitrail.progress.state import Watched

        self._logger = logging.getLogger("snakemake.logging")
        self._stop = threading.Event()
        self._told = False  # that something went wrong
        self._below: Below | None = None
        self._quiet = _is_quiet(workflow)
        plan = planned.plan
        jobs = jobs_of(workflow.dag, planned)
        path = notes.place(plan.study)
        self._writer = notes.Writer(path, plan.study, _slots(workflow, len(jobs)), jobs)
        self._elsewhere = None if workflow.local_exec else Elsewhere(jobs)
        self._noting = threading.Lock()  # of jobs elsewhere, which two threads hear of
        # Without the words for it, a job has ended when it has made its first output anew.
        self._open = {job.number: _time_of(job.target) for job in jobs}
        self._targets = {job.number: job.target for job in jobs}
        self._running: set[int] = set()
        self._watched = Watched(plan, results, path)
        self._page = results / plan.study / "status.html"
        self._page_due = 0.0
        self._below = self._terminal()
        self._logger.addHandler(self)
        self._thread = threading.Thread(target=self._follow, name="progress", daemon=True)
        self._thread.start()

    def emit(self, record: logging.LogRecord) -> None:
        """Note the start and the end of jobs."""
        event, found = getattr(record, "event", None), record.__dict__
        if event == "job_started":
            for number in found["jobs"]:
                self._note(RUNNING, number)
        elif event == "job_finished":
            self._note(FINISHED, found["job_id"])
        elif event == "job_error" and not watch.told():  # then it was ended, and has not failed
            self._note(FAILED, found["jobid"])

    def end(self, how: str) -> None:
        """The last words: the page says how the run ended, and the lines go."""
        self._logger.removeHandler(self)
        self._stop.set()
        self._thread.join(5.0)
        self._guarded(lambda: self._writer.write("end", how=how))
        self._guarded(lambda: self._look(page=True))
        if self._below is not None:
            if not watch.told():
                self._below.clear()
            self._stream.setStream(self._below.stream)

    def _note(self, kind: str, number: int) -> None:
        if number not in self._open:
            return  # of a rule that makes nothing, like `all`
        if self._elsewhere is not None:
            self._guarded(lambda: self._note_elsewhere(kind, number))
            return
        if kind == RUNNING:
            self._running.add(number)
        else:
            self._running.discard(number)
        self._guarded(lambda: self._writer.write(kind, job=number))

    def _note_elsewhere(self, kind: str = "", number: int = 0) -> None:
        """Without a `kind`: what the files of the jobs tell."""
        assert self._elsewhere is not None
        with self._noting:
            if kind == RUNNING:
                self._elsewhere.submit(number)
                self._writer.write(SUBMITTED, job=number)
            elif kind == FAILED:
                self._elsewhere.fail(number)
                self._writer.write(FAILED, job=number)
            else:
                happened = self._elsewhere.end(number) if kind else self._elsewhere.look()
                for what, which, at in happened:
                    self._writer.write(what, job=which, at=round(at, 3))

    def _follow(self) -> None:
        pause = 0.0
        while not self._stop.wait(pause):
            begun = time.thread_time()
            self._guarded(self._look)
            pause = max(TICK if self._below else PAGE, (time.thread_time() - begun) / SHARE)

    def _look(self, page: bool = False) -> None:
        if self._elsewhere is not None:
            self._note_elsewhere()
        elif self._quiet:
            self._note_ends()
        state = self._watched.look(time.time())
        if self._below is not None and not self._stop.is_set():
            from vitrail.progress import terminal

            size = self._below.size()
            what = terminal.below(state, size.lines)
            self._below.show(terminal.drawn(what, size.columns - 1, self._colour))
        if page or time.monotonic() >= self._page_due:
            from vitrail.progress.page import write_page

            self._page_due = time.monotonic() + PAGE - 0.1
            if shortage(self._watched.results):
                raise OSError(errno.ENOSPC, "the last room is left to the study", str(self._page))
            write_page(self._page, state)

    def _note_ends(self) -> None:
        """Under `--quiet` Snakemake does not say that a job is done."""
        for number in sorted(self._running):
            made = _time_of(self._targets[number])
            if made is not None and made != self._open[number]:
                self._note(FINISHED, number)

    def _terminal(self) -> Below | None:
        """The lines below Snakemake's output; None where they would be no help."""
        streams: list[Any] = [one for one in self._logger.handlers if one.name == STREAM]
        if not streams or self._quiet:
            return None
        self._stream = streams[0]
        try:
            if not self._stream.is_tty or os.environ.get("TERM", "dumb") == "dumb":
                return None
        except ValueError:  # closed
            return None
        from vitrail.progress.below import Below

        self._colour = not self._stream.nocolor
        below = Below(self._stream.stream, quiet=watch.told)
        below.write(f"vitrail: progress is shown below and on {self._page}\n")
        self._stream.setStream(below)
        return below

    def _guarded(self, action: Callable[[], None]) -> None:
        """A full disk, or a mistake in here, must not cost anybody a study."""
        try:
            action()
        except Exception as error:
            if not self._told:
                self._told = True
                line = f"vitrail: progress is not shown in full ({_reason(error)})\n"
                with suppress(OSError, ValueError):  # the terminal is gone
                    (self._below or sys.stderr).write(line)


def _reason(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    return f"{type(error).__name__}: {error}"


def _is_quiet(workflow: Any) -> bool:
    """Whether Snakemake was told to say nothing, or nothing of its progress."""
    quiet = {str(getattr(one, "name", one)).lower() for one in workflow.output_settings.quiet or ()}
    return bool(quiet & {"all", "progress"})


def _slots(workflow: Any, jobs: int) -> int:
    """Jobs that can be at work at once."""
    if workflow.local_exec:
        return max(1, int(workflow.resource_settings.cores or 1))
    return max(1, min(int(workflow.nodes or 1), jobs))


def _time_of(path: str) -> int | None:
    try:
        return Path(path).stat().st_mtime_ns
    except OSError:
        return None
