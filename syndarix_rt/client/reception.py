"""`Reception`: what one subscriber receives over all its connections. Bytes in, events and gaps out; no I/O."""

from __future__ import annotations

from collections import deque
from contextlib import suppress

import msgspec

from syndarix_rt.client.http import UNREADABLE
from syndarix_rt.delivery import Gap, Ledger
from syndarix_rt.delivery.sse import Decoder, Frame
from syndarix_rt.errors import EventError, StreamError
from syndarix_rt.events import Event, EventId

__all__ = ["Reception", "StreamOpen"]


class StreamOpen(msgspec.Struct, frozen=True):
    """What the server says when a stream opens."""

    epoch: str
    first: int
    """Oldest offset retained."""
    last: int
    """Newest offset at that moment; what comes after it is live."""
    resumed: bool
    """Whether it continues exactly where the cursor was."""


class Reception:
    """Everything is booked when it is taken, so position and ledger never run ahead of whoever takes it.

    Args:
        cursor: continue after this position.
        live: without a cursor, whether the stream begins at the top of the log.
        filtered: whether it has a type filter.

    Attributes:
        position: where to resume so that nothing is missed; None at first.
        ledger: what was taken.
        opened: what the server said when the stream last opened; None before.
        announced: what the server announced about this connection, for a person.
        retry_s: the server's last ``retry:``, seconds; None before the first.
    """

    def __init__(self, cursor: EventId | None, *, live: bool, filtered: bool) -> None:
        self.position = cursor
        self.ledger = Ledger(filtered=filtered, last=cursor)
        self.opened: StreamOpen | None = None
        self.announced = ""
        self.retry_s: float | None = None
        self._live = live
        self._history = 0  # up to this offset it was published before the stream was opened, or went on after a gap
        self._decoder = Decoder()
        self._frames: deque[Frame] = deque()
        self._told = ""  # the decoder's id up to which everything was taken
        self._fed_s = 0.0  # wall clock

    def connect(self) -> str:
        """Begin a new connection; the event id to ask for, empty without one."""
        if self.position is None and self._live and self.opened is not None:
            # Cut between the opening of a live stream and its first id: it stood at the top of the log.
            self._pass(EventId(self.opened.epoch, self.opened.last))
        self._told = "" if self.position is None else str(self.position)
        self._decoder = Decoder(last_event_id=self._told)
        self.announced = ""
        return self._told

    def feed(self, chunk: bytes, now_s: float) -> bool:
        """Take in bytes that came at ``now_s`` (wall clock), after everything before was taken.

        Returns:
            Whether the server has begun to serve this stream, rather than to send it away.

        Raises:
            DecodeError: a block is beyond all limits.
            StreamError: a frame cannot be read.
        """
        frames = self._decoder.feed(chunk)
        if self._decoder.retry_ms is not None:
            self.retry_s = self._decoder.retry_ms / 1000
        self._fed_s = now_s
        if frames and frames[0].event == "stream-open":  # known at once, before anything of it is taken
            self._take(frames.pop(0))
            self._frames.extend(frames)
            return True
        self._frames.extend(frames)
        return bool(frames) and frames[0].event != "server-draining"

    @property
    def waiting(self) -> bool:
        """Whether there are frames to take."""
        return bool(self._frames)

    def take(self) -> Event | Gap | None:
        """The next event or gap; None when more bytes are needed.

        Raises:
            StreamError: a frame cannot be read.
        """
        while self._frames:
            item = self._take(self._frames.popleft())
            if item is not None:
                return item
        told = self._decoder.last_event_id
        if told != self._told:  # an id-only block after the last frame
            self._told = told
            with suppress(EventError):  # not ours, and never sent back
                self._pass(EventId.parse(told))
        return None

    def _take(self, frame: Frame) -> Event | Gap | None:
        if frame.event == "gap" or "-" in frame.event:  # control frames; no type of an event is named so
            return self._control(frame)
        try:
            position = EventId.parse(frame.id)
        except EventError:
            self.ledger.unreadable += 1
            return None
        try:
            event = Event.decode(frame.data.encode(), position)
        except EventError:
            event = None
            self.ledger.unreadable += 1
        if not self.ledger.event(position, self._latency_s(event)):
            return None
        self._told = frame.id
        self.position = position
        return event

    def _latency_s(self, event: Event | None) -> float | None:
        """From publication to here; None for history, whose age is no latency."""
        if event is None or event.recordedtime is None or event.position is None:
            return None
        live = event.position.offset > self._history
        return self._fed_s - event.recordedtime.timestamp() if live else None

    def _control(self, frame: Frame) -> Gap | None:
        try:
            match frame.event:
                case "stream-open":
                    self.opened = msgspec.json.decode(frame.data, type=StreamOpen)
                    self._history = self.opened.last
                    self.ledger.open(resumed=self.opened.resumed)
                case "gap":
                    gap = msgspec.json.decode(frame.data, type=Gap)
                    self._history = gap.last
                    self.ledger.gap(gap)
                    return gap
                case "server-draining":
                    self.announced = "the server is shutting down"
                case "auth-expiring":
                    self.announced = "the token is about to expire"
                case _:  # of a newer server; what must not be missed comes as events
                    pass
        except UNREADABLE as error:  # not skipped: it may be a loss that was declared
            raise StreamError(f"cannot read the server's frame {frame.event!r}: {error}") from error
        return None

    def _pass(self, position: EventId) -> None:
        """Move to a position that was told without an event."""
        last = self.ledger.last  # None after a gap, which may lead back
        if last is None or last.epoch != position.epoch or last.offset < position.offset:
            self.position = position
            self.ledger.checkpoint(position)
