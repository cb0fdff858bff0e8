"""Whole answers to Q1, Q2, Q5 and Q6 from small untrained networks: they turn with the result."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pytest

from made_study import experiment, small, write_runs
from vitrail import data, style
from vitrail.analysis import estimate
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
from vitrail.questions.study import Study
from vitrail.report.source import expand

ROOT = Path(__file__).parents[1]


@pytest.fixture(autouse=True)
def no_open_figures() -> Iterator[None]:
    """Matplotlib keeps every figure until it is closed."""
    yield
    plt.close("all")


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
