"""Issues on their way (a cumulative flow diagram), and the sprint's progress (a burn-up chart)."""

from __future__ import annotations

import math
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from syndarix_rt.notebook.metrics import Levels
from syndarix_rt.notebook.panels.census import Census
from syndarix_rt.notebook.panels.sighting import Sighting

__all__ = ["ISSUE_SERIES", "SPRINT_SERIES", "IssueFlow", "SprintProgress"]

DOUBTFUL: dict[str, Any] = {"name": "unknown since a gap", "color": "#A9B1BA", "rare": True}
"""The series of those whose state a gap has hidden; see `Census`."""

ISSUE_SERIES: list[dict[str, Any]] = [
    {"name": "done", "color": "#009E73"},
    {"name": "dropped", "color": "#7F8792"},
    {"name": "in review", "color": "#CC79A7"},
    {"name": "blocked", "color": "#D55E00"},
    {"name": "in progress", "color": "#0072B2"},
    {"name": "assigned", "color": "#56B4E9"},
    {"name": "open", "color": "#E69F00"},
    DOUBTFUL,
]
"""From the baseline up, as an issue's life goes backwards: so each boundary is a curve of arrivals in a state."""

_DONE, _DROPPED, _REVIEW, _BLOCKED, _PROGRESS, _ASSIGNED, _OPEN, _DOUBTFUL = range(8)

_STATES = {
    "open": _OPEN,
    "reopened": _OPEN,
    "assigned": _ASSIGNED,
    "in_progress": _PROGRESS,
    "in_review": _REVIEW,
    "blocked": _BLOCKED,
}

SPRINT_SERIES: list[dict[str, Any]] = [
    {"name": "scope", "color": "#E69F00"},
    {"name": "ideal", "color": "#7F8792", "dash": True},
    {"name": "closed", "color": "#009E73"},
]


class IssueFlow(Levels):
    """How many issues are in each state, of those that were seen."""

    types: Final = ("issue_created", "issue_updated", "issue_closed")

    def __init__(self, *, bin_s: float = 1.0, bins: int = 602) -> None:
        super().__init__(len(ISSUE_SERIES), bin_s=bin_s, bins=bins)
        self._issues = Census(len(ISSUE_SERIES), final=(_DONE, _DROPPED), doubtful=_DOUBTFUL)

    def see(self, event: Sighting, time_s: float) -> None:
        """An issue changes its state."""
        data, issues = event.data, self._issues
        issue_id = data["issue_id"]
        if event.type == "issue_closed":
            state = _DONE if data.get("resolution") in (None, "done") else _DROPPED
        elif event.type == "issue_created":
            state = _STATES.get(data.get("state", "open"), _OPEN)
        else:  # one that says nothing of where it is leaves it where it was
            known = issues.state(issue_id)
            state = _STATES.get(data.get("state", ""), _OPEN if known is None else known)
        issues.move(issue_id, state)
        self.set(time_s, issues.counts)

    def gap(self, now_s: float, label: str) -> None:
        """Issues may have moved unseen; see `Census`."""
        super().gap(now_s, label)
        self._issues.doubt()
        self._levels = list(self._issues.counts)

    def advance(self, now_s: float) -> None:
        """Time goes on; who was not seen for as long as is shown is forgotten."""
        if self._issues.counts[_DOUBTFUL] and self.gaps and self.gaps[-1].end_s < now_s - self._bins * self.bin_s:
            self._issues.forget_doubtful()
            self._levels = list(self._issues.counts)
        super().advance(now_s)

    def begin(self) -> None:
        """There are no issues yet."""
        self._issues.clear()
        self._levels = list(self._issues.counts)


class SprintProgress(Levels):
    """Closed issues of the newest sprint, its scope, and what would be closed by now at an even pace.

    The scope is what was planned and what was created since. Nothing is known of a sprint whose start was not seen, and
    from a gap on to the next start.

    Args:
        simulated: whether the axis is that of the events' time, so that it is known where on it the sprint will end.
        bin_s: see `Levels`.
        bins: see `Levels`.

    Attributes:
        span_s: the start of the sprint and its end (None: not known) on the axis; None without a sprint.
    """

    types = None  # also to know how far the sprint's time has gone

    def __init__(self, *, simulated: bool = False, bin_s: float = 1.0, bins: int = 602) -> None:
        super().__init__(len(SPRINT_SERIES), bin_s=bin_s, bins=bins)
        self.span_s: tuple[float, float | None] | None = None
        self._simulated = simulated
        self._sprint_id = ""
        self._start_s = self._duration_s = 0.0  # in the time of events
        self._closed = self._scope = 0
        self._told_bin = math.nan
        self._ideal_version = 0  # when the ideal of what is to come was changed
        self.begin()

    def see(self, event: Sighting, time_s: float) -> None:
        """A sprint starts or ends, an issue comes or goes, or just time."""
        data = event.data
        match event.type:
            case "sprint_started":
                self._start(data, event.time.timestamp(), time_s)
            case "sprint_completed" if self._sprint_id:
                self._sprint_id = ""
                self.span_s = None if self.span_s is None else (self.span_s[0], time_s)
                return self.set(time_s, [math.nan] * len(SPRINT_SERIES))
            case "issue_created" if self._is_in(data):
                self._scope += 1
                self._ideal_version = self.version + 1
            case "issue_closed" if self._is_in(data):
                self._closed += 1
            case _ if not self._sprint_id or time_s // self.bin_s == self._told_bin:
                return None
        if not self._sprint_id:
            return None
        self._told_bin = time_s // self.bin_s
        return self.set(time_s, [self._scope, self._ideal(event.time.timestamp()), self._closed])

    def rows(self, since: int = 0) -> NDArray[np.float64]:
        """As of `Binned`; of what is to come there is only the ideal, if it is known when the sprint ends."""
        rows = super().rows(since)
        if not self._sprint_id or self.span_s is None or self.span_s[1] is None or self._ideal_version <= since:
            return rows
        last = min(math.ceil(self.span_s[1] / self.bin_s), self._last + MAX_AHEAD)
        times_s = np.arange(self._last + 1, last + 1) * self.bin_s
        ahead = np.full((len(times_s), rows.shape[1]), math.nan)
        ahead[:, 0] = times_s
        ahead[:, 2] = [self._ideal(time_s) for time_s in ahead[:, 0]]
        return np.vstack([rows, ahead])

    def gap(self, now_s: float, label: str) -> None:
        """What was closed may not have been seen."""
        super().gap(now_s, label)
        self._sprint_id = ""
        self._levels = [math.nan] * len(SPRINT_SERIES)

    def begin(self) -> None:
        """There is no sprint yet."""
        self._sprint_id = ""
        self.span_s = None
        self._levels = [math.nan] * len(SPRINT_SERIES)

    def _start(self, data: dict[str, Any], event_s: float, time_s: float) -> None:
        self._sprint_id = data["sprint_id"]
        self._start_s, self._duration_s = event_s, data.get("duration_s") or 0.0
        self._closed, self._scope = 0, data.get("issues_planned") or 0
        self.span_s = time_s, event_s + self._duration_s if self._simulated and self._duration_s else None
        self.prove(time_s)  # also what was before it has rows then
        before = math.floor(time_s / self.bin_s) - 1
        if before in self._rows:  # of another sprint, and not to be joined
            self._rows[before] = [math.nan] * len(SPRINT_SERIES)
            self._touch(before)
        self._ideal_version = self.version + 1

    def _ideal(self, event_s: float) -> float:
        """What would be closed at a time of the events, at an even pace."""
        if not self._duration_s:
            return math.nan
        return self._scope * min(max((event_s - self._start_s) / self._duration_s, 0.0), 1.0)

    def _is_in(self, issue: dict[str, Any]) -> bool:
        return bool(self._sprint_id) and issue.get("sprint_id") == self._sprint_id


MAX_AHEAD = 2000
"""Bins drawn of what is to come: a sprint that says it takes years needs no more."""
