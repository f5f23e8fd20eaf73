"""`Inspection`: what the events that were published say about a project, to be looked at while a run stands.

It follows the events, not the simulation, which is ahead of them by what was read already. So it says the same at the
same place of a run, of a recording as of a simulation.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

from syndarix_rt.events import Event

__all__ = ["ENTITIES", "Inspection"]

KEPT = 200
"""Entities of each kind that are over and still known; how the last ones ended is what people ask."""

UNREAD = 500
"""Activities of an agent that nobody has looked at; the model's runs have fewer."""

LISTED = 50
"""Entities in a list at most; the newest."""

_KINDS = {
    "agent_run": ("run_id", {"agent_started": "working", "agent_completed": "completed", "agent_error": "failed"}),
    "issue": ("issue_id", {"issue_created": "open", "issue_closed": "closed"}),
    "pr": ("pr_id", {"pr_created": "open", "pr_merged": "merged", "pr_closed": "closed"}),
    "pipeline": (
        "pipeline_id",
        {"pipeline_started": "running", "pipeline_completed": "completed", "pipeline_failed": "failed"},
    ),
    "approval": ("approval_id", {"approval_required": "pending", "approval_resolved": "resolved"}),
    "sprint": ("sprint_id", {"sprint_started": "running", "sprint_completed": "completed"}),
    "fault": ("fault_id", {"fault_started": "active", "fault_ended": "over"}),
}
"""Of each kind: where its id is, and which state an event brings it into."""

_OVER = {"completed", "failed", "closed", "merged", "resolved", "over"}
_STEPS = {event: (kind, key, state) for kind, (key, states) in _KINDS.items() for event, state in states.items()}
_STEPS["issue_updated"] = ("issue", "issue_id", "")

ENTITIES = (
    "run, project, queues, agents, agent:ID, "
    + ", ".join(f"{kind}s" for kind in _KINDS)
    + " (what is not over), "
    + ", ".join(f"{kind}:ID" for kind in _KINDS)
)
"""What can be asked for, for a person."""


class Inspection:
    """One project."""

    def __init__(self, project: str) -> None:
        self._project = project
        self._counts: Counter[str] = Counter()
        self._latest: Event | None = None
        self._open: dict[str, dict[str, dict[str, Any]]] = {kind: {} for kind in _KINDS}
        self._over: dict[str, dict[str, dict[str, Any]]] = {kind: {} for kind in _KINDS}
        self._agents: dict[str, dict[str, Any]] = {}
        self._activities: dict[str, list[Event]] = {}
        """Those of the current run of each agent that works, as far as they are not counted yet."""

    def add(self, event: Event) -> None:
        """Take the next event of the project."""
        event_type = event.type
        self._counts[event_type] += 1
        self._latest = event
        if event_type == "agent_activity":  # three of four events: kept, and read when somebody looks
            activities = self._activities.get(event.data["agent_id"])
            if activities is None:
                activities = self._activities[event.data["agent_id"]] = []
            activities.append(event)
            if len(activities) > UNREAD:
                self._count(event.data["agent_id"])
            return
        step = _STEPS.get(event_type)
        if step is None:
            return
        kind, key, state = step
        data = event.data
        entity_id = data.get(key)
        if not isinstance(entity_id, str):  # of a custom type; those of the catalogue are checked
            return
        entities = self._open[kind]
        entity = entities.get(entity_id)
        if entity is None:
            entity = entities[entity_id] = {}
        entity.update(data)
        if kind == "issue":
            state = data.get("state") or state
        if state:
            entity["state"] = state
            entity["since"] = event.time
        entity["event"] = event.id
        if state in _OVER:
            over = self._over[kind]
            over.pop(entity_id, None)
            over[entity_id] = entities.pop(entity_id)
            if len(over) > KEPT:
                del over[next(iter(over))]
        if kind == "agent_run":
            self._follow_agent(event, data, state)

    def look(self, entity: str) -> Any:
        """What is known about an entity, as JSON; None if there is no such.

        Args:
            entity: one of `ENTITIES`, but not ``run``.
        """
        kind, _, entity_id = entity.partition(":")
        if not entity_id and kind.endswith("s"):
            return self._list(kind)
        if kind == "project" and entity_id in ("", self._project):
            return self._summary()
        if kind == "agent":
            return self._agent(entity_id) if entity_id in self._agents else None
        if kind in _KINDS:
            return self._open[kind].get(entity_id) or self._over[kind].get(entity_id)
        return None

    def _list(self, kind: str) -> Any:
        if kind == "queues":
            return self._queues()
        if kind == "agents":
            return {"count": len(self._agents), kind: [self._agent(name) for name in list(self._agents)[-LISTED:]]}
        known = self._open.get(kind.removesuffix("s"))
        if known is None:
            return None
        return {"count": len(known), kind: list(known.values())[-LISTED:]}

    def _agent(self, name: str) -> dict[str, Any]:
        self._count(name)
        return self._agents[name]

    def _count(self, name: str) -> None:
        """Read what an agent has done since it was last read."""
        agent = self._agents.get(name)
        activities = self._activities.pop(name, None)
        if agent is None or activities is None:
            return
        agent = self._agents[name] = dict(agent)  # whoever has looked has the old one
        for event in activities:
            data = event.data
            did = {"time": event.time, **{key: data[key] for key in _ACTIVITY if key in data}}
            agent["last"] = did
            tool = did.get("gen_ai.operation.name") == "execute_tool"
            if tool:
                agent["last_tool"] = did
            if did.get("status") == "error":
                agent["last_error"] = did
            agent["tool_calls" if tool else "llm_calls"] += 1
            agent["input_tokens"] += data.get("gen_ai.usage.input_tokens", 0)
            agent["output_tokens"] += data.get("gen_ai.usage.output_tokens", 0)
            agent["cost_usd"] += data.get("cost_usd", 0.0)

    @property
    def agents(self) -> list[str]:
        """All that have begun to work, in that order."""
        return list(self._agents)

    def newest(self, kind: str) -> list[dict[str, Any]]:
        """The entities of a kind that are known, over or not: the one that changed last first."""
        known = [*self._open[kind].values(), *self._over[kind].values()]
        return sorted((entity for entity in known if "since" in entity), key=lambda found: found["since"], reverse=True)

    def _summary(self) -> dict[str, Any]:
        latest = self._latest
        counts: dict[str, Any] = {kind + "s": len(entities) for kind, entities in self._open.items()}
        return {
            "project": self._project,
            "time": latest and latest.time,
            "event": latest and latest.id,
            "published": self._counts.total(),
            "types": dict(self._counts),
            "not_over": counts,
            "issues": dict(Counter(issue["state"] for issue in self._open["issue"].values() if "state" in issue)),
            "sprint": next(reversed(self._open["sprint"].values()), None),
        }

    def _queues(self) -> dict[str, Any]:
        """Who serves and who waits, by kind of server."""
        roles = Counter(str(agent["role"]) for agent in self._agents.values())
        busy = Counter(str(run.get("role")) for run in self._open["agent_run"].values())
        queues: dict[str, Any] = {role: {"seen": seen, "busy": busy[role]} for role, seen in sorted(roles.items())}
        queues["runner"] = {"busy": len(self._open["pipeline"])}
        queues["human"] = {"waiting": len(self._open["approval"])}
        return queues

    def _follow_agent(self, event: Event, data: dict[str, Any], state: str) -> None:
        name = data["agent_id"]
        self._count(name)
        agent = dict(self._agents.get(name) or {"agent_id": name, "role": data["role"], "runs": 0, **_TOTALS})
        self._agents[name] = agent
        if state == "working":
            agent["runs"] += 1
            agent |= {"state": state, "since": event.time, "run_id": data["run_id"], "issue_id": data.get("issue_id")}
            for last in ("last", "last_tool", "last_error"):
                agent.pop(last, None)
        else:
            agent |= {"state": "idle", "since": event.time, "ended": data["end_reason"]}


_TOTALS = {"llm_calls": 0, "tool_calls": 0, "input_tokens": 0, "output_tokens": 0, "cost_usd": 0.0}
"""What an agent has done in all its runs, the current one so far."""

_ACTIVITY = ("gen_ai.operation.name", "gen_ai.tool.name", "status", "error", "attempt", "duration_s", "backoff_s")
