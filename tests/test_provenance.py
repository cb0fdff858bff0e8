"""What the report says about the study as a whole."""

from __future__ import annotations

import math
import os
import re
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd

from vitrail import stages
from vitrail.commit import commit, since
from vitrail.cost import told
from vitrail.provenance import made_table, made_with, runs_table

VERSIONS = ("python", "torch", "timm", "numpy")


def commits(*found: str) -> pd.DataFrame:
    """What runs made at these commits were made with."""
    same = {"hardware": "a test", "cores": 2, "platform": "a system", "threads": 1}
    more = {"data": {"route": "npm"}, "versions": dict.fromkeys(VERSIONS, "1")}
    environments = {f"run-{n}": {"commit": c, **same, **more} for n, c in enumerate(found)}
    return made_with(environments, pd.DataFrame({"run_id": [*environments, "not-run"]}))


def test_runs_of_two_commits_are_two_rows() -> None:
    made = commits("aa", "bb-dirty", "aa")
    rows = made[made["what"] == "Commit of the code"][["value", "runs"]].to_numpy().tolist()
    assert rows == [["`aa`, clean", 2], ["`bb`, with changes that it does not have", 1]]
    assert made.set_index("what").loc["Not run", "runs"] == 1
    assert "| Hardware | a test, 2 cores | 3 |" in made_table(made)


def test_a_report_of_other_code_than_the_runs_says_so() -> None:
    assert since("aa", "aa") == "The runs were made by the same code."
    assert since("bb", "aa, bb") == "The code has changed since: the runs were made at aa, bb."
    assert "same commit, with changes" in since("aa-dirty", "aa-dirty")
    assert "changed since" in since("aa-dirty", "aa")


def test_the_commit_is_that_of_the_folder(tmp_path: Path) -> None:
    assert commit(tmp_path) == "unknown"

    def git(*words: str) -> None:
        subprocess.run(["git", "-C", tmp_path, *words], check=True, capture_output=True)

    git("init")
    (tmp_path / "a.py").write_text("x = 1\n")
    git("add", "a.py")
    git("-c", "user.name=a", "-c", "user.email=a@example.org", "commit", "-m", "a")
    assert re.fullmatch("[0-9a-f]{12}", commit(tmp_path))
    (tmp_path / "a.py").write_text("x = 2\n")
    assert commit(tmp_path).endswith("-dirty")


def test_steps_end_their_log_with_their_cost(tmp_path: Path) -> None:
    busy = "end = time.process_time() + 0.4\n  while time.process_time() < end: pass"
    code = f"import time; from vitrail.errors import run_command\ndef main():\n  {busy}"
    logs = []
    end = "import gc\nprint('frozen:', gc.get_freeze_count() > 0)"
    for asked in ("1", ""):
        command = [sys.executable, "-c", f"{code}\nrun_command(main)\n{end}"]
        environment = {**os.environ, "VITRAIL_COST": asked}
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
        logs.append(tmp_path / f"{asked or 'none'}.log")
        logs[-1].write_text(done.stdout + done.stderr)
        assert f"frozen: {bool(asked)}" in done.stdout
    (one,) = told(logs)
    assert 0.35 <= one.core_seconds < 10  # the system counts in hundredths
    assert 0 < one.starting <= one.core_seconds - 0.35
    assert one.seconds >= 0.35
    assert one.ended <= time.time() + 1
    assert one.threads == float(os.environ.get("OMP_NUM_THREADS", "1"))


def test_stages_have_their_core_seconds_and_what_they_measured(tmp_path: Path) -> None:
    logs = {
        "logs/train/vit-1a.log": "training\nvitrail: 40.00 core-seconds\n"
        "vitrail: 4.00 of them to start; from 100.00 to 150.00 on 1 threads\n",
        "logs/train/train_small__cnn.log": "vitrail: 5.00 core-seconds\n",
        "logs/pretrain/strokes-1.log": "no word of the cost\n",
        "logs/run_table.log": "vitrail: 1.00 core-seconds\nvitrail: 2.00 core-seconds\n",
        "logs/train/gone-9z.log": "vitrail: 99.00 core-seconds\n",  # of an earlier config
        "pretraining/strokes-1/summary.json": '{"seconds": 7.5}',
    }
    for name, text in logs.items():
        (tmp_path / "s" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "s" / name).write_text(text)
    runs = pd.DataFrame(
        {
            "arm_id": ["vit-1a", "cnn-2b"], "experiment": ["base", "small"], "seconds": ["30", "3"],
            "question": ["q6_vit", "q8_transfer"], "status": ["finished", "finished"],
        }
    )  # fmt: skip
    table = stages.costs(tmp_path / "s", runs)
    rows = table[["stage", "core_seconds", "inside"]].to_numpy().tolist()
    found = {stage: (cost, inside) for stage, cost, inside in rows}
    told_more = table.set_index("stage").loc["Training for Q6, The whole Vision Transformer"]
    assert (told_more["starting"], told_more["seconds"]) == (4, 50)
    assert found.pop("Training for Q6, The whole Vision Transformer") == (40, 30)
    assert [value for stage, value in found.items() if stage.startswith("Training")] == [(5, 3)]
    assert math.isnan(found["Pretraining"][0]) and found["Pretraining"][1] == 7.5
    assert found["Tables of the study, rule graph"][0] == 3
    printed = stages.markdown(table)
    assert "| Pretraining | 1 | not recorded | – | 7.5 |" in printed
    assert "**at least 56**" in printed  # 40 + 5 + 3, and the 7.5 that pretraining took at least


def test_every_arm_says_how_long_and_on_how_many_images() -> None:
    runs = pd.DataFrame(
        {
            "arm_id": ["a", "b"], "arm": ["q.a", "q.b"], "question": ["q6_vit", "q8_transfer"],
            "status": "finished", "test_accuracy": ["0.9", "0.8"], "train_size": ["55000", "55000"],
            "epochs": ["0.5", ""], "steps": ["", "250"], "label_budget": ["", "1000"],
        }
    )  # fmt: skip
    lines = [line.split(" | ") for line in runs_table(runs).splitlines() if line.startswith("| q.")]
    assert [line[3:5] for line in lines] == [["0.5 epochs", "55,000"], ["250 steps", "1,000"]]
