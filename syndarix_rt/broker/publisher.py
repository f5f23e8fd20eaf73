"""`Publisher`: gets events into a project's log once each and in order, also over lost replies and restarts."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime

from syndarix_rt.broker.protocol import Broker, Published, project_channel
from syndarix_rt.broker.retry import pauses
from syndarix_rt.delivery.batch import batches, encode_all
from syndarix_rt.delivery.resume import Position
from syndarix_rt.errors import ApprovalDecided, BrokerUnavailable
from syndarix_rt.events import Event

__all__ = ["Publisher"]


def _utc_now() -> datetime:
    return datetime.now(UTC)


class Publisher:
    """Publishes into one project; use one object for as long as it goes on.

    Args:
        broker: where the log lives.
        project: its name.
        clock: gives ``recordedtime`` to events without one.
        give_up_after_s: how long a batch is tried again while the broker is away. 30 s: a restart or a failover takes
            a few, and a person who waits longer wants to know.

    Raises:
        ValueError: ``project`` is no project name.
    """

    def __init__(
        self,
        broker: Broker,
        project: str,
        *,
        clock: Callable[[], datetime] = _utc_now,
        give_up_after_s: float = 30.0,
    ) -> None:
        self.project = project
        self._broker = broker
        self._channel = project_channel(project)
        self._clock = clock
        self._give_up_after_s = give_up_after_s
        self._producer = secrets.token_urlsafe(12)
        self._sequence = 0
        self._one_in_flight = asyncio.Lock()

    async def publish(self, events: Sequence[Event]) -> Published:
        """Publish events in their order; calls at the same time queue up.

        Events that fit one batch (1,000 and 4 MiB) are stored together or not at all. More of
        them go as several batches, and then batches of others may stand between ours.

        Returns:
            The offset of the first and of the last event, the latter's epoch, and how many were found to be there
            already when a batch was sent again.

        Raises:
            ValueError: no events.
            EventError: an event of another project, or one that is too large; the path names it. Nothing is stored.
            BrokerUnavailable: the broker stayed away. The text says how many events are stored for certain; the next
                batch may be stored or not. What is published after that counts as new.
            ApprovalDecided: some resolve approvals that a person has decided already.
            BrokerError: the broker refused.
        """
        if not events:
            raise ValueError("there are no events to publish")
        entries = encode_all(events, self.project, recordedtime=self._clock().astimezone(UTC))
        async with self._one_in_flight:
            published: list[Published] = []
            for batch in batches(entries):
                try:
                    published.append(await self._send(batch))
                except ApprovalDecided as error:
                    stored = _events_in(published)
                    late = [stored + entry for entry in error.late]
                    text = f"{stored} of {len(entries)} events are published: {error}"
                    raise ApprovalDecided(text, late, stored) from error
                except BrokerUnavailable as error:
                    stored = _events_in(published)
                    raise BrokerUnavailable(
                        f"{stored} of {len(entries)} events are published; gave up after "
                        f"{self._give_up_after_s:g} s: {error}"
                    ) from error
        first, last = published[0], published[-1]
        return Published(last.epoch, first.first, last.last, sum(reply.duplicates for reply in published))

    async def claim(self, holder: str, ttl_s: float) -> str:
        """Say that ``holder`` (a run) plays into the project for the next ``ttl_s``; returns who holds it then."""
        return await self._broker.claim(self._channel, holder, ttl_s)

    async def release(self, holder: str) -> None:
        """End a claim, also one that waits for another's to end."""
        await self._broker.release(self._channel, holder)

    async def reset(self) -> Position:
        """Delete the project's log and begin a new epoch."""
        return await self._broker.reset(self._channel)

    async def _send(self, batch: Sequence[bytes]) -> Published:
        """Send a batch until there is a reply; always under the same sequence, so it is added once."""
        self._sequence += 1
        deadline = time.monotonic() + self._give_up_after_s
        for pause_s in pauses():
            try:
                return await self._broker.publish(
                    self._channel, batch, producer=self._producer, sequence=self._sequence
                )
            except BrokerUnavailable:
                if time.monotonic() + pause_s > deadline:
                    raise
            await asyncio.sleep(pause_s)
        raise AssertionError("pauses never end")


def _events_in(published: Sequence[Published]) -> int:
    return sum(reply.last - reply.first + 1 for reply in published)
