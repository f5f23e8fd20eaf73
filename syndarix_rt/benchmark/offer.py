"""A publisher in a process of its own that keeps to its schedule, so that a server's queueing shows as latency.

``python -m syndarix_rt.benchmark.offer --redis-url URL --rate 100 --events 500 [...]``

It publishes straight into Redis, as a simulation does, events of a size that is given. What they say of their time is
just before they are sent.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import math
import secrets
import time
from collections.abc import Awaitable, Callable, Sequence

from syndarix_rt.benchmark.candidate import loop_factory
from syndarix_rt.broker import RedisBroker
from syndarix_rt.broker.protocol import project_channel

__all__ = ["event", "keep_pace", "padded"]

_TICK_S = 0.005
"""Shortest time between two batches: at high rates a few events go together, as they do from any busy publisher."""

_MOST = 1_000
"""Events in a batch, the broker's limit."""

_PADDING = b"." * 65_536


def padded(head: bytes, tail: bytes, size_bytes: int) -> bytes:
    """Something of ``size_bytes``, if what stands around the padding is not more."""
    return head + _PADDING[: max(0, size_bytes - len(head) - len(tail))] + tail


async def keep_pace(send: Callable[[range], Awaitable[None]], rate: float, total: int) -> float:
    """Send what is due, ``total`` in all; the time that it took, seconds.

    Args:
        send: is given the numbers of the events that are due.
        rate: events a second; infinite: as fast as ``send`` takes them.
        total: events.
    """
    began_s, sent = time.monotonic(), 0
    while sent < total:
        passed_s = time.monotonic() - began_s
        due = total if math.isinf(rate) else min(total, int(passed_s * rate) + 1)
        while sent < due:
            batch = range(sent, min(due, sent + _MOST))
            await send(batch)
            sent = batch.stop
        await asyncio.sleep(0 if math.isinf(rate) else max(_TICK_S, began_s + sent / rate - time.monotonic()))
    return time.monotonic() - began_s


def event(project: str, number: int, size_bytes: int) -> bytes:
    """One encoded event of a type of its own, with ``seq`` from 1 and ``sent_ns``."""
    head = (
        f'{{"specversion":"1.0","id":"e{number}","source":"/benchmark","type":"benchmark_tick",'
        f'"time":"2026-01-01T00:00:00.000000Z","project":"{project}",'
        f'"data":{{"seq":{number + 1},"sent_ns":{time.time_ns()},"pad":"'
    )
    return padded(head.encode(), b'"}}', size_bytes)


async def _offer(options: argparse.Namespace) -> dict[str, float]:
    broker = RedisBroker(options.redis_url)
    names = [options.project.replace("%d", str(number)) for number in range(options.projects)]
    producer, sequences = secrets.token_urlsafe(8), dict.fromkeys(names, 0)
    size_bytes, spread = options.bytes, options.projects

    async def publish(name: str, numbers: Sequence[int]) -> None:
        sequences[name] += 1
        batch = [event(name, number // spread, size_bytes) for number in numbers]
        await broker.publish(project_channel(name), batch, producer=producer, sequence=sequences[name])

    async def send(due: range) -> None:
        if spread == 1:
            for start in range(due.start, due.stop, options.batch):
                await publish(names[0], range(start, min(start + options.batch, due.stop)))
            return
        whose: dict[int, list[int]] = {}
        for number in due:
            whose.setdefault(number % spread, []).append(number)
        await asyncio.gather(*(publish(names[index], numbers) for index, numbers in whose.items()))

    try:
        await broker.ping()  # or the first event would be late by the time that connecting takes
        took_s = await keep_pace(send, options.rate, options.events)
    finally:
        await broker.aclose()
    return {"events": options.events, "took_s": took_s}


def main() -> None:
    """Read the options, publish, print how long it took."""
    parser = argparse.ArgumentParser(prog="syndarix_rt.benchmark.offer")
    parser.add_argument("--redis-url", required=True)
    parser.add_argument("--project", default="p%d", help="%%d in it becomes the project's number")
    parser.add_argument("--projects", type=int, default=1)
    parser.add_argument("--rate", type=float, required=True, help="events a second in all; inf: as fast as it goes")
    parser.add_argument("--events", type=int, required=True)
    parser.add_argument("--batch", type=int, default=_MOST, help="most events published at once")
    parser.add_argument("--bytes", type=int, default=300, help="of an encoded event")
    options = parser.parse_args()
    with asyncio.Runner(loop_factory=loop_factory()) as runner:
        print(json.dumps(runner.run(_offer(options))))  # noqa: T201 - its output


if __name__ == "__main__":
    main()
