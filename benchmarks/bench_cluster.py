"""Many projects over three masters, while one is killed and a slot is moved; and a shard against one Redis, in one run.

python benchmarks/bench_cluster.py [--projects 300] [--subscribers 5] [--rate 100000] [--seconds 10] [--json FILE]

Events of 300 bytes go out in batches of 100, to one project after the other, at most as fast as the brokers take them.
Every event that a publisher was told is stored must be at every subscriber once and in order, or its loss declared
where it is missing: a failover may lose what the replica had not yet, and then the stream says so. Exit code 1 if not.

One Redis has a third of the projects and of the rate: what each of the three masters has. So their CPU time an event
compares, node by node, each by the events of its own projects. One server, on the first core, follows every project;
everything else, up to six nodes among it, shares the other cores. So on a small machine the highest rate of the cluster
is that of a machine that is shared by eight, not of three shards.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import re
import secrets
import subprocess
import sys
import tempfile
import time
from bisect import bisect_right
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import psutil
import uvloop
from redis.crc import key_slot

from syndarix_rt.benchmark import candidate, machine
from syndarix_rt.benchmark.offer import event, keep_pace
from syndarix_rt.broker import RedisBroker
from syndarix_rt.broker.protocol import project_channel
from syndarix_rt.errors import BrokerUnavailable

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))  # where nodes are started, killed and moved
from redis_cluster import MASTERS, SLOTS, RedisCluster
from redis_server import RedisServer

BATCH = 100
AWAY_S = 0.05  # between two tries while a master is away
OPEN_S, LATE_S = 60, 60
HARMS = 2  # to the cluster, on the way
SWITCH_S = 0.0002  # of 0.005: who does them is a thread beside a loop that is busy with subscribers
OPEN = b"event: stream-open\n"
SEEN = re.compile(rb'event: gap\n|"seq":(\d+),')


async def until(true: Callable[[], bool]) -> None:
    while not true():  # noqa: ASYNC110 - of what changes in many places
        await asyncio.sleep(0.05)


class Subscriber(asyncio.Protocol):
    """One stream, which stays open: what happens to Redis is not to reach it."""

    def __init__(self, project: str) -> None:
        self.project = project
        self.last = self.events = self.undeclared = self.declared = self.doubled = 0
        self.is_open = self.lost = False
        self._rest, self._gap = b"", False

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        transport.write(f"GET /projects/{self.project}/events HTTP/1.1\r\nhost: localhost\r\n\r\n".encode())

    def connection_lost(self, _: Exception | None) -> None:
        self.lost = True

    def data_received(self, data: bytes) -> None:
        self.is_open = self.is_open or OPEN in data
        whole, end, self._rest = (self._rest + data).rpartition(b"\n\n")
        for found in SEEN.finditer(whole + end):
            if found[1] is None:
                self._gap = True
                continue
            number = int(found[1])
            self.events += 1
            if number != self.last + 1:
                if number <= self.last:
                    self.doubled += 1
                elif self._gap:
                    self.declared += number - self.last - 1
                else:
                    self.undeclared += number - self.last - 1
            self.last, self._gap = max(self.last, number), False


async def publish(url: str, names: list[str], rate: float, each: int, progress: dict[str, int]) -> float:
    """Bring ``each`` events of every project into its log, whatever happens to its master; the time that it took."""
    broker, producer = RedisBroker(url), secrets.token_urlsafe(8)
    turns = {name: asyncio.Lock() for name in names}  # batches of a project come one after the other

    async def send(due: range) -> None:
        await asyncio.gather(*(put(number) for number in due))

    async def put(number: int) -> None:
        name, sequence = names[number % len(names)], number // len(names) + 1
        first = (sequence - 1) * BATCH
        batch = [event(name, first + n, 300) for n in range(BATCH)]
        async with turns[name]:
            while True:
                try:
                    await broker.publish(project_channel(name), batch, producer=producer, sequence=sequence)
                except BrokerUnavailable:  # a master is away; sent again it is there once
                    progress["tries"] += 1
                    await asyncio.sleep(AWAY_S)
                else:
                    progress["stored"] += BATCH
                    return

    try:
        return await keep_pace(send, rate / BATCH, each // BATCH * len(names))
    finally:
        await broker.aclose()


def publisher(options: argparse.Namespace) -> None:
    """In a process of its own; it says how far it is, line by line."""

    async def main() -> None:
        progress = {"stored": 0, "tries": 0}

        async def tell() -> None:
            while True:
                print(json.dumps(progress), flush=True)
                await asyncio.sleep(0.2)

        telling = asyncio.create_task(tell())
        names = [f"p{number}" for number in range(options.projects)]
        took_s = await publish(options.publish, names, options.rate, options.each, progress)
        telling.cancel()
        print(json.dumps(progress | {"took_s": took_s}), flush=True)

    asyncio.run(main())


class Broken:
    """What happens to a cluster on the way: a slot moves at a tenth, a master is killed at a third."""

    def __init__(self, cluster: RedisCluster, names: list[str], rng: random.Random) -> None:
        self._cluster = cluster
        self._moved, self._killed = (project_channel(name) for name in rng.sample(names, 2))
        self.happened: list[str] = []

    def at(self, share: float) -> None:
        if share >= 1 / 10 and not self.happened:
            source = self._cluster.owner(self._moved)
            self._cluster.move(self._moved, self._cluster.others(source)[0])
            self.happened.append(f"the slot of {self._moved} moved at {share:.0%}")
        elif share >= 1 / 3 and len(self.happened) == 1:
            began_s = time.monotonic()
            self._cluster.fail_over(self._cluster.owner(self._killed))
            took_s = time.monotonic() - began_s
            self.happened.append(f"the master of {self._killed} killed at {share:.0%}, replaced after {took_s:.1f} s")


def shares(names: list[str]) -> Counter[int]:
    """How many of the projects each of the masters has, by its number, as the cluster was formed."""
    ends = [(number + 1) * SLOTS // MASTERS for number in range(MASTERS)]
    return Counter(bisect_right(ends, key_slot(project_channel(name).encode())) for name in names)


async def measure(options: argparse.Namespace, url: str, nodes: list[int], broken: Broken | None) -> dict[str, Any]:
    """Measure with what is at a URL: ``nodes`` are the processes behind it, masters first."""
    names = [f"p{number}" for number in range(options.projects)]
    each = max(1, round(options.rate * options.seconds / options.projects / BATCH)) * BATCH
    loop, everybody, process = asyncio.get_running_loop(), [], None
    with candidate.our_server(url) as server:
        try:
            for name in names * options.subscribers:
                _, one = await loop.create_connection(lambda name=name: Subscriber(name), "127.0.0.1", server.port)
                everybody.append(one)
            async with asyncio.timeout(OPEN_S):
                await until(lambda: all(one.is_open for one in everybody))
            redis, before = [psutil.Process(pid) for pid in nodes], server.usage()
            used_s = {node.pid: sum(node.cpu_times()[:2]) for node in redis}
            command = [sys.executable, __file__, "--publish", url, "--projects", str(options.projects)]
            command += ["--rate", str(options.rate), "--each", str(each)]
            process = subprocess.Popen(command, stdout=subprocess.PIPE)  # noqa: ASYNC220 - it takes a millisecond
            progress: dict[str, float] = {"stored": 0}

            # In threads: the loop is busy with what subscribers read, and a turn of it takes seconds.
            def follow() -> None:
                for line in process.stdout:
                    progress.update(json.loads(line))

            def harm() -> None:
                while broken is not None and len(broken.happened) < HARMS and process.poll() is None:
                    broken.at(progress["stored"] / (each * len(names)))
                    time.sleep(0.05)

            async with asyncio.timeout(20 * options.seconds + LATE_S):
                await asyncio.gather(asyncio.to_thread(follow), asyncio.to_thread(harm))
            if broken is not None and not progress["tries"]:
                raise SystemExit("nothing was published while a master was away: give more --seconds")
            if process.wait():
                raise SystemExit("the publisher failed")
            began_s = time.monotonic()
            async with asyncio.timeout(LATE_S):
                await until(lambda: all(one.last >= each or one.lost for one in everybody))
            late_s, after = time.monotonic() - began_s, server.usage()
        finally:
            if process is not None:
                process.kill()
                process.wait()
            for one in everybody:
                one.transport.abort()
        total = Counter[str]()
        for one in everybody:
            total.update(events=one.events, declared=one.declared, doubled=one.doubled, cut=one.lost)
            total["undeclared"] += one.undeclared + (each - one.last)
        spent_s = [sum(node.cpu_times()[:2]) - used_s[node.pid] if node.is_running() else 0.0 for node in redis]
        stored = [each * len(names)] if len(redis) == 1 else [each * shares(names)[n] for n in range(MASTERS)]
        by_node = [spent / stored[number % MASTERS] * 1e6 for number, spent in enumerate(spent_s)]
        return {
            "events_per_s": each * len(names) / progress["took_s"],
            "deliveries_per_s": total["events"] / progress["took_s"],
            "last_after_s": late_s,
            "server_us": (after.cpu_s - before.cpu_s) / total["events"] * 1e6,
            "redis_us": sum(spent_s) / (each * len(names)) * 1e6,
            # Where slots move and masters change, nobody can say which event was whose.
            "each_us": [] if broken else [round(cost, 2) for cost in by_node],
            "tries": progress["tries"],
            **{name: total[name] for name in ("events", "declared", "undeclared", "doubled", "cut")},
            "happened": broken.happened if broken else [],
        }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--projects", type=int, default=300)
    parser.add_argument("--subscribers", type=int, default=5, help="of each project")
    parser.add_argument("--rate", type=float, default=100_000, help="events a second in all")
    parser.add_argument("--seconds", type=float, default=10)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", type=Path, metavar="FILE")
    parser.add_argument("--publish", metavar="URL", help=argparse.SUPPRESS)
    parser.add_argument("--each", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.publish:
        publisher(options)
        return 0
    sys.setswitchinterval(SWITCH_S)
    names = [f"p{number}" for number in range(options.projects)]
    found: dict[str, Any] = {}
    for kind in ("one Redis", "cluster, masters alone", "cluster, calm", "cluster, broken"):
        load = argparse.Namespace(**vars(options))
        with tempfile.TemporaryDirectory(prefix="syndarix-rt-") as directory, ExitStack() as stack:
            if kind == "one Redis":
                redis = stack.enter_context(RedisServer(directory, appendfsync="everysec"))
                url, nodes, broken = redis.url, [redis.process.pid], None
                load.projects, load.rate = options.projects // MASTERS, options.rate / MASTERS
            else:
                cluster = stack.enter_context(RedisCluster(Path(directory), replicas="alone" not in kind))
                url, nodes = cluster.url, [node.process.pid for node in cluster.nodes]
                broken = Broken(cluster, names, random.Random(options.seed)) if "broken" in kind else None
            with candidate.pinned_beside(), asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
                found[kind] = runner.run(measure(load, url, nodes, broken))
        print(kind, json.dumps({k: round(v, 2) if isinstance(v, float) else v for k, v in found[kind].items()}))
    if options.json:
        options.json.write_text(json.dumps({"machine": machine.describe()} | found, indent=1))
    return int(any(each["undeclared"] or each["doubled"] or each["cut"] for each in found.values()))


if __name__ == "__main__":
    sys.exit(main())
