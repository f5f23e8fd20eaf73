"""What is measured of a candidate, each as figures by name; units stand in the names.

Offered rates are open-loop: the publisher keeps to its schedule, so queueing shows as latency. Latency is from just
before an event is published to when the subscriber has read it.
"""

from __future__ import annotations

import asyncio
import json
import re
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Sequence
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any, cast

import numpy as np

from syndarix_rt.benchmark.candidate import (
    Candidate,
    Usage,
    beside,
    child,
    loop_factory,
    pinned_beside,
    printed,
    wait_until,
)
from syndarix_rt.errors import SyndarixError

__all__ = ["Figures", "Loader", "fan_out", "highest_rate", "idle", "publish", "publishing", "resume"]

Figures = dict[str, float]

SUSTAINED_SHARE = 0.99
"""A rate is sustained if so many of all deliveries arrive …"""

SUSTAINED_P99_MS = 250.0
"""… and the 99th percentile of latency stays below this: a quarter of a second still feels live."""

CONNECTS_PER_S = 1_000
"""New connections a second, so that none has to wait for the listen backlog."""

OPEN_S = 60.0
"""Most that opening all connections may take."""

DRAIN_S = 5.0
"""How long the subscribers listen for what is late; whoever needs more has not sustained the rate."""


class Loader:
    """Subscribers in one process beside the candidate.

    Args:
        command: of the load client; see `load_client`.
    """

    def __init__(self, command: Sequence[str]) -> None:
        self._command = command

    def run(
        self,
        candidate: Candidate,
        *,
        connections: int,
        seconds: float,
        during: Callable[[], None],
        projects: int = 1,
        expected: int | None = None,
        stall: int = 0,
    ) -> dict[str, Any]:
        """Open all streams, call ``during``, listen to the end; what the client printed.

        Raises:
            SyndarixError: the client failed, or not all connections were served.
        """
        options = {"-p": candidate.port, "-u": candidate.path, "-P": projects, "-n": connections, "-S": stall}
        options |= {"-r": CONNECTS_PER_S, "-d": round(seconds, 1)} | ({} if expected is None else {"-e": expected})
        with tempfile.TemporaryDirectory(prefix="syndarix-rt-") as directory:
            ready = Path(directory) / "ready"
            command = [*self._command, "-R", str(ready), *(str(word) for pair in options.items() for word in pair)]
            with child(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
                try:
                    wait_until(ready.exists, process, "the subscribers did not get in", OPEN_S)
                except SyndarixError as error:
                    process.kill()
                    error.add_note(process.communicate()[1][-2000:])
                    raise
                during()
                figures = printed(process, seconds + OPEN_S)
        if figures["conns_failed"]:
            raise SyndarixError(f"{candidate.name}: {figures['conns_failed']} of {connections} connections failed")
        return figures


def publish(candidate: Candidate, rate: float, events: int, projects: int, size_bytes: int = 300) -> float:
    """Publish events, to projects in turn; the time that it took, seconds."""
    options = {"--rate": rate, "--events": events, "--projects": projects, "--bytes": size_bytes}
    took = beside([*candidate.publisher, *(str(word) for pair in options.items() for word in pair)], 600)
    return float(took["took_s"])


def fan_out(
    candidate: Candidate, load: Loader, *, subscribers: int, rate: float, seconds: float, projects: int = 1,
    stall: int = 0, size_bytes: int = 300,
) -> Figures:  # fmt: skip
    """Events at a steady rate to all subscribers.

    Args:
        candidate: the server.
        load: the subscribers.
        subscribers: over all projects, as many in each.
        rate: events a second in all.
        seconds: for how long.
        projects: the events go to them in turn.
        stall: so many of the subscribers read nothing.
        size_bytes: of an encoded event.

    Returns:
        ``sustained`` (1 or 0), ``deliveries_per_s``, ``p50_ms``, ``p99_ms``, ``max_ms``, ``arrived`` (share),
        ``missing``, ``duplicated``, ``out_of_order``, ``cpu_us`` (of the server, a delivery), ``server_load`` and
        ``client_load`` (cores), ``memory_mib``.
    """
    events = max(projects, int(rate * seconds))
    used: list[Usage] = []
    took_s: list[float] = []

    def during() -> None:
        used.append(candidate.usage())
        took_s.append(publish(candidate, rate, events, projects, size_bytes))

    each = events // projects
    found = load.run(
        candidate,
        connections=subscribers,
        seconds=seconds + DRAIN_S,
        during=during,
        projects=projects,
        expected=each + candidate.greetings,
        stall=stall,
    )
    after = candidate.usage()
    listening = subscribers - stall
    expected = listening * each
    delivered = max(0, found["events"] - listening * candidate.greetings)
    cpu_s = after.cpu_s - used[0].cpu_s
    arrived, p99_ms = delivered / expected, found["lat_ms"]["p99"]
    kept_pace = took_s[0] < 1.1 * seconds + 0.1
    return {
        "sustained": float(arrived >= SUSTAINED_SHARE and p99_ms < SUSTAINED_P99_MS and kept_pace),
        "deliveries_per_s": delivered / max(took_s[0], seconds),
        "p50_ms": found["lat_ms"]["p50"],
        "p99_ms": p99_ms,
        "max_ms": found["lat_ms"]["max"],
        "arrived": arrived,
        **{name: float(found[name]) for name in ("missing", "duplicated", "out_of_order")},
        "cpu_us": cpu_s / max(delivered, 1) * 1e6,
        "server_load": cpu_s / took_s[0],
        "client_load": found["client_cpu_s"] / took_s[0],  # nearly all of it while events are published
        "memory_mib": after.memory_kib / 1024,
    }


def highest_rate(
    candidate: Candidate, load: Loader, rates: Sequence[float], *, subscribers: int = 1_000, seconds: float = 2.5
) -> Figures:
    """The highest of some rising rates that is sustained: the figures of `fan_out` there, with ``rate``.

    It stops at the first rate that is not; ``rate`` is 0 if none is. ``beyond_server_load`` and ``beyond_client_load``
    are the loads at that rate, which tell whose limit it is: a client on a core of its own has no more than that.
    """
    best: Figures = {"rate": 0.0, "deliveries_per_s": 0.0}
    for rate in rates:
        found = fan_out(candidate, load, subscribers=subscribers, rate=rate, seconds=seconds)
        if not found["sustained"]:
            best |= {f"beyond_{name}": found[name] for name in ("server_load", "client_load")}
            break
        best = {"rate": rate} | found
    return best


def idle(candidate: Candidate, load: Loader, connections: int) -> Figures:
    """Many connections without traffic, and then one event to all of them.

    Returns:
        ``connections``, ``kib_per_connection``, ``base_mib`` (before), ``served`` (so many got the event) and, if all
        did, ``event_to_all_ms``.
    """
    before = candidate.usage()
    held: list[Usage] = []

    def during() -> None:
        held.append(candidate.usage())
        publish(candidate, 1, 1, 1)

    found = load.run(candidate, connections=connections, seconds=30, during=during, expected=1 + candidate.greetings)
    figures = {
        "connections": connections,
        "kib_per_connection": (held[0].memory_kib - before.memory_kib) / connections,
        "base_mib": before.memory_kib / 1024,
        "served": found["events"] - connections * candidate.greetings,
    }
    reached_all = found["conn_events_min"] > candidate.greetings
    return figures | ({"event_to_all_ms": found["lat_ms"]["max"]} if reached_all else {})


def resume(candidate: Candidate, *, clients: int, missed: int, size_bytes: int = 300) -> Figures:
    """Clients that all come back at once, each having missed the same number of events.

    Returns:
        ``clients``, ``missed``, ``lost``, ``doubled``, ``out_of_order`` and, of those that got the last event,
        ``p50_ms``, ``p99_ms`` (from the first byte of a request to the last of the events).
    """
    publish(candidate, float("inf"), missed, 1, size_bytes)
    with pinned_beside(), asyncio.Runner(loop_factory=loop_factory()) as runner:
        return runner.run(_resume(candidate, clients, missed))


async def _resume(candidate: Candidate, clients: int, missed: int) -> Figures:
    loop = asyncio.get_running_loop()
    last_event_id = await asyncio.to_thread(_id_before, candidate.port, "p0", missed)
    waiting: list[_Returning] = []
    try:
        for _ in range(clients):
            returning = partial(_Returning, candidate, last_event_id, missed)
            _, one = await loop.create_connection(returning, "127.0.0.1", candidate.port)
            waiting.append(one)
        for one in waiting:
            one.ask()
        await asyncio.wait([one.done for one in waiting], timeout=OPEN_S)
    finally:
        for one in waiting:
            one.transport.abort()
    sequences = [one.sequences() for one in waiting]
    figures = {
        "clients": clients,
        "missed": missed,
        "lost": float(sum(missed - len(set(each)) for each in sequences)),
        "doubled": float(sum(len(each) - len(set(each)) for each in sequences)),
        "out_of_order": float(sum(later < earlier for each in sequences for earlier, later in pairwise(each))),
    }
    taken_ms = [one.took_s * 1e3 for one in waiting if one.took_s is not None]
    return figures | ({f"p{share}_ms": float(np.percentile(taken_ms, share)) for share in (50, 99)} if taken_ms else {})


def _id_before(port: int, project: str, missed: int) -> str:
    """The id of the event after which ``missed`` more were published."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/projects/{project}/position", timeout=5) as reply:
        position = json.load(reply)
    return f"{position['epoch']}.{position['last'] - missed}"


class _Returning(asyncio.BufferedProtocol):
    """One client that comes back. It keeps what it reads, and is judged afterwards, so that it costs little.

    Attributes:
        done: resolved when it has the last event, or the connection is lost.
        took_s: from its request to the last event, seconds; None: it has not come.
    """

    def __init__(self, candidate: Candidate, last_event_id: str, missed: int) -> None:
        path, host = candidate.path.replace("%d", "0"), f"127.0.0.1:{candidate.port}"
        headers = [f"GET {path} HTTP/1.1", f"Host: {host}", f"Last-Event-ID: {last_event_id}"]
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.took_s: float | None = None
        self._request = "\r\n".join([*headers, "", ""]).encode()
        self._newest = b'"seq":%d,' % missed
        self._data = bytearray(1 << 20)
        self._size = self._looked = 0

    def ask(self) -> None:
        """Come back."""
        self._began_s = time.perf_counter()
        self.transport.write(self._request)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)  # uvloop's do not inherit from it

    def get_buffer(self, sizehint: int) -> memoryview:  # noqa: ARG002 - asyncio's signature
        if len(self._data) - self._size < _READ_BYTES:
            self._data += bytes(len(self._data))
        return memoryview(self._data)[self._size :]

    def buffer_updated(self, nbytes: int) -> None:
        self._size += nbytes
        newest = self._data.find(self._newest, self._looked, self._size)
        # The rest of its line, or of itself, may be under way.
        self._looked = newest if newest >= 0 else max(0, self._size - len(self._newest))
        if newest >= 0 and self._data.find(b"\n", newest, self._size) >= 0 and not self.done.done():
            self.took_s = time.perf_counter() - self._began_s
            self.done.set_result(None)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio's signature
        if not self.done.done():
            self.done.set_result(None)

    def sequences(self) -> list[int]:
        """The numbers of the events that came."""
        return [int(number) for number in re.findall(rb'"seq":(\d+)', bytes(self._data[: self._size]))]


_READ_BYTES = 1 << 16


def publishing(redis_url: str, *, events: int, batch: int) -> Figures:
    """Events published into Redis one batch after the other: ``events_per_s``."""
    command = [sys.executable, "-m", "syndarix_rt.benchmark.offer", "--redis-url", redis_url, "--project", "published"]
    options = {"--rate": "inf", "--events": events, "--batch": batch}
    took = beside([*command, *(str(word) for pair in options.items() for word in pair)], 300)
    return {"batch": batch, "events_per_s": events / took["took_s"]}
