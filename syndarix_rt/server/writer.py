"""`Writer`: the way to one client, driven by hand, so that a write that does not block costs no task.

Where it can, it writes to the connection's socket, or its transport while that still has something to send: over
HTTP/1.1 an event is a chunk, which is framed once for all who get it. Else (HTTP/2, another server) it steps ASGI's
``send()``, a coroutine, from wherever it is called; nearly always that runs to its end at once, because the client's
socket takes the data. A client that does not is slow: a task waits for it, and until then the writer is *busy* and
takes nothing else. That is the back-pressure.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable, Coroutine, Generator
from contextlib import suppress
from functools import lru_cache
from types import coroutine
from typing import Any, Literal

from hypercorn.typing import ASGISendCallable

from syndarix_rt.server.below import Connection, Multiplexed, below

__all__ = ["Detour", "Writer", "chunk_of"]

Detour = Literal["", "http/1.0", "http/2", "switched_off", "hypercorn"]
"""Why a client is written to through ASGI; empty: it is not. ``hypercorn``: what serves is not as `below` needs it."""

BUFFER_BYTES = 64 * 1024
"""What may wait for a client's socket before it counts as slow: where asyncio begins to hold writers back."""


class Writer:
    """Writes to one client.

    Attributes:
        blocked_s: since when a write waits for the client (monotonic clock); None: it is not busy.
        detour: why it does not write to the transport.
        descriptor: of the socket that it writes to when it can, which others may do as well unless it `lags`; -1: it
            does not write to one.
    """

    __slots__ = ("_below", "_rest", "_send", "_transport", "blocked_s", "descriptor", "detour")

    def __init__(
        self,
        send: ASGISendCallable,
        *,
        chunked: bool,
        detour: Detour = "",
        closing: Callable[[], None] | None = None,
    ) -> None:
        """Begin to write the body of a response whose headers are sent.

        Args:
            send: ASGI's.
            chunked: whether the body is sent in chunks (HTTP/1.1).
            detour: why it may not write to the transport, if it may not.
            closing: called when the descriptor is about to be closed, and may be another connection's from then on.
        """
        self.blocked_s: float | None = None
        self._send: Callable[[Any], Coroutine[Any, Any, None]] = send  # type: ignore[assignment]  # it is a coroutine
        self._rest: asyncio.Task[None] | None = None
        self._below = below(send)
        self._transport: asyncio.WriteTransport | None = None
        self.descriptor = -1
        if isinstance(self._below, Multiplexed):
            detour = "http/2"
        elif not chunked:
            detour = "http/1.0"
        elif not detour:
            if isinstance(self._below, Connection):
                self._transport, self.descriptor = self._below.transport, self._below.descriptor
                if closing is not None and self.descriptor >= 0:
                    self._below.watch(closing)
            else:
                detour = "hypercorn"
        self.detour: Detour = detour

    @property
    def lags(self) -> bool:
        """Whether its descriptor, if it has one, must not be written to: something waits, or the connection ends."""
        transport = self._transport
        if transport is None or self.descriptor < 0:
            return False
        return transport.is_closing() or transport.get_write_buffer_size() > 0

    def write(self, data: bytes, chunk: bytes, sent: int = 0) -> bool:
        """Send it; false: the client does not take it at once. Not to be called while it is busy.

        Args:
            data: the next part of the body.
            chunk: the same, as `chunk_of` frames it.
            sent: bytes of the chunk that were written to the descriptor already, by somebody else.
        """
        transport = self._transport
        if transport is not None and not transport.is_closing():  # of a closed one Hypercorn must learn
            if self.descriptor >= 0 and not sent and not transport.get_write_buffer_size():
                try:
                    sent = os.write(self.descriptor, chunk)
                except OSError:  # the socket is full; or broken, which the transport must hear of
                    sent = 0
            if sent == len(chunk):
                return True
            transport.write(chunk[sent:])
            if transport.get_write_buffer_size() <= BUFFER_BYTES:
                return True
            taken = True
        else:
            taken = self._step(self._send(_message(data)))
        beneath = self._below
        if taken and beneath is not None and beneath.waiting_bytes > BUFFER_BYTES:
            return self._step(beneath.drain())
        return taken

    def _step(self, sending: Coroutine[Any, Any, None]) -> bool:
        """Run a coroutine to its end, here if it does not wait, else in a task."""
        try:
            awaited = sending.send(None)
        except (StopIteration, OSError):  # a client that has left, or timed out, is heard of otherwise
            return True
        self.blocked_s = time.monotonic()
        self._rest = asyncio.get_running_loop().create_task(self._finish(sending, awaited))
        return False

    async def _finish(self, sending: Coroutine[Any, Any, None], awaited: Any) -> None:
        try:
            with suppress(OSError):
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
        """The stream has ended: give up a write that waits, and the connection if its client has left."""
        if self._rest is not None:
            self._rest.cancel()
        if self._below is not None:
            self._below.release()

    def abort(self) -> None:
        """Drop the connection, and what waits to be sent over it; of one that others share (HTTP/2), this stream."""
        if self._below is not None:
            self._below.abort()


# All who stand at one place are given the very same bytes, so that one message or chunk serves them.


@lru_cache(64)
def _message(data: bytes) -> dict[str, Any]:
    return {"type": "http.response.body", "body": data, "more_body": True}


@lru_cache(64)
def chunk_of(data: bytes) -> bytes:
    """A part of a response's body as HTTP/1.1 sends it (RFC 9112, 7.1)."""
    return b"%x\r\n%b\r\n" % (len(data), data)


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
