"""Arrivals: when issues come, by a renewal process, a modulated Poisson process or given times, at a changing rate.

The rate at a moment is ``rate_per_h`` times the factors of the shape, of the calendar, of a burst, and of what goes
wrong. Processes run in operational time, the integral of that rate, in which one arrival comes per unit on average.

Every process has been running for ever when the simulation starts (it is stationary): before the first arrival comes
what is left of the gap that the start falls into. So the expected number of arrivals in any interval, the first one
too, is the integral of the rate over it. A process that began with a whole gap would begin in a burst.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Iterator
from datetime import datetime

import numpy as np

from syndarix_rt.simulation.calendar import WEEK_S, WeeklyWeights
from syndarix_rt.simulation.laws import Exponential, Gamma, Weibull
from syndarix_rt.simulation.settings import (
    AnyArrivals,
    GammaArrivals,
    Issues,
    Mmpp2Arrivals,
    PoissonArrivals,
    ReplayArrivals,
    WeibullArrivals,
)

__all__ = ["Arrivals"]

_NEVER_S = 1e12
"""Longer than any calendar; what comes later does not come."""
_PHASES_MAX = 10_000
"""Of calms and bursts that are looked through for one arrival; more of them average out."""


class Arrivals:
    """When the next issue arrives.

    Args:
        issues: process, rate, shape and calendar. Given times (``replay``) stay as they are, whatever the factors.
        rng: where the luck comes from; nobody else draws from it.
        start: the time of the simulation's start.
    """

    def __init__(self, issues: Issues, rng: np.random.Generator, start: datetime) -> None:
        process = issues.arrivals
        self._replayed: Iterator[float] | None = None
        self._per_s = issues.rate_per_h / 3600
        self._factor = 1.0
        self._shape_from_s = [3600 * step.from_h for step in issues.shape]
        self._shape_factors = [1.0, *(step.factor for step in issues.shape)]
        self._weights = WeeklyWeights(issues.calendar, start)
        self._phases = _Phases(process, rng.spawn(1)[0]) if isinstance(process, Mmpp2Arrivals) else None
        self._gaps = _gaps(process, rng)
        self._since_s = 0.0
        self._left = next(self._gaps)
        """Operational time from ``_since_s`` to the next arrival."""
        if isinstance(process, ReplayArrivals):
            self._replayed = (3600 * time_h for time_h in process.times_h)
            self._next_s = next(self._replayed, None)
        else:
            self._next_s = self._reach()

    def next_s(self, now_s: float) -> float | None:
        """The simulated second of the next arrival; None: never. The same until :meth:`arrived` or a new factor.

        Args:
            now_s: simulated time; an arrival that is overdue comes now.
        """
        return None if self._next_s is None else max(self._next_s, now_s)

    def arrived(self, now_s: float) -> None:
        """The next arrival has happened, now; the one after it is drawn."""
        if self._replayed is not None:
            self._next_s = next(self._replayed, None)
            return
        self._since_s = now_s
        self._left = next(self._gaps)
        if self._phases is not None:
            self._phases.forget(now_s)
        self._next_s = self._reach()

    def set_factor(self, now_s: float, factor: float) -> float | None:
        """From now on the rate is multiplied by ``factor``, in place of the one before; the result is `next_s`."""
        if self._replayed is None:
            self._left = max(self._left - self._expected_until(now_s), 0.0)
            self._since_s = now_s
            self._factor = factor
            self._next_s = self._reach()
        return self.next_s(now_s)

    def _reach(self) -> float | None:
        """When the operational time that is left will have passed."""
        t_s, left = self._since_s, self._left
        while t_s < _NEVER_S:
            per_s, until_s = self._without_weights(t_s)
            per_week = per_s * self._weights.week_s
            if per_week == 0:
                t_s = until_s
                continue
            weeks = min(left // per_week, (until_s - t_s) // WEEK_S)  # in one leap, for rates of few in a year
            t_s, left = t_s + weeks * WEEK_S, max(left - weeks * per_week, 0.0)
            per_s *= self._weights.at(t_s)
            until_s = min(until_s, self._weights.until(t_s))
            expected = per_s * (until_s - t_s)
            if left < expected:
                return t_s + left / per_s
            t_s, left = until_s, left - expected
        return None

    def _expected_until(self, end_s: float) -> float:
        """Operational time that passes until then."""
        t_s, expected = self._since_s, 0.0
        while t_s < end_s:
            per_s, until_s = self._without_weights(t_s)
            until_s = min(until_s, self._weights.until(t_s), end_s)
            expected += per_s * self._weights.at(t_s) * (until_s - t_s)
            t_s = until_s
        return expected

    def _without_weights(self, t_s: float) -> tuple[float, float]:
        """The rate per second without the calendar's weight, and when it changes."""
        index = bisect_right(self._shape_from_s, t_s)
        until_s = self._shape_from_s[index] if index < len(self._shape_from_s) else _NEVER_S
        per_s = self._per_s * self._factor * self._shape_factors[index]
        if self._phases is not None and per_s:
            factor, end_s = self._phases.at(t_s)
            per_s, until_s = per_s * factor, min(until_s, end_s)
        return per_s, until_s


class _Phases:
    """The calms and bursts of a modulated process, drawn as far as somebody looks ahead."""

    def __init__(self, process: Mmpp2Arrivals, rng: np.random.Generator) -> None:
        both_h = process.calm_h + process.burst_h
        self._burst_share = process.burst_h / both_h
        calm = both_h / (process.calm_h + process.burst_factor * process.burst_h)  # so that the mean factor is 1
        self._kinds = [(calm, 3600 * process.calm_h), (calm * process.burst_factor, 3600 * process.burst_h)]
        self._rng = rng
        self._lengths = _gaps(PoissonArrivals(), rng)
        self._ends_s: list[float] = []
        self._factors: list[float] = []
        self._kind = 0
        self._begin(0.0)

    def at(self, t_s: float) -> tuple[float, float]:
        """The factor on the rate, and when it changes."""
        while self._ends_s[-1] <= t_s and len(self._ends_s) < _PHASES_MAX:
            factor, mean_s = self._kinds[self._kind]
            self._kind = 1 - self._kind
            self._ends_s.append(self._ends_s[-1] + mean_s * next(self._lengths))
            self._factors.append(factor)
        if self._ends_s[-1] <= t_s:
            return 1.0, _NEVER_S
        index = bisect_right(self._ends_s, t_s)
        return self._factors[index], self._ends_s[index]

    def forget(self, t_s: float) -> None:
        """Nobody will ask about times before this one."""
        if self._ends_s[-1] < t_s:
            self._begin(t_s)
        elif (over := bisect_right(self._ends_s, t_s)) > _PHASES_MAX // 100:  # seldom, as it moves all that stay
            del self._ends_s[: over - 1], self._factors[: over - 1]

    def _begin(self, t_s: float) -> None:
        # Stationary: the share of time in bursts is the chance to begin in one, and exponential laws have no memory.
        self._kind = int(self._rng.random() < self._burst_share)
        self._ends_s, self._factors = [t_s], [1.0]


def _gaps(process: AnyArrivals, rng: np.random.Generator) -> Iterator[float]:
    """Times between arrivals whose mean is 1; the first is what a stationary process has left of one."""
    law: Exponential | Gamma | Weibull
    if isinstance(process, WeibullArrivals):
        power = 1 / process.shape
        law = Weibull(scale=1 / math.gamma(1 + power), shape=process.shape)
        # The density of what is left is the survival function: the power of a gamma law.
        yield law.scale * Gamma(scale=1, shape=power).draw(rng) ** power
    elif isinstance(process, GammaArrivals):
        variance = process.cv**2
        law = Gamma(scale=variance, shape=1 / variance)
        # The start falls anywhere into a gap that is drawn in proportion to its length.
        yield Gamma(scale=variance, shape=1 / variance + 1).draw(rng) * rng.random()
    else:
        law = Exponential(scale=1)
    while True:
        yield from law.draws(rng, 64).tolist()
