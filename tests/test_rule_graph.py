"""The picture of the workflow's rules."""

from __future__ import annotations

from pathlib import Path

import matplotlib.pyplot as plt
import pandas as pd
import pytest

from vitrail.errors import VitrailError
from vitrail.rule_graph import WAYPOINT, ask_snakemake, draw, layers, read_dot, simplified

DOT = """\
digraph snakemake_dag {
    graph[bgcolor=white, margin=0];
\t0[label = "report", color = "0.38 0.6 0.85", style="rounded"];
\t1[label = "train", color = "0.1 0.6 0.85", style="rounded"];
\t12[label = "mnist", color = "0.2 0.6 0.85", style="rounded"];
\t1 -> 0
\t12 -> 1
}
"""


def test_dot_is_read() -> None:
    assert read_dot(DOT).to_numpy().tolist() == [["mnist", "train"], ["train", "report"]]


def test_what_says_nothing_new_is_left_out() -> None:
    edges = [
        ("mnist", "train"), ("mnist", "train_few__vit"), ("train", "q1"), ("train_few__vit", "q2"),
        ("train", "q2"), ("mnist", "q1"), ("q1", "report"), ("q2", "report"), ("train", "q3"),
        ("timing", "q3"), ("q3", "report"),
    ]  # fmt: skip
    mnist, train, timing, report = ("mnist",), ("train",), ("timing",), ("report",)
    assert simplified(edges) == {
        (mnist, train), (train, ("q1", "q2")), (train, ("q3",)), (timing, ("q3",)),
        (("q1", "q2"), report), (("q3",), report),
    }  # fmt: skip


def test_every_step_stands_above_those_that_wait_for_it() -> None:
    a, b, c, d = (("a",), ("b",), ("c",), ("d",))
    rows, edges = layers({(a, b), (b, c), (c, d), (a, d)})
    depth = {box: place for place, row in enumerate(rows) for box in row}
    assert all(depth[after] == depth[before] + 1 for before, after in edges)
    ways = [box for row in rows for box in row if box[0] == WAYPOINT]
    assert len(ways) == 2, "the long edge passes beside b and c"


def test_the_picture_has_every_rule_and_no_box_over_another() -> None:
    edges = [("mnist", "train"), ("train", "q7_complexity"), ("timing", "q7_complexity")]
    edges += [("train", "run_table"), ("q7_complexity", "report"), ("run_table", "report")]
    drawing = draw(pd.DataFrame(edges, columns=["before", "after"]))
    drawing.draw_without_rendering()
    (axes,) = drawing.axes
    assert {text.get_text() for text in axes.texts} == {name for edge in edges for name in edge}
    boxes = [patch.get_window_extent() for patch in axes.patches if patch.get_zorder() == 2]
    assert len(boxes) == 6
    for place, one in enumerate(boxes):
        assert one.x0 >= 0 and one.x1 <= drawing.bbox.width
        assert not any(one.overlaps(other) for other in boxes[:place])
    plt.close(drawing)


def test_snakemake_that_gives_no_graph_is_told(tmp_path: Path) -> None:
    (tmp_path / "Snakefile").write_text("rule all:\n    input: 'nobody makes this'\n")
    with pytest.raises(VitrailError, match=r"snakemake gives no rule graph: .*nobody makes this"):
        ask_snakemake({"study": "tiny"}, tmp_path)
