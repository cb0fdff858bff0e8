"""MLflow says what the files say: parents, children, settings, curves, tags, artifacts."""

from __future__ import annotations

import csv
import json
import math
import re
import statistics
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("mlflow", reason="MLflow is not installed")

from made_tracked import (
    BASE,
    CNN,
    FACTS,
    ROWS,
    STEM,
    STEPS,
    STUDY,
    counted,
    dump,
    go,
    row,
    state,
    write_table,
)
from vitrail import tracking  # noqa: F401  (turns telemetry off before MLflow is imported)
from vitrail.collect import SUMMARY_FIELDS
from vitrail.config import STEMS
from vitrail.files import read_json, sha256, write_json, write_text
from vitrail.intact import read_summary, sealed
from vitrail.settings import arm_id, run_id
from vitrail.tracking import records, store


def test_mlflow_returns_the_numbers_of_the_files(results: Path) -> None:
    counts, told = go(results)
    assert counts == counted(logged=6)
    assert len(told["runs"]) == 3
    assert list(told["runs"]) == sorted(told["runs"])
    with store.open_client(results) as client:
        for name, identity in told["runs"].items():
            folder = results / STUDY / "runs" / name
            run = client.get_run(identity)
            assert (run.info.run_name, run.info.status) == (name, "FINISHED")
            with (folder / "history.csv").open(newline="") as stream:
                history = list(csv.DictReader(stream))
            for curve in records.CURVES:
                logged = client.get_metric_history(identity, curve)
                assert [point.step for point in logged] == list(STEPS)
                wanted = [float(at[curve]) for at in history]
                assert np.array_equal([point.value for point in logged], wanted, equal_nan=True)
            summary = read_json(folder / "summary.json")
            for final in records.FINALS:
                assert run.data.metrics[final] == summary[final]
            # And nothing else: the model's accuracy is told by the run that it was made of.
            more = {"remeasured_test_accuracy", "remeasured_test_errors"}
            named = {*records.CURVES, *records.FINALS}
            named |= more if name == told["headline"]["run_id"] else set()
            assert set(run.data.metrics) == named
            config = read_json(folder / "config.json")
            assert run.data.params == {
                key: value if isinstance(value, str) else json.dumps(value)
                for key, value in {"seed": config["seed"], **config["settings"]}.items()
            }
            assert run.info.end_time - run.info.start_time == 1500
            for file in records.RUN_ARTIFACTS:
                copy = client.download_artifacts(identity, file)
                assert Path(copy).read_bytes() == (folder / file).read_bytes()


def test_every_column_of_the_run_table_is_in_the_store(results: Path) -> None:
    """As a metric, or as a tag what is no number; settings are parameters."""
    _, told = go(results)
    with store.open_client(results) as client:
        run = client.get_run(next(iter(told["runs"].values())))
    held = set(run.data.metrics) | {tag.removeprefix("vitrail.") for tag in run.data.tags}
    assert set(SUMMARY_FIELDS) - {"status", "reason"} <= held  # only finished runs are logged
    assert run.data.tags["vitrail.precision_used"] == "fp32"


def test_runs_are_nested_and_tagged(results: Path) -> None:
    _, told = go(results)
    with store.open_client(results) as client:
        assert client.get_experiment(told["experiment_id"]).name == f"{STUDY}/{STEM}"
        for name, identity in told["runs"].items():
            tags = client.get_run(identity).data.tags
            arm = name.rpartition("-s")[0]
            assert tags["mlflow.parentRunId"] == told["arms"][arm]
            assert tags["vitrail.run_id"] == name
            assert tags["vitrail.arm_id"] == arm
            assert (tags["vitrail.study"], tags["vitrail.question"]) == (STUDY, STEM)
            assert tags["vitrail.commit"] == FACTS["commit"]
            assert tags["vitrail.data_sha256"] == records.data_checksum({"a": "11", "b": "22"})
            assert tags["vitrail.claims"] == "q6-better"
        parent = client.get_run(told["arms"][arm_id(BASE)])
        assert parent.info.run_name == "base"
        seeds = [
            read_json(results / STUDY / "runs" / run_id(arm_id(BASE), seed) / "summary.json")
            for seed in (0, 1)
        ]
        # Under the names of the seeds, so that MLflow's table has them in the same columns.
        for name in records.FINALS:
            values = [summary[name] for summary in seeds]
            assert parent.data.metrics[name] == statistics.fmean(values)
            if name in records.SPREADS:
                assert parent.data.metrics[f"{name}_std"] == statistics.stdev(values)
        assert seeds[0]["test_accuracy"] != seeds[1]["test_accuracy"]
        assert parent.data.metrics["val_accuracy"] == statistics.fmean([0.8, 0.9]) - 0.01
        single = client.get_run(told["arms"][arm_id(CNN)]).data.metrics
        assert single["seeds"] == 1
        assert "test_accuracy_std" not in single
        shown = {item.path for item in client.list_artifacts(told["results"])}
        assert shown == {"table.csv", "claims.json", "figures"}
        figures = [item.path for item in client.list_artifacts(told["results"], "figures")]
        assert figures == ["figures/curves.svg"]


def test_a_run_that_was_not_run_is_told_but_not_logged(results: Path) -> None:
    _, told = go(results)
    absent = run_id(arm_id(BASE | {"depth": 2}), 0)
    assert told["not_run"] == [absent]
    with store.open_client(results) as client:
        experiment = client.get_experiment(told["experiment_id"])
        note = experiment.tags["mlflow.note.content"]
        assert absent in note
        assert "no weights here" in note
        names = [run.info.run_name for run in client.search_runs([experiment.experiment_id])]
    assert len(names) == 6
    assert absent not in names


def test_a_question_without_runs_still_shows_its_figures(results: Path) -> None:
    write_text(results / STUDY / "q7_complexity" / "runs.csv", ",".join(records.COLUMNS) + "\n")
    write_text(results / STUDY / "q7_complexity" / "figures" / "time.svg", "<svg/>")
    counts, told = go(results, "q7_complexity")
    assert counts["logged"] == 1
    assert told["runs"] == {}
    assert "headline" not in told
    with store.open_client(results) as client:
        assert client.list_artifacts(told["results"])[0].path == "figures"


def test_nothing_is_in_the_store_that_is_not_in_the_files(results: Path) -> None:
    """The whole of it: one model, one run for each row and each arm, one for the results."""
    _, told = go(results)
    with store.open_client(results) as client:
        whole = state(client)
    runs = whole[f"{STUDY}/{STEM}"]["runs"]
    found = sorted((run["tags"]["vitrail.kind"], run["tags"]["vitrail.key"]) for run in runs)
    arms = {about["arm_id"] for about in ROWS}
    assert found == sorted(
        [("results", STEM)]
        + [("arm", arm) for arm in arms]
        + [("run", about["run_id"]) for about in ROWS]
    )
    for run in runs:
        expected = {
            "run": set(records.RUN_ARTIFACTS),
            "arm": set(),
            "results": {"table.csv", "claims.json", "figures/curves.svg"},
        }[run["tags"]["vitrail.kind"]]
        assert set(run["artifacts"]) == expected
        best = run["tags"]["vitrail.key"] == told["headline"]["run_id"]
        assert run["outputs"] == (["the model"] if best else [])
    assert [len(about["models"]) for about in whole.values() if about["models"]] == [1]
    assert len(whole) == len(STEMS)  # the questions without runs have their experiment


def test_long_and_awkward_words_are_cut_with_a_word_and_synced_once(results: Path) -> None:
    """MLflow takes 8,000 characters of a tag; a sync must not see its own cut as a change."""
    label = "é" * 9000 + "\0"
    reason = "no weights, " * 1000
    rows = [about | {"label": label, "arm": "an arm " * 100} for about in ROWS]
    absent = {"status": "not run", "reason": reason}
    write_table(results, [*rows, row(BASE | {"depth": 2}, 0, "imagenet", **absent)])
    claims = [{"id": f"claim-{number}", "sentence": "x" * 500} for number in range(900)]
    write_json(results / STUDY / STEM / "claims.json", claims)
    _, told = go(results)
    with store.open_client(results) as client:
        tags = client.get_run(told["runs"][ROWS[0]["run_id"]]).data.tags
        shown = client.get_run(told["results"]).data.tags["mlflow.note.content"]
        note = client.get_experiment(told["experiment_id"]).tags["mlflow.note.content"]
    for text, length in ((tags["vitrail.label"], 8000), (shown, 8000), (note, 4900)):
        assert len(text) == length
        assert re.search(r"cut here: \d+ characters in all", text)
    assert tags["vitrail.claims"].startswith("claim-0,claim-1,")
    before = dump(results)
    assert go(results)[0] == counted(unchanged=6)
    assert dump(results) == before


def test_a_run_that_diverged_is_kept_as_it_is(results: Path) -> None:
    """Infinity is stored as the largest number and must not look like a change."""
    folder = results / STUDY / "runs" / ROWS[2]["run_id"]
    text = (folder / "history.csv").read_text()
    (folder / "history.csv").write_text(text.replace(repr(math.pi / 10), "inf"))
    summary = read_summary(folder)
    summary["files"]["history.csv"] = sha256(folder / "history.csv")
    write_json(folder / "summary.json", sealed(summary | {"test_loss": math.inf}))
    assert go(results)[0] == counted(logged=6)
    assert go(results)[0] == counted(unchanged=6)
