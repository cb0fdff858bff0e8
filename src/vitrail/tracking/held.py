"""What MLflow holds of a question, and whether it is still what the files say."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from vitrail.tracking.records import NAME, PARAM, TAG, Question, Record, fits, stored

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import FileInfo, Run

KIND, KEY, CONTENT = "vitrail.kind", "vitrail.key", "vitrail.content"
# The network's accuracy after it was loaded from MLflow; no table has it (see `headline`).
REMEASURED = {"remeasured_test_accuracy", "remeasured_test_errors"}
LEFT_BY_LOADING = ("__pycache__", "registered_model_meta")

Found = dict[tuple[str, str], list["Run"]]


def runs_of(client: MlflowClient, experiment: str) -> Found:
    """Our runs of the experiment that are not deleted, by kind and identity."""
    found: Found = {}
    token = None
    while True:
        page = client.search_runs([experiment], max_results=1000, page_token=token)
        for run in page:
            tags = run.data.tags
            if KIND in tags:
                found.setdefault((tags[KIND], tags.get(KEY, "")), []).append(run)
        token = page.token
        if not token:
            return found


def tags_of(record: Record, question: Question, parent: str) -> dict[str, str]:
    """All tags that a record's MLflow run should have."""
    tags = record.tags | {
        KIND: record.kind,
        KEY: record.key,
        CONTENT: record.content(),
        "vitrail.claims": question.claims,
    }
    tags |= {"mlflow.parentRunId": parent} if parent else {}
    return {key: fits(value, TAG) for key, value in tags.items()}


def params_of(record: Record) -> dict[str, str]:
    """All parameters that it should have."""
    return {key: fits(value, PARAM) for key, value in record.params.items()}


def name_of(record: Record) -> str:
    """Its name in MLflow."""
    return fits(record.name, NAME)


def is_whole(client: MlflowClient, run: Run, record: Record, tags: dict[str, str]) -> bool:
    """Whether the record was logged to its end from files like those of today, and is all there.

    A database that lost a value and a folder that lost a file are found here; the points of a
    curve before its last are believed.
    """
    return (
        run.info.status == "FINISHED"
        and run.data.tags.get(CONTENT) == tags[CONTENT]
        and run.data.params == params_of(record)
        and _same_metrics(run, record)
        and _has_files(client, run, record)
    )


def _same_metrics(run: Run, record: Record) -> bool:
    last = {point.key: stored(point.value) for point in record.points}
    logged = run.data.metrics
    return logged.keys() - REMEASURED == last.keys() and all(
        logged[key] == value or (math.isnan(logged[key]) and math.isnan(value))
        for key, value in last.items()
    )


def _has_files(client: MlflowClient, run: Run, record: Record) -> bool:
    """Whether all its artifacts lie in the store, with the sizes of the files."""
    wanted = {
        f"{folder}/{path.name}".lstrip("/"): path.stat().st_size
        for path, folder in record.artifacts
    }
    there: dict[str, int | None] = {}
    for folder in sorted({folder for _, folder in record.artifacts}):
        listed = client.list_artifacts(run.info.run_id, folder or None)
        there |= {item.path: item.file_size for item in listed if not item.is_dir}
    return all(there.get(name) == size for name, size in wanted.items())


def files(listing: Callable[[str | None], list[FileInfo]]) -> Iterator[Any]:
    """All files below an artifact folder, each as MLflow lists it (`path`, `file_size`).

    Without what Python and MLflow leave beside a model when somebody loads it there.
    """
    folders: list[str | None] = [None]
    while folders:
        for item in listing(folders.pop()):
            if item.path.endswith(LEFT_BY_LOADING):
                continue
            if item.is_dir:
                folders.append(item.path)
            else:
                yield item
