"""`Simulation`: a scenario and a seed give a stream of events in simulated time."""

from __future__ import annotations

import heapq
import math
from collections import deque
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from hashlib import blake2b

import msgspec

from syndarix_rt.errors import ScenarioError
from syndarix_rt.events import Event
from syndarix_rt.simulation.scenario import Scenario
from syndarix_rt.simulation.world import World

__all__ = ["START", "Simulation"]

START = datetime(2026, 1, 5, 9, tzinfo=UTC)
"""When a simulation begins unless told otherwise; fixed, so that the same seed gives the same bytes. A Monday."""


class Simulation(Iterator[Event]):
    """An iterator of events in simulated time; no clock, no sleep, no I/O.

    It goes on for as long as events are taken from it, or until the scenario's horizon; what is still going on then is
    left open. The same scenario, seed and start give the same bytes. Every project has random streams of its own, so
    its events stay the same, except for their ``simulation``, when another project is added or changed.

    Args:
        scenario: what to simulate.
        seed: any whole number from 0.
        start: the time of the beginning.

    Attributes:
        id: identifies scenario, seed and start; every event carries it as ``simulation``.

    Raises:
        ScenarioError: if seed or start is none.
    """

    def __init__(self, scenario: Scenario, seed: int, start: datetime = START) -> None:
        if not isinstance(seed, int) or isinstance(seed, bool) or seed < 0:
            raise ScenarioError(f"must be a whole number from 0, not {seed!r}", "seed")
        if start.tzinfo is None:
            raise ScenarioError(f"needs a time zone, as in {START.isoformat()}", "start")
        self.scenario = scenario
        self.seed = seed
        self.start = start.astimezone(UTC)
        # Not the description, speed and horizon, which decide nothing about an event.
        what = msgspec.json.encode((scenario.name, scenario.projects, str(seed), self.start))
        self.id = f"sim-{blake2b(what, digest_size=8).hexdigest()}"
        self._events: deque[Event] = deque()
        worlds = [
            World(
                project,
                self._events,
                simulation=self.id,
                seed=seed,
                start=self.start,
                key=f"{scenario.name}/{seed}/{self.start.isoformat()}/{project.name}",
            )
            for project in scenario.projects
        ]
        calendar_ends_us = (datetime.max.replace(tzinfo=UTC) - self.start) // timedelta(microseconds=1)
        horizon_h = math.inf if scenario.horizon_h is None else scenario.horizon_h
        self._horizon_us = min(horizon_h * 3_600_000_000, calendar_ends_us)
        # A heap of worlds by the time of their next occurrence; equal times go by the order of the scenario. No world
        # is ever ahead of the others, so between two events all of them stand at the same time.
        self._worlds = [(world.env.peek(), index, world) for index, world in enumerate(worlds)]

    def __next__(self) -> Event:
        while not self._events:
            time_us, index, world = self._worlds[0]
            if time_us > self._horizon_us:
                raise StopIteration
            world.env.step()
            heapq.heapreplace(self._worlds, (world.env.peek(), index, world))
        return self._events.popleft()
