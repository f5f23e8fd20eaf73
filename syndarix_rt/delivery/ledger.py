"""`Ledger`: what one subscriber received, as evidence.

It judges continuity from positions alone: within an epoch offsets must count up by one, unless a filter is on; a
declared gap is booked as such, a hole that nobody declared is an error of the delivery and is kept with its bounds.
"""

from __future__ import annotations

from typing import Any

import msgspec

from syndarix_rt.delivery.resume import Gap
from syndarix_rt.events import EventId

__all__ = ["Hole", "Ledger"]

_LATENCY_STEPS_MS = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1_000, 2_000, 5_000, 10_000, 60_000)


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
        latency_ms: histogram of publication to reception: upper bound in ms to count; ``None`` is beyond.
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
    latency_ms: dict[int | None, int] = {}

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
            ms = latency_s * 1000
            step = next((step for step in _LATENCY_STEPS_MS if ms <= step), None)
            self.latency_ms[step] = self.latency_ms.get(step, 0) + 1
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

    @property
    def clean(self) -> bool:
        """No undeclared loss and no duplicate."""
        return not self.holes and not self.duplicates

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON and frames."""
        result: dict[str, Any] = msgspec.to_builtins(self, str_keys=True)
        for name in ("first", "last"):
            position = getattr(self, name)
            result[name] = None if position is None else str(position)
        return result | {"clean": self.clean}

    def __str__(self) -> str:
        return (
            f"{self.events} events, {len(self.gaps)} gaps, {len(self.holes)} undeclared holes, "
            f"{self.duplicates} duplicates, {max(0, self.connections - 1)} reconnects"
        )
