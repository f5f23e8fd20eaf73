"""Many subscribers in one process: opens event streams on this machine, reads every event, prints one line of JSON.

``python -m syndarix_rt.benchmark.load --port PORT --path PATH --connections N --seconds S [...]``

A ``data`` line should hold ``"seq":17,"sent_ns":1790000000000000000``: the number of the event in its project, and
when it was published by the wall clock. Latency is from then to when the bytes were read here. A client in C reads
several times as much; near a whole core (``client_cpu_s``) the client is the limit, not the server.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import re
import resource
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

__all__: list[str] = []

_EVENT = re.compile(rb'"seq":(\d+),"sent_ns":(\d+)')
_CONNECT_TIMEOUT_S = 30.0
"""Most a connection may take to get its headers; a refused or lost one counts as failed."""

_READ_BYTES = 1 << 18


class _Subscriber(asyncio.BufferedProtocol):
    """One stream.

    Args:
        request: what it sends.
        stalled: reads nothing after the headers.
        expected: events after which `done` is set.
    """

    buffer = memoryview(bytearray(_READ_BYTES))
    """Of all: what is in it is read before the next one writes."""

    def __init__(self, request: bytes, *, stalled: bool, expected: int) -> None:
        loop = asyncio.get_running_loop()
        self.opened = loop.create_future()
        self.done = loop.create_future()
        self.stalled = stalled
        self.bytes = self.events = 0
        self.seen: list[int] = []
        self.latencies_ns: list[int] = []
        self._request = request
        self._expected = expected
        self._rest = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        transport.write(self._request)

    def get_buffer(self, sizehint: int) -> memoryview:  # noqa: ARG002 - asyncio's signature
        return self.buffer

    def buffer_updated(self, nbytes: int) -> None:
        now_ns = time.time_ns()
        data = self._rest + self.buffer[:nbytes]
        if not self.opened.done():
            head, end, data = data.partition(b"\r\n\r\n")
            if not end:
                self._rest = head
                return
            self.opened.set_result(head.startswith(b"HTTP/1.1 200"))
            if self.stalled:
                self.transport.pause_reading()
                return
        self.bytes += nbytes
        # A chunk's header never stands inside a line of an event that was sent whole, so lines are enough.
        whole, line_end, self._rest = data.rpartition(b"\n")
        if not line_end:
            return
        for sequence, sent_ns in _EVENT.findall(whole):
            self.seen.append(int(sequence))
            self.latencies_ns.append(now_ns - int(sent_ns))
        self.events += (b"\n" + whole).count(b"\ndata:")
        if self.events >= self._expected and not self.done.done():
            self.done.set_result(None)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio's signature
        for future in (self.opened, self.done):
            if not future.done():
                future.set_result(False)


async def _listen(options: argparse.Namespace) -> dict[str, Any]:
    loop = asyncio.get_running_loop()
    began_s = time.monotonic()
    subscribers: list[_Subscriber] = []
    for number in range(options.connections):
        path = options.path.replace("%d", str(number % options.projects))
        lines = [f"GET {path} HTTP/1.1", f"Host: 127.0.0.1:{options.port}", "Accept: text/event-stream"]
        request = "\r\n".join([*lines, *options.header, "", ""]).encode()
        subscriber = _Subscriber(request, stalled=number < options.stall, expected=options.events or 1 << 62)
        subscribers.append(subscriber)
        try:
            await loop.create_connection(lambda subscriber=subscriber: subscriber, "127.0.0.1", options.port)  # type: ignore[misc]
        except OSError:
            subscriber.connection_lost(None)
    await asyncio.wait([one.opened for one in subscribers], timeout=_CONNECT_TIMEOUT_S)
    connect_all_s = time.monotonic() - began_s
    if options.ready:
        options.ready.touch()
    reading = [one for one in subscribers if not one.stalled]
    await asyncio.wait([one.done for one in reading], timeout=options.seconds)
    closed_early = sum(one.transport.is_closing() for one in reading if hasattr(one, "transport"))
    for one in subscribers:
        if hasattr(one, "transport"):
            one.transport.abort()
    ok = sum(one.opened.done() and bool(one.opened.result()) for one in subscribers)
    return {
        "conns_ok": ok,
        "conns_failed": len(subscribers) - ok,
        "closed_early": closed_early,
        "connect_all_s": round(connect_all_s, 3),
    } | _judged(reading)


def _judged(reading: list[_Subscriber]) -> dict[str, Any]:
    missing = duplicated = out_of_order = 0
    for one in reading:
        if one.seen:
            distinct = set(one.seen)
            missing += max(distinct) - one.seen[0] + 1 - len(distinct)
            duplicated += len(one.seen) - len(distinct)
            out_of_order += sum(later < earlier for earlier, later in pairwise(one.seen))
    latencies_ms = np.concatenate([np.array(one.latencies_ns, float) for one in reading]) / 1e6
    p50, p90, p99, worst = np.percentile(latencies_ms, [50, 90, 99, 100]) if latencies_ms.size else [0.0] * 4
    used = resource.getrusage(resource.RUSAGE_SELF)
    counts = [one.events for one in reading]
    return {
        "events": sum(counts),
        "wire_bytes": sum(one.bytes for one in reading),
        "lat_ms": {"p50": round(p50, 3), "p90": round(p90, 3), "p99": round(p99, 3), "max": round(worst, 3)},
        "conn_events_min": min(counts),
        "conn_events_max": max(counts),
        "missing": missing,
        "duplicated": duplicated,
        "out_of_order": out_of_order,
        "no_seq": sum(one.events - len(one.seen) for one in reading),
        "client_cpu_s": round(used.ru_utime + used.ru_stime, 2),
    }


def main() -> None:
    """Read the options, listen, print the figures."""
    parser = argparse.ArgumentParser(prog="syndarix_rt.benchmark.load")
    parser.add_argument("-p", "--port", type=int, required=True)
    parser.add_argument("-u", "--path", required=True, help="%%d in it becomes the project's number")
    parser.add_argument("-P", "--projects", type=int, default=1)
    parser.add_argument("-n", "--connections", type=int, default=200)
    parser.add_argument("-r", "--rate", type=float, help="not heeded: one connection after the other")
    parser.add_argument("-d", "--seconds", type=float, default=10.0, help="to listen after the last connect")
    parser.add_argument("-e", "--events", type=int, help="stop once every connection has had so many")
    parser.add_argument("-H", "--header", action="append", default=[])
    parser.add_argument("-R", "--ready", type=Path, help="a file to make when all are connected")
    parser.add_argument("-S", "--stall", type=int, default=0, help="so many stop reading after the headers")
    options = parser.parse_args()
    resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)
    print(json.dumps(asyncio.run(_listen(options))))  # noqa: T201 - its output


if __name__ == "__main__":
    main()
