"""One folder with everything that the report is made from.

Rendering happens in ``results/<study>/report_build/``, never among the sources, so that
nothing is left behind there and no path leads out of the folder.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import yaml

from vitrail.config import STEMS
from vitrail.errors import VitrailError
from vitrail.files import read_json, write_text
from vitrail.intact import check_shown
from vitrail.report.explore import stage_views
from vitrail.report.regions import write_regions

# Styles of the built-in route and leftovers of an earlier render stay behind.
_LEFT_OUT = shutil.ignore_patterns(
    "_builtin", ".*", "__pycache__", "_variables.yml", "*.html", "*.pdf", "*_files"
)


def stage(
    study: str, results: Path, source: Path, root: Path, about: dict[str, str] | None = None
) -> Path:
    """Gather the sources of the report and the products of the questions.

    Figures come to ``figures/<stem>/``, tables to ``tables/<stem>/`` (those of the study to
    ``tables/study/``), the answer to ``answers/<stem>.md``, code regions to
    ``code/<name>.md``, the data of the interactive views to ``explore/``, and all numbers to
    ``_variables.yml`` under ``q1`` to ``q8``, ``study`` and ``report``.

    Args:
        study: name of the study, a folder in `results`.
        results: the results folder.
        source: the folder with ``report.qmd``.
        root: the project root, with ``src/``.
        about: texts for ``{{< var report.… >}}``, such as the route.

    Returns:
        The folder to render in, made anew.

    Raises:
        VitrailError: something that the report needs is missing or is not text.
    """
    build = results / study / "report_build"
    if not (source / "report.qmd").is_file():
        raise VitrailError(f"{source} has no report.qmd to render")
    if build.exists():
        shutil.rmtree(build)
    shutil.copytree(source, build, ignore=_LEFT_OUT)
    variables: dict[str, Any] = {"report": about or {}}
    for stem in STEMS:
        variables[stem.partition("_")[0]] = _stage_question(results / study / stem, build)
    extra = results / study / "study"
    if (extra / "numbers.json").exists():
        check_shown(extra, f"delete the folder {extra} and run snakemake --cores all again")
        _copy(extra, "figures", "*.svg", build)
        _copy(extra, "tables", "*.md", build)
        variables["study"] = _numbers(extra / "numbers.json")
    stage_views(results / study, build)
    write_text(build / "_variables.yml", as_yaml(variables))
    write_regions(build, root / "src", root, build / "code")
    return build


def as_yaml(variables: dict[str, Any]) -> str:
    """The content of ``_variables.yml``; every value stays a text, never becomes a number."""
    return yaml.safe_dump(variables, allow_unicode=True, sort_keys=True, width=10_000)


def _stage_question(folder: Path, build: Path) -> dict[str, Any]:
    """Copy what one question made; return its numbers."""
    stem = folder.name
    for needed in ("answer.md", "numbers.json"):
        if not (folder / needed).is_file():
            raise VitrailError(
                f"{folder / needed} is missing; "
                f"make it with `snakemake --cores all {stem}` and render again"
            )
    check_shown(
        folder,
        f"delete the folder {folder}, make it with `snakemake --cores all {stem}` and render again",
    )
    _copy(folder, "figures", "*.svg", build)
    _copy(folder, "tables", "*.md", build)
    answers = build / "answers"
    answers.mkdir(exist_ok=True)
    shutil.copyfile(folder / "answer.md", answers / f"{stem}.md")
    return _numbers(folder / "numbers.json")


def _copy(folder: Path, kind: str, pattern: str, build: Path) -> None:
    """Copy files of a question's subfolder to ``<kind>/<question>/``."""
    target = build / kind / folder.name
    target.mkdir(parents=True, exist_ok=True)
    for file in sorted((folder / kind).glob(pattern)):
        shutil.copyfile(file, target / file.name)


def _numbers(file: Path) -> dict[str, Any]:
    """The numbers of one file: nested dictionaries of text.

    Raises:
        VitrailError: a value that is not text (Quarto would drop its trailing zeros), or a
            name with a dot or a space (``var`` could not reach it).
    """
    content = read_json(file)
    _check_numbers(content, "", file)
    return dict(content)


def _check_numbers(content: Any, at: str, file: Path) -> None:
    if isinstance(content, str) and at:
        return
    if not isinstance(content, dict):
        raise VitrailError(
            f"{file}: {at or 'the content'} is {content!r}; numbers for prose are texts, already "
            "formatted, in nested dictionaries"
        )
    for name, value in content.items():
        if not name or not name.replace("_", "").replace("-", "").isalnum():
            raise VitrailError(
                f"{file}: {name!r} (in {at or 'the top'}) cannot be used in {{{{< var >}}}}; "
                "use letters, digits, - and _"
            )
        _check_numbers(value, f"{at}.{name}".lstrip("."), file)
