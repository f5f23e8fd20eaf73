"""The official CloudEvents SDK reads every event of ours, and we read what it writes."""

from datetime import UTC, datetime

import pytest
from cloudevents.core.bindings.http import HTTPMessage, from_binary, from_structured, to_binary, to_structured
from cloudevents.core.formats.json import JSONFormat
from cloudevents.core.v1.event import CloudEvent
from event_strategies import custom_types, events
from hypothesis import given, settings
from hypothesis import strategies as st

from syndarix_rt import Event
from syndarix_rt.events import CATALOGUE

FORMAT = JSONFormat()


def sdk_reads(raw):
    return FORMAT.read(None, raw)


def assert_the_same(theirs, ours):
    attributes = theirs.get_attributes()
    expected = ours.to_dict() | {"time": ours.time}
    assert attributes == {k: v for k, v in expected.items() if k != "data"}
    assert theirs.get_data() == ours.data


@pytest.mark.parametrize("event_type", CATALOGUE)
@settings(max_examples=15)
@given(data=st.data())
def test_the_sdk_reads_every_catalogue_type_and_we_read_it_back(event_type, data):
    event = data.draw(events(st.just(event_type)))
    theirs = sdk_reads(event.encode())
    assert_the_same(theirs, event)
    assert Event.decode(FORMAT.write(theirs)) == event


@given(events(custom_types))
def test_the_sdk_reads_custom_types_and_extension_attributes_and_we_read_them_back(event):
    theirs = sdk_reads(event.encode())
    assert_the_same(theirs, event)
    assert Event.decode(FORMAT.write(theirs)) == event


def test_the_sdk_takes_an_event_in_a_structured_http_message():
    event = Event.new(
        "lunch_served", {"menu": "soup"}, project="p", id="i", time=datetime(2026, 1, 1, tzinfo=UTC), subject="s"
    )
    theirs = from_structured(
        HTTPMessage({"content-type": "application/cloudevents+json"}, event.encode()), FORMAT, None
    )
    assert_the_same(theirs, event)
    assert Event.decode(to_structured(theirs, FORMAT).body) == event


def test_we_read_an_event_that_the_sdk_made():
    theirs = CloudEvent(
        {
            "id": "b1f8",
            "source": "https://ci.example/jobs",
            "type": "pipeline_failed",
            "time": datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC),
            "datacontenttype": "application/json",
            "project": "apollo",
            "partitionkey": "k",
        },
        {"pipeline_id": "p1", "reason": "tests"},
    )
    event = Event.decode(FORMAT.write(theirs))
    assert (event.id, event.type, event.project) == ("b1f8", "pipeline_failed", "apollo")
    assert event.time == datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
    assert event.extensions == {"partitionkey": "k"}
    assert event.data == {"pipeline_id": "p1", "reason": "tests"}


def test_the_sdk_carries_an_event_through_binary_http():
    event = Event.new(
        "lunch_served", {"menu": "soup"}, project="p", id="i", time=datetime(2026, 1, 1, tzinfo=UTC), cause="c"
    )
    message = to_binary(sdk_reads(event.encode()), FORMAT)
    assert Event.decode(FORMAT.write(from_binary(message, FORMAT, None))) == event
