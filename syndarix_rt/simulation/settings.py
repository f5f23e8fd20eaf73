"""The settings of one project, section by section: how issues arrive, who works, what a run does, what goes wrong.

Defaults are the constants of the profile ``default`` (``profiles/default.toml``), where each stands with its source.
Units stand in the names of the keys. Hours that a key counts from (``at_h``, ``from_h`` of a shape) are hours since
the simulation's start.
"""

from __future__ import annotations

import tomllib
from collections.abc import Sequence
from importlib import resources
from itertools import pairwise
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from syndarix_rt.errors import ScenarioError
from syndarix_rt.events import is_project_name
from syndarix_rt.simulation.laws import AnyLaw, AtLeastZero, Positive, Share
from syndarix_rt.simulation.section import Section, build

__all__ = [
    "AgentStep",
    "Agents",
    "AnyArrivals",
    "AnyFault",
    "Approvals",
    "Calendar",
    "Changes",
    "CiOutage",
    "GammaArrivals",
    "IncidentStorm",
    "Issues",
    "Mmpp2Arrivals",
    "Office",
    "Pipelines",
    "PoissonArrivals",
    "Project",
    "Provider",
    "ProviderBrownout",
    "ReplayArrivals",
    "Runs",
    "ShapeStep",
    "Sprints",
    "WeibullArrivals",
]

# The upper bounds are far above anything sensible; they keep a slip of the finger from filling the memory.
Count = Annotated[int, Meta(ge=0, le=1_000_000)]
CountFromOne = Annotated[int, Meta(ge=1, le=1_000_000)]
Limit = Annotated[int, Meta(ge=1, le=1_000_000_000)]

_CONSTANTS = tomllib.loads((resources.files(__package__) / "profiles" / "default.toml").read_text(encoding="utf-8"))


def _constant(key: str, kind: Any = Any) -> Any:
    """The default profile's value for a key."""
    table = _CONSTANTS
    for part in key.split("."):
        table = table[part]
    return build(table["value"], kind)


def _refuse_descending(values: Sequence[float], key: str, *, strict: bool = True) -> None:
    for before, after in pairwise(values):
        if after < before or (strict and after == before):
            raise ScenarioError(f"must ascend; {after:g} comes after {before:g}", key)


class PoissonArrivals(Section, frozen=True, tag_field="process", tag="poisson"):
    """Independent of each other."""


class GammaArrivals(Section, frozen=True, tag_field="process", tag="gamma"):
    """Gamma-distributed times between arrivals."""

    cv: Annotated[float, Meta(ge=0.05, le=50)]
    """Their standard deviation over their mean; 1 is Poisson, more is burstier."""


class WeibullArrivals(Section, frozen=True, tag_field="process", tag="weibull"):
    """Weibull-distributed times between arrivals: in bursts, as measured for work given to coding agents."""

    shape: Annotated[float, Meta(ge=0.1, le=10)]
    """1 is Poisson, less is burstier."""


class Mmpp2Arrivals(Section, frozen=True, tag_field="process", tag="mmpp2"):
    """Poisson arrivals whose rate changes between calm and burst (Markov-modulated); its mean is ``rate_per_h``."""

    burst_factor: Annotated[float, Meta(ge=1, le=1e6)]
    """Rate in a burst over rate in the calm."""
    calm_h: Positive
    """Mean length of a calm (exponential law)."""
    burst_h: Positive
    """Mean length of a burst (exponential law)."""


class ReplayArrivals(Section, frozen=True, tag_field="process", tag="replay"):
    """Arrivals at given times; ``rate_per_h``, shape and calendar have no say."""

    times_h: tuple[AtLeastZero, ...]
    """Hours since the start, ascending."""

    def __post_init__(self) -> None:
        super().__post_init__()
        _refuse_descending(self.times_h, "times_h", strict=False)


AnyArrivals = PoissonArrivals | GammaArrivals | WeibullArrivals | Mmpp2Arrivals | ReplayArrivals


class ShapeStep(Section, frozen=True):
    """From a moment on, the rate of arrivals is multiplied by a factor."""

    from_h: AtLeastZero
    factor: AtLeastZero


class Calendar(Section, frozen=True):
    """Weights of the days of the week and hours of the day (UTC) on the rate; 1 changes nothing."""

    weekdays: Annotated[tuple[AtLeastZero, ...], Meta(min_length=7, max_length=7)] = (1.0,) * 7
    """Monday to Sunday."""
    hours: Annotated[tuple[AtLeastZero, ...], Meta(min_length=24, max_length=24)] = (1.0,) * 24

    def __post_init__(self) -> None:
        super().__post_init__()
        for key in ("weekdays", "hours"):
            if not any(getattr(self, key)):
                raise ScenarioError("must have a weight above 0; rate_per_h = 0 stops all arrivals", key)


class Issues(Section, frozen=True):
    """How issues arrive."""

    rate_per_h: AtLeastZero = _constant("issues.rate_per_h")
    """Mean over the arrival process, where shape and calendar are 1."""
    arrivals: AnyArrivals = _constant("issues.arrivals", AnyArrivals)
    initial: Count = _constant("issues.initial")
    """Issues that are there at the start."""
    shape: tuple[ShapeStep, ...] = ()
    """Factors on the rate, each until the next begins; 1 before the first."""
    calendar: Calendar = Calendar()

    def __post_init__(self) -> None:
        super().__post_init__()
        _refuse_descending([step.from_h for step in self.shape], "shape")


class AgentStep(Section, frozen=True):
    """From a moment on, the roles named have other numbers of agents."""

    at_h: AtLeastZero
    planners: CountFromOne | None = None
    developers: CountFromOne | None = None
    testers: CountFromOne | None = None
    reviewers: CountFromOne | None = None


class Agents(Section, frozen=True):
    """How many agents work in each role; a role without agents is left out, except developers."""

    planners: Count = _constant("agents.planners")
    developers: CountFromOne = _constant("agents.developers")
    testers: Count = _constant("agents.testers")
    reviewers: Count = _constant("agents.reviewers")
    steps: tuple[AgentStep, ...] = ()
    """Changes of these numbers; busy agents leave when their run is over."""

    def __post_init__(self) -> None:
        super().__post_init__()
        _refuse_descending([step.at_h for step in self.steps], "steps")
        for index, step in enumerate(self.steps):
            for role in ("planners", "testers", "reviewers"):
                if getattr(step, role) is not None and not getattr(self, role):
                    raise ScenarioError(
                        f"the role has no agents at the start and is left out; begin with {role} = 1",
                        f"steps[{index}].{role}",
                    )


class Provider(Section, frozen=True):
    """The LLM provider that all agents of the project share: its limits (token buckets) and errors."""

    tokens_per_min: Limit | None = None
    """Limit on prompt and output tokens, those from the cache left out; None for no limit."""
    requests_per_min: Limit | None = None
    """Limit on LLM calls; None for no limit."""
    burst: Annotated[float, Meta(gt=0, le=1e6)] = _constant("provider.burst")
    """Capacity of the buckets, in minutes of the limit."""
    error_share: Share = _constant("provider.error_share")
    """Of LLM calls, each try by itself: the provider is overloaded; they are tried again."""


class Runs(Section, frozen=True):
    """What an agent does in one run: LLM calls, each followed by tool calls, with a growing context."""

    model: Annotated[str, Meta(min_length=1, max_length=100)] = "simulated-coder"
    calls: AnyLaw = _constant("runs.calls", AnyLaw)
    """LLM calls of a developer's run; other roles make a fixed share of them."""
    calls_max: CountFromOne = _constant("runs.calls_max")
    """A run that wants more ends with ``max_iters``."""
    llm_s: AnyLaw = _constant("runs.llm_s", AnyLaw)
    """Duration of an LLM call."""
    tools_per_call: Annotated[float, Meta(ge=0, le=1000)] = _constant("runs.tools_per_call")
    """Mean of a Poisson law."""
    tool_s: AnyLaw = _constant("runs.tool_s", AnyLaw)
    """Duration of a tool call."""
    tool_error_share: Share = _constant("runs.tool_error_share")
    """Of tool calls, each try by itself; they are tried again."""
    fatal_error_share: Share = _constant("runs.fatal_error_share")
    """Of LLM calls: this call, or a tool call after it, fails on every try, and the run ends with an error."""
    retries_max: Annotated[int, Meta(ge=0, le=20)] = _constant("runs.retries_max")
    backoff_s: Positive = _constant("runs.backoff_s")
    """Wait before the first retry; doubles with each."""
    speed_correlation: Share = _constant("runs.speed_correlation")
    """Share of the log-variance of LLM and tool durations that all calls of a run have in common."""
    first_context_tokens: CountFromOne = _constant("runs.first_context_tokens")
    append_tokens: AnyLaw = _constant("runs.append_tokens", AnyLaw)
    """What a call's prompt adds to the context."""
    output_tokens: AnyLaw = _constant("runs.output_tokens", AnyLaw)
    cache_hit_share: Share = _constant("runs.cache_hit_share")
    """Of calls whose whole prefix the provider reads from its cache."""
    window_tokens: CountFromOne = _constant("runs.window_tokens")
    """A context that outgrows it is compacted to the size of the first one."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.first_context_tokens > self.window_tokens:
            raise ScenarioError(
                f"must be at most window_tokens, {self.window_tokens}, not {self.first_context_tokens}",
                "first_context_tokens",
            )


class Changes(Section, frozen=True):
    """Branches, commits and pull requests."""

    commits_per_run: Annotated[float, Meta(ge=1, le=1000)] = _constant("changes.commits_per_run")
    """Mean of 1 + a geometric number."""
    runs_max: Annotated[int, Meta(ge=1, le=1000)] = _constant("changes.runs_max")
    """After so many developer runs an issue is given up."""
    reviewed_share: Share = _constant("changes.reviewed_share")
    """Of PRs: testers and reviewers look at them."""
    rework_share: Share = _constant("changes.rework_share")
    """Of green reviews: they ask for another run."""
    gap_min: AnyLaw = _constant("changes.gap_min", AnyLaw)
    """Until somebody asks for the next run on a branch; times ``human_time_scale``."""
    merge_h: AnyLaw = _constant("changes.merge_h", AnyLaw)
    """Until a finished PR that needs no approval is merged or dropped; times ``human_time_scale``."""
    closed_unmerged_share: Share = _constant("changes.closed_unmerged_share")
    """Of finished PRs: they are refused or dropped."""


class Pipelines(Section, frozen=True):
    """CI: a pool of runners, first come first served, and failures that come in streaks."""

    runners: CountFromOne = _constant("pipelines.runners")
    fail_after_success_share: Share = _constant("pipelines.fail_after_success_share")
    fail_after_failure_share: Share = _constant("pipelines.fail_after_failure_share")
    success_min: AnyLaw = _constant("pipelines.success_min", AnyLaw)
    failure_min: AnyLaw = _constant("pipelines.failure_min", AnyLaw)
    fix_share: Share = _constant("pipelines.fix_share")
    """Of failed pipelines: another run follows; else the PR is closed unmerged."""


class Office(Section, frozen=True):
    """When people work (UTC)."""

    from_h: Annotated[float, Meta(ge=0, le=24)] = 9.0
    to_h: Annotated[float, Meta(ge=0, le=24)] = 17.0
    days: Annotated[tuple[Annotated[int, Meta(ge=0, le=6)], ...], Meta(min_length=1, max_length=7)] = (0, 1, 2, 3, 4)
    """0 is Monday."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.from_h >= self.to_h:
            raise ScenarioError(f"must be later than from_h, {self.from_h:g}, not {self.to_h:g}", "to_h")
        _refuse_descending(self.days, "days")


class Approvals(Section, frozen=True):
    """People who decide about merges."""

    humans: CountFromOne = _constant("approvals.humans")
    gated_share: Share = _constant("approvals.gated_share")
    """Of PRs: a human must approve the merge."""
    response_h: AnyLaw = _constant("approvals.response_h", AnyLaw)
    """Until a human takes notice; times ``human_time_scale``."""
    review_min: AnyLaw = _constant("approvals.review_min", AnyLaw)
    """How long the decision keeps one human busy; times ``human_time_scale``."""
    office: Office | None = None
    """Office hours; None: people work round the clock."""


class Sprints(Section, frozen=True):
    """Time boxes; an issue that is not closed at the end is carried over."""

    length_h: Positive = _constant("sprints.length_h")


class CiOutage(Section, frozen=True, kw_only=True, tag_field="kind", tag="ci_outage"):
    """All runners are down; running pipelines fail with reason ``infra``."""

    at_h: AtLeastZero | None = None
    """None: now, for a fault that is injected."""
    minutes: Positive


class ProviderBrownout(Section, frozen=True, kw_only=True, tag_field="kind", tag="provider_brownout"):
    """The LLM provider is slow and overloaded."""

    at_h: AtLeastZero | None = None
    """None: now, for a fault that is injected."""
    minutes: Positive
    latency_factor: Positive = 4.0
    """On the duration of LLM calls."""
    error_share: Share = 0.1
    """As ``provider.error_share``, while it lasts."""


class IncidentStorm(Section, frozen=True, kw_only=True, tag_field="kind", tag="incident_storm"):
    """Issues arrive faster, with priority ``critical``: they go before all others."""

    at_h: AtLeastZero | None = None
    """None: now, for a fault that is injected."""
    minutes: Positive
    rate_factor: Positive = 20.0
    """On the rate of arrivals."""


AnyFault = CiOutage | ProviderBrownout | IncidentStorm


class Project(Section, frozen=True):
    """One project: a world of its own, which nothing in another project can change."""

    name: str
    """The project that its events belong to."""
    random_key: str = ""
    """What its random numbers depend on, beside the seed; its name if empty. It stays when a project is renamed."""
    human_time_scale: Positive = _constant("human_time_scale")
    """Factor on every wait for people; 1 is as measured, a demo takes less."""
    issues: Issues = Issues()
    agents: Agents = Agents()
    provider: Provider = Provider()
    runs: Runs = Runs()
    changes: Changes = Changes()
    pipelines: Pipelines = Pipelines()
    approvals: Approvals = Approvals()
    sprints: Sprints = Sprints()
    faults: tuple[AnyFault, ...] = ()
    """What goes wrong, and when."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not is_project_name(self.name):
            raise ScenarioError(f"must be 1 to 64 of letters, digits, '_' and '-', not {self.name!r}", "name")
        if not self.random_key:
            msgspec.structs.force_setattr(self, "random_key", self.name)
        for index, fault in enumerate(self.faults):
            if fault.at_h is None:
                raise ScenarioError("needs at_h: hours since the start", f"faults[{index}]")
