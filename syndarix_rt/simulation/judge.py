"""`Judge`: what the checkers of runs, issues and changes have in common."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from syndarix_rt.events import Event

__all__ = ["TOLERANCE_S", "Handlers", "Judge"]

Handlers = dict[str, Callable[[Event, dict[str, Any]], None]]
"""By type of event, who judges it."""

TOLERANCE_S = 0.001
"""Simulated times are exact; real reporters round durations to milliseconds."""


class Judge:
    """Judges some types of the events of one project in one simulation.

    Args:
        violated: called with invariant, event and reason.
        partial: whether things may have happened before the first event.

    Attributes:
        handlers: of the types it judges.
    """

    handlers: Handlers

    def __init__(self, violated: Callable[[str, Event, str], None], *, partial: bool) -> None:
        self._violated = violated
        self._partial = partial

    def _unseen(self, invariant: str, event: Event, reason: str) -> None:
        """What should have come before was not seen: a violation, unless the stream began later than that."""
        if not self._partial:
            self._violated(invariant, event, reason)
