"""The look of the figures: sizes, one colour per model, colours that everybody can tell apart."""

from __future__ import annotations

import re
from itertools import combinations
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pytest

from vitrail import style
from vitrail.runs import expand

# From linear RGB to what the eye without one kind of cones sees: Machado, Oliveira and
# Fernandes (2009), IEEE TVCG 15(6), full severity.
VISIONS = {
    "normal": np.eye(3),
    "protanopia": np.array(
        [
            [0.152286, 1.052583, -0.204868],
            [0.114503, 0.786281, 0.099216],
            [-0.003882, -0.048116, 1.051998],
        ]
    ),
    "deuteranopia": np.array(
        [
            [0.367322, 0.860646, -0.227968],
            [0.280085, 0.672501, 0.047413],
            [-0.011820, 0.042940, 0.968881],
        ]
    ),
}
# Ottosson's OKLab, in which equal steps look equal; 100 from black to white.
TO_LMS = np.array(
    [
        [0.4122214708, 0.5363325363, 0.0514459929],
        [0.2119034982, 0.6806995451, 0.1073969566],
        [0.0883024619, 0.2817188376, 0.6299787005],
    ]
)
TO_LAB = np.array(
    [
        [0.2104542553, 0.7936177850, -0.0040720468],
        [1.9779984951, -2.4285922050, 0.4505937099],
        [0.0259040371, 0.7827717662, -0.8086757660],
    ]
)
APART = 7.5  # of OKLab; the pair that comes nearest is Okabe and Ito's green and purple


def seen(colour: str, vision: str) -> np.ndarray:
    """A colour in OKLab as a kind of vision has it."""
    part = np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)]) / 255
    linear = np.where(part <= 0.04045, part / 12.92, ((part + 0.055) / 1.055) ** 2.4)
    cones = TO_LMS @ np.clip(VISIONS[vision] @ linear, 0, 1)
    lab: np.ndarray = 100 * TO_LAB @ np.cbrt(cones)
    return lab


def test_the_simulation_knows_red_from_green_in_normal_vision_only() -> None:
    def distance(vision: str) -> float:
        return float(np.linalg.norm(seen("#c06050", vision) - seen("#7a8a3c", vision)))

    assert distance("normal") > 15
    assert distance("deuteranopia") < 7.5


@pytest.mark.parametrize("vision", VISIONS)
def test_every_two_colours_can_be_told_apart(vision: str) -> None:
    colours = {kind: look.colour for kind, look in style.KINDS.items()}
    colours |= {f"variant {place}": look.colour for place, look in enumerate(style.VARIANTS)}
    for (one, first), (other, second) in combinations(colours.items(), 2):
        distance = np.linalg.norm(seen(first, vision) - seen(second, vision))
        assert distance >= APART, f"{one} and {other} are {distance:.1f} apart"


def test_every_kind_of_model_has_a_colour_and_a_marker_of_its_own() -> None:
    looks = [*style.KINDS.values(), *style.VARIANTS]
    assert len({look.colour for look in looks}) == len({look.marker for look in looks}) == 11


def test_no_two_vits_look_alike() -> None:
    looks = style.vits(80)
    assert len(set(looks)) == 80
    assert looks[0] == style.KINDS["vit"]
    kinds = {look.colour for look in style.KINDS.values()}
    assert not kinds & {look.colour for look in looks[1:]}
    assert len({(look.colour, look.line) for look in looks[:26]}) == 26


def test_every_experiment_of_the_study_keeps_to_the_colours(config: dict[str, Any]) -> None:
    """One look per arm, other kinds of model in their colour, and one ViT in that of the base."""
    plan = expand(config)
    base = plan.arms[plan.base].settings
    assert len(plan.experiments) > 15
    for experiment in plan.experiments:
        members = experiment.members
        if experiment.methods:  # a method looks the same at all its budgets
            firsts = {member.method: member for member in reversed(members)}
            members = tuple(firsts.values())
        looks = style.looks_of(members, base)
        assert [*looks] == [member.name for member in members]
        assert len(set(looks.values())) == len(members), experiment.name
        blue = 0
        for member in members:
            kind = style.kind_of(member.arm.settings)
            look = looks[member.name]
            if kind == "vit":
                blue += look == style.KINDS["vit"]
                assert look.colour not in {style.KINDS[kind].colour for kind in ("cnn", "timm")}
            else:
                assert look.colour == style.KINDS[kind].colour
        assert blue == any(style.kind_of(m.arm.settings) == "vit" for m in members)


def test_the_base_vit_is_blue_whoever_is_subtracted(config: dict[str, Any]) -> None:
    plan = expand(config)
    base = plan.arms[plan.base].settings
    looks = {e.name: style.looks_of(e.members, base) for e in plan.experiments}
    assert looks["one_head"]["base"] == style.KINDS["vit"]  # the reference is the other arm
    assert looks["depth"]["4"] == style.KINDS["vit"]
    assert looks["transfer"]["vit"] == style.KINDS["vit"]
    assert looks["transfer"]["scratch"] == style.KINDS["timm"]
    assert looks["transfer"]["efficientnet"].colour == style.KINDS["timm_cnn"].colour


def test_two_settings_that_are_combined_are_told_by_tone_and_line(config: dict[str, Any]) -> None:
    plan = expand(config)
    (norm,) = [e for e in plan.experiments if e.name == "norm"]
    looks = style.looks_of(norm.members, plan.arms[plan.base].settings)
    assert looks["pre"].colour == looks["pre_cold"].colour == style.VIT
    assert looks["post"].colour == looks["post_cold"].colour != style.VIT
    assert looks["pre"].line == looks["post"].line != looks["pre_cold"].line


def test_a_figure_is_saved_at_the_width_and_in_the_sizes_of_the_house(tmp_path: Path) -> None:
    import matplotlib.pyplot as plt

    style.use()
    opened = plt.get_fignums()
    for width in (style.WIDTH, style.HALF):
        drawing, axes = plt.subplots(figsize=(width, 2))
        axes.set(title="a title", xlabel="x")
        axes.text(0.5, 0.5, "a note")
        axes.plot([1, 2], label="a line")
        axes.legend(title="lines")
        style.save(drawing, tmp_path / "right.svg")
    drawing, axes = plt.subplots(figsize=(5, 2))
    with pytest.raises(ValueError, match=r"wide.svg: 5.00 inches wide"):
        style.save(drawing, tmp_path / "wide.svg")
    drawing, axes = plt.subplots(figsize=(style.WIDTH, 2))
    axes.tick_params(labelsize=7)
    with pytest.raises(ValueError, match=r"small.svg: '0.0' is 7 pt, not 8 or 9"):
        style.save(drawing, tmp_path / "small.svg")
    assert [file.name for file in tmp_path.iterdir()] == ["right.svg"]
    assert plt.get_fignums() == opened


def test_the_last_digit_of_a_corner_changes_no_byte(tmp_path: Path) -> None:
    """Of an axes: matplotlib names its clipping path by a hash of all digits."""

    def drawn(name: str, left: float) -> bytes:
        figure = plt.figure(figsize=(style.WIDTH, 2), layout="none")
        axes = figure.add_axes((left, 0.2, 0.5, 0.5))
        axes.plot([0, 1], [0, 1])
        axes.set(xticks=[], yticks=[])
        (tmp_path / name).mkdir()
        style.save(figure, tmp_path / name / "one.svg")
        return (tmp_path / name / "one.svg").read_bytes()

    style.use()
    found = drawn("one", 0.3)
    assert found == drawn("other", float(np.nextafter(0.3, 1)))
    (clip,) = set(re.findall(rb'clipPath id="(\w+)"', found))
    assert b"url(#" + clip + b")" in found
