"""How fast SLURM takes jobs and answers about them: python tests/slurm_load.py 300 700 2336

Submits so many jobs, held, in several goes, as Snakemake does (two threads, one `sbatch` for each
job), to a cluster on this machine, and then cancels them all. Needs root.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from made_slurm import Cluster, lacking

NAME = "vitrail_0a1b2c3d-0000-4000-8000-0123456789ab"
SCRIPT = "true " + "x" * 2500  # as long as the command of a training


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure how fast SLURM takes and lists jobs.")
    parser.add_argument("jobs", type=int, nargs="+", help="so many more in each go")
    goes = parser.parse_args().jobs
    if why := lacking():
        sys.exit(why)
    with tempfile.TemporaryDirectory() as folder:
        cluster = Cluster(Path(folder) / "slurm")
        with cluster.conf.open("a") as conf:
            conf.write(f"MaxJobCount={2 * sum(goes) + 100}\n")
        try:
            cluster.start()
            measure(cluster, goes)
        finally:
            cluster.stop()


def measure(cluster: Cluster, goes: list[int]) -> None:
    submit = ("sbatch", "--hold", "--parsable", f"--job-name={NAME}", "--output=/dev/null")
    look = ("squeue", "--format=%i|%T", "--states=all", "--noheader", f"--name={NAME}")

    def one(_: int) -> None:
        command = [*submit, f"--wrap={SCRIPT}"]
        subprocess.run(
            command, env=cluster.everything(), check=True, stdout=subprocess.DEVNULL, timeout=60
        )

    for jobs in goes:
        begun = time.perf_counter()
        with ThreadPoolExecutor(2) as threads:
            list(threads.map(one, range(jobs)))
        rate = jobs / (time.perf_counter() - begun)
        begun = time.perf_counter()
        there = len(cluster.ask(*look).splitlines())
        seconds = time.perf_counter() - begun
        print(f"{there} jobs: {rate:.0f} submitted a second, listed in {seconds:.3f} s", flush=True)
    begun = time.perf_counter()
    cluster.ask("scancel", f"--name={NAME}")
    print(f"cancelled in {time.perf_counter() - begun:.1f} s")


if __name__ == "__main__":
    main()
