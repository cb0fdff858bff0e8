"""What the report says about the study as a whole: counts, machine, versions, what is missing."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import pandas as pd

from vitrail import opening
from vitrail.analysis import counted
from vitrail.config import STEMS
from vitrail.errors import run_command
from vitrail.files import read_json, write_json, write_text
from vitrail.opening import ASKED, chip
from vitrail.questions.answer import markdown_table

BASE = "base"  # name of the base ViT in the run table
OPTIMIZERS = {
    "adamw": "AdamW",
    "sgd": "SGD with Nesterov momentum",
    "lion": "Lion",
    "muon": "Muon for the matrices of the blocks and AdamW for the rest",
}


def gather(folder: Path) -> tuple[dict[str, Any], dict[str, str], pd.DataFrame]:
    """(numbers, tables, answers) of the study."""
    runs = pd.read_csv(folder / "runs.csv", keep_default_na=False)
    claims = pd.read_csv(folder / "claims.csv", keep_default_na=False)
    finished = runs[runs["status"] == "finished"]
    facts = read_json(folder / "runs" / finished["run_id"].iloc[0] / "env.json")
    seconds = pd.to_numeric(finished["seconds"]).sum()
    verdicts = claims["verdict"].value_counts()
    base = runs[runs["arm"] == BASE].iloc[0]
    answers = opening.answers(folder, claims, runs)
    numbers = {
        "name": folder.name,
        "runs": str(len(runs)),
        "finished": str(len(finished)),
        "not_run": str(len(runs) - len(finished)),
        "arms": str(runs["arm_id"].nunique()),
        "seeds": counted(runs["seed"].nunique(), "seed"),
        "minutes": f"{seconds / 60:.0f}",
        "claims": str(len(claims)),
        **{name: str(verdicts.get(name, 0)) for name in ("supported", "refuted", "undecided")},
        "hardware": facts["hardware"],
        "cores": str(facts["cores"]),
        "platform": facts["platform"],
        "commit": facts["commit"],
        "optimizer": OPTIMIZERS[base["optimizer"]],
        "pos_embed_std": f"{float(base['pos_embed_std']):g}",
        "data_route": facts["data"]["route"],
        **facts["versions"],
    }
    tables = {
        "answers": opening.markdown(answers),
        "claims": claims_table(claims),
        "runs": runs_table(runs),
        "minutes": minutes_table(finished),
        "missing": missing(runs),
    }
    return numbers, tables, answers


def claims_table(claims: pd.DataFrame) -> str:
    """Every claim with its verdict and the test behind it; a chapter's verdicts lead here."""
    printed = pd.DataFrame(
        {
            "Claim": [
                f"[{row['sentence']}]{{#claim-{row['id']}}} (`{row['id']}`)"
                for row in claims.to_dict("records")
            ],
            "Verdict": [chip(name, name) for name in claims["verdict"]],
            "Test": claims["test"],
            "Evidence": claims["evidence"],
        }
    )
    caption = "Everything that this report asserts, with its verdict and the test that decides it."
    return markdown_table(printed, caption, "claims", left=4, widths=(33, 13, 32, 22))


def runs_table(runs: pd.DataFrame) -> str:
    """One row per arm."""
    rows = []
    for arm, part in runs.groupby("arm_id", sort=False):
        accuracy = pd.to_numeric(part["test_accuracy"], errors="coerce")
        first = part.iloc[0]
        rows.append(
            {
                "Arm": f"{first['arm']} (`{arm}`)",
                "Question": str(first["question"]).split("_")[0].upper(),
                "Runs": int((part["status"] == "finished").sum()),
                "Trained for": spent(first),
                "Images": f"{int(given(first, 'label_budget') or first['train_size']):,}",
                "Test accuracy": f"{100 * accuracy.mean():.2f} %"
                if accuracy.notna().any()
                else "not run",
            }
        )
    return markdown_table(
        pd.DataFrame(rows),
        "All arms of the study; a run's id is its arm's id and its seed.",
        "runs",
    )


def given(row: pd.Series, name: str) -> Any:
    """A setting of a row of the run table; None where the arm has no such setting."""
    value = row.get(name)
    return None if value is None or pd.isna(value) or value == "" else value


def spent(row: pd.Series) -> str:
    """How long an arm was trained, as its settings say it."""
    steps = given(row, "steps")
    return f"{int(steps):,} steps" if steps else counted(float(row["epochs"]), "epoch")


def minutes_table(finished: pd.DataFrame) -> str:
    """Time of the trainings of each question, which an arm that several share counts once in."""
    seconds = pd.to_numeric(finished["seconds"])
    rows = [
        {
            "Question": f"{stem.split('_')[0].upper()}. {ASKED[stem].title}",
            "Runs": int(mine.sum()),
            "Core-minutes": f"{seconds[mine].sum() / 60:.1f}",
        }
        for stem in STEMS
        if (mine := finished["question"] == stem).any()
    ]
    caption = (
        "Core-minutes of training and evaluation, one thread each; a run that several questions "
        "use stands with the first. Starting processes, timing, tables, figures and the report "
        "come on top."
    )
    return markdown_table(pd.DataFrame(rows), caption, "core-minutes")


def missing(runs: pd.DataFrame) -> str:
    """What did not run, and why."""
    rest = runs[runs["status"] != "finished"]
    if rest.empty:
        return "Every planned run was run.\n"
    lines = []
    for reason, part in rest.groupby("reason", sort=False):
        names = ", ".join(f"`{name}`" for name in part["run_id"])
        lines.append(f"- {names}: {reason}")
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description="Gather the study's own numbers and tables.")
    parser.add_argument("--study", required=True)
    parser.add_argument("--results", type=Path, required=True)
    arguments = parser.parse_args()
    folder = arguments.results / arguments.study
    numbers, tables, answers = gather(folder)
    for name, text in tables.items():
        write_text(folder / "study" / "tables" / f"{name}.md", text.strip() + "\n")
    write_text(folder / "study" / "answers.csv", opening.as_csv(answers))
    write_json(folder / "study" / "numbers.json", numbers)
    print(f"study: {numbers['finished']} of {numbers['runs']} runs finished")


if __name__ == "__main__":
    run_command(main)
