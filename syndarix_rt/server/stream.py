"""`Stream`: one subscriber's event stream, from the first ``retry:`` to the last checkpoint (CONTRACT §4).

Its life: wait for the broker, judge the cursor, say where it stands, then take pieces: from the channel's log while
the cursor is in memory, else pages from the broker. What it yields are bytes for one write each.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from functools import partial
from typing import TYPE_CHECKING, Literal

import msgspec

from syndarix_rt.delivery import Cursor, Gap, Position, Resumption, Span, TypeFilter, judge
from syndarix_rt.delivery.log import cut
from syndarix_rt.delivery.sse import encode
from syndarix_rt.errors import BrokerUnavailable
from syndarix_rt.events import EventId

if TYPE_CHECKING:
    from syndarix_rt.server.hub import Channel, Hub

__all__ = ["Start", "Stream", "StreamOpen"]

PAGE_ENTRIES = 1_000
"""Entries read from the broker at once: one script, about a millisecond of Redis."""

AWAY_S = 0.5
"""How long to wait before asking a broker again that did not answer; the tail's return wakes streams earlier."""

MAX_LIFE_S = 24 * 3600.0
"""A stream that came with a token is ended after a day at the latest, and its token looked at anew."""

_KEEPALIVE = encode(comment="keepalive")
_rng = random.SystemRandom()


class StreamOpen(msgspec.Struct, frozen=True):
    """The first frame: what the log holds, and whether the stream goes on exactly after the cursor that was given."""

    epoch: str
    first: int
    """Oldest offset retained."""
    last: int
    """Newest offset."""
    resumed: bool


class Start(msgspec.Struct, frozen=True):
    """Where a subscriber wants to begin: after a cursor, with the last N entries, or live."""

    cursor: EventId | None = None
    requested: str = ""
    """The cursor as it was given."""
    replay: int | Literal["all"] = 0

    def resolve(self, position: Position) -> Resumption:
        """The verdict, against what the broker holds."""
        if self.cursor is not None:
            return judge(self.cursor, position, requested=self.requested)
        if self.replay == "all":
            return Resumption(position.first - 1, None)
        return Resumption(max(position.first - 1, position.last - self.replay), None)


class Stream:
    """One subscriber.

    Attributes:
        due_s: when the ticker shall wake it at the latest (monotonic clock).
        cursor: its place; None until the broker has answered.
    """

    def __init__(
        self,
        hub: Hub,
        channel_name: str,
        start: Start,
        types: TypeFilter | None,
        *,
        expires_s: float | None = None,
    ) -> None:
        self.channel_name = channel_name
        self.due_s = 0.0
        self.cursor: Cursor | None = None
        self._hub = hub
        self._start = start
        self._types = types
        self._woken = asyncio.Event()
        self._ending = False
        self._expires_s = expires_s  # seconds since 1970, when the subscriber's token ends
        self._expired = False
        self._written_s = time.monotonic()

    def wake(self) -> None:
        """There may be something to do."""
        self._woken.set()

    def drain(self, *, within_s: float) -> None:
        """End it at a random moment within ``within_s``, with what it still lacks."""
        asyncio.get_running_loop().call_later(_rng.random() * within_s, self._end)

    def _expire(self) -> None:
        self._expired = True
        self._end()

    def _end(self) -> None:
        self._ending = True
        self.wake()

    async def writes(self) -> AsyncGenerator[bytes]:
        """Everything that goes to this subscriber, in order; each item is one write."""
        yield encode(retry_ms=_rng.randint(*self._hub.settings.retry_ms))
        if self._hub.draining:
            yield self._farewell()
            return
        expiry = None
        if self._expires_s is not None:
            left_s = min(max(0.0, self._expires_s - time.time()), MAX_LIFE_S)
            expiry = asyncio.get_running_loop().call_later(left_s, self._expire)
        try:
            async with self._hub.subscribe(self) as channel, aclosing(self._session(channel)) as session:
                async for data in session:
                    if data:
                        self._written_s = time.monotonic()
                        yield data
                    # A write to a client that is gone need not suspend; without this a long replay to one would keep
                    # the loop for itself, and the news of its leaving from arriving.
                    await asyncio.sleep(0)
        finally:
            if expiry is not None:
                expiry.cancel()

    async def _session(self, channel: Channel) -> AsyncGenerator[bytes]:
        position: Position | None = None
        while position is None:
            try:
                if channel.started:
                    position = await channel.broker.position(self.channel_name)
                else:
                    yield await self._wait(lambda: channel.started)
            except BrokerUnavailable:
                yield await self._wait(lambda: False, limit_s=AWAY_S)
            if self._ending:
                yield self._farewell()
                return
        after, gap = self._start.resolve(position)
        cursor = self.cursor = Cursor(position.epoch, after, self._types)
        yield self._opening(position, gap) + cursor.checkpoint()

        while True:
            log = channel.log
            epoch = log.epoch
            data = None
            limit_s = None
            if channel.started and cursor.epoch == log.epoch and log.holds(cursor.offset):
                if cursor.offset < log.last:
                    data = cursor.advance(log.piece(cursor.offset, self._types), time.monotonic())
            elif channel.started:  # else the broker is away, and the tail wakes us when it is back
                limit_s = AWAY_S
                try:
                    data = await self._page(channel, cursor)
                except BrokerUnavailable:
                    data = await self._wait(lambda: False, limit_s=AWAY_S)
            if self._ending:
                yield (data or b"") + cursor.checkpoint() + self._farewell()
                return
            if data is None:
                data = await self._wait(partial(_has_news, channel, cursor, epoch), limit_s=limit_s)
            yield data

    async def _page(self, channel: Channel, cursor: Cursor) -> bytes | None:
        """What the broker's log has for a cursor that memory cannot serve; None if that is nothing just now."""
        async with self._hub.page_reads:
            page = await channel.broker.read(self.channel_name, cursor.offset, PAGE_ENTRIES)
        position = page.position
        told = str(cursor.event_id)
        after, gap = judge(EventId(cursor.epoch, cursor.offset), position, requested=told, live=True)
        if gap is not None:
            return self._declare(gap) + cursor.jump(position.epoch, after)
        if cursor.epoch != position.epoch:
            # A new epoch that kept everything we know: go on under its name (CONTRACT §1).
            return cursor.jump(position.epoch, cursor.offset)
        if not page.entries:
            return None
        if page.first != cursor.offset + 1:  # somebody deleted entries by hand
            missed = page.first - 1 - cursor.offset
            return self._declare(Gap("slow", told, position.first, position.last, missed)) + cursor.jump(
                position.epoch, page.first - 1
            )
        span = Span.encode(position.epoch, page.first, page.entries)
        return cursor.advance(cut(span, cursor.offset, self._types), time.monotonic())

    async def _wait(self, news: Callable[[], bool], *, limit_s: float | None = None) -> bytes:
        """Sleep until there is something to do; the keepalive or checkpoint that is due, if any."""
        now_s = time.monotonic()
        deadlines = [self._written_s + self._hub.settings.keepalive_s]
        checkpoint_s = self.cursor.checkpoint_due_s() if self.cursor else None
        if checkpoint_s is not None:
            deadlines.append(checkpoint_s)
        self.due_s = min(deadlines)
        if now_s >= self.due_s:
            if checkpoint_s is not None and now_s >= checkpoint_s and self.cursor:
                return self.cursor.checkpoint()
            return _KEEPALIVE
        self._woken.clear()
        if news() or self._ending:
            return b""
        if limit_s is not None:
            asyncio.get_running_loop().call_later(limit_s, self.wake)
        await self._woken.wait()
        return b""

    def _opening(self, position: Position, gap: Gap | None) -> bytes:
        resumed = self._start.cursor is not None and gap is None
        self._hub.opened["gap" if gap else "resumed" if resumed else "live"] += 1
        document = StreamOpen(position.epoch, position.first, position.last, resumed)
        opening = encode(msgspec.json.encode(document), event="stream-open")
        return opening if gap is None else opening + self._declare(gap)

    def _declare(self, gap: Gap) -> bytes:
        self._hub.gaps[gap.reason] += 1
        return encode(msgspec.json.encode(gap), event="gap")

    def _farewell(self) -> bytes:
        """The planned end of a stream: come back in 1 to 5 seconds (CONTRACT §4), or with another token."""
        if self._expired:
            return encode(b"{}", event="auth-expiring")
        return encode(retry_ms=_rng.randint(1_000, 5_000)) + encode(b"{}", event="server-draining")


def _has_news(channel: Channel, cursor: Cursor, epoch: str) -> bool:
    """Whether there is something to do since the log was last looked at, in ``epoch``.

    The cursor may be in a newer epoch than the log: the broker told of it, and the tail has not yet.
    """
    log = channel.log
    return channel.started and (log.epoch != epoch or (log.epoch == cursor.epoch and log.last > cursor.offset))
