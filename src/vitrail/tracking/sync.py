"""Bring MLflow in line with the files of a question; doing it again changes nothing.

What a reader of the UI finds: one experiment per study and question; in it a run named
"results" on top, which carries the figures, the tables and, in its description, the
verdict on each claim; below it one run per arm with means and spreads, and under each arm
its seeds with their curves. Figures sit on a run of their own because they compare arms
and so belong to none of them.

The experiment mirrors `runs.csv`: a run whose files changed is logged anew and its old
record deleted (MLflow can restore it). A run that the config no longer asks for stays, with
a tag that says so, until `prune` is asked to delete it. Runs that somebody logged by hand
carry no tag of ours and are left alone.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import zip_longest
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vitrail.files import write_json
from vitrail.tracking import headline, held, store
from vitrail.tracking.alone import alone, workspace
from vitrail.tracking.records import OUTDATED, Question, Record, fits, read_question

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

# What MLflow takes at once: 100 parameters, and 1,000 entries together.
PARAMS, METRICS = 100, 900
NOTE = 4900  # characters of an experiment's note, which older servers bound at 5,000
LEFT = "no longer in the config"

Ids = dict[str, dict[str, str]]  # MLflow run id by kind and identity


def sync(study: str, stem: str, results: Path, out: Path) -> dict[str, int]:
    """Log the runs whose home is this question, and write `tracking.json`.

    Returns:
        How many MLflow runs were "logged", "unchanged" and "deleted", and how many are
        "no longer in the config" (or no longer finished) and stay until they are pruned.

    Raises:
        VitrailError: files are missing or torn, or the store cannot be used.
    """
    folder = results / study / stem
    with (
        store.open_client(results) as client,
        alone(folder / ".tracking.lock"),
        workspace(folder / ".tracking"),
    ):
        for rest in out.parent.glob(f".{out.name}.*"):  # of a sync that was killed
            rest.unlink()
        question = read_question(study, stem, results)
        experiment = store.experiment(client, study, stem, results)
        _describe(client, experiment, question)
        counts, ids = _bring_in_line(client, experiment, question)
        content: dict[str, Any] = {
            "study": study,
            "question": stem,
            "experiment": f"{study}/{stem}",
            "experiment_id": experiment,
            "arms": ids["arm"],
            "runs": ids["run"],
            "results": ids["results"][stem],
            "not_run": sorted(row["run_id"] for row in question.not_run),
        }
        if stem == headline.QUESTION:
            content["headline"] = headline.log_headline(
                client, experiment, question, ids["run"], results, folder / ".tracking"
            )
        write_json(out, content)
    return counts


def _bring_in_line(
    client: MlflowClient, experiment: str, question: Question
) -> tuple[dict[str, int], Ids]:
    """Log what is missing or changed, delete what it replaces, mark what is outdated."""
    found = held.runs_of(client, experiment)
    counts = {"logged": 0, "unchanged": 0, "deleted": 0, LEFT: 0}
    ids: Ids = {"arm": {}, "run": {}, "results": {}}
    for record in question.records:  # parents first
        tags = held.tags_of(record, question, ids["arm"].get(record.parent, ""))
        old = found.pop((record.kind, record.key), [])
        kept = next((run for run in old if held.is_whole(client, run, record, tags)), None)
        if kept is None:
            ids[record.kind][record.key] = _log(client, experiment, record, tags)
            counts["logged"] += 1
        else:
            ids[record.kind][record.key] = kept.info.run_id
            _mend(client, kept, tags)
            if OUTDATED in kept.data.tags:  # it came back
                client.delete_tag(kept.info.run_id, OUTDATED)
            counts["unchanged"] += 1
        counts["deleted"] += delete(client, [run for run in old if run is not kept])
    absent = {row[name] for row in question.not_run for name in ("run_id", "arm_id")}
    for (_, key), runs in found.items():
        whole = [run for run in runs if run.info.status == "FINISHED"][:1]
        for run in whole:
            tags = {OUTDATED: "not run any more" if key in absent else LEFT}
            arm = ids["arm"].get(run.data.tags.get("vitrail.arm_id", ""))
            if "mlflow.parentRunId" in run.data.tags and arm:  # its arm was logged anew
                tags["mlflow.parentRunId"] = arm
            _mend(client, run, tags)
            counts[LEFT] += 1
        # Half a run of a sync that was killed is a record of nothing.
        counts["deleted"] += delete(client, [run for run in runs if run not in whole])
    return counts, ids


def _describe(client: MlflowClient, experiment: str, question: Question) -> None:
    """Mend the tags of an experiment."""
    tags = client.get_experiment(experiment).tags
    for key, value in _description(question).items():
        if tags.get(key) != value:
            client.set_experiment_tag(experiment, key, value)


def _description(question: Question) -> dict[str, str]:
    """Tags of the experiment; the note says what is missing, and why."""
    lines = [
        f"Question {question.stem} of the study {question.study}. The run `results` has the "
        "figures and tables; each arm holds its seeds."
    ]
    reasons: dict[str, list[str]] = {}
    for row in question.not_run:
        reasons.setdefault(row.get("reason") or "no reason given", []).append(row["run_id"])
    for reason, runs in reasons.items():
        lines.append(f"Not run, so not logged: {', '.join(runs)}. Reason: {reason}")
    return {
        "mlflow.note.content": fits(" ".join(lines), NOTE),
        # The UI goes by this tag to show runs rather than traces of language models.
        "mlflow.experimentKind": "custom_model_development",
        "vitrail.study": question.study,
        "vitrail.question": question.stem,
    }


def _mend(client: MlflowClient, run: Run, tags: dict[str, str]) -> None:
    for key, value in tags.items():
        if run.data.tags.get(key) != value:
            client.set_tag(run.info.run_id, key, value)


def delete(client: MlflowClient, runs: list[Run]) -> int:
    """Delete runs, and say how many; MLflow keeps them until `mlflow gc`."""
    for run in runs:
        client.delete_run(run.info.run_id)
    return len(runs)


def _log(client: MlflowClient, experiment: str, record: Record, tags: dict[str, str]) -> str:
    """Log a record whole; it is FINISHED only when everything is in."""
    from mlflow.entities import Param

    made = client.create_run(experiment, record.start, tags, held.name_of(record))
    identity = str(made.info.run_id)
    params = [Param(key, value) for key, value in held.params_of(record).items()]
    for some, batch in zip_longest(batched(params, PARAMS), batched(_metrics(record), METRICS)):
        client.log_batch(identity, metrics=batch or (), params=some or ())
    for path, folder in record.artifacts:
        client.log_artifact(identity, str(path), folder or None)
    client.set_terminated(identity, "FINISHED", record.end)
    return identity


def _metrics(record: Record) -> list[Any]:
    from mlflow.entities import Metric

    return [Metric(point.key, point.value, point.time, point.step) for point in record.points]


def batched(items: list[Any], size: int) -> Iterator[list[Any]]:
    """A list in pieces of at most `size`, in its order."""
    for first in range(0, len(items), size):
        yield items[first : first + size]
