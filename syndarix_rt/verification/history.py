"""`History`: what the log held when, from what the broker acknowledged; the truth that subscribers are held against.

An epoch that succeeds another one (Redis was restarted) takes over its entries up to the last offset that survived, so
a position is looked up along the line of succession.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

from syndarix_rt.delivery import Position
from syndarix_rt.events import EventId

__all__ = ["Entry", "History", "fingerprint"]


def fingerprint(raw: bytes) -> int:
    """Of an event's bytes."""
    return zlib.crc32(raw)


class Entry(NamedTuple):
    """One event of the log."""

    fingerprint: int
    type: str
    published_s: float
    """When its batch was acknowledged, on the clock of the run."""


class _Epoch:
    def __init__(self) -> None:
        self.entries: dict[int, Entry] = {}
        self.last = 0
        """Newest offset that was acknowledged."""
        self.line: dict[str, int] = {}
        """Earlier epochs, the newest first, each with the last offset of it that is part of this one."""
        self.survived: dict[str, int] = {}
        """The same, as far back as the broker remembers it."""
        self.firsts = {1}
        """The oldest offset retained, at any time."""


class History:
    """What was published, and what became of it.

    Attributes:
        acknowledged: events.
        lost: events that the broker acknowledged and no longer had after a restart, although nothing took them.
        top: the newest position known.
    """

    def __init__(self) -> None:
        self.acknowledged = 0
        self.lost = 0
        self.top: EventId | None = None
        self._epochs: dict[str, _Epoch] = {}
        self._present = ""
        self._changing = 0

    @property
    def settled(self) -> bool:
        """Whether all that happened to the log is told here; else subscribers may be ahead."""
        return not self._changing

    @contextmanager
    def changing(self) -> Iterator[None]:
        """While something is done to the log that has yet to be told here."""
        self._changing += 1
        try:
            yield
        finally:
            self._changing -= 1

    def published(self, epoch: str, first: int, entries: Sequence[Entry]) -> None:
        """A batch was acknowledged."""
        known = self._epochs.setdefault(epoch, _Epoch())
        known.entries.update(enumerate(entries, first))
        known.last = max(known.last, first + len(entries) - 1)
        self.acknowledged += len(entries)
        self.top = EventId(epoch, known.last)

    def stands(self, position: Position, *, losing: bool = False) -> None:
        """What the broker says it holds, after something was done to it.

        Args:
            position: from the broker.
            losing: whether that was meant to lose what was acknowledged.
        """
        epoch = self._epochs.setdefault(position.epoch, _Epoch())
        epoch.firsts.add(position.first)
        if position.epoch != self._present:
            epoch.survived = {place.epoch: place.offset for place in position.survived}
            before = self._epochs.get(self._present)
            kept = epoch.survived.get(self._present, 0)
            if before is not None:
                epoch.line = {self._present: kept} | {name: min(kept, last) for name, last in before.line.items()}
                if not losing:
                    self.lost += max(0, before.last - kept)
            self._present = position.epoch
        self.top = position.top

    def rates(self) -> list[int]:
        """Events acknowledged in each second of the run."""
        times = [int(entry.published_s) for epoch in self._epochs.values() for entry in epoch.entries.values()]
        counts = [0] * (max(times, default=-1) + 1)
        for second in times:
            counts[second] += 1
        return counts

    def limit(self, old: str, new: str) -> int | None:
        """The last offset of epoch ``old`` that is part of ``new``; None: the broker knows nothing of ``old`` there."""
        epoch = self._epochs.get(new)
        return None if epoch is None else epoch.survived.get(old)

    def knows(self, epoch: str) -> bool:
        """Whether there was such an epoch."""
        return epoch in self._epochs

    def continues(self, cursor: EventId, epoch: str) -> bool:
        """Whether a subscriber at ``cursor`` misses nothing when it goes on at the next offset of ``epoch``."""
        if cursor.epoch == epoch:
            return True
        limit = self.limit(cursor.epoch, epoch)
        return limit is not None and cursor.offset <= limit

    def was_first(self, epoch: str, offset: int) -> bool:
        """Whether ``offset`` was the oldest one retained, at some time of ``epoch`` or of those that it succeeds."""
        known = self._epochs.get(epoch)
        return known is not None and any(offset in self._epochs[name].firsts for name in (epoch, *known.line))

    def has_run(self, fingerprints: Sequence[int]) -> bool:
        """Whether events with these stand one behind the other in the log that there is."""
        if not fingerprints or self.top is None:
            return not fingerprints
        entries = (self.at(self._present, offset) for offset in range(1, self.top.offset + 1))
        log = [entry.fingerprint if entry else None for entry in entries]
        return any(
            log[start : start + len(fingerprints)] == list(fingerprints)
            for start, found in enumerate(log)
            if found == fingerprints[0]
        )

    def at(self, epoch: str, offset: int) -> Entry | None:
        """The event at a position; None if nothing was acknowledged there."""
        known = self._epochs.get(epoch)
        if known is None:
            return None
        entry = known.entries.get(offset)
        if entry is not None:
            return entry
        for name, limit in known.line.items():
            if offset > limit:
                return None
            entry = self._epochs[name].entries.get(offset)
            if entry is not None:
                return entry
        return None
