"""Ten times the runs take about ten times as long to plan, not a hundred times."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from grown import FIRST, GROWING, SEEDS, Cost, Grown, grown

FEW, MANY = 100, 1000


@pytest.fixture(scope="module")
def costs(
    copy_project: Callable[[Path], Path], tmp_path_factory: pytest.TempPathFactory
) -> dict[int, tuple[Cost, Cost]]:
    """Of a dry run and of one with nothing to do, by the number of runs."""
    found = {}
    for runs in (FEW, MANY):
        study = Grown(copy_project(tmp_path_factory.mktemp(f"grown-{runs}") / "vitrail"), runs)
        assert abs(study.count()[1] - runs) <= SEEDS
        dry = study.dry()
        study.finish()
        found[runs] = dry, study.nothing()
    return found


@pytest.mark.parametrize("which", [0, 1], ids=["dry run", "nothing to do"])
def test_planning_is_about_linear_in_the_runs(
    costs: dict[int, tuple[Cost, Cost]], which: int
) -> None:
    few, many = costs[FEW][which], costs[MANY][which]
    # In core-seconds, which a busy machine does not lengthen; measured: 2.3 and 3.7.
    assert many.core_seconds / few.core_seconds <= 13
    assert many.core_seconds < 40
    assert many.peak_mib < 3 * few.peak_mib


def test_the_arms_of_a_grown_study_differ_and_are_shared_out() -> None:
    blocks = grown(1000)["questions"]
    assert set(blocks) == set(GROWING)
    sizes = [
        size
        for block in blocks.values()
        for size in block["experiments"]["grown"]["vary"]["train_size"]
    ]
    assert sorted(sizes) == list(range(FIRST, FIRST + len(sizes)))
