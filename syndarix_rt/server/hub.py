"""`Hub`: the channels and streams of one server process.

A channel is followed while it has streams. Where a stream begins and ends is here, in `Hub.holding_stream`. One wheel
says which stream must be looked at when, for keepalives, checkpoints, age and stalled writes, so an idle stream costs
no timer.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import structlog

from syndarix_rt.broker.protocol import Broker
from syndarix_rt.server.below import unlike
from syndarix_rt.server.channel import SLICE_S, Channel
from syndarix_rt.server.limits import Limits
from syndarix_rt.server.settings import Settings
from syndarix_rt.server.socket import UNAUTHORIZED, Socket
from syndarix_rt.server.stream import Stream
from syndarix_rt.server.tally import Tally
from syndarix_rt.server.wheel import Wheel
from syndarix_rt.server.writer import Detour

__all__ = ["Channel", "Hub"]

PAGE_READS = 16
"""Pages of the broker's log that are read at once: a thousand clients that resume at places of their own wait in line.
"""

_log = structlog.get_logger("syndarix_rt.server")


class Hub:
    """All channels and streams of one server process."""

    def __init__(self, broker: Broker, settings: Settings) -> None:
        self.broker = broker
        self.settings = settings
        self.page_reads = asyncio.Semaphore(PAGE_READS)
        self.detour: Detour = "" if settings.fast_path else "switched_off"
        """Why streams may not be written straight to their connections; empty: they may."""
        self.counts: Counter[str] = Counter()
        """What slow clients cost, since the start: ``blocked`` (writes that one did not take at once), ``pages`` (read
        from the broker for a cursor that had fallen out of memory)."""
        self.tally = Tally()
        self.limits = Limits(settings)
        self.draining = False
        self.opened: Counter[str] = Counter()
        """Event streams since the start, by how they began: ``live``, ``resumed``, ``gap``."""
        self.gaps: Counter[str] = Counter()
        """Gaps declared, by reason."""
        self.ended: Counter[str] = Counter()
        """Event streams that have ended, by `Reason`."""
        self._empty = asyncio.Event()
        self._sockets: set[Socket] = set()
        self._channels: dict[str, Channel] = {}
        self._closers: dict[str, asyncio.Task[None]] = {}
        self._wheel: Wheel[Stream] = Wheel(min(0.25, settings.keepalive_s / 4), time.monotonic())
        self._ticker: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to tick; called once the loop runs."""
        if not self.detour and (reason := unlike()):
            self.detour = "hypercorn"
            _log.warning("no fast path: Hypercorn is not what it was made for", reason=reason)
        self._ticker = asyncio.create_task(self._tick(), name="hub ticker")

    @property
    def channels(self) -> list[Channel]:
        """All channels that are followed."""
        return list(self._channels.values())

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

    @contextmanager
    def holding_stream(self, stream: Stream) -> Iterator[Channel]:
        """Where every stream begins and ends; its channel is followed at least as long."""
        name = stream.channel_name
        if closer := self._closers.pop(name, None):
            closer.cancel()
        channel = self._channels.get(name)
        if channel is None:
            channel = self._channels[name] = Channel(name, self)
        channel.add(stream)
        began_s = time.monotonic()
        if self.settings.log_clients:
            _log.info("stream opened", channel=name, client=stream.client)
        self.look(stream, time.monotonic() + self.settings.keepalive_s)
        try:
            yield channel
        finally:
            channel.discard(stream)
            self.ended[stream.reason or "left"] += 1
            self.tally.ended(stream.cursor)
            if self.settings.log_clients:
                _log.info(
                    "stream ended",
                    channel=name,
                    client=stream.client,
                    reason=stream.reason or "left",
                    seconds=round(time.monotonic() - began_s, 3),
                    events=stream.cursor.events if stream.cursor else 0,
                    bytes=stream.cursor.size_bytes if stream.cursor else 0,
                    position=str(stream.cursor.event_id) if stream.cursor else None,
                )
            self._note_leaving()
            if not channel.streams and self._channels.get(name) is channel and name not in self._closers:
                self._closers[name] = asyncio.create_task(self._close_later(channel))

    def look(self, stream: Stream, due_s: float) -> None:
        """Tend a stream at ``due_s`` at the latest (monotonic clock)."""
        self._wheel.put(stream, due_s)

    @contextmanager
    def holding(self, socket: Socket) -> Iterator[None]:
        """End a WebSocket with the server."""
        self._sockets.add(socket)
        began_s = time.monotonic()
        if self.settings.log_clients:
            _log.info("socket opened", path=socket.path, client=socket.client)
        try:
            if self.draining:
                socket.drain(within_s=0)
            yield
        finally:
            self._sockets.discard(socket)
            self._note_leaving()
            if self.settings.log_clients:
                _log.info(
                    "socket ended",
                    path=socket.path,
                    client=socket.client,
                    code=socket.code,
                    seconds=round(time.monotonic() - began_s, 3),
                )

    def end_tokens(self, ids: frozenset[str]) -> None:
        """End the streams and sockets that came with these tokens."""
        if not ids:
            return
        for stream in self.streams:
            if stream.token_id in ids:
                stream.end("expired")
        for socket in self._sockets:
            if socket.token_id in ids:
                socket.close(UNAUTHORIZED, "the token has been revoked")

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
        """Tend the streams whose time has come, some at a time."""
        while True:
            await asyncio.sleep(self._wheel.slot_s)
            now_s = time.monotonic()
            for stream in self._wheel.take(now_s):
                if time.monotonic() - now_s > SLICE_S:
                    await asyncio.sleep(0)
                    now_s = time.monotonic()
                due_s = stream.tend(now_s)
                if due_s is not None:
                    self._wheel.put(stream, due_s)

    async def drain(self) -> None:
        """End all streams and sockets, spread over a while; returns when they are gone or time is up."""
        self.draining = True
        all_open: list[Stream | Socket] = [*self.streams, *self._sockets]
        window_s = min(self.settings.drain_s, len(all_open) / self.settings.drain_per_s)
        for each in all_open:
            each.drain(within_s=window_s)
        began_s = time.monotonic()
        if all_open:
            # One second more for the last writes; a stream that cannot write by then is cut off with its connection.
            with suppress(TimeoutError):
                await asyncio.wait_for(self._empty.wait(), window_s + 1.0)
            if self.settings.log_clients:
                seconds = round(time.monotonic() - began_s, 3)
                _log.info("drained", ended=len(all_open), left=len(self.streams), seconds=seconds)

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
