"""What is below ASGI's ``send()`` in Hypercorn, for what ASGI has no words for.

How much waits for the client, writing without the layers in between, and giving up a client that takes nothing.
Hypercorn is pinned to a minor version, and tests hold this module to it; under another server there is nothing below.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Coroutine
from contextlib import suppress
from importlib import metadata
from typing import Any

import h2.errors
import h2.exceptions
import h11
from hypercorn.asyncio.tcp_server import TCPServer
from hypercorn.asyncio.worker_context import WorkerContext
from hypercorn.config import Config
from hypercorn.protocol.h2 import H2Protocol
from hypercorn.protocol.h11 import H11Protocol
from hypercorn.protocol.http_stream import HTTPStream
from hypercorn.typing import ConnectionState

__all__ = ["WRITE_BYTES", "Connection", "Multiplexed", "below", "told", "unlike"]

WRITE_BYTES = 64 * 1024
"""Written at once: as much as a slow client's socket is asked to take before others have their turn."""


class Connection:
    """An HTTP/1.1 connection, which is one response's alone.

    Attributes:
        transport: what it writes to …
        descriptor: … and that of its socket, where the transport would write the same bytes to it; -1: it would not.
            To be written to only while the transport is not lost, and has nothing to send itself.
    """

    __slots__ = ("_protocol", "_writer", "descriptor", "transport")

    def __init__(self, protocol: H11Protocol, writer: asyncio.StreamWriter) -> None:
        self._protocol = protocol
        self._writer = writer
        self.transport = transport = writer.transport
        socket, encrypts = transport.get_extra_info("socket"), transport.get_extra_info("sslcontext") is not None
        # Windows has no descriptors of sockets.
        self.descriptor = -1 if socket is None or encrypts or sys.platform == "win32" else socket.fileno()

    def watch(self, closing: Callable[[], None]) -> None:
        """Call this once the connection is lost, before its socket is closed; until `release`.

        asyncio and uvloop tell the protocol in the very callback that closes the socket, and before it: nothing else
        tells in time, as the next socket to be opened gets the same descriptor.
        """
        protocol: Any = self.transport.get_protocol()
        tell = protocol.connection_lost

        def connection_lost(error: Exception | None) -> None:
            del protocol.connection_lost
            closing()
            tell(error)

        protocol.connection_lost = connection_lost

    @property
    def waiting_bytes(self) -> int:
        """What its socket has not yet taken."""
        return self.transport.get_write_buffer_size()

    async def drain(self) -> None:
        """Return when it has taken most."""
        await self._writer.drain()

    def abort(self) -> None:
        """Drop it, and what waits."""
        if self.transport.get_protocol() is not None:  # asyncio's fails where a transport is lost after its last write
            self.transport.abort()

    def release(self) -> None:
        """Do not watch it any more, and let Hypercorn forget a connection whose client has left.

        After a pipelined request it waits for the response's end before it reads on, also of a response that has none
        any more.
        """
        if (watched := self.transport.get_protocol()) is not None:  # else it is lost, and was told
            vars(watched).pop("connection_lost", None)
        if self.transport.is_closing():
            self._protocol.connection = h11.Connection(h11.SERVER)  # without the request that waits
            _spawn(self._protocol.can_read.set())


class Multiplexed:
    """One stream of an HTTP/2 connection.

    Hypercorn does not hold back who writes to a client that has closed its window: what waits there is for us to bound.
    """

    __slots__ = ("_protocol", "_stream_id")

    def __init__(self, protocol: H2Protocol, stream_id: int) -> None:
        self._protocol = protocol
        self._stream_id = stream_id

    @property
    def waiting_bytes(self) -> int:
        """What the client has not yet made room for."""
        buffer = self._protocol.stream_buffers.get(self._stream_id)
        return len(buffer.buffer) if buffer is not None else 0

    async def drain(self) -> None:
        """Return when it has taken all."""
        buffer = self._protocol.stream_buffers.get(self._stream_id)
        if buffer is not None:
            await buffer.drain()

    def abort(self) -> None:
        """Tell the client that this stream is over, and drop what waits."""
        with suppress(h2.exceptions.ProtocolError):  # it is over already
            self._protocol.connection.reset_stream(self._stream_id, h2.errors.ErrorCodes.CANCEL)
            _spawn(self._flush())

    async def _flush(self) -> None:
        protocol = self._protocol
        await protocol._window_updated(self._stream_id)  # noqa: SLF001 - its sender looks at the stream, and drops it
        await protocol._flush()  # noqa: SLF001

    def release(self) -> None:
        """Hypercorn forgets a stream by itself."""


def below(send: Any) -> Connection | Multiplexed | None:
    """What Hypercorn writes to below a ``send``; None below anything else."""
    stream = getattr(send, "__self__", None)
    protocol = getattr(getattr(stream, "send", None), "__self__", None)
    if isinstance(protocol, H2Protocol) and isinstance(stream, HTTPStream):
        return Multiplexed(protocol, stream.stream_id)
    if isinstance(protocol, H11Protocol):
        writer = getattr(getattr(protocol.send, "__self__", None), "writer", None)
        return Connection(protocol, writer) if isinstance(writer, asyncio.StreamWriter) else None
    return None


class _Nowhere(asyncio.Transport):
    """Where nothing is sent."""

    def is_closing(self) -> bool:
        return True


def unlike() -> str:
    """Try on a connection that leads nowhere whether `below` finds what it needs in the Hypercorn that is installed.

    Returns:
        What it did not find; empty if all is as it should be.
    """
    loop, config = asyncio.get_running_loop(), Config()
    transport = _Nowhere()
    reader = asyncio.StreamReader()
    writer = asyncio.StreamWriter(transport, asyncio.StreamReaderProtocol(reader), reader, loop)
    nothing: Any = None
    try:
        server = TCPServer(nothing, loop, config, WorkerContext(None), nothing, reader, writer)
        about: dict[str, Any] = {"app": None, "config": config, "context": server.context, "task_group": None}
        about |= {"ssl": False, "client": None, "server": None}
        protocol = H11Protocol(**about, connection_state=ConnectionState({}), send=server.protocol_send)
        found = below(HTTPStream(**about, send=protocol.stream_send, stream_id=1).app_send)
    except (AttributeError, TypeError) as error:
        return str(error)
    return "" if isinstance(found, Connection) and found.transport is transport else "the way to the transport"


def told(*, fast_path: bool, tls: bool = False) -> str:
    """For people: which way event streams take from here to their clients, and why. Within a running loop.

    Args:
        fast_path: whether they may be written straight to their connections.
        tls: whether clients may speak HTTP/2.
    """
    if not fast_path:
        return "event streams go through ASGI: the fast path is switched off"
    if reason := unlike():
        version = metadata.version("hypercorn")
        return f"event streams go through ASGI: Hypercorn {version} is not what the fast path is made for ({reason})"
    return "event streams go straight to their connections" + (", over HTTP/2 through ASGI" if tls else "")


_running: set[asyncio.Task[None]] = set()


def _spawn(work: Coroutine[Any, Any, None]) -> None:
    task = asyncio.get_running_loop().create_task(work)
    _running.add(task)
    task.add_done_callback(_running.discard)
