"""`Scenario`: the immutable description of what to simulate, from a preset, a TOML file or Python.

A scenario is a list of projects, each a small world of its own: its issues, agents, runners and people. In a file,
keys beside ``[[projects]]`` hold for every project, and a project's own table overrides them:

.. code-block:: toml

    speed = 60
    [agents]
    developers = 3
    [[projects]]
    name = "apollo"
    issues.rate_per_h = 6

A file without ``[[projects]]`` has one project, named like the scenario, which is named like the file unless it has a
``name``. Units stand in the names of the keys.

Defaults are the figures measured on real coding agents where there are any, with the source beside each; ``[P]`` marks
a proposal without a source.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from syndarix_rt.errors import ScenarioError
from syndarix_rt.events import is_project_name
from syndarix_rt.simulation.laws import AtLeastZero, Lognormal, Positive, Share
from syndarix_rt.simulation.section import Section, build, merge, near_miss, plain

__all__ = ["Agents", "Approvals", "Changes", "Issues", "Pipelines", "Project", "Runs", "Scenario", "Sprints", "presets"]

# The upper bounds are far above anything sensible; they keep a slip of the finger from filling the memory.
Count = Annotated[int, Meta(ge=0, le=1_000_000)]
CountFromOne = Annotated[int, Meta(ge=1, le=1_000_000)]


class Issues(Section, frozen=True):
    """How issues arrive."""

    rate_per_h: AtLeastZero = 2.0  # [P]
    arrivals: Literal["poisson", "weibull"] = "weibull"
    """``poisson``: independent of each other; ``weibull``: in bursts, as measured for work given to coding agents."""
    weibull_shape: Annotated[float, Meta(ge=0.1, le=10)] = 0.47  # AIDev PRs per repository 0.29-0.68, CI builds 0.468
    """Of the times between arrivals; 1 is Poisson, less is burstier."""
    initial: Count = 0
    """Issues that are there at the start."""


class Agents(Section, frozen=True):
    """How many agents work in each role; a role without agents is left out, except developers."""

    planners: Count = 1  # [P], as the other three
    developers: CountFromOne = 5
    testers: Count = 1
    reviewers: Count = 1


class Runs(Section, frozen=True):
    """What an agent does in one run: LLM calls, each followed by tool calls, with a growing context."""

    model: Annotated[str, Meta(min_length=1, max_length=100)] = "simulated-coder"
    calls: Lognormal = Lognormal(median=30.33, sigma=0.473)  # Codex on SWE-bench Pro, 610 trials
    """LLM calls of a developer's run; other roles make a fixed share of them."""
    calls_max: CountFromOne = 150  # [P]; 4 in 10,000 runs of the law above want more
    """A run that wants more ends with ``max_iters``."""
    llm_s: Lognormal = Lognormal(median=5.496, sigma=1.153)  # TraceLab, quantile error <= 8 %
    """Duration of an LLM call."""
    tools_per_call: Annotated[float, Meta(ge=0, le=1000)] = 1.2  # TraceLab: mean 1.2, p90 2, p99 4
    """Mean of a Poisson law."""
    tool_s: Lognormal = Lognormal(median=0.3176, sigma=2.834, max=300)  # TraceLab; cap by the closure check on Copilot
    """Duration of a tool call."""
    tool_error_share: Share = 0.03  # [P]
    """Of tool calls, each try by itself; they are tried again."""
    fatal_error_share: Share = 0.002  # [P]; 1 - 0.998^33 = 6.4 % of runs, Copilot: 5.6-7.0 %
    """Of LLM calls: this call, or a tool call after it, fails on every try, and the run ends with an error."""
    retries_max: Annotated[int, Meta(ge=0, le=20)] = 3  # [P]
    backoff_s: Positive = 2.0  # [P]
    """Wait before the first retry; doubles with each."""
    first_context_tokens: CountFromOne = 12_400  # Codex on SWE-bench Pro
    append_tokens: Lognormal = Lognormal(
        median=875, sigma=1.13
    )  # TraceLab median; sigma from 12.4 k to 84.5 k in 33 calls
    """What a call's prompt adds to the context."""
    output_tokens: Lognormal = Lognormal(
        median=214, sigma=1.33
    )  # TraceLab median; sigma from 17.2 k output per Codex run
    cache_hit_share: Share = 0.957  # TraceLab, token-weighted
    """Of calls whose whole prefix the provider reads from its cache."""
    window_tokens: CountFromOne = 200_000  # [P]
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

    commits_per_run: Annotated[float, Meta(ge=1, le=1000)] = 1.8  # AIDev: 4.1 commits per PR, Copilot: 2.26 runs per PR
    """Mean of 1 + a geometric number."""
    runs_max: Annotated[int, Meta(ge=1, le=1000)] = 8  # Copilot: the most runs seen on one PR
    """After so many developer runs an issue is given up."""
    rework_share: Share = 0.38  # [P], so that a PR takes 2.26 developer runs as Copilot's do
    """Of green reviews: they ask for another run."""
    gap_min: Lognormal = Lognormal(median=20.29, sigma=3.32)  # Copilot, between runs on one PR, KS 0.077
    """Until somebody asks for the next run on a branch; times ``human_time_scale``."""
    closed_unmerged_share: Share = 0.417  # AIDev: .372 closed unmerged, .519 merged
    """Of finished PRs: they are refused or dropped."""


class Pipelines(Section, frozen=True):
    """CI: a pool of runners, first come first served, and failures that come in streaks."""

    runners: CountFromOne = 4  # [P]
    fail_after_success_share: Share = 0.14  # TravisTorrent, median of 18 projects
    fail_after_failure_share: Share = 0.64  # the same
    success_min: Lognormal = Lognormal(median=4.221, sigma=0.54)  # rate-ukma, 95 runs: p10/p50/p90 1.85/4.22/7.36
    failure_min: Lognormal = Lognormal(median=1.97, sigma=1.51)  # rate-ukma, 32 runs: p50 1.97, p90 13.7


class Approvals(Section, frozen=True):
    """People who decide about merges."""

    humans: CountFromOne = 2  # [P]
    gated_share: Share = 0.5  # [P]; AIDev: 40 % of merged PRs have an approval, 45 % no review at all
    """Of PRs: a human must approve the merge."""
    response_h: Lognormal = Lognormal(median=5.003, sigma=2.72)  # AIDev, first approval, KS 0.066
    """Until a human takes notice; times ``human_time_scale``."""
    review_min: Lognormal = Lognormal(median=10, sigma=1)  # [P]
    """How long the decision keeps one human busy; times ``human_time_scale``."""


class Sprints(Section, frozen=True):
    """Time boxes; an issue that is not closed at the end is carried over."""

    length_h: Positive = 80.0  # [P]: 10 working days of 8 h; time runs through working hours only


class Project(Section, frozen=True):
    """One project: a world of its own, which nothing in another project can change."""

    name: str
    """The project that its events belong to."""
    random_key: str = ""
    """What its random numbers depend on, beside the seed; its name if empty. It stays when a project is renamed."""
    human_time_scale: Positive = 1.0
    """Factor on every wait for people; 1 is as measured, a demo takes less."""
    issues: Issues = Issues()
    agents: Agents = Agents()
    runs: Runs = Runs()
    changes: Changes = Changes()
    pipelines: Pipelines = Pipelines()
    approvals: Approvals = Approvals()
    sprints: Sprints = Sprints()

    def __post_init__(self) -> None:
        super().__post_init__()
        if not is_project_name(self.name):
            raise ScenarioError(f"must be 1 to 64 of letters, digits, '_' and '-', not {self.name!r}", "name")
        if not self.random_key:
            msgspec.structs.force_setattr(self, "random_key", self.name)


class Scenario(Section, frozen=True):
    """What to simulate; immutable, and never wrong once it exists.

    Raises:
        ScenarioError: from every way of making one; ``path`` is the key as in the TOML file.
    """

    name: str
    projects: Annotated[tuple[Project, ...], Meta(min_length=1)]
    description: str = ""
    """One line: what to look for."""
    speed: Positive = 60.0  # [P]: an hour in a minute; a median run of 10 min takes 10 s
    """Simulated seconds per wall second that playback takes unless told otherwise."""
    horizon_h: Positive | None = None
    """Simulated time after which the simulation ends; None: it goes on for as long as somebody takes events."""

    def __post_init__(self) -> None:
        super().__post_init__()
        names = [project.name for project in self.projects]
        twice = next((name for name in names if names.count(name) > 1), None)
        if twice is not None:
            raise ScenarioError(f"two projects are named {twice!r}", "projects")

    @classmethod
    def load(cls, name_or_path: str | Path) -> Scenario:
        """A preset by its name, or a scenario from a TOML file (anything that ends in ``.toml`` or has a slash)."""
        path = Path(name_or_path)
        if isinstance(name_or_path, str) and path.suffix != ".toml" and path.name == name_or_path:
            return cls.preset(name_or_path)
        try:
            text = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise ScenarioError(f"cannot be read: {getattr(error, 'strerror', None) or error}", str(path)) from error
        try:
            return cls.from_toml(text, name=path.stem)
        except ScenarioError as error:
            raise ScenarioError(f"{error.path}: {error.reason}", str(path)) from None

    @classmethod
    def preset(cls, name: str) -> Scenario:
        """One of the scenarios of this package; :func:`presets` lists them."""
        known = _preset_names()
        if name not in known:
            hint = near_miss(name, known) or f"; there are {', '.join(known)}"
            raise ScenarioError(f"unknown preset {name!r}{hint}", "scenario")
        return cls.from_toml((_PRESETS / f"{name}.toml").read_text(encoding="utf-8"), name=name)

    @classmethod
    def from_toml(cls, text: str, name: str = "scenario") -> Scenario:
        """A scenario from the text of a TOML file.

        Args:
            text: the document.
            name: of the scenario, if the document has no ``name``.
        """
        try:
            document = tomllib.loads(text)
        except tomllib.TOMLDecodeError as error:
            raise ScenarioError(f"not TOML: {error}", "scenario") from error
        for key in document:
            if key not in _FILE_KEYS:
                hint = near_miss(key, _FILE_KEYS) or f"; known here: {', '.join(_FILE_KEYS)}"
                raise ScenarioError(f"unknown key{hint}", key)
        own = {"name": name} | {key: document.pop(key) for key in cls.__struct_fields__ if key in document}
        # What holds for every project is checked by itself first, so that an error names the key as it was written.
        defaults = {key: msgspec.to_builtins(value) for key, value in _DEFAULTS.items()}
        document = merge(defaults, document)
        build({"name": "all"} | document, Project)
        projects = own.pop("projects", [{"name": _NO_NAME.sub("-", str(own["name"]))[:64] or "project"}])
        if not isinstance(projects, list) or not all(isinstance(project, dict) for project in projects):
            raise ScenarioError("must be tables, as in [[projects]]", "projects")
        own["projects"] = tuple(
            build(merge(document, project), Project, f"projects[{index}]") for index, project in enumerate(projects)
        )
        return cls(**own)

    def replace(self, changes: Mapping[str, Any] | None = None, /, **more: Any) -> Scenario:
        """This scenario with some values changed.

        Args:
            changes: values by dotted key, such as ``{"agents.developers": 3}`` for every project, or
                ``{"projects.apollo.agents.developers": 3}`` for one.
            more: the same for keys without a dot, such as ``speed=10``.
        """
        scenario = self
        for key, value in {**(changes or {}), **more}.items():
            scenario = scenario._with(key, value)
        return scenario

    def for_project(self, name: str) -> Scenario:
        """This scenario with its only project renamed; what happens in it stays the same.

        Raises:
            ScenarioError: if it has several projects.
        """
        if len(self.projects) > 1:
            names = ", ".join(project.name for project in self.projects)
            raise ScenarioError(f"has several projects ({names}), so they cannot all become {name!r}", "projects")
        return self.replace({f"projects.{self.projects[0].name}.name": name})

    def _with(self, key: str, value: Any) -> Scenario:
        first, *rest = key.split(".")
        own = {field: getattr(self, field) for field in self.__struct_fields__}
        if first in own and not rest:
            return Scenario(**{**own, first: value})
        if first == "projects":
            if rest[0] not in (names := [project.name for project in self.projects]):
                raise ScenarioError(f"no such project{near_miss(rest[0], names)}", key)
            own["projects"] = tuple(
                _changed(project, rest[1:], value, f"projects.{rest[0]}") if project.name == rest[0] else project
                for project in self.projects
            )
        elif first in _DEFAULTS:
            own["projects"] = tuple(_changed(project, [first, *rest], value) for project in self.projects)
        else:
            raise ScenarioError(f"unknown key{near_miss(first, _FILE_KEYS) if first not in own else ''}", key)
        return Scenario(**own)


def presets() -> dict[str, str]:
    """The scenarios of this package: name and what to look for."""
    return {name: Scenario.preset(name).description for name in _preset_names()}


_NO_NAME = re.compile(r"[^A-Za-z0-9_-]+")  # what cannot stand in a project's name
_PRESETS = resources.files("syndarix_rt.simulation") / "presets"
_DEFAULTS = {
    key: value
    for key, value in msgspec.structs.asdict(Project(name="any")).items()
    if key not in ("name", "random_key")
}
_FILE_KEYS = [*Scenario.__struct_fields__, *_DEFAULTS]


def _preset_names() -> list[str]:
    return sorted(path.name.removesuffix(".toml") for path in _PRESETS.iterdir() if path.name.endswith(".toml"))


def _changed(project: Project, keys: list[str], value: Any, path: str = "") -> Project:
    changes = plain(value, ".".join([path, *keys]).removeprefix("."))
    for key in reversed(["project", *keys]):
        changes = {key: changes}
    return build(merge({"project": msgspec.to_builtins(project)}, changes)["project"], Project, path)
