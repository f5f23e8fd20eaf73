"""`Wire`: below a WebSocket of Quart, for what ASGI has no words for.

- Messages that wait for one client go out in one write, and what a whole room is sent is framed once.
- A ping of the WebSocket protocol can be sent, which every client answers by itself, browsers too; any sign of life is
  noticed, and whether the client said that it leaves.
- Frames that break the protocol end the socket with the code that RFC 6455 has for it (1002; 1007 for a text that is no
  UTF-8), rather than with a connection that is cut.
- Compression is declined. Nothing that is said here is long, and 64 KiB can unpack to 64 MiB before anybody asks for
  its size.

For all that this reaches through Quart into Hypercorn's stream (Hypercorn is pinned to a minor version, and a test
holds this module to it); under another server it falls back on what ASGI has.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Generator, Sequence
from functools import lru_cache
from typing import Any

from hypercorn.protocol.events import Data, StreamClosed
from hypercorn.protocol.ws_stream import ASGIWebsocketState, WSStream
from quart import websocket
from wsproto.connection import ConnectionState
from wsproto.events import CloseConnection, Event, Message

from syndarix_rt.server.below import WRITE_BYTES

__all__ = ["Wire", "accept", "frame"]

_SHORT, _MEDIUM = 126, 1 << 16
_PING = b"\x89\x00"


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


async def accept(subprotocol: str) -> None:
    """Take the present upgrade, without extensions."""
    stream = _stream()
    if stream is not None:
        stream.handshake.extensions = None
    await websocket.accept(subprotocol=subprotocol)


class Wire:
    """The way to the client of the present WebSocket.

    Args:
        too_large: called when a message is larger than Hypercorn takes; it has been answered with 1009, and nothing
            that comes is read any more.

    Attributes:
        heard_s: when anything came from the client, monotonic clock.
    """

    def __init__(self, too_large: Callable[[], None]) -> None:
        self.heard_s = time.monotonic()
        self._too_large = too_large
        self._broken: CloseConnection | None = None
        self._ended = asyncio.Event()
        self._stream = _stream()
        if self._stream is not None:
            self._attach(self._stream)

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

    async def ended(self) -> None:
        """Wait until the client has answered our close frame, or is gone.

        Whoever cuts the connection before that may take back what the client has not read yet, the close frame too.
        """
        if self._stream is not None:
            await self._ended.wait()

    def _attach(self, stream: WSStream) -> None:
        connection, handle, send = stream.connection, stream.handle, stream.send
        events = connection.events

        def read() -> Generator[Event, None, None]:
            for event in events():
                if isinstance(event, Message) and connection.state is not ConnectionState.OPEN:
                    continue  # we have closed; what comes nevertheless would only be kept
                if isinstance(event, CloseConnection) and connection.state is ConnectionState.OPEN:
                    self._broken = event  # no close frame of the client's: wsproto could not read on
                yield event

        async def hear(event: Any) -> None:
            self.heard_s = time.monotonic()
            await handle(event)
            if connection.state is ConnectionState.LOCAL_CLOSING and stream.state is ASGIWebsocketState.CONNECTED:
                self._too_large()
            if stream.closed or connection.state is ConnectionState.CLOSED:
                self._ended.set()

        async def tell(event: Any) -> None:
            broken = self._broken
            if isinstance(event, StreamClosed) and broken and connection.state is ConnectionState.OPEN:
                # Hypercorn would hang up without a word.
                data = connection.send(CloseConnection(code=broken.code, reason=broken.reason))
                await send(Data(stream_id=stream.stream_id, data=data))
            await send(event)

        connection.events = read  # type: ignore[method-assign]
        stream.handle = hear  # type: ignore[method-assign]
        stream.send = tell
