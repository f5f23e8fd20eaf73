from __future__ import annotations

import sys
import tracemalloc
from collections import Counter
from datetime import UTC, datetime
from itertools import islice, pairwise
from typing import Literal

import msgspec
import pandas as pd
import pyarrow.parquet as pq
import pytest
from event_strategies import events
from hypothesis import given, settings
from hypothesis import strategies as st
from playback_clock import event_at

from syndarix_rt._version import __version__
from syndarix_rt.errors import MissingExtra, RecordingError
from syndarix_rt.events import Event
from syndarix_rt.playback.exports import EXPORTS, read_parquet, write_ocel, write_parquet
from syndarix_rt.simulation import Scenario, Simulation


def simulated(count, preset="demo_small", seed=7):
    return list(islice(Simulation(Scenario.preset(preset), seed), count))


@pytest.fixture(scope="module")
def demo():
    """1,500 events of a small team."""
    return simulated(1_500)


def peak_mib(write, stream):
    """How much memory of Python's an export takes at most."""
    tracemalloc.start()
    write(stream)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return peak / 2**20


# ---- all of them --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", EXPORTS)
def test_an_export_gets_its_name_when_it_is_complete(name, tmp_path):
    path = tmp_path / "out"
    path.write_bytes(b"an older one")

    def broken():
        yield event_at(0)
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        EXPORTS[name](path, broken())
    assert path.read_bytes() == b"an older one"
    assert EXPORTS[name](path, [event_at(0), event_at(1, 1)]) == 2
    assert path.read_bytes() != b"an older one"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("name", EXPORTS)
def test_an_export_that_cannot_be_written_says_where(name, tmp_path):
    with pytest.raises(RecordingError, match=r"nowhere/out: cannot write: No such file or directory"):
        EXPORTS[name](tmp_path / "nowhere" / "out", [event_at(0)])


@pytest.mark.parametrize("name", EXPORTS)
def test_any_events_can_be_exported(name, tmp_path_factory):
    path = tmp_path_factory.mktemp("export") / "out"

    @settings(max_examples=60, deadline=None)
    @given(st.lists(events(), max_size=12))
    def exports(stream):
        assert EXPORTS[name](path, stream) == len(stream)

    exports()


# ---- Parquet ------------------------------------------------------------------------------------------------------


@settings(max_examples=100, deadline=None)
@given(stream=st.lists(events(), max_size=6), spaced=st.booleans())
def test_parquet_gives_back_the_very_bytes_of_any_events(stream, spaced, tmp_path_factory):
    path = tmp_path_factory.mktemp("parquet") / "a.parquet"
    if spaced:  # as another program may have written them
        stream = [Event.decode(event.encode().replace(b'","', b'", "')) for event in stream]
    write_parquet(path, stream)
    again = list(read_parquet(path))
    assert [event.raw for event in again] == [event.raw for event in stream]
    assert again == [Event.decode(event.raw) for event in stream]


def test_parquet_is_a_tidy_frame_with_types(demo, tmp_path):
    path = tmp_path / "a.parquet"
    assert write_parquet(path, demo) == 1_500
    frame = pd.read_parquet(path)
    assert len(frame) == 1_500
    assert str(frame["time"].dtype) == "datetime64[us, UTC]"
    assert {str(frame[name].dtype) for name in ("type", "role", "project", "model")} == {"category"}
    activities = [event for event in demo if event.type == "agent_activity"]
    asked = sum(event.data.get("gen_ai.usage.input_tokens", 0) for event in activities)
    assert frame["input_tokens"].where(frame["type"] == "agent_activity").sum() == asked > 0
    took = frame.groupby("type", observed=True)["duration_s"].sum()
    assert took["pipeline_completed"] == pytest.approx(
        sum(event.data["duration_s"] for event in demo if event.type == "pipeline_completed")
    )
    assert frame["gated"].dropna().isin([True, False]).all()
    assert frame["raw"].isna().all()


def test_parquet_columns_hold_what_the_catalogue_knows_and_data_holds_the_rest(tmp_path):
    path = tmp_path / "a.parquet"
    time = datetime(2026, 1, 1, tzinfo=UTC)
    about = {"project": "apollo", "time": time}
    write_parquet(
        path,
        [
            Event.new("issue_created", {"issue_id": "i1", "title": "Fix", "number": "a word"}, id="a", **about),
            Event.new("test_custom", {"issue_id": 5, "title": ["x"], "duration_s": "long"}, id="b", **about),
            Event.new("agent_completed", done(input_tokens=2**70, duration_s=2**60 + 1), id="c", **about),
        ],
    )
    rows = pq.read_table(path).to_pylist()
    assert [row["issue_id"] for row in rows] == ["i1", None, None]
    assert [row["number"] for row in rows] == [None] * 3
    assert [row["input_tokens"] for row in rows] == [None] * 3
    assert rows[2]["duration_s"] == 2.0**60
    assert [event.data for event in read_parquet(path)][1:] == [
        {"issue_id": 5, "title": ["x"], "duration_s": "long"},
        done(input_tokens=2**70, duration_s=2**60 + 1),
    ]


def done(input_tokens, duration_s):
    who = {"run_id": "r1", "agent_id": "a1", "role": "developer", "end_reason": "completed"}
    return who | {"gen_ai.usage.input_tokens": 1, "input_tokens": input_tokens, "duration_s": duration_s}


def test_parquet_says_which_product_and_which_simulations(tmp_path):
    path = tmp_path / "a.parquet"
    one, other = simulated(5), simulated(5, seed=8)
    write_parquet(path, [*one, *other, event_at(0)])
    metadata = pq.read_metadata(path).metadata
    assert metadata[b"syndarix_rt.version"].decode() == __version__
    assert metadata[b"syndarix_rt.simulations"].decode() == f'["{one[0].simulation}","{other[0].simulation}"]'


def test_parquet_of_no_events_has_the_columns(tmp_path):
    path = tmp_path / "a.parquet"
    assert write_parquet(path, []) == 0
    assert list(read_parquet(path)) == []
    assert {"id", "time", "run_id", "data"} <= set(pd.read_parquet(path).columns)


def test_parquet_is_written_in_row_groups_with_bounded_memory(tmp_path):
    path = tmp_path / "a.parquet"
    held = simulated(2_000)

    def write(rounds):
        return write_parquet(path, (event for _ in range(rounds) for event in held))

    assert peak_mib(write, 15) < 1.5 * peak_mib(write, 3)  # what Arrow holds ends with each row group
    assert write(35) == 70_000
    metadata = pq.read_metadata(path)
    assert (metadata.num_rows, metadata.num_row_groups) == (70_000, 2)
    assert {metadata.row_group(0).column(n).compression for n in range(5)} == {"ZSTD"}


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda path: path.write_text("{}"), "cannot read after 0 events"),
        (lambda path: None, "No such file"),
        (lambda path: pd.DataFrame({"id": ["a"]}).to_parquet(path), "not an export of events: no column cause, data"),
        (
            lambda path: (write_parquet(path, [event_at(0)]), rename_project(path)),
            "row 1: $.project: must be 1 to 64",
        ),
    ],
    ids=["garbage", "absent", "another table", "bad event"],
)
def test_a_parquet_file_that_holds_no_events_says_why(make, reason, tmp_path):
    path = tmp_path / "a.parquet"
    make(path)
    with pytest.raises(RecordingError) as caught:
        list(read_parquet(path))
    assert str(path) in str(caught.value)
    assert reason in str(caught.value)


def rename_project(path):
    frame = pd.read_parquet(path)
    frame.assign(project="no name").to_parquet(path)


def test_a_missing_pyarrow_names_the_extra(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    for use in (lambda: write_parquet(tmp_path / "a", []), lambda: list(read_parquet(tmp_path / "a"))):
        with pytest.raises(MissingExtra, match=r"pip install 'syndarix-rt\[analysis\]'"):
            use()
    assert list(tmp_path.iterdir()) == []


# ---- OCEL ---------------------------------------------------------------------------------------------------------


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


@settings(max_examples=60, deadline=None)
@given(stream=st.lists(events(), max_size=12))
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
