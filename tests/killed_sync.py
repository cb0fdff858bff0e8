"""Kill a sync at one point after another, sync again, and compare: a program for the tests.

    python tests/killed_sync.py PATTERN WORK STEP POINTS

A process with MLflow loaded forks; the child counts what it does to the world (calls of the
MLflow client, statements that write to the database, files opened for writing, moved or
removed) and at the point given sends itself SIGKILL, which nothing can catch. A second child
runs the same step again, to its end. What MLflow then holds is written to WORK.
"""

from __future__ import annotations

import inspect
import json
import os
import shutil
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT
FILE_EVENTS = {"os.rename", "os.mkdir", "os.remove", "os.rmdir", "shutil.copyfile"}


class Countdown:
    """Counts points, tells what they were, and kills this process at one of them."""

    def __init__(self, at: int | None, under: Path) -> None:
        self.at, self.under, self.points = at, str(under), 0
        self.told: list[str] = []
        self.on = True

    def __call__(self, what: str) -> None:
        if not self.on:
            return
        self.points += 1
        self.told.append(what)
        if self.points == self.at:
            os.kill(os.getpid(), signal.SIGKILL)

    def watch(self) -> None:
        """Count from now on."""
        from mlflow import MlflowClient
        from sqlalchemy import event
        from sqlalchemy.engine import Engine

        for name, method in inspect.getmembers(MlflowClient, inspect.isfunction):
            if not name.startswith("_"):
                setattr(MlflowClient, name, self._counted(name, method))

        @event.listens_for(Engine, "before_cursor_execute")
        def statement(_: Any, __: Any, text: str, *___: Any) -> None:
            if not text.lstrip().upper().startswith(("SELECT", "PRAGMA")):
                self(f"sql {text.split()[0]}")

        event.listen(Engine, "commit", lambda _: self("sql COMMIT"))
        sys.addaudithook(self._file)

    def _counted(self, name: str, method: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **named: Any) -> Any:
            self(f"client {name}")
            return method(*arguments, **named)

        return call

    def _file(self, name: str, arguments: tuple[Any, ...]) -> None:
        writes = name in FILE_EVENTS or (
            name == "open" and isinstance(arguments[2], int) and arguments[2] & WRITES
        )
        if writes and str(arguments[0]).startswith(self.under):
            self(f"file {name}")


def forked(what: Callable[[], None]) -> int:
    """Do something in a child; what became of it, as `os.waitstatus_to_exitcode` says."""
    child = os.fork()
    if child == 0:
        try:
            what()
            os._exit(0)
        except BaseException as error:
            print(f"{type(error).__name__}: {error}", file=sys.stderr, flush=True)
            os._exit(1)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def main() -> None:
    """The program."""
    pattern, work, step, points = Path(sys.argv[1]), Path(sys.argv[2]), *sys.argv[3:]
    import mlflow.pyfunc  # noqa: F401  (once, for all children)
    import torch

    from made_tracked import STEM, STUDY, state
    from tracked import believed
    from vitrail.tracking import headline, store
    from vitrail.tracking.sync import sync

    torch.set_num_threads(1)
    # Measuring starts a process of seconds and writes nothing; a test of its own kills there.
    headline.remeasured = believed

    def run(results: Path) -> None:
        if step == "sync":
            sync(STUDY, STEM, results, results / STUDY / STEM / "tracking.json")
        else:
            store.initialise(STUDY, results)

    def killed(results: Path, at: int | None, out: Path) -> None:
        countdown = Countdown(at, results)
        countdown.watch()
        run(results)
        countdown.on = False
        out.write_text(json.dumps(countdown.told))

    def repeated(results: Path, out: Path) -> None:
        run(results)
        with store.open_client(results) as client:
            found = state(client)
        files = [
            path.relative_to(results).as_posix()
            for path in results.rglob("*")
            if "mlflow-artifacts" not in path.parts
        ]
        out.write_text(json.dumps({"state": found, "files": sorted(files)}))

    work.mkdir(parents=True, exist_ok=True)
    # Always at the same path, for MLflow keeps absolute ones.
    results = work / "results"
    for at in json.loads(points):
        shutil.rmtree(results, ignore_errors=True)
        shutil.copytree(pattern, results)
        begun = time.perf_counter()
        code = forked(lambda at=at: killed(results, at, work / "told.json"))
        if code != (0 if at is None else -signal.SIGKILL):
            sys.exit(f"point {at}: the step ended with {code}")
        if forked(lambda at=at: repeated(results, work / f"after-{at}.json")):
            sys.exit(f"point {at}: the same step failed after the kill")
        print(f"point {at}: {time.perf_counter() - begun:.2f} s", flush=True)


if __name__ == "__main__":
    main()
