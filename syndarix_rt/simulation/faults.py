"""Faults in one world: they begin as the scenario plans or a command says, last for a time, and end.

Each is seen in the stream as a ``fault_started`` and a ``fault_ended``. Faults of one kind may overlap: runners come
back when the last outage is over, of brownouts the latest counts, and the factors of storms multiply.
"""

from __future__ import annotations

import math
from collections.abc import Generator
from typing import TYPE_CHECKING, Any

import simpy

from syndarix_rt.simulation.settings import AnyFault, CiOutage, IncidentStorm, ProviderBrownout

if TYPE_CHECKING:
    from syndarix_rt.simulation.world import World

__all__ = ["Faults"]


class Faults:
    """What goes wrong in a world."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._storms: dict[str, float] = {}
        """The factors of those that rage now, by the event that began each."""

    def plan(self, fault: AnyFault) -> None:
        """Let it happen at its time, or now if that is over or not given."""
        self._world.env.process(self._happen(fault))

    def _happen(self, fault: AnyFault) -> Generator[simpy.Event, Any, None]:
        world = self._world
        if fault.at_h is not None and fault.at_h * 3.6e9 > world.env.now:
            yield world.wait(fault.at_h * 3600 - world.env.now / 1e6)
        fault_id = world.new_id("fault")
        about = {"fault_id": fault_id, "minutes": fault.minutes, "kind": type(fault).__struct_config__.tag}
        started = world.emit("fault_started", about, fault_id, None)
        self._begin(fault, started)
        yield world.wait(fault.minutes * 60)
        world.emit("fault_ended", about, fault_id, started)
        self._end(fault, started)

    def _begin(self, fault: AnyFault, event_id: str) -> None:
        world = self._world
        match fault:
            case CiOutage():
                world.runners.down()
                while world.pipelines:  # Each is told once, also if another outage begins in the same instant.
                    world.pipelines.popitem()[1].process.interrupt(event_id)
            case ProviderBrownout():
                world.provider.brownout(fault.latency_factor, fault.error_share)
            case IncidentStorm():
                self._storms[event_id] = fault.rate_factor
                self._set_storm()

    def _end(self, fault: AnyFault, event_id: str) -> None:
        match fault:
            case CiOutage():
                self._world.runners.up()
            case ProviderBrownout():
                self._world.provider.recover()
            case IncidentStorm():
                del self._storms[event_id]
                self._set_storm()

    def _set_storm(self) -> None:
        latest = next(reversed(self._storms), None)
        self._world.set_storm(math.prod(self._storms.values()), latest)
