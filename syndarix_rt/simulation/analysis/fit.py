"""`fit`: a profile from a trace: the laws that its events follow, with how well they do.

The trace may be a recording, a simulation or an import. Quantities that the model has a setting for get its key, such
as ``runs.llm_s``; the others are evidence, under ``trace``. What the trace does not tell stays as in the profile
``default``. :mod:`~syndarix_rt.simulation.analysis.observations` says what is measured,
:mod:`~syndarix_rt.simulation.analysis.fitting` which laws are tried and how one is chosen.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec
import numpy as np
import numpy.typing as npt

from syndarix_rt.errors import ScenarioError
from syndarix_rt.events import Event
from syndarix_rt.simulation.analysis.columns import pandas
from syndarix_rt.simulation.analysis.fit_plot import plotted
from syndarix_rt.simulation.analysis.fitting import (
    Candidate,
    Fitted,
    Geometric,
    Poisson,
    candidates,
    choose,
    ks_distance,
    simplest,
)
from syndarix_rt.simulation.analysis.frame_rows import rows_of
from syndarix_rt.simulation.analysis.observations import HUMAN_WAITS, Observations
from syndarix_rt.simulation.laws import Empirical, Exponential, Gamma, Mixture, Weibull
from syndarix_rt.simulation.profile import Constant, Profile
from syndarix_rt.simulation.scenario import Scenario
from syndarix_rt.simulation.section import unit_of
from syndarix_rt.simulation.settings import GammaArrivals, PoissonArrivals, WeibullArrivals

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

__all__ = ["Fit", "Fitted", "fit"]

Floats = npt.NDArray[np.float64]

_LEAST = 10
"""Fewer values are not fitted: whatever law they come from, the next ten would look quite different."""

_MOST = 1e9
"""No time, size or count is near it in any unit; a greater value is a slip, and no law takes it."""

_CAP_TIES, _CAP_SHARE = 3, 0.002
"""So many values, and this share of them, are the largest one: it is a cap."""

_NO_PROCESS = 0.2
"""A greater distance of arrivals is that of a coarse clock, not of a process."""

_ARRIVALS = (
    ("issues", "trace.issues.interarrival_h", 3600),
    ("requests", "trace.requests.interarrival_s", 1),
    ("prs", "trace.prs.interarrival_h", 3600),
)
"""The first that the trace has gives the process of ``issues.arrivals``."""

_WHOLE: dict[str, tuple[str, type[Poisson | Geometric] | None]] = {
    "runs.calls": ("calls", None),
    "runs.tools_per_call": ("calls", Poisson),
    "changes.commits_per_run": ("commits", Geometric),
    "trace.prs.runs": ("runs", Geometric),
    "trace.prs.commits": ("commits", Geometric),
}
"""Counts: what is counted, and the law of which the constant is the mean; None: as of other quantities."""

_OPEN = {
    "trace.issues.time_to_close_h": "issues",
    "trace.runs.duration_min": "runs",
    "trace.runs.failed_duration_min": "runs",
    "runs.calls": "runs",
    "changes.merge_h": "pull requests",
    "trace.prs.merge_h": "pull requests",
    "pipelines.success_min": "pipelines",
    "pipelines.failure_min": "pipelines",
    "approvals.response_h": "approvals",
}
"""What is left out while it is open: long ones more often than short ones, so the law is a little too short."""

_NOTES = {
    "changes.gap_min": "from the end of a run, unless the events say what caused the next one",
    "changes.merge_h": "without approval; from the opening, unless the events say what caused the merge",
    "runs.append_tokens": "of calls with a prefix; if they do not say it, beyond the call before and its answer",
    "runs.cache_hit_share": "weighted by tokens of the prefix",
    "runs.fatal_error_share": "of LLM calls",
    "runs.speed_correlation": "of the log-variance of LLM calls' durations, between runs",
    "trace.requests.cached_share": "weighted by tokens",
    "trace.runs.error_share": "of developers' runs",
}


class Fit(Profile, frozen=True, dict=True):
    """A fitted profile, with all candidates and the values behind them.

    As a value it is the profile alone: it compares, is saved and is put into a scenario like any other.
    """

    @property
    def quantities(self) -> tuple[Fitted, ...]:
        """Every quantity that laws were fitted to, by key; none of a profile that was loaded from a file."""
        quantities: tuple[Fitted, ...] = self.__dict__.get("quantities", ())
        return quantities

    @property
    def scenario(self) -> Scenario:
        """A scenario that simulates the team of the trace: with this profile, and its agents, runners and model.

        Of each role there are as many agents as were at work at once, of runners as many as were busy at once; issues
        arrive as often as they did, or, where nothing tells of issues, as often as somebody began to work on something.
        People's waits are as long as the profile has them (``human_time_scale`` 1). What the trace does not tell is as
        in the profile ``default``. Its queues may be overloaded (``allow_overload``), as real ones are at times.
        """
        whole = Scenario.from_toml("", self.name).replace(allow_overload=True)
        return whole.replace(self.__dict__.get("team", {}), profile=self)

    @property
    def table(self) -> pd.DataFrame:
        """The KS table, one row a candidate: ``quantity unit n law parameters ks chosen``.

        Raises:
            MissingExtra: pandas is not installed.
        """
        columns = ["quantity", "unit", "n", "law", "parameters", "ks", "chosen"]
        frame: pd.DataFrame = pandas("Fit.table").DataFrame(self.rows(), columns=columns)
        return frame

    def rows(self) -> list[tuple[str, str, int, str, str, float, bool]]:
        """The rows of :attr:`table`."""
        return [
            (each.key, each.unit, len(each.observed), law.name, _parameters(law.law), law.ks, law == each.chosen)
            for each in self.quantities
            for law in each.all
        ]

    def plot(self, *keys: str) -> Figure:
        """Shares of values at most x beside those of the laws, a panel a quantity; the chosen law is the thick line.

        Args:
            keys: of quantities; all of them unless given.

        Raises:
            MissingExtra: matplotlib is not installed.
            ScenarioError: an unknown key.
        """
        known = {quantity.key: quantity for quantity in self.quantities}
        for key in keys:
            if key not in known:
                raise ScenarioError(f"no law was fitted to it; there are {', '.join(known) or 'none'}", key)
        return plotted([known[key] for key in keys or known])


def fit(
    events: Iterable[Event | bytes] | pd.DataFrame,
    *,
    name: str = "fitted",
    source: str = "fitted trace",
    extends: str = "default",
    human_time_scale: float = 1.0,
) -> Fit:
    """Fit a profile to a trace.

    Args:
        events: a whole trace in the order of time: events, lines of a recording, or a frame of `events_frame`.
        name: of the profile.
        source: what each constant says of where it is from.
        extends: the profile that has what the trace does not tell.
        human_time_scale: the factor that people's waits in these events were shortened by, which is that of the
            scenario for a simulation and 1 for real ones. They are divided by it, as a scenario with this profile
            multiplies them by its own.

    Raises:
        EventError: a line is no event.
        ScenarioError: the trace tells nothing that could be fitted, ``extends`` is unknown, or ``human_time_scale`` is
            not above 0.

    Example:
        ``scenario.replace(profile=fit(read_recording("may.jsonl"), name="may"))``; of a simulation
        ``fit(Simulation(scenario, seed=4), human_time_scale=scenario.projects[0].human_time_scale)``
    """
    if not 0 < human_time_scale < math.inf:
        raise ScenarioError(f"must be above 0, not {human_time_scale}", "human_time_scale")
    seen = Observations.of(rows_of(events))

    def ascending(key: str, found: list[float]) -> Floats:
        numbers = np.sort(np.array(found, float)) / (human_time_scale if key in HUMAN_WAITS else 1)
        return numbers[numbers <= _MOST]

    values = {key: ascending(key, found) for key, found in seen.samples.items()}
    values |= {key: ascending(key, seen.interarrivals(kind, unit_s).tolist()) for kind, key, unit_s in _ARRIVALS}
    quantities = tuple(
        _fitted(key, found, ascending(key, seen.still_open.get(key, [])))
        for key, found in sorted(values.items())
        if len(found) >= _LEAST
    )
    constants = [_constant(quantity, seen) for quantity in quantities if not _is_coarse(quantity)]
    constants += _arrivals(quantities, seen)
    constants += [
        _Value(key, yes / possible, "share", n)
        for key, (yes, possible, n) in seen.shares.items()
        if n >= _LEAST and possible
    ]
    if len(values["trace.issues.interarrival_h"]) >= _LEAST:
        created = seen.arrived["issues"]
        constants.append(_Value("issues.rate_per_h", created / seen.hours, "1/h", created, note="mean of all projects"))
    if sum(map(len, seen.logs)) - len(seen.logs) >= _LEAST and len(seen.logs) >= _LEAST:
        calls = sum(map(len, seen.logs))
        constants.append(_Value("runs.speed_correlation", _common_share(seen.logs), "share", calls))
    if not constants:
        raise ScenarioError(
            f"tells nothing that could be fitted; at least {_LEAST} values of something are needed", "trace"
        )
    profile = Fit(
        name=name,
        description=f"Fitted to {source}.",
        extends=extends,
        constants=tuple(value.constant(source) for value in constants),
    )
    profile.__dict__["quantities"] = quantities
    profile.__dict__["team"] = _team(seen)
    return profile


def _team(seen: Observations) -> dict[str, Any]:
    """What a scenario has beside its profile: settings by key."""
    team: dict[str, Any] = {"human_time_scale": 1.0, "agents.developers": max(seen.peaks["developer"], 1)}
    if seen.peaks["developer"]:  # else it tells nothing of agents
        team |= {f"agents.{role}s": seen.peaks[role] for role in ("planner", "tester", "reviewer")}
        begun = seen.arrived["issues"] or seen.arrived["work"]
        if seen.hours:
            team["issues.rate_per_h"] = begun / seen.hours
    if seen.peaks["pipelines"]:
        team["pipelines.runners"] = seen.peaks["pipelines"]
    if seen.models:
        team["runs.model"] = seen.models.most_common(1)[0][0][:100]
    return team


class _Value(NamedTuple):
    """A constant to be."""

    key: str
    value: Any
    unit: str
    n: int
    ks: float | None = None
    note: str = ""

    def constant(self, source: str) -> Constant:
        """With four digits, as no measurement here has more."""
        note = "; ".join(filter(None, (_NOTES.get(self.key), self.note)))
        ks = None if self.ks is None else round(self.ks, 3)
        value = _rounded(msgspec.to_builtins(self.value))
        return Constant(key=self.key, value=value, unit=self.unit, source=source, n=self.n, ks=ks, note=note)


def _fitted(key: str, values: Floats, still_open: Floats) -> Fitted:
    """All laws that suit the key, and the one to take."""
    counted, mean_of = _WHOLE.get(key, ("", None))
    if mean_of is not None:
        law = mean_of(float(values.mean()))
        only = Candidate(law, ks_distance(values, law))
        return Fitted(key, counted, values, still_open, (only,), only)
    unit = unit_of(key)
    found = candidates(values, whole=bool(counted), cap=_cap(key, values), still_open=still_open)
    chosen = choose(found, values, still_open)
    return Fitted(key, counted or (unit[0] if unit else "1"), values, still_open, tuple(found), chosen)


def _is_coarse(quantity: Fitted) -> bool:
    """Whether arrivals are those of a clock whose steps hide the process."""
    return quantity.key in {key for _, key, _ in _ARRIVALS} and quantity.chosen.name == "empirical"


def _constant(quantity: Fitted, seen: Observations) -> _Value:
    key, values, chosen = quantity.key, quantity.observed, quantity.chosen
    notes = []
    if seen.arrived["requests"] and key.startswith("runs."):
        notes.append(f"with {seen.arrived['requests']:,} requests of unknown runs")
    if key.startswith("trace.requests.") or (seen.arrived["requests"] and key.startswith("runs.")):
        notes += _pooled(seen)
    if len(quantity.open):
        notes.append(f"{len(quantity.open):,} still waiting, for at least as long as so far")
    elif left_out := seen.open[_OPEN.get(key, "")]:
        notes.append(f"{left_out:,} open {_OPEN[key]} left out")
    zeros = int((values == 0).sum())
    if zeros and key not in _WHOLE and values[-1] > 0:
        notes.append(f"{zeros:,} values of 0 count in KS alone")
    if (cap := _cap(key, values)) is not None:
        notes.append(f"{(values == cap).mean():.1%} at the cap")
    if chosen.name == "empirical":
        nearest = f"best KS {quantity.candidates[0].ks:.3f}" if quantity.candidates else "no law"
        notes.append(f"quantiles: no law is usable, {nearest}")
    if key == "runs.first_context_tokens":
        return _Value(key, max(round(float(np.median(values))), 1), "tokens", len(values), note="median")
    value: Any = chosen.law.mean if isinstance(chosen.law, Poisson | Geometric) else chosen.law
    return _Value(key, value, quantity.unit, len(values), chosen.ks, "; ".join(notes))


def _pooled(seen: Observations) -> list[str]:
    """What to say of requests from several sources, such as code and chat: one law for them all suits none."""
    return [f"{seen.sources} sources together; fit each by itself"] if seen.sources > 1 else []


def _arrivals(quantities: tuple[Fitted, ...], seen: Observations) -> list[_Value]:
    """The process by which issues arrive, if the trace tells one."""
    known = {quantity.key: quantity for quantity in quantities}
    kind, key = next(((kind, key) for kind, key, _ in _ARRIVALS if key in known), ("", ""))
    if not key:
        return []
    fitting = [candidate for candidate in known[key].candidates if isinstance(candidate.law, _PROCESSES)]
    if not fitting or fitting[0].ks > _NO_PROCESS:
        return []
    chosen = simplest(fitting, len(known[key].observed))
    notes = [] if kind == "issues" else [f"of {'pull requests' if kind == 'prs' else kind}"]
    notes += _pooled(seen) if kind == "requests" else []
    return [
        _Value("issues.arrivals", _process(chosen.law), "shape", len(known[key].observed), chosen.ks, "; ".join(notes))
    ]


_PROCESSES = (Exponential, Weibull, Gamma)


def _process(law: Any) -> PoissonArrivals | WeibullArrivals | GammaArrivals:
    match law:
        case Weibull():
            return WeibullArrivals(shape=law.shape)
        case Gamma():
            return GammaArrivals(cv=min(law.shape**-0.5, 50))
        case _:
            return PoissonArrivals()


def _cap(key: str, values: Floats) -> float | None:
    """The largest value, if it stands there so often that it is a limit; counts and arrivals have none."""
    if key in _WHOLE or key in {key for _, key, _ in _ARRIVALS}:
        return None
    largest = float(values[-1])
    ties = int((values == largest).sum())
    return largest if values[0] < largest and ties >= max(_CAP_TIES, _CAP_SHARE * len(values)) else None


def _common_share(groups: list[list[float]]) -> float:
    """Share of the variance that is between groups of unequal sizes: one-way random effects, by the ANOVA estimator."""
    sizes = np.array([len(group) for group in groups], float)
    means = np.array([np.mean(group) for group in groups])
    total, k = sizes.sum(), len(groups)
    grand = (sizes * means).sum() / total
    between = (sizes * (means - grand) ** 2).sum() / (k - 1)
    within = sum(float(((np.array(group) - mean) ** 2).sum()) for group, mean in zip(groups, means, strict=True))
    within /= total - k
    usual = (total - (sizes**2).sum() / total) / (k - 1)
    share = (between - within) / (between + (usual - 1) * within) if between + within > 0 else 0.0
    return min(max(float(share), 0.0), 1.0)


def _parameters(law: Any) -> str:
    """For people, such as ``median 5.496, sigma 1.153``."""
    table = _rounded(msgspec.to_builtins(law._asdict() if isinstance(law, Poisson | Geometric) else law))
    if isinstance(law, Mixture):
        parts = zip(table["weights"], law.laws, strict=True)
        return " + ".join(f"{weight:g} {type(part).__name__.lower()} ({_parameters(part)})" for weight, part in parts)
    if isinstance(law, Empirical):
        return f"{len(law.values)} quantiles"
    return ", ".join(f"{name} {value:g}" for name, value in table.items() if name != "law" and value is not None)


def _rounded(value: Any) -> Any:
    """Plain values with every number to four digits."""
    if isinstance(value, dict):
        return {key: _rounded(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_rounded(item) for item in value]
    return float(f"{value:.4g}") if isinstance(value, float) else value
