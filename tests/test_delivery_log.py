"""One log, many cursors: whatever the bounds, filters and pages, a cursor gets every entry once and in order."""

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from syndarix_rt.delivery import Cursor, Log, Span, TypeFilter
from syndarix_rt.delivery.log import CHECKPOINT_ENTRIES, CHECKPOINT_S, PIECE_BYTES, PIECES_BYTES, cut
from syndarix_rt.delivery.sse import Decoder

EPOCH = "epoch-aa"
TYPES = ("agent_started", "issue_created", "my_custom", "pipeline_failed")


def entry(offset, event_type="my_custom", size=0):
    return msgspec.json.encode({"type": event_type, "n": offset, "pad": "x" * size})


def filled(count, types=TYPES, **bounds):
    log = Log(**bounds)
    log.start(EPOCH, 0)
    for offset in range(1, count + 1):
        log.append(offset, [entry(offset, types[offset % len(types)])])
    return log


def numbers(data):
    return [msgspec.json.decode(frame.data)["n"] for frame in Decoder().feed(data)]


def test_an_entry_becomes_a_frame_with_its_id_and_type():
    log = filled(1)
    (frame,) = Decoder().feed(log.piece(0, None).data)
    assert frame == (f"{EPOCH}.1", "issue_created", entry(1, "issue_created").decode())


def test_a_log_refuses_a_hole_and_a_repetition():
    log = filled(3)
    for first in (3, 5):
        with pytest.raises(ValueError, match="do not follow"):
            log.append(first, [entry(first)])
    assert (log.first, log.last) == (1, 3)


def test_all_who_stand_at_one_place_get_the_same_bytes_object():
    log = filled(10)
    agents = TypeFilter.parse("agent_*")
    assert log.piece(4, None) is log.piece(4, None)
    assert log.piece(4, agents) is log.piece(4, TypeFilter.parse("agent_*"))
    before = log.piece(4, None)
    log.append(11, [entry(11)])
    assert numbers(log.piece(4, None).data) == [*numbers(before.data), 11]


def test_slow_readers_at_many_places_soon_share_pieces_that_outlive_new_entries():
    log = Log(max_bytes=64 * PIECE_BYTES)
    log.start(EPOCH, 0)
    log.append(1, [entry(n, size=300) for n in range(1, 5_001)])
    readers = list(range(0, 300, 7))
    shared = {}
    for newest in range(5_001, 5_005):
        pieces = [log.piece(after, None) for after in readers]
        for after, piece in zip(readers, pieces, strict=True):
            assert numbers(piece.data) == list(range(after + 1, piece.upto + 1))
            assert shared.setdefault((after, piece.upto), piece) is piece
        readers = [piece.upto for piece in pieces]
        log.append(newest, [entry(newest)])
    assert len(set(readers)) <= 4
    for (after, upto), piece in shared.items():
        again = log.piece(after, None)
        assert (again is piece, again.upto) == (True, upto)


def test_a_new_epoch_starts_an_empty_log_after_the_position():
    log = filled(5)
    log.start("epoch-bb", 3)
    assert (log.epoch, log.first, log.last, log.size_bytes) == ("epoch-bb", 4, 3, 0)
    assert log.holds(3)
    assert not log.holds(2)
    assert not log.holds(4)


@given(st.lists(st.integers(0, 400), min_size=1, max_size=120), st.integers(1, 20), st.integers(200, 4000))
def test_memory_stays_within_five_quarters_of_its_bounds(sizes, max_entries, max_bytes):
    log = Log(max_entries=max_entries, max_bytes=max_bytes)
    log.start(EPOCH, 0)
    for offset, size in enumerate(sizes, 1):
        log.append(offset, [entry(offset, size=size)])
        held = len(numbers(b"".join(read_all(log, log.first - 1))))
        assert log.last == offset
        assert held == log.last - log.first + 1 <= max_entries + max_entries // 4
        assert log.size_bytes <= max_bytes + max_bytes // 4
        assert log.size_bytes == sum(map(len, read_all(log, log.first - 1)))


def read_all(log, after):
    pieces = []
    while after < log.last:
        piece = log.piece(after, None)
        pieces.append(piece.data)
        after = piece.upto
    return pieces


def test_a_piece_ends_after_its_budget():
    log = Log(max_bytes=10 * PIECE_BYTES)
    log.start(EPOCH, 0)
    log.append(1, [entry(n, size=PIECE_BYTES // 2) for n in range(1, 7)])
    assert [len(numbers(data)) for data in read_all(log, 0)] == [2, 2, 2]


def test_what_no_publisher_of_ours_wrote_passes_as_a_message_and_forges_nothing():
    odd = [b"not json", b'{"type":"a\\nb"}', b'{"a":1,\n"type":"my_custom"}', b"[]", b'{"type":7}', b"\xff"]
    span = Span.encode(EPOCH, 1, odd)
    frames = Decoder().feed(b"".join(span.frames))
    assert [frame.id for frame in frames] == [f"{EPOCH}.{n}" for n in range(1, 7)]
    assert [frame.event for frame in frames] == ["message", "message", "my_custom", "message", "message", "message"]
    assert frames[2].data == '{"a":1,\n"type":"my_custom"}'


filters = st.sampled_from([None, "agent_*", "issue_created", "pipeline,my_custom", "never_there", "*"]).map(
    lambda text: text and TypeFilter.parse(text)
)


@settings(max_examples=200)
@given(
    st.lists(st.integers(1, 30), min_size=1, max_size=30),  # batches appended between two wake-ups
    filters,
    st.integers(1, 40),
    st.integers(0, 40),
    st.lists(st.floats(0, 4), min_size=30, max_size=30),
)
def test_a_cursor_gets_every_entry_that_passes_once_and_in_order(batches, types, max_entries, start, pauses):
    log = Log(max_entries=max_entries)
    log.start(EPOCH, 0)
    everything = []
    cursor = None
    decoder = Decoder()
    got, now_s = [], 0.0
    for batch, pause in zip(batches, pauses, strict=False):
        first = len(everything) + 1
        fresh = [entry(n, TYPES[n * 7 % 4]) for n in range(first, first + batch)]
        everything += fresh
        log.append(first, fresh)
        if cursor is None:
            cursor = Cursor(EPOCH, min(start, log.last), types)
            begun = cursor.offset
        now_s += pause
        while cursor.offset < log.last:
            if log.holds(cursor.offset):
                data = cursor.advance(log.piece(cursor.offset, types), now_s)
            else:  # out of memory: a page of the broker's log, through the same cut
                page = Span.encode(EPOCH, cursor.offset + 1, everything[cursor.offset : cursor.offset + 7])
                data = cursor.advance(cut(page, cursor.offset, types), now_s)
            before = decoder.last_event_id
            for frame in decoder.feed(data):
                number = msgspec.json.decode(frame.data)["n"]
                assert frame.id == f"{EPOCH}.{number}"
                got.append(number)
            told = decoder.last_event_id
            if told != before:
                assert told == str(cursor.event_id)
            # Whoever is cut off here resumes without missing what passes the filter, and without seeing it again.
            resume = cursor.told
            assert not [
                n for n in range(resume + 1, cursor.offset + 1) if types is None or types.matches(TYPES[n * 7 % 4])
            ]
            assert not got or got[-1] <= resume
    wanted = [n for n in range(begun + 1, len(everything) + 1) if types is None or types.matches(TYPES[n * 7 % 4])]
    assert got == wanted


def test_a_filtered_cursor_tells_its_place_after_a_thousand_skips():
    log = Log()
    log.start(EPOCH, 0)
    types = TypeFilter.parse("agent_*")
    cursor = Cursor(EPOCH, 0, types)
    decoder = Decoder()
    for offset in range(1, CHECKPOINT_ENTRIES + 1):
        log.append(offset, [entry(offset, "issue_created")])
        data = cursor.advance(log.piece(cursor.offset, types), 0.0)
        assert decoder.feed(data) == []
        assert decoder.last_event_id == (f"{EPOCH}.{offset}" if offset == CHECKPOINT_ENTRIES else "")


def test_a_checkpoint_is_due_five_seconds_after_the_first_skip_that_was_not_told():
    log = filled(2, types=("issue_created",))
    types = TypeFilter.parse("agent_*")
    cursor = Cursor(EPOCH, 0, types)
    assert cursor.checkpoint_due_s() is None
    cursor.advance(log.piece(0, types), 100.0)
    log.append(3, [entry(3, "issue_created")])
    cursor.advance(log.piece(2, types), 103.0)
    assert cursor.checkpoint_due_s() == 100.0 + CHECKPOINT_S
    assert cursor.checkpoint() == f"id: {EPOCH}.3\n\n".encode()
    assert cursor.checkpoint_due_s() is None
    log.append(4, [entry(4, "issue_created"), entry(5, "agent_started")])
    cursor.advance(log.piece(3, types), 110.0)
    assert cursor.checkpoint_due_s() is None  # the event itself told the place
    assert cursor.told == 5


def test_an_unfiltered_cursor_never_needs_a_checkpoint():
    log = filled(50)
    cursor = Cursor(EPOCH, 0)
    cursor.advance(log.piece(0, None), 0.0)
    assert cursor.checkpoint_due_s() is None
    assert cursor.told == cursor.offset == 50


def test_cursors_at_many_places_of_an_idle_log_do_not_fill_the_memory():
    log = Log()
    log.start(EPOCH, 0)
    log.append(1, [entry(offset, size=1000) for offset in range(1, 1001)])
    pieces = [log.piece(after, None) for after in range(900)]
    assert sum(len(piece.data) for piece in pieces) > 6 * PIECES_BYTES
    assert log._pieces.size_bytes <= PIECES_BYTES + 2 * PIECE_BYTES
    assert all(log.piece(after, None) == piece for after, piece in enumerate(pieces))


def test_an_entry_nested_beyond_all_measure_passes_as_a_message():
    deep = b'{"type":"my_custom","data":' + b"[" * 100_000 + b"]" * 100_000 + b"}"
    assert Span.types_of([deep, entry(1)]) == ["message", "my_custom"]
