"""The interactive views in a real browser: what a reader does, and what the page answers."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from browser import (
    DESK,
    PHONE,
    Open,
    accessibility_faults,
    image_faults,
    link_faults,
    width_faults,
)
from made_report import RENDERS
from made_views import make_project
from vitrail.report.render import render
from vitrail.views import VIEWS

pytestmark = RENDERS


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A page with all views, rendered by the built-in route."""
    project = make_project(tmp_path_factory.mktemp("views"))
    render("tiny", project / "results", project / "report", project, "builtin", ())
    return project / "results" / "tiny" / "report" / "report.html"


@pytest.fixture
def page(open_page: Open, report: Path) -> Iterator[Any]:
    """The page at the width of a desk; an error or a request while it is used fails the test."""
    with open_page(report) as it:
        yield it.page
        assert it.loading_faults() == []


def said(view: Any) -> str:
    """The live sentence of a view, with plain blanks."""
    return " ".join(view.locator(".x-say").inner_text().replace("\u00a0", " ").split())


def radio(view: Any, name: str) -> Any:
    return view.get_by_role("radio", name=name, exact=True)


def pick(view: Any, name: str) -> None:
    """Choose as a reader does, on the face of the radio button."""
    radio(view, name).locator("xpath=..").click()


def drawn(view: Any) -> tuple[list[str], list[str]]:
    """Colours of the cells and numbers in the large map of attention."""
    cells = view.locator(".x-cell").evaluate_all("all => all.map(e => e.style.background)")
    return cells, view.locator(".x-map text").all_text_contents()


@pytest.fixture
def attention(page: Any) -> Any:
    return page.locator(".x-attention")


def test_views_stand_in_their_figures(page: Any) -> None:
    """The caption stays; the printed figure is a click away, and gone again."""
    for view in VIEWS:
        box = page.locator(f".explore[data-view={view}]")
        assert box.locator("figure .x-live").is_visible()
        assert box.locator("figcaption").is_visible() and not box.locator("img").is_visible()
        box.get_by_role("button", name="Show the printed figure").click()
        assert box.locator("img").is_visible() and not box.locator(f".x-{view}").is_visible()
        box.get_by_role("button", name="Back to the interactive one").click()
        assert not box.locator("img").is_visible() and box.locator(f".x-{view}").is_visible()


def test_without_javascript_the_figures_stand_alone(open_page: Open, report: Path) -> None:
    with open_page(report, java_script_enabled=False) as it:
        assert [image.is_visible() for image in it.page.locator("figure img").all()] == [True] * 3
        assert it.page.locator(".x-live").count() == 0


def test_paper_gets_the_printed_figures(page: Any) -> None:
    page.emulate_media(media="print")
    assert [image.is_visible() for image in page.locator("figure img").all()] == [True] * 3
    assert not page.locator(".x-live").first.is_visible()


def test_one_broken_view_leaves_its_figure_and_the_others(
    open_page: Open, report: Path, tmp_path: Path
) -> None:
    broken = tmp_path / "broken.html"
    broken.write_text(report.read_text().replace('"arms":', '"legs":'))
    with open_page(broken) as it:
        assert len(it.said) == 1 and it.page.locator(".x-live").count() == 2
        assert it.page.locator("[data-view=effects] img").is_visible()


def test_attention_follows_digit_block_head_and_direction(attention: Any) -> None:
    # The first token of 1 + 2 x 2 that is shown is the patch with most ink.
    pick(attention, "digit 0")
    pick(attention, "block 1, head 1")
    pick(attention, "class token")
    assert said(attention) == (
        "Block 1, head 1, on a 0 (read as 0): the class token gives 60 % of its attention to the "
        "patch in row 1, column 1, the most of any token; 10 % to itself. Even attention would "
        "give 20.0 % to each."
    )
    seen = [drawn(attention)]
    assert seen[0][1] == ["10\u00a0%", "60\u00a0%", "10\u00a0%", "10\u00a0%", "10\u00a0%"]
    for name, top in (
        ("digit 1", "row 1, column 2"),
        ("block 2, head 1", "row 2, column 2"),
        ("block 1, head 2", "row 2, column 1"),
        ("row 1, column 1", "row 2, column 2"),
    ):
        pick(attention, name)
        assert f"to the patch in {top}, the most" in said(attention)
        seen.append(drawn(attention))
        assert seen[-1] != seen[-2]
    assert "(read as 7)" in said(attention) and "10 % to the class token" in said(attention)
    pick(attention, "who looks at it")
    # Head 2 of block 1 on the second digit: token t reads t + 3, so t = 1 is read by token 3.
    assert (
        "the patch in row 1, column 1 gets 60 % of the attention of the patch in row 2, column 1"
        in said(attention)
    )
    assert drawn(attention) != seen[-1]


def test_attention_follows_the_pointer_and_the_arrow_keys(attention: Any, page: Any) -> None:
    pick(attention, "digit 0")
    pick(attention, "row 1, column 1")
    before = drawn(attention), said(attention)
    radio(attention, "row 2, column 2").locator("xpath=..").hover()
    assert "the patch in row 2, column 2 gives 60 %" in said(attention)
    assert drawn(attention) != before[0]
    radio(attention, "row 2, column 2").focus()
    for key, place in (
        ("ArrowUp", "row 1, column 2"), ("ArrowLeft", "row 1, column 1"),
        ("ArrowUp", "row 1, column 1"), ("ArrowLeft", "class token"),
    ):  # fmt: skip
        page.keyboard.press(key)
        assert radio(attention, place).is_checked(), key
        assert f"the {place}" in said(attention) or f"the patch in {place}" in said(attention)
    outline = page.evaluate("getComputedStyle(document.activeElement.parentElement).outlineStyle")
    assert outline == "solid"


def test_small_maps_are_a_grid_for_the_arrow_keys(attention: Any, page: Any) -> None:
    pick(attention, "block 1, head 2")
    page.keyboard.press("ArrowDown")
    assert radio(attention, "block 2, head 2").is_checked()
    assert said(attention).startswith("Block 2, head 2")
    page.keyboard.press("ArrowDown")  # no row below
    assert radio(attention, "block 2, head 2").is_checked()


def test_outline_is_that_of_the_digit(attention: Any) -> None:
    """The bar of ink of digit 0 covers columns 4 to 8 and rows 4 to 23 of the image."""
    pick(attention, "digit 0")
    box = attention.locator(".x-over").evaluate("e => { const b = e.getBBox(); return b.toJSON ? "
        "b.toJSON() : [b.x, b.y, b.width, b.height] }")  # fmt: skip
    x, y, width, height = box if isinstance(box, list) else box.values()
    assert (x, y) == pytest.approx((4, 4), abs=0.05)
    assert (width, height) == pytest.approx((5, 20), abs=0.1)


@pytest.fixture
def reduction(page: Any) -> Any:
    return page.locator(".x-reduction")


def shapes(reduction: Any) -> dict[str, int]:
    """What is drawn over the digit in the large map."""
    large = reduction.locator(".x-map .x-frame")
    return {
        name: large.locator(f".x-{name}").count() for name in ("gone", "cross", "merged", "marked")
    }


def test_slider_goes_from_all_tokens_to_the_fewest(reduction: Any) -> None:
    slider = reduction.get_by_role("slider")
    figures = reduction.locator(".x-figures")
    pick(reduction, "ToMe")
    pick(reduction, "after block 2")
    slider.fill("0")
    assert said(reduction) == (
        "All tokens, after block 2: of 4 patches 4 on their own. This 1 is read as 1."
    )
    assert shapes(reduction)["merged"] == 0 and "100\u00a0%" in figures.inner_text()
    slider.fill("1")
    assert slider.get_attribute("aria-valuetext") == "r = 1"
    assert "ToMe, r = 1, after block 2: of 4 patches 2 on their own, 2 merged into 1." in said(
        reduction
    )
    assert "0.80 million (80\u00a0%)" in figures.inner_text()
    assert "90.80 %" in figures.inner_text() and "−0.20 ± 0.10 points" in figures.inner_text()
    slider.fill("2")
    assert "0 on their own, 4 merged into 2" in said(reduction)
    assert shapes(reduction)["merged"] == 4
    fills = reduction.locator(".x-map .x-merged").evaluate_all(
        "all => all.map(e => e.getAttribute('fill'))"
    )
    assert fills[0] == fills[1] != fills[2] == fills[3]


def test_blocks_ways_and_patches_are_told_apart(reduction: Any) -> None:
    pick(reduction, "ToMe")
    reduction.get_by_role("slider").fill("1")
    pick(reduction, "pruning")  # at the setting of about equal cost
    assert reduction.locator(".x-chosen").inner_text() == "r = 1"
    assert "Pruning, r = 1, after block 2: of 4 patches 3 on their own, 1 dropped." in said(
        reduction
    )
    assert (shapes(reduction)["gone"], shapes(reduction)["cross"]) == (1, 1)
    radio(reduction, "row 2, column 2").locator("xpath=..").hover()
    assert "The patch in row 2, column 2 was dropped in block 2." in said(reduction)
    pick(reduction, "after block 1")
    assert "4 on their own" in said(reduction) and "is a token of its own" in said(reduction)
    pick(reduction, "ToMe")
    pick(reduction, "row 1, column 2")
    assert "is one of 2 that are one token" in said(reduction)
    assert shapes(reduction)["marked"] == 2
    pick(reduction, "digit 0")
    assert "This 0 is read as 0." in said(reduction)


@pytest.fixture
def effects(page: Any) -> Any:
    return page.locator(".x-effects")


def test_arm_tells_its_figures_on_focus_and_hover(effects: Any, page: Any) -> None:
    tip = effects.get_by_role("tooltip")
    assert tip.count() == 0
    arm = effects.get_by_role("button", name="two blocks", exact=True)
    arm.focus()
    words = tip.inner_text().replace("\u00a0", " ")
    assert "Depth: two blocks against four blocks" in words
    assert "-0.40 ± 0.20 points; the 95 % interval excludes zero." in words
    assert "Test accuracy 96.60 % ± 0.10 against 97.00 % ± 0.10." in words
    assert "Seed 0: 96.50 against 97.00, −0.50" in words and "Seed 2: 96.70" in words
    assert arm.get_attribute("aria-describedby") == tip.get_attribute("id")
    page.keyboard.press("Escape")
    assert tip.count() == 0
    effects.locator(".x-row").nth(2).hover()
    assert "Norm: post against pre" in tip.inner_text()
    page.mouse.move(1, 1)
    assert tip.count() == 0


def test_arrow_keys_go_from_arm_to_arm(effects: Any, page: Any) -> None:
    effects.get_by_role("button", name="two blocks", exact=True).focus()
    page.keyboard.press("ArrowDown")
    tip = effects.get_by_role("tooltip")
    # The label holds </script>: the data it came in were not cut off there.
    assert "eight </script><!-- blocks" in tip.inner_text() and "holds zero" in tip.inner_text()
    page.keyboard.press("End")
    assert "post" in tip.inner_text()
    assert effects.locator('.x-arm[tabindex="0"]').all_inner_texts() == ["post"]


def test_arms_are_filtered_and_sorted(effects: Any) -> None:
    labels = effects.locator(".x-arm")
    assert labels.count() == 3
    assert said(effects) == "3 of 3 arms, 2 with an interval that excludes zero."
    pick(effects, "by difference")
    assert labels.all_inner_texts()[0] == "post\nNorm"
    assert effects.locator(".x-group").count() == 0
    effects.get_by_role("combobox").select_option("Depth")
    assert labels.count() == 2 and said(effects).startswith("2 of 3 arms, 1 with")
    pick(effects, "by experiment")
    assert effects.locator(".x-group").inner_text() == "Depth against four blocks"


def test_intervals_stand_where_the_axis_says(effects: Any) -> None:
    """Zero of the axis, the zero lines, and the middle of an arm at -0.4 points."""
    zero = effects.locator(".x-axis span", has_text="0").first.evaluate("e => e.style.left")
    lines = effects.locator(".x-zero").evaluate_all("all => all.map(e => e.getAttribute('x1'))")
    assert {f"{float(x[:-1]):.1f}" for x in lines} == {f"{float(zero[:-1]):.1f}"}
    middle = [float(x[:-1]) for x in effects.locator(".x-mean").evaluate_all(
        "all => all.map(e => e.getAttribute('cx'))")]  # fmt: skip
    at_zero = float(zero[:-1])
    assert middle[2] < middle[0] < at_zero < middle[1]
    unit = at_zero - middle[0]  # 0.4 points on the linear part
    assert middle[1] - at_zero == pytest.approx(unit / 4, abs=0.05)


def test_fingers_choose_on_a_phone(open_page: Open, report: Path) -> None:
    with open_page(report, PHONE, has_touch=True) as it:
        view = it.page.locator(".x-attention")
        radio(view, "row 2, column 1").locator("xpath=..").tap()
        assert "the patch in row 2, column 1 gives" in said(view)
        it.page.locator(".x-arm", has_text="post").tap()
        assert "Norm: post" in it.page.get_by_role("tooltip").inner_text()
        assert width_faults(it) == []


@pytest.mark.parametrize("width", [PHONE, DESK])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_views_keep_the_promises_of_the_page(
    open_page: Open, report: Path, width: int, scheme: str
) -> None:
    with open_page(report, width, scheme) as it:
        it.page.locator(".x-arm").first.focus()
        for faults in (accessibility_faults, width_faults, image_faults, link_faults):
            assert faults(it) == []
