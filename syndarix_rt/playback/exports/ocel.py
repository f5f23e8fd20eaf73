"""OCEL 2.0: an object-centric event log in JSON, for process mining (pm4py, OCPQ, ProM …).

https://www.ocel-standard.org. Every event is related to all objects that it names, each with a qualifier: what the
event does to the object that it is about (``opens`` a pull request), how it stands to the others (``by`` an agent).
That object keeps the event's other fields as attributes with the time at which they changed, a ``state`` among them,
and is related to the objects before it in the order below that the event names: a pipeline to its commit, an issue to
each of its sprints.

An object's id is ``<type>:<project>/<id>``, since agents of two projects may have the same name. Attributes are called
as the fields of :mod:`syndarix_rt.events.payloads`. Their values are written as strings, whatever their declared type,
because the standard's JSON schema demands it; readers go by the declaration.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import IO, Any

import msgspec

from syndarix_rt.events import CATALOGUE, Event
from syndarix_rt.playback.output import whole_file

__all__ = ["write_ocel"]

_OBJECTS = {
    "project": ("project", "in"),
    "sprint": ("sprint_id", "in"),
    "issue": ("issue_id", "for"),
    "agent": ("agent_id", "by"),
    "run": ("run_id", "in"),
    "branch": ("branch", "on"),
    "commit": ("commit", "of"),
    "pr": ("pr_id", "for"),
    "pipeline": ("pipeline_id", "by"),
    "approval": ("approval_id", "after"),
}
"""Each object type: the key that names an object of it, and how others stand to it. In the order of belonging."""

_KEYS = {key: kind for kind, (key, _) in _OBJECTS.items() if kind != "project"}
"""Those of payloads; a project stands beside them."""

_ABOUT = {
    "agent_started": ("run", "starts", "running"),
    "agent_activity": ("run", "goes on", None),
    "agent_completed": ("run", "completes", "completed"),
    "agent_error": ("run", "breaks off", "failed"),
    "issue_created": ("issue", "creates", "open"),
    "issue_updated": ("issue", "updates", None),
    "issue_closed": ("issue", "closes", "closed"),
    "branch_created": ("branch", "creates", None),
    "commit_pushed": ("commit", "pushes", None),
    "pr_created": ("pr", "opens", "open"),
    "pr_merged": ("pr", "merges", "merged"),
    "pr_closed": ("pr", "closes", "closed"),
    "approval_required": ("approval", "asks", "pending"),
    "approval_resolved": ("approval", "decides", "resolved"),
    "sprint_started": ("sprint", "starts", "running"),
    "sprint_completed": ("sprint", "completes", "completed"),
    "pipeline_started": ("pipeline", "starts", "running"),
    "pipeline_completed": ("pipeline", "completes", "completed"),
    "pipeline_failed": ("pipeline", "fails", "failed"),
}
"""Each catalogue type: which object it is about, what it does to it, and the state of that object from then on."""

assert _ABOUT.keys() == CATALOGUE.keys()

_NAMES = {
    field.encode_name: field.name for line in CATALOGUE.values() for field in msgspec.structs.fields(line.payload)
}


def write_ocel(path: str | os.PathLike[str], events: Iterable[Event]) -> int:
    """Write events as an OCEL 2.0 document; returns their number.

    Events are written as they come; what is held in memory are the objects and the changes of their attributes.

    Raises:
        RecordingError: the file cannot be written.
    """
    log = _Log()
    with whole_file(path) as file:
        file.write(b'{"events":[')
        count = _write_items(file, map(log.event, events))
        file.write(b'],\n"objects":[')
        _write_items(file, (found.document(name) for name, found in log.objects.items()))
        file.write(b'],\n"eventTypes":[')
        _write_items(file, _declarations(log.event_types))
        file.write(b'],\n"objectTypes":[')
        _write_items(file, _declarations(log.object_types))
        file.write(b"]}\n")
    return count


def _write_items(file: IO[bytes], items: Iterable[dict[str, Any]]) -> int:
    count = 0
    for count, item in enumerate(items, 1):
        file.write((b",\n" if count > 1 else b"\n") + msgspec.json.encode(item))
    return count


class _Object:
    """One object: its attributes with every change, and the objects that it belongs to or came from."""

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self._values: dict[str, str] = {}
        self._changes: list[bytes] = []
        self._relations: dict[str, str] = {}

    def change(self, time: Any, values: dict[str, str]) -> None:
        """Set attributes from a time on; those that stay as they are make no change."""
        for name, value in values.items():
            if self._values.get(name) != value:
                self._values[name] = value
                self._changes.append(msgspec.json.encode({"name": name, "time": time, "value": value}))

    def relate(self, relations: Iterable[tuple[str, str]]) -> None:
        """Relate it to objects, each given by its name and the qualifier."""
        self._relations |= relations

    def document(self, name: str) -> dict[str, Any]:
        """As OCEL has it."""
        return {
            "id": name,
            "type": self.kind,
            "attributes": [msgspec.Raw(change) for change in self._changes],
            "relationships": _relationships(self._relations.items()),
        }


class _Log:
    """What the events are about.

    Attributes:
        objects: by their names.
        event_types: of each type of events the attributes and their types; ``object_types`` the same of objects.
    """

    def __init__(self) -> None:
        self.objects: dict[str, _Object] = {}
        self.event_types: dict[str, dict[str, str]] = {}
        self.object_types: dict[str, dict[str, str]] = {}

    def event(self, event: Event) -> dict[str, Any]:
        """The event as OCEL has it; its objects are brought up to date."""
        about, verb, state = _ABOUT.get(event.type, (None, "", None))
        ids = {"project": event.project}
        ids |= {_KEYS[key]: value for key, value in event.data.items() if key in _KEYS and isinstance(value, str)}
        names = {kind: _name(kind, event.project, ids[kind]) for kind in _OBJECTS if kind in ids}
        for kind, name in names.items():
            if name not in self.objects:
                self.objects[name] = _Object(kind)
                self.object_types.setdefault(kind, {})
        fields = {_NAMES.get(key, key): value for key, value in event.data.items() if _KEYS.get(key) not in ids}
        fields = {name: value for name, value in fields.items() if value is not None}
        if about is not None:
            main = self.objects[names[about]]
            above = list(_OBJECTS)[: list(_OBJECTS).index(about)]
            main.relate((names[kind], _OBJECTS[kind][1]) for kind in above if kind in names)
            if event.type != "agent_activity":  # which is about one call: its duration is not the run's
                self._change(main, event, {**({} if state is None else {"state": state}), **fields})
        if event.type == "agent_started":
            self._change(self.objects[names["agent"]], event, {"role": event.data["role"]})
        if event.simulation is not None:
            self._change(self.objects[names["project"]], event, {"simulation": event.simulation})
        if event.cause is not None:
            fields["cause"] = event.cause
        _declare(self.event_types.setdefault(event.type, {}), fields)
        qualified = [(name, verb if kind == about else _OBJECTS[kind][1]) for kind, name in names.items()]
        return {
            "id": event.id,
            "type": event.type,
            "time": event.time,
            "attributes": [{"name": name, "value": _text(value)} for name, value in fields.items()],
            "relationships": _relationships(qualified),
        }

    def _change(self, found: _Object, event: Event, fields: dict[str, Any]) -> None:
        _declare(self.object_types[found.kind], fields)
        found.change(event.time, {name: _text(value) for name, value in fields.items()})


def _name(kind: str, project: str, local: str) -> str:
    return f"project:{project}" if kind == "project" else f"{kind}:{project}/{local}"


def _relationships(pairs: Iterable[tuple[str, str]]) -> list[dict[str, str]]:
    return [{"objectId": name, "qualifier": qualifier} for name, qualifier in pairs]


def _text(value: Any) -> str:
    return value if isinstance(value, str) else msgspec.json.encode(value).decode()


def _declare(known: dict[str, str], fields: dict[str, Any]) -> None:
    """Widen the declared types of attributes so that these values are of them."""
    kinds = {bool: "boolean", int: "integer", float: "float"}
    for name, value in fields.items():
        kind = kinds.get(type(value), "string")
        before = known.setdefault(name, kind)
        if kind != before:
            known[name] = "float" if {kind, before} == {"integer", "float"} else "string"


def _declarations(types: dict[str, dict[str, str]]) -> Iterable[dict[str, Any]]:
    for name, attributes in types.items():
        yield {"name": name, "attributes": [{"name": name, "type": kind} for name, kind in attributes.items()]}
