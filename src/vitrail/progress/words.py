"""Times and shares in words."""

from __future__ import annotations


def gone(seconds: float) -> str:
    """A time that has passed: 42 s, 12 min 05 s, 2 h 07 min."""
    minutes, rest = divmod(int(seconds), 60)
    if minutes < 1:
        return f"{rest} s"
    if minutes < 60:
        return f"{minutes} min {rest:02} s"
    return f"{minutes // 60:,} h {minutes % 60:02} min"


def left(seconds: float | None) -> str:
    """A time that was estimated, as roughly as it is known."""
    if seconds is None:
        return "time left not yet known"
    minutes = round(seconds / 60)
    if seconds < 50:
        return "under a minute left"
    if minutes < 60:
        return f"about {max(1, minutes)} min left"
    rounded = round(minutes / 5) * 5
    return f"about {rounded // 60:,} h {rounded % 60:02} min left"


def percent(share: float) -> str:
    """A share of the work; 100 % is only what is all done."""
    return f"{100 if share >= 1 else min(99, int(100 * share))} %"


def accuracy(value: float | None) -> str:
    """An accuracy on the validation split; empty without one."""
    return "" if value is None else f"{100 * value:.2f} %"


def counted(number: int, thing: str) -> str:
    """1 run, 2 runs."""
    return f"{number:,} {thing}{'' if number == 1 else 's'}"


def one_line(text: str) -> str:
    """Text of the config or of a log for a terminal: no line ends, no control characters."""
    return "".join(sign if sign.isprintable() else " " for sign in text).strip()
