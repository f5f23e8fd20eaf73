"""`Outlet`: how a notebook's own events get into the log: straight into Redis, or over HTTP."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager

from syndarix_rt.broker import Broker, Publisher, Retention
from syndarix_rt.broker.factory import open_broker
from syndarix_rt.client import HttpLine, HttpPublisher
from syndarix_rt.delivery import Position, Published
from syndarix_rt.errors import ProjectBusy
from syndarix_rt.events import Event
from syndarix_rt.playback import BrokerLine, Line, claim
from syndarix_rt.state import ServerEndpoint

__all__ = ["Outlet"]


class Outlet:
    """Publishes into any project; connects when it is first used. ``aclose()`` it at the end.

    Args:
        url: the server's, with its key.
        redis: the server as it announced itself, to publish into its Redis. None, or a server that keeps everything
            in its memory: over HTTP.
    """

    def __init__(self, url: str, redis: ServerEndpoint | None) -> None:
        self._url = url
        self._redis = redis if redis and not redis.memory else None
        self._broker: Broker | None = None
        self._publishers: dict[str, Publisher | HttpPublisher] = {}
        self._opening = asyncio.Lock()
        self._stack = AsyncExitStack()

    async def publish(self, events: Sequence[Event]) -> Published:
        """Publish events of one project; where they stand.

        Raises:
            EventError: an event breaks a rule; nothing is stored.
            BrokerUnavailable: Redis or the server stays away.
        """
        publisher = await self._publisher(events[0].project)
        return await publisher.publish(events)

    async def reset(self, project: str) -> Position:
        """Delete the project's log and begin a new epoch; where it starts."""
        publisher = await self._publisher(project)
        return await publisher.reset()

    @asynccontextmanager
    async def claim(
        self, project: str, run: str, *, on_lost: Callable[[ProjectBusy], None], replace: bool, append: bool
    ) -> AsyncIterator[None]:
        """While inside, ``run`` is the one that plays into the project; see `syndarix_rt.playback.claim`."""
        publisher = await self._publisher(project)
        async with claim(publisher, run, on_lost=on_lost, replace=replace, append=append):
            yield

    async def line(self, project: str, run: str) -> Line:
        """How a run is steered that plays into the project; open as long as this is."""
        if self._redis is None:
            return await self._stack.enter_async_context(HttpLine(self._url, project, run))
        await self._publisher(project)
        assert self._broker is not None
        return await BrokerLine.open(self._broker, project, run)

    async def aclose(self) -> None:
        """Give back connections."""
        await self._stack.aclose()

    async def _publisher(self, project: str) -> Publisher | HttpPublisher:
        async with self._opening:
            publisher = self._publishers.get(project)
            if publisher is None:
                publisher = self._publishers[project] = await self._open(project)
            return publisher

    async def _open(self, project: str) -> Publisher | HttpPublisher:
        if self._redis is None:
            return await self._stack.enter_async_context(HttpPublisher(self._url, project))
        if self._broker is None:
            redis = self._redis
            retention = Retention(*redis.retention or ())
            self._broker = await open_broker(redis.broker_url, namespace=redis.namespace, retention=retention)
            self._stack.push_async_callback(self._broker.aclose)
        return Publisher(self._broker, project)
