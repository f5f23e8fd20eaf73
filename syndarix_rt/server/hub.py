"""`Hub`: one tail and one in-memory log per channel, a cursor for each stream.

A channel is followed while it has streams. Its tail (repaired by the broker's room) fills the log and wakes the
streams; each takes what it lacks. One ticker looks at all streams once in a while for keepalives and checkpoints, so
an idle stream costs no timer.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing, asynccontextmanager, contextmanager, suppress
from traceback import format_exc

import structlog

from syndarix_rt.broker.protocol import Batch, Broker, TailUpdate
from syndarix_rt.delivery import Log, Position
from syndarix_rt.errors import BrokerError
from syndarix_rt.server.settings import Settings
from syndarix_rt.server.socket import Socket
from syndarix_rt.server.stream import Stream

__all__ = ["Channel", "Hub"]

PAGE_READS = 16
"""Streams that may read the broker's log at once: a thousand clients that resume together wait in line."""

FOLLOW_AGAIN_S = 2.0
"""Between two attempts to follow a channel that failed for more than absence: what a person mends, seen in the log."""

_log = structlog.get_logger("syndarix_rt.server")


class Channel:
    """What this process holds of one channel, and who listens."""

    def __init__(self, name: str, broker: Broker) -> None:
        self.name = name
        self.broker = broker
        self.log = Log()
        self.started = False
        """Whether the log is contiguous to what the tail gives; false while the broker is away."""
        self.streams: set[Stream] = set()
        self._task = asyncio.create_task(self._follow(), name=f"tail {name}")

    async def _follow(self) -> None:
        while True:
            # A tail never ends by itself; if it does, the streams must not hang for ever.
            try:
                async with aclosing(self.broker.tail(self.name)) as tail:
                    async for update in tail:
                        self._apply(update)
            except BrokerError as error:  # what a person must mend, such as a changed password
                _log.error("a channel cannot be followed; trying again", channel=self.name, reason=str(error))
            except Exception:  # noqa: BLE001 - logged with its traceback, and the channel must live on
                # As text: the log's own formatter may show local variables, and passwords are among them.
                _log.error("a channel's tail failed; trying again", channel=self.name, exception=format_exc())
            self.started = False
            await asyncio.sleep(FOLLOW_AGAIN_S)

    def _apply(self, update: TailUpdate) -> None:
        """Bring the log up to what the tail says, and the streams up to the log."""
        if isinstance(update, Batch):
            self.log.append(update.first, update.entries)
        elif isinstance(update, Position):
            self.log.start(update.epoch, update.last)
            self.started = True
        else:
            self.started = False
            return
        for stream in self.streams:
            stream.wake()

    async def aclose(self) -> None:
        """Stop following."""
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)


class Hub:
    """All channels and streams of one server process."""

    def __init__(self, broker: Broker, settings: Settings) -> None:
        self.broker = broker
        self.settings = settings
        self.page_reads = asyncio.Semaphore(PAGE_READS)
        self.draining = False
        self.opened: Counter[str] = Counter()
        """Event streams since the start, by how they began: ``live``, ``resumed``, ``gap``."""
        self.gaps: Counter[str] = Counter()
        """Gaps declared, by reason."""
        self._empty = asyncio.Event()
        self._sockets: set[Socket] = set()
        self._channels: dict[str, Channel] = {}
        self._closers: dict[str, asyncio.Task[None]] = {}
        self._ticker: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to tick; called once the loop runs."""
        self._ticker = asyncio.create_task(self._tick(), name="hub ticker")

    @property
    def streams(self) -> list[Stream]:
        """All open streams."""
        return [stream for channel in self._channels.values() for stream in channel.streams]

    @property
    def open_sockets(self) -> int:
        """WebSockets that are open."""
        return len(self._sockets)

    def subscribers(self, channel: str) -> int:
        """Streams open on a channel in this process."""
        found = self._channels.get(channel)
        return len(found.streams) if found else 0

    @asynccontextmanager
    async def subscribe(self, stream: Stream) -> AsyncIterator[Channel]:
        """Attach a stream to its channel; the channel is followed at least as long."""
        name = stream.channel_name
        if closer := self._closers.pop(name, None):
            closer.cancel()
        channel = self._channels.get(name)
        if channel is None:
            channel = self._channels[name] = Channel(name, self.broker)
        channel.streams.add(stream)
        try:
            yield channel
        finally:
            channel.streams.discard(stream)
            self._note_leaving()
            if not channel.streams and self._channels.get(name) is channel and name not in self._closers:
                self._closers[name] = asyncio.create_task(self._close_later(channel))

    @contextmanager
    def holding(self, socket: Socket) -> Iterator[None]:
        """End a WebSocket with the server."""
        self._sockets.add(socket)
        try:
            if self.draining:
                socket.drain(within_s=0)
            yield
        finally:
            self._sockets.discard(socket)
            self._note_leaving()

    def _note_leaving(self) -> None:
        if self.draining and not self.streams and not self._sockets:
            self._empty.set()

    async def _close_later(self, channel: Channel) -> None:
        await asyncio.sleep(self.settings.linger_s)
        # From here on nothing may intervene: a newcomer must find the channel whole, or not at all.
        self._closers.pop(channel.name, None)
        self._channels.pop(channel.name, None)
        await channel.aclose()

    async def _tick(self) -> None:
        """Wake the streams whose time has come, exact enough for a comment or a checkpoint."""
        period_s = min(0.25, self.settings.keepalive_s / 4)
        while True:
            await asyncio.sleep(period_s)
            now_s = time.monotonic()
            for stream in self.streams:
                if stream.due_s <= now_s:
                    stream.wake()

    async def drain(self) -> None:
        """End all streams and sockets, spread over a while; returns when they are gone or time is up."""
        self.draining = True
        all_open: list[Stream | Socket] = [*self.streams, *self._sockets]
        window_s = min(self.settings.drain_s, len(all_open) / self.settings.drain_per_s)
        for each in all_open:
            each.drain(within_s=window_s)
        if all_open:
            # One second more for the last writes; a stream that cannot write by then is cut off with its connection.
            with suppress(TimeoutError):
                await asyncio.wait_for(self._empty.wait(), window_s + 1.0)

    async def aclose(self) -> None:
        """Stop following everything."""
        tasks = [task for task in (self._ticker, *self._closers.values()) if task]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._closers.clear()
        channels = list(self._channels.values())
        self._channels.clear()
        await asyncio.gather(*(channel.aclose() for channel in channels))
