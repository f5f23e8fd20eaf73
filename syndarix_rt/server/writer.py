"""`Writer`: the way to one client, driven by hand, so that a write that does not block costs no task.

A write steps ASGI's ``send()``, a coroutine, from wherever it is called. Nearly always it runs to its end at once,
because the client's socket takes the data. If it stops instead, the client is slow: a task brings it to its end, and
until then the writer is *busy* and takes nothing else. That is the back-pressure.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine, Generator
from functools import lru_cache
from types import coroutine
from typing import Any

from hypercorn.protocol.h11 import H11Protocol
from hypercorn.typing import ASGISendCallable

__all__ = ["Writer"]


class Writer:
    """Writes to one client.

    Attributes:
        blocked_s: since when a write waits for the client (monotonic clock); None: it is not busy.
    """

    __slots__ = ("_rest", "_send", "blocked_s")

    def __init__(self, send: ASGISendCallable) -> None:
        self.blocked_s: float | None = None
        self._send: Callable[[Any], Coroutine[Any, Any, None]] = send  # type: ignore[assignment]  # it is a coroutine
        self._rest: asyncio.Task[None] | None = None

    def write(self, data: bytes) -> bool:
        """Send it; false: the client does not take it at once. Not to be called while it is busy."""
        sending = self._send(_message(data))
        try:
            awaited = sending.send(None)
        except StopIteration:
            return True
        self.blocked_s = time.monotonic()
        self._rest = asyncio.get_running_loop().create_task(self._finish(sending, awaited))
        return False

    async def _finish(self, sending: Coroutine[Any, Any, None], awaited: Any) -> None:
        try:
            await _resumed(sending, awaited)
        finally:
            self.blocked_s = self._rest = None

    async def free(self) -> None:
        """Return when it is not busy; raises what the write that it waited for raised."""
        while self._rest is not None:
            await asyncio.shield(self._rest)

    async def end(self, data: bytes) -> None:
        """Send the last of the response."""
        await self.free()
        self.blocked_s = time.monotonic()
        await self._send({"type": "http.response.body", "body": data, "more_body": False})
        self.blocked_s = None

    def close(self) -> None:
        """Give up a write that waits."""
        if self._rest is not None:
            self._rest.cancel()

    def abort(self) -> None:
        """Drop the connection, and what waits to be sent over it; not where others share it (HTTP/2)."""
        transport = _transport(self._send)
        if transport is not None:
            transport.abort()


def _transport(send: Any) -> asyncio.WriteTransport | None:
    """The transport below a ``send`` of Hypercorn's, if it is HTTP/1.1.

    ASGI has no way to it. Hypercorn is pinned to a minor version, and a test holds this function to it.
    """
    protocol = getattr(getattr(getattr(send, "__self__", None), "send", None), "__self__", None)
    if not isinstance(protocol, H11Protocol):
        return None
    writer = getattr(getattr(protocol.send, "__self__", None), "writer", None)
    return writer.transport if isinstance(writer, asyncio.StreamWriter) else None


@lru_cache(16)  # all who stand at one place are given the very same bytes, so one message serves them
def _message(data: bytes) -> dict[str, Any]:
    return {"type": "http.response.body", "body": data, "more_body": True}


@coroutine
def _resumed(sending: Coroutine[Any, Any, None], awaited: Any) -> Generator[Any, Any, None]:
    """Go on with a coroutine that was stepped by hand and stopped at ``awaited``."""
    while True:
        try:
            try:
                value = yield awaited
            except BaseException as error:  # noqa: BLE001 - a cancellation, too, belongs into the coroutine
                awaited = sending.throw(error)
            else:
                awaited = sending.send(value)
        except StopIteration:
            return
