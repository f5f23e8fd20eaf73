"""`Wire`: below a WebSocket of Quart, for what ASGI has no words for.

Messages that wait for one client go out in one write, uncompressed (which RFC 7692 allows for any message), and what a
whole room is sent is framed once. A ping of the WebSocket protocol can be sent, which every client answers by itself,
browsers too, and any sign of life is noticed; and whether the client said that it leaves. For all that this reaches
through Quart into Hypercorn's stream (Hypercorn is pinned to a minor version, and a test holds this module to it);
under another server it falls back on what ASGI has.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

from hypercorn.protocol.events import Data
from hypercorn.protocol.ws_stream import WSStream
from quart import websocket
from wsproto.connection import ConnectionState

__all__ = ["Wire", "frame"]

_SHORT, _MEDIUM = 126, 1 << 16
_PING = b"\x89\x00"

WRITE_BYTES = 64 * 1024
"""Written at once: as much as a slow client's socket is asked to take before others have their turn."""


def _stream() -> WSStream | None:
    """Hypercorn's stream of the present WebSocket, if that is what serves it."""
    send = getattr(getattr(websocket, "_send", None), "args", (None,))[0]
    while send is not None:
        stream = getattr(send, "__self__", None)
        if isinstance(stream, WSStream):
            return stream
        send = getattr(send, "__wrapped__", None)
    return None


@lru_cache(1024)
def frame(text: str) -> bytes:
    """A text message as one unmasked frame (RFC 6455 §5.2), which is what a server sends."""
    body = text.encode()
    size = len(body)
    if size < _SHORT:
        return b"\x81%c%b" % (size, body)
    if size < _MEDIUM:
        return b"\x81\x7e" + size.to_bytes(2) + body
    return b"\x81\x7f" + size.to_bytes(8) + body


class Wire:
    """The way to the client of the present WebSocket.

    Attributes:
        heard_s: when anything came from the client, monotonic clock.
    """

    def __init__(self) -> None:
        self.heard_s = time.monotonic()
        self._stream = _stream()
        if self._stream is not None:
            self._listen(self._stream)

    @property
    def left(self) -> bool:
        """Whether the client has sent a close frame."""
        stream = self._stream
        return stream is not None and stream.connection.state in (
            ConnectionState.REMOTE_CLOSING,
            ConnectionState.CLOSED,
        )

    async def send(self, texts: Sequence[str]) -> None:
        """Send messages; returns when the client's socket has taken nearly all of it."""
        if self._stream is None:
            for text in texts:
                await websocket.send(text)
            return
        waiting, size = [], 0
        for text in texts:
            waiting.append(frame(text))
            size += len(waiting[-1])
            if size >= WRITE_BYTES:
                await self._put(b"".join(waiting))
                waiting, size = [], 0
        if waiting:
            await self._put(b"".join(waiting))

    async def ping(self) -> None:
        """Ask for a sign of life."""
        await self._put(_PING)

    async def _put(self, data: bytes) -> None:
        stream = self._stream
        if stream is not None and not stream.closed and stream.connection.state is ConnectionState.OPEN:
            await stream.send(Data(stream_id=stream.stream_id, data=data))

    def _listen(self, stream: WSStream) -> None:
        handle = stream.handle

        async def heard(event: Any) -> None:
            self.heard_s = time.monotonic()
            await handle(event)

        stream.handle = heard  # type: ignore[method-assign]
