"""What `make audit` says; pip-audit's answers are made here, as its documentation has them."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from vitrail import audit, outside
from vitrail.errors import VitrailError

SAFE = {"name": "a", "version": "1", "vulns": []}
HIT = {"name": "b", "version": "2", "vulns": [{"id": "PYSEC-1", "fix_versions": ["3"]}]}
SKIPPED = {"name": "c", "version": "4", "skip_reason": "Dependency not found on PyPI"}


def program(folder: Path, says: str, errors: str = "", code: int = 0) -> str:
    """A pip-audit that gives this answer."""
    file = folder / "pip-audit"
    body = f"print({says!r}); print({errors!r}, file=sys.stderr); sys.exit({code})"
    file.write_text(f"#!{sys.executable}\nimport sys\n{body}\n")
    file.chmod(0o755)
    return str(file)


def verdict(folder: Path, *found: dict[str, Any], code: int = 0) -> str:
    says = json.dumps({"dependencies": found, "fixes": []})
    return audit.tell(audit.ask(program(folder, says, code=code), Path("x"), "pypi"), "pypi")


def test_all_known_and_safe(tmp_path: Path) -> None:
    assert verdict(tmp_path, SAFE) == "audit: no known vulnerability in the 1 packages of the lock"


def test_a_known_vulnerability_is_named_with_its_remedy(tmp_path: Path) -> None:
    with pytest.raises(VitrailError, match=r"1 known .*b 2: PYSEC-1 \(mended in 3\).*UPGRADE=1"):
        verdict(tmp_path, SAFE, HIT, SKIPPED, code=1)


def test_an_index_that_knows_nothing_is_no_all_clear(tmp_path: Path) -> None:
    """pip-audit itself ends with 0 there."""
    with pytest.raises(VitrailError, match=r"1 of 2 packages were not audited.*SERVICE=osv"):
        verdict(tmp_path, SAFE, SKIPPED)
    with pytest.raises(VitrailError, match="0 of 0"):
        verdict(tmp_path)


def test_a_service_that_is_not_there_is_told_in_a_sentence(tmp_path: Path) -> None:
    broken = program(tmp_path, "", "Traceback\n  File x\nConnectionError: no route", 1)
    with pytest.raises(VitrailError, match=r"nothing was audited: .*ConnectionError: no route"):
        audit.ask(broken, Path("x"), "osv")
    with pytest.raises(VitrailError, match=r"nothing was audited: .* cannot be run"):
        audit.ask(str(tmp_path / "none"), Path("x"), "pypi")


def test_offline_asks_nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(outside.OFFLINE, "1")
    with pytest.raises(VitrailError, match="VITRAIL_OFFLINE is set"):
        audit.ask(program(tmp_path, "{}"), Path("x"), "pypi")
