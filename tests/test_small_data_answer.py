"""Q8d: gains at equal labels, what a method has seen, the lab report's ideas, words that turn."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import pytest

from made_study import experiment, small, write_runs
from vitrail import style
from vitrail.questions.answer import Answer
from vitrail.questions.study import Study
from vitrail.questions.transfer import budget_figures, budget_words, small_data
from vitrail.questions.transfer.budgets import by_method, clear

RECIPES = {
    "strokes": {"images": "strokes", "steps": 2},
    "noise": {"images": "strokes", "steps": 2, "shuffled_labels": True},
    "masked": {"images": "digits", "task": "masked", "steps": 2},
}
ARMS: dict[str, Any] = {
    "vit": {"label": "plain"},
    "cnn": {"label": "net", "settings": {"model": "cnn"}},
    "moved": {"label": "moved", "settings": {"rotation": 15}},
    "dropped": {"label": "dropped", "settings": {"drop_rate": 0.1}, "budgets": [1000]},
    "strokes": {"label": "strokes", "settings": {"start": "strokes"}},
    "noise": {"label": "noise", "settings": {"start": "noise"}},
    "masked": {"label": "masked", "settings": {"start": "masked"}},
    "two": {"label": "two at once", "settings": {"rotation": 15, "drop_rate": 0.1}},
}
BUDGETS = [{"label_budget": 100, "steps": 5}, {"label_budget": 1000, "steps": 10}]
Made = Callable[..., Study]


@pytest.fixture
def made(config: dict[str, Any], tmp_path: Path) -> Made:
    """A study whose accuracies are 0.8 at 100 labels and 0.9 at 1,000, plus what is asked."""

    def write(**gains: float | None) -> Study:
        config["pretraining"] = RECIPES
        few = experiment(arms=ARMS, budgets=BUDGETS, settings={"evaluations": 2})
        study = Study(small(config, "q8_transfer", few=few), tmp_path)
        names = {arm.arm_id: arm.name for arm in study.plan.arms.values()}

        def accuracy(arm_id: str, seed: int) -> float | None:
            method, _, budget = names[arm_id].removeprefix("few.").rpartition("-")
            gain = gains.get(f"{method}_{budget}", gains.get(method, 0.0))
            base = 0.8 if budget == "100" else 0.9
            # Subsets differ by more than methods do; differences by a thousandth either way.
            wobble = 0.001 * (seed - 1) if method != "vit" else 0.0
            return None if gain is None else base + 0.02 * seed + gain + wobble

        write_runs(study, accuracy)
        for start in study.plan.pretrainings:
            folder = study.folder / "pretraining" / start
            folder.mkdir(parents=True)
            (folder / "summary.json").write_text(json.dumps({"seconds": 12.5}))
        return study

    return write


def table_of(study: Study) -> Any:
    about = small_data.over_budgets(study)
    assert about is not None
    return by_method(study, about)


def row(study: Study, method: str, budget: int) -> dict[str, Any]:
    table = table_of(study)
    (found,) = table[(table["method"] == method) & (table["label_budget"] == budget)].to_dict(
        "records"
    )
    return found


def test_gains_are_paired_at_equal_labels(made: Made) -> None:
    """The subsets differ by four points; the paired interval is that of the wobble alone."""
    study = made(moved_100=0.03, moved_1000=-0.01)
    found = row(study, "moved", 100)
    assert found["gain"] == pytest.approx(0.03)
    assert found["gain_half_width"] == pytest.approx(4.303 * 0.001 / math.sqrt(3), rel=1e-3)
    assert found["accuracy_half_width"] > 0.04
    assert row(study, "moved", 1000)["gain"] == pytest.approx(-0.01)
    assert math.isnan(row(study, "vit", 100)["gain"])  # of the reference itself there is none
    assert set(table_of(study)["label_budget"]) == {100, 1000}


def test_what_a_method_has_seen_and_which_idea_it_is(made: Made) -> None:
    table = table_of(made()).drop_duplicates("method").set_index("method")
    assert table["idea"].to_dict() == {
        "vit": "", "cnn": "", "moved": "augmentation", "dropped": "dropout",
        "strokes": "pretraining", "noise": "", "masked": "pretraining", "two": "",
    }  # fmt: skip
    seen = {name: words for name, words in table["beyond"].items() if words}
    assert seen == {
        "strokes": "made strokes", "noise": "made strokes", "masked": "unlabelled digits",
    }  # fmt: skip
    assert list(table.index[table["shuffled"]]) == ["noise"]
    assert table["pretraining_seconds"]["strokes"] == 12.5
    assert table["pretraining_seconds"]["vit"] == 0
    assert table["steps"]["vit"] == 5


@pytest.mark.parametrize(
    ("gain", "verdict"),
    [
        (0.03, "helps at 100 and 1,000 labels"),
        (-0.03, "hurts at 100 and 1,000 labels"),
        (0.0, "undecided at 100 and 1,000 labels"),
    ],
)
def test_an_idea_gets_the_verdict_of_the_runs(made: Made, gain: float, verdict: str) -> None:
    study = made(moved=gain)
    said = budget_words.ideas_markdown(table_of(study), "x")
    (line,) = [line for line in said.splitlines() if "| moved |" in line]
    assert line.startswith("| augmentation |")
    assert line.rstrip(" |").endswith(verdict)
    mixed = budget_words.verdict(table_of(study).query("method == 'dropped'"))
    assert mixed == "undecided at 1,000 labels"


def test_bold_is_what_the_interval_separates_from_zero(made: Made) -> None:
    study = made(moved=0.03, dropped=0.0)
    table = table_of(study)
    assert set(clear(table)["method"]) == {"moved"}
    said = budget_words.gains_markdown(table, "vit", "x").splitlines()
    lines = {line.split("|")[1].strip(): line for line in said if line.startswith("| ")}
    moved, dropped = lines["moved"], lines["dropped"]
    assert moved.count("**+3.00") == 2
    assert "**" not in dropped
    assert dropped.split("|")[2].strip() == "\N{EN DASH}"  # not tried with 100 labels
    assert lines["plain"].count("reference") == 2


def test_the_answer_names_what_gains_most_and_never_the_control(made: Made) -> None:
    study = made(moved=0.03, strokes=0.05, noise=0.09, cnn=-0.2)
    about = small_data.over_budgets(study)
    assert about is not None
    said = budget_words.sentence(table_of(study), about)
    assert "with 100 labels plain reaches **82.00 % ± 4.97**" in said
    for part in said.split(";"):
        assert part.index("strokes +5.00") < part.index("moved +3.00")
        assert "noise" not in part and "net" not in part


def test_the_answer_says_so_when_nothing_gains(made: Made) -> None:
    study = made()
    about = small_data.over_budgets(study)
    assert about is not None
    said = budget_words.sentence(table_of(study), about)
    assert "of 4 changes none has a gain that is told from zero" in said  # at 100 labels
    assert "of 5 changes none" in said


def test_figures_show_the_gains_that_were_measured(made: Made) -> None:
    style.use()
    study = made(moved=0.03)
    about = small_data.over_budgets(study)
    assert about is not None
    drawing = budget_figures.gains(table_of(study))
    panels = drawing.axes
    assert [panel.get_title(loc="left") for panel in panels] == ["100 labels", "1,000 labels"]
    names = [label.get_text() for label in panels[0].get_yticklabels()]
    points = {names[int(c[0].get_ydata()[0])]: c[0].get_xdata()[0] for c in panels[0].containers}
    assert points["moved"] == pytest.approx(3.0)
    assert "plain" not in names and "dropped" not in points
    lines = budget_figures.curves(table_of(study), about).axes[0]
    shown = {c.get_label(): list(c[0].get_ydata()) for c in lines.containers}
    assert shown["plain"] == pytest.approx([18.0, 8.0])
    assert shown["moved"] == pytest.approx([15.0, 5.0])
    plt.close("all")


def test_arms_that_did_not_run_are_said_to_be_missing(made: Made) -> None:
    study = made(masked=None)
    result = Answer(sentence="", table=table_of(study))
    small_data.add(study, result)
    text = result.tables["label_budgets"]
    assert next(x for x in text.splitlines() if x.startswith("| masked ")).count("not run") == 2
    plt.close("all")


def test_a_study_without_label_budgets_has_an_empty_part(config: dict[str, Any]) -> None:
    study = Study(small(config, "q8_transfer"), Path())
    result = Answer(sentence="", table=None)  # type: ignore[arg-type]
    assert small_data.add(study, result) == ""
    assert result.tables["label_budgets"] == small_data.NOTHING
