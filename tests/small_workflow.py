"""A workflow of one slow step, as the study starts and ends its steps."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil

ROOT = Path(__file__).parents[1]

# As in workflow/rules/common.smk and the Snakefile.
SNAKEFILE = f"""
import sys, time
from pathlib import Path
sys.path.insert(0, {str(ROOT / "src")!r})
from vitrail.errors import VitrailError
from vitrail.slurm import take_note
from vitrail.steps import begin_run, listen, set_paths
from vitrail.watch import end_steps_when_told

listen(workflow.is_main_process)
if config.get("slow"):
    Path("parsing").touch()
    time.sleep(60)
set_paths(Path({str(ROOT)!r}))
try:
    begin_run(workflow.is_main_process, workflow.output_settings.dryrun)
except VitrailError as error:
    sys.exit(f"vitrail: {{error}}")

onstart:
    end_steps_when_told(on_slurm=take_note(workflow.executor_plugin.name))

rule all:
    input: "one.txt", "two.txt"

rule step:
    output: "{{name}}.txt"
    log: "{{name}}.log"
    shell: "python step.py {{output}} > {{log}} 2>&1"
"""

# It writes for ever, in itself and in a process that it has started, until it is let go.
STEP = """
import subprocess, sys, time
from pathlib import Path
from vitrail.errors import run_command

def main():
    out = Path(sys.argv[1])
    other = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    beat = out.with_suffix(".beat")
    while not Path("go").exists():
        beat.write_text(str(time.monotonic()))
        time.sleep(0.02)
    other.kill()
    out.write_text("done")

run_command(main)
"""


class Small:
    """The small workflow in a folder of its own."""

    COMMAND = (sys.executable, "-m", "snakemake", "--cores", "2", "--rerun-incomplete")

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.started: list[subprocess.Popen[str]] = []
        (folder / "Snakefile").write_text(SNAKEFILE)
        (folder / "step.py").write_text(STEP)

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        return self.begin([*self.COMMAND, *arguments])

    def begin(self, command: list[str]) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            command, cwd=self.folder, text=True, start_new_session=True,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip
        self.started.append(process)
        return process

    def run(self, *arguments: str) -> tuple[int, str]:
        process = self.start(*arguments)
        said, _ = process.communicate(timeout=60)
        return process.returncode, said

    def wait_for(self, *names: str) -> None:
        """Until both steps are at work."""
        end = time.monotonic() + 60
        while not all((self.folder / name).exists() for name in names):
            assert time.monotonic() < end, f"{names} are not there"
            time.sleep(0.05)

    def steps(self) -> list[psutil.Process]:
        """The processes at work here, without Snakemake itself."""
        found = []
        for process in psutil.process_iter():
            try:
                if process.cwd() == str(self.folder) and "snakemake" not in process.cmdline():
                    found.append(process)
            except psutil.Error:
                continue
        return found

    def let_go(self) -> None:
        (self.folder / "go").touch()

    def end(self) -> None:
        self.let_go()
        for process in self.started:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()


def within(seconds: float, true: Callable[[], bool]) -> bool:
    end = time.monotonic() + seconds
    while not true():
        if time.monotonic() > end:
            return False
        time.sleep(0.05)
    return True


def gone(process: psutil.Process) -> bool:
    """Ended; perhaps nobody has taken note of it yet, as in a container without init."""
    try:
        return process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True
