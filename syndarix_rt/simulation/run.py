"""One run of an agent: LLM calls, each followed by tool calls, with tokens, errors, retries and an end.

All chance of a run is drawn at its start, from its own generator; what comes of it is decided while the run goes on.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt
import simpy

from syndarix_rt.simulation.laws import repeats
from syndarix_rt.simulation.settings import Changes, Runs

if TYPE_CHECKING:
    from syndarix_rt.simulation.issue import IssueLife

__all__ = ["ROLES", "AgentRun", "RunPlan"]

ROLES = {"planner": 0.25, "developer": 1.0, "tester": 0.5, "reviewer": 0.35}
"""How many LLM calls a run in this role makes, as a share of a developer's. [P]"""

_TOOLS = ("shell", "edit", "search", "agent", "web", "other")
_TOOL_MIX = np.cumsum((0.76, 0.11, 0.09, 0.012, 0.010))  # TraceLab, shares of 432,510 tool calls; the rest is other

# US dollars per million tokens, which is micro-dollars per token. [P]; with them a median run costs about 0.5,
# and TraceLab's median session 0.61.
_PROMPT_USD_PER_MTOK = 1.25
_CACHED_USD_PER_MTOK = 0.125
_OUTPUT_USD_PER_MTOK = 10.0

_REFUSED_US = 500_000  # [P]: a provider answers 429 at once


class RunPlan(NamedTuple):
    """The luck of one run; lists have one element for each LLM call, or one for each tool call."""

    llm_us: list[int]
    append_tokens: list[int]
    output_tokens: list[int]
    cache_hits: list[bool]
    tool_counts: list[int]
    tool_us: list[int]
    tool_names: list[str]
    tool_failures: list[int]
    """Tries that fail before one goes well; more than ``retries_max``: none does."""
    fatal_call: int | None
    """The LLM call at which nothing goes well any more."""
    fatal_is_tool: bool
    commits_after: frozenset[int]
    """LLM calls whose tools end with a commit."""
    cut: bool
    """Whether the run would want more calls than it may have."""

    @classmethod
    def draw(cls, rng: np.random.Generator, runs: Runs, changes: Changes, role: str) -> RunPlan:
        """The luck of a run in this role."""
        wanted = max(1, round(runs.calls.draw(rng) * ROLES[role]))
        calls = min(wanted, runs.calls_max)
        fatal = (rng.random(calls) < runs.fatal_error_share).nonzero()[0]
        commits = int(repeats(rng.random(1), 1 - 1 / changes.commits_per_run, calls - 1)[0])
        tool_counts = rng.poisson(runs.tools_per_call, calls).tolist()
        tools = sum(tool_counts)
        return cls(
            llm_us=_whole(1e6 * runs.llm_s.draws(rng, calls)),
            append_tokens=_whole(runs.append_tokens.draws(rng, calls)),
            output_tokens=_whole(runs.output_tokens.draws(rng, calls)),
            cache_hits=(rng.random(calls) < runs.cache_hit_share).tolist(),
            tool_counts=tool_counts,
            tool_us=_whole(1e6 * runs.tool_s.draws(rng, tools)),
            tool_names=[_TOOLS[kind] for kind in _TOOL_MIX.searchsorted(rng.random(tools), side="right").tolist()],
            tool_failures=repeats(rng.random(tools), runs.tool_error_share, runs.retries_max + 1).tolist(),
            fatal_call=int(fatal[0]) if len(fatal) else None,
            fatal_is_tool=bool(rng.integers(2)),  # [P]
            # The last call always ends with a commit: what was done is pushed before the run ends.
            commits_after=frozenset((*rng.permutation(calls - 1)[:commits].tolist(), calls - 1)),
            cut=wanted > calls,
        )


class AgentRun:
    """A run while it goes on.

    Attributes:
        last: the id of its latest event.
        completed: whether it ended well; known when its process is over.
    """

    def __init__(self, life: IssueLife, agent_id: str, role: str, *, attempt: int) -> None:
        self.agent_id = agent_id
        self.role = role
        self.run_id = life.world.new_id("run")
        self.last = ""
        self.completed = False
        self._life = life
        self._world = life.world
        self._attempt = attempt
        self._settings = life.world.project.runs
        self._who = {"run_id": self.run_id, "agent_id": agent_id, "role": role, "issue_id": life.issue_id}
        if role != "planner":
            self._who["branch"] = life.branch
        self._chat = self._who | {"gen_ai.operation.name": "chat", "gen_ai.request.model": self._settings.model}
        self._tool = self._who | {"gen_ai.operation.name": "execute_tool"}
        self._started_us = life.world.env.now
        self._llm_calls = self._tool_calls = self._input_tokens = self._output_tokens = self._cost_musd = 0

    def process(self, plan: RunPlan, cause: str) -> Generator[simpy.Event, Any, None]:
        """Work through the plan; everything that happens is caused by what came before it in this run."""
        world, settings, develops = self._world, self._settings, self.role == "developer"
        start = {"gen_ai.request.model": settings.model, "attempt": self._attempt}
        self.last = world.emit("agent_started", self._who | start, self.run_id, cause)
        if develops:
            self._life.begin_work(self)
        context_tokens = tool = 0
        for call, (llm_us, tool_count) in enumerate(zip(plan.llm_us, plan.tool_counts, strict=True)):
            fatal = call == plan.fatal_call
            if fatal and not (plan.fatal_is_tool and tool_count):
                self._llm_calls += settings.retries_max + 1
                yield from self._failures(self._chat, _REFUSED_US, settings.retries_max + 1, "rate_limited")
                return self._end("rate_limited")
            yield world.env.timeout(llm_us)
            append_tokens, output_tokens = plan.append_tokens[call], plan.output_tokens[call]
            if context_tokens == 0 or context_tokens + append_tokens > settings.window_tokens:
                context_tokens, append_tokens = 0, settings.first_context_tokens
            cached_tokens = context_tokens if plan.cache_hits[call] else 0
            self._answered(llm_us, context_tokens, append_tokens, cached_tokens, output_tokens)
            context_tokens += append_tokens + output_tokens
            for index in range(tool, tool + tool_count):
                duration_us, failures = plan.tool_us[index], plan.tool_failures[index]
                if fatal:
                    failures = settings.retries_max + 1
                data: dict[str, Any] = {
                    **self._tool,
                    "gen_ai.tool.name": plan.tool_names[index],
                    "gen_ai.tool.call.id": f"{self.run_id}-{index}",
                }
                self._tool_calls += failures
                if failures:
                    yield from self._failures(data, duration_us, failures, "tool_failed")
                    if failures > settings.retries_max:
                        return self._end("tool_failure")
                yield world.env.timeout(duration_us)
                data["duration_s"] = duration_us / 1e6
                data["status"] = "ok"
                data["attempt"] = failures + 1
                self.last = world.emit("agent_activity", data, self.run_id, self.last)
                self._tool_calls += 1
            tool += tool_count
            if develops and call in plan.commits_after:
                self._life.push(self)
        if plan.cut:
            return self._end("max_iters")
        if develops:
            self._life.propose(self)
        self.completed = True
        return self._end("completed")

    def _answered(self, llm_us: int, prefix: int, append: int, cached: int, output: int) -> None:
        """An LLM call went well."""
        put_in = prefix + append
        cost_musd = round(
            cached * _CACHED_USD_PER_MTOK + (put_in - cached) * _PROMPT_USD_PER_MTOK + output * _OUTPUT_USD_PER_MTOK
        )
        data = {
            **self._chat,
            "gen_ai.usage.input_tokens": put_in,
            "gen_ai.usage.output_tokens": output,
            "prefix_tokens": prefix,
            "append_tokens": append,
            "cached_tokens": cached,
            "duration_s": llm_us / 1e6,
            "cost_usd": cost_musd / 1e6,
            "status": "ok",
            "attempt": 1,
        }
        self.last = self._world.emit("agent_activity", data, self.run_id, self.last)
        self._llm_calls += 1
        self._input_tokens += put_in
        self._output_tokens += output
        self._cost_musd += cost_musd

    def _failures(
        self, call: dict[str, Any], duration_us: int, count: int, error: str
    ) -> Generator[simpy.Event, Any, None]:
        """Tries of a call that fail; before each retry the agent waits, each time twice as long."""
        backoff_s = self._settings.backoff_s
        for attempt in range(1, count + 1):
            yield self._world.env.timeout(duration_us)
            data = {**call, "duration_s": duration_us / 1e6, "status": "error", "error": error, "attempt": attempt}
            retried = attempt <= self._settings.retries_max
            if retried:
                data["backoff_s"] = backoff_s
            self.last = self._world.emit("agent_activity", data, self.run_id, self.last)
            if retried:
                yield self._world.wait(backoff_s)
                backoff_s *= 2

    def _end(self, reason: str) -> None:
        totals = {
            "end_reason": reason,
            "llm_calls": self._llm_calls,
            "tool_calls": self._tool_calls,
            "input_tokens": self._input_tokens,
            "output_tokens": self._output_tokens,
            "cost_usd": self._cost_musd / 1e6,
            "duration_s": (self._world.env.now - self._started_us) / 1e6,
        }
        kind = "agent_completed" if self.completed else "agent_error"
        self.last = self._world.emit(kind, self._who | totals, self.run_id, self.last)


def _whole(values: npt.NDArray[np.float64]) -> list[int]:
    """Whole numbers from 1. Rounding also takes away what mathematical libraries differ in, in the last digits."""
    within = np.minimum(np.maximum(np.rint(values), 1), 1e15)  # 1e15 microseconds are 31 years
    whole: list[int] = within.astype(np.int64).tolist()
    return whole
