"""`Agenda`: SimPy's environment, with a short way for what happens most often: something waits, and then goes on.

An event of SimPy has a value, callbacks and a process behind them; a run of an agent needs none of that, and waits a
hundred times as often as anything else. Both stand in one queue and are counted together, so their order is SimPy's.
"""

from __future__ import annotations

import math
from collections.abc import Generator
from heapq import heapify, heappop, heappush, heapreplace
from operator import attrgetter
from types import GeneratorType
from typing import TYPE_CHECKING

import simpy
from simpy.events import NORMAL

__all__ = ["Agenda", "Waits"]

Waits = Generator[int, None, None]
"""Yields how long to wait, in microseconds."""


class Agenda(simpy.Environment):
    """Simulated time in whole microseconds, from 0, and what is to happen in it."""

    if not TYPE_CHECKING:
        now = property(attrgetter("_now"), doc="The current simulated time.")  # SimPy's calls back into Python

    def __init__(self) -> None:
        super().__init__(initial_time=0)

    def begin(self, steps: Waits) -> None:
        """Let something go on to its first wait now, from there when that is over, and so on.

        Closing the generator ends it; what it was waiting for then passes unnoticed.
        """
        delay_us = next(steps, None)
        if delay_us is not None:
            # What SimPy does for a timeout, without the timeout.
            heappush(self._queue, (self._now + delay_us, NORMAL, next(self._eid), steps))  # type: ignore[misc] # no event

    def advance(self) -> float:
        """The next occurrence; returns the time of the one after it, infinity if there is none."""
        queue = self._queue
        entry = queue[0]
        steps: object = entry[3]
        if type(steps) is GeneratorType:
            self._now = now_us = entry[0]
            delay_us = next(steps, None)  # as in begin; a call less
            if delay_us is not None and queue[0] is entry:
                # One sift instead of two, for going out and coming in.
                heapreplace(queue, (now_us + delay_us, NORMAL, next(self._eid), steps))  # type: ignore[misc] # see there
            else:
                if queue[0] is entry:
                    heappop(queue)
                else:  # it set off a process of SimPy, which comes before all else of this instant
                    queue.remove(entry)
                    heapify(queue)
                if delay_us is not None:
                    heappush(queue, (now_us + delay_us, NORMAL, next(self._eid), steps))  # type: ignore[misc]
        else:
            super().step()
        return queue[0][0] if queue else math.inf

    def step(self) -> None:
        """The next occurrence; for `run`."""
        self.advance()
