"""`Ledger`: what one subscriber received, as evidence.

It judges continuity from positions alone: within an epoch offsets must count up by one, unless a filter is on; a
declared gap is booked as such, a hole that nobody declared is an error of the delivery and is kept with its bounds.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from typing import TYPE_CHECKING, Any

import msgspec

from syndarix_rt.delivery.resume import Gap
from syndarix_rt.errors import MissingExtra
from syndarix_rt.events import EventId

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["LATENCY_STEPS_MS", "Hole", "Ledger"]

LATENCY_STEPS_MS = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1_000, 2_000, 5_000, 10_000, 60_000)
"""Upper bounds of the latency histogram, milliseconds; beyond the last is the overflow."""


class Hole(msgspec.Struct, frozen=True):
    """Offsets that were neither received nor declared missing."""

    epoch: str
    first: int
    last: int


class Ledger(msgspec.Struct, kw_only=True):
    """Counts and bounds of one subscriber's stream.

    Attributes:
        filtered: whether the stream has a type filter; then jumps forward are no holes.
        events: events received, duplicates not counted.
        duplicates: events received again; out of order counts here too, as their offset was passed.
        connections: how often the stream was opened.
        resumed: connections that continued exactly.
        unreadable: entries that were no events of ours.
        first: the first position received.
        last: the last position received or passed by a checkpoint.
        gaps: losses that the stream declared.
        holes: losses that it did not declare. Always empty, or delivery is broken.
        latency_counts: events by the time from publication to reception, for each of `LATENCY_STEPS_MS` and beyond.
    """

    filtered: bool = False
    events: int = 0
    duplicates: int = 0
    connections: int = 0
    resumed: int = 0
    unreadable: int = 0
    first: EventId | None = None
    last: EventId | None = None
    gaps: list[Gap] = []
    holes: list[Hole] = []
    latency_counts: list[int] = msgspec.field(default_factory=lambda: [0] * (len(LATENCY_STEPS_MS) + 1))

    def open(self, *, resumed: bool) -> None:
        """Book a connection."""
        self.connections += 1
        self.resumed += resumed

    def event(self, position: EventId, latency_s: float | None = None) -> bool:
        """Book an event; whether it is new (else the subscriber drops it)."""
        last = self.last
        if last is not None:
            if last.epoch == position.epoch and position.offset <= last.offset:
                self.duplicates += 1
                return False
            # A new epoch without a declared gap continues the old one's offsets (CONTRACT §1).
            if position.offset > last.offset + 1 and not self.filtered:
                self.holes.append(Hole(position.epoch, last.offset + 1, position.offset - 1))
        self.events += 1
        self.first = self.first or position
        self.last = position
        if latency_s is not None:
            self.latency_counts[bisect_left(LATENCY_STEPS_MS, latency_s * 1000)] += 1
        return True

    def gap(self, gap: Gap) -> None:
        """Book a declared loss; the checkpoint that follows it says where the stream goes on."""
        self.gaps.append(gap)
        self.last = None

    def checkpoint(self, position: EventId) -> None:
        """Book a position that the stream told without an event."""
        last = self.last
        if last is not None:
            if last.epoch == position.epoch and position.offset <= last.offset:
                return
            if position.offset > last.offset and not self.filtered:
                self.holes.append(Hole(position.epoch, last.offset + 1, position.offset))
        self.last = position

    def latency_ms(self, quantile: float) -> float | None:
        """Upper bound of the latency below which a share ``quantile`` of the events came; None without events."""
        wanted = quantile * sum(self.latency_counts)
        seen = 0
        for count, step_ms in zip(self.latency_counts, (*LATENCY_STEPS_MS, math.inf), strict=True):
            seen += count
            if count and seen >= wanted:
                return step_ms
        return None

    @property
    def clean(self) -> bool:
        """No undeclared loss and no duplicate."""
        return not self.holes and not self.duplicates

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON and frames."""
        result: dict[str, Any] = msgspec.to_builtins(self)
        for name in ("first", "last"):
            position = getattr(self, name)
            result[name] = None if position is None else str(position)
        return result | {"clean": self.clean}

    def to_frame(self) -> pd.DataFrame:
        """The losses as a frame: a row for each gap, then for each hole.

        Its columns: ``declared``, False for holes; the gap's ``reason``, empty for holes; the position ``after`` which
        something is missing; and how many entries are ``missed``, NA where nobody can know.

        Raises:
            MissingExtra: pandas is not installed.
        """
        try:
            import pandas as pd  # noqa: PLC0415 - an extra
        except ImportError:
            raise MissingExtra("analysis", "Ledger.to_frame") from None
        rows: list[tuple[bool, str, str, int | None]] = [
            (True, gap.reason, gap.requested, gap.missed) for gap in self.gaps
        ]
        rows += [
            (False, "", str(EventId(hole.epoch, hole.first - 1)), hole.last - hole.first + 1) for hole in self.holes
        ]
        frame = pd.DataFrame(rows, columns=["declared", "reason", "after", "missed"])
        return frame.astype({"declared": bool, "missed": "Int64"})

    def __str__(self) -> str:
        return (
            f"{self.events} events, {len(self.gaps)} gaps, {len(self.holes)} undeclared holes, "
            f"{self.duplicates} duplicates, {max(0, self.connections - 1)} reconnects"
        )
