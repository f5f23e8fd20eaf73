"""The world of one project: simulated time, pools, and what happens by itself: issues arrive, sprints pass.

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

from syndarix_rt.events import Event
from syndarix_rt.simulation.issue import IssueLife
from syndarix_rt.simulation.laws import weibull
from syndarix_rt.simulation.randomness import RandomStreams
from syndarix_rt.simulation.settings import Project, WeibullArrivals

__all__ = ["SOURCE", "World"]

SOURCE = "/syndarix-rt/simulation"
"""The ``source`` of every simulated event."""

_FOREVER_S = 1e12
"""Longer than the calendar; rare laws and rates may ask for more than a number can hold."""


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
        self.env = simpy.Environment(initial_time=0)
        self.agents = {
            role: self._pool(role, number)
            for role, number in (
                ("planner", project.agents.planners),
                ("developer", project.agents.developers),
                ("tester", project.agents.testers),
                ("reviewer", project.agents.reviewers),
            )
            if number
        }
        """Roles that somebody works in."""
        self.runners = self._pool("runner", project.pipelines.runners)
        self.humans = self._pool("human", project.approvals.humans)
        self.open_issues: dict[int, IssueLife] = {}
        self.sprint_id = ""
        self._events = events
        self._simulation = simulation
        self._start = start
        self._digest = blake2b(key.encode(), digest_size=8).hexdigest()
        self._ordinals: dict[str, count[int]] = {}
        self._event_ordinal = 0
        self._closed_in_sprint = 0
        self._pipeline_failed = False
        self.env.process(self._sprints())  # first, so that issues of the first instant belong to a sprint
        self.env.process(self._arrivals())

    def emit(self, kind: str, data: dict[str, Any], subject: str, cause: str | None) -> str:
        """Something happens now; the event's id is the cause of what follows from it."""
        self._event_ordinal += 1
        event_id = f"{self._digest}-{self._event_ordinal}"
        self._events.append(
            Event(
                specversion="1.0",
                id=event_id,
                source=SOURCE,
                type=kind,
                time=self._start + timedelta(microseconds=self.env.now),
                project=self.project.name,
                data=data,
                subject=subject,
                cause=cause,
                simulation=self._simulation,
            )
        )
        return event_id

    def new_id(self, kind: str) -> str:
        """An id for the next entity of a kind, such as ``run-3f9a2c-12``."""
        return f"{kind}-{self._digest[:6]}-{next(self._ordinals.setdefault(kind, count(1)))}"

    def commit_hash(self, issue: int, number: int) -> str:
        """The hash of a commit, as git would write one."""
        return blake2b(f"{self._digest}/{issue}/{number}".encode(), digest_size=20).hexdigest()

    def wait(self, seconds: float) -> simpy.Event:
        """Let simulated time pass; to be yielded."""
        return self.env.timeout(round(min(seconds, _FOREVER_S) * 1_000_000))

    def wait_for_people(self, seconds: float) -> simpy.Event:
        """The same for a wait that the scenario's ``human_time_scale`` shortens."""
        return self.wait(seconds * self.project.human_time_scale)

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

    def issue_closed(self, ordinal: int) -> None:
        """Count it, for the sprint, and forget the issue."""
        self._closed_in_sprint += 1
        del self.open_issues[ordinal]

    def _pool(self, name: str, size: int) -> simpy.Store:
        """Members that take turns; whoever asks first is served first."""
        pool = simpy.Store(self.env)
        pool.items.extend(f"{name}-{number}" for number in range(1, size + 1))
        return pool

    def _arrivals(self) -> Generator[simpy.Event, Any, None]:
        issues = self.project.issues
        rng = self.streams.generator("arrivals")
        shape = issues.arrivals.shape if isinstance(issues.arrivals, WeibullArrivals) else 1.0
        for ordinal in count(1):
            if ordinal > issues.initial:
                if issues.rate_per_h == 0:
                    return
                yield self.wait(weibull(rng, 3600 / issues.rate_per_h, shape))
            self.open_issues[ordinal] = life = IssueLife(self, ordinal)
            self.env.process(life.process())

    def _sprints(self) -> Generator[simpy.Event, Any, None]:
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
