"""`read_events`: the events of whatever is given as events; what is none gets one clear line."""

from __future__ import annotations

import os
import reprlib
from collections.abc import Iterable, Iterator

from syndarix_rt.errors import SyndarixError
from syndarix_rt.events import Event
from syndarix_rt.simulation.simulation import Simulation

__all__ = ["read_event", "read_events", "refuse_other_than_events"]

_FROM_A_FILE = "a recording is read with read_recording(path) of syndarix_rt.playback"


def refuse_other_than_events(events: object) -> None:
    """Say what is wrong with something that should be a stream of events, before one is taken from it.

    Raises:
        SyndarixError: it is a path or nothing to iterate over, or a simulation without a horizon, which never ends.
    """
    if isinstance(events, str | bytes | os.PathLike) or not isinstance(events, Iterable):
        raise SyndarixError(f"expected events, not {reprlib.repr(events)}; {_FROM_A_FILE}")
    if isinstance(events, Simulation) and events.scenario.horizon_h is None:
        raise SyndarixError(
            f"{events.scenario.name}: this simulation never ends; take so many events with itertools.islice, "
            "or give its scenario a horizon_h"
        )


def read_event(event: Event | bytes) -> Event:
    """The event, a line of JSON decoded.

    Raises:
        EventError: the bytes are no event.
        SyndarixError: it is neither event nor bytes.
    """
    if isinstance(event, Event):
        return event
    if isinstance(event, bytes):
        return Event.decode(event)
    raise SyndarixError(f"expected events or lines of bytes, not {reprlib.repr(event)}; {_FROM_A_FILE}")


def read_events(events: Iterable[Event | bytes]) -> Iterator[Event]:
    """The events, lines of JSON decoded.

    Raises:
        EventError: bytes are no event.
        SyndarixError: they are none, such as a path, or those of a simulation without a horizon, which never ends.
    """
    refuse_other_than_events(events)
    yield from map(read_event, events)
