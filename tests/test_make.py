"""The recipes of the Makefile that need no installation: what they say when things fail."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
pytestmark = pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed")


def make(venv: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """Run a target as if `venv` were an installed environment."""
    (venv / "bin").mkdir(parents=True, exist_ok=True)
    command = ["make", "-o", f"{venv}/.installed", f"VENV={venv}", *words]
    return run(command, ROOT)


def run(command: list[str], folder: Path) -> subprocess.CompletedProcess[str]:
    """As if typed into a shell, though the tests themselves may have been started by `make`."""
    inherited = ("MAKEFLAGS", "MAKELEVEL", "MFLAGS", "MAKEOVERRIDES")
    environment = {key: value for key, value in os.environ.items() if key not in inherited}
    return subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, check=False
    )


def test_quarto_that_cannot_be_downloaded_is_told_in_a_sentence(tmp_path: Path) -> None:
    python = tmp_path / "bin" / "python"
    python.parent.mkdir()
    python.write_text("#!/bin/sh\necho no network >&2\nexit 1\n")
    python.chmod(0o755)
    done = make(tmp_path, "quarto")
    assert done.returncode != 0
    assert "vitrail: Quarto could not be downloaded" in done.stdout
    assert "built-in route" in done.stdout
    assert "no network" in (tmp_path / "quarto.log").read_text()


@pytest.mark.parametrize("offline", ["", "1"])
def test_peers_that_cannot_be_installed_are_told_in_a_sentence(
    tmp_path: Path, offline: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The benchmark goes on without them; offline, no package index is asked."""
    python = tmp_path / "bin" / "python"
    python.parent.mkdir()
    python.write_text(f"#!/bin/sh\necho asked >> {tmp_path}/asked\nexit 1\n")
    python.chmod(0o755)
    monkeypatch.setenv("VITRAIL_OFFLINE", offline)
    done = make(tmp_path, "peers")
    assert done.returncode == 0
    assert done.stdout.startswith("vitrail: the packages of requirements-bench.lock could not be")
    assert len(done.stdout.splitlines()) == 1
    assert (tmp_path / "asked").exists() == (offline == "")


def test_a_config_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    done = make(tmp_path, "report", "CONFIG=config/smok.yaml")
    assert done.returncode != 0
    assert "vitrail: there is no config file config/smok.yaml" in done.stdout
    assert "Traceback" not in done.stdout + done.stderr


def test_help_lists_the_targets(tmp_path: Path) -> None:
    said = make(tmp_path, "help").stdout
    for target in ("report", "test", "ui", "quarto"):
        assert f"make {target}" in said


def test_clean_follows_a_link_to_the_results_and_none_in_them(tmp_path: Path) -> None:
    """Studies go; what other commands made stays, and so does all that is linked."""
    there, outside = tmp_path / "disk", tmp_path / "outside"
    for name in ("default/runs", "smoke", "data", "weights", "mlflow-artifacts", "one_minute"):
        (there / name).mkdir(parents=True)
    for name in ("mlflow.db", "benchmarks.csv"):
        (there / name).touch()
    outside.mkdir()
    (outside / "kept").touch()
    (there / "default" / "link").symlink_to(outside)
    (there / "other").symlink_to(outside)
    project = tmp_path / "project"
    project.mkdir()
    shutil.copy(ROOT / "Makefile", project)
    (project / "results").symlink_to(there)
    done = run(["make", "clean"], project)
    assert done.returncode == 0, done.stderr
    assert sorted(path.name for path in there.iterdir()) == [
        "benchmarks.csv", "data", "mlflow-artifacts", "mlflow.db", "one_minute", "other", "weights",
    ]  # fmt: skip
    assert (outside / "kept").exists() and (project / "results").is_symlink()


def test_ci_runs_make_test() -> None:
    script = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    assert script.rstrip().splitlines()[-1] == "make test"
    assert "set -euo pipefail" in script


@pytest.mark.parametrize(
    "words",
    ["x; touch broken", "$(shell touch broken)", "$$(touch broken)", "`touch broken`",
     "x' && touch broken '", 'x" && touch broken "', "x | touch broken", "--x > broken"],
)  # fmt: skip
def test_a_variable_of_make_is_no_code(
    tmp_path: Path, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither make nor the shell runs what stands in CONFIG, PORT or AGAINST."""
    python = tmp_path / "venv" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text('#!/bin/sh\nfor word in "$@"; do printf "%s\\n" "$word"; done\n')
    python.chmod(0o755)
    # A Makefile that is wrong must not start the study from a test.
    shutil.copy2(python, python.with_name("snakemake"))
    monkeypatch.setenv("PATH", f"{python.parent}{os.pathsep}{os.environ['PATH']}")
    said = {
        "report": make(tmp_path / "venv", "report", f"CONFIG={words}"),
        "ui": make(tmp_path / "venv", "ui", f"PORT={words}"),
        "readme": make(tmp_path / "venv", "readme", f"CONFIG={words}"),
        "hashes": make(tmp_path / "venv", "hashes", f"AGAINST={words}"),
    }
    assert said["report"].returncode != 0
    assert "vitrail: there is no config file" in said["report"].stdout
    assert f"--port={words}" in said["ui"].stdout.splitlines()
    assert said["hashes"].stdout.splitlines()[-1] == words
    assert not [path for path in (ROOT / "broken", tmp_path / "broken") if path.exists()]
