"""What an event costs Redis: to keep it, and to tell each server process that follows its project.

python benchmarks/bench_broker.py [--json FILE]

Redis' own CPU time, by how many events are published at once and how many processes follow; of 300 bytes each. From
these come the constants of model_scaling.py: what grows with the followers is a copy, the rest is keeping it.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import secrets
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psutil
import redis

from syndarix_rt.benchmark import candidate, machine
from syndarix_rt.benchmark.offer import event
from syndarix_rt.broker import RedisBroker
from syndarix_rt.broker.protocol import project_channel

CHANNEL = project_channel("p0")
FOLLOWERS = (0, 10, 100)
EVENTS = {100: 40_000, 1: 5_000}  # published at once: events in all
LATE_S = 30


class Follower(asyncio.Protocol):
    """Takes what is announced, as a server process does, and looks at nothing."""

    def __init__(self) -> None:
        self.size_bytes = 0

    def connection_made(self, transport: Any) -> None:
        transport.write(f"SUBSCRIBE {CHANNEL}\r\n".encode())

    def data_received(self, data: bytes) -> None:
        self.size_bytes += len(data)


async def arrived(following: list[tuple[Any, Follower]], events: int) -> None:
    async with asyncio.timeout(LATE_S):
        while any(follower.size_bytes < 300 * events for _, follower in following):  # noqa: ASYNC110 - in many places
            await asyncio.sleep(0.02)


async def cost_us(url: str, server: psutil.Process, followers: int, batch: int) -> float:
    """Redis' CPU time an event."""
    loop, at = asyncio.get_running_loop(), urlsplit(url)
    broker, producer = RedisBroker(url), secrets.token_urlsafe(8)
    following = [await loop.create_connection(Follower, at.hostname, at.port) for _ in range(followers)]

    async def publish(events: int, sequence: int) -> int:
        for first in range(0, events, batch):
            sequence += 1
            entries = [event("p0", first + n, 300) for n in range(batch)]
            await broker.publish(CHANNEL, entries, producer=producer, sequence=sequence)
        return sequence

    try:
        sequence = await publish(10 * batch, 0)  # scripts are loaded, followers are there
        await arrived(following, 10 * batch)
        before, events = sum(server.cpu_times()[:2]), EVENTS[batch]
        await publish(events, sequence)
        await arrived(following, 10 * batch + events)  # a copy that still waits is not paid for yet
        return (sum(server.cpu_times()[:2]) - before) / events * 1e6
    finally:
        for transport, _ in following:
            transport.abort()
        await broker.aclose()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, metavar="FILE")
    options = parser.parse_args()
    found = {}
    with candidate.private_redis() as url:
        with redis.Redis.from_url(url) as client:
            server = psutil.Process(client.info("server")["process_id"])
        for batch in EVENTS:
            costs = {count: asyncio.run(cost_us(url, server, count, batch)) for count in FOLLOWERS}
            copy_us = (costs[max(FOLLOWERS)] - costs[0]) / max(FOLLOWERS)
            found[batch] = {"keep_us": costs[0], "copy_us": copy_us, "by_followers": costs}
            words = ", ".join(f"{count} follow: {cost:.2f} µs" for count, cost in costs.items())
            print(f"{batch} at once: {words}; a copy {copy_us:.2f} µs")
    if options.json:
        options.json.write_text(json.dumps({"machine": machine.describe()} | found, indent=1))


if __name__ == "__main__":
    main()
