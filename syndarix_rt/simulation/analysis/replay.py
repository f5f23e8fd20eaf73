"""`replay`: a scenario's settings from a trace, value by value, where `fit` would put laws in their place.

Issues arrive when they arrived in the trace, and durations and sizes are drawn from those that it holds. So nothing is
lost to a law that does not quite suit, and nothing new can come: no value larger than the largest one.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from syndarix_rt.errors import ScenarioError
from syndarix_rt.events import Event
from syndarix_rt.simulation.analysis.frame_rows import rows_of
from syndarix_rt.simulation.analysis.observations import HUMAN_WAITS, Observations

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["replay"]

_LEAST = 10
"""Fewer values are no law: as many as `fit` asks for."""

_LAWS = (
    *("runs.calls", "runs.llm_s", "runs.tool_s", "runs.append_tokens", "runs.output_tokens"),
    *("pipelines.success_min", "pipelines.failure_min", "approvals.review_min"),
    *("changes.gap_min", "changes.merge_h", "approvals.response_h"),
)
_MEANS = ("runs.tools_per_call", "changes.commits_per_run")
"""The settings of which a scenario has the mean alone."""


def replay(events: Iterable[Event | bytes] | pd.DataFrame, *, most: int = 2_000) -> dict[str, Any]:
    """What to change in a scenario so that it replays a trace.

    Keys are there as far as the trace has ten values: ``issues.arrivals`` with the times of issues, or else of
    requests, or else of pull requests, of all projects together, in hours since the first; empirical laws of calls,
    durations, tokens and waits; means and shares, such as ``pipelines.fail_after_failure_share``. Waits for people are
    as long as they were, nights and all, so ``human_time_scale`` becomes 1 and office hours end.

    Args:
        events: a whole trace in the order of time: events, lines of a recording, or a frame of `events_frame`.
        most: of a law with more values, so many of them at equal steps of rank; of arrivals the first so many, as any
            others would be fewer an hour.

    Raises:
        EventError: a line is no event.
        ScenarioError: the trace has nothing that could be replayed.

    Example:
        ``Scenario.preset("steady_sprint").replace(replay(read_recording("may.jsonl")))``
    """
    seen = Observations.of(rows_of(events))
    enough = {key: np.sort(np.array(values, float)) for key, values in seen.samples.items() if len(values) >= _LEAST}
    changes: dict[str, Any] = {}
    for kind in ("issues", "requests", "prs"):
        times_s = seen.arrival_times(kind)[:most]
        if len(times_s) >= _LEAST:
            times_h = np.round((times_s - times_s[0]) / 3600, 9)  # to 4 microseconds
            changes["issues.arrivals"] = {"process": "replay", "times_h": times_h.tolist()}
            changes["issues.initial"] = 0
            break
    changes |= {key: {"law": "empirical", "values": _thinned(enough[key], most)} for key in _LAWS if key in enough}
    changes |= {key: float(enough[key].mean()) for key in _MEANS if key in enough}
    if "runs.first_context_tokens" in enough:
        changes["runs.first_context_tokens"] = max(round(float(np.median(enough["runs.first_context_tokens"]))), 1)
    for key, (yes, possible, n) in seen.shares.items():
        if n >= _LEAST and possible and not key.startswith("trace."):
            changes[key] = yes / possible
    if not changes:
        raise ScenarioError("has nothing that could be replayed: no ten values of anything", "trace")
    if any(key in changes for key in HUMAN_WAITS):
        changes |= {"human_time_scale": 1.0, "approvals.office": None}
    return changes


def _thinned(ascending: npt.NDArray[np.float64], most: int) -> list[float]:
    """At most so many of the values, at the middles of equal steps of rank; six digits."""
    count = min(len(ascending), most)
    ranks = ((np.arange(count) + 0.5) * len(ascending) / count).astype(int)
    return [float(f"{value:.6g}") for value in ascending[ranks].tolist()]
