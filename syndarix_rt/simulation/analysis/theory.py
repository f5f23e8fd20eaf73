"""What queueing theory says: waits, loads, limits; plain functions, to be held against simulations and real data.

Symbols: λ arrivals per second, S service time, c servers, ``offered = λ E[S]`` (Erlangs), ``rho = offered / c``;
squared coefficients of variation Ca² of the times between arrivals and Cs² of the service times.

Sources: A. K. Erlang (1917); R. B. Cooper, *Introduction to Queueing Theory* (1981), for the recursion of Erlang B and
for C from B; F. Pollaczek (1930) and A. Khinchine (1932) for M/G/1; A. O. Allen, *Probability, Statistics and Queueing
Theory* (1978), for the approximation of Allen and Cunneen; J. D. C. Little (1961) for L = λ W.
"""

from __future__ import annotations

import math
from typing import NamedTuple

__all__ = [
    "Expected",
    "allen_cunneen",
    "backlog_slope_per_h",
    "drain_time_h",
    "erlang_c",
    "mean_failure_streak",
    "mg1",
    "mmc",
    "stationary_failure_share",
    "token_bucket_limit",
]


class Expected(NamedTuple):
    """A queue in its steady state, under the names of `Measured`; at rho ≥ 1 there is none: waits are infinite."""

    utilisation: float
    """rho, at most 1."""
    delayed_share: float
    """P(wait > 0)."""
    wait_mean_s: float
    """Wq."""
    sojourn_mean_s: float
    """W = Wq + E[S]."""
    waiting_mean: float
    """Lq = λ Wq."""
    number_mean: float
    """L = λ W."""


def erlang_c(servers: int, offered: float) -> float:
    """P(wait > 0) of M/M/c; 1 where ``offered >= servers``. Stable for any c, O(c).

    Args:
        servers: c, from 1.
        offered: λ E[S] in Erlangs, from 0.

    Raises:
        ValueError: an argument is out of its range.
    """
    if servers < 1 or not offered >= 0:
        raise ValueError(f"needs at least 1 server and a load from 0, not {servers} and {offered}")
    if offered >= servers:
        return 1.0
    if offered == 0:
        return 0.0
    blocked = 1.0  # Erlang B with 0 servers; each step stays within [0, 1]
    for number in range(1, servers + 1):
        blocked = offered * blocked / (number + offered * blocked)
    return blocked / (1 - offered / servers * (1 - blocked))


def mmc(arrivals_per_s: float, service_mean_s: float, servers: int) -> Expected:
    """M/M/c: Poisson arrivals, exponential service, first come first served. Exact.

    Raises:
        ValueError: as :func:`erlang_c`.
    """
    return allen_cunneen(arrivals_per_s, service_mean_s, servers, arrival_cv2=1.0, service_cv2=1.0)


def mg1(arrivals_per_s: float, service_mean_s: float, service_cv2: float) -> Expected:
    """M/G/1: Poisson arrivals, any service, one server (Pollaczek-Khinchine). Exact.

    Raises:
        ValueError: as :func:`erlang_c`.
    """
    return allen_cunneen(arrivals_per_s, service_mean_s, 1, arrival_cv2=1.0, service_cv2=service_cv2)


def allen_cunneen(
    arrivals_per_s: float, service_mean_s: float, servers: int, arrival_cv2: float, service_cv2: float
) -> Expected:
    """G/G/c: ``Wq = Wq(M/M/c) (Ca² + Cs²) / 2``. An approximation, exact for M/M/c and M/G/1.

    P(wait) is that of M/M/c. It takes times between arrivals as independent, which a queue behind another, or a
    source that works in bursts, does not keep to.

    Raises:
        ValueError: as :func:`erlang_c`.
    """
    offered = arrivals_per_s * service_mean_s
    delayed = erlang_c(servers, offered)
    if offered >= servers:
        return Expected(1.0, 1.0, math.inf, math.inf, math.inf, math.inf)
    wait_s = delayed * service_mean_s / (servers - offered) * (arrival_cv2 + service_cv2) / 2
    return Expected(
        utilisation=offered / servers,
        delayed_share=delayed,
        wait_mean_s=wait_s,
        sojourn_mean_s=wait_s + service_mean_s,
        waiting_mean=arrivals_per_s * wait_s,
        number_mean=arrivals_per_s * wait_s + offered,
    )


def stationary_failure_share(fail_after_success_share: float, fail_after_failure_share: float) -> float:
    """Share of failures of a two-state chain in the long run: ``p_sf / (p_sf + 1 - p_ff)``.

    NaN for a chain that never leaves the state it began in (0 after success, 1 after failure).
    """
    leaves = fail_after_success_share + 1 - fail_after_failure_share
    return fail_after_success_share / leaves if leaves > 0 else math.nan


def mean_failure_streak(fail_after_failure_share: float) -> float:
    """Mean number of failures in a row, ``1 / (1 - p_ff)``; infinite if one never ends."""
    return 1 / (1 - fail_after_failure_share) if fail_after_failure_share < 1 else math.inf


def token_bucket_limit(per_min: float, capacity: float, window_min: float) -> float:
    """The most that a token bucket lets through in any window: ``per_min * window_min + capacity``, in its tokens."""
    return per_min * window_min + capacity


def backlog_slope_per_h(arrivals_per_h: float, service_mean_h: float, servers: int) -> float:
    """How fast a queue grows that is always busy, ``λ - c / E[S]`` per hour; negative: it drains."""
    return arrivals_per_h - servers / service_mean_h


def drain_time_h(excess: float, arrivals_per_h: float, service_mean_h: float, servers: int) -> float:
    """How long it takes to work off ``excess`` waiting ones while others arrive; infinite if they come too fast."""
    slope_per_h = backlog_slope_per_h(arrivals_per_h, service_mean_h, servers)
    return excess / -slope_per_h if slope_per_h < 0 else math.inf
