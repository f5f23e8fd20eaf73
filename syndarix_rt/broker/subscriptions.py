"""One Pub/Sub connection for all tails of a broker: it carries announcements, and says when it may have lost some.

The connection is replaced whenever it breaks or falls silent. Each tail has a `Feed`, a bounded buffer: what does not
fit is dropped, and the tail is told to look at the log instead.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
from collections import Counter, deque
from collections.abc import Awaitable, Callable, Iterable, Sequence
from types import TracebackType
from typing import Any, Protocol, Self

from redis.asyncio import Connection
from redis.crc import key_slot
from redis.exceptions import MovedError

from syndarix_rt.broker.endpoint import Endpoint
from syndarix_rt.broker.inlet import Inlet, close
from syndarix_rt.broker.reader import Announcement, Top, parse
from syndarix_rt.broker.retry import pauses
from syndarix_rt.errors import BrokerUnavailable

__all__ = ["Feed", "Sign", "Subscriptions", "Tops"]

PING_S = 2.0
"""How often a PING goes out, so that a healthy connection never looks silent."""

SILENCE_S = 5.0
"""A connection without a word for so long is replaced: two PINGs without a PONG."""

COMPARE_S = 1.0
"""How often the tops of all logs are compared: the longest that a lost announcement can stay unnoticed."""

COMPARED_AT_ONCE = 100
"""Most channels that are compared in one round trip: a few milliseconds of this process. More are spread over the time
between two comparisons."""

FEED_MESSAGES = 1_024
"""Most announcements that wait for one tail."""

FEED_BYTES = 8 * 1024 * 1024
"""Most bytes of them: 32 of the largest. What is dropped is read from the log, later and in pages."""

Sign = Announcement | Top | None
"""What a feed gives: an announcement, a comparison, or None: announcements may have been lost."""


class Attachment(Protocol):
    """Who gives feeds what comes: `Subscriptions`, or those of a cluster's shards."""

    def attach(self, name: str, feed: Feed) -> None:
        """Begin to give it what is announced on a channel."""

    def detach(self, name: str, feed: Feed) -> None:
        """End that."""


class Feed:
    """What reaches one tail. Attach it with ``with``."""

    def __init__(self, subscriptions: Attachment, name: str) -> None:
        self._subscriptions = subscriptions
        self._name = name
        self._messages: deque[tuple[Announcement, int]] = deque()
        self._bytes = 0
        self._top: Top | None = None
        self._told: Top | None = None  # the last place that the tail has been told of, or will be by what waits
        self._lost = False
        self._live = False
        self._error: Exception | None = None
        self._wake = asyncio.Event()
        self._taken: Callable[[Announcement], bool] | None = None  # while the tail waits
        self.closed = False

    def __enter__(self) -> Self:
        self._subscriptions.attach(self._name, self)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._subscriptions.detach(self._name, self)

    async def subscribed(self) -> None:
        """Return once the subscription is acknowledged (or this is closed), for the caller to look at the log.

        What is published from now on is announced here; what was lost until now, the log has.

        Raises:
            BrokerUnavailable: an attempt to connect failed; others go on.
        """
        while not (self._live or self.closed):
            self._raise()
            await self._changed()
        self._lost = False

    async def next(self, taken: Callable[[Announcement], bool]) -> Sign:
        """The next sign; None also when closed.

        Args:
            taken: is asked of each announcement that comes meanwhile, when no sign is on its way, whether it has been
                taken, so that it need be no sign.

        Raises:
            BrokerUnavailable: the connection was lost, and an attempt to replace it failed.
            Exception: whatever ``taken`` has raised.
        """
        while not self.closed:
            if self._lost:
                self._lost = False
                return None
            if self._messages:
                message, size = self._messages.popleft()
                self._bytes -= size
                return message
            if self._top:
                top, self._top = self._top, None
                return top
            self._raise()
            self._taken = taken
            try:
                await self._changed()
            finally:
                self._taken = None
        return None

    async def again(self, pause_s: float) -> None:
        """Wait for the connection to come back; where it is there (only a command failed), for ``pause_s``."""
        if self._live:
            await asyncio.sleep(pause_s)
        while not (self._live or self.closed):
            if self._error is not None and not isinstance(self._error, BrokerUnavailable):
                raise self._error
            await self._changed()

    def _raise(self) -> None:
        if self._error is not None:
            raise self._error

    async def _changed(self) -> None:
        self._wake.clear()
        await self._wake.wait()

    # What Subscriptions says:

    def put(self, message: Announcement | None, size: int) -> None:
        """An announcement; None if it could not be understood."""
        if message is not None and self._taken is not None and not self._wake.is_set():
            try:
                if self._taken(message):
                    self._told = Top(message.epoch, message.last)
                    return
            except Exception as error:  # noqa: BLE001 - it is the tail's, not the connection's that all tails share
                self._error = error
                self._wake.set()
                return
        if message is None or len(self._messages) >= FEED_MESSAGES or self._bytes + size > FEED_BYTES:
            self._messages.clear()
            self._bytes = 0
            self._lost = True
        else:
            self._messages.append((message, size))
            self._bytes += size
            self._told = Top(message.epoch, message.last)
        self._wake.set()

    def compared(self, top: Top) -> None:
        """Where the log ends. It wakes nobody who has been told so far already."""
        told = self._told
        if told and told.epoch == top.epoch and told.last >= top.last:
            return
        self._top = self._told = top
        self._wake.set()

    def acknowledged(self) -> None:
        """The subscription stands; what was announced before may have been lost."""
        self._live, self._lost, self._error = True, True, None
        self._wake.set()

    def broken(self, error: Exception | None = None) -> None:
        """The connection is gone; with an error, it could not be replaced either."""
        self._live = False
        if error is not None:
            self._error = error
            self._wake.set()

    @property
    def live(self) -> bool:
        """Whether the subscription stands."""
        return self._live

    def close(self) -> None:
        """No more signs."""
        self.closed = True
        self._wake.set()


Tops = Callable[[Sequence[str]], Awaitable[list[Top | None]]]
"""Compares the logs of some channels."""


class Subscriptions:
    """The connection, and who wants what of it.

    Args:
        endpoint: the server.
        tops: compares the logs of some channels.
        moved: called when the server, a node of a cluster, has no channel of some feeds any more; without it the
            server is no such node.
    """

    def __init__(self, endpoint: Endpoint, tops: Tops, moved: Callable[[], None] | None = None) -> None:
        self._endpoint = endpoint
        self._tops = tops
        self._moved = moved
        self._feeds: dict[str, set[Feed]] = {}
        self._subscribed: set[str] = set()
        self._pending: Counter[str] = Counter()
        self._standing: set[str] = set()
        self._heard_s = 0.0  # when anything came, the loop's clock
        self._wanted = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def feed(self, name: str) -> Feed:
        """A feed of one Pub/Sub channel."""
        return Feed(self, name)

    def attach(self, name: str, feed: Feed) -> None:
        """Subscribe, unless another feed already did."""
        self._feeds.setdefault(name, set()).add(feed)
        if name in self._standing:
            feed.acknowledged()
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._run(), name="redis subscriptions")
        self._wanted.set()

    def detach(self, name: str, feed: Feed) -> None:
        """Unsubscribe, if nobody else listens."""
        feeds = self._feeds[name]
        feeds.discard(feed)
        if not feeds:
            del self._feeds[name]
        self._wanted.set()

    async def aclose(self) -> None:
        """End all feeds."""
        for feed in self._all():
            feed.close()
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    def _all(self) -> list[Feed]:
        return [feed for feeds in self._feeds.values() for feed in feeds]

    async def _run(self) -> None:
        """Keep a connection as long as anybody listens."""
        waits = pauses()
        stood = False
        while self._feeds:
            try:
                connection = await self._endpoint.connect()
                try:
                    await self._use(connection)
                except Exception:
                    await connection.disconnect(nowait=True)  # it is broken: there is nothing to wait for
                    raise
                finally:
                    stood, self._standing = bool(self._standing), set()
                    self._pending.clear()
                    for feed in self._all():
                        feed.broken()
                    await close(connection)
            except BrokerUnavailable as error:
                if stood:  # it was good until now: the next one is tried at once, and nobody need know
                    stood = False
                    waits = pauses()
                    continue
                for feed in self._all():
                    feed.broken(error)
                await asyncio.sleep(next(waits))
            except Exception as error:  # noqa: BLE001 - whatever it is belongs to the tails, nobody awaits this task
                for feed in self._all():
                    feed.broken(error)
                return

    async def _use(self, connection: Connection) -> None:
        """Serve the feeds over this connection; return when nobody listens any more, raise when it breaks."""
        inlet = Inlet(connection, self._take)
        tasks = [inlet.ended, *(asyncio.create_task(work) for work in (self._subscribe(connection), self._compare()))]
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        with self._endpoint.translated():
            for task in done:
                task.result()

    async def _subscribe(self, connection: Connection) -> None:
        """Bring what is subscribed in line with what is wanted, PING in between; return when nothing is wanted.

        Raise when nothing has come for too long.
        """
        self._subscribed = set()
        now_s = asyncio.get_running_loop().time
        self._heard_s = now_s()
        while self._feeds:
            self._wanted.clear()
            wanted = set(self._feeds)
            if new := wanted - self._subscribed:
                self._pending.update(new)
                await self._send(connection, "SUBSCRIBE", new)
            if old := self._subscribed - wanted:
                self._standing -= old
                await self._send(connection, "UNSUBSCRIBE", old)
            self._subscribed = wanted
            try:
                async with asyncio.timeout(min(PING_S, self._heard_s + SILENCE_S - now_s())):
                    await self._wanted.wait()
            except TimeoutError:
                if now_s() - self._heard_s >= SILENCE_S:
                    raise TimeoutError(f"silent for {SILENCE_S:g} s") from None
                await connection.send_command("PING")

    async def _send(self, connection: Connection, command: str, names: set[str]) -> None:
        if self._moved is None:
            await connection.send_command(command, *names)
        else:  # of a cluster, where one command names one slot
            for name in names:
                await connection.send_command(f"S{command}", name)

    def _lose(self, names: Iterable[str]) -> None:
        """These channels are another node's now; whoever wants them may have lost something."""
        for name in names:
            self._subscribed.discard(name)
            self._standing.discard(name)
            self._pending.pop(name, None)
            for feed in self._feeds.get(name, ()):
                feed.broken()
        if self._moved is not None:
            self._moved()

    def _take(self, reply: Any) -> None:
        """Hand out what has arrived."""
        self._heard_s = asyncio.get_running_loop().time()
        if isinstance(reply, MovedError):
            self._lose([name for name in self._subscribed if key_slot(name.encode()) == reply.slot_id])
            return
        if isinstance(reply, Exception):
            raise reply
        kind = reply[0] if isinstance(reply, list) else b"pong"
        if self._moved is not None and kind != b"pong":
            kind = kind[1:]  # "smessage" and so on
        if kind == b"message":
            feeds = self._feeds.get(reply[1].decode())
            if feeds:
                message = parse(reply[2])
                for feed in feeds:
                    feed.put(message, len(reply[2]))
        elif kind == b"subscribe":
            name = reply[1].decode()
            self._pending[name] -= 1
            if self._pending[name] <= 0:  # less where the slot has gone and come back
                del self._pending[name]
                self._standing.add(name)
                for feed in self._feeds.get(name, ()):
                    feed.acknowledged()
        elif kind == b"unsubscribe":
            name = reply[1].decode()
            if name in self._standing and name in self._feeds:
                self._lose([name])  # unasked: its slot went to another node
            elif name not in self._pending:  # whose subscription was acknowledged after it had been given up
                self._standing.discard(name)

    async def _compare(self) -> None:
        """Compare the tops of all logs, some in one round trip, again and again."""
        names: list[str] = []
        while True:
            await asyncio.sleep(COMPARE_S / max(1, math.ceil(len(self._standing) / COMPARED_AT_ONCE)))
            names = names or list(self._standing)
            some, names = names[:COMPARED_AT_ONCE], names[COMPARED_AT_ONCE:]
            with contextlib.suppress(BrokerUnavailable):  # a dead server is noticed by its silence
                for name, top in zip(some, await self._tops(some), strict=True):
                    for feed in self._feeds.get(name, ()):
                        if top is not None:
                            feed.compared(top)
