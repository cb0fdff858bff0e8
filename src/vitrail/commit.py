"""The commit that the code of this project is at.

`vitrail.device` notes the same with every run, but imports torch.
"""

from __future__ import annotations

import subprocess
from pathlib import Path


def commit(root: Path) -> str:
    """The commit of a folder's code, with "-dirty" when tracked files differ from it."""
    command = ["git", "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"]
    try:
        answer = subprocess.run(
            command, cwd=root, capture_output=True, text=True, timeout=10, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return "unknown"
    return answer.stdout.strip()


def commit_words(named: str) -> str:
    """A commit for print, and whether the code was that of the commit."""
    commit, _, dirty = named.partition("-")
    return f"`{commit}`, {'with changes that it does not have' if dirty else 'clean'}"


def since(now: str, made: str) -> str:
    """Whether the report is rendered by the code that made the runs, in a sentence.

    Args:
        now: the commit of the report.
        made: those of the runs, separated by commas.
    """
    if now == made and "-dirty" not in now:
        return "The runs were made by the same code."
    if now == made:
        return "The runs were made at the same commit, with changes then and now."
    return f"The code has changed since: the runs were made at {made}."
