"""A PDF as its readers meet it, and what is wrong with it.

PDFium, the reader inside Chromium, tells where things lie on the page, which fonts they use
and what the file says about itself. Every check gives a list of faults; an empty list is good.
"""

from __future__ import annotations

import ctypes
import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

pdfium = pytest.importorskip("pypdfium2", reason="pypdfium2 is not installed")
raw = pdfium.raw

CENTIMETRE = 72 / 2.54  # in pt, the unit of all places
HANG = 3.0  # pt by which a hyphen or the edge of a letter may hang out of the text
KINDS = {raw.FPDF_PAGEOBJ_TEXT: "text", raw.FPDF_PAGEOBJ_PATH: "a line or shape",
         raw.FPDF_PAGEOBJ_IMAGE: "a picture", raw.FPDF_PAGEOBJ_SHADING: "a shade",
         raw.FPDF_PAGEOBJ_FORM: "a figure"}  # fmt: skip


@dataclass(frozen=True)
class Margins:
    """Distances of the text box from the edges of the page, in pt."""

    left: float
    right: float
    bottom: float

    @classmethod
    def of_template(cls, file: Path) -> Margins:
        """Those that the template of the built-in route sets."""
        text = file.read_text(encoding="utf-8")
        (found,) = re.findall(r"margin: \(top: ([\d.]+)cm, bottom: ([\d.]+)cm, x: ([\d.]+)cm", text)
        _, bottom, side = (float(number) * CENTIMETRE for number in found)
        return cls(side, side, bottom)


def outside_faults(file: Path, margins: Margins) -> list[str]:
    """What leaves the text box to a side, or goes into the foot, where only the number stands."""
    faults = []
    with pdfium.PdfDocument(file) as document:
        for number, page in enumerate(document, start=1):
            width, _ = page.get_size()
            for thing in page.get_objects(max_depth=1):
                left, bottom, right, top = thing.get_bounds()
                if left == right and bottom == top:
                    continue  # a blank
                out = max(margins.left - left, right - (width - margins.right))
                what = KINDS.get(thing.type, "something")
                if out > HANG:
                    faults.append(f"page {number}: {what} sticks out by {out:.0f} pt")
                # The page's number lies wholly in the foot.
                elif bottom < margins.bottom - HANG < top or bottom < 0:
                    faults.append(f"page {number}: {what} runs into the foot")
    return faults


def font_faults(file: Path) -> list[str]:
    """Fonts that are not in the file, so that another machine shows others."""
    faults = set()
    for name, embedded in fonts(file):
        if not embedded:
            faults.add(f"the font {name} is not in the file")
    return sorted(faults)


def fonts(file: Path) -> set[tuple[str, bool]]:
    """(name, whether it is in the file) of every font that sets text."""
    found = set()
    with pdfium.PdfDocument(file) as document:
        for page in document:
            for thing in page.get_objects(filter=[raw.FPDF_PAGEOBJ_TEXT], max_depth=15):
                font = raw.FPDFTextObj_GetFont(thing)
                room = ctypes.create_string_buffer(200)
                raw.FPDFFont_GetBaseFontName(font, room, len(room))
                found.add((room.value.decode(), raw.FPDFFont_GetIsEmbedded(font) == 1))
    return found


def pages_of_text(file: Path) -> list[str]:
    """The words of each page, ligatures taken apart and blanks made one."""
    with pdfium.PdfDocument(file) as document:
        texts = [page.get_textpage().get_text_range() for page in document]
    return [" ".join(unicodedata.normalize("NFKC", text).split()) for text in texts]


def text_faults(file: Path) -> list[str]:
    """Letters that nobody can copy, search or have read out."""
    faults = []
    for number, text in enumerate(pages_of_text(file), start=1):
        for letter in sorted(set(text)):
            # Cn: unassigned; Co: private, known to one font alone. PDFium marks a hyphen at
            # the end of a line as U+FFFE and leaves nothing else without a meaning.
            bad = unicodedata.category(letter) in ("Cn", "Co") and letter != "\ufffe"
            if bad or letter in "\ufffd\x00":
                faults.append(f"page {number}: U+{ord(letter):04X} is no letter")
    return faults


def outline(file: Path) -> list[tuple[int, str, int]]:
    """(level, title, page from 1) of each entry of the outline."""
    return list(_entries(file))


def _entries(file: Path) -> Iterator[tuple[int, str, int]]:
    with pdfium.PdfDocument(file) as document:
        for entry in document.get_toc():
            place = entry.get_dest()
            yield entry.level, entry.get_title(), place.get_index() + 1 if place else 0


def access_faults(file: Path) -> list[str]:
    """What a screen reader needs and the file does not give: tags, title, language, PDF/UA."""
    faults = []
    with pdfium.PdfDocument(file) as document:
        if not document.get_metadata_value("Title"):
            faults.append("the file has no title")
        if not raw.FPDFCatalog_IsTagged(document):
            faults.append("the file has no tags")
        if not _language(document):
            faults.append("the file does not tell its language")
    if b"pdfuaid:part" not in file.read_bytes():
        faults.append("the file does not say that it is PDF/UA")
    return faults


def _language(document: Any) -> str:
    room = (ctypes.c_ushort * 40)()
    size = raw.FPDFCatalog_GetLanguage(document, room, 40)
    return bytes(room)[:size].decode("utf-16-le").rstrip("\x00")
