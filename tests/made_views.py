"""A small report with every interactive view, its data made by hand."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

import made_report
from vitrail.questions.explore import packed
from vitrail.questions.explore.attention import WHOLE, heat_colours
from vitrail.questions.explore.reduction import GONE
from vitrail.views import VIEWS


def digits(count: int) -> np.ndarray:
    """Bars of ink, each in another column of pixels: (count, 28, 28)."""
    raw = np.zeros((count, 28, 28), dtype=np.uint8)
    for digit in range(count):
        raw[digit, 4:24, 4 + 5 * digit : 9 + 5 * digit] = 255
    return raw


def attention_data() -> dict[str, Any]:
    """Two digits, two blocks of two heads, a class token and 2 x 2 patches.

    In head h of block b on digit i the token t gives 60 % to the token (t + 1 + h + 2 b + i) of
    five, and the rest in equal parts to all others.
    """
    weights = np.full((2, 2, 2, 5, 5), 0.1)
    for place in np.ndindex(2, 2, 2, 5):
        digit, block, head, token = place
        weights[(*place, (token + 1 + head + 2 * block + digit) % 5)] = 0.6
    return {
        "blocks": 2, "heads": 2, "tokens": 5, "prefix": 1, "pixels": 28,
        "images": packed(digits(2)), "labels": [0, 1], "read": [0, 7],
        "weights": packed(np.rint(WHOLE * weights).astype(np.uint16)), "top": 0.6,
        "colours": heat_colours(), "mark": "#e0245e",
    }  # fmt: skip


def reduction_data() -> dict[str, Any]:
    """2 x 2 patches in two blocks: one way merges the upper two, the other drops the last."""
    own = np.tile(np.arange(4), (2, 2, 1))  # (digits, blocks, patches)
    roots = np.stack([own, own.copy(), own.copy(), own.copy()])
    roots[1, :, :, 1] = 0
    roots[2, :, :, 1] = 0
    roots[2, :, 1, 3] = 2
    roots[3, :, 1, 3] = GONE

    def setting(way: str, name: str, ratio: float) -> dict[str, Any]:
        return {
            "way": way, "setting": name, "accuracy": f"{90 + ratio:.2f} %", "speed": "1.10",
            "difference": "reference" if way == "none" else f"−{1 - ratio:.2f} ± 0.10",
            "macs": f"{ratio:.2f} million", "macs_ratio": ratio, "left": [5.0, 4.0],
            "read": [0, 1],
        }  # fmt: skip

    return {
        "ways": [["tome", "ToMe"], ["prune", "pruning"]],
        "settings": [
            setting("none", "all tokens", 1.0),
            setting("tome", "r = 1", 0.8),
            setting("tome", "r = 2", 0.6),
            setting("prune", "r = 1", 0.75),
        ],
        "blocks": 2, "patches": 4, "pixels": 28, "images": packed(digits(2)), "labels": [0, 1],
        "roots": packed(roots.astype(np.uint16)), "mark": "#e0245e",
    }  # fmt: skip


def effects_data() -> dict[str, Any]:
    """Two experiments with three arms; `</script>` in a label must not end the data."""

    def arm(experiment: str, label: str, gap: float, half: float) -> dict[str, Any]:
        return {
            "experiment": experiment, "label": label, "difference": gap, "half_width": half,
            "clear": abs(gap) > half, "colour": "#7a8288", "text": f"{gap:+.2f} ± {half:.2f}",
            "accuracy": f"{97 + gap:.2f} % ± 0.10", "standard": "97.00 % ± 0.10",
            "seeds": [
                {"seed": seed, "accuracy": 97 + gap + (seed - 1) / 10, "standard": 97.0}
                for seed in range(3)
            ],
        }  # fmt: skip

    return {
        "experiments": [
            {"name": "depth", "title": "Depth", "reference": "four blocks"},
            {"name": "norm", "title": "Norm", "reference": "pre"},
        ],
        "arms": [
            arm("depth", "two blocks", -0.4, 0.2),
            arm("depth", "eight </script><!-- blocks", 0.1, 0.3),
            arm("norm", "post", -12.0, 1.0),
        ],
        "linear": 1.0,
        "ticks": [1, 2, 5, 10, 20, 50],
    }


DATA = {"attention": attention_data, "effects": effects_data, "reduction": reduction_data}


def asked(view: str) -> str:
    """The Markdown that asks for a view."""
    figure = "figures/q1_patch_embedding/a.svg"
    return (
        f'::: {{.explore view="{view}"}}\n\n![The printed {view}.]({figure})'
        f'{{#fig-{view} fig-alt="bars"}}\n\n:::\n'
    )


def make_project(folder: Path, views: tuple[str, ...] = tuple(VIEWS)) -> Path:
    """The small made project, its report a page with these views; data are there for all."""
    project = made_report.make_project(folder)
    text = "\n".join(asked(view) for view in views)
    front = '---\ntitle: "Views"\nlang: en\n---\n\n'
    (project / "report" / "report.qmd").write_text(
        f"{front}## A chapter {{#sec-a}}\n\nText.\n\n{text}"
    )
    for view, stem in VIEWS.items():
        file = project / "results" / "tiny" / stem / "explore" / f"{view}.json"
        file.write_text(json.dumps(DATA[view]()))
    return project
