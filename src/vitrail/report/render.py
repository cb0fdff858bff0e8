"""Render the report of a study: one HTML page and one PDF.

``python -m vitrail.report.render --study default --results results --source report --root .``
"""

from __future__ import annotations

import argparse
import shutil
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import yaml

import vitrail
from vitrail.commit import commit, commit_words, since
from vitrail.errors import VitrailError, run_command
from vitrail.files import read_json, whole_folder
from vitrail.report import builtin, quarto
from vitrail.report.check import SECTIONS, check_html, check_pdf
from vitrail.report.explore import write_page_part
from vitrail.report.source import expand
from vitrail.report.source_lines import Origin, SourceLines, with_source_lines
from vitrail.report.stage import stage


@dataclass(frozen=True)
class Route:
    """How the report is made.

    Attributes:
        name: ``quarto`` or ``builtin``.
        versions: the tools with their versions, for the colophon.
        command: Quarto's command, empty for the built-in route.
    """

    name: str
    versions: str
    command: str = ""

    def about(self, study: str) -> dict[str, str]:
        """The texts behind ``{{< var report.route >}}`` and its neighbours."""
        words = {"quarto": "Quarto", "builtin": "the built-in route"}
        return {
            "route": words[self.name],
            "versions": self.versions,
            "study": study,
            "vitrail": vitrail.__version__,
        }


def choose_route(wish: str) -> Route:
    """Quarto if it is new enough, else the built-in route, unless `wish` names one.

    Raises:
        VitrailError: the route wished for is not possible here.
    """
    if wish != "builtin":
        found = quarto.find_quarto()
        if not isinstance(found, str):
            return Route("quarto", f"Quarto {found[1]}", found[0])
        if wish == "quarto":
            raise VitrailError(f"the report cannot be rendered with Quarto: {found}")
        if "is no quarto" not in found:
            print(f"vitrail: {found}; using the built-in route", file=sys.stderr)
    return Route("builtin", builtin.versions())


def render(
    study: str,
    results: Path,
    source: Path,
    root: Path,
    wish: str = "auto",
    sections: tuple[str, ...] = SECTIONS,
    repository: str = "",
    mlflow: str = "",
) -> Route:
    """Stage, render, check, and put both files into ``results/<study>/report/``.

    Args:
        study: name of the study.
        results: the results folder.
        source: the folder with ``report.qmd`` and ``_builtin/``.
        root: the project root, with ``src/``.
        wish: ``auto``, ``quarto`` or ``builtin``.
        sections: ids of the sections that the page must have.
        repository: address of the project on a host that shows files at a commit, or empty.
        mlflow: address of MLflow's UI, or empty.

    Returns:
        The route taken.

    Raises:
        VitrailError: anything missing, unresolved or remote; the old report then stays.
    """
    route = choose_route(wish)
    origin = Origin(results / study, root, commit(root), repository, mlflow)
    facts = results / study / "study" / "numbers.json"
    made = read_json(facts).get("commits", "unknown") if facts.is_file() else "unknown"
    about = route.about(study) | {
        "commit": commit_words(origin.commit),
        "since": since(origin.commit, made),
    }
    build = stage(study, results, source, root, about)
    variables = yaml.safe_load((build / "_variables.yml").read_text(encoding="utf-8"))
    text = with_source_lines(expand(build / "report.qmd", variables), SourceLines(origin, build))
    write_page_part(build, text)
    if route.name == "quarto":
        quarto.check_settings(build)
        builtin.check_sources(build, text, source / "_builtin", [route.command, "pandoc"])
        quarto.render_quarto(build, text, route.command)
    else:
        builtin.render_builtin(build, text, source / "_builtin")
    check_html(build / "report.html", sections)
    check_pdf(build / "report.pdf")
    with whole_folder(results / study / "report") as folder:
        for name in ("report.html", "report.pdf"):
            shutil.copyfile(build / name, folder / name)
    return route


def main() -> None:
    """The command line of this step."""
    parser = argparse.ArgumentParser(description="Render the report of a study as HTML and PDF.")
    parser.add_argument("--study", default="default", help="name of the study")
    parser.add_argument("--results", type=Path, default=Path("results"))
    parser.add_argument("--source", type=Path, default=Path("report"))
    parser.add_argument("--root", type=Path, default=Path(), help="the folder with src/")
    parser.add_argument("--repository", default="", help="address of the project on a host")
    parser.add_argument("--mlflow", default="", help="address of MLflow's UI")
    parser.add_argument("--route", choices=("auto", "quarto", "builtin"), default="auto")
    options = parser.parse_args()
    started = time.monotonic()
    route = render(
        options.study,
        options.results,
        options.source,
        options.root,
        options.route,
        repository=options.repository,
        mlflow=options.mlflow,
    )
    seconds = time.monotonic() - started
    print(
        f"vitrail: {options.results / options.study / 'report'} rendered with "
        f"{route.about(options.study)['route']} ({route.versions}) in {seconds:.1f} s"
    )


if __name__ == "__main__":
    run_command(main)
