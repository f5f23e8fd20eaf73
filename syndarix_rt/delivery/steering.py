"""What goes over a run's control channel: events of three types, each with a JSON-RPC 2.0 message as its payload.

=====================  ==========================================================================================
type                   payload
=====================  ==========================================================================================
``control_request``    a request or notification to the run
``control_answer``     its answer
``control_notice``     a notification to everybody: ``run.state``, ``run.stopped``, both with a `RunState`
=====================  ==========================================================================================

The event's ``project`` is the one through which a run is steered; a run plays into it, or does not listen.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal

import msgspec

__all__ = ["ANSWER", "NOTICE", "REQUEST", "SOURCE", "Notice", "RunState", "Stop", "described"]

REQUEST = "control_request"
ANSWER = "control_answer"
NOTICE = "control_notice"

SOURCE = "/syndarix-rt/control"
"""The ``source`` of all of them."""


class Stop(msgspec.Struct, frozen=True, omit_defaults=True):
    """Why a run stands."""

    reason: Literal["pause", "step", "breakpoint"]
    event: dict[str, Any] | None = None
    """Of a breakpoint: ``id``, ``type``, ``time``, ``subject`` and ``position`` of the event that matched, which is the
    last one that was published."""
    breakpoint: int | None = None
    """Which one of the run's breakpoints it was, from 0."""


class RunState(msgspec.Struct, frozen=True, kw_only=True):
    """A run as it is now, seen from one of its projects."""

    run: str
    """Its id."""
    project: str
    state: Literal["playing", "paused", "stepping", "ended", "cancelled", "failed", "unknown"]
    """As a `Player`'s; ``unknown``: it plays into the project, and does not answer."""
    name: str = ""
    """What it plays, for a person."""
    speed: float | Literal["max"] | None = None
    """Simulated seconds per wall second."""
    published: int = 0
    """Events, in all its projects."""
    left_out: int = 0
    """Its decisions that were not published because a person's came first."""
    time: datetime | None = None
    """The simulated time at which it stands."""
    position: str | None = None
    """Where its last event stands."""
    lag_s: float = 0.0
    """How late its newest batch was, wall seconds."""
    simulation: str | None = None
    """The simulation's id; None: it plays events that are there already, and nothing can be injected."""
    breakpoints: list[dict[str, Any]] = []
    stopped: Stop | None = None
    """Why it stands; None while it plays."""


class Notice(msgspec.Struct, frozen=True):
    """What a run tells everybody who is attached to it."""

    method: Literal["run.state", "run.stopped"]
    params: RunState

    @property
    def state(self) -> RunState:
        """The run as it was then."""
        return self.params


def described(state: RunState) -> str:
    """How a run stands, in a line for people."""
    words: dict[Literal["playing", "paused", "stepping", "ended", "cancelled", "failed", "unknown"], str] = {
        "playing": "plays",
        "paused": "stands",
        "stepping": "steps",
    }
    text = words.get(state.state, state.state)
    if state.stopped is not None and state.stopped.event is not None:
        text += f" at a breakpoint ({state.stopped.event['type']})"
    if state.time is not None:
        text += f" at {state.time:%Y-%m-%d %H:%M:%S} of simulated time"
    return f"{text}, {state.published:,} events published"
