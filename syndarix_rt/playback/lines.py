"""`Line`: how a run is reached by those who steer it; `BrokerLine` where it publishes straight into a broker."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from typing import Protocol

from syndarix_rt.broker.chat import Chat
from syndarix_rt.broker.protocol import Batch, Broker, control_channel, follow, project_channel
from syndarix_rt.delivery.approvals import DECISION_SOURCE
from syndarix_rt.delivery.steering import REQUEST
from syndarix_rt.errors import BrokerUnavailable, EventError
from syndarix_rt.events import Event, EventId
from syndarix_rt.playback.agents import ChatLine

__all__ = ["BrokerLine", "Line"]

AGAIN_S = 0.5
TRIES = 10
"""An answer is tried for five seconds; whoever asked does not wait longer."""


class Line(Protocol):
    """A run's way to those who steer it through one project."""

    @property
    def project(self) -> str:
        """Its name."""
        ...

    def requests(self) -> AsyncGenerator[Event]:
        """Requests from the run's control channel, from its beginning on, each once; those of all its projects."""
        ...

    def decisions(self) -> AsyncGenerator[Event]:
        """The project's ``approval_resolved`` from now on."""
        ...

    async def send(self, events: Sequence[Event]) -> None:
        """Append to the control channel; they name this project."""
        ...

    def chat(self) -> ChatLine:
        """The project's chat, for the run's agents."""
        ...


class BrokerLine:
    """A `Line` over a broker.

    Args:
        broker: where the run publishes.
        project: into which project; it stands where `open` found it.
        run: the run's id.
        after: the project's newest event.
    """

    def __init__(self, broker: Broker, project: str, run: str, after: EventId) -> None:
        self.project = project
        self._broker = broker
        self._run = run
        self._after = after
        self._producer = secrets.token_urlsafe(12)
        self._sequence = 0

    @classmethod
    async def open(cls, broker: Broker, project: str, run: str) -> BrokerLine:
        """One that misses no decision about what the run publishes from now on.

        Raises:
            BrokerUnavailable: the broker is away.
        """
        return cls(broker, project, run, (await broker.position(project_channel(project))).top)

    def chat(self) -> Chat:
        """See `Line.chat`."""
        return Chat(self._broker, self.project)

    async def requests(self) -> AsyncGenerator[Event]:
        """See `Line.requests`."""
        channel = control_channel(self._run)
        epoch = await self._epoch(channel)
        async with aclosing(self._events(channel, EventId(epoch, 0), f'"type":"{REQUEST}"'.encode())) as events:
            async for event in events:
                yield event

    def decisions(self) -> AsyncGenerator[Event]:
        """See `Line.decisions`."""
        return self._events(project_channel(self.project), self._after, f'"source":"{DECISION_SOURCE}"'.encode())

    async def send(self, events: Sequence[Event]) -> None:
        """See `Line.send`."""
        entries = [event.encode() for event in events]
        self._sequence += 1
        for attempt in range(TRIES):
            try:
                await self._broker.publish(
                    control_channel(self._run), entries, producer=self._producer, sequence=self._sequence
                )
            except BrokerUnavailable:
                if attempt == TRIES - 1:
                    raise
                await asyncio.sleep(AGAIN_S)
            else:
                return

    async def _epoch(self, channel: str) -> str:
        while True:
            try:
                return (await self._broker.position(channel)).epoch
            except BrokerUnavailable:
                await asyncio.sleep(AGAIN_S)

    async def _events(self, channel: str, cursor: EventId, mark: bytes) -> AsyncGenerator[Event]:
        """The events of a channel whose encoding holds ``mark``, which spares reading the others."""
        async with aclosing(follow(self._broker, channel, cursor)) as updates:
            async for update in updates:
                if not isinstance(update, Batch):
                    continue  # whoever asked meanwhile has no answer, and asks again
                for offset, entry in enumerate(update.entries, update.first):
                    if mark in entry:
                        try:
                            yield Event.decode(entry, EventId(update.epoch, offset))
                        except EventError:
                            continue  # somebody else's
