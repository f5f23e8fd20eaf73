"""`SpanJudge`: whether runs, pipelines and approvals took as long as they say (invariants A8, P1 and H3)."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

from syndarix_rt.events import Event
from syndarix_rt.simulation.judge import TOLERANCE_S

__all__ = ["SpanJudge"]

_ROUNDING_S = 2.0
"""Of real reporters, whose two times and their durations may be rounded to whole seconds, each by itself."""

_BEGINS = {"agent_started": "run_id", "pipeline_started": "pipeline_id", "approval_required": "approval_id"}
_ENDS = {
    "agent_completed": ("A8", "run_id", "duration_s"),
    "agent_error": ("A8", "run_id", "duration_s"),
    "pipeline_completed": ("P1", "pipeline_id", "duration_s"),
    "pipeline_failed": ("P1", "pipeline_id", "duration_s"),
    "approval_resolved": ("H3", "approval_id", "waited_s"),
}


class SpanJudge:
    """Compares what ends say of their duration with the times of their events.

    Simulated ones are exact. A real run or pipeline may say less than its time, since some reporters count only what
    they were busy; none can have taken longer.

    Args:
        violated: called with invariant, event and reason.
    """

    def __init__(self, violated: Callable[[str, Event, str], None]) -> None:
        self._violated = violated
        self._begun: dict[tuple[str, str], datetime] = {}

    def check(self, event: Event, *, in_time: bool) -> None:
        """Judge one event; one that is not ``in_time`` has a time that nothing can be told from."""
        if id_key := _BEGINS.get(event.type):
            if in_time and not event.data.get("joined"):
                self._begun.setdefault((id_key, event.data[id_key]), event.time)
        elif end := _ENDS.get(event.type):
            self._check_end(event, *end, in_time=in_time)

    def _check_end(self, event: Event, invariant: str, id_key: str, key: str, *, in_time: bool) -> None:
        what, said_s = event.data[id_key], event.data.get(key)
        begun = self._begun.pop((id_key, what), None)
        if said_s is None:
            return
        tolerance_s = TOLERANCE_S if event.simulation else _ROUNDING_S
        if begun is not None and in_time:
            passed_s = (event.time - begun).total_seconds()
            is_exact = bool(event.simulation) or key == "waited_s"
            if said_s > passed_s + tolerance_s or (is_exact and said_s < passed_s - tolerance_s):
                self._violated(invariant, event, f"{key} of {what} is {said_s:.10g}, by the times {passed_s:.10g} s")
                return
        if key != "waited_s":
            return
        parts_s = (event.data.get("queued_s") or 0) + (event.data.get("busy_s") or 0)
        if parts_s > said_s + tolerance_s:
            reason = f"queued_s + busy_s of {what} are {parts_s:.10g} s, more than its waited_s of {said_s:.10g}"
            self._violated(invariant, event, reason)
