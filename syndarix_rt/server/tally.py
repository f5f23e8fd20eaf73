"""`Tally`: what a server process counts while it works, so cheaply that it always does."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from syndarix_rt.delivery import Cursor

__all__ = ["Histogram", "Tally"]

_RECORDED = b'"recordedtime":"'

SHORT_S = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0)
LONG_S = (0.001, 0.005, 0.01, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 60.0)
EVENTS = (1.0, 10.0, 100.0, 1_000.0, 10_000.0, 100_000.0)


class Histogram:
    """How often values came, by upper bounds.

    Attributes:
        bounds: the upper bounds; beyond the last is the overflow.
        counts: for each bound and the overflow, the values up to it and above the one before.
        total: their sum.
    """

    __slots__ = ("bounds", "counts", "total")

    def __init__(self, bounds: Sequence[float]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.total = 0.0

    def observe(self, value: float) -> None:
        """Count a value."""
        self.counts[bisect_left(self.bounds, value)] += 1
        self.total += value


class Tally:
    """Since the start of the process.

    Attributes:
        counts: ``published`` and ``received`` events, ``broker_lost`` times that a channel lost its broker; of streams
            that have ended ``events``, ``bytes`` and ``writes``.
        encode_s: spent on encoding events for streams.
        publishes: requests to publish, by status.
        delay_s: from publication to this process's memory: broker, Pub/Sub, and our reading.
        flush_s: for one round of writes to all streams of a channel.
        replay_events: what streams that came with a cursor or asked for history were given before they were live.
        replay_s: … and how long that took.
    """

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self.encode_s = 0.0
        self.publishes: Counter[int] = Counter()
        self.delay_s = Histogram(LONG_S)
        self.flush_s = Histogram(SHORT_S)
        self.replay_events = Histogram(EVENTS)
        self.replay_s = Histogram(LONG_S)

    def received(self, entries: Sequence[bytes]) -> None:
        """A batch has come from the broker; its last event tells how long it took."""
        self.counts["received"] += len(entries)
        entry = entries[-1]
        at = entry.rfind(_RECORDED)
        if at < 0:
            return
        begin = at + len(_RECORDED)
        try:
            published = datetime.fromisoformat(entry[begin : entry.index(b'"', begin)].decode())
            self.delay_s.observe(max(0.0, (datetime.now(UTC) - published).total_seconds()))
        except (ValueError, TypeError):  # not of ours: any process may write into Redis
            return

    def caught_up(self, events: int, seconds: float) -> None:
        """A stream has reached the head of its log for the first time."""
        if events:
            self.replay_events.observe(events)
            self.replay_s.observe(seconds)

    def ended(self, cursor: Cursor | None) -> None:
        """A stream has ended."""
        if cursor is not None:
            self.counts["events"] += cursor.events
            self.counts["bytes"] += cursor.size_bytes
            self.counts["writes"] += cursor.pieces
