"""Claims of Q1, Q2, Q5 and Q6 that turn when the result does: effects and costs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest

from made_study import around, experiment, small, table_of
from vitrail import style
from vitrail.analysis import Estimate
from vitrail.questions import (
    hidden_inputs,
    patch_filters,
    q1_patch_embedding,
    q2_mlp,
    q6_vit,
)
from vitrail.questions.experiments import cost, effects
from vitrail.questions.positions import embedding as positions

HIGH, LOW, UNCLEAR = Estimate(0.2, 0.1, 3), Estimate(-0.2, 0.1, 3), Estimate(0.05, 0.1, 3)
ONE_SEED = Estimate(0.2, float("nan"), 1)


@pytest.fixture(autouse=True)
def no_open_figures() -> Iterator[None]:
    """Matplotlib keeps every figure until it is closed."""
    yield
    plt.close("all")


def shifted(value: Estimate, by: float) -> Estimate:
    return Estimate(value.mean + by, value.half_width, value.n)


# --- Claims that a number decides: supported, refuted, undecided

TURNING: dict[str, tuple[Any, str, str]] = {
    "q6-base-reaches-97": (
        lambda gap: q6_vit.reaches_goal(shifted(gap, 0.97)), "is above", "is below",
    ),
    "q6-positions-know-the-grid": (
        lambda gap: positions.grid_claim("q6-positions", "the base ViT", gap),
        "are more alike", "are less alike",
    ),
    "q6-positions-leave-their-start": (
        lambda gap: positions.start_claim(
            "q6-positions", "the base ViT", Estimate(0.9 - gap.mean, gap.half_width, gap.n)
        ),
        "Training moves", "hardly moves",
    ),
    "q1-filters-follow-pca": (
        lambda gap: patch_filters.follows_pca(gap, shifted(gap, 0.2), 8),
        "overlap more with", "overlap less with",
    ),
    "q2-most-inputs-are-negative": (
        lambda gap: hidden_inputs.mostly_negative(shifted(gap, 0.5)),
        "Most of the inputs", "Less than half of the inputs",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", TURNING)
def test_a_claim_turns_with_its_number(name: str) -> None:
    decide, yes, no = TURNING[name]
    supported, refuted = decide(HIGH), decide(LOW)
    assert (supported.id, supported.verdict) == (name, "supported")
    assert yes in supported.finding and no not in supported.finding
    assert refuted.verdict == "refuted"
    assert no in refuted.finding and yes not in refuted.finding
    for value in (UNCLEAR, ONE_SEED):
        assert decide(value).verdict == "undecided"
        assert decide(value).finding.startswith("The runs do not decide this")


def test_four_in_ten_are_not_most() -> None:
    assert hidden_inputs.mostly_negative(Estimate(0.4, 0.05, 3)).verdict == "refuted"


def test_computed_claims_turn() -> None:
    for decide, small_gap, large_gap, no in (
        (q1_patch_embedding.same_function, 1e-7, 1e-3, "differ by more than rounding"),
        (q2_mlp.tanh_is_close, 4e-4, 6e-4, "does not stay within"),
    ):
        assert decide(small_gap).verdict == "supported" and no not in decide(small_gap).finding
        assert decide(large_gap).verdict == "refuted" and no in decide(large_gap).finding


# --- Effects


@pytest.fixture
def choices(config: dict[str, Any]) -> Any:
    """A function from accuracies to a study of widths, positions and yardsticks."""
    arms = {"vit": {"label": "base ViT"}, "cnn": {"label": "a CNN", "settings": {"model": "cnn"}}}
    arms["line"] = {"label": "a line", "settings": {"model": "logistic"}}
    vary = {"pos_embed": ["learned", "none"]}
    config = small(
        config,
        "q6_vit",
        yardsticks=experiment(arms=arms),
        width=experiment(vary={"embed_dim": [4, 8, 16]}, reference="8", title="Width"),
        places=experiment(vary=vary, title="Places"),
        grid=experiment(vary={"depth": [1, 2], "mlp_ratio": [1, 2]}),
    )

    def made(**values: Any) -> Any:
        given: dict[str, Any] = {
            "4": 0.9,
            "8": 0.9,
            "16": 0.9,
            "none": 0.9,
            "cnn": 0.9,
            "line": 0.9,
        } | values
        base = given.pop("base", 0.9)
        return table_of(
            config,
            "q6_vit",
            {
                "yardsticks": {"vit": base, "cnn": given["cnn"], "line": given["line"]},
                "width": {"4": given["4"], "16": given["16"]},
                "places": {"none": given["none"]},
                "grid": {"2-1": 0.2},
            },
        )

    return made


def test_effects_are_differences_to_the_reference(choices: Any) -> None:
    """One row per comparison of one factor; neither grids nor other kinds of network."""
    table = effects.effects(choices(**{"4": 0.85, "none": 0.8}), "q6_vit")
    assert table["experiment"].tolist() == ["width", "width", "places"]
    assert table["difference"].tolist() == pytest.approx([-0.05, 0, -0.1])
    assert len(effects.decided(table)) == 2
    single = table_of(choices().config, "q6_vit", {"places": {"learned": {0: 0.9}}})
    assert effects.effects(single, "q6_vit").empty  # one seed has no interval


def test_the_answer_names_the_largest_effect(choices: Any) -> None:
    wide = effects.sentence(effects.effects(choices(**{"16": 0.97, "none": 0.88}), "q6_vit"))
    assert "Of 3 single changes to the ViT, 2 moved" in wide
    assert "*embed_dim 16* to *embed_dim 8* (+7.00" in wide
    places = effects.sentence(effects.effects(choices(**{"16": 0.91, "none": 0.8}), "q6_vit"))
    assert "*pos_embed none* to *pos_embed learned* (−10.00" in places
    nothing = effects.sentence(effects.effects(choices(), "q6_vit"))
    assert "none moved" in nothing and "largest" not in nothing
    assert effects.sentence(pd.DataFrame(columns=effects.COLUMNS)) == ""


def test_which_change_costs_most_is_decided(choices: Any) -> None:
    def claim(**values: Any) -> Any:
        return effects.positions_matter_most(choices(**values), "q6_vit")[0]

    assert claim(**{"none": 0.8, "4": 0.85}).verdict == "supported"
    other = claim(**{"none": 0.88, "4": 0.7})
    assert other.verdict == "refuted"
    assert '"embed_dim 4" costs more' in other.finding
    assert "embed_dim 4" not in claim(**{"none": 0.8, "16": 0.7}).finding
    both = claim(**{"none": 0.88, "4": 0.7, "16": 0.8})
    assert '"embed_dim 4", "embed_dim 16" cost more' in both.finding
    level = claim(none=around(0.88), **{"4": {0: 0.85, 1: 0.91, 2: 0.88}})
    assert level.verdict == "undecided"
    assert level.evidence.startswith("1 of 2 intervals above zero; closest is")
    without = small(choices().config, "q6_vit", width=experiment(vary={"embed_dim": [4, 8]}))
    found = effects.positions_matter_most(table_of(without, "q6_vit", {}), "q6_vit")
    assert found == []


def test_positions_are_held_against_every_change(choices: Any) -> None:
    """The change that lost most on average may have a wide interval, and another not."""
    wide = {0: 0.70, 1: 0.90, 2: 0.74}
    found = effects.positions_matter_most(
        choices(**{"none": 0.8, "4": wide, "16": 0.79}), "q6_vit"
    )[0]
    assert found.verdict == "refuted"
    assert '"embed_dim 16" costs more' in found.finding and "embed_dim 4" not in found.finding
    assert found.evidence.startswith('0 of 2 intervals above zero; closest is "embed_dim 4": −2.00')


def test_a_change_that_did_not_run_may_cost_more(choices: Any) -> None:
    absent = effects.positions_matter_most(choices(**{"none": 0.8, "4": {}}), "q6_vit")[0]
    assert absent.verdict == "undecided"
    assert absent.evidence.endswith('"embed_dim 4": not run')
    refuted = effects.positions_matter_most(choices(**{"none": 0.8, "4": {}, "16": 0.7}), "q6_vit")
    assert refuted[0].verdict == "refuted"
    untried = effects.positions_matter_most(choices(none={}), "q6_vit")[0]
    assert untried.verdict == "undecided" and "0 of 2 intervals" in untried.evidence


def test_the_forest_plot_has_a_line_per_effect(choices: Any) -> None:
    style.use()
    table = effects.effects(choices(**{"4": 0.85, "none": 0.8}), "q6_vit")
    names, axes = effects.draw(table).axes
    written = [text.get_text() for text in names.texts]
    assert written[:3] == ["Width, against embed_dim 8", "embed_dim 4", "embed_dim 16"]
    assert written[3:] == ["Places, against pos_embed learned", "pos_embed none"]
    assert [text.get_text()[:6] for text in axes.texts] == ["−5.00 ", "+0.00 ", "−10.00"]
    low, high = axes.get_xlim()
    assert low < -10 and high > 0


# --- Cost


def costs(choices: Any, missing: Sequence[str] = (), **values: Any) -> dict[str, Any]:
    """The claims about cost; the CNN has few parameters, much work and is fast."""
    study = choices(**values)
    rows = [("vit", 100, 1000, 10), ("cnn", 50, 2000, 20), ("line", 10, 10, 90)]
    columns = ["arm", "parameters", "macs", "train_samples_per_second"]
    table = pd.DataFrame(rows, columns=columns)
    table.loc[table["arm"].isin(missing), columns[1:]] = np.nan
    found = cost.claims(study, {"yardsticks": table})
    return {claim.id.removeprefix("q6-no-better-and-cheaper-"): claim for claim in found}


def test_a_better_and_cheaper_yardstick_is_named(choices: Any) -> None:
    found = costs(choices, base=0.9, cnn=0.95, line=0.7)
    verdicts = {name: claim.verdict for name, claim in found.items()}
    assert verdicts == {
        "parameters": "refuted", "macs": "supported", "samples-per-second": "refuted",
    }  # fmt: skip
    assert found["parameters"].evidence.startswith("a CNN: −5.00")
    said = "More accurate than the base ViT in faster training: a CNN."
    assert found["samples-per-second"].finding == said


def test_a_worse_yardstick_refutes_nothing(choices: Any) -> None:
    found = costs(choices, base=0.9, cnn=0.8, line=0.7)
    assert {claim.verdict for claim in found.values()} == {"supported"}
    assert "No yardstick is more accurate" in found["parameters"].finding


def test_level_yardsticks_leave_it_open(choices: Any) -> None:
    level = {0: 0.85, 1: 0.95, 2: 0.9}
    found = costs(choices, base=around(0.9), cnn=level, line=0.7)
    assert found["parameters"].verdict == "undecided"
    assert found["macs"].verdict == "supported"  # the CNN does not work less


@pytest.mark.parametrize("missing", ["line", "cnn"])
def test_a_yardstick_that_did_not_run_leaves_it_open(choices: Any, missing: str) -> None:
    """What it costs is not known either, so it may be cheaper in every way."""
    label = {"line": "a line", "cnn": "a CNN"}[missing]
    found = costs(choices, missing=[missing], base=0.9, **{"cnn": 0.8, "line": 0.7, missing: {}})
    assert {claim.verdict for claim in found.values()} == {"undecided"}
    for claim in found.values():
        assert f"{label}: not run" in claim.evidence
        assert claim.finding.startswith("The runs do not decide this")


def test_a_yardstick_that_ran_refutes_without_the_other(choices: Any) -> None:
    found = costs(choices, missing=["line"], base=0.9, cnn=0.95, line={})
    verdicts = {name: claim.verdict for name, claim in found.items()}
    assert verdicts == {
        "parameters": "refuted", "macs": "undecided", "samples-per-second": "refuted",
    }  # fmt: skip
    assert "a line: not run" in found["parameters"].evidence


def test_without_the_base_no_yardstick_is_cheaper_or_dearer(choices: Any) -> None:
    found = costs(choices, missing=["vit"], base={}, cnn=0.8, line=0.7)
    assert {claim.verdict for claim in found.values()} == {"undecided"}
    assert {claim.evidence for claim in found.values()} == {"base ViT: not run"}


def test_the_cost_figure_tells_budgets_apart() -> None:
    style.use()
    table = pd.DataFrame(
        {
            "label": ["base", "a CNN", "short", "not run"], "model": ["vit", "cnn", "vit", "vit"],
            "seeds": [3, 3, 3, 0], "run_ids": ["a", "b", "c", ""], "samples": [100, 100, 20, 0],
            "test_accuracy": [0.98, 0.99, 0.9, np.nan], "parameters": [10.0, 20, 10, np.nan],
            "macs": [10.0, 20, 10, np.nan], "train_samples_per_second": [10.0, 20, 10, np.nan],
        }
    )  # fmt: skip
    points = cost.points_of({"x": table, "again": table}, budget=100)
    assert points["full"].tolist() == [True, True, False]
    drawing = cost.draw(points)
    assert len(drawing.axes) == 3
    for axes in drawing.axes:
        assert [len(part.get_facecolor()) for part in axes.collections] == [1, 1, 0]
        assert [text.get_text() for text in axes.texts] == ["a", "b"]
    names = [text.get_text() for text in drawing.legends[0].get_texts()]
    assert names == ["ViT", "CNN", "ViT, short budget", "a   base", "b   short"]
