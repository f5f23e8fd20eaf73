"""`Workload`: events of a simulation, published at a steady mean rate in bursts, with a marker as the last one."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from itertools import islice

from syndarix_rt.broker import Publisher
from syndarix_rt.broker.protocol import Broker, project_channel
from syndarix_rt.delivery.batch import encode_all
from syndarix_rt.events import Event
from syndarix_rt.simulation import Scenario, Simulation
from syndarix_rt.verification.history import Entry, History, fingerprint

__all__ = ["END_TYPE", "LOG_KEY", "PROJECT", "Workload"]

PROJECT = "verify"
LOG_KEY = f"srt:log:{project_channel(PROJECT)}"
"""Of the log in Redis."""

END_TYPE = "verify_end"
"""Of the last event; every filter lets it pass, so that each subscriber knows when it has all."""

MAX_BATCH = 20
"""Most events published at once: a run that ends causes about as many."""


class Workload:
    """What is published.

    Args:
        broker: straight to Redis.
        history: is told what was acknowledged.
        scenario: name of a preset.
        seed: of the simulation, and of the bursts.
        events_per_s: mean rate.
        now: the clock of the run, seconds.

    Attributes:
        clock_error: how wrong the publisher's clock is.
        over: whether all is published.
    """

    def __init__(
        self,
        broker: Broker,
        history: History,
        scenario: str,
        seed: int,
        *,
        events_per_s: float,
        now: Callable[[], float],
    ) -> None:
        self.clock_error = timedelta(0)
        self.over = False
        self._history = history
        self._events: Iterator[Event] = iter(Simulation(Scenario.preset(scenario).for_project(PROJECT), seed))
        self._rng = random.Random(seed)  # noqa: S311 - repeatable
        self._events_per_s = events_per_s
        self._now = now
        self._recorded = datetime.now(UTC)
        self._publisher = Publisher(broker, PROJECT, clock=lambda: self._recorded)
        self._turn = asyncio.Lock()

    async def run(self, duration_s: float) -> None:
        """Publish for so long, then the marker."""
        began_s = due_s = self._now()
        while self._now() < began_s + duration_s:  # on a busy machine there are fewer events, not a longer run
            batch = list(islice(self._events, self._rng.randint(1, MAX_BATCH)))
            if not batch:
                break
            await self._publish(batch)
            due_s += len(batch) / self._events_per_s
            await asyncio.sleep(max(0.0, due_s - self._now()))
        marker = Event.new(END_TYPE, {}, project=PROJECT, id="the-end", time=datetime.now(UTC))
        await self._publish([marker])
        self.over = True

    @asynccontextmanager
    async def silence(self) -> AsyncIterator[None]:
        """While nothing is published, and nothing is under way."""
        async with self._turn:
            yield

    async def _publish(self, batch: list[Event]) -> None:
        async with self._turn:
            self._recorded = datetime.now(UTC) + self.clock_error
            raws = encode_all(batch, PROJECT, recordedtime=self._recorded)
            published = await self._publisher.publish(batch)
            now_s = self._now()
            entries = [Entry(fingerprint(raw), event.type, now_s) for raw, event in zip(raws, batch, strict=True)]
            self._history.published(published.epoch, published.first, entries)
