"""The arms of one experiment as the config asks for them, before their settings are checked."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass

from vitrail.config import Config
from vitrail.errors import VitrailError
from vitrail.settings import Settings

MOST_ARMS = 1000


@dataclass(frozen=True)
class Asked:
    """One arm: its name, its label and what it sets itself.

    `method` is its name without the label budget, '' where there are none.
    """

    name: str
    label: str
    own: Settings
    method: str = ""


def every_arm(block: Config, where: str) -> Iterator[Asked]:
    """Each arm, from `vary` or from `arms`; under `budgets` each arm at each of its budgets."""
    vary, arms = block.get("vary") or {}, block.get("arms") or {}
    if bool(vary) == bool(arms):
        raise VitrailError(f"config: {where} needs either vary or arms, not both and not none")
    budgets = block.get("budgets") or []
    if vary and budgets:
        raise VitrailError(f"config: {where}: budgets go with arms, not with vary")
    _check_number(math.prod(map(len, vary.values())) if vary else 0, f"{where}.vary")
    _check_number(len(arms) * max(1, len(budgets)), f"{where}.arms")
    for values in itertools.product(*vary.values()) if vary else ():
        own = dict(zip(vary, values, strict=True))
        label = ", ".join(f"{field} {value}" for field, value in own.items())
        yield Asked("-".join(map(str, values)), label, own)
    for name, arm in arms.items():
        if arm is None:
            continue
        label, own = arm.get("label", str(name)), arm.get("settings") or {}
        if budgets:
            yield from _at_budgets(str(name), arm, budgets, where)
        elif "budgets" in arm:
            raise VitrailError(
                f"config: {where}.arms.{name}.budgets picks from the budgets of the experiment, "
                "which has none"
            )
        else:
            yield Asked(str(name), label, own)


def _check_number(arms: int, where: str) -> None:
    """Before they are made: two lists of a thousand values are a million arms."""
    if arms > MOST_ARMS:
        raise VitrailError(
            f"config: {where} makes {arms:,} arms, but an experiment has at most {MOST_ARMS:,}; "
            "name fewer values"
        )


def _at_budgets(name: str, arm: Config, budgets: list[Settings], where: str) -> Iterator[Asked]:
    """One arm at each of its label budgets."""
    known = [budget["label_budget"] for budget in budgets]
    wanted = arm.get("budgets") or known
    if unknown := [budget for budget in wanted if budget not in known]:
        raise VitrailError(
            f"config: {where}.arms.{name}.budgets has {unknown[0]}, but the budgets of the "
            f"experiment are {', '.join(map(str, known))}; choose among them"
        )
    if len(set(known)) < len(known):
        raise VitrailError(f"config: {where}.budgets has a label_budget twice; leave one out")
    for budget in budgets:
        labels = budget["label_budget"]
        if labels in wanted:
            label = f"{arm.get('label', name)} ({labels:,} labels)"
            own = {**budget, **(arm.get("settings") or {})}
            yield Asked(f"{name}-{labels}", label, own, name)
