"""What MLflow should hold for a question, read from the files and without MLflow.

A `Record` becomes one MLflow run. There are three kinds: one per run of the study
("run"), one per arm as the parent of its seeds ("arm"), one per question with its
figures and tables ("results").
"""

from __future__ import annotations

import csv
import hashlib
import json
import math
import statistics
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from vitrail.errors import VitrailError
from vitrail.files import read_json, sha256
from vitrail.intact import check_shown, intact, read_rows, read_summary

# A new number replaces all that older versions of this module logged.
LAYOUT = 2
# On a run that is in MLflow but no longer asked for or no longer finished, with the reason.
OUTDATED = "vitrail.outdated"
# What MLflow takes: characters of a tag, a parameter, and the name of a run.
TAG, PARAM, NAME = 8000, 6000, 250

CURVES = ("train_loss", "val_loss", "val_accuracy", "learning_rate")
FINALS = (
    "test_accuracy",
    "test_loss",
    "test_errors",
    "parameters",
    "macs",
    "samples",
    "seconds",
    "test_seconds",
    "train_samples_per_second",
    "peak_memory_mb",
)
SPREADS = ("val_accuracy", "test_accuracy", "test_errors")
RUN_ARTIFACTS = ("config.json", "history.csv", "summary.json", "env.json")
RESULT_ARTIFACTS = {"": ("*.csv", "*.json", "answer.md"), "figures": ("figures/*.svg",)}
# Written after the sync; and the runs are MLflow's own.
NOT_RESULTS = {"tracking.json", "runs.csv"}
# Of the table of a question's runs.
COLUMNS = ("run_id", "arm_id", "arm", "label", "question", "experiment", "status", "reason")

Row = dict[str, str]


@dataclass(frozen=True)
class Point:
    """One value of a metric; `time` in milliseconds since 1970, for display only."""

    key: str
    value: float
    step: int
    time: int


@dataclass(frozen=True)
class Record:
    """One MLflow run to be; `key` is its identity among the records of its kind."""

    kind: str
    key: str
    name: str
    start: int
    end: int
    tags: dict[str, str]
    params: dict[str, str] = field(default_factory=dict)
    points: tuple[Point, ...] = ()
    artifacts: tuple[tuple[Path, str], ...] = ()  # (file, folder among the artifacts)
    parent: str = ""  # arm_id of the parent

    def content(self) -> str:
        """Checksum of what MLflow cannot change once it is logged.

        Tags are left out, for they are mended in place, and so are times: a copied
        folder has new ones and is the same result.
        """
        files = {f"{folder}/{path.name}": sha256(path) for path, folder in self.artifacts}
        points = [(point.key, repr(point.value), point.step) for point in self.points]
        logged = [LAYOUT, self.kind, self.key, self.name, self.params, points, files]
        return hashlib.sha256(json.dumps(logged, sort_keys=True).encode()).hexdigest()


@dataclass(frozen=True)
class Question:
    """Everything of one question: its records, parents first, and the runs it lacks."""

    study: str
    stem: str
    records: tuple[Record, ...]
    not_run: tuple[Row, ...]
    claims: str  # claim ids, separated by commas
    rows: dict[str, Row]  # by run id, the finished runs


def read_question(study: str, stem: str, results: Path) -> Question:
    """Read what belongs to a question from `results/<study>`.

    Raises:
        VitrailError: the run table, the claims or a finished run's folder is missing or damaged.
    """
    table = results / study / stem / "runs.csv"
    if not table.exists():
        raise VitrailError(f"{table} is missing; run `make report`, which writes it")
    rows = [row for row in read_rows(table, *COLUMNS) if row["question"] == stem]
    finished = [row for row in rows if row["status"] == "finished"]
    # All of the answer: MLflow shows its tables and figures, too.
    check_shown(table.parent, f"delete the folder {table.parent} and run the same command again")

    runs = [_run(study, row, results / study / "runs" / row["run_id"]) for row in finished]
    seeds: dict[str, list[tuple[Row, Record]]] = {}
    for row, run in zip(finished, runs, strict=True):
        seeds.setdefault(row["arm_id"], []).append((row, run))
    arms = [_arm(study, members[0][0], [run for _, run in members]) for members in seeds.values()]
    claims = _claims(results / study / stem / "claims.json")
    shown = _results(study, stem, results / study / stem, claims, [run.end for run in runs])
    return Question(
        study=study,
        stem=stem,
        records=(*arms, *runs, shown),
        not_run=tuple(row for row in rows if row["status"] != "finished"),
        claims=",".join(str(claim["id"]) for claim in claims),
        rows={row["run_id"]: row for row in finished},
    )


def _run(study: str, row: Row, folder: Path) -> Record:
    """One seed of one arm: settings, curves, final figures and the small files."""
    try:
        config, summary = read_json(intact(folder, "config.json")), read_summary(folder)
        facts = read_json(intact(folder, "env.json"))
        history = _table(intact(folder, "history.csv"))
        clock = _table(intact(folder, "timing.csv"))
        if summary["status"] != "finished":
            raise VitrailError(f"{folder} is {summary['status']}, unlike in runs.csv; run again")
        seconds = {int(at["step"]): float(at["seconds"]) for at in clock}
        # The folder is moved into place when the run is done: that is the time it ended.
        end = int((folder / "summary.json").stat().st_mtime * 1000)
        start = end - int(1000 * float(summary["seconds"]))
        points = [
            Point(name, float(at[name]), step, start + int(1000 * seconds.get(step, 0.0)))
            for at in history
            for step in [int(at["step"])]
            for name in CURVES
            if at.get(name)
        ]
        last = int(history[-1]["step"])
        points += [
            Point(name, float(summary[name]), last, end)
            for name in FINALS
            if summary.get(name) is not None
        ]
        settings = {"seed": config["seed"], **config["settings"]}
        source = facts.get("data") or {}
    except FileNotFoundError as error:
        raise VitrailError(
            f"{error.filename} is missing, though runs.csv calls the run finished; "
            f"delete the folder {folder} and run the same command again"
        ) from error
    except (KeyError, ValueError, IndexError, TypeError, AttributeError) as error:
        raise VitrailError(
            f"{folder} is damaged ({type(error).__name__}: {error}); delete the folder "
            "and run the same command again"
        ) from error
    commit = str(facts.get("commit") or "unknown")
    return Record(
        kind="run",
        key=row["run_id"],
        name=row["run_id"],
        start=start,
        end=end,
        tags=_tags(study, row)
        | {
            "vitrail.run_id": row["run_id"],
            "vitrail.commit": commit,
            "vitrail.precision_used": str(summary.get("precision_used") or "unknown"),
            "vitrail.data_sha256": data_checksum(source.get("sha256")),
            "mlflow.source.name": "python -m vitrail.train",
            "mlflow.source.type": "LOCAL",
            "mlflow.source.git.commit": commit.removesuffix("-dirty"),
        },
        params={name: plain(value) for name, value in settings.items()},
        points=tuple(points),
        artifacts=tuple((folder / name, "") for name in RUN_ARTIFACTS),
        parent=row["arm_id"],
    )


def _arm(study: str, arm: Row, seeds: list[Record]) -> Record:
    """The parent of an arm's seeds: their settings, and means and spreads over them."""
    # Of a curve the last value counts, as everywhere in the study.
    last = [{point.key: point.value for point in run.points} for run in seeds]
    start, end = min(run.start for run in seeds), max(run.end for run in seeds)
    figures = {"seeds": float(len(seeds))}
    # Under the names that the seeds use: MLflow's table then shows an arm's mean in the column
    # in which it shows its seeds, and sorts by it.
    for name in (*CURVES, *FINALS):
        values = [one.get(name, math.nan) for one in last]
        if any(math.isnan(value) for value in values):
            continue
        figures[name] = statistics.fmean(values)
        if len(values) > 1 and name in SPREADS:
            figures[f"{name}_std"] = statistics.stdev(values)
    settings = {name: value for name, value in seeds[0].params.items() if name != "seed"}
    note = (
        f"{arm['label']}: each metric is the mean over {len(seeds)} seeds, `_std` its standard "
        "deviation; each seed is a run below this one."
    )
    return Record(
        kind="arm",
        key=arm["arm_id"],
        name=arm["arm"],
        start=start,
        end=end,
        tags=_tags(study, arm) | {"mlflow.note.content": note},
        params=settings,
        points=tuple(Point(name, value, 0, end) for name, value in figures.items()),
    )


def _results(
    study: str, stem: str, folder: Path, claims: list[dict[str, Any]], ends: list[int]
) -> Record:
    """The run that carries what the question came to: figures, tables, verdicts."""
    found = {
        (path, place)
        for place, patterns in RESULT_ARTIFACTS.items()
        for pattern in patterns
        for path in folder.glob(pattern)
        if path.name != "runs.csv"  # its rows are runs of MLflow themselves
        if path.name not in NOT_RESULTS
    }
    artifacts = tuple(sorted(found))
    # Dated after the runs that it sums up, so the UI, newest first, shows it on top.
    times = [*ends, *(int(path.stat().st_mtime * 1000) for path, _ in artifacts)]
    end = max(times, default=0)
    verdicts = [
        f"- **{claim.get('verdict', 'open')}**: {claim.get('sentence', claim['id'])} "
        f"{claim.get('evidence', '')}"
        for claim in claims
    ]
    note = "\n".join(["Figures and tables are among the artifacts.", "", *verdicts]).strip()
    return Record(
        kind="results",
        key=stem,
        name="results",
        start=end,
        end=end,
        tags={
            "vitrail.study": study,
            "vitrail.question": stem,
            "mlflow.note.content": note,
        },
        artifacts=artifacts,
    )


def _claims(path: Path) -> list[dict[str, Any]]:
    """The claims of a question: a list of objects with an `id`; none without the file."""
    if not path.exists():
        return []
    listed = read_json(path)
    if not (isinstance(listed, list) and all(isinstance(one, dict) for one in listed)):
        raise VitrailError(f"{path} is no list of claims; delete it and run again")
    if not all("id" in claim for claim in listed):
        raise VitrailError(f"{path} holds a claim without an id; delete it and run again")
    return listed


def _tags(study: str, row: Row) -> dict[str, str]:
    names = {"arm_id": "arm_id", "question": "question", "experiment": "experiment"}
    tags = {f"vitrail.{tag}": row[column] for tag, column in names.items()}
    return tags | {
        "vitrail.study": study,
        "vitrail.arm": row["arm"],
        "vitrail.label": row["label"],
    }


def fits(text: str, limit: int) -> str:
    """A text as every store takes it: what is too long ends with a word about what was cut.

    MLflow itself would cut without a word, and a sync could not tell the rest from a change.
    PostgreSQL refuses the character NUL.
    """
    text = text.replace("\0", "\ufffd")
    if len(text) <= limit:
        return text
    told = f" ... (cut here: {len(text)} characters in all; the run's files have the rest)"
    return text[: limit - len(told)] + told


def stored(value: float) -> float:
    """A metric's value as MLflow's databases keep it: infinity is their largest number."""
    largest = sys.float_info.max
    return value if math.isnan(value) else max(-largest, min(largest, value))


def _table(path: Path) -> list[Row]:
    with path.open(encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))


def plain(value: Any) -> str:
    """A setting as MLflow's text: strings as they are, all else as JSON writes it."""
    return value if isinstance(value, str) else json.dumps(value)


def data_checksum(sums: Any) -> str:
    """One checksum for the data files: that of ``sha256sum *-ubyte | sha256sum``."""
    if not isinstance(sums, dict) or not sums:
        return "unknown"
    lines = "".join(f"{sums[name]}  {name}\n" for name in sorted(sums))
    return hashlib.sha256(lines.encode()).hexdigest()
