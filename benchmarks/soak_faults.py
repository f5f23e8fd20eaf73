"""Every event to every subscriber, once and in order, while connections are cut, a worker and Redis are killed.

python benchmarks/soak_faults.py [--events 1000000] [--subscribers 200] [--rate 4000] [--seed 1]

Two servers on one Redis that syncs every write. Each subscriber is cut at random moments and comes back to either
server with the last id that it has; at a third a server is killed and started again, at two thirds Redis. The numbers
in the events are counted, not their ids. Exit code 1 if one is missing without a declared gap, or came twice.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import re
import secrets
import signal
import sys
import tempfile
import time
from pathlib import Path

import uvloop

from syndarix_rt.benchmark.offer import event, keep_pace
from syndarix_rt.broker import RedisBroker
from syndarix_rt.broker.protocol import project_channel
from syndarix_rt.errors import BrokerUnavailable
from syndarix_rt.verification.stack import Redis, Worker

SEQUENCE = re.compile(rb'"seq":(\d+),')
ID = re.compile(rb"id: ([\w-]+\.\d+)\n")
GAP = re.compile(rb'event: gap\ndata: .*"missed":(\d+|null)')
DOWN_S = 1.5  # how long what was killed stays away
CUT_S = 10.0  # mean time between two cuts of one subscriber
LATE_S = 60.0  # most that the last event may take to reach the last subscriber


class Subscriber(asyncio.BufferedProtocol):
    """One subscriber over all its connections."""

    buffer = memoryview(bytearray(1 << 18))  # of all: what is in it is read before the next one writes

    def __init__(self, total):
        self.total = total
        self.last = 0
        self.last_event_id = ""
        self.duplicates = self.undeclared = self.declared = self.connections = 0
        self.closed = None

    async def live(self, ports, rng, cut_s=CUT_S):
        """Follow until the last event has come, whatever happens on the way.

        Args:
            ports: of the servers; each connection takes one at random.
            rng: decides which, and when this one leaves.
            cut_s: mean time between that.
        """
        loop = asyncio.get_running_loop()
        while self.last < self.total:
            self.rest, self.closed = b"", loop.create_future()
            try:
                self.transport, _ = await loop.create_connection(lambda: self, "127.0.0.1", rng.choice(ports))
            except OSError:
                await asyncio.sleep(0.2)
                continue
            self.connections += 1
            lines = ["GET /projects/p0/events HTTP/1.1", "Host: localhost"]
            lines += [f"Last-Event-ID: {self.last_event_id}"] if self.last_event_id else []
            self.transport.write("\r\n".join([*lines, "", ""]).encode())
            await asyncio.wait([self.closed], timeout=rng.expovariate(1 / cut_s))
            if not self.last_event_id:  # it must know where it stands before it leaves
                await asyncio.wait([self.closed], timeout=LATE_S)
            self.transport.abort()
            await asyncio.sleep(rng.random() * 0.5)

    def get_buffer(self, _):
        return self.buffer

    def buffer_updated(self, nbytes):
        whole, end, self.rest = (self.rest + self.buffer[:nbytes]).rpartition(b"\n\n")
        if not end:
            return
        whole += end
        for missed in GAP.findall(whole):
            self.declared += 1 if missed == b"null" else int(missed)
            print("gap declared:", missed.decode(), file=sys.stderr)
        numbers = [int(number) for number in SEQUENCE.findall(whole)]
        if numbers:
            self._judge(numbers)
        if ids := ID.findall(whole):
            self.last_event_id = ids[-1].decode()

    def _judge(self, numbers):
        if numbers != list(range(self.last + 1, self.last + 1 + len(numbers))):
            for number in numbers:
                self.duplicates += number <= self.last
                self.undeclared += max(0, number - self.last - 1)
                self.last = max(self.last, number)
        self.last = max(self.last, numbers[-1])
        if self.last >= self.total:
            self.connection_lost(None)

    def connection_lost(self, _):
        if not self.closed.done():
            self.closed.set_result(None)


async def publish(url, total, rate, progress):
    """Number the events, and bring each batch into the log whatever happens to Redis."""
    broker = RedisBroker(url)
    producer, sequence = secrets.token_urlsafe(8), 0

    async def send(due):
        nonlocal sequence
        sequence += 1
        batch = [event("p0", number, 160) for number in due]
        while True:
            try:
                await broker.publish(project_channel("p0"), batch, producer=producer, sequence=sequence)
            except BrokerUnavailable:
                await asyncio.sleep(0.1)
            else:
                progress["published"] = due.stop
                return

    try:
        await keep_pace(send, rate, total)
    finally:
        await broker.aclose()


async def until(true):
    while not true():  # noqa: ASYNC110 - of what changes in many places
        await asyncio.sleep(0.05)


async def kill(child, progress, after):
    """Kill a process when so many events are published, and start it again."""
    await until(lambda: progress["published"] >= after)
    print(f"{child.what} is killed after {progress['published']:,} events", file=sys.stderr)
    await child.kill()
    await asyncio.sleep(DOWN_S)
    await child.start()


async def soak(options, directory):
    # A terminated run ends its servers, too: they have sessions of their own.
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, asyncio.current_task().cancel)
    rng, total, began_s = random.Random(options.seed), options.events, time.monotonic()
    redis = Redis(directory / "redis")
    workers = [Worker(number, directory, redis.url, 2.0) for number in (1, 2)]
    progress = {"published": 0}
    everybody = [Subscriber(total) for _ in range(options.subscribers)]
    try:
        await redis.start()
        await asyncio.gather(*(worker.start() for worker in workers))
        lives = [
            asyncio.create_task(one.live([worker.port for worker in workers], random.Random(rng.random())))
            for one in everybody
        ]
        async with asyncio.timeout(30):
            await until(lambda: all(one.last_event_id for one in everybody))
        limit_s = 3 * total / options.rate + LATE_S
        async with asyncio.timeout(limit_s):
            await asyncio.gather(
                publish(redis.url, total, options.rate, progress),
                kill(workers[0], progress, total // 3),
                kill(redis, progress, 2 * total // 3),
            )
        await asyncio.wait(lives, timeout=LATE_S)
        for life in lives:
            life.cancel()
    finally:
        for child in (*workers, redis):
            await child.kill()
    return told(everybody, total) | {"seconds": round(time.monotonic() - began_s, 1)}


def told(everybody, total):
    """What subscribers of so many events have come to."""
    # What never came is missing too; what a gap declared is not undeclared.
    missing = sum(one.undeclared + total - one.last for one in everybody)
    declared = sum(one.declared for one in everybody)
    return {
        "events": total,
        "subscribers": len(everybody),
        "connections": sum(one.connections for one in everybody),
        "deliveries": sum(one.last for one in everybody),
        "declared": declared,
        "undeclared": missing - declared,
        "duplicates": sum(one.duplicates for one in everybody),
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--events", type=int, default=1_000_000)
    parser.add_argument("--subscribers", type=int, default=200)
    parser.add_argument("--rate", type=float, default=4_000, help="events a second")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    with (
        tempfile.TemporaryDirectory(prefix="syndarix-rt-") as directory,
        asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner,
    ):
        result = runner.run(soak(options, Path(directory)))
    result["passed"] = result["undeclared"] == result["duplicates"] == 0
    print(json.dumps(result))
    return 0 if result["passed"] else 1


if __name__ == "__main__":
    sys.exit(main())
