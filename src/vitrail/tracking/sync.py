"""Bring MLflow in line with the files of a question; doing it again changes nothing.

What a reader of the UI finds: one experiment per study and question; in it a run named
"results" on top, which carries the figures, the tables and, in its description, the
verdict on each claim; below it one run per arm with mean and spread, and under each arm
its seeds with their curves. Figures sit on a run of their own because they compare arms
and so belong to none of them.

The experiment mirrors `runs.csv`: a run whose files changed is logged anew and its old
record deleted (MLflow can restore it), and so is one that the config no longer asks for.
Runs that somebody logged by hand carry no tag of ours and are left alone.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vitrail.files import write_json
from vitrail.tracking import headline, store
from vitrail.tracking.records import Question, Record, read_question

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

CHUNK = 900  # MLflow takes 1,000 entries at once, settings included
KIND, CONTENT = "vitrail.kind", "vitrail.content"

Found = dict[tuple[str, str], list["Run"]]


def sync(study: str, stem: str, results: Path, out: Path) -> dict[str, int]:
    """Log the runs whose home is this question, and write `tracking.json`.

    Returns:
        How many MLflow runs were "logged", "unchanged" and "deleted".

    Raises:
        VitrailError: files are missing or torn, or the store cannot be used.
    """
    question = read_question(study, stem, results)
    with store.open_client(results) as client:
        experiment = store.experiment(client, question.study, question.stem, results)
        _describe(client, experiment, question)
        found = _found(client, experiment)
        counts = {"logged": 0, "unchanged": 0, "deleted": 0}
        ids: dict[str, dict[str, str]] = {"arm": {}, "run": {}, "results": {}}
        for record in question.records:  # parents first
            tags = _tags(record, question, ids["arm"].get(record.parent, ""))
            old = found.pop((record.kind, record.key), [])
            kept = next((run for run in old if _is_whole(run, tags)), None)
            if kept is None:
                ids[record.kind][record.key] = _log(client, experiment, record, tags)
                counts["logged"] += 1
            else:
                ids[record.kind][record.key] = kept.info.run_id
                _mend(client, kept, tags)
                counts["unchanged"] += 1
            counts["deleted"] += _delete(client, [run for run in old if run is not kept])
        counts["deleted"] += _delete(client, [run for runs in found.values() for run in runs])
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
                client, experiment, question, ids["run"], results
            )
    write_json(out, content)
    return counts


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
        "mlflow.note.content": " ".join(lines)[:4900],
        # The UI goes by this tag to show runs rather than traces of language models.
        "mlflow.experimentKind": "custom_model_development",
        "vitrail.study": question.study,
        "vitrail.question": question.stem,
    }


def _found(client: MlflowClient, experiment: str) -> Found:
    """Our runs of the experiment that are not deleted, by kind and identity."""
    found: Found = {}
    token = None
    while True:
        page = client.search_runs([experiment], max_results=1000, page_token=token)
        for run in page:
            tags = run.data.tags
            if KIND in tags:
                found.setdefault((tags[KIND], tags.get("vitrail.key", "")), []).append(run)
        token = page.token
        if not token:
            return found


def _tags(record: Record, question: Question, parent: str) -> dict[str, str]:
    """All tags that a record's MLflow run should have."""
    tags = record.tags | {
        KIND: record.kind,
        "vitrail.key": record.key,
        CONTENT: record.content(),
        "vitrail.claims": question.claims,
    }
    return tags | ({"mlflow.parentRunId": parent} if parent else {})


def _is_whole(run: Run, tags: dict[str, str]) -> bool:
    """Whether the record was logged to its end from files like those of today."""
    return run.info.status == "FINISHED" and run.data.tags.get(CONTENT) == tags[CONTENT]


def _mend(client: MlflowClient, run: Run, tags: dict[str, str]) -> None:
    for key, value in tags.items():
        if run.data.tags.get(key) != value:
            client.set_tag(run.info.run_id, key, value)


def _delete(client: MlflowClient, runs: list[Run]) -> int:
    for run in runs:
        client.delete_run(run.info.run_id)
    return len(runs)


def _log(client: MlflowClient, experiment: str, record: Record, tags: dict[str, str]) -> str:
    """Log a record whole; it is FINISHED only when everything is in."""
    from mlflow.entities import Param

    made = client.create_run(experiment, record.start, tags, record.name)
    identity = str(made.info.run_id)
    params = [Param(key, value) for key, value in record.params.items()]
    for batch in _metrics(record):
        client.log_batch(identity, metrics=batch, params=params)
        params = []
    for path, folder in record.artifacts:
        client.log_artifact(identity, str(path), folder or None)
    client.set_terminated(identity, "FINISHED", record.end)
    return identity


def _metrics(record: Record) -> Iterator[list[Any]]:
    from mlflow.entities import Metric

    points = [Metric(point.key, point.value, point.time, point.step) for point in record.points]
    for first in range(0, len(points), CHUNK):
        yield points[first : first + CHUNK]
