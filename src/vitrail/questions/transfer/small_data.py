"""Q8d: what makes a transformer work on few labels, for the report."""

from __future__ import annotations

import pandas as pd

from vitrail.analysis import counted
from vitrail.questions.answer import Answer
from vitrail.questions.experiments.figures import markdown
from vitrail.questions.study import Study
from vitrail.questions.transfer import budget_figures, budget_words
from vitrail.questions.transfer.budgets import by_method, shared_budgets
from vitrail.runs import Experiment
from vitrail.settings import steps_of

NOTHING = "<!-- no experiment over label budgets under this question -->\n"


def over_budgets(study: Study) -> Experiment | None:
    """The experiment that this part shows: the first of Q8 over label budgets."""
    return next((about for about in study.plan.of_question("q8_transfer") if about.methods), None)


def add(study: Study, result: Answer) -> str:
    """Add tables, figures and data of the small-data study; gives its sentence for the answer."""
    experiment = over_budgets(study)
    if experiment is None:
        result.tables["label_budgets"] = NOTHING
        return ""
    table = by_method(study, experiment)
    data, ids = "label_budgets", study.runs_of(experiment)
    result.data[data] = table
    result.draw("label_curves", budget_figures.curves, table, experiment, data=data, runs=ids)
    result.draw("label_gains", budget_figures.gains, table, data=data, runs=ids)
    result.tabulate(data, section, study, experiment, table, data=data, runs=ids)
    return budget_words.sentence(table, experiment)


def section(study: Study, experiment: Experiment, table: pd.DataFrame) -> str:
    """The part of the chapter: figures and tables with their captions."""
    reference = experiment.methods[experiment.reference]
    runs = (
        f"{counted(len(experiment.seeds), 'subset')} of the labels, each with its own start; "
        f"{study.hardware}"
    )
    shown = max(shared_budgets(table))
    return "\n\n".join(
        filter(
            None,
            [
                f"#### {experiment.title} {{#sec-q8_transfer-{experiment.name}}}",
                experiment.description.strip(),
                markdown(
                    "q8_transfer",
                    "label_curves",
                    "q8-label-curves",
                    "Test error against the number of labelled images, for the methods with the "
                    f"most budgets; mean and 95 % interval. {runs}.",
                    f"Curves of test error against labelled images, both axes logarithmic. "
                    f"{budget_words.seen_curves(table, budget_figures.drawn(table))}",
                ),
                budget_words.accuracy_markdown(
                    table,
                    f"Test accuracy (%) with its 95 % interval. {runs}. {seen_words(experiment)}",
                ),
                markdown(
                    "q8_transfer",
                    "label_gains",
                    "q8-label-gains",
                    f"Gain in test accuracy over {reference} with the same labels: mean and 95 % "
                    "interval, paired by subset; filled where the interval excludes zero. The axis "
                    f"is linear up to one point. {runs}.",
                    "A panel for each label budget, a row for each method: a point with an "
                    f"interval beside a line at zero. {budget_words.seen_gains(table)}",
                ),
                budget_words.gains_markdown(
                    table,
                    experiment.reference,
                    f"Gain over {reference} in points, with its 95 % interval, paired by subset; "
                    f"bold where that excludes zero. {runs}.",
                ),
                budget_words.cost_markdown(
                    table,
                    f"What a run with {shown:,} labels takes: parameters, million "
                    "multiply-accumulates of a forward pass, steps, seconds of training on one "
                    "core beside other jobs, and those of the pretraining, which all runs share.",
                ),
                budget_words.ideas_markdown(
                    table,
                    "The lab report's remedies for small data, each as the only change to "
                    f"{reference} but for the peak rates of what starts from a pretraining: gain "
                    "in points at each number of labels, and what follows.",
                ),
            ],
        )
    )


def in_short(result: Answer, experiment: Experiment) -> str:
    """The sentence of `add` for the opening page."""
    return budget_words.sentence(result.data["label_budgets"], experiment, brief=True)


def seen_words(experiment: Experiment) -> str:
    """How many images the reference sees at each label budget, in passes over the labels."""
    passes = []
    for member in experiment.members:
        own = member.arm.settings
        if member.method == experiment.reference:
            share = steps_of(own) * own["batch_size"] / own["label_budget"]
            passes.append(f"{own['label_budget']:,} labels {share:.2g}")
    name = experiment.methods[experiment.reference]
    return f"Times that {name} sees its images: {'; '.join(passes)}."
