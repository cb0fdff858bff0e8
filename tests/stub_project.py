"""A copy of the project whose steps are stubs, and Snakemake in it.

The jobs of a real study take minutes, so their commands are replaced by stubs that write the
same files at once; the rules, and Snakemake's decisions about them, are real.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

from vitrail import runs
from vitrail.config import STEMS, load

ROOT = Path(__file__).parents[1]
SMOKE = "config/smoke.yaml"
TABLES = {
    "Write the tables of all runs",
    "Write the table of all claims",
    "Ask Snakemake for its rule graph",
    "Gather what the report says about the study as a whole",
    "Render the report",
}

# What each step writes, as small as can be. `sys.argv` is read by hand: an option that a
# step does not have would be found by the end-to-end test, with the real steps.
STUB_HEAD = """
import json, os, sys
from pathlib import Path

def of(name):
    for word in sys.argv:
        if word.startswith(name + "="):
            return word.partition("=")[2]
    return sys.argv[sys.argv.index(name) + 1]

def put(path, text="x"):
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)

def put_vouched(path, text="x"):
    from vitrail.intact import vouch
    put(path, text)
    vouch(Path(path))

"""
STUBS = {
    "download.py": """
from vitrail.settings import MNIST_FILES
for name in [*MNIST_FILES, "source.json"]:
    put(Path(of("--out")) / name, json.dumps({"folder": of("--folder")}))
""",
    "weights.py": """
put(of("--out"), json.dumps({"status": "not available", "path": of("--path")}))
""",
    "timing.py": """
out = Path(of("--out"))
for file in (out, out.with_name("attention_samples.csv")):
    put_vouched(file)
put(of("--log-env"))
""",
    "execution/__main__.py": """
assert (Path(of("--run")) / "summary.json").exists()
put_vouched(of("--out"), of("--params"))
put(of("--log-env"), of("--params"))
""",
    "reduction/__main__.py": """
assert (Path(of("--run")) / "summary.json").exists()
for name in ("--out", "--pictures", "--log-env"):
    if name in sys.argv:
        put_vouched(of(name), of("--params"))
""",
    "input_seconds.py": """
put_vouched(of("--out"))
""",
    "step_memory.py": """
put_vouched(of("--out"), of("--arms"))
""",
    "pretraining/__main__.py": """
for name in ("config.json", "env.json", "summary.json"):
    put(Path(of("--out")) / name, of("--settings"))
""",
    "train.py": """
from vitrail.settings import arm_id, RUN_FILES
asked, study = json.loads(of("--settings")), Path(of("--study"))
at = sys.argv.index("--seeds") + 1
for settings in asked if isinstance(asked, list) else [asked]:
    if os.environ.get("BREAK") == arm_id(settings):
        sys.exit("vitrail: this arm breaks")
    for seed in sys.argv[at:sys.argv.index("--data")]:
        if settings.get("start"):
            assert (study / "pretraining" / settings["start"] / "summary.json").exists()
        if settings.get("teacher"):
            assert (study / "runs" / f"{settings['teacher']}-s{seed}" / "summary.json").exists()
        for name in RUN_FILES:
            put(study / "runs" / f"{arm_id(settings)}-s{seed}" / name, json.dumps(settings))
""",
    "questions/__main__.py": """
from vitrail.views import views_of
config = json.loads(of("--config"))
folder = Path(of("--results")) / config["study"] / sys.argv[1]
for name in ("table.csv", "numbers.json", "answer.md", "opening.json", "sources.json"):
    put(folder / name)
for name in ("tables/claims.md", "figures/a.svg"):
    put(folder / name)
for view in views_of(sys.argv[1]):
    put(folder / "explore" / f"{view}.json")
put(folder / "claims.json", json.dumps(config))
""",
    "tracking/__main__.py": """
if sys.argv[1] == "sync":
    put(of("--out"))
""",
    "collect.py": """
rows = of("--arms") if sys.argv[1] == "question" else ""
put_vouched(of("--out"), "status,reason,run_id\\n" + rows)
""",
    "provenance.py": """
folder = Path(of("--results")) / of("--study") / "study"
for name in ("numbers.json", "sources.json", "answers.csv", "made.csv", "costs.csv"):
    put(folder / name)
put(folder / "tables" / "claims.md")
put(folder / "figures" / "rules.svg")
assert Path(of("--rules")).exists()
""",
    "rule_graph.py": """
put(of("--out"), of("--config"))
""",
    "report/render.py": """
for name in ("report.html", "report.pdf"):
    put(Path(of("--results")) / of("--study") / "report" / name)
""",
}


def answered(stem: str) -> set[str]:
    """The jobs of a question after its runs."""
    return {
        f"Answer {stem}",
        f"Gather the runs that MLflow keeps under {stem}",
        f"Record {stem} in MLflow",
    }


class Project:
    """A copy of the project, and Snakemake in it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.said = ""  # by the Snakemake that ran the whole study

    def snakemake(self, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
        """Run Snakemake; its words are in `stdout`, both streams together."""
        hidden = ("PYTHONPATH", "MAKELEVEL")
        inherited = {name: value for name, value in os.environ.items() if name not in hidden}
        return subprocess.run(
            [sys.executable, "-m", "snakemake", *arguments],
            cwd=self.folder,
            env={**inherited, **variables},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=300,
        )

    def planned(self, *overlays: dict[str, Any], targets: tuple[str, ...] = ()) -> set[str]:
        """The jobs that the smoke study with these changes would run, by their messages."""
        files = [SMOKE, *(self.overlay(content) for content in overlays)]
        done = self.snakemake("-n", "--cores", "2", *targets, "--configfile", *files)
        assert done.returncode == 0, done.stdout
        return jobs(done.stdout)

    def overlay(self, content: dict[str, Any]) -> str:
        """A config file beside the project's own."""
        file = self.folder / f"overlay-{abs(hash(json.dumps(content)))}.yaml"
        file.write_text(yaml.safe_dump(content, allow_unicode=True), encoding="utf-8")
        return file.name

    def plan(self, *overlays: dict[str, Any]) -> runs.Plan:
        """The run table of the smoke study with these changes."""
        files = [self.folder / "config" / "default.yaml", self.folder / SMOKE]
        return runs.expand(
            load([*files, *(self.folder / self.overlay(content) for content in overlays)])
        )

    @contextmanager
    def changed(self, name: str, text: str) -> Iterator[None]:
        """A file with more text at its end, put back afterwards with its time."""
        file = self.folder / name
        before, state = file.read_bytes(), file.stat()
        file.write_bytes(before + text.encode())
        try:
            yield
        finally:
            file.write_bytes(before)
            os.utime(file, ns=(state.st_atime_ns, state.st_mtime_ns))


def jobs(output: str) -> set[str]:
    """The messages of the jobs in Snakemake's output; how a training is scheduled left out."""
    found = re.findall(r"^Job \d+: (.*)$", output, re.MULTILINE)
    return {message.removesuffix(" (one of the longest)") for message in found}


def experiment(stem: str, name: str, **content: Any) -> dict[str, Any]:
    return {"questions": {stem: {"experiments": {name: content}}}}


def trainings(plan: runs.Plan) -> set[str]:
    """The jobs that train and pretrain: one per arm, or per method over label budgets."""
    jobs = {
        f"Train {arm.job.replace('__', ': ') or identity}" for identity, arm in plan.arms.items()
    }
    return jobs | {f"Pretrain {start}" for start in plan.pretrainings}


def finished_study(copy_project: Callable[[Path], Path], folder: Path) -> Project:
    """A smoke study whose steps are stubs, run to its end."""
    # A blank in the path: a command that forgets to quote breaks on it.
    project = Project(copy_project(folder / "my vitrail"))
    for name, body in STUBS.items():
        (project.folder / "src" / "vitrail" / name).write_text(STUB_HEAD + body)
    done = project.snakemake("--cores", "2", "--configfile", SMOKE)
    assert done.returncode == 0, done.stdout
    plan = project.plan()
    assert jobs(done.stdout) >= TABLES | trainings(plan)
    assert jobs(done.stdout) >= {job for stem in STEMS for job in answered(stem)}
    assert "vitrail: study smoke" in done.stdout  # the ending
    project.said = done.stdout
    return project
