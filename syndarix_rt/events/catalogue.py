"""The catalogue: which event types exist, in which category, with which payload.

17 core types and two extensions of ours. Every other lower_snake_case name with an underscore is a *custom* type: its
envelope is checked, its payload may be any JSON object, and it belongs to no category.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from syndarix_rt.events.payloads import (
    AgentActivity,
    AgentEnd,
    AgentStarted,
    ApprovalRequired,
    ApprovalResolved,
    Branch,
    Commit,
    Issue,
    Payload,
    Pipeline,
    PullRequest,
    Sprint,
)

__all__ = ["CATALOGUE", "CATEGORIES", "CORE_TYPES", "TYPE_PATTERN", "EventType", "category_of"]

TYPE_PATTERN = re.compile(r"[a-z][a-z0-9]*(?:_[a-z0-9]+)+")
"""Lower snake case with at least one underscore: so a type is never mistaken for a category in a filter."""


class EventType(NamedTuple):
    """One line of the catalogue."""

    name: str
    category: str
    payload: type[Payload]
    extension: bool = False
    """Whether it is ours, beyond the core 17."""


CATALOGUE: dict[str, EventType] = {
    line.name: line
    for line in (
        EventType("agent_started", "agent", AgentStarted),
        EventType("agent_activity", "agent", AgentActivity),
        EventType("agent_completed", "agent", AgentEnd),
        EventType("agent_error", "agent", AgentEnd),
        EventType("issue_created", "project", Issue),
        EventType("issue_updated", "project", Issue),
        EventType("issue_closed", "project", Issue),
        EventType("branch_created", "git", Branch),
        EventType("commit_pushed", "git", Commit),
        EventType("pr_created", "git", PullRequest),
        EventType("pr_merged", "git", PullRequest),
        EventType("pr_closed", "git", PullRequest, extension=True),
        EventType("approval_required", "workflow", ApprovalRequired),
        EventType("approval_resolved", "workflow", ApprovalResolved, extension=True),
        EventType("sprint_started", "workflow", Sprint),
        EventType("sprint_completed", "workflow", Sprint),
        EventType("pipeline_started", "pipeline", Pipeline),
        EventType("pipeline_completed", "pipeline", Pipeline),
        EventType("pipeline_failed", "pipeline", Pipeline),
    )
}
"""All catalogue types by name, in the order of their categories."""

CORE_TYPES = tuple(line.name for line in CATALOGUE.values() if not line.extension)
"""The 17 core types."""

CATEGORIES = tuple(dict.fromkeys(line.category for line in CATALOGUE.values()))
"""``agent``, ``project``, ``git``, ``workflow``, ``pipeline``."""


def category_of(event_type: str) -> str | None:
    """The category of a catalogue type; None for a custom one."""
    line = CATALOGUE.get(event_type)
    return line.category if line else None
