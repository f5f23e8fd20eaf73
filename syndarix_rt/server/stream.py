"""`Stream`: one subscriber's event stream, from the first ``retry:`` to the last checkpoint (CONTRACT §4).

It is *working* or *live*. Working, a task of its own waits for the broker, judges the cursor, says where it stands, and
writes pieces: from the channel's log while the cursor is in memory, else pages from the broker. At the log's head it is
live: it has no task, its channel writes to it whenever there is news, mostly as to one of a crowd. A client that does
not take a write, a new epoch and the end make it work again.
"""

from __future__ import annotations

import asyncio
import random
import time
from contextlib import suppress
from traceback import format_exc
from typing import TYPE_CHECKING, Literal

import msgspec
import structlog
from hypercorn.typing import ASGIReceiveCallable, ASGISendCallable

from syndarix_rt.delivery import Cursor, Gap, Position, Resumption, TypeFilter, judge
from syndarix_rt.delivery.sse import encode
from syndarix_rt.errors import BrokerUnavailable
from syndarix_rt.events import EventId
from syndarix_rt.server.writer import Detour, Writer, chunk_of

if TYPE_CHECKING:
    from syndarix_rt.server.channel import Channel
    from syndarix_rt.server.crowd import Crowd
    from syndarix_rt.server.hub import Hub

__all__ = ["Reason", "Start", "Stream", "StreamOpen"]

AWAY_S = 0.5
"""How long to wait before asking a broker again that did not answer; the tail's return wakes streams earlier."""

Reason = Literal["left", "drained", "expired", "aged", "stalled", "failed"]
"""Why a stream ended: its client left, the server ends, its token did, it has lived long enough, its client took
nothing for too long, or we have a fault."""

BACK_MS = 1_000, 5_000
"""When clients whose stream is ended are to come back (CONTRACT §4): spread, so that not all come at once."""

_KEEPALIVE = encode(comment="keepalive")
_rng = random.SystemRandom()
_log = structlog.get_logger("syndarix_rt.server")


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
        channel_name: what it follows.
        is_live: whether its channel writes to it.
        reason: why it ended, or is to end.
        slot: its place in the hub's wheel.
        client: its address, and whose credential it came with, for the log.
        token_id: of the token that it came with; empty for the server's own key, or none.
    """

    __slots__ = (
        "_channel", "_crowd", "_cursor", "_expires_s", "_finishing", "_hub", "_opened_s", "_parked", "_start",
        "_task", "_types", "_until_s", "_waiter", "_writer", "_written_s", "channel_name", "client", "is_live",
        "reason", "slot", "token_id",
    )  # fmt: skip

    def __init__(
        self,
        hub: Hub,
        channel_name: str,
        start: Start,
        types: TypeFilter | None,
        *,
        expires_s: float | None = None,
        token_id: str = "",
        client: str = "",
    ) -> None:
        self.channel_name = channel_name
        self.client = client
        self.token_id = token_id
        self.is_live = False
        self.reason: Reason | None = None
        self.slot: int | None = None
        self._hub = hub
        self._start = start
        self._types = types
        self._expires_s = expires_s  # seconds since 1970, when the subscriber's token ends
        self._channel: Channel | None = None
        self._cursor: Cursor | None = None
        self._crowd: Crowd | None = None
        self._task: asyncio.Task[None] | None = None
        self._parked: asyncio.Task[None] | None = None
        self._waiter: asyncio.Future[None] | None = None
        self._finishing = False
        self._opened_s: float | None = None

    @property
    def cursor(self) -> Cursor | None:
        """Its place; None until the broker has answered."""
        if self._crowd is not None and self._cursor is not None:
            return self._crowd.place(self, self._cursor)
        return self._cursor

    @property
    def detour(self) -> Detour:
        """Why it is not written straight to its connection; empty: it is."""
        return self._writer.detour

    @property
    def descriptor(self) -> int:
        """Of the socket that it may be written to at, as one of a crowd; -1: it has none."""
        return self._writer.descriptor

    # ---- its life -------------------------------------------------------------------------------------------------

    async def serve(self, receive: ASGIReceiveCallable, send: ASGISendCallable, *, chunked: bool) -> None:
        """Be the response's body; returns when it has ended, for whatever reason.

        Args:
            receive: ASGI's.
            send: ASGI's.
            chunked: whether the body goes out in chunks, as over HTTP/1.1.
        """
        settings = self._hub.settings
        now_s = time.monotonic()
        # Not all at once, who came at once: between four fifths and all of it.
        self._until_s = now_s + settings.max_age_s * (1 - 0.2 * _rng.random())
        if self._expires_s is not None:
            left_s = max(0.0, self._expires_s - time.time())
            if left_s >= self._until_s - now_s:
                self._expires_s = None  # its age ends it earlier
            self._until_s = min(self._until_s, now_s + left_s)
        self._written_s = now_s
        self._writer = Writer(send, chunked=chunked, detour=self._hub.detour, closing=self.step_out)
        self._parked = asyncio.current_task()
        with self._hub.holding_stream(self) as self._channel:
            self._hub.look(self, self._until_s)
            try:
                self.put(encode(retry_ms=_rng.randint(*settings.retry_ms)))
                if self._hub.draining:
                    self.end("drained")
                self._work()
                while (await receive())["type"] != "http.disconnect":
                    pass
                if self._finishing and self._task is not None:  # our end is what was received
                    await asyncio.wait({self._task})
            except asyncio.CancelledError:
                if self._parked is None or self.reason not in ("stalled", "failed"):
                    raise
                self._parked.uncancel()  # it was us, see `_cut`
            finally:
                self.reason = self.reason or "left"
                self._parked = None
                self._stop_live()
                if self._task is not None:
                    self._task.cancel()
                self._writer.close()

    def drain(self, *, within_s: float) -> None:
        """End it at a random moment within ``within_s``, with what it still lacks."""
        asyncio.get_running_loop().call_later(_rng.random() * within_s, self.end, "drained")

    def end(self, reason: Reason) -> None:
        """End it as planned, with what memory has for it, and a checkpoint."""
        if self.reason is None:
            self.reason = reason
            self.wake()
            self._work()

    def _cut(self, reason: Reason) -> None:
        """End it with its connection, at once."""
        if self._parked is not None:
            self.reason = reason
            self._stop_live()
            self._writer.abort()
            self._parked.cancel()

    def tend(self, now_s: float) -> float | None:
        """Do what is due; when to look again. None: it has ended."""
        if self._parked is None:
            return None
        settings = self._hub.settings
        if self._writer.blocked_s is not None:
            due_s = self._writer.blocked_s + settings.stall_s
            if now_s < due_s:
                return due_s
            self._cut("stalled")
            return None
        if now_s >= self._until_s and self.reason is None:
            self.end("aged" if self._expires_s is None else "expired")
        if self.reason is not None:
            return now_s + settings.stall_s
        if self._crowd is not None:
            self._written_s = max(self._written_s, self._crowd.written_s)
        checkpoint_s = self._cursor.checkpoint_due_s() if self._cursor else None
        if self._cursor and checkpoint_s is not None and now_s >= checkpoint_s:
            self.put(self._cursor.checkpoint())
            checkpoint_s = None
        elif now_s >= self._written_s + settings.keepalive_s:
            self.put(_KEEPALIVE)
        due_s = min(self._until_s, self._written_s + settings.keepalive_s)
        return due_s if checkpoint_s is None else min(due_s, checkpoint_s)

    # ---- live -----------------------------------------------------------------------------------------------------

    def advance(self, now_s: float) -> None:
        """Write what the log has beyond the cursor; only while it is live."""
        channel: Channel = self._channel  # type: ignore[assignment] # it has one, and a cursor
        cursor: Cursor = self._cursor  # type: ignore[assignment]
        log = channel.log
        if cursor.epoch != log.epoch or not log.holds(cursor.offset):
            self._work()
            return
        while cursor.offset < log.last and self.is_live:
            self.put(cursor.advance(log.piece(cursor.offset, cursor.types), now_s), now_s)
        if cursor.types is not None and (due_s := cursor.checkpoint_due_s()) is not None:
            self._hub.look(self, due_s)

    def join_crowd(self) -> None:
        """Be written to with the others, if it is live where they are, unfiltered, and nothing waits for its client."""
        channel, cursor = self._channel, self._cursor
        if channel is None or cursor is None or cursor.types is not None or not self.is_live or self._writer.lags:
            return
        joined = channel.crowds.join(self, cursor)
        if joined is not None:
            self._crowd, self._cursor = joined
            channel.alone.discard(self)

    def step_out(self) -> None:
        """Be written to by itself again, if it was one of the crowd."""
        channel, cursor = self._channel, self._cursor
        if self._crowd is not None and channel is not None and cursor is not None:
            self._cursor, self._crowd = self._crowd.leave(self, cursor), None
            channel.alone.add(self)

    def wake(self) -> None:
        """There may be something to do for a stream that works."""
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def put(self, data: bytes, now_s: float | None = None, sent: int = 0) -> None:
        """Write, or what is left of it (`Writer.write`); where the client does not take it, go on when it has."""
        if not data:  # nothing passed the filter; an empty chunk would end the response
            return
        self._written_s = time.monotonic() if now_s is None else now_s
        try:
            taken = self._writer.write(data, chunk_of(data), sent)
        except Exception:  # noqa: BLE001 - logged with its traceback, and the others must go on
            self._fail()
            return
        if not taken:
            self._hub.counts["blocked"] += 1
            self._hub.look(self, time.monotonic() + self._hub.settings.stall_s)
            self._work()
        elif self._crowd is not None and self._writer.lags:
            self.step_out()

    def _fail(self) -> None:
        """Log the error that is being handled, and end it."""
        # As text: the log's own formatter may show local variables, and passwords are among them.
        _log.error("an event stream failed", channel=self.channel_name, exception=format_exc())
        self._cut("failed")

    # ---- working --------------------------------------------------------------------------------------------------

    def _work(self) -> None:
        self._stop_live()
        if self._task is None and self._parked is not None:
            self._task = asyncio.get_running_loop().create_task(self._working())

    def _stop_live(self) -> None:
        self.step_out()
        self.is_live = False

    async def _working(self) -> None:
        try:
            if self._cursor is None and self.reason is None:
                await self._open()
            if self.reason is None:
                await self._catch_up()
            if self.reason is not None:
                await self._finish()
        except Exception:  # noqa: BLE001 - logged with its traceback
            self._fail()
        finally:
            self._task = None

    async def _open(self) -> None:
        """Ask the broker, judge the cursor, and say where the stream stands."""
        channel = self._channel
        assert channel is not None
        position: Position | None = None
        while position is None:
            if channel.started:
                with suppress(BrokerUnavailable):
                    position = await channel.position()
            if self.reason is not None:
                return
            if position is None:
                await self._wait(AWAY_S if channel.started else None)
        after, gap = self._start.resolve(position)
        self._cursor = Cursor(position.epoch, after, channel.shared(self._types))
        self._opened_s = time.monotonic()
        await self._writer.free()
        self.put(self._opening(position, gap) + self._cursor.checkpoint())

    async def _catch_up(self) -> None:
        """Write until the log's head is reached, or the end is near."""
        channel, cursor = self._channel, self._cursor
        assert channel is not None
        assert cursor is not None
        while True:
            await self._writer.free()
            if self.reason is not None:
                return
            log, version = channel.log, channel.version
            if channel.started and cursor.epoch == log.epoch and log.holds(cursor.offset):
                if cursor.offset == log.last:
                    if self._opened_s is not None:
                        self._hub.tally.caught_up(cursor.events, time.monotonic() - self._opened_s)
                        self._opened_s = None
                    self._task = None
                    self.is_live = True
                    return
                self._advance(cursor, channel)
            elif channel.started:  # else the broker is away, and the tail wakes us when it is back
                data = None
                with suppress(BrokerUnavailable):
                    data = await self._page(channel, cursor)
                if data is not None:
                    await self._writer.free()  # a keepalive may have gone out meanwhile
                    self.put(data)
                elif channel.version == version:
                    await self._wait(AWAY_S)
            else:
                await self._wait(None)
            # A write to a client that is gone need not suspend; without this a long replay to one would keep the loop
            # for itself, and the news of its leaving from arriving.
            await asyncio.sleep(0)

    def _advance(self, cursor: Cursor, channel: Channel) -> None:
        self.put(cursor.advance(channel.log.piece(cursor.offset, cursor.types), time.monotonic()))

    async def _page(self, channel: Channel, cursor: Cursor) -> bytes | None:
        """What the broker's log has for a cursor that memory cannot serve; None if that is nothing just now."""
        held = channel.pages.holding(cursor.epoch, cursor.offset)
        if held is None:
            page = await channel.read(cursor.epoch, cursor.offset)
            position = page.position
            told = str(cursor.event_id)
            after, gap = judge(EventId(cursor.epoch, cursor.offset), position, requested=told, live=True)
            if gap is not None:
                return self._declare(gap) + cursor.jump(position.epoch, after)
            if cursor.epoch != position.epoch:
                # A new epoch that kept everything we know: go on under its name (CONTRACT §1).
                return cursor.jump(position.epoch, cursor.offset)
            if not page.span.frames:
                return None
            if page.span.first > cursor.offset + 1:  # somebody deleted entries by hand
                missed = page.span.first - 1 - cursor.offset
                return self._declare(Gap("slow", told, position.first, position.last, missed)) + cursor.jump(
                    position.epoch, page.span.first - 1
                )
            held = page
        return cursor.advance(held.piece(cursor.offset, cursor.types), time.monotonic())

    async def _wait(self, limit_s: float | None) -> None:
        """Return when the channel has changed, the end is near, or time is up."""
        loop = asyncio.get_running_loop()
        self._waiter = loop.create_future()
        timer = loop.call_later(limit_s, self.wake) if limit_s is not None else None
        try:
            await self._waiter
        finally:
            self._waiter = None
            if timer is not None:
                timer.cancel()

    async def _finish(self) -> None:
        """The planned end: what memory has, where that is, and when to come back."""
        channel, cursor = self._channel, self._cursor
        if cursor is not None and channel is not None:
            while cursor.epoch == channel.log.epoch and channel.log.holds(cursor.offset):
                await self._writer.free()
                if cursor.offset == channel.log.last:
                    break
                self._advance(cursor, channel)
        place = cursor.checkpoint() if cursor is not None else b""
        await self._writer.free()
        self._finishing = True
        self._hub.look(self, time.monotonic() + self._hub.settings.stall_s)
        await self._writer.end(place + self._farewell())

    # ---- what it says ---------------------------------------------------------------------------------------------

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
        """Come back soon, or with another token."""
        if self.reason == "expired":
            return encode(b"{}", event="auth-expiring")
        retry = encode(retry_ms=_rng.randint(*BACK_MS))
        return retry + encode(b"{}", event="server-draining") if self.reason == "drained" else retry
