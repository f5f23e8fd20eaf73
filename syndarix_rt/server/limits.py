"""What one client, and all of them together, may take of a server process.

A `Quota` bounds what is held at a time, an `Allowance` what is used up over time. Beyond its own share a client gets
429, beyond that of all 503, both with ``Retry-After``; each case is counted for ``/metrics``. All of it is per process:
with several workers, each has its own.

A client is an address: the peer's, or what a trusted proxy says (``--proxy-hops``); of IPv6 the /64, which is what one
customer has. Publishing with a token of limited rights is counted by token, wherever it is used.
"""

from __future__ import annotations

import ipaddress
import math
import time
from collections import Counter, OrderedDict
from collections.abc import Callable
from functools import lru_cache

import structlog

from syndarix_rt.broker.protocol import MAX_BATCH_BYTES
from syndarix_rt.server.problems import Problem
from syndarix_rt.server.settings import Settings

__all__ = ["DETAILS", "REQUEST_BYTES", "Allowance", "Limits", "Quota", "client_of"]

CONNECTIONS_AGAIN_S = 5
"""A connection that says nothing is closed after so long, and streams end all the time: worth another try."""

READS_AGAIN_S = 1
"""A request's body is here, or a page of history read, within about this."""

BODIES_OF_CLIENT, BODIES_IN_ALL = 4 * MAX_BATCH_BYTES, 16 * MAX_BATCH_BYTES
"""Bytes of requests' bodies that are held at a time: some full batches of one publisher, and 64 MiB of a worker."""

HISTORIES_OF_CLIENT, HISTORIES_IN_ALL = 16, 64
"""Pages of history that are read or being sent at a time; each holds up to 4 MiB."""

PUBLISH_BURST_S = 10.0
"""What was not used of the publish rate is kept for so long: a short simulation at full speed is not slowed down."""

REQUEST_BYTES = 4096
"""A request that writes counts for so much at least: it costs about as much as the events that fit."""

HOUR_S = 3600.0

SHARES = 10
"""All clients together may bring up as many new projects as so many at their limits."""

MAX_CLIENTS = 10_000
"""Clients whose use is remembered; who is forgotten had used least lately, and begins with a full allowance."""

SAY_S = 10.0
"""Between two log lines about one limit: a flood must not become one of lines."""

_V6_NETWORK = 64

DETAILS = {
    "connections": "connections, or requests under way on them",
    "bodies": "bytes of bodies that are still being received",
    "histories": "pages of history at a time",
    "publish": "published in too short a time",
    "projects": "new projects in too short a time",
}
"""The limits by the names that they have in ``/metrics``, and too much of what it was."""

_log = structlog.get_logger("syndarix_rt.server")


@lru_cache(4096)
def client_of(address: str) -> str:
    """Who counts as one client."""
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return address  # of a test client, or a proxy that says what it likes
    if isinstance(parsed, ipaddress.IPv4Address):
        return address
    if parsed.ipv4_mapped is not None:
        return str(parsed.ipv4_mapped)
    return str(ipaddress.ip_network((int(parsed), _V6_NETWORK), strict=False))


class Refusals:
    """What was refused, counted, and said now and then."""

    def __init__(self) -> None:
        self.counts: Counter[tuple[str, int]] = Counter()
        self._said_s: dict[str, float] = {}

    def problem(self, limit: str, client: str, again_s: float, *, of_all: bool) -> Problem:
        """Count a refusal; what the client is told."""
        status = 503 if of_all else 429
        self.counts[limit, status] += 1
        now_s = time.monotonic()
        if now_s - self._said_s.get(limit, -math.inf) >= SAY_S:
            self._said_s[limit] = now_s
            _log.warning("a limit is reached", limit=limit, client=client, status=status)
        whose = "All clients of this server together have" if of_all else "This client has"
        return Problem(
            *(status, f"limit-{limit}", f"{whose} too many {DETAILS[limit]}; come back after Retry-After."),
            headers={"retry-after": str(max(1, math.ceil(again_s)))},
        )


class Quota:
    """What is held at a time, of one client and in all."""

    def __init__(self, refusals: Refusals, limit: str, *, of_client: int, in_all: int, again_s: float) -> None:
        self.of_client, self.in_all = of_client, in_all
        self.held = 0
        self._by_client: Counter[str] = Counter()
        self._refusals, self._limit, self._again_s = refusals, limit, again_s

    def take(self, client: str, amount: int = 1) -> None:
        """Hold so much more; `give` it back.

        Raises:
            Problem: 429 or 503; nothing more is held.
        """
        of_all = self.held + amount > self.in_all
        if of_all or self._by_client[client] + amount > self.of_client:
            if not self._by_client[client]:
                del self._by_client[client]
            raise self._refusals.problem(self._limit, client, self._again_s, of_all=of_all)
        self.held += amount
        self._by_client[client] += amount

    def give(self, client: str, amount: int = 1) -> None:
        """Hold so much less."""
        self.held -= amount
        self._by_client[client] -= amount
        if not self._by_client[client]:
            del self._by_client[client]


class Allowance:
    """What may be used up: ``at_once`` of it, and what has been used comes back at ``per_s``.

    It is looked at before the work and charged for what that turned out to be, so a client can run into debt by one
    piece of work, and then waits until that is paid.
    """

    def __init__(
        self,
        refusals: Refusals,
        limit: str,
        *,
        at_once: float,
        per_s: float,
        of_all: bool = False,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._at_once, self._per_s = at_once, per_s
        self._refusals, self._limit, self._of_all = refusals, limit, of_all
        self._clock = clock
        self._used: OrderedDict[str, tuple[float, float]] = OrderedDict()  # how much, and when that was so

    def check(self, client: str, amount: float = 0.0) -> None:
        """Whether so much is left; of work whose size is not known yet, whether there is no debt.

        Raises:
            Problem: 429, or 503 if it is that of all.
        """
        over = self._now(client) + amount - self._at_once
        if over > 0:
            raise self._refusals.problem(self._limit, client, over / self._per_s, of_all=self._of_all)

    def charge(self, client: str, amount: float) -> None:
        """So much of it has been used."""
        self._used[client] = (self._now(client) + amount, self._clock())
        self._used.move_to_end(client)
        if len(self._used) > MAX_CLIENTS:
            self._used.popitem(last=False)

    def _now(self, client: str) -> float:
        used, at_s = self._used.get(client, (0.0, 0.0))
        return max(0.0, used - (self._clock() - at_s) * self._per_s)


class Limits:
    """All limits of a process.

    Attributes:
        connections: open TCP connections, whether or not they say anything; counted where our launcher serves.
        requests: requests under way, event streams and WebSockets among them.
        bodies: bytes of requests' bodies.
        histories: pages of history.
        refused: refusals by limit and status.
    """

    def __init__(self, settings: Settings) -> None:
        refusals = Refusals()
        self.refused = refusals.counts
        in_all = settings.max_connections
        of_client = min(in_all, settings.max_client_connections or max(1, in_all * 9 // 10))
        again_s = CONNECTIONS_AGAIN_S
        # Of the connections of proxies only all together can be counted; of what comes through them, each client's.
        of_peer = in_all if settings.proxy_hops else of_client
        self.connections = Quota(refusals, "connections", of_client=of_peer, in_all=in_all, again_s=again_s)
        self.requests = Quota(refusals, "connections", of_client=of_client, in_all=in_all, again_s=again_s)
        self.bodies = Quota(refusals, "bodies", of_client=BODIES_OF_CLIENT, in_all=BODIES_IN_ALL, again_s=READS_AGAIN_S)
        self.histories = Quota(
            refusals, "histories", of_client=HISTORIES_OF_CLIENT, in_all=HISTORIES_IN_ALL, again_s=READS_AGAIN_S
        )
        rate, projects = settings.publish_bytes_per_s, settings.new_projects_per_h
        self.publish = Allowance(refusals, "publish", at_once=rate * PUBLISH_BURST_S, per_s=rate)
        self.projects = Allowance(refusals, "projects", at_once=projects, per_s=projects / HOUR_S)
        of_all = SHARES * projects
        self.all_projects = Allowance(refusals, "projects", at_once=of_all, per_s=of_all / HOUR_S, of_all=True)
