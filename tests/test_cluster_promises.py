"""What docs/cluster.md and docs/progress.md promise that needs no cluster to be seen."""

from __future__ import annotations

import atexit
import importlib
import os
import re
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml

from vitrail import slurm, watch
from vitrail.progress.follow import Follower

ROOT = Path(__file__).parents[1]
RULES = ROOT / "workflow" / "rules"


def profile() -> dict[str, Any]:
    text = (ROOT / "profiles" / "slurm" / "config.yaml").read_text(encoding="utf-8")
    found: dict[str, Any] = yaml.safe_load(text)
    return found


def test_memory_grows_with_each_attempt(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = (RULES / "common.smk").read_text(encoding="utf-8")
    (source,) = re.findall(r"^def memory\(.*?(?=^\S|\Z)", text, re.MULTILINE | re.DOTALL)
    (tmp_path / "of_common.py").write_text(source)
    monkeypatch.syspath_prepend(tmp_path)
    asked = importlib.import_module("of_common").memory(2000)
    assert [asked(None, attempt=attempt) for attempt in (1, 2, 3)] == [2000, 4000, 6000]
    first = profile()["default-resources"]
    assert (first["mem_mb"], first["runtime"]) == ("4000 * attempt", "240 * attempt")


def test_each_step_is_tried_three_times_and_clocks_ask_for_a_node_alone() -> None:
    assert profile()["retries"] == 2
    rules = "".join(path.read_text(encoding="utf-8") for path in RULES.glob("*.smk"))
    alone = {
        rule for rule, asked in profile()["set-resources"].items()
        if asked == {"slurm_extra": "'--exclusive'"}
    }  # fmt: skip
    assert alone == {"timing", "execution"}
    assert all(f"\nrule {rule}:" in rules for rule in alone)


@pytest.fixture
def ends(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What a Snakemake on SLURM does when it is told to end, without doing it."""
    done: list[str] = []
    at_exit: list[tuple[Callable[..., object], tuple[object, ...]]] = []
    monkeypatch.setattr(watch, "_jobs", True)
    monkeypatch.setattr(watch, "_on_slurm", True)
    monkeypatch.setattr(watch, "_told", [])
    monkeypatch.setattr(watch, "_kill", lambda number: done.append("kill"))
    monkeypatch.setattr(watch, "_say", lambda number: done.append("say"))
    monkeypatch.setattr(slurm, "cancel_own", lambda: done.append("cancel"))
    monkeypatch.setattr(watch.os, "_exit", lambda code: done.append(f"exit {code}"))
    monkeypatch.setattr(atexit, "register", lambda what, *words: at_exit.append((what, words)))
    monkeypatch.setattr(threading, "Timer", lambda *words: SimpleNamespace(start=lambda: None))
    with pytest.raises(SystemExit):
        watch._stop(signal.SIGTERM, None)
    for what, words in reversed(at_exit):
        what(*words)
    return done


def test_a_signal_cancels_what_the_executor_does_not_know_of(ends: list[str]) -> None:
    """As a job that is being submitted in that moment; the sentence stays the last word."""
    assert ends == ["kill", "cancel", "say"]


def test_an_end_at_once_cancels_too(ends: list[str]) -> None:
    ends.clear()
    watch._end_as_told(signal.SIGTERM)
    assert ends == ["kill", "cancel", "say", f"exit {128 + signal.SIGTERM}"]


def test_looking_takes_half_a_percent_of_a_core_at_most(monkeypatch: pytest.MonkeyPatch) -> None:
    spent, pauses = [0.0], []

    class Stop:
        def wait(self, pause: float) -> bool:
            pauses.append(pause)
            return len(pauses) > 3

    def look() -> None:
        spent[0] += (0.001, 0.048, 1.0)[len(pauses) - 1]

    follower = Follower.__new__(Follower)
    monkeypatch.setattr(time, "thread_time", lambda: spent[0])
    monkeypatch.setattr(follower, "_stop", Stop(), raising=False)
    monkeypatch.setattr(follower, "_look", look)
    follower._below, follower._told = None, False
    follower._follow()
    assert pauses == pytest.approx([0.0, 5.0, 9.6, 200.0])


def test_the_last_room_on_a_disk_is_not_taken_by_the_page(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    written: list[Path] = []
    monkeypatch.setattr(
        "vitrail.progress.page.write_page", lambda path, state: written.append(path)
    )
    follower = Follower.__new__(Follower)
    follower._below, follower._told, follower._quiet = None, False, False
    follower._elsewhere, follower._page, follower._page_due = None, tmp_path / "status.html", 0.0
    watched = SimpleNamespace(look=lambda now: None, results=tmp_path)
    monkeypatch.setattr(follower, "_watched", watched, raising=False)
    disk = {"f_frsize": 1, "f_files": 0, "f_favail": 0}
    free = [(20 << 20) - 1, 20 << 20]
    monkeypatch.setattr(os, "statvfs", lambda path: SimpleNamespace(f_bavail=free[0], **disk))
    follower._guarded(lambda: follower._look(page=True))
    assert not written
    assert "the last room is left to the study" in capsys.readouterr().err
    free.pop(0)
    follower._look(page=True)
    assert written == [follower._page]
