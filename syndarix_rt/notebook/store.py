"""`Store`: the events that a notebook received, bounded, and as a pandas frame."""

from __future__ import annotations

import threading
from collections import deque
from datetime import UTC, datetime
from itertools import islice
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from syndarix_rt.events import EventId, category_of
from syndarix_rt.simulation.analysis.columns import flatten, time_column, untyped_column

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["CAPACITY", "Received", "Store"]

CAPACITY = 1_000_000
"""Events kept at most: about 600 MB at 500 bytes each, which a laptop has; three hours at 100 events/s."""


class Received(NamedTuple):
    """One event as it came."""

    position: EventId
    received_s: float
    """When it came, seconds since 1970."""
    raw: bytes
    """Its JSON: a quarter of what the decoded event takes."""


class _Row(msgspec.Struct):
    """What a frame shows of an event; it was checked when it came."""

    id: str
    type: str
    time: datetime
    data: dict[str, Any]
    recordedtime: datetime | None = None
    simulation: str | None = None
    subject: str | None = None
    cause: str | None = None


class Store:
    """Keeps what was received, the newest ``capacity`` of it. Safe to use from several threads.

    Attributes:
        dropped: events that had to go for newer ones.
    """

    def __init__(self, capacity: int = CAPACITY) -> None:
        self.dropped = 0
        self._items: deque[Received] = deque(maxlen=capacity)
        self._lock = threading.Lock()

    def add(self, item: Received) -> None:
        """Keep one more."""
        with self._lock:
            self.dropped += len(self._items) == self._items.maxlen
            self._items.append(item)

    def __len__(self) -> int:
        """Events that are kept."""
        return len(self._items)

    @property
    def received(self) -> int:
        """Events that were ever added."""
        with self._lock:
            return self.dropped + len(self._items)

    def since(self, number: int) -> list[Received]:
        """What is kept, in the order it came, without the first ``number`` that were ever added."""
        with self._lock:
            return list(islice(self._items, max(number - self.dropped, 0), None))

    def frame(self, simulation: str | None = None) -> pd.DataFrame:
        """One row an event, in the order it came.

        Columns: ``epoch, offset, time, recordedtime, received`` (times are ``datetime64[us, UTC]``), ``type, category,
        simulation, subject, id, cause``, then the payload flattened as ``data.*``, sorted by name.
        ``frame.attrs["dropped"]`` says how many older events the store had no room for.

        Args:
            simulation: only events of this simulation.
        """
        import pandas as pd  # noqa: PLC0415 - takes half a second, and a dashboard does without

        with self._lock:
            items, dropped = list(self._items), self.dropped
        decode = msgspec.json.Decoder(_Row).decode
        pairs = [(item, decode(item.raw)) for item in items]
        if simulation is not None:
            pairs = [(item, row) for item, row in pairs if row.simulation == simulation]
        columns: dict[str, Any] = {
            "epoch": [item.position.epoch for item, _ in pairs],
            "offset": pd.array([item.position.offset for item, _ in pairs], dtype="int64"),
            "time": time_column([row.time for _, row in pairs]),
            "recordedtime": time_column([row.recordedtime for _, row in pairs]),
            "received": time_column([datetime.fromtimestamp(item.received_s, UTC) for item, _ in pairs]),
            "type": [row.type for _, row in pairs],
            "category": [category_of(row.type) for _, row in pairs],
            "simulation": [row.simulation for _, row in pairs],
            "subject": [row.subject for _, row in pairs],
            "id": [row.id for _, row in pairs],
            "cause": [row.cause for _, row in pairs],
        }
        payload: dict[str, list[Any]] = {}
        for line, (_, row) in enumerate(pairs):
            for key, value in row.data.items():
                flatten(f"data.{key}", value, line, len(pairs), payload)
        columns |= {name: untyped_column(values) for name, values in sorted(payload.items())}
        frame = pd.DataFrame(columns)
        frame.attrs["dropped"] = dropped
        return frame
