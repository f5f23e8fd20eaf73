"""`Oracle`: holds what one subscriber received against the log's history. No I/O.

A subscriber is served well if it got exactly the events that follow its first position, in order, each with the bytes
that were published, or was told of each hole by a `Gap` with the right reason and bounds, and went on right behind it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import msgspec

from syndarix_rt.delivery import Gap, Ledger, TypeFilter
from syndarix_rt.errors import EventError
from syndarix_rt.events import EventId
from syndarix_rt.verification.history import History

__all__ = ["Declared", "Ended", "Opened", "Oracle", "Received", "Record", "Told", "Violation"]


class Opened(NamedTuple):
    """A stream began."""

    at_s: float
    requested: EventId | None
    """What it was asked to go on after."""
    start: EventId
    """Where a stream that asked for nothing begins."""
    resumed: bool


class Received(NamedTuple):
    """An event came."""

    at_s: float
    position: EventId
    fingerprint: int


class Told(NamedTuple):
    """A position came without an event."""

    at_s: float
    position: EventId


class Declared(NamedTuple):
    """A loss was declared."""

    at_s: float
    gap: Gap


class Ended(NamedTuple):
    """A connection is over."""

    at_s: float
    reason: str


Record = Opened | Received | Told | Declared | Ended


class Violation(msgspec.Struct, frozen=True):
    """One promise that was not kept."""

    subscriber: str
    """Its name; empty for what is nobody's in particular."""
    at_s: float
    """Since the run began, seconds."""
    kind: str
    """``hole``, ``duplicate``, ``order``, ``unknown``, ``altered``, ``epoch``, ``filter``, ``gap``, ``resumed``,
    ``incomplete``; ``refused`` for a client that gave up, ``log`` for what the broker lost, ``leak`` for what a server
    still holds when all have left, ``process`` for one that did not end."""
    text: str

    def __str__(self) -> str:
        who = f"{self.subscriber}: " if self.subscriber else ""
        return f"{self.at_s:7.2f} s  {self.kind:<10}  {who}{self.text}"


class Oracle:
    """The judge of one subscriber.

    Args:
        name: of the subscriber.
        history: the truth.
        types: its filter; None: it wants all.
        hides_checkpoints: whether it shows events and gaps only, as our client does.

    Attributes:
        ledger: what it received, counted.
        violations: what it found so far.
        gaps_s: when losses were declared.
    """

    def __init__(
        self, name: str, history: History, types: TypeFilter | None = None, *, hides_checkpoints: bool = False
    ) -> None:
        self.name = name
        self.ledger = Ledger(filtered=types is not None)
        self.violations: list[Violation] = []
        self.gaps_s: list[float] = []
        self._history = history
        self._types = types
        self._hides_checkpoints = hides_checkpoints
        self._cursor: EventId | None = None
        self._moved = False  # whether anything was received or told, since when it must never start anew
        self._gap: Gap | None = None  # declared, and where it goes on is not yet known
        self._promise: bool | None = None  # of a stream that just resumed: that nothing is missing
        self._missing: set[int] = set()
        self._opened_s = 0.0
        self._now_s = 0.0

    @property
    def cursor(self) -> EventId | None:
        """Its place: the last position that it received or was told."""
        return self._cursor

    def feed(self, record: Record) -> None:
        """Judge the next thing that it saw."""
        self._now_s = record.at_s
        match record:
            case Received():
                self._received(record)
            case Told():
                self._told(record.position)
            case Declared():
                self._declared(record.gap)
            case Opened():
                self._opened(record)
            case Ended():
                self._promise = None

    def finish(self, top: EventId, at_s: float) -> None:
        """Judge whether it has all up to the end of the log."""
        self._now_s = at_s
        cursor = self._cursor
        if cursor is None:
            self._found("incomplete", f"never knew where it stands; the log ends at {top}")
        elif self._gap is not None:
            self._found("incomplete", "a gap was declared and nothing came after it")
        elif not self._history.continues(cursor, top.epoch):
            self._found("incomplete", f"stands at {cursor}, which the log that ends at {top} does not continue")
        elif missing := list(self._matching(EventId(top.epoch, cursor.offset), top.offset + 1)):
            self._found("incomplete", f"stands at {cursor} and lacks {_bounds(missing)} of {top}")

    # ---- what is seen -----------------------------------------------------------------------------------------------

    def _opened(self, record: Opened) -> None:
        self.ledger.open(resumed=record.resumed)
        self._promise = None
        self._opened_s = record.at_s
        if record.requested is None:
            if self._moved:
                self._found("resumed", f"began anew although it stood at {self._cursor}")
            self._cursor = record.start
            return
        if self._cursor is None or record.requested != self._cursor:
            self._told(record.requested)  # told on the connection before, by a checkpoint that a client hides
        # A later gap is honest. Whoever hides checkpoints hides where the stream's beginning ends.
        self._promise = None if record.resumed and self._hides_checkpoints else record.resumed

    def _received(self, record: Received) -> None:
        position = record.position
        if not self._arrive(position, position.offset - 1):
            return
        promise, self._promise, self._moved = self._promise, None, True
        if promise is False:
            self._found("resumed", f"{position} came on a stream that neither resumed nor declared a gap")
        cursor = self._cursor
        assert cursor is not None
        entry = self._history.at(*position)
        live = entry is not None and entry.published_s > self._opened_s
        self.ledger.event(position, max(0.0, record.at_s - entry.published_s) if entry and live else None)
        if position.offset <= cursor.offset:
            if position.offset in self._missing:
                self._missing.discard(position.offset)
                self._found("order", f"{position} came after {cursor}")
            else:
                self._found("duplicate", f"{position} came again, after {cursor}")
            return
        if entry is None:
            self._found("unknown", f"nothing was published at {position}")
        elif entry.fingerprint != record.fingerprint:
            self._found("altered", f"{position} is not the event that was published there")
        elif self._types is not None and not self._types.matches(entry.type):
            self._found("filter", f"{position} is of type {entry.type}, which {self._types} does not let through")
        self._check_between(cursor, position.offset, position)
        self._cursor = position

    def _told(self, position: EventId) -> None:
        behind_gap = self._gap is not None
        self._moved = True
        if self._promise and not behind_gap:
            self._promise = None
        if self._cursor is None or (position == self._cursor and not behind_gap):
            self._cursor = position
            return
        if not self._arrive(position, position.offset):
            return
        place = self._cursor
        if behind_gap and position != place and not self._hides_checkpoints:
            self._found("gap", f"after the gap it went on after {position}, not after {place}")
            self._cursor = position
            return
        if position.offset < place.offset:
            self._found("order", f"was told {position} after {place}")
            return
        self.ledger.checkpoint(position)
        self._check_between(place, position.offset + 1, position)
        self._cursor = position

    def _declared(self, gap: Gap) -> None:
        if self._promise:
            self._found("resumed", f"declared {_show(gap)} on a stream that it called resumed")
        self._promise = None
        try:
            requested = EventId.parse(gap.requested)
        except EventError:
            self._found("gap", f"{_show(gap)} does not say where the subscriber stood")
            self._gap = gap
            return
        if self._gap is not None or requested != self._cursor:
            self._told(requested)  # of a client that hides checkpoints
        self.ledger.gap(gap)
        self.gaps_s.append(round(self._now_s, 2))
        self._gap = gap

    # ---- rules ------------------------------------------------------------------------------------------------------

    def _arrive(self, position: EventId, offset: int) -> bool:
        """Be in the epoch of this position, behind the gap if one was declared; whether that is possible.

        Where the stream cannot have come from its place, it is taken to be at ``offset``, so that one fault is told
        once.
        """
        gap, self._gap = self._gap, None
        cursor, epoch = self._cursor, position.epoch
        if not self._history.knows(epoch):
            self._found("epoch", f"a position of epoch {epoch}, which there never was")
            self._gap = gap
            return False
        if gap is not None and cursor is not None:
            self._cursor = EventId(epoch, self._behind(gap, cursor, epoch))
        elif cursor is None or not self._history.continues(cursor, epoch):
            self._found("epoch", f"went from {cursor} to epoch {epoch}, which does not continue it, without a gap")
            self._cursor = EventId(epoch, offset)
        elif cursor.epoch != epoch:
            self._cursor = EventId(epoch, cursor.offset)
        return True

    def _behind(self, gap: Gap, cursor: EventId, epoch: str) -> int:
        """The offset after which a stream must go on behind a gap, whose bounds are checked."""
        oldest = gap.first - 1
        limit = self._history.limit(cursor.epoch, epoch)
        kept = self._history.continues(cursor, epoch)
        # What a filter skipped the server had passed already, and need not have told.
        passed = self._types is not None
        wrong = []
        if not self._history.was_first(epoch, gap.first):
            wrong.append(f"the log never began at {gap.first}")
        if gap.reason == "epoch":
            if kept and not (passed and cursor.epoch != epoch):
                wrong.append(f"nothing of what {cursor} continues is lost")
            behind = oldest if limit is None else max(limit, oldest)
            missed = None if limit is None else max(0, oldest - limit)
            if gap.missed != missed:
                wrong.append(f"{missed} are missed")
            if limit is not None and cursor.offset < limit:
                self._check_between(cursor, limit + 1, EventId(epoch, behind))
        else:
            if not kept:
                wrong.append(f"epoch {epoch} does not continue {cursor}")
            behind, most = oldest, oldest - cursor.offset
            if gap.missed is None or not (1 if passed else most) <= gap.missed <= most:
                wrong.append(f"{most} are missed")
        if wrong:
            self._found("gap", f"{_show(gap)} at {cursor}: {'; '.join(wrong)}")
        return behind

    def _check_between(self, cursor: EventId, before: int, position: EventId) -> None:
        """Nothing that it wants may stand between its place and what came."""
        if before == cursor.offset + 1:
            return
        missing = list(self._matching(EventId(position.epoch, cursor.offset), before))
        if missing:
            self._missing.update(missing)
            self._found("hole", f"{_bounds(missing)} did not come before {position}, and no gap was declared")

    def _matching(self, after: EventId, before: int) -> Iterator[int]:
        for offset in range(after.offset + 1, before):
            entry = self._history.at(after.epoch, offset)
            if self._types is None or (entry is not None and self._types.matches(entry.type)):
                yield offset

    def _found(self, kind: str, text: str) -> None:
        self.violations.append(Violation(self.name, round(self._now_s, 3), kind, text))


def _bounds(offsets: list[int]) -> str:
    if len(offsets) == 1:
        return f"offset {offsets[0]}"
    return f"{len(offsets)} offsets from {offsets[0]} to {offsets[-1]}"


def _show(gap: Gap) -> str:
    return f"gap ({gap.reason}, first {gap.first}, last {gap.last}, missed {gap.missed})"
