"""Q5: the transformer block: pre-norm against post-norm, with and without warm-up."""

from __future__ import annotations

import pandas as pd

from vitrail.questions.answer import Answer
from vitrail.questions.block.arms import STEM, finished, pairs
from vitrail.questions.block.curves import draw_curves, training_curves
from vitrail.questions.block.lengths import draw_norms, growth_claims, token_norms
from vitrail.questions.experiments.common import (
    accuracies,
    add,
    decided,
    in_short,
    key_difference,
)
from vitrail.questions.study import Study


def answer(study: Study) -> Answer:
    """The drawing, the ablations, how they learn, and how large the tokens are after each block."""
    from vitrail import drawings

    norms, curves = token_norms(study), training_curves(study)
    result = Answer(
        sentence="",
        table=pd.DataFrame(),
        data={"token_norms": norms, "curves": curves},
    )
    runs = study.run_ids(finished(study))
    result.draw("block", drawings.block, runs="the definition of the two forms")
    result.draw("token_norms", draw_norms, norms, data="token_norms", runs=runs)
    result.draw("curves", draw_curves, curves, data="curves", runs=runs)
    add(study, result, STEM)
    findings = " ".join(
        f"{experiment.title}: {in_short(decided(study, experiment))}"
        for experiment in study.plan.of_question(STEM)
        if experiment.claims
    )
    result.claims += growth_claims(norms, pairs(study))
    result.sentence = (
        "A block is attention, then an MLP, each added to what it read. ViT normalises the input "
        "of each part (pre-norm); the equations of 2017 normalise the sum (post-norm). "
        + (findings or "No arm compares them here.")
    )
    compared = next(iter(study.plan.of_question(STEM)), None)
    result.short = (
        "Attention and then an MLP read the normalised tokens, and each adds what it finds to them "
        "(pre-norm); the block of 2017 normalises the sums (post-norm). "
        + (findings or (accuracies(study, compared) if compared else "No arm compares the two."))
    )
    result.key = key_difference(study, STEM)
    return result
