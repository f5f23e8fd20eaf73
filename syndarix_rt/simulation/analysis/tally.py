"""`Tally`: what was counted and measured, by the key of the constant that it is evidence for."""

from __future__ import annotations

from collections import Counter, defaultdict

__all__ = ["Tally"]


class Tally:
    """Values and shares, empty at first.

    Attributes:
        samples: durations, sizes and counts, in the unit of the key.
        still_open: of people's waits that were not over, how long they had lasted, in the unit of the key.
        shares: how often something happened, how often it could have, and of how many observations that is the sum.
        open: what was still going on at the end, by what it is.
        logs: of each run, logarithms of the durations of its LLM calls.
        hours: how long each project was seen, summed.
        arrived: number of issues, requests, pull requests, and of developers' runs that began a piece of work.
        peaks: most runs by role, and most ``pipelines``, that were going on at once in a project.
        models: LLM calls by the model that was asked.
    """

    def __init__(self) -> None:
        self.samples: dict[str, list[float]] = defaultdict(list)
        self.still_open: dict[str, list[float]] = defaultdict(list)
        self.shares: dict[str, tuple[float, float, int]] = {}
        self.open: Counter[str] = Counter()
        self.logs: list[list[float]] = []
        self.hours = 0.0
        self.arrived: Counter[str] = Counter()
        self.peaks: Counter[str] = Counter()
        self.models: Counter[str] = Counter()

    def count(self, name: str, yes: float, all_: float) -> None:
        """Something happened ``yes`` times of ``all_`` that it could have."""
        yes_before, all_before, n = self.shares.get(name, (0.0, 0.0, 0))
        self.shares[name] = yes_before + yes, all_before + all_, n + 1
