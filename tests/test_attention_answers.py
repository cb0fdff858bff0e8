"""Q3 and Q4: the claims turn with the data, and the answers hold for any config."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pytest

from looks import clashes
from vitrail.claims import Claim
from vitrail.questions.attention import claims as attention_claims
from vitrail.questions.attention import head_claims, measures

if TYPE_CHECKING:
    from vitrail.data import Mnist
    from vitrail.questions.study import Study

# The claims: fed with the opposite, verdict and sentence turn

BASE, WIDE, NARROW = "base", "wide", "narrow"
GOOD: dict[str, tuple[Sequence[float], Sequence[float]]] = {
    # column: its value in the first and the last block, at the start and after training
    "entropy": ((0.9, 0.9), (0.6, 0.6)),
    "entropy_unscaled": ((0.4, 0.4), (0.2, 0.2)),
    "variance": ((1.0, 1.0), (1.1, 1.1)),
    "tv_images": ((0.2, 0.2), (0.5, 0.5)),
    "tv_heads": ((0.4, 0.4), (0.7, 0.7)),
    "distance": ((2.0, 2.0), (0.5, 1.5)),
}


def table(count: int = 3, **changed: tuple[Sequence[float], Sequence[float]]) -> pd.DataFrame:
    """What `measured` gives, with values that support every claim except for those changed.

    The heads of the first block differ more in distance; seeds differ a little.
    """
    rows = []
    for arm in (BASE, WIDE, NARROW):
        for seed in range(count):
            for place, state in enumerate((measures.START, measures.TRAINED)):
                for block in (0, 1):
                    for head in (-1, 1):
                        row: dict[str, Any] = {
                            "arm": arm,
                            "seed": seed,
                            "state": state,
                            "block": block + 1,
                        }
                        for column, values in {**GOOD, **changed}.items():
                            row[column] = values[place][block] + 0.001 * seed * (place + block)
                        if arm == WIDE:
                            row["entropy_unscaled"] -= 0.1 + 0.001 * seed
                        row["distance"] += head * (0.1 + 0.01 * seed) / (block + 1)
                        rows.append({**row, "head": head})
    return pd.DataFrame(rows)


def network_claims(frame: pd.DataFrame) -> dict[str, Claim]:
    pair = (WIDE, NARROW)
    found = [
        *attention_claims.of_networks(frame, BASE),
        *attention_claims.of_widths(frame, pair, ["one head", "four heads"]),
        head_claims.heads_part(frame, BASE),
        *head_claims.of_distance(frame, BASE, uniform=2.0, window=0.9),
    ]
    return {claim.id: claim for claim in found}


TURNED = {
    "q3-trained-entropy-falls-without-the-scale": table(entropy_unscaled=((0.4, 0.4), (0.2, 0.7))),
    "q3-training-sharpens-attention": table(entropy=((0.6, 0.6), (0.9, 0.9))),
    "q3-trained-variance-stays-one": table(variance=((1.0, 1.0), (3.0, 3.0))),
    "q3-training-makes-attention-follow-the-image": table(tv_images=((0.5, 0.5), (0.2, 0.2))),
    "q4-training-parts-the-heads": table(tv_heads=((0.7, 0.7), (0.4, 0.4))),
    "q4-distance-grows-with-depth": table(distance=((2.0, 2.0), (1.5, 0.5))),
    "q4-attention-prefers-near-patches": table(distance=((2.0, 2.0), (2.5, 2.6))),
    "q4-some-head-is-local": table(distance=((2.0, 2.0), (1.5, 1.6))),
    "q4-early-heads-differ-more": table().assign(block=lambda frame: 3 - frame["block"]),
    "q3-wide-head-needs-the-scale-more-start": table().replace({WIDE: NARROW, NARROW: WIDE}),
    "q3-wide-head-needs-the-scale-more-trained": table().replace({WIDE: NARROW, NARROW: WIDE}),
}


def assert_turns(good: Claim, bad: Claim) -> None:
    assert (good.verdict, bad.verdict) == ("supported", "refuted")
    assert good.finding == good.sentence == bad.sentence
    assert bad.finding != bad.sentence
    assert not bad.finding.startswith("The runs speak against")
    assert good.evidence != bad.evidence


@pytest.mark.parametrize("claim_id", TURNED)
def test_claims_about_networks_turn_with_the_table(claim_id: str) -> None:
    assert_turns(network_claims(table())[claim_id], network_claims(TURNED[claim_id])[claim_id])


def test_every_claim_about_networks_is_tried_with_the_opposite() -> None:
    assert set(network_claims(table())) == set(TURNED)


def test_one_seed_decides_no_comparison_of_seeds() -> None:
    claims = network_claims(table(count=1))
    undecided = {name for name, claim in claims.items() if claim.verdict == "undecided"}
    assert undecided == set(claims) - {
        "q3-trained-entropy-falls-without-the-scale",
        "q3-trained-variance-stays-one",
        "q4-some-head-is-local",
    }
    assert all("one seed has no interval" in claims[name].evidence for name in undecided)


def test_seeds_that_disagree_decide_nothing() -> None:
    frame = table()
    frame.loc[frame["seed"] == 0, "variance"] = 3.0
    assert network_claims(frame)["q3-trained-variance-stays-one"].verdict == "undecided"


def random_claims(**changed: Sequence[float]) -> dict[str, Claim]:
    good = {
        "d_k": (4, 256),
        "variance": (4.0, 256.0),
        "variance_scaled": (1.0, 1.0),
        "entropy": (0.7, 0.1),
        "entropy_scaled": (0.8, 0.8),
        "gradient": (0.2, 0.1),
        "gradient_scaled": (0.2, 0.3),
        "gradient_mean": (0.2, 0.1),
        "gradient_mean_scaled": (0.2, 0.3),
        "gradient_share": (0.4, 0.9),
        "gradient_share_scaled": (0.4, 0.3),
    }
    frame = pd.DataFrame({**good, **changed})
    return {claim.id: claim for claim in attention_claims.of_random_logits(frame)}


@pytest.mark.parametrize(
    ("claim_id", "changed"),
    [
        ("q3-scale-keeps-variance", {"variance_scaled": (1.0, 16.0)}),
        ("q3-scale-keeps-variance", {"variance": (4.0, 16.0)}),
        ("q3-scale-keeps-entropy", {"entropy": (0.7, 0.69)}),
        ("q3-scale-keeps-entropy", {"entropy_scaled": (0.8, 0.1)}),
        ("q3-unscaled-median-gradient-is-smaller", {"gradient": (0.2, 0.4)}),
        ("q3-unscaled-mean-gradient-is-smaller", {"gradient_mean": (0.2, 0.4)}),
        ("q3-few-queries-get-most-of-the-gradient", {"gradient_share": (0.9, 0.4)}),
        ("q3-few-queries-get-most-of-the-gradient", {"gradient_share_scaled": (0.3, 0.6)}),
    ],
)
def test_claims_about_random_logits_turn(claim_id: str, changed: dict[str, Any]) -> None:
    good, bad = random_claims()[claim_id], random_claims(**changed)[claim_id]
    if "variance" in changed:  # the evidence is that of the widest head
        assert "16.0 before" in bad.evidence
    assert_turns(good, bad)


@pytest.mark.parametrize(
    ("good", "bad"),
    [
        (head_claims.equals_torch(0.0), head_claims.equals_torch(0.1)),
        (head_claims.heads_add_up(1e-7), head_claims.heads_add_up(0.1)),
        (attention_claims.equivariant(1e-7), attention_claims.equivariant(0.1)),
        (head_claims.reads_ink([0.1, 0.11, 0.12]), head_claims.reads_ink([-0.1, -0.11, -0.12])),
    ],
)
def test_claims_about_single_numbers_turn(good: Claim, bad: Claim) -> None:
    assert_turns(good, bad)


def test_parity_that_torch_cannot_have_is_not_decided() -> None:
    assert head_claims.equals_torch(None).verdict == "undecided"


def test_answers_say_what_was_found() -> None:
    from vitrail.questions import q3_self_attention as q3
    from vitrail.questions import q4_multi_head as q4

    good, bad = (
        network_claims(frame)["q3-wide-head-needs-the-scale-more-start"]
        for frame in (table(), TURNED["q3-wide-head-needs-the-scale-more-start"])
    )
    assert "one head more entropy than four" in q3.sentence([good])
    assert "one head less entropy than four" in q3.sentence([bad])
    wrong = head_claims.equals_torch(0.1)
    assert "does not compute" in q4.sentence(4, 16, 64, wrong, "")
    four, one = (q4.sentence(heads, 16, 48, wrong, "") for heads in (4, 1))
    assert four.startswith("4 heads read the same tokens, each through its own three 48 × 16")
    assert one.startswith("One head reads") and "one 16 × 48 matrix" in one


# The whole answers, for configs unlike the default

TINY = {"embed_dim": 12, "depth": 2, "num_heads": 2, "patch_size": 14}
ONE_HEAD = {
    "title": "x",
    "arms": {"one": {"settings": {"num_heads": 1}}, "two": {"settings": {"num_heads": 2}}},
}
HEAD_DIM = {"title": "Heads", "settings": {"head_dim": 5}, "vary": {"num_heads": [1, 3]},
            "claims": [{"id": "c", "sentence": "s", "better": "3", "worse": "1"}]}  # fmt: skip
CONFIGS: dict[str, tuple[dict[str, Any], dict[str, Any], dict[str, Any]]] = {
    "experiments": ({}, {"one": ONE_HEAD}, {"head_dim": HEAD_DIM}),
    "no class token, one patch, one head, one block": (
        {"class_token": False, "global_pool": "avg", "patch_size": 28, "num_heads": 1, "depth": 1},
        {}, {},
    ),
    "heads of their own width": ({"head_dim": 5, "patch_size": 7, "num_heads": 5}, {}, {}),
}  # fmt: skip


@pytest.fixture(scope="module", params=CONFIGS)
def tiny_study(
    request: pytest.FixtureRequest, root: Path, mnist: Mnist, tmp_path_factory: Any
) -> Study:
    """A study of untrained networks; the first seed of the first arm makes mistakes."""
    from vitrail import style
    from vitrail.config import load
    from vitrail.questions.study import Study
    from vitrail.run_folder import write_run

    style.use()
    defaults, q3, q4 = CONFIGS[request.param]
    config = load([root / "config" / "default.yaml"])
    config |= {"study": "tiny", "seeds": [0, 1]}
    config["defaults"] |= TINY | defaults
    config["questions"] |= {stem: {} for stem in config["questions"] if stem != "q7_complexity"}
    del config["questions"]["q7_complexity"]["experiments"]  # growing wants an even depth
    config["questions"]["q3_self_attention"] = {"experiments": q3}
    config["questions"]["q4_multi_head"] = {"experiments": q4}
    study = Study(config, tmp_path_factory.mktemp("results"))
    study.__dict__["mnist"] = mnist  # where cached_property keeps it
    facts = {"hardware": "a CPU", "threads": 1, "versions": {"torch": "2"}}
    logits = np.eye(10)[mnist.test_labels]
    logits[:3] = np.roll(logits[:3], 1, axis=1)
    for arm in study.plan.arms.values():
        for seed in arm.seeds:
            summary = {"status": "finished", "test_accuracy": 0.5 + 0.1 * seed, "macs": 1}
            curve: dict[str, Any] = {
                "history.csv": [{"samples": 1, "val_accuracy": 0.5}],
                "timing.csv": [{"s": 1}],
            }
            network = measures.untrained(arm.settings, seed + 7)
            folder = study.run_folder(arm.arm_id, seed)
            write_run(folder, arm.settings, seed, summary, facts, (network, curve, logits))
    return study


@pytest.mark.parametrize("stem", ["q1_patch_embedding", "q3_self_attention", "q4_multi_head"])
def test_chapter_finds_all_that_it_asks_for(tiny_study: Study, stem: str, root: Path) -> None:
    """Whatever the config, each figure, table and number that the chapter quotes is there.

    And each number that the answer gives is quoted, but for those of the experiments.
    """
    import importlib
    import re

    import matplotlib.pyplot as plt

    answer = importlib.import_module(f"vitrail.questions.{stem}").answer(tiny_study)
    there = {"figures": {*answer.figures}, "tables": {*answer.tables, "claims"}}
    text = (root / "report" / f"{stem}.qmd").read_text(encoding="utf-8")
    for part, name in re.findall(rf"(figures|tables)/{stem}/(\w+)\.(?:svg|md)", text):
        assert name in there[part], name
    for figure in answer.figures.values():
        assert clashes(figure) == []
    plt.close("all")
    quoted = re.findall(rf"var {stem[:2]}\.([\w.]+)", text)
    experiments = {experiment.name for experiment in tiny_study.plan.of_question(stem)}
    assert set(answer.numbers) - experiments == {path.split(".")[0] for path in quoted}
    for path in quoted:
        value: Any = answer.numbers
        for key in path.split("."):
            value = value[key]
        assert isinstance(value, str) and value and "nan" not in value, path
    words = answer.sentence + " ".join(claim.evidence + claim.finding for claim in answer.claims)
    assert "nan" not in words
    assert len({claim.id for claim in answer.claims}) == len(answer.claims)


class Started(Exception):
    """Raised where training would begin."""


def test_start_is_the_one_that_training_starts_from(
    tiny_study: Study, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Compared with the network that the step of training hands to its loop."""
    import torch

    from vitrail import train

    handed: list[dict[str, Any]] = []

    def caught(network: torch.nn.Module, *_: Any) -> None:
        handed.append({name: value.clone() for name, value in network.state_dict().items()})
        raise Started

    monkeypatch.setattr(train, "fit", caught)
    settings = tiny_study.plan.arms[tiny_study.plan.base].settings
    few = settings | {"validation": 100, "train_size": 500}
    for seed in (1, 2):
        with pytest.raises(Started):
            train.run(few, seed, tiny_study.mnist, torch.device("cpu"), None)
    for seed, expected in enumerate(handed, start=1):
        for name, value in measures.untrained(settings, seed).state_dict().items():
            assert torch.equal(value, expected[name]), name
    assert not torch.equal(handed[0]["head.weight"], handed[1]["head.weight"])


# What the answers measure themselves: next to nothing for the model, a lot for a broken one


@pytest.fixture
def network() -> Any:
    """Two blocks of three heads, no weight at its initial value."""
    from model_tools import small

    return small(embed_dim=24, num_heads=3)


def shifted(layer: Any, by: float) -> None:
    """Let a layer put out something else than its weights say: larger at the first token."""

    def hook(_: Any, inputs: Any, output: Any) -> Any:
        changed = output.clone()
        changed[:, 0] += by
        return changed

    layer.register_forward_hook(hook)


@pytest.mark.parametrize("block", [0, 1])
def test_gaps_see_a_layer_that_does_something_else(network: Any, block: int) -> None:
    """In whichever block it stands."""
    from model_tools import random_images
    from vitrail.questions.q3_self_attention import equivariance_gap
    from vitrail.questions.q4_multi_head import parity_gaps

    images = random_images()
    to_torch, to_sum = parity_gaps(network, images)
    assert max(equivariance_gap(network, images), to_torch, to_sum) < attention_claims.EXACT
    shifted(network.blocks[block].attn.proj, 0.3)
    to_torch, to_sum = parity_gaps(network, images)
    for gap in (equivariance_gap(network, images), to_torch, to_sum):
        assert gap == pytest.approx(0.3, abs=1e-3)


@pytest.mark.parametrize("name", ["in_proj_weight", "in_proj_bias", "out_proj.weight"])
def test_parity_sees_each_weight_of_the_copy(
    network: Any, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    from model_tools import random_images
    from vitrail.questions import q4_multi_head as q4

    copied = q4._torch_module

    def broken(ours: Any) -> Any:
        peer = copied(ours)
        with torch.no_grad():
            peer.get_parameter(name).copy_(peer.get_parameter(name).roll(1, 0))
        return peer

    monkeypatch.setattr(q4, "_torch_module", broken)
    to_torch, to_sum = q4.parity_gaps(network, random_images())
    assert to_torch is not None and to_torch > 1e-2
    assert to_sum < attention_claims.EXACT
