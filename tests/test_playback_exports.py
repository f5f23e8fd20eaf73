from __future__ import annotations

import sys
from datetime import UTC, datetime

import pandas as pd
import pyarrow.parquet as pq
import pytest
from event_strategies import events
from exporting import peak_mib, simulated
from hypothesis import given, settings
from hypothesis import strategies as st
from playback_clock import event_at

from syndarix_rt._version import __version__
from syndarix_rt.errors import MissingExtra, RecordingError
from syndarix_rt.events import Event
from syndarix_rt.playback.exports import EXPORTS, read_parquet, write_parquet

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


# ---- Parquet ------------------------------------------------------------------------------------------------------


@settings(max_examples=50, deadline=None)
@given(stream=st.lists(events(), max_size=6), spaced=st.booleans())
def test_parquet_gives_back_the_very_bytes_of_any_events(stream, spaced, tmp_path_factory):
    path = tmp_path_factory.mktemp("parquet") / "a.parquet"
    if spaced:  # as another program may have written them
        stream = [Event.decode(event.encode().replace(b'","', b'", "')) for event in stream]
    write_parquet(path, stream)
    again = list(read_parquet(path))
    assert [event.raw for event in again] == [event.raw for event in stream]
    assert again == [Event.decode(event.raw) for event in stream]


def test_parquet_is_a_tidy_frame_with_types(tmp_path):
    demo = simulated(1_500)
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
            Event.new("agent_completed", done(input_tokens=2**63 - 1, duration_s=2**60 + 1), id="c", **about),
        ],
    )
    rows = pq.read_table(path).to_pylist()
    assert [row["issue_id"] for row in rows] == ["i1", None, None]
    assert [row["number"] for row in rows] == [None] * 3
    assert [row["input_tokens"] for row in rows] == [None, None, 2**63 - 1]
    assert rows[2]["duration_s"] == 2.0**60
    assert [event.data for event in read_parquet(path)][1:] == [
        {"issue_id": 5, "title": ["x"], "duration_s": "long"},
        done(input_tokens=2**63 - 1, duration_s=2**60 + 1),
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

    assert peak_mib(write, 9) < 1.5 * peak_mib(write, 3)  # what Arrow holds ends with each row group
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
        (lambda path: rewrite(path, project="no name"), "row 1: $.project: must be 1 to 64"),
        (lambda path: rewrite(path, data="x"), "row 1: not an export of events: JSON is malformed"),
        (lambda path: rewrite(path, data=None), "row 1: not an export of events"),
        (lambda path: rewrite(path, raw=7), "row 1: not an export of events"),
    ],
    ids=["garbage", "absent", "another table", "bad event", "no JSON", "nothing", "numbers"],
)
def test_a_parquet_file_that_holds_no_events_says_why(make, reason, tmp_path):
    path = tmp_path / "a.parquet"
    make(path)
    with pytest.raises(RecordingError) as caught:
        list(read_parquet(path))
    assert str(path) in str(caught.value)
    assert reason in str(caught.value)


def rewrite(path, **columns):
    write_parquet(path, [event_at(0)])
    pd.read_parquet(path).assign(**columns).to_parquet(path)


def test_a_missing_pyarrow_names_the_extra(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    for use in (lambda: write_parquet(tmp_path / "a", []), lambda: list(read_parquet(tmp_path / "a"))):
        with pytest.raises(MissingExtra, match=r"pip install 'syndarix-rt\[analysis\]'"):
            use()
    assert list(tmp_path.iterdir()) == []
