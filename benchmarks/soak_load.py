"""The standard load for an hour: does anything grow that should not?

python benchmarks/soak_load.py [FILE] [--minutes 60] [--subscribers 500] [--rate 200] [--seed 1]

Two servers on one Redis with the embedded server's settings, in processes of their own. Events come in bursts, as runs
of agents cause them; every subscriber leaves at random moments, once a minute on average, and comes back to either
server with the last id that it has. FILE gets a line of JSON for each sample as it is taken, with memory, descriptors
and tasks of every process, and at the end one with what was delivered. Exit code 1 if an event is missing without a
declared gap, or came twice. report_soak.py draws it.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import re
import secrets
import signal
import sys
import tempfile
import time
from pathlib import Path

import aiohttp
import psutil
import uvloop
from soak_faults import LATE_S, Subscriber, told, until

from syndarix_rt.benchmark.offer import event
from syndarix_rt.broker import RedisBroker
from syndarix_rt.broker.protocol import project_channel
from syndarix_rt.verification.stack import Redis, Worker

EVENT_BYTES = 400  # the mean of a simulation's
MOST = 19  # events of a burst; 10 on average
STAY_S = 60.0  # mean time until a subscriber leaves
KEEPALIVE_S = 15.0
SAMPLE_S = 10.0

AS_EMBEDDED = """\
appendfsync everysec
auto-aof-rewrite-percentage 100
auto-aof-rewrite-min-size 64mb
aof-use-rdb-preamble yes
"""


async def publish(url, total, rate, rng, progress):
    """Bursts at a steady mean rate; one that is late makes none the less for the next."""
    broker = RedisBroker(url)
    producer, sequence, due_s = secrets.token_urlsafe(8), 0, time.monotonic()
    try:
        while (sent := progress["published"]) < total:
            sequence += 1
            batch = [
                event("p0", number, EVENT_BYTES) for number in range(sent, min(total, sent + rng.randint(1, MOST)))
            ]
            await broker.publish(project_channel("p0"), batch, producer=producer, sequence=sequence)
            progress["published"] += len(batch)
            due_s += len(batch) / rate
            await asyncio.sleep(max(0.0, due_s - time.monotonic()))
    finally:
        await broker.aclose()


async def sample(workers, redis, everybody, progress, write):
    """What every process holds now, until cancelled."""
    processes = {child.what: psutil.Process(child.pid) for child in (*workers, redis)}
    processes["load"] = psutil.Process()
    began_s, due_s = time.monotonic(), time.monotonic()
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=SAMPLE_S)) as http:
        while True:
            figures = {}
            for name, process in processes.items():
                figures[name] = {
                    "rss_bytes": process.memory_info().rss,
                    "descriptors": process.num_fds(),
                    "cpu_s": round(sum(process.cpu_times()[:2]), 2),
                }
            for worker in workers:
                async with http.get(f"http://127.0.0.1:{worker.port}/metrics") as response:
                    text = await response.text()
                for name in ("tasks", "streams", "log_bytes"):
                    found = re.search(rf"^syndarix_rt_{name}(?:\{{.*\}})? (\S+)", text, re.MULTILINE)
                    figures[worker.what][name] = int(float(found[1])) if found else 0
            info = await redis.command("INFO")
            for name in ("used_memory", "connected_clients"):
                figures["Redis"][name] = int(re.search(rf"^{name}:(\d+)", info, re.MULTILINE)[1])
            figures["load"]["tasks"] = len(asyncio.all_tasks())
            write(
                {
                    "at_s": round(time.monotonic() - began_s, 1),
                    "published": progress["published"],
                    "behind": progress["published"] - min(one.last for one in everybody),
                    "connections": sum(one.connections for one in everybody),
                    "machine_load": os.getloadavg()[0],
                    "processes": figures,
                }
            )
            due_s += SAMPLE_S
            await asyncio.sleep(max(0.0, due_s - time.monotonic()))


async def soak(options, directory, write):
    # A terminated run ends its servers, too: they have sessions of their own.
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, asyncio.current_task().cancel)
    rng, total, began_s = random.Random(options.seed), round(options.minutes * 60 * options.rate), time.monotonic()
    redis = Redis(directory / "redis", AS_EMBEDDED)
    workers = [Worker(number, directory, redis.url, KEEPALIVE_S) for number in (1, 2)]
    progress = {"published": 0}
    everybody = [Subscriber(total) for _ in range(options.subscribers)]
    sampling = None
    try:
        await redis.start()
        await asyncio.gather(*(worker.start() for worker in workers))
        ports = [worker.port for worker in workers]
        lives = [asyncio.create_task(one.live(ports, random.Random(rng.random()), STAY_S)) for one in everybody]
        async with asyncio.timeout(60):
            await until(lambda: all(one.last_event_id for one in everybody))
        sampling = asyncio.create_task(sample(workers, redis, everybody, progress, write))
        async with asyncio.timeout(options.minutes * 60 * 1.2 + LATE_S):
            await publish(redis.url, total, options.rate, rng, progress)
        await asyncio.wait(lives, timeout=LATE_S)
        for life in lives:
            life.cancel()
        await asyncio.sleep(2.5 * SAMPLE_S)  # the last samples show what is left when everybody has gone
        sampling.cancel()
        codes = [await worker.stop() for worker in workers]
    finally:
        for child in (*workers, redis):
            await child.kill()
    if not sampling.cancelled() and sampling.done() and sampling.exception():
        raise sampling.exception()
    found = told(everybody, total)
    passed = found["undeclared"] == found["duplicates"] == 0 and codes == [0, 0]
    return {"passed": passed} | found | {"seconds": round(time.monotonic() - began_s, 1), "exit_codes": codes}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", type=Path, nargs="?", default=os.devnull, help="where samples go, a line of JSON each")
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--subscribers", type=int, default=500)
    parser.add_argument("--rate", type=float, default=200.0, help="events a second")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    with (
        options.file.open("w", buffering=1) as file,
        tempfile.TemporaryDirectory(prefix="syndarix-rt-") as directory,
        asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner,
    ):

        def write(document):
            file.write(json.dumps(document) + "\n")

        result = runner.run(soak(options, Path(directory), write))
        write({"result": result})
    print(json.dumps(result))
    return 0 if result["passed"] else 1


if __name__ == "__main__":
    sys.exit(main())
