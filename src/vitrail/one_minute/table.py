"""The runs as a table, on the terminal and in the README, between its two marks."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

from vitrail.analysis import counted, estimate
from vitrail.commit import commit_words
from vitrail.errors import VitrailError
from vitrail.one_minute.recipes import RECIPES

RUNS = Path("results/one_minute/runs.json")
SECONDS, SEEDS, PROCESSES = 60.0, (0, 1, 2, 3, 4), 2  # of the runs that the README shows
BEGIN, END = "<!-- minute: begin -->", "<!-- minute: end -->"
HEAD = (
    "| | Parameters | {read} accuracy (%) | Errors, seed by seed | Images/s | CPU-seconds |\n"
    "|:--|--:|--:|:--|--:|--:|"
)
ROW = "| {label} | {parameters} | **{accuracy}** | {errors} | {speed} | {cpu} |"
FACTS = (
    "{seeds} each, mean and 95 % interval; {images} training images, {length}, {processes} of "
    "one thread. {read_of} Measured on {hardware} ({cores}), torch {torch}, at commit "
    "{commit}. Written by `make minute`."
)
READS = {
    "test": "The test set is read once, after the last step.",
    "validation": "Read on the last 5,000 training images, which are not trained on.",
}

# What a run has to hold, and of which kind.
KINDS: dict[str, type | tuple[type, ...]] = {
    **dict.fromkeys(("model", "read"), str),
    **dict.fromkeys(("seed", "images", "training_images", "parameters", "errors"), int),
    **dict.fromkeys(("seconds", "cpu_seconds", "accuracy"), (int, float)),
}


def recorded(content: Any) -> list[dict[str, Any]] | None:
    """The runs in the content of a record, as `table` reads them; None where it is no record.

    A record holds each network and seed once.
    """
    rows = content.get("runs") if isinstance(content, dict) else None
    if not isinstance(rows, list) or not all(map(_is_run, rows)):
        return None
    return rows if len({(row["model"], row["seed"]) for row in rows}) == len(rows) else None


def _is_run(row: Any) -> bool:
    if not isinstance(row, dict):
        return False
    if not all(isinstance(row.get(name), kinds) for name, kinds in KINDS.items()):
        return False
    return row["model"] in RECIPES and row["read"] in READS and row["seconds"] > 0


def table(found: dict[str, Any]) -> str:
    """The Markdown table of the runs, one row per network, and the line below it.

    The last column is the CPU time that a run had, of what was there: a run that had less was
    disturbed by other programs.
    """
    rows, one, steps = [], found["runs"][0], found["steps"]
    of = "" if steps else f" of {found['processes'] * found['seconds']:.0f}"
    models = list(dict.fromkeys(run["model"] for run in found["runs"]))
    for name in models:
        mine = [run for run in found["runs"] if run["model"] == name]
        runs = sorted(mine, key=lambda run: run["seed"])
        speed = sum(run["images"] for run in runs) / sum(run["seconds"] for run in runs)
        accuracy = estimate([100 * run["accuracy"] for run in runs])
        spread = f" ± {accuracy.half_width:.2f}" if accuracy.n > 1 else ""
        cpu = [run["cpu_seconds"] for run in runs]
        rows.append(
            ROW.format(
                label=RECIPES[name].label,
                parameters=f"{runs[0]['parameters']:,}",
                accuracy=f"{accuracy.mean:.2f}{spread}",
                errors=", ".join(str(run["errors"]) for run in runs),
                speed=f"{speed:,.0f}",
                cpu=f"{min(cpu):.0f} to {max(cpu):.0f}{of}",
            )
        )
    facts = FACTS.format(
        seeds=counted(len({run["seed"] for run in found["runs"]}), "seed"),
        images=f"{one['training_images']:,}",
        length=counted(steps, "step") if steps else counted(found["seconds"], "second"),
        processes={1: "one process", 2: "two processes"}[found["processes"]],
        read_of=READS[one["read"]],
        hardware=found["hardware"],
        cores=counted(found["cores"], "core"),
        torch=found["torch"],
        commit=commit_words(found["commit"]),
    )
    head = HEAD.format(read=one["read"].capitalize())
    return "\n".join([head, *rows, "", facts])


def block(found: dict[str, Any]) -> str:
    """What stands between the two marks of the README, with them.

    Raises:
        VitrailError: the runs are not those that the README tells of.
    """
    if found["steps"] or any(run["read"] != "test" for run in found["runs"]):
        raise VitrailError(
            f"{RUNS} holds runs by --steps or --validation, and the README shows runs against the "
            "clock that were read on the test set; run `make minute` without these options first"
        )
    there = sorted((run["model"], run["seed"]) for run in found["runs"])
    asked = sorted((name, seed) for name in RECIPES for seed in SEEDS)
    if there != asked or (found["seconds"], found["processes"]) != (SECONDS, PROCESSES):
        raise VitrailError(
            f"the README shows {len(RECIPES)} networks with seeds {SEEDS[0]} to {SEEDS[-1]}, "
            f"{SECONDS:g} seconds and {PROCESSES} processes, and these runs are others; run "
            "`make minute` without options"
        )
    if late := [run for run in found["runs"] if run["seconds"] > SECONDS]:
        raise VitrailError(
            f"{len(late)} of the runs took more than {SECONDS:g} seconds; run `make minute` again"
        )
    if any(found["recipes"][name] != asdict(RECIPES[name]) for name in RECIPES):
        raise VitrailError(
            f"{RUNS} was made with other recipes than those of vitrail.one_minute.recipes; run "
            "`make minute` without --set first"
        )
    return f"{BEGIN}\n{table(found)}\n{END}"
