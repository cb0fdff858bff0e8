"""Q7: fewer tokens in a trained network, ToMe beside pruning beside LTMP."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from vitrail import style
from vitrail.analysis import Estimate, accuracy_gap, count, points
from vitrail.claims import Claim, holds
from vitrail.files import read_json
from vitrail.intact import vouched
from vitrail.questions.answer import markdown_table

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

NAMES = {
    "none": "all tokens",
    "tome": "ToMe",
    "prune": "pruning",
    "ltmp": "LTMP",
    "ltmp_class": "LTMP by class token",
}
Row = dict[Any, Any]
LEARNED = ("ltmp", "ltmp_class")
# The ViT with all its tokens is where every curve starts; the ways are variants of it.
LOOKS = dict(zip(("tome", "prune", "ltmp", "ltmp_class"), style.vits(5)[1:], strict=True))
NEAR = 0.02  # how far from its target LTMP may end, as a share of all MACs
AFFORDED = {75: 0.002, 50: 0.005}  # accuracy that LTMP may lose at these targets


def read(folder: Path) -> pd.DataFrame:
    """The table of `vitrail.reduction compare`."""
    return pd.read_csv(vouched(folder / "reduction" / "table.csv"))


def setting_words(way: str, setting: int) -> str:
    """How a row was set, for print."""
    if way == "none":
        return NAMES[way]
    return f"{NAMES[way]}, {f'target {setting} %' if way in LEARNED else f'r = {setting}'}"


def loss_words(row: dict[Any, Any]) -> str:
    """Accuracy gained or lost against the same network with all tokens."""
    gap = Estimate(row["difference"], row["difference_half_width"], 2)
    return "reference" if row["way"] == "none" else points(gap)


def table_markdown(table: pd.DataFrame, facts: dict[str, Any]) -> str:
    """Every way at every setting."""
    plain = table.iloc[0]
    rows = [
        {
            "Way": setting_words(row["way"], row["setting"]),
            "MACs": f"{row['macs_ratio']:.3f}",
            "Accuracy (%)": f"{100 * row['test_accuracy']:.2f}",
            "Difference": loss_words(row),
            "Images/s, 100": f"{row['images_per_second'] / plain['images_per_second']:.2f}",
            "Images/s, 1": f"{row['images_per_second_one'] / plain['images_per_second_one']:.2f}",
            "Tokens after each block": row["tokens_left"],
        }
        for row in table.to_dict("records")
    ]
    caption = (
        "The same trained network with fewer tokens: share of its MACs, test accuracy, difference "
        "in points with the 95 % interval of the paired images, and images per second as a "
        "ratio to all tokens, in batches of 100 (padded to the image that keeps the most) and one "
        f"by one. {facts['test_images']:,} test images; {facts['hardware']}, one thread, "
        f"load average {facts['load_average']}."
    )
    return markdown_table(pd.DataFrame(rows), caption, "q7-reduction")


def claims(table: pd.DataFrame, right: np.ndarray) -> list[Claim]:
    """What Q7 asserts of token reduction; `right` (rows, images) as `vitrail.reduction` has it."""
    rows = table.assign(position=range(len(table))).to_dict("records")
    ltmp = [row for row in rows if row["way"] == "ltmp"]
    misses = [abs(row["macs_ratio"] - row["setting"] / 100) for row in ltmp]
    made = [
        holds(
            "q7-ltmp-meets-its-budget",
            "One pass over the images brings the MACs to the target of LTMP.",
            f"share of MACs within {NEAR} of every target",
            "; ".join(f"{row['setting']} %: {row['macs_ratio']:.3f}" for row in ltmp),
            all(miss <= NEAR for miss in misses) if misses else None,
        )
    ]
    for row in ltmp:
        if row["setting"] in AFFORDED:
            bound = AFFORDED[row["setting"]]
            gap = Estimate(row["difference"], row["difference_half_width"], 2)
            # Above its budget a network may lose too much, but shows nothing by losing little.
            met, kept = row["macs_ratio"] <= row["setting"] / 100 + NEAR, within(gap, bound)
            made.append(
                holds(
                    f"q7-ltmp-loses-little-at-{row['setting']}",
                    f"LTMP at {row['setting']} % of the MACs loses up to {100 * bound:.1f} points.",
                    "interval of the difference of test accuracy on the same images, at a share of "
                    f"MACs within {NEAR} of the target",
                    f"{points(gap)} points at {100 * row['macs_ratio']:.1f} % of the MACs",
                    kept if met or kept is False else None,
                )
            )
    made += [beats(rows, ltmp, right, rival) for rival in ("tome", "prune")]
    return [*made, by_class(rows, right)]


def within(gap: Estimate, bound: float) -> bool | None:
    """Whether a difference is no loss beyond `bound`; None where its interval holds that loss."""
    if gap.low >= -bound:
        return True
    return False if gap.high < -bound else None


def beats(rows: list[Row], ltmp: list[Row], right: np.ndarray, rival: str) -> Claim:
    """Is LTMP more accurate than the rival with as many MACs or more, at every target?

    Settings are compared as they were run, with none put between them: accuracy falls off a cliff,
    on which a straight line between two settings would lie too low.
    """
    others = [row for row in rows if row["way"] == rival]
    verdicts, told = [], []
    for row in ltmp:
        gaps = {
            other["setting"]: (other, accuracy_gap(*right[[row["position"], other["position"]]]))
            for other in others
        }
        more = [g for o, g in gaps.values() if o["macs_ratio"] >= row["macs_ratio"] - NEAR]
        fewer = [g for o, g in gaps.values() if o["macs_ratio"] <= row["macs_ratio"] + NEAR]
        beaten = any(gap.high < 0 for gap in fewer)
        verdicts.append(False if beaten else True if any(gap.low > 0 for gap in more) else None)
        if others:
            other, gap = min(
                gaps.values(), key=lambda one: abs(one[0]["macs_ratio"] - row["macs_ratio"])
            )
            told.append(
                f"{row['setting']} %: {points(gap)} points to r = {other['setting']} at "
                f"{other['macs_ratio']:.2f} of the MACs"
            )
    outcome = None
    if False in verdicts:
        outcome = False
    elif verdicts and all(verdicts):
        outcome = True
    return holds(
        f"q7-ltmp-beats-{rival}",
        f"LTMP is more accurate than {NAMES[rival]} with as many MACs or more.",
        f"at every target the paired interval to some setting with no fewer MACs (within {NEAR}) "
        "above zero, and to none with no more of them below zero",
        "; ".join(told) or "no setting was asked for",
        outcome,
    )


def by_class(rows: list[Row], right: np.ndarray) -> Claim:
    """Is the class token's attention the better importance, at the most saving shared target?"""
    places = {
        way: {row["setting"]: row["position"] for row in rows if row["way"] == way}
        for way in LEARNED
    }
    shared = sorted(set(places["ltmp"]) & set(places["ltmp_class"]))
    outcome, told = None, "no target was asked for in both forms"
    if shared:
        gap = accuracy_gap(*right[[places[way][shared[0]] for way in ("ltmp_class", "ltmp")]])
        outcome = True if gap.low > 0 else False if gap.high < 0 else None
        told = f"{points(gap)} points at a target of {shared[0]} %"
    return holds(
        "q7-class-token-knows-better",
        "LTMP is more accurate when importance is the attention of the class token alone.",
        "paired interval of the accuracy by the class token's attention minus that by the mean "
        "attention, same target",
        told,
        outcome,
    )


def read_right(folder: Path) -> np.ndarray:
    """Which image each row of the table gets right, (rows, images)."""
    with np.load(vouched(folder / "reduction" / "pictures.npz")) as found:
        return np.asarray(found["right"])


def numbers(table: pd.DataFrame, found: dict[str, Any]) -> dict[str, str]:
    """What prose quotes: the network as it is, and the most saving LTMP."""
    plain = table.iloc[0].to_dict()
    words = {
        "plain": f"{100 * plain['test_accuracy']:.2f} %",
        "tokens": plain["tokens_left"].split(".")[0],
        "images": count(found["images"]),
        "run": found["run"],
    }
    ltmp = table[table["way"] == "ltmp"].to_dict("records")
    if not ltmp:
        return words | dict.fromkeys(("target", "ratio", "loss", "speed", "speed_one"), "not run")
    row = min(ltmp, key=lambda one: one["macs_ratio"])
    return words | {
        "target": f"{row['setting']} %",
        "ratio": f"{row['macs_ratio']:.3f}",
        "loss": loss_words(row),
        "speed": f"{row['images_per_second'] / plain['images_per_second']:.2f}",
        "speed_one": f"{row['images_per_second_one'] / plain['images_per_second_one']:.2f}",
    }


def draw_curves(table: pd.DataFrame) -> Figure:
    """Accuracy against MACs, and against images per second."""
    import matplotlib.pyplot as plt

    plain = table.iloc[0]
    drawing, (left, right) = plt.subplots(1, 2, figsize=(style.WIDTH, 2.9), sharey=True)
    for way, look in LOOKS.items():
        if way not in set(table["way"]):
            continue
        rows = pd.concat([table.iloc[:1], table[table["way"] == way]])
        rows = rows.sort_values("macs_ratio", ascending=False)
        line = {**look.plot, "markersize": 4, "label": NAMES[way]}
        left.plot(rows["macs_ratio"], 100 * rows["test_accuracy"], **line)
        speed = rows["images_per_second"] / plain["images_per_second"]
        right.plot(speed, 100 * rows["test_accuracy"], **line)
    left.set(xlabel="share of the MACs", ylabel="test accuracy (%)")
    left.invert_xaxis()
    right.set(xlabel="images per second, ratio to all tokens")
    left.legend()
    return drawing


def draw_pictures(folder: Path) -> Figure:
    """Which tokens of a digit are merged or dropped, one row per way."""
    import matplotlib.pyplot as plt

    with np.load(vouched(folder / "reduction" / "pictures.npz")) as found:
        images, labels = found["images"], found["labels"]
        ways = [way for way in LOOKS if f"{way}_owners" in found]
        owners = {way: found[f"{way}_owners"][-1] for way in ways}
        predicted = {way: found[f"{way}_predicted"] for way in ways}
        settings = {way: int(found[f"{way}_setting"]) for way in ways}
    size = style.WIDTH / (len(images) + 0.3)
    drawing, grid = plt.subplots(
        max(1, len(ways)),
        len(images),
        squeeze=False,
        figsize=(style.WIDTH, max(1, len(ways)) * (size + 0.22)),
    )
    for way, line in zip(ways, grid, strict=False):  # no way: an empty row
        for position, axes in enumerate(line):
            draw_tokens(axes, images[position], owners[way][position, 1:])
            right = predicted[way][position] == labels[position]
            axes.set_title(
                f"{labels[position]}" if right else f"{labels[position]}, read as "
                f"{predicted[way][position]}", fontsize=style.SMALL, loc="center",
            )  # fmt: skip
        line[0].set_ylabel(setting_words(way, settings[way]).replace(", ", "\n"))
    return drawing


def tokens_drawn(folder: Path) -> pd.DataFrame:
    """What `draw_pictures` shows: what becomes of each patch of each digit, by way.

    `token` is the first patch of the token that a patch has gone into, -1 for a dropped one.
    """
    frames = [
        pd.DataFrame(columns=["way", "setting", "digit", "label", "answer", "patch", "token"])
    ]
    with np.load(vouched(folder / "reduction" / "pictures.npz")) as found:
        for way in (way for way in LOOKS if f"{way}_owners" in found):
            owners = found[f"{way}_owners"][-1][:, 1:]  # (images, patches)
            digit, patch = (index.ravel() for index in np.indices(owners.shape))
            columns = {
                "way": way, "setting": int(found[f"{way}_setting"]), "digit": digit,
                "label": found["labels"][digit], "answer": found[f"{way}_predicted"][digit],
                "patch": patch, "token": owners.ravel(),
            }  # fmt: skip
            frames.append(pd.DataFrame(columns))
    return pd.concat(frames[1:] or frames, ignore_index=True)


def draw_tokens(axes: Axes, image: np.ndarray, owners: np.ndarray) -> None:
    """A digit; dropped patches are crossed, patches that became one token share a colour."""
    from matplotlib.patches import Rectangle

    side = int(len(owners) ** 0.5)
    patch = len(image) // side
    axes.imshow(image, cmap=style.DIGITS, vmin=0, vmax=255)
    groups = [owner for owner in np.unique(owners) if owner >= 0 and (owners == owner).sum() > 1]
    colours = {owner: f"C{place % 6}" for place, owner in enumerate(groups)}
    for place, owner in enumerate(owners):
        corner = (place % side * patch - 0.5, place // side * patch - 0.5)
        square = partial(Rectangle, corner, patch, patch, linewidth=0.4)
        if owner < 0:
            axes.add_patch(square(facecolor="#b9c0c6", alpha=0.75, edgecolor="white", hatch="xxx"))
        elif owner in colours:
            axes.add_patch(square(facecolor=colours[owner], alpha=0.45, edgecolor="white"))
        else:
            axes.add_patch(square(facecolor="none", edgecolor=style.INK))
    axes.set(xticks=[], yticks=[])
    axes.grid(visible=False)


def facts(folder: Path) -> dict[str, Any]:
    """The machine of the comparison, and how many images the thresholds were learned from."""
    return dict(read_json(folder / "reduction" / "env.json"))
