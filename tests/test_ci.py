"""The workflow of the public host: its jobs, and that what they publish is what the study makes."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[1]
FILE = ROOT / ".github" / "workflows" / "ci.yml"
STUDIES = {"smoke-report": ("smoke", "make smoke"), "default-report": ("default", "make report")}


@pytest.fixture(scope="module")
def workflow() -> dict[str, Any]:
    # As text alone: YAML 1.1 takes the key `on` for a truth value.
    return yaml.load(FILE.read_text(encoding="utf-8"), Loader=yaml.BaseLoader)


def uploads(job: dict[str, Any]) -> list[dict[str, Any]]:
    return [step for step in job["steps"] if step.get("uses", "").startswith("actions/upload")]


def test_every_push_is_tested_and_gives_a_smoke_report(workflow: dict[str, Any]) -> None:
    assert workflow["on"]["push"]["branches"] == ["main"]
    assert "pull_request" in workflow["on"]
    for name in ("test", "smoke-report"):
        assert "if" not in workflow["jobs"][name]
    assert any(step.get("run") == "bash .ci/run" for step in workflow["jobs"]["test"]["steps"])


def test_the_default_study_is_made_each_month(workflow: dict[str, Any]) -> None:
    (when,) = workflow["on"]["schedule"]
    minute, hour, day, month, weekday = when["cron"].split()
    assert day.isdigit() and minute.isdigit() and hour.isdigit() and month == weekday == "*"
    job = workflow["jobs"]["default-report"]
    assert "schedule" in job["if"] and "push" not in job["if"]
    assert int(job["timeout-minutes"]) > 2 * int(
        workflow["jobs"]["smoke-report"]["timeout-minutes"]
    )


@pytest.mark.parametrize("name", STUDIES)
def test_what_is_published_is_made(workflow: dict[str, Any], name: str) -> None:
    """Snakemake knows a rule for each path, or for a file of each pattern."""
    study, command = STUDIES[name]
    job = workflow["jobs"][name]
    assert any(step.get("run") == command for step in job["steps"])
    published, logs = uploads(job)
    assert published["with"]["if-no-files-found"] == "error" and "if" not in published
    assert logs["if"] == "failure()"
    paths = published["with"]["path"].split()
    assert f"results/{study}/report" in paths
    files = [
        {"report": "report/report.html", "q*/*.csv": "q6_vit/table.csv"}.get(rest, rest)
        for rest in (path.removeprefix(f"results/{study}/") for path in paths)
    ]
    wanted = [f"results/{study}/{file}" for file in [*files, "report/report.pdf"]]
    config = [] if study == "default" else ["--configfile", f"config/{study}.yaml"]
    done = subprocess.run(
        [sys.executable, "-m", "snakemake", "-n", "-q", "rules", "--nolock", *wanted, *config],
        cwd=ROOT, env=os.environ, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr


def test_actions_and_commands_are_those_that_exist(workflow: dict[str, Any]) -> None:
    """Only the host's own actions, each at a version; only targets of the Makefile."""
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for job in workflow["jobs"].values():
        assert 0 < int(job["timeout-minutes"]) <= 360  # the host's own limit
        for step in job["steps"]:
            assert ("uses" in step) != ("run" in step)
            if "uses" in step:
                assert re.fullmatch(r"actions/[\w-]+@v\d+", step["uses"]), step
            for target in re.findall(r"\bmake (\w+)", step.get("run", "")):
                assert re.search(rf"^{target}:", makefile, re.MULTILINE), target
    names = [step["with"]["name"] for job in workflow["jobs"].values() for step in uploads(job)]
    assert len(set(names)) == len(names), "the host keeps one artifact of a name"


def test_its_python_is_one_that_the_project_allows(workflow: dict[str, Any]) -> None:
    from packaging.specifiers import SpecifierSet

    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    (bounds,) = re.findall(r'^requires-python = "(.*)"', text, re.MULTILINE)
    for job in workflow["jobs"].values():
        (setup,) = [step for step in job["steps"] if "setup-python" in step.get("uses", "")]
        assert SpecifierSet(bounds).contains(setup["with"]["python-version"])
