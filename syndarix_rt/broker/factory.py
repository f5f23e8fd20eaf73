"""Which broker: the Redis that was named, else the embedded one, else memory."""

from __future__ import annotations

import asyncio
import os
import re

from syndarix_rt.broker import cluster, sentinel
from syndarix_rt.broker.embedded import EmbeddedServer
from syndarix_rt.broker.memory import MemoryBroker
from syndarix_rt.broker.protocol import Broker, Retention
from syndarix_rt.broker.redis import RedisBroker
from syndarix_rt.errors import BrokerError, BrokerUnavailable, EmbeddedServerError

__all__ = ["broker_or_memory", "durability_warnings", "open_broker", "redis_facts", "without_credentials"]


async def open_broker(
    url: str | None = None,
    *,
    namespace: str = "",
    retention: Retention = Retention(),  # noqa: B008 - frozen
) -> Broker:
    """The broker to use; ``aclose()`` it at the end.

    Args:
        url: ``redis://``, ``rediss://`` or ``unix://`` for a Redis or Valkey server, ``redis+cluster://`` or
            ``redis+sentinel://`` (see `RedisBroker`), ``memory://`` for this process alone. Without one,
            ``SYNDARIX_RT_REDIS_URL``, else the user's embedded server, started if need be.
        namespace: put before every key and channel name of a Redis.
        retention: how much of each channel's log is kept.

    Raises:
        BrokerError: the URL is none of these.
        EmbeddedServerError: there is no URL and no embedded server for this machine; `broker_or_memory` then takes
            memory, which is right for a process that serves others.
    """
    url = url or os.environ.get("SYNDARIX_RT_REDIS_URL")
    if not url:
        server = await asyncio.to_thread(EmbeddedServer.acquire)
        return _EmbeddedBroker(server, namespace=namespace, retention=retention)
    scheme = url.partition("://")[0]
    if scheme == "memory":
        return MemoryBroker(retention=retention)
    if scheme not in {"redis", "rediss", "unix", *cluster.SCHEMES, *sentinel.SCHEMES}:
        raise BrokerError(
            f"{without_credentials(url)!r} is not the URL of a broker: redis://HOST:PORT, rediss://HOST:PORT (TLS), "
            "unix:///PATH, redis+cluster://HOST:PORT,HOST:PORT, redis+sentinel://HOST:PORT,HOST:PORT/NAME or memory://"
        )
    try:
        return RedisBroker(url, namespace=namespace, retention=retention)
    except ValueError as error:
        raise BrokerError(f"cannot use the broker's URL {without_credentials(url)!r}: {error}") from error


async def broker_or_memory(
    url: str | None = None,
    *,
    namespace: str = "",
    retention: Retention = Retention(),  # noqa: B008 - frozen
) -> tuple[Broker, str | None]:
    """The broker for a process that serves others over HTTP, and a line to print about it, if there is one to say.

    As `open_broker`, but where no Redis can be had it is a `MemoryBroker`; and a Redis that was named is asked whether
    it keeps what it is given.

    Raises:
        BrokerError: the URL is wrong, or its credentials are refused.
    """
    try:
        broker = await open_broker(url, namespace=namespace, retention=retention)
    except EmbeddedServerError as error:
        return MemoryBroker(retention=retention), (
            f"No Redis here, so events are kept in this process: publish over HTTP, history ends with it ({error})"
        )
    try:
        warnings = await durability_warnings(broker)
    except BrokerUnavailable as error:
        return broker, f"{error}; trying again until it answers"
    except BaseException:
        await broker.aclose()
        raise
    return broker, "; ".join(warnings) or None


async def durability_warnings(broker: Broker) -> list[str]:
    """What may lose events on a Redis given by URL: no append-only file, eviction. Empty for any other broker.

    Raises:
        BrokerUnavailable: it cannot be reached.
        BrokerError: it refuses the credentials.
    """
    if not isinstance(broker, RedisBroker) or isinstance(broker, _EmbeddedBroker):
        return []
    await broker.ping()
    warnings = []
    for place, facts in (await redis_facts(broker)).items():
        if facts.get("aof_enabled") == "0":
            warnings.append(
                f"Redis at {place} has no append-only file: a crash loses what its last snapshot has not "
                "(CONFIG SET appendonly yes)"
            )
        policy = facts.get("maxmemory_policy", "noeviction")
        if policy != "noeviction":
            warnings.append(
                f"Redis at {place} evicts when its memory is full (maxmemory-policy {policy}): whole logs can go "
                "(CONFIG SET maxmemory-policy noeviction)"
            )
    return warnings


async def redis_facts(broker: Broker) -> dict[str, dict[str, str]]:
    """What a Redis says of itself (``INFO`` on server, persistence and memory), by its place; a cluster, by master.

    Nothing of one that may not be asked.

    Raises:
        BrokerUnavailable: it cannot be reached.
    """
    found: dict[str, dict[str, str]] = {}
    if not isinstance(broker, RedisBroker):
        return found
    for server in await broker._endpoint.masters():  # noqa: SLF001 - of the same room; INFO is nobody else's need
        try:
            told = [await server.command("INFO", section) for section in ("server", "persistence", "memory")]
        except BrokerUnavailable:
            raise
        except BrokerError:
            continue  # a user that may not ask
        lines = b"\n".join(told).decode().splitlines()
        found[server.place] = {name: value for name, _, value in (line.partition(":") for line in lines) if value}
    return found


def without_credentials(url: str) -> str:
    """The URL for people and logs: without user, password, query and fragment, also where it is malformed."""
    scheme, mark, rest = url.partition("://")
    place = rest.rpartition("@")[2]  # the last one: a password may hold any character
    return scheme + mark + re.split(r"[?#]", place, maxsplit=1)[0]


class _EmbeddedBroker(RedisBroker):
    """On the embedded server, which it starts again when it finds it dead, and lets go of at the end."""

    def __init__(self, server: EmbeddedServer, *, namespace: str, retention: Retention) -> None:
        super().__init__(server.url, namespace=namespace, retention=retention, resolve=server.ensure_running)
        self._server = server

    async def aclose(self) -> None:
        """See `Broker.aclose`."""
        try:
            await super().aclose()
        finally:
            self._server.release()
