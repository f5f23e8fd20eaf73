"""`Link`: a TCP proxy that breaks connections on purpose.

Each subscriber has a link of its own to the servers, and each server one to Redis, so a fault has one victim.
"""

from __future__ import annotations

import asyncio
import random
import socket
import struct
from collections.abc import Callable, Sequence
from contextlib import suppress
from types import TracebackType
from typing import Protocol, Self

__all__ = ["Link", "Tamper"]

CHUNK_BYTES = 65_536
CONNECT_S = 2.0
"""For a target on the same machine to accept; one that is being started again refuses at once."""

_RESET = struct.pack("ii", 1, 0)  # linger for no time: the kernel drops what is unsent and sends RST


class Tamper(Protocol):
    """Changes what passes, on one connection."""

    def up(self, data: bytes) -> bytes:
        """What goes to the target instead."""
        ...

    def down(self, data: bytes) -> bytes:
        """What comes from the target instead."""
        ...


class _Connection:
    def __init__(self, near: asyncio.StreamWriter, far: asyncio.StreamWriter) -> None:
        self.near = near
        self.far = far
        self.dead = False
        """Neither side learns anything of the other any more."""

    def reset(self) -> None:
        """End it with a reset, not with an orderly end, on both sides."""
        for writer in (self.near, self.far):
            with suppress(OSError):  # it is closed already
                writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        self.abort()

    def abort(self) -> None:
        """End it."""
        for writer in (self.near, self.far):
            writer.transport.abort()


class Link:
    """A proxy on a loopback port.

    Args:
        targets: gives the ports that it may lead to; each connection takes one at random, the next if it refuses.
        rng: makes that choice.
        tamper: makes what changes the bytes of a connection; None: they pass as they are.

    Attributes:
        port: where it listens, once it was entered.
        delay_s: how long each piece is held back.
        piece_bytes: largest piece that is passed on at once; 0: as they come.
    """

    def __init__(
        self, targets: Callable[[], Sequence[int]], rng: random.Random, tamper: Callable[[], Tamper] | None = None
    ) -> None:
        self.port = 0
        self.delay_s = 0.0
        self.piece_bytes = 0
        self._targets = targets
        self._rng = rng
        self._tamper = tamper
        self._flows = asyncio.Event()
        self._flows.set()
        self._connections: set[_Connection] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0, limit=CHUNK_BYTES)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._server is not None
        self._server.close()
        self.cut()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    # ---- faults -----------------------------------------------------------------------------------------------------

    def cut(self) -> None:
        """Reset all connections, as a lost Wi-Fi or a crashed proxy does."""
        for connection in list(self._connections):
            connection.reset()

    def half_open(self) -> None:
        """Let all connections that there are fall silent without an end: both sides believe that they stand."""
        for connection in self._connections:
            connection.dead = True

    def stall(self) -> None:
        """Take nothing from the target any more, so that its buffers fill."""
        self._flows.clear()

    def heal(self) -> None:
        """Pass on everything at once again; what is half open stays so."""
        self.delay_s = 0.0
        self.piece_bytes = 0
        self._flows.set()

    # ---- bytes ------------------------------------------------------------------------------------------------------

    def _accept(self, reader: asyncio.StreamReader, near: asyncio.StreamWriter) -> None:
        # A task of ours: of its own ones asyncio reports the cancellation as an error.
        task = asyncio.create_task(self._serve(reader, near))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _serve(self, reader: asyncio.StreamReader, near: asyncio.StreamWriter) -> None:
        try:
            with suppress(OSError, TimeoutError):
                await self._carry(reader, near)
        finally:
            near.transport.abort()

    async def _carry(self, reader: asyncio.StreamReader, near: asyncio.StreamWriter) -> None:
        target, far = await self._connect()
        connection = _Connection(near, far)
        self._connections.add(connection)
        tamper = self._tamper() if self._tamper else None
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._up(reader, connection, tamper))
                group.create_task(self._down(target, connection, tamper))
        except* OSError:
            pass
        finally:
            self._connections.discard(connection)
            connection.abort()

    async def _connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        ports = list(self._targets())
        self._rng.shuffle(ports)
        for port in ports:
            with suppress(OSError, TimeoutError):
                async with asyncio.timeout(CONNECT_S):
                    return await asyncio.open_connection("127.0.0.1", port, limit=CHUNK_BYTES)
        raise ConnectionRefusedError

    async def _up(self, reader: asyncio.StreamReader, connection: _Connection, tamper: Tamper | None) -> None:
        while data := await reader.read(CHUNK_BYTES):
            if not connection.dead:
                connection.far.write(tamper.up(data) if tamper else data)
                await connection.far.drain()
        if connection.dead:
            await asyncio.Event().wait()  # the other side does not learn of the end, either
        raise ConnectionAbortedError

    async def _down(self, reader: asyncio.StreamReader, connection: _Connection, tamper: Tamper | None) -> None:
        near = connection.near
        while True:
            await self._flows.wait()
            data = await reader.read(CHUNK_BYTES)
            if connection.dead:
                await asyncio.Event().wait()
            if not data:
                break
            await self._flows.wait()
            if self.delay_s:
                await asyncio.sleep(self.delay_s)
            if tamper:
                data = tamper.down(data)
            size = self.piece_bytes or max(1, len(data))
            for start in range(0, len(data), size):
                near.write(data[start : start + size])
                await near.drain()
                if self.piece_bytes:
                    await asyncio.sleep(0)  # so that the pieces leave one by one
        near.close()  # in order: what was written still arrives
        with suppress(OSError):
            await near.wait_closed()
        raise ConnectionAbortedError
