"""In CI a skipped test is a failed one, except where nothing could be done about it."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import no_skips

HERE = Path(__file__).parent
TESTS = """
import pytest

def test_one():
    pytest.skip({reason!r})

@pytest.mark.skipif(True, reason={reason!r})
def test_two():
    pass

@pytest.mark.xfail(reason={reason!r})
def test_three():
    assert False
"""
MODULE = "import pytest\npytest.importorskip('no_such_module', reason={reason!r})\n"


def run(folder: Path, code: str, reason: str, strict: str, may: str = "") -> tuple[int, str]:
    (folder / "test_a.py").write_text(code.format(reason=reason))
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no_skips", "-p", "no:cacheprovider"],
        cwd=folder, capture_output=True, text=True, check=False, timeout=120,
        env={**os.environ, "PYTHONPATH": str(HERE), "VITRAIL_NO_SKIPS": strict,
             "VITRAIL_MAY_SKIP": may},
    )  # fmt: skip
    return done.returncode, done.stdout


@pytest.mark.parametrize(
    ("code", "reason", "strict", "words"),
    [
        (TESTS, "poppler is not installed", "1", "1 failed, 1 xfailed, 1 error"),
        (TESTS, "poppler is not installed", "", "2 skipped, 1 xfailed"),
        (TESTS, "needs a CUDA device", "1", "2 skipped, 1 xfailed"),
        (MODULE, "MLflow is not installed", "1", "1 error"),
        (MODULE, "MLflow is not installed", "", "1 skipped"),
    ],
)
def test_skips(tmp_path: Path, code: str, reason: str, strict: str, words: str) -> None:
    status, said = run(tmp_path, code, reason, strict)
    assert words in said, said
    bad = "error" in words
    assert (status in (1, 2)) == bad  # 5: no test was run
    assert (f"where nothing is to be skipped (tests/no_skips.py): {reason}" in said) == bad


MACHINES = {
    "network": "only Python's connections were watched: this machine gives no network namespace",
    "mounts": "file systems cannot be mounted here: unshare failed",
    "npm": "npm is not installed",
}


@pytest.mark.parametrize("name", MACHINES)
def test_what_a_machine_cannot_give_is_skipped_only_on_request(
    monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """Else "0 connections" and "a full disk" would be promised with their strong test left out."""
    monkeypatch.setenv("VITRAIL_NO_SKIPS", "1")
    others = ",".join(other for other in MACHINES if other != name)
    for may in (None, "", others):
        if may is None:
            monkeypatch.delenv("VITRAIL_MAY_SKIP", raising=False)
        else:
            monkeypatch.setenv("VITRAIL_MAY_SKIP", may)
        assert no_skips.verdict(MACHINES[name]).endswith(
            f"; set VITRAIL_MAY_SKIP={name} where it cannot be had"
        )
    for may in (name, f"{others}, {name}", f"{name} {others}"):
        monkeypatch.setenv("VITRAIL_MAY_SKIP", may)
        assert no_skips.verdict(MACHINES[name]) == ""
    assert no_skips.verdict("poppler is not installed")
    monkeypatch.setenv("VITRAIL_MAY_SKIP", f"{name},nmp")
    assert "VITRAIL_MAY_SKIP names nmp; it may name" in no_skips.verdict(MACHINES[name])


def test_the_request_holds_for_the_tests(tmp_path: Path) -> None:
    assert "1 failed, 1 xfailed, 1 error" in run(tmp_path, TESTS, MACHINES["npm"], "1")[1]
    assert "2 skipped, 1 xfailed" in run(tmp_path, TESTS, MACHINES["npm"], "1", "npm")[1]


def test_ci_asks_for_it() -> None:
    script = (HERE.parent / ".ci" / "run").read_text(encoding="utf-8")
    assert "export VITRAIL_NO_SKIPS=1" in script
    workflow = (HERE.parent / ".github" / "workflows" / "ci.yml").read_text(encoding="utf-8")
    assert not re.search(r"^[^#]*VITRAIL_MAY_SKIP", script + workflow, re.MULTILINE)
