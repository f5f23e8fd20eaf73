"""Many streams stay open while nothing happens: none is cut, each gets its keepalives, and then each gets the event.

python benchmarks/soak_idle.py [--connections 200] [--minutes 3] [--keepalive 15]

Exit code 1 if a connection was cut, was silent for longer than 1.5 keepalives, or missed the event at the end.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import time

import aiohttp
from served import served

PROJECT = "apollo"
EVENT = {
    "specversion": "1.0", "id": "end-of-soak", "source": "/benchmarks", "type": "soak_ended",
    "time": "2026-01-01T00:00:00.000000Z", "project": PROJECT, "data": {},
}  # fmt: skip


class Connection:
    """One stream: what came, how long it was silent, whether it was cut."""

    def __init__(self):
        self.opened = False
        self.keepalives = 0
        self.longest_silence_s = 0.0
        self.got_event = False
        self.cut = None

    async def read(self, http, url):
        try:
            async with http.get(f"{url}/projects/{PROJECT}/events") as response:
                response.raise_for_status()
                last = time.monotonic()
                async for chunk in response.content.iter_any():
                    now = time.monotonic()
                    self.longest_silence_s = max(self.longest_silence_s, now - last)
                    last = now
                    self.opened = self.opened or b"event: stream-open" in chunk
                    self.keepalives += chunk.startswith(b":") + chunk.count(b"\n:")
                    if b"end-of-soak" in chunk:
                        self.got_event = True
                        return
                self.cut = "the stream ended"
        except (aiohttp.ClientError, TimeoutError) as error:
            self.cut = repr(error)


async def until(what, seconds):
    """Whether ``what()`` came true in time."""
    deadline = time.monotonic() + seconds
    while not what():
        if time.monotonic() > deadline:
            return False
        await asyncio.sleep(0.05)
    return True


async def soak(server, connections, minutes, keepalive_s):
    timeout = aiohttp.ClientTimeout(total=None, sock_read=4 * keepalive_s)
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0), timeout=timeout) as http:
        streams = [Connection() for _ in range(connections)]
        tasks = [asyncio.create_task(stream.read(http, server.url)) for stream in streams]
        try:
            await until(lambda: all(stream.opened or stream.cut for stream in streams), 60)
            before_mib, before_cpu_s = server.process.memory_info().rss / 2**20, sum(server.process.cpu_times()[:2])
            ends = time.monotonic() + minutes * 60
            while (left_s := ends - time.monotonic()) > 0:
                if sys.stderr.isatty():
                    cut = sum(stream.cut is not None for stream in streams)
                    print(
                        f"\r{connections - cut} of {connections} open, {left_s:4.0f} s left ", end="", file=sys.stderr
                    )
                await asyncio.sleep(min(left_s, 5))
            after_mib, after_cpu_s = server.process.memory_info().rss / 2**20, sum(server.process.cpu_times()[:2])
            async with http.post(f"{server.url}/projects/{PROJECT}/events", json=EVENT) as reply:
                reply.raise_for_status()
            await until(lambda: all(task.done() for task in tasks), 30)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
    silence_s = max(stream.longest_silence_s for stream in streams)
    result = {
        "connections": connections,
        "idle_s": minutes * 60,
        "cut": sum(stream.cut is not None for stream in streams),
        "missed_event": sum(not stream.got_event for stream in streams),
        "keepalives_min": min(stream.keepalives for stream in streams),
        "keepalives_max": max(stream.keepalives for stream in streams),
        "longest_silence_s": round(silence_s, 2),
        "server_mib_before": round(before_mib, 1),
        "server_mib_after": round(after_mib, 1),
        "server_cpu_s": round(after_cpu_s - before_cpu_s, 2),
    }
    result["passed"] = not result["cut"] and not result["missed_event"] and silence_s < 1.5 * keepalive_s
    result["reasons"] = sorted({stream.cut for stream in streams if stream.cut})[:5]
    return result


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--connections", type=int, default=200, choices=range(1, 1001), metavar="1-1000")
    parser.add_argument("--minutes", type=float, default=3.0)
    parser.add_argument("--keepalive", type=float, default=15.0, metavar="SECONDS")
    options = parser.parse_args()
    minutes = min(options.minutes, 60)  # bounded, whatever was asked for
    with served("--keepalive", str(options.keepalive)) as server:
        result = asyncio.run(soak(server, options.connections, minutes, options.keepalive))
    print(json.dumps(result, indent=1))
    sys.exit(not result["passed"])


if __name__ == "__main__":
    main()
