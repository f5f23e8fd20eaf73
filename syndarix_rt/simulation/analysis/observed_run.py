"""`ObservedRun`: what the activities of one run tell."""

from __future__ import annotations

import math
from collections.abc import Hashable
from typing import Any

from syndarix_rt.events.payloads import LLM_OPERATIONS
from syndarix_rt.simulation.analysis.tally import Tally

__all__ = ["ObservedRun"]

_SUPPORT = ("planner", "tester", "reviewer")
"""Roles of the model beside the developer's."""


class ObservedRun:
    """A run while it is open.

    Args:
        tally: what its calls are written into.
        role: the agent's; one that the model does not know works as a developer.
        start_s: when it began, seconds since 1970.
        thread: the change that it works on: its pull request, branch or issue; None if it names none.
        implied: whether the trace merely implies it; then its LLM calls are requests.

    Attributes:
        llm_calls: that did not fail, so far.
        commits: so far.
        tools: of each LLM call so far: tool calls that followed.
        logs: logarithms of the LLM calls' durations, in seconds.
    """

    def __init__(self, tally: Tally, role: str, start_s: float, thread: Hashable, *, implied: bool) -> None:
        self.role = role if role in _SUPPORT else "developer"
        self.start_s = start_s
        self.thread = thread
        self.implied = implied
        self.llm_calls = self.commits = 0
        self.tools: list[int] = []
        self.logs: list[float] = []
        self._tally = tally
        self._context_tokens = 0  # of the latest LLM call: its prompt and its answer

    def activity(self, data: dict[str, Any]) -> bool:
        """Take an activity's payload; whether it is an LLM call that did not fail."""
        operation = data.get("gen_ai.operation.name")
        failed = data.get("status") == "error"
        if operation == "execute_tool" and data.get("attempt") is None:
            self._tally.count("runs.tool_error_share", failed, 1)
        if failed:
            return False
        if operation in LLM_OPERATIONS:
            self._llm_call(data)
        elif operation == "execute_tool":
            self._tool_call(data)
        return operation in LLM_OPERATIONS

    def _tool_call(self, data: dict[str, Any]) -> None:
        if self.tools:
            self.tools[-1] += 1
        if data.get("duration_s") is not None:
            self._tally.samples["runs.tool_s"].append(data["duration_s"])
        if data.get("attempt") is not None:
            self._tally.count("runs.tool_error_share", data["attempt"] - 1, data["attempt"])

    def _llm_call(self, data: dict[str, Any]) -> None:
        tally, samples = self._tally, self._tally.samples
        put_in, output = data.get("gen_ai.usage.input_tokens"), data.get("gen_ai.usage.output_tokens")
        prefix, cached = data.get("prefix_tokens"), data.get("cached_tokens")
        duration_s = data.get("duration_s")
        append = data.get("append_tokens")
        if prefix is None and put_in is not None and not self.implied and 0 < self._context_tokens <= put_in:
            prefix, append = self._context_tokens, put_in - self._context_tokens
        self._context_tokens = (put_in or 0) + (output or 0)
        if model := data.get("gen_ai.request.model"):
            tally.models[model] += 1
        if output is not None:
            samples["runs.output_tokens"].append(output)
        if prefix and append is not None:
            samples["runs.append_tokens"].append(append)
        if self.implied:
            if put_in is not None:
                samples["trace.requests.input_tokens"].append(put_in)
                if cached is not None:
                    tally.count("trace.requests.cached_share", cached, put_in)
            return
        if put_in is not None:
            samples["trace.runs.call_input_tokens" if self.llm_calls else "runs.first_context_tokens"].append(put_in)
        if prefix and cached is not None:
            tally.count("runs.cache_hit_share", min(cached, prefix), prefix)
        if duration_s is not None:
            samples["runs.llm_s"].append(duration_s)
            self.logs.append(math.log(max(duration_s, 1e-6)))
        self.llm_calls += 1
        self.tools.append(0)

    def end(self, now_s: float, reason: str, cost_usd: float | None, *, completed: bool) -> None:
        """Take its end; one that was cancelled tells nothing.

        Args:
            now_s: when, seconds since 1970.
            reason: as of the catalogue's ``end_reason``.
            cost_usd: of the whole run, if it is known.
            completed: whether it did what it was to do.
        """
        tally, samples = self._tally, self._tally.samples
        if self.logs:
            tally.logs.append(self.logs)
        if self.llm_calls:
            tally.count(
                "runs.fatal_error_share",
                not completed and reason != "max_iters",
                self.llm_calls + (reason in ("rate_limited", "llm_failure")),
            )
        if cost_usd:
            samples["trace.runs.cost_usd"].append(cost_usd)
        if self.tools and completed:
            samples["runs.tools_per_call"] += self.tools
        if self.role != "developer":
            return
        tally.count("trace.runs.error_share", not completed, 1)
        duration_min = (now_s - self.start_s) / 60
        samples["trace.runs.duration_min" if completed else "trace.runs.failed_duration_min"].append(duration_min)
        if completed and self.llm_calls:
            samples["runs.calls"].append(self.llm_calls)
        if completed and self.commits:
            samples["changes.commits_per_run"].append(self.commits)
