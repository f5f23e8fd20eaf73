"""Commands: what may be said to a simulation between two of its steps, and the record of what was said.

A simulation without commands is decided by scenario, seed and start. A steered one is decided by these and its
:class:`Sent` commands, which are plain data: given to another `Simulation`, they make the same bytes again.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from syndarix_rt.simulation.section import Section
from syndarix_rt.simulation.settings import AnyFault, Count

__all__ = ["Command", "Decide", "Emit", "Inject", "Sent", "SetAgents"]

_Text = Annotated[str, Meta(min_length=1, max_length=200)]


class _Command(Section, frozen=True, kw_only=True, tag_field="command"):
    """Something to be done in one project."""

    project: str | None = None
    """Where; None: in the scenario's only project."""


class Inject(_Command, frozen=True, kw_only=True, tag="inject"):
    """Begin a fault: an outage of the runners, a brownout of the provider, a storm of incidents."""

    fault: AnyFault
    """Its ``at_h`` may be left out, which is now; else it counts from the beginning of the simulation."""


class Emit(_Command, frozen=True, kw_only=True, tag="emit"):
    """Put an event into the stream; nobody in the simulation reacts to it."""

    type: str
    data: dict[str, Any]


class Decide(_Command, frozen=True, kw_only=True, tag="decide"):
    """Decide about a pending approval, in place of the simulated human."""

    approval_id: str
    decision: Literal["approved", "rejected"]
    by: _Text
    comment: Annotated[str, Meta(max_length=4096)] = ""
    event_id: Annotated[str, Meta(pattern=r"^[A-Za-z0-9_-]{0,128}$(?!\n)")] = ""
    """The ``approval_resolved`` that stands in the project's log already; empty: the simulation makes one."""


class SetAgents(_Command, frozen=True, kw_only=True, tag="set_agents"):
    """Change how many agents work in a role; one that leaves ends its run first."""

    role: Literal["planner", "developer", "tester", "reviewer"]
    count: Count


Command = Inject | Emit | Decide | SetAgents
"""Anything that `Simulation.send` takes."""


class Sent(msgspec.Struct, frozen=True, kw_only=True):
    """A command, and where in the stream it was sent."""

    after: int
    """How many events had been taken."""
    at_us: int
    """The simulated time, in microseconds since the beginning."""
    command: Command
