"""The tables that `vitrail.timing` wrote, and the cells in them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd

from vitrail.analysis import counted
from vitrail.files import read_json
from vitrail.intact import vouched
from vitrail.scaling import Slope, local_slopes

REFERENCE = 1024  # tokens where rates are read and fused is set beside written out, or nearby


@dataclass(frozen=True)
class Clock:
    """What was timed. Every figure is that of one sequence, seconds and MiB."""

    table: pd.DataFrame
    samples: pd.DataFrame
    facts: dict[str, Any]

    @classmethod
    def read(cls, folder: Path) -> Clock:
        """From results/<study>/timing."""
        return cls(
            _named(pd.read_csv(vouched(folder / "attention.csv"))),
            _named(pd.read_csv(vouched(folder / "attention_samples.csv"))),
            read_json(folder / "env.json"),
        )

    @cached_property
    def widths(self) -> list[int]:
        """The widths of attention and blocks, in the order of the config."""
        return [width["embed_dim"] for width in self.facts["settings"]["widths"]]

    @property
    def mlp_ratio(self) -> float:
        """Of the timed blocks."""
        return float(self.facts["settings"]["mlp_ratio"])

    @property
    def window_size(self) -> int:
        """Side of the timed windows, in tokens."""
        return int(self.facts["window_size"])

    def heads(self, width: int) -> int:
        """Heads at a width."""
        widths = self.facts["settings"]["widths"]
        return next(int(w["num_heads"]) for w in widths if w["embed_dim"] == width)

    def threads(self, width: int) -> list[int]:
        """Numbers of threads at a width; claims read the first."""
        found = self.table[(self.table["embed_dim"] == width) & (self.table["what"] == "block")]
        return [int(count) for count in found["threads"].unique()]

    def rows(
        self,
        what: str,
        variant: str,
        width: int,
        mode: str = "forward",
        threads: int | None = None,
    ) -> pd.DataFrame:
        """The measured rows of one kind of cell by rising n, at the first number of threads."""
        count = self.threads(width)[0] if threads is None else threads
        return _chosen(self.table, what, variant, width, mode, count).dropna(
            subset=["median_seconds"]
        )

    def seconds(self, what: str, variant: str, width: int) -> dict[int, float]:
        """Median seconds of a forward pass, by n."""
        rows = self.rows(what, variant, width)
        return dict(zip(rows["n"].astype(int), rows["median_seconds"], strict=True))

    def slopes(self, what: str, variant: str, width: int) -> list[Slope]:
        """Local slopes of a forward pass, with bootstrap intervals from the raw samples."""
        count = self.threads(width)[0]
        rows = _chosen(self.samples, what, variant, width, "forward", count)
        times = {int(str(n)): part["seconds"].to_numpy() for n, part in rows.groupby("n")}
        return local_slopes(list(times), list(times.values()))

    @property
    def hardware(self) -> str:
        """The machine, for captions."""
        return (
            f"{self.facts['hardware']}, {counted(self.facts['threads'], 'thread')}, load average "
            f"{self.facts['load_average']} before and {self.facts['load_average_after']} after"
        )


def near_reference(sizes: list[int]) -> int:
    """The size nearest to REFERENCE."""
    return min(sizes, key=lambda n: abs(n - REFERENCE))


def _named(frame: pd.DataFrame) -> pd.DataFrame:
    """Cells without variants have an empty name, which CSV reads as missing."""
    return frame.assign(variant=frame["variant"].fillna(""))


def _chosen(
    frame: pd.DataFrame, what: str, variant: str, width: int, mode: str, threads: int
) -> pd.DataFrame:
    mine = (frame["what"] == what) & (frame["variant"] == variant) & (frame["pass"] == mode)
    mine &= (frame["embed_dim"] == width) & (frame["threads"] == threads)
    return frame[mine].sort_values("n", kind="stable")
