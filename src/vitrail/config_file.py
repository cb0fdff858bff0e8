"""One config file, read so that nothing in it can do harm or get lost.

YAML lets a file of a few hundred bytes stand for millions of values (aliases of aliases),
refer to itself, nest without end, and give a key twice, of which the first is lost. Here
the file is looked at as a stream of events before anything is built from it.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import yaml

from vitrail.errors import VitrailError

MOST_BYTES = 1_000_000
MOST_VALUES = 20_000  # keys, items and numbers of a config; config/full.yaml has 1,300
DEEPEST = 50
# The parser in C takes a tenth of the time, and is there in every wheel of PyYAML.
LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class _Plain(LOADER):
    """Builds text, numbers, lists and mappings, nothing else, and no key twice."""

    def construct_mapping(self, node: Any, deep: bool = False) -> Any:
        keys = [key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode)]
        for position, (key, _) in enumerate(node.value):
            if key.value in keys[:position] and key.tag != "tag:yaml.org,2002:merge":
                raise yaml.constructor.ConstructorError(
                    None, None, f"the key {key.value!r} is there twice", key.start_mark
                )
        return super().construct_mapping(node, deep=deep)


def read_config(file: Path) -> dict[str, Any]:
    """The keys and values of a config file.

    Raises:
        VitrailError: it cannot be read, is no YAML in UTF-8, holds no keys and values, gives a
            key twice, or stands for more than a config can be.
    """
    try:
        with file.open("rb") as stream:
            raw = stream.read(MOST_BYTES + 1)
    except OSError as error:
        raise VitrailError(f"config: {file} cannot be read: {error.strerror}") from error
    if len(raw) > MOST_BYTES:
        raise VitrailError(f"config: {file} has more than {MOST_BYTES:,} bytes; is it a config?")
    try:
        text = raw.decode("utf-8-sig")
        content = _content(text, file)
    except (yaml.YAMLError, ValueError) as error:
        # A ValueError: not UTF-8, or a date that is in no calendar.
        reason = " ".join(str(error).replace('in "<unicode string>", ', "").split())
        raise VitrailError(f"config: {file} is not valid YAML in UTF-8: {reason}") from error
    if not isinstance(content, dict):
        raise VitrailError(f"config: {file} must hold keys and values")
    if "__use_yte__" in content:
        raise VitrailError(
            f"config: {file} sets __use_yte__, which would run code from the config; leave it out"
        )
    return content


def _content(text: str, file: Path) -> Any:
    """What the text stands for, after a look at how much that is."""
    _check_size(yaml.parse(text, Loader=LOADER), file)
    return yaml.load(text, Loader=_Plain)  # noqa: S506 - a safe one, made stricter


def _check_size(events: Iterable[Any], file: Path) -> None:
    """Count the values that a file stands for, each alias as often as it is used."""
    sizes: dict[str | None, int] = {}  # of what has been given an anchor, with all within
    open_nodes: list[list[Any]] = [[None, 0]]  # anchor, values so far
    for event in events:
        if isinstance(event, yaml.MappingEndEvent | yaml.SequenceEndEvent):
            anchor, size = open_nodes.pop()
            if anchor:
                sizes[anchor] = size
            open_nodes[-1][1] += size
        elif isinstance(event, yaml.MappingStartEvent | yaml.SequenceStartEvent):
            open_nodes.append([event.anchor, 1])
            sizes.pop(event.anchor, None)  # the name may have stood for something else
        elif isinstance(event, yaml.ScalarEvent):
            if event.anchor:
                sizes[event.anchor] = 1
            open_nodes[-1][1] += 1
        elif isinstance(event, yaml.AliasEvent):
            if any(anchor == event.anchor for anchor, _ in open_nodes):
                raise VitrailError(
                    f"config: {file} holds *{event.anchor} within &{event.anchor}, that is within "
                    "itself; write the values out"
                )
            open_nodes[-1][1] += sizes.get(event.anchor, 1)
        if len(open_nodes) > DEEPEST + 1:
            raise VitrailError(
                f"config: {file} is nested more than {DEEPEST} deep; is it a config?"
            )
        if open_nodes[-1][1] > MOST_VALUES:
            raise VitrailError(
                f"config: {file} stands for more than {MOST_VALUES:,} values (an alias counts as "
                "often as it is used); is it a config?"
            )
