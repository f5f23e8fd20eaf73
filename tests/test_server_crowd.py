"""`Crowd`: whoever comes, leaves, blocks or fails at whatever moment has been given exactly what its cursor says."""

import math
import socket
from types import SimpleNamespace

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from syndarix_rt.delivery import Cursor, Log
from syndarix_rt.server import crowd as crowd_module
from syndarix_rt.server.crowd import Crowds
from syndarix_rt.server.writer import chunk_of

SEND_BYTES = 50_000
"""As asked for: the kernel doubles it, so that one or two of the entries here fit in."""


class Member:
    """A stream as a crowd knows it, which can be written to at a socket of its own, or has none; and what it was given.

    What a socket does not take waits here, as a transport would have it.
    """

    def __init__(self, log, crowds, *, has_socket, number=0):
        self.crowds, self.crowd = crowds, None
        self.cursor = Cursor(log.epoch, log.last)
        self.begin, self.epoch = self.cursor.offset, self.cursor.epoch
        self.read, self.waiting = b"", b""
        self.next = "taken"
        self.number = number
        self.socket = self.peer = None
        if has_socket:
            self.socket, self.peer = socket.socketpair()
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BYTES)
            self.socket.setblocking(False)  # noqa: FBT003 - the standard library's
            self.peer.setblocking(False)  # noqa: FBT003
        self.descriptor = self.socket.fileno() if self.socket else -1

    def join(self):
        if not self.joined and not self.waiting and self.next == "taken":
            joined = self.crowds.join(self, self.cursor)
            if joined is not None:
                self.crowd, self.cursor = joined
        return self.joined

    @property
    def joined(self):
        return self.crowd is not None

    def put(self, data, now_s, sent=0):
        chunk = chunk_of(data)
        assert sent < len(chunk)
        assert not (self.joined and self.socket)  # whatever did not take all at once is not one of the crowd
        self.waiting += chunk[sent:]
        if self.next != "taken":
            self.step_out()

    def step_out(self):
        if self.joined:
            self.cursor, self.crowd = self.crowd.leave(self, self.cursor), None

    def client_reads(self):
        """All of it, so that nothing waits any more."""
        if self.peer is not None:
            self.read += received(self.peer)
        self.read, self.waiting = self.read + self.waiting, b""

    def client_leaves(self):
        """The socket is broken from now on, of which the crowd has to find out."""
        if self.peer is not None:
            self.read += received(self.peer)
            self.peer.close()
            self.peer = None

    def is_lost(self):
        """As `Connection.watch` tells of it: the socket is closed, and its descriptor may be the next one's."""
        self.step_out()
        self.client_leaves()
        if self.socket is not None:
            self.socket.close()
        self.next = "lost"

    @property
    def place(self):
        return self.crowd.place(self, self.cursor) if self.joined else self.cursor

    @property
    def given(self):
        """Each piece that it was given."""
        on_its_way = received(self.peer, socket.MSG_PEEK) if self.peer is not None else b""
        return pieces(self.read + on_its_way + self.waiting)

    def __hash__(self):
        return self.number  # so that whose turn it is does not change from one try to the next


def received(peer, flags=0):
    try:
        return peer.recv(1 << 20, flags)
    except BlockingIOError:
        return b""


def pieces(chunks):
    """A body without its chunks' frames."""
    found = []
    while chunks:
        size, _, rest = chunks.partition(b"\r\n")
        size = int(size, 16)
        assert rest[size : size + 2] == b"\r\n"
        found.append(rest[:size])
        chunks = rest[size + 2 :]
    return found


class Rounds(RuleBasedStateMachine):
    """Writes are counted by a clock that goes on by one with each look at it."""

    def __init__(self):
        super().__init__()
        self.now_s = 0.0
        self.patch = pytest.MonkeyPatch()
        self.patch.setattr(crowd_module, "time", SimpleNamespace(monotonic=self.tick))
        self.patch.setattr(crowd_module, "AT_ONCE", 1)
        self.patch.setattr(crowd_module, "MEMBERS", 3)
        self.log = Log(max_entries=8)
        self.log.start("a", 0)
        self.epochs = 1
        self.history = {}
        self.crowds = Crowds(self.log)
        self.is_over = True
        self.members = []

    def tick(self):
        self.now_s += 1
        return self.now_s

    def teardown(self):
        self.patch.undo()
        for member in self.members:
            member.is_lost()

    @rule(has_socket=st.booleans())
    def someone_comes(self, has_socket):
        member = Member(self.log, self.crowds, has_socket=has_socket, number=len(self.members))
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
        if self.is_over:
            self.crowds.begin()
        self.is_over = self.crowds.write(self.now_s + until)

    @rule()
    def two_rounds_without_news(self):
        for _ in range(2):  # the one that is under way, and one from its beginning to its end
            if self.is_over:
                self.crowds.begin()
            assert self.crowds.write(math.inf)
            self.is_over = True
        head = (self.log.epoch, self.log.last)
        assert {(each.place.epoch, each.place.offset) for each in self.members if each.joined} <= {head}

    @precondition(lambda self: self.members)
    @rule(data=st.data(), next=st.sampled_from(["taken", "blocked"]))
    def a_client_without_a_socket_will(self, data, next):
        member = data.draw(st.sampled_from(self.members))
        if member.socket is None and member.next != "lost":
            member.next = next

    @precondition(lambda self: self.members)
    @rule(data=st.data(), does=st.sampled_from([Member.client_reads, Member.client_leaves, Member.is_lost]))
    def something_happens_to(self, data, does):
        does(data.draw(st.sampled_from(self.members)))

    @precondition(lambda self: self.members)
    @rule(data=st.data())
    def someone_leaves(self, data):
        data.draw(st.sampled_from(self.members)).step_out()

    @precondition(lambda self: self.members)
    @rule(data=st.data())
    def someone_comes_back(self, data):
        data.draw(st.sampled_from(self.members)).join()

    @invariant()
    def all_have_been_given_what_their_cursors_say(self):
        for member in self.members:
            place = member.place
            assert place.epoch == member.epoch
            offsets = range(member.begin + 1, place.offset + 1)
            given = member.given
            assert b"".join(given) == b"".join(self.history[member.epoch, n] for n in offsets)
            assert (place.events, place.pieces) == (len(offsets), len(given))
            assert place.size_bytes == sum(map(len, given))
            assert place.told == place.offset

    @invariant()
    def no_crowd_is_larger_than_it_may_be_and_all_of_a_crowd_are_brought_to_one_place(self):
        crowds = {}
        for member in self.members:
            if member.joined:
                crowds.setdefault(member.crowd, []).append(member)
        for crowd, members in crowds.items():
            assert len(members) == len(crowd) <= 3
            if not crowd.is_writing:
                assert len({(member.place.epoch, member.place.offset) for member in members}) == 1


TestRounds = Rounds.TestCase


@pytest.fixture
def log():
    log = Log()
    log.start("a", 0)
    return log


@pytest.fixture
def clock(monkeypatch):
    """Goes on by one with each look at it, which is followed by one write."""

    def look():
        clock.now_s += 1
        return clock.now_s

    clock = SimpleNamespace(now_s=0, monotonic=look)
    monkeypatch.setattr(crowd_module, "time", clock)
    monkeypatch.setattr(crowd_module, "AT_ONCE", 1)
    return clock


def members_of(crowds, log, number, *, has_socket):
    members = [Member(log, crowds, has_socket=has_socket, number=number) for number in range(number)]
    assert all(member.join() for member in members)
    return members


def test_a_round_ends_at_the_head_and_gives_all_the_same_bytes(log):
    crowds = Crowds(log)
    members = members_of(crowds, log, 3, has_socket=False)
    given = [[], [], []]
    for member, each in zip(members, given, strict=True):
        member.put = lambda data, now_s, each=each: each.append(data)
    log.append(1, [b'{"type":"e","pad":"%s"}' % (b"x" * 50_000)] * 7)  # in several pieces
    crowds.begin()
    assert crowds.write(math.inf)
    assert {member.place.offset for member in members} == {7}
    assert len(given[0]) > 1
    assert all(one is other for one, other in zip(given[0], given[1], strict=True))


def test_who_stands_elsewhere_is_not_taken_in(log):
    crowds = Crowds(log)
    member, behind, elsewhere = (Member(log, crowds, has_socket=False) for _ in range(3))
    behind.cursor.offset = -1
    elsewhere.cursor.epoch = "b"
    assert member.join()
    assert not behind.join()
    assert not elsewhere.join()


def a_round_with_news_after_three_writes(crowds, log, clock, members):
    log.append(1, [b'{"type":"e"}'])
    crowds.begin()
    while sum(member.place.offset for member in members) < 3:
        assert not crowds.write(clock.now_s + 2)
    log.append(2, [b'{"type":"e"}'])
    assert crowds.write(math.inf)


def test_who_has_not_had_a_turn_is_given_what_came_meanwhile(log, clock, monkeypatch):
    monkeypatch.setattr(crowd_module, "MEMBERS", 2)
    crowds = Crowds(log)
    members = members_of(crowds, log, 6, has_socket=False)
    a_round_with_news_after_three_writes(crowds, log, clock, members)
    assert sorted(member.place.offset for member in members) == [1, 1, 1, 1, 2, 2]


def test_the_crowd_with_the_most_room_comes_last_so_that_others_can_come_to_it(log, clock, monkeypatch):
    monkeypatch.setattr(crowd_module, "MEMBERS", 3)
    crowds = Crowds(log)
    members = members_of(crowds, log, 6, has_socket=False)
    for leaver in members[1:3]:
        leaver.step_out()
    a_round_with_news_after_three_writes(crowds, log, clock, members)
    assert [member.place.offset for member in members] == [2, 0, 0, 1, 1, 1]
    (comer,) = members_of(crowds, log, 1, has_socket=False)
    assert comer.crowd is members[0].crowd


def test_a_crowd_that_all_have_left_is_forgotten(log):
    crowds = Crowds(log)
    (member,) = members_of(crowds, log, 1, has_socket=False)
    crowd = member.crowd
    member.step_out()
    crowds.begin()
    (other,) = members_of(crowds, log, 1, has_socket=False)
    assert other.crowd is not crowd


@pytest.mark.parametrize("has_socket", [True, False])
def test_who_leaves_in_the_middle_of_a_round_has_no_part_in_the_rest_of_it(log, clock, has_socket):
    crowds = Crowds(log)
    members = members_of(crowds, log, 3, has_socket=has_socket)
    log.append(1, [b'{"type":"e"}'])
    crowds.begin()
    assert not crowds.write(clock.now_s + 2)
    (early,) = (member for member in members if member.place.offset == 1)
    late, other = (member for member in members if member is not early)
    for member in (early, late):
        member.is_lost()
    assert crowds.write(math.inf)
    assert [len(member.given) for member in (early, late, other)] == [1, 0, 1]
    assert [member.place.offset for member in (early, late, other)] == [1, 0, 1]
    other.is_lost()


def test_whose_socket_does_not_take_all_leaves_and_is_given_the_rest(log):
    crowds = Crowds(log)
    full, broken, other = members_of(crowds, log, 3, has_socket=True)
    broken.client_leaves()
    for offset in range(1, 21):
        log.append(offset, [b'{"type":"e","pad":"%s"}' % (b"x" * 40_000)])
        crowds.begin()
        assert crowds.write(math.inf)
        other.client_reads()
        for member in (full, broken):
            assert len(member.given) == member.place.offset
    assert other.joined
    assert other.place.offset == 20
    assert not full.joined
    assert 0 < len(full.waiting) < len(full.given) * 40_000
    assert (broken.joined, broken.place.offset) == (False, 1)
    for member in (full, broken, other):
        member.is_lost()
