from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime
from itertools import pairwise
from typing import Literal

import msgspec
import pandas as pd
import pytest
from event_strategies import events
from exporting import peak_mib, simulated
from hypothesis import given, settings
from hypothesis import strategies as st
from playback_clock import event_at

from syndarix_rt.events import Event
from syndarix_rt.playback.exports import write_ocel


@pytest.fixture(scope="module")
def demo():
    """1,500 events of a small team."""
    return simulated(1_500)


class Strict(msgspec.Struct, forbid_unknown_fields=True):
    """The structure that the JSON schema of OCEL 2.0 demands; that allows more, which we do not write."""


class Declaration(Strict):
    name: str
    type: Literal["string", "time", "integer", "float", "boolean"]


class TypeDeclaration(Strict):
    name: str
    attributes: list[Declaration]


class Relationship(Strict):
    objectId: str  # noqa: N815 - the standard's name
    qualifier: str


class EventAttribute(Strict):
    name: str
    value: str


class ObjectAttribute(Strict):
    name: str
    value: str
    time: datetime


class OcelEvent(Strict):
    id: str
    type: str
    time: datetime
    attributes: list[EventAttribute]
    relationships: list[Relationship]


class OcelObject(Strict):
    id: str
    type: str
    attributes: list[ObjectAttribute]
    relationships: list[Relationship]


class Ocel(Strict):
    eventTypes: list[TypeDeclaration]  # noqa: N815 - the standard's name
    objectTypes: list[TypeDeclaration]  # noqa: N815 - the standard's name
    events: list[OcelEvent]
    objects: list[OcelObject]


OF_TYPE = {"string": str, "integer": int, "float": float, "boolean": {"true": True, "false": False}.__getitem__}


def read_ocel(path):
    """The document, after all that the standard demands has been checked."""
    log = msgspec.json.decode(path.read_bytes(), type=Ocel)
    ids = {found.id for found in log.objects}
    assert len(ids) == len(log.objects)
    for items, types in ((log.events, log.eventTypes), (log.objects, log.objectTypes)):
        declared = {kind.name: {attribute.name: attribute.type for attribute in kind.attributes} for kind in types}
        assert len(declared) == len(types)
        for kind in types:
            assert len(declared[kind.name]) == len(kind.attributes)
        for item in items:
            for attribute in item.attributes:
                OF_TYPE[declared[item.type][attribute.name]](attribute.value)
            related = [(relation.objectId, relation.qualifier) for relation in item.relationships]
            assert len(set(related)) == len(related)
            assert {name for name, _ in related} <= ids
    return log


@settings(max_examples=50, deadline=None)
@given(stream=st.lists(events(), max_size=8))
def test_ocel_of_any_events_is_as_the_standard_demands(stream, tmp_path_factory):
    path = tmp_path_factory.mktemp("ocel") / "a.json"
    write_ocel(path, stream)
    log = read_ocel(path)
    assert [event.id for event in log.events] == [event.id for event in stream]
    for event, written in zip(stream, log.events, strict=True):
        assert written.time == event.time
        assert f"project:{event.project}" in {relation.objectId for relation in written.relationships}


def test_ocel_declares_a_type_that_all_values_of_an_attribute_have(tmp_path):
    path = tmp_path / "a.json"
    rows = [{"n": 1, "m": 1, "k": True, "j": 1}, {"n": 2.5, "m": 2, "k": False, "j": {"a": [1]}}, {"n": 3, "j": None}]
    write_ocel(path, [event_at(0, number, **row) for number, row in enumerate(rows)])
    log = read_ocel(path)
    (custom,) = log.eventTypes
    declared = {attribute.name: attribute.type for attribute in custom.attributes}
    assert declared == {"n": "float", "m": "integer", "k": "boolean", "j": "string"}
    values = [{attribute.name: attribute.value for attribute in event.attributes} for event in log.events]
    assert values[1] == {"n": "2.5", "m": "2", "k": "false", "j": '{"a":[1]}'}


def test_ocel_relates_an_event_to_every_object_that_it_names(demo, tmp_path):
    path = tmp_path / "a.json"
    write_ocel(path, demo)
    log = read_ocel(path)
    keys = {"issue_id": "issue", "run_id": "run", "agent_id": "agent", "pr_id": "pr", "commit": "commit"}
    for event, written in zip(demo, log.events, strict=True):
        related = {relation.objectId for relation in written.relationships}
        for key, kind in keys.items():
            assert key not in event.data or f"{kind}:{event.project}/{event.data[key]}" in related
    merges = [written for written in log.events if written.type == "pr_merged"]
    assert merges
    for written in merges:
        assert "merges" in {r.qualifier for r in written.relationships if r.objectId.startswith("pr:")}
    (pipeline, *_) = (found for found in log.objects if found.type == "pipeline")
    above = {relation.objectId.partition(":")[0]: relation.qualifier for relation in pipeline.relationships}
    assert above.items() >= {"project": "in", "issue": "for", "branch": "on", "commit": "of", "pr": "for"}.items()


def test_ocel_objects_of_two_projects_are_not_mistaken(tmp_path):
    path = tmp_path / "a.json"
    data = {"run_id": "r", "agent_id": "developer-1", "role": "developer"}
    about = {"time": datetime(2026, 1, 1, tzinfo=UTC)}
    write_ocel(
        path,
        [Event.new("agent_started", data, project=name, id=f"{name}-1", **about) for name in ("apollo", "zeus")],
    )
    agents = [found.id for found in read_ocel(path).objects if found.type == "agent"]
    assert agents == ["agent:apollo/developer-1", "agent:zeus/developer-1"]


def test_ocel_keeps_what_a_payload_calls_its_project(tmp_path):
    time = datetime(2026, 1, 1, tzinfo=UTC)
    write_ocel(
        tmp_path / "a.json", [Event.new("my_note", {"project": "Manhattan"}, project="apollo", id="a", time=time)]
    )
    (written,) = read_ocel(tmp_path / "a.json").events
    assert [(each.name, each.value) for each in written.attributes] == [("project", "Manhattan")]
    assert [each.objectId for each in written.relationships] == ["project:apollo"]


def test_ocel_memory_grows_with_objects_not_with_events(tmp_path):
    path = tmp_path / "a.json"
    held = [event for event in simulated(2_000) if event.type == "agent_activity"]
    assert len(held) > 1_000

    def write(rounds):
        return write_ocel(path, (event for _ in range(rounds) for event in held))

    assert peak_mib(write, 10) < 1.2 * peak_mib(write, 1)


@pytest.fixture(scope="module")
def mined(demo, tmp_path_factory):
    """What pm4py reads."""
    import pm4py  # noqa: PLC0415 - takes more than a second

    path = tmp_path_factory.mktemp("ocel") / "demo.json"
    write_ocel(path, demo)
    return pm4py, pm4py.read_ocel2_json(str(path))


def test_pm4py_finds_every_event_and_object_by_its_type(demo, mined):
    pm4py, log = mined
    assert Counter(log.events["ocel:activity"]) == Counter(event.type for event in demo)
    keys = {"run": "run_id", "issue": "issue_id", "pr": "pr_id", "pipeline": "pipeline_id", "sprint": "sprint_id"}
    for kind, key in keys.items():
        named = {event.data[key] for event in demo if key in event.data}
        assert set(log.objects.query(f"`ocel:type` == '{kind}'")["ocel:oid"]) == {
            f"{kind}:demo_small/{name}" for name in named
        }
    assert set(pm4py.ocel_get_object_types(log)) == {
        "project", "sprint", "issue", "agent", "run", "branch", "commit", "pr", "pipeline", "approval",
    }  # fmt: skip
    assert (log.relations.query("`ocel:type` == 'project'")["ocel:qualifier"] == "in").all()
    asked = sum(event.data.get("gen_ai.usage.input_tokens", 0) for event in demo if event.type == "agent_activity")
    assert log.events.query("`ocel:activity` == 'agent_activity'")["input_tokens"].sum() == asked


@pytest.mark.parametrize(
    ("kind", "first", "then"),
    [
        ("run", "agent_started", {"agent_activity", "agent_completed", "agent_error"}),
        ("pipeline", "pipeline_started", {"pipeline_completed", "pipeline_failed"}),
        ("approval", "approval_required", {"approval_resolved", "pr_merged"}),
    ],
)
def test_pm4py_sees_the_life_of_an_object(kind, first, then, mined):
    pm4py, log = mined
    flat = pm4py.ocel_flattening(log, kind)
    lives = flat.groupby("case:concept:name")["concept:name"].agg(list)
    assert len(lives) > 2
    for life in lives:
        assert life[0] == first
        assert set(life[1:]) <= then | {"issue_updated", "branch_created", "commit_pushed", "pr_created"}


def test_pm4py_sees_what_became_of_an_issue_with_time(demo, mined):
    _, log = mined
    issue = next(event.data["issue_id"] for event in demo if event.type == "issue_closed")
    changes = log.object_changes.query(f"`ocel:oid` == 'issue:demo_small/{issue}' and `ocel:field` == 'state'")
    told = [
        (event.data.get("state", "closed"), event.time)
        for event in demo
        if event.category == "project" and event.data["issue_id"] == issue
    ]
    changed = [new for (state, _), new in pairwise(told) if new[0] != state]
    assert list(zip(changes["state"], pd.to_datetime(changes["ocel:timestamp"]), strict=True)) == changed
    assert {"assigned", "in_progress", "in_review", "closed"} <= {state for state, _ in changed}
    (title,) = log.objects.query(f"`ocel:oid` == 'issue:demo_small/{issue}'")["title"]
    assert title == next(event.data["title"] for event in demo if event.data.get("issue_id") == issue)
    belongs = log.o2o.query(f"`ocel:oid` == 'issue:demo_small/{issue}'")
    assert {name.partition(":")[0] for name in belongs["ocel:oid_2"]} == {"project", "sprint"}
