"""With VITRAIL_NO_SKIPS set, as in CI, a test that is skipped fails, unless it could not run there.

A tool that the CI no longer installs would otherwise take its tests with it, unseen.
"""

from __future__ import annotations

import os
import re
from collections.abc import Generator
from typing import Any

import pytest

# Reasons that .ci/run can do nothing about.
ALLOWED = re.compile(
    "|".join(
        [
            "[Qq]uarto",  # cannot be installed from a package index
            "CUDA device",
            "GNU C library",
            "two processes need two cores",
            "results/data",  # unit tests come before the study, which obtains MNIST
            "not a git checkout",
            "not run from .venv",
            # Of the machine, not of a tool:
            "gives no network namespace",
            "file systems cannot be mounted here",
            "the disk of the tests is nearly full",
            "limits of data are Linux's",
            "npm is not installed",  # the third way to MNIST, and hundreds of packages of Debian
        ]
    )
)


def verdict(reason: str) -> str:
    """What is said instead of a skip; "" if it may be."""
    if not os.environ.get("VITRAIL_NO_SKIPS") or ALLOWED.search(reason):
        return ""
    return f"skipped, where nothing is to be skipped (tests/no_skips.py): {reason}"


def _changed(report: Any) -> Any:
    if report.outcome == "skipped" and not hasattr(report, "wasxfail"):
        where = report.longrepr
        reason = str(where[2] if isinstance(where, tuple) else where)
        told = verdict(reason.removeprefix("Skipped: "))
        if told:
            report.outcome, report.longrepr = "failed", told
    return report


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, Any, Any]:
    return _changed((yield))


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report() -> Generator[None, Any, Any]:
    return _changed((yield))
