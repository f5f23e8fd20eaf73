"""Laws of chance: distributions with named, checked parameters, drawing from a generator that is passed in.

Every law takes one standard normal for each value and turns it into its own value. So a changed parameter, or another
law, changes the values but not how much randomness is used, and two scenarios that differ in one law stay comparable,
draw by draw; and values of different laws can be made to go together (:func:`correlated`).

In a scenario, a law is a table that names it: ``{law = "weibull", scale = 2.0, shape = 0.47}``. The unit of its values
stands in the name of the key that holds it.
"""

from __future__ import annotations

import math
from functools import cached_property, lru_cache
from typing import Annotated

import numpy as np
import numpy.typing as npt
from msgspec import Meta

from syndarix_rt.errors import ScenarioError
from syndarix_rt.simulation.section import Section
from syndarix_rt.simulation.special import gamma_tails, normal_cdf, normal_quantile, standard_exponential

__all__ = [
    "AnyLaw",
    "AtLeastZero",
    "Constant",
    "Empirical",
    "Exponential",
    "Gamma",
    "Law",
    "Lognormal",
    "Mixture",
    "Positive",
    "Share",
    "Weibull",
    "correlated",
    "repeated",
    "repeats",
]

# No time, size or rate of this model is near the upper bound; beyond it, floats would soon be infinite.
Positive = Annotated[float, Meta(gt=0, le=1e9)]
AtLeastZero = Annotated[float, Meta(ge=0, le=1e9)]
Share = Annotated[float, Meta(ge=0, le=1)]

Floats = npt.NDArray[np.float64]

_NO_SPREAD = 1e-12
"""A lognormal law with less is constant to the last digits that a number has."""


class Law(Section, frozen=True, tag_field="law", tag=str.lower):
    """What all laws can do; their values are finite and at least 0."""

    def draw(self, rng: np.random.Generator) -> float:
        """One value; the same as ``draws(rng, 1)[0]``."""
        return float(self.of_normals(rng.standard_normal(1))[0])

    def draws(self, rng: np.random.Generator, count: int) -> Floats:
        """``count`` values; the same as so many times :meth:`draw`."""
        return self.of_normals(rng.standard_normal(count))

    def mean(self) -> float:
        """The expected value, in closed form, the cap included."""
        raise NotImplementedError

    def cdf(self, values: npt.ArrayLike) -> Floats:
        """Probability of at most each value; 1 from the cap on."""
        raise NotImplementedError

    def quantile(self, share: float) -> float:
        """The least value that at least this share of draws, above 0 and below 1, do not exceed.

        Raises:
            ScenarioError: if ``share`` is not between 0 and 1.
        """
        if not 0 < share < 1:
            raise ScenarioError(f"must be above 0 and below 1, not {share!r}", "share")
        return self._quantile(share)

    def _quantile(self, share: float) -> float:
        return float(self.of_normals(normal_quantile([share]))[0])

    def of_normals(self, normals: Floats) -> Floats:
        """The values that standard normals stand for, one for each."""
        raise NotImplementedError


class _Capped(Law, frozen=True):
    """A law without an upper end, which a cap may give it."""

    max: Positive | None = None
    """Larger values become this one; None for no limit."""

    def cdf(self, values: npt.ArrayLike) -> Floats:
        x = np.asarray(values, float)
        below = np.where(x > 0, self._below(np.maximum(x, 1e-300)), 0)
        return below if self.max is None else np.where(x >= self.max, 1, below)

    def of_normals(self, normals: Floats) -> Floats:
        values = self._uncapped(normals)
        return values if self.max is None else np.minimum(values, self.max)

    def _below(self, values: Floats) -> Floats:
        raise NotImplementedError

    def _uncapped(self, normals: Floats) -> Floats:
        raise NotImplementedError


class Lognormal(_Capped, frozen=True, kw_only=True):
    """The common law of durations and sizes."""

    median: Positive
    """``exp(mu)`` in the notation with ``mu`` and ``sigma``."""
    sigma: Annotated[float, Meta(ge=0, le=10)]  # the widest law measured on agents has 3.3; beyond 10, floats end
    """Standard deviation of the natural logarithm."""

    def draw(self, rng: np.random.Generator) -> float:
        """One value; the same as ``draws(rng, 1)[0]``, in a third of the time that an array of one takes."""
        value = self.median * float(np.exp(self.sigma * rng.standard_normal()))
        return value if self.max is None else min(value, self.max)

    def mean(self) -> float:
        """The expected value, in closed form, the cap included."""
        median, sigma = self.median, self.sigma
        uncapped = median * math.exp(sigma**2 / 2)
        if self.max is None:
            return uncapped
        if sigma < _NO_SPREAD:
            return min(median, self.max)
        at_cap = math.log(self.max / median) / sigma
        below, above = normal_cdf([at_cap - sigma, -at_cap])
        return float(uncapped * below + self.max * above)

    def _below(self, values: Floats) -> Floats:
        if self.sigma < _NO_SPREAD:
            return np.where(values >= self.median, 1.0, 0.0)
        return normal_cdf(np.log(values / self.median) / self.sigma)

    def _uncapped(self, normals: Floats) -> Floats:
        return self.median * np.exp(self.sigma * normals)


class Exponential(_Capped, frozen=True, kw_only=True):
    """The law of waiting for what may happen at any moment."""

    scale: Positive
    """The mean without the cap."""

    def mean(self) -> float:
        """The expected value, in closed form, the cap included."""
        return self.scale if self.max is None else -self.scale * math.expm1(-self.max / self.scale)

    def _below(self, values: Floats) -> Floats:
        return -np.expm1(-values / self.scale)

    def _uncapped(self, normals: Floats) -> Floats:
        return self.scale * standard_exponential(normals)


class Weibull(_Capped, frozen=True, kw_only=True):
    """Stretched (shape below 1) or compressed (above) exponential law."""

    scale: Positive
    shape: Annotated[float, Meta(ge=0.1, le=10)]  # measured: 0.29 to 1; below 0.1, floats end

    def mean(self) -> float:
        """The expected value, in closed form, the cap included."""
        uncapped = self.scale * math.gamma(1 + 1 / self.shape)
        if self.max is None:
            return uncapped
        at_cap = math.exp(min(self.shape * math.log(self.max / self.scale), 30))
        return float(uncapped * gamma_tails(1 / self.shape, at_cap)[0])

    def _below(self, values: Floats) -> Floats:
        return -np.expm1(-np.exp(np.minimum(self.shape * np.log(values / self.scale), 30)))

    def _uncapped(self, normals: Floats) -> Floats:
        return self.scale * standard_exponential(normals) ** (1 / self.shape)


class Gamma(_Capped, frozen=True, kw_only=True):
    """Sum of exponential waits; its coefficient of variation is ``shape ** -0.5``."""

    scale: Positive
    shape: Annotated[float, Meta(ge=0.0004, le=1000)]  # coefficients of variation from 50 to 0.03; measured: 12.6

    def mean(self) -> float:
        """The expected value, in closed form, the cap included."""
        uncapped = self.shape * self.scale
        if self.max is None:
            return uncapped
        at_cap = self.max / self.scale
        below = float(gamma_tails(self.shape + 1, at_cap)[0])
        return uncapped * below + self.max * float(gamma_tails(self.shape, at_cap)[1])

    def _below(self, values: Floats) -> Floats:
        return gamma_tails(self.shape, values / self.scale)[0]

    def _uncapped(self, normals: Floats) -> Floats:
        return self.scale * np.exp(np.interp(normals, *_gamma_table(self.shape)))


class Constant(Law, frozen=True):
    """Always the same value."""

    value: AtLeastZero

    def mean(self) -> float:
        """The value."""
        return self.value

    def cdf(self, values: npt.ArrayLike) -> Floats:
        """Probability of at most each value."""
        return np.where(np.asarray(values, float) >= self.value, 1.0, 0.0)

    def of_normals(self, normals: Floats) -> Floats:
        """The value, for each."""
        return np.full(len(normals), self.value)


class Empirical(Law, frozen=True, dict=True):  # the dict holds what is computed once
    """Measured values, each as probable as any other."""

    values: Annotated[tuple[AtLeastZero, ...], Meta(min_length=1)]

    def mean(self) -> float:
        """Their average."""
        return math.fsum(self.values) / len(self.values)

    def cdf(self, values: npt.ArrayLike) -> Floats:
        """Share of measured values that are at most each value."""
        return self._sorted.searchsorted(np.asarray(values, float), side="right") / len(self.values)

    def _quantile(self, share: float) -> float:
        return float(self._sorted[math.ceil(share * len(self.values)) - 1])

    def of_normals(self, normals: Floats) -> Floats:
        """The measured values, in their order."""
        places = (normal_cdf(normals) * len(self.values)).astype(np.int64)
        return self._sorted[np.minimum(places, len(self.values) - 1)]

    @cached_property
    def _sorted(self) -> Floats:
        return np.sort(np.asarray(self.values, float))


class Mixture(Law, frozen=True, dict=True):  # as Empirical
    """Each value comes from one of several laws."""

    weights: Annotated[tuple[Positive, ...], Meta(min_length=1)]
    """How often each law is taken, in proportion."""
    laws: tuple[Lognormal | Exponential | Weibull | Gamma | Constant | Empirical, ...]

    def __post_init__(self) -> None:
        super().__post_init__()
        if len(self.weights) != len(self.laws):
            raise ScenarioError(f"must be as many as laws, {len(self.laws)}, not {len(self.weights)}", "weights")

    def mean(self) -> float:
        """The weighted mean of the laws' means."""
        return math.fsum(weight * law.mean() for weight, law in self._parts())

    def cdf(self, values: npt.ArrayLike) -> Floats:
        """Probability of at most each value."""
        total: Floats = np.sum([weight * law.cdf(values) for weight, law in self._parts()], axis=0)
        return total

    def of_normals(self, normals: Floats) -> Floats:
        """Values of the mixture, as close as its table."""
        return np.interp(normals, *self._table)

    @cached_property
    def _table(self) -> tuple[Floats, Floats]:
        """Standard normals and the mixture's values that they stand for, a straight line between two of them.

        The values are close where any of the laws has its mass; each stands twice, for the shares below it and up to
        it, which differ where a law has a step.
        """
        normals = np.linspace(-8.5, 8.5, 4097)
        points = [law.values if isinstance(law, Empirical) else law.of_normals(normals) for law in self.laws]
        values = np.unique(np.concatenate(points))
        shares = np.stack([self.cdf(np.nextafter(values, -1)), self.cdf(values)], axis=1).ravel()
        return np.maximum.accumulate(normal_quantile(shares)), values.repeat(2)

    def _parts(self) -> list[tuple[float, Law]]:
        total = math.fsum(self.weights)
        return [(weight / total, law) for weight, law in zip(self.weights, self.laws, strict=True)]


AnyLaw = Lognormal | Exponential | Weibull | Gamma | Constant | Mixture | Empirical
"""What a key that holds a law may hold; the field ``law`` tells which, by the class's name in lower case."""


@lru_cache(maxsize=256)
def _gamma_table(shape: float) -> tuple[Floats, Floats]:
    """Standard normals, and logarithms of the values of the gamma law of scale 1 that they stand for.

    Between two of the 4,097 points the logarithm is a straight line; the error is below 2e-5.
    """
    # Beyond 8.5 standard deviations, 1e-17, no double-precision share tells two values apart.
    high = math.log(shape + 9 * math.sqrt(shape) + 45)
    low = max((math.log(1e-17) + math.lgamma(shape + 1)) / shape, -300.0)
    logarithms = high - (high - low) * np.linspace(1, 0, 4097) ** 3  # closest at the top, where the values count
    below, above = gamma_tails(shape, np.exp(logarithms))
    return np.where(below < above, normal_quantile(below), -normal_quantile(above)), logarithms


def correlated(normals: Floats, common: float, share: float) -> Floats:
    """Standard normals of which any two are correlated (Gaussian copula).

    Values that laws make of them keep their laws, each by itself. Of lognormal laws, the share is that of the
    log-variance that is common.

    Args:
        normals: standard normals.
        common: the one that they have in common, also with others that it was given for.
        share: correlation, from 0 to 1; without it they stay as they are.
    """
    return math.sqrt(share) * common + math.sqrt(1 - share) * normals if share else normals


def repeats(uniforms: Floats, share: float, most: int) -> list[int]:
    """How often in a row something of probability ``share`` happens (geometric law); one number for each uniform."""
    counts = [0] * len(uniforms)
    happens = (uniforms >= 1 - share).nonzero()[0]  # few, mostly, so that the logarithms are cheap
    for place in happens.tolist():
        counts[place] = repeated(float(uniforms[place]), share, most)
    return counts


def repeated(uniform: float, share: float, most: int) -> int:
    """The same as :func:`repeats`, for one uniform."""
    if share in (0, 1):
        return int(share) * most
    return int(min(math.log1p(-uniform) / math.log(share), most))
