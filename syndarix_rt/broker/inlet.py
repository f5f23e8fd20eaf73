"""`Inlet`: what a Redis connection says, handed on the moment it arrives; `Line`: questions and answers over one.

redis-py opens a connection, greets and closes it. In between it would read through a stream and write through several
layers, each of which costs about as much as to encode an event, or to find its subscribers.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import hiredis
from redis.asyncio import Connection
from redis.asyncio.connection import DefaultParser
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import InvalidResponse
from redis.exceptions import TimeoutError as RedisTimeoutError

__all__ = ["Inlet", "Line", "close"]

_NOTHING = object()
"""Of a reply, not all of it is there."""


class Inlet(asyncio.Protocol):
    """Reads a connection in redis-py's stead from now on; redis-py may still write to it, and closes it.

    Args:
        connection: a connected one that owes no reply.
        take: called with each reply. An error of Redis is given as an exception; what ``take`` raises ends all.

    Attributes:
        ended: never has a result; raises why there is no more to come.
    """

    def __init__(self, connection: Connection, take: Callable[[Any], None]) -> None:
        self.ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.ended.add_done_callback(lambda ended: ended.cancelled() or ended.exception())  # closed by who knows of it
        self._take = take
        self._replies = hiredis.Reader(
            protocolError=InvalidResponse, replyError=DefaultParser.parse_error, notEnoughData=_NOTHING
        )
        self._transport = connection._writer.transport  # type: ignore[union-attr]  # noqa: SLF001 - there is no public way to it
        self._before: asyncio.StreamReaderProtocol = self._transport.get_protocol()  # type: ignore[assignment]
        self._transport.set_protocol(self)

    def write(self, data: bytes) -> None:
        """Send commands. All of it is taken at once; that too much comes together is for the caller to see to."""
        self._transport.write(data)

    def data_received(self, data: bytes) -> None:
        """Hand on what is complete."""
        try:
            self._replies.feed(data)
            while not self.ended.done() and (reply := self._replies.gets()) is not _NOTHING:
                self._take(reply)
        except Exception as error:  # noqa: BLE001 - it belongs to whoever waits for the end
            self._end(error)

    def connection_lost(self, exc: Exception | None) -> None:
        """The end; redis-py's own protocol must learn of it, or closing would wait for ever."""
        self._before.connection_lost(exc)
        self._end(exc or RedisConnectionError("Connection closed by server."))

    def pause_writing(self) -> None:
        """What redis-py writes waits for this."""
        self._before.pause_writing()

    def resume_writing(self) -> None:
        """See `pause_writing`."""
        self._before.resume_writing()

    def _end(self, error: Exception) -> None:
        if not self.ended.done():
            self.ended.set_exception(error)


class Line:
    """Sends commands over a connection and waits for their replies, then for the next ones.

    Args:
        connection: as for `Inlet`.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._inlet = Inlet(connection, self._take)
        self._inlet.ended.add_done_callback(self._break)
        self._replies: list[Any] = []
        self._missing = 0
        self._complete: asyncio.Future[list[Any]] | None = None
        self._limit: asyncio.TimerHandle | None = None

    @property
    def is_free(self) -> bool:
        """Whether it can be asked: it stands, and owes no reply, as it does after a wait that was given up."""
        return self._complete is None and not self._inlet.ended.done()

    def ask(self, packed: bytes, replies: int, limit_s: float) -> asyncio.Future[list[Any]]:
        """Send commands; what is replied to them, an error of Redis as an exception in its place.

        Args:
            packed: the commands.
            replies: how many they are.
            limit_s: after which they are given up.

        Returns:
            The replies to come. It raises `redis.exceptions.ConnectionError` or `OSError` if the connection breaks,
            `TimeoutError` if it took too long: whether the commands were carried out is unknown.
        """
        loop = asyncio.get_running_loop()
        self._replies, self._missing = [], replies
        self._complete = loop.create_future()
        self._inlet.write(packed)
        self._limit = loop.call_later(limit_s, self._fail, TimeoutError())
        return self._complete

    async def disconnect(self) -> None:
        """Close it, whatever state it is in; nothing is waited for."""
        self._end_limit()
        await self._connection.disconnect(nowait=True)

    async def aclose(self) -> None:
        """Close it in good order."""
        await close(self._connection)

    def _take(self, reply: Any) -> None:
        complete = self._complete
        if complete is None:  # why the server is about to close it
            raise reply if isinstance(reply, Exception) else RedisConnectionError(f"unasked for: {reply!r}")
        self._replies.append(reply)
        self._missing -= 1
        if not self._missing and not complete.done():
            complete.set_result(self._replies)
            self._complete = None
            self._end_limit()

    def _end_limit(self) -> None:
        if self._limit is not None:
            self._limit.cancel()

    def _break(self, ended: asyncio.Future[None]) -> None:
        if error := ended.exception():
            self._fail(error)

    def _fail(self, error: BaseException) -> None:
        if self._complete is not None and not self._complete.done():
            self._complete.set_exception(error)


async def close(connection: Connection) -> None:
    """Close a connection for good: over TLS the other side has a word in it, and a loop that ends first leaks it."""
    with suppress(RedisTimeoutError):  # nobody is there any more
        await connection.disconnect()
