"""What is published at once: the limits of a batch, its place in the log, and how many events become batches."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import msgspec

__all__ = ["MAX_BATCH_BYTES", "MAX_BATCH_EVENTS", "Published", "batches"]

MAX_BATCH_EVENTS = 1_000
"""Most events in one batch: a script that publishes more would hold Redis for longer than a few milliseconds."""

MAX_BATCH_BYTES = 4 * 1024 * 1024
"""Most bytes in one batch."""


class Published(msgspec.Struct, frozen=True):
    """Where a batch stands in the log."""

    epoch: str
    first: int
    last: int
    duplicates: int = 0
    """The batch's size if it was there already (sent again after a lost reply), else 0."""


def batches(entries: Sequence[bytes], *, growth_bytes: int = 0) -> Iterator[Sequence[bytes]]:
    """Cut encoded events into batches within the limits, in order and as few as that allows.

    Args:
        entries: encoded events; none is larger than a batch.
        growth_bytes: what may still be added to each before it is stored.
    """
    start = 0
    size = 0
    for index, entry in enumerate(entries):
        entry_bytes = len(entry) + growth_bytes
        if index - start == MAX_BATCH_EVENTS or size + entry_bytes > MAX_BATCH_BYTES:
            yield entries[start:index]
            start = index
            size = 0
        size += entry_bytes
    if start < len(entries):
        yield entries[start:]
