"""How the commands that the workflow starts find this checkout and its Python."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from vitrail import cost


def set_paths(root: Path) -> None:
    """Let `python -m vitrail...` mean this checkout, run by the Python that runs Snakemake.

    Then nothing needs to be installed or activated beyond the dependencies. The
    processes that Snakemake starts inherit both variables, and a third by which they tell
    what they cost.
    """
    for name, first in (("PYTHONPATH", root / "src"), ("PATH", Path(sys.executable).parent)):
        rest = os.environ.get(name)
        os.environ[name] = os.pathsep.join([str(first), *filter(None, [rest])])
    os.environ[cost.ASKED_FOR] = "1"
