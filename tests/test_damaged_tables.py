"""Tables between two steps, damaged: what was measured, the runs of a study, the claims.

Half a table is still a table, so nothing but its checksum tells it from a whole one.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from made_tracked import ROWS, STEM, STUDY, answer, write_table
from made_ways import write_steps
from vitrail import collect, ending, input_seconds, provenance, readme, step_memory
from vitrail.config import STEMS, load
from vitrail.errors import VitrailError
from vitrail.files import write_json, write_text
from vitrail.intact import SUM, checksums, read_rows, vouch, vouched, write_vouched
from vitrail.questions.complexity import clock, reduction, ways
from vitrail.questions.study import Study
from vitrail.questions.transfer import input_cost
from vitrail.tracking import records

ROOT = Path(__file__).parents[1]
TEXT = "arm,peak_mib\nbase,10.25\nwide,20.5\ndeep,31.75\n"


def last_line_gone(path: Path) -> None:
    path.write_text("\n".join(path.read_text().splitlines()[:-1]) + "\n")


def digit(path: Path) -> None:
    """Another digit at the end, or one more."""
    text = path.read_text(errors="replace")
    path.write_text(f"{text[:-2]}{'7' if text[-2] != '7' else '8'}\n")


DAMAGES: list[Callable[[Path], Any]] = [
    last_line_gone,
    digit,
    lambda path: path.write_bytes(b""),
    lambda path: path.write_bytes(path.read_bytes()[: path.stat().st_size // 2]),
    lambda path: path.write_bytes(b"\xff\xfe" + path.read_bytes()),
    lambda path: path.with_name(path.name + SUM).write_bytes(b"\xff"),
]
NAMES = ["last line gone", "a digit", "empty", "cut", "not UTF-8", "no checksum in its file"]


@pytest.mark.parametrize("damage", DAMAGES, ids=NAMES)
def test_a_damaged_table_is_named(tmp_path: Path, damage: Callable[[Path], Any]) -> None:
    table = tmp_path / "table.csv"
    write_vouched(table, TEXT)
    assert len(read_rows(vouched(table), "arm")) == 3
    damage(table)
    for read in (vouched, read_rows):
        with pytest.raises(VitrailError, match=r"is damaged .*; delete it and run") as told:
            read(table)
        assert str(table) in str(told.value) and "\n" not in str(told.value)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "no column arm"),
        (b"peak_mib\n1\n", "no column arm"),
        (b"arm,peak_mib\nbase\n", "a row has more or fewer values"),
        (b"arm,peak_mib\nbase,1,2\n", "a row has more or fewer values"),
        (b'arm,peak_mib\nbase,"1\n', "unexpected end of data"),
        (b"arm,peak_mib\nbase,1", "its last line does not end"),
        (b"arm,peak_mib\nb\xffse,1\n", "can't decode byte 0xff"),
    ],
)
def test_a_table_of_an_older_version_is_still_looked_at(
    tmp_path: Path, content: bytes, said: str
) -> None:
    """It has no checksum: what can be seen is said."""
    table = tmp_path / "runs.csv"
    table.write_bytes(content)
    with pytest.raises(VitrailError, match=rf"runs\.csv is damaged \(.*{said}.*\); delete it"):
        read_rows(table, "arm")


def test_older_tables_without_checksums_are_read(tmp_path: Path) -> None:
    (tmp_path / "runs.csv").write_text(TEXT)
    assert vouched(tmp_path / "runs.csv") == tmp_path / "runs.csv"
    with pytest.raises(VitrailError, match=r"ways\.csv is missing; run"):
        vouched(tmp_path / "ways.csv")


# --- What was measured


def study_at(results: Path) -> Study:
    return Study({**load([ROOT / "config" / "default.yaml"]), "study": "made"}, results)


MEASURED: list[tuple[str, Callable[[Study], Any]]] = [
    ("timing/attention.csv", lambda study: clock.Clock.read(study.folder / "timing")),
    ("timing/attention_samples.csv", lambda study: clock.Clock.read(study.folder / "timing")),
    ("execution/ways.csv", ways.ways_frame),
    ("reduction/table.csv", ways.ways_frame),
    ("reduction/table.csv", lambda study: reduction.read(study.folder)),
    ("reduction/pictures.npz", lambda study: reduction.read_right(study.folder)),
    ("reduction/pictures.npz", lambda study: reduction.tokens_drawn(study.folder)),
    ("reduction/pictures.npz", lambda study: reduction.draw_pictures(study.folder)),
    ("training_memory.csv", ways.ways_frame),
    ("input_seconds.csv", lambda study: input_cost.add(study, None)),  # type: ignore[arg-type]
]


@pytest.mark.parametrize(("name", "read"), MEASURED)
@pytest.mark.parametrize("damage", [last_line_gone, digit, Path.unlink])
def test_what_was_measured_is_as_it_was_written(
    tmp_path: Path, name: str, read: Callable[[Study], Any], damage: Callable[[Path], Any]
) -> None:
    study = study_at(tmp_path / "results")
    write_steps(study.folder, peaks={"a": 1.5, "b": 2.5})
    for other in ("timing/attention.csv", "timing/attention_samples.csv", "input_seconds.csv"):
        write_text(study.folder / other, "variant,seconds\nfused,0.5\nnaive,0.75\n")
    write_text(study.folder / "timing" / "env.json", "{}")
    vouch(study.folder / name)
    if damage is Path.unlink or name.endswith(".csv"):
        damage(study.folder / name)
    else:
        (study.folder / name).write_bytes((study.folder / name).read_bytes()[:-1])
    with pytest.raises(VitrailError) as caught:
        read(study)
    assert str(study.folder / name) in str(caught.value)
    assert str(caught.value).endswith("run the same command again")


def test_the_steps_of_one_table_vouch_for_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(input_seconds, "networks", dict)
    monkeypatch.setattr(input_seconds, "seconds_per_image", lambda made: {(28, 7): 0.5})
    monkeypatch.setattr(step_memory, "load_mnist", lambda *place, **how: None)
    for module, more in ((input_seconds, []), (step_memory, ["--arms", "{}", "--data", "x"])):
        out = tmp_path / f"{module.__name__}.csv"
        monkeypatch.setattr("sys.argv", ["step", "--out", str(out), *more])
        module.main()
        assert len(pd.read_csv(vouched(out))) == (not more)
        digit(out)
        with pytest.raises(VitrailError, match="is damaged"):
            vouched(out)


# --- Runs and claims


@pytest.fixture
def question(tmp_path: Path) -> Path:
    """The folder of a question without runs, as collect and the answer write it."""
    folder = tmp_path / STUDY / STEM
    write_table(tmp_path, [about | {"status": "not run"} for about in ROWS])
    vouch(folder / "runs.csv")
    answer(tmp_path, STEM)
    write_json(folder / "sources.json", {"files": checksums(folder, "claims.json", "figures/*")})
    assert len(records.read_question(STUDY, STEM, tmp_path).not_run) == len(ROWS)
    return folder


@pytest.mark.parametrize("damage", DAMAGES, ids=NAMES)
def test_mlflow_takes_no_damaged_table_of_runs(
    question: Path, damage: Callable[[Path], Any]
) -> None:
    """An empty one would mark every run as no longer in the config."""
    damage(question / "runs.csv")
    with pytest.raises(VitrailError, match=r"runs\.csv.* is damaged .*; delete it and run"):
        records.read_question(STUDY, STEM, question.parents[1])


@pytest.mark.parametrize("content", ["[]", '{"x": 3}', '{"claims": []}', "3", "[3]", '[{"a": 1}]'])
@pytest.mark.parametrize("older", [False, True])
def test_mlflow_takes_no_damaged_claims(question: Path, content: str, older: bool) -> None:
    if older:  # before claims.json was vouched for
        (question / "sources.json").unlink()
    (question / "claims.json").write_text(content)
    if older and content == "[]":
        assert records.read_question(STUDY, STEM, question.parents[1]).claims == ""
        return
    with pytest.raises(VitrailError, match=r"claims\.json (is|holds) .*; delete"):
        records.read_question(STUDY, STEM, question.parents[1])


def test_a_table_of_claims_takes_no_damaged_ones(tmp_path: Path) -> None:
    for stem in STEMS:
        answer(tmp_path, stem)
        folder = tmp_path / STUDY / stem
        write_json(folder / "sources.json", {"files": checksums(folder, "claims.json")})
    assert len(collect.claim_table(tmp_path / STUDY)) == len(STEMS)
    (folder / "claims.json").write_text("[]")
    with pytest.raises(VitrailError, match=rf"{STEMS[-1]}/claims\.json is damaged"):
        collect.claim_table(tmp_path / STUDY)


@pytest.mark.parametrize("damage", DAMAGES, ids=NAMES)
def test_the_last_words_take_no_damaged_table(
    tmp_path: Path,
    damage: Callable[[Path], Any],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    table = tmp_path / STUDY / "runs.csv"
    write_vouched(table, "run_id,status,reason\na,finished,\nb,not run,no weights\nc,finished,\n")
    write_vouched(table.with_name("claims.csv"), "id,verdict\na,supported\n")
    write_text(tmp_path / STUDY / "report" / "report.html", "")
    assert "2 of 3 runs finished" in ending.ending(STUDY, tmp_path)
    damage(table)
    for read in (lambda: ending.ending(STUDY, tmp_path), lambda: provenance.gather(table.parent)):
        with pytest.raises(VitrailError, match=r"runs\.csv.* is damaged"):
            read()
    monkeypatch.delenv("MAKELEVEL", raising=False)
    ending.after_snakemake(STUDY, tmp_path)  # in Snakemake: a sentence, no traceback
    said = capsys.readouterr()
    assert said.out == "" and said.err.startswith("vitrail: ") and said.err.count("\n") == 1


@pytest.mark.parametrize("damage", DAMAGES[:5], ids=NAMES[:5])
def test_the_readme_takes_no_damaged_answers(tmp_path: Path, damage: Callable[[Path], Any]) -> None:
    folder = tmp_path / "study"
    columns = [*readme.SIGNS, "question", "title", "asks", "answer", "key", "key_name"]
    row = ["0"] * len(readme.SIGNS) + ["Q1"] * 6
    text = ",".join(columns) + "\n" + ",".join(row) + "\n"
    write_text(folder / "answers.csv", text)
    facts = dict.fromkeys(["name", "commit", "hardware", "cores", "answered", "finished"], "x")
    facts |= dict.fromkeys(["runs", "minutes", "claims", *readme.SIGNS], "x")
    write_json(folder / "numbers.json", facts)
    write_json(folder / "sources.json", {"files": checksums(folder, "*.csv", "*.json")})
    assert len(readme.answers(tmp_path)[1]) == 1
    damage(folder / "answers.csv")
    with pytest.raises(VitrailError, match=r"answers\.csv is damaged .*; delete the folder"):
        readme.answers(tmp_path)
