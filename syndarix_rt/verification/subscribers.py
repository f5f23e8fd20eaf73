"""Subscribers of several kinds: what they see becomes records for their oracle.

============  ==========================================================================================
``client``    our `EventStream`, from the beginning of the log
``live``      our `EventStream`, from where the log ends when it comes
``browser``   what an ``EventSource`` does, on a plain socket: no library of ours but the decoder
``slow``      the same, but it reads less than is sent until nothing more is published
``filtered``  the same with a filter; every second one is our `EventStream`
``wanderer``  the same, but it leaves and comes back at random, by header or by query
``late``      the same, coming in the middle and asking for all that is retained
============  ==========================================================================================
"""

from __future__ import annotations

import asyncio
import random
import re
import socket
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable
from http import HTTPStatus

import msgspec

from syndarix_rt.client import EventStream
from syndarix_rt.client.stream import StreamState
from syndarix_rt.delivery import Gap, TypeFilter
from syndarix_rt.delivery.sse import Decoder, Frame
from syndarix_rt.errors import DecodeError, EventError, StreamError
from syndarix_rt.events import EventId
from syndarix_rt.verification.history import History, fingerprint
from syndarix_rt.verification.oracle import Declared, Ended, Opened, Oracle, Received, Record, Told, Violation
from syndarix_rt.verification.workload import END_TYPE, PROJECT

__all__ = ["BrowserSubscriber", "ClientSubscriber", "Subscriber"]

TRUST_S = 10.0
"""What nobody acknowledged for so long after it was received was not published: the reply would be there."""

SLOW_BYTES_PER_S = 30_000
"""Of the slow ones: about half of what is sent."""

RETRY_S = 1.0
"""Before a server has said ``retry:``, and after a connection that failed."""


class Subscriber(ABC):
    """One of them.

    Args:
        name: kind and number.
        history: for its oracle.
        now: the clock of the run.
        types: its filter.

    Attributes:
        oracle: its judge.
        connections: when each of its connections began and ended, seconds.
        done: set when it has received the last event.
    """

    hides_checkpoints = False

    def __init__(self, name: str, history: History, now: Callable[[], float], types: str | None = None) -> None:
        self.name = name
        self.types = types
        wanted = None if types is None else TypeFilter.parse(types)
        self.oracle = Oracle(name, history, wanted, hides_checkpoints=self.hides_checkpoints)
        self.connections: list[list[float]] = []
        self.done = asyncio.Event()
        self._history = history
        self._now = now
        self._records: deque[Record] = deque()

    @property
    def kind(self) -> str:
        """As in the table above."""
        return self.name.partition("-")[0]

    @abstractmethod
    async def run(self, port: int) -> None:
        """Subscribe through the link at this port, until cancelled."""

    def see(self, record: Record) -> None:
        """Keep what was seen until it can be judged."""
        self._records.append(record)
        if isinstance(record, Opened):
            self.connections.append([record.at_s, record.at_s])
        elif isinstance(record, Ended) and self.connections:
            self.connections[-1][1] = record.at_s

    def settle(self, *, all_: bool = False) -> None:
        """Judge what can be judged: everything of which the broker's acknowledgement must have come.

        Args:
            all_: judge the rest, too.
        """
        while self._records and (all_ or self._history.settled):
            record = self._records[0]
            if not all_ and self._now() - record.at_s < TRUST_S and not self._is_known(record):
                break
            self.oracle.feed(self._records.popleft())

    def _is_known(self, record: Record) -> bool:
        if isinstance(record, Received):
            return self._history.at(*record.position) is not None
        if isinstance(record, Told):
            return self._history.knows(record.position.epoch)
        return True


class ClientSubscriber(Subscriber):
    """Our `EventStream`."""

    hides_checkpoints = True

    def __init__(
        self,
        name: str,
        history: History,
        now: Callable[[], float],
        types: str | None = None,
        *,
        live: bool,
        keepalive_s: float,
    ) -> None:
        super().__init__(name, history, now, types)
        self._live = live
        self._keepalive_s = keepalive_s

    async def run(self, port: int) -> None:
        """See `Subscriber.run`."""
        stream = EventStream(
            f"http://127.0.0.1:{port}",
            PROJECT,
            types=self.types,
            replay=None if self._live else "all",
            keepalive_s=self._keepalive_s,
            on_state=lambda state, reason: self._on_state(stream, state, reason),
        )
        try:
            async with stream:
                async for item in stream:
                    if isinstance(item, Gap):
                        self.see(Declared(self._now(), item))
                        continue
                    assert item.position
                    self.see(Received(self._now(), item.position, fingerprint(item.raw)))
                    if item.type == END_TYPE:
                        self.done.set()
        except (StreamError, DecodeError, EventError) as error:
            self.oracle.violations.append(Violation(self.name, self._now(), "refused", str(error)))
        finally:
            ledger = stream.ledger
            if stream.position is not None:
                self.see(Told(self._now(), stream.position))
            self.see(Ended(self._now(), "over"))
            if ledger.duplicates or ledger.unreadable:  # it hides them
                text = f"the client dropped {ledger.duplicates} duplicates and {ledger.unreadable} unreadable entries"
                self.oracle.violations.append(Violation(self.name, self._now(), "duplicate", text))

    def _on_state(self, stream: EventStream, state: StreamState, reason: str) -> None:
        opened = stream.opened
        if state is StreamState.OPEN and opened is not None:
            start = EventId(opened.epoch, opened.last if self._live else opened.first - 1)
            self.see(Opened(self._now(), stream.position, start, opened.resumed))
        elif state is StreamState.WAITING:
            self.see(Ended(self._now(), reason))


class _Open(msgspec.Struct):
    epoch: str
    first: int
    last: int
    resumed: bool


class BrowserSubscriber(Subscriber):
    """What an ``EventSource`` does, with a socket of its own.

    Args:
        live: begin with what is published from now on, else with all that is retained.
        bytes_per_s: read no more than that until `hurry`; 0: all there is.
        stay_s: bounds of the time after which it leaves and comes back; None: it stays.
    """

    def __init__(
        self,
        name: str,
        history: History,
        now: Callable[[], float],
        types: str | None = None,
        *,
        rng: random.Random,
        keepalive_s: float,
        live: bool = False,
        bytes_per_s: int = 0,
        stay_s: tuple[float, float] | None = None,
        comes_s: float = 0.0,
    ) -> None:
        super().__init__(name, history, now, types)
        self._rng = rng
        self._silence_s = 3 * keepalive_s
        self._live = live
        self._bytes_per_s = bytes_per_s
        self._stay_s = stay_s
        self._comes_s = comes_s
        self._last_event_id = ""
        self._retry_s = RETRY_S

    def hurry(self) -> None:
        """Read as fast as it goes and stay: nothing more is published."""
        self._bytes_per_s = 0
        self._stay_s = None

    async def run(self, port: int) -> None:
        """See `Subscriber.run`."""
        await asyncio.sleep(max(0.0, self._comes_s - self._now()))
        while True:
            reason = "left"
            try:
                async with asyncio.timeout(None if self._stay_s is None else self._rng.uniform(*self._stay_s)):
                    await self._connection(port)
            except TimeoutError:
                pass
            except (OSError, ValueError, asyncio.IncompleteReadError) as error:
                reason = str(error) or type(error).__name__
            except (StreamError, DecodeError) as error:
                self.oracle.violations.append(Violation(self.name, self._now(), "refused", str(error)))
                return
            finally:
                self.see(Ended(self._now(), reason))
            await asyncio.sleep(self._retry_s * self._rng.uniform(0.1, 1.0) if reason == "left" else self._retry_s)

    async def _connection(self, port: int) -> None:
        sock = socket.socket()
        sock.setblocking(False)  # noqa: FBT003 - socket's signature
        if self._bytes_per_s:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8_192)
        try:
            await asyncio.get_running_loop().sock_connect(sock, ("127.0.0.1", port))
        except OSError:
            sock.close()
            raise
        reader, writer = await asyncio.open_connection(sock=sock, limit=65_536)
        try:
            writer.write(self._request())
            requested = EventId.parse(self._last_event_id) if self._last_event_id else None
            await self._head(reader)
            decoder = Decoder(last_event_id=self._last_event_id)
            buffer = b""
            while True:
                async with asyncio.timeout(self._silence_s):
                    chunk = await _chunk(reader)
                if not chunk:
                    return
                *blocks, buffer = (buffer + chunk).split(b"\n\n")
                for block in blocks:
                    frames = decoder.feed(block + b"\n\n")
                    if decoder.retry_ms is not None:
                        self._retry_s = decoder.retry_ms / 1000
                    told = not frames and block.startswith(b"id: ")
                    self._take(frames, decoder.last_event_id, requested, told=told)
                if self._bytes_per_s:
                    await asyncio.sleep(len(chunk) / self._bytes_per_s)
        finally:
            writer.transport.abort()

    def _request(self) -> bytes:
        query = [] if self._live else ["replay=all"]
        if self.types:
            query.append(f"types={self.types}")
        header = ""
        if self._last_event_id:
            if self._stay_s and self._rng.choice((True, False)):  # as a page that is opened again
                query.append(f"last_event_id={self._last_event_id}")
            else:
                header = f"last-event-id: {self._last_event_id}\r\n"
        return (
            f"GET /projects/{PROJECT}/events?{'&'.join(query)} HTTP/1.1\r\nhost: localhost\r\n"
            f"accept: text/event-stream\r\n{header}\r\n"
        ).encode()

    async def _head(self, reader: asyncio.StreamReader) -> None:
        async with asyncio.timeout(self._silence_s):
            head = await reader.readuntil(b"\r\n\r\n")
        found = re.match(rb"HTTP/1.1 (\d{3}) ", head)
        status = int(found[1]) if found else 0
        if status in (HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE):
            raise OSError(f"HTTP {status}")
        if status != HTTPStatus.OK or b"text/event-stream" not in head or b"chunked" not in head:
            raise StreamError(f"expected an event stream, not {head[:200]!r}", status)

    def _take(self, frames: list[Frame], last_event_id: str, requested: EventId | None, *, told: bool) -> None:
        now_s = self._now()
        for frame in frames:
            match frame.event:
                case "stream-open":
                    opened = msgspec.json.decode(frame.data, type=_Open)
                    start = EventId(opened.epoch, opened.last if self._live else opened.first - 1)
                    self.see(Opened(now_s, requested, start, opened.resumed))
                case "gap":
                    self.see(Declared(now_s, msgspec.json.decode(frame.data, type=Gap)))
                case event if "-" not in event:
                    position = EventId.parse(frame.id)
                    self.see(Received(now_s, position, fingerprint(frame.data.encode())))
                    if event == END_TYPE:
                        self.done.set()
        if told:
            self.see(Told(now_s, EventId.parse(last_event_id)))
        self._last_event_id = last_event_id


async def _chunk(reader: asyncio.StreamReader) -> bytes:
    """The next chunk of a body; empty at its end."""
    line = await reader.readuntil(b"\r\n")
    data = await reader.readexactly(int(line, 16) + 2)
    return data[:-2]
