"""The status page in a real browser: both widths, light and dark, at work and left behind."""

from __future__ import annotations

import json
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from browser import DESK, PHONE, Open, accessibility_faults, link_faults, width_faults
from test_progress import NOW, bar, jobs
from vitrail.config import load
from vitrail.progress import notes
from vitrail.progress import page as module
from vitrail.progress.notes import FAILED, FINISHED, RUNNING
from vitrail.progress.page import page
from vitrail.progress.state import State, Watched
from vitrail.runs import expand

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def state(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, State]:
    """The default study half way: some arms done, two at work, one failed, one not run."""
    folder = tmp_path_factory.mktemp("status") / "default"
    plan = expand(load([ROOT / "config" / "default.yaml"]))
    made = jobs(plan)
    place = folder.parent / "notes"
    writer = notes.Writer(place, plan.study, 2, made)
    logs = folder.parent
    for number, job in enumerate(made[:40]):
        writer.write(RUNNING, job=job.number)
        if number < 2:
            path = logs / job.log
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(bar(job.runs[0], 700, 1000, "12:00", ", val_accuracy=0.9712"))
            continue
        if number == 2:
            writer.write(FAILED, job=job.number)
            (folder / "logs" / "train").mkdir(parents=True)
            (folder / "logs" / "train" / Path(job.log).name).write_text("broken")
            continue
        about = {"status": "finished", "val_accuracy": 0.97}
        for run in job.runs:
            one = {"status": "not run", "reason": "a reason of some words " * 5}
            (folder / "runs" / run).mkdir(parents=True)
            (folder / "runs" / run / "summary.json").write_text(
                json.dumps(one if number == 3 else about)
            )
        writer.write(FINISHED, job=job.number)
    (folder / "q2_mlp" / "figures").mkdir(parents=True)
    (folder / "q2_mlp" / "figures" / "activation.svg").write_text("<svg/>")
    said = {"key": "+0.51 ± 0.49", "key_name": "points of test accuracy, GELU minus ReLU"}
    (folder / "q2_mlp" / "opening.json").write_text(json.dumps(said))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(logs)
        return folder, Watched(plan, folder.parent, place).look(NOW)


@pytest.fixture
def still(monkeypatch: pytest.MonkeyPatch) -> None:
    """A page that does not reload while it is looked at."""
    monkeypatch.setattr(module, "PAUSE", 600)


@pytest.mark.usefixtures("still")
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [PHONE, DESK])
def test_the_page_is_good_to_look_at(
    state: tuple[Path, State], open_page: Open, width: int, scheme: str
) -> None:
    folder, known = state
    (file := folder / "status.html").write_text(page(known), encoding="utf-8")
    with open_page(file, width, scheme) as it:
        it.see_everything()
        faults = it.loading_faults() + width_faults(it) + link_faults(it)
        assert faults + accessibility_faults(it) == []


@pytest.mark.usefixtures("still")
def test_a_page_that_was_left_behind_says_so(state: tuple[Path, State], open_page: Open) -> None:
    """Its run was killed: nobody is left who could write it."""
    folder, known = state
    (file := folder / "status.html").write_text(page(known), encoding="utf-8")
    with open_page(file) as it:
        assert it.page.locator("#stale").is_visible()  # it was written long ago
    file.write_text(page(replace(known, now=time.time())), encoding="utf-8")
    with open_page(file) as it:
        assert not it.page.locator("#stale").is_visible()
    file.write_text(page(replace(known, ending=FINISHED)), encoding="utf-8")
    with open_page(file) as it:
        assert not it.page.locator("#stale").is_visible()


def test_it_reloads_and_keeps_what_was_unfolded(
    state: tuple[Path, State], open_page: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "PAUSE", 1)
    folder, known = state
    (file := folder / "status.html").write_text(page(known), encoding="utf-8")
    with open_page(file) as it:
        unfolded: Any = it.page.locator("#q6_vit")
        unfolded.locator("summary").click()
        file.write_text(page(known).replace("At work.", "Still at work."), encoding="utf-8")
        it.page.get_by_text("Still at work.").wait_for(timeout=20_000)
        assert unfolded.get_attribute("open") is not None
        assert it.page.locator("#q5_block").get_attribute("open") is None
