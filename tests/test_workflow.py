"""The workflow itself: what is run, when, and what a wrong config says.

The jobs of a real study take minutes, so their commands are replaced here by stubs that
write the same files at once; the rules, and Snakemake's decisions about them, are real.
"""

from __future__ import annotations

import ast
import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml

from vitrail import code_files, complexity_plan, runs
from vitrail import settings as study_settings
from vitrail.config import STEMS, load
from vitrail.views import VIEWS

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
for file in (out, out.with_name("attention_samples.csv"), Path(of("--log-env"))):
    put(file)
""",
    "execution/__main__.py": """
assert (Path(of("--run")) / "summary.json").exists()
for name in ("--out", "--log-env"):
    put(of(name), of("--params"))
""",
    "reduction/__main__.py": """
assert (Path(of("--run")) / "summary.json").exists()
for name in ("--out", "--pictures", "--log-env"):
    if name in sys.argv:
        put(of(name), of("--params"))
""",
    "input_seconds.py": """
put(of("--out"))
""",
    "step_memory.py": """
put(of("--out"), of("--arms"))
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
put(of("--out"), "status,reason,run_id\\n" + rows)
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


@pytest.fixture(scope="module")
def fresh(
    copy_project: Callable[[Path], Path], tmp_path_factory: pytest.TempPathFactory
) -> Project:
    """The project as it is cloned, with nothing computed."""
    return Project(copy_project(tmp_path_factory.mktemp("fresh") / "vitrail"))


@pytest.fixture(scope="module")
def finished(
    copy_project: Callable[[Path], Path], tmp_path_factory: pytest.TempPathFactory
) -> Project:
    """A smoke study whose steps are stubs, run to its end."""
    # A blank in the path: a command that forgets to quote breaks on it.
    project = Project(copy_project(tmp_path_factory.mktemp("finished") / "my vitrail"))
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


def experiment(stem: str, name: str, **content: Any) -> dict[str, Any]:
    return {"questions": {stem: {"experiments": {name: content}}}}


def trainings(plan: runs.Plan) -> set[str]:
    """The jobs that train and pretrain: one per arm, or per method over label budgets."""
    jobs = {
        f"Train {arm.job.replace('__', ': ') or identity}" for identity, arm in plan.arms.items()
    }
    return jobs | {f"Pretrain {start}" for start in plan.pretrainings}


COARSER = experiment("q6_vit", "patch_size", vary={"patch_size": [14, 7, 28]})


# --- Planning


@pytest.mark.parametrize("study", ["default", "full"])
def test_every_study_can_be_planned(fresh: Project, study: str) -> None:
    """A dry run on a fresh clone; nothing is written but Snakemake's own notes."""
    more = () if study == "default" else ("--configfile", f"config/{study}.yaml")
    done = fresh.snakemake("-n", "--cores", "2", *more)
    assert done.returncode == 0, done.stdout
    files = [fresh.folder / "config" / f"{name}.yaml" for name in dict.fromkeys(("default", study))]
    plan = runs.expand(load(files))
    expected = trainings(plan) | TABLES
    expected |= {job for stem in STEMS for job in answered(stem)}
    assert jobs(done.stdout) > expected
    q7 = complexity_plan.reduction_settings(load(files), plan)
    thresholds = len(q7["targets"]) + len(q7["class_targets"])
    found = {study_settings.weights_file(arm.settings) for arm in plan.arms.values()} - {""}
    # data, store; timing, execution, input seconds, step memory, the comparison of thresholds
    assert len(jobs(done.stdout) - expected) == 7 + thresholds + len(found)
    results = fresh.folder / "results"
    assert [path.name for path in results.iterdir()] == ["README.md"]


def test_every_stem_is_a_target(fresh: Project) -> None:
    planned = fresh.planned(targets=STEMS)
    assert {f"Answer {stem}" for stem in STEMS} < planned
    assert not any(message.startswith(("Record", "Render", "Write")) for message in planned)


def test_a_question_needs_its_own_arms_alone(fresh: Project) -> None:
    plan = fresh.plan()
    planned = fresh.planned(targets=("q5_block",))
    assert planned == {"Fetch MNIST and check it", "Answer q5_block"} | {
        f"Train {arm}" for arm in {*plan.arms_of("q5_block"), plan.base}
    }


def test_finished_study_has_nothing_to_do(finished: Project) -> None:
    begun = time.perf_counter()
    done = finished.snakemake("--cores", "2", "--configfile", SMOKE)
    seconds = time.perf_counter() - begun
    assert done.returncode == 0, done.stdout
    assert jobs(done.stdout) == set()
    assert "Nothing to be done" in done.stdout
    assert seconds < 20, f"{seconds:.1f} s for nothing"  # 2 s on an idle machine


def test_overlays_do_not_change_the_order(finished: Project) -> None:
    """Experiments and arms come in the order of default.yaml, whatever an overlay mentions.

    The first arm is the one that the others are compared with, unless `reference` names one.
    """
    change = experiment("q5_block", "norm", arms={"post": {"label": "as in 2017"}})
    change["study"] = "ordered"
    change["questions"]["q6_vit"] = {"experiments": {"pooling": {"title": "Pooling"}}}
    overlay = finished.overlay(change)
    done = finished.snakemake("--cores", "2", "q5_block", "q6_vit", "--configfile", SMOKE, overlay)
    assert done.returncode == 0, done.stdout
    wanted = finished.plan(change)
    for stem in ("q5_block", "q6_vit"):
        # The stub of a question leaves the config that it was given.
        given = json.loads(
            (finished.folder / "results" / "ordered" / stem / "claims.json").read_text()
        )
        found = runs.expand(given)
        assert [
            (about.name, [member.name for member in about.members], about.reference)
            for about in found.of_question(stem)
        ] == [
            (about.name, [member.name for member in about.members], about.reference)
            for about in wanted.of_question(stem)
        ]


def test_questions_are_answered_and_recorded_while_the_study_runs(finished: Project) -> None:
    """Not all at its end: the longest trainings first, then question by question."""
    plan = finished.plan()
    readers = {
        arm: next(stem for stem in STEMS if arm in {*plan.arms_of(stem), plan.base})
        for arm in plan.arms
    }
    order = re.findall(r"^Job \d+: (.*)$", finished.said, re.MULTILINE)
    begun = {message: place for place, message in enumerate(order)}
    jobs_of = dict(re.findall(r"^Job (\d+): Train (\S+)$", finished.said, re.MULTILINE))
    ended = re.findall(r"^Finished jobid: (\d+) \(Rule: train_longest", finished.said, re.MULTILINE)
    long = {jobs_of[number] for number in ended}
    assert long
    trained = {arm: begun[f"Train {arm}"] for arm, one in plan.arms.items() if not one.job}
    for stem in STEMS:
        if stem == "q7_complexity":  # waits for a measurement that takes all cores
            continue
        recorded = begun[f"Record {stem} in MLflow"]
        later = [
            arm
            for arm, place in trained.items()
            if STEMS.index(readers[arm]) > STEMS.index(stem)
            and arm not in long
            and place < recorded
        ]
        # Answering and recording are three jobs one after the other; a second core goes on.
        assert len(later) <= 8, (stem, later)
    # What the longest wait for is not left to the end, when they would keep one core busy.
    last = begun[f"Answer {STEMS[-1]}"]
    assert all(trained[arm] < last / 2 for arm in long), [trained[arm] for arm in long]
    first = begun[f"Record {STEMS[0]} in MLflow"]
    assert sum(place > first for place in trained.values()) > len(trained) / 2


# --- What a change runs again


def test_added_arm_runs_alone(finished: Project) -> None:
    (new,) = set(finished.plan(COARSER).arms) - set(finished.plan().arms)
    assert finished.planned(COARSER) == TABLES | answered("q6_vit") | {f"Train {new}"}


def test_removed_experiment_trains_nothing(finished: Project) -> None:
    change = {"questions": {"q6_vit": {"experiments": {"pooling": None}}}}
    assert finished.planned(change) == TABLES | answered("q6_vit")


def test_new_label_trains_nothing(finished: Project) -> None:
    change = experiment("q5_block", "norm", arms={"post": {"label": "as in 2017"}})
    assert finished.planned(change) == TABLES | answered("q5_block")


def test_added_method_runs_alone_at_all_its_budgets(finished: Project) -> None:
    arms = {"wide": {"label": "wide", "settings": {"mlp_ratio": 4}}}
    change = experiment("q8_transfer", "small_data", arms=arms)
    assert finished.planned(change) == TABLES | answered("q8_transfer") | {"Train small_data: wide"}


def test_another_recipe_pretrains_and_trains_what_starts_from_it(finished: Project) -> None:
    change = {"pretraining": {"strokes": {"classes": 19}}}
    started = {
        f"Train {arm.job.replace('__', ': ') or arm.arm_id}"
        for arm in finished.plan(change).arms.values()
        if arm.settings.get("start", "").startswith("strokes-")
    }
    new = {start for start in finished.plan(change).pretrainings if start.startswith("strokes-")}
    planned = finished.planned(change)
    assert planned == TABLES | answered("q8_transfer") | started | {f"Pretrain {x}" for x in new}
    assert started and new


def test_moved_arm_is_not_trained_again(finished: Project) -> None:
    """An arm that another question now asks for first has a new home and its old results."""
    plan = finished.plan()
    arm = next(
        member.arm
        for about in plan.of_question("q6_vit")
        for member in about.members
        if about.name == "patch_size" and member.name == "14"
    )
    settings = {"epochs": arm.settings["epochs"], "evaluations": arm.settings["evaluations"]}
    arms = {"base": {}, "coarse": {"settings": {"patch_size": 14}}}
    change = experiment("q2_mlp", "coarse", title="Coarse", settings=settings, arms=arms)
    assert finished.plan(change).arms[arm.arm_id].question == "q2_mlp"
    planned = finished.planned(change)
    assert not any(message.startswith("Train") for message in planned)
    # Both questions' records change: the one that has the arm now, and the one that had it.
    assert {"Answer q2_mlp", "Record q2_mlp in MLflow", "Record q6_vit in MLflow"} <= planned


@pytest.mark.parametrize(
    "name", ["report/q3_self_attention.qmd", "report/style.css", "report/explore/attention.js"]
)
def test_new_prose_renders_alone(finished: Project, name: str) -> None:
    with finished.changed(name, "\n"):
        assert finished.planned() == {"Render the report"}


def test_data_of_the_views_are_made_by_their_questions_and_rendered(finished: Project) -> None:
    files = {
        f"results/smoke/{stem}/explore/{view}.json": f"Answer {stem}"
        for view, stem in VIEWS.items()
    }
    with ExitStack() as stack:
        for file in files:
            stack.enter_context(finished.changed(file, "more"))
        assert finished.planned() == {"Render the report"}
        for file in files:
            (finished.folder / file).unlink()
        assert {*files.values()} <= finished.planned(targets=(*files,))


@pytest.mark.parametrize(
    ("name", "again", "kept"),
    [
        ("model/block.py", {"Train", "Answer", "Time", "Render"}, {"Fetch", "Look"}),
        ("questions/q5_block.py", {"Answer q5_block", "Record q5_block"}, {"Train", "Answer q2"}),
        ("timing.py", {"Time", "Answer q7", "Render"}, {"Train", "Answer q6"}),
        (
            "execution/offload.py",
            {"Compute", "Answer q7", "Render"},
            {"Train", "Time", "Answer q6"},
        ),
        (
            "reduction/learn.py",
            {"Learn", "Compare", "Answer q7", "Render"},
            {"Train", "Time", "Answer q6"},
        ),
        ("tracking/sync.py", {"Record"}, {"Train", "Answer", "Time"}),
    ],
)
def test_edited_code_runs_what_depends_on_it(
    finished: Project, name: str, again: set[str], kept: set[str]
) -> None:
    with finished.changed(f"src/vitrail/{name}", "\n# edited\n"):
        planned = finished.planned()
    for start in again:
        assert any(message.startswith(start) for message in planned), start
    for start in kept:
        assert not any(message.startswith(start) for message in planned), start


def test_weights_that_come_later_fill_the_arm_in(finished: Project) -> None:
    file = finished.folder / "results" / "weights" / "model.safetensors"
    file.parent.mkdir()
    file.write_bytes(b"x")
    try:
        planned = finished.planned()
    finally:
        shutil.rmtree(file.parent)
    pretrained = {
        f"Train {arm.arm_id}"
        for arm in finished.plan().arms.values()
        if arm.settings.get("pretrained")
    }
    assert pretrained
    assert {message for message in planned if message.startswith("Train")} == pretrained
    looked = {message for message in planned if message.startswith("Look for the weights")}
    assert looked and {"Answer q8_transfer", "Render the report"} <= planned


# --- Running


def test_one_broken_arm_does_not_stop_the_others(finished: Project) -> None:
    """The good one is trained, the reason is shown, and the next run does the rest."""
    change = experiment("q6_vit", "patch_size", vary={"patch_size": [14, 7, 28, 2]})
    new = set(finished.plan(change).arms) - set(finished.plan().arms)
    (bad,) = [arm for arm in new if "-p2-" in arm]
    (good,) = new - {bad}
    files = (SMOKE, finished.overlay(change))
    done = finished.snakemake("--cores", "1", "--configfile", *files, BREAK=bad)
    assert done.returncode != 0
    assert "vitrail: this arm breaks" in done.stdout  # the end of the job's log
    runs_folder = finished.folder / "results" / "smoke" / "runs"
    assert (runs_folder / f"{good}-s0" / "summary.json").exists()
    assert not (runs_folder / f"{bad}-s0").exists()
    again = finished.planned(change)
    assert f"Train {bad}" in again
    assert f"Train {good}" not in again


def test_awkward_words_reach_the_steps_as_they_are(finished: Project) -> None:
    """Quotes, braces, dollars, line breaks: a title is no shell and no wildcard."""
    words = 'it\'s "50 %" of {this} & $HOME; `ls` \\n <b>é</b> {0} \n * ?'
    change = experiment("q2_mlp", "activation", title=words, description=words)
    change["data"] = {"folder": "/a folder's {name}"}
    change["pretrained"] = {"path": "w's $HOME.npz"}
    change["study"] = "awkward"
    files = (SMOKE, finished.overlay(change))
    done = finished.snakemake(
        "--cores", "2", "q2_mlp", "results/awkward/weights/m.t.json", "--configfile", *files
    )
    assert done.returncode == 0, done.stdout
    results = finished.folder / "results"
    config = json.loads((results / "awkward" / "q2_mlp" / "claims.json").read_text())
    about = config["questions"]["q2_mlp"]["experiments"]["activation"]
    assert about["title"] == about["description"] == words
    told = json.loads((results / "awkward" / "weights" / "m.t.json").read_text())
    assert told["path"] == "w's $HOME.npz"
    told = json.loads((results / "data" / "source.json").read_text())
    assert told["folder"] == "/a folder's {name}"


def test_timing_has_the_machine_to_itself() -> None:
    """It takes all cores, so nothing that could disturb it runs beside it."""
    text = (ROOT / "workflow" / "rules" / "timing.smk").read_text(encoding="utf-8")
    rules = dict(re.findall(r"^rule (\w+):\n(.*?)(?=^rule |\Z)", text, re.MULTILINE | re.DOTALL))
    alone = {name for name, body in rules.items() if "threads: max(1, workflow.cores or 1)" in body}
    assert alone == {"timing", "execution"}
    # The first counts bytes; the second is a rough clock, and its table says so.
    assert set(rules) - alone == {"step_memory", "input_seconds"}


# --- A wrong config


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"sede": [1]}, "config: unknown key sede; did you mean seeds?"),
        ({"defaults": {"patch_size": 5}}, "patch_size 5 does not divide the image size 28"),
        ({"defaults": {"num_heads": 5}}, "num_heads 5 does not divide embed_dim 64"),
        ({"defaults": {"epochs": 0}}, "defaults.epochs is 0, but must be greater than 0"),
        ({"defaults": {"optimizer": "adam"}}, "defaults.optimizer is 'adam', but must be one of"),
        ({"seeds": []}, "config: seeds is []"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_wrong_config_stops_before_any_job(
    fresh: Project, change: dict[str, Any], words: str
) -> None:
    done = fresh.snakemake("--cores", "1", "--configfile", SMOKE, fresh.overlay(change))
    assert done.returncode != 0
    assert words in done.stdout
    (said,) = [line for line in done.stdout.splitlines() if "config: " in line]
    assert said.startswith("vitrail: config: ")
    assert "Traceback" not in done.stdout
    assert jobs(done.stdout) == set()
    assert [path.name for path in (fresh.folder / "results").iterdir()] == ["README.md"]


def test_every_set_of_weights_is_looked_for_once(fresh: Project) -> None:
    """Arms of other networks or tags bring their own file; two arms of one set share it."""
    tiny = {"model": "timm", "timm_model": "vit_tiny_patch16_224", "pretrained": "augreg_in21k"}
    scale = {"pixel_mean": 0.5, "pixel_std": 0.5, "optimizer": "adamw"}
    arms = {
        "tiny": {"settings": tiny | scale},
        "probe": {"settings": tiny | scale | {"tune": "head"}},
    }
    change = experiment("q8_transfer", "transfer", arms=arms)
    planned = fresh.planned(change, targets=("q8_transfer",))
    sets = {message for message in planned if message.startswith("Look for the weights")}
    named = {
        f"Look for the weights {arm.settings['timm_model']}.{arm.settings['pretrained']}"
        for arm in fresh.plan(change).arms.values()
        if arm.settings.get("pretrained")
    }
    assert sets == named >= {"Look for the weights vit_tiny_patch16_224.augreg_in21k"}
    assert len(sets) > 1


# --- The rules themselves


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
    "watch.py": "when a step ends early, not what it does",
    "config_file.py": "Snakemake reads it when it parses",
    "places.py": "Snakemake reads it when it parses",
    "planning.py": "Snakemake reads it when it parses",
    "jobs.py": "Snakemake reads it when it parses",
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
