"""The study's configuration: read, checked against the schema, checked for sense.

Unknown keys, wrong types and values that cannot be right are found here, before any
training, and told in one sentence that names the key. What needs torch, timm or the
network to be known (a device, the name of a model, a file of weights) is told by the
step that needs it. No torch, no pandas: Snakemake imports this module each time it
parses the workflow.
"""

from __future__ import annotations

import difflib
import functools
import math
import re
import unicodedata
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from vitrail import config_file
from vitrail.errors import VitrailError
from vitrail.settings import canonical

STEMS = (
    "q1_patch_embedding",
    "q2_mlp",
    "q3_self_attention",
    "q4_multi_head",
    "q5_block",
    "q6_vit",
    "q7_complexity",
    "q8_transfer",
)

Config = dict[str, Any]


LARGEST = 10_000_000_000  # seeds are below 2 ** 32; nothing else comes near
MOST_NAMED = 15  # known keys in a sentence
LONGEST_SHOWN = 80  # characters of a value in a sentence


def validate(config: Mapping[str, Any], schema_file: Path) -> None:
    """Check a merged config against the schema.

    Raises:
        VitrailError: one sentence that names the key and what is allowed there.
    """
    import jsonschema

    check_plain(config)
    error = jsonschema.exceptions.best_match(_validator(schema_file).iter_errors(dict(config)))
    if error is not None:
        raise VitrailError(_sentence(error))


@functools.cache
def _validator(schema_file: Path) -> Any:
    import jsonschema

    text = schema_file.read_text(encoding="utf-8")
    schema = yaml.load(text, Loader=config_file.LOADER)  # noqa: S506 - a safe one
    kind = jsonschema.validators.extend(jsonschema.Draft202012Validator, {"pattern": _pattern})
    return kind(schema)


def _pattern(validator: Any, pattern: str, instance: Any, schema: Any) -> Iterator[Any]:
    """As in JSON Schema, where $ is the end; in Python it also stands before a last newline."""
    import jsonschema

    if validator.is_type(instance, "string"):
        ending = re.sub(r"\$$", r"\\Z", pattern)
        if not re.search(ending, instance):
            yield jsonschema.ValidationError(f"{instance!r} does not match {pattern!r}")


def check_plain(config: Any) -> None:
    """Look for what YAML lets through and nothing after it can take, before all else.

    Keys are text, values are text, numbers, lists and mappings; numbers are finite and not
    beyond reason, texts can be printed and passed to a command, and there are not more of
    them than a config can have.

    Raises:
        VitrailError: names the place.
    """
    if not isinstance(config, Mapping):
        raise VitrailError("config: it must hold keys and values")
    count = 0
    waiting: list[tuple[Any, str, int]] = [(config, "", 0)]
    while waiting:
        value, where, depth = waiting.pop()
        count += 1
        if count > config_file.MOST_VALUES or depth > config_file.DEEPEST:
            raise VitrailError(
                f"config: {where or '(top level)'}: there are more than "
                f"{config_file.MOST_VALUES:,} values, or they are nested more than "
                f"{config_file.DEEPEST} deep; is it a config?"
            )
        below: Iterable[tuple[Any, Any]] = ()
        if isinstance(value, Mapping):
            below = value.items()
            for key in value:
                _check_key(key, where)
        elif isinstance(value, list):
            below = enumerate(value)
        else:
            _check_scalar(value, where)
        waiting += [(content, f"{where}.{key}".lstrip("."), depth + 1) for key, content in below]


def _check_key(key: Any, where: str) -> None:
    if not isinstance(key, str):
        raise VitrailError(
            f"config: the key {shown(key)} under {where or '(top level)'} is not text; "
            "put it in quotes"
        )
    if not key.isprintable() or len(key) > LONGEST_SHOWN:
        raise VitrailError(
            f"config: the key {shown(key)} under {where or '(top level)'} is no name; use "
            f"letters, digits, - and _, at most {LONGEST_SHOWN} of them"
        )


def _check_scalar(value: Any, where: str) -> None:
    if isinstance(value, str):
        if not value.isprintable() and any(
            unicodedata.category(sign) in ("Cc", "Cs") and sign not in "\n\t" for sign in value
        ):
            raise VitrailError(
                f"config: {where} is {shown(value)}, which holds a character that cannot be "
                "printed; take it out"
            )
    elif isinstance(value, int | float):
        if isinstance(value, float) and not math.isfinite(value):
            raise VitrailError(f"config: {where} is {value}, but must be a finite number")
        if abs(value) > LARGEST:
            # Python writes no number of thousands of digits.
            digits = value if abs(value) < 1e300 else "a number of hundreds of digits"
            raise VitrailError(
                f"config: {where} is {digits}, but must lie between -{LARGEST:,} and {LARGEST:,}"
            )
    elif value is not None:
        raise VitrailError(
            f"config: {where} is {shown(value)}, of YAML's type {type(value).__name__}; "
            "put it in quotes if it is meant as text"
        )


def shown(value: Any) -> str:
    """A value in a sentence: on one line, and not half of the config."""
    text = repr(value)
    if len(text) <= LONGEST_SHOWN:
        return text
    return f"{text[: LONGEST_SHOWN // 2]}...{text[-LONGEST_SHOWN // 4 :]}"


def plain(value: Any) -> Any:
    """The config in lists and dictionaries of its own, 4.0 as 4: the same in every place."""
    if isinstance(value, Mapping):
        return {key: plain(content) for key, content in value.items()}
    return [plain(item) for item in value] if isinstance(value, list) else canonical(value)


def _sentence(error: Any) -> str:
    """What a schema violation means for the person who wrote the config."""
    key = ".".join(str(part) for part in error.absolute_path) or "(top level)"
    if error.validator == "additionalProperties":
        known = list(error.schema.get("properties", {}))
        unknown = sorted(str(name) for name in error.instance if name not in known)[0]
        full = (unknown or "''") if key == "(top level)" else f"{key}.{unknown or repr(unknown)}"
        close = difflib.get_close_matches(unknown, known, n=1)
        rest = f" and {len(known) - MOST_NAMED} more" if len(known) > MOST_NAMED else ""
        hint = (
            f"did you mean {close[0]}?"
            if close
            else f"known here: {', '.join(known[:MOST_NAMED])}{rest}"
        )
        return f"config: unknown key {full}; {hint}"
    if error.validator == "required":
        missing = next(name for name in error.validator_value if name not in error.instance)
        return f"config: {key}: the key {missing} is missing"
    if "propertyNames" in error.absolute_schema_path:
        return f"config: {key}: the name {shown(error.instance)} {_expectation(error)}"
    return f"config: {key} is {shown(error.instance)}, but {_expectation(error)}"


def _expectation(error: Any) -> str:
    """What a schema rule asks for, in words."""
    rule, value = error.validator, error.validator_value
    if rule == "enum":
        return "must be one of " + ", ".join(repr(choice) for choice in value)
    if rule == "type":
        names = [value] if isinstance(value, str) else value
        return "must be of type " + " or ".join(names)
    if rule == "contains":
        return f"must have {value['const']!r} among its items"
    if rule == "anyOf":
        kinds = (repr(one["const"]) if "const" in one else one["type"] for one in value)
        return "must be of type " + " or ".join(kinds)
    if rule == "pattern" and "https?://" in value:
        return "must be an address that starts with http:// or https://, or empty"
    words = {
        "minimum": f"must be at least {value}",
        "maximum": f"must be at most {value}",
        "exclusiveMinimum": f"must be greater than {value}",
        "exclusiveMaximum": f"must be less than {value}",
        "minItems": f"needs at least {value} {'item' if value == 1 else 'items'}",
        "uniqueItems": "names an item twice",
        "pattern": f"must be made of letters, digits, - and _ (pattern {value})",
        "minProperties": f"needs at least {value} {'key' if value == 1 else 'keys'}",
        "maxProperties": f"takes at most {value} {'key' if value == 1 else 'keys'}",
        "maxItems": f"takes at most {value} items",
        "minLength": "must not be empty",
        "maxLength": f"must have at most {value} characters",
        "multipleOf": f"must be a multiple of {value}",
        "const": f"must be {value!r}",
        "not": "that name is taken by a folder of results/; choose another",
    }
    return words.get(rule, shown(error.message))


def load(files: list[Path]) -> Config:
    """Read and merge config files, the later ones over the earlier, as Snakemake does.

    Raises:
        VitrailError: when a file is missing, not YAML or not a mapping.
    """
    merged: Config = {}
    for file in files:
        merge(merged, config_file.read_config(file))
    return merged


def merge(base: Config, over: Mapping[str, Any]) -> None:
    """Lay `over` on `base` in place: mappings are merged, everything else is replaced."""
    for key, value in over.items():
        if isinstance(value, Mapping):
            # A copy: a YAML anchor is one object in several places.
            below = base[key] if isinstance(base.get(key), dict) else {}
            base[key] = below
            merge(below, value)
        else:
            base[key] = value
