"""Special functions that numpy lacks: the normal law's and the gamma law's, for arrays."""

from __future__ import annotations

import math
from statistics import NormalDist

import numpy as np
import numpy.typing as npt

__all__ = ["gamma_tails", "normal_cdf", "normal_quantile", "standard_exponential"]

Floats = npt.NDArray[np.float64]

_erfc = np.frompyfunc(math.erfc, 1, 1)
_inv_cdf = np.frompyfunc(NormalDist().inv_cdf, 1, 1)
_SQRT_HALF = math.sqrt(0.5)
_SMALLEST = 1e-300
_EPSILON = 2.0**-53


def normal_cdf(normals: npt.ArrayLike) -> Floats:
    """Share of the standard normal law below each value; exact to the last digits in the lower tail."""
    return 0.5 * np.asarray(_erfc(-_SQRT_HALF * np.asarray(normals, float)), float)


def normal_quantile(shares: npt.ArrayLike) -> Floats:
    """Inverse of :func:`normal_cdf`; shares beyond what a number can tell from 0 and 1 are pulled inwards."""
    return np.asarray(_inv_cdf(np.clip(np.asarray(shares, float), _SMALLEST, 1 - _EPSILON)), float)


def standard_exponential(normals: Floats) -> Floats:
    """Standard normal values turned into exponential ones of mean 1, the order kept, exact in both tails."""
    tail = normal_cdf(-np.abs(normals))
    return np.where(normals < 0, -np.log1p(-tail), -np.log(np.maximum(tail, _SMALLEST)))


def gamma_tails(shape: float, values: npt.ArrayLike) -> tuple[Floats, Floats]:
    """The regularised incomplete gamma functions P and Q: shares of the gamma law of scale 1 below and above.

    By the power series below the mean and by the continued fraction (Lentz's method) above, as in Press et al.,
    Numerical Recipes, section 6.2. Each is exact to 1e-11, also where it is tiny.
    """
    x = np.maximum(np.asarray(values, float), 0)
    inside = np.clip(x, _SMALLEST, 1e15)
    density = np.exp(np.maximum(shape * np.log(inside) - inside - math.lgamma(shape), -740))  # times x
    low = np.where(inside < shape + 1, inside, 1)
    term = series = np.full_like(inside, 1 / shape)
    divisor = shape
    while (term > series * _EPSILON).any():
        divisor += 1
        term = term * low / divisor
        series = series + term
    high = np.where(inside < shape + 1, shape + 2, inside)
    b = high + 1 - shape
    c, d = np.full_like(inside, 1 / _SMALLEST), 1 / b
    fraction, change, step = d, np.full_like(inside, 2), 0
    while (np.abs(change - 1) > 4 * _EPSILON).any():
        step += 1
        a, b = -step * (step - shape), b + 2
        d = 1 / _not_zero(a * d + b)
        c = _not_zero(b + a / c)
        change = c * d
        fraction = fraction * change
    below = np.where(x < shape + 1, density * series, 1 - density * fraction)
    above = np.where(x < shape + 1, 1 - density * series, density * fraction)
    return np.where(x > 0, below, 0), np.where(x > 0, above, 1)


def _not_zero(values: Floats) -> Floats:
    return np.where(np.abs(values) < _SMALLEST, _SMALLEST, values)
