"""Laws fitted to measured values by maximum likelihood, and the distance that is left.

Candidates: exponential, lognormal, Weibull, gamma, and a mixture of two lognormals (EM algorithm). The distance is that
of Kolmogorov and Smirnov: the largest difference between the law's and the values' shares at most x. With thousands of
values every law is rejected at 5 %, so it is taken as a size of effect: up to 0.05 good, up to 0.10 usable.

Chosen is the law with the fewest parameters among those whose distance is within 0.01 of the smallest, or within
``0.25 / sqrt(n)`` if that is more: what differs less is noise. The mixture takes part only where no other law is good.
If none is usable, measured quantiles are resampled.

What was still going on when the trace ended lasts at least as long as it did so far (right-censoring): it adds the
logarithm of the law's survival to the likelihood of exponential, lognormal and Weibull, and the shares that the
distance compares are those of Kaplan and Meier, as far as they are sure. Gamma and mixture do without;
with more than 2 % of such cases they are not tried.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from syndarix_rt.errors import ScenarioError
from syndarix_rt.simulation.laws import AnyLaw, Constant, Empirical, Exponential, Gamma, Lognormal, Mixture, Weibull
from syndarix_rt.simulation.special import normal_cdf

__all__ = [
    "Candidate",
    "Fitted",
    "Geometric",
    "Poisson",
    "candidates",
    "choose",
    "kaplan_meier",
    "ks_distance",
    "simplest",
]

Floats = npt.NDArray[np.float64]

_ZERO = 1e-9
"""Nothing here is measured as finely, in any unit: such a value is 0."""

_CLOSE = 0.01
_GOOD = 0.05
_USABLE = 0.10
_QUANTILES = 50
_FEW_OPEN = 0.02
"""Up to this share of open cases, a law that knows nothing of them is hardly wrong."""
_NONE: Floats = np.array([])
_EM_VALUES = 20_000
"""More of them are thinned out evenly, in order; they say no more about five parameters."""
_EM_STEPS = 500
_SIGMA_LEAST = 0.02
"""A component of the mixture that gets narrower sits on one value, where the likelihood has no bound."""


class _Distribution(Protocol):
    def cdf(self, values: npt.ArrayLike) -> Floats: ...


class Poisson(NamedTuple):
    """Whole numbers from 0."""

    mean: float

    def cdf(self, values: npt.ArrayLike) -> Floats:
        """Probability of at most each value."""
        x = np.floor(np.asarray(values, float))
        if not self.mean:
            return np.where(x < 0, 0.0, 1.0)
        counts = np.arange(int(max(x.max(initial=0), 0)) + 1)
        logs = counts * math.log(self.mean) - self.mean - np.array([math.lgamma(k + 1) for k in counts.tolist()])
        shares = np.minimum(np.cumsum(np.exp(logs)), 1)
        return np.where(x < 0, 0, shares[np.maximum(x, 0).astype(np.int64)])


class Geometric(NamedTuple):
    """Whole numbers from 1: 1 and a geometric number."""

    mean: float

    def cdf(self, values: npt.ArrayLike) -> Floats:
        """Probability of at most each value."""
        x = np.floor(np.asarray(values, float))
        return np.asarray(1 - (1 - 1 / self.mean) ** np.maximum(x, 0), float)


class Candidate(NamedTuple):
    """A law with the parameters of maximum likelihood."""

    law: AnyLaw | Poisson | Geometric
    ks: float
    """Distance to the values."""

    @property
    def name(self) -> str:
        """Such as ``lognormal``."""
        return type(self.law).__name__.lower()

    @property
    def parameters(self) -> int:
        """How many are fitted."""
        return _PARAMETERS.get(self.name, 1)


_PARAMETERS = {"lognormal": 2, "weibull": 2, "gamma": 2, "mixture": 5, "empirical": _QUANTILES}


class Fitted(NamedTuple):
    """A quantity with all laws that were fitted to it."""

    key: str
    unit: str
    observed: Floats
    """Sorted."""
    open: Floats
    """How long what was not over had lasted; sorted."""
    candidates: tuple[Candidate, ...]
    """By distance."""
    chosen: Candidate

    @property
    def all(self) -> list[Candidate]:
        """The candidates, and the chosen one if it is none of them."""
        return sorted({*self.candidates, self.chosen}, key=lambda candidate: candidate.ks)


def candidates(
    values: Floats, *, whole: bool = False, cap: float | None = None, still_open: Floats = _NONE
) -> list[Candidate]:
    """All laws that can be fitted to these values, by distance.

    Args:
        values: at least one, ascending, from 0 to 1e9. The likelihood is that of those above 0, the distance
            counts all.
        whole: they are counts, and a law's values are rounded to be compared with them.
        cap: values that would be larger are this one. The likelihood allows for that (censoring), except in gamma
            and mixture.
        still_open: each of them would have become a value of at least this.
    """
    if values[0] == values[-1] or values[-1] <= _ZERO:
        return _judged([Constant(value=float(values[0]))], values, still_open, whole=whole)
    positive = values[values > _ZERO]
    known = positive[: _below(positive, cap)]
    at_least = np.concatenate([positive[len(known) :], still_open[still_open > _ZERO]])
    fits: list[Callable[[], AnyLaw]] = [
        lambda: _exponential(known, at_least, cap),
        lambda: _lognormal(known, at_least, cap),
        lambda: _weibull(known, at_least, cap),
    ]
    if len(still_open) <= _FEW_OPEN * (len(values) + len(still_open)):
        fits += [lambda: _gamma(positive, cap), lambda: _mixture(positive, cap)]
    laws = []
    for fit in fits:
        try:
            laws.append(fit())
        except ScenarioError:  # parameters beyond all bounds, such as those of a few values that are nearly equal
            continue
    return _judged(laws, values, still_open, whole=whole)


def choose(fitted: list[Candidate], values: Floats, still_open: Floats = _NONE) -> Candidate:
    """The law to take, as said at the head of this module.

    Args:
        fitted: what :func:`candidates` found for them, by distance.
        values: the same.
        still_open: the same.
    """
    noise = 1 / math.sqrt(len(values))  # what a true law is away from its values in all but a fourth of the cases
    if not fitted or fitted[0].ks > max(_USABLE, 2 * noise):
        shares = (np.arange(_QUANTILES) + 0.5) / _QUANTILES
        points, upto, _, _ = kaplan_meier(values, still_open)
        places = np.minimum(upto.searchsorted(shares - _ROUNDING), len(points) - 1)  # beyond what was seen: the largest
        law = Empirical(values=tuple(points[places].tolist()))
        return Candidate(law, ks_distance(values, law, still_open=still_open))
    plain = [candidate for candidate in fitted if not isinstance(candidate.law, Mixture)]
    is_good = bool(plain) and plain[0].ks <= max(_GOOD, noise)
    return simplest(plain if is_good else fitted, len(values))


def simplest(fitted: list[Candidate], n: int) -> Candidate:
    """The one with the fewest parameters among those that are as good as the best.

    Args:
        fitted: at least one, by distance.
        n: number of values.
    """
    near = [candidate for candidate in fitted if candidate.ks <= fitted[0].ks + max(_CLOSE, 0.25 / math.sqrt(n))]
    return min(near, key=lambda candidate: candidate.parameters)  # of equals the first one, which is nearer


_ROUNDING = 1e-9
"""Shares that differ by less are the same."""


def kaplan_meier(values: npt.ArrayLike, still_open: npt.ArrayLike = _NONE) -> tuple[Floats, Floats, Floats, Floats]:
    """The estimate of Kaplan and Meier; of values alone it is their shares.

    Args:
        values: at least one.
        still_open: each of them would have become a value of at least this.

    Returns:
        The different values, ascending; of each the estimated share of cases at most it; that of cases below it; and
        the standard error of the latter at most: Peto's formula without its last factor.
    """
    points, counts = np.unique(np.asarray(values, float), return_counts=True)
    over = np.cumsum(counts) - counts
    waiting = np.sort(np.asarray(still_open, float))
    at_risk = counts.sum() - over + len(waiting) - waiting.searchsorted(points)
    upto = 1 - np.cumprod(1 - counts / at_risk)
    below = np.concatenate([[0.0], upto[:-1]])
    return points, upto, below, (1 - below) / np.sqrt(at_risk)


def ks_distance(
    values: npt.ArrayLike, law: _Distribution, *, whole: bool = False, still_open: npt.ArrayLike = _NONE
) -> float:
    """The largest difference between the shares of values and of the law at most x, over all x.

    Steps are respected on both sides: equal values, and laws with a cap or without a density.

    Args:
        values: at least one.
        law: of which ``cdf`` is known.
        whole: the law's values are rounded to whole numbers.
        still_open: each of them would have become a value of at least this. At last so few cases are left that chance
            decides. The distance does not look there: where the estimate's standard error may be more than
            ``1 / sqrt(n)``, which it nowhere is of values alone.
    """
    points, upto, below, error = kaplan_meier(values, still_open)
    sure = error <= (1 + _ROUNDING) / math.sqrt(np.size(values))
    points, upto, below = points[sure], upto[sure], below[sure]
    if whole:
        law_upto, law_below = law.cdf(points + 0.5), law.cdf(points - 0.5)
    else:
        law_upto, law_below = law.cdf(points), law.cdf(np.nextafter(points, -np.inf))
    return float(max(np.abs(upto - law_upto).max(), np.abs(below - law_below).max()))


def _judged(laws: list[AnyLaw], values: Floats, still_open: Floats, *, whole: bool) -> list[Candidate]:
    judged = [Candidate(law, ks_distance(values, law, whole=whole, still_open=still_open)) for law in laws]
    return sorted(judged, key=lambda candidate: candidate.ks)


def _exponential(known: Floats, at_least: Floats, cap: float | None) -> AnyLaw:
    return Exponential(scale=float(known.sum() + at_least.sum()) / len(known), max=cap)


def _lognormal(known: Floats, at_least: Floats, cap: float | None) -> AnyLaw:
    """With bounds by EM: what is at least so much is expected where a normal law beyond it is."""
    logs, ends = np.log(known), np.log(at_least)
    n = len(logs) + len(ends)
    start = np.concatenate([logs, ends])
    mean, sigma = float(start.mean()), float(start.std())
    for _ in range(_EM_STEPS if len(ends) else 0):
        z = (ends - mean) / sigma
        hazard = _normal_hazard(z)
        expected = mean + sigma * hazard
        spread = sigma**2 * (1 + z * hazard - hazard**2)
        before = mean, sigma
        mean = float(logs.sum() + expected.sum()) / n
        sigma = math.sqrt(float(((logs - mean) ** 2).sum() + (spread + (expected - mean) ** 2).sum()) / n)
        if math.dist(before, (mean, sigma)) < 1e-9 * sigma:
            break
    return Lognormal(median=math.exp(mean), sigma=sigma, max=cap)


def _normal_hazard(z: Floats) -> Floats:
    """Density of the standard normal law over its survival."""
    near = np.minimum(z, _FAR)
    ratio = np.exp(-(near**2) / 2) / math.sqrt(2 * math.pi) / normal_cdf(-near)
    far = np.maximum(z, _FAR)
    return np.where(z < _FAR, ratio, far + 1 / far - 2 / far**3)


_FAR = 7.0
"""From there on the asymptotic series has four digits more than anything here, and survival few digits left."""


def _weibull(known: Floats, at_least: Floats, cap: float | None) -> AnyLaw:
    logs = np.log(np.concatenate([known, at_least]))
    relative = logs - logs.max()  # so that no power overflows
    mean = relative[: len(known)].mean()

    def slope(shape: float) -> float:
        weights = np.exp(shape * relative)
        return float((weights * relative).sum() / weights.sum() - 1 / shape - mean)

    shape = _root(slope, 0.1, 10)
    scale = math.exp(logs.max() + math.log(np.exp(shape * relative).sum() / len(known)) / shape)
    return Weibull(scale=scale, shape=shape, max=cap)


def _below(values: Floats, cap: float | None) -> int:
    """How many values are not at the cap."""
    return len(values) if cap is None else max(int(values.searchsorted(cap)), 1)


def _gamma(values: Floats, cap: float | None) -> AnyLaw:
    mean = float(values.mean())
    spread = math.log(mean) - float(np.log(values).mean())
    shape = _root(lambda k: _digamma(k) - math.log(k) + spread, 0.0004, 1000)
    return Gamma(scale=mean / shape, shape=shape, max=cap)


def _mixture(values: Floats, cap: float | None) -> AnyLaw:
    """Two lognormals by EM from three starts: the lower quarter, half and three quarters as the first one."""
    if len(values) > _EM_VALUES:
        values = values[np.linspace(0, len(values) - 1, _EM_VALUES).astype(np.int64)]
    different, counts = np.unique(values, return_counts=True)  # of times in whole milliseconds, or counts, far fewer
    logs = np.log(different)
    starts = (_em(logs, counts, share) for share in (0.25, 0.5, 0.75))
    _, weight, means, sigmas = max(starts, key=lambda found: found[0])
    laws = tuple(
        Lognormal(median=math.exp(mean), sigma=sigma, max=cap) for mean, sigma in zip(means, sigmas, strict=True)
    )
    return Mixture(weights=(weight, 1 - weight), laws=laws)


def _em(logs: Floats, times: npt.NDArray[np.int64], share: float) -> tuple[float, float, list[float], list[float]]:
    """Log-likelihood, weight of the first component, means and standard deviations of the two normals.

    Args:
        logs: the different values, ascending.
        times: how often each of them is there.
        share: of all values, from the lowest, that the first component begins with.
    """
    n = int(times.sum())
    middle = float(times @ logs) / n
    values = logs - middle
    squares = values**2
    moments = times * np.stack([np.ones(len(values)), values, squares])
    whole = moments.sum(axis=1)
    taken = np.clip((share * n - (times.cumsum() - times)) / times, 0, 1)  # by the first component
    likelihood = -math.inf
    for _ in range(_EM_STEPS):
        first = moments @ taken
        counts, sums, powers = np.stack([first, whole - first], axis=1)
        counts = np.maximum(counts, 1e-9)
        weights, means = counts / counts.sum(), sums / counts
        variances = np.maximum(powers / counts - means**2, _SIGMA_LEAST**2)
        # The logarithm of a normal density is a parabola, and so is that of the ratio of two.
        constants = np.log(weights) - np.log(variances) / 2 - means**2 / variances / 2
        slopes, bends = means / variances, -0.5 / variances
        ratio = (bends[0] - bends[1]) * squares + (slopes[0] - slopes[1]) * values + (constants[0] - constants[1])
        small = np.exp(-np.abs(ratio))
        taken = np.where(ratio > 0, 1.0, small) / (1 + small)
        second = float(whole @ [constants[1], slopes[1], bends[1]])
        before, likelihood = likelihood, second + float(times @ (np.maximum(ratio, 0) + np.log1p(small)))
        if likelihood - before < 1e-7 * n:
            break
    return likelihood, float(weights[0]), (means + middle).tolist(), np.sqrt(variances).tolist()


def _root(function: Callable[[float], float], low: float, high: float) -> float:
    """Where an ascending function is 0, or the nearer end: by halving the interval of the logarithm."""
    for _ in range(60):
        middle = math.sqrt(low * high)
        if function(middle) < 0:
            low = middle
        else:
            high = middle
    return math.sqrt(low * high)


def _digamma(x: float) -> float:
    """Derivative of the logarithm of the gamma function: recurrence up to 10, then the asymptotic series."""
    below = 0.0
    while x < 10:  # noqa: PLR2004 - from there on the series has all digits
        below -= 1 / x
        x += 1
    square = 1 / x**2
    return below + math.log(x) - 0.5 / x - square * (1 / 12 - square * (1 / 120 - square * (1 / 252 - square / 240)))
