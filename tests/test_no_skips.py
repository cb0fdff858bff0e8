"""In CI a skipped test is a failed one, except where nothing could be done about it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

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


def run(folder: Path, code: str, reason: str, strict: str) -> tuple[int, str]:
    (folder / "test_a.py").write_text(code.format(reason=reason))
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no_skips", "-p", "no:cacheprovider"],
        cwd=folder, capture_output=True, text=True, check=False, timeout=120,
        env={**os.environ, "PYTHONPATH": str(HERE), "VITRAIL_NO_SKIPS": strict},
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


def test_ci_asks_for_it() -> None:
    script = (HERE.parent / ".ci" / "run").read_text(encoding="utf-8")
    assert "export VITRAIL_NO_SKIPS=1" in script
