"""What every experiment gets from its config: claims that turn with the runs, and its figure."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import pytest

from made_study import Table, around, experiment, small, write_runs
from vitrail import style
from vitrail.claims import holds
from vitrail.config import load
from vitrail.questions.answer import Answer, claims_markdown
from vitrail.questions.experiments import figures as arm_figures
from vitrail.questions.experiments import grid as grid_figure
from vitrail.questions.experiments.common import add, decided, in_short, summarise
from vitrail.questions.study import Study
from vitrail.runs import Experiment

ROOT = Path(__file__).parents[1]
SHIPPED = Study(load([ROOT / "config" / "default.yaml"]), Path()).plan.experiments
CLAIMS = [(about, claim) for about in SHIPPED for claim in about.claims]


# --- Claims of the config


@pytest.mark.parametrize(
    ("clear", "left", "words"),
    [
        (2, 0, "Yes 0. Yes 1."),
        (1, 1, "Yes 0. 1 of 2 comparisons stays undecided."),
        (0, 3, "3 of 3 comparisons stay undecided."),
    ],
)
def test_an_answer_counts_what_is_undecided(clear: int, left: int, words: str) -> None:
    claims = [holds(f"{n}", f"Yes {n}.", "", "", True) for n in range(clear)]
    claims += [holds(f"o{n}", "Perhaps.", "", "", None) for n in range(left)]
    assert in_short(claims) == words


@pytest.mark.parametrize(
    ("about", "claim"), CLAIMS, ids=[f"{a.question[:2]}-{c['id']}" for a, c in CLAIMS]
)
def test_every_claim_of_the_config_turns(
    config: dict[str, Any], about: Experiment, claim: dict[str, Any]
) -> None:
    """Better, worse, level, absent: the verdict and the sentence follow the runs."""
    better, worse = (str(claim[role]) for role in ("better", "worse"))
    names = [about.member(name).label for name in (better, worse)]
    arms = [about.member(name).arm.arm_id for name in (better, worse)]

    def came_out(first: Any, second: Any) -> tuple[str, str]:
        values = {arm: v for arm, v in zip(arms, (first, second), strict=True) if v is not None}
        found = decided(Table(config, Path(), values), about)
        mine = next(one for one in found if one.id == f"{about.question[:2]}-{claim['id']}")
        return mine.verdict, mine.finding

    verdict, finding = came_out(around(0.95), around(0.91))
    assert verdict == "supported"
    assert finding.startswith(f"Here {names[0]} is better than {names[1]} by 4.00")
    verdict, finding = came_out(around(0.91), around(0.95))
    assert verdict == "refuted"
    assert finding.startswith(f"Here {names[1]} is better than {names[0]} by 4.00")
    verdict, finding = came_out({0: 0.9, 1: 0.94, 2: 0.92}, {0: 0.93, 1: 0.91, 2: 0.92})
    assert (verdict, "cannot be told apart" in finding) == ("undecided", True)
    verdict, finding = came_out({0: 0.9}, {0: 0.95})
    assert verdict == "undecided"
    assert f"{names[1]} is ahead of {names[0]}, which one seed cannot decide" in finding
    verdict, finding = came_out(around(0.95), None)
    assert (verdict, "could not be compared" in finding) == ("undecided", True)


def test_the_loop_sees_every_question_with_claims() -> None:
    """Those whose claims are in the config; Q1 and Q3 decide theirs in Python."""
    asked = {"q2_mlp", "q4_multi_head", "q5_block", "q6_vit", "q7_complexity", "q8_transfer"}
    assert {about.question for about, _ in CLAIMS} == asked


# --- The section of the report


@pytest.fixture
def two_arms(config: dict[str, Any], tmp_path: Path) -> Any:
    """A function that gives the answer of an experiment with two arms of these accuracies."""
    arms = {name: {"label": f"arm {name}", "settings": {"act": name}} for name in ("gelu", "relu")}
    claims = [{"id": "x", "sentence": "GELU wins.", "better": "gelu", "worse": "relu"}]
    about = experiment(arms=arms, claims=claims)

    def made(
        values: dict[str, float | None], name: str = "activation", **options: Any
    ) -> tuple[Answer, Study]:
        study = Study(small(config, "q2_mlp", **{name: about}), tmp_path / str(values))
        members = study.plan.of_question("q2_mlp")[0].members
        by_arm = {member.arm.arm_id: values[member.name] for member in members}

        def accuracy(arm: str, seed: int) -> float | None:
            value = by_arm.get(arm, 0.9)
            return None if value is None else value + 1e-4 * seed

        write_runs(study, accuracy)
        answer = Answer(sentence="", table=None)  # type: ignore[arg-type]
        add(study, answer, "q2_mlp", **options)
        return answer, study

    style.use()
    return made


def test_the_section_says_what_was_found(two_arms: Any) -> None:
    for values, ahead, behind in (
        ({"gelu": 0.95, "relu": 0.9}, "gelu", "relu"),
        ({"gelu": 0.9, "relu": 0.95}, "relu", "gelu"),
    ):
        answer, _ = two_arms(values)
        section = answer.tables["experiments"]
        assert f"**Found.** Here arm {ahead} is better than arm {behind} by 5.00" in section
        assert f"arm {behind} is better" not in section
        assert ("refuted" in claims_markdown(answer.claims)) == (ahead == "relu")
        assert set(answer.figures) == {"activation"}


def test_an_arm_that_did_not_run_is_named(two_arms: Any) -> None:
    answer, _ = two_arms({"gelu": 0.95, "relu": None})
    assert (
        "| arm relu [not run]{.verdict .notrun} | not run | not run |"
        in (answer.tables["activation"])
    )
    assert "could not be compared" in answer.tables["experiments"]
    texts = [text.get_text() for text in answer.figures["activation"].axes[0].texts]
    assert texts == ["not run"]


def test_what_is_shown_elsewhere_has_numbers_and_claims_alone(two_arms: Any) -> None:
    answer, _ = two_arms({"gelu": 0.95, "relu": 0.9}, name="long", elsewhere=("long",))
    assert "no experiment under this question" in answer.tables["experiments"]
    assert "long" not in answer.tables and answer.figures == {}
    assert answer.numbers["long"]["gelu"]["accuracy"].startswith("95.0")
    assert [claim.id for claim in answer.claims] == ["q2-x"]


# --- Two factors


@pytest.fixture
def grid(config: dict[str, Any], tmp_path: Path) -> tuple[Experiment, Study]:
    """Positions against norms; the last arm did not run."""
    vary = {"pos_embed": ["learned", "none"], "norm": ["pre", "post"]}
    study = Study(small(config, "q6_vit", grid=experiment(vary=vary)), tmp_path)
    about = study.plan.of_question("q6_vit")[0]
    values = dict(zip([m.arm.arm_id for m in about.members], [0.9, 0.8, 0.7, None], strict=True))

    def accuracy(arm: str, seed: int) -> float | None:
        value = values[arm]
        return None if value is None else value + 0.001 * seed

    write_runs(study, accuracy)
    style.use()
    return about, study


def test_any_two_factors_make_a_heat_map(grid: tuple[Experiment, Study]) -> None:
    about, study = grid
    assert grid_figure.values_of(about) == (["learned", "none"], ["pre", "post"])
    answer = Answer(sentence="", table=None)  # type: ignore[arg-type]
    add(study, answer, "q6_vit")
    heat, _ = answer.figures["grid"].axes
    assert [tick.get_text() for tick in heat.get_xticklabels()] == ["pre", "post"]
    assert [tick.get_text() for tick in heat.get_yticklabels()] == ["learned", "none"]
    assert (heat.get_xlabel(), heat.get_ylabel()) == ("norm", "pos_embed")
    cells = {text.get_position(): text.get_text() for text in heat.texts}
    assert cells[0, 0].startswith("90.1\n± 0.2") and cells[1, 0].startswith("80.1")
    assert cells[0, 1].startswith("70.1") and cells[1, 1] == "not run"
    assert any(patch.get_hatch() for patch in heat.patches)
    section = answer.tables["experiments"]
    assert "one line per pos_embed, each point with its norm" in section
    assert "learning curves" not in section


def test_the_grid_shows_cost_with_a_line_per_row(grid: tuple[Experiment, Study]) -> None:
    about, study = grid
    table = summarise(study, about)
    _, lines = grid_figure.draw(about, table).axes
    _, labels = lines.get_legend_handles_labels()
    assert labels == ["learned", "none"]
    named = sorted(text.get_text() for text in lines.texts)
    assert named == ["post", "pre", "pre"]  # the arm that did not run is not there


@pytest.mark.parametrize("values", [(3, 1), (1, 4)])
def test_grids_of_other_shapes(config: dict[str, Any], values: tuple[int, int]) -> None:
    rows, columns = values
    vary = {"depth": list(range(1, rows + 1)), "mlp_ratio": list(range(1, columns + 1))}
    study = Study(small(config, "q6_vit", grid=experiment(vary=vary)), Path())
    about = study.plan.of_question("q6_vit")[0]
    assert [len(part) for part in grid_figure.values_of(about)] == [rows, columns]


def test_a_figure_of_more_arms_than_colours(config: dict[str, Any], tmp_path: Path) -> None:
    many = {f"a{n}": {"settings": {"learning_rate": 0.001 * (n + 1)}} for n in range(24)}
    study = Study(small(config, "q2_mlp", many=experiment(arms=many)), tmp_path)
    write_runs(study, lambda arm, seed: 0.9)
    (about,) = study.plan.experiments
    drawing = arm_figures.draw(study, about, summarise(study, about))
    assert len(drawing.axes[1].lines) == 24
    plt.close(drawing)


def test_captions_are_one_line_with_their_attributes(grid: tuple[Experiment, Study]) -> None:
    """The built-in route reads the attributes of a figure from the line of its path."""
    _, study = grid
    answer = Answer(sentence="", table=None)  # type: ignore[arg-type]
    add(study, answer, "q6_vit")
    lines = [line for line in answer.tables["experiments"].splitlines() if ".svg" in line]
    assert len(lines) == 1
    assert re.search(r'\.svg\)\{#fig-q6_vit-grid fig-alt="[^"]+"\}$', lines[0])
