"""What the jobs of a finished study took, from the notes of its run.

    PYTHONPATH=src python tests/job_seconds.py default > tests/job_seconds.csv

in the folder that the study was run in: for each job its rule, what it is called (its log), whether
it had something to do (an arm whose ImageNet weights are not there has not), when it started and
how long it took, in seconds by the clock, and on how many cores. `test_expected` holds what
`vitrail.progress.expected` says against them.

Recorded on 2 otherwise idle cores of an AMD EPYC server (Zen 3), whose processor has no bf16
instructions.
"""

from __future__ import annotations

import csv
import sys
from pathlib import Path

from vitrail.files import read_json
from vitrail.progress.notes import Reader, place

COLUMNS = ("rule", "name", "done", "started", "seconds", "threads")


def main() -> None:
    noted = Reader(place(sys.argv[1])).look()
    if noted is None:
        sys.exit(f"{place(sys.argv[1])} has no notes of a run; ask in the folder of the run")
    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow(COLUMNS)
    rows = []
    for number, job in noted.jobs.items():
        stand = noted.stands[number]
        if stand.started is None or stand.ended is None:
            sys.exit(f"job {number} ({job.title}) has not ended; let the study end first")
        done = True
        if job.runs:
            summary = read_json(Path(job.target).parent / "summary.json")
            done = summary["status"] == "finished"
        begun, took = stand.started - noted.started, stand.ended - stand.started
        rows.append(
            (job.rule, Path(job.log).stem, int(done), round(begun, 1), round(took, 1), job.threads)
        )
    writer.writerows(sorted(rows, key=lambda row: row[3]))


if __name__ == "__main__":
    main()
