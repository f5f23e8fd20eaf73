"""`IdSet`: a set of ids that stays small when ids count up, so that a stream of any length can be checked."""

from __future__ import annotations

from bisect import bisect_right

__all__ = ["IdSet"]

_MAX_DIGITS = 18


class IdSet:
    """An exact set of strings. ``x-1``, ``x-2``, ``x-3`` … are kept as ranges of their numbers, others one by one."""

    def __init__(self) -> None:
        self._ranges: dict[str, list[int]] = {}
        """By stem, the bounds ``[first, end, first, end, …]`` of half-open ranges, ascending and never touching."""
        self._others: set[str] = set()

    def __contains__(self, name: str) -> bool:
        stem, number = _split(name)
        if number is None:
            return name in self._others
        return bisect_right(self._ranges.get(stem, ()), number) % 2 == 1  # within a range, not between two

    def add(self, name: str) -> bool:
        """Take it in; False if it was there before."""
        stem, number = _split(name)
        if number is None:
            new = name not in self._others
            self._others.add(name)
            return new
        bounds = self._ranges.setdefault(stem, [])
        at = bisect_right(bounds, number)
        if at % 2 == 1:
            return False
        extends, meets = at > 0 and bounds[at - 1] == number, at < len(bounds) and bounds[at] == number + 1
        # The new range replaces the bounds that it shares with its neighbours.
        bounds[at - extends : at + meets] = [*([] if extends else [number]), *([] if meets else [number + 1])]
        return True


def _split(name: str) -> tuple[str, int | None]:
    """The stem and the number of ``x-12``; no number if writing it again would not give the same text."""
    stem, _, digits = name.rpartition("-")
    if stem and len(digits) <= _MAX_DIGITS and digits.isascii() and digits.isdecimal() and str(int(digits)) == digits:
        return stem, int(digits)
    return name, None
