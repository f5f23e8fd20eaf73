"""Chat: 500 members in one room hear 50 messages a second, and somebody floods it.

python benchmarks/bench_chat.py [--seconds 10] [--json FILE]

Members, server (with its broker) and speakers are three processes on this machine, so on few cores they compete:
compare figures of one machine and one session only. Latency is from just before a message is sent to when a member's
socket has it; speakers keep to their schedule whatever the server does, so queueing shows as latency. In the last case
a further member sends as fast as it can until it is cut; ``flood_s`` is how long that took.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import re
import subprocess
import sys
import time
from contextlib import AsyncExitStack
from pathlib import Path
from urllib.parse import urlsplit

import aiohttp
import numpy as np
from served import served

PROTOCOL = "syndarix.chat.v1"
SPEAKERS = 25
SENT = re.compile(rb'"text":"(\d+) ')
CATCH_UP_S = 15


class Member(asyncio.Protocol):
    """A socket that reads a chat and notes when each message came; frames are searched, not parsed."""

    def __init__(self, number, host, ready, latencies_ms):
        self.number, self.host, self.ready, self.latencies_ms = number, host, ready, latencies_ms
        self.rest = b""

    def connection_made(self, transport):
        transport.write(
            f"GET /projects/apollo/chat?history=0&name=m{self.number} HTTP/1.1\r\nHost: {self.host}\r\n"
            "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
            f"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Protocol: {PROTOCOL}\r\n\r\n".encode()
        )

    def data_received(self, data):
        now_ns = time.time_ns()
        data = self.rest + data
        end = 0
        for found in SENT.finditer(data):
            self.latencies_ms.append((now_ns - int(found[1])) / 1e6)
            end = found.end()
        self.rest = data[max(end, len(data) - 40) :]
        if not self.ready.done() and b'"type":"ready"' in data:
            self.ready.set_result(None)


async def listen(url, members, expected):
    """Come in, say "open", read until all is there or nothing comes any more; print the figures."""
    loop, at = asyncio.get_running_loop(), urlsplit(url)
    latencies_ms, transports = [], []
    for number in range(members):
        ready = loop.create_future()
        transport, _ = await loop.create_connection(
            lambda number=number, ready=ready: Member(number, at.netloc, ready, latencies_ms), at.hostname, at.port
        )
        transports.append(transport)
        await asyncio.wait_for(ready, 30)
    print("open", flush=True)
    seen, since = -1, time.monotonic()
    while len(latencies_ms) < expected * members and time.monotonic() < since + CATCH_UP_S:
        if len(latencies_ms) != seen:
            seen, since = len(latencies_ms), time.monotonic()
        await asyncio.sleep(0.05)
    for transport in transports:
        transport.abort()
    p50, p99, worst = np.percentile(latencies_ms or [np.nan], [50, 99, 100])
    print(json.dumps({"heard": len(latencies_ms), "p50_ms": p50, "p99_ms": p99, "max_ms": worst}))


async def talk(url, rate, seconds, *, flood):
    """Speak on schedule; the time that it really took, and how long a flood lasted."""
    async with aiohttp.ClientSession() as http, AsyncExitStack() as stack:

        async def enter(name):
            url_of = f"{url}/projects/apollo/chat?history=0&name={name}"
            return await stack.enter_async_context(http.ws_connect(url_of, protocols=(PROTOCOL,), max_msg_size=0))

        async def drain(ws, heard=None):
            async for message in ws:
                if heard is not None and SENT.search(message.data.encode()):
                    heard.append(message)

        async def overflow(ws):
            begin, n = time.monotonic(), 0
            while not ws.closed:
                try:
                    await ws.send_str(json.dumps({"type": "say", "id": f"f{n}", "text": "flood"}))
                except (ConnectionError, aiohttp.ClientError):
                    break
                n += 1
                await asyncio.sleep(0)
            return time.monotonic() - begin

        speakers = [await enter(f"speaker-{n}") for n in range(SPEAKERS)]
        heard = []
        tasks = [asyncio.create_task(drain(ws, None if n else heard)) for n, ws in enumerate(speakers)]
        flooding = None
        total, begin = int(rate * seconds), time.monotonic()
        for n in range(total):
            await asyncio.sleep(max(0.0, begin + n / rate - time.monotonic()))
            if flood and n == total // 3:
                ws = await enter("flooder")
                tasks.append(asyncio.create_task(drain(ws)))
                flooding = asyncio.create_task(overflow(ws))
            text = f"{time.time_ns()} and some more, as people say"
            await speakers[n % SPEAKERS].send_str(json.dumps({"type": "say", "id": f"m{n}", "text": text}))
        took_s = time.monotonic() - begin
        flood_s = await flooding if flooding else None
        while len(heard) < total and time.monotonic() < begin + seconds + CATCH_UP_S:  # noqa: ASYNC110 - once, at the end
            await asyncio.sleep(0.02)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        return took_s, flood_s


def measure(members, rate, seconds, *, flood):
    with served() as server:
        total = int(rate * seconds)
        command = [sys.executable, __file__, "--listen", server.url, str(members), str(total)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as hearers:
            try:
                empty_mib = server.process.memory_info().rss / 2**20
                assert hearers.stdout.readline() == "open\n", "the members did not get in"
                cpu_s = sum(server.process.cpu_times()[:2])
                took_s, flood_s = asyncio.run(talk(server.url, rate, seconds, flood=flood))
                cpu_s = sum(server.process.cpu_times()[:2]) - cpu_s
                memory_mib = server.process.memory_info().rss / 2**20
                figures = json.loads(hearers.stdout.readline())
            finally:
                hearers.kill()
    return {
        "members": members,
        "rate": rate,
        "heard_per_s": round(figures["heard"] / took_s),
        "heard": figures["heard"] / (total * members),
        "p50_ms": round(figures["p50_ms"], 1),
        "p99_ms": round(figures["p99_ms"], 1),
        "max_ms": round(figures["max_ms"], 1),
        "server_cpu": round(cpu_s / took_s, 2),
        "empty_mib": round(empty_mib),
        "server_mib": round(memory_mib),
        "flood_s": round(flood_s, 2) if flood_s is not None else "-",
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=10.0, help="of each case, at most 120")
    parser.add_argument("--json", type=Path, metavar="FILE")
    parser.add_argument("--listen", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.listen:
        url, members, expected = options.listen
        asyncio.run(listen(url, int(members), int(expected)))
        return
    rows = []
    for members, rate, flood in ((100, 50, False), (500, 50, False), (500, 50, True)):
        rows.append(measure(members, rate, min(options.seconds, 120), flood=flood))
        if len(rows) == 1:
            print("".join(f"{name:>13}" for name in rows[0]))
        print("".join(f"{value:>13.4g}" if isinstance(value, float) else f"{value:>13}" for value in rows[-1].values()))
    if options.json:
        options.json.write_text(json.dumps(rows, indent=1))


if __name__ == "__main__":
    main()
