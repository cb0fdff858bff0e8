"""Configs that nobody would write and some that somebody might, for the tests of planning.

Two sources: values made from the schema, at and beyond its bounds, put where they belong;
and damage to the shipped configs that no schema knows of. `configs` mixes them.
"""

from __future__ import annotations

import datetime
import functools
import math
import random
from pathlib import Path
from typing import Any

import yaml
from hypothesis import strategies as st

from vitrail.config import load

ROOT = Path(__file__).parents[1]
Config = dict[str, Any]
Place = tuple[Any, ...]

SIZES = ("default", "smoke", "full")
AWKWARD = [
    None, True, False, 0, -1, 1, 4.0, 0.5, 2**31, 2**63, -(2**63), 10**12, 10**400, 1e308, -1e308,
    1e-320, math.nan, math.inf, -math.inf, -0.0, "", " ", "\n", "smoke\n", "a" * 5000, "a\0b",
    "\ud800", "\u202e", "\x1b[31m", "ünï", "日本", "{x}", "{wildcards.arm}", "{{", "}", "{0}", "%s",
    "; touch hurt", "$(touch hurt)", "`touch hurt`", "'", '"', "a'b\"c", "\\", "a/b", "..", "../up",
    "/etc/passwd", "~", "-n", "--help", ".", "null", "1", "1e3", "nan", "<script>", "| &", "*", "?",
    [], {}, [[]], [None], [{}], {"": None}, {"a": {"b": {"c": None}}}, [[[[[[1]]]]]],
    datetime.date(2026, 11, 30), b"bytes", {1, 2}, (1, 2),
]  # fmt: skip
KEYS: list[Any] = [
    "", "x", "a/b", "..", "a\nb", "{x}", "; touch hurt", "$(touch hurt)", "'", '"', "a b", "A", "é",
    "a" * 300, "\0", "__use_yte__", "null", "smoke\n", 1, True, None, 1.5, math.nan, (1, 2),
    datetime.date(2026, 11, 30),
]  # fmt: skip


@functools.cache
def shipped(name: str) -> Config:
    """One of the shipped studies, merged over the default."""
    files = [ROOT / "config" / f"{file}.yaml" for file in dict.fromkeys(("default", name))]
    return load(files)


@functools.cache
def schema() -> Config:
    """The schema of configs."""
    file = ROOT / "workflow" / "schemas" / "config.schema.yaml"
    return dict(yaml.safe_load(file.read_text(encoding="utf-8")))


def places(content: Any, at: Place = ()) -> list[Place]:
    """Every place of a config, by its keys and positions."""
    found = [at] if at else []
    pairs = content.items() if isinstance(content, dict) else ()
    pairs = enumerate(content) if isinstance(content, list) else pairs
    for key, below in pairs:
        found += places(below, (*at, key))
    return found


def at(content: Any, place: Place) -> Any:
    """What stands at a place."""
    for key in place:
        content = content[key]
    return content


def resolved(part: Any) -> Config:
    """A part of the schema with what its $ref and its `then` lead to."""
    part = dict(part)
    while "$ref" in part or "then" in part:
        found: Any = part.pop("then", {})
        if "$ref" in part:
            found = schema()
            for step in part.pop("$ref").removeprefix("#/").split("/"):
                found = found[step]
        part = {**found, **part}
    for one in part.get("allOf", ()):
        if "$ref" in one:
            properties = resolved(one).get("properties", {})
            part["properties"] = {**properties, **part.get("properties", {})}
    return part


def rule_of(place: Place) -> Config:
    """The part of the schema that a place has to obey; empty where there is none."""
    part = resolved(schema())
    for key in place:
        if isinstance(key, int):
            below = part.get("items", {})
        else:
            below = part.get("properties", {}).get(key, part.get("additionalProperties", {}))
        part = resolved(below) if isinstance(below, dict) else {}
    return part


@st.composite
def from_schema(draw: st.DrawFn, part: Config, depth: int = 0) -> Any:
    """A value that a part of the schema allows, or one just beyond."""
    part = resolved(part)
    if "enum" in part:
        return draw(st.sampled_from([*part["enum"], "other"]))
    if "const" in part:
        return part["const"]
    if "anyOf" in part:
        return draw(from_schema(draw(st.sampled_from(part["anyOf"])), depth))
    kind = part.get("type", "string")
    kind = draw(st.sampled_from(kind)) if isinstance(kind, list) else kind
    if kind in ("integer", "number"):
        low = part.get("minimum", part.get("exclusiveMinimum", -5))
        high = part.get("maximum", part.get("exclusiveMaximum", 1000))
        edges = [low, low + 1, low - 1, high, high - 1, high + 1, low + 0.5]
        return draw(
            st.sampled_from(edges) | st.integers(int(low), max(int(low), min(int(high), 64)))
        )
    if kind == "boolean":
        return draw(st.booleans())
    if kind == "null":
        return None
    if kind == "array":
        size = draw(st.integers(0, 4))
        return [draw(from_schema(part.get("items", {}), depth + 1)) for _ in range(size)]
    if kind == "object":
        known = part.get("properties", {})
        some = st.lists(st.sampled_from(sorted(known) or [""]), max_size=5, unique=True)
        names = [name for name in draw(some) if name]
        names += [name for name in part.get("required", ()) if name not in names]
        if depth > 4:
            names = []
        made = {name: draw(from_schema(known[name], depth + 1)) for name in names if name in known}
        if isinstance(more := part.get("additionalProperties"), dict) and depth < 4:
            made |= {name: draw(from_schema(more, depth + 1)) for name in ("a", "b")}
        return made
    words = st.sampled_from(["", "x", "gelu", "vit", "base", "4", "in1k"])
    return draw(words | st.text(max_size=8))


def _put(config: Config, place: Place, value: Any) -> None:
    at(config, place[:-1])[place[-1]] = value


def copied(value: Any) -> Any:
    """Lists and mappings of its own; leaves as they are."""
    if isinstance(value, dict):
        return {key: copied(below) for key, below in value.items()}
    return [copied(below) for below in value] if isinstance(value, list) else value


HOW = (
    "schema", "schema", "schema", "another", "another", "awkward", "awkward", "gone", "key",
    "renamed", "twice", "wrapped", "many", "grid", "deep",
)  # fmt: skip


@st.composite
def configs(draw: st.DrawFn) -> Config:
    """One of the shipped studies with one to three changes."""
    # Chosen at random rather than by Hypothesis, which comes back to the first of a list.
    rng = draw(st.randoms(use_true_random=True))
    config: Config = copied(shipped(rng.choice(SIZES)))
    for _ in range(rng.choice([1, 1, 1, 2, 3])):
        place = _somewhere(rng, config)
        if not place:
            break
        _change(draw, rng, config, place, rng.choice(HOW))
    return config


def _somewhere(rng: random.Random, config: Config) -> Place:
    """A place; each key of the top level and each question are hit about as often."""
    place: Place = ()
    content: Any = config
    while isinstance(content, dict | list) and content and len(place) < 9:
        keys = list(content) if isinstance(content, dict) else list(range(len(content)))
        place = (*place, rng.choice(keys))
        content = at(config, place)
        if len(place) > 1 and rng.random() < 0.2:
            break
    return place


def _change(draw: st.DrawFn, rng: random.Random, config: Config, place: Place, how: str) -> None:
    above, old = at(config, place[:-1]), at(config, place)
    if how == "schema":
        _put(config, place, draw(from_schema(rule_of(place))))
    elif how == "another":  # what stands elsewhere, of a kind that may fit
        _put(config, place, copied(at(config, rng.choice(places(config)))))
    elif how == "awkward":
        _put(config, place, copied(rng.choice(AWKWARD)))
    elif how == "gone":
        del above[place[-1]]
    elif how == "key" and isinstance(above, dict):
        above[rng.choice(KEYS)] = old
    elif how == "renamed" and isinstance(above, dict):
        above[rng.choice(KEYS)] = above.pop(place[-1])
    elif how == "twice" and isinstance(above, list):
        above.append(copied(old))
    elif how == "wrapped":
        _put(config, place, rng.choice([[old], {"x": old}, [old, old], str(old)]))
    elif how == "many":
        count = rng.choice([100, 1001, 100_000])
        _put(config, place, list(range(count)))
    elif how == "grid":
        values = list(range(1, rng.choice([3, 20, 2000])))
        block = {"title": "Grid", "vary": {"embed_dim": [4 * n for n in values], "depth": values}}
        config["questions"] = {**shipped("default")["questions"]}
        config["questions"]["q6_vit"] = {"experiments": {"grid": block}}
    elif how == "deep":
        value: Any = old
        for _ in range(rng.choice([10, 60, 90])):
            value = [value]
        _put(config, place, value)
