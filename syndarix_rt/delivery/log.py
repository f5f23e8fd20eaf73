"""One log, many cursors: the part of a channel's log that a process keeps in memory, and subscribers' places in it.

Each entry is encoded once, as the bytes of its SSE frame. A subscriber is a `Cursor`, not a queue: when it wakes up it
takes everything up to the head (up to a budget) as one piece, and all cursors at the same place with the same filter
get the very same bytes object. A cursor that has fallen out of memory takes pages of the broker's log instead, through
the same `cut`. So replay and live are one path.
"""

from __future__ import annotations

from typing import NamedTuple

import msgspec

from syndarix_rt.delivery.filters import TypeFilter
from syndarix_rt.delivery.sse import encode, encode_entry
from syndarix_rt.events import EventId

__all__ = ["Cursor", "Log", "Piece", "Pieces", "Span"]

CHECKPOINT_ENTRIES = 1_000
"""A filtered stream says where it is after this many skipped entries (CONTRACT §4)."""

CHECKPOINT_S = 5.0
"""… or this long after the first skip that it has not told of."""

PIECE_BYTES = 128 * 1024
"""A piece ends after the entry that passes this: enough to make a write cheap, small against a slow link's patience. It
is what a client that does not read keeps of our memory, beside what its socket holds."""

PIECES_BYTES = 16 * 1024 * 1024
"""Pieces that are kept for those who may ask for the same: as many bytes as the log itself has."""

_PIECE_OVERHEAD_BYTES = 256
"""What a piece takes beside its data, about."""

_AT_ONCE = 64
"""Frames that are counted in one step."""


class _Typed(msgspec.Struct):
    type: str


_typed = msgspec.json.Decoder(_Typed).decode


class Span(NamedTuple):
    """Consecutive entries, encoded: entry ``i`` has offset ``first + i``."""

    first: int
    types: list[str]
    frames: list[bytes]

    @classmethod
    def encode(cls, epoch: str, first: int, entries: list[bytes]) -> Span:
        """Encode a batch or a page. An entry that no publisher of ours can have written passes as ``message``."""
        types = cls.types_of(entries)
        frames: list[bytes] = []
        for offset, (event, entry) in enumerate(zip(types, entries, strict=True), first):
            event_id = f"{epoch}.{offset}"
            clean = b"\n" not in entry and b"\r" not in entry and event != "message"
            frames.append(encode_entry(event_id, event, entry) if clean else encode(entry, event=event, id=event_id))
        return cls(first, types, frames)

    @staticmethod
    def types_of(entries: list[bytes]) -> list[str]:
        """The event types of entries; ``message`` for what is no event."""
        types = []
        for entry in entries:
            try:
                event = _typed(entry).type
            except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
                event = "message"
            types.append("message" if "\n" in event or "\r" in event or "\0" in event else event)
        return types


class Piece(NamedTuple):
    """What one write carries: entries after some offset, up to ``upto``, those that passed the filter as bytes."""

    data: bytes
    upto: int
    """The offset that this piece reaches; entries up to it were sent or skipped."""
    sent: int
    """The last offset whose frame is in ``data``; 0 if none is."""
    events: int
    """Frames in ``data``."""


def cut(span: Span, after: int, types: TypeFilter | None, budget_bytes: int = PIECE_BYTES) -> Piece:
    """The piece of ``span`` that follows offset ``after`` (which must not lie before ``span.first - 1``)."""
    start = after + 1 - span.first
    frames = span.frames
    end = len(frames)
    if types is None:
        return _cut_whole(span, start, budget_bytes)
    parts: list[bytes] = []
    size = 0
    sent = 0
    index = start
    while index < end and size < budget_bytes:
        if types.matches(span.types[index]):
            parts.append(frames[index])
            size += len(frames[index])
            sent = span.first + index
        index += 1
    return Piece(b"".join(parts), span.first + index - 1, sent, len(parts))


def _cut_whole(span: Span, start: int, budget_bytes: int) -> Piece:
    """Without a filter, some at a time: a slow client stands alone at its place, and its pieces serve nobody else."""
    frames = span.frames
    stop, size = start, 0
    while stop < len(frames) and size < budget_bytes:
        some = list(map(len, frames[stop : stop + _AT_ONCE]))
        more = sum(some)
        if size + more <= budget_bytes:
            size += more
            stop += len(some)
        else:
            while size < budget_bytes:
                size += len(frames[stop])
                stop += 1
    if stop < len(frames):
        # Slow clients stand at many places. They meet where pieces end at round offsets, and share what follows.
        count = stop - start
        stop -= (span.first + stop - 1) % (1 << max(0, count.bit_length() - 2))
    upto = span.first + stop - 1
    return Piece(b"".join(frames[start:stop]), upto, upto if stop > start else 0, stop - start)


_Place = tuple[int, TypeFilter | None]
"""After which offset, with which filter."""


class Pieces:
    """Pieces of one span, each cut once: all who stand at one place with one filter get the very same object."""

    __slots__ = ("_full", "_pieces", "size_bytes")

    def __init__(self) -> None:
        self._pieces: dict[_Place, Piece] = {}  # up to the span's end
        self._full: dict[_Place, Piece] = {}  # they end before it, so more entries change nothing
        self.size_bytes = 0

    def of(self, span: Span, after: int, types: TypeFilter | None) -> Piece:
        """See `cut`."""
        key = (after, types)
        piece = self._pieces.get(key) or self._full.get(key)
        if piece is None:
            piece = cut(span, after, types)
            if self.size_bytes > PIECES_BYTES:  # an idle channel, and many who begin at places of their own
                self.forget()
            is_full = piece.upto < span.first + len(span.frames) - 1
            (self._full if is_full else self._pieces)[key] = piece
            self.size_bytes += len(piece.data) + _PIECE_OVERHEAD_BYTES
        return piece

    def grown(self) -> None:
        """The span has more entries."""
        for piece in self._pieces.values():
            self.size_bytes -= len(piece.data) + _PIECE_OVERHEAD_BYTES
        self._pieces.clear()

    def forget(self) -> None:
        """The span is another one."""
        self._pieces.clear()
        self._full.clear()
        self.size_bytes = 0


class Log:
    """The newest entries of one channel within one epoch, bounded by count and bytes.

    Args:
        max_entries: entries kept. 10,000: seconds of a fire hose, hours of a project; replay beyond it reads Redis.
        max_bytes: bytes kept. 16 MiB for a channel, so that a hundred busy channels fit a small machine.

    Attributes:
        epoch: of the entries.
        first: oldest offset in memory; ``last + 1`` if there is none.
        last: newest offset.
        size_bytes: of the frames in memory.
    """

    def __init__(self, *, max_entries: int = 10_000, max_bytes: int = 16 * 1024 * 1024) -> None:
        self.max_entries = max_entries
        self.max_bytes = max_bytes
        self.epoch = ""
        self.first = 1
        self.last = 0
        self.size_bytes = 0
        self._span = Span(1, [], [])
        self._pieces = Pieces()

    def start(self, epoch: str, last: int) -> None:
        """Forget everything; the next entry is ``last + 1`` of ``epoch``."""
        self.epoch = epoch
        self.first, self.last = last + 1, last
        self.size_bytes = 0
        self._span = Span(last + 1, [], [])
        self._pieces.forget()

    def append(self, first: int, entries: list[bytes]) -> None:
        """Add the next entries; the oldest go when the log is over its bounds.

        Raises:
            ValueError: if ``first`` is not ``last + 1``; a log never has a hole.
        """
        if first != self.last + 1:
            raise ValueError(f"entries from offset {first} do not follow offset {self.last}")
        span = Span.encode(self.epoch, first, entries)
        self._span.types.extend(span.types)
        self._span.frames.extend(span.frames)
        self.last += len(span.frames)
        self.size_bytes += sum(map(len, span.frames))
        self._pieces.grown()
        self._trim()

    def _trim(self) -> None:
        """Cut down to the bounds, but only once a quarter too much is there: deleting from a list's head copies it."""
        frames = self._span.frames
        surplus = len(frames) - self.max_entries
        over_bytes = self.size_bytes - self.max_bytes
        if surplus <= self.max_entries // 4 and over_bytes <= self.max_bytes // 4:
            return
        drop = 0
        while drop < len(frames) and (drop < surplus or over_bytes > 0):
            over_bytes -= len(frames[drop])
            self.size_bytes -= len(frames[drop])
            drop += 1
        del frames[:drop], self._span.types[:drop]
        self.first += drop
        self._span = Span(self.first, self._span.types, frames)

    def holds(self, after: int) -> bool:
        """Whether the entry after offset ``after`` is in memory (or is the next to come)."""
        return self.first - 1 <= after <= self.last

    def piece(self, after: int, types: TypeFilter | None) -> Piece:
        """What follows offset ``after``; the same object for all who stand there. ``holds(after)`` must be true."""
        return self._pieces.of(self._span, after, types)


class Cursor:
    """A subscriber's place in a channel, and how much of it the subscriber knows.

    Attributes:
        epoch: the epoch that ``offset`` belongs to.
        offset: entries up to here were written or skipped.
        told: the last offset whose id went to the subscriber, with an event or as a checkpoint.
        types: its filter, None for everything.
        events: how many it has taken.
        size_bytes: … as bytes of their frames.
        pieces: … in so many pieces, each a write.
    """

    __slots__ = ("_skipping_since_s", "epoch", "events", "offset", "pieces", "size_bytes", "told", "types")

    def __init__(self, epoch: str, offset: int, types: TypeFilter | None = None) -> None:
        self.epoch = epoch
        self.offset = offset
        self.told = offset
        self.types = types
        self.events = self.size_bytes = self.pieces = 0
        self._skipping_since_s: float | None = None

    @property
    def event_id(self) -> EventId:
        """What a subscriber that is cut off now should resume from: the last position that it was told."""
        return EventId(self.epoch, self.told)

    def since(self, other: Cursor) -> Cursor:
        """At this place, having taken what the other one had not; see `at`."""
        return self._moved(self, other, -1)

    def at(self, other: Cursor) -> Cursor:
        """At the other one's place, having taken what both have: ``cursor.since(common).at(common)`` follows it."""
        return self._moved(other, other, 1)

    def _moved(self, place: Cursor, other: Cursor, times: int) -> Cursor:
        moved = Cursor(place.epoch, place.offset, self.types)
        moved.told = place.told
        moved.events = self.events + times * other.events
        moved.size_bytes = self.size_bytes + times * other.size_bytes
        moved.pieces = self.pieces + times * other.pieces
        return moved

    def jump(self, epoch: str, offset: int) -> bytes:
        """Move without events in between (a declared gap, a new epoch); the checkpoint that says so."""
        self.epoch = epoch
        self.offset = offset
        return self.checkpoint()

    def advance(self, piece: Piece, now_s: float) -> bytes:
        """Take a piece; the bytes to write, a due checkpoint included."""
        data, upto, sent, events = piece
        if sent:
            self.told = sent
            self.events += events
            self.size_bytes += len(data)
            self.pieces += 1
            self._skipping_since_s = None
        self.offset = max(self.offset, upto)
        if self.offset > self.told:
            if self._skipping_since_s is None:
                self._skipping_since_s = now_s
            if self.offset - self.told >= CHECKPOINT_ENTRIES:
                data += self.checkpoint()
        return data

    def checkpoint_due_s(self) -> float | None:
        """When the skips must be told at the latest (same clock as ``advance``); None if nothing was skipped."""
        return None if self._skipping_since_s is None else self._skipping_since_s + CHECKPOINT_S

    def checkpoint(self) -> bytes:
        """An id-only block with the present place."""
        self.told = self.offset
        self._skipping_since_s = None
        return encode(id=str(self.event_id))
