"""The headline run: its scores, its claims and its page turn with the test logits."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest

from made_headline import IMAGES, Made, misread, noise
from vitrail import data, style
from vitrail.data import Mnist
from vitrail.label_errors import LABEL_ERRORS
from vitrail.questions.answer import Answer
from vitrail.questions.headline.add import add_headline, numbers
from vitrail.questions.headline.claims import PUBLISHED, beats, matches
from vitrail.questions.headline.figures import (
    chance,
    draw_gallery,
    gallery,
)
from vitrail.questions.headline.run import Rival
from vitrail.questions.headline.scores import share
from vitrail.questions.study import Study
from vitrail.report.source import expand

AGREED = [error for error in LABEL_ERRORS if error.agreed is not None]
FIGURES = {
    f"headline_{n}" for n in ("curve", "confusion", "calibration", "gallery", "label_errors")
}


@pytest.fixture(scope="module")
def digits() -> Mnist:
    return noise()


@pytest.fixture
def make(
    config: dict[str, Any], digits: Mnist, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Any:
    """A function that makes a study with the experiments `budget` and, if asked, `headline`."""
    monkeypatch.setattr(data, "load_mnist", lambda folder, verify: digits)

    def build(
        headline: bool = True,
        seeds: tuple[int, ...] = (0,),
        others: tuple[int, ...] = (0,),
        **settings: Any,
    ) -> Made:
        cnn = {"label": "small CNN", "settings": {"model": "cnn", "optimizer": "adamw"}}
        experiments: dict[str, Any] = {
            "budget": {"title": "Budget", "arms": {"vit": {"label": "base ViT"}, "cnn": cnn}}
        }
        if headline:
            arm = {"label": "headline ViT", "settings": {"epochs": 20, **settings}}
            experiments["headline"] = {
                "title": "The long run", "arms": {"vit": arm}, "seeds": list(seeds),
            }  # fmt: skip
        config["seeds"] = list(others)
        for question in config["questions"].values():
            question.pop("experiments", None)
        config["questions"]["q6_vit"] = {"experiments": experiments}
        made = Made(Study(config, tmp_path), digits.test_labels)
        for seed in others:
            made.run("budget", "vit", misread(made.labels, 200, start=50), seed)
            made.run("budget", "cnn", misread(made.labels, 100, start=5000), seed)
        return made

    return build


# --- Claims, both ways


@pytest.mark.parametrize(
    ("errors", "reaches", "schh", "asnelt"),
    [
        (20, "supported", "refuted", "refuted"),  # above both
        (45, "supported", "supported", "supported"),
        (60, "supported", "supported", "refuted"),
        (61, "refuted", "supported", "refuted"),
        (150, "refuted", "refuted", "refuted"),  # below both
    ],
)
def test_claims_about_the_accuracy(
    make: Any, errors: int, reaches: str, schh: str, asnelt: str
) -> None:
    made = make()
    made.run("headline", "vit", misread(made.labels, errors))
    claims = made.claims()
    assert claims["q6-headline-reaches-99-4"].verdict == reaches
    assert claims["q6-headline-matches-schh"].verdict == schh
    assert claims["q6-headline-matches-asnelt"].verdict == asnelt
    evidence = claims["q6-headline-reaches-99-4"].evidence
    assert share(IMAGES - errors, IMAGES).words in evidence
    side = {20: "lies above", 150: "lies below"}.get(errors, "")
    assert side in claims["q6-headline-matches-schh"].finding


def test_side_of_a_published_accuracy() -> None:
    from vitrail.questions.headline.page import side

    score = share(9950, IMAGES)
    assert [side(score, value) for value in (0.99, 0.995, 0.999)] == ["below", "inside", "above"]
    assert matches(score, PUBLISHED[0]).verdict == "supported"


@pytest.mark.parametrize(("parameters", "verdict"), [(500_000, "supported"), (500_001, "refuted")])
def test_claim_about_the_size(make: Any, parameters: int, verdict: str) -> None:
    made = make()
    made.run("headline", "vit", {}, parameters=parameters)
    assert made.claims()["q6-headline-parameters"].verdict == verdict


@pytest.mark.parametrize(
    ("errors", "vit", "cnn"),
    [
        (40, "supported", "supported"),
        (105, "supported", "undecided"),
        (160, "supported", "refuted"),
        (500, "refuted", "refuted"),
    ],
)
def test_claims_against_the_yardsticks(make: Any, errors: int, vit: str, cnn: str) -> None:
    """The base ViT misreads 200 images and the CNN 100 others."""
    made = make()
    made.run("headline", "vit", misread(made.labels, errors, start=7000))
    claims = made.claims()
    assert claims["q6-headline-beats-vit"].verdict == vit
    assert claims["q6-headline-beats-cnn"].verdict == cnn
    assert f"the small CNN (seed 0) on {errors}" in claims["q6-headline-beats-cnn"].evidence


def test_equal_networks_are_not_decided() -> None:
    from vitrail.analysis import McNemar

    claim = beats(Rival("cnn", "small CNN", 0, 0.99, McNemar(5, 5, 1.0), "cnn-s0"), 0)
    assert claim.verdict == "undecided"
    assert claim.evidence.endswith("p: 1")


@pytest.mark.parametrize(
    ("as_raters", "verdict"), [(8, "supported"), (5, "undecided"), (2, "refuted")]
)
def test_claim_about_the_raters(make: Any, as_raters: int, verdict: str) -> None:
    made = make()
    changed = {error.index: error.proposed for error in AGREED[:as_raters]}
    made.run("headline", "vit", changed)
    claim = made.claims()["q6-headline-agrees-with-raters"]
    assert claim.verdict == verdict
    assert claim.evidence == f"{as_raters} of 10 as the raters, {10 - as_raters} as the label"


@pytest.mark.parametrize(
    ("errors", "margin", "count", "chances", "said"),
    [
        # Hardly an error is predicted: none may be made, and not 400.
        (0, 12.0, "supported", "supported", "is compatible with its probabilities"),
        (400, 12.0, "refuted", "refuted", "too sure of itself: it makes more errors"),
        # A third of all images is predicted to be misread.
        (0, 3.0, "refuted", "refuted", "not sure enough: it makes fewer errors"),
        # The number is as predicted, but not where the network expects the errors.
        (765, 5.0, "supported", "refuted", "is compatible with its probabilities"),
    ],
)
def test_claims_about_the_calibration(
    make: Any, errors: int, margin: float, count: str, chances: str, said: str
) -> None:
    """The page says what the claims found, and nothing else."""
    made = make()
    made.run("headline", "vit", misread(made.labels, errors), margin=margin)
    claims, text = made.claims(), made.page()
    number, true = (claims[f"q6-headline-{n}"] for n in ("calibrated", "probabilities-true"))
    assert (number.verdict, true.verdict) == (count, chances)
    assert said in number.finding and number.finding in text
    assert true.finding in text
    off = "are off by more than chance explains"
    assert (off in text) == (off in true.finding) == (chances == "refuted")
    assert ("off by no more than chance explains" in text) == (chances == "supported")


# --- The page


def test_corrected_score(make: Any) -> None:
    """30 plain errors; the raters' digit on 7 of 10; a doubtful image read otherwise."""
    made = make()
    changed = misread(made.labels, 30) | {e.index: e.proposed for e in AGREED[:7]} | {2654: 1}
    made.run("headline", "vit", changed)
    quoted = numbers(made.headline())
    assert quoted["errors"] == "38"
    assert quoted["label_errors_among_errors"] == "8"
    assert quoted["as_raters"] == "7"
    # 30 plain ones, and the 3 agreed images on which it repeats the label.
    assert (quoted["corrected_errors"], quoted["corrected_images"]) == ("33", "9,995")
    assert quoted["corrected_accuracy"] == f"{100 * (9995 - 33) / 9995:.2f} %"
    text = made.page()
    assert "**38 errors** in 10,000 (95 % interval 28 to 52)" in text
    assert "Of the 38 errors of this run, 8 are known label errors; in 7 of them" in text
    assert "Of its 38 errors, 7 are the reading of the raters" in " ".join(text.split())
    assert "the ceiling is no higher than 99.90 %" in text


def test_text_turns_with_the_losses(make: Any) -> None:
    made = make()
    made.run("headline", "vit", misread(made.labels, 20), train_loss=0.01, val_loss=0.02)
    text = made.page()
    assert "ends below the validation loss" in text
    assert "alone would gain little" in text
    assert "No ViT of @tbl-q6-headline-published makes fewer errors" in text
    assert "98 % after 5.0 minutes and 99 % after 10.5 minutes" in text


def test_label_smoothing_leaves_the_losses_apart(make: Any) -> None:
    made = make(label_smoothing=0.1)
    made.run("headline", "vit", misread(made.labels, 45))
    text = made.page()
    assert "Label smoothing puts a floor" in text
    assert "a hint, from one seed" not in text


def test_text_turns_back(make: Any) -> None:
    made = make()
    poor = {"train_loss": 0.3, "val_loss": 0.2, "val_accuracy": 0.985}
    made.run("headline", "vit", misread(made.labels, 120), **poor)
    text = made.page()
    assert "ends at or above the validation loss" in text
    assert "longer training or a larger network would gain" in text
    assert "It makes 85 errors more than the best ViT" in text
    assert "99 % at no evaluation" in text
    assert "All 120 misread test digits" in text


@pytest.mark.parametrize(("seed", "compared"), [(1, 1), (7, 0)])
def test_the_same_seed_is_compared_where_there_is_one(make: Any, seed: int, compared: int) -> None:
    made = make(seeds=(seed,), others=(0, 1, 2))
    made.run("headline", "vit", misread(made.labels, 40), seed)
    assert [rival.seed for rival in made.headline().rivals] == [compared, compared]


def test_several_seeds_are_averaged(make: Any) -> None:
    made = make(seeds=(0, 1, 2))
    made.run("headline", "vit", misread(made.labels, 40), seed=0)
    made.run("headline", "vit", misread(made.labels, 60), seed=1)
    made.not_run("headline", "vit", "no time", seed=2)
    headline = made.headline()
    assert headline.seeds == (0, 1)
    assert headline.accuracy.mean == pytest.approx(0.995)
    assert "Over 2 seeds the mean is 99.50 %" in made.page()
    assert "There is one seed" not in made.page()


def test_a_perfect_network_has_a_page(make: Any) -> None:
    made = make()
    made.run("headline", "vit", {})
    text = made.page()
    assert "misreads no test digit" in text
    assert not shown(text) & set(gallery(made.headline().predictions))
    assert "The most frequent" not in text


def included(answer: Answer, folder: Path) -> str:
    """The page as the report takes it in, all names resolved."""
    answer.save(folder / "q6")
    (folder / "main.qmd").write_text("{{< include q6/tables/headline_page.md >}}\n")
    return str(expand(folder / "main.qmd", {}))


def shown(text: str) -> set[str]:
    return set(re.findall(r"\]\(figures/q6_vit/(\w+)\.svg\)\{#fig-q6-", text))


def test_everything_of_a_finished_run(make: Any, tmp_path: Path) -> None:
    style.use()
    made = make()
    made.run("headline", "vit", misread(made.labels, 45) | {947: 9})
    answer = Answer("", pd.DataFrame(), numbers={"headline": {"n": "1"}})
    add_headline(made.study, answer)
    text = included(answer, tmp_path)
    assert shown(text) == set(answer.figures) == FIGURES
    assert {f"[@{other.source}]" for other in PUBLISHED} <= set(re.findall(r"\[@\w+\]", text))
    for name in FIGURES:
        assert (tmp_path / "q6" / "figures" / f"{name}.svg").stat().st_size > 1000
    assert {len(line.split("{#fig")) for line in text.splitlines()} <= {1, 2}
    assert all(isinstance(value, str) for value in answer.numbers["headline"].values())
    assert answer.numbers["headline"]["n"] == "1"  # what the experiment had already
    errors = answer.data["headline_errors"]
    assert len(errors) == 46
    assert errors.loc[errors["index"] == 947, "raters"].item() == 9
    assert errors["known_label_error"].sum() == 1
    assert "There is one seed" in " ".join(text.split())
    assert len({claim.id for claim in answer.claims}) == len(answer.claims) == 9


@pytest.mark.parametrize(
    ("errors", "sizes", "said"),
    [
        (97, [97], "every misread digit"),
        (120, [120], "every misread digit"),
        (250, [120, 120, 10], "every misread digit"),
        (300, [120, 120, 60], "every misread digit"),
        (301, [120, 120, 60], "the 300 surest of 301 errors"),
    ],
)
def test_the_gallery_has_every_misread_digit(
    make: Any, errors: int, sizes: list[int], said: str
) -> None:
    made = make()
    made.run("headline", "vit", misread(made.labels, errors))
    seen, text = made.headline().predictions, made.page()
    parts = gallery(seen)
    assert [len(part) for part in parts.values()] == sizes
    assert np.concatenate(list(parts.values())).tolist() == seen.wrong[: sum(sizes)].tolist()
    assert shown(text) >= set(parts) and f"what is left to learn: {said}." in text
    for name in parts:
        assert f"@fig-q6-{name.replace('_', '-')}" in text
    if len(sizes) > 1:
        assert f"Misread test digits 241 to {sum(sizes)} of {errors}" in text


def test_a_page_of_the_gallery_can_be_read(make: Any, digits: Mnist) -> None:
    style.use()
    made = make()
    made.run("headline", "vit", misread(made.labels, 250))
    seen = made.headline().predictions
    heights = []
    for part in gallery(seen).values():
        drawing = draw_gallery(digits.test_images, seen, part)
        used = [axes for axes in drawing.axes if axes.images]
        assert [axes.get_title() for axes in used] == [
            f"{seen.labels[i]}→{seen.answers[i]}\n{chance(seen, i)}" for i in part
        ]
        width, height = drawing.get_size_inches()
        assert width == style.WIDTH and height < 8, "with its caption on a page of A4"
        heights.append((height - 0.3) / -(-len(part) // 12))
        plt.close(drawing)
    assert heights == pytest.approx([heights[0]] * 3), "digits of one size in all parts"


def test_a_study_without_the_run_says_so(make: Any, tmp_path: Path) -> None:
    answer = Answer("", pd.DataFrame())
    add_headline(make(headline=False).study, answer)
    text = included(answer, tmp_path)
    assert "no experiment `headline`" in text
    assert "hard for people" not in text  # which nobody measured
    assert shown(text) == {"errors"}  # of the base ViT, which every study has
    assert not answer.figures
    assert not answer.claims
    assert answer.numbers["headline"] == {"status": "not asked for"}


def test_a_run_that_was_not_made_says_why(make: Any, tmp_path: Path) -> None:
    made = make()
    made.not_run("headline", "vit", "the clock struck twelve")
    answer = Answer("", pd.DataFrame())
    add_headline(made.study, answer)
    text = included(answer, tmp_path)
    assert "**not run**: the clock struck twelve." in text
    assert shown(text) == {"errors"}
    assert not answer.claims
    assert answer.numbers["headline"] == {"status": "not run"}
