"""The sans-IO core of tails: whatever is lost, doubled or reordered, every offset comes out once and in order."""

from __future__ import annotations

import copy

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from syndarix_rt.broker.protocol import Batch, Page
from syndarix_rt.broker.reader import Announcement, Reader, Top, parse
from syndarix_rt.delivery.resume import Position, judge
from syndarix_rt.events import EventId


class Log:
    """A log that is published to, trimmed, reset or succeeded, and read in pages."""

    def __init__(self):
        self.epoch, self.first, self.entries, self.survived = "epoch-00", 1, [], ()
        self.epochs = 1
        self.truth = {}  # (epoch, offset) -> entry, of every epoch that an offset was valid in

    @property
    def last(self):
        return self.first + len(self.entries) - 1

    @property
    def position(self):
        return Position(self.epoch, self.first, self.last, self.survived)

    def publish(self, size, *, carried):
        first = self.last + 1
        new = [b"%s/%d" % (self.epoch.encode(), first + n) for n in range(size)]
        self.entries += new
        return Announcement(self.epoch, first, size, new if carried else None)

    def trim(self, count):
        count = min(count, len(self.entries))
        del self.entries[:count]
        self.first += count

    def _next_epoch(self):
        self.epoch = f"epoch-{self.epochs:02}"
        self.epochs += 1

    def reset(self):
        self.first, self.entries, self.survived = 1, [], ()
        self._next_epoch()

    def succeed(self, lost):
        lost = min(lost, len(self.entries))
        if lost:
            del self.entries[-lost:]
        self.survived = (*self.survived, EventId(self.epoch, self.last))
        self._next_epoch()

    def read(self, after, limit):
        first = max(after + 1, self.first)
        start = first - self.first
        return Page(self.position, first, self.entries[start : start + limit])


class Tail:
    """A reader and what came out of it, checked against the log as it was."""

    def __init__(self, log):
        self.log = log
        self.reader = Reader(log.position)
        self.at = log.position.top
        self.positions = [log.position]
        self.out = []

    def give(self, update):
        if isinstance(update, Batch):
            assert (update.epoch, update.first) == (self.at.epoch, self.at.offset + 1)
            assert update.entries
            self.out += update.entries
            self.at = EventId(update.epoch, update.last)
        elif isinstance(update, Position):
            # Never without need: it says another epoch, or that entries are gone before they could be read.
            assert update.epoch != self.at.epoch or update.first > self.at.offset + 1
            self.positions.append(update)
            self.at = update.top
        assert (self.reader.epoch, self.reader.last) == self.at

    def catch_up(self, limit=1000):
        while self.reader.behind:
            self.give(self.reader.page(self.log.read(self.reader.last, limit)))
        assert self.reader.lag == 0


def state(reader):
    return reader.epoch, reader.last, reader.behind, reader.lag


def taken(reader, message):
    """What the reader makes of it: the short way, where that is open, does the same as the long one."""
    before = state(reader)
    other = copy.copy(reader)
    usual = other.announced(message)
    batch = reader.follow(message)
    if batch is None:
        assert state(reader) == before
        return reader.announced(message)
    assert (batch, state(reader)) == (usual, state(other))
    return batch


channel_faults = st.lists(
    st.one_of(
        st.tuples(st.just("publish"), st.integers(1, 5), st.booleans()),
        st.tuples(st.just("deliver"), st.integers(0, 8)),
        st.tuples(st.just("deliver again"), st.integers(0, 8)),
        st.tuples(st.just("lose"), st.integers(0, 8)),
        st.tuples(st.just("compare")),
        st.tuples(st.just("read one page"), st.integers(1, 4)),
        st.tuples(st.just("trim"), st.integers(1, 10)),
        st.tuples(st.just("reset")),
        st.tuples(st.just("succeed"), st.integers(0, 3)),
    ),
    max_size=60,
)


@settings(max_examples=300, deadline=None)
@given(channel_faults)
def test_whatever_pubsub_does_the_tail_is_contiguous_and_ends_level_with_the_log(faults):
    log = Log()
    log.publish(2, carried=True)
    tail = Tail(log)
    wire = []
    for fault, *arguments in faults:
        if fault == "publish":
            size, carried = arguments
            wire.append(log.publish(size, carried=carried))
        elif fault in ("deliver", "deliver again", "lose") and wire:
            at = arguments[0] % len(wire)
            message = wire[at] if fault == "deliver again" else wire.pop(at)
            if fault != "lose":
                tail.give(taken(tail.reader, message))
        elif fault == "compare":
            tail.reader.compared(Top(log.epoch, log.last))
        elif fault == "read one page" and tail.reader.behind:
            tail.give(tail.reader.page(log.read(tail.reader.last, arguments[0])))
        elif fault == "trim":
            log.trim(arguments[0])
        elif fault == "reset":
            log.reset()
        elif fault == "succeed":
            log.succeed(arguments[0])
    tail.reader.compared(Top(log.epoch, log.last))
    tail.catch_up()
    assert tail.at == log.position.top
    assert len(set(tail.out)) == len(tail.out), "an entry came out twice"
    # What came out since the last position is what the log holds there.
    since = tail.positions[-1].last + 1
    kept = range(max(since, log.first), log.last + 1)
    assert tail.out[len(tail.out) - len(kept) :] == [log.entries[offset - log.first] for offset in kept]


@settings(max_examples=200, deadline=None)
@given(channel_faults)
def test_a_cursor_that_is_judged_at_each_position_sees_everything_or_a_gap(faults):
    """The consumer of `broker_contract.Consumer`, without I/O: each surviving entry once, or a gap that covers it."""
    log = Log()
    tail = Tail(log)
    cursor, seen, gaps = log.position.top, [], 0
    wire, published = [], []

    def take(update):
        nonlocal cursor, gaps
        tail.give(update)
        if isinstance(update, Batch):
            assert update.first == cursor.offset + 1
            seen.extend(update.entries)
            cursor = EventId(update.epoch, update.last)
        elif isinstance(update, Position):
            after, gap = judge(cursor, update, live=True)
            gaps += gap is not None
            page = log.read(after, update.last - after)
            assert page.first == after + 1
            seen.extend(page.entries)
            cursor = update.top

    lossless = True
    for fault, *arguments in faults:
        if fault == "publish":
            wire.append(log.publish(arguments[0], carried=arguments[1]))
            published += log.entries[-arguments[0] :]
        elif fault == "deliver" and wire:
            take(tail.reader.announced(wire.pop(arguments[0] % len(wire))))
        elif fault == "lose" and wire:
            wire.pop(arguments[0] % len(wire))
        elif fault == "compare":
            tail.reader.compared(Top(log.epoch, log.last))
        elif fault == "succeed":
            lossless = lossless and not arguments[0]
            log.succeed(arguments[0])
        elif fault in ("trim", "reset"):
            lossless = False
            log.trim(arguments[0]) if fault == "trim" else log.reset()
        while tail.reader.behind:
            take(tail.reader.page(log.read(tail.reader.last, 3)))
    tail.reader.compared(Top(log.epoch, log.last))
    while tail.reader.behind:
        take(tail.reader.page(log.read(tail.reader.last, 3)))
    assert len(set(seen)) == len(seen)
    if lossless:
        assert (seen, gaps) == (published, 0)
    elif not gaps:
        kept = [entry for entry in log.entries if entry in published]
        assert [entry for entry in seen if entry in kept] == kept


def reader(last=5):
    return Reader(Position("epoch-00", 1, last))


def announcement(first, size, epoch="epoch-00", *, carried=True):
    return Announcement(epoch, first, size, [b"%d" % n for n in range(first, first + size)] if carried else None)


def test_the_expected_announcement_is_applied():
    r = reader()
    assert r.announced(announcement(6, 2)) == Batch("epoch-00", 6, [b"6", b"7"])
    assert (r.last, r.behind) == (7, False)


def test_an_older_one_is_dropped_and_of_an_overlapping_one_the_rest_is_applied():
    r = reader()
    assert r.announced(announcement(4, 2)) is None
    assert r.announced(announcement(4, 3)) == Batch("epoch-00", 6, [b"6"])
    assert not r.behind


@pytest.mark.parametrize(
    "message", [announcement(7, 1), announcement(6, 1, carried=False), announcement(6, 1, "epoch-01")]
)
def test_anything_else_makes_it_read_the_log(message):
    r = reader()
    assert r.announced(message) is None
    assert (r.last, r.behind) == (5, True)


def test_a_comparison_older_than_what_was_heard_says_nothing():
    r = reader()
    r.compared(Top("epoch-00", 4))
    assert not r.behind
    r.compared(Top("epoch-00", 6))
    assert r.behind
    r = reader()
    r.compared(Top("", 0))
    assert r.behind, "the log is gone"


@given(
    st.from_regex(r"[A-Za-z0-9_-]{8,32}", fullmatch=True), st.integers(1, 2**53 - 1), st.lists(st.binary(min_size=1))
)
def test_messages_are_read_back(epoch, first, entries):
    entries = [entry.replace(b"\n", b"n") for entry in entries]
    head = f"1 {epoch} {first} {max(1, len(entries))}\n".encode()
    expected = Announcement(epoch, first, max(1, len(entries)), entries or None)
    assert parse(head + b"\n".join(entries)) == expected


@given(st.binary())
def test_parsing_never_raises(garbage):
    parse(garbage)
