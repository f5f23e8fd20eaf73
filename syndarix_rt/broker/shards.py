"""The subscriptions of a cluster: of each channel at the master that owns its slot, wherever that goes.

One connection and its tasks for each master, so that one that is dead or silent holds up no other's channels.
"""

from __future__ import annotations

import asyncio

from syndarix_rt.broker.cluster import Cluster
from syndarix_rt.broker.endpoint import Endpoint
from syndarix_rt.broker.subscriptions import Feed, Subscriptions, Tops
from syndarix_rt.errors import BrokerError

__all__ = ["ShardSubscriptions"]

ROUTE_S = 0.5
"""How often feeds that hear nothing are looked after: a failover takes seconds."""


class ShardSubscriptions:
    """As `Subscriptions`, over the masters of a cluster.

    Args:
        cluster: knows who owns which channel.
        tops: compares the logs of some channels.
    """

    def __init__(self, cluster: Cluster, tops: Tops) -> None:
        self._cluster = cluster
        self._tops = tops
        self._feeds: dict[Feed, str] = {}
        self._places: dict[Feed, Subscriptions] = {}
        self._shards: dict[Endpoint, Subscriptions] = {}
        self._wanted = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def feed(self, name: str) -> Feed:
        """A feed of one Pub/Sub channel."""
        return Feed(self, name)

    def attach(self, name: str, feed: Feed) -> None:
        """Subscribe where the channel is."""
        self._feeds[feed] = name
        self._wanted.set()
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._run(), name="redis cluster subscriptions")

    def detach(self, name: str, feed: Feed) -> None:
        """Unsubscribe, if nobody else listens."""
        del self._feeds[feed]
        place = self._places.pop(feed, None)
        if place is not None:
            place.detach(name, feed)

    async def aclose(self) -> None:
        """End all feeds."""
        for feed in self._feeds:
            feed.close()
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        for shard in self._shards.values():
            await shard.aclose()

    async def _run(self) -> None:
        """Keep every feed where its channel is, as long as anybody listens."""
        while self._feeds:
            self._wanted.clear()
            for feed, name in list(self._feeds.items()):
                try:
                    await self._put(feed, name)
                except BrokerError as error:
                    feed.broken(error)
            try:
                async with asyncio.timeout(ROUTE_S):
                    await self._wanted.wait()
            except TimeoutError:
                if not all(feed.live for feed in self._feeds):
                    self._cluster.doubt()

    async def _put(self, feed: Feed, name: str) -> None:
        owner = await self._cluster.owner(name)
        if feed not in self._feeds:  # gone meanwhile
            return
        shard = self._shards.get(owner)
        if shard is None:
            shard = self._shards[owner] = Subscriptions(owner, self._tops, self._move)
        place = self._places.get(feed)
        if place is shard:
            return
        if place is not None:
            place.detach(name, feed)
            feed.broken()
        self._places[feed] = shard
        shard.attach(name, feed)

    def _move(self) -> None:
        self._cluster.doubt()
        self._wanted.set()
