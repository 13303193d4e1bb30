"""How is a duration said?"""

from __future__ import annotations


def spoken(seconds: float) -> str:
    """A duration as people say it: 8 s, 1 min 20 s, 3 h 5 min, 2 days 4 h."""
    seconds = round(seconds)
    for size, unit, below, below_unit in (
        (86400, "days", 3600, "h"),
        (3600, "h", 60, "min"),
        (60, "min", 1, "s"),
    ):
        if seconds >= size:
            rest = seconds % size // below
            unit = "day" if (unit, seconds // size) == ("days", 1) else unit
            return f"{seconds // size} {unit}" + (f" {rest} {below_unit}" if rest else "")
    return f"{seconds} s"
