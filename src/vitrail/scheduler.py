"""What Snakemake's own scheduler is spared, because no option switches it off."""

from __future__ import annotations

from typing import Any

DEFAULT = (100, 1)  # of --max-jobs-per-timespan: jobs, seconds


def drop_rate_limit(scheduler: Any) -> bool:
    """Let Snakemake start jobs as fast as cores are free, unless the user asked for a limit.

    Under a limit Snakemake 9 looks again after the time span has passed, and once more after
    that, for every job that has ended: each leaves a thread with a timer, which wakes the
    scheduler every second for as long as a job waits. After 300 jobs these are 300 looks a
    second. A longer span makes them fewer, but Snakemake ends only when the last timer has
    run out. Cores and `--jobs` limit what is started at once all the same.

    Args:
        scheduler: ``workflow.scheduler``, before it starts its first job.

    Returns:
        Whether there was a limit to drop; another Snakemake may have none.
    """
    limit = getattr(scheduler, "job_rate_limiter", None)
    # Another Snakemake may name them otherwise: what is not known is left alone.
    asked = getattr(limit, "max_jobs", None), getattr(limit, "timespan", None)
    if asked != DEFAULT:
        return False
    scheduler.job_rate_limiter = None
    return True
