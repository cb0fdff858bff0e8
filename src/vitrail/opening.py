"""The opening page: each question with its answer, its key number and how its claims came out."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from vitrail.config import STEMS
from vitrail.errors import VitrailError
from vitrail.files import read_json

if TYPE_CHECKING:
    import pandas as pd

VERDICTS = ("supported", "refuted", "undecided")


class Asked(NamedTuple):
    """A question of the report: the title of its chapter, and the question in a sentence."""

    title: str
    question: str


# The chapters open with the same words (tests/test_opening.py).
ASKED = {
    "q1_patch_embedding": Asked(
        "Patch embedding", "How does an image become a sequence that a transformer can read?"
    ),
    "q2_mlp": Asked(
        "The MLP and GELU", "What does the MLP of a transformer block compute, and why with GELU?"
    ),
    "q3_self_attention": Asked(
        "Self-attention",
        "What sets self-attention apart from a convolution, what does it cost, and how is it "
        "written for one head?",
    ),
    "q4_multi_head": Asked(
        "Multi-head self-attention",
        "How do several heads read the same tokens, and what does their number change?",
    ),
    "q5_block": Asked(
        "The transformer block",
        "How do attention, MLP, normalisation and residual paths make a block?",
    ),
    "q6_vit": Asked(
        "The whole Vision Transformer",
        "What completes the model, how well does it read digits, and which of its choices matter?",
    ),
    "q7_complexity": Asked(
        "Complexity",
        "How does the cost of a transformer grow with the number of tokens, and how can it be "
        "lowered?",
    ),
    "q8_transfer": Asked(
        "ViT-S, and learning from other images",
        "What happens when timm's ViT-S meets MNIST, how is it adapted, what does pretraining "
        "give, and what makes transformers work on small data?",
    ),
}


def answers(folder: Path, claims: pd.DataFrame, runs: pd.DataFrame) -> pd.DataFrame:
    """One row per question.

    Args:
        folder: ``results/<study>``, with ``<stem>/opening.json``.
        claims: ``claims.csv``.
        runs: ``runs.csv``; a run that several questions share counts where it has its home.

    Returns:
        Columns stem, question (Q1), title, asks, answer (Markdown), key, key_name, the three
        verdicts as counts of claims, and not_run as a count of runs.

    Raises:
        VitrailError: a question says nothing for the opening page.
    """
    import pandas as pd  # Snakemake reads the titles above without it

    rows = []
    for stem in STEMS:
        said = read_json(folder / stem / "opening.json")
        if not said["answer"]:
            raise VitrailError(f"{folder / stem / 'opening.json'} has no answer in short")
        verdicts = claims.loc[claims["question"] == stem, "verdict"].value_counts()
        missing = (runs["question"] == stem) & (runs["status"] != "finished")
        rows.append(
            {
                "stem": stem,
                "question": stem.split("_")[0].upper(),
                "title": ASKED[stem].title,
                "asks": ASKED[stem].question,
                **said,
                **{name: int(verdicts.get(name, 0)) for name in VERDICTS},
                "not_run": int(missing.sum()),
            }
        )
    return pd.DataFrame(rows)


# A bar that is not escaped yet would end the cell.
BAR, BACKSLASH_BAR = r"(?<!\\)\|", r"\\|"


def markdown(table: pd.DataFrame) -> str:
    """The opening table of the report."""
    lines = ["| Question | Answer | Key number | Claims |", "|:---|:---|:---|:---|"]
    for row in table.to_dict("records"):
        section = f"#sec-{row['question'].lower()}"
        key = f"**{row['key']}** {row['key_name']}" if row["key"] else "–"
        cells = [
            f"[**{row['question']}. {row['title']}**]({section}) *{row['asks']}*",
            row["answer"],
            key,
            " ".join(chips(row)),
        ]
        lines.append(f"| {' | '.join(re.sub(BAR, BACKSLASH_BAR, cell) for cell in cells)} |")
    caption = (
        "The eight questions. Key numbers stand with their 95 % interval where one can be had; "
        "the last column counts the claims of a question by what the runs said, and the runs that "
        "could not be made."
    )
    widths = '{#tbl-answers tbl-colwidths="[20,46,18,16]"}'
    return "\n".join(["::: {.answers}", *lines, "", f": {caption} {widths}", ":::"])


def chips(row: dict[Any, Any]) -> list[str]:
    """How many claims of a question have each verdict, and how many runs are missing."""
    counts = [chip(name, f"{row[name]} {name}") for name in VERDICTS if row[name]]
    if row["not_run"]:
        runs = "run" if row["not_run"] == 1 else "runs"
        counts.append(chip("notrun", f"{row['not_run']} {runs} not made"))
    return counts


def chip(kind: str, text: str) -> str:
    """A verdict chip: supported, refuted, undecided or notrun."""
    return f"[{text}]{{.verdict .{kind}}}"
