"""`Timeline`: the events of one dashboard, each at its time on the axis, given to every panel that wants it."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Protocol

from syndarix_rt.notebook.panels.sighting import Sighting

__all__ = ["Panel", "Timeline"]

MAX_SIMULATIONS = 1000
"""Simulations that are remembered as not to be followed any more."""


class Panel(Protocol):
    """Something that counts what it sees. All times are on the axis, seconds since 1970."""

    version: int
    """Grows with every change."""

    @property
    def types(self) -> Sequence[str] | None:
        """The types of event it wants; None: all."""

    def see(self, event: Sighting, time_s: float) -> None:
        """An event came."""

    def prove(self, time_s: float) -> None:
        """An event of this time came, whether the panel saw it or not."""

    def advance(self, now_s: float) -> None:
        """The stream is open at ``now_s``: what it has not brought has not happened."""

    def gap(self, now_s: float, label: str) -> None:
        """Something was lost after the newest event and before ``now_s``."""

    def begin(self) -> None:
        """The log begins anew with the next event: whatever there was before it, it is no more."""

    def clear(self) -> None:
        """Forget everything, as time itself begins anew."""


class Timeline:
    """Puts events on an axis: that of their publication, or that of simulated time.

    Simulated time belongs to one simulation. Without a choice it is the newest that began, and with each that begins,
    or is begun again, the axis begins anew.

    Args:
        panels: what counts.
        simulated: whether the axis is simulated time.
        simulation: only events of this simulation count.

    Attributes:
        following: the simulation whose time it is; None on an axis of publication, and as long as there is none.
        newest_s: time of the newest event on the axis; NaN before the first.
        event_time: the time of the event that came last, simulated or real; None before the first.
        start_s: when the simulation began whose time it is; None as long as that was not seen.
        fault: what a panel raised, as kept by who shows it events; None as long as all is well.
    """

    def __init__(self, panels: Sequence[Panel], *, simulated: bool = False, simulation: str | None = None) -> None:
        self.following: str | None = None
        self.newest_s = math.nan
        self.event_time: datetime | None = None
        self.start_s: float | None = None
        self.fault: Exception | None = None
        self.simulated = simulated
        self._panels = list(panels)
        self._simulation = simulation
        self._former: dict[str, None] = {}
        self._resuming = False
        self._lost = ""  # label of a gap whose end on the simulated axis the next event tells
        self._all = [panel.see for panel in panels if panel.types is None]
        wanted = {name for panel in panels for name in panel.types or ()}
        self._see: dict[str, list[Callable[[Sighting, float], None]]] = {
            name: [panel.see for panel in panels if panel.types is None or name in panel.types] for name in wanted
        }

    def now_s(self, wall_s: float) -> float:
        """Where the axis ends, at a wall time."""
        return self.newest_s if self.simulated else wall_s

    def add(self, event: Sighting, offset: int, received_s: float) -> None:
        """An event came.

        Args:
            event: what came.
            offset: where it stands in its log.
            received_s: when it came, wall time.
        """
        self.event_time = event.time
        if offset == 1:
            self._begin()
        if self.simulated:
            if not self._follows(event):
                return
            time_s = event.time.timestamp()
            if event.cause is None and time_s < self.newest_s:  # an echo of the beginning: it is played once more
                self._clear()
            if event.type == "sprint_started" and event.data.get("number") == 1:
                self.start_s = time_s
            if self._lost:
                self._lose(time_s, self._lost)
                self._lost = ""
        else:
            # Nothing is published after it came, whatever the publisher's clock says.
            time_s = min((event.recordedtime or event.time).timestamp(), received_s)
        if not time_s <= self.newest_s:
            self.newest_s = time_s
        if self._resuming:
            self._resuming = False
            for panel in self._panels:
                panel.prove(time_s)
        if self._simulation in (None, event.simulation):
            for see in self._see.get(event.type, self._all):
                see(event, time_s)

    def gap(self, now_s: float, label: str) -> None:
        """Something was lost before ``now_s``, wall time."""
        if self.simulated:
            self._lost = label
        else:
            self._lose(now_s, label)

    def advance(self, wall_s: float) -> None:
        """The stream is open at a wall time."""
        now_s = self.now_s(wall_s)
        if not math.isnan(now_s):
            for panel in self._panels:
                panel.advance(now_s)

    def _follows(self, event: Sighting) -> bool:
        """Whether an event belongs to the simulation that is followed, or to a new one that will be from now on."""
        simulation = event.simulation
        if simulation == self.following:
            return simulation is not None
        if simulation is None or simulation in self._former or self._simulation not in (None, simulation):
            return False
        if self.following is not None:
            self._former[self.following] = None
            if len(self._former) > MAX_SIMULATIONS:
                del self._former[next(iter(self._former))]
        self.following = simulation
        self._clear()
        return True

    def _lose(self, now_s: float, label: str) -> None:
        for panel in self._panels:
            if not math.isnan(self.newest_s):
                panel.prove(self.newest_s)
            panel.gap(now_s, label)
        self._resuming = True

    def _begin(self) -> None:
        self._former.clear()
        self.following = None
        if self.simulated:
            self._clear()
        else:
            for panel in self._panels:
                panel.begin()

    def _clear(self) -> None:
        self.newest_s = math.nan
        self.start_s = None
        self._lost = ""
        self._resuming = False
        for panel in self._panels:
            panel.clear()
