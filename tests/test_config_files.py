"""Config files that are no configs, or more than one can be: each is one sentence, at once."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from vitrail.config import load
from vitrail.config_file import MOST_VALUES, read_config
from vitrail.errors import VitrailError
from vitrail.planning import MOST_RUNS, plan_study

ROOT = Path(__file__).parents[1]
DEFAULT = ROOT / "config" / "default.yaml"


def nested(first: str, join: Callable[[str], str], levels: int = 30) -> str:
    """A few hundred bytes that stand for 9 ** 30 values."""
    lines = [f"a0: &a0 {first}"]
    lines += [f"a{i}: &a{i} {join(f'*a{i - 1}')}" for i in range(1, levels)]
    return "\n".join(lines)


FILES: list[tuple[str, bytes, str]] = [
    ("Latin-1", "study: caf\xe9\n".encode("latin-1"), "UTF-8"),
    ("UTF-16", "study: a\n".encode("utf-16"), "UTF-8"),
    ("a tab", b"data:\n\tvalidation: 3\n", "YAML"),
    ("an open list", b"seeds: [1\n", "YAML"),
    ("a NUL", b"study: a\0b\n", "YAML"),
    ("code in a tag", b'study: !!python/object/apply:os.mkdir ["hurt"]\n', "python/object"),
    ("a tag of nobody", b"study: !secret x\n", "!secret"),
    ("code of yte", b"__use_yte__: true\nstudy: ?open('hurt', 'w').name\n", "__use_yte__"),
    ("empty", b"", "keys and values"),
    ("a list", b"- a\n", "keys and values"),
    ("a word", b"hello\n", "keys and values"),
    ("two documents", b"study: a\n---\nstudy: b\n", "document"),
    ("a key twice", b"study: a\nseeds: [1]\nstudy: b\n", "'study' is there twice"),
    ("a key twice below", b"data: {folder: a, validation: 3, folder: b}\n", "'folder' is there"),
    ("a list as key", b"? [1, 2]\n: 3\n", "unhashable key"),
    ("an unknown anchor", b"study: *nothing\n", "undefined alias"),
    ("a date that is none", b"study: 2026-13-45\n", "month"),
    ("a number of 5,000 digits", b"seeds: [" + b"9" * 5000 + b"]\n", "digits"),
    ("mappings of mappings", nested("{x: 1}", lambda a: f"{{p: {a}, q: {a}}}").encode(), "values"),
    ("lists of lists", nested("[x]", lambda a: f"[{', '.join([a] * 9)}]").encode(), "values"),
    ("merges", nested("{x: 1}", lambda a: f"{{<<: [{', '.join([a] * 9)}]}}").encode(), "values"),
    ("within itself", b"data: &d\n  folder: *d\n", "within itself"),
    ("deep", b"study: " + b"[" * 100_000 + b"]" * 100_000, "nested more than"),
    ("long", b"seeds: [" + b"1, " * 200_000 + b"1]\n", "values"),
    ("large", b"#" + b"x" * 1_000_001, "more than 1,000,000 bytes"),
]


@pytest.mark.parametrize(("kind", "content", "said"), FILES, ids=[kind for kind, _, _ in FILES])
def test_a_file_that_is_no_config_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, content: bytes, said: str
) -> None:
    monkeypatch.chdir(tmp_path)
    file = tmp_path / "my.yaml"
    file.write_bytes(content)
    begun = time.process_time()
    with pytest.raises(VitrailError) as caught:
        read_config(file)
    assert time.process_time() - begun < 2
    sentence = str(caught.value)
    assert sentence.startswith(f"config: {file} ")
    assert said in sentence
    assert len(sentence) < 500
    assert sentence.isprintable()
    assert [path.name for path in tmp_path.iterdir()] == ["my.yaml"], "something ran"


def test_a_place_that_holds_no_file_is_told(tmp_path: Path) -> None:
    (tmp_path / "loop.yaml").symlink_to("loop.yaml")
    for name, said in (("", "directory"), ("gone.yaml", "No such file"), ("loop.yaml", "symbolic")):
        with pytest.raises(VitrailError, match=f"cannot be read: .*{said}"):
            read_config(tmp_path / name)


def test_what_is_right_is_read(tmp_path: Path) -> None:
    """A byte order mark, anchors, merges with keys of their own, and as much as there may be."""
    file = tmp_path / "my.yaml"
    file.write_text("a: &a {x: 1, y: 2}\nb: {<<: *a, y: 3}\nc: [*a, *a]\n", encoding="utf-8-sig")
    one = {"x": 1, "y": 2}
    assert read_config(file) == {"a": one, "b": {"x": 1, "y": 3}, "c": [one, one]}
    file.write_text(f"many: [{', '.join(['1'] * (MOST_VALUES - 10))}]\n")
    assert len(read_config(file)["many"]) == MOST_VALUES - 10


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("seeds: [" + ", ".join(map(str, range(200))) + "]", f"more than the {MOST_RUNS:,}"),
        ("questions: {q2_mlp: {experiments: {a: {title: '" + "x" * 200_000 + "', vary: {depth: "
         "[1, 2]}}}}}", "on its command line"),
        ("defaults: {evaluations: 1000000000000}", "defaults.evaluations is"),
    ],
    ids=["runs", "text", "evaluations"],
)  # fmt: skip
def test_a_study_beyond_reason_is_told(tmp_path: Path, text: str, said: str) -> None:
    file = tmp_path / "my.yaml"
    file.write_text(text)
    with pytest.raises(VitrailError, match=said):
        plan_study(load([DEFAULT, file]), ROOT)


def test_many_seeds_fit_on_the_command_lines(tmp_path: Path) -> None:
    """The rows of a question once held each seed, and seven of config/full.yaml were too many."""
    file = tmp_path / "my.yaml"
    file.write_text("study: many\nseeds: [" + ", ".join(map(str, range(12))) + "]")
    planned = plan_study(load([DEFAULT, ROOT / "config" / "full.yaml", file]), ROOT)
    assert len(planned.plan.seeds) == 12


def test_the_command_says_one_sentence(tmp_path: Path) -> None:
    """What `make report` asks before it starts Snakemake, which shows a traceback for some."""
    file = tmp_path / "my.yaml"
    file.write_bytes("study: caf\xe9\n".encode("latin-1"))
    command = [sys.executable, "-m", "vitrail.planning", str(DEFAULT), str(file)]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr.startswith(f"vitrail: config: {file} is not valid YAML in UTF-8")
    assert done.stderr.count("\n") == 1
    file.write_text("study: cafe\n")
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert (done.returncode, done.stdout[:46]) == (
        0,
        "vitrail: the config makes the study cafe of 30",
    )
