"""`Crowd`: the live streams of a channel that stand at one place, as nearly all do. One cursor serves them.

What it takes from the log is written to one member after the other. Nearly all are known here by the descriptors of
their sockets, which are written to without a look at anything else: a system call is all that each costs. Who leaves
(its client is slow, or it ends) has a cursor of its own again, at the place that it has come to.
"""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING

from syndarix_rt.delivery import Cursor, Log
from syndarix_rt.server.writer import chunk_of

if TYPE_CHECKING:
    from syndarix_rt.server.stream import Stream

__all__ = ["Crowd"]

AT_ONCE = 16
"""Written to between two looks at the clock: some 0.1 ms, or 1 ms of the largest pieces."""


class Crowd:
    """The members, and what they have in common. Streams without a filter only: those have nothing to tell but events.

    A member that has a descriptor has nothing waiting for its client, and leaves before that is closed: from then on
    the same number may be another connection's. Its stream sees to both.

    Args:
        log: the channel's.

    Attributes:
        written_s: when something was written to members, monotonic clock.
    """

    def __init__(self, log: Log) -> None:
        self.written_s = 0.0
        self._log = log
        self._cursor = Cursor("", 0)
        self._members: dict[int | Stream, Stream] = {}  # by descriptor; by themselves, who have none to write to
        self._data = self._chunk = b""
        self._lacking: set[int | Stream] = set()  # they have not been given the data …
        self._before = self._cursor  # … and stand here
        self._target = 0  # offset at which the round is over

    @property
    def is_writing(self) -> bool:
        """Whether a round is under way."""
        return bool(self._lacking) or (self._cursor.offset < self._target and bool(self._members))

    def join(self, stream: Stream, cursor: Cursor) -> Cursor | None:
        """Take in a stream, if it stands where the members do.

        Returns:
            Its cursor from now on, from which `place` tells where it stands; None: it stands elsewhere.
        """
        common = self._cursor
        if not self._members:
            common.jump(cursor.epoch, cursor.offset)
            self._target = cursor.offset
        elif cursor.offset != common.offset or cursor.epoch != common.epoch:
            return None
        self._members[_key(stream)] = stream
        return cursor.since(common)

    def place(self, stream: Stream, cursor: Cursor) -> Cursor:
        """Where a member stands, and what it has been given; ``cursor`` is what `join` returned."""
        return cursor.at(self._before if _key(stream) in self._lacking else self._cursor)

    def leave(self, stream: Stream, cursor: Cursor) -> Cursor:
        """Let a member go; its `place`."""
        place = self.place(stream, cursor)
        key = _key(stream)
        self._lacking.discard(key)
        del self._members[key]
        return place

    def begin(self) -> None:
        """Begin a round, for all that the log has. Where that does not go on from here, each sees for itself."""
        cursor, log = self._cursor, self._log
        if not self._members:
            return
        if cursor.epoch == log.epoch and log.holds(cursor.offset):
            self._target = log.last
        else:
            for stream in list(self._members.values()):
                stream.step_out()

    def write(self, until_s: float) -> None:
        """Write to those whose turn it is, until the round is over or time is up (monotonic clock)."""
        now_s = self.written_s = time.monotonic()
        while now_s < until_s and (self._lacking or self._take()):
            self._write_some(now_s)
            now_s = time.monotonic()

    def _write_some(self, now_s: float) -> None:
        lacking, chunk, size = self._lacking, self._chunk, len(self._chunk)
        for _ in range(min(AT_ONCE, len(lacking))):
            key = lacking.pop()
            if type(key) is not int:
                self._members[key].put(self._data, now_s)
                continue
            try:
                sent = os.write(key, chunk)
            except OSError:  # the socket is full; or broken, which the transport must hear of
                sent = 0
            if sent < size:
                stream = self._members[key]
                stream.step_out()
                stream.put(self._data, now_s, sent)

    def _take(self) -> bool:
        """Take the round's next piece, which all lack then; whether there is one."""
        cursor, log = self._cursor, self._log
        if not self._members or cursor.offset >= self._target:
            return False
        if cursor.epoch != log.epoch or not log.holds(cursor.offset):  # another log since the round began
            self._target = cursor.offset
            return False
        self._before = Cursor("", 0).at(cursor)
        self._data = cursor.advance(log.piece(cursor.offset, None), 0.0)
        self._chunk = chunk_of(self._data)
        self._lacking = set(self._members)
        return True


def _key(stream: Stream) -> int | Stream:
    return stream if stream.descriptor < 0 else stream.descriptor
