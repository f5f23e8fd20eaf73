"""The Redis that holds the logs: whether it answers, takes events, and keeps them."""

# ruff: noqa: PLC0415 - what a command needs is loaded when it runs; see serving.py

from __future__ import annotations

import secrets
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from datetime import UTC, datetime
from statistics import median
from typing import TYPE_CHECKING

from syndarix_rt.cli.doctor.finding import PROJECT, Finding, good, mend
from syndarix_rt.errors import BrokerError, SyndarixError

if TYPE_CHECKING:
    from syndarix_rt.broker import Broker

__all__ = ["findings"]

ROUNDS = 5
MIN_VERSION = 7


async def findings(url: str | None, namespace: str) -> AsyncIterator[Finding]:
    """Ask it, and store an event.

    Args:
        url: None for the embedded one.
        namespace: of the names in it.
    """
    from syndarix_rt.broker import MemoryBroker
    from syndarix_rt.broker.factory import durability_warnings, open_broker, redis_facts, without_credentials

    place = f"at {without_credentials(url)}" if url else "embedded"
    try:
        broker = await open_broker(url, namespace=namespace)
    except (SyndarixError, OSError) as error:
        yield mend("redis", f"{place}: {error}")
        return
    try:
        if isinstance(broker, MemoryBroker):
            yield good("redis", "none: events are kept in the server's process, and end with it")
            return
        delay = f"{await _median_ms(broker.ping):.1f} ms away"
        facts = next(iter((await redis_facts(broker)).values()), {})  # the masters of a cluster are much alike
        if facts:
            yield _version(facts, f"{place}, {delay}")
        else:
            yield good("redis", f"{place}, {delay}; this user may not ask for its version and durability")
        yield await _storing(broker)
        warnings = await durability_warnings(broker)
        for warning in warnings:
            yield mend("redis", warning)
        if facts and not warnings:
            yield good("redis", "writes an append-only file, and evicts nothing")
    except BrokerError as error:
        yield mend("redis", str(error))
    finally:
        await broker.aclose()


async def _median_ms(ask: Callable[[], Awaitable[object]]) -> float:
    delays_s = []
    for _ in range(ROUNDS):
        began_s = time.perf_counter()
        await ask()
        delays_s.append(time.perf_counter() - began_s)
    return median(delays_s) * 1e3


def _version(facts: Mapping[str, str], where: str) -> Finding:
    name = "Valkey" if "valkey_version" in facts else "Redis"
    version = facts.get("valkey_version") or facts["redis_version"]
    text = f"{name} {version} {where}, {facts['used_memory_human']} used"
    if int(version.partition(".")[0]) < MIN_VERSION:
        return mend("redis", f"{text}; version {MIN_VERSION} or later is needed")
    return good("redis", text)


async def _storing(broker: Broker) -> Finding:
    """A replica, a user without permissions and a full memory answer, too; the last takes the first event of a log."""
    from syndarix_rt.broker.protocol import project_channel
    from syndarix_rt.events import Event

    channel = project_channel(PROJECT)
    event = Event.new("doctor_checked", {}, project=PROJECT, id=secrets.token_hex(8), time=datetime.now(UTC))
    try:
        delay_ms = await _median_ms(lambda: broker.publish(channel, [event.encode()]))
        await broker.reset(channel)
    except BrokerError as error:
        return mend("redis", f"takes no events: {error}")
    return good("redis", f"takes events, {delay_ms:.1f} ms each")
