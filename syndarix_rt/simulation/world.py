"""The world of one project: simulated time, pools, and what happens by itself: issues arrive, sprints pass, faults.

A world knows no other world. It goes on by one occurrence at a time, so whoever steps it may act between two steps.
SimPy is its engine and stays inside this room.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Generator
from datetime import datetime, timedelta
from hashlib import blake2b
from itertools import count
from typing import Any

import simpy

from syndarix_rt.errors import CommandError, EventError
from syndarix_rt.events import CATALOGUE, Event
from syndarix_rt.events.series import Series
from syndarix_rt.simulation.agenda import Agenda
from syndarix_rt.simulation.arrivals import Arrivals
from syndarix_rt.simulation.calendar import OfficeHours
from syndarix_rt.simulation.commands import Command, Decide, Emit, Inject, SetAgents
from syndarix_rt.simulation.faults import Faults
from syndarix_rt.simulation.issue import CRITICAL, NORMAL, Decision, IssueLife
from syndarix_rt.simulation.pool import Pool
from syndarix_rt.simulation.provider import Provider
from syndarix_rt.simulation.randomness import RandomStreams
from syndarix_rt.simulation.run import AgentRun
from syndarix_rt.simulation.settings import AgentStep, Project

__all__ = ["SOURCE", "World"]

SOURCE = "/syndarix-rt/simulation"
"""The ``source`` of every simulated event."""

_MICROSECOND = timedelta(microseconds=1)

_FOREVER_S = 1e12
"""Longer than the calendar; rare laws and rates may ask for more than a number can hold."""

_Steps = Generator[simpy.Event, Any, None]


class World:
    """One project in simulated time.

    Args:
        project: its part of the scenario.
        events: where its events go.
        simulation: the simulation's id, for the events.
        seed: of the simulation.
        start: the time of the beginning.
        key: what ids in this world depend on, beside kind and number.
    """

    def __init__(
        self, project: Project, events: deque[Event], *, simulation: str, seed: int, start: datetime, key: str
    ) -> None:
        self.project = project
        self.streams = RandomStreams(seed, project.random_key)
        # Whole microseconds: sums are exact, so durations in payloads and differences of times agree to the last digit.
        self.env = Agenda()
        agents = project.agents
        self.agents = {
            role: Pool(self.env, role, size)
            for role, size in (
                ("planner", agents.planners),
                ("developer", agents.developers),
                ("tester", agents.testers),
                ("reviewer", agents.reviewers),
            )
        }
        self.runners = Pool(self.env, "runner", project.pipelines.runners)
        self.humans = Pool(self.env, "human", project.approvals.humans)
        self.provider = Provider(project.provider)
        self.runs: dict[str, AgentRun] = {}
        """What each busy agent works on."""
        self.pipelines: dict[str, IssueLife] = {}
        """Whose change each busy runner checks."""
        self.approvals: dict[str, IssueLife] = {}
        """Whose change each pending approval is about."""
        self.open_issues: dict[int, IssueLife] = {}
        self.sprint_id = ""
        self._events = events
        self._series: dict[str, Series] = {}
        """By type."""
        self._simulation = simulation
        self._start = start
        self._digest = blake2b(key.encode(), digest_size=8).hexdigest()
        self._ordinals: dict[str, count[int]] = {}
        self._event_ordinal = 0
        self._closed_in_sprint = 0
        self._pipeline_failed = False
        self._office = OfficeHours(project.approvals.office, start)
        self._arrivals = Arrivals(project.issues, self.streams.generator("arrivals"), start)
        self._storm: str | None = None
        """The event of the storm that brings the issues now."""
        self.env.process(self._sprints())  # first, so that issues of the first instant belong to a sprint
        self._arriving = self.env.process(self._arrive())
        for change in project.agents.steps:
            self.env.process(self._reorganise(change))
        self.faults = Faults(self)
        for fault in project.faults:
            self.faults.plan(fault)

    def emit(self, kind: str, data: dict[str, Any], subject: str | None, cause: str | None) -> str:
        """Something happens now; the event's id is the cause of what follows from it."""
        if kind in CATALOGUE:
            series = self.series(kind, data)
            series.check(data)
            return self.emit_of(series, data, self.time, subject, cause)
        event_id = f"{self._digest}-{self._event_ordinal + 1}"
        self._events.append(self._event(event_id, kind, data, subject, cause))
        self._event_ordinal += 1
        return event_id

    def series(self, kind: str, data: dict[str, Any]) -> Series:
        """What :meth:`emit_of` makes events of, once there are ``data`` as an example."""
        series = self._series.get(kind)
        if series is None:
            series = self._series[kind] = Series(self._event("example", kind, data, None, None))
        return series

    def emit_of(
        self, series: Series, data: dict[str, Any], time: datetime, subject: str | None, cause: str | None
    ) -> str:
        """The same as :meth:`emit`, with data that were checked, by one who knows the present :attr:`time`."""
        self._event_ordinal = ordinal = self._event_ordinal + 1
        event_id = f"{self._digest}-{ordinal}"
        self._events.append(series.event(event_id, time, subject, cause, data))
        return event_id

    def new_id(self, kind: str) -> str:
        """An id for the next entity of a kind, such as ``run-3f9a2c-12``."""
        return f"{kind}-{self._digest[:6]}-{next(self._ordinals.setdefault(kind, count(1)))}"

    def commit_hash(self, issue: int, number: int) -> str:
        """The hash of a commit, as git would write one."""
        return blake2b(f"{self._digest}/{issue}/{number}".encode(), digest_size=20).hexdigest()

    @property
    def now_us(self) -> int:
        """Simulated microseconds since the beginning."""
        return int(self.env.now)

    @property
    def time(self) -> datetime:
        """Simulated time."""
        return self._start + self.env.now * _MICROSECOND

    # waiting

    def wait(self, seconds: float) -> simpy.Event:
        """Let simulated time pass; to be yielded."""
        return self.env.timeout(round(min(seconds, _FOREVER_S) * 1_000_000))

    def wait_for_people(self, seconds: float) -> simpy.Event:
        """The same for a wait that the scenario's ``human_time_scale`` shortens."""
        return self.wait(seconds * self.project.human_time_scale)

    def wait_until_noticed(self, seconds: float) -> simpy.Event:
        """The same, and until a human is in the office."""
        noticed_s = self._now_s + min(seconds * self.project.human_time_scale, _FOREVER_S)
        return self.wait(self._office.next_open(noticed_s) - self._now_s)

    def wait_until_reviewed(self, seconds: float) -> simpy.Event:
        """Let so much work of a human pass, who works in office hours."""
        done_s = self._office.after(self._now_s, min(seconds * self.project.human_time_scale, _FOREVER_S))
        return self.wait(done_s - self._now_s)

    # what issues ask of their world

    def pipeline_fails(self, luck: float) -> bool:
        """Whether the next pipeline of this project fails: failures come in streaks (two-state chain).

        Args:
            luck: uniform in [0, 1).
        """
        ci = self.project.pipelines
        self._pipeline_failed = luck < (
            ci.fail_after_failure_share if self._pipeline_failed else ci.fail_after_success_share
        )
        return self._pipeline_failed

    def displace(self, role: str, cause: str) -> None:
        """End the youngest run in this role that is not urgent, so that its agent is free."""
        for run in reversed(self.runs.values()):
            if run.role == role and run.life.priority == NORMAL and not run.displaced and not run.over.triggered:
                run.displaced = True  # once, also if another urgent issue asks in the same instant
                run.life.process.interrupt(cause)
                return

    def issue_closed(self, ordinal: int) -> None:
        """Count it, for the sprint, and forget the issue."""
        self._closed_in_sprint += 1
        del self.open_issues[ordinal]

    # steering

    def obey(self, command: Command) -> None:
        """Do what is asked, now.

        Raises:
            CommandError: if it cannot be done; nothing has changed then.
            EventError: if an event to be emitted breaks the rules.
        """
        match command:
            case Inject(fault=fault):
                self.faults.plan(fault)
            case Emit(type=kind, data=data):
                self.emit(kind, data, None, None)
                try:
                    self._events[-1].encode()
                except EventError:  # too large, or not JSON
                    self._events.pop()
                    self._event_ordinal -= 1
                    raise
            case SetAgents(role=role, count=size):
                self._set_agents(role, size)
            case Decide(approval_id=approval_id, decision=decision, by=by) as said:
                life = self.approvals.pop(approval_id, None)
                if life is None:
                    pending = ", ".join(self.approvals) or "none"
                    raise CommandError(
                        f"no approval {approval_id!r} is pending in project {self.project.name!r}; pending: {pending}"
                    )
                life.process.interrupt(Decision(decision == "approved", by, said.comment, said.event_id))

    def set_storm(self, factor: float, event_id: str | None) -> None:
        """From now on issues arrive so many times as often, and are critical, caused by the event of the storm."""
        self._storm = event_id
        self._arrivals.set_factor(self._now_s, factor)
        self._arriving.interrupt()

    # what happens by itself

    def _event(self, event_id: str, kind: str, data: dict[str, Any], subject: str | None, cause: str | None) -> Event:
        return Event(
            specversion="1.0",
            id=event_id,
            source=SOURCE,
            type=kind,
            time=self.time,
            project=self.project.name,
            data=data,
            subject=subject,
            cause=cause,
            simulation=self._simulation,
        )

    @property
    def _now_s(self) -> float:
        return self.env.now / 1e6

    def _set_agents(self, role: str, size: int) -> None:
        self.agents[role].resize(size)
        self.emit("agents_changed", {"role": role, "count": size}, None, None)

    def _reorganise(self, step: AgentStep) -> _Steps:
        """A planned change of the number of agents."""
        yield self.wait(step.at_h * 3600)
        for role in self.agents:
            size = getattr(step, f"{role}s")
            if size is not None:
                self._set_agents(role, size)

    def _arrive(self) -> _Steps:
        """Issues arrive, as long as the scenario says so."""
        for ordinal in count(1):
            if ordinal > self.project.issues.initial:
                yield from self._until_next_arrival()
            priority = NORMAL if self._storm is None else CRITICAL
            self.open_issues[ordinal] = IssueLife(self, ordinal, priority, self._storm)

    def _until_next_arrival(self) -> _Steps:
        while True:
            next_s = self._arrivals.next_s(self._now_s)
            try:
                yield self.env.event() if next_s is None else self.wait(next_s - self._now_s)
            except simpy.Interrupt:
                continue  # The rate has changed, so another time is the next.
            self._arrivals.arrived(self._now_s)
            return

    def _sprints(self) -> _Steps:
        length_s = self.project.sprints.length_h * 3600
        for number in count(1):
            self.sprint_id = sprint_id = self.new_id("sprint")
            self._closed_in_sprint = 0
            named = {"sprint_id": sprint_id, "number": number}
            planned = {"duration_s": length_s, "issues_planned": len(self.open_issues)}
            started = self.emit("sprint_started", named | planned, sprint_id, None)
            for life in self.open_issues.values():
                life.update("carried_over", started)
            yield self.wait(length_s)
            counts = {"issues_completed": self._closed_in_sprint, "issues_carried_over": len(self.open_issues)}
            self.emit("sprint_completed", named | planned | counts, sprint_id, started)
