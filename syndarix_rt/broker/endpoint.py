"""One Redis server as `RedisBroker` sees it: scripts and commands over a pool, and single connections for Pub/Sub.

Whatever depends on there being one server is here and in ``subscriptions.py``. Nothing is sent twice on its own
account: a caller who gets `BrokerUnavailable` decides.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

import redis.exceptions as errors
from redis.asyncio import BlockingConnectionPool, Connection, Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.maint_notifications import MaintNotificationsConfig

from syndarix_rt.broker.scripts import Script
from syndarix_rt.errors import BrokerError, BrokerUnavailable, SyndarixError

__all__ = ["Endpoint", "Resolve"]

Resolve = Callable[[], Awaitable[str]]
"""Gives the server's URL anew; asked before each reconnect, may take some seconds (and start the server meanwhile)."""

COMMAND_S = 5.0
"""A command that takes longer is given up: a fsync of a slow disk takes 2 s, nobody waits 10 s for a publish."""

CONNECT_S = 2.0
"""Opening a connection: long for a network, and short enough that a restart is met by the next attempt."""

CONNECTIONS = 16
"""Most connections for commands. Redis does one thing at a time; more than a few in flight only wait there instead."""

_TRANSIENT = (errors.OutOfMemoryError, errors.ReadOnlyError, errors.ClusterDownError, errors.TryAgainError)
"""Refusals that waiting or an operator mends: no memory, failing over."""

_TRANSIENT_CODES = ("BUSY ", "MISCONF ", "NOREPLICAS ")
"""The same, where redis-py has no class: a script that hangs, a full disk, too few replicas."""


class Endpoint:
    """Connections to one server.

    Args:
        url: ``redis://``, ``rediss://`` or ``unix://``.
        resolve: gives the URL anew when the server was lost.
    """

    def __init__(self, url: str, resolve: Resolve | None = None) -> None:
        self._url = url
        self._resolve = resolve
        self._lost = False
        self._resolving = asyncio.Lock()
        self._closed = False
        self._redis = Redis(connection_pool=_pool(url))

    @property
    def place(self) -> str:
        """Where the server is, without credentials."""
        parts = urlsplit(self._url)
        return parts.path if parts.scheme == "unix" else f"{parts.hostname or 'localhost'}:{parts.port or 6379}"

    async def run(self, script: Script, keys: Sequence[str], args: Sequence[str | bytes | int]) -> Any:
        """Run a script; sends its text only where the server does not know it yet."""
        client = await self._client()
        with self._translated():
            async with asyncio.timeout(COMMAND_S):
                try:
                    return await client.execute_command("EVALSHA", script.sha, len(keys), *keys, *args)
                except errors.NoScriptError:  # nothing has run, so this is no second try
                    return await client.execute_command("EVAL", script.text, len(keys), *keys, *args)

    async def command(self, *args: str | bytes | int) -> Any:
        """Run one command."""
        client = await self._client()
        with self._translated():
            async with asyncio.timeout(COMMAND_S):
                return await client.execute_command(*args)

    async def pipeline(self, commands: Sequence[Sequence[str]]) -> list[Any]:
        """Run commands in one round trip; an error stands in the place of its reply."""
        client = await self._client()
        with self._translated():
            async with asyncio.timeout(COMMAND_S):
                pipeline = client.pipeline(transaction=False)
                for command in commands:
                    pipeline.execute_command(*command)
                replies: list[Any] = await pipeline.execute(raise_on_error=False)
                return replies

    async def connect(self) -> Connection:
        """A connection of its own, to be disconnected by the caller."""
        client = await self._client()
        connection: Connection = client.connection_pool.make_connection()
        with self._translated():
            await connection.connect()
        return connection

    def lost(self) -> None:
        """Say that a connection broke: the URL is resolved anew before the next use."""
        self._lost = True

    async def aclose(self) -> None:
        """Close all connections."""
        self._closed = True
        await self._redis.connection_pool.aclose()

    async def _client(self) -> Redis:
        if self._closed:
            raise BrokerError("this broker has been closed")
        if self._lost and self._resolve is not None:
            async with self._resolving:
                if self._lost:
                    try:
                        url = await self._resolve()
                    except (SyndarixError, OSError) as error:
                        raise BrokerUnavailable(f"no Redis server can be had: {error}") from error
                    if url != self._url:
                        await self._redis.connection_pool.aclose()
                        self._url = url
                        self._redis = Redis(connection_pool=_pool(url))
                    self._lost = False
        return self._redis

    @contextmanager
    def _translated(self) -> Iterator[None]:
        """Errors of redis-py and the network become ours."""
        try:
            yield
        except (errors.AuthenticationError, errors.AuthorizationError, errors.NoPermissionError) as error:
            raise BrokerError(f"Redis at {self.place} refuses these credentials: {error}") from error
        except (errors.ConnectionError, errors.TimeoutError, OSError, TimeoutError) as error:
            self._lost = True
            reason = str(error) or f"no answer within {COMMAND_S:g} s"
            raise BrokerUnavailable(f"Redis at {self.place} cannot be reached: {reason}") from error
        except errors.RedisError as error:
            if isinstance(error, _TRANSIENT) or str(error).startswith(_TRANSIENT_CODES):
                raise BrokerUnavailable(f"Redis at {self.place} cannot do it now: {error}") from error
            raise BrokerError(f"Redis at {self.place} refused: {error}") from error


def _pool(url: str) -> BlockingConnectionPool:
    return BlockingConnectionPool.from_url(
        url,
        max_connections=CONNECTIONS,
        timeout=COMMAND_S,
        protocol=2,  # replies of scripts are arrays and strings; RESP3 adds nothing but pushes between them
        socket_timeout=None,  # the limit is set around the whole command, once
        socket_connect_timeout=CONNECT_S,
        retry=Retry(NoBackoff(), 0),  # the default tries ten times, so a batch could be added twice
        maint_notifications_config=MaintNotificationsConfig(enabled=False),
    )
