"""Q7's answer on made times: of a machine that obeys the formula, and of others that do not."""

import copy
import json
import math
import re

import numpy as np
import pandas as pd
import pytest

from looks import clashes
from made_study import small, write_runs
from made_ways import write_steps
from vitrail import style
from vitrail.complexity_plan import timing_settings
from vitrail.config import load, validate
from vitrail.cost_model import total, vit_costs
from vitrail.efficiency import (
    attention_macs,
    block_macs,
    linear_attention_macs,
    window_attention_macs,
)
from vitrail.questions import q7_complexity
from vitrail.questions.answer import Answer
from vitrail.questions.complexity import claims, costs, kinds, law
from vitrail.questions.complexity.clock import Clock
from vitrail.questions.study import Study
from vitrail.timing import COLUMNS, SAMPLE_COLUMNS
from vitrail.timing_settings import read_settings

SIZES = [16, 32, 64, 128, 256, 512, 1024, 2048, 4096]
LINEAR = 1e-11  # seconds of a MAC of the linear layers
VERDICTS = ("supported", "refuted", "undecided")


def seconds(what, variant, n, d, r, slow, bend):
    """Of one sequence; `slow`: of a product's MAC, `bend`: of the written-out form's exponent."""
    linear = LINEAR * (block_macs(n, d, r) - 2 * n * n * d)
    products = slow * 2 * n * n * d * ((n / 1024) ** bend if variant == "naive" else 1)
    attention = LINEAR * 4 * n * d * d + products
    return {
        "linear": linear,
        "products": products,
        "attention": attention,
        "block": linear + products,
        "model": 4 * (linear + products),
    }[what]


def other_seconds(kind, n, d, factor, power=0.0):
    """Of linear attention or windows of 4 x 4: `factor` on its MACs, `power` on its exponent."""
    macs = {
        "linear": linear_attention_macs(n, d, 4),
        "window": window_attention_macs(n, d, 4),
    }[kind]
    return LINEAR * factor * macs * (n / 64) ** power


def made_clock(
    slow=LINEAR, bend=0.0, noise=0.01, sizes=SIZES, widths=(64, 384), other=3, power=0.0, **settings
):
    """A Clock of a made machine, as the timing step would have written its tables.

    `other` and `power` are those of `other_seconds`.
    """
    generator = np.random.default_rng(0)
    asked = {"tokens": sizes, "mlp_ratio": 2, "threads": [1, 2]} | settings
    asked["widths"] = [{"embed_dim": d, "num_heads": 4} for d in widths]
    facts = {"hardware": "a CPU", "threads": 1, "load_average": 0, "load_average_after": 0}
    facts["window_size"] = 4
    facts["settings"] = told = read_settings(asked)
    cells = [
        (what, variant, mode, threads, n, width["embed_dim"], None)
        for width in told["widths"]
        for threads in told["threads"]
        for mode in told["passes"]
        for n in sizes
        for what, variant in [
            *law.SERIES,
            ("linear", ""),
            ("products", "fused"),
            ("products", "naive"),
        ]
    ] + [("model", "fused", "forward", t, n, 64, p) for t in (1, 2) for n, p in ((17, 7), (50, 4))]
    cells += [("attention", "linear", "forward", 1, n, widths[0], None) for n in sizes]
    cells += [
        ("attention", "window", "forward", 1, n, widths[0], None)
        for n in sizes
        if n in (16, 64, 256, 1024, 4096)
    ]
    rows, samples = [], []
    for what, variant, mode, threads, n, d, patch in cells:
        if variant in ("linear", "window"):
            mean = other_seconds(variant, n, d, other, power)
        else:
            mean = seconds(what, variant, n, d, 2, slow, bend) * (3 if mode == "train" else 1)
        times = mean * generator.lognormal(0, noise, 9)
        key = [what, variant, mode, threads, n, d]
        samples += [[*key, repeat, value] for repeat, value in enumerate(times)]
        low, middle, high = np.quantile(times, [0.25, 0.5, 0.75])
        memory = (n * n if variant == "naive" else 40 * n) / 2**10
        rows.append(
            [*key, 4, patch, 1, 9, 1, middle, low, high, low, memory, 0, 1, ""],
        )
    return Clock(
        pd.DataFrame(rows, columns=COLUMNS), pd.DataFrame(samples, columns=SAMPLE_COLUMNS), facts
    )


def decided(clock):
    """The claims on a made clock, by id."""
    steps = law.exponents(clock)
    found = claims.claims(steps, law.crossovers(clock), law.memory_exponents(clock))
    return {claim.id: claim for claim in found}


def test_a_machine_that_obeys_the_formula():
    found = decided(made_clock())
    assert {claim.verdict for claim in found.values()} == {"supported"}
    assert len(found) == 6
    assert law.largest_miss(law.exponents(made_clock()), "block", "fused") < 0.05
    assert "width 64: 25" in found["q7-crossover-as-predicted"].evidence  # of 256


def test_slow_products_move_the_crossover_and_the_second_prediction_follows():
    """They count eight times: equal at an eighth of the length, out of the allowed factor."""
    clock = made_clock(slow=8 * LINEAR, noise=0.004)
    crossing = law.crossovers(clock).set_index("embed_dim")
    assert crossing.loc[64, "fused"] == pytest.approx(256 / 8, rel=0.02)
    assert crossing.loc[384, "fused"] == pytest.approx(1536 / 8, rel=0.02)
    found = decided(clock)
    assert found["q7-crossover-as-predicted"].verdict == "refuted"
    assert found["q7-slopes-as-predicted"].verdict == "refuted"
    steps = law.exponents(clock)
    right, all_ = law.inside(steps, "block", "fused", "weighted_inside")
    assert all_ == 16 and right >= 13  # intervals of 95 %
    assert law.inside(steps, "block", "fused")[0] < 8
    words = law.inside_words(steps, "block", "fused", "a block")
    assert " of 16 lie in the measured interval" in words
    assert f"second prediction's {right}; the largest" in words


def test_what_no_interval_can_tell_is_said_so() -> None:
    steps = law.exponents(made_clock()).assign(sharp=False)
    words = law.inside_words(steps, "block", "fused", "a block")
    assert words == "No exponent of a block was measured narrowly enough to tell."


def test_noise_decides_nothing():
    """An interval that is wide enough holds every prediction, which is no success."""
    clock = made_clock(noise=0.6)
    steps = law.exponents(clock)
    assert steps["inside"].mean() > 0.7
    assert decided(clock)["q7-slopes-as-predicted"].verdict == "undecided"
    assert law.inside(steps, "block", "fused")[1] < 5


def test_a_form_that_bends_is_told_apart():
    """A written-out form that gets dearer by n^0.5 obeys neither prediction, the fused does."""
    steps = law.exponents(made_clock(bend=0.5))
    naive = law.inside(steps, "attention", "naive", "weighted_inside")
    assert naive[0] < naive[1] / 2
    assert law.inside(steps, "block", "fused")[0] >= 13


def test_short_lengths_leave_open_what_they_do_not_show():
    found = decided(made_clock(sizes=[16, 32, 64], widths=(384,)))
    open_ = {claim.id for claim in found.values() if claim.verdict == "undecided"}
    assert open_ == {
        "q7-quadratic-for-long-sequences",
        "q7-fused-keeps-the-exponent",
        "q7-slopes-as-predicted",
        "q7-crossover-as-predicted",
    }
    assert "not among" in found["q7-crossover-as-predicted"].evidence
    long = decided(made_clock(sizes=[512, 1024, 2048]))
    assert long["q7-not-quadratic-at-mnist-sizes"].verdict == "undecided"


def test_crossing_of_a_ratio():
    assert law.crossing({10: 0.5, 1000: 2.0}) == pytest.approx(100)
    assert law.crossing({1: 0.1, 10: 1.0}) == pytest.approx(10)
    assert math.isnan(law.crossing({1: 0.1, 10: 0.9}))
    assert math.isnan(law.crossing({1: 2.0, 10: 3.0}))


def kinds_of(clock):
    return {claim.id: claim for claim in kinds.claims(clock)}


def test_other_attention_crosses_where_the_made_machine_says():
    """Three times the MACs: 4nd² + 2n²d is as much at n = (3 (4d + 2 d_k + 1) - 4d) / 2."""
    clock = made_clock(noise=1e-6)
    found = kinds.crossings(clock)
    expected = {"linear": (3 * (4 * 64 + 2 * 16 + 1) - 4 * 64) / 2}
    expected["window"] = (3 * (4 * 64 + 2 * 16) - 4 * 64) / 2
    for kind, n in expected.items():
        for form in ("fused", "naive"):
            # Between 256 and 512, or 256 and 1024, where log-log lines are nearly straight.
            assert found[kind, form].n == pytest.approx(n, rel=0.05)
    assert f"{found['linear', 'fused'].n:,.0f}" in kinds.kinds_markdown(clock)
    claimed = kinds_of(clock)
    assert {claim.verdict for claim in claimed.values()} == {"supported"}
    assert set(claimed) == {
        f"q7-{kind}-attention-{end}"
        for kind in ("linear", "window")
        for end in ("crosses-over", "is-linear")
    }


def test_other_attention_in_prose():
    clock = made_clock(noise=1e-6)
    found = Answer(sentence="", table=clock.table)
    q7_complexity._add_kinds_numbers(found, clock, 17)
    fused = [seconds("attention", "fused", n, 64, 2, LINEAR, 0) for n in (16, 4096)]
    told = found.numbers
    assert (told["kinds_near"], told["kinds_longest"]) == ("16", "4,096")
    slower = other_seconds("linear", 16, 64, 3) / fused[0]
    assert told["linear_time"] == f"{slower:.1f} times" and slower > 1
    assert told["window_speedup"] == f"{fused[1] / other_seconds('window', 4096, 64, 3):.1f} times"
    assert kinds.times({16: 24.7}, 16) == "25 times"
    assert "unknown" in kinds.times({16: 2.0}, 17)


def test_other_attention_that_never_crosses():
    fast, slow = made_clock(other=0.1), made_clock(other=100)
    for clock, words, verdict in (
        (fast, "faster at all lengths", "refuted"),
        (slow, "slower at all lengths", "undecided"),
    ):
        assert kinds.kinds_markdown(clock).count(words) == 4
        for kind in ("linear", "window"):
            claim = kinds_of(clock)[f"q7-{kind}-attention-crosses-over"]
            assert claim.verdict == verdict and words in claim.evidence
    assert "faster" in kinds_of(fast)["q7-linear-attention-crosses-over"].finding


def test_other_attention_that_crosses_twice_has_no_single_length():
    ratios = {16: 0.5, 64: 2.0, 256: 0.7, 1024: 3.0}
    assert math.isnan(kinds.only_rise(ratios))
    assert kinds.Crossing(kinds.only_rise(ratios), ratios).words == "no single length"
    falling = {16: 2.0, 64: 0.5}
    assert kinds.Crossing(kinds.only_rise(falling), falling).words == "no single length"
    assert kinds.only_rise({10: 0.5, 1000: 2.0}) == pytest.approx(100)


def test_other_attention_that_is_not_linear_or_not_long_enough():
    steep = kinds_of(made_clock(power=0.4))
    for kind in ("linear", "window"):
        assert steep[f"q7-{kind}-attention-is-linear"].verdict == "refuted"
    short = kinds_of(made_clock(sizes=[16, 32, 64]))
    assert short["q7-linear-attention-is-linear"].verdict == "undecided"
    assert kinds_of(made_clock(noise=0.6))["q7-linear-attention-is-linear"].verdict == "undecided"


def test_lengths_without_windows():
    clock = made_clock(sizes=[32, 128, 512])
    assert "not timed" in kinds.kinds_markdown(clock)
    found = kinds_of(clock)
    assert found["q7-window-attention-crosses-over"].verdict == "undecided"
    assert found["q7-window-attention-is-linear"].verdict == "undecided"
    assert found["q7-linear-attention-crosses-over"].verdict == "supported"
    assert kinds.lengths_beside(clock, 17) == (32, 512)
    assert kinds.lengths_beside(made_clock(sizes=[16, 17, 256, 300]), 17) == (16, 256)


def test_predicted_crossovers_are_those_of_the_macs():
    macs = kinds.predicted(made_clock())
    assert macs == {"linear": 16.5, "window": 16}
    assert attention_macs(16, 64) < linear_attention_macs(16, 64, 4)
    assert attention_macs(17, 64) > linear_attention_macs(17, 64, 4)
    assert attention_macs(16, 64) == window_attention_macs(16, 64, 4)


def test_fused_over_written_out():
    clock = made_clock(bend=1, noise=1e-6)
    ratios = law.fused_over_naive(clock, "products")
    assert ratios[2048] == pytest.approx(2, rel=1e-4) and ratios[512] == pytest.approx(
        0.5, rel=1e-4
    )


@pytest.fixture
def config(root):
    return load([root / "config" / "default.yaml"])


def test_costs_are_those_of_the_studys_networks(config, tmp_path):
    """The base ViT and timm's, with sizes from the config: change it, and the table changes."""
    study = Study(config, tmp_path)
    frame = costs.cost_frame(study)
    assert list(frame["network"].unique()) == ["base ViT", "vit_small, timm"]
    whole = frame[frame["part"] == "total"].set_index("network")
    image = {"img_size": 28, "in_chans": 1, "num_classes": 10}
    small_sizes = {"embed_dim": 384, "depth": 12, "num_heads": 6, "patch_size": 14}
    expected = total(vit_costs(**image, **small_sizes, fused_attn=False))
    assert whole.loc["vit_small, timm", "macs"] == expected.macs
    assert whole.loc["vit_small, timm", "activation_bytes"] == expected.activations
    assert whole.loc["vit_small, timm", "parameters"] == expected.parameters
    for _, part in frame.groupby("network"):
        parts = part[part["part"] != "total"]
        for column in ("macs", "parameters", "activation_bytes", "activation_bytes_fused"):
            assert parts[column].sum() == part[column].iloc[-1]
        assert parts["share"].sum() == pytest.approx(1)
    assert costs.share(0.00001) == "< 0.1 %" and costs.share(0.5) == "50.0 %"
    config["defaults"] |= {"depth": config["defaults"]["depth"] + 2}
    deeper = costs.cost_frame(Study(config, tmp_path))
    assert deeper[deeper["network"] == "base ViT"]["macs"].max() > whole.loc["base ViT", "macs"]


@pytest.mark.parametrize(
    "made", [{}, {"noise": 0.6}, {"sizes": [16, 64], "widths": (64,)}, {"sizes": [32, 128, 512]}]
)
@pytest.mark.parametrize("passes", [["forward", "train"], ["forward"]])
def test_chapter_finds_all_that_it_asks_for(config, mnist, tmp_path, root, made, passes):
    """Each figure, table and number that the chapter quotes is there, and each number quoted."""
    style.use()
    import matplotlib.pyplot as plt

    clock = made_clock(**made, passes=passes)
    study = Study(small(config, "q7_complexity"), tmp_path)
    folder = study.folder / "timing"
    folder.mkdir(parents=True)
    clock.table.to_csv(folder / "attention.csv", index=False)
    clock.samples.to_csv(folder / "attention_samples.csv", index=False)
    (folder / "env.json").write_text(json.dumps(clock.facts))
    write_runs(study, lambda *_: 0.9)
    study.__dict__["mnist"] = mnist  # where cached_property keeps it
    write_steps(study.folder, run=study.run_folder(study.plan.base, 0).name)
    answer = q7_complexity.answer(study)
    for figure in answer.figures.values():
        assert clashes(figure) == []
    plt.close("all")
    names = ("q7_complexity", "q7_reduction")  # the first includes the second
    text = "".join((root / "report" / f"{name}.qmd").read_text("utf-8") for name in names)
    there = {"figures": {*answer.figures}, "tables": {*answer.tables, "claims"}}
    asked = re.findall(r"(figures|tables)/q7_complexity/(\w+)\.(?:svg|md)", text)
    assert {name for part, name in asked} >= {*answer.figures}
    for part, name in asked:
        assert name in there[part] or name == "experiments", name
    assert set(answer.numbers) == set(re.findall(r"var q7\.(\w+)", text))
    nested = answer.numbers.pop("reduction")
    assert set(nested) == set(re.findall(r"var q7\.reduction\.(\w+)", text))
    assert all(isinstance(one, str) and one for one in [*answer.numbers.values(), *nested.values()])
    words = answer.sentence + " ".join(claim.evidence + claim.finding for claim in answer.claims)
    assert "nan" not in words + " ".join(answer.numbers.values()) + answer.tables["crossovers"]
    assert {claim.verdict for claim in answer.claims} <= set(VERDICTS)


def test_smoke_and_full_are_configs_of_the_clock(root):
    for name in ("smoke", "full"):
        config = load([root / "config" / f"{part}.yaml" for part in ("default", name)])
        validate(copy.deepcopy(config), root / "workflow" / "schemas" / "config.schema.yaml")
        settings = read_settings(timing_settings(config))
        assert all("forward" in width["passes"] for width in settings["widths"])
