"""Values in bins of time, counted as events come: pure, without widgets, pandas or a clock.

``web/panels/binned.js`` counts by the same rules for the web page.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from importlib.resources import files
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from syndarix_rt.notebook.panels.sighting import Sighting

__all__ = ["EVENT_SERIES", "Binned", "EventRate", "Gaps", "Levels", "Span", "Sums"]

EVENT_SERIES: list[dict[str, Any]] = json.loads((files("syndarix_rt") / "web" / "types.json").read_bytes())
"""The series of a chart by type: name, category and colour, from the baseline up. The last takes all custom types."""

MAX_GAPS = 32
"""Gaps that are remembered: more than a window has room for."""


class Span(NamedTuple):
    """A time of which nothing is known, seconds since 1970."""

    start_s: float
    end_s: float
    label: str


class Gaps:
    """Declared losses of one panel.

    Attributes:
        spans: the newest last; one list for ever.
        proven_s: time of the newest event; None before the first.
    """

    def __init__(self) -> None:
        self.spans: list[Span] = []
        self.proven_s: float | None = None
        self._waits = False  # the newest gap ends where the next event is

    def add(self, now_s: float, label: str) -> float:
        """Something was lost after the newest event and before ``now_s``; where that begins."""
        start_s = now_s if self.proven_s is None else self.proven_s
        self.spans.append(Span(start_s, max(now_s, start_s), label))
        del self.spans[:-MAX_GAPS]
        self._waits = True
        return start_s

    def prove(self, time_s: float) -> bool:
        """An event of this time came; whether the newest gap ends there, before it was declared."""
        is_shorter = self._waits and time_s < self.spans[-1].end_s
        if is_shorter:
            gap = self.spans[-1]
            start_s = time_s if self.proven_s is None else gap.start_s  # before the first event it has no length
            self.spans[-1] = gap._replace(start_s=start_s, end_s=max(time_s, start_s))
        self._waits = False
        if self.proven_s is None or time_s > self.proven_s:
            self.proven_s = time_s
        return is_shorter

    def clear(self) -> None:
        """Forget everything."""
        self.spans.clear()
        self.proven_s = None
        self._waits = False


class Binned:
    """Rows of values, one for each bin of time, the newest ``bins`` of them.

    There is a row only where the stream proves what happened: between events that follow each other without a gap, and
    up to now while the stream is open. Elsewhere there is none, or one of NaN.

    Args:
        width: values in a row.
        bin_s: what a bin covers, seconds. 1: the rate is a count, and a burst still shows.
        bins: how many are kept.

    Attributes:
        gaps: declared losses, the newest last.
        version: grows with every change.
        cleared: how often everything was forgotten.
        start_s: when simulated time began, as told from outside; None: not known.
    """

    start_s: float | None = None

    def __init__(self, width: int, *, bin_s: float = 1.0, bins: int = 602) -> None:
        self.bin_s = bin_s
        self._gaps = Gaps()
        self.gaps = self._gaps.spans
        self.version = 0
        self.cleared = 0
        self._width = width
        self._bins = bins
        self._rows: dict[int, list[float]] = {}
        self._lost: set[int] = set()
        """Bins whose row was known before a gap was declared."""
        self._versions: dict[int, int] = {}
        self._first = self._last = 0  # numbers of the oldest and of the newest bin, once there are rows

    def prove(self, time_s: float) -> None:
        """An event of this time came: what the stream has not brought up to there has not happened."""
        if self._gaps.prove(time_s):
            self.version += 1
            if self._rows:
                self._fill(range(self._first, self._last + 1))
        self._cover(math.floor(time_s / self.bin_s))

    def advance(self, now_s: float) -> None:
        """The stream is open at ``now_s``: what it has not brought has not happened."""
        self._cover(math.floor(now_s / self.bin_s))

    def gap(self, now_s: float, label: str) -> None:
        """Something was lost after the newest event and before ``now_s``."""
        self._gaps.add(now_s, label)
        self.version += 1
        for bin_, row in self._rows.items():
            if self._is_unknown(bin_):
                row[:] = [math.nan] * len(row)
                self._lost.add(bin_)
                self._touch(bin_)

    def begin(self) -> None:
        """The log begins anew with the next event: whatever there was before it, it is no more."""

    def clear(self) -> None:
        """Forget everything, as time itself begins anew."""
        self.version += 1
        self.cleared += 1
        self._gaps.clear()
        self._rows.clear()
        self._lost.clear()
        self._versions.clear()
        self.begin()

    def rows(self, since: int = 0) -> NDArray[np.float64]:
        """Rows that changed after a version, oldest first: the bin's time, then its values."""
        changed = sorted(bin_ for bin_, version in self._versions.items() if version > since)
        table = np.empty((len(changed), 1 + self._width))
        for line, bin_ in zip(table, changed, strict=True):
            line[0] = bin_ * self.bin_s
            line[1:] = self._rows[bin_]
        return table

    def _blank(self) -> list[float]:
        """The values of a bin in which nothing happened."""
        return [0.0] * self._width

    def _cover(self, bin_: int) -> None:
        """Let the rows reach to a bin."""
        if not self._rows:
            self._first = self._last = bin_
        elif bin_ in self._rows or bin_ < self._first == self._last - self._bins + 1:  # there, or too old to be kept
            return
        fresh = range(self._last + 1, bin_) if bin_ > self._last else range(bin_ + 1, self._first)
        self._last = max(self._last, bin_)
        first = max(min(self._first, bin_), self._last - self._bins + 1)
        for gone in range(self._first, min(first, self._first + self._bins)):
            self._rows.pop(gone, None)
            self._versions.pop(gone, None)
            self._lost.discard(gone)
        self._first = first
        if bin_ >= first and bin_ not in self._rows:
            self._put_blank(bin_)
        self._fill(range(max(fresh.start, first), fresh.stop))

    def _fill(self, bins: range) -> None:
        """Blank rows for those bins that nothing is known against."""
        for bin_ in bins:
            if (bin_ not in self._rows or bin_ in self._lost) and not self._is_unknown(bin_):
                self._put_blank(bin_)

    def _known_row(self, bin_: int) -> list[float] | None:
        """The row of a bin in which something happened; None if it is older than what is kept."""
        if bin_ in self._lost:  # publishers' clocks may differ by a little
            self._put_blank(bin_)
        return self._rows.get(bin_)

    def _put_blank(self, bin_: int) -> None:
        self._rows[bin_] = self._blank()
        self._lost.discard(bin_)
        self._touch(bin_)

    def _touch(self, bin_: int) -> None:
        self.version += 1
        self._versions[bin_] = self.version

    def _is_unknown(self, bin_: int) -> bool:
        start_s, end_s = bin_ * self.bin_s, (bin_ + 1) * self.bin_s
        return any(gap.start_s < start_s and end_s <= gap.end_s for gap in self.gaps)  # at its start was an event


class Sums(Binned):
    """What happened in each bin, as a rate per ``unit_s`` seconds; zero where nothing did."""

    def __init__(self, width: int, *, bin_s: float = 1.0, bins: int = 602, unit_s: float = 1.0) -> None:
        super().__init__(width, bin_s=bin_s, bins=bins)
        self._share = unit_s / bin_s

    def count(self, time_s: float, amounts: Sequence[tuple[int, float]]) -> None:
        """Add to columns, at a time in seconds since 1970."""
        self.prove(time_s)
        bin_ = math.floor(time_s / self.bin_s)
        row = self._known_row(bin_)
        if row is not None:
            for column, amount in amounts:
                row[column] += amount * self._share
            self._touch(bin_)


class Levels(Binned):
    """How many there are, at the end of each bin; an event that comes late counts from the newest one on.

    Args:
        width: values in a row.
        spikes: so many of them, the last ones, are no levels: they count what happened in the bin.
        bin_s: see `Binned`.
        bins: see `Binned`.
    """

    def __init__(self, width: int, *, spikes: int = 0, bin_s: float = 1.0, bins: int = 602) -> None:
        super().__init__(width, bin_s=bin_s, bins=bins)
        self._spikes = spikes
        self._levels = [0.0] * (width - spikes)

    def set(self, time_s: float, levels: Sequence[float], spike: int | None = None) -> None:
        """From a time on these are the levels; ``spike`` counts one more in its column."""
        if self._gaps.proven_s is not None:
            time_s = max(time_s, self._gaps.proven_s)
        self.prove(time_s)
        self._levels = list(levels)
        bin_ = math.floor(time_s / self.bin_s)
        row = self._known_row(bin_)
        if row is None:
            return
        if spike is not None:
            row[spike] += 1
        for later in range(bin_, self._last + 1):
            row = self._rows.get(later)
            if row is not None and later not in self._lost:
                row[: len(self._levels)] = self._levels
                self._touch(later)

    def _blank(self) -> list[float]:
        return self._levels + [0.0] * self._spikes


class EventRate(Sums):
    """Events by type.

    Args:
        names: the series; the last one takes every type that is none of the others.
        bin_s: see `Binned`.
        bins: see `Binned`.
        unit_s: what the rate is per, seconds.
    """

    types = None

    def __init__(self, names: Sequence[str], *, bin_s: float = 1.0, bins: int = 602, unit_s: float = 1.0) -> None:
        super().__init__(len(names), bin_s=bin_s, bins=bins, unit_s=unit_s)
        self.names = list(names)
        self._index = {name: column for column, name in enumerate(names)}

    def add(self, event_type: str, time_s: float) -> None:
        """Count an event of a type, at a time in seconds since 1970."""
        self.count(time_s, ((self._index.get(event_type, self._width - 1), 1),))

    def see(self, event: Sighting, time_s: float) -> None:
        """Count an event."""
        self.add(event.type, time_s)
