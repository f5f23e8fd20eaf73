"""One run of an agent: LLM calls, each followed by tool calls, with tokens, errors, retries and an end.

All chance of a run is drawn at its start, from its own generator; what comes of it is decided while the run goes on.
"""

from __future__ import annotations

import math
from collections.abc import Generator
from datetime import timedelta
from itertools import islice
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt
import simpy

from syndarix_rt.simulation.agenda import Waits
from syndarix_rt.simulation.laws import correlated, repeated, repeats
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

_FATAL_TOOL_SHARE = 0.5  # [P]; of fatal errors: a tool fails, not the provider

# What one LLM call that went well says, and one tool call, beside what all of a run say; in this order.
_ANSWER = (
    "gen_ai.usage.input_tokens", "gen_ai.usage.output_tokens", "prefix_tokens", "append_tokens", "cached_tokens",
    "duration_s", "cost_usd",
)  # fmt: skip
_RESULT = ("gen_ai.tool.name", "gen_ai.tool.call.id", "duration_s")

_LONGEST_US = 1e15
"""31 years; what is longer is as good as that."""

_MICROSECONDS = np.dtype("m8[us]")

_REFUSED_US = 500_000  # [P]: a provider refuses at once


_Answer = tuple[int, int, int, int, int, float, float]
"""The values of ``_ANSWER``."""


class RunPlan(NamedTuple):
    """The luck of one run; lists have one element for each LLM call, or one for each tool call."""

    llm_us: list[int]
    llm_time: list[timedelta]
    """The same; made all at once, because it takes longer than adding it to a time."""
    answers: list[_Answer]
    costs_musd: list[int]
    compactions: set[int]
    """LLM calls whose prompt begins a new context, because it would not fit into the window."""
    tool_counts: list[int]
    tool_us: list[int]
    tool_time: list[timedelta]
    tool_s: list[float]
    tool_names: list[str]
    tool_failures: list[int]
    """Tries that fail before one goes well; more than ``retries_max``: none does."""
    fatal_call: int | None
    """The LLM call at which nothing goes well any more."""
    fatal_is_tool: bool
    llm_luck: npt.NDArray[np.float64]
    """Uniform in [0, 1); decides how often a strained provider refuses the call."""
    commits_after: set[int]
    """LLM calls of a developer whose tools end with a commit."""
    cut: bool
    """Whether the run would want more calls than it may have."""

    @classmethod
    def draw(cls, rng: np.random.Generator, runs: Runs, changes: Changes, role: str) -> RunPlan:
        """The luck of a run in this role."""
        wanted = max(1, round(runs.calls.draw(rng) * ROLES[role]))
        calls = min(wanted, runs.calls_max)
        tool_counts = rng.poisson(runs.tools_per_call, calls).tolist()
        tools = sum(tool_counts)
        # One call of the generator gives the same numbers as several.
        uniforms = rng.random(3 * calls + 2 * tools + 2)
        fatal_luck, hit_luck, llm_luck = uniforms[: 3 * calls].reshape(3, calls)
        kind_luck, failure_luck = uniforms[3 * calls : -2].reshape(2, tools)
        fatal = (fatal_luck < runs.fatal_error_share).nonzero()[0]
        tool_luck, commit_luck = uniforms[-2:].tolist()
        normals = rng.standard_normal(1 + 3 * calls + tools)
        # Some runs are quick in everything they do, others slow.
        waits = calls + tools
        paces = correlated(normals[1 : 1 + waits], normals[0], runs.speed_correlation)
        values = np.concatenate(
            (
                runs.llm_s.of_normals(paces[:calls]),
                runs.tool_s.of_normals(paces[calls:]),
                runs.append_tokens.of_normals(normals[1 + waits : -calls]),
                runs.output_tokens.of_normals(normals[-calls:]),
            )
        )
        values[:waits] *= 1e6
        whole = _whole(values)
        waits_us = whole[:waits]
        us, times, seconds = waits_us.tolist(), waits_us.view(_MICROSECONDS).tolist(), (waits_us / 1e6).tolist()
        tokens = whole[waits:].tolist()
        cache_hits = (hit_luck < runs.cache_hit_share).tolist()
        answers, costs_musd, compactions = _answers(runs, seconds[:calls], tokens[:calls], tokens[calls:], cache_hits)
        commits_after = set()
        if role == "developer":
            # The last call always ends with a commit: what was done is pushed before the run ends.
            commits = repeated(commit_luck, 1 - 1 / changes.commits_per_run, calls - 1)
            commits_after = {calls - 1, *(rng.permutation(calls - 1)[:commits].tolist() if commits else ())}
        return cls(
            llm_us=us[:calls],
            llm_time=times[:calls],
            answers=answers,
            costs_musd=costs_musd,
            compactions=compactions,
            tool_us=us[calls:],
            tool_time=times[calls:],
            tool_s=seconds[calls:],
            tool_counts=tool_counts,
            tool_names=[_TOOLS[kind] for kind in _TOOL_MIX.searchsorted(kind_luck, side="right").tolist()],
            tool_failures=repeats(failure_luck, runs.tool_error_share, runs.retries_max + 1),
            fatal_call=int(fatal[0]) if len(fatal) else None,
            fatal_is_tool=bool(tool_luck < _FATAL_TOOL_SHARE),
            llm_luck=llm_luck,
            commits_after=commits_after,
            cut=wanted > calls,
        )


class AgentRun:
    """A run while it goes on.

    Attributes:
        last: the id of its latest event.
        completed: whether it ended well; known when its process is over.
        displaced: whether it ended because something more urgent needed its agent.
        over: comes when it has ended by itself.
    """

    def __init__(self, life: IssueLife, agent_id: str, role: str, *, attempt: int, queued_us: int) -> None:
        self.agent_id = agent_id
        self.role = role
        self.life = life
        self.run_id = life.world.new_id("run")
        self.last = ""
        self.completed = self.displaced = False
        self.over = simpy.Event(life.world.env)
        self._world = life.world
        self._attempt = attempt
        self._queued_us = queued_us
        self._settings = life.world.project.runs
        self._who: dict[str, Any] = {
            "run_id": self.run_id,
            "agent_id": agent_id,
            "role": role,
            "issue_id": life.issue_id,
        }
        if role != "planner":
            self._who["branch"] = life.branch
        self._chat = self._who | {"gen_ai.operation.name": "chat", "gen_ai.request.model": self._settings.model}
        self._tool = self._who | {"gen_ai.operation.name": "execute_tool"}
        self._steps: Waits
        self._started_us = life.world.env.now
        self._llm_calls = self._tool_calls = self._input_tokens = self._output_tokens = self._cost_musd = 0

    def start(self, plan: RunPlan, cause: str) -> simpy.Event:
        """Begin to work through the plan; the event comes when the run is over, unless it is displaced before.

        Everything that happens is caused by what came before it in this run.
        """
        world = self._world
        start = {"gen_ai.request.model": self._settings.model, "attempt": self._attempt}
        start["queued_s"] = self._queued_us / 1e6
        self.last = world.emit("agent_started", self._who | start, self.run_id, cause)
        self._steps = self._work(plan)
        world.env.begin(self._steps)
        return self.over

    def displace(self, cause: str) -> None:
        """End it now, because something more urgent needs its agent."""
        self._steps.close()
        self.displaced = True
        self.last = cause
        self._end("cancelled")

    def _work(self, plan: RunPlan) -> Waits:
        """The calls of the plan, and the end."""
        world, settings, develops = self._world, self._settings, self.role == "developer"
        provider, emit, run_id = world.provider, world.emit_of, self.run_id
        # Nine of ten events are one of these, so they are checked in bulk; unusual ones are checked each by itself.
        went_well = {"status": "ok", "attempt": 1}
        chat = self._chat | dict.fromkeys(_ANSWER) | went_well
        tool = self._tool | dict.fromkeys(_RESULT) | {"gen_ai.tool.call.id": run_id} | went_well
        said = [
            (name, f"{run_id}-{number}", duration_s)
            for number, (name, duration_s) in enumerate(zip(plan.tool_names, plan.tool_s, strict=True))
        ]
        series = world.series("agent_activity", chat)
        series.check_rows(chat, _ANSWER, plan.answers)
        series.check_rows(tool, _RESULT, said)
        tools = zip(said, plan.tool_us, plan.tool_time, plan.tool_failures, strict=True)
        time = world.time
        if develops:
            self.life.begin_work(self)
        calls = zip(plan.llm_us, plan.llm_time, plan.answers, plan.costs_musd, plan.tool_counts, strict=True)
        for call, (llm_us, llm_time, answer, cost_musd, tool_count) in enumerate(calls):
            fatal = call == plan.fatal_call
            unusual: dict[str, Any] = {}
            refused = fatal and not (plan.fatal_is_tool and tool_count)
            if refused or not provider.calm:
                attempt, given_up = yield from self._refusals(plan, call, answer, fatal=refused)
                if given_up:
                    self._finish(given_up)
                    return
                llm_us = round(llm_us * provider.latency_factor)  # noqa: PLW2901 - as long as it really takes
                unusual = {"duration_s": llm_us / 1e6, "attempt": attempt}
            yield llm_us
            time = world.time if unusual else time + llm_time
            data = chat.copy()
            (
                data["gen_ai.usage.input_tokens"],
                data["gen_ai.usage.output_tokens"],
                data["prefix_tokens"],
                data["append_tokens"],
                data["cached_tokens"],
                data["duration_s"],
                data["cost_usd"],
            ) = answer
            if call in plan.compactions:
                unusual["compacted"] = True
            if unusual:
                self.last = world.emit("agent_activity", data | unusual, self.run_id, self.last)
            else:
                self.last = emit(series, data, time, run_id, self.last)
            self._llm_calls += 1
            self._input_tokens += answer[0]
            self._output_tokens += answer[1]
            self._cost_musd += cost_musd
            for result, duration_us, duration, failures in islice(tools, tool_count):
                data = tool.copy()
                data["gen_ai.tool.name"], data["gen_ai.tool.call.id"], data["duration_s"] = result
                if fatal or failures:
                    tries = settings.retries_max + 1 if fatal else failures
                    yield from self._tool_failures(result, duration_us, tries)
                    if tries > settings.retries_max:
                        self._finish("tool_failure")
                        return
                    yield duration_us
                    time = world.time
                    data["attempt"] = tries + 1
                    self.last = world.emit("agent_activity", data, self.run_id, self.last)
                else:
                    yield duration_us
                    time += duration
                    self.last = emit(series, data, time, run_id, self.last)
                self._tool_calls += 1
            if develops and call in plan.commits_after:
                self.life.push(self)
        if develops and not plan.cut:
            self.life.propose(self)
        self._finish("max_iters" if plan.cut else "completed")

    def _refusals(
        self, plan: RunPlan, call: int, answer: _Answer, *, fatal: bool
    ) -> Generator[int, None, tuple[int, str]]:
        """Tries of an LLM call that the provider refuses: by its limits, with its share of errors, or if ``fatal``.

        The result is the number of the last try and, if that was refused too, the reason of the run's end.
        """
        provider, retries_max = self._world.provider, self._settings.retries_max
        put_in, output, _, _, cached, _, _ = answer
        tokens = put_in - cached + output  # what is read from the cache does not count towards the limit
        # The same luck means more failures in a row at a larger share, so scenarios stay comparable call by call.
        overloads = repeated(plan.llm_luck[call], provider.error_share, retries_max + 1)
        backoff_s = self._settings.backoff_s
        for attempt in range(1, retries_max + 2):
            refused: dict[str, Any] = {}
            if fatal:
                refused["error"] = "server_error"
            elif retry_after_s := provider.admit(self._world.env.now / 1e6, tokens):
                refused["error"] = "rate_limited"
                refused["retry_after_s"] = retry_after_s = math.ceil(retry_after_s * 1e6) / 1e6
                backoff_s = max(backoff_s, retry_after_s)
            elif overloads:
                refused["error"] = "overloaded"
                overloads -= 1
            else:
                return attempt, ""
            yield from self._failure({**self._chat, **refused}, _REFUSED_US, attempt, backoff_s)
            backoff_s *= 2
        return attempt, "rate_limited" if "retry_after_s" in refused else "llm_failure"

    def _tool_failures(self, result: tuple[str, str, float], duration_us: int, count: int) -> Waits:
        """Tries of a tool call that fail."""
        name, call_id, _ = result
        tool = {**self._tool, "gen_ai.tool.name": name, "gen_ai.tool.call.id": call_id, "error": "tool_failed"}
        backoff_s = self._settings.backoff_s
        for attempt in range(1, count + 1):
            yield from self._failure(tool, duration_us, attempt, backoff_s)
            backoff_s *= 2

    def _failure(self, call: dict[str, Any], duration_us: int, attempt: int, backoff_s: float) -> Waits:
        """One try of a call fails; before another the agent waits."""
        yield duration_us
        if "gen_ai.tool.name" in call:
            self._tool_calls += 1
        else:
            self._llm_calls += 1
        data = {**call, "duration_s": duration_us / 1e6, "status": "error", "attempt": attempt}
        retried = attempt <= self._settings.retries_max
        if retried:
            data["backoff_s"] = backoff_s
        self.last = self._world.emit("agent_activity", data, self.run_id, self.last)
        if retried:
            yield round(min(backoff_s * 1e6, _LONGEST_US))

    def _finish(self, reason: str) -> None:
        """It ends by itself."""
        self.completed = reason == "completed"
        self._end(reason)
        self.over.succeed()

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


def _whole(values: npt.NDArray[np.float64]) -> npt.NDArray[np.int64]:
    """Whole numbers from 1. Rounding also takes away what mathematical libraries differ in, in the last digits."""
    np.rint(values, out=values)
    np.maximum(values, 1, out=values)
    np.minimum(values, _LONGEST_US, out=values)
    return values.astype(np.int64)


def _answers(
    runs: Runs, llm_s: list[float], append_tokens: list[int], output_tokens: list[int], cache_hits: list[bool]
) -> tuple[list[_Answer], list[int], set[int]]:
    """What the LLM calls of a run say, what each costs, and which begin a new context: a context that grows."""
    answers, costs_musd, compactions = [], [], set()
    prefix = 0
    for call, (duration_s, append, output, hit) in enumerate(
        zip(llm_s, append_tokens, output_tokens, cache_hits, strict=True)
    ):
        if prefix + append > runs.window_tokens:
            compactions.add(call)
            prefix = 0
        if prefix == 0:
            append = runs.first_context_tokens  # noqa: PLW2901 - what it says of itself has no say then
        put_in = prefix + append
        cached = prefix if hit else 0
        cost_musd = round(
            cached * _CACHED_USD_PER_MTOK + (put_in - cached) * _PROMPT_USD_PER_MTOK + output * _OUTPUT_USD_PER_MTOK
        )
        answers.append((put_in, output, prefix, append, cached, duration_s, cost_musd / 1e6))
        costs_musd.append(cost_musd)
        prefix = put_in + output
    return answers, costs_musd, compactions
