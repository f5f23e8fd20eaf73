"""`RunJudge`: what agents do: runs, their calls, and their ends (invariants A1 to A8)."""

from __future__ import annotations

import math
from collections.abc import Callable
from datetime import datetime
from typing import Any

from syndarix_rt.events import Event
from syndarix_rt.events.payloads import LLM_OPERATIONS
from syndarix_rt.simulation.entities import Run
from syndarix_rt.simulation.idset import IdSet
from syndarix_rt.simulation.judge import TOLERANCE_S, Judge

__all__ = ["RunJudge"]

_TOKENS = {
    "input_tokens": "gen_ai.usage.input_tokens",
    "output_tokens": "gen_ai.usage.output_tokens",
    "cost_usd": "cost_usd",
}


class RunJudge(Judge):
    """Judges ``agent_*``."""

    def __init__(self, violated: Callable[[str, Event, str], None], *, partial: bool) -> None:
        super().__init__(violated, partial=partial)
        self._runs: dict[str, Run] = {}
        self._ended_runs = IdSet()
        self._agents: dict[str, set[str]] = {}
        """Open runs."""
        self.handlers = {
            "agent_started": self._agent_started,
            "agent_activity": self._agent_activity,
            "agent_completed": self._agent_ended,
            "agent_error": self._agent_ended,
        }

    def is_open(self, run_id: str, data: dict[str, Any]) -> bool:
        """Whether a run that an event names is open, or can be believed to be."""
        return run_id in self._runs or self._believe_run(run_id, data) is not None

    def _agent_started(self, event: Event, data: dict[str, Any]) -> None:
        run_id, agent_id = data["run_id"], data["agent_id"]
        if run_id in self._runs:
            self._violated("A1", event, f"{run_id} was started before")
            return
        if run_id in self._ended_runs:
            self._violated("A3", event, f"{run_id} has ended")
            return
        open_runs = self._agents.setdefault(agent_id, set())
        run = Run(agent_id, event.time, data.get("concurrency") or 1, joined=bool(data.get("joined")))
        if len(open_runs) >= run.concurrency:
            self._violated("A4", event, f"{agent_id} works on {', '.join(sorted(open_runs))} already")
            open_runs -= {other for other in open_runs if self._runs[other].started is None}  # believed wrongly
        open_runs.add(run_id)
        self._runs[run_id] = run

    def _agent_activity(self, event: Event, data: dict[str, Any]) -> None:
        run_id = data["run_id"]
        run = self._runs.get(run_id)
        if run is None:
            if run_id in self._ended_runs:
                self._violated("A3", event, f"{run_id} has ended")
                return
            run = self._believe_run(run_id, data)
            if run is None:
                self._violated("A1", event, f"{run_id} was never started")
                run = self._runs[run_id] = Run(data["agent_id"], None)
        self._check_tokens(event, data)
        self._check_tries(event, data, run)
        self._check_duration(event, data, run)
        for total, key in _TOKENS.items():
            if (value := data.get(key)) is not None:
                run.sums[total] = run.sums.get(total, 0) + value
        operation = data.get("gen_ai.operation.name")
        calls = "llm_calls" if operation in LLM_OPERATIONS else "tool_calls" if operation == "execute_tool" else None
        if calls:
            run.sums[calls] = run.sums.get(calls, 0) + 1

    def _believe_run(self, run_id: str, data: dict[str, Any]) -> Run | None:
        """A run that began before a partial stream; None if it cannot have."""
        if not self._partial or run_id in self._ended_runs:
            return None
        agent_id = data.get("agent_id")
        if not isinstance(agent_id, str):  # an approval need not say it, and nothing checks what it says
            agent_id = ""
        open_runs = self._agents.setdefault(agent_id, set()) if agent_id else set()
        newest = max((run for run in map(self._runs.__getitem__, open_runs) if run.started), key=_start, default=None)
        if newest is not None and len(open_runs) >= newest.concurrency:
            return None  # its agent would have been busy when it took up the newest one
        open_runs.add(run_id)
        run = self._runs[run_id] = Run(agent_id, None)
        return run

    def _agent_ended(self, event: Event, data: dict[str, Any]) -> None:
        run_id = data["run_id"]
        if run_id in self._ended_runs:
            self._violated("A2", event, f"{run_id} has ended before")
            return
        if run_id not in self._runs and self._believe_run(run_id, data) is None:
            self._violated("A1", event, f"{run_id} was never started")
        run = self._runs.pop(run_id, None)
        self._ended_runs.add(run_id)
        if run is None:
            return
        open_runs = self._agents.get(run.agent_id, set())
        open_runs.discard(run_id)
        if not open_runs:
            self._agents.pop(run.agent_id, None)
        if run.started is None and not self._partial:
            return
        for total, summed in run.sums.items():
            said, tolerance = data.get(total), 1e-6 * max(1, summed)
            if said is not None and (said < summed - tolerance or (run.started and said > summed + tolerance)):
                self._violated("A5", event, f"{total} is {said}, the activities of {run_id} sum to {summed:.10g}")
        if run.started is not None:
            took_s = (event.time - run.started).total_seconds()
        else:
            took_s = data.get("duration_s") or math.inf
        if event.simulation and run.busy_s > took_s + TOLERANCE_S:  # real agents may call in parallel
            self._violated("A8", event, f"{run_id} took {took_s:.3f} s, its calls {run.busy_s:.3f} s")

    def _check_duration(self, event: Event, data: dict[str, Any], run: Run) -> None:
        duration_s = data.get("duration_s") or 0
        lasted_s = math.inf if run.started is None or run.joined else (event.time - run.started).total_seconds()
        if duration_s > lasted_s + TOLERANCE_S:
            self._violated("A8", event, f"the call took {duration_s:.3f} s, so it began before its run")
        else:
            run.busy_s += duration_s

    def _check_tokens(self, event: Event, data: dict[str, Any]) -> None:
        put_in = data.get("gen_ai.usage.input_tokens")
        prefix, append, cached = data.get("prefix_tokens"), data.get("append_tokens"), data.get("cached_tokens")
        if put_in is None:
            return
        if prefix is not None and append is not None and prefix + append != put_in:
            self._violated("A6", event, f"prefix {prefix} + append {append} is not input {put_in}")
        elif cached is not None and cached > put_in:
            self._violated("A6", event, f"{cached} tokens cached of {put_in} input")

    def _check_tries(self, event: Event, data: dict[str, Any], run: Run) -> None:
        attempt = data.get("attempt")
        if attempt is None:
            return
        call = (data.get("gen_ai.operation.name"), data.get("gen_ai.tool.call.id") or data.get("gen_ai.tool.name"))
        before, backoff_before_s = run.tries.pop(call, (0, 0.0))
        backoff_s = data.get("backoff_s") or 0.0
        is_first_seen = run.started is None and call not in run.calls
        if run.started is None:
            run.calls.add(call)
        if attempt not in (1, before + 1) and not is_first_seen:
            self._violated(
                "A7", event, f"try {attempt} follows try {before}" if before else f"try {attempt} is the first"
            )
        elif attempt > 1 and data.get("backoff_s") is not None and backoff_s < backoff_before_s:
            self._violated("A7", event, f"backs off {backoff_s} s after {backoff_before_s} s")
        if data.get("status") == "error":
            run.tries[call] = (attempt, backoff_s)


def _start(run: Run) -> datetime:
    assert run.started is not None
    return run.started
