"""`Queues`: who waited where, and for how long, read from events: agents of each role, CI runners, humans.

A *visit* has an arrival, a start of service and an end. The start is the event ``agent_started`` or
``pipeline_started``, the end the run's or pipeline's last event; of ``approval_resolved`` it is all told at its end.
The wait before the start stands in ``queued_s`` (and the service of a human in ``busy_s``): a visit is seen when its
service starts, never before. So what waits when the stream ends is not counted; see :meth:`Queue.measure`.
"""

from __future__ import annotations

import math
from array import array
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from syndarix_rt.events import Event
from syndarix_rt.simulation.run import ROLES
from syndarix_rt.simulation.scenario import Scenario

__all__ = ["Measured", "Queue", "Queues", "pool_sizes"]

Column = NDArray[np.float64]


class Measured(NamedTuple):
    """A queue between two instants; NaN where nothing is known. `theory` has the same names."""

    servers: float
    """c; a time average where it changes."""
    arrivals: float
    """Visits that arrived in the window and were served, or at least begun."""
    arrivals_per_h: float
    """λ."""
    arrival_cv2: float
    """Ca²: squared coefficient of variation of the times between arrivals."""
    service_mean_s: float
    """E[S] of the visits that arrived and ended in the window."""
    service_cv2: float
    """Cs²."""
    utilisation: float
    """Share of the servers' time that was service."""
    delayed_share: float
    """P(wait > 0)."""
    wait_mean_s: float
    """Wq, of the visits that arrived in the window."""
    wait_p90_s: float
    sojourn_mean_s: float
    """W: wait and service, of the visits that arrived and ended in the window."""
    waiting_mean: float
    """Lq: time average of the number that waits."""
    number_mean: float
    """L: time average of the number that waits or is served."""


class Queue:
    """The visits to one pool, as columns in the order in which service started.

    Attributes:
        servers: names of the members that were seen at work.
    """

    def __init__(self) -> None:
        self.servers: set[str] = set()
        self._arrived = array("d")
        self._started = array("d")
        self._ended = array("d")
        self._open: dict[str, int] = {}

    def start(self, visit: str, server: str | None, now_s: float, wait_s: float | None) -> None:
        """Service begins after a wait; None: nobody says how long it was."""
        self._open[visit] = len(self._started)
        self._add(server, math.nan if wait_s is None else now_s - wait_s, now_s, math.nan)

    def end(self, visit: str, now_s: float) -> None:
        """Service ends; nothing if its start was not seen."""
        row = self._open.pop(visit, None)
        if row is not None:
            self._ended[row] = now_s

    def whole(self, server: str | None, now_s: float, wait_s: float, service_s: float) -> None:
        """A visit that is told when it ends."""
        self._add(server, now_s - service_s - wait_s, now_s - service_s, now_s)

    def extend(self, other: Queue, label: str) -> None:
        """Add the visits of another pool, whose members get this label to tell them apart."""
        self._arrived.extend(other._arrived)
        self._started.extend(other._started)
        self._ended.extend(other._ended)
        self.servers.update(f"{label}/{server}" for server in other.servers)

    @property
    def visits(self) -> tuple[Column, Column, Column]:
        """Arrival, start and end of each visit, seconds; NaN: an unknown arrival, an end that was not seen yet."""
        return np.array(self._arrived), np.array(self._started), np.array(self._ended)

    def measure(self, from_s: float, until_s: float, servers: float | None = None) -> Measured:
        """What happened between two instants.

        Averages over time (L, Lq, utilisation) take of every visit the part that lies in the window; averages over
        visits (λ, W, Wq) take the visits that arrived in it, whole. Where the queue is empty at both instants,
        ``L = λ W`` is an identity (Little 1961). Elsewhere they differ by the edges: visits that began before the
        window count for L alone, open ones for L up to ``until_s`` but not for W; and those that still wait at
        ``until_s`` for neither, as no event tells of them yet (a growing backlog is longer than Lq says).

        Args:
            from_s: start of the window, seconds as given to :meth:`start`.
            until_s: its end.
            servers: c; None: the members that were seen.
        """
        arrived, started, ended = self.visits
        window_s = until_s - from_s if until_s > from_s else math.nan
        c = float(len(self.servers)) if servers is None else servers
        is_told = ~np.isnan(arrived)
        came = np.where(is_told, arrived, started)
        gone = np.minimum(np.where(np.isnan(ended), until_s, ended), until_s)
        served_s = np.maximum(gone - np.maximum(started, from_s), 0).sum()
        waited_s = np.maximum(np.minimum(started, until_s) - np.maximum(came, from_s), 0).sum()
        inside = (came >= from_s) & (came <= until_s)
        waits = (started - arrived)[inside & is_told]
        over = inside & (ended <= until_s)
        services, sojourns = (ended - started)[over], (ended - arrived)[over & is_told]
        none_told = len(came) > 0 and not is_told.any()
        return Measured(
            servers=c,
            arrivals=float(inside.sum()),
            arrivals_per_h=3600 * float(inside.sum()) / window_s,
            arrival_cv2=_cv2(np.diff(np.sort(came[inside]))),
            service_mean_s=_mean(services),
            service_cv2=_cv2(services),
            utilisation=float(served_s) / (c * window_s) if c else math.nan,
            delayed_share=_mean(waits > 0),
            wait_mean_s=_mean(waits),
            wait_p90_s=float(np.quantile(waits, 0.9)) if len(waits) else math.nan,
            sojourn_mean_s=_mean(sojourns),
            waiting_mean=math.nan if none_told else float(waited_s) / window_s,
            number_mean=math.nan if none_told else float(waited_s + served_s) / window_s,
        )

    def _add(self, server: str | None, arrived_s: float, started_s: float, ended_s: float) -> None:
        self._arrived.append(arrived_s)
        self._started.append(started_s)
        self._ended.append(ended_s)
        if server is not None:
            self.servers.add(server)


class Queues(dict[tuple[str, str], Queue]):
    """All queues of a stream by project and name: ``agents.<role>``, ``runners``, ``humans``.

    Memory: 24 bytes for each visit.
    """

    def feed(self, event: Event, now_s: float) -> None:
        """Take the next event, which happened at ``now_s`` (seconds on any scale, the same for all of them)."""
        take = _TAKES.get(event.type)
        if take is not None:
            take(self, event.project, event.data, now_s)

    def merged(self) -> dict[str, Queue]:
        """The queues by name, those of all projects taken together; no project borrows servers of another."""
        together: dict[str, Queue] = {}
        for (project, name), queue in self.items():
            together.setdefault(name, Queue()).extend(queue, project)
        return together

    def _queue(self, project: str, name: str) -> Queue:
        queue = self.get((project, name))
        if queue is None:
            queue = self[project, name] = Queue()
        return queue

    def _agent_started(self, project: str, data: dict[str, Any], now_s: float) -> None:
        queue = self._queue(project, f"agents.{data['role']}")
        queue.start(data["run_id"], data["agent_id"], now_s, data.get("queued_s"))

    def _agent_ended(self, project: str, data: dict[str, Any], now_s: float) -> None:
        if (queue := self.get((project, f"agents.{data['role']}"))) is not None:
            queue.end(data["run_id"], now_s)

    def _pipeline_started(self, project: str, data: dict[str, Any], now_s: float) -> None:
        self._queue(project, "runners").start(data["pipeline_id"], data.get("runner"), now_s, data.get("queued_s"))

    def _pipeline_ended(self, project: str, data: dict[str, Any], now_s: float) -> None:
        if (queue := self.get((project, "runners"))) is not None:
            queue.end(data["pipeline_id"], now_s)

    def _approval_resolved(self, project: str, data: dict[str, Any], now_s: float) -> None:
        wait_s, busy_s = data.get("queued_s"), data.get("busy_s")
        if wait_s is not None and busy_s:  # else nobody knows when it reached a human, or it was decided past the queue
            self._queue(project, "humans").whole(data.get("by"), now_s, wait_s, busy_s)


_TAKES = {
    "agent_started": Queues._agent_started,  # noqa: SLF001 - of the class above
    "agent_completed": Queues._agent_ended,  # noqa: SLF001 - as above
    "agent_error": Queues._agent_ended,  # noqa: SLF001 - as above
    "pipeline_started": Queues._pipeline_started,  # noqa: SLF001 - as above
    "pipeline_completed": Queues._pipeline_ended,  # noqa: SLF001 - as above
    "pipeline_failed": Queues._pipeline_ended,  # noqa: SLF001 - as above
    "approval_resolved": Queues._approval_resolved,  # noqa: SLF001 - as above
}


def pool_sizes(scenario: Scenario, from_s: float, until_s: float) -> dict[tuple[str, str], float]:
    """How many servers each queue has in a scenario, by project and name.

    Where the number of agents changes, it is the average over the time from ``from_s`` to ``until_s`` (seconds since
    the start of the simulation).
    """
    sizes: dict[tuple[str, str], float] = {}
    for project in scenario.projects:
        for role in ROLES:
            key = f"{role}s"
            changes = [(3600 * step.at_h, getattr(step, key)) for step in project.agents.steps]
            steps = [(0.0, getattr(project.agents, key)), *((at_s, size) for at_s, size in changes if size is not None)]
            sizes[project.name, f"agents.{role}"] = _time_average(steps, from_s, until_s)
        sizes[project.name, "runners"] = float(project.pipelines.runners)
        sizes[project.name, "humans"] = float(project.approvals.humans)
    return sizes


def _time_average(steps: list[tuple[float, float]], from_s: float, until_s: float) -> float:
    """Of a step function, given as (since, value) with ascending times; NaN over no time."""
    area = sum(
        value * max(min(following_s, until_s) - max(since_s, from_s), 0)
        for (since_s, value), (following_s, _) in pairwise([*steps, (math.inf, 0)])
    )
    return area / (until_s - from_s) if until_s > from_s else math.nan


def _mean(values: NDArray[Any]) -> float:
    return float(values.mean()) if len(values) else math.nan


def _cv2(values: Column) -> float:
    """Squared coefficient of variation: variance over squared mean."""
    mean = _mean(values)
    return float(values.var()) / mean**2 if mean > 0 else math.nan
