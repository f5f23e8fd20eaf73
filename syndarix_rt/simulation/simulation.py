"""`Simulation`: a scenario and a seed give a stream of events in simulated time."""

from __future__ import annotations

import math
import os
import reprlib
from collections import deque
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, timedelta
from hashlib import blake2b
from heapq import heapify, heapreplace

import msgspec

from syndarix_rt.errors import CommandError, ScenarioError
from syndarix_rt.events import Event
from syndarix_rt.simulation.commands import Command, Sent
from syndarix_rt.simulation.scenario import Scenario
from syndarix_rt.simulation.section import near_miss
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
        commands: those of a steered simulation, to be sent again where they were sent.

    Attributes:
        id: identifies scenario, seed and start; every event carries it as ``simulation``.

    Raises:
        ScenarioError: if scenario, seed, start or a command is none.
    """

    def __init__(
        self, scenario: Scenario, seed: int, start: datetime = START, *, commands: Iterable[Sent] = ()
    ) -> None:
        if not isinstance(scenario, Scenario):
            named = isinstance(scenario, str | os.PathLike)
            given = f"Scenario.load({os.fspath(scenario)!r})" if named else "as Scenario.load(name) gives one"
            raise ScenarioError(f"must be a Scenario: {given}, not {reprlib.repr(scenario)}", "scenario")
        if not isinstance(seed, int) or isinstance(seed, bool) or seed < 0:
            raise ScenarioError(f"must be a whole number from 0, not {seed!r}", "seed")
        if not isinstance(start, datetime) or start.utcoffset() is None:
            raise ScenarioError(f"must be a datetime with a time zone, such as {START.isoformat()}", "start")
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
        self._taken = 0
        self._sent: list[Sent] = []
        self._to_send = deque(commands)
        if not all(isinstance(sent, Sent) for sent in self._to_send):
            raise ScenarioError("must be those of a steered simulation: its `commands`, each a Sent", "commands")

    def __repr__(self) -> str:
        return f"<Simulation of {self.scenario.name!r}, seed {self.seed}, {self._taken} events taken>"

    @property
    def commands(self) -> tuple[Sent, ...]:
        """What was sent, in order: with it, another simulation makes the same bytes again."""
        return tuple(self._sent)

    def __next__(self) -> Event:
        while self._to_send and self._to_send[0].after == self._taken:
            sent = self._to_send.popleft()
            self._send(sent.command, sent.at_us)
        events, worlds = self._events, self._worlds
        while not events:
            time_us, index, world = worlds[0]
            if time_us > self._horizon_us:
                raise StopIteration
            heapreplace(worlds, (world.env.advance(), index, world))
        self._taken += 1
        return events.popleft()

    def send(self, command: Command, time: datetime | None = None) -> None:
        """Do something in the simulated world, between the event that was taken last and the next one.

        Args:
            command: what to do.
            time: when, in simulated time; None: at the time of the latest event. What is earlier than that counts as
                that, and what is later than the next event as the time of the next event.

        Raises:
            CommandError: if the command makes no sense; nothing has happened then, but it may be later.
            EventError: if an event to be emitted breaks the rules.
        """
        if not isinstance(command, Command):
            raise CommandError(f"a command is Inject, Emit, Decide or SetAgents, not {reprlib.repr(command)}")
        if time is not None and (not isinstance(time, datetime) or time.utcoffset() is None):
            raise CommandError(f"the time must be a datetime with a time zone, such as {self.start.isoformat()}")
        at_us = self._now_us if time is None else (time - self.start) // timedelta(microseconds=1)
        self._send(command, max(at_us, self._now_us))

    def _send(self, command: Command, at_us: int) -> None:
        names = [project.name for project in self.scenario.projects]
        if command.project is None and len(names) > 1:
            raise CommandError(f"to which project? There are {', '.join(names)}")
        if command.project is not None and command.project not in names:
            raise CommandError(f"there is no project {command.project!r}{near_miss(command.project, names)}")
        if at_us > self._horizon_us:
            raise CommandError("that is after the simulation's horizon")
        while not self._events and self._worlds[0][0] <= at_us:
            _, index, world = self._worlds[0]
            heapreplace(self._worlds, (world.env.advance(), index, world))
        at_us = self._now_us if self._events else at_us
        place = next(i for i, (_, _, world) in enumerate(self._worlds) if command.project in (None, world.project.name))
        _, index, world = self._worlds[place]
        if world.env.now < at_us:
            world.env.run(until=at_us)  # Nothing happens until then, so that only moves its time.
        world.obey(command)
        self._sent.append(Sent(after=self._taken, at_us=at_us, command=command))
        self._worlds[place] = (world.env.peek(), index, world)
        heapify(self._worlds)

    @property
    def _now_us(self) -> int:
        """That of the world that is furthest: no event is due before it."""
        return max(world.now_us for _, _, world in self._worlds)
