"""All charts of a dashboard: what each counts, and how it is drawn."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from syndarix_rt.notebook.metrics import EVENT_SERIES, EventRate, Span
from syndarix_rt.notebook.panels.agents import AGENT_STATES, AgentLanes
from syndarix_rt.notebook.panels.changes import CHANGE_SERIES, PIPELINE_SERIES, Changes, Pipelines
from syndarix_rt.notebook.panels.rates import COST_SERIES, TOKEN_SERIES, Cost, Tokens
from syndarix_rt.notebook.panels.timeline import Panel
from syndarix_rt.notebook.panels.work import ISSUE_SERIES, SPRINT_SERIES, IssueFlow, SprintProgress

__all__ = ["CHARTS", "Axis", "Chart", "Series", "make_chart"]

BINS = 602
"""A bin is a pixel or two then; two more, as the window begins and ends in the midst of one."""

HEIGHT_PX = 220
"""Of all, so that those beside each other begin and end together: room for five steps, or for eight lanes."""

_BINS_S = (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600)


class Axis(NamedTuple):
    """The time axis of a dashboard."""

    simulated: bool
    window_s: float
    """How much of it is shown."""

    @property
    def bin_s(self) -> float:
        """What a bin covers."""
        return next((bin_s for bin_s in _BINS_S if self.window_s <= bin_s * (BINS - 2)), 2.0 * _BINS_S[-1])

    @property
    def unit_s(self) -> float:
        """What rates are per: a simulated second is gone before it is seen."""
        return 60.0 if self.simulated else 1.0

    def per(self, what: str) -> str:
        """The unit of a rate."""
        return f"{what} per simulated min" if self.simulated else f"{what}/s"


class Series(Panel, Protocol):
    """A panel that is drawn as a chart."""

    gaps: list[Span]
    bin_s: float
    start_s: float | None

    def rows(self, since: int = 0) -> NDArray[np.float64]:
        """Rows that changed after a version, oldest first."""


class Chart(NamedTuple):
    """One chart: what it counts, and what `syndarix_rt.notebook.chart_widget` is told of it."""

    name: str
    model: Series
    options: dict[str, Any]


class _Kind(NamedTuple):
    title: str
    make: Callable[[Axis], Series]
    kind: str
    unit: Callable[[Axis], str]
    series: list[dict[str, Any]]
    empty: str
    whole: bool = True
    """Whether it counts; else it measures."""


def _plain(unit: str) -> Callable[[Axis], str]:
    return lambda _: unit


def _rate(unit: str) -> Callable[[Axis], str]:
    return lambda axis: axis.per(unit)


def _sums(make: Callable[..., Series], **more: Any) -> Callable[[Axis], Series]:
    return lambda axis: make(bin_s=axis.bin_s, bins=BINS, unit_s=axis.unit_s, **more)


def _levels(make: Callable[..., Series]) -> Callable[[Axis], Series]:
    return lambda axis: make(bin_s=axis.bin_s, bins=BINS)


_KINDS = {
    "events": _Kind(
        "Events by type",
        _sums(EventRate, names=[line["name"] for line in EVENT_SERIES]),
        "bars",
        _rate("events"),
        EVENT_SERIES,
        "No event yet: play a scenario, or publish an event",
    ),
    "agents": _Kind(
        "Agents",
        lambda axis: AgentLanes(window_s=axis.window_s),
        "lanes",
        _plain(""),
        AGENT_STATES,
        "No agent has been seen yet",
    ),
    "issues": _Kind("Issues by state", _levels(IssueFlow), "areas", _plain("issues"), ISSUE_SERIES, "No issue yet"),
    "sprint": _Kind(
        "Sprint: closed issues and scope",
        lambda axis: SprintProgress(simulated=axis.simulated, bin_s=axis.bin_s, bins=BINS),
        "lines",
        _plain("issues"),
        SPRINT_SERIES,
        "No sprint has begun yet",
    ),
    "tokens": _Kind(
        "Tokens of LLM calls", _sums(Tokens), "bars", _rate("tokens"), TOKEN_SERIES, "No LLM call has ended yet"
    ),
    "cost": _Kind(
        "Cost so far, by role", _levels(Cost), "areas", _plain("USD"), COST_SERIES, "Nothing spent yet", whole=False
    ),
    "git": _Kind(
        "Branches, commits and pull requests",
        _levels(Changes),
        "lines",
        _plain("number so far; of open ones, now"),
        CHANGE_SERIES,
        "No branch, commit or pull request yet",
    ),
    "pipelines": _Kind(
        "Pipelines", _levels(Pipelines), "bars", _plain("pipelines"), PIPELINE_SERIES, "No pipeline yet"
    ),
}

CHARTS = tuple(_KINDS)
"""Names of the charts, in the order in which they are shown."""


def make_chart(name: str, axis: Axis) -> Chart:
    """A chart of `CHARTS`, which has seen nothing yet."""
    kind = _KINDS[name]
    options = {
        "kind": kind.kind,
        "title": kind.title,
        "unit": kind.unit(axis),
        "series": kind.series,
        "windowS": axis.window_s,
        "whole": kind.whole,
        "height": HEIGHT_PX,
        "empty": kind.empty,
        "clock": "simulated" if axis.simulated else "wall",
    }
    return Chart(name, kind.make(axis), options)
