"""Print what a study came to as hashes, and name what differs from another run of it.

    python -m vitrail.hashes --study smoke
    python -m vitrail.hashes --study smoke --against ../other/results

Two columns: of what is computed, which every run of the same commit on the same machine
repeats to the last bit, and of the whole files, with what a clock or a meter has measured in
them (`vitrail.measured`). The report quotes measured times, so that only the whole can be told
of it; it is a function of what lies beside it, and repeats when that is the same.
"""

from __future__ import annotations

import argparse
import hashlib
from pathlib import Path
from typing import NamedTuple

from vitrail.commit import commit
from vitrail.config import load
from vitrail.errors import VitrailError, run_command
from vitrail.measured import computed

# A file counts where it is found first. MLflow gives its runs numbers drawn by chance and the
# weights of timm lie elsewhere in each installation, so that neither is listed.
KINDS = (
    ("histories", ("runs/*/history.csv", "pretraining/*/history.csv")),
    ("predictions", ("runs/*/predictions.npz",)),
    ("weights", ("runs/*/model.safetensors", "pretraining/*/model.safetensors")),
    ("runs", ("runs/*/*.json", "runs/*/timing.csv", "pretraining/*/*")),
    ("tables", ("*.csv", "*/*.csv", "*/tables/*.md", "reduction/*")),
    ("numbers", ("*/numbers.json", "*/claims.json")),
    ("answers", ("*/opening.json", "*/answer.md", "*/sources.json")),
    ("figures", ("*/figures/*.svg",)),
    ("views", ("*/explore/*.json",)),
    ("HTML", ("report/report.html",)),
    ("PDF", ("report/report.pdf",)),
)
RENDERED = ("HTML", "PDF")  # from everything, measured values among it
LENGTH = 16  # digits of a hash that are shown


class Hashes(NamedTuple):
    """SHA-256 of a file: without what was measured ('' when nothing is left), and whole."""

    computed: str
    whole: str


def kinds_of(folder: Path) -> dict[str, dict[str, Hashes]]:
    """Hashes of every listed file of ``results/<study>``, by kind and name.

    Raises:
        VitrailError: there is no such study.
    """
    if not folder.is_dir():
        raise VitrailError(f"{folder} is not there; run the study, or name another with --study")
    seen, found = set[Path](), dict[str, dict[str, Hashes]]()
    for kind, patterns in KINDS:
        found[kind] = {}
        for path in sorted({path for pattern in patterns for path in folder.glob(pattern)}):
            if path in seen or path.name.startswith(".") or not path.is_file():
                continue
            seen.add(path)
            name = path.relative_to(folder).as_posix()
            left = None if kind in RENDERED else computed(path, name)
            found[kind][name] = Hashes(
                "" if left is None else hashlib.sha256(left).hexdigest(),
                hashlib.sha256(path.read_bytes()).hexdigest(),
            )
    return found


def together(files: dict[str, Hashes], column: str) -> str:
    """One hash over the names and hashes of several files."""
    known = {name: getattr(one, column) for name, one in files.items()}
    lines = [f"{name} {known[name]}\n" for name in sorted(known) if known[name]]
    return hashlib.sha256("".join(lines).encode()).hexdigest() if lines else ""


def listing(kinds: dict[str, dict[str, Hashes]], files: bool) -> str:
    """A line for each kind, and for each file if asked for."""
    lines = [f"{'kind':12} {'files':>5}  {'computed':{LENGTH}}  whole"]

    def shown(value: str) -> str:
        return value[:LENGTH] or "measured"

    for kind, members in kinds.items():
        both = (shown(together(members, column)) for column in Hashes._fields)
        lines.append(f"{kind:12} {len(members):5}  {'  '.join(f'{one:{LENGTH}}' for one in both)}")
        if files:
            lines += [
                f"  {shown(one.computed):{LENGTH}}  {one.whole[:LENGTH]}  {name}"
                for name, one in members.items()
            ]
    return "\n".join(line.rstrip() for line in lines)


def differences(
    ours: dict[str, dict[str, Hashes]], theirs: dict[str, dict[str, Hashes]], whole: bool = False
) -> list[str]:
    """What one has and the other has not, or has with other content; nothing when all agree.

    Args:
        whole: compare every byte, not only what is computed.
    """
    column = "whole" if whole else "computed"
    found = []
    for kind, _ in KINDS:
        here, there = ours[kind], theirs[kind]
        for name in sorted(here.keys() | there.keys()):
            if name not in there or name not in here:
                found.append(f"{name} is {'here' if name in here else 'there'} alone")
            elif getattr(here[name], column) != getattr(there[name], column):
                found.append(f"{name} differs")
    return found


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description="Print the hashes of a study's results.")
    which = parser.add_mutually_exclusive_group(required=True)
    which.add_argument("--study", help="name of the study")
    which.add_argument("--config", type=Path, nargs="+", help="config files that name it")
    parser.add_argument("--results", type=Path, default=Path("results"))
    parser.add_argument("--files", action="store_true", help="each file as well")
    parser.add_argument("--against", type=Path, help="the results of another run")
    parser.add_argument(
        "--whole", action="store_true", help="compare measured values too, and the report"
    )
    arguments = parser.parse_args()
    study = arguments.study or load(arguments.config)["study"]
    ours = kinds_of(arguments.results / study)
    print(f"vitrail: study {study}, code {commit(arguments.results.resolve().parent)}")
    print(listing(ours, arguments.files))
    if arguments.against is None:
        return
    theirs = kinds_of(arguments.against / study)
    if found := differences(ours, theirs, arguments.whole):
        shown = "; ".join(found[:20]) + (f"; and {len(found) - 20} more" if found[20:] else "")
        raise VitrailError(
            f"{len(found)} file(s) differ from those in {arguments.against}: {shown}"
        )
    what = "every byte" if arguments.whole else "everything that is computed"
    print(f"vitrail: {what} is the same as in {arguments.against}")


if __name__ == "__main__":
    run_command(main)
