"""Connections are counted where they come in: also those that never say a word, or only half of one.

Hypercorn has no limit on them, and no place for one, so its server of a connection is replaced by one that asks first.
A connection too many is answered once its request has come, for a client that had its answer before it asked may take
it for a fault. That, too, is bounded: of those, only some at a time, and the rest are cut.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Any

import hypercorn.asyncio.run
from hypercorn.asyncio.tcp_server import TCPServer
from hypercorn.config import Config

from syndarix_rt.server.limits import Limits, client_of
from syndarix_rt.server.problems import Problem

__all__ = ["HANDSHAKE_S", "BoundedConfig", "install"]

ANSWERING = 64
"""Connections too many that are told so at a time; they take descriptors, of which there are few by then."""

ANSWER_S = 1.0
"""So long one of them may take to send its request, and again to take the answer."""

HANDSHAKE_S = 5
"""A TLS handshake takes no longer: until it is done, Hypercorn tells nobody of the connection."""

MAX_HEAD_BYTES = 64 * 1024


class BoundedConfig(Config):
    """Hypercorn's, which its server of a connection is given.

    Attributes:
        limits: of the process.
        answering: connections that are being turned away.
    """

    limits: Limits
    answering: int = 0


class _Server(TCPServer):
    async def run(self) -> None:
        config = self.config
        if not isinstance(config, BoundedConfig):  # somebody else's server in this process
            await super().run()
            return
        peer: Any = self.writer.get_extra_info("peername")
        client = client_of(peer[0]) if peer else ""
        quota = config.limits.connections
        try:
            quota.take(client)
        except Problem as problem:
            await self._turn_away(config, problem)
            return
        try:
            await super().run()
        finally:
            quota.give(client)

    async def _turn_away(self, config: BoundedConfig, problem: Problem) -> None:
        is_h2 = (tls := self.writer.get_extra_info("ssl_object")) is not None and tls.selected_alpn_protocol() == "h2"
        if config.answering >= ANSWERING or is_h2:
            self.writer.transport.abort()
            return
        config.answering += 1
        try:
            with suppress(TimeoutError, OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
                async with asyncio.timeout(ANSWER_S):
                    await self.reader.readuntil(b"\r\n\r\n")
                self.writer.write(problem.as_http())
                async with asyncio.timeout(ANSWER_S):
                    await self.writer.drain()
                    if self.writer.can_write_eof():
                        self.writer.write_eof()
                    while await self.reader.read(MAX_HEAD_BYTES):  # closed before all is read, it would be reset
                        pass
        finally:
            config.answering -= 1
            self.writer.transport.abort()


def install() -> None:
    """Let Hypercorn ask."""
    hypercorn.asyncio.run.TCPServer = _Server  # type: ignore[attr-defined]  # imported there, not exported
