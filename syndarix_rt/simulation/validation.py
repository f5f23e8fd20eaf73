"""`validate`: is a stream of events a possible one? Of simulations, recordings of real agents, and live streams."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import NamedTuple

import msgspec

from syndarix_rt.errors import EventError
from syndarix_rt.events import CATALOGUE, Event
from syndarix_rt.simulation.checker import ProjectChecker
from syndarix_rt.simulation.idset import IdSet
from syndarix_rt.simulation.reading import read_event, refuse_other_than_events

__all__ = ["Report", "Validator", "Violation", "validate"]

_ROOTS = ("sprint_started", "issue_created")


class Violation(NamedTuple):
    """One event that cannot be true where it stands."""

    invariant: str
    """The id, such as ``A5``; :data:`syndarix_rt.simulation.invariants.INVARIANTS` says what it demands."""
    event_id: str
    """Empty if the event cannot be read."""
    number: int
    """Of the event in the stream, from 1: the line in a recording."""
    reason: str

    def __str__(self) -> str:
        return f"{self.invariant} event {self.number} {self.event_id}: {self.reason}".replace(" :", ":")


class Report(NamedTuple):
    """What a check found."""

    events: int
    violations: tuple[Violation, ...]

    @property
    def ok(self) -> bool:
        """Whether nothing was violated."""
        return not self.violations

    def __str__(self) -> str:
        """A line for each violation, then ``N events, M violations``."""
        return "\n".join([*map(str, self.violations), f"{self.events} events, {len(self.violations)} violations"])


class _Project:
    """What the envelope of a project's events is judged by."""

    def __init__(self) -> None:
        self.ids: dict[str, IdSet] = {}
        """By source."""
        self.believed = IdSet()
        """In a partial stream: causes from before it."""
        self.times: dict[tuple[str | None, str | None], datetime] = {}
        """The latest, by simulation; of real events by source, since several reporters have no common clock."""
        self.checkers: dict[str | None, ProjectChecker] = {}
        """By simulation: two of them in one project share nothing but the project."""


class Validator:
    """Checks a stream event by event; memory follows what is open, not what has passed.

    Args:
        partial: the stream was joined midway. What events refer to may have begun before; what contradicts anything
            that was seen is a violation still.
    """

    def __init__(self, *, partial: bool = False) -> None:
        self._partial = partial
        self._events = 0
        self._violations: list[Violation] = []
        self._projects: dict[str, _Project] = {}

    def feed(self, event: Event | bytes) -> None:
        """Take the next event, or a line of a recording; one that cannot be read violates I3.

        Raises:
            SyndarixError: it is neither.
        """
        self._events += 1
        try:
            event = read_event(event)
        except EventError as error:
            self._violations.append(Violation("I3", "", self._events, str(error)))
            return
        project = self._projects.get(event.project)
        if project is None:
            project = self._projects[event.project] = _Project()
        checker = project.checkers.get(event.simulation)
        if checker is None:
            checker = project.checkers[event.simulation] = ProjectChecker(self._violated, partial=self._partial)
        clock = (event.simulation, None if event.simulation else event.source)
        latest = project.times.get(clock, event.time)
        if not self._check_ids(event, project) and event.time <= latest:
            return  # The same event again; a later one that took over an id goes on to be judged.
        in_time = event.time >= latest
        if not in_time:
            self._violated("I2", event, f"its time {event.time.isoformat()} is before {latest.isoformat()}")
            event = msgspec.structs.replace(event, time=latest)  # only its time is wrong
        project.times[clock] = event.time
        checker.check(event, in_time=in_time)

    def report(self) -> Report:
        """What was found until now."""
        return Report(self._events, tuple(self._violations))

    def _check_ids(self, event: Event, project: _Project) -> bool:
        """Judge id and cause; false if the id is not new."""
        cause = event.cause
        # Before its own id is taken in: an event is not its own cause.
        if cause is not None and not any(cause in ids for ids in project.ids.values()):
            if self._partial and cause != event.id:
                project.believed.add(cause)
            else:
                self._violated("I4", event, f"its cause {cause} is no earlier event of project {event.project}")
        if self._partial and event.id in project.believed:
            self._violated("I4", event, "an event before it names it as its cause")
        if not project.ids.setdefault(event.source, IdSet()).add(event.id):
            self._violated("I1", event, "its id was there before")
            return False
        if cause is None and event.simulation and event.type in CATALOGUE and event.type not in _ROOTS:
            self._violated("I4", event, f"a simulated {event.type} needs a cause")
        return True

    def _violated(self, invariant: str, event: Event, reason: str) -> None:
        self._violations.append(Violation(invariant, event.id, self._events, reason))


def validate(events: Iterable[Event | bytes], *, partial: bool = False) -> Report:
    """Check a whole stream: events, or the lines of a recording.

    Args:
        events: in the order in which they happened.
        partial: they begin midway, as `Validator` has it.

    Raises:
        SyndarixError: these are no events, such as a path, or a simulation without a horizon, which never ends.

    Example:
        ``print(validate(islice(Simulation(scenario, seed=7), 100_000)))``
    """
    refuse_other_than_events(events)
    validator = Validator(partial=partial)
    for event in events:
        validator.feed(event)
    return validator.report()
