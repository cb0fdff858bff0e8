"""Five hundred configs that nobody would write: each is planned, or refused in one sentence.

`make fuzz` also lets Snakemake plan all of them; here it plans a few.
"""

from __future__ import annotations

import collections
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml
from hypothesis import HealthCheck, given, settings

from config_fuzz import configs
from vitrail import jobs
from vitrail.errors import VitrailError
from vitrail.planning import plan_study

ROOT = Path(__file__).parents[1]
IN_PROCESS = 500
DRY_RUNS = int(os.environ.get("VITRAIL_FUZZ_DRY_RUNS", "6"))
SECONDS = 120  # for one of them; half a second on an idle machine


def is_sentence(said: str) -> bool:
    """One line that starts with the config, names a place in it and is no dump of it."""
    return bool(re.fullmatch(r"config: [^\n]{10,500}", said)) and said.isprintable()


def made(count: int) -> list[dict[str, Any]]:
    """So many configs, always the same, no two alike."""
    found: dict[str, dict[str, Any]] = {}

    @settings(max_examples=2 * count, suppress_health_check=list(HealthCheck))
    @given(configs())
    def collect(config: dict[str, Any]) -> None:
        found.setdefault(repr(config), config)

    collect()
    assert len(found) >= count
    return list(found.values())[:count]


def test_every_config_is_planned_or_refused_in_a_sentence() -> None:
    """No traceback, no endless sentence, and none takes long."""
    told: collections.Counter[str] = collections.Counter()
    for config in made(IN_PROCESS):
        begun = time.process_time()
        try:
            planned = plan_study(config, ROOT)
            assert jobs.training_rules(planned.plan)
            told["planned"] += 1
        except VitrailError as error:
            assert is_sentence(str(error)), str(error)
            told["refused"] += 1
        assert time.process_time() - begun < 10
    print(f"{sum(told.values())} configs: {dict(told)}")
    assert sum(told.values()) >= IN_PROCESS
    assert told["planned"] > 50  # else nothing is learned of what is let through
    assert told["refused"] > 50


def sample(count: int) -> list[dict[str, Any]]:
    """All of them, or of a few as many that are planned as are refused."""
    if count >= IN_PROCESS:
        return made(IN_PROCESS)
    kinds: dict[bool, list[dict[str, Any]]] = {True: [], False: []}
    for config in made(40 * count):
        try:
            kinds[bool(plan_study(config, ROOT))].append(config)
        except VitrailError:
            kinds[False].append(config)
        if min(map(len, kinds.values())) >= count // 2:
            break
    return [config for found in kinds.values() for config in found[: count // 2]]


def files_of(folder: Path) -> set[Path]:
    """Everything in a folder but Snakemake's own notes and compiled modules."""
    ours = {".snakemake", "__pycache__"}
    return {path for path in folder.rglob("*") if not ours & set(path.parts)}


def test_snakemake_plans_them_or_says_the_sentence(
    copy_project: Callable[[Path], Path], tmp_path: Path
) -> None:
    """The same by the real command: no traceback, no file, no shell that obeys a value."""
    project, overlays = copy_project(tmp_path / "vitrail"), []
    for number, config in enumerate(sample(DRY_RUNS)):
        file = tmp_path / f"{number:03}.yaml"
        try:
            file.write_text(yaml.safe_dump(config), encoding="utf-8")
        except (yaml.YAMLError, ValueError):  # a tuple, half a surrogate pair
            continue  # no YAML says this
        overlays.append(str(file))
    before = files_of(project)
    done = subprocess.run(
        [sys.executable, ROOT / "tests" / "dry_runs.py", str(SECONDS), *overlays],
        cwd=project, capture_output=True, text=True,
    )  # fmt: skip
    answers = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(answers) == len(overlays), done.stderr
    told: collections.Counter[str] = collections.Counter()
    for answer in answers:
        said, where = answer["said"], f"{answer['config']}: {answer['said'][-2000:]}"
        assert "Traceback" not in said, where
        assert answer["code"] in (0, 1), where
        if answer["code"] == 1:
            (sentence,) = [line for line in said.splitlines() if "config" in line.lower()][-1:]
            ours = sentence.startswith("vitrail: config: ")
            assert ours or "valid JSON or YAML" in sentence, where
            told["refused"] += 1
        else:
            told["planned"] += 1
    print(f"snakemake -n of {len(answers)} configs: {dict(told)}")
    assert files_of(project) == before
