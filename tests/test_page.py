"""The page of the report as a browser shows it: a small made one, and that of the smoke study."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Any

import pytest

from browser import (
    DESK,
    PHONE,
    Open,
    Opened,
    accessibility_faults,
    find_browser,
    image_faults,
    link_faults,
    shift_of_layout,
    width_faults,
)
from made_report import RENDERS, built, make_project

MEBIBYTE = 2**20


@pytest.fixture(
    scope="module",
    params=[
        pytest.param("made", marks=RENDERS),
        pytest.param("smoke", marks=pytest.mark.end_to_end),
    ],
)
def report(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page to look at."""
    if request.param == "smoke":
        return request.getfixturevalue("study").folder / "report" / "report.html"
    project = make_project(tmp_path_factory.mktemp("made"))
    built(project)
    return project / "results" / "tiny" / "report" / "report.html"


SIZES = pytest.mark.parametrize("width", [PHONE, DESK])


@SIZES
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_page_is_accessible(open_page: Open, report: Path, width: int, scheme: str) -> None:
    with open_page(report, width, scheme) as it:
        it.see_everything()
        assert accessibility_faults(it) == []


@SIZES
def test_nothing_is_fetched_and_nothing_complains(
    open_page: Open, report: Path, width: int
) -> None:
    with open_page(report, width) as it:
        it.see_everything()
        assert it.loading_faults() == []


def test_every_link_resolves(open_page: Open, report: Path) -> None:
    with open_page(report) as it:
        it.see_everything()
        assert link_faults(it) == []
        assert it.page.locator("main a[href^='#']").count() > 5


@SIZES
def test_pictures_are_there_and_tell_what_is_seen(
    open_page: Open, report: Path, width: int
) -> None:
    with open_page(report, width) as it:
        it.see_everything()
        assert image_faults(it) == []
        assert it.page.locator("main img").count() >= 3


@SIZES
def test_nothing_sticks_out(open_page: Open, report: Path, width: int) -> None:
    with open_page(report, width) as it:
        it.see_everything()
        assert width_faults(it) == []


@SIZES
def test_the_page_stays_still_while_it_loads(open_page: Open, report: Path, width: int) -> None:
    with open_page(report, width) as it:
        assert shift_of_layout(it) < 0.05


def test_the_page_is_not_too_heavy(report: Path) -> None:
    assert report.stat().st_size < 8 * MEBIBYTE


def test_the_page_says_the_same_without_scripts(open_page: Open, report: Path) -> None:
    with open_page(report, java_script_enabled=False) as it:
        assert it.page.locator("main h2").count() >= 9
        assert it.page.locator("main img").first.is_visible()
        assert it.page.locator("main table").first.is_visible()


def test_the_keyboard_comes_to_the_text_in_one_step(open_page: Open, report: Path) -> None:
    with open_page(report) as it:
        it.page.keyboard.press("Tab")
        link = it.page.locator(":focus")
        box = link.bounding_box()
        assert box["x"] >= 0 and box["y"] >= 0, "what has the focus is seen"
        it.page.keyboard.press("Enter")
        assert it.page.url.endswith("#content")


def test_printed_pages_keep_the_text_and_lose_the_sidebar(open_page: Open, report: Path) -> None:
    with open_page(report) as it:
        it.page.emulate_media(media="print")
        text = it.page.locator("main").bounding_box()
        contents = it.page.locator("nav").first.bounding_box()
        assert not contents or contents["y"] + contents["height"] <= text["y"]
        assert text["width"] > 0.9 * DESK


# --- Each check finds what it looks for

GOOD = """<!doctype html><html lang="en"><head><meta charset="utf-8"><title>Good</title>
<meta name="viewport" content="width=device-width"></head><body><main><h1 id="top">Good</h1>
<p><a href="#top">up</a> <a href="beside.csv">beside</a> <a href="https://example.org">out</a></p>
<img src="beside.svg" alt="a square" width="20" height="20">
<div style="overflow-x: auto" tabindex="0"><div style="width: 3000px">wide, in a box</div></div>
{}</main></body></html>"""
BROKEN: dict[str, tuple[Any, str, str]] = {
    "error": (Opened.loading_faults, "<script>console.error('oh')</script>", "console says: oh"),
    "warning": (Opened.loading_faults, "<script>console.warn('hm')</script>", "console says: hm"),
    "exception": (Opened.loading_faults, "<script>none()</script>", "nobody caught: .*none"),
    "remote image": (
        Opened.loading_faults, "<img src='http://127.0.0.1:9/x.png' alt='x'>", r"fetches http://127",
    ),
    "file beside": (
        Opened.loading_faults, "<script src='beside.js'></script>", r"fetches .*beside\.js",
    ),
    "late request": (
        Opened.loading_faults,
        "<div id='late'></div><script>new IntersectionObserver(seen => seen.some("
        "s => s.isIntersecting) && fetch('http://127.0.0.1:9/late').catch(() => 0))"
        ".observe(document.getElementById('late'))</script>", r"fetches .*/late",
    ),
    "dead place": (link_faults, "<a href='#gone'>there</a>", "'#gone' leads to no place"),
    "empty link": (link_faults, "<a href='#'>there</a>", "leads to no place"),
    "dead file": (link_faults, "<a href='../gone.csv'>data</a>", r"'\.\./gone\.csv' leads to no"),
    "one machine": (link_faults, "<a href='/root/x.csv'>data</a>", "one machine only"),
    "id twice": (link_faults, "<p id='top'>again</p>", "'top' stands twice"),
    "no alt text": (image_faults, "<img src='beside.svg' width=20 height=20>", "has no alt text"),
    "torn picture": (image_faults, "<img src='data:image/png;base64,AA' alt='x'>", "did not load"),
    "no size": (
        image_faults, "<meta name=generator content=vitrail><img src='beside.svg' alt='x'>",
        "keeps no room free",
    ),
    "no room": (image_faults, "<img src='beside.svg' alt='x' width=1 height=1>", "takes no room"),
    "wide": (width_faults, "<div style='width: 1500px'>wide</div>", "1508 px wide"),
    "cut off": (
        width_faults,
        "<div style='overflow: hidden'><div style='width: 1500px'>wide</div></div>", "sticks out",
    ),
    "to the left": (width_faults, "<p style='margin-left: -50px'>x</p>", "sticks out by 42"),
    "contrast": (accessibility_faults, "<p style='color: #bbb'>pale</p>", "color-contrast"),
    "contrast in the dark": (
        accessibility_faults,
        "<style>@media (prefers-color-scheme: dark) {p {background: #111; color: #333}}</style>",
        "color-contrast",
    ),
    "unlabelled": (accessibility_faults, "<select><option>1</select>", "select-name"),
    "nameless button": (accessibility_faults, "<button></button>", "button-name"),
}  # fmt: skip


@pytest.fixture
def page_with(tmp_path: Path) -> Any:
    """A function that writes the good page with something added."""

    def write(more: str) -> Path:
        (tmp_path / "beside.csv").write_text("a\n")
        (tmp_path / "beside.js").write_text("\n")
        (tmp_path / "beside.svg").write_text(
            '<svg xmlns="http://www.w3.org/2000/svg" width="20" height="20">'
            '<rect width="20" height="20"/></svg>'
        )
        page = tmp_path / "page.html"
        page.write_text(GOOD.format(more), encoding="utf-8")
        return page

    return write


@pytest.mark.parametrize("name", BROKEN)
def test_each_fault_is_found(open_page: Open, page_with: Any, name: str) -> None:
    check, more, message = BROKEN[name]
    with open_page(page_with(more), DESK, "dark" if "dark" in name else "light") as it:
        it.see_everything()
        faults = check(it)
    assert any(re.search(message, fault) for fault in faults), faults


def test_a_good_page_has_no_faults(open_page: Open, page_with: Any) -> None:
    file = page_with("")
    with open_page(file) as it:
        it.see_everything()
        picture = file.with_name("beside.svg").as_uri()
        assert it.loading_faults() == [f"the page fetches {picture}"]
        for check in (link_faults, image_faults, width_faults, accessibility_faults):
            assert check(it) == []


def test_a_page_that_moves_is_found(open_page: Open, page_with: Any) -> None:
    jump = "<script>setTimeout(() => document.body.style.paddingTop = '400px', 200)</script>"
    with open_page(page_with(jump + "<p>text</p>" * 20)) as it:
        it.page.wait_for_timeout(300)
        assert shift_of_layout(it) > 0.05


def test_a_browser_that_is_not_there_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: None)
    with pytest.raises(pytest.skip.Exception, match=r"chromium.* is on PATH"):
        find_browser()
