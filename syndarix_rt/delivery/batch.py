"""What is published at once: the limits of a batch, its place in the log, and how many events become batches."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from datetime import datetime

import msgspec

from syndarix_rt.errors import EventError
from syndarix_rt.events import Event

__all__ = ["MAX_BATCH_BYTES", "MAX_BATCH_EVENTS", "Published", "batches", "encode_all"]

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


def encode_all(events: Sequence[Event], project: str, *, recordedtime: datetime | None = None) -> list[bytes]:
    """Encode events that go to one project.

    Args:
        events: what is published.
        project: each of them must name it.
        recordedtime: for those that have none, UTC.

    Raises:
        EventError: an event of another project, or one that is too large; the path names it.
    """
    entries = []
    for index, event in enumerate(events):
        if event.project != project:
            raise EventError(f"is {event.project!r}, but this publishes to {project!r}", f"$[{index}].project")
        if event.recordedtime is None and recordedtime is not None:
            event = copy.copy(event)  # noqa: PLW2901 - the same event, completed
            # Not structs.replace(): that checks all of a valid event again, at three times the encoding's cost.
            msgspec.structs.force_setattr(event, "recordedtime", recordedtime)
        try:
            entries.append(event.encode())
        except EventError as error:
            raise error.within(f"$[{index}]") from error
    return entries


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
