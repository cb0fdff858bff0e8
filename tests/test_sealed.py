"""The seal itself: what tries to leave is seen, whoever tries; what stays is not."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import sealed

ROOT = Path(__file__).parents[1]
TALK = Path(__file__).parent / "talk"
TRY = """
import socket
def attempt(kind, how, address):
    with socket.socket(kind, how) as one:
        one.settimeout(0.3)
        try:
            one.connect(address)
            one.send(b"hello")
        except OSError:
            pass
attempt(socket.AF_INET, socket.SOCK_STREAM, ("198.51.100.7", 443))
attempt(socket.AF_INET6, socket.SOCK_STREAM, ("2001:db8:1::7", 80))
attempt(socket.AF_INET, socket.SOCK_DGRAM, ("203.0.113.9", 123))
try:
    socket.getaddrinfo("telemetry.vitrail.example", 443)
except OSError:
    pass
"""
AT_HOME = """
import os, socket, tempfile
with socket.socket() as server, socket.socket() as client:
    server.bind(("127.0.0.1", 0))
    server.listen()
    client.connect(server.getsockname())
with tempfile.TemporaryDirectory() as folder, socket.socket(socket.AF_UNIX) as server:
    server.bind(os.path.join(folder, "s"))
socket.getaddrinfo("localhost", 80)
raise SystemExit(7)
"""


def run(command: list[str], folder: Path, seal: bool = True) -> tuple[int, list[str], str]:
    """The code of a command, what its packets wanted, and what the hook in Python saw."""
    told, log = folder / "told.json", folder / "talk.log"
    if seal:
        if isinstance(why := sealed.way_in(), str):
            pytest.skip(why)
        command = sealed.sealed(command, told)
    environment = {**os.environ, "PYTHONPATH": str(TALK), "TALK_LOG": str(log)}
    done = subprocess.run(command, env=environment, timeout=60, check=False)
    packets = json.loads(told.read_text()) if seal else []
    return done.returncode, packets, log.read_text() if log.exists() else ""


def test_every_try_is_seen_with_its_address(tmp_path: Path) -> None:
    code, packets, log = run([sys.executable, "-c", TRY], tmp_path)
    assert code == 0
    assert {
        "TCP to 198.51.100.7 port 443",
        "TCP to 2001:db8:1::7 port 80",
        "UDP to 203.0.113.9 port 123",
        "the address of telemetry.vitrail.example",
    } == set(packets)
    for wanted in ("198.51.100.7", "2001:db8:1::7", "203.0.113.9", "telemetry.vitrail.example"):
        assert f"'{wanted}' by" in log
    assert "in attempt" in log  # the place in the code


def test_a_program_that_is_not_python_is_seen(tmp_path: Path) -> None:
    _, packets, log = run(
        ["timeout", "0.5", "bash", "-c", "exec 3<>/dev/tcp/198.51.100.8/8080"], tmp_path
    )
    assert set(packets) == {"TCP to 198.51.100.8 port 8080"}
    assert log == ""


def test_what_stays_on_the_machine_is_not_counted(tmp_path: Path) -> None:
    code, packets, log = run([sys.executable, "-c", AT_HOME], tmp_path)
    assert (code, packets, log) == (7, [], "")


def test_the_hook_works_without_the_seal(tmp_path: Path) -> None:
    """Where no namespace can be had, it is all there is. The address is one that nobody has."""
    code = (
        "import socket\none = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)\n"
        "one.connect(('192.0.2.44', 9))"
    )
    _, _, log = run([sys.executable, "-c", code], tmp_path, seal=False)
    assert "socket.connect '192.0.2.44' by" in log
