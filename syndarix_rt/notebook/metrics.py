"""What charts draw, counted as events come: pure, without widgets, pandas or a clock.

``web/rates.js`` counts by the same rules for the web page.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from importlib.resources import files
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

__all__ = ["EVENT_SERIES", "EventRate", "Span"]

EVENT_SERIES: list[dict[str, Any]] = json.loads((files("syndarix_rt") / "web" / "types.json").read_bytes())
"""The series of a chart by type: name, category and colour, from the baseline up. The last takes all custom types."""

MAX_GAPS = 32
"""Gaps that are remembered: more than a window has room for."""


class Span(NamedTuple):
    """A time of which nothing is known, seconds since 1970."""

    start_s: float
    end_s: float
    label: str


class EventRate:
    """Events per second by type, in bins of publication time.

    A bin without events is zero only where the stream proves it: between events that follow each other without a gap,
    and up to now while the stream is open. Elsewhere there is no row, or one of NaN.

    Args:
        names: the series; the last one takes every type that is none of the others.
        bin_s: what a bin covers, seconds. 1: the rate is a count, and a burst still shows.
        bins: how many are kept.

    Attributes:
        gaps: declared losses, the newest last.
        version: grows with every change.
    """

    def __init__(self, names: Sequence[str], *, bin_s: float = 1.0, bins: int = 602) -> None:
        self.names = list(names)
        self.bin_s = bin_s
        self.gaps: list[Span] = []
        self.version = 0
        self._bins = bins
        self._index = {name: column for column, name in enumerate(names)}
        self._rows: dict[int, list[float]] = {}
        self._versions: dict[int, int] = {}
        self._first = self._last = 0  # numbers of the oldest and of the newest bin, once there are rows
        self._proven_s: float | None = None  # time of the newest event
        self._gap_waits = False  # the newest gap ends where the next event is

    def add(self, event_type: str, time_s: float) -> None:
        """Count an event that was published at ``time_s``, seconds since 1970."""
        if self._gap_waits:
            self._end_gap(time_s)
        bin_ = math.floor(time_s / self.bin_s)
        self._cover(bin_)
        if self._proven_s is None or time_s > self._proven_s:
            self._proven_s = time_s
        row = self._rows.get(bin_)
        if row is None:
            return  # older than what is kept
        if math.isnan(row[0]):  # publishers' clocks may differ by a little
            row[:] = [0.0] * len(row)
        row[self._index.get(event_type, len(row) - 1)] += 1 / self.bin_s
        self._touch(bin_)

    def advance(self, now_s: float) -> None:
        """The stream is open at ``now_s``: what it has not brought has not happened."""
        self._cover(math.floor(now_s / self.bin_s))

    def gap(self, now_s: float, label: str) -> None:
        """Something was lost after the newest event and before ``now_s``."""
        start_s = now_s if self._proven_s is None else self._proven_s
        self.gaps.append(Span(start_s, max(now_s, start_s), label))
        del self.gaps[:-MAX_GAPS]
        self._gap_waits = True
        self.version += 1
        for bin_, row in self._rows.items():
            if self._is_unknown(bin_):
                row[:] = [math.nan] * len(row)
                self._touch(bin_)

    def rows(self, since: int = 0) -> NDArray[np.float64]:
        """Rows that changed after a version, oldest first: the bin's time, then a rate for each series."""
        changed = sorted(bin_ for bin_, version in self._versions.items() if version > since)
        table = np.empty((len(changed), 1 + len(self.names)))
        for line, bin_ in zip(table, changed, strict=True):
            line[0] = bin_ * self.bin_s
            line[1:] = self._rows[bin_]
        return table

    def _end_gap(self, time_s: float) -> None:
        self._gap_waits = False
        gap = self.gaps[-1]
        if time_s < gap.end_s:
            self.gaps[-1] = gap._replace(end_s=max(time_s, gap.start_s))
            self.version += 1
            if self._rows:
                self._fill()

    def _cover(self, bin_: int) -> None:
        """Let the rows reach to a bin."""
        if not self._rows:
            self._first = self._last = bin_
        elif bin_ in self._rows or bin_ < self._first == self._last - self._bins + 1:  # there, or too old to be kept
            return
        self._last = max(self._last, bin_)
        first = max(min(self._first, bin_), self._last - self._bins + 1)
        for gone in range(self._first, min(first, self._first + self._bins)):
            self._rows.pop(gone, None)
            self._versions.pop(gone, None)
        self._first = first
        if bin_ >= first and bin_ not in self._rows:
            self._zero(bin_)
        self._fill()

    def _fill(self) -> None:
        """Zeros for all bins between the first and the last that nothing is known against."""
        for bin_ in range(self._first, self._last + 1):
            row = self._rows.get(bin_)
            if (row is None or math.isnan(row[0])) and not self._is_unknown(bin_):
                self._zero(bin_)

    def _zero(self, bin_: int) -> None:
        self._rows[bin_] = [0.0] * len(self.names)
        self._touch(bin_)

    def _touch(self, bin_: int) -> None:
        self.version += 1
        self._versions[bin_] = self.version

    def _is_unknown(self, bin_: int) -> bool:
        start_s, end_s = bin_ * self.bin_s, (bin_ + 1) * self.bin_s
        return any(gap.start_s <= start_s and end_s <= gap.end_s for gap in self.gaps)
