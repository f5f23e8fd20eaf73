"""Resume: may a subscriber continue where it stopped, and if not, which hole must it be told of?

A cursor is judged only against a `Position` that the broker itself gave, never against what some reader has seen so
far. The rules are CONTRACT §1 and §4:

====================================================  =======================================================
cursor                                                verdict
====================================================  =======================================================
of the current epoch, not below ``first - 1``         continue exactly
of a recorded epoch, at or below what survived        the same, under the new epoch
below ``first - 1``                                   gap ``trimmed``, continue at ``first``
of a recorded epoch, above what survived              gap ``epoch``, continue after the last that survived
above ``last``, or of an unknown epoch                gap ``epoch``, continue at ``first``
====================================================  =======================================================
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import msgspec

from syndarix_rt.events import EventId

__all__ = ["Gap", "GapReason", "Position", "Resumption", "judge"]

GapReason = Literal["trimmed", "epoch", "slow"]


class Position(msgspec.Struct, frozen=True):
    """What the broker holds of a channel right now.

    An empty log has ``first == last + 1``; a channel that never existed has an epoch too, with ``first == 1``.
    """

    epoch: str
    first: int
    last: int
    survived: tuple[EventId, ...] = ()
    """Earlier epochs, oldest first, each with the last offset of it that is still part of this log."""

    @property
    def top(self) -> EventId:
        """The newest event's id (``<epoch>.0`` if there never was one)."""
        return EventId(self.epoch, self.last)


class Gap(msgspec.Struct, frozen=True):
    """A declared hole in a stream: what was asked for cannot be continued without a loss."""

    reason: GapReason
    """``trimmed``: retention took it before this connection; ``slow``: while it was live; ``epoch``: other history."""
    requested: str
    """The cursor as given; in the middle of a stream, the last position that was sent."""
    first: int
    """Oldest offset retained."""
    last: int
    """Newest offset."""
    missed: int | None
    """Log entries skipped, before any filter; None if that cannot be known."""


class Resumption(NamedTuple):
    """The verdict over a cursor."""

    after: int
    """Continue after this offset of the current epoch."""
    gap: Gap | None
    """What must be declared before any data."""


def judge(cursor: EventId, position: Position, *, requested: str | None = None, live: bool = False) -> Resumption:
    """Decide how a subscriber at ``cursor`` goes on.

    Args:
        cursor: the last event it has.
        position: what the broker holds, read after the cursor was.
        requested: the cursor's text as it was given, if that differs from ``str(cursor)``.
        live: whether this is a stream that already runs; then a loss by retention is called ``slow``.
    """

    def gap(reason: GapReason, after: int, missed: int | None) -> Resumption:
        text = str(cursor) if requested is None else requested
        return Resumption(after, Gap(reason, text, position.first, position.last, missed))

    oldest = position.first - 1  # the lowest place from which everything is still there
    if cursor.epoch == position.epoch:
        limit = position.last
        if cursor.offset > limit:
            return gap("epoch", oldest, 0)
    else:
        survivors = [place.offset for place in position.survived if place.epoch == cursor.epoch]
        if not survivors:
            return gap("epoch", oldest, None)
        limit = survivors[-1]
        if cursor.offset > limit:
            return gap("epoch", max(limit, oldest), max(0, oldest - limit))
    if cursor.offset < oldest:
        return gap("slow" if live else "trimmed", oldest, oldest - cursor.offset)
    return Resumption(cursor.offset, None)
