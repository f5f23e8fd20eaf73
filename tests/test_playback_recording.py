from __future__ import annotations

import contextlib
import gzip
import os
import resource
import signal
import stat
import subprocess
import sys
import zlib
from datetime import UTC, datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from playback_clock import Clock, event_at, lines_of, ticks

from syndarix_rt.errors import EventError, RecordingError
from syndarix_rt.events import Event, EventId
from syndarix_rt.playback import RecordingWriter, read_recording, replay, write_recording
from syndarix_rt.playback.exports import write_perfetto


def test_a_recording_holds_one_event_a_line_and_is_read_back_the_same(tmp_path):
    path = tmp_path / "a.jsonl"
    assert write_recording(path, iter(ticks(10))) == 10
    assert path.read_bytes() == lines_of(ticks(10))
    assert list(read_recording(path)) == ticks(10)


def test_a_received_event_is_recorded_byte_for_byte_as_it_was_published(tmp_path):
    path = tmp_path / "a.jsonl"
    published = [
        (
            b'{"specversion":"1.0",  "type":"test_tick","id":"a","source":"/x","time":"2026-01-01T00:00:00Z","zzz":7,'
            rb'"project":"apollo","data":{"b":1,"a":"\u00e9"}}'
        ),
        event_at(1, 1).encode(),
    ]
    write_recording(path, [Event.decode(raw, EventId("someepoch", n)) for n, raw in enumerate(published)])
    assert path.read_bytes() == b"".join(raw + b"\n" for raw in published)
    assert [event.raw for event in read_recording(path)] == published


def test_an_event_that_came_over_several_lines_is_recorded_on_one(tmp_path):
    path = tmp_path / "a.jsonl"
    event = Event.decode(event_at(1, 1).encode().replace(b",", b",\n "))
    write_recording(path, [event])
    assert path.read_bytes() == event_at(1, 1).encode() + b"\n"


@settings(max_examples=50, deadline=None)
@given(texts=st.lists(st.text(max_size=40), max_size=8))
def test_any_text_survives_a_recording(texts, tmp_path_factory):
    path = tmp_path_factory.mktemp("recording") / "a.jsonl"
    events = [event_at(n, n, text=text) for n, text in enumerate(texts)]
    write_recording(path, events)
    assert list(read_recording(path)) == events


def test_replay_keeps_id_and_time_and_drops_the_time_of_recording(tmp_path):
    path = tmp_path / "a.jsonl"
    recorded = datetime(2026, 5, 5, tzinfo=UTC)
    write_recording(path, [Event.from_dict(event_at(1, 1).to_dict() | {"recordedtime": recorded.isoformat()})])
    assert next(read_recording(path)).recordedtime == recorded
    (event,) = replay(path)
    assert (event.recordedtime, event) == (None, event_at(1, 1))
    (event,) = replay(path, "zeus")
    assert event == event_at(1, 1, project="zeus")
    assert event.raw == event_at(1, 1, project="zeus").encode()


def test_a_recording_gets_its_name_when_it_is_complete(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_bytes(b"an older one")
    with RecordingWriter(path) as writer:
        writer.write(event_at(0))
        assert path.read_bytes() == b"an older one"
        assert writer.partial.name == "a.jsonl.partial"
    writer.close()  # again, without effect
    assert list(read_recording(path)) == [event_at(0)]
    assert sorted(tmp_path.glob("a.*")) == [path]


def test_a_recording_whose_name_ends_in_gz_is_packed_always_to_the_same_bytes(tmp_path):
    path, again = tmp_path / "a.jsonl.gz", tmp_path / "b.jsonl.gz"
    write_recording(path, ticks(100))
    with RecordingWriter(again, flush_s=60) as writer:
        for event in ticks(100):
            writer.write(event)
    assert gzip.decompress(path.read_bytes()) == lines_of(ticks(100))
    assert path.read_bytes() == again.read_bytes()
    assert list(read_recording(path)) == ticks(100)
    assert sorted(tmp_path.iterdir()) == [path, again]


def test_what_was_flushed_of_a_packed_recording_can_be_read_when_it_was_cut(tmp_path):
    path = tmp_path / "a.jsonl.gz"
    with pytest.raises(ZeroDivisionError), RecordingWriter(path, flush_s=0) as writer:
        for event in ticks(10):
            writer.write(event)
        on_disk = writer.partial.read_bytes()
        raise ZeroDivisionError
    assert zlib.decompressobj(wbits=31).decompress(on_disk) == lines_of(ticks(10))
    assert gzip.decompress(writer.partial.read_bytes()) == lines_of(ticks(10))


def test_an_error_while_recording_keeps_what_there_is_under_another_name(tmp_path):
    path = tmp_path / "a.jsonl"
    with pytest.raises(ZeroDivisionError), RecordingWriter(path) as writer:
        writer.write(event_at(0))
        raise ZeroDivisionError
    assert not path.exists()
    assert list(read_recording(writer.partial)) == [event_at(0)]


def test_nobody_else_writes_a_recording_of_the_same_name_meanwhile(tmp_path):
    path = tmp_path / "a.jsonl"
    with RecordingWriter(path, flush_s=0) as writer:
        writer.write(event_at(0, 0))
        for write in (write_recording, write_perfetto):
            with pytest.raises(RecordingError, match=r"a\.jsonl\.partial is being written already; wait"):
                write(path, ticks(9))
        writer.write(event_at(1, 1))
    assert list(read_recording(path)) == ticks(2)
    with pytest.raises(ZeroDivisionError), RecordingWriter(path) as writer:
        writer.write(event_at(5))
        raise ZeroDivisionError
    write_recording(path, ticks(3))  # over what was given up
    assert list(read_recording(path)) == ticks(3)
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("write", [write_recording, write_perfetto])
def test_a_file_may_be_read_by_whom_the_umask_lets(tmp_path, write):
    before = os.umask(0o027)
    try:
        write(tmp_path / "a", ticks(1))
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "a").stat().st_mode) == 0o640


def test_an_error_of_the_source_of_events_passes_as_it_is_and_what_came_before_is_kept(tmp_path):
    def broken():
        yield from ticks(3)
        raise OSError("the source is gone")

    with pytest.raises(OSError, match="the source is gone"):
        write_recording(tmp_path / "a.jsonl", broken())
    assert (tmp_path / "a.jsonl.partial").read_bytes() == lines_of(ticks(3))


def test_what_came_before_an_event_that_is_no_json_is_kept(tmp_path):
    good = [event_at(number + 0.5, number) for number in range(100)]
    with pytest.raises(EventError, match="cannot be written as JSON"):
        write_recording(tmp_path / "a.jsonl", [*good, event_at(0.5, 100, what=object()), *good])
    assert (tmp_path / "a.jsonl.partial").read_bytes() == lines_of(good)


def test_an_error_before_the_first_event_leaves_no_file(tmp_path):
    with pytest.raises(ZeroDivisionError), RecordingWriter(tmp_path / "a.jsonl"):
        raise ZeroDivisionError
    assert not list(tmp_path.glob("a.*"))


def test_events_reach_the_file_when_the_flush_time_is_over(tmp_path):
    clock = Clock()
    with RecordingWriter(tmp_path / "a.jsonl", flush_s=1, monotonic=clock.monotonic) as writer:
        writer.write(event_at(0, 0))
        assert writer.partial.stat().st_size == 0
        clock.now += 1
        writer.write(event_at(1, 1))
        assert list(read_recording(writer.partial)) == [event_at(0, 0), event_at(1, 1)]


def test_a_killed_recorder_leaves_what_it_had_flushed(tmp_path):
    path = tmp_path / "a.jsonl"
    script = f"""
import os, signal
from syndarix_rt.playback import RecordingWriter, read_recording
from playback_clock import event_at
with RecordingWriter({str(path)!r}, flush_s=0) as writer:
    for number in range(100):
        writer.write(event_at(number, number))
    os.kill(os.getpid(), signal.SIGKILL)
"""
    environment = os.environ | {"PYTHONPATH": os.path.dirname(__file__)}  # noqa: PTH120 - text for the environment
    done = subprocess.run([sys.executable, "-c", script], env=environment, timeout=30, check=False)
    assert done.returncode == -signal.SIGKILL
    assert not path.exists()
    assert list(read_recording(tmp_path / "a.jsonl.partial")) == ticks(100)


@contextlib.contextmanager
def files_no_larger_than(size):
    """As on a full disk: the system takes no more bytes into a file."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize("count", [2, 20_000])
def test_a_full_disk_is_reported_with_the_file_and_the_reason(tmp_path, count):
    path = tmp_path / "a.jsonl"
    path.write_bytes(b"an older one")
    with (
        pytest.raises(
            RecordingError, match=r"a.jsonl: cannot write: File too large; about \d+ events stand in a.jsonl.p"
        ),
        files_no_larger_than(100),
    ):
        write_recording(path, ticks(count))
    assert path.read_bytes() == b"an older one"


def test_a_full_disk_is_found_when_events_are_handed_on():
    with (
        pytest.raises(RecordingError, match=r"/dev/full: cannot write: No space left"),
        RecordingWriter("/dev/full", flush_s=0) as writer,
    ):
        writer.write(event_at(0))


def test_a_device_is_written_to_and_stays_a_device(tmp_path):
    assert write_recording("/dev/null", ticks(3)) == 3
    assert stat.S_ISCHR(os.stat("/dev/null").st_mode)  # noqa: PTH116 - of the device itself
    assert not os.path.exists("/dev/null.partial")  # noqa: PTH110 - see above


@pytest.mark.parametrize("name", ["", "no/such/directory/a.jsonl"])
def test_a_name_that_cannot_be_written_is_reported_before_any_event(tmp_path, name):
    with pytest.raises(RecordingError, match=r"cannot write: (Is a directory|No such file or directory)"):
        RecordingWriter(tmp_path / name)


def test_a_packed_recording_is_read(tmp_path):
    path = tmp_path / "a.jsonl.gz"
    path.write_bytes(gzip.compress(lines_of(ticks(5))))
    assert list(read_recording(path)) == ticks(5)


def test_empty_lines_other_line_ends_and_a_missing_last_one_are_read(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_bytes(b"\n" + lines_of(ticks(3)).replace(b"\n", b"\r\n") + b"  \n" + event_at(3, 3).encode())
    assert list(read_recording(path)) == [*ticks(3), event_at(3, 3)]


def good_then(tmp_path, rest, name="a.jsonl"):
    path = tmp_path / name
    path.write_bytes(lines_of(ticks(3)) + rest)
    return path


def read_until_it_fails(path):
    events = []
    with pytest.raises(RecordingError) as caught:
        events.extend(read_recording(path))  # extend takes one by one, so the good ones are kept
    return events, str(caught.value)


def test_every_cut_of_the_last_line_is_found_and_the_good_events_are_given(tmp_path):
    last = event_at(3, 3).encode()
    for length in range(1, len(last)):
        path = good_then(tmp_path, last[:length])
        events, text = read_until_it_fails(path)
        assert events == ticks(3)
        assert text == (
            f"{path}, line 4: the last line is cut off, 3 good events precede it; remove that line to use them"
        )


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b"{}", "Object missing required field `specversion`"),
        (b"not JSON", "not JSON"),
        (b"[]", "expected a JSON object"),
        (b"\xff\xfe", "not JSON"),
        (b'{"a":' * 5000, "$: "),
        (b"x" * 70_000, "bytes, more than 65536"),
        (
            event_at(3).encode().replace(b"test_tick", b"agent_started"),
            "$.data: Object missing required field `run_id`",
        ),
        (event_at(3).encode().replace(b"2026-01-01T", b"2026-13-01T"), "$.time: Invalid RFC3339 encoded datetime"),
    ],
)
def test_a_wrong_line_is_named_with_file_line_path_and_reason(tmp_path, line, reason):
    path = good_then(tmp_path, line + b"\n" + event_at(9, 9).encode() + b"\n")
    events, text = read_until_it_fails(path)
    assert events == ticks(3)
    assert text.startswith(f"{path}, line 4: ")
    assert reason in text
    assert text.endswith("(3 good events precede it)")


def test_a_last_line_that_is_whole_and_no_event_is_not_called_cut(tmp_path):
    events, text = read_until_it_fails(good_then(tmp_path, b'{"specversion":"1.0"}'))
    assert events == ticks(3)
    assert "line 4: $: Object missing required field" in text


def test_a_file_that_is_not_there_is_named(tmp_path):
    assert read_until_it_fails(tmp_path / "none.jsonl") == (
        [],
        f"{tmp_path}/none.jsonl: no such file",
    )


@pytest.mark.parametrize("damage", ["cut", "garbage", "not packed"])
def test_a_damaged_packed_recording_is_reported(tmp_path, damage):
    path = tmp_path / "a.jsonl.gz"
    packed = gzip.compress(lines_of(ticks(2000)))
    half = len(packed) // 2
    path.write_bytes(
        {
            "cut": packed[:half],
            "garbage": packed[:half] + bytes(range(256)) + packed[half:],
            "not packed": b"{}\n",
        }[damage]
    )
    _, text = read_until_it_fails(path)
    assert text.startswith(f"{path}")
