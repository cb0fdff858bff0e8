"""How the commands that the workflow starts find this checkout and its Python."""

from __future__ import annotations

import os
import sys
from pathlib import Path


def set_paths(root: Path) -> None:
    """Let `python -m vitrail...` mean this checkout, run by the Python that runs Snakemake.

    Then nothing needs to be installed or activated beyond the dependencies. The
    processes that Snakemake starts inherit both variables.
    """
    for name, first in (("PYTHONPATH", root / "src"), ("PATH", Path(sys.executable).parent)):
        rest = os.environ.get(name)
        os.environ[name] = os.pathsep.join([str(first), *filter(None, [rest])])
