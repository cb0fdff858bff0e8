"""The tables that are made from the run table, and the last words of a study."""

from __future__ import annotations

import csv
import re
import sys
from pathlib import Path

import pytest

from made_config import Config
from vitrail import runs
from vitrail.config import STEMS
from vitrail.ending import ending
from vitrail.errors import VitrailError


def test_command_writes_the_run_table(
    config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import json

    out = tmp_path / "study" / "plan.csv"
    monkeypatch.setattr(sys, "argv", ["runs", "--config", json.dumps(config), "--out", str(out)])
    runs.main()
    with out.open(encoding="utf-8", newline="") as stream:
        table = list(csv.DictReader(stream))
    plan = runs.expand(config)
    assert [row["run_id"] for row in table] == [row["run_id"] for row in runs.rows(plan)]
    first = ["run_id", "arm_id", "arm", "label", "question", "experiment", "seed"]
    assert list(table[0])[:7] == first
    for row in table:
        arm = plan.arms[row["arm_id"]]
        written = {name: value for name, value in row.items() if name not in first}
        assert {name: value for name, value in written.items() if value != ""} == {
            name: str(value) for name, value in arm.settings.items() if value != ""
        }


def write_results(folder: Path, config: Config, missing: str = "") -> runs.Plan:
    """plan.csv and summaries of a study in which arms of the kind `missing` were not run."""
    import json

    plan = runs.expand(config)
    table = runs.rows(plan)
    folder.mkdir(parents=True)
    with (folder / "plan.csv").open("w", newline="", encoding="utf-8") as stream:
        names = dict.fromkeys(name for row in table for name in row)
        writer = csv.DictWriter(stream, names)
        writer.writeheader()
        writer.writerows(table)
    for row in table:
        summary: Config = {"status": "finished", "reason": "", "parameters": 123456}
        summary |= {"test_accuracy": 0.9 + row["seed"] / 7, "test_errors": 41, "files": {}}
        if row["arm"].endswith(missing) and missing:
            summary = {"status": "not run", "reason": "no weights, and no network", "files": {}}
        path = folder / "runs" / row["run_id"] / "summary.json"
        path.parent.mkdir(parents=True)
        path.write_text(json.dumps(summary))
    return plan


def test_run_table_keeps_every_digit_and_every_reason(config: Config, tmp_path: Path) -> None:
    from vitrail.collect import run_table

    plan = write_results(tmp_path / "default", config, missing=".imagenet")
    table = run_table(tmp_path / "default")
    text = table.to_csv(index=False).splitlines()
    rows = list(csv.DictReader(text))
    assert [row["run_id"] for row in rows] == [row["run_id"] for row in runs.rows(plan)]
    for row in rows:
        if row["arm"].endswith(".imagenet"):
            assert (row["status"], row["reason"]) == ("not run", "no weights, and no network")
            assert row["test_accuracy"] == row["parameters"] == ""
        else:
            assert float(row["test_accuracy"]) == 0.9 + int(row["seed"]) / 7
            assert (row["parameters"], row["test_errors"]) == ("123456", "41")
    # What the plan says comes through as it was written.
    with (tmp_path / "default" / "plan.csv").open(encoding="utf-8", newline="") as stream:
        for planned, row in zip(csv.DictReader(stream), rows, strict=True):
            for name in ("label", "learning_rate", "pixel_mean", "warmup", "seed", "pretrained"):
                assert planned[name] == row[name]


def test_run_table_names_a_missing_run(config: Config, tmp_path: Path) -> None:
    from vitrail.collect import run_table

    plan = write_results(tmp_path / "default", config)
    lost = tmp_path / "default" / "runs" / f"{plan.base}-s1" / "summary.json"
    lost.unlink()
    with pytest.raises(VitrailError, match=f"{re.escape(str(lost))} is missing; run"):
        run_table(tmp_path / "default")


def test_claim_table(tmp_path: Path) -> None:
    import json

    from vitrail.collect import claim_table
    from vitrail.errors import VitrailError as Refused

    claim = {"id": "q1-a", "sentence": "s", "test": "t", "evidence": "e", "verdict": "supported"}
    claim["finding"] = "f"
    for stem in STEMS:
        (tmp_path / stem).mkdir()
        content = [claim] if stem == "q1_patch_embedding" else []
        (tmp_path / stem / "claims.json").write_text(json.dumps(content))
    table = claim_table(tmp_path)
    assert table.to_dict("records") == [{"question": "q1_patch_embedding", **claim}]
    (tmp_path / "q6_vit" / "claims.json").write_text("[{")
    with pytest.raises(Refused, match=r"claims\.json is not readable JSON"):
        claim_table(tmp_path)


def test_ending_names_what_was_not_run(config: Config, tmp_path: Path) -> None:
    from vitrail.collect import run_table

    plan = write_results(tmp_path / "default", config, missing=".imagenet")
    run_table(tmp_path / "default").to_csv(tmp_path / "default" / "runs.csv", index=False)
    assert ending("default", tmp_path) == ""  # no report yet, nothing to say
    report = tmp_path / "default" / "report" / "report.html"
    report.parent.mkdir()
    report.write_text("")
    lines = ending("default", tmp_path).splitlines()
    planned = len(runs.rows(plan))
    assert lines[0] == f"vitrail: study default: {planned - 3} of {planned} runs finished"
    assert any(line.endswith(str(report)) for line in lines)
    (last,) = [line for line in lines if "not run" in line]
    names = [row["run_id"] for row in runs.rows(plan) if row["arm"].endswith(".imagenet")]
    assert last.strip() == f"not run  {', '.join(names)}: no weights, and no network"
