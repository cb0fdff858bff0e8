"""What the report says about the study as a whole: counts, machine, versions, what is missing."""

from __future__ import annotations

import argparse
from collections import Counter
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pandas as pd

from vitrail import opening, rule_graph, stages, style
from vitrail.analysis import counted
from vitrail.commit import commit, commit_words
from vitrail.errors import run_command
from vitrail.files import read_json, write_json, write_text
from vitrail.intact import SHOWN, checksums, intact, vouched
from vitrail.opening import chip
from vitrail.questions.answer import markdown_table
from vitrail.questions.sources import Sources, source_of

ALSO = ("snakemake", "mlflow", "pandas", "matplotlib", "seaborn")  # of this step itself
BASE = "base"  # name of the base ViT in the run table
OPTIMIZERS = {
    "adamw": "AdamW",
    "sgd": "SGD with Nesterov momentum",
    "lion": "Lion",
    "muon": "Muon for the matrices of the blocks and AdamW for the rest",
}


@dataclass(frozen=True)
class Gathered:
    """What the report says about the study: numbers, tables by name, data by name of the CSV."""

    numbers: dict[str, Any]
    tables: dict[str, str]
    data: dict[str, pd.DataFrame]
    sources: Sources


def gather(folder: Path) -> Gathered:
    """From ``results/<study>``."""
    runs = pd.read_csv(vouched(folder / "runs.csv"), keep_default_na=False)
    claims = pd.read_csv(vouched(folder / "claims.csv"), keep_default_na=False)
    finished = runs[runs["status"] == "finished"]
    environments = {
        run: read_json(intact(folder / "runs" / run, "env.json")) for run in finished["run_id"]
    }
    facts = environments[finished["run_id"].iloc[0]]
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
        "answered": commit(Path(__file__).parent),
        "commits": ", ".join(sorted({str(one["commit"]) for one in environments.values()})),
        "optimizer": OPTIMIZERS[base["optimizer"]],
        "pos_embed_std": f"{float(base['pos_embed_std']):g}",
        "data_route": facts["data"]["route"],
        **facts["versions"],
    }
    made, costs = made_with(environments, runs), stages.costs(folder, runs)
    tables = {
        "answers": opening.markdown(answers),
        "claims": claims_table(claims),
        "runs": runs_table(runs),
        "made": made_table(made),
        "costs": stages.markdown(costs),
        "missing": missing(runs),
    }
    data = {"study/answers": answers, "study/made": made, "study/costs": costs}
    sources = Sources.none()
    for name, write, frame, basis in (
        ("answers", opening.markdown, "study/answers", "the answers of the questions"),
        ("claims", claims_table, "claims", "the claims of the questions"),
        ("runs", runs_table, "runs", "all runs of the study"),
        ("made", made_table, "study/made", "`env.json` of every run"),
        ("costs", stages.markdown, "study/costs", "the logs of all steps, and the run folders"),
    ):
        sources.add_tables(tables[name], source_of(write, [frame], basis))
    return Gathered(numbers, tables, data, sources)


def made_with(environments: dict[str, dict[str, Any]], runs: pd.DataFrame) -> pd.DataFrame:
    """Where and with what the runs were made: columns what, value, runs.

    A row for each value that some run has, with the number of these runs.
    """
    told = {
        "Commit of the code": lambda one: commit_words(str(one["commit"])),
        "Hardware": lambda one: f"{one['hardware']}, {one['cores']} cores",
        "System": lambda one: one["platform"],
        "Threads of a run": lambda one: one["threads"],
        "Python": lambda one: one["versions"]["python"],
        "torch": lambda one: one["versions"]["torch"],
        "timm": lambda one: one["versions"]["timm"],
        "NumPy": lambda one: one["versions"]["numpy"],
        "MNIST came through": lambda one: one["data"]["route"],
    }
    rows: list[tuple[str, str, int | str]] = []
    for what, read in told.items():
        counts = Counter(str(read(one)) for one in environments.values())
        rows += [(what, value, count) for value, count in sorted(counts.items())]
    missing = len(runs) - len(environments)
    rows += [("Finished", "", len(environments)), ("Not run", "", missing)]
    versions = ", ".join(f"{name} {version(name)}" for name in ALSO)
    rows.append(("Tables, figures and record, by", versions, ""))
    return pd.DataFrame(rows, columns=["what", "value", "runs"])


def made_table(made: pd.DataFrame) -> str:
    """The same for print."""
    printed = made.rename(columns={"what": "", "value": "With", "runs": "Runs"})
    caption = "Where and with what the runs were made, and how many of them."
    return markdown_table(printed, caption, "provenance", left=2)


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
    parser.add_argument("--rules", type=Path, required=True, help="edges of the rule graph, CSV")
    arguments = parser.parse_args()
    folder = arguments.results / arguments.study
    found = gather(folder)
    for name, text in found.tables.items():
        write_text(folder / "study" / "tables" / f"{name}.md", text.strip() + "\n")
    for name, frame in found.data.items():
        write_text(folder / f"{name}.csv", frame.to_csv(index=False, lineterminator="\n"))
    style.use()
    style.save(
        rule_graph.draw(pd.read_csv(arguments.rules)), folder / "study" / "figures" / "rules.svg"
    )
    found.sources.figures["rules"] = source_of(
        rule_graph.draw, ["study/rules"], "`snakemake --rulegraph`"
    )
    write_json(folder / "study" / "numbers.json", found.numbers)
    sums = checksums(folder / "study", *SHOWN)
    write_json(folder / "study" / "sources.json", {**found.sources.content(""), "files": sums})
    numbers = found.numbers
    print(f"study: {numbers['finished']} of {numbers['runs']} runs finished")


if __name__ == "__main__":
    run_command(main)
