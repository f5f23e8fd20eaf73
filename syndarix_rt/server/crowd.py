"""`Crowd`: live streams of a channel that stand at one place, as nearly all do. One cursor serves them.

What it takes from the log is written to one member after the other. Nearly all are known here by the descriptors of
their sockets, which are written to without a look at anything else: a system call is all that each costs. Who leaves
(its client is slow, or it ends) has a cursor of its own again, at the place that it has come to.

A channel has as many crowds as its streams fill. Each takes from the log when its turn comes, so that nobody waits for
the turns of all others to be given what came meanwhile.
"""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING

from syndarix_rt.delivery import Cursor, Log
from syndarix_rt.server.writer import chunk_of

if TYPE_CHECKING:
    from syndarix_rt.server.stream import Stream

__all__ = ["Crowd", "Crowds"]

AT_ONCE = 16
"""Written to between two looks at the clock: some 0.1 ms, or 1 ms of the largest pieces."""

MEMBERS = 128
"""Of a crowd: a millisecond of writing, which is what news waits for the turn of its own. 64 gained nothing more."""


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
        self._target = 0  # offset at which its turn is over

    def __len__(self) -> int:
        """How many members."""
        return len(self._members)

    @property
    def is_writing(self) -> bool:
        """Whether its turn is not over."""
        return bool(self._lacking) or (self._cursor.offset < self._target and bool(self._members))

    def join(self, stream: Stream, cursor: Cursor) -> Cursor | None:
        """Take in a stream, if it stands where the members do, and there is room.

        Returns:
            Its cursor from now on, from which `place` tells where it stands; None: it is not taken in.
        """
        common = self._cursor
        if not self._members:
            common.jump(cursor.epoch, cursor.offset)
            self._target = cursor.offset
        elif len(self) >= MEMBERS or cursor.offset != common.offset or cursor.epoch != common.epoch:
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

    def write(self, until_s: float) -> bool:
        """Give all members what the log has as their turn comes, or go on with that.

        Returns:
            Whether all have been given it; else time is up (monotonic clock).
        """
        now_s = time.monotonic()
        if not self.is_writing:
            self._begin()
        while now_s < until_s and (self._lacking or self._take()):
            self._write_some(now_s)
            self.written_s = now_s
            now_s = time.monotonic()
        return not self.is_writing

    def _begin(self) -> None:
        """Aim at the log's head. Where it does not go on from here, each sees for itself."""
        if self._goes_on():
            self._target = self._log.last
        else:
            for stream in list(self._members.values()):
                stream.step_out()

    def _goes_on(self) -> bool:
        return self._cursor.epoch == self._log.epoch and self._log.holds(self._cursor.offset)

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
        """Take the turn's next piece, which all lack then; whether there is one."""
        cursor = self._cursor
        if not self._members or cursor.offset >= self._target:
            return False
        if not self._goes_on():  # another log since the turn began
            self._target = cursor.offset
            return False
        self._before = Cursor("", 0).at(cursor)
        self._data = cursor.advance(self._log.piece(cursor.offset, None), 0.0)
        self._chunk = chunk_of(self._data)
        self._lacking = set(self._members)
        return True


class Crowds:
    """All crowds of a channel, which have their turns one after the other: that is a round.

    Args:
        log: the channel's.
    """

    def __init__(self, log: Log) -> None:
        self._log = log
        self._all: list[Crowd] = []
        self._turns: list[Crowd] = []

    def join(self, stream: Stream, cursor: Cursor) -> tuple[Crowd, Cursor] | None:
        """Take in a stream, if one of them stands where it does, or all are full.

        Returns:
            Its crowd, and its cursor as of `Crowd.join`.
        """
        for crowd in self._all:
            if (joined := crowd.join(stream, cursor)) is not None:
                return crowd, joined
        if any(len(crowd) < MEMBERS for crowd in self._all):
            return None
        self._all.append(Crowd(self._log))
        return self.join(stream, cursor)

    def begin(self) -> None:
        """Begin a round. Who has the most room comes last: so it stands where streams come to meanwhile."""
        self._all = [crowd for crowd in self._all if len(crowd)]
        self._turns = sorted(self._all, key=len)

    def write(self, until_s: float) -> bool:
        """Go on with the round; whether all have had their turns, else time is up (monotonic clock)."""
        while self._turns and self._turns[-1].write(until_s):
            self._turns.pop()
        return not self._turns


def _key(stream: Stream) -> int | Stream:
    return stream if stream.descriptor < 0 else stream.descriptor
