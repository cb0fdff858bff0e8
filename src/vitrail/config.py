"""The study's configuration: read, checked against the schema, checked for sense.

Unknown keys, wrong types and values that cannot be right are found here, before any
training, and told in one sentence that names the key. What needs torch, timm or the
network to be known (a device, the name of a model, a file of weights) is told by the
step that needs it. No torch, no pandas: Snakemake imports this module each time it
parses the workflow.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from vitrail.errors import VitrailError

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


def validate(config: Mapping[str, Any], schema_file: Path) -> None:
    """Check a merged config against the schema.

    Raises:
        VitrailError: one sentence that names the key and what is allowed there.
    """
    import jsonschema
    import yaml

    _check_plain(config, "")
    schema = yaml.safe_load(schema_file.read_text(encoding="utf-8"))
    validator = jsonschema.Draft202012Validator(schema)
    error = jsonschema.exceptions.best_match(validator.iter_errors(dict(config)))
    if error is not None:
        raise VitrailError(_sentence(error))


def _check_plain(value: Any, where: str) -> None:
    """Keys are text and numbers are finite, which YAML does not see to and JSON needs."""
    if isinstance(value, Mapping):
        for key, content in value.items():
            if not isinstance(key, str):
                raise VitrailError(
                    f"config: the key {key!r} under {where or '(top level)'} is not text; "
                    "put it in quotes"
                )
            _check_plain(content, f"{where}.{key}".lstrip("."))
    elif isinstance(value, list):
        for position, content in enumerate(value):
            _check_plain(content, f"{where}.{position}")
    elif isinstance(value, float) and not math.isfinite(value):
        raise VitrailError(f"config: {where} is {value}, but must be a finite number")


def _sentence(error: Any) -> str:
    """What a schema violation means for the person who wrote the config."""
    key = ".".join(str(part) for part in error.absolute_path) or "(top level)"
    if error.validator == "additionalProperties":
        known = list(error.schema.get("properties", {}))
        unknown = sorted(str(name) for name in error.instance if name not in known)[0]
        full = unknown if key == "(top level)" else f"{key}.{unknown}"
        close = difflib.get_close_matches(unknown, known, n=1)
        hint = f"did you mean {close[0]}?" if close else f"known here: {', '.join(known)}"
        return f"config: unknown key {full}; {hint}"
    if error.validator == "required":
        missing = next(name for name in error.validator_value if name not in error.instance)
        return f"config: {key}: the key {missing} is missing"
    if "propertyNames" in error.absolute_schema_path:
        return f"config: {key}: the name {error.instance!r} {_expectation(error)}"
    return f"config: {key} is {error.instance!r}, but {_expectation(error)}"


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
        "minLength": "must not be empty",
        "multipleOf": f"must be a multiple of {value}",
        "const": f"must be {value!r}",
        "not": "that name is taken by a folder of results/; choose another",
    }
    return words.get(rule, str(error.message))


def load(files: list[Path]) -> Config:
    """Read and merge config files, the later ones over the earlier, as Snakemake does.

    Raises:
        VitrailError: when a file is missing, not YAML or not a mapping.
    """
    import yaml

    merged: Config = {}
    for file in files:
        try:
            content = yaml.safe_load(file.read_text(encoding="utf-8"))
        except OSError as error:
            raise VitrailError(f"config: {file} cannot be read: {error.strerror}") from error
        except (yaml.YAMLError, UnicodeDecodeError) as error:
            reason = " ".join(str(error).split())
            raise VitrailError(f"config: {file} is not valid YAML in UTF-8: {reason}") from error
        if not isinstance(content, dict):
            raise VitrailError(f"config: {file} must hold keys and values")
        merge(merged, content)
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
