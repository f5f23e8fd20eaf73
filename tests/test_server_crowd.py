"""`Crowd`: whoever comes, leaves, blocks or fails at whatever moment has been given exactly what its cursor says."""

from itertools import count
from types import SimpleNamespace

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from syndarix_rt.delivery import Cursor, Log
from syndarix_rt.server import crowd as crowd_module
from syndarix_rt.server.crowd import Crowd
from syndarix_rt.server.writer import chunk_of

numbers = count()


class Member:
    """What a crowd knows of a stream and its writer, and all that was written."""

    def __init__(self, log, crowd):
        self.log, self.crowd = log, crowd
        self.cursor = Cursor(log.epoch, log.last)
        self.given = []
        self.joined = False
        self.next = "taken"
        self.number = next(numbers)

    def join(self):
        joined = self.crowd.join(self, self, self.cursor)
        if joined is not None:
            self.cursor, self.joined = joined, True
        return joined is not None

    @property
    def place(self):
        return self.crowd.place(self, self.cursor) if self.joined else self.cursor

    def write(self, data, chunk):
        assert chunk == chunk_of(data)
        self.given.append(data)
        if self.next == "fails":
            raise RuntimeError("planted")
        return self.next == "taken"

    def step_out(self):
        if self.joined:
            self.cursor, self.joined = self.crowd.leave(self, self.cursor), False

    def wait_for_client(self):
        self.step_out()

    def fail(self):
        self.step_out()

    def __hash__(self):
        return self.number  # so that whose turn it is does not change from one try to the next


class Crowds(RuleBasedStateMachine):
    """Writes are counted by a clock that goes on by one with each look at it."""

    def __init__(self):
        super().__init__()
        self.now_s = 0.0
        self.patch = pytest.MonkeyPatch()
        self.patch.setattr(crowd_module, "time", SimpleNamespace(monotonic=self.tick))
        self.patch.setattr(crowd_module, "AT_ONCE", 1)
        self.log = Log(max_entries=8)
        self.log.start("a", 0)
        self.epochs = 1
        self.history = {}
        self.crowd = Crowd(self.log)
        self.members = []

    def tick(self):
        self.now_s += 1
        return self.now_s

    def teardown(self):
        self.patch.undo()

    @rule()
    def someone_comes(self):
        member = Member(self.log, self.crowd)
        member.begin = member.cursor.offset
        member.epoch = member.cursor.epoch
        member.join()
        self.members.append(member)

    @rule(more=st.integers(1, 4))
    def news(self, more):
        first = self.log.last + 1
        entries = [b'{"type":"e","n":%d,"pad":"%s"}' % (n, b"x" * 40_000) for n in range(first, first + more)]
        self.log.append(first, entries)
        for n in range(first, first + more):
            self.history[self.log.epoch, n] = self.log._span.frames[n - self.log._span.first]

    @rule()
    def the_log_begins_anew(self):
        self.epochs += 1
        self.log.start(f"epoch{self.epochs}", 0)

    @rule(until=st.integers(1, 6))
    def a_slice(self, until):
        if not self.crowd.is_writing:
            self.crowd.begin()
        self.crowd.write(self.now_s + until)

    @precondition(lambda self: self.members)
    @rule(data=st.data(), next=st.sampled_from(["taken", "blocked", "fails"]))
    def a_client_will(self, data, next):
        data.draw(st.sampled_from(self.members)).next = next

    @precondition(lambda self: self.members)
    @rule(data=st.data())
    def someone_leaves(self, data):
        data.draw(st.sampled_from(self.members)).step_out()

    @precondition(lambda self: self.members)
    @rule(data=st.data())
    def someone_comes_back(self, data):
        member = data.draw(st.sampled_from(self.members))
        if not member.joined and member.next == "taken":
            member.join()

    @invariant()
    def all_have_been_given_what_their_cursors_say(self):
        for member in self.members:
            place = member.place
            assert place.epoch == member.epoch
            offsets = range(member.begin + 1, place.offset + 1)
            assert b"".join(member.given) == b"".join(self.history[member.epoch, n] for n in offsets)
            assert (place.events, place.pieces) == (len(offsets), len(member.given))
            assert place.size_bytes == sum(map(len, member.given))
            assert place.told == place.offset

    @invariant()
    def a_round_that_is_over_has_brought_all_to_the_head(self):
        if not self.crowd.is_writing:
            offsets = {(each.place.epoch, each.place.offset) for each in self.members if each.joined}
            assert len(offsets) <= 1


TestCrowds = Crowds.TestCase


def test_a_round_ends_at_the_head_and_gives_all_the_same_bytes():
    log = Log()
    log.start("a", 0)
    crowd = Crowd(log)
    members = [Member(log, crowd) for _ in range(3)]
    assert all(member.join() for member in members)
    log.append(1, [b'{"type":"e","pad":"%s"}' % (b"x" * 50_000)] * 7)  # in several pieces
    crowd.begin()
    crowd.write(float("inf"))
    assert not crowd.is_writing
    assert {member.place.offset for member in members} == {7}
    assert len(members[0].given) > 1
    assert all(one is other for one, other in zip(members[0].given, members[1].given, strict=True))


def test_who_stands_elsewhere_is_not_taken_in():
    log = Log()
    log.start("a", 5)
    crowd = Crowd(log)
    member, behind, elsewhere = Member(log, crowd), Member(log, crowd), Member(log, crowd)
    behind.cursor.offset = 4
    elsewhere.cursor.epoch = "b"
    assert member.join()
    assert not behind.join()
    assert not elsewhere.join()
