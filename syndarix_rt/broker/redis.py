"""`RedisBroker`: the broker on a Redis or Valkey server of version 7 or later, or on a cluster of them.

Keys of a channel, all under its hash tag: ``srt:log:<channel>`` (the log, a stream), ``srt:meta:<channel>`` (epoch and
last offset), ``srt:seq:<channel>`` (what producers sent last), ``srt:approvals:<channel>`` (which wait, how others were
decided), ``srt:claim:<channel>`` (which run holds it), ``srt:claims:<channel>`` (which play into it). The Pub/Sub
channel is named like the channel; on a cluster it is a sharded one. The project names are in ``srt:projects``, what is
to be taken once is in ``srt:kept:<name>``.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import AsyncGenerator, Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import Any

from syndarix_rt.broker import cluster, sentinel
from syndarix_rt.broker.approvals import SEARCH_ENTRIES, Draft, Record, late_decisions, mentions, waiting
from syndarix_rt.broker.endpoint import Endpoint, Resolve
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
from syndarix_rt.broker.reader import Announcement, Reader, Top
from syndarix_rt.broker.retry import pauses
from syndarix_rt.broker.scripts import CLAIM, CLAIMANTS, DECIDE, PUBLISH, READ, RELEASE, RESET
from syndarix_rt.broker.shards import ShardSubscriptions
from syndarix_rt.broker.subscriptions import Subscriptions
from syndarix_rt.delivery.approvals import Approval, Decision, Verdict
from syndarix_rt.delivery.resume import Position
from syndarix_rt.errors import BrokerError, BrokerUnavailable, PublishConflict
from syndarix_rt.events import EventId

__all__ = ["RedisBroker"]

PAGE_ENTRIES = 1_000
"""Entries that a tail reads at once to catch up: one batch."""

PROJECT_S = 10.0
"""How often a project that is published to is named again, so that the list comes back after a flush."""


class RedisBroker:
    """A `Broker` on one Redis server, or on a cluster.

    Belongs to the event loop in which it is first used.

    Args:
        url: ``redis://``, ``rediss://`` (TLS) or ``unix://``; of a cluster ``redis+cluster://HOST:PORT,HOST:PORT``,
            some of its nodes; of a master that Sentinels look after ``redis+sentinel://HOST:PORT,HOST:PORT/NAME``,
            some of the Sentinels. ``rediss+…`` for TLS.
        namespace: put before every key and channel name, so that several installations can share a server.
        retention: how much of each channel's log is kept.
        resolve: gives the URL anew before each reconnect; may restart the server meanwhile. Not for a cluster.

    Raises:
        ValueError: the URL or the namespace is none.
    """

    def __init__(
        self,
        url: str,
        *,
        namespace: str = "",
        retention: Retention = Retention(),  # noqa: B008 - frozen
        resolve: Resolve | None = None,
    ) -> None:
        if "{" in namespace or "}" in namespace:
            raise ValueError(f"a namespace may hold no braces, they name the cluster slot: {namespace!r}")
        self.retention = retention
        self._namespace = namespace
        self._endpoint: Endpoint | cluster.Cluster
        self._subscriptions: Subscriptions | ShardSubscriptions
        self._sentinels: sentinel.Sentinels | None = None
        scheme = url.partition("://")[0]
        if scheme in cluster.SCHEMES:
            self._endpoint = whole = cluster.Cluster(url)
            self._subscriptions = ShardSubscriptions(whole, self._tops)
        else:
            if scheme in sentinel.SCHEMES:
                self._sentinels = sentinel.Sentinels(url)
                url, resolve = "", self._sentinels.master
            self._endpoint = one = Endpoint(url, resolve)
            self._subscriptions = Subscriptions(one, self._tops)
        self._named: dict[str, float] = {}
        self._lags: dict[str, int] = {}

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
        about: list[str | bytes | int] = []
        for mention in mentions(channel, body):
            about += (mention.entry + 1, *mention[1:])
        reply = await self._append(PUBLISH, channel, body, producer or "", sequence, fingerprint, *about)
        epoch, first, last, duplicates = reply
        project = project_of(channel)
        if project is not None:
            await self._name(project)
        return Published(epoch.decode(), first, last, duplicates)

    async def position(self, channel: str) -> Position:
        """See `Broker.position`."""
        return (await self.read(channel, 0, 0)).position

    async def read(self, channel: str, after: int, limit: int) -> Page:
        """See `Broker.read`."""
        reply = await self._run_on_log(READ, channel, after, limit, MAX_BATCH_BYTES)
        epoch, first, last, survived, page_first, entries = reply
        places = tuple(EventId.parse(place) for place in survived.decode().split())
        return Page(Position(epoch.decode(), first, last, places), page_first, entries)

    async def tail(self, channel: str, *, at_once: Callable[[Batch], None] | None = None) -> AsyncGenerator[TailUpdate]:
        """See `Broker.tail`."""
        reader: Reader | None = None

        def taken(message: Announcement) -> bool:
            if at_once is None or reader is None:
                return False
            batch = reader.follow(message)
            if batch is None:
                return False
            at_once(batch)
            return True

        away = False
        waits = pauses()
        with self._subscriptions.feed(self._namespace + channel) as feed, self._lagging(channel):
            while not feed.closed:
                update: TailUpdate = None
                try:
                    if reader is None or reader.behind:
                        await feed.subscribed()
                        if feed.closed:
                            return
                        if reader is None:
                            update = await self.position(channel)
                            reader = Reader(update)
                        else:
                            update = reader.page(await self.read(channel, reader.last, PAGE_ENTRIES))
                    else:
                        sign = await feed.next(taken)
                        if isinstance(sign, Announcement):
                            update = reader.announced(sign)
                        elif isinstance(sign, Top):
                            reader.compared(sign)
                        else:
                            reader.behind = True
                except BrokerUnavailable:
                    reader = None
                    if not away:
                        away = True
                        yield None
                    await feed.again(next(waits))
                    continue
                self._lags[channel] = reader.lag if reader is not None else 0
                if update is not None:
                    if away:
                        away = False
                        waits = pauses()
                    yield update

    def lag(self, channel: str) -> int:
        """See `Broker.lag`."""
        return self._lags.get(channel, 0)

    async def reset(self, channel: str) -> Position:
        """See `Broker.reset`."""
        epoch = await self._run_on_log(RESET, channel)
        return Position(epoch.decode(), 1, 0)

    async def approvals(self, channel: str) -> list[Approval]:
        """See `Broker.approvals`."""
        found = await self._endpoint.command("HGETALL", self._key("approvals", channel))
        return waiting(
            (name.decode(), Record.parse(value)) for name, value in zip(found[::2], found[1::2], strict=True)
        )

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
        value = await self._append(DECIDE, channel, approval_id, "")
        while value is not None:
            record = Record.parse(value)
            if record.state != "pending":
                return record.decision(approval_id)
            draft = Draft.of(channel, approval_id, record, decision, by=by, comment=comment, at=at)
            how = (draft.mark, SEARCH_ENTRIES, draft.asked, draft.time, *draft.pieces, draft.facts)
            value = await self._append(DECIDE, channel, approval_id, value, *how)
        return None

    async def projects(self) -> list[str]:
        """See `Broker.projects`."""
        names = await self._endpoint.command("SMEMBERS", self._key("projects"))
        return sorted(name.decode() for name in names)

    async def claim(self, channel: str, holder: str, ttl_s: float) -> str:
        """See `Broker.claim`."""
        held = await self._endpoint.run(CLAIM, self._claims(channel), [holder, _ms(ttl_s)])
        return str(held.decode())

    async def release(self, channel: str, holder: str) -> None:
        """See `Broker.release`."""
        await self._endpoint.run(RELEASE, self._claims(channel), [holder])

    async def claimants(self, channel: str) -> list[str]:
        """See `Broker.claimants`."""
        found = await self._endpoint.run(CLAIMANTS, [self._key("claims", channel)], [])
        return sorted(name.decode() for name in found)

    async def keep(self, name: str, value: bytes, ttl_s: float) -> None:
        """See `Broker.keep`."""
        await self._endpoint.command("SET", self._key("kept", name), value, "PX", _ms(ttl_s))

    async def take(self, name: str) -> bytes | None:
        """See `Broker.take`."""
        value: bytes | None = await self._endpoint.command("GETDEL", self._key("kept", name))
        return value

    async def ping(self) -> None:
        """See `Broker.ping`."""
        await self._endpoint.ping()

    async def aclose(self) -> None:
        """See `Broker.aclose`."""
        await self._subscriptions.aclose()
        await self._endpoint.aclose()
        if self._sentinels is not None:
            await self._sentinels.aclose()

    @contextmanager
    def _lagging(self, channel: str) -> Iterator[None]:
        """Know the lag of the channel's tail while there is one."""
        try:
            yield
        finally:
            self._lags.pop(channel, None)

    def _key(self, kind: str, channel: str = "") -> str:
        return f"{self._namespace}srt:{kind}:{channel}" if channel else f"{self._namespace}srt:{kind}"

    def _claims(self, channel: str) -> list[str]:
        return [self._key("claim", channel), self._key("claims", channel)]

    async def _append(self, script: Any, channel: str, *args: str | bytes | int) -> Any:
        """Run a script that goes on with ``append.lua``."""
        limits = (self.retention.entries, self.retention.bytes)
        return await self._run_on_log(script, channel, self._namespace + channel, *limits, *args)

    async def _run_on_log(self, script: Any, channel: str, *args: str | bytes | int) -> Any:
        """Run a script of which ``log.lua`` is the beginning."""
        keys = [self._key(kind, channel) for kind in ("log", "meta", "seq", "approvals")]
        try:
            return await self._endpoint.run(script, keys, [secrets.token_urlsafe(9), _ms(self.retention.age_s), *args])
        except BrokerUnavailable:
            raise
        except BrokerError as error:
            cause = error.__cause__
            if str(cause).startswith("WRONGTYPE"):
                types = await self._endpoint.pipeline([("TYPE", key) for key in keys])
                found = ", ".join(f"{key} is a {kind.decode()}" for key, kind in zip(keys, types, strict=True))
                raise BrokerError(
                    f"{channel}: its keys are in use for something else ({found}; expected: stream, hash, hash, "
                    "hash or none); remove them, or use another namespace"
                ) from cause
            raise _refused(str(cause), channel) or error from cause

    async def _name(self, project: str) -> None:
        """Put a project into the list, now and then; a failure is made good by a later publish."""
        now = time.monotonic()
        if now - self._named.get(project, -PROJECT_S) < PROJECT_S:
            return
        self._named[project] = now
        try:
            await self._endpoint.command("SADD", self._key("projects"), project)
        except BrokerError:
            del self._named[project]

    async def _tops(self, names: Sequence[str]) -> list[Top | None]:
        """Where the logs end, of channels with their namespace; None where that cannot be read."""
        start = len(self._namespace)
        commands = [("HMGET", self._key("meta", name[start:]), "epoch", "last") for name in names]
        return [
            Top((reply[0] or b"").decode(), int(reply[1] or 0)) if isinstance(reply, list) else None
            for reply in await self._endpoint.pipeline(commands)
        ]


def _ms(seconds: float) -> int:
    return max(1, round(seconds * 1000))


def _refused(text: str, channel: str) -> BrokerError | None:
    """What a script of ours refused, for a person; None if it was Redis itself."""
    code, _, sequence = text.partition(" ")
    if code == "SRTDECIDED":
        return late_decisions(channel, [int(entry) - 1 for entry in sequence.split()])
    if code == "SRTSEQUENCE":
        return PublishConflict(f"{channel}: this producer has already sent sequence {sequence}, a later one")
    if code == "SRTFINGERPRINT":
        return PublishConflict(f"{channel}: sequence {sequence} of this producer came with another content before")
    if code == "SRTFULL":
        return BrokerError(f"{channel}: the log has reached the last offset there is; reset it")
    if "XADD" in text:
        return BrokerError(f"{channel}: something else has written to its log; reset it, or use another namespace")
    return None
