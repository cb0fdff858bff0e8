"""The rules themselves: the lint, their inputs, what parsing them costs."""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from stub_project import (
    Project,
)
from vitrail import code_files
from vitrail.config import STEMS

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def fresh(
    copy_project: Callable[[Path], Path], tmp_path_factory: pytest.TempPathFactory
) -> Project:
    """The project as it is cloned, with nothing computed."""
    return Project(copy_project(tmp_path_factory.mktemp("fresh") / "vitrail"))


def test_lint_finds_nothing(fresh: Project) -> None:
    done = fresh.snakemake("--lint")
    assert done.returncode == 0, done.stdout
    assert "Lints for" not in done.stdout


def test_figures_are_in_the_report_of_snakemake_by_question(fresh: Project) -> None:
    """`snakemake --report`: each has its question for category, and its name for label."""
    script = """
import json
from pathlib import Path
from snakemake.api import OutputSettings, ResourceSettings, SnakemakeApi
from snakemake.io import get_flag_value, is_flagged
from snakemake.settings.types import ConfigSettings

found = {}
with SnakemakeApi(OutputSettings()) as api:
    made = api.workflow(
        ResourceSettings(cores=1), ConfigSettings(configfiles=[Path("config/smoke.yaml")]),
        snakefile=Path("Snakefile"),
    )
    for rule in made._workflow.rules:
        for output in rule.output:
            if is_flagged(output, "report"):
                about = get_flag_value(output, "report")
                caption = (Path("workflow/rules") / about.caption).resolve().name
                patterns = list(about.patterns)
                found[str(output)] = [str(about.category), about.labels, patterns, caption]
print("found:" + json.dumps(found))
"""
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=fresh.folder, capture_output=True, text=True,
        timeout=300,
    )  # fmt: skip
    assert "found:" in done.stdout, done.stdout + done.stderr
    found = json.loads(done.stdout.partition("found:")[2])
    shown = [{"figure": "{figure}"}, ["{figure}.svg"], "figure.rst"]
    for stem in STEMS:
        number, _, topic = stem.partition("_")
        category = f"{number.upper()} {topic.replace('_', ' ')}"
        assert found.pop(f"results/smoke/{stem}/figures") == [category, *shown]
    assert {category for category, *_ in found.values()} == {"Study"}
    assert all(labels for _, labels, *_ in found.values())
    for _, _, _, caption in found.values():
        assert (ROOT / "workflow" / "report" / caption).is_file()


def test_parsing_imports_nothing_heavy(fresh: Project) -> None:
    """Half a second of torch at every `snakemake -n` would be felt."""
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "snakemake", "-n", "--cores", "1"],
        cwd=fresh.folder, capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    imported = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
    assert {"vitrail.config", "vitrail.runs", "jsonschema"} <= imported
    heavy = {"torch", "timm", "mlflow", "matplotlib", "seaborn", "scipy", "vitrail.model"}
    assert not heavy & imported


def patterns() -> list[tuple[str, str]]:
    """(rule file, pattern) of each text that is given to `source` in the rules."""
    found = []
    for file in sorted((ROOT / "workflow" / "rules").glob("*.smk")):
        text = file.read_text(encoding="utf-8")
        for name in re.findall(r"\bsource\(\*study_code\.(\w+)\)", text):
            found += [(file.name, pattern) for pattern in getattr(code_files, name)]
        for arguments in re.findall(r"(?<!def )\bsource\(([^()]*)\)", text):
            found += [(file.name, name) for name in re.findall(r"f?\"([^\"]+)\"", arguments)]
    return found


def test_every_code_input_is_there() -> None:
    assert len(patterns()) > 20
    for file, pattern in patterns():
        for stem in STEMS if "{stem}" in pattern else ("",):
            name = pattern.replace("{stem}", stem)
            assert list((ROOT / "src" / "vitrail").glob(name)), f"{file}: {name}"


def modules(package: str) -> list[str]:
    """The files of a package that stands apart from the study."""
    return [path.name for path in (ROOT / "src" / "vitrail" / package).glob("*.py")]


# Not inputs of any rule, each for a reason.
NOT_INPUTS = {
    "__init__.py": "the version",
    "errors.py": "words",
    "machine.py": "words",
    "intact.py": "whether files are as they were written, not what is in them",
    "outside.py": "what the steps may tell and ask outside",
    "files.py": "how files are written, not what",
    "code_files.py": "Snakemake reads it when it parses",
    "config.py": "Snakemake reads it when it parses",
    "steps.py": "Snakemake reads it when it parses",
    "run_lock.py": "who is at work, not on what",
    "slurm.py": "when jobs end early, not what they do",
    "scheduler.py": "when jobs start, not what they do",
    "watch.py": "when a step ends early, not what it does",
    "config_file.py": "Snakemake reads it when it parses",
    "places.py": "Snakemake reads it when it parses",
    "planning.py": "Snakemake reads it when it parses",
    "jobs.py": "Snakemake reads it when it parses",
    "gpus.py": "which GPU is computed on, not what",
    "complexity_plan.py": "Snakemake reads it when it parses",
    "asked.py": "Snakemake reads it when it parses",
    "reserved.py": "Snakemake reads it when it parses",
    "setting_checks.py": "Snakemake reads it when it parses",
    "timing_settings.py": "",
    "ending.py": "prints",
    "ui.py": "a program of its own",
    "choices.py": "a program of its own",
    "hashes.py": "a program of its own",
    "measured.py": "for hashes.py",
    "pictures.py": "a program of its own",
    "readme.py": "a program of its own",
    "audit.py": "a program of its own",
    **{f"progress/{name}": "shows how far a run is" for name in modules("progress")},
    **{f"bench/{name}": "a program of its own" for name in modules("bench")},
    **{f"one_minute/{name}": "a program of its own" for name in modules("one_minute")},
    "cost_report.py": "a program of its own",
    "schedule.py": "for cost_report.py",
}


def test_every_module_is_an_input_or_has_a_reason_not_to_be() -> None:
    """A new module that decides a result has to be named by the rule that it decides."""
    source = ROOT / "src" / "vitrail"
    named = {
        path.relative_to(source).as_posix()
        for _, pattern in patterns()
        for stem in (STEMS if "{stem}" in pattern else ("",))
        for path in source.glob(pattern.replace("{stem}", stem))
    }
    there = {path.relative_to(source).as_posix() for path in source.rglob("*.py")}
    assert there - named <= set(NOT_INPUTS)


def test_steps_are_modules_of_the_package() -> None:
    """Each `python -m vitrail...` of the rules and the Makefile exists and has a main."""
    texts = [*(ROOT / "workflow" / "rules").glob("*.smk"), ROOT / "Makefile"]
    found = {name for file in texts for name in re.findall(r"-m (vitrail[\w.]*)", file.read_text())}
    assert len(found) >= 10
    for name in found:
        path = ROOT / "src" / Path(*name.split("."))
        file = path / "__main__.py" if path.is_dir() else path.with_suffix(".py")
        tree = ast.parse(file.read_text(encoding="utf-8"))
        functions = {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}
        assert "main" in functions, name
