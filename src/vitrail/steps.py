"""How the commands that the workflow starts find this checkout and its Python."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from vitrail import cost, run_lock, watch

# Options with which Snakemake answers a question and runs no job.
ANSWERS = (
    "-l", "--list", "--list-rules", "--list-target-rules", "--lt", "--lint", "--dag",
    "--rulegraph", "--filegraph", "--d3dag", "-S", "--summary", "-D", "--detailed-summary",
    "--report", "--list-changes", "--list-input-changes", "--list-params-changes",
    "--list-untracked", "--print-compilation", "--list-conda-envs",
)  # fmt: skip


def set_paths(root: Path) -> None:
    """Let `python -m vitrail...` mean this checkout, run by the Python that runs Snakemake.

    Then nothing needs to be installed or activated beyond the dependencies. The
    processes that Snakemake starts inherit both variables, a third by which they tell
    what they cost, and one for Apple's GPUs.
    """
    for name, first in (("PYTHONPATH", root / "src"), ("PATH", Path(sys.executable).parent)):
        rest = os.environ.get(name)
        os.environ[name] = os.pathsep.join([str(first), *filter(None, [rest])])
    os.environ[cost.ASKED_FOR] = "1"
    # What Apple's GPUs have no kernel for is computed on the CPU; torch reads this when it starts.
    os.environ.setdefault("PYTORCH_ENABLE_MPS_FALLBACK", "1")


def begin_run(main: bool, dry: bool) -> None:
    """Hold the folder for this Snakemake, and let its steps know who started them.

    A step that asks Snakemake something (`vitrail.rule_graph`) is part of a run that holds it.

    Args:
        main: a user started this Snakemake; otherwise Snakemake did, for a job.
        dry: it will only say what it would do.

    Raises:
        VitrailError: another run is at work here, or steps of a killed run do not end.
    """
    words = _command()
    dry = dry or words is None or any(word.partition("=")[0] in ANSWERS for word in words)
    if not (main and watch.started_by_snakemake()):
        run_lock.begin(main, dry)
    os.environ[watch.STARTED_BY] = watch.this_process()


def listen(main: bool) -> None:
    """From the first line of the workflow on, end when told and when `make` is gone."""
    if main and _command() is not None:
        watch.end_when_told()
        watch.end_with_make()


def _command() -> list[str] | None:
    """The words after `snakemake`; None in a program that has imported Snakemake."""
    program = Path(sys.argv[0])
    if program.stem == "snakemake" or program.parts[-2:] == ("snakemake", "__main__.py"):
        return sys.argv[1:]
    return None
