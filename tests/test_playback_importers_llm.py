"""The importers of LLM request traces: Azure and Mooncake."""

from __future__ import annotations

import contextlib
from collections import Counter
from datetime import UTC, datetime, timedelta
from itertools import islice

import pytest
from hypothesis import given
from hypothesis import strategies as st

from syndarix_rt.errors import RecordingError
from syndarix_rt.events import Event
from syndarix_rt.playback.importers import IMPORTERS, import_azure_llm, import_mooncake, write_azure
from syndarix_rt.simulation import Scenario, Simulation, validate

AZURE_HEADER = "TIMESTAMP,ContextTokens,GeneratedTokens"
MOONCAKE_HEADER = "timestamp_ms,input_length,output_length,prefix_blocks,prefix_hit_blocks"
INPUT, OUTPUT = "gen_ai.usage.input_tokens", "gen_ai.usage.output_tokens"
START = datetime(2023, 11, 16, 18, 17, 3, tzinfo=UTC)


@pytest.fixture
def write(tmp_path):
    def write(*lines, name="AzureLLMInferenceTrace_code.csv", header=AZURE_HEADER):
        path = tmp_path / name
        path.write_text("\n".join([*([header] if header else []), *lines]) + "\n")
        return path

    return write


def requests(events):
    """Time and tokens of each LLM call, ordered."""
    return sorted(
        (event.time, event.data[INPUT], event.data[OUTPUT]) for event in events if event.type == "agent_activity"
    )


def test_a_request_is_a_chat_call_at_its_microsecond_in_a_run_that_is_implied_and_stays_open(write):
    path = write("2023-11-16 18:17:03.9799609,4808,10", "2023-11-16 18:17:04.0319600,3180,8")
    imported = import_azure_llm(path)
    started, first, second = imported.events
    assert (started.type, started.data["implied"]) == ("agent_started", True)
    assert started.time == first.time == START.replace(microsecond=979_960)
    assert second.time == START + timedelta(seconds=1, microseconds=31_960)
    assert first.data == {
        "run_id": started.data["run_id"],
        "agent_id": started.data["agent_id"],
        "role": "clients",
        "gen_ai.operation.name": "chat",
        INPUT: 4808,
        OUTPUT: 10,
    }
    assert first.cause == second.cause == started.id
    assert {event.project for event in imported.events} == {"azure-llm"}
    assert imported.summary().splitlines() == [
        "AzureLLMInferenceTrace_code.csv: 2 rows = 2 mapped + 0 ignored",
        "3 events from 2023-11-16 18:17 to 2023-11-16 18:17 UTC",
        "  events implied by the trace, not in it (data.implied): 1",
    ]


def test_a_directory_gives_each_of_its_files_a_run_and_orders_all_by_time(write, tmp_path):
    write("2023-11-16 18:17:05,1,2", "2023-11-16 18:17:03,3,4")
    write("2023-11-16 18:17:04+00:00,5,6", name="AzureLLMInferenceTrace_conv.csv")
    write("no trace", name="notes.csv", header="")
    imported = import_azure_llm(tmp_path, "apollo")
    assert [event.data.get(INPUT) for event in imported.events] == [None, 3, None, 5, 1]
    assert len({event.data["run_id"] for event in imported.events}) == 2
    assert [(file.name, file.rows, file.mapped) for file in imported.files] == [
        ("AzureLLMInferenceTrace_code.csv", 2, 2),
        ("AzureLLMInferenceTrace_conv.csv", 1, 1),
    ]
    assert {event.project for event in imported.events} == {"apollo"}
    assert validate(imported.events).ok


def test_files_of_other_names_and_without_rows_are_read_too(write, tmp_path):
    (tmp_path / "Ünï.csv").write_text(f"{AZURE_HEADER}\n2023-11-16 18:17:05,1,2\n")
    assert validate(import_azure_llm(tmp_path / "Ünï.csv").events).ok
    assert import_azure_llm(write()).events == []


@pytest.mark.parametrize(
    ("line", "text"),
    [
        ("yesterday,1,2", "code.csv, line 2: column 'TIMESTAMP' is not a time such as"),
        ("2023-11-16 18:17:05,,2", "code.csv, line 2: column 'ContextTokens' is empty: ''"),
        ("2023-11-16 18:17:05,1.5,2", "line 2: column 'ContextTokens' is not a count: '1.5'"),
        ("2023-11-16 18:17:05,1,many", "line 2: column 'GeneratedTokens' is not a number: 'many'"),
        ("2023-11-16 18:17:05,1,-2", "line 2: column 'GeneratedTokens' is not a count: '-2'"),
        ("2023-11-16 18:17:05,1", "line 2: 2 cells, but the header names 3"),
        ("0001-01-01 00:00:00,1,2", "line 2: column 'TIMESTAMP' is not between 1970 and 2200"),
    ],
)
def test_a_bad_cell_is_named_by_file_line_and_column(write, line, text):
    with pytest.raises(RecordingError) as caught:
        import_azure_llm(write(line))
    assert text in str(caught.value)


def test_a_directory_without_the_trace_and_a_file_that_is_not_there_are_named(tmp_path):
    with pytest.raises(RecordingError, match=r"there is no file AzureLLMInferenceTrace_\*.csv"):
        import_azure_llm(tmp_path)
    with pytest.raises(RecordingError, match=r"there is no file \*.jsonl or \*.csv"):
        import_mooncake(tmp_path)
    for name in ("a.csv", "a.jsonl"):
        with pytest.raises(RecordingError, match=rf"{name}: cannot read: No such file"):
            import_mooncake(tmp_path / name)


@pytest.mark.parametrize("source", ["azure-llm", "mooncake"])
def test_a_wrong_project_name_is_refused(source, tmp_path):
    with pytest.raises(ValueError, match="not a project name: 'a b'"):
        IMPORTERS[source](tmp_path / "a.csv", "a b")


def calls(*, start=datetime(1971, 1, 1), end=datetime(2199, 1, 1)):  # noqa: DTZ001 - hypothesis wants them so
    tokens = st.integers(0, 2**53)
    return st.lists(st.tuples(st.datetimes(start, end, timezones=st.just(UTC)), tokens, tokens), max_size=20)


@given(calls=calls(), durations=st.lists(st.floats(0, 1e6), min_size=20, max_size=20))
def test_what_is_written_in_azures_format_is_imported_again(tmp_path_factory, calls, durations):
    path = tmp_path_factory.mktemp("azure") / "AzureLLMInferenceTrace_code.csv"
    who = {"run_id": "r", "agent_id": "a", "role": "developer", "gen_ai.operation.name": "chat"}
    events = []
    for index, ((start, put_in, output), duration_s) in enumerate(zip(calls, durations, strict=False)):
        tokens = {INPUT: put_in, OUTPUT: output, "duration_s": duration_s}
        time = start + timedelta(seconds=duration_s)
        events.append(Event.new("agent_activity", who | tokens, project="p", id=f"e{index}", time=time))
    assert write_azure(events, path) == len(calls)
    imported = import_azure_llm(path)
    assert requests(imported.events) == sorted(calls)
    assert validate(imported.events).ok
    before = path.read_bytes()
    assert write_azure(imported.events, path) == len(calls)
    assert path.read_bytes() == before


def test_a_simulation_is_written_by_the_starts_of_its_calls(tmp_path):
    simulated = list(islice(Simulation(Scenario.load("steady_sprint"), 7), 5_000))
    answered = [event for event in simulated if OUTPUT in event.data]
    failed = [event for event in simulated if event.data.get("status") == "error"]
    path = tmp_path / "simulated.csv"
    assert write_azure(simulated, path) == len(answered) > 1_000
    assert failed
    imported = import_azure_llm(path)
    assert requests(imported.events) == sorted(
        (event.time - timedelta(seconds=event.data["duration_s"]), event.data[INPUT], event.data[OUTPUT])
        for event in answered
    )


def test_mooncakes_leading_blocks_that_were_seen_become_prefix_and_cached_tokens(write):
    path = write(
        "0,6758,500,14,0", "3000,1000,7,2,2", "3000,513,9,2,1", name="conversation.csv", header=MOONCAKE_HEADER
    )
    imported = import_mooncake(path)
    _, *found = imported.events
    assert [(event.time - found[0].time).total_seconds() for event in found] == [0, 3, 3]
    assert found[0].time == datetime(2000, 1, 1, tzinfo=UTC)
    parts = [(event.data["prefix_tokens"], event.data["append_tokens"], event.data["cached_tokens"]) for event in found]
    assert parts == [(0, 6758, 0), (1000, 0, 1000), (512, 1, 512)]
    assert [(event.data[INPUT], event.data[OUTPUT]) for event in found] == [(6758, 500), (1000, 7), (513, 9)]
    assert {event.project for event in imported.events} == {"mooncake"}
    assert validate(imported.events).ok


def test_the_published_lines_of_mooncake_give_what_the_counts_give(write, tmp_path):
    lines = [
        '{"timestamp": 0, "input_length": 1200, "output_length": 52, "hash_ids": [46, 47, 48]}',
        '{"timestamp": 27, "input_length": 1100, "output_length": 5, "hash_ids": [46, 47, 99]}',
        "",
        '{"timestamp": 30, "input_length": 600, "output_length": 6, "hash_ids": [7, 47]}',
    ]
    published = import_mooncake(write(*lines, name="chat.jsonl", header=""))
    reduced = import_mooncake(
        write("0,1200,52,3,0", "27,1100,5,3,2", "30,600,6,2,0", name="chat.csv", header=MOONCAKE_HEADER)
    )
    assert published.events == reduced.events
    assert published.files[0].rows == 3
    both = import_mooncake(tmp_path)
    assert len({event.id for event in both.events}) == len(both.events) == 2 * len(reduced.events)
    assert validate(both.events).ok


@pytest.mark.parametrize(
    ("name", "line", "text"),
    [
        ("a.csv", "x,1,2,3,4", "a.csv, line 2: column 'timestamp_ms' is not a number: 'x'"),
        ("a.csv", "1e15,1,2,3,4", "a.csv, line 2: column 'timestamp_ms' is more than 100 years"),
        ("a.csv", "0,1,2,3,", "a.csv, line 2: column 'prefix_hit_blocks' is empty"),
        ("a.jsonl", '{"timestamp": 0}', "a.jsonl, line 1: Object missing required field `input_length`"),
        ("a.jsonl", '{"timestamp": "soon"}', "a.jsonl, line 1: Expected `float`, got `str` - at `$.timestamp`"),
        ("a.jsonl", '{"timestamp": 1e300}', "a.jsonl, line 1: Expected `float` <= 3162240000000.0"),
        ("a.jsonl", "{", "a.jsonl, line 1: Input data was truncated"),
    ],
)
def test_damage_in_mooncake_is_named_by_file_line_and_column(write, name, line, text):
    with pytest.raises(RecordingError) as caught:
        import_mooncake(write(line, name=name, header=MOONCAKE_HEADER if name == "a.csv" else ""))
    assert text in str(caught.value)


@pytest.mark.parametrize("garbage", [b"\xff\xfe", bytes(range(256)), b"\0" * 9000, b'"' * 999, b"a,b\n" * 10_000])
@pytest.mark.parametrize(
    ("source", "name", "whole"),
    [
        ("azure-llm", "a.csv", f"{AZURE_HEADER}\n2023-11-16 18:17:03,1,2\n".encode()),
        ("mooncake", "a.csv", f"{MOONCAKE_HEADER}\n0,1,2,3,4\n".encode()),
        ("mooncake", "a.jsonl", b'{"timestamp": 0, "input_length": 1, "output_length": 2, "hash_ids": [1]}\n'),
    ],
)
def test_garbage_is_an_error_and_never_anything_else(tmp_path, garbage, source, name, whole):
    path = tmp_path / name
    for content in (garbage, whole + garbage, whole.replace(b"1", garbage), whole[:-3] + garbage):
        path.write_bytes(content)
        with contextlib.suppress(RecordingError):
            IMPORTERS[source](path, "p")


@pytest.mark.traces
@pytest.mark.parametrize(
    ("source", "directory", "rows"),
    [("azure-llm", "azure_llm_2023", (7_491, 14_453)), ("mooncake", "mooncake_fast25", (8_125,))],
)
def test_the_real_traces_are_mapped_row_by_row(traces_dir, source, directory, rows):
    imported = IMPORTERS[source](traces_dir / directory, source)
    assert tuple(file.rows for file in imported.files) == tuple(file.mapped for file in imported.files) == rows
    assert str(validate(imported.events)) == f"{len(imported.events)} events, 0 violations"
    types = Counter(event.type for event in imported.events)
    assert types == {"agent_started": len(rows), "agent_activity": sum(rows)}
