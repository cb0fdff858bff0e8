"""Open the MLflow record in a browser: ``make ui``. Reachable from this machine only."""

from __future__ import annotations

import argparse
import errno
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

from vitrail.errors import VitrailError, run_command
from vitrail.tracking import store

HOST = "127.0.0.1"
NAMES = (HOST, "localhost")  # what a browser may call it
# Without the second half MLflow opens its pages for language models, where runs are hard to find.
PAGE = "#/experiments?workflowType=machine_learning"


def check_port(port: int) -> None:
    """Make sure that the port can be had on the loopback address.

    Raises:
        VitrailError: it is taken, reserved, or no port at all; says how to pick another.
    """
    another = "choose another, for example `make ui PORT=5001`"
    if not 1 <= port <= 65535:
        raise VitrailError(f"{port} is no port; {another} (1 to 65535)")
    with socket.socket() as probe:
        # As the server does, so that a port it left a moment ago counts as free.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError as error:
            why = "may not be used" if error.errno == errno.EACCES else "is in use"
            raise VitrailError(f"port {port} on {HOST} {why}; {another}") from error


def command(results: Path, port: int) -> list[str]:
    """The server's command line; it looks at the store and starts nothing.

    Raises:
        VitrailError: there is nothing to show yet, or the database is damaged.
    """
    path = store.database(results)
    if not store.given_uri():
        if not path.exists():
            raise VitrailError(
                f"{path} is missing, so there is nothing to show; run `make report` "
                f"(or {store.REFILL} if you deleted it)"
            )
        store.check_database(path)
    folder = store.artifacts(results).resolve().as_uri()
    return [
        *(sys.executable, "-m", "mlflow", "server"),
        *("--host", HOST, "--port", str(port), "--workers", "1"),
        # A page elsewhere whose name leads to 127.0.0.1 in a browser (DNS rebinding) is refused.
        # MLflow would let through any name that begins like a private address: 10.example.org.
        *("--allowed-hosts", ",".join(f"{name}{rest}" for name in NAMES for rest in ("", ":*"))),
        *("--cors-allowed-origins", ",".join(f"http://{name}:{port}" for name in NAMES)),
        *("--default-artifact-root", folder, "--artifacts-destination", folder),
    ]


def stop(server: subprocess.Popen[Any]) -> None:
    """End a UI that was started in a session of its own, with the processes that it has started."""
    os.killpg(server.pid, signal.SIGTERM)
    try:
        server.wait(timeout=20)
    except subprocess.TimeoutExpired:
        os.killpg(server.pid, signal.SIGKILL)
        server.wait()


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description="Serve the MLflow record on 127.0.0.1.")
    parser.add_argument("--results", type=Path, default=Path("results"))
    parser.add_argument("--port", type=int, default=5000)
    arguments = parser.parse_args()
    given = store.given_uri()
    if store.is_server(given):
        print(f"ui: the runs are on {store.without_password(given)}; open it in a browser")
        return
    server = command(arguments.results, arguments.port)
    check_port(arguments.port)
    print(f"ui: http://{HOST}:{arguments.port}/{PAGE}  (Ctrl-C ends it)", flush=True)
    # Off: nine helper processes that evaluate language models.
    os.environ.setdefault("MLFLOW_SERVER_ENABLE_JOB_EXECUTION", "false")
    # Not on the command line, which everybody on the machine can read: it may hold a password.
    os.environ["MLFLOW_BACKEND_STORE_URI"] = store.tracking_uri(arguments.results)
    os.environ["MLFLOW_SERVER_DISABLE_SECURITY_MIDDLEWARE"] = "false"
    os.execv(server[0], server)


if __name__ == "__main__":
    run_command(main)
