"""How long to wait before the broker is tried again."""

from __future__ import annotations

import random
from collections.abc import Iterator

from syndarix_rt.delivery.backoff import backoff

__all__ = ["pauses"]


def pauses() -> Iterator[float]:
    """Seconds between attempts: up to 50 ms, doubling to 1 s. A restart is met soon, a long absence costs little."""
    return backoff(random.Random(), first_s=0.05, cap_s=1.0)  # noqa: S311 - spreads attempts, guards nothing
