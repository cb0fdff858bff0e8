"""Q7's ways to lower the cost: every way has a row, and what a row says follows from its tables."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from looks import clashes
from made_study import experiment, small, write_runs
from made_ways import MACHINE, execution_table, write_steps
from vitrail import step_memory
from vitrail.claims import Claim
from vitrail.complexity_plan import trained_for_less
from vitrail.config import load
from vitrail.data import Mnist
from vitrail.questions.complexity.goal import median_seconds, seconds_to
from vitrail.questions.complexity.ways import (
    COLUMNS,
    INFERENCE,
    REDUCED,
    STEP,
    TRAININGS,
    time_ratio,
    ways_frame,
)
from vitrail.questions.complexity.ways_claims import ways_claims
from vitrail.questions.complexity.ways_figure import draw_gains, shown, spread
from vitrail.questions.complexity.ways_tables import (
    inference_markdown,
    step_markdown,
    training_markdown,
)
from vitrail.questions.study import Study
from vitrail.reserved import RESERVED

ARMS: dict[str, dict[str, Any]] = {
    "base": {},
    "adamw": {"settings": {"learning_rate": 0.01}},
    "lion": {"settings": {"learning_rate": 0.02}},
    "mine": {"settings": {"epochs": 3}},
}


def made(
    root: Path,
    folder: Path,
    execution: pd.DataFrame | None = None,
    seconds: dict[str, float] | None = None,
    accuracy: float | None = 0.9,
) -> Study:
    """A study of four trainings; `seconds` of a whole training, `accuracy` that of lion."""
    config = load([root / "config" / "default.yaml"])
    arms = {name: {"label": name, **about} for name, about in ARMS.items()}
    study = Study(small(config, "q7_complexity", training=experiment(arms=arms)), folder)
    names = {m.arm.arm_id: m.name for m in study.plan.of_question("q7_complexity")[0].members}
    write_runs(study, lambda arm, _: accuracy if names.get(arm) == "lion" else 0.9)
    taken = {"base": 10.0, "adamw": 5.0, "lion": 20.0} | (seconds or {})
    for arm, name in names.items():
        for seed in study.plan.seeds:
            run = study.run_folder(arm, seed)
            if (run / "history.csv").exists():
                clock = [0.5 * taken.get(name, 10.0), taken.get(name, 10.0)]
                steps = [int(10 * seconds) for seconds in clock]
                pd.DataFrame({"step": steps, "seconds": clock}).to_csv(run / "timing.csv")
                history = pd.read_csv(run / "history.csv").assign(step=steps)
                history.to_csv(run / "history.csv", index=False)
    write_steps(study.folder, execution, dict(zip(names, [4.0, 6.0, 5.0, 4.0], strict=True)))
    return study


@pytest.fixture
def study(root: Path, tmp_path: Path) -> Study:
    return made(root, tmp_path)


def verdicts(study: Study) -> dict[str, Claim]:
    return {claim.id: claim for claim in ways_claims(study, ways_frame(study))}


def test_every_way_has_a_row_and_a_missing_figure_a_reason(study: Study) -> None:
    ways = ways_frame(study)
    assert list(ways.columns) == COLUMNS
    assert list(ways["name"]) == [*INFERENCE, *REDUCED, *STEP, *TRAININGS, "training.mine"]
    figures = ways[["seconds", "time_ratio", "peak_mib", "memory_ratio"]]
    missing = figures.isna().any(axis=1)
    assert missing.any() and (ways.loc[missing, "reason"].str.len() > 20).all()
    reasons = ways.set_index("name")["reason"]
    assert "asks for no setting" in reasons["prune"] and "asks" in reasons["ltmp_class"]
    assert "takes the arm out" in reasons["training.sam"]
    assert ways["reason"].iloc[0] == ""


def test_a_way_that_failed_keeps_its_reason(root: Path, tmp_path: Path) -> None:
    nothing = dict.fromkeys(("seconds_per_image", "time_ratio", "peak_mib", "accuracy"), math.nan)
    gone = execution_table(**{"inference.int8": nothing | {"reason": "no int8 kernels"}})
    gone = gone[gone["name"] != "offloading"]
    study = made(root, tmp_path, gone, accuracy=None)
    ways = ways_frame(study)
    reasons = ways.set_index(["table", "name"])["reason"]
    assert reasons["inference", "int8"] == "no int8 kernels"
    assert "did not write" in reasons["step", "offloading"]
    assert reasons["training", "training.lion"] == "a test"
    printed = inference_markdown(ways, MACHINE, MACHINE)
    assert re.search(r"int8 weights \| not run \|.*—", printed)
    assert printed.count("no int8 kernels") == 1
    lion = next(line for line in training_markdown(ways, 0.85, 3, "a CPU").splitlines()
                if line.startswith("| lion"))  # fmt: skip
    assert "not run" in lion and "nan" not in lion


def test_ratios_are_to_the_named_baseline(study: Study) -> None:
    ways = ways_frame(study).set_index("name")
    tome = ways.loc["tome"]
    assert tome["way"] == "ToMe, r = 8"  # 0.55 is nearer to a half than 0.8
    assert tome["time_ratio"] == pytest.approx(0.5) and tome["seconds"] == pytest.approx(1 / 2000)
    assert tome["memory_ratio"] == pytest.approx(0.55) and tome["baseline"] == "all tokens"
    assert ways.loc["ltmp", "time_ratio"] == pytest.approx(1.25)
    adamw = ways.loc["training.adamw"]
    assert adamw["time_ratio"] == pytest.approx(0.5) and adamw["memory_ratio"] == 1.5
    assert adamw["baseline"] == "base" and adamw["accuracy_difference"] == 0
    assert ways.loc["training.lion", "time_ratio"] == pytest.approx(2)
    assert ways.loc["lora", "baseline"] == STEP["full"][1]


def test_time_ratio_is_paired_and_above_zero() -> None:
    ratio, low, high = time_ratio({0: 1.0, 1: 8.0, 5: 100.0}, {0: 2.0, 1: 4.0})
    assert ratio == pytest.approx(1) and 0 < low < 1 < high
    assert all(map(math.isnan, time_ratio({0: 1.0}, {1: 1.0})))


def test_seconds_to_an_accuracy() -> None:
    curve = [0.5, 0.8, 0.9], [10, 20, 30]
    assert seconds_to(0.85, *curve) == pytest.approx(25)
    assert seconds_to(0.8, *curve) == 20
    assert seconds_to(0.4, *curve) == 10  # a bound
    assert seconds_to(0.95, *curve) == math.inf
    assert seconds_to(0.85, [0.5, 0.9, 0.3], [10, 20, 30]) == pytest.approx(18.75)  # the first time


def test_median_over_seeds() -> None:
    def run(last: float) -> pd.DataFrame:
        return pd.DataFrame({"val_accuracy": [0.0, last], "seconds": [0.0, 10.0]})

    assert median_seconds(0.5, {0: run(1.0), 1: run(0.5), 2: run(0.1)}) == 10
    assert median_seconds(0.5, {0: run(1.0), 1: run(0.1), 2: run(0.1)}) == math.inf
    assert math.isnan(median_seconds(0.5, {}))


def test_goal_is_that_of_the_config(study: Study) -> None:
    """Validation accuracy goes from 0.45 after half of the seconds to 0.9."""
    ways = ways_frame(study).set_index("name")
    assert ways.loc["training.base", "seconds_to_goal"] == pytest.approx(5 + 5 * 0.4 / 0.45)
    study.config["questions"]["q7_complexity"]["goal_accuracy"] = 0.95
    ways = ways_frame(study)
    assert ways.set_index("name").loc["training.base", "seconds_to_goal"] == math.inf
    printed = training_markdown(ways, 0.95, 3, "a CPU")
    assert "s to 95 %" in printed and "not reached" in printed


def test_claims_fall_either_way(root: Path, tmp_path: Path) -> None:
    good = execution_table(
        **{
            "training.checkpointing": {"memory_ratio": 0.4, "time_low": 1.2, "time_high": 1.4},
            "training.data_parallel": {"time_low": 0.6, "time_high": 0.8},
            "inference.bf16": {"accuracy_points": -0.1},
        }
    )
    found = verdicts(made(root, tmp_path / "good", good))
    assert {claim.verdict for claim in found.values()} == {"supported"} and len(found) == 6
    assert "sooner: adamw" in found["q7-some-training-is-sooner"].evidence
    bad = execution_table(
        **{
            "training.checkpointing": {"memory_ratio": 1.2, "time_low": 1.2, "time_high": 1.4},
            "training.data_parallel": {"time_low": 1.1, "time_high": 1.3},
            "inference.sdpa": {"logit_difference": 0.1},
            "inference.bf16": {"accuracy_points": 0.15},
            "inference.int8": {"accuracy_points": -0.15},
        }
    )
    slow = {"adamw": 9.5}  # within a tenth of the base
    found = verdicts(made(root, tmp_path / "bad", bad, slow))
    assert {claim.verdict for claim in found.values()} == {"refuted"}
    few = execution_table(
        **{
            "training.checkpointing": {"memory_ratio": math.nan},
            "inference.compile": {"logit_difference": math.nan},
            "inference.bf16": {"images": 300},
            "inference.int8": {"accuracy_points": math.nan},
        }
    )
    study = made(root, tmp_path / "few", few)
    found = verdicts(study)
    left = {claim.id for claim in found.values() if claim.verdict == "undecided"}
    assert left == set(found) - {"q7-some-training-is-sooner"}


def test_a_training_that_falls_back_is_not_sooner(root: Path, tmp_path: Path) -> None:
    study = made(root, tmp_path, seconds={"adamw": 9.5, "lion": 1.0})
    assert verdicts(study)["q7-some-training-is-sooner"].verdict == "supported"
    lion = study.plan.of_question("q7_complexity")[0].member("lion").arm.arm_id
    for seed in study.plan.seeds:
        path = study.run_folder(lion, seed) / "history.csv"
        pd.read_csv(path).assign(val_accuracy=[0.9, 0.4]).to_csv(path, index=False)
    assert verdicts(study)["q7-some-training-is-sooner"].verdict == "refuted"


def test_printed_tables_hold_every_row_under_its_group(study: Study) -> None:
    ways = ways_frame(study)
    printed = {
        "inference": inference_markdown(ways, MACHINE, MACHINE),
        "step": step_markdown(ways, MACHINE),
        "training": training_markdown(ways, 0.85, 3, "a CPU"),
    }
    for table, text in printed.items():
        mine = ways[ways["table"] == table]
        lines = [line for line in text.splitlines() if line.startswith("|")]
        assert len(lines) == 2 + len(mine) + mine["group"].nunique() - 1  # the baseline has none
        assert len({line.count("|") for line in lines}) == 1 and "nan" not in text
        assert "a CPU" in text and f"{{#tbl-q7-ways-{table}}}" in text
        # Pandoc takes a table without a blank line after it for a longer one.
        assert "\n\n:" in text
    assert printed["inference"].count("asks for no setting") == 1


@pytest.mark.parametrize(
    ("device", "bf16", "told"),
    [("cpu", False, True), ("cpu", True, False), ("cuda", False, True), ("mps", False, False)],
)
def test_the_caption_says_where_bf16_is_emulated(
    study: Study, device: str, bf16: bool, told: bool
) -> None:
    text = step_markdown(ways_frame(study), MACHINE | {"device": device, "bf16": bf16})
    assert ("a CPU, which emulates bf16, one thread" in text) == told


def test_labels_of_the_figure_do_not_overlap(study: Study) -> None:
    places = spread(np.array([0.9, 0.5, 0.5, 0.49, 0.02, 0.01]), 0.1)
    assert (np.diff(places) <= -0.1 + 1e-9).all() and places.min() >= 0 and places.max() <= 1
    assert places[0] == 0.9 and places[1:4].mean() == pytest.approx(0.4967, abs=1e-3)
    ways = ways_frame(study)
    drawn = draw_gains(ways)
    for axes, table in zip(drawn.axes, ("inference", "training"), strict=True):
        expected = list(shown(ways, table)["way"])
        assert [text.get_text() for text in axes.texts] == expected and len(expected) >= 3
        heights = [text.xyann[1] for text in axes.texts]  # type: ignore[attr-defined]
        assert (np.diff(heights) < -0.05).all()
    assert clashes(drawn) == []


def test_memory_of_training_steps(mnist: Mnist, root: Path) -> None:
    """Repeatable, and as one knows it: larger with the batch, smaller with half of the patches."""
    import torch

    config = load([root / "config" / "default.yaml"])
    config["defaults"] |= {"embed_dim": 16, "depth": 2, "batch_size": 16}
    arms = {
        "base": {}, "large": {"settings": {"batch_size": 32}},
        "sam": {"settings": {"sam_radius": 0.1}},
        "half": {"settings": {"patch_drop_rate": 0.5}}, "grow": {"settings": {"grow": "depth"}},
        "pick": {"settings": {"selection": "importance"}},
    }  # fmt: skip
    config["questions"]["q7_complexity"]["experiments"] = {"training": experiment(arms=arms)}
    plan = Study(config, Path()).plan
    names = {m.arm.arm_id: m.name for m in plan.of_question("q7_complexity")[0].members}
    asked = trained_for_less(plan)
    assert list(asked) == list(names)

    def measured() -> dict[str, float]:
        cpu = torch.device("cpu")
        return {names[arm]: step_memory.step_mib(one, mnist, cpu) for arm, one in asked.items()}

    found = measured()
    assert found == measured()
    assert 1.8 < found["large"] / found["base"] < 2.1
    assert found["half"] < 0.8 * found["base"] < found["base"] < found["sam"]
    assert found["grow"] > 0.9 * found["base"]  # the whole network is among the steps


def test_names_are_reserved() -> None:
    made_here = {"ways", "gains", "goal", "ways_inference", "ways_step", "ways_training"}
    assert made_here <= RESERVED["q7_complexity"]


def test_step_memory_writes_its_table(
    mnist: Mnist, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, root: Path
) -> None:
    config = load([root / "config" / "default.yaml"])
    arms = {"base": {}, "sam": {"settings": {"sam_radius": 0.1}}}
    config = small(config, "q7_complexity", training=experiment(arms=arms))
    config["defaults"]["batch_size"] = 8
    asked = trained_for_less(Study(config, Path()).plan)
    out = tmp_path / "deep" / "training_memory.csv"
    arguments = ["--arms", json.dumps(asked), "--data", "data", "--out", str(out)]
    monkeypatch.setattr("sys.argv", ["step_memory", *arguments])
    monkeypatch.setattr(step_memory, "load_mnist", lambda *_, **__: mnist)
    step_memory.main()
    table = pd.read_csv(out)
    assert list(table["arm_id"]) == list(asked) and (table["peak_mib"] > 0).all()
