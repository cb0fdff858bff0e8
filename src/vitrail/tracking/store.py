"""Where MLflow keeps the record: a SQLite file beside the results, or a server.

`MLFLOW_TRACKING_URI` is taken as it is. Without it, `init` makes the database, alone and
before any other step: processes that open a fresh one together break it.
"""

from __future__ import annotations

import logging
import os
import socket
import sqlite3
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit, urlunsplit

from vitrail.config import STEMS
from vitrail.errors import VitrailError
from vitrail.files import draft_of, forget_drafts
from vitrail.tracking.alone import alone

if TYPE_CHECKING:
    from mlflow import MlflowClient

ANSWER_SECONDS = 5
PORTS = {"postgresql": 5432, "mysql": 3306, "mssql": 1433}  # where a URI names none
# Opens the store and syncs every question of the study, whatever is up to date by its files.
REFILL = "`snakemake --cores all --forcerun mlflow_store`"


def database(results: Path) -> Path:
    """The SQLite file of the record."""
    return results / "mlflow.db"


def artifacts(results: Path) -> Path:
    """The folder of the artifacts beside it."""
    return results / "mlflow-artifacts"


def given_uri() -> str:
    """`MLFLOW_TRACKING_URI`, or "" when the record is kept in the results."""
    return os.environ.get("MLFLOW_TRACKING_URI", "")


def tracking_uri(results: Path) -> str:
    """The URI for MLflow; relative like `results`, so no path can upset its syntax."""
    return given_uri() or f"sqlite:///{database(results)}"


def is_server(uri: str) -> bool:
    """Whether a server decides where artifacts go."""
    return uri.startswith(("http://", "https://", "databricks"))


def without_password(uri: str) -> str:
    """The URI as it may be shown: user and password left out."""
    parts = urlsplit(uri)
    _, at, host = parts.netloc.rpartition("@")
    return urlunsplit(parts._replace(netloc=host)) if at else uri


def artifact_location(results: Path) -> str | None:
    """Where new experiments put their artifacts; None lets a server choose."""
    if is_server(given_uri()):
        return None
    return artifacts(results).resolve().as_uri()


def initialise(study: str, results: Path) -> str:
    """Make the store if there is none, bring its tables up to date, or ask the server.

    The experiments of the study are made here, in the order of the questions: MLflow counts
    them, and the report links to these numbers.

    Returns:
        One line that says what was found or done.

    Raises:
        VitrailError: the database is damaged, or the server does not answer.
    """
    with alone(results / ".mlflow.lock"):
        done = _open(results)
        with open_client(results) as client:
            for stem in STEMS:
                experiment(client, study, stem, results)
    return done


def _open(results: Path) -> str:
    """The store itself."""
    uri = tracking_uri(results)
    if given_uri():
        return f"{without_password(uri)} is asked"
    path = database(results)
    forget_drafts(path)
    if path.exists():
        check_database(path, to_write=True)
        with _told(path):
            _migrate(uri)
        return f"{path} is ready"
    # Made under another name and moved: a kill half-way leaves no half-made database.
    draft = draft_of(path)
    try:
        with _told(draft):
            _client(f"sqlite:///{draft}").search_experiments(max_results=1)
        draft.replace(path)
    finally:
        for rest in results.glob(f"{draft.name}*"):
            rest.unlink()
    return f"{path} made"


@contextmanager
def open_client(results: Path) -> Iterator[MlflowClient]:
    """The one client of a step; MLflow's errors leave the block as a `VitrailError`.

    Raises:
        VitrailError: there is no store yet, it is damaged, or the server is not there.
    """
    uri = tracking_uri(results)
    if uri.startswith(("http://", "https://")):
        ask_server(uri)
    elif given_uri():
        ask_database(uri)
    else:
        path = database(results)
        if not path.exists():
            raise VitrailError(
                f"{path} is missing; run {REFILL}, which fills it from the run folders"
            )
        check_database(path, to_write=True)
    with _told(without_password(uri) if given_uri() else database(results)):
        yield _client(uri)


def experiment(client: MlflowClient, study: str, stem: str, results: Path) -> str:
    """The id of a question's experiment, made or mended as need be."""
    from mlflow.exceptions import MlflowException

    name, location = f"{study}/{stem}", artifact_location(results)
    known = client.get_experiment_by_name(name)
    if known and known.lifecycle_stage == "deleted":
        client.restore_experiment(known.experiment_id)
    moved = f"{name} (moved, "
    if known and not given_uri() and known.artifact_location.rpartition("/")[0] != location:
        # The project was moved or copied: MLflow keeps absolute paths, and writing on
        # would change the artifacts of the place that it came from.
        client.rename_experiment(known.experiment_id, f"{moved}{known.experiment_id})")
        known = None
    if known:
        return str(known.experiment_id)
    # Looked for rather than remembered: a kill may fall between renaming and deleting.
    for old in client.search_experiments(filter_string=f"name LIKE '{moved}%'"):
        client.delete_experiment(old.experiment_id)
    under = f"{location}/{study}-{stem}" if location else None
    try:
        return str(client.create_experiment(name, under))
    except MlflowException as error:
        made = client.get_experiment_by_name(name)
        if error.error_code != "RESOURCE_ALREADY_EXISTS" or made is None:
            raise
        return str(made.experiment_id)  # somebody else, on the same server, a moment ago


def _client(uri: str) -> MlflowClient:
    from mlflow import MlflowClient

    for chatter in ("alembic", "mlflow"):
        logging.getLogger(chatter).setLevel(logging.WARNING)
    # It would print a traceback before the sentence that `_told` makes of the error.
    logging.getLogger("mlflow.store.db.utils").setLevel(logging.CRITICAL)
    return MlflowClient(tracking_uri=uri, registry_uri=uri)


@contextmanager
def _told(where: Path | str) -> Iterator[None]:
    """Turn what MLflow and its database raise into one sentence."""
    from alembic.util import CommandError
    from mlflow.exceptions import MlflowException
    from sqlalchemy.exc import SQLAlchemyError

    try:
        yield
    except ImportError as error:  # SQLAlchemy loads the driver that the URI asks for
        raise VitrailError(
            f"MLflow cannot use {where}: {error}; install that driver into the environment, "
            "or keep the record behind `mlflow server`"
        ) from error
    except (MlflowException, SQLAlchemyError, CommandError) as error:
        reason = " ".join(str(error).split("\n")[0].split())[:300]
        if given_uri():
            advice = "see that MLFLOW_TRACKING_URI names a store of this MLflow that may be written"
        elif "locked" in reason:
            advice = "another program holds it; end that and run the same command again"
        elif "full" in reason or "readonly" in reason:
            advice = "free the disk or the permission and run the same command again"
        else:
            advice = (
                "if it was made by another version of MLflow or is damaged, delete it and run "
                f"{REFILL}, which fills it anew from the run folders"
            )
        raise VitrailError(f"MLflow cannot use {where} ({reason}); {advice}") from error


def check_database(path: Path, to_write: bool = False) -> None:
    """Make sure that the file is a whole SQLite database, before MLflow opens it.

    Raises:
        VitrailError: it is damaged, no file, or may not be read (or written, if asked).
    """
    again = f"delete it and run {REFILL}, which fills it anew from the run folders"
    if path.is_dir():
        raise VitrailError(f"{path} is a folder and should be MLflow's database; {again}")
    # SQLite writes its journal beside the database.
    closed = [place for place in (path, path.parent) if not os.access(place, os.W_OK)]
    if to_write and closed:
        raise VitrailError(
            f"{closed[0]} may not be written, so no run can be recorded in {path.name}; give "
            "yourself the permission (chmod u+w) and run the same command again"
        )
    try:
        with closing(sqlite3.connect(path.resolve().as_uri() + "?mode=ro", uri=True)) as opened:
            opened.execute("PRAGMA busy_timeout = 20000")
            verdict = opened.execute("PRAGMA quick_check(1)").fetchone()[0]
            tables = opened.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
    except sqlite3.OperationalError as error:
        raise VitrailError(
            f"{path} cannot be read ({error}); see that no other program holds it "
            "and that you may read it"
        ) from error
    except sqlite3.DatabaseError as error:
        raise VitrailError(f"{path} is damaged ({error}); {again}") from error
    if verdict != "ok":
        raise VitrailError(f"{path} is damaged ({' '.join(verdict.split())}); {again}")
    if not tables:
        raise VitrailError(f"{path} is empty (a first step was cut short); {again}")


def _migrate(uri: str) -> None:
    """Bring an older database to the tables of this MLflow, as ``mlflow db upgrade`` does."""
    from mlflow.exceptions import MlflowException

    try:
        _client(uri).search_experiments(max_results=1)
    except MlflowException as error:
        if "out-of-date" not in str(error):
            raise
        from mlflow.db import commands

        commands(["upgrade", uri], standalone_mode=False)
        _client(uri).search_experiments(max_results=1)


def ask_server(uri: str) -> None:
    """Make sure within seconds that a tracking server answers; MLflow itself retries long.

    Raises:
        VitrailError: nothing answers there.
    """
    parts = urlsplit(uri)
    health = urlunsplit(
        (parts.scheme, parts.netloc.rpartition("@")[2], parts.path.rstrip("/") + "/health", "", "")
    )
    try:
        urllib.request.urlopen(health, timeout=ANSWER_SECONDS).close()  # noqa: S310 - http(s)
    except urllib.error.HTTPError:
        return  # it answers, if only to ask who we are; MLflow sends the credentials
    except (OSError, ValueError) as error:
        raise VitrailError(
            f"the tracking server {without_password(uri)} does not answer ({error}); start it, or "
            "unset MLFLOW_TRACKING_URI to keep the record in results/mlflow.db"
        ) from error


def ask_database(uri: str) -> None:
    """Make sure within seconds that a database on the network answers; MLflow tries for minutes.

    One that is reached through a file, as SQLite or by a socket, is left to MLflow.

    Raises:
        VitrailError: nothing answers there.
    """
    parts = urlsplit(uri)
    port = next((at for kind, at in PORTS.items() if parts.scheme.startswith(kind)), None)
    if port is None or not parts.hostname:
        return
    try:
        socket.create_connection((parts.hostname, parts.port or port), ANSWER_SECONDS).close()
    except (OSError, ValueError) as error:
        raise VitrailError(
            f"the database {without_password(uri)} does not answer ({error}); start it, or "
            "unset MLFLOW_TRACKING_URI to keep the record in results/mlflow.db"
        ) from error
