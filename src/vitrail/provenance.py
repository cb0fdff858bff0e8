"""What the report says about the study as a whole: counts, machine, versions, what is missing."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import pandas as pd

from vitrail.analysis import counted
from vitrail.config import STEMS
from vitrail.errors import run_command
from vitrail.files import read_json, write_json, write_text
from vitrail.questions.answer import markdown_table

BASE = "base"  # name of the base ViT in the run table
OPTIMIZERS = {
    "adamw": "AdamW",
    "sgd": "SGD with Nesterov momentum",
    "lion": "Lion",
    "muon": "Muon for the matrices of the blocks and AdamW for the rest",
}
TITLES = {
    "q1_patch_embedding": "Patch embedding",
    "q2_mlp": "MLP",
    "q3_self_attention": "Self-attention",
    "q4_multi_head": "Multi-head attention",
    "q5_block": "Transformer block",
    "q6_vit": "The whole ViT",
    "q7_complexity": "Complexity",
    "q8_transfer": "ViT-S and transfer",
}


def gather(folder: Path) -> tuple[dict[str, Any], dict[str, str]]:
    """(numbers, tables) of the study."""
    runs = pd.read_csv(folder / "runs.csv", keep_default_na=False)
    claims = pd.read_csv(folder / "claims.csv", keep_default_na=False)
    finished = runs[runs["status"] == "finished"]
    facts = read_json(folder / "runs" / finished["run_id"].iloc[0] / "env.json")
    seconds = pd.to_numeric(finished["seconds"]).sum()
    verdicts = claims["verdict"].value_counts()
    base = runs[runs["arm"] == BASE].iloc[0]
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
        "answers": answers_table(folder, claims),
        "claims": claims_table(claims),
        "runs": runs_table(runs),
        "minutes": minutes_table(finished),
        "missing": missing(runs),
    }
    return numbers, tables


def answers_table(folder: Path, claims: pd.DataFrame) -> str:
    """The opening list: each question, its answer, how its claims came out."""
    parts = []
    for stem in STEMS:
        short = stem.split("_")[0]
        answer = (folder / stem / "answer.md").read_text(encoding="utf-8").strip()
        counts = claims.loc[claims["question"] == stem, "verdict"].value_counts()
        chips = " ".join(
            f"[{counts[name]} {name}]{{.verdict .{name}}}"
            for name in ("supported", "refuted", "undecided")
            if name in counts
        )
        parts.append(
            f"**[{short.upper()}. {TITLES[stem]}](#sec-{short}).** {answer} {chips}".strip()
        )
    return "\n\n".join(parts)


def claims_table(claims: pd.DataFrame) -> str:
    """Every claim with its verdict."""
    printed = pd.DataFrame(
        {
            "Claim": [f"{row['sentence']} (`{row['id']}`)" for row in claims.to_dict("records")],
            "Verdict": [f"[{name}]{{.verdict .{name}}}" for name in claims["verdict"]],
            "Evidence": claims["evidence"],
        }
    )
    return markdown_table(
        printed, "Everything that this report asserts, with its verdict.", "claims", left=3
    )


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
            "Question": f"{stem.split('_')[0].upper()}. {TITLES[stem]}",
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
    numbers, tables = gather(folder)
    for name, text in tables.items():
        write_text(folder / "study" / "tables" / f"{name}.md", text.strip() + "\n")
    write_json(folder / "study" / "numbers.json", numbers)
    print(f"study: {numbers['finished']} of {numbers['runs']} runs finished")


if __name__ == "__main__":
    run_command(main)
