"""The interactive views of the HTML page: which of them the text asks for, and what they need.

``::: {.explore view="attention"}`` around a figure asks for a view. Without JavaScript, and in
the PDF, the figure is all there is. The page gets the data of its views, one script that is
joined from ``report/explore/*.js``, and nothing where no view is asked for.
"""

from __future__ import annotations

import json
import re
from pathlib import Path

from vitrail.errors import VitrailError
from vitrail.files import read_json, write_text
from vitrail.report.source import Text
from vitrail.views import VIEWS

PAGE_PART = "explore.html"  # in the build folder; Quarto puts it at the end of the body
STYLE = "explore/explore.css"
_DIV = re.compile(r"^\s{0,3}:{3,}\s*\{(?P<attributes>[^}]*\.explore(?![\w-])[^}]*)\}")
_VIEW = re.compile(r"""(?<![\w-])view=(?:"([^"]*)"|'([^']*)'|(\S+))""")


def stage_views(results: Path, build: Path) -> None:
    """Copy the data of all views there are to ``explore/<view>.json`` of the build folder.

    `results` is the folder of the study. The page's part is written as empty, so that the folder
    is whole for Quarto before the text has been read.
    """
    (build / "explore").mkdir(exist_ok=True)
    for view, stem in VIEWS.items():
        file = results / stem / "explore" / f"{view}.json"
        if file.is_file():
            write_text(build / "explore" / file.name, file.read_text(encoding="utf-8"))
    write_text(build / PAGE_PART, "")


def views_asked(text: Text) -> dict[str, str]:
    """The views that a text asks for, each with the ``file:line`` of its first place.

    Raises:
        VitrailError: a view that there is not, or a place that names none.
    """
    asked: dict[str, str] = {}
    for line, (file, number) in zip(text.lines, text.origins, strict=True):
        division = _DIV.match(line)
        if not division:
            continue
        here = f"{file}:{number}"
        named = _VIEW.search(division["attributes"])
        view = next(filter(None, named.groups()), "") if named else ""
        if view not in VIEWS:
            raise VitrailError(
                f"{here}: there is no view called {view!r} to explore; "
                f"write view= with one of {', '.join(VIEWS)}"
            )
        asked.setdefault(view, here)
    return asked


def write_page_part(build: Path, text: Text) -> None:
    """Write what the views of this text add to the page, as ``explore.html`` in `build`.

    Raises:
        VitrailError: as `views_asked`, or a view whose data are not there.
    """
    parts, shown = [], []
    for view, here in views_asked(text).items():
        file = build / "explore" / f"{view}.json"
        if not file.is_file():
            stem = VIEWS[view]
            raise VitrailError(
                f"{here}: the view {view!r} has no data ({stem}/explore/{view}.json is missing); "
                f"make them with `snakemake --cores all --forcerun {stem} -- {stem}`"
            )
        data = read_json(file)
        if data is not None:  # else this study has nothing to explore there
            shown.append(view)
            parts.append(
                f'<script type="application/json" id="explore-{view}">{as_script(data)}</script>'
            )
    if shown:
        parts.append(f"<script>\n{script_of(shown, build / 'explore')}</script>")
    write_text(build / PAGE_PART, "\n".join(parts))


def as_script(data: object) -> str:
    """JSON that no content of it can end or comment out: every ``<`` is written as an escape."""
    text = json.dumps(data, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return text.replace("<", "\\u003c")


def script_of(views: list[str], folder: Path) -> str:
    """One script: what all views share, the views asked for, and the call that starts them.

    Raises:
        VitrailError: a source that would end the element it stands in.
    """
    names = ["base", *sorted(views), "start"]
    sources = [(folder / f"{name}.js").read_text(encoding="utf-8") for name in names]
    joined = '"use strict";\n{\n' + "\n".join(sources) + "}\n"
    if re.search(r"</script|<!--", joined, re.IGNORECASE):
        raise VitrailError("report/explore: no script may hold </script or <!--; split the text")
    return joined
