"""The drawings: they say what the settings say, and nothing in them overlaps."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable
from itertools import combinations, pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.patches import Circle, FancyBboxPatch, PathPatch, Polygon, Rectangle
from matplotlib.transforms import Bbox

from vitrail import drawings, style
from vitrail.drawings.canvas import WIDE, shape
from vitrail.drawings.sizes import Sizes

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from matplotlib.path import Path as MplPath

BASE = {
    "model": "vit",
    "patch_size": 7,
    "embed_dim": 64,
    "depth": 4,
    "num_heads": 4,
    "head_dim": 0,
    "mlp_ratio": 2,
    "qkv_bias": True,
    "class_token": True,
    "global_pool": "token",
    "pos_embed": "learned",
    "norm": "pre",
    "act": "gelu",
}
ARMS = {
    "base": {},
    "small patches": {
        "patch_size": 2,
        "embed_dim": 128,
        "depth": 12,
        "num_heads": 8,
        "mlp_ratio": 4,
        "pos_embed": "sinusoidal_2d",
        "global_pool": "avg",
    },
    "post-norm": {
        "norm": "post",
        "class_token": False,
        "global_pool": "avg",
        "pos_embed": "none",
        "depth": 1,
        "qkv_bias": False,
    },
    "one head": {
        "class_token": False,
        "global_pool": "seq",
        "num_heads": 1,
        "head_dim": 32,
        "pos_embed": "sinusoidal",
    },
    "pixels": {"patch_size": 1, "embed_dim": 384, "num_heads": 12},
    "one patch": {"patch_size": 28, "embed_dim": 32, "head_dim": 24, "depth": 2, "norm": "post"},
}
DRAWINGS: dict[str, Callable[[], Figure]] = {"block": drawings.block} | {
    f"{kind}: {name}": lambda draw=draw, own=own: draw({**BASE, **own})
    for kind, draw in (("vit", drawings.vit), ("multi_head", drawings.multi_head))
    for name, own in ARMS.items()
}


@pytest.fixture(scope="module", autouse=True)
def _house_style() -> None:
    style.use()


def said(figure: Figure) -> list[str]:
    """All texts of a drawing."""
    return [text.get_text() for text in figure.axes[0].texts]


def boxes_of(figure: Figure) -> list[tuple[str, Bbox]]:
    """Label and place, in pixels, of each box and cell."""
    return [
        (str(patch.get_label()), patch.get_window_extent())
        for patch in figure.axes[0].patches
        if isinstance(patch, FancyBboxPatch | Rectangle)
    ]


def texts_of(figure: Figure) -> list[tuple[str, Bbox]]:
    """Content and place, in pixels, of each text."""
    renderer = FigureCanvasAgg(figure).get_renderer()
    return [(text.get_text(), text.get_window_extent(renderer)) for text in figure.axes[0].texts]


def contains(outer: Bbox, inner: Bbox) -> bool:
    return bool(
        outer.x0 <= inner.x0
        and outer.y0 <= inner.y0
        and inner.x1 <= outer.x1
        and inner.y1 <= outer.y1
    )


def overlap(one: Bbox, other: Bbox) -> bool:
    return one.x0 < other.x1 and other.x0 < one.x1 and one.y0 < other.y1 and other.y0 < one.y1


# --- what they say ---------------------------------------------------------------------


@pytest.mark.parametrize("name", ARMS)
def test_vit_prints_the_shapes_of_the_network_itself(name: str) -> None:
    import torch

    from vitrail.efficiency import count_parameters
    from vitrail.model.vit import VisionTransformer

    settings = {**BASE, **ARMS[name]}
    own = {key: value for key, value in settings.items() if key != "model"}
    with torch.device("meta"):
        network = VisionTransformer(img_size=28, in_chans=1, num_classes=10, **own)
        images = torch.empty(3, 1, 28, 28)
        with torch.inference_mode():
            tensors = [
                images,
                network.patch_embed(images),
                network.embed(images),
                network.pool(network.embed(images)),
                network(images),
            ]
    texts = said(drawings.vit(settings))
    for tensor in tensors:
        assert shape(*tensor.shape[1:]) in texts
    sizes = Sizes(settings)
    assert sizes.total() == count_parameters(network)
    assert f"{count_parameters(network):,} parameters in all" in texts
    block, parts = count_parameters(network.blocks[0]), sizes.block_parameters()
    assert sum(parts.values()) == block
    assert parts["mlp"] == count_parameters(network.blocks[0].mlp)
    assert parts["attention"] == count_parameters(network.blocks[0].attn)
    assert any(text.startswith(f"{block:,} parameters") for text in texts)
    for part in (network.patch_embed, network.head):
        assert f"{count_parameters(part):,} parameters" in texts


def test_vit_draws_only_the_parts_that_the_arm_has() -> None:
    base = said(drawings.vit(BASE))
    assert "class token" in base and "last layer norm" in base and "take the class token" in base
    assert "learned positional embedding, 1,088 parameters" in base
    assert "transformer block, pre-norm" in base and "× 4" in base
    bare = said(drawings.vit({**BASE, **ARMS["post-norm"]}))
    assert "class token" not in bare and "last layer norm" not in bare
    assert not any("positional" in text for text in bare)
    assert "transformer block, post-norm" in bare and "mean of the patch tokens" in bare
    assert "weighted mean of the patches" in said(drawings.vit({**BASE, **ARMS["one head"]}))


@pytest.mark.parametrize(("pool", "first"), [("token", "norm"), ("avg", "pool"), ("seq", "norm")])
def test_last_norm_stands_where_the_network_has_it(pool: str, first: str) -> None:
    figure = drawings.vit({**BASE, "global_pool": pool})
    heights = {text.get_text(): text.get_position()[1] for text in figure.axes[0].texts}
    pooling = next(
        height for text, height in heights.items() if "take the" in text or "mean of" in text
    )
    assert (heights["last layer norm"] < pooling) == (first == "norm")


def test_multi_head_follows_the_settings() -> None:
    texts = said(drawings.multi_head(BASE))
    assert "split into 4 heads of width 16" in texts
    # After the product and after the softmax; three lanes and the sum of the values.
    assert texts.count("B × 4 × 17 × 17") == 2 and texts.count("B × 4 × 17 × 16") == 4
    assert texts.count("64 × 64") == 4
    own_width = said(drawings.multi_head({**BASE, "head_dim": 24, "class_token": False}))
    assert own_width.count("64 × 96") == 3 and own_width.count("96 × 64") == 1
    assert own_width.count("B × 4 × 16 × 24") == 4 and own_width.count("B × 16 × 96") == 4
    without = {key: value for key, value in BASE.items() if key != "head_dim"}
    assert said(drawings.multi_head(without)) == texts


def test_vit_shows_the_digit_that_it_is_given() -> None:
    image = np.zeros((28, 28), dtype=np.uint8)
    image[3, 4] = 200
    whole, cut = (shown.get_array() for shown in drawings.vit(BASE, image).axes[0].images)
    assert (whole[::8, ::8] == image).all()
    # The pixel keeps its place in the first patch; all that is new is white.
    assert (cut[24:32, 32:40] == 200).all() and cut.sum() == whole.sum()
    default, _ = drawings.vit(BASE).axes[0].images
    assert default.get_array().max() == 255


# --- how they look ---------------------------------------------------------------------


@pytest.mark.parametrize("name", DRAWINGS)
def test_no_text_overlaps_another_or_an_edge(name: str) -> None:
    figure = DRAWINGS[name]()
    texts, boxes = texts_of(figure), boxes_of(figure)
    page = figure.bbox
    for text, place in texts:
        assert contains(page, place), f"{text!r} leaves the page"
    for (one, place), (other, elsewhere) in combinations(texts, 2):
        assert not overlap(place, elsewhere), f"{one!r} overlaps {other!r}"
    for text, place in texts:
        fronts = [box for label, box in boxes if not label.startswith("copy")]
        covered = any(contains(box, place) for box in fronts)  # the copies lie behind that box
        for label, box in boxes:
            if covered and label.startswith("copy"):
                continue
            crosses = overlap(box, place) and not contains(box, place)
            assert not crosses, f"{text!r} crosses the edge of a box ({label})"


@pytest.mark.parametrize("name", DRAWINGS)
def test_no_line_crosses_a_text_or_another_line(name: str) -> None:
    figure = DRAWINGS[name]()
    texts = texts_of(figure)
    lines = [patch for patch in figure.axes[0].patches if isinstance(patch, PathPatch)]
    assert lines
    paths = [line.get_path().transformed(line.get_transform()) for line in lines]
    for path in paths:
        for text, place in texts:
            assert not path.intersects_bbox(place, filled=False), f"a line crosses {text!r}"
    for one, other in combinations(paths, 2):
        if one.intersects_path(other, filled=False):
            # Where lines part or meet, one of them ends; in a crossing both go on.
            assert ends_on(one, other) or ends_on(other, one)


def ends_on(one: MplPath, other: MplPath) -> bool:
    """Whether a line begins or ends within a pixel of another."""
    ends = [Bbox.from_bounds(x - 1, y - 1, 2, 2) for x, y in one.vertices[[0, -1]]]
    return any(other.intersects_bbox(end, filled=False) for end in ends)


@pytest.mark.parametrize("name", DRAWINGS)
def test_text_can_be_read_and_arrow_heads_are_equal(name: str) -> None:
    figure = DRAWINGS[name]()
    assert style.faults(figure) == []
    heads = [patch for patch in figure.axes[0].patches if isinstance(patch, Polygon)]
    sizes = {tuple(np.round(sorted(np.ptp(head.get_xy(), axis=0)), 6)) for head in heads}
    assert heads and len(sizes) == 1


# --- the residual path -----------------------------------------------------------------


def halves(figure: Figure) -> dict[str, dict[str, list[Any]]]:
    """Residual stretches, norms and plus nodes of the two forms, places in units of the canvas."""
    found: dict[str, dict[str, list[Any]]] = {
        half: {"residual": [], "norm": [], "plus": []} for half in ("pre", "post")
    }
    for patch in figure.axes[0].patches:
        place = patch.get_path().transformed(patch.get_patch_transform()).get_extents()
        half = found["pre" if place.x0 < WIDE / 2 else "post"]
        if isinstance(patch, Circle):
            half["plus"].append(place)
        elif patch.get_label() in ("residual", "norm"):
            half[str(patch.get_label())].append(place)
    return found


def test_pre_norm_residual_path_meets_no_norm_from_input_to_output() -> None:
    figure = drawings.block()
    heights = {text.get_text(): text.get_position() for text in figure.axes[0].texts}
    pre = halves(figure)["pre"]
    assert len(pre["norm"]) == 2 and len(pre["plus"]) == 2
    stretches = sorted(pre["residual"], key=lambda place: place.y0)
    # One straight line, interrupted by nothing but the plus nodes and the arrow heads there.
    assert {place.x0 for place in stretches} == {place.x1 for place in stretches}
    assert len({place.x0 for place in stretches}) == 1
    for lower, upper in pairwise(stretches):
        between = Bbox.from_extents(lower.x0, lower.y1, upper.x0, upper.y0)
        assert 0 < between.height < 0.3
        assert any(plus.y0 <= between.y1 and between.y0 <= plus.y1 for plus in pre["plus"])
    assert stretches[0].y0 <= heights["$z$"][1] and stretches[-1].y1 >= heights["$z''$"][1] - 0.1
    for norm in pre["norm"]:
        assert not norm.x0 <= stretches[0].x0 <= norm.x1


def test_post_norm_has_both_norms_on_the_path() -> None:
    post = halves(drawings.block())["post"]
    path = post["residual"][0].x0
    assert len(post["norm"]) == 2
    for norm, plus in zip(
        sorted(post["norm"], key=lambda p: p.y0),
        sorted(post["plus"], key=lambda p: p.y0),
        strict=True,
    ):
        assert norm.x0 < path < norm.x1 and norm.y0 > plus.y1


def test_residual_path_is_the_thick_line() -> None:
    patches = drawings.block().axes[0].patches
    widths = {
        label: {patch.get_linewidth() for patch in patches if patch.get_label() == label}
        for label in ("residual", "arrow")
    }
    assert min(widths["residual"]) > 2 * max(widths["arrow"])


def test_block_names_what_the_equations_name() -> None:
    texts = said(drawings.block())
    assert {"$z$", "$z'$", "$z''$", "$x$", "$y$", "MSA", "MLP", "LN$_1$", "LN$_2$"} <= set(texts)
    assert [texts.count(name) for name in ("$z$", "MSA", "MLP", "LN$_1$", "LN$_2$")] == [2] * 5
    assert {"MSA(LN$_1$($z$))", "MLP(LN$_2$($z'$))", "MSA($x$)", "MLP($y$)"} <= set(texts)


# --- how they are made -----------------------------------------------------------------


@pytest.mark.parametrize("name", ["block", "vit: base", "multi_head: base"])
def test_drawn_twice_gives_the_same_bytes_in_little_time(name: str, tmp_path: Path) -> None:
    # Of one name: the names of the clipping paths follow from it.
    files = [tmp_path / folder / "drawn.svg" for folder in ("one", "two")]
    start = time.process_time()
    for file in files:
        file.parent.mkdir()
        style.save(DRAWINGS[name](), file)
    assert (time.process_time() - start) / 2 < 2
    assert files[0].read_bytes() == files[1].read_bytes()


def test_drawing_imports_no_torch() -> None:
    code = (
        "import sys; from vitrail import drawings; drawings.block(); "
        f"drawings.vit({BASE!r}); drawings.multi_head({BASE!r}); "
        "sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
