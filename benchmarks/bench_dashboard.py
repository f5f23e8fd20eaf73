"""The full dashboard without a browser: what it takes of the kernel's process, and how soon it is up to date.

python benchmarks/bench_dashboard.py [--seconds 20] [--burst 10000]

A process of its own publishes simulated events at a steady rate over HTTP; then the burst, for as long as ten seconds.
Exit code 1 if an event is
missing, or if more than 25 % of a core is taken at 1,000 events/s, or if it is not up to date 5 s after the burst.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import subprocess
import sys
import time

from served import served

from syndarix_rt.client import HttpPublisher
from syndarix_rt.notebook import Workbench
from syndarix_rt.simulation import Scenario, Simulation

PROJECT = "apollo"
BATCHES_PER_S = 10
MAX_CPU = 0.25
CATCH_UP_S = 5.0


async def publish(url, rate, seconds, seed):
    """Publish so many events a second; how many in all, and how long it took."""
    simulated = Simulation(Scenario.preset("firehose").for_project(PROJECT), seed)
    # Only a run that holds the project may publish decisions.
    events = (event for event in simulated if event.type != "approval_resolved")
    batches = [[next(events) for _ in range(rate // BATCHES_PER_S)] for _ in range(int(seconds * BATCHES_PER_S))]
    async with HttpPublisher(url, PROJECT) as publisher:
        start = time.monotonic()
        for number, batch in enumerate(batches):
            await asyncio.sleep(max(0.0, start + number / BATCHES_PER_S - time.monotonic()))
            await publisher.publish(batch)
        print(json.dumps({"events": sum(map(len, batches)), "seconds": time.monotonic() - start}))


async def publishing(url, rate, seconds, seed):
    """`publish` in another process; what it says."""
    command = [sys.executable, __file__, "--publish", url, str(rate), str(seconds), str(seed)]
    child = await asyncio.create_subprocess_exec(*command, stdout=subprocess.PIPE)
    out, _ = await asyncio.wait_for(child.communicate(), 10 * seconds + 120)
    return json.loads(out)


async def until_seen(bench, count):
    """How long it takes until so many events are here; None: too long."""
    start = time.monotonic()
    while bench.ledger(PROJECT).events < count:
        if time.monotonic() - start > 60:
            return None
        await asyncio.sleep(0.02)
    return time.monotonic() - start


async def measure(url, seconds, burst):
    async with await Workbench.connect(f"{url}/p/{PROJECT}") as bench:
        dashboard = bench.dashboard(PROJECT)
        cpu = time.process_time()
        steady = await publishing(url, 1000, seconds, 1)
        await until_seen(bench, steady["events"])
        cpu = time.process_time() - cpu
        share = cpu / steady["seconds"]
        bursting = await publishing(url, burst, 10, 2)
        behind = await until_seen(bench, steady["events"] + bursting["events"])
        frame, ledger = bench.frame(PROJECT), bench.ledger(PROJECT)
        shown = dashboard.frame("events").to_numpy().sum()
        published = steady["events"] + bursting["events"]
        result = {
            "steady": steady | {"kernel_cpu_share": round(share, 3), "kernel_cpu_s": round(cpu, 2)},
            "burst": bursting | {"up_to_date_after_s": behind},
            "frame": len(frame),
            "published": published,
            "in_the_chart": int(shown),
            "clean": ledger.clean,
            "delivery_p95_ms": ledger.latency_ms(0.95),
        }
        result["passed"] = (
            len(frame) == published
            and ledger.clean
            and share <= MAX_CPU
            and behind is not None
            and behind <= CATCH_UP_S
        )
        return result


def main():
    if sys.argv[1:2] == ["--publish"]:
        url, rate, seconds, seed = sys.argv[2:]
        return asyncio.run(publish(url, int(rate), float(seconds), int(seed)))
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--burst", type=int, default=10_000, metavar="EVENTS/S")
    options = parser.parse_args()
    with served() as server:
        result = asyncio.run(measure(server.url, min(options.seconds, 300), min(options.burst, 50_000)))
    print(json.dumps(result, indent=1))
    return not result["passed"]


if __name__ == "__main__":
    sys.exit(main())
