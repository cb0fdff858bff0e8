"""A tracking server as in production, on this machine: PostgreSQL, artifacts over HTTP."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

HOST = "127.0.0.1"


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])


def postgresql_programs() -> Path:
    """The folder of initdb and postgres; skips the test where there is none."""
    found = shutil.which("initdb")
    places = [Path(found).parent] if found else []
    places += sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    for place in places:
        if (place / "initdb").exists() and (place / "postgres").exists():
            return place
    pytest.skip("PostgreSQL is not installed (Debian: apt-get install postgresql)")


@contextmanager
def postgresql(folder: Path) -> Iterator[str]:
    """A cluster of its own in a folder, reached by a socket there alone; gives its URI."""
    pytest.importorskip("psycopg2", reason="the driver of PostgreSQL is not installed")
    programs = postgresql_programs()
    folder.mkdir(parents=True)
    as_user = {}
    if os.geteuid() == 0:  # PostgreSQL refuses to be root
        as_user = {"user": "postgres", "group": "postgres", "extra_groups": []}
        shutil.chown(folder, "postgres", "postgres")
    data = folder / "data"
    make = [programs / "initdb", "-D", data, "-U", "vitrail", "-A", "trust", "-E", "UTF8"]
    make += ["--locale=C.UTF-8", "--no-sync"]
    subprocess.run(make, check=True, cwd=folder, stdout=subprocess.DEVNULL, **as_user)
    options = ["-k", folder, "-c", "listen_addresses=", "-c", "fsync=off"]
    with (folder / "log").open("wb") as log:
        server = subprocess.Popen(
            [programs / "postgres", "-D", data, *options],
            cwd=folder, stdout=log, stderr=subprocess.STDOUT, **as_user,
        )  # fmt: skip
    uri = f"postgresql://vitrail@/postgres?host={folder}"
    try:
        import psycopg2

        deadline = time.monotonic() + 60
        while True:
            try:
                psycopg2.connect(uri).close()
                break
            except psycopg2.OperationalError:
                assert server.poll() is None, (folder / "log").read_text()
                assert time.monotonic() < deadline, "PostgreSQL did not come up"
                time.sleep(0.1)
        yield uri
    finally:
        server.terminate()
        server.wait(timeout=60)


@contextmanager
def mlflow_server(folder: Path, database: str) -> Iterator[str]:
    """MLflow's tracking server on the loopback address, which keeps the artifacts; its address."""
    folder.mkdir(parents=True)
    port = free_port()
    command = [sys.executable, "-m", "mlflow", "server", "--host", HOST, "--port", str(port)]
    command += ["--workers", "2", "--backend-store-uri", database]
    command += ["--artifacts-destination", (folder / "artifacts").as_uri()]
    environment = {key: value for key, value in os.environ.items() if key != "MLFLOW_TRACKING_URI"}
    environment |= {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "TMPDIR": str(folder)}
    with (folder / "log").open("wb") as log:
        server = subprocess.Popen(
            command, cwd=folder, env=environment, stdout=log, stderr=subprocess.STDOUT,
            start_new_session=True,
        )  # fmt: skip
    address = f"http://{HOST}:{port}"
    try:
        deadline = time.monotonic() + 120
        while True:
            try:
                urllib.request.urlopen(f"{address}/health", timeout=5).close()
                break
            except OSError:
                assert server.poll() is None, (folder / "log").read_text()
                assert time.monotonic() < deadline, "the server did not come up"
                time.sleep(0.2)
        yield address
    finally:
        from vitrail.ui import stop

        stop(server)
