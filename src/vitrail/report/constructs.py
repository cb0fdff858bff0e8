"""The list of what chapters may use, which both routes render: ``_builtin/constructs.yaml``."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import yaml

from vitrail.files import write_text

LIST = "constructs.yaml"


@dataclass(frozen=True)
class Constructs:
    """The list, as `report/_builtin/constructs.yaml` explains it.

    Attributes:
        marks: every form that an element of pandoc's tree may have.
        front_matter: keys that the main document may set.
        shortcodes: names of the shortcodes.
    """

    marks: frozenset[str]
    front_matter: tuple[str, ...]
    shortcodes: tuple[str, ...]


def read_constructs(styles: Path) -> Constructs:
    """The list in the folder of the built-in route."""
    content = yaml.safe_load((styles / LIST).read_text(encoding="utf-8"))
    return Constructs(
        marks=frozenset(mark for entry in content["constructs"] for mark in entry["marks"]),
        front_matter=tuple(content["front_matter"]),
        shortcodes=tuple(content["shortcodes"]),
    )


def write_for_filter(styles: Path, build: Path) -> None:
    """Put the list where the filter reads it, as JSON."""
    known = read_constructs(styles)
    content = {
        "marks": dict.fromkeys(sorted(known.marks), True),
        "front_matter": list(known.front_matter),
    }
    write_text(build / "constructs.json", json.dumps(content))
