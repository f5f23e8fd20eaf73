"""One Redis server as `RedisBroker` sees it: scripts and commands over a pool, and single connections for Pub/Sub.

Of a cluster it is one node, see ``cluster.py``. Nothing is sent twice on its own
account: a caller who gets `BrokerUnavailable` decides.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any
from urllib.parse import unquote, urlsplit

import redis.exceptions as errors
from hiredis import pack_command
from redis.asyncio import Connection, ConnectionPool
from redis.asyncio import SSLConnection as RedisSSLConnection
from redis.asyncio.connection import RedisSSLContext
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.maint_notifications import MaintNotificationsConfig

from syndarix_rt.broker.inlet import Line
from syndarix_rt.broker.scripts import Script
from syndarix_rt.broker.tls import SSLConnection, check, reason_of, suspicion
from syndarix_rt.errors import BrokerError, BrokerUnavailable, SyndarixError

__all__ = ["PERMISSIONS", "Command", "Endpoint", "Resolve", "place_of"]

Resolve = Callable[[], Awaitable[str]]
"""Gives the server's URL anew; asked before each reconnect, may take some seconds (and start the server meanwhile)."""

Command = tuple[str | bytes | int, ...]

COMMAND_S = 5.0
"""A command that takes longer is given up: a fsync of a slow disk takes 2 s, nobody waits 10 s for a publish."""

CONNECT_S = 2.0
"""Opening a connection: long for a network, and short enough that a restart is met by the next attempt."""

CONNECTIONS = 16
"""Most connections for commands. Redis does one thing at a time; more than a few in flight only wait there instead."""

PERMISSIONS = (
    "~srt:* &project:* &chat:* &control:* "
    "+@read +@write +@pubsub +@scripting +@connection -@dangerous +info +time +cluster|info +cluster|slots"
)
"""What a user of Redis must be permitted, in the words of ``ACL SETUSER``; of all names, those without a namespace."""

_TRANSIENT = (errors.OutOfMemoryError, errors.ReadOnlyError, errors.ClusterDownError, errors.TryAgainError)
"""Refusals that waiting or an operator mends: no memory, failing over."""

_TRANSIENT_CODES = ("BUSY ", "MISCONF ", "NOREPLICAS ")
"""The same, where redis-py has no class: a script that hangs, a full disk, too few replicas."""

_NO_PERMISSION_IN_SCRIPT = ("The user executing the script can't", "ACL failure in script")
"""What Redis 7.0 and later ones, and Valkey, say instead of NOPERM of a command in a script."""

_UVLOOP_CLOSED = "the handler is closed"
"""What uvloop says, as a mere `RuntimeError`, of a write to a connection that was reset a moment ago."""


class Endpoint:
    """Connections to one server.

    Args:
        url: ``redis://``, ``rediss://`` or ``unix://``; empty where only ``resolve`` knows.
        resolve: gives the URL anew when the server was lost.
        permissions: what the URL's user must be permitted.

    Raises:
        ValueError: an option in the URL's query is none, or names a file that is of no use.
    """

    def __init__(self, url: str, resolve: Resolve | None = None, *, permissions: str = PERMISSIONS) -> None:
        self._url = url
        self._permissions = permissions
        self._resolve = resolve
        self._lost = not url
        self._answered = False
        self._asking: asyncio.Task[None] | None = None
        self._closed = False
        self._connections, self._tls = _connections(url or "redis://")  # of nowhere: replaced before it is used
        self._idle: list[Line] = []
        self._slots = asyncio.Semaphore(CONNECTIONS)

    @property
    def place(self) -> str:
        """Where the server is, without credentials."""
        parts = urlsplit(self._url)
        return parts.path if parts.scheme == "unix" else f"{parts.hostname or 'localhost'}:{parts.port or 6379}"

    async def run(
        self, script: Script, keys: Sequence[str], args: Sequence[str | bytes | int], *, asking: bool = False
    ) -> Any:
        """Run a script; sends its text only where the server does not know it yet.

        Args:
            script: which one.
            keys: its keys.
            args: its other arguments.
            asking: the keys are on their way to this node of a cluster, and it was named by the one they come from.
        """
        how = (len(keys), *keys, *args)
        reply = await self._reply(("EVALSHA", script.sha, *how), asking=asking)
        if isinstance(reply, errors.NoScriptError):  # nothing has run, so this is no second try
            reply = await self._reply(("EVAL", script.text, *how), asking=asking)
        return self._accepted(reply)

    async def command(self, *args: str | bytes | int, asking: bool = False) -> Any:
        """Run one command; ``asking`` as for `run`."""
        return self._accepted(await self._reply(args, asking=asking))

    async def ping(self) -> None:
        """Return when it answers."""
        await self.command("PING")

    async def masters(self) -> list[Endpoint]:
        """All there are: this one."""
        return [self]

    async def pipeline(self, commands: Sequence[Command]) -> list[Any]:
        """Run commands in one round trip; an error stands in the place of its reply."""
        replies = await self._exchange(b"".join(map(_packed, commands)), len(commands))
        for reply in replies:
            if isinstance(reply, Exception) and not isinstance(reply, errors.ResponseError):
                self._accepted(reply)  # it concerns all of them: the server is starting, say
        return replies

    async def connect(self) -> Connection:
        """A connection of its own, to be disconnected by the caller."""
        await self._found()
        with self.translated():
            async with asyncio.timeout(CONNECT_S):
                return await self._open()

    async def aclose(self) -> None:
        """Close all connections."""
        self._closed = True
        if self._asking is not None:
            self._asking.cancel()
            await asyncio.gather(self._asking, return_exceptions=True)
        idle, self._idle = self._idle, []
        await asyncio.gather(*(line.aclose() for line in idle))

    async def _open(self) -> Connection:
        connection: Connection = self._connections.make_connection()  # type: ignore[no-untyped-call]  # redis-py leaves it untyped
        if isinstance(connection, SSLConnection):
            self._tls = connection.ssl_context = self._tls or connection.ssl_context
        try:
            await connection.connect()  # type: ignore[no-untyped-call]  # redis-py leaves it untyped
            if await connection.can_read():  # the server has closed it already, or says why it is about to
                await connection.read_response()
        except BaseException:
            await connection.disconnect(nowait=True)
            raise
        return connection

    async def _reply(self, command: Command, *, asking: bool) -> Any:
        """The reply to one command, which may be an error."""
        if not asking:
            return (await self._exchange(_packed(command), 1))[0]
        permitted, reply = await self._exchange(_ASKING + _packed(command), 2)
        return permitted if isinstance(permitted, Exception) else reply

    async def _exchange(self, packed: bytes, replies: int) -> list[Any]:
        """Send commands and return the replies; errors of Redis are among them."""
        if self._closed or self._lost:
            await self._found()
        slots = self._slots
        try:
            if slots.locked():
                async with asyncio.timeout(COMMAND_S):  # a limit of its own: who waits in line breaks no connection
                    await slots.acquire()
            else:
                await slots.acquire()
            try:
                return await self._ask_a_line(packed, replies)
            finally:
                slots.release()
        except Exception:
            with self.translated():
                raise

    async def _ask_a_line(self, packed: bytes, replies: int) -> list[Any]:
        line = self._idle.pop() if self._idle else None
        if line is not None and not line.is_free:  # the server has closed it meanwhile
            await self._drop_idle(line)
            line = None
        idle = self._idle
        if line is None:
            async with asyncio.timeout(COMMAND_S):
                line = Line(await self._open())
        try:
            found = await line.ask(packed, replies, COMMAND_S)
        except asyncio.CancelledError:  # whoever asked waits no more; connections of others are as good as before
            await line.disconnect()
            raise
        except BaseException:  # what broke it broke those that wait, too; each would cost a caller an error
            await self._drop_idle(line)
            raise
        self._answered = True
        if idle is self._idle and not self._closed:
            idle.append(line)
        else:
            await line.disconnect()
        return found

    async def _drop_idle(self, *more: Line) -> None:
        idle, self._idle = self._idle, []
        for line in (*more, *idle):
            await line.disconnect()

    def _accepted(self, reply: Any) -> Any:
        """A reply that is no error."""
        if isinstance(reply, Exception):
            with self.translated():
                raise reply
        return reply

    async def _found(self) -> None:
        """Where the server was lost, ask where it is; all who need to know wait for one answer."""
        if self._closed:
            raise BrokerError("this broker has been closed")
        if self._lost and self._resolve is not None:
            asking = self._asking = self._asking or asyncio.create_task(self._ask(self._resolve))
            try:
                await asyncio.shield(asking)
            except asyncio.CancelledError:
                if asking.cancelled():  # by aclose(), not by whoever waits here
                    raise BrokerError("this broker has been closed") from None
                raise

    async def _ask(self, resolve: Resolve) -> None:
        try:
            url = await resolve()
            if url != self._url:
                self._connections, self._tls = _connections(url)
                self._url = url
                await self._drop_idle()
            self._lost = False
        except (SyndarixError, OSError, ValueError) as error:
            if isinstance(error, BrokerError) and not isinstance(error, BrokerUnavailable):
                raise  # waiting mends no password
            raise BrokerUnavailable(f"no Redis server can be had: {error}") from error
        finally:
            self._asking = None

    @contextmanager
    def translated(self) -> Iterator[None]:
        """Errors of redis-py and the network become ours; after those of a connection, the URL is asked for anew."""
        try:
            yield
        except (errors.AuthenticationError, errors.AuthorizationError) as error:
            raise BrokerError(f"Redis at {self.place} refuses these credentials: {error}") from error
        except (errors.ConnectionError, errors.TimeoutError, OSError, TimeoutError) as error:
            self._lost = True
            self._tls = None  # its files may have been renewed
            reason = reason_of(error) or str(error) or "no answer in time"
            if not self._answered:
                reason += suspicion(error, self._url)
            raise BrokerUnavailable(f"Redis at {self.place} cannot be reached: {reason}") from error
        except errors.AskError as error:
            raise BrokerError(
                f"Redis at {self.place} is a node of a cluster: give it as redis+cluster://{self.place}"
            ) from error
        except RuntimeError as error:
            if _UVLOOP_CLOSED not in str(error):
                raise
            self._lost = True
            raise BrokerUnavailable(f"Redis at {self.place} has closed the connection") from error
        except errors.RedisError as error:
            if isinstance(error, errors.NoPermissionError) or str(error).startswith(_NO_PERMISSION_IN_SCRIPT):
                user = unquote(urlsplit(self._url).username or "default")
                raise BrokerError(
                    f"Redis at {self.place} does not permit its user {user!r} all that is needed ({error}): "
                    f"ACL SETUSER {user} {self._permissions}"
                ) from error
            if isinstance(error, errors.ReadOnlyError):
                self._lost = True  # another one may be the master now
            if isinstance(error, _TRANSIENT) or str(error).startswith(_TRANSIENT_CODES):
                raise BrokerUnavailable(f"Redis at {self.place} cannot do it now: {error}") from error
            raise BrokerError(f"Redis at {self.place} refused: {error}") from error


def place_of(text: str, port: int = 6379) -> tuple[str, int]:
    """Host and port of ``HOST``, ``HOST:PORT`` or ``[IPv6]:PORT``."""
    parts = urlsplit(f"//{text}")
    return parts.hostname or "localhost", parts.port or port


def _packed(command: Command) -> bytes:
    packed: bytes = pack_command(command)  # type: ignore[arg-type]  # its stub says a tuple of one element
    return packed


_ASKING = _packed(("ASKING",))


def _connections(url: str) -> tuple[ConnectionPool, RedisSSLContext | None]:
    """What makes connections, and their context for TLS.

    As a pool it is not used, since its bookkeeping takes as long as a short command.
    """
    connections = ConnectionPool.from_url(
        url,
        protocol=2,  # replies of scripts are arrays and strings; RESP3 adds nothing but pushes between them
        socket_timeout=None,  # the limit is set around the whole command, once
        socket_connect_timeout=CONNECT_S,
        retry=Retry(NoBackoff(), 0),  # the default tries ten times, so a batch could be added twice
        maint_notifications_config=MaintNotificationsConfig(enabled=False),
    )
    if connections.connection_class is RedisSSLConnection:
        connections.connection_class = SSLConnection
    connections.connection_kwargs["health_check_interval"] = 0  # it would wait for replies that another reads
    return connections, check(connections, url)
