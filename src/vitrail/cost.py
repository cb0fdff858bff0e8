"""What each step costs: core-seconds, told at the end of its log and gathered from there."""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path

ASKED_FOR = "VITRAIL_COST"  # variable with which the workflow asks its steps to tell
_TOLD = re.compile(r"^vitrail: ([\d.]+) core-seconds$", re.MULTILINE)


def tell() -> None:
    """Print the core-seconds of this process and of those that it waited for, if asked to.

    Snakemake's `benchmark` would not do: it looks at a process every half minute, and so misses
    most of a short one.
    """
    if not os.environ.get(ASKED_FOR):
        return
    used = os.times()
    seconds = used.user + used.system + used.children_user + used.children_system
    print(f"vitrail: {seconds:.2f} core-seconds", file=sys.stderr, flush=True)


def told(logs: list[Path]) -> list[float]:
    """The core-seconds that each of these logs ends with; a log without them is left out.

    A step of two commands has told twice in its log, which counts together.
    """
    found = [_TOLD.findall(log.read_text(encoding="utf-8", errors="replace")) for log in logs]
    return [sum(map(float, seconds)) for seconds in found if seconds]
