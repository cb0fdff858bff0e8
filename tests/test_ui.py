"""The browser's view: clear words when it cannot open, and nobody else can look in."""

from __future__ import annotations

import http.client
import os
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest

pytest.importorskip("mlflow", reason="MLflow is not installed")

from vitrail import ui
from vitrail.errors import VitrailError
from vitrail.tracking import store

PROJECT = Path(__file__).parents[1]
SEARCH = "/api/2.0/mlflow/experiments/search?max_results=1"
PREFLIGHT = {"Access-Control-Request-Method": "POST"}


@pytest.fixture
def own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind((ui.HOST, 0))
        return int(probe.getsockname()[1])


def start(folder: Path, *arguments: str, **variables: str) -> subprocess.Popen[str]:
    environment = {k: v for k, v in os.environ.items() if k != "MLFLOW_TRACKING_URI"}
    return subprocess.Popen(
        [sys.executable, "-m", "vitrail.ui", *arguments],
        cwd=folder,
        env=environment | {"PYTHONPATH": str(PROJECT / "src")} | variables,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def listeners(port: int) -> set[str]:
    """Local addresses, as /proc writes them, on which somebody listens at the port."""
    found = set()
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        for line in Path(table).read_text().splitlines()[1:]:
            _, local, _, state = line.split()[:4]
            address, _, hexadecimal = local.partition(":")
            if state == "0A" and int(hexadecimal, 16) == port:
                found.add(address)
    return found


def test_without_a_store_it_says_what_to_run(tmp_path: Path, own: None) -> None:
    with pytest.raises(VitrailError, match=r"mlflow\.db is missing.*make report"):
        ui.command(tmp_path / "results", 5000)
    assert not (tmp_path / "results").exists()


def test_a_damaged_store_is_named(tmp_path: Path, own: None) -> None:
    store.database(tmp_path).write_bytes(b"nonsense" * 1000)
    with pytest.raises(VitrailError, match=r"mlflow\.db is damaged.*delete"):
        ui.command(tmp_path, 5000)


def test_a_busy_port_is_named() -> None:
    with socket.socket() as other:
        other.bind((ui.HOST, 0))
        other.listen()
        port = other.getsockname()[1]
        with pytest.raises(VitrailError, match=rf"port {port} .*in use.*make ui PORT=5001"):
            ui.check_port(port)
    ui.check_port(port)


@pytest.mark.parametrize("port", [0, -1, 65536])
def test_an_impossible_port_is_named(port: int) -> None:
    with pytest.raises(VitrailError, match=f"{port} is no port"):
        ui.check_port(port)


def test_a_server_elsewhere_is_pointed_to_without_its_password(tmp_path: Path) -> None:
    there = start(tmp_path, MLFLOW_TRACKING_URI="https://me:secret@mlflow.example.org")
    told = there.communicate(timeout=60)[0]
    assert there.returncode == 0
    assert "https://mlflow.example.org" in told
    assert "secret" not in told


def asked(port: int, method: str = "GET", **headers: str) -> tuple[int, dict[str, str]]:
    """Status and headers of the API's answer to a page that says to be so and so."""
    one = http.client.HTTPConnection(ui.HOST, port, timeout=20)
    try:
        path = "/api/2.0/mlflow/experiments/create" if method == "POST" else SEARCH
        one.request(method, path, body='{"name": "planted"}' if method == "POST" else None,
                    headers={"Content-Type": "application/json", **headers})  # fmt: skip
        answer = one.getresponse()
        answer.read()
        return answer.status, {name.lower(): value for name, value in answer.getheaders()}
    finally:
        one.close()


def look_from_elsewhere(port: int) -> None:
    """What a page of another site can do through the browser of who has the UI open: nothing."""
    for name in ("127.0.0.1", f"127.0.0.1:{port}", f"localhost:{port}"):
        assert asked(port, Host=name)[0] == 200, name
    # Names that lead to 127.0.0.1, the last two of the kind that MLflow by itself lets through.
    for name in ("evil.example", f"evil.example:{port}", "10.evil.example", "192.168.0.7:5000"):
        assert asked(port, Host=name)[0] == 403, name
    for origin in ("https://evil.example", "http://10.evil.example", "null"):
        headers = asked(port, Origin=origin)[1]
        allowed = headers.get("access-control-allow-origin")
        assert allowed is None, f"{origin} may read what the API says: {allowed}"
        assert asked(port, "POST", Origin=origin)[0] == 403, origin
        assert asked(port, "OPTIONS", Origin=origin, **PREFLIGHT)[1].get(
            "access-control-allow-origin"
        ) in (None, ""), origin
    assert asked(port)[1]["x-frame-options"] == "SAMEORIGIN"


@pytest.mark.skipif(not Path("/proc/net/tcp").exists(), reason="needs /proc to see who listens")
def test_it_serves_on_the_loopback_address_only(
    tmp_path: Path, own: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.initialise("tiny", tmp_path / "results")
    port = free_port()
    # Whatever the user's environment says: without the middleware every name is let in.
    off = {"MLFLOW_SERVER_DISABLE_SECURITY_MIDDLEWARE": "true"}
    server = start(tmp_path, "--port", str(port), **off)
    try:
        deadline = time.monotonic() + 90
        while True:
            try:
                with urllib.request.urlopen(f"http://{ui.HOST}:{port}/health", timeout=5) as page:
                    assert page.status == 200
                break
            except OSError:
                assert server.poll() is None, server.communicate()[0]
                assert time.monotonic() < deadline, "the server did not come up"
                time.sleep(0.2)
        assert listeners(port) == {"0100007F"}  # 127.0.0.1, and neither 0.0.0.0 nor IPv6
        look_from_elsewhere(port)
        monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://{ui.HOST}:{port}")
        assert store.initialise("other", tmp_path / "none").endswith("is asked")
        assert server.stdout is not None
        assert f"http://127.0.0.1:{port}/#/experiments" in server.stdout.readline()
    finally:
        ui.stop(server)
        if server.stdout is not None:
            server.stdout.close()
    # Nothing beside the store, and no store where a server was asked.
    assert {path.name for path in tmp_path.iterdir()} == {"results", "none"}
    assert [path.name for path in (tmp_path / "none").iterdir()] == [".mlflow.lock"]


def test_a_password_is_not_on_the_command_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Everybody on the machine can read that."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "postgresql://me:secret@db.example.org/runs")
    assert "secret" not in " ".join(ui.command(tmp_path, 5000))
