"""What a delivery costs over HTTP/2, against HTTP/1.1, in one run: the server's CPU time.

python benchmarks/bench_http2.py [--subscribers 200] [--repeats 3] [--json FILE]

Four ways to the same server: HTTP/1.1 with a connection for each stream, and HTTP/2 with a hundred streams on each
connection, both plain and with TLS; at a rate where each event is a write of its own, and at one where several go out
together. The server has one core; Redis, publisher and the subscribers, which only count, share the other.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import ssl
import statistics
from collections import Counter
from pathlib import Path
from typing import Any

import h2.config
import h2.connection
import h2.settings
from h2.settings import SettingCodes

from syndarix_rt.benchmark import candidate, machine
from syndarix_rt.benchmark.measures import publish

RATES = {100: 3.0, 2_000: 3.0}  # events a second: for how many seconds
STREAMS = 100  # on one HTTP/2 connection; a browser asks for as many at the least
OPEN_S, DRAIN_S = 60, 15
MARK = b"\ndata: {"
WINDOW = 2**31 - 1  # of HTTP/2, the largest: nobody waits for another


class Subscribers(asyncio.Protocol):
    """One connection that counts the events of its streams."""

    def __init__(self, paths: list[str]) -> None:
        self.paths = paths
        self.events = 0
        self._rest: Counter[int] | dict[int, bytes] = {}
        self.lost = False

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        self.ask()

    def connection_lost(self, _: Exception | None) -> None:
        self.lost = True

    def count(self, stream: int, data: bytes) -> None:
        data = self._rest.get(stream, b"") + data
        self.events += data.count(MARK)
        self._rest[stream] = data[1 - len(MARK) :]


class Http1(Subscribers):
    def ask(self) -> None:
        (path,) = self.paths
        self.transport.write(f"GET {path} HTTP/1.1\r\nhost: localhost\r\n\r\n".encode())

    def data_received(self, data: bytes) -> None:
        self.count(0, data)


class Http2(Subscribers):
    """Asks by h2, and then looks at nothing but the frames' heads: it shall cost less than the server."""

    SETTINGS, PING, DATA = 4, 6, 0

    def ask(self) -> None:
        connection = h2.connection.H2Connection(h2.config.H2Configuration(header_encoding="ascii"))
        connection.local_settings = h2.settings.Settings(
            client=True, initial_values={SettingCodes.INITIAL_WINDOW_SIZE: WINDOW, SettingCodes.ENABLE_PUSH: 0}
        )
        connection.initiate_connection()
        connection.increment_flow_control_window(WINDOW - 65_535)
        for number, path in enumerate(self.paths):
            about = [(":method", "GET"), (":path", path), (":scheme", "http"), (":authority", "localhost")]
            connection.send_headers(2 * number + 1, about, end_stream=True)
        self.transport.write(connection.data_to_send())
        self._waiting = b""

    def data_received(self, data: bytes) -> None:
        data = self._waiting + data
        start = 0
        while len(data) - start >= 9:
            end = start + 9 + int.from_bytes(data[start : start + 3])
            if end > len(data):
                break
            kind, flags = data[start + 3], data[start + 4]
            if kind == self.DATA:
                self.count(int.from_bytes(data[start + 5 : start + 9]), data[start + 9 : end])
            elif kind == self.SETTINGS and not flags & 1:
                self.transport.write(b"\0\0\0\x04\x01\0\0\0\0")
            elif kind == self.PING and not flags & 1:
                self.transport.write(b"\0\0\x08\x06\x01\0\0\0\0" + data[start + 9 : end])
            start = end
        self._waiting = data[start:]


WAYS = {
    "HTTP/1.1": (Http1, 1, False),
    "HTTP/2": (Http2, STREAMS, False),
    "HTTP/1.1, TLS": (Http1, 1, True),
    "HTTP/2, TLS": (Http2, STREAMS, True),
}


async def delivered(server: candidate.Candidate, way: str, subscribers: int, rate: int, seconds: float) -> float:
    """The server's CPU time in microseconds a delivery."""
    kind, streams, tls = WAYS[way]
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.set_alpn_protocols(["h2" if kind is Http2 else "http/1.1"])
    loop, paths = asyncio.get_running_loop(), [server.path % 0] * subscribers
    connections: list[Subscribers] = []

    async def until(events: int, within_s: float) -> None:
        async with asyncio.timeout(within_s):
            while sum(each.events for each in connections) < events:
                if any(each.lost for each in connections):
                    raise SystemExit(f"{way}: the server closed a connection")
                await asyncio.sleep(0.02)

    try:
        for start in range(0, subscribers, streams):
            mine = paths[start : start + streams]
            _, protocol = await loop.create_connection(
                lambda mine=mine: kind(mine), "127.0.0.1", server.port, ssl=context if tls else None
            )
            connections.append(protocol)
        greeted = subscribers * server.greetings
        await until(greeted, OPEN_S)
        before, events = server.usage(), int(rate * seconds)
        await asyncio.to_thread(publish, server, rate, events, 1)
        await until(greeted + subscribers * events, DRAIN_S)
        return (server.usage().cpu_s - before.cpu_s) / (subscribers * events) * 1e6
    finally:
        for connection in connections:
            connection.transport.abort()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--subscribers", type=int, default=200)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--json", type=Path, metavar="FILE")
    options = parser.parse_args()
    found: dict[str, dict[int, list[float]]] = {way: {rate: [] for rate in RATES} for way in WAYS}
    with candidate.private_redis() as redis_url:
        for _ in range(options.repeats):
            for rate, seconds in RATES.items():
                for way, (_, _, tls) in WAYS.items():
                    extra = ("--tls", "self-signed") if tls else ()
                    with candidate.our_server(redis_url, *extra) as server, candidate.pinned_beside():
                        cost = asyncio.run(delivered(server, way, options.subscribers, rate, seconds))
                    found[way][rate].append(cost)
    medians = {way: {rate: statistics.median(runs) for rate, runs in rates.items()} for way, rates in found.items()}
    print(f"{options.subscribers} subscribers, CPU a delivery in µs, median of {options.repeats}")
    print("".join([" " * 16, *(f"{rate:>8,} events/s" for rate in RATES), "   against HTTP/1.1"]))
    for way, rates in medians.items():
        against = "  ".join(f"{cost / medians['HTTP/1.1'][rate]:.2f}" for rate, cost in rates.items())
        print("".join([way.ljust(16), *(f"{cost:>17.2f}" for cost in rates.values()), "   ", against]))
    if options.json:
        options.json.write_text(json.dumps({"machine": machine.describe(), "cpu_us": medians}, indent=1))


if __name__ == "__main__":
    main()
