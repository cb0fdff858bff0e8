"""Q1, Q2, Q5 and Q6: what they measure, and claims that turn when the result does."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from made_study import around, experiment, small, table_of, write_runs
from vitrail import data, style
from vitrail.analysis import Estimate, estimate
from vitrail.data import Mnist
from vitrail.questions import (
    hidden_inputs,
    patch_filters,
    q1_patch_embedding,
    q2_mlp,
    q5_block,
    q6_vit,
)
from vitrail.questions.answer import Answer
from vitrail.questions.experiments import cost, effects
from vitrail.questions.positions import embedding as positions
from vitrail.questions.positions import shuffle as patch_shuffle
from vitrail.questions.study import Study
from vitrail.report.source import expand

ROOT = Path(__file__).parents[1]
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


# --- The patch-shuffle test


@given(seed=st.integers(0, 99), patch=st.sampled_from([1, 2, 4, 7, 14, 28]))
def test_shuffling_moves_whole_patches(seed: int, patch: int) -> None:
    images = np.random.default_rng(seed).integers(0, 256, (3, 28, 28), dtype=np.uint8)
    side = 28 // patch
    order = patch_shuffle.permutations(3, side * side)
    moved = patch_shuffle.shuffled(images, patch, order)

    def patch_at(image: np.ndarray, place: int) -> np.ndarray:
        y, x = divmod(place, side)
        return image[y * patch : (y + 1) * patch, x * patch : (x + 1) * patch]

    for n in range(3):
        assert sorted(order[n]) == list(range(side * side))
        for place in range(min(side * side, 20)):
            assert np.array_equal(patch_at(moved[n], place), patch_at(images[n], order[n, place]))
    back = patch_shuffle.shuffled(moved, patch, order.argsort(axis=1))
    assert np.array_equal(back, images)


def shuffle_results(**values: tuple[float, float]) -> pd.DataFrame:
    """Accuracies intact and shuffled by kind of positions, three seeds."""
    return pd.DataFrame(
        [
            {
                "arm": kind, "label": f"pos_embed {kind}", "positions": kind, "seed": seed,
                "images": 100, "patch_size": 14, "intact": before + 1e-3 * seed,
                "shuffled": after + 2e-3 * seed, "change": 1e-7 if kind == "none" else 0.5,
            }
            for kind, (before, after) in values.items()
            for seed in range(3)
        ]
    )  # fmt: skip


def test_shuffle_claims_turn() -> None:
    usual = shuffle_results(learned=(0.9, 0.3), none=(0.8, 0.8))
    found = {claim.id.removeprefix("q6-shuffle-"): claim for claim in patch_shuffle.decide(usual)}
    assert set(found) == {"hurts-learned", "none-unchanged", "none-beats-learned"}
    assert {claim.verdict for claim in found.values()} == {"supported"}
    assert "learned on intact digits is better" in found["hurts-learned"].finding
    assert "pos_embed none on shuffled digits is better" in found["none-beats-learned"].finding

    odd = shuffle_results(learned=(0.3, 0.9), none=(0.8, 0.8)).assign(change=0.1)
    turned = {claim.id.removeprefix("q6-shuffle-"): claim for claim in patch_shuffle.decide(odd)}
    assert {claim.verdict for claim in turned.values()} == {"refuted"}
    assert "learned on shuffled digits is better" in turned["hurts-learned"].finding
    assert "changes the logits" in turned["none-unchanged"].finding
    assert "pos_embed learned on shuffled digits is better" in turned["none-beats-learned"].finding


# --- Positions


def test_neighbour_contrast_tells_a_grid_from_a_line() -> None:
    from vitrail.model import sinusoidal_1d, sinusoidal_2d

    def contrast(table: Any) -> float:
        return positions.neighbour_contrast(positions.similarity(np.asarray(table)))

    two, one = contrast(sinusoidal_2d((7, 7), 64)), contrast(sinusoidal_1d(49, 64))
    noise = np.random.default_rng(0).normal(size=(49, 64))
    assert two > one > 0
    assert abs(contrast(noise)) < 0.05
    signs = (-1.0) ** np.add.outer(np.arange(7), np.arange(7)).reshape(-1, 1)
    assert contrast(signs * np.ones(64) + 0.1 * noise) < -0.5  # a chessboard
    assert np.isnan(positions.neighbour_contrast(np.ones((1, 1))))
    assert np.isnan(positions.neighbour_contrast(np.ones((4, 4)) * np.nan))


def test_what_all_places_share_does_not_count() -> None:
    table = np.random.default_rng(0).normal(size=(16, 8))
    assert np.allclose(positions.similarity(table), positions.similarity(table + 5))


def test_a_map_lies_where_its_patch_lies() -> None:
    similar = np.arange(81.0).reshape(9, 9)
    shown = positions.mosaic(similar)
    assert shown.shape == (11, 11)
    assert np.array_equal(shown[4:7, 8:11], similar[5].reshape(3, 3))  # row 1, column 2
    assert shown.mask[3].all() and shown.mask[:, 7].all()


# --- The patch filters


def test_overlap_of_subspaces() -> None:
    rng = np.random.default_rng(0)
    frame = np.linalg.qr(rng.normal(size=(49, 49)))[0]
    assert patch_filters.overlap(frame[:8], frame[:8][::-1]) == pytest.approx(1)
    assert patch_filters.overlap(frame[:8], frame[8:16]) == pytest.approx(0)
    others = [np.linalg.qr(rng.normal(size=(49, 8)))[0].T for _ in range(200)]
    mean = np.mean([patch_filters.overlap(frame[:8], other) for other in others])
    assert mean == pytest.approx(8 / 49, abs=0.01)


def test_principal_components_are_numpys() -> None:
    """Against the singular values of the centred patches, cut one by one."""
    images = np.random.default_rng(0).integers(0, 256, (50, 28, 28))
    images[:, ::14] += 500  # a direction that stands out
    cut = [i[y : y + 14, x : x + 14].ravel() for i in images for y in (0, 14) for x in (0, 14)]
    rows = np.array(cut, dtype=float)
    _, strength, expected = np.linalg.svd(rows - rows.mean(axis=0), full_matrices=False)
    found, shares = patch_filters.principal_components(images, 14)
    assert abs(found[0] @ expected[0]) == pytest.approx(1, abs=1e-6)
    assert shares[:5] == pytest.approx((strength**2 / np.sum(strength**2))[:5])


# --- Whole answers, from small untrained networks


@pytest.fixture
def answered(
    config: dict[str, Any], mnist: Mnist, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Any:
    """A function that answers a question from these experiments and these accuracies."""
    monkeypatch.setattr(data, "load_mnist", lambda folder, verify: mnist)
    style.use()

    def made(stem: str, values: dict[str, float], **experiments: Any) -> tuple[Answer, Study]:
        study = Study(small(config, stem, **experiments), tmp_path / str(len(str(values))))
        named = {
            f"{about.name}.{member.name}": member.arm.arm_id
            for about in study.plan.of_question(stem)
            for member in about.members
        }
        by_arm = {named[name]: value for name, value in values.items()}
        write_runs(study, lambda arm, seed: by_arm.get(arm, 0.9) + 1e-4 * seed)
        modules = {"q1": q1_patch_embedding, "q2": q2_mlp, "q5": q5_block, "q6": q6_vit}
        return modules[stem[:2]].answer(study), study

    return made


PLACES = experiment(vary={"pos_embed": ["learned", "sinusoidal", "none"]})


def chapter(answer: Answer, stem: str, folder: Path) -> str:
    """The chapter of the report with what the question made put in."""
    for file in (ROOT / "report").glob("q*.qmd"):
        (folder / file.name).write_text(file.read_text(encoding="utf-8"), encoding="utf-8")
    drawings, answer.figures = answer.figures, {}  # writing them takes seconds
    answer.save(folder / "made")
    answer.figures = drawings
    (folder / "answers").mkdir()
    (folder / "made" / "answer.md").rename(folder / "answers" / f"{stem}.md")
    (folder / "tables").mkdir()
    (folder / "made" / "tables").rename(folder / "tables" / stem)
    (folder / "code").mkdir()
    main = folder / f"{stem}.qmd"
    for name in re.findall(r"include (code/\w+\.md)", main.read_text(encoding="utf-8")):
        (folder / name).write_text("code\n")
    about = {"study": {"name": "made"}, "report": {"commit": "0"}}
    return str(expand(main, {stem[:2]: answer.numbers, **about}))


@pytest.mark.parametrize(
    "experiments",
    [
        {},
        {"pos_embed": PLACES, "depth": experiment(vary={"depth": [1, 2]})},
        {
            "budget": experiment(arms={"vit": {}, "cnn": {"settings": {"model": "cnn"}}}),
            "pos_embed": experiment(vary={"pos_embed": ["none", "sinusoidal"]}),
            "pos_embed_std": experiment(
                arms={
                    name: {"settings": {"pos_embed_std": float(name)}} for name in ("0.7", "0.02")
                }
            ),
            "grid": experiment(vary={"embed_dim": [4, 8], "depth": [1, 2]}),
        },
    ],
    ids=["no experiment", "two", "others"],
)
def test_q6_shows_what_it_made_and_nothing_else(
    answered: Any, tmp_path: Path, experiments: dict[str, Any]
) -> None:
    """Whatever the config takes out, no figure is missing, unused or referred to in vain."""
    answer, _ = answered("q6_vit", {}, **experiments)
    (tmp_path / "report").mkdir()
    text = chapter(answer, "q6_vit", tmp_path / "report")
    assert set(re.findall(r"\(figures/q6_vit/(\w+)\.svg\)", text)) == set(answer.figures)
    labels = re.findall(r"\{#((?:fig|tbl|sec)-[\w-]+)", text)
    assert len(labels) == len(set(labels))
    asked = set(re.findall(r"@((?:fig|tbl)-[\w-]+|sec-q6[\w-]*)", text)) - {"sec-q6"}
    assert asked <= set(labels)
    shuffled_too = "pos_embed" in experiments
    assert ("patch_shuffle" in answer.figures) == shuffled_too
    assert ("@fig-q6-patch-shuffle" in text) == shuffled_too


def test_untrained_networks_show_who_knows_places(answered: Any) -> None:
    """Large positions change the logits of shuffled digits; without any, only rounding does."""
    answer, _ = answered("q6_vit", {}, pos_embed=PLACES)
    change = answer.data["patch_shuffle"].groupby("positions")["change"]
    assert change.max()["none"] < 1e-5
    assert change.min()["learned"] > 1e-2 and change.min()["sinusoidal"] > 1e-2
    verdicts = {claim.id: claim.verdict for claim in answer.claims}
    assert verdicts["q6-shuffle-none-unchanged"] == "supported"


@pytest.mark.parametrize("winner", ["gelu", "relu"])
def test_the_answer_of_q2_turns(answered: Any, winner: str) -> None:
    arms = {name: {"label": name.upper(), "settings": {"act": name}} for name in ("gelu", "relu")}
    claims = [{"id": "x", "sentence": "GELU wins.", "better": "gelu", "worse": "relu"}]
    values = {f"activation.{name}": 0.95 if name == winner else 0.9 for name in arms}
    answer, study = answered("q2_mlp", values, activation=experiment(arms=arms, claims=claims))
    loser = "relu" if winner == "gelu" else "gelu"
    assert f"{winner.upper()} is better than {loser.upper()} by 5.00" in answer.sentence
    assert f"{loser.upper()} is better" not in answer.sentence
    verdicts = {claim.id: claim.verdict for claim in answer.claims}
    assert verdicts["q2-x"] == ("supported" if winner == "gelu" else "refuted")
    read = hidden_inputs.hidden_inputs(study, 0)
    settings = study.plan.arms[study.plan.base].settings
    hidden = settings["embed_dim"] * settings["mlp_ratio"]
    assert read.size == hidden_inputs.IMAGES * 5 * hidden * settings["depth"]


@pytest.mark.parametrize("winner", ["pre", "post"])
def test_the_answer_of_q5_turns(
    answered: Any, config: dict[str, Any], tmp_path: Path, winner: str
) -> None:
    """The experiments of the shipped config, with one form of the block ahead everywhere."""
    about = config["questions"]["q5_block"]["experiments"]
    assert all(one["claims"] for one in about.values())
    values = {
        f"{name}.{arm}": (0.95 if arm.startswith(winner) else 0.9) - 0.02 * arm.endswith("cold")
        for name, one in about.items()
        for arm in one["arms"]
    }
    answer, _ = answered("q5_block", values, **about)
    labels = {"pre": "pre-norm (ViT)", "post": "post-norm (2017)"}
    ahead = labels.pop(winner)
    (behind,) = labels.values()
    for one in about.values():
        assert f"{one['title']}: Here {ahead} is better than {behind} by 5.00" in answer.sentence
    assert f"{behind} is better than {ahead}" not in answer.sentence
    verdicts = {claim.id: claim.verdict for claim in answer.claims}
    for deep in ("", "-deep"):
        expected = "supported" if winner == "pre" else "refuted"
        assert verdicts[f"q5-pre-beats-post{deep}"] == expected
        assert verdicts[f"q5-post-needs-warm-up{deep}"] == "supported"
    (growth,) = (claim for claim in answer.claims if claim.id == "q5-pre-norm-grows")
    assert growth.evidence.count("over 3 seeds") == 2 * len(about)
    (tmp_path / "report").mkdir()
    text = chapter(answer, "q5_block", tmp_path / "report")
    assert set(re.findall(r"\(figures/q5_block/(\w+)\.svg\)", text)) == set(answer.figures)
    assert {"curves", "token_norms"} <= set(answer.figures)


@pytest.mark.parametrize(
    ("own", "per_cent"),
    [({}, 50), ({"num_heads": 8, "head_dim": 16}, 33), ({"qkv_bias": False}, 50)],
    ids=["shared width", "heads of their own width", "no bias"],
)
def test_the_mlp_weighs_what_it_does_in_the_network(
    config: dict[str, Any], own: dict[str, Any], per_cent: int
) -> None:
    import torch

    from vitrail.efficiency import count_parameters
    from vitrail.networks import build

    settings = {**config["defaults"], "embed_dim": 64, "mlp_ratio": 2, "num_heads": 4, **own}
    with torch.device("meta"):
        network: Any = build(settings)
    block = network.blocks[0]
    mlp, share = q2_mlp.weight(settings)
    assert mlp == count_parameters(block.mlp)
    assert share == pytest.approx(mlp / count_parameters(block))
    assert round(100 * share) == per_cent


def test_the_answer_of_q1_says_what_it_found(
    answered: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    answer, study = answered("q1_patch_embedding", {})
    assert "are one function" in answer.sentence
    assert set(answer.figures) == {"patches", "filters"}
    shared, over, k = patch_filters.excess(study, np.eye(196))
    assert k == 8 and shared.mean - over.mean == pytest.approx(8 / 196)
    monkeypatch.setattr(q1_patch_embedding, "convolution_gap", lambda *_: 0.1)
    turned = q1_patch_embedding.answer(study)
    assert "differ by more than rounding" in turned.sentence
    assert "are one function" not in turned.sentence


def test_filters_that_are_the_components_overlap_wholly(answered: Any) -> None:
    _, study = answered("q1_patch_embedding", {})
    network: Any = study.network(study.plan.base, 0)
    directions, shares = patch_filters.learned_directions(network)
    assert patch_filters.overlap(directions, directions) == pytest.approx(1)
    assert shares.sum() == pytest.approx(1)
    claim = patch_filters.follows_pca(estimate([0.8, 0.81, 0.8]), estimate([0.9, 0.91, 0.9]), 8)
    assert claim.verdict == "supported"
