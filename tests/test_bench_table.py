"""What the benchmark writes: tables that add up, in the README and on the page."""

from __future__ import annotations

import ast
import math
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from made_bench import FACTS, contestant, facts_in, noise
from vitrail.bench import table, turns
from vitrail.bench.__main__ import csv_text
from vitrail.bench.contestants import Contestant, contestants
from vitrail.data import Mnist
from vitrail.errors import VitrailError
from vitrail.readme import put_in

ROOT = Path(__file__).parents[1]


@pytest.fixture
def mnist() -> Mnist:
    return noise()


@pytest.fixture
def measured(config: dict[str, Any]) -> tuple[list[Contestant], dict[str, list[float]]]:
    """Made-up turns: ours takes 1 s, then 2 s; the other twice as long; one is missing."""
    ours = contestant("ours", lambda _: 0.0, config)
    other = contestant("timm, tutorial", lambda _: 0.0, config, "timm")
    gone = contestant("vit-pytorch, tutorial", lambda _: 0.0, config, "vit-pytorch")
    ours.seconds, other.seconds, gone.reason = [1.0, 2.0, 1.0], [2.0, 4.0, 2.0], "not installed"
    for one in (ours, other):
        one.parameters, one.macs = 1000, 10**6
    return [ours, other, gone], {"fp32": [7.68e9, 3.84e9, 7.68e9]}


def test_rows_are_medians_and_ratios_within_a_round(measured: Any) -> None:
    first, second, third = table.rows(*measured)
    assert (first["images_per_second"], first["low"], first["high"]) == (640, 320, 640)
    # The slow round hits both: the ratio does not see it.
    assert [second[name] for name in ("ours_times", "ours_times_low", "ours_times_high")] == [2] * 3
    assert first["ours_times"] == 1
    # 640 images of 3 passes of 2 x 1e6 operations in 1 s are 3.84 GFLOP/s, half of the peak of
    # the first round and, at 2 s, of the second.
    assert first["gflops"] == pytest.approx(3.84) and first["share_of_peak"] == pytest.approx(0.5)
    assert second["share_of_peak"] == pytest.approx(0.25)
    assert math.isnan(third["images_per_second"]) and third["reason"] == "not installed"


def test_inference_counts_one_pass(config: dict[str, Any]) -> None:
    train, infer = (contestant("a", lambda _: 1.0, config, task=t) for t in ("train", "infer"))
    train.macs = infer.macs = 5
    assert (train.flops, infer.flops) == (2 * 3 * 5 * 640, 2 * 5 * 640)


def test_csv_has_every_column(measured: Any) -> None:
    lines = csv_text(table.rows(*measured)).splitlines()
    assert lines[0] == ",".join(table.COLUMNS)
    assert len(lines) == 4 and lines[3].endswith(",not installed")


def test_the_tables_of_a_whole_measurement(config: dict[str, Any], mnist: Mnist) -> None:
    """All rows in both, with a dash-free cell for each column, and no NaN."""
    found = contestants(config["defaults"], mnist, bf16=False)
    for one in found:
        if not one.reason and one.library != "vit-pytorch":
            one.seconds, one.parameters, one.macs = [0.5, 1.0], 1000, 10**6
        else:
            one.reason = one.reason or "vit-pytorch is not installed"
    made = table.rows(found, {"fp32": [1e9, 1e9]})
    short, full = table.readme_block(made, FACTS), table.full_block(made, FACTS)
    for text in (short, full):
        assert text.startswith(table.BEGIN) and text.endswith(table.END) and "nan" not in text
        grid = [line for line in text.splitlines() if line.startswith("|")]
        assert len({line.count("|") for line in grid}) == 1
        assert "vit-pytorch is not installed" in text and facts_in(text) == FACTS
    assert len(full.splitlines()) == len(made) + 6
    assert "**ours**, in our loop | 4,800 | 1.00 × as fast | " in short
    assert "**ours**, in our loop: ViT-S in bf16 | this processor has no bf16 products |" in short


def test_the_readme_shows_vit_s(config: dict[str, Any], mnist: Mnist) -> None:
    """Two steps of 64 images in two and in four seconds, by its own name and size."""
    found = contestants(config["defaults"], mnist, bf16=True)
    for one in found:
        one.seconds, one.parameters, one.macs = [0.5], 1000, 10**6
    for one, seconds in zip(found[-10:-8], (2.0, 4.0), strict=True):
        assert one.task == "train ViT-S"
        one.seconds, one.parameters, one.macs = [seconds], 21_000_000, 10**9
    short = table.readme_block(table.rows(found, {"fp32": [1e9], "bf16": [1e12]}), FACTS)
    ours, timms = (line for line in short.splitlines() if "ViT-S" in line)
    # 128 images of 6 GFLOP in 2 s are 384 GFLOP/s.
    start = "| **ours**, in our loop: ViT-S in bf16 (21,000,000 parameters)"
    assert ours == f"{start} | 64.0 | 1.00 × as fast | 38 % |  |  |"
    start = "| timm, our loop: ViT-S in bf16 (21,000,000 parameters)"
    assert timms == f"{start} | 32.0 | 2.00 × as fast | 19 % |  |  |"


def test_readme_and_page_hold_a_measurement_or_say_that_there_is_none() -> None:
    """One that was written by this version of the table: a clean commit, a machine, all rows."""
    for name, least in (("README.md", 9), ("docs/benchmarks.md", 18)):
        text = (ROOT / name).read_text(encoding="utf-8")
        put_in(text, "", (table.BEGIN, table.END), name)
        if table.UNMEASURED in text:
            continue
        inside = text.partition(table.BEGIN)[2].partition(table.END)[0]
        assert inside.count("\n|") >= least, f"{name}: write it again: make bench"
        told = facts_in(inside)
        assert told, f"{name}: write it again: make bench"
        assert re.fullmatch(r"[0-9a-f]{7,40}", told["commit"]), "not of a clean commit"
        assert told["hardware"].strip() and "not installed" not in inside


def test_nothing_heavy_at_import() -> None:
    for path in sorted((ROOT / "src" / "vitrail" / "bench").glob("*.py")):
        heavy = {"torch", "torchvision", "timm", "transformers", "vit_pytorch", "pandas"}
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            names = [alias.name for alias in getattr(node, "names", [])]
            names += [getattr(node, "module", "") or ""]
            assert not heavy & {name.partition(".")[0] for name in names}, path.name


def test_a_page_without_marks_is_told_before_anything_is_measured(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("nothing")
    with pytest.raises(VitrailError, match=r"page\.md should hold the lines"):
        put_in("nothing", "", (table.BEGIN, table.END), str(page))
    done = subprocess.run(
        [sys.executable, "-m", "vitrail.bench", "--rounds", "0"],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 1
    assert done.stderr == "vitrail: --rounds is 0 and has to be at least 1\n"


def made_command(
    config: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mnist: Mnist
) -> tuple[Any, list[Path], list[str]]:
    """The command with turns and a peak that are made up, its pages and what it did, in order."""
    from vitrail.bench import __main__ as command

    found = contestants(config["defaults"], mnist, bf16=False)
    for one in found:
        one.turn, one.parameters, one.macs = lambda _: 0.5, 1000, 10**6
    monkeypatch.setattr(command, "load_mnist", lambda *_, **__: mnist)
    monkeypatch.setattr(command, "contestants", lambda *_: found)
    order: list[str] = []
    monkeypatch.setattr(command, "one_core", lambda: order.append("one core") or True)
    monkeypatch.setattr(command, "prepare", lambda _: order.append("prepare"))
    monkeypatch.setattr(turns, "matrix_peak", lambda _: 1e9)
    pages = [tmp_path / "README.md", tmp_path / "page.md"]
    for page in pages:
        page.write_text(f"before\n{table.UNMEASURED}\nafter\n")
    words = ["bench", "--config", str(ROOT / "config" / "default.yaml"), "--rounds", "2"]
    words += ["--readme", str(pages[0]), "--page", str(pages[1]), "--out", str(tmp_path / "b.csv")]
    monkeypatch.setattr(sys, "argv", words)
    return command, pages, order


def test_the_command_writes_both_pages_and_the_rows(
    config: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str], mnist: Mnist,
) -> None:  # fmt: skip
    """What is around the blocks stays."""
    command, pages, order = made_command(config, tmp_path, monkeypatch, mnist)
    command.main()
    assert order == ["one core", "prepare"]
    for page in pages:
        text = page.read_text(encoding="utf-8")
        assert text.startswith(f"before\n{table.BEGIN}\n| ") and text.endswith("\nafter\n")
        assert facts_in(text)["rounds"] == "2 rounds" and table.UNMEASURED not in text
    rows = len(contestants(config["defaults"], mnist, bf16=False))
    assert len((tmp_path / "b.csv").read_text().splitlines()) == 1 + rows
    said = capsys.readouterr().out
    assert "ViT-S, ours is left out: this processor has no bf16 products" in said
    for share, told in ((0.5, True), (0.94, True), (0.96, False)):
        monkeypatch.setattr(command, "take_turns", lambda *_, s=share: ({"fp32": [1e9]}, s))
        command.main()
        said = capsys.readouterr().out
        assert (f"other programs took {1 - share:.0%} of the core" in said) == told


def test_what_was_edited_during_the_measurement_stays(
    config: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mnist: Mnist
) -> None:
    command, pages, _ = made_command(config, tmp_path, monkeypatch, mnist)

    def edited(_: Any) -> None:
        for page in pages:
            page.write_text(page.read_text().replace("after", "edited"))

    monkeypatch.setattr(command, "prepare", edited)
    command.main()
    for page in pages:
        assert page.read_text(encoding="utf-8").endswith("\nedited\n")


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--out", "/proc/x/b.csv"], r"^--out: /proc/x/b\.csv cannot be written"),
        (["--readme", "/proc/x/R.md"], r"^--readme: there is no page /proc/x/R\.md"),
        (["--page", "{latin}"], r"^--page: .*latin\.md is no text in UTF-8"),
        (["--page", "/proc/version"], r"/proc/version should hold the lines"),
    ],
)
def test_files_that_cannot_be_written_are_told_before_anything_is_measured(
    words: list[str], told: str, config: dict[str, Any], tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch, mnist: Mnist,
) -> None:  # fmt: skip
    command, _, order = made_command(config, tmp_path, monkeypatch, mnist)
    latin = tmp_path / "latin.md"
    latin.write_bytes(f"é{table.UNMEASURED}".encode("latin-1"))
    monkeypatch.setattr(command, "load_mnist", lambda *_, **__: pytest.fail("too late"))
    monkeypatch.setattr(sys, "argv", [*sys.argv, *(word.format(latin=latin) for word in words)])
    with pytest.raises(VitrailError, match=told):
        command.main()
    assert order == []


def test_one_round_is_one_round() -> None:
    from vitrail.bench.__main__ import facts

    about = facts({"fp32": [1e9]}, 1, pinned=False)
    assert about["rounds"] == "1 round" and "pinned" not in about["cores"]
    assert facts({"fp32": [1e9]}, 2, pinned=True)["cores"].endswith(", pinned to one")
