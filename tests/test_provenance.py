"""What the report says about the study as a whole."""

from __future__ import annotations

import pandas as pd

from vitrail.provenance import minutes_table, runs_table


def test_minutes_are_those_of_each_question() -> None:
    finished = pd.DataFrame(
        {
            "question": ["q6_vit", "q2_mlp", "q6_vit"],
            "seconds": ["90.0", "30", "60"],  # as read from runs.csv
        }
    )
    lines = [line for line in minutes_table(finished).splitlines() if line.startswith("| Q")]
    assert lines[1:] == [
        "| Q2. The MLP and GELU | 1 | 0.5 |",
        "| Q6. The whole Vision Transformer | 2 | 2.5 |",
    ]


def test_every_arm_says_how_long_and_on_how_many_images() -> None:
    runs = pd.DataFrame(
        {
            "arm_id": ["a", "b"], "arm": ["q.a", "q.b"], "question": ["q6_vit", "q8_transfer"],
            "status": "finished", "test_accuracy": ["0.9", "0.8"], "train_size": ["55000", "55000"],
            "epochs": ["0.5", ""], "steps": ["", "250"], "label_budget": ["", "1000"],
        }
    )  # fmt: skip
    lines = [line.split(" | ") for line in runs_table(runs).splitlines() if line.startswith("| q.")]
    assert [line[3:5] for line in lines] == [["0.5 epochs", "55,000"], ["250 steps", "1,000"]]
