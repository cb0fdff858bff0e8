"""The rules of the workflow as a picture: which step waits for which.

``python -m vitrail.rule_graph`` asks Snakemake for the graph and writes its edges as CSV;
`draw` lays them out without Graphviz.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import pandas as pd

from vitrail.errors import VitrailError, run_command
from vitrail.files import write_text

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Names = tuple[str, ...]  # of the rules in one box
Edges = set[tuple[Names, Names]]
WAYPOINT = ""  # first name of a place where a long edge passes through a layer
FAMILY = re.compile(r"^(train)_.*")  # one rule per method or set of seeds
NODE, EDGE = re.compile(r'(\d+)\[label = "([^"\\]+)'), re.compile(r"(\d+) -> (\d+)")
LINE, PAD, GAP, BETWEEN = 0.155, 0.1, 0.32, 0.14  # inches: a line, margins, layers, boxes
LETTER, HEAD = 0.062, 0.08  # inches: width of a letter, length of an arrow's head


def ask_snakemake(config: dict[str, Any], root: Path) -> pd.DataFrame:
    """The edges of the rule graph: columns before and after.

    Raises:
        VitrailError: Snakemake does not give it.
    """
    with tempfile.NamedTemporaryFile("w", suffix=".json", encoding="utf-8") as file:
        json.dump(config, file)
        file.flush()
        command = [sys.executable, "-m", "snakemake", "--rulegraph", "dot", "--nolock"]
        command += ["--cores", "1", "--configfile", file.name, "--", "all"]
        done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)
    if done.returncode:
        raise VitrailError(f"snakemake gives no rule graph: {' '.join(done.stderr.split())[-300:]}")
    return read_dot(done.stdout)


def read_dot(text: str) -> pd.DataFrame:
    """The edges of what ``snakemake --rulegraph dot`` prints."""
    names = dict(NODE.findall(text))
    edges = sorted((names[before], names[after]) for before, after in EDGE.findall(text))
    return pd.DataFrame(edges, columns=["before", "after"])


def simplified(edges: Iterable[tuple[str, str]]) -> Edges:
    """The graph as it is drawn.

    Rules of one family are one box, and so are rules with the same neighbours; an edge that a
    longer way implies is left out.
    """
    short = {(FAMILY.sub(r"\1", a), FAMILY.sub(r"\1", b)) for a, b in edges}
    direct = {(a, b) for a, b in short if a != b and not _longer_way(short, a, b)}
    neighbours = {
        name: (
            frozenset(a for a, b in direct if b == name),
            frozenset(b for a, b in direct if a == name),
        )
        for name in sorted({name for edge in direct for name in edge})
    }
    alike: dict[Any, list[str]] = {}
    for name, around in neighbours.items():
        alike.setdefault(around, []).append(name)
    box = {name: tuple(names) for names in alike.values() for name in names}
    return {(box[a], box[b]) for a, b in direct}


def _longer_way(edges: set[tuple[str, str]], start: str, end: str) -> bool:
    """Whether `end` is reached from `start` through another rule."""
    seen, front = set[str](), {b for a, b in edges if a == start and b not in (start, end)}
    while front:
        seen |= front
        front = {b for a, b in edges if a in front and b not in (a, start)} - seen
        if end in front:
            return True
    return False


def layers(edges: Edges) -> tuple[list[list[Names]], Edges]:
    """The boxes by how many steps they are from the end, the furthest first; and the edges.

    An edge that passes over layers gets a waypoint in each, so that it goes round the boxes
    there. Within a layer the order follows that of the neighbours, so that few edges cross.
    """
    depth = dict.fromkeys(sorted({box for edge in edges for box in edge}), 0)
    for _ in list(depth):
        for a, b in sorted(edges):
            depth[a] = max(depth[a], depth[b] + 1)
    short: Edges = set()
    for a, b in sorted(edges):
        ways = [(WAYPOINT, *a, *b, str(d)) for d in range(depth[a] - 1, depth[b], -1)]
        depth |= {way: int(way[-1]) for way in ways}
        short |= set(pairwise([a, *ways, b]))
    edges = short
    rows = [[box for box in depth if depth[box] == d] for d in sorted(set(depth.values()))][::-1]
    place = {box: i - (len(row) - 1) / 2 for row in rows for i, box in enumerate(row)}
    for sweep in range(8):
        for row in rows if sweep % 2 else rows[::-1]:
            wanted = {box: _middle(place, edges, box) for box in row}
            row.sort(key=lambda box: (wanted[box], box))
            place |= {box: i - (len(row) - 1) / 2 for i, box in enumerate(row)}
    return rows, edges


def _middle(place: dict[Names, float], edges: Edges, box: Names) -> float:
    """Where the neighbours of a box are on average."""
    near = [place[b if a == box else a] for a, b in sorted(edges) if box in (a, b)]
    return sum(near) / len(near)


class Spot(NamedTuple):
    """Where a box is drawn and where its layer begins and ends, in inches from the top left."""

    left: float
    top: float
    width: float
    height: float
    layer_top: float
    layer_bottom: float

    @property
    def middle(self) -> float:
        """Of its width."""
        return self.left + self.width / 2


def draw(frame: pd.DataFrame) -> Figure:
    """The graph from the first steps (above) to the report (below)."""
    import matplotlib.pyplot as plt

    from vitrail import style

    rows, edges = layers(simplified(zip(frame["before"], frame["after"], strict=True)))
    heights = [max(map(_lines, row)) * LINE + 2 * PAD * 0.6 for row in rows]
    tall = sum(heights) + GAP * (len(rows) - 1) + 0.1
    drawing = plt.figure(figsize=(style.WIDTH, tall), layout="none")
    axes = drawing.add_axes((0, 0, 1, 1))
    axes.set(xlim=(0, style.WIDTH), ylim=(tall, 0))
    axes.set_axis_off()
    spots: dict[Names, Spot] = {}
    top = 0.05
    for row, height in zip(rows, heights, strict=True):
        widths = [_width(box) for box in row]
        left = (style.WIDTH - sum(widths) - BETWEEN * (len(row) - 1)) / 2
        for box, wide in zip(row, widths, strict=True):
            own = height if box[0] == WAYPOINT else _lines(box) * LINE + 2 * PAD * 0.6
            spots[box] = Spot(left, top + (height - own) / 2, wide, own, top, top + height)
            left += wide + BETWEEN
        top += height + GAP
    for a, b in sorted(edges):
        _edge(axes, spots[a], spots[b], ends=b[0] != WAYPOINT)
    for box, spot in spots.items():
        _box(axes, box, spot)
    return drawing


def _lines(box: Names) -> int:
    return 1 if box[0] == WAYPOINT else len(box)


def _width(box: Names) -> float:
    return 0.1 if box[0] == WAYPOINT else max(map(len, box)) * LETTER + 2 * PAD


def _box(axes: Axes, box: Names, spot: Spot) -> None:
    from matplotlib.patches import FancyBboxPatch

    from vitrail import style

    left, top, wide, tall, *_ = spot
    if box[0] == WAYPOINT:
        middle = left + wide / 2
        axes.plot([middle] * 2, [top, top + tall], color=style.GUIDE, linewidth=0.8)
        return
    axes.add_patch(
        FancyBboxPatch(
            (left, top), wide, tall, boxstyle="round,pad=0,rounding_size=0.05",
            facecolor="#eef3f8", edgecolor=style.VIT, linewidth=0.9, zorder=2,
        )
    )  # fmt: skip
    for line, name in enumerate(box):
        axes.text(
            left + wide / 2, top + PAD * 0.6 + (line + 0.5) * LINE, name, ha="center",
            va="center", fontsize=style.SMALL, color=style.INK, zorder=3,
        )  # fmt: skip


def _edge(axes: Axes, start: Spot, end: Spot, ends: bool) -> None:
    """From the lower edge of one box to the upper edge of another; it bends between layers."""
    from matplotlib.patches import FancyArrowPatch
    from matplotlib.path import Path as Curve

    from vitrail import style

    x1, x2 = start.middle, end.middle
    y1, y2 = start.layer_bottom, end.layer_top - HEAD
    bend = (y2 - y1) / 2
    points = [(x1, start.top + start.height), (x1, y1), (x1, y1 + bend), (x2, y2 - bend), (x2, y2)]
    curve = Curve([*points, (x2, end.top)], [1, 2, 4, 4, 4, 2])
    axes.add_patch(
        FancyArrowPatch(
            path=curve, arrowstyle="-|>" if ends else "-", mutation_scale=7, linewidth=0.8,
            shrinkA=0, shrinkB=0, color=style.GUIDE, zorder=1,
        )
    )  # fmt: skip


def main() -> None:
    """The command line of this step."""
    parser = argparse.ArgumentParser(description="Write the rule graph of the workflow as CSV.")
    parser.add_argument("--config", type=json.loads, required=True, help="the config as JSON")
    parser.add_argument("--root", type=Path, default=Path())
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    edges = ask_snakemake(options.config, options.root)
    write_text(options.out, edges.to_csv(index=False, lineterminator="\n"))
    print(f"rule graph: {len(edges)} edges -> {options.out}")


if __name__ == "__main__":
    run_command(main)
