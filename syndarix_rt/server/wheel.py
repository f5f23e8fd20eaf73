"""`Wheel`: when which stream must be looked at, without a timer for each.

Streams stand in slots of time, and a slot is emptied when its time has come. That is lazy: a write that makes a
keepalive needless moves nothing; the stream is looked at anyway, and put where its next date is.
"""

from __future__ import annotations

import math
from typing import Generic, Protocol, TypeVar

__all__ = ["Tended", "Wheel"]


class Tended(Protocol):
    """What stands in a wheel."""

    slot: int | None
    """Where it stands; the wheel's own."""


T = TypeVar("T", bound=Tended)


class Wheel(Generic[T]):
    """Slots of ``slot_s`` seconds; times are of one monotonic clock, the caller's."""

    def __init__(self, slot_s: float, now_s: float) -> None:
        self.slot_s = slot_s
        self._slots: dict[int, list[T]] = {}
        self._next = math.floor(now_s / slot_s)

    def put(self, tended: T, due_s: float) -> None:
        """Let it be looked at at ``due_s``, or a slot later. What is looked at earlier anyway stays where it is."""
        slot = max(self._next, math.ceil(due_s / self.slot_s))
        if tended.slot is None or slot < tended.slot:
            tended.slot = slot
            self._slots.setdefault(slot, []).append(tended)

    def take(self, now_s: float) -> list[T]:
        """Take out what is due."""
        due: list[T] = []
        last = math.floor(now_s / self.slot_s)
        for slot in range(self._next, last + 1):
            for tended in self._slots.pop(slot, ()):
                if tended.slot == slot:  # else it was put into an earlier one meanwhile
                    tended.slot = None
                    due.append(tended)
        self._next = max(self._next, last + 1)
        return due
