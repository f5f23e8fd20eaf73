"""`MemoryBroker`: the reference for the broker's contract, inside one process and one event loop.

The same rules as `RedisBroker`, without a server: what it holds is gone with the process.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections import deque
from collections.abc import AsyncGenerator, Callable, Sequence
from datetime import datetime
from itertools import islice
from typing import NamedTuple

from syndarix_rt.broker.approvals import (
    KEEP_KNOWN,
    MAX_KNOWN,
    SEARCH_ENTRIES,
    Draft,
    Mention,
    Record,
    State,
    late_decisions,
    mentions,
    waiting,
)
from syndarix_rt.broker.protocol import (
    MAX_BATCH_BYTES,
    Batch,
    Page,
    Published,
    Retention,
    TailUpdate,
    check_batch,
    project_of,
)
from syndarix_rt.delivery.approvals import Approval, Decision, Verdict
from syndarix_rt.delivery.resume import Position
from syndarix_rt.errors import BrokerError, PublishConflict

__all__ = ["MemoryBroker"]

RECORD_S = 24 * 3600.0
"""How long a producer's last batch is known."""

META_S = 7 * 24 * 3600.0
"""How long a channel is known after its log went."""

PAGE_ENTRIES = 1_000
"""Entries that a tail takes at once: one batch."""


class _Record(NamedTuple):
    sequence: int
    fingerprint: str
    published: Published
    at_s: float


class _Channel:
    """One channel's log."""

    def __init__(self, now_s: float) -> None:
        self.epoch = secrets.token_urlsafe(9)
        self.last = 0
        self.entries: deque[bytes] = deque()
        self.bytes = 0
        self.records: dict[str, _Record] = {}
        self.approvals: dict[str, Record] = {}
        self.approvals_s = now_s
        self.touched_s = now_s
        self.tails: set[asyncio.Event] = set()

    @property
    def position(self) -> Position:
        return Position(self.epoch, self.last - len(self.entries) + 1, self.last)

    def begin(self, now_s: float) -> None:
        """A new epoch at offset 1."""
        self.epoch = secrets.token_urlsafe(9)
        self.last = 0
        self.touched_s = now_s
        self.approvals.clear()
        self.clear()

    def clear(self) -> None:
        self.entries.clear()
        self.bytes = 0

    def append(self, entries: Sequence[bytes], retention: Retention) -> None:
        self.entries.extend(entries)
        self.last += len(entries)
        self.bytes += sum(map(len, entries))
        while len(self.entries) > retention.entries or self.bytes > retention.bytes:
            self.bytes -= len(self.entries.popleft())

    def late(self, batch: Sequence[Mention]) -> list[int]:
        """Which entries of a batch resolve what a person has decided."""
        states: dict[str, State] = {}
        late = []
        for said in batch:
            known = self.approvals.get(said.approval_id)
            was = states.get(said.approval_id, known and known.state)
            if (was, said.state) == ("decided", "resolved"):
                late.append(said.entry)
            elif "pending" in (was, said.state):
                states[said.approval_id] = said.state
        return late

    def learn(self, first: int, batch: Sequence[Mention]) -> None:
        """Record what a batch says, whose first entry has that offset."""
        for said in batch:
            known = self.approvals.get(said.approval_id)
            if said.state == "pending" or (known is not None and known.state == "pending"):
                record = Record(said.state, self.epoch, first + said.entry, said.time, said.facts)
                self.approvals[said.approval_id] = record
        if len(self.approvals) > MAX_KNOWN:
            oldest = sorted(self.approvals.items(), key=lambda item: (item[1].state == "pending", item[1].offset))
            self.approvals = dict(oldest[-KEEP_KNOWN:])

    def decide(self, approval_id: str, draft: Draft, retention: Retention) -> None:
        """Append a decision's event and record it."""
        latest = islice(reversed(self.entries), SEARCH_ENTRIES) if draft.simulation is not None else ()
        at = next((at for entry in latest if (at := draft.time_in(entry)) is not None), draft.time)
        self.append([draft.at(at)], retention)
        self.approvals[approval_id] = Record("decided", self.epoch, self.last, at, draft.facts)

    def expire(self, now_s: float, age_s: float) -> None:
        """What time has taken since the last publish."""
        if now_s - self.touched_s >= age_s + META_S:
            self.begin(now_s)
        elif now_s - self.touched_s >= age_s:
            self.clear()
        if now_s - self.approvals_s >= age_s + META_S:
            self.approvals.clear()

    def page(self, after: int, limit: int) -> Page:
        position = self.position
        first = max(after + 1, position.first)
        entries: list[bytes] = []
        size = 0
        start = first - position.first
        for entry in islice(self.entries, start, start + limit):
            entries.append(entry)
            size += len(entry)
            if size >= MAX_BATCH_BYTES:
                break
        return Page(position, first, entries)


class MemoryBroker:
    """A `Broker` in memory.

    Args:
        retention: how much of each channel's log is kept.
        clock: seconds that never go back.
    """

    def __init__(
        self,
        *,
        retention: Retention = Retention(),  # noqa: B008 - frozen
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.retention = retention
        self._clock = clock
        self._channels: dict[str, _Channel] = {}
        self._claims: dict[str, tuple[str, float]] = {}
        self._claimants: dict[str, dict[str, float]] = {}
        self._kept: dict[str, tuple[bytes, float]] = {}
        self._projects: set[str] = set()
        self._closed = False

    async def publish(
        self,
        channel: str,
        entries: Sequence[bytes],
        *,
        producer: str | None = None,
        sequence: int = 0,
        fingerprint: str = "",
    ) -> Published:
        """See `Broker.publish`."""
        body = check_batch(entries)
        log = self._channel(channel)
        now_s = self._clock()
        if producer is not None:
            for name in list(log.records):  # oldest first
                if now_s - log.records[name].at_s < RECORD_S:
                    break
                del log.records[name]
            known = log.records.get(producer)
            if known is not None and sequence < known.sequence:
                raise PublishConflict(
                    f"{channel}: this producer has already sent sequence {known.sequence}, a later one"
                )
            if known is not None and sequence == known.sequence:
                if fingerprint != known.fingerprint:
                    raise PublishConflict(
                        f"{channel}: sequence {sequence} of this producer came with another content before"
                    )
                first, last = known.published.first, known.published.last
                return Published(known.published.epoch, first, last, last - first + 1)
        about = mentions(channel, body)
        if about and (late := log.late(about)):
            raise late_decisions(channel, late)
        published = Published(log.epoch, log.last + 1, log.last + len(entries))
        log.append(entries, self.retention)
        if about:
            log.learn(published.first, about)
            log.approvals_s = now_s
        log.touched_s = now_s
        if producer is not None:
            log.records.pop(producer, None)
            log.records[producer] = _Record(sequence, fingerprint, published, now_s)
        project = project_of(channel)
        if project is not None:
            self._projects.add(project)
        self._wake(log)
        await asyncio.sleep(0)  # whoever publishes in a loop gives the others their turn, as with a real server
        return published

    async def position(self, channel: str) -> Position:
        """See `Broker.position`."""
        return self._channel(channel).position

    async def read(self, channel: str, after: int, limit: int) -> Page:
        """See `Broker.read`."""
        return self._channel(channel).page(after, limit)

    async def tail(
        self,
        channel: str,
        *,
        at_once: Callable[[Batch], None] | None = None,  # noqa: ARG002 - what is published would wait for its readers
    ) -> AsyncGenerator[TailUpdate]:
        """See `Broker.tail`."""
        log = self._channel(channel)
        wake = asyncio.Event()
        log.tails.add(wake)
        try:
            epoch, last = "", 0
            while not self._closed:
                wake.clear()
                page = self._channel(channel).page(last, PAGE_ENTRIES)
                if page.position.epoch != epoch or (page.first != last + 1):
                    epoch, last = page.position.epoch, page.position.last
                    yield page.position
                elif page.entries:
                    batch = Batch(epoch, page.first, page.entries)
                    last = batch.last
                    yield batch
                else:
                    await wake.wait()
        finally:
            log.tails.discard(wake)

    def lag(self, channel: str) -> int:  # noqa: ARG002 - what is published is in every tail's reach at once
        """See `Broker.lag`."""
        return 0

    async def reset(self, channel: str) -> Position:
        """See `Broker.reset`."""
        log = self._channel(channel)
        log.begin(self._clock())
        self._wake(log)
        return log.position

    async def approvals(self, channel: str) -> list[Approval]:
        """See `Broker.approvals`."""
        return waiting(self._channel(channel).approvals.items())

    async def decide(
        self,
        channel: str,
        approval_id: str,
        decision: Verdict,
        *,
        at: datetime,
        by: str | None = None,
        comment: str | None = None,
    ) -> Decision | None:
        """See `Broker.decide`."""
        log = self._channel(channel)
        known = log.approvals.get(approval_id)
        if known is None:
            return None
        if known.state == "pending":
            draft = Draft.of(channel, approval_id, known, decision, by=by, comment=comment, at=at)
            log.decide(approval_id, draft, self.retention)
            log.touched_s = log.approvals_s = self._clock()
            self._wake(log)
        return log.approvals[approval_id].decision(approval_id)

    async def projects(self) -> list[str]:
        """See `Broker.projects`."""
        return sorted(self._projects)

    async def claim(self, channel: str, holder: str, ttl_s: float) -> str:
        """See `Broker.claim`."""
        now_s = self._clock()
        self._claimants.setdefault(channel, {})[holder] = now_s + ttl_s
        held_by, until_s = self._claims.get(channel, ("", 0.0))
        if held_by and held_by != holder and now_s < until_s:
            return held_by
        self._claims[channel] = (holder, now_s + ttl_s)
        return holder

    async def release(self, channel: str, holder: str) -> None:
        """See `Broker.release`."""
        self._claimants.get(channel, {}).pop(holder, None)
        if self._claims.get(channel, ("", 0.0))[0] == holder:
            del self._claims[channel]

    async def claimants(self, channel: str) -> list[str]:
        """See `Broker.claimants`."""
        now_s = self._clock()
        claims = self._claimants.get(channel, {})
        for lapsed in [holder for holder, until_s in claims.items() if until_s <= now_s]:
            del claims[lapsed]
        return sorted(claims)

    async def keep(self, name: str, value: bytes, ttl_s: float) -> None:
        """See `Broker.keep`."""
        self._check_open()
        now_s = self._clock()
        self._kept = {known: kept for known, kept in self._kept.items() if now_s < kept[1]}
        self._kept[name] = (value, now_s + ttl_s)

    async def take(self, name: str) -> bytes | None:
        """See `Broker.take`."""
        self._check_open()
        value, until_s = self._kept.pop(name, (None, 0.0))
        return value if self._clock() < until_s else None

    async def ping(self) -> None:
        """See `Broker.ping`."""
        self._check_open()

    async def aclose(self) -> None:
        """See `Broker.aclose`."""
        self._closed = True
        for log in self._channels.values():
            self._wake(log)

    def _channel(self, name: str) -> _Channel:
        self._check_open()
        now_s = self._clock()
        log = self._channels.get(name)
        if log is None:
            log = self._channels[name] = _Channel(now_s)
        log.expire(now_s, self.retention.age_s)
        return log

    def _check_open(self) -> None:
        if self._closed:
            raise BrokerError("this broker has been closed")

    @staticmethod
    def _wake(log: _Channel) -> None:
        for wake in log.tails:
            wake.set()
