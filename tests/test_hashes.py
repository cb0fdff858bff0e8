"""The hashes of a study: what is computed is told from what is measured, and both are kept."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from vitrail.hashes import KINDS, differences, kinds_of, listing
from vitrail.measured import computed

ROOT = Path(__file__).parents[1]
RUN = "runs/vit-abc-s0"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A study in miniature, with a file of every kind."""
    made = tmp_path / "one" / "results" / "tiny"
    files = {
        f"{RUN}/history.csv": "step,train_loss\n1,0.5\n",
        f"{RUN}/timing.csv": "step,seconds\n1,2.5\n",
        f"{RUN}/predictions.npz": "logits",
        f"{RUN}/model.safetensors": "weights",
        f"{RUN}/summary.json": json.dumps(
            {
                "test_errors": 7,
                "seconds": 2.5,
                "checksum": "of all",
                "files": {"timing.csv": "a", "history.csv": "b", "env.json": "e"},
            }
        ),
        "runs.csv": "run_id,seconds,test_errors\nvit-abc-s0,2.5,7\n",
        "claims.csv": "question,id,verdict\nq1,q1-x,supported\nq7,q7-fused-y,refuted\n",
        "q2_mlp/numbers.json": json.dumps({"relu": {"images_per_second": "9", "errors": "7"}}),
        "q2_mlp/claims.json": json.dumps([{"id": "q7-fused-y"}, {"id": "q2-x"}]),
        "q2_mlp/tables/activation.md": "Text.\n\n| Arm | Images/s | Errors |\n|:--|--:|--:|\n"
        "| ReLU | 948 | 7 |\n| A \\| B | 1 | 8 |\n\n: Caption, load average 0.52.\n",
        "q2_mlp/answer.md": "Seven errors.\n",
        "q2_mlp/figures/gelu.svg": "<svg/>",
        "study/numbers.json": json.dumps({"runs": "9", "refuted": "3"}),
        "q6_vit/explore/effects.json": "{}",
        "report_build/explore/reduction.json": "{}",
        "reduction/thresholds.json": json.dumps({"percent": 75, "seconds": 7.6}),
        "timing/attention.csv": "n,median_seconds\n16,0.1\n",
        "report/report.html": "7 errors in 2.5 s",
        "report/report.pdf": "7 errors in 2.5 s",
    }
    for name, text in files.items():
        (made / name).parent.mkdir(parents=True, exist_ok=True)
        (made / name).write_text(text)
    return made


def changed(folder: Path, name: str, old: str, new: str) -> Path:
    """A second run, with something other in a file."""
    other = folder.parents[1].with_name("two") / "results" / "tiny"
    shutil.copytree(folder, other, dirs_exist_ok=True)
    text = (other / name).read_text()
    assert old in text
    (other / name).write_text(text.replace(old, new))
    return other


def test_every_kind_has_its_files(folder: Path) -> None:
    kinds = kinds_of(folder)
    assert list(kinds) == [kind for kind, _ in KINDS]
    assert all(kinds.values())
    listed = {name for files in kinds.values() for name in files}
    there = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    assert listed == there


MEASURED = [
    (f"{RUN}/timing.csv", "2.5", "2.6"),
    (f"{RUN}/summary.json", '"seconds": 2.5', '"seconds": 3.5'),
    (f"{RUN}/summary.json", '"timing.csv": "a"', '"timing.csv": "c"'),
    (f"{RUN}/summary.json", '"env.json": "e"', '"env.json": "c"'),
    (f"{RUN}/summary.json", "of all", "of others"),
    ("reduction/thresholds.json", "7.6", "8.0"),
    ("runs.csv", "2.5", "2.6"),
    ("claims.csv", "refuted", "supported"),
    ("q2_mlp/numbers.json", '"9"', '"8"'),
    ("q2_mlp/tables/activation.md", "948", "1,000"),
    ("q2_mlp/tables/activation.md", "average 0.52", "average 1.97"),
    ("study/numbers.json", '"3"', '"2"'),
    ("report_build/explore/reduction.json", "{}", "[]"),
    ("timing/attention.csv", "0.1", "0.2"),
    ("report/report.html", "2.5 s", "2.6 s"),
]
COMPUTED = [
    (f"{RUN}/history.csv", "0.5", "0.6"),
    ("reduction/thresholds.json", "75", "50"),
    (f"{RUN}/predictions.npz", "logits", "others"),
    (f"{RUN}/model.safetensors", "weights", "others"),
    (f"{RUN}/summary.json", '"test_errors": 7', '"test_errors": 8'),
    (f"{RUN}/summary.json", '"history.csv": "b"', '"history.csv": "c"'),
    ("runs.csv", ",7", ",8"),
    ("claims.csv", "supported", "undecided"),
    ("q2_mlp/numbers.json", '"7"', '"8"'),
    ("q2_mlp/claims.json", "q2-x", "q2-y"),
    ("q2_mlp/tables/activation.md", "| 7 |", "| 8 |"),
    ("q2_mlp/tables/activation.md", "A \\| B", "A \\| C"),
    ("q2_mlp/tables/activation.md", "Caption", "Words"),
    ("study/numbers.json", '"9"', '"8"'),
    ("q2_mlp/answer.md", "Seven", "Eight"),
    ("q2_mlp/figures/gelu.svg", "<svg/>", "<svg></svg>"),
    ("q6_vit/explore/effects.json", "{}", "[]"),
]


@pytest.mark.parametrize(("name", "old", "new"), MEASURED)
def test_a_measured_value_changes_the_whole_alone(
    folder: Path, name: str, old: str, new: str
) -> None:
    ours, theirs = kinds_of(folder), kinds_of(changed(folder, name, old, new))
    assert differences(ours, theirs) == []
    assert differences(ours, theirs, whole=True) == [f"{name} differs"]
    assert listing(ours, files=False) != listing(theirs, files=False)


@pytest.mark.parametrize(("name", "old", "new"), COMPUTED)
def test_a_computed_value_is_a_difference(folder: Path, name: str, old: str, new: str) -> None:
    ours, theirs = kinds_of(folder), kinds_of(changed(folder, name, old, new))
    assert differences(ours, theirs) == [f"{name} differs"]


def test_a_file_that_one_has_alone_is_a_difference(folder: Path) -> None:
    other = changed(folder, "runs.csv", "seconds", "seconds")
    (other / "q6_vit" / "explore" / "effects.json").unlink()
    assert differences(kinds_of(folder), kinds_of(other)) == [
        "q6_vit/explore/effects.json is here alone"
    ]


def test_columns_with_commas_and_names_of_measured_files(folder: Path) -> None:
    file = folder / "quoted.csv"
    file.write_text('label,minutes,errors\n"a, b",1.5,7\n')
    assert computed(file, "quoted.csv") == b'label,errors\n"a, b",7\n'
    assert computed(file, "execution/ways.csv") is None


def test_the_command_says_what_differs(folder: Path) -> None:
    other = changed(folder, "runs.csv", ",7", ",8")

    def run(*more: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "vitrail.hashes", "--study", "tiny"]
        command += ["--results", str(folder.parent), *more]
        return subprocess.run(command, capture_output=True, text=True, timeout=60)

    alone = run("--files")
    assert alone.returncode == 0
    assert f"{RUN}/history.csv" in alone.stdout
    assert "HTML             1  measured" in alone.stdout
    against = run("--against", str(other.parent))
    assert against.returncode == 1
    assert "1 file(s) differ from" in against.stderr
    assert "runs.csv differs" in against.stderr
    assert run("--against", str(folder.parent), "--whole").returncode == 0
    missing = run("--against", "nowhere")
    assert missing.returncode == 1
    assert "nowhere/tiny is not there" in missing.stderr
