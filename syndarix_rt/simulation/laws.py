"""Laws of chance: distributions with named, checked parameters, drawing from a generator that is passed in.

A draw takes standard normals or uniforms and transforms them, so changing a parameter changes the values but not how
much randomness is used: two scenarios that differ in one number stay comparable, draw by draw.
"""

from __future__ import annotations

import math
from typing import Annotated

import numpy as np
import numpy.typing as npt
from msgspec import Meta

from syndarix_rt.simulation.section import Section

__all__ = ["AtLeastZero", "Lognormal", "Positive", "Share", "repeats", "weibull"]

# No time, size or rate of this model is near the upper bound; beyond it, floats would soon be infinite.
Positive = Annotated[float, Meta(gt=0, le=1e9)]
AtLeastZero = Annotated[float, Meta(ge=0, le=1e9)]
Share = Annotated[float, Meta(ge=0, le=1)]


class Lognormal(Section, frozen=True):
    """Lognormal law, the common shape of durations and sizes; its unit stands in the name of the key that holds it."""

    median: Positive
    """``exp(mu)`` in the notation with ``mu`` and ``sigma``."""
    sigma: Annotated[float, Meta(ge=0, le=10)]  # the widest law measured on agents has 3.3; beyond 10, floats end
    """Standard deviation of the natural logarithm."""
    max: Positive | None = None
    """Larger values become this one; None for no limit."""

    def draw(self, rng: np.random.Generator) -> float:
        """One value."""
        value = self.median * math.exp(self.sigma * float(rng.standard_normal()))
        return value if self.max is None else min(value, self.max)

    def draws(self, rng: np.random.Generator, count: int) -> npt.NDArray[np.float64]:
        """``count`` values."""
        values = self.median * np.exp(self.sigma * rng.standard_normal(count))
        return values if self.max is None else np.minimum(values, self.max)


def weibull(rng: np.random.Generator, mean: float, shape: float) -> float:
    """One value of a Weibull law; shape 1 is the exponential law, below 1 it comes in bursts."""
    scale = mean / math.gamma(1 + 1 / shape)
    return scale * math.pow(-math.log1p(-rng.random()), 1 / shape)


def repeats(uniforms: npt.NDArray[np.float64], share: float, most: int) -> npt.NDArray[np.int64]:
    """How often in a row something of probability ``share`` happens (geometric law); one number for each uniform."""
    if share in (0, 1):
        return np.full(len(uniforms), int(share) * most)
    return np.minimum(np.log1p(-uniforms) / math.log(share), most).astype(np.int64)
