"""`Inlet`: what a Redis connection says, handed on the moment it arrives.

redis-py reads through a stream and a task, which is right for questions and answers. Of announcements nobody is asked
for, each hop costs about as much as it takes to find their subscribers, before the first of those has a byte.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import hiredis
from redis.asyncio import Connection
from redis.asyncio.connection import DefaultParser
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import InvalidResponse

__all__ = ["Inlet"]

_NOTHING = object()
"""Of a reply, not all of it is there."""


class Inlet(asyncio.Protocol):
    """Reads a connection in redis-py's stead from now on; redis-py still writes to it, and closes it.

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
        transport = connection._writer.transport  # type: ignore[union-attr]  # noqa: SLF001 - there is no public way to it
        self._before: asyncio.StreamReaderProtocol = transport.get_protocol()  # type: ignore[assignment]
        transport.set_protocol(self)

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
