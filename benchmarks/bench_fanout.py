"""Fan-out: events published over HTTP at a steady rate to many subscribers, end to end.

python benchmarks/bench_fanout.py [--seconds 10] [--json FILE]

Publisher, server (with its broker) and subscribers are three processes on this machine, so on few cores they compete;
compare figures of one machine and one session only. The publisher keeps to its schedule whatever the server does, so
queueing shows as latency: from just before an event is sent to when a subscriber's socket has it.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import re
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import urlsplit

import aiohttp
import numpy as np
from served import served

PROJECT = "apollo"
CASES = [(10, 1000), (100, 100), (100, 500), (500, 50), (500, 100)]  # subscribers, events a second
TICK_S = 0.02
SENT = re.compile(rb'"sent_ns":(\d+)')
CATCH_UP_S = 15


# ---- the subscribers' process -------------------------------------------------------------------------------------


class Subscriber(asyncio.Protocol):
    """A socket that reads one stream and notes when each event came."""

    def __init__(self, host, opened, latencies_ms):
        self.host, self.opened, self.latencies_ms = host, opened, latencies_ms
        self.rest = b""

    def connection_made(self, transport):
        transport.write(f"GET /projects/{PROJECT}/events HTTP/1.1\r\nHost: {self.host}\r\n\r\n".encode())

    def data_received(self, data):
        now_ns = time.time_ns()
        whole, line_end, self.rest = (self.rest + data).rpartition(b"\n")
        if line_end:
            if not self.opened.done() and b"event: stream-open" in whole:
                self.opened.set_result(None)
            self.latencies_ms += [(now_ns - int(sent)) / 1e6 for sent in SENT.findall(whole)]


async def subscribe(url, subscribers, expected):
    """Open the streams, say "open", read until all is there or nothing comes any more; print the figures."""
    loop, at = asyncio.get_running_loop(), urlsplit(url)
    latencies_ms, opened = [], [loop.create_future() for _ in range(subscribers)]
    transports = []
    for future in opened:
        transport, _ = await loop.create_connection(
            lambda future=future: Subscriber(at.netloc, future, latencies_ms), at.hostname, at.port
        )
        transports.append(transport)
    await asyncio.wait_for(asyncio.gather(*opened), 60)
    print("open", flush=True)
    seen, since = -1, time.monotonic()
    while len(latencies_ms) < expected * subscribers and time.monotonic() < since + CATCH_UP_S:
        if len(latencies_ms) != seen:
            seen, since = len(latencies_ms), time.monotonic()
        await asyncio.sleep(0.05)
    for transport in transports:
        transport.abort()
    p50, p99, worst = np.percentile(latencies_ms or [np.nan], [50, 99, 100])
    print(json.dumps({"received": len(latencies_ms), "p50_ms": p50, "p99_ms": p99, "max_ms": worst}))


# ---- the publisher's process --------------------------------------------------------------------------------------


def event(number):
    now = time.time_ns()
    return {
        "specversion": "1.0",
        "id": f"e{number}",
        "source": "/benchmarks",
        "type": "agent_activity",
        "time": datetime.fromtimestamp(now / 1e9, UTC).isoformat(),
        "project": PROJECT,
        "data": {"run_id": "run-1", "agent_id": "agent-1", "role": "developer", "gen_ai.usage.output_tokens": 412}
        | {"sent_ns": now},
    }


async def publish(url, rate, seconds):
    """Publish on schedule; the time that it really took."""
    total, sent, begin = int(rate * seconds), 0, time.monotonic()
    async with aiohttp.ClientSession() as http:
        while sent < total:
            due = min(total, int((time.monotonic() - begin) * rate) + 1)
            batch = [event(number) for number in range(sent, min(due, sent + 1000))]
            if batch:
                async with http.post(f"{url}/projects/{PROJECT}/events", json=batch) as reply:
                    reply.raise_for_status()
                sent += len(batch)
            await asyncio.sleep(TICK_S)
    return time.monotonic() - begin


def measure(subscribers, rate, seconds):
    with served() as server:
        total = int(rate * seconds)
        command = [sys.executable, __file__, "--subscribe", server.url, str(subscribers), str(total)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as reader:
            try:
                assert reader.stdout.readline() == "open\n", "the subscribers did not get in"
                cpu_s = sum(server.process.cpu_times()[:2])
                took_s = asyncio.run(publish(server.url, rate, seconds))
                cpu_s = sum(server.process.cpu_times()[:2]) - cpu_s
                memory_mib = server.process.memory_info().rss / 2**20
                figures = json.loads(reader.stdout.readline())
            finally:
                reader.kill()
    return {
        "subscribers": subscribers,
        "rate": rate,
        "published_per_s": round(total / took_s, 1),
        "delivered_per_s": round(figures["received"] / took_s),
        "delivered": figures["received"] / (total * subscribers),
        "p50_ms": round(figures["p50_ms"], 1),
        "p99_ms": round(figures["p99_ms"], 1),
        "max_ms": round(figures["max_ms"], 1),
        "server_cpu": round(cpu_s / took_s, 2),
        "server_mib": round(memory_mib),
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=10.0, help="of each case, at most 120")
    parser.add_argument("--json", type=Path, metavar="FILE")
    parser.add_argument("--subscribe", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.subscribe:
        url, subscribers, expected = options.subscribe
        asyncio.run(subscribe(url, int(subscribers), int(expected)))
        return
    rows = []
    for subscribers, rate in CASES:
        rows.append(measure(subscribers, rate, min(options.seconds, 120)))
        if len(rows) == 1:
            print("".join(f"{name:>16}" for name in rows[0]))
        print("".join(f"{value:>16.4g}" if isinstance(value, float) else f"{value:>16}" for value in rows[-1].values()))
    if options.json:
        options.json.write_text(json.dumps(rows, indent=1))


if __name__ == "__main__":
    main()
