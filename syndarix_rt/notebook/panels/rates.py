"""Tokens and money, as events come. Events themselves are counted by `syndarix_rt.notebook.metrics.EventRate`."""

from __future__ import annotations

from typing import Any, Final

from syndarix_rt.notebook.metrics import Levels, Sums
from syndarix_rt.notebook.panels.sighting import Sighting

__all__ = ["COST_SERIES", "TOKEN_SERIES", "Cost", "Tokens"]

TOKEN_SERIES: list[dict[str, Any]] = [
    {"name": "output", "color": "#E69F00"},
    {"name": "input", "color": "#0072B2"},
    {"name": "input from cache", "color": "#8CC8EE"},
]
"""From the baseline up: what costs most first."""

COST_SERIES: list[dict[str, Any]] = [
    {"name": "developer", "color": "#0072B2"},
    {"name": "planner", "color": "#CC79A7"},
    {"name": "tester", "color": "#E69F00"},
    {"name": "reviewer", "color": "#009E73"},
    {"name": "other roles", "color": "#7F8792"},
]

_ROLES = {line["name"]: column for column, line in enumerate(COST_SERIES)}

_OUTPUT, _INPUT, _CACHED = range(3)


class Tokens(Sums):
    """Tokens of LLM calls, in the bin in which the call ends: that is when an event tells of them."""

    types: Final = ("agent_activity",)

    def __init__(self, *, bin_s: float = 1.0, bins: int = 602, unit_s: float = 1.0) -> None:
        super().__init__(len(TOKEN_SERIES), bin_s=bin_s, bins=bins, unit_s=unit_s)

    def see(self, event: Sighting, time_s: float) -> None:
        """Count what a call took and gave."""
        data = event.data
        put_in = data.get("gen_ai.usage.input_tokens") or 0
        cached = min(data.get("cached_tokens") or 0, put_in)
        output = data.get("gen_ai.usage.output_tokens") or 0
        if put_in or output:
            self.count(time_s, ((_OUTPUT, output), (_INPUT, put_in - cached), (_CACHED, cached)))


class Cost(Levels):
    """US dollars spent so far by role, as far as they were seen: a gap may hide some."""

    types: Final = ("agent_activity",)

    def __init__(self, *, bin_s: float = 1.0, bins: int = 602) -> None:
        super().__init__(len(COST_SERIES), bin_s=bin_s, bins=bins)

    def see(self, event: Sighting, time_s: float) -> None:
        """Add what a call cost."""
        cost_usd = event.data.get("cost_usd")
        if cost_usd:
            spent = self._levels
            spent[_ROLES.get(event.data["role"], len(spent) - 1)] += cost_usd
            self.set(time_s, spent)

    def begin(self) -> None:
        """Nothing is spent yet."""
        self._levels = [0.0] * len(COST_SERIES)
