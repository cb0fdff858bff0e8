"""Whatever text a config holds, it reaches the steps as a value: nothing in it is run.

The keys are taken from the schema, so a new one has to be sorted in here.
"""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from stub_project import SMOKE, STUB_HEAD, STUBS, Project, jobs
from vitrail import config as study_config
from vitrail import runs
from vitrail.errors import VitrailError

ROOT = Path(__file__).parents[1]
SCHEMA = ROOT / "workflow" / "schemas" / "config.schema.yaml"

HOSTILE = [
    "; touch broken", "$(touch broken)", "`touch broken`", "&& touch broken", "| touch broken",
    "\ntouch broken\n", "'; touch broken; '", '"; touch broken; "', "> broken", "${HOME}",
    "{input} {wildcards.arm} {{x}} {0} {config[study]}", "%s %(x)s", "\\", "~ * ? [a]", "!!",
    "<(touch broken)", "\t#", "é 😀", "-rf", "--out=broken",
]  # fmt: skip
RECORD = """
from uuid import uuid4
put(Path("results") / "words" / uuid4().hex, json.dumps(sys.argv))
"""

# What a text may be: anything, a name of something else in the config, or of a closed form.
FREE = {"data.folder", "pretrained.path", "experiment.title", "experiment.description",
        "arm.label", "claim.sentence"}  # fmt: skip
NAMES = {"subject", "experiment.reference", "claim.better", "claim.worse", "settings.start",
         "settings.teacher"}  # fmt: skip
CLOSED = {"study", "report.repository", "report.mlflow", "claim.id", "settings.timm_model",
          "settings.pretrained", "names of pretraining", "names of experiments",
          "names of arms"}  # fmt: skip


@pytest.fixture(scope="module")
def schema() -> dict[str, Any]:
    return yaml.safe_load(SCHEMA.read_text(encoding="utf-8"))


def texts(schema: dict[str, Any]) -> Iterator[tuple[str, str | None]]:
    """Each key of the schema that takes a text which is no choice from a list: its pattern."""

    def walk(node: dict[str, Any], name: str) -> Iterator[tuple[str, str | None]]:
        if node.get("type") == "string" and not {"enum", "const"} & set(node):
            yield name, node.get("pattern")
        if names := node.get("propertyNames"):
            yield f"names of {name.rpartition('.')[2]}", names.get("pattern")
        for key, below in node.get("properties", {}).items():
            yield from walk(below, f"{name}.{key}".lstrip("."))
        for part in ("items", "additionalProperties", "then"):
            if isinstance(node.get(part), dict):
                yield from walk(node[part], name)
        for below in [*node.get("allOf", []), *node.get("anyOf", [])]:
            yield from walk(below, name)

    top = {key: part for key, part in schema.items() if key != "$defs"}
    yield from walk(top, "")
    for name, node in schema["$defs"].items():
        yield from walk(node, name)


def test_every_text_of_the_schema_is_sorted_in_here(schema: dict[str, Any]) -> None:
    found = {name.removeprefix("questions.q7_complexity."): form for name, form in texts(schema)}
    assert set(found) == FREE | NAMES | CLOSED
    assert {name for name, form in found.items() if form} == CLOSED


@pytest.mark.parametrize("words", HOSTILE)
def test_a_closed_form_lets_nothing_through(schema: dict[str, Any], words: str) -> None:
    for name, form in texts(schema):
        if form is None:
            continue
        for text in (words, f"a{words}", f"https://example.org/{words}"):
            # A dash inside a name, and marks inside an address, are allowed; blanks are not.
            if re.search(form, text):
                assert not re.search(r"[\s;|&<>`'\"{}\\()*?!]", text) or "report." in name, name
                assert not text.startswith("-"), name


ADDRESS = "https://example.org/a;b|c&d'e\"f`g$h{i}*?!#%s"


def names_of(config: dict[str, Any], words: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """The config with these words in the place of a name, for each place."""
    q2, q7 = "q2_mlp", "q7_complexity"
    for name in sorted(NAMES):
        changed = copy.deepcopy(config)
        experiment = changed["questions"][q2]["experiments"]["activation"]
        if name == "subject":
            changed["questions"][q7]["subject"] = ["base", words]
        elif name == "experiment.reference":
            experiment["reference"] = words
        elif name.startswith("claim."):
            experiment["claims"][0][name.removeprefix("claim.")] = words
        else:
            experiment.setdefault("settings", {})[name.removeprefix("settings.")] = words
        yield name, changed


@pytest.mark.parametrize("words", HOSTILE)
def test_a_name_that_is_none_is_refused_in_a_sentence(config: dict[str, Any], words: str) -> None:
    from vitrail import complexity_plan

    for name, changed in names_of(config, words):
        with pytest.raises(VitrailError, match=r"^config: ") as refused:
            study_config.validate(changed, SCHEMA)
            complexity_plan.subject(changed, runs.expand(changed))
        assert len(str(refused.value)) < 1000, name


def small(words: str) -> dict[str, Any]:
    """The smoke study with few jobs, and these words in every place that takes any text."""
    smoke = study_config.load([ROOT / "config" / "default.yaml", ROOT / SMOKE])
    kept = {"q2_mlp": "activation", "q6_vit": "headline", "q8_transfer": "transfer"}
    change: dict[str, Any] = {
        "study": "words",
        "data": {"folder": f"--out={words}"},
        "pretrained": {"path": f"-rf {words}"},
        "report": {"repository": ADDRESS, "mlflow": ADDRESS},
        "questions": {},
    }
    for stem, block in smoke["questions"].items():
        experiments = dict.fromkeys(block.get("experiments", {}))
        if name := kept.get(stem):
            about = block["experiments"][name]
            texts_of = {"title": words, "description": words}
            arms = {arm: {"label": words} for arm, kind in about.get("arms", {}).items() if kind}
            claims = [{**claim, "sentence": words} for claim in about.get("claims", [])]
            experiments[name] = {**texts_of, **({"arms": arms} if arms else {}), "claims": claims}
        change["questions"][stem] = {"experiments": experiments}
    change["questions"]["q7_complexity"]["subject"] = ["headline", "vit"]
    return change


def test_hostile_words_in_every_free_text_reach_the_steps_as_they_are(
    copy_project: Callable[[Path], Path], tmp_path: Path
) -> None:
    """All rules are run, by stubs that write down the words of their command."""
    project = Project(copy_project(tmp_path / "it's a $HOME; study"))
    for name, body in STUBS.items():
        (project.folder / "src" / "vitrail" / name).write_text(STUB_HEAD + RECORD + body)
    words = " ".join(HOSTILE)
    done = project.snakemake("--cores", "2", "--configfile", SMOKE, project.overlay(small(words)))
    assert done.returncode == 0, done.stdout[-3000:]
    assert len(jobs(done.stdout)) > 30
    assert not [path for path in tmp_path.rglob("*") if path.name == "broken"]
    commands = [
        json.loads(file.read_text()) for file in (project.folder / "results" / "words").iterdir()
        if file.is_file() and re.fullmatch("[0-9a-f]{32}", file.name)
    ]  # fmt: skip
    every = [word for command in commands for word in command]
    assert f"--folder=--out={words}" in every
    assert f"--path=-rf {words}" in every
    assert every.count(ADDRESS) == 2
    inside = json.dumps(words)[1:-1]
    with_config = [command for command in commands if any(inside in word for word in command)]
    steps = {Path(command[0]).parent.name + "/" + Path(command[0]).name for command in with_config}
    assert {"questions/__main__.py", "vitrail/collect.py", "vitrail/rule_graph.py"} <= steps
    for command in with_config:
        for word in command:
            if inside in word and word.startswith(("{", "[")):
                json.loads(word)
