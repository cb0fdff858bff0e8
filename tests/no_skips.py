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
            "the disk of the tests is nearly full",
            "limits of data are Linux's",
        ]
    )
)
# What some machines cannot give, and strong tests need. Whoever runs the tests there says so, in
# VITRAIL_MAY_SKIP, as in VITRAIL_MAY_SKIP="network,mounts".
ON_REQUEST = {
    "network": "gives no network namespace|a network of its own cannot be made here",
    "mounts": "file systems cannot be mounted here|unshare cannot be run",
    "npm": "npm is not installed",
}


def verdict(reason: str) -> str:
    """What is said instead of a skip; "" if it may be."""
    asked = re.split(r"[\s,]+", os.environ.get("VITRAIL_MAY_SKIP", "").strip())
    if unknown := sorted(set(asked) - {"", *ON_REQUEST}):
        return f"VITRAIL_MAY_SKIP names {', '.join(unknown)}; it may name {', '.join(ON_REQUEST)}"
    named = next((name for name, about in ON_REQUEST.items() if re.search(about, reason)), "")
    if not os.environ.get("VITRAIL_NO_SKIPS") or ALLOWED.search(reason):
        return ""
    if named and named in asked:
        return ""
    hint = f"; set VITRAIL_MAY_SKIP={named} where it cannot be had" if named else ""
    return f"skipped, where nothing is to be skipped (tests/no_skips.py): {reason}{hint}"


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
