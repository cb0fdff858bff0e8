"""What every experiment gets without a line of Python: table, figure, numbers, claims."""

from __future__ import annotations

import math
from typing import Any

import pandas as pd

from vitrail.analysis import Estimate, count, counted, estimate, paired_difference, percent, points
from vitrail.claims import Claim, higher_accuracy
from vitrail.errors import VitrailError
from vitrail.questions.answer import Answer, Key, markdown_table
from vitrail.questions.experiments import figures
from vitrail.questions.study import Study
from vitrail.runs import Experiment
from vitrail.settings import Settings, labels_of

# Questions with lettered parts (6a, 6b, ...): their experiments stand inside of one.
LETTERED = ("q6_vit", "q8_transfer")


def accuracy(study: Study, experiment: Experiment, arm: str) -> Estimate:
    """Mean test accuracy of an arm over its finished seeds."""
    return estimate(list(study.accuracy_by_seed(experiment, arm).values()))


def difference(study: Study, experiment: Experiment, first: str, second: str) -> Estimate:
    """Test accuracy of `first` minus that of `second`, paired by seed."""
    return paired_difference(
        study.accuracy_by_seed(experiment, first), study.accuracy_by_seed(experiment, second)
    )


def key_difference(study: Study, stem: str) -> Key:
    """The difference that the first claim of the question's experiments is about.

    Claims of arms that could not run are passed over while there is another one.
    """
    asked = [
        (about, str(claim["better"]), str(claim["worse"]))
        for about in study.plan.of_question(stem)
        for claim in about.claims
    ]
    # Without a claim, what differs from the reference first.
    asked += [
        (about, about.reference, member.name)
        for about in study.plan.of_question(stem)
        for member in about.members
        if not about.methods and member.name != about.reference
    ]
    compared = [(difference(study, *each), *each) for each in asked]
    if not compared:
        return Key("", "")
    gap, about, better, worse = next((each for each in compared if each[0].n), compared[0])
    labels = (about.member(better).label, about.member(worse).label)
    return Key(points(gap), f"points of test accuracy, {labels[0]} minus {labels[1]}")


def accuracies(study: Study, experiment: Experiment) -> str:
    """The accuracy of each arm, in a sentence."""
    said = [
        f"{member.label} {percent(accuracy(study, experiment, member.name))}"
        for member in experiment.members
    ]
    return f"Measured test accuracy: {'; '.join(said)}."


def summarise(study: Study, experiment: Experiment) -> pd.DataFrame:
    """One row per arm: accuracy with interval, error count, cost, difference to reference."""
    runs = study.runs(experiment)
    rows = []
    for member in experiment.members:
        mine = runs[(runs["arm"] == member.name) & (runs["status"] == "finished")]
        value = estimate(mine["test_accuracy"].tolist()) if len(mine) else estimate([])
        reference = experiment.reference_of(member).name
        gap = difference(study, experiment, member.name, reference)
        rows.append(
            {
                "experiment": experiment.name,
                "arm": member.name,
                "label": member.label,
                "model": member.arm.settings["model"],
                "reference": reference,
                "seeds": value.n,
                "status": "finished" if value.n else "not run",
                "test_accuracy": value.mean,
                "test_accuracy_half_width": value.half_width,
                "difference": gap.mean,
                "difference_half_width": gap.half_width,
                "test_errors": mean_of(mine, "test_errors"),
                "val_accuracy": mean_of(mine, "val_accuracy"),
                "parameters": mean_of(mine, "parameters"),
                "macs": mean_of(mine, "macs"),
                "samples": mean_of(mine, "samples"),
                "train_samples_per_second": mean_of(mine, "train_samples_per_second"),
                "run_ids": " ".join(mine["run_id"]),
            }
        )
    return pd.DataFrame(rows)


def seeds_of(study: Study, experiment: Experiment) -> pd.DataFrame:
    """The curve of each finished run; its last row has the test accuracy as well."""
    curves = study.histories(experiment)
    if curves.empty:
        return curves
    shown = curves[["arm", "label", "seed", "samples", "val_accuracy"]]
    runs = study.runs(experiment)[["arm", "seed", "run_id", "test_accuracy"]]
    found = shown.merge(runs, on=["arm", "seed"], how="left")
    last = ~found.duplicated(["arm", "seed"], keep="last")
    return found.assign(test_accuracy=found["test_accuracy"].where(last))


def mean_of(frame: pd.DataFrame, column: str) -> float:
    """Mean of a column; NaN where no run has it."""
    return float(frame[column].mean()) if len(frame) and column in frame else math.nan


def number(value: float, scale: float = 1, form: str = ",.0f") -> str:
    """A figure for print, or "not run"."""
    return "not run" if math.isnan(value) else format(value / scale, form)


def numbers(study: Study, experiment: Experiment, table: pd.DataFrame) -> dict[str, Any]:
    """The strings that prose may quote, by arm."""
    quoted: dict[str, Any] = {"n": str(len(experiment.seeds))}
    for row in table.to_dict("records"):
        name = row["arm"]
        gap = Estimate(row["difference"], row["difference_half_width"], row["seeds"])
        quoted[name.replace(".", "_")] = {
            "label": row["label"],
            "accuracy": accuracy_words(row),
            "errors": number(row["test_errors"]),
            "difference": points(gap),
            "parameters": number(row["parameters"]),
            "macs": number(row["macs"], 1e6, ",.2f"),
            "images_per_second": number(row["train_samples_per_second"]),
        }
    return quoted


def accuracy_words(row: dict[Any, Any]) -> str:
    """The accuracy of a row of `summarise`, for print."""
    value = Estimate(row["test_accuracy"], row["test_accuracy_half_width"], row["seeds"])
    return percent(value)


def decided(study: Study, experiment: Experiment) -> list[Claim]:
    """The claims of the config about this experiment, with their verdicts."""
    prefix = experiment.question.split("_")[0]
    return [
        higher_accuracy(
            f"{prefix}-{claim['id']}",
            claim["sentence"],
            experiment.member(str(claim["better"])).label,
            experiment.member(str(claim["worse"])).label,
            difference(study, experiment, str(claim["better"]), str(claim["worse"])),
            claim.get("by", 0),
        )
        for claim in experiment.claims
    ]


def budget(experiment: Experiment, study: Study) -> str:
    """n, budget and hardware, for captions."""
    asked = dict.fromkeys(spent_words(member.arm.settings) for member in experiment.members)
    seeds = len(experiment.seeds)
    spent = " or ".join(asked)
    return f"{counted(seeds, 'seed')} per arm, {spent}; {study.hardware}"


def spent_words(settings: Settings) -> str:
    """How long an arm is trained on how many images."""
    images = f"{labels_of(settings):,}"
    if settings.get("steps"):
        return f"{settings['steps']:,} steps of {settings['batch_size']} out of {images} images"
    return f"{counted(settings['epochs'], 'epoch')} of {images} images"


def table_markdown(study: Study, experiment: Experiment, table: pd.DataFrame) -> str:
    """The table that the report prints."""
    printed = pd.DataFrame(
        {
            "Arm": [_row_label(row, experiment) for row in table.to_dict("records")],
            "Accuracy (%)": [
                accuracy_words(row).replace(" %", "") for row in table.to_dict("records")
            ],
            "Difference": [
                "reference"
                if row["arm"] == row["reference"] and row["seeds"]
                else points(Estimate(row["difference"], row["difference_half_width"], row["seeds"]))
                for row in table.to_dict("records")
            ],
            "Errors": [number(value) for value in table["test_errors"]],
            "Params (k)": [number(value, 1e3) for value in table["parameters"]],
            "MMACs": [number(value, 1e6, ",.2f") for value in table["macs"]],
            "Images/s": [number(value) for value in table["train_samples_per_second"]],
        }
    )
    caption = (
        f"{experiment.title}: test accuracy with its 95 % interval, difference to the reference in "
        "points paired by seed, mean errors of 10,000, thousands of parameters, million "
        "multiply-accumulates of a forward pass, and images per second in training. "
        f"{budget(experiment, study)}."
    )
    return markdown_table(printed, caption, f"{experiment.question}-{experiment.name}")


def _row_label(row: dict[Any, Any], experiment: Experiment) -> str:
    return f"{row['label']} [not run]{{.verdict .notrun}}" if not row["seeds"] else row["label"]


def add(
    study: Study,
    answer: Answer,
    stem: str,
    reserved: tuple[str, ...] = (),
    elsewhere: tuple[str, ...] = (),
) -> dict[str, pd.DataFrame]:
    """Add all experiments of a question to its answer; gives the table of each.

    To be called when the question's own figures, tables and numbers are in place;
    `reserved` names those that come later. Experiments named in `elsewhere` have numbers
    and claims, but no section here: another part of the chapter shows them.

    Raises:
        VitrailError: when an experiment has the name of one of those.
    """
    sections, tables = [], {}
    own = (*answer.figures, *answer.tables, *answer.numbers, *answer.data)
    taken = {*own, *reserved, "claims", "experiments", "table", "runs"}
    for experiment in study.plan.of_question(stem):
        if experiment.name in taken:
            raise VitrailError(
                f"config: questions.{stem}.experiments.{experiment.name}: this question has a "
                "figure, table or number of that name already; choose another name"
            )
        table = tables[experiment.name] = summarise(study, experiment)
        answer.numbers[experiment.name] = numbers(study, experiment, table)
        claims = decided(study, experiment)
        answer.claims += claims
        if experiment.name in elsewhere:
            continue
        name, seeds, runs = experiment.name, f"{experiment.name}-seeds", study.runs_of(experiment)
        answer.data |= {name: table, seeds: seeds_of(study, experiment)}
        about = (study, experiment, table)
        answer.tabulate(name, table_markdown, *about, data=name, runs=runs)
        answer.draw(name, figures.draw, *about, data=(name, seeds), runs=runs)
        parts = [
            _heading(experiment),
            experiment.description.strip(),
            findings_markdown(claims),
            answer.tables[name].strip(),
            _figure_markdown(study, experiment, table),
        ]
        sections.append("\n\n".join(filter(None, parts)))
    answer.tables["experiments"] = (
        "\n\n".join(sections) or "<!-- no experiment under this question -->"
    )
    if tables:
        answer.table = pd.concat(tables.values(), ignore_index=True)
    return tables


def _heading(experiment: Experiment) -> str:
    level = "####" if experiment.question in LETTERED else "###"
    return f"{level} {experiment.title} {{#sec-{experiment.question}-{experiment.name}}}"


def _figure_markdown(study: Study, experiment: Experiment, table: pd.DataFrame) -> str:
    """The figure of an experiment with its caption, which says how to read it."""
    caption, alternative = figures.words(experiment, table)
    return figures.markdown(
        experiment.question,
        experiment.name,
        f"{experiment.question}-{experiment.name}",
        f"{experiment.title}. {caption} {budget(experiment, study)}.",
        alternative,
    )


def findings_markdown(claims: list[Claim]) -> str:
    """What came out, in sentences that the runs chose."""
    return f"**Found.** {' '.join(claim.finding for claim in claims)}" if claims else ""


def in_short(claims: list[Claim]) -> str:
    """The findings of the decided claims, and how many are left; for an answer."""
    clear = [claim.finding for claim in claims if claim.verdict != "undecided"]
    left = len(claims) - len(clear)
    if left:
        whole = f"{left} of {counted(len(claims), 'comparison')}"
        clear.append(f"{whole} {'stays' if left == 1 else 'stay'} undecided.")
    return " ".join(clear)


def error_count(value: float) -> str:
    """Errors of 10,000 for print."""
    return "not run" if math.isnan(value) else count(value)
