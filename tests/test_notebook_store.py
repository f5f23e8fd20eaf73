"""What was received, as a frame."""

from __future__ import annotations

from datetime import UTC, datetime

import pandas as pd
import pytest
from serving import event

from syndarix_rt.events import Event, EventId
from syndarix_rt.notebook.store import Received, Store

COLUMNS = [
    "epoch", "offset", "time", "recordedtime", "received", "type", "category", "simulation", "subject", "id", "cause",
]  # fmt: skip
TIMES = ["time", "recordedtime", "received"]


def received(number=1, received_s=1_795_386_400.25, **attributes):
    return Received(EventId("epoch-one", number), received_s, event(number, **attributes).encode())


def filled(items, capacity=100):
    store = Store(capacity)
    for item in items:
        store.add(item)
    return store


def test_the_frame_has_a_row_an_event_with_envelope_and_payload_as_columns():
    recorded = datetime(2026, 11, 23, 1, 2, 3, 4, UTC)
    items = [
        received(1, data={"n": 1, "gen_ai.usage": {"in": 2, "out": {}}, "list": [1]}, recordedtime=recorded),
        received(
            2,
            type="issue_created",
            data={"issue_id": "I-1"},
            subject="I-1",
            cause="event-1",
            simulation="sim-1",
            recordedtime=recorded,
        ),
    ]
    frame = filled(items).frame()
    payload = ["data.gen_ai.usage.in", "data.gen_ai.usage.out", "data.issue_id", "data.list", "data.n"]
    assert list(frame.columns) == COLUMNS + payload
    assert [str(frame[name].dtype) for name in TIMES] == ["datetime64[us, UTC]"] * 3
    assert frame["offset"].dtype == "int64"
    first, second = frame.to_dict("records")
    assert (first["epoch"], first["offset"], first["id"]) == ("epoch-one", 1, "event-1")
    assert first["received"] == pd.Timestamp(1_795_386_400.25, unit="s", tz="UTC")
    assert first["recordedtime"] == recorded
    assert first["time"] == datetime.fromtimestamp(1_790_000_001, UTC).replace(microsecond=1)
    assert (first["data.n"], first["data.gen_ai.usage.in"], first["data.gen_ai.usage.out"]) == (1, 2, {})
    assert first["data.list"] == [1]
    assert pd.isna(first["category"])
    assert (second["type"], second["category"], second["subject"]) == ("issue_created", "project", "I-1")
    assert (second["cause"], second["simulation"], second["data.issue_id"]) == ("event-1", "sim-1", "I-1")
    assert pd.isna(second["data.n"])


def test_an_empty_frame_has_the_same_columns_and_types():
    frame = Store().frame()
    assert list(frame.columns) == COLUMNS
    assert [str(frame[name].dtype) for name in TIMES] == ["datetime64[us, UTC]"] * 3
    assert frame.attrs == {"dropped": 0}


def test_the_oldest_go_when_it_is_full_and_the_frame_says_how_many():
    frame = filled(map(received, range(1, 8)), capacity=5).frame()
    assert frame["offset"].tolist() == [3, 4, 5, 6, 7]
    assert frame.attrs["dropped"] == 2


def test_times_far_from_now_and_missing_ones_survive():
    far = Event.new("my_event", {}, project="apollo", id="far", time=datetime(9999, 12, 31, 23, 59, tzinfo=UTC))
    old = Event.new("my_event", {}, project="apollo", id="old", time=datetime(1, 1, 1, tzinfo=UTC))
    frame = filled(Received(EventId("epoch-one", n), 0.0, item.encode()) for n, item in enumerate([far, old])).frame()
    assert frame["time"].dt.year.tolist() == [9999, 1]
    assert frame["recordedtime"].isna().all()


def test_one_simulation_can_be_asked_for():
    items = [received(1, simulation="sim-1"), received(2, simulation="sim-2"), received(3)]
    assert filled(items).frame("sim-2")["offset"].tolist() == [2]
    assert filled(items).frame("sim-3").empty


@pytest.mark.parametrize("value", [[1.5, None, 2], ["x", None, 1], [True, None, False], [10**400, None, 1]])
def test_a_payload_key_that_not_all_events_have_is_missing_there(value):
    items = [received(n, data={} if each is None else {"key": each}) for n, each in enumerate(value)]
    column = filled(items).frame()["data.key"]
    assert column.isna().tolist() == [False, True, False]
    assert column.dropna().tolist() == [each for each in value if each is not None]
