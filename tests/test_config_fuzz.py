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

import pytest
import yaml
from hypothesis import HealthCheck, given, settings

from config_fuzz import configs, schema, shipped
from vitrail import jobs
from vitrail.errors import VitrailError
from vitrail.planning import plan_study

ROOT = Path(__file__).parents[1]
IN_PROCESS = 500
DRY_RUNS = int(os.environ.get("VITRAIL_FUZZ_DRY_RUNS", "6"))
SECONDS = 120  # for one of them; half a second on an idle machine


def is_sentence(said: str, config: Any) -> bool:
    """One line that starts with the config, names a place in it and is no dump of it."""
    one_line = re.fullmatch(r"config: [^\n]{10,500}", said) and said.isprintable()
    return bool(one_line) and names_a_place(said.removeprefix("config: "), config)


def names_a_place(text: str, config: Any) -> bool:
    """Whether a sentence begins with a place of this config: keys and positions, with dots."""
    if missing := re.fullmatch(r"\(top level\): the key (\w+) is missing", text):
        return missing[1] in schema()["required"] and missing[1] not in config
    if long := re.match(r"experiment (\w+) takes ", text):  # by the name of its rule
        names = [name for block in config["questions"].values() for name in block["experiments"]]
        return any(long[1].endswith(re.sub(r"\W", "_", name)) for name in names)
    wrong_key = re.match(r"the key (.*) under ", text)
    text = text[wrong_key.end() :] if wrong_key else text.removeprefix("unknown key ")
    below, rest = followed(text, config)
    if wrong_key:  # as Python writes it, the middle of a long one left out
        top = rest.startswith("(top level) ")
        return any(repr(key)[:30] == wrong_key[1][:30] for key in below) and (
            top or (below is not config and rest.startswith(" "))
        )
    if rest.startswith("''; "):  # the empty key
        return "" in below
    # Arms that `vary` and `budgets` make have names that stand nowhere.
    made = ".arms." in text and bool(re.match(r"[\w.-]+: ", rest))
    return below is not config and (made or rest[:1] in (" ", ":", ";"))


def followed(text: str, config: Any) -> tuple[Any, str]:
    """What the place at the start of a text leads to, and the text behind it."""
    below = config
    while True:
        pairs = below.items() if isinstance(below, dict) else ()
        if isinstance(below, list | tuple):  # by position, and claims by their id as well
            named = [one for one in below if isinstance(one, dict) and "id" in one]
            pairs = [*enumerate(below), *((one["id"], one) for one in named)]
        fits = {str(key): value for key, value in pairs if text.startswith(str(key)) and key != ""}
        fits = {key: value for key, value in fits.items() if text[len(key) :][:1] in " .:;"}
        if not fits:
            return below, text
        key = max(fits, key=len)
        below, text = fits[key], text[len(key) :].removeprefix(".")
        if text[:1] in " :;":
            return below, text


@pytest.mark.parametrize(
    "said",
    ["something is wrong with this config", "data.folders is 3",
     "defaults.depth.3 is 'x', but must be of type integer", "x.data.folder is 3, which is wrong",
     "unknown key data.other; known here: folder", "the key 3 under data is not text; quote it",
     "(top level): the key study is missing", "(top level): there is a fault in this config",
     "questions.q2_mlp.experiments.activation.arm.relu: a fault", "unknown key ''; known: study"],
)  # fmt: skip
def test_a_sentence_that_names_no_place_is_none(said: str) -> None:
    config = shipped("default")
    assert is_sentence("config: data.folder is 3, but must be of type string", config)
    assert not is_sentence(f"config: {said}", config)


def made(count: int) -> list[dict[str, Any]]:
    """So many configs, no two alike.

    Not quite the same ones each time: Hypothesis also tries what it finds in loaded modules.
    """
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
            assert is_sentence(str(error), config), str(error)
            told["refused"] += 1
        assert time.process_time() - begun < 10
    print(f"{sum(told.values())} configs: {dict(told)}")
    assert sum(told.values()) >= IN_PROCESS
    assert told["planned"] > 30  # else nothing is learned of what is let through
    words = (ROOT / "docs" / "bad_input.md").read_text(encoding="utf-8")
    (documented,) = re.findall(
        r"About (\d+) are refused in one line of at most 500 characters, about (\d+) are planned",
        words,
    )
    assert abs(told["refused"] - int(documented[0])) <= 20, told
    assert abs(told["planned"] - int(documented[1])) <= 20, told


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
