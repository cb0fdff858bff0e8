"""However often it is synced, MLflow says what the files of today say."""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from urllib.request import url2pathname

import pytest

pytest.importorskip("mlflow", reason="MLflow is not installed")

from made_tracked import BASE, ROWS, STEM, STUDY, counted, dump, fake_run, go, state, write_table
from vitrail import tracking  # noqa: F401  (turns telemetry off before MLflow is imported)
from vitrail.errors import VitrailError
from vitrail.files import write_json
from vitrail.settings import arm_id, run_id
from vitrail.tracking import held, records, store
from vitrail.tracking.prune import prune


def test_syncing_again_changes_nothing(results: Path) -> None:
    _, told = go(results)
    before = dump(results)
    for path in (results / STUDY).rglob("*"):
        os.utime(path, (1, 1))  # as after a copy: the same files at another time
    counts, again = go(results)
    assert counts == counted(unchanged=6)
    assert again == told
    assert dump(results) == before


def test_a_changed_run_replaces_its_record_and_its_arm(results: Path) -> None:
    _, told = go(results)
    name = fake_run(results, BASE, 1, 0.5)
    counts, again = go(results)
    assert counts == counted(logged=2, unchanged=4, deleted=2)
    changed = {key for key in told["runs"] if told["runs"][key] != again["runs"][key]}
    assert changed == {name}
    with store.open_client(results) as client:
        assert client.get_run(again["runs"][name]).data.metrics["val_accuracy"] == 0.5 - 0.01
        assert client.get_run(told["runs"][name]).info.lifecycle_stage == "deleted"
        parents = {
            client.get_run(again["runs"][run_id(arm_id(BASE), seed)]).data.tags[
                "mlflow.parentRunId"
            ]
            for seed in (0, 1)
        }
    assert parents == {again["arms"][arm_id(BASE)]}
    # Seed 0 is now the best on the validation images, so the model is logged anew.
    assert told["headline"]["run_id"] == name
    assert again["headline"]["run_id"] == run_id(arm_id(BASE), 0)


def test_claims_and_labels_are_mended_in_place(results: Path) -> None:
    _, told = go(results)
    write_json(results / STUDY / STEM / "claims.json", [{"id": "x"}, {"id": "y"}])
    _, again = go(results)
    assert again["runs"] == told["runs"]
    with store.open_client(results) as client:
        for identity in again["runs"].values():
            assert client.get_run(identity).data.tags["vitrail.claims"] == "x,y"


def test_runs_that_the_config_dropped_stay_until_they_are_pruned(results: Path) -> None:
    _, told = go(results)
    write_table(results, ROWS[:2])
    gone = {told["runs"][ROWS[2]["run_id"]], told["arms"][ROWS[2]["arm_id"]]}
    with store.open_client(results) as client:
        mine = client.create_run(told["experiment_id"], run_name="by hand").info.run_id
        counts, again = go(results)
        assert counts == counted(unchanged=4, outdated=2)
        assert go(results)[0] == counts
        assert set(again["runs"]) == {about["run_id"] for about in ROWS[:2]}
        ours = {again["results"], *again["arms"].values(), *again["runs"].values()}
        there = {run.info.run_id: run for run in client.search_runs([told["experiment_id"]])}
        assert set(there) == {mine} | ours | gone
        marked = {name for name, run in there.items() if records.OUTDATED in run.data.tags}
        assert marked == gone
        assert {there[name].data.tags[records.OUTDATED] for name in gone} == {
            "no longer in the config"
        }
        # Asked what would go, then told to do it.
        names = [f"{STEM}: {name} (no longer in the config)" for name in ("cnn", "cnn-c2-")]
        for only_tell in (True, False):
            said = sorted(prune(STUDY, results, only_tell=only_tell))
            assert len(said) == 2 and said[0] == names[0] and said[1].startswith(names[1][:-26])
            left = {run.info.run_id for run in client.search_runs([told["experiment_id"]])}
            assert left == ({mine} | ours | gone if only_tell else {mine} | ours)
    assert prune(STUDY, results) == []
    assert go(results)[0] == counted(unchanged=4)


def test_prune_waits_for_a_sync(results: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It holds the lock of a sync whenever it looks for outdated runs, and when it deletes."""
    from mlflow import MlflowClient

    go(results)
    write_table(results, ROWS[:2])
    go(results)
    done: list[tuple[str, bool]] = []

    def watched(name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def one(*given: Any) -> Any:
            with (results / STUDY / STEM / ".tracking.lock").open("a") as stream:
                try:
                    fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    done.append((name, False))
                except BlockingIOError:
                    done.append((name, True))
            return real(*given)

        return one

    monkeypatch.setattr(held, "runs_of", watched("look", held.runs_of))
    monkeypatch.setattr(MlflowClient, "delete_run", watched("delete", MlflowClient.delete_run))
    prune(STUDY, results, [STEM])
    assert done == [("look", True), ("delete", True), ("delete", True)]


def test_an_arm_that_comes_back_loses_its_mark(results: Path) -> None:
    _, told = go(results)
    with store.open_client(results) as client:
        before = state(client)
    table = results / STUDY / STEM / "runs.csv"
    whole = table.read_text()
    write_table(results, ROWS[:2])
    go(results)
    table.write_text(whole)
    counts, again = go(results)
    assert (counts, again) == (counted(unchanged=6), told)
    with store.open_client(results) as client:
        assert state(client) == before


def test_a_seed_that_was_dropped_stays_below_its_arm(results: Path) -> None:
    """Its arm is logged anew, with a mean over the seeds that are left."""
    _, told = go(results)
    write_table(results, [ROWS[0], ROWS[2]])
    counts, again = go(results)
    # Besides, the model is now that of the other seed.
    assert counts == counted(logged=1, unchanged=4, deleted=1, outdated=1)
    assert again["headline"]["run_id"] == ROWS[0]["run_id"]
    with store.open_client(results) as client:
        seed = client.get_run(told["runs"][ROWS[1]["run_id"]])
        assert seed.data.tags["mlflow.parentRunId"] == again["arms"][ROWS[1]["arm_id"]]
        arm = client.get_run(again["arms"][ROWS[1]["arm_id"]])
        assert arm.data.metrics["seeds"] == 1
    absent = ROWS[1] | {"status": "not run", "reason": "the weights are gone"}
    write_table(results, [ROWS[0], ROWS[2], absent])
    assert go(results)[0] == counted(unchanged=5, outdated=1)
    assert prune(STUDY, results, [STEM]) == [f"{STEM}: {absent['run_id']} (not run any more)"]


def test_prune_is_a_command_and_names_a_study_that_is_not_there(results: Path) -> None:
    go(results)
    write_table(results, ROWS[:2])
    go(results)
    environment = {key: value for key, value in os.environ.items() if key != "MLFLOW_TRACKING_URI"}

    def command(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "vitrail.tracking", "prune", *arguments],
            cwd=results.parent, env=environment, capture_output=True, text=True,
        )  # fmt: skip

    told = command("--study", STUDY, "--question", STEM, "--dry-run")
    assert told.stdout.endswith(f"tracking: study {STUDY}: 2 outdated runs would be deleted\n")
    told = command("--study", STUDY)
    assert told.stdout.endswith(f"tracking: study {STUDY}: 2 outdated runs deleted\n")
    config = results.parent / "config.yaml"
    config.write_text(f"study: {STUDY}\n")
    told = command("--config", str(config))
    assert told.stdout == f"tracking: study {STUDY}: 0 outdated runs deleted\n"
    told = command("--study", "unknown")
    assert told.returncode == 1
    assert re.fullmatch(r"vitrail: MLflow knows no experiment unknown/.*\n", told.stderr)
    assert not (results / "unknown").exists()


@pytest.mark.parametrize("lost", ["a file", "a cut file", "all artifacts of a run", "a figure"])
def test_a_run_whose_artifacts_are_gone_is_logged_anew(results: Path, lost: str) -> None:
    _, told = go(results)
    with store.open_client(results) as client:
        before = state(client)
        run = told["results"] if lost == "a figure" else told["runs"][ROWS[0]["run_id"]]
        folder = Path(url2pathname(urlsplit(client.get_run(run).info.artifact_uri).path))
    if lost == "a file":
        (folder / "history.csv").unlink()
    elif lost == "a cut file":
        (folder / "history.csv").write_text("step\n")
    elif lost == "a figure":
        (folder / "figures" / "curves.svg").unlink()
    else:
        shutil.rmtree(folder)
    assert go(results)[0] == counted(logged=1, unchanged=5, deleted=1)
    with store.open_client(results) as client:
        assert state(client) == before
    assert go(results)[0] == counted(unchanged=6)


@pytest.mark.parametrize(
    "damage",
    [
        "UPDATE latest_metrics SET value = value + 1 WHERE key = 'test_accuracy'",
        "UPDATE params SET value = '7' WHERE key = 'depth'",
        "DELETE FROM params WHERE key = 'seed'",
        "UPDATE runs SET status = 'RUNNING'",
        "DELETE FROM tags WHERE key = 'vitrail.content'",
    ],
)
def test_a_value_that_the_database_lost_is_logged_anew(results: Path, damage: str) -> None:
    go(results)
    with store.open_client(results) as client:
        before = state(client)
    with closing(sqlite3.connect(store.database(results))) as opened:
        opened.execute(damage)
        opened.commit()
    counts, _ = go(results)
    assert counts["logged"] == counts["deleted"] > 0
    with store.open_client(results) as client:
        assert state(client) == before


def test_a_deleted_experiment_comes_back(results: Path) -> None:
    _, told = go(results)
    with store.open_client(results) as client:
        client.delete_experiment(told["experiment_id"])
        _, again = go(results)
        assert again["experiment_id"] == told["experiment_id"]
        assert client.get_experiment(told["experiment_id"]).lifecycle_stage == "active"
        states = [run.info.status for run in client.search_runs([told["experiment_id"]])]
    assert states == ["FINISHED"] * 6


def test_a_copied_project_leaves_the_artifacts_of_the_first_alone(
    results: Path, tmp_path: Path
) -> None:
    go(results)
    before = sorted(store.artifacts(results).rglob("*"))
    copy = tmp_path / "copy"
    shutil.copytree(results, copy)
    counts, told = go(copy)
    assert counts["logged"] == 6
    assert sorted(store.artifacts(results).rglob("*")) == before
    with store.open_client(copy) as client:
        uri = client.get_run(next(iter(told["runs"].values()))).info.artifact_uri
    assert uri.startswith(store.artifacts(copy).as_uri())


def test_missing_and_torn_files_are_named(results: Path) -> None:
    folder = results / STUDY / "runs" / run_id(arm_id(BASE), 0)
    (folder / "history.csv").write_text("step,train_loss\n1,abc\n")
    with pytest.raises(VitrailError, match=f"{folder.name}.* is damaged"):
        go(results)
    shutil.rmtree(folder)
    with pytest.raises(VitrailError, match=f"{folder.name}.* is missing"):
        go(results)
    (results / STUDY / STEM / "runs.csv").unlink()
    with pytest.raises(VitrailError, match=r"runs\.csv is missing"):
        go(results)
