"""Progress while Snakemake runs: lines below its output in a terminal, and nothing elsewhere."""

from __future__ import annotations

import io
import json
import os
import pty
import re
import select
import signal
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from vitrail import watch
from vitrail.progress import notes
from vitrail.progress.below import Below
from vitrail.progress.notes import FAILED, FINISHED, STOPPED

ROOT = Path(__file__).parents[1]
STUDY = "default"
NAME = "vitrail.default.progress.jsonl"

# As in the Snakefile and workflow/rules/common.smk, with steps that wait to be let go.
SNAKEFILE = f"""
import os, sys
from pathlib import Path
sys.path.insert(0, {str(ROOT / "src")!r})
from vitrail.planning import plan_study
from vitrail.progress import follow as study_progress
from vitrail.steps import begin_run, listen, set_paths
from vitrail.watch import end_steps_when_told

listen(workflow.is_main_process)
set_paths(Path({str(ROOT)!r}))
begin_run(workflow.is_main_process, workflow.output_settings.dryrun)
ON = "WITHOUT" not in os.environ
PLANNED = plan_study({{}}, Path({str(ROOT)!r})) if ON else None

onstart:
    end_steps_when_told()
    if ON:
        study_progress.TICK = study_progress.PAGE = 0.2
        study_progress.SHARE = 1.0
        study_progress.begin(workflow, PLANNED, Path("results"))

onsuccess:
    study_progress.end("finished")
    print("the last words")

onerror:
    study_progress.end("failed")

rule all:
    input: "three.txt"

rule one:
    output: "one.txt"
    log: "one.log"
    message: "Make the first"
    shell: "python step.py > {{log}} 2>&1 && touch {{output}}"

rule two:
    input: "one.txt"
    output: "two.txt"
    log: "two.log"
    message: "Make the second, which takes a long sentence to describe, longer than the terminal"
    shell: "touch {{output}}"

rule three:
    input: "two.txt"
    output: "three.txt"
    log: "three.log"
    message: "Make the third"
    shell: "touch {{output}}"
"""
STEP = """
import sys, time
from pathlib import Path
from vitrail.errors import run_command

def main():
    Path("at work").touch()
    print("step: 50%|#####     | 5/10 [00:05<00:05, 1.00step/s]", file=sys.stderr, flush=True)
    while not Path("go").exists():
        time.sleep(0.05)
    if Path("go").read_text() == "break":
        sys.exit("vitrail: this step breaks")

run_command(main)
"""


class Terminal:
    """As much of a terminal as is needed: lines, and what moves the cursor or takes them away."""

    def __init__(self, columns: int = 80) -> None:
        self.columns, self.lines, self.row, self.column = columns, [""], 0, 0

    def feed(self, text: str) -> None:
        for part in re.findall(r"\x1b\[[\d;?]*[A-Za-z]|[^\x1b]|\x1b", text):
            if part == "\n":
                self.row += 1
                if self.row == len(self.lines):
                    self.lines.append("")
            elif part == "\r":
                self.column = 0
            elif part.endswith("A") and len(part) > 2:
                self.row = max(0, self.row - int(part[2:-1] or 1))
            elif part == "\x1b[J":
                self.lines[self.row] = self.lines[self.row][: self.column]
                del self.lines[self.row + 1 :]
            elif part.startswith("\x1b["):
                assert part.endswith("m"), part  # colours; nothing else is used
            else:
                line = self.lines[self.row].ljust(self.column)
                self.lines[self.row] = line[: self.column] + part + line[self.column + 1 :]
                self.column += 1
                continue

    @property
    def text(self) -> str:
        return "\n".join(self.lines)


class Project:
    """The small workflow in a folder of its own."""

    COMMAND = (sys.executable, "-m", "snakemake", "--cores", "1", "--rerun-incomplete")

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "Snakefile").write_text(SNAKEFILE)
        (folder / "step.py").write_text(STEP)
        self.processes: list[subprocess.Popen[bytes]] = []
        self.raw = b""

    @property
    def page(self) -> str:
        return (self.folder / "results" / STUDY / "status.html").read_text(encoding="utf-8")

    @property
    def endings(self) -> list[str]:
        lines = (self.folder / ".snakemake" / NAME).read_text().splitlines()
        return [note["how"] for note in map(json.loads, lines) if note["note"] == "end"]

    def go(self, how: str = "") -> None:
        (self.folder / "go").write_text(how)

    def run(self, *arguments: str, **variables: str) -> tuple[int, str]:
        """Without a terminal; both streams together."""
        done = subprocess.run(
            [*self.COMMAND, *arguments], cwd=self.folder, env={**os.environ, **variables},
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=120, check=False,
        )  # fmt: skip
        return done.returncode, done.stdout

    def begin(self, *arguments: str, **variables: str) -> None:
        """In a terminal of 24 rows and 80 columns."""
        self.file, other = pty.openpty()
        termios.tcsetwinsize(self.file, (24, 80))
        self.processes.append(
            subprocess.Popen(
                [*self.COMMAND, *arguments],
                cwd=self.folder,
                start_new_session=True,
                env={**os.environ, "TERM": "xterm-256color", **variables},
                stdin=other,
                stdout=other,
                stderr=other,
            )
        )
        os.close(other)

    def read(self, until: Callable[[], bool], seconds: float = 60) -> str:
        """What the terminal was sent until something is true, or all of it."""
        end = time.monotonic() + seconds
        while not until():
            assert time.monotonic() < end, self.raw.decode(errors="replace")[-3000:]
            if not select.select([self.file], [], [], 0.1)[0]:
                continue
            try:
                new = os.read(self.file, 65536)
            except OSError:  # everybody has closed it
                break
            if not new:
                break
            self.raw += new
        return self.raw.decode(errors="replace")

    def screen(self) -> str:
        terminal = Terminal()
        terminal.feed(self.raw.decode(errors="replace"))
        return terminal.text

    def finish(self) -> int:
        """Read to the end; the exit code."""
        self.read(lambda: False)
        return self.processes[-1].wait(timeout=30)

    def end(self) -> None:
        self.go()
        for process in self.processes:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()


@pytest.fixture
def project(tmp_path: Path) -> Iterator[Project]:
    made = Project(tmp_path.resolve())
    yield made
    made.end()


def alike(said: str) -> list[str]:
    """What is the same in every run: no colours, no times, no order of sets."""
    said = re.sub(r"\x1b\[[\d;]*m", "", said)
    said = re.sub(r"\[\w{3} \w{3} .*?\]", "[time]", said)
    said = re.sub(
        r"^(Complete log|Elapsed time|  Date|  Workflow ID).*$", "", said, flags=re.MULTILINE
    )
    return [line.rstrip() for line in said.splitlines() if line.strip()]


def test_without_a_terminal_snakemake_says_what_it_said_before(project: Project) -> None:
    project.go()
    code, without = project.run("--forceall", WITHOUT="1")
    assert code == 0, without
    assert not (project.folder / "results").exists()
    code, said = project.run("--forceall")
    assert code == 0, said
    assert alike(said) == alike(without)
    assert "\x1b" not in said
    assert "3 of 3 jobs done" in re.sub("<.*?>", "", project.page)


def test_in_a_terminal_lines_stay_below_and_go_at_the_end(project: Project) -> None:
    project.begin()
    project.read(lambda: "5/10" in project.screen())
    screen = project.screen().rstrip("\n")
    assert "of the work" in screen.splitlines()[-2] and "Make the first" in screen.splitlines()[-1]
    project.read(lambda: "Running now" in project.page)  # at the latest with the next look
    assert "Make the first" in project.page
    project.go()
    assert project.finish() == 0
    assert "\x1b[?25l" not in project.raw.decode()  # the cursor is never hidden
    screen = project.screen()
    assert "of the work" not in screen and "5/10" not in screen
    assert screen.rstrip().splitlines()[-1].startswith("Elapsed time")
    assert screen.count("Make the first") == 1
    assert screen.count("the last words") == 1


def test_snakemakes_own_lines_are_all_there_once(project: Project) -> None:
    """Whatever is drawn and taken away in between."""
    project.go()
    code, said = project.run("--forceall", WITHOUT="1")
    assert code == 0, said
    (project.folder / "go").unlink()
    project.begin("--forceall")
    project.read(lambda: "5/10" in project.screen())
    time.sleep(1)
    project.go()
    assert project.finish() == 0
    where = f"vitrail: progress is shown below and on results/{STUDY}/status.html"
    shown = alike(project.screen())
    assert shown.count(where) == 1
    assert [line for line in shown if line != where] == alike(said)


def watch_study(project: Project, *arguments: str, **variables: str) -> None:
    """As `make watch` does, in a terminal."""
    project.COMMAND = (sys.executable, "-m", "vitrail.progress", "--results", "results")  # type: ignore[misc]
    project.begin(*arguments, **variables)


def test_a_watch_waits_for_the_run_and_shows_it_to_its_end(tmp_path: Path) -> None:
    project, seen = Project(tmp_path.resolve()), Project(tmp_path.resolve())
    try:
        watch_study(seen)
        seen.read(lambda: "Waiting for one to start" in seen.screen())
        project.begin()
        project.read(lambda: "5/10" in project.screen())
        seen.read(lambda: "5/10" in seen.screen())
        assert len(seen.screen().rstrip("\n").split("\n")) < 24
        assert "Make the first" in seen.screen() and "Waiting for" not in seen.screen()
        assert "Q1 Patch embedding" in seen.screen() and "arms ✓ finished" in seen.screen()
        project.go()
        assert project.finish() == 0
        assert seen.finish() == 0
        assert ", finished" in seen.screen() and seen.screen().count("Study default") == 1
    finally:
        project.end()
        seen.end()


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_a_watch_that_is_ended_leaves_a_usable_terminal(
    project: Project, number: signal.Signals
) -> None:
    watch_study(project)
    project.read(lambda: "Waiting for one to start" in project.screen())
    os.kill(project.processes[-1].pid, number)
    # In the middle of an import Python itself ends by SIGINT, though it was caught.
    assert project.finish() in {signal.SIGKILL: (-9,), signal.SIGINT: (0, -2)}[number]
    assert "Traceback" not in project.raw.decode()
    assert not re.search(r"\x1b\[\?|\x1b[78]", project.raw.decode())


def test_a_watch_without_a_cursor_to_move_shows_it_once(project: Project) -> None:
    watch_study(project, TERM="dumb")
    assert project.finish() == 0
    assert "Study default" in project.screen() and "Waiting" not in project.screen()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_stopped_run_says_so_last(project: Project, number: signal.Signals) -> None:
    project.begin()
    project.read(lambda: "5/10" in project.screen())
    os.kill(project.processes[-1].pid, number)
    assert project.finish() != 0
    last = project.screen().rstrip().splitlines()[-1]
    assert "the same command goes on" in project.screen(), project.screen()
    assert "of the work" not in project.screen()
    assert last.endswith("goes on") or "goes on" in last
    assert project.endings == [STOPPED]
    assert "Stopped." in project.page and "failed" not in project.page.partition("<body")[2]


def test_a_killed_run_leaves_a_usable_terminal_and_a_page_that_tells(project: Project) -> None:
    project.begin()
    project.read(lambda: "5/10" in project.screen())
    os.kill(project.processes[-1].pid, signal.SIGKILL)
    project.finish()
    assert not re.search(r"\x1b\[\?|\x1b[78]", project.raw.decode())  # no mode to be set back
    assert project.endings == []
    assert "At work." in project.page and "not been updated" in project.page
    words = [sys.executable, "-m", "vitrail.progress", "--results", "results"]
    done = subprocess.run(
        [*words, "--html"], cwd=project.folder, capture_output=True, text=True, check=True
    )
    assert "status.html is written" in done.stdout
    assert "Killed." in project.page
    done = subprocess.run(words, cwd=project.folder, capture_output=True, text=True, check=True)
    assert "killed; the same command goes on" in done.stdout
    assert "\x1b" not in done.stdout


def test_a_failed_job_is_named_with_its_log(project: Project) -> None:
    project.go("break")
    assert project.run()[0] != 0
    assert project.endings == [FAILED]
    assert "Make the first" in project.page and "one.log" in project.page
    assert "2 jobs cannot be started" in project.page


def test_snakemake_that_is_told_to_be_quiet_is(project: Project) -> None:
    project.go()
    project.begin("--quiet", "all")
    assert project.finish() == 0
    assert project.screen().strip() == "the last words"
    assert project.endings == [FINISHED]
    assert "3 of 3 jobs done" in re.sub("<.*?>", "", project.page)


def test_a_terminal_that_cannot_move_its_cursor_gets_no_lines(project: Project) -> None:
    project.go()
    project.begin(TERM="dumb")
    assert project.finish() == 0
    assert b"\x1b" not in project.raw and b"of the work" not in project.raw


@pytest.mark.parametrize("place", [f".snakemake/{NAME}", f"results/{STUDY}/status.html"])
def test_a_place_that_refuses_costs_one_line_and_not_the_study(
    project: Project, place: str
) -> None:
    (project.folder / place).mkdir(parents=True)  # nothing can be moved there
    project.go()
    code, said = project.run()
    assert code == 0, said
    assert len(re.findall("^vitrail: progress is not shown", said, re.MULTILINE)) == 1
    assert (project.folder / "three.txt").exists()


def test_a_dry_run_leaves_nothing(project: Project) -> None:
    code, said = project.run("-n")
    assert code == 0, said
    assert not (project.folder / "results").exists()
    assert not list((project.folder / ".snakemake").glob("*.jsonl"))


# --- the lines below


class Stream(io.StringIO):
    encoding = "utf-8"


def seen(stream: Stream) -> list[str]:
    terminal = Terminal()
    terminal.feed(stream.getvalue().replace("\n", "\r\n"))
    return terminal.lines


def test_lines_go_before_a_text_and_come_back_after_it() -> None:
    stream = Stream()
    below = Below(stream)
    below.write("first\n")
    below.show(["one", "two"])
    assert seen(stream) == ["first", "one", "two", ""]
    below.write("second")  # and its line end later, as a logging handler does
    assert seen(stream) == ["first", "second"]
    below.show(["three"])
    assert seen(stream) == ["first", "second"]
    below.write("\n")
    assert seen(stream) == ["first", "second", "three", ""]
    below.clear()
    below.write("last\n")
    assert seen(stream) == ["first", "second", "last", ""]


def test_a_terminal_that_became_narrower_is_cleared_of_the_broken_lines(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    stream = Stream()
    below = Below(stream)
    below.show(["x" * 60, "y" * 10])
    monkeypatch.setattr(below, "size", lambda: os.terminal_size((25, 24)))
    stream.seek(0)
    stream.truncate()
    below.clear()
    assert stream.getvalue() == "\r\x1b[4A\x1b[J"  # 60 columns are three rows of 25


def test_colours_have_no_width() -> None:
    stream = Stream()
    below = Below(stream)
    below.show(["\x1b[31m" + "x" * 70 + "\x1b[0m"])
    below.clear()
    assert stream.getvalue().endswith("\x1b[1A\x1b[J")


def test_once_told_to_end_nothing_is_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = Stream()
    below = Below(stream, quiet=watch.told)
    below.show(["one"])
    monkeypatch.setattr(watch, "_told", [1.0])
    below.write("terminating\n")
    below.show(["two"])
    assert seen(stream) == ["terminating", ""]


def test_signs_that_a_terminal_cannot_show_are_replaced() -> None:
    stream = Stream()
    stream.encoding = "ascii"
    below = Below(stream)
    below.show(["━━ 3 %"])
    assert seen(stream)[0] == "?? 3 %"


def test_notes_of_two_studies_do_not_meet() -> None:
    assert notes.place("smoke") != notes.place("default")
