"""Numbers in words, as panels show them."""

from __future__ import annotations

__all__ = ["duration", "plural"]

_UNITS = ((86_400.0, "d", 3600.0, "h"), (3600.0, "h", 60.0, "min"), (60.0, "min", 1.0, "s"))


def duration(seconds: float) -> str:
    """Such as ``3 min 20 s``; two units at most."""
    seconds = max(seconds, 0.0)
    for unit_s, unit, part_s, part in _UNITS:
        if seconds >= unit_s:
            whole, rest = divmod(seconds, unit_s)
            return f"{whole:.0f} {unit} {rest // part_s:.0f} {part}" if rest >= part_s else f"{whole:.0f} {unit}"
    return f"{seconds:.0f} s"


def plural(count: int, word: str) -> str:
    """Such as ``2 gaps``."""
    return f"{count:,} {word}{'' if count == 1 else 's'}"
