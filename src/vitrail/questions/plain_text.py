"""Labels and titles of the config are text: marks of Markdown, HTML or TeX in them mean nothing.

They go into Markdown, into figures and into tables of data, through many sentences that are put
together on the way. So each mark is exchanged, when the config is read, for a code point that
stands for it (of Unicode's private use area, which no font and no reader knows). When an answer is
saved, Markdown gets the mark with a backslash before it, everything else the mark itself.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from vitrail.config import Config

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

# What pandoc's Markdown might read as something else than itself, anywhere in a line.
MARKS = "\\`*_{}[]<>~^$@|&\"#!'"
_FIRST = 0xE000
_STAND_IN = {mark: chr(_FIRST + ord(mark)) for mark in MARKS}
_SHIELD = str.maketrans(_STAND_IN)
_TEXT = str.maketrans({code: mark for mark, code in _STAND_IN.items()})
_MARKDOWN = str.maketrans({code: f"\\{mark}" for mark, code in _STAND_IN.items()})
# Matplotlib reads what stands between two dollar signs as mathematics.
_FIGURE = str.maketrans(
    {code: rf"\{mark}" if mark == "$" else mark for mark, code in _STAND_IN.items()}
)
# What the report takes for a slip of the pen where it is left in the text ({#id}, [^1], :::), and
# what pandoc sets as another sign (--, ...), is parted by a character that is not seen, in
# Markdown alone.
_SLIPS = re.compile(
    r"\[(?=\^)|[\])](?=[\[{])|\{(?=[#.\w{])|@(?=\w)|\?(?=[@\w])|:(?=::)|-(?=-)|\.(?=\.)|☐|☒"
)
_PART = chr(_FIRST)
_TEXT[_FIRST] = _FIGURE[_FIRST] = ""
_MARKDOWN[_FIRST] = "\u2060"  # word joiner
_CODES = re.compile(f"[{chr(_FIRST)}-{chr(_FIRST + 0x7F)}]")


def shield(text: str) -> str:
    """The text with a stand-in for each mark, on one line."""
    line = re.sub(r"\s*[\r\n\t]\s*", " ", _CODES.sub("\ufffd", text))
    return _SLIPS.sub(lambda found: found[0] + _PART, line).translate(_SHIELD)


def as_text(text: str) -> str:
    """The text as it was written."""
    return text.translate(_TEXT)


def as_markdown(text: str) -> str:
    """Markdown that is read as the text was written."""
    return text.translate(_MARKDOWN)


def shielded(config: Config) -> Config:
    """A copy of the config with stand-ins in its titles and labels.

    Descriptions and sentences of claims are Markdown, which the report checks.
    """
    found = copy.deepcopy(config)
    for question in found["questions"].values():
        for about in (question.get("experiments") or {}).values():
            if not about:
                continue
            about["title"] = shield(about["title"])
            for arm in (about.get("arms") or {}).values():
                if arm and "label" in arm:
                    arm["label"] = shield(arm["label"])
    return found


def everywhere(content: Any, change: Callable[[str], str]) -> Any:
    """Nested dictionaries and lists with every text changed, keys as well."""
    if isinstance(content, str):
        return change(content)
    if isinstance(content, dict):
        return {everywhere(key, change): everywhere(one, change) for key, one in content.items()}
    if isinstance(content, list | tuple):
        return [everywhere(one, change) for one in content]
    return content


def frame_as_text(frame: pd.DataFrame) -> pd.DataFrame:
    """A table of data with its texts as they were written."""
    if not _CODES.search(frame.to_csv(index=False)):
        return frame
    changed = frame.map(lambda cell: everywhere(cell, as_text))
    return changed.rename(columns=lambda name: everywhere(name, as_text))


def figure_as_text(figure: Figure) -> None:
    """Write in a figure what was meant."""
    from matplotlib.text import Text
    from matplotlib.ticker import FixedFormatter, FuncFormatter

    for text in figure.findobj(Text):
        assert isinstance(text, Text)
        if _CODES.search(text.get_text()):
            text.set_text(text.get_text().translate(_FIGURE))
    # Names along an axis are written anew each time that it is drawn.
    for axes in figure.get_axes():
        for axis in (axes.xaxis, axes.yaxis):
            for names in (axis.get_major_formatter(), axis.get_minor_formatter()):
                if isinstance(names, FixedFormatter):
                    names.seq = [str(name).translate(_FIGURE) for name in names.seq]
                elif isinstance(names, FuncFormatter):
                    names.func = _translated(names.func)


def _translated(names: Callable[..., str]) -> Callable[..., str]:
    return lambda *place: str(names(*place)).translate(_FIGURE)
