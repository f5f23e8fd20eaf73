"""`AgentLanes`: what each agent does, as a lane of states over time."""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterator
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from syndarix_rt.notebook.metrics import Gaps
from syndarix_rt.notebook.panels.sighting import Sighting

__all__ = ["AGENT_STATES", "AgentLanes"]

AGENT_STATES: list[dict[str, Any]] = [
    {"name": "idle", "color": "#A9B1BA", "size": 0.2},
    {"name": "in a call", "color": "#9FC9E6"},
    {"name": "LLM", "color": "#0072B2"},
    {"name": "tool", "color": "#009E73"},
    {"name": "waiting", "color": "#E69F00"},
    {"name": "error", "color": "#D55E00"},
]
"""A call is told of when it ends; until then it is only known that there is one."""

UNKNOWN = -1
_IDLE, _BUSY, _LLM, _TOOL, _WAITING, _ERROR = range(6)

MAX_LANES = 40
"""More do not fit on a screen, and are named only."""

MAX_NAMES = 10 * MAX_LANES

STEPS = 600
"""A lane tells states apart that are at least so small a part of the window: about a pixel."""

_ROLES = ("planner", "developer", "tester", "reviewer")


class _Lane:
    """One agent. A mark says from when on it is in which state, and as of which version that is known."""

    def __init__(self, simulation: str | None, agent_id: str, role: str) -> None:
        self.simulation = simulation
        self.agent_id = agent_id
        self.role = role
        self.marks: deque[list[float]] = deque()
        self.runs: set[str] = set()
        self.event_s = self.axis_s = 0.0  # of its newest event: in the time of events, and on the axis
        self.lost = False  # whether what it did since then was hidden by a gap, or it is new

    @property
    def order(self) -> tuple[Any, ...]:
        rank = _ROLES.index(self.role) if self.role in _ROLES else len(_ROLES)
        digits = [int(part) if part.isdigit() else part for part in re.split(r"([0-9]+)", self.agent_id)]
        return (rank, self.role, digits, self.simulation or "")


class AgentLanes:
    """Lanes of states; the newest ``window_s`` seconds of them.

    Args:
        window_s: how much is kept, on the axis.

    Attributes:
        lanes: their names, from the top down, then those of agents without room. A change of it may change the
            numbers of all lanes.
        bin_s: the time between two drawings that differ though nothing happened.
        gaps: declared losses, the newest last.
        version: grows with every change.
        cleared: how often everything was forgotten.
        start_s: when simulated time began, as told from outside; None: not known.
    """

    start_s: float | None = None

    types: Final = ("agent_started", "agent_activity", "agent_completed", "agent_error")

    def __init__(self, *, window_s: float = 60.0) -> None:
        self.lanes: list[str] = []
        self._gaps = Gaps()
        self.gaps = self._gaps.spans
        self.version = 0
        self.cleared = 0
        self._window_s = window_s
        self.bin_s = self._step_s = window_s / STEPS
        self._by_agent: dict[tuple[str | None, str], _Lane] = {}
        self._sorted: list[_Lane] = []
        self._beyond: dict[tuple[str | None, str], None] = {}
        """Agents for whom there is no room."""
        self._newest: str | None = None  # simulation of the newest event
        self._pace = 0.0  # seconds on the axis for one of the events', as of the newest that tell

    def see(self, event: Sighting, time_s: float) -> None:
        """A run begins or ends, or a call has ended; a call reaches back by its duration."""
        self.prove(time_s)
        data = event.data
        self._newest = event.simulation
        lane = self._lane((event.simulation, data["agent_id"]), data["role"])
        if lane is None:
            return
        event_s, time_s = event.time.timestamp(), max(time_s, lane.axis_s)
        if event.type == "agent_activity":
            start_s = self._start_s(lane, event, event_s, time_s)
            self._call(lane, start_s, _kind(data))
        if event.type in ("agent_started", "agent_activity"):
            lane.runs.add(data["run_id"])
        else:
            lane.runs.discard(data["run_id"])
        self._mark(lane, time_s, _BUSY if lane.runs else _IDLE)
        lane.event_s, lane.axis_s, lane.lost = event_s, time_s, False

    def prove(self, time_s: float) -> None:
        """An event of this time came."""
        self.version += self._gaps.prove(time_s)

    def advance(self, now_s: float) -> None:
        """Time goes on: what has left the window is forgotten, and so are agents that are no more.

        Those of a simulation are no more when a window has passed since it was heard of last, and others were heard of
        after it.
        """
        horizon_s = now_s - self._window_s - 1
        lanes = list(self._by_agent.values())
        heard = {lane.simulation for lane in lanes if lane.axis_s > horizon_s}
        heard |= {self._newest, None}  # a real agent may think for longer
        for lane in lanes:
            marks = lane.marks
            while len(marks) > 1 and marks[1][0] <= horizon_s:
                marks.popleft()
            lost = marks[-1][1] == UNKNOWN and marks[-1][0] <= horizon_s
            if lost or lane.simulation not in heard:
                del self._by_agent[lane.simulation, lane.agent_id]
                self._beyond.clear()  # there is room: whoever is still there will be seen
                self._sort()

    def gap(self, now_s: float, label: str) -> None:
        """Something was lost after the newest event and before ``now_s``: from there on nothing is known of anybody."""
        self.version += 1
        self._lose_all(self._gaps.add(now_s, label))

    def begin(self) -> None:
        """The log begins anew with the next event: there is no agent any more."""
        if self._gaps.proven_s is not None:
            self._lose_all(self._gaps.proven_s)
        self._beyond.clear()

    def clear(self) -> None:
        """Forget everything, as time itself begins anew."""
        self.version += 1
        self.cleared += 1
        self._gaps.clear()
        self._by_agent.clear()
        self._beyond.clear()
        self._sort()

    def rows(self, since: int = 0) -> NDArray[np.float64]:
        """Marks that changed after a version, by time: the time, the lane, and its state from then on (-1: unknown)."""
        changed = sorted(
            (mark[0], number, mark[1])
            for number, lane in enumerate(self._sorted)
            for mark in lane.marks
            if mark[2] > since
        )
        return np.array(changed).reshape(-1, 3)

    def spans(self) -> Iterator[tuple[int, float, float | None, int]]:
        """What is known, lane by lane: its number, from when, to when (None: still), its state."""
        for number, lane in enumerate(self._sorted):
            marks = list(lane.marks)
            for mark, after in zip(marks, [*marks[1:], None], strict=True):
                if mark[1] != UNKNOWN:
                    yield number, mark[0], None if after is None else after[0], int(mark[1])

    def _lane(self, key: tuple[str | None, str], role: str) -> _Lane | None:
        lane = self._by_agent.get(key)
        if lane is None and len(self._by_agent) < MAX_LANES:
            lane = self._by_agent[key] = _Lane(*key, role)
            lane.lost = True
            self._beyond.pop(key, None)
            self._sort()
        elif lane is None and key not in self._beyond and len(self._beyond) < MAX_NAMES - MAX_LANES:
            self._beyond[key] = None
            self._sort()
        return lane

    def _sort(self) -> None:
        self._sorted = sorted(self._by_agent.values(), key=lambda lane: lane.order)
        ids = [lane.agent_id for lane in self._sorted]
        self.lanes = [
            lane.agent_id if ids.count(lane.agent_id) == 1 else f"{lane.agent_id} ({(lane.simulation or 'real')[-4:]})"
            for lane in self._sorted
        ]
        self.lanes.extend(agent_id for _, agent_id in self._beyond)
        self.version += 1

    def _start_s(self, lane: _Lane, event: Sighting, event_s: float, time_s: float) -> float:
        """Where on the axis the call began that ends with this event."""
        passed_s = event_s - lane.event_s
        if lane.lost:  # nothing to measure by but what others showed
            pace = self._pace or float(event.simulation is None)
        elif passed_s > 0:
            pace = self._pace = (time_s - lane.axis_s) / passed_s
        else:
            pace = 0.0
        start_s = time_s - (event.data.get("duration_s") or 0.0) * pace
        return start_s if lane.lost else max(start_s, lane.axis_s)

    def _call(self, lane: _Lane, start_s: float, kind: int) -> None:
        """A call of a kind began at ``start_s``, and ends now."""
        last = lane.marks[-1] if lane.marks else None
        if last is not None and last[1] == _BUSY:  # told at last
            waited = start_s - last[0] > self._step_s
            last[1] = _WAITING if waited else kind
            last[2] = self._next()
            if not waited:
                return
        self._mark(lane, start_s, kind)

    def _mark(self, lane: _Lane, time_s: float, state: int) -> None:
        """From a time on the lane is in a state."""
        last = lane.marks[-1] if lane.marks else None
        if last is not None and last[1] == state:
            return
        if last is not None and time_s - last[0] < self._step_s:  # too short to be seen
            last[1], last[2] = state, self._next()
        else:
            lane.marks.append([time_s, state, self._next()])

    def _lose_all(self, time_s: float) -> None:
        for lane in self._by_agent.values():
            self._mark(lane, time_s, UNKNOWN)
            lane.lost = True
            lane.runs.clear()

    def _next(self) -> int:
        self.version += 1
        return self.version


def _kind(call: dict[str, Any]) -> int:
    if call.get("status") == "error":
        return _ERROR
    return _TOOL if "gen_ai.tool.name" in call or call.get("gen_ai.operation.name") == "execute_tool" else _LLM
