"""The load that a scenario's settings alone let expect of each queue: no simulation, so that it stands beside one.

What the means are made of (faults are left out):

* A run works through ``k`` calls with the probability that the law of ``calls``, times the role's share, gives to
  ``k``. With ``t`` tries at most, each call is survived with ``s = (1 - fatal) x exp(-tools x error^t) x
  (1 - overloaded^t)``, so a run completes with ``E[s^k; k <= calls_max]``, and its ``k``-th call begins with
  ``P(calls >= k) x s^(k-1)``.
* A call takes the mean LLM call and as many tool calls as it has on average, each with its failed tries and backoff.
* An attempt (developer run, pipeline, review) ends the issue with a probability ``e``: the run completes, and the
  pipeline is red and not fixed, or green and not reworked. With at most ``m`` attempts an issue has
  ``(1 - (1 - e)^m) / e``. Pipelines fail with the stationary share of their chain: by Wald's identity that is exact
  but for the cap, which streaks reach sooner than independent failures would.
* Planner, tester and reviewer try a run that ends with an error again.
* What waits for the LLM provider's limits makes runs longer; that is left out as long as the provider keeps up.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple

import msgspec
import numpy as np

from syndarix_rt.errors import ScenarioError
from syndarix_rt.simulation.issue import SUPPORT_RUNS_MAX
from syndarix_rt.simulation.run import ROLES
from syndarix_rt.simulation.settings import Agents, Issues, Office, Project, ReplayArrivals, Runs

if TYPE_CHECKING:
    from syndarix_rt.simulation.scenario import Scenario

__all__ = ["QueueLoad", "expected_load", "refuse_overload"]

_WEEK_H = 168.0
_TINY = 1e-12

_SETTINGS = {
    "agents.planner": "agents.planners",
    "agents.developer": "agents.developers",
    "agents.tester": "agents.testers",
    "agents.reviewer": "agents.reviewers",
    "runners": "pipelines.runners",
    "humans": "approvals.humans",
    "provider.tokens": "provider.tokens_per_min",
    "provider.requests": "provider.requests_per_min",
}
"""Which key says how many servers a queue has, or how much the provider lets in."""


class QueueLoad(msgspec.Struct, frozen=True):
    """What to expect of one queue, averaged over the horizon (a week if there is none)."""

    project: str
    queue: str
    """``agents.<role>``, ``runners``, ``humans``, ``provider.tokens`` or ``provider.requests``."""
    rate_per_h: float
    """Arrivals: runs, pipelines, approvals, tokens or LLM calls per hour."""
    service_s: float
    """How long one arrival keeps a server; at the provider, what its limit takes for one."""
    servers: float
    """Mean number on duty: of two humans with office hours 9 to 17 on weekdays 0.48."""

    @property
    def rho(self) -> float:
        """Work that arrives over what the servers can do; from 1 on, the backlog grows."""
        return self.rate_per_h * self.service_s / 3600 / self.servers

    @property
    def slope_per_h(self) -> float:
        """By how many arrivals the backlog grows each hour in the long run; 0 if it does not."""
        return self.rate_per_h * (1 - 1 / self.rho) if self.rho > 1 else 0.0


def expected_load(scenario: Scenario) -> list[QueueLoad]:
    """The queues of every project, in the order in which an issue comes to them."""
    span_h = _WEEK_H if scenario.horizon_h is None else scenario.horizon_h
    return [load for project in scenario.projects for load in _queues(project, span_h)]


def refuse_overload(scenario: Scenario) -> None:
    """Refuse a scenario with a queue that gets more work than its servers can do.

    Raises:
        ScenarioError: for the fullest queue; names its load, how its backlog grows, and remedies.
    """
    worst = max(expected_load(scenario), key=lambda load: load.rho)
    if worst.rho < 1:
        return
    setting = _SETTINGS[worst.queue]
    project = next(project for project in scenario.projects if project.name == worst.project)
    section, key = setting.split(".")
    enough = math.floor(getattr(getattr(project, section), key) * worst.rho) + 1
    remedies = [f"raise it to {enough:,}"]
    if not isinstance(project.issues.arrivals, ReplayArrivals):
        remedies.append(f"lower issues.rate_per_h to {_rounded_down(project.issues.rate_per_h / worst.rho)}")
    raise ScenarioError(
        f"is too little for the queue {worst.queue!r}: rho is {worst.rho:.2f}, so its backlog grows by "
        f"{worst.slope_per_h:,.3g} per h; {', '.join(remedies)}, or allow_overload = true",
        setting if len(scenario.projects) == 1 else f"projects.{project.name}.{setting}",
    )


class _Run(NamedTuple):
    """Means of one run in a role."""

    completes: float
    """Probability that it ends well."""
    duration_s: float
    calls: float
    """LLM calls that begin."""
    tokens: float
    """Prompt, but for what is read from the cache, and output, over all calls."""


def _queues(project: Project, span_h: float) -> Iterator[QueueLoad]:
    issues_per_h = _issues_per_h(project.issues, span_h)
    changes, ci, people = project.changes, project.pipelines, project.approvals
    runs = {role: _run(project.runs, project.provider.error_share, role) for role in ROLES}
    red = _stationary(ci.fail_after_success_share, ci.fail_after_failure_share)
    completes = runs["developer"].completes
    green = completes * (1 - red)
    ends = completes * red * (1 - ci.fix_share) + green * (1 - changes.rework_share)
    attempts = _geometric(ends, changes.runs_max)
    reviews = attempts * green * changes.reviewed_share
    approvals = attempts * green * (1 - changes.rework_share) * people.gated_share
    per_issue = {"planner": 1.0, "developer": attempts, "tester": reviews, "reviewer": reviews}
    calls = tokens = 0.0
    for role, run in runs.items():
        servers = _mean_agents(project.agents, f"{role}s", span_h)
        if not servers:
            continue
        tries = 1.0 if role == "developer" else _geometric(run.completes, SUPPORT_RUNS_MAX)
        runs_per_h = issues_per_h * per_issue[role] * tries
        calls += runs_per_h * run.calls
        tokens += runs_per_h * run.tokens
        yield QueueLoad(project.name, f"agents.{role}", runs_per_h, run.duration_s, servers)
    pipeline_min = red * ci.failure_min.mean() + (1 - red) * ci.success_min.mean()
    yield QueueLoad(project.name, "runners", issues_per_h * attempts * completes, 60 * pipeline_min, ci.runners)
    review_s = 60 * people.review_min.mean() * project.human_time_scale
    humans = people.humans * _open_share(people.office)
    yield QueueLoad(project.name, "humans", issues_per_h * approvals, review_s, humans)
    for queue, amount, limit in (
        ("provider.tokens", tokens, project.provider.tokens_per_min),
        ("provider.requests", calls, project.provider.requests_per_min),
    ):
        if limit is not None:
            yield QueueLoad(project.name, queue, amount, 60 / limit, 1.0)


@lru_cache(maxsize=256)
def _run(runs: Runs, overloaded: float, role: str) -> _Run:
    share, tries = ROLES[role], runs.retries_max + 1
    fatal, tools = runs.fatal_error_share, runs.tools_per_call
    most = min(runs.calls_max, math.ceil(runs.calls.quantile(1 - 1e-9) * share) + 1)
    numbers = np.arange(1, most + 1)
    # Calls are rounded, and at least 1: up to so many and a half; halves go to the even number.
    at_most = runs.calls.cdf((numbers + 0.5) / share * np.where(numbers % 2, 1 - _TINY, 1 + _TINY))
    before = np.concatenate([[0.0], at_most[:-1]])
    survived = (1 - fatal) * math.exp(-tools * runs.tool_error_share**tries) * (1 - overloaded**tries)
    begins = (1 - before) * survived ** np.arange(most)
    completes = float((at_most - before) @ survived**numbers)
    llm_s, tool_s = runs.llm_s.mean(), runs.tool_s.mean()
    call_s = (
        llm_s
        + _backoff_s(runs, overloaded)
        + tools
        * (tool_s * (1 + _failures(runs.tool_error_share, runs.retries_max)) + _backoff_s(runs, runs.tool_error_share))
    )
    # A call at which nothing goes well any more: in half of the cases, if there is one, its first tool.
    fatal_s = _backoff_s(runs, 1.0) + (1 - math.exp(-tools)) / 2 * (llm_s + tries * tool_s)
    calls = float(begins.sum())
    return _Run(completes, calls * ((1 - fatal) * call_s + fatal * fatal_s), calls, float(begins @ _tokens(runs, most)))


def _tokens(runs: Runs, calls: int) -> list[float]:
    """Mean tokens of the first, second … call that count towards the limit: a context that grows by its means."""
    append, output = runs.append_tokens.mean(), runs.output_tokens.mean()
    tokens, context = [], 0.0
    for _ in range(calls):
        new = append
        if context == 0 or context + append > runs.window_tokens:
            context, new = 0.0, runs.first_context_tokens
        tokens.append((1 - runs.cache_hit_share) * context + new + output)
        context += new + output
    return tokens


def _failures(share: float, retries: int) -> float:
    """Mean number of tries before one that may go well, of at most ``retries + 1`` in all."""
    return math.fsum(share**failed for failed in range(1, retries + 1))


def _backoff_s(runs: Runs, share: float) -> float:
    """Mean wait between tries of a call of which each fails with a probability."""
    return runs.backoff_s * math.fsum(share**failed * 2 ** (failed - 1) for failed in range(1, runs.retries_max + 1))


def _geometric(ends: float, most: int) -> float:
    """Mean number of attempts, each of which is the last with a probability."""
    return (1 - (1 - ends) ** most) / ends if ends else float(most)


def _stationary(after_success: float, after_failure: float) -> float:
    """Share of failures in the two-state chain; a chain that never leaves success, where it begins, has none."""
    return after_success / (after_success + 1 - after_failure) if after_success else 0.0


def _issues_per_h(issues: Issues, span_h: float) -> float:
    if isinstance(issues.arrivals, ReplayArrivals):
        return sum(time_h < span_h for time_h in issues.arrivals.times_h) / span_h
    calendar = float(np.mean(issues.calendar.weekdays) * np.mean(issues.calendar.hours))
    shape = _time_average([(step.from_h, step.factor) for step in issues.shape], 1.0, span_h)
    return issues.rate_per_h * calendar * shape


def _mean_agents(agents: Agents, role: str, span_h: float) -> float:
    steps = [(step.at_h, float(number)) for step in agents.steps if (number := getattr(step, role)) is not None]
    return _time_average(steps, getattr(agents, role), span_h)


def _time_average(steps: list[tuple[float, float]], first: float, span_h: float) -> float:
    """Of a value that changes at given hours, until the end of the span."""
    total, since, value = 0.0, 0.0, first
    for at_h, following in [*steps, (math.inf, first)]:
        until = min(at_h, span_h)
        total += value * (until - since)
        since, value = until, following
    return total / span_h


def _open_share(office: Office | None) -> float:
    return 1.0 if office is None else len(office.days) * (office.to_h - office.from_h) / _WEEK_H


def _rounded_down(value: float) -> str:
    """Two digits, so that what is asked for is below the value."""
    digits = 10.0 ** (math.floor(math.log10(value)) - 1)
    return f"{math.floor(value * 0.99 / digits) * digits:g}"
