"""The smoke study from nothing to the report, in a copy of the project (some minutes)."""

from __future__ import annotations

import csv
import re
import shutil
import subprocess
import time
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from smoke_study import SMOKE, Study
from vitrail import runs
from vitrail.analysis import estimate, percent
from vitrail.config import STEMS
from vitrail.files import read_json, sha256
from vitrail.packaged import PACKAGES
from vitrail.report.check import SECTIONS, check_html, check_pdf, hand_typed_results
from vitrail.settings import FINISHED_FILES, RUN_FILES, run_id

pytestmark = pytest.mark.end_to_end

ROOT = Path(__file__).parents[1]


class Text(HTMLParser):
    """The words of a page."""

    def __init__(self) -> None:
        super().__init__()
        self.words: list[str] = []
        self._hidden = 0

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        self._hidden += tag in ("style", "script")

    def handle_endtag(self, tag: str) -> None:
        self._hidden -= tag in ("style", "script")

    def handle_data(self, data: str) -> None:
        if not self._hidden:
            self.words.append(data)


def plain(text: str) -> str:
    """Text with one kind of blank and no soft line ends."""
    return re.sub(r"[\s\u00a0\u202f]+", " ", text.replace("\u2060", ""))


@pytest.fixture(scope="module")
def page(study: Study) -> str:
    reader = Text()
    reader.feed((study.folder / "report" / "report.html").read_text(encoding="utf-8"))
    return plain(" ".join(reader.words))


# --- Runs


def test_every_planned_run_has_its_row(study: Study) -> None:
    plan = study.plan()
    planned = runs.rows(plan)
    table = study.table("runs.csv")
    assert [row["run_id"] for row in table] == [row["run_id"] for row in planned]
    assert {row["status"] for row in table} <= {"finished", "not run"}
    for row in table:
        settings = plan.arms[row["arm_id"]].settings
        # Weights that come as a package need no hub.
        missing = bool(settings.get("pretrained")) and (
            (settings["timm_model"], settings["pretrained"]) not in PACKAGES
        )
        assert row["status"] == ("not run" if missing else "finished")
        assert bool(row["reason"]) == missing
    folders = {path.name for path in (study.folder / "runs").iterdir()}
    assert folders == {row["run_id"] for row in table}  # and no half-made ones beside them


def test_run_folders_are_whole(study: Study) -> None:
    for row in study.table("runs.csv"):
        folder = study.folder / "runs" / row["run_id"]
        summary = read_json(folder / "summary.json")
        names = {*RUN_FILES, *(FINISHED_FILES if row["status"] == "finished" else ())}
        assert {path.name for path in folder.iterdir()} == names
        assert set(summary["files"]) == names - {"summary.json"}
        for name, expected in summary["files"].items():
            assert sha256(folder / name) == expected, folder / name


def test_the_table_says_what_the_folders_hold(study: Study) -> None:
    """To the last digit, and the accuracy is that of the stored logits."""
    from vitrail.data import load_mnist

    labels = load_mnist(study.project / "results" / "data", verify=True).test_labels
    for row in study.finished():
        folder = study.folder / "runs" / row["run_id"]
        summary = read_json(folder / "summary.json")
        for name in ("test_accuracy", "test_loss", "val_accuracy", "parameters", "test_errors"):
            assert float(row[name]) == summary[name]
        with np.load(folder / "predictions.npz") as stored:
            right = stored["test_logits"].argmax(1) == labels
        assert summary["test_accuracy"] == right.mean()
        assert summary["test_errors"] == (~right).sum()


def test_claims_are_complete(study: Study) -> None:
    table = study.table("claims.csv")
    by_question = [
        {"question": stem, **claim}
        for stem in STEMS
        for claim in read_json(study.folder / stem / "claims.json")
    ]
    assert table == by_question
    assert {row["question"] for row in table} >= {
        about.question for about in study.plan().experiments if about.claims
    }
    assert {row["verdict"] for row in table} <= {"supported", "refuted", "undecided"}
    assert all(row["sentence"] and row["evidence"] and row["test"] for row in table)
    names = [row["id"] for row in table]
    assert len(set(names)) == len(names)
    configured = {
        f"{about.question.split('_')[0]}-{claim['id']}"
        for about in study.plan().experiments
        for claim in about.claims
    }
    assert configured <= set(names)


def test_one_seed_decides_no_accuracy(study: Study) -> None:
    """The smoke study has one seed: no comparison of accuracies may be called decided."""
    for row in study.table("claims.csv"):
        if "interval of the paired difference" in row["test"]:
            assert row["verdict"] == "undecided", row["id"]


def test_no_log_holds_a_traceback(study: Study) -> None:
    logs = list((study.project / "results").rglob("*.log"))
    assert len(logs) > 30
    for file in logs:
        assert "Traceback" not in file.read_text(encoding="utf-8"), file
    assert "Traceback" not in study.said


def test_the_ending_says_where_the_report_is_and_what_is_missing(study: Study) -> None:
    table = study.table("runs.csv")
    assert f"study smoke: {len(study.finished())} of {len(table)} runs finished" in study.said
    assert "results/smoke/report/report.html" in study.said
    missing = [row for row in table if row["status"] == "not run"]
    assert missing
    for row in missing:
        (line,) = [line for line in study.said.splitlines() if line.startswith("  not run")]
        assert row["run_id"] in line
        assert row["reason"] in line


def test_nothing_wants_to_leave_the_machine(
    study: Study, capsys: pytest.CaptureFixture[str]
) -> None:
    """With MNIST at hand no step of any kind, and no program that one starts, asks anybody."""
    assert study.wanted == [], "\n".join(study.wanted)
    with capsys.disabled():
        print(f"\n  outgoing packets and look-ups of the smoke study: {len(study.wanted)}")
    if study.unsealed:
        pytest.skip(f"only Python's own connections were watched: {study.unsealed}")


def test_torch_compile_works_in_a_path_with_a_blank(study: Study) -> None:
    assert " " in str(study.project)
    ways = study.table("execution/ways.csv")
    compiled = [row for row in ways if row["name"] == "compile"]
    assert compiled
    assert not [row["reason"] for row in compiled if "compile failed" in row["reason"]]


def test_nothing_is_written_among_the_sources(study: Study) -> None:
    ours = {path.relative_to(ROOT).as_posix() for path in ROOT.rglob("*") if path.is_file()}
    for path in study.project.rglob("*"):
        name = path.relative_to(study.project)
        if name.parts[0] in ("results", ".snakemake") or "__pycache__" in name.parts:
            continue
        if path.is_file() and not name.name.startswith("overlay"):
            assert name.as_posix() in ours, name


# --- The report


def test_the_page_is_whole(study: Study) -> None:
    file = study.folder / "report" / "report.html"
    check_html(file, SECTIONS)
    html = file.read_text(encoding="utf-8")
    for section in SECTIONS:
        assert f'id="{section}"' in html
    for marker in ("?var:", "?@", "{{<", "@fig-", "@tbl-", "@sec-", "WARN", ">nan<", " nan "):
        assert marker not in words_of(html), marker


def words_of(html: str) -> str:
    reader = Text()
    reader.feed(re.sub(r"<(pre|code)\b.*?</\1>", "", html, flags=re.DOTALL))
    return " ".join(reader.words)


def test_the_page_has_every_accuracy_and_every_figure(study: Study, page: str) -> None:
    by_arm: dict[str, list[float]] = {}
    for row in study.finished():
        by_arm.setdefault(row["arm_id"], []).append(float(row["test_accuracy"]))
    for about in study.plan().experiments:
        if about.name == "reduced":  # named by its run in place of a section
            assert run_id(about.members[0].arm.arm_id, about.seeds[0]) in page
            continue
        assert about.title in page
        for member in about.members:
            # Over label budgets a method is a row and a budget a column.
            assert about.methods.get(member.method, member.label) in page
            values = by_arm.get(member.arm.arm_id)
            assert plain(percent(estimate(values)) if values else "not run") in page
    for stem in STEMS:
        answer = (study.folder / stem / "answer.md").read_text(encoding="utf-8")
        numbers = re.findall(r"\d+\.\d+", answer)
        assert all(number in page for number in numbers), stem
    for claim in study.table("claims.csv"):
        assert claim["id"] in page
    figures = sum(len(list((study.folder / stem / "figures").glob("*.svg"))) for stem in STEMS)
    html = (study.folder / "report" / "report.html").read_text(encoding="utf-8")
    assert len(re.findall(r"<figure\b|<img\b|<svg\b", html)) >= figures >= 15


def test_the_page_names_what_was_not_run(study: Study, page: str) -> None:
    for row in study.table("runs.csv"):
        if row["status"] == "not run":
            assert row["run_id"] in page
            assert plain(row["reason"])[:60] in page
    assert "not run" in page


def test_the_colophon_names_its_maker(study: Study, page: str) -> None:
    assert re.search(r"rendered by (Quarto|the built-in route) \(", page)
    numbers = read_json(study.folder / "study" / "numbers.json")
    for name in ("hardware", "torch", "timm", "data_route"):
        assert plain(numbers[name]) in page


def test_the_pdf_has_the_same_content(study: Study) -> None:
    file = study.folder / "report" / "report.pdf"
    check_pdf(file)
    if shutil.which("pdftotext") is None:
        pytest.skip("pdftotext (poppler-utils) is not here: the words of the PDF are not looked at")
    done = subprocess.run(
        ["pdftotext", str(file), "-"], capture_output=True, text=True, check=True, timeout=60
    )
    pages = done.stdout.count("\f")
    assert 10 < pages < 100
    words = plain(done.stdout)
    for number in range(1, 9):
        assert f"Q{number}." in words
    for row in study.finished():
        if row["experiment"] != "base":
            assert plain(percent(estimate([float(row["test_accuracy"])]))) in words
    for marker in ("?var:", "?@", "{{<"):
        assert marker not in words


def test_no_result_is_typed_by_hand() -> None:
    files = sorted((ROOT / "report").glob("*.qmd"))
    assert len(files) >= 9
    found = {file.name: hand_typed_results(file.read_text(encoding="utf-8")) for file in files}
    assert {name: places for name, places in found.items() if places} == {}


# --- MLflow


def test_mlflow_agrees_with_the_tables(study: Study) -> None:
    """A finished child run per finished row, with the same figures to the last digit."""
    from mlflow import MlflowClient

    client = MlflowClient(f"sqlite:///{study.project / 'results' / 'mlflow.db'}")
    found: dict[str, Any] = {}
    for stem in STEMS:
        experiment = client.get_experiment_by_name(f"smoke/{stem}")
        assert experiment is not None, stem
        for run in client.search_runs([experiment.experiment_id], max_results=1000):
            assert run.info.status == "FINISHED"
            if run.data.tags.get("vitrail.kind") == "run":
                name = run.data.tags["vitrail.key"]
                assert name not in found
                found[name] = (stem, run)
    rows = study.finished()
    assert set(found) == {row["run_id"] for row in rows}
    for row in rows:
        stem, run = found[row["run_id"]]
        assert stem == row["question"]
        for name in ("test_accuracy", "test_loss", "test_errors", "parameters", "macs"):
            assert run.data.metrics[name] == float(row[name]), (row["run_id"], name)
        history = client.get_metric_history(run.info.run_id, "val_accuracy")
        with (study.folder / "runs" / row["run_id"] / "history.csv").open(newline="") as stream:
            curve = [(int(at["step"]), float(at["val_accuracy"])) for at in csv.DictReader(stream)]
        assert sorted((point.step, point.value) for point in history) == curve
        assert run.data.tags["mlflow.parentRunId"]


# --- What a second look costs


def test_a_second_run_does_nothing(study: Study, capsys: pytest.CaptureFixture[str]) -> None:
    before = {path: path.stat().st_mtime_ns for path in study.folder.rglob("*") if path.is_file()}
    begun = time.monotonic()
    said = study.snakemake("--configfile", SMOKE)
    seconds = time.monotonic() - begun
    with capsys.disabled():
        print(f"\n  smoke study {study.seconds:.0f} s, the same with nothing to do {seconds:.1f} s")
    assert "Nothing to be done" in said
    assert {path: path.stat().st_mtime_ns for path in before} == before
    assert seconds < 10  # 5 s promised, on a machine that does nothing else


def test_new_prose_renders_alone(study: Study) -> None:
    file = study.project / "report" / "q3_self_attention.qmd"
    before = file.read_bytes()
    file.write_bytes(before + b"\nOne more sentence.\n")
    try:
        assert study.planned() == {"Render the report"}
    finally:
        file.write_bytes(before)


def test_an_added_arm_runs_alone(study: Study) -> None:
    more = {"patch_size": {"vary": {"patch_size": [14, 7, 28]}}}
    change = {"questions": {"q6_vit": {"experiments": more}}}
    (study.project / "overlay.yaml").write_text(yaml.safe_dump(change))
    (new,) = set(study.plan("overlay.yaml").arms) - set(study.plan().arms)
    assert study.planned("overlay.yaml") == {
        f"Train {new}",
        "Answer q6_vit",
        "Gather the runs that MLflow keeps under q6_vit",
        "Record q6_vit in MLflow",
        "Write the tables of all runs",
        "Write the table of all claims",
        "Ask Snakemake for its rule graph",
        "Gather what the report says about the study as a whole",
        "Render the report",
    }
