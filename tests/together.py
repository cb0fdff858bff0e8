"""Eight syncs that start together, each a process of its own."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

from made_tracked import ROWS, STEM, STUDY, make_question, state
from vitrail.config import STEMS
from vitrail.tracking import store

# Loads once what a sync loads, then forks a process for each name that it is told.
PROGRAM = """
import json, os, sys
from pathlib import Path
from tracked import believed
from vitrail.tracking import headline
from vitrail.tracking.sync import sync
import mlflow.pyfunc
headline.remeasured = believed
results, study, stems = Path(sys.argv[1]), sys.argv[2], sys.argv[3:]
children = []
gate, opened = os.pipe()
for stem in stems:
    child = os.fork()
    if child == 0:
        os.close(opened)
        os.read(gate, 1)  # ends when the parent lets go of the other end: for all at once
        sync(study, stem, results, results / study / stem / "tracking.json")
        os._exit(0)
    children.append(child)
os.close(opened)
codes = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]
sys.exit(f"ended with {codes}" if any(codes) else 0)
"""


def at_once(results: Path, stems: list[str]) -> float:
    """Sync questions, each in a process; the seconds until the last has ended, loading included."""
    program = f"import sys; sys.path[:0] = {[path for path in sys.path if path]!r}\n{PROGRAM}"
    begun = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-c", program, str(results), STUDY, *stems], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return time.perf_counter() - begun


def eight_questions(results: Path) -> str:
    """A process for each question: every run is there, once."""
    for stem in STEMS:
        if stem != STEM:
            make_question(results, stem)
    seconds = at_once(results, list(STEMS))
    check(results, list(STEMS))
    return f"eight questions at once: {8 * 6} runs in {seconds:.1f} s"


def eight_for_one_question(results: Path) -> str:
    """Eight processes for one question, whose record is not there yet."""
    with store.open_client(results) as client:
        experiment = client.get_experiment_by_name(f"{STUDY}/{STEM}").experiment_id
        for run in client.search_runs([experiment]):
            client.delete_run(run.info.run_id)
        for model in client.search_logged_models([experiment]):
            client.delete_logged_model(model.model_id)
    seconds = at_once(results, [STEM] * 8)
    check(results, [STEM])
    return f"one question eight times at once: 6 runs in {seconds:.1f} s"


def check(results: Path, stems: list[str]) -> None:
    """Nothing lost, nothing doubled, nothing half-way."""
    with store.open_client(results) as client:
        found = state(client, stem=stems[0] if len(stems) == 1 else "", checksums=False)
    for stem in stems:
        about = found[f"{STUDY}/{stem}"]
        prefix = "" if stem == STEM else f"{stem}-"
        wanted = {("results", stem)}
        wanted |= {("run", prefix + one["run_id"]) for one in ROWS}
        wanted |= {("arm", prefix + one["arm_id"]) for one in ROWS}
        runs = about["runs"]
        named = [(run["tags"]["vitrail.kind"], run["tags"]["vitrail.key"]) for run in runs]
        assert len(named) == len(wanted) and set(named) == wanted
        assert {run["about"][1] for run in runs} == {"FINISHED"}
        for run in runs:
            if run["tags"]["vitrail.kind"] == "run":
                assert len(run["curves"]["train_loss"]) == 2
                assert len(run["artifacts"]) == 4
                assert run["tags"]["mlflow.parentRunId"].startswith("arm ")
        models = about["models"]
        assert [model["about"][1] for model in models] == ["READY"] * (stem == STEM)
    folder = results / STUDY
    assert not list(folder.glob("*/.tracking")) and not list(folder.glob("*/.tracking.json*"))
