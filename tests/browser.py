"""A page of the report in a real browser, and what is wrong with it there.

The browser is the Chromium or Chrome of the system, driven by Playwright. Every check gives a
list of faults, each a sentence that names the place; an empty list is a good page.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest

from vitrail.pictures import BROWSERS

PHONE, DESK = 390, 1280  # widths in CSS pixels
HEIGHT = 900


@dataclass
class Opened:
    """A page that is open, and what it said and asked for since."""

    page: Any  # a Playwright page
    file: Path
    said: list[str] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)

    def loading_faults(self) -> list[str]:
        """Errors and warnings of the console, uncaught errors, anything fetched but the page."""
        own = self.file.resolve().as_uri()
        fetched = [url for url in self.asked if not url.startswith("data:") and url != own]
        return self.said + [f"the page fetches {url}" for url in fetched]

    def see_everything(self) -> None:
        """Open every fold and scroll through, so that what waits to be seen is built."""
        self.page.evaluate("document.querySelectorAll('details').forEach(d => d.open = true)")
        height = self.page.evaluate("document.documentElement.scrollHeight")
        for top in range(0, height + HEIGHT, HEIGHT):
            self.page.evaluate(f"window.scrollTo(0, {top})")
        self.page.wait_for_timeout(100)
        self.page.evaluate("window.scrollTo(0, 0)")


Open = Callable[..., Any]


def find_browser() -> str:
    """The path of the system's browser; skips the test where there is none."""
    program = next(filter(None, (shutil.which(name) for name in BROWSERS)), None)
    if program is None:
        pytest.skip(f"no browser here: none of {', '.join(BROWSERS)} is on PATH")
    return program


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    """A headless browser; the tests skip, saying why, where there is none.

    One for each test file and no longer: while it is open, Playwright keeps an event loop
    running in this thread, in which other tests could start none.
    """
    playwright = pytest.importorskip("playwright.sync_api", reason="Playwright is not installed")
    program = find_browser()
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=program)
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def open_page(chromium: Any) -> Open:
    """A function that opens a file at a width, light or dark, as ``with open_page(...) as it``."""

    @contextmanager
    def opened(
        file: Path, width: int = DESK, scheme: str = "light", **more: Any
    ) -> Iterator[Opened]:
        context = chromium.new_context(
            viewport={"width": width, "height": HEIGHT}, color_scheme=scheme, **more
        )
        try:
            page = context.new_page()
            it = Opened(page, file)
            page.on("console", lambda message: _listen(it.said, message))
            page.on("pageerror", lambda error: it.said.append(f"an error nobody caught: {error}"))
            page.on("request", lambda request: it.asked.append(request.url))
            page.goto(file.resolve().as_uri(), wait_until="load")
            yield it
        finally:
            context.close()

    return opened


def _listen(said: list[str], message: Any) -> None:
    if message.type in ("error", "warning"):
        said.append(f"the console says: {message.text}")


def link_faults(it: Opened) -> list[str]:
    """Links that lead nowhere: to an id that is not there, or to a file that is not there."""
    links = it.page.evaluate(
        """() => Array.from(document.querySelectorAll('a[href], area[href]'), a => ({
            href: a.getAttribute('href'), words: a.textContent.trim().slice(0, 40)}))"""
    )
    ids = set(it.page.evaluate("Array.from(document.querySelectorAll('[id]'), e => e.id)"))
    faults = []
    for link in links:
        where = f"the link {link['words']!r} to {link['href']!r}"
        parts = urlsplit(link["href"])
        if parts.scheme in ("http", "https", "mailto"):
            continue
        if parts.scheme or parts.netloc or parts.path.startswith("/"):
            faults.append(f"{where} holds on one machine only")
        elif parts.path:
            if not (it.file.parent / unquote(parts.path)).exists():
                faults.append(f"{where} leads to no file")
        elif unquote(parts.fragment) not in ids:
            faults.append(f"{where} leads to no place of the page")
    twice = it.page.evaluate(
        """() => Array.from(document.querySelectorAll('[id]'), e => e.id)
            .filter((id, at, all) => all.indexOf(id) !== at)"""
    )
    return faults + [f"the id {name!r} stands twice" for name in twice]


def image_faults(it: Opened) -> list[str]:
    """Pictures that did not load, take no room, or say nothing to those who cannot see them."""
    return it.page.evaluate(
        """async () => {
            const faults = []
            // Quarto leaves the size to the style sheet.
            const ours = document.querySelector('meta[name=generator][content=vitrail]')
            for (const img of document.querySelectorAll('img')) {
              const name = `the picture ${JSON.stringify(img.alt.slice(0, 40))} in ` +
                (img.closest('[id]')?.id || 'the page')
              await img.decode().catch(() => {})
              const box = img.getBoundingClientRect()
              if (!img.complete || !img.naturalWidth) faults.push(`${name} did not load`)
              // The printed figure waits behind its interactive view.
              else if (!img.closest('[hidden]') && (box.width < 8 || box.height < 8))
                faults.push(`${name} takes no room`)
              if (ours && !(img.getAttribute('width') && img.getAttribute('height')))
                faults.push(`${name} keeps no room free while it loads`)
              const decoration = img.closest('[aria-hidden=true]') || img.role === 'presentation'
              if (!decoration && !img.alt.trim()) faults.push(`${name} has no alt text`)
            }
            return faults
        }"""
    )


def width_faults(it: Opened) -> list[str]:
    """What makes the page scroll sideways, or is cut off at its edge.

    Boxes that scroll by themselves (code, wide tables) may hold more than they show.
    """
    return it.page.evaluate(
        """() => {
            const edge = document.documentElement.clientWidth
            const faults = []
            const room = document.documentElement.scrollWidth
            if (room > edge) faults.push(`the page is ${room} px wide, its window ${edge} px`)
            const scrolls = element => {
              const box = element.parentElement
              if (!box || box === document.body) return false
              return /auto|scroll/.test(getComputedStyle(box).overflowX) || scrolls(box)
            }
            for (const element of document.body.querySelectorAll('*')) {
              const box = element.getBoundingClientRect()
              if (!box.width || getComputedStyle(element).visibility === 'hidden') continue
              const out = box.right > edge + 1 ? box.right - edge : box.left < -1 ? -box.left : 0
              // A link for the keyboard waits outside the page until it has the focus.
              if (!out || box.right <= 0 || box.bottom <= 0 || scrolls(element)) continue
              const place = element.closest('[id]')?.id || 'the page'
              faults.push(`<${element.localName}> sticks out by ${Math.round(out)} px in ${place}`)
            }
            return faults.slice(0, 8)
        }"""
    )


def shift_of_layout(it: Opened) -> float:
    """How much the page moved under the reader while it loaded (cumulative layout shift)."""
    return it.page.evaluate(
        """() => new Promise(resolve => {
            let sum = 0
            new PerformanceObserver(list => { for (const e of list.getEntries()) sum += e.value })
              .observe({type: 'layout-shift', buffered: true})
            setTimeout(() => resolve(sum), 300)
        })"""
    )


def accessibility_faults(it: Opened) -> list[str]:
    """What axe-core calls serious or critical, one sentence for each place."""
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="axe is not here").Axe
    found = axe().run(it.page, options={"resultTypes": ["violations"]}).response["violations"]
    return [
        f"{rule['id']} ({rule['impact']}) at {' '.join(map(str, node['target']))}: "
        f"{' '.join(node['failureSummary'].split())}"
        for rule in found
        if rule["impact"] in ("serious", "critical")
        for node in rule["nodes"]
    ]
