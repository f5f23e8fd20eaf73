"""The rules of an event: one verdict, whichever way it comes in and however quickly it is looked at."""

import copy
import itertools
import json
from datetime import UTC, datetime, timedelta, timezone
from types import MappingProxyType

import msgspec
import pytest
from event_strategies import data_of, events, extension_names, ids, json_values, names, times
from hypothesis import given, settings
from hypothesis import strategies as st

from syndarix_rt import Event, Simulation
from syndarix_rt.errors import EventError
from syndarix_rt.events import CATALOGUE, rules
from syndarix_rt.simulation import Scenario

catalogue_types = st.sampled_from(list(CATALOGUE))
ODD = [
    *("", "a", "a" * 64, "a" * 65, "a" * 128, "a" * 129, "/" * 512, "/" * 513, "1.0", "application/json"),
    *("a\n", "\na", "a b", "a.b", "a/b", "é", "\u212a", "a\x00", "run-1", "agent_started", "lunch_served"),
    *(0, 1, -1, True, False, 1.0, float(10**15), 10**400, -0.5, None, [], {}, ["a"], {"a": "b"}, {"Foo": "x"}),
]
texts_of_time = st.sampled_from(
    [
        "2026-01-02T03:04:05Z", "2026-01-02T03:04:05.678901+02:00", "2026-01-02T03:04:05", "2026-13-02T03:04:05Z",
        "0001-01-01T00:00:00+23:00", "9999-12-31T23:59:59-23:00",
    ]
)  # fmt: skip


class Text(str):
    __slots__ = ()


class Time(datetime):
    pass


class Anything:
    """Equal to all, as long as wanted: so that nobody is taken in by an object that only behaves like a text."""

    __hash__ = object.__hash__

    def __eq__(self, other):
        return True

    def __len__(self):
        return 1


ODD_IN_PYTHON = [
    *(
        Text("a"),
        Text("1.0"),
        Text("agent_started"),
        Text(""),
        b"a",
        ("a",),
        "\ud800",
        Anything(),
        MappingProxyType({}),
    ),
    *(Time(2026, 1, 1, tzinfo=UTC), datetime(2026, 1, 1), datetime(2026, 1, 1, tzinfo=timezone(timedelta(hours=1)))),  # noqa: DTZ001 - the case
    *(MappingProxyType({"run_id": "r", "agent_id": "a", "role": "tester"}), timedelta(1), float("nan"), float("inf")),
]
odd_values = st.sampled_from(ODD)
USUAL = Event.new(
    "agent_activity",
    {
        "run_id": "run-1", "agent_id": "developer-1", "role": "developer", "issue_id": "issue-1", "branch": "fix",
        "gen_ai.usage.input_tokens": 5, "gen_ai.tool.call.id": "call-1", "duration_s": 1.5, "status": "ok",
    },
    project="p", id="i", time=datetime(2026, 1, 1, tzinfo=UTC), recordedtime=datetime(2026, 1, 1, tzinfo=UTC),
    cause="c", subject="s", simulation="sim",
)  # fmt: skip


def verdict(make):
    """What comes of it: an event, or where it is wrong and why."""
    try:
        return make()
    except EventError as error:
        return error.path, error.reason


def changed(event, **attributes):
    """A copy that nobody has checked."""
    event = copy.copy(event)
    for name, value in attributes.items():
        msgspec.structs.force_setattr(event, name, value)
    return event


def assert_the_quick_look_agrees(event):
    if rules.is_surely_right(event):
        before = copy.copy(event)
        rules.check(event)
        assert event == before
    attributes = msgspec.structs.asdict(event)
    assert verdict(lambda: Event(**attributes)) == verdict(lambda: rules.check(event) or event)


def test_no_odd_value_gets_past_the_quick_look():
    assert rules.is_surely_right(USUAL)
    for value in [*ODD, *ODD_IN_PYTHON]:
        for name in Event.__struct_fields__:
            assert_the_quick_look_agrees(changed(USUAL, **{name: value}))
        for key in [*USUAL.data, "gen_ai.request.model", "x", ""]:
            assert_the_quick_look_agrees(changed(USUAL, data=USUAL.data | {key: value}))


@pytest.mark.parametrize("event_type", CATALOGUE)
def test_no_odd_value_in_a_payload_gets_past_the_quick_look(event_type):
    fields = msgspec.structs.fields(CATALOGUE[event_type].payload)
    needed = {"branch": "fix", "commit": "c0ffee", "decision": "approved"}
    data = {field.encode_name: needed.get(field.name, "a") for field in fields if field.required}
    event = changed(USUAL, type=event_type, data=data)
    assert rules.is_surely_right(event)
    for value, field in itertools.product([*ODD, *ODD_IN_PYTHON], fields):
        assert_the_quick_look_agrees(changed(event, data=data | {field.encode_name: value}))
    for key in data:
        assert_the_quick_look_agrees(changed(event, data={name: data[name] for name in data if name != key}))


@given(events(), st.data())
def test_the_quick_look_agrees_with_the_rules_on_any_event(event, data):
    names = st.sampled_from(Event.__struct_fields__)
    assert_the_quick_look_agrees(changed(event, **data.draw(st.dictionaries(names, odd_values | json_values | times))))


def test_every_event_of_a_simulation_is_surely_right():
    events = list(itertools.islice(Simulation(Scenario.preset("demo_small"), seed=1), 3000))
    assert {event.type for event in events} >= {"agent_activity", "issue_created", "sprint_started", "pr_merged"}
    unusual = {event.type for event in events if not rules.is_surely_right(event)}
    assert not unusual & CATALOGUE.keys()


@pytest.mark.parametrize("event_type", CATALOGUE)
@settings(max_examples=15)
@given(data=st.data())
def test_every_payload_without_nulls_is_surely_right(event_type, data):
    payload = {key: value for key, value in data.draw(data_of(event_type)).items() if value is not None}
    time = data.draw(times).astimezone(UTC)
    event = Event.new(event_type, payload, project="p", id="i", time=time, cause="c", subject="s", recordedtime=time)
    assert rules.is_surely_right(event)


@given(events(), st.data())
def test_constructor_dictionary_and_json_get_the_same_verdict(event, data):
    document = event.to_dict()
    name = data.draw(st.sampled_from([*Event.__struct_fields__, "dataschema", "data_base64"]) | extension_names)
    document[name] = data.draw(odd_values | json_values | texts_of_time | ids | names)
    if data.draw(st.booleans()):
        document["data"] = event.data | {data.draw(st.sampled_from([*event.data, "x"])): data.draw(odd_values | ids)}
    document = json.loads(json.dumps(document))
    from_dict = verdict(lambda: Event.from_dict(document))
    assert verdict(lambda: Event.decode(json.dumps(document).encode())) == from_dict
    assert verdict(lambda: Event.decode(json.dumps(document, ensure_ascii=False, indent=1).encode())) == from_dict
    assert verdict(lambda: Event.decode(msgspec.json.encode(document))) == from_dict
    if isinstance(from_dict, Event):
        assert verdict(lambda: Event(**msgspec.structs.asdict(from_dict))) == from_dict


@given(events(), st.sampled_from(["id", "source", "type", "project", "subject", "cause", "data"]), st.data())
def test_the_constructor_refuses_what_the_decoder_refuses_at_the_same_place(event, name, data):
    value = data.draw(odd_values | json_values)
    made = verdict(lambda: Event(**msgspec.structs.asdict(event) | {name: value}))
    read = verdict(lambda: Event.from_dict(event.to_dict() | {name: value}))
    if isinstance(read, Event):
        assert made == read
    else:
        assert made[0] == read[0]


@pytest.mark.parametrize("extensions", [b"{}", b'{"foo":"x"}', b"null", b'"odd"', b"5"])
@pytest.mark.parametrize("name", [b"extensions", rb"\u0065xtensions"])
def test_an_attribute_called_extensions_is_one_of_the_extensions(name, extensions):
    event = Event.new("lunch_served", {}, project="p", id="i", time=datetime(2026, 1, 1, tzinfo=UTC))
    raw = event.encode()[:-1] + b',"' + name + b'":' + extensions + b"}"
    assert verdict(lambda: Event.decode(raw)) == verdict(lambda: Event.from_dict(json.loads(raw)))
    expected = {} if extensions == b"null" else {"extensions": json.loads(extensions)}
    assert getattr(verdict(lambda: Event.decode(raw)), "extensions", expected) == expected
