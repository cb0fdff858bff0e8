"""Telemetry is off however a step is started, and one variable closes the network."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from importlib import util
from pathlib import Path

import pytest

from vitrail import outside, web
from vitrail.errors import VitrailError

ROOT = Path(__file__).parents[1]
# Tools of the steps that could report on their use; torch, numpy and the like open no socket.
TOOLS = ("mlflow", "huggingface_hub", "timm", "peft", "accelerate", "snakemake", "matplotlib")
_SWITCH = re.compile(
    r"[\"']([A-Z_]*(?:TELEMETRY|DO_NOT_TRACK|UPDATE_CHECK|UPDATE_NOTIFIER|USAGE_STATS)[A-Z_]*)[\"']"
)
# Names in their sources that switch nothing off, or the same as a name that is set.
OTHERS = {
    "DISABLE_TELEMETRY": "another name of HF_HUB_DISABLE_TELEMETRY",
    "_MLFLOW_TELEMETRY_LOGGING": "what MLflow says about its own telemetry",
    "_MLFLOW_TELEMETRY_PRE_WARM_DATABRICKS_SDK": "Databricks alone",
    "_MLFLOW_TELEMETRY_SESSION_ID": "part of what would be sent",
    "_MLFLOW_TESTING_TELEMETRY": "MLflow's own tests",
}


def fresh(code: str, **variables: str) -> str:
    """What a new Python says that has no variable of a CI, a test or a user."""
    kept = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=120,
        env={**kept, "PYTHONPATH": str(ROOT / "src"), **variables},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_mlflow_and_the_hub_are_quiet_because_the_package_says_so() -> None:
    pytest.importorskip("mlflow", reason="MLflow is not installed")
    code = (
        "import mlflow.telemetry.utils as told; from huggingface_hub import constants;"
        "print(told.is_telemetry_disabled(), constants.HF_HUB_DISABLE_TELEMETRY,"
        " constants.HF_HUB_DISABLE_UPDATE_CHECK)"
    )
    assert fresh(f"import vitrail; {code}") == "True True True"
    assert fresh(code) == "False False False"  # without us they would talk


def test_offline_the_hub_is_closed() -> None:
    code = "from huggingface_hub import constants; print(constants.HF_HUB_OFFLINE)"
    assert fresh(f"import vitrail; {code}", VITRAIL_OFFLINE="1") == "True"
    assert fresh(f"import vitrail; {code}") == "False"


def test_no_switch_is_lost() -> None:
    """Also of programs that are not here to be asked, as Quarto's Deno: by their manuals' names."""
    names = "DO_NOT_TRACK MLFLOW_DISABLE_TELEMETRY HF_HUB_DISABLE_TELEMETRY "
    names += "HF_HUB_DISABLE_UPDATE_CHECK NO_UPDATE_NOTIFIER DENO_NO_UPDATE_CHECK "
    names += "PIP_DISABLE_PIP_VERSION_CHECK"
    assert {name: outside.QUIET.get(name) for name in names.split()} == {
        name: "true" if name in ("DO_NOT_TRACK", "MLFLOW_DISABLE_TELEMETRY") else "1"
        for name in names.split()
    }
    assert outside.CLOSED.items() >= {"HF_HUB_OFFLINE": "1", "npm_config_offline": "true"}.items()


def test_a_user_may_switch_it_on_again() -> None:
    said = fresh("import os, vitrail; print(os.environ['DO_NOT_TRACK'])", DO_NOT_TRACK="false")
    assert said == "false"


@pytest.mark.parametrize("tool", TOOLS)
def test_no_tool_has_a_switch_that_is_not_known(tool: str) -> None:
    """After an update of the lock: a new way to talk has a new name."""
    spec = util.find_spec(tool)
    if spec is None or spec.origin is None:
        pytest.skip(f"{tool} is not installed")
    found = set()
    for file in Path(spec.origin).parent.rglob("*.py"):
        if "TELEMETRY" in (text := file.read_text(encoding="utf-8", errors="replace")) or (
            "_TRACK" in text or "UPDATE_" in text or "USAGE_STATS" in text
        ):
            found |= set(_SWITCH.findall(text))
    assert found - set(outside.QUIET) - set(OTHERS) == set()


def test_the_steps_of_snakemake_get_the_variables(tmp_path: Path) -> None:
    """Nothing but Snakemake stands between the workflow's first lines and a step."""
    names = [*outside.QUIET, *outside.CLOSED]
    (tmp_path / "Snakefile").write_text(
        f"import sys; sys.path.insert(0, {str(ROOT / 'src')!r})\nimport vitrail\n"
        'rule all:\n    output: "told.json"\n    shell: '
        f"\"{sys.executable} -c 'import json, os; print(json.dumps(dict(os.environ)))'"
        ' > {output}"\n'
    )
    kept = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    done = subprocess.run(
        [sys.executable, "-m", "snakemake", "--cores", "1", "-q"], cwd=tmp_path, check=False,
        env={**kept, outside.OFFLINE: "1"}, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    told = json.loads((tmp_path / "told.json").read_text())
    assert {name: told.get(name) for name in names} == {**outside.QUIET, **outside.CLOSED}
    text = (ROOT / "workflow" / "rules" / "common.smk").read_text(encoding="utf-8")
    assert "from vitrail import" in text


def test_the_variables_stand_in_one_place() -> None:
    places = [
        path.relative_to(ROOT).as_posix()
        for folder in ("src", "workflow", ".github", ".ci")
        for path in [*(ROOT / folder).rglob("*"), ROOT / "Makefile", ROOT / "Snakefile"]
        if path.is_file()
        and path.suffix in ("", ".py", ".smk", ".yml")
        and re.search(r"DISABLE_TELEMETRY|DO_NOT_TRACK", path.read_text(encoding="utf-8"))
    ]
    assert places == ["src/vitrail/outside.py"]


def test_offline_asks_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("a connection was tried")

    monkeypatch.setattr("socket.socket.connect", refuse)
    monkeypatch.setattr("socket.getaddrinfo", refuse)
    monkeypatch.setenv(outside.OFFLINE, "1")
    assert web.reachable(["https://example.org/"]) == {
        "https://example.org/": "VITRAIL_OFFLINE is set"
    }
    with pytest.raises(VitrailError, match=r"example\.org/ is not asked: VITRAIL_OFFLINE is set"):
        web.read("https://example.org/", 10)


def test_missing_data_offline_is_told_without_a_question(tmp_path: Path) -> None:
    """The mirrors and npm are passed over, and the sentence says what to do."""
    if shutil.which("npm") is None:
        pytest.skip("npm is not installed")
    done = subprocess.run(
        [sys.executable, "-m", "vitrail.download", "--out", str(tmp_path / "data")],
        env={**os.environ, outside.OFFLINE: "1", "npm_config_cache": str(tmp_path / "npm")},
        capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    assert done.returncode == 1
    assert "cannot be reached: VITRAIL_OFFLINE is set" in done.stdout
    assert "ENOTCACHED" in done.stdout
    assert done.stderr.startswith("vitrail: no source of MNIST gave")
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(("value", "closed"), [("", False), ("0", False), ("1", True)])
def test_what_counts_as_offline(monkeypatch: pytest.MonkeyPatch, value: str, closed: bool) -> None:
    monkeypatch.setenv(outside.OFFLINE, value)
    assert outside.offline() is closed
