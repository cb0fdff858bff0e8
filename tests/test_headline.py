"""The headline run: its scores, its claims and its page turn with the test logits."""

from __future__ import annotations

import hashlib
import json
import math
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vitrail import data, style
from vitrail.claims import Claim
from vitrail.data import Mnist, read_idx
from vitrail.errors import VitrailError
from vitrail.label_errors import LABEL_ERRORS, MAJORITY, RATERS, check_labels, corrected
from vitrail.questions.answer import Answer
from vitrail.questions.headline.add import add_headline, numbers
from vitrail.questions.headline.claims import PUBLISHED, beats, decide, matches
from vitrail.questions.headline.figures import (
    AS_RATERS,
    KNOWN,
    chance,
    draw_gallery,
    gallery,
    mark,
    votes,
)
from vitrail.questions.headline.page import page
from vitrail.questions.headline.run import Headline, Rival
from vitrail.questions.headline.scores import Predictions, bin_starts, calibrate, share
from vitrail.questions.study import Study
from vitrail.report.source import expand

ROOT = Path(__file__).parents[1]
IMAGES = 10_000
AGREED = [error for error in LABEL_ERRORS if error.agreed is not None]
FIGURES = {
    f"headline_{n}" for n in ("curve", "confusion", "calibration", "gallery", "label_errors")
}


@pytest.fixture(scope="module")
def digits() -> Mnist:
    """Noise with the labels of MNIST at the 15 places of the list."""
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 10, IMAGES, dtype=np.uint8)
    for error in LABEL_ERRORS:
        labels[error.index] = error.given
    images = rng.integers(0, 256, (IMAGES, 28, 28), dtype=np.uint8)
    return Mnist(images[:1], labels[:1], images, labels)


def answering(labels: np.ndarray, changed: dict[int, int], margin: float = 12.0) -> np.ndarray:
    """Logits whose answers are the labels but for the changed images; less sure of those."""
    answers = labels.astype(int)
    sure = np.full(len(labels), margin)
    for index, answer in changed.items():
        answers[index], sure[index] = answer, 3.0
    logits = np.zeros((len(labels), 10), dtype=np.float32)
    logits[np.arange(len(labels)), answers] = sure
    return logits


def misread(labels: np.ndarray, count: int, start: int = 100) -> dict[int, int]:
    """`count` images from `start` on, none of them on the list, read as the next digit."""
    listed = {error.index for error in LABEL_ERRORS}
    chosen = [index for index in range(start, IMAGES) if index not in listed][:count]
    return {index: int(labels[index] + 1) % 10 for index in chosen}


@dataclass
class Made:
    """A study in a folder whose runs are written by hand."""

    study: Study
    labels: np.ndarray
    answers: dict[str, Any] = field(default_factory=dict)

    def run(
        self,
        experiment: str,
        arm: str,
        changed: dict[int, int],
        seed: int = 0,
        margin: float = 12.0,
        **given: Any,
    ) -> None:
        """Write the run folder of an arm that misreads the changed images."""
        facts = {"train_loss": 0.02, "val_loss": 0.03, "parameters": 300_000, **given}
        logits = answering(self.labels, changed, margin)
        right = float((logits.argmax(axis=1) == self.labels).mean())
        summary = {
            "status": "finished", "reason": "", "macs": 2_000_000, "samples": 200_000,
            "test_accuracy": right, "val_accuracy": 0.993, **facts,
        }  # fmt: skip
        folder = self._folder(experiment, arm, seed, summary)
        np.savez_compressed(folder / "predictions.npz", test_logits=logits)
        pd.DataFrame(
            {
                "step": [10, 20],
                "samples": [100_000, 200_000],
                "train_loss": [0.3, facts["train_loss"]],
                "val_loss": [0.2, facts["val_loss"]],
                "val_accuracy": [0.981, facts.get("val_accuracy", 0.993)],
            }
        ).to_csv(folder / "history.csv", index=False)
        clock = pd.DataFrame({"step": [10, 20], "seconds": [300.0, 630.0]})
        clock.to_csv(folder / "timing.csv", index=False)

    def not_run(self, experiment: str, arm: str, reason: str, seed: int = 0) -> None:
        """Write the folder of a run that could not be made."""
        self._folder(experiment, arm, seed, {"status": "not run", "reason": reason})

    def _folder(self, experiment: str, arm: str, seed: int, summary: dict[str, Any]) -> Path:
        block = next(e for e in self.study.plan.of_question("q6_vit") if e.name == experiment)
        folder = self.study.run_folder(block.member(arm).arm.arm_id, seed)
        folder.mkdir(parents=True)
        (folder / "summary.json").write_text(json.dumps(summary))
        (folder / "env.json").write_text(json.dumps({"hardware": "a test", "threads": 1}))
        return folder

    def headline(self) -> Headline:
        """The headline run as the report reads it."""
        block = self.study.plan.of_question("q6_vit")[-1]
        return Headline(
            self.study, block, self.study.finished_seeds(block.members[0].arm.arm_id, block.seeds)
        )

    def claims(self) -> dict[str, Claim]:
        return {claim.id: claim for claim in decide(self.headline())}

    def page(self) -> str:
        """The page with its line ends as blanks."""
        headline = self.headline()
        return " ".join(page(headline, numbers(headline)).split())


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


# --- The list of label errors


def test_the_list_is_the_published_one() -> None:
    """15 images, each without a majority for its label; on 10 there is one for another digit."""
    assert len({error.index for error in LABEL_ERRORS}) == 15
    rows = [(e.index, e.given, e.proposed, e.votes_given, e.votes_proposed, e.votes_neither)
            for e in LABEL_ERRORS]  # fmt: skip
    # SHA-256 of the 15 rows as JSON, in the order of the index: those of mturk/mnist_mturk.json
    # of cleanlab/label-errors (commit 5457895) for which fewer than three raters saw the label.
    content = hashlib.sha256(json.dumps(rows).encode()).hexdigest()
    assert content == "6a5c331862d1d83c2bd5370d9f94a006db305f22ae6fe7cd3c39057acb788ec5"
    for error in LABEL_ERRORS:
        assert error.votes_given + error.votes_proposed + error.votes_neither == RATERS
        assert error.votes_given < MAJORITY
        assert error.given != error.proposed
    assert len(AGREED) == 10


def test_the_list_fits_mnist() -> None:
    path = ROOT / "results" / "data" / "t10k-labels-idx1-ubyte"
    if not path.is_file():
        pytest.skip("MNIST is not in results/data; snakemake results/data/source.json obtains it")
    check_labels(read_idx(path))


def test_other_labels_are_refused(digits: Mnist) -> None:
    check_labels(digits.test_labels)
    with pytest.raises(VitrailError, match="test image 947 should have the label 8"):
        check_labels(np.roll(digits.test_labels, 1))
    with pytest.raises(VitrailError, match="should have the label"):
        check_labels(digits.test_labels[:9000])


def test_corrected_labels(digits: Mnist) -> None:
    labels, kept = corrected(digits.test_labels)
    changed = np.flatnonzero(labels != digits.test_labels)
    assert changed.tolist() == [error.index for error in AGREED]
    assert labels[6651] == 6
    assert np.flatnonzero(~kept).tolist() == [2130, 2654, 3520, 8527, 9679]


def test_marks_and_votes() -> None:
    by_index = {error.index: error for error in LABEL_ERRORS}
    assert mark(None, 3) == ""
    assert mark(by_index[947], 9) == AS_RATERS
    assert mark(by_index[947], 3) == KNOWN
    assert mark(by_index[2130], 9) == KNOWN  # the raters do not agree
    assert votes(by_index[947]) == "99999"
    assert votes(by_index[2654]) == "???11"


# --- Scores


@pytest.mark.parametrize("count", [9904, 9950, 9965, 10_000])
def test_interval_is_wilsons(count: int) -> None:
    """The closed form of Wilson (1927)."""
    p, z = count / IMAGES, 1.959964
    centre = (p + z * z / (2 * IMAGES)) / (1 + z * z / IMAGES)
    reach = z * math.sqrt(p * (1 - p) / IMAGES + (z / (2 * IMAGES)) ** 2) / (1 + z * z / IMAGES)
    found = share(count, IMAGES)
    assert found.low == pytest.approx(centre - reach, abs=1e-7)
    assert found.high == pytest.approx(centre + reach, abs=1e-7)
    assert found.half_width == pytest.approx(reach, abs=1e-7)


def test_interval_for_print() -> None:
    assert share(9950, IMAGES).words == "99.34 to 99.62 %"
    assert share(9919, IMAGES).words == "98.99 to 99.35 %"
    assert share(9919, IMAGES).rest_words == "65 to 101"
    assert share(IMAGES, IMAGES).rest_words == "0 to 4"


def test_doubt_of_a_very_sure_network() -> None:
    """One minus a rounded probability would be zero here."""
    logits = np.zeros((1, 10), dtype=np.float32)
    logits[0, 3] = 40
    seen = Predictions.from_logits(logits, np.array([3], dtype=np.uint8))
    assert seen.doubt[0] == pytest.approx(9 * math.exp(-40), rel=1e-6, abs=0)
    assert seen.losses[0] == pytest.approx(0, abs=1e-12)


def test_errors_and_confusions_by_hand() -> None:
    chances = np.zeros((4, 10))
    for image, (answer, sure) in enumerate([(1, 0.6), (2, 0.8), (5, 0.7), (5, 0.9)]):
        chances[image] = (1 - sure) / 9
        chances[image, answer] = sure
    seen = Predictions(np.array([1, 7, 5, 3], dtype=np.uint8), chances)
    assert seen.wrong.tolist() == [3, 1]  # the surest first
    table = seen.confusion()
    assert table.sum() == 4
    assert (table[1, 1], table[7, 2], table[5, 5], table[3, 5]) == (1, 1, 1, 1)
    assert seen.losses[1] == pytest.approx(-math.log(0.2 / 9))


@given(st.integers(1, 70_000))
def test_bins_double_and_cover_all_images(images: int) -> None:
    sizes = np.diff([*bin_starts(images), images])
    assert sizes.sum() == images
    assert (sizes > 0).all()
    if len(sizes) > 2:
        assert (sizes[2:-1] == 2 * sizes[1:-2]).all()
        assert sizes[-1] >= sizes[-2] / 2


def drawn_from(stated: np.ndarray, true: np.ndarray) -> Predictions:
    """Images whose answer 0 has doubt `stated` and is wrong with probability `true`."""
    rng = np.random.default_rng(1)
    chances = np.zeros((len(stated), 10))
    chances[:, 0], chances[:, 1] = 1 - stated, stated
    return Predictions((rng.random(len(true)) < true).astype(np.uint8), chances)


def test_calibration_tells_a_true_network_from_others() -> None:
    doubt = np.random.default_rng(0).uniform(0, 0.3, 4000) ** 2
    true, bold, shy = (
        calibrate(drawn_from(stated, doubt)) for stated in (doubt, doubt / 3, doubt * 3)
    )
    assert true.ece <= true.ece_limit
    errors = true.bins["errors"].sum()
    assert true.errors_low <= errors <= true.errors_high
    assert true.expected_errors == pytest.approx(doubt.sum())
    assert true.bins["images"].sum() == 4000
    assert bold.ece > bold.ece_limit
    assert errors > bold.errors_high
    assert shy.ece > shy.ece_limit
    assert errors < shy.errors_low


def test_calibration_error_of_one_bin_by_hand() -> None:
    """Ten images with doubt 0.1, three of them wrong: |0.3 - 0.1|."""
    chances = np.zeros((10, 10))
    chances[:, 0], chances[:, 1] = 0.9, 0.1
    labels = np.array([1, 1, 1, 0, 0, 0, 0, 0, 0, 0], dtype=np.uint8)
    found = calibrate(Predictions(labels, chances))
    assert found.ece == pytest.approx(0.2)
    assert found.expected_errors == pytest.approx(1)


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
