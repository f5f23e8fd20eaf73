"""Delays between reconnects: a generator of seconds. Whoever uses it sleeps."""

from __future__ import annotations

import random
from collections.abc import Iterator

__all__ = ["backoff"]


def backoff(rng: random.Random, *, first_s: float = 1.0, cap_s: float = 30.0) -> Iterator[float]:
    """Delays that double from ``first_s`` to ``cap_s``, each drawn from its upper half.

    Half of each delay is chance: a thousand clients of a restarted server do not come back in step, and none comes
    back at once.

    Args:
        rng: the source of chance.
        first_s: the first delay at most, seconds. 1 s: a restart is over by then, a person has not yet noticed.
        cap_s: the longest delay, seconds. 30 s: what a person waits before reloading the page.
    """
    delay_s = min(first_s, cap_s)
    while True:
        yield delay_s * (0.5 + rng.random() / 2)
        delay_s = min(delay_s * 2, cap_s)
