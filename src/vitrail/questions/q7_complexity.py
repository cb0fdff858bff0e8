"""Q7: time and memory against the number of tokens, and every way to lower them."""

from __future__ import annotations

import inspect
import math
from typing import Any

import pandas as pd

from vitrail.efficiency import crossover, local_slope, quadratic_share, token_count, vit_macs
from vitrail.files import read_json
from vitrail.questions.answer import Answer, Key
from vitrail.questions.complexity import figures, kinds, law, reduction
from vitrail.questions.complexity.claims import claims, slopes
from vitrail.questions.complexity.clock import Clock, near_reference
from vitrail.questions.complexity.costs import cost_frame, costs_markdown
from vitrail.questions.complexity.tables import crossovers_markdown, exponents_markdown
from vitrail.questions.complexity.ways import ways_frame
from vitrail.questions.complexity.ways_claims import ways_claims
from vitrail.questions.complexity.ways_figure import draw_gains
from vitrail.questions.complexity.ways_tables import (
    inference_markdown,
    step_markdown,
    training_markdown,
)
from vitrail.questions.experiments.common import add
from vitrail.questions.explore import reduction as reduction_view
from vitrail.questions.sources import Basis
from vitrail.questions.study import Study
from vitrail.scaling import Slope
from vitrail.settings import IMAGE_SIZE

TIMED = "the clock of `vitrail.timing`"


def answer(study: Study) -> Answer:
    """The cost of every part, the clock beside the formula, and fused beside written out."""
    clock = Clock.read(study.folder / "timing")
    steps, crossings = law.exponents(clock), law.crossovers(clock)
    costs, memory = cost_frame(study), law.memory_exponents(clock)
    result = Answer(sentence="", table=clock.table)
    result.data |= {"exponents": steps, "crossovers": crossings, "costs": costs}
    result.data["kinds"] = kinds.frame(clock)
    _add_law(result, clock)
    _add_law_numbers(result, study.plan.arms[study.plan.base].settings, costs)
    _add_clock_numbers(result, clock, steps, memory)
    _add_kinds_numbers(result, clock, int(result.numbers["tokens"]))
    result.claims += claims(steps, crossings, memory) + kinds.claims(clock)
    _add_ways(study, result)
    _add_reduction(study, result)
    add(study, result, "q7_complexity", elsewhere=("reduced",))
    result.table = clock.table
    result.sentence = _sentence(result, crossings, steps)
    longest = slopes(steps, clock.widths[0], "attention", "naive")[-1]
    result.short, result.key = _opening(result, longest)
    return result


def _add_law(result: Answer, clock: Clock) -> None:
    """Figures and tables of the formula and of the clock; no run is behind them."""
    steps, crossings, costs = (result.data[name] for name in ("exponents", "crossovers", "costs"))
    result.draw("time", figures.draw_time, clock, data="table", runs=TIMED)
    result.draw("exponents", figures.draw_exponents, clock, steps, data="exponents", runs=TIMED)
    result.draw("shares", figures.draw_shares, clock, data="table", runs=TIMED)
    result.draw("memory", figures.draw_memory, clock, data="table", runs=TIMED)
    result.draw("model", figures.draw_model, clock, _sizes(clock), data="table", runs=TIMED)
    result.draw("kinds", kinds.draw_kinds, clock, data="table", runs=TIMED)
    result.tabulate("costs", costs_markdown, costs, data="costs", runs="formulas")
    machine = clock.hardware
    result.tabulate("exponents", exponents_markdown, steps, machine, data="exponents", runs=TIMED)
    result.tabulate("crossovers", crossovers_markdown, crossings, data="crossovers", runs=TIMED)
    result.tabulate("kinds", kinds.kinds_markdown, clock, data="kinds", runs=TIMED)


def _add_ways(study: Study, result: Answer) -> None:
    """The ways to lower the cost, in one frame and three printed tables."""
    ways = result.data["ways"] = ways_frame(study)
    execution, reduced = (
        read_json(study.folder / step / "env.json") for step in ("execution", "reduction")
    )
    goal = study.config["questions"]["q7_complexity"]["goal_accuracy"]
    computed, trained = [reduced["run"]], _trained(study)
    runs: Basis = computed if isinstance(trained, str) else [*computed, *trained]
    result.draw("gains", draw_gains, ways, data="ways", runs=runs)
    both, alone = (ways, execution, reduced), (ways, execution)
    result.tabulate("ways_inference", inference_markdown, *both, data="ways", runs=computed)
    result.tabulate("ways_step", step_markdown, *alone, data="ways", runs=computed)
    about = (ways, goal, len(study.plan.seeds), study.hardware)
    result.tabulate("ways_training", training_markdown, *about, data="ways", runs=trained)
    result.numbers["goal"] = f"{100 * goal:g} %"
    result.claims += ways_claims(study, ways)


def _add_reduction(study: Study, result: Answer) -> None:
    """Fewer tokens in a trained network: table, curves, pictures, claims."""
    table, facts = reduction.read(study.folder), reduction.facts(study.folder)
    result.data["reduction"] = table
    one, runs, pictures = "reduction", [facts["run"]], reduction.tokens_drawn(study.folder)
    result.tabulate(one, reduction.table_markdown, table, facts, data=one, runs=runs)
    result.draw(one, reduction.draw_curves, table, data=one, runs=runs)
    drawing = reduction.draw_pictures
    result.draw("reduction_pictures", drawing, study.folder, data=pictures, runs=runs)
    result.explore["reduction"] = reduction_view.reduction(study)
    result.numbers["reduction"] = reduction.numbers(table, facts)
    result.claims += reduction.claims(table, reduction.read_right(study.folder))


def _trained(study: Study) -> Basis:
    """The trainings that the ways to train are compared by."""
    experiments = study.plan.of_question("q7_complexity")
    arms = [m.arm.arm_id for one in experiments if len(one.members) > 1 for m in one.members]
    return study.run_ids(arms)


def _sizes(clock: Clock) -> dict[str, Any]:
    """Arguments of `vit_macs` for the timed model, without the patch size."""
    model = clock.facts["settings"]["model"]
    return {key: model[key] for key in inspect.signature(vit_macs).parameters if key in model}


def _add_law_numbers(result: Answer, settings: dict[str, Any], costs: pd.DataFrame) -> None:
    """What the formula says of the base ViT."""
    width, ratio = settings["embed_dim"], settings["mlp_ratio"]
    n = token_count(IMAGE_SIZE, settings["patch_size"], class_token=settings["class_token"])
    base = costs[(costs["network"] == "base ViT") & (costs["part"] == "total")].iloc[0]
    result.numbers |= {
        "tokens": str(n),
        "width": str(width),
        "mlp_ratio": f"{ratio:g}",
        "share": f"{100 * quadratic_share(n, width, ratio):.0f} %",
        "slope_at_base": f"{local_slope(n, width, ratio):.2f}",
        "crossover": f"{crossover(width, ratio):,.0f}",
        "base_macs": f"{base['macs']:,}",
        "training_factor": f"{base['training_macs'] / base['macs']:.2f}",
    }


def _add_clock_numbers(
    result: Answer, clock: Clock, steps: pd.DataFrame, memory: dict[str, float]
) -> None:
    """What was measured, as prose quotes it; memory and ratios are those of the first width."""
    width = clock.widths[0]
    ratios, products = (law.fused_over_naive(clock, what) for what in ("attention", "products"))
    longest, middle = max(ratios), near_reference(sorted(ratios))
    peaks = {
        name: clock.rows("attention", name, width).set_index("n")["peak_mib"][longest]
        for name in ("naive", "fused")
    }

    result.numbers |= {
        "block_words": law.inside_words(steps, "block", "fused", "a block"),
        "naive_words": law.inside_words(steps, "attention", "naive", "attention written out"),
        "timed_width": str(width),
        "longest": f"{longest:,}",
        "fused_speedup": f"{ratios[longest]:.1f}",
        "naive_memory": f"{peaks['naive']:,.1f}",
        "fused_memory": f"{peaks['fused']:,.1f}",
        "naive_memory_exponent": f"{memory['naive']:.2f}",
        "fused_memory_exponent": f"{memory['fused']:.2f}",
        "reference": f"{middle:,}",
        "speedup_at_reference": f"{ratios[middle]:.2f}",
        "products_speedup": f"{products[middle]:.2f}",
        "weights_mib": f"{clock.heads(width) * middle**2 * 4 / 2**20:,.0f}",
        "tokens_per_call": f"{clock.facts['settings']['tokens_per_call']:,}",
        "hardware": clock.hardware,
    }


def _add_kinds_numbers(result: Answer, clock: Clock, tokens: int) -> None:
    """Other attention beside the fused kernel, near so many tokens and at the longest length."""
    found, macs = kinds.crossings(clock), kinds.predicted(clock)
    linear, window = (found[kind, "fused"].ratios for kind in ("linear", "window"))
    near, longest = kinds.lengths_beside(clock, tokens)
    result.numbers |= {
        "kinds_near": f"{near:,}",
        "kinds_longest": f"{longest:,}",
        "linear_crossover": f"{macs['linear']:g}",
        "linear_time": kinds.times(linear, near, slower=True),
        "linear_speedup": kinds.times(linear, longest),
        "window_size": str(clock.window_size),
        "window_tokens": f"{macs['window']:g}",
        "window_time": kinds.times(window, near, slower=True),
        "window_speedup": kinds.times(window, longest),
    }


def _opening(result: Answer, step: Slope) -> tuple[str, Key]:
    """What the opening page says; `step` is that of attention written out."""
    numbers = result.numbers
    short = (
        "A block's work grows with the number of tokens n up to about n = (2 + r) d, with d the "
        f"width and r the MLP ratio: {numbers['crossover']} for the base ViT, which has "
        f"{numbers['tokens']}. Beyond, it grows with n². Fewer tokens and other attention lower "
        f"it; the fused kernel does the same work {numbers['fused_speedup']} times as fast at "
        f"{numbers['longest']} tokens."
    )
    interval = "" if math.isnan(step.low) else f" ({step.low:.2f} to {step.high:.2f})"
    return short, Key(
        f"{step.slope:.2f}{interval}".replace("-", "\N{MINUS SIGN}"),
        "exponent of n in the time of attention, written out, between "
        f"{step.n_from:,} and {step.n_to:,} tokens",
    )


def _sentence(result: Answer, crossings: pd.DataFrame, steps: pd.DataFrame) -> str:
    """The answer in four sentences, numbers first."""
    numbers = result.numbers
    found = [
        f"{row['fused']:,.0f} at width {row['embed_dim']:.0f} (formula {row['predicted']:,.0f})"
        for row in crossings.to_dict("records")
        if not math.isnan(row["fused"])
    ]
    by_clock = f" By the clock the two parts are equal at {' and '.join(found)}." if found else ""
    right, sharp = law.inside(steps, "block", "fused")
    exponents = (
        " No exponent was measured narrowly enough to judge the formula."
        if not sharp
        else f" The formula's exponent between neighbouring lengths lies in the measured interval "
        f"{right} of {sharp} times, where that is narrow enough to tell."
    )
    return (
        "One block costs (4 + 2r) n d² + 2 n² d multiply-accumulates: linear in the number of "
        "tokens n up to about n = (2 + r) d, quadratic beyond. For the base ViT that is "
        f"{numbers['crossover']} tokens; at its {numbers['tokens']} the quadratic part is "
        f"{numbers['share']} of a block's work.{by_clock}{exponents} The fused kernel leaves the "
        "work as it is and is "
        f"{numbers['fused_speedup']} times as fast at "
        f"{numbers['longest']} tokens, with {numbers['fused_memory']} MiB where the written-out "
        f"form needs {numbers['naive_memory']}."
    )
