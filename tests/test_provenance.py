"""What the report says about the study as a whole."""

from __future__ import annotations

import pandas as pd

from vitrail.provenance import minutes_table


def test_minutes_are_those_of_each_question() -> None:
    finished = pd.DataFrame(
        {
            "question": ["q6_vit", "q2_mlp", "q6_vit"],
            "seconds": ["90.0", "30", "60"],  # as read from runs.csv
        }
    )
    lines = [line for line in minutes_table(finished).splitlines() if line.startswith("| Q")]
    assert lines[1:] == ["| Q2. MLP | 1 | 0.5 |", "| Q6. The whole ViT | 2 | 2.5 |"]
