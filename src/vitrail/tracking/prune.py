"""Delete the runs that a sync found to be outdated; only when somebody asks for it.

By the tag and by nothing else: what no sync has marked stays, and what comes back into the
config after all is logged anew from its files.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from vitrail.config import STEMS
from vitrail.errors import VitrailError
from vitrail.tracking import held, store
from vitrail.tracking.alone import alone
from vitrail.tracking.records import OUTDATED


def prune(
    study: str, results: Path, stems: Sequence[str] = STEMS, only_tell: bool = False
) -> list[str]:
    """Delete the outdated runs of some questions; MLflow can restore them until `mlflow gc`.

    Args:
        study: whose experiments.
        results: where the store is, unless `MLFLOW_TRACKING_URI` names one.
        stems: the questions.
        only_tell: delete nothing.

    Returns:
        A line for each run: question, name and why.

    Raises:
        VitrailError: the store cannot be used, or does not know the study.
    """
    told = []
    with store.open_client(results) as client:
        for stem in stems:
            known = client.get_experiment_by_name(f"{study}/{stem}")
            if known is None:
                raise VitrailError(
                    f"MLflow knows no experiment {study}/{stem}, so there is nothing to prune; "
                    "see that the study is the one that was run"
                )
            with alone(results / study / stem / ".tracking.lock"):
                found = held.runs_of(client, known.experiment_id)
                for run in (run for runs in found.values() for run in runs):
                    if OUTDATED not in run.data.tags:
                        continue
                    told.append(f"{stem}: {run.info.run_name} ({run.data.tags[OUTDATED]})")
                    if not only_tell:
                        client.delete_run(run.info.run_id)
    return told
