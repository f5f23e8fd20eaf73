"""The oracle: never wrong about honest delivery, never blind to one falsified step. No I/O."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from syndarix_rt.delivery import Gap, Position, TypeFilter, judge
from syndarix_rt.events import EventId
from syndarix_rt.verification.history import Entry, History
from syndarix_rt.verification.oracle import Declared, Ended, Opened, Oracle, Received, Told
from syndarix_rt.verification.plan import FAULTS, LEVELS, OF_CLUSTER, plan

TYPES = ("agent_started", "agent_completed", "commit_pushed")
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("publish"), st.integers(1, 6)),
        st.tuples(st.just("receive"), st.integers(0, 6)),
        st.tuples(st.sampled_from(["cut", "checkpoint", "restart", "flush"]), st.just(0)),
        st.tuples(st.sampled_from(["trim", "lose"]), st.integers(0, 5)),
    ),
    min_size=4,
    max_size=30,
)


class Story:
    """A log to which things happen, and a subscriber that is served by the rules; with all the records of it."""

    def __init__(self, types):
        self.types = None if types is None else TypeFilter.parse(types)
        self.history = History()
        self.entries = {}
        self.epochs = 0
        self.position = Position("epoch-000", 1, 0)
        self.count = 0
        self.history.stands(self.position)
        self.cursor = self.told = None
        self.connected = False
        self.records = []

    def play(self, steps):
        for name, amount in [*steps, ("publish", 1), ("receive", 1_000), ("checkpoint", 0)]:
            getattr(self, name)(amount)
        return self

    def publish(self, count):
        first = self.position.last + 1
        entries = [Entry(self.count + n, TYPES[(self.count + n) % 3], 0.0) for n in range(count)]
        self.count += count
        self.entries.update(enumerate(entries, first))
        self.history.published(self.position.epoch, first, entries)
        self._stand(last=first + count - 1)

    def trim(self, kept):
        self._stand(first=max(self.position.first, self.position.last - kept + 1))
        self.history.stands(self.position)

    def restart(self, _):
        self.lose(0)

    def lose(self, count):
        last = max(self.position.first - 1, self.position.last - count)
        survived = tuple(EventId(place.epoch, min(place.offset, last)) for place in self.position.survived)
        self._succeed(first=self.position.first, last=last, survived=(*survived, EventId(self.position.epoch, last)))

    def flush(self, _):
        self._succeed(first=1, last=0, survived=())

    def _succeed(self, **changes):
        self.epochs += 1
        self.position = Position(f"epoch-{self.epochs:03}", **changes)
        self.history.stands(self.position, losing=True)

    def _stand(self, **changes):
        self.position = msgspec.structs.replace(self.position, **changes)

    def cut(self, _):
        self.connected = False
        self.records.append(Ended(0.0, "cut"))

    def checkpoint(self, _):
        if self.connected and self.cursor != self.told:
            self._tell(self.cursor)

    def receive(self, count):
        opening = not self.connected
        if opening:
            requested = self.told
            start = EventId(self.position.epoch, self.position.first - 1)
            after, gap = (start.offset, None) if requested is None else judge(requested, self.position)
            self.records.append(Opened(0.0, requested, start, resumed=requested is not None and gap is None))
            self.connected = True
        else:
            after, gap = judge(self.cursor, self.position, requested=str(self.told), live=True)
        if gap is not None:
            self.records.append(Declared(0.0, gap))
        if opening or gap is not None or self.cursor.epoch != self.position.epoch:
            self._tell(EventId(self.position.epoch, after))
        self.cursor = EventId(self.position.epoch, after)
        for offset in range(after + 1, min(after + count, self.position.last) + 1):
            self.cursor = EventId(self.position.epoch, offset)
            entry = self.entries[offset]
            if self.types is None or self.types.matches(entry.type):
                self.told = self.cursor
                self.records.append(Received(0.0, self.cursor, entry.fingerprint))

    def _tell(self, position):
        self.cursor = self.told = position
        self.records.append(Told(0.0, position))

    def judged(self, records=None, **how):
        oracle = Oracle("a", self.history, self.types, **how)
        for record in self.records if records is None else records:
            oracle.feed(record)
        oracle.finish(self.position.top, 0.0)
        return oracle


@given(STEPS, st.sampled_from([None, "agent_*", "git"]))
def test_honest_delivery_is_never_accused(steps, types):
    oracle = Story(types).play(steps).judged()
    assert oracle.violations == []
    assert oracle.ledger.clean


@given(STEPS, st.sampled_from([None, "agent_*", "git"]))
def test_a_client_that_hides_checkpoints_is_not_accused_either(steps, types):
    story = Story(types).play(steps)
    records = [record for record in story.records if not isinstance(record, Told)]
    assert story.judged([*records, Told(0.0, story.told)], hides_checkpoints=True).violations == []


def falsified(data, story):
    """The records with one of them changed, and what must be found."""
    records = list(story.records)
    places = [index for index, record in enumerate(records) if isinstance(record, Received | Declared)]
    index = data.draw(st.sampled_from(places))
    record, before = records[index], records[:index]
    if isinstance(record, Declared):
        gap = record.gap
        other = data.draw(st.sampled_from(["hidden", "first", "missed", "reason", "requested"]))
        if other == "hidden":
            return [*before, *records[index + 1 :]]
        if other == "first":
            assume(not any(story.history.was_first(f"epoch-{n:03}", gap.first + 1) for n in range(story.epochs + 1)))
            gap = msgspec.structs.replace(gap, first=gap.first + 1)
        elif other == "missed":
            gap = msgspec.structs.replace(gap, missed=1 if gap.missed is None else gap.missed + 1)
        elif other == "reason":
            gap = msgspec.structs.replace(gap, reason="trimmed" if gap.reason == "epoch" else "epoch")
        else:
            place = EventId.parse(gap.requested)
            gap = msgspec.structs.replace(gap, requested=str(EventId(place.epoch, place.offset + 1)))
        return [*before, Declared(0.0, gap), *records[index + 1 :]]
    other = data.draw(st.sampled_from(["skip", "repeat", "swap", "epoch", "bytes"]))
    if other == "skip":
        return [*before, *records[index + 1 :]]
    if other == "repeat":
        return [*before, record, *records[index:]]
    if other == "swap":
        follower = records[index + 1] if index + 1 < len(records) else None
        assume(isinstance(follower, Received))
        return [*before, follower, record, *records[index + 2 :]]
    if other == "epoch":
        wrong = EventId("no-epoch", record.position.offset)
        return [*before, record._replace(position=wrong), *records[index + 1 :]]
    return [*before, record._replace(fingerprint=-1), *records[index + 1 :]]


@given(STEPS, st.data())
def test_one_falsified_step_is_always_found(steps, data):
    story = Story(None).play(steps)
    assert story.judged(falsified(data, story)).violations


def received(*offsets, epoch="epoch-000", story=None):
    return [Received(0.0, EventId(epoch, offset), story.entries[offset].fingerprint) for offset in offsets]


@pytest.fixture
def story():
    return Story(None).play([("publish", 9)])  # and one more


START = [Opened(0.0, None, EventId("epoch-000", 0), resumed=False)]


@pytest.mark.parametrize(
    ("offsets", "kinds", "text"),
    [
        ([1, 2, 3, 5, 6, 7, 8, 9, 10], ["hole"], "offset 4 did not come before epoch-000.5, and no gap was declared"),
        ([1, 2, 2, 3, 4, 5, 6, 7, 8, 9, 10], ["duplicate"], "epoch-000.2 came again, after epoch-000.2"),
        ([1, 2, 4, 3, 5, 6, 7, 8, 9, 10], ["hole", "order"], "epoch-000.3 came after epoch-000.4"),
        ([1, 2, 6, 7, 8, 9, 10], ["hole"], "3 offsets from 3 to 5"),
        ([1, 2, 3, 4, 5, 6, 7, 8], ["incomplete"], "stands at epoch-000.8 and lacks 2 offsets from 9 to 10"),
    ],
)
def test_what_is_wrong_is_named_with_its_bounds(story, offsets, kinds, text):
    found = story.judged([*START, *received(*offsets, story=story)]).violations
    assert [each.kind for each in found] == kinds
    assert text in found[-1].text


def test_an_event_that_the_filter_excludes_is_named():
    story = Story("agent_*").play([("publish", 9)])
    found = story.judged([*START, *received(*range(1, 11), story=story)]).violations
    assert {each.kind for each in found} == {"filter"}
    assert "of type commit_pushed, which agent_* does not let through" in found[0].text


def test_a_stream_that_says_it_resumed_declares_no_gap_and_one_that_does_not_must(story):
    at = EventId("epoch-000", 3)
    begun = [*START, *received(1, 2, 3, story=story), Ended(0.0, "cut")]
    rest = received(*range(4, 11), story=story)
    assert story.judged([*begun, Opened(0.0, at, at, resumed=True), *rest]).violations == []
    silent = story.judged([*begun, Opened(0.0, at, at, resumed=False), *rest]).violations
    assert [each.kind for each in silent] == ["resumed"]
    gap = Gap("trimmed", str(at), 6, 10, 2)
    both = story.judged([*begun, Opened(0.0, at, at, resumed=True), Declared(0.0, gap), *rest[2:]]).violations
    assert [each.kind for each in both] == ["resumed", "gap"]
    assert "the log never began at 6" in both[1].text


def test_a_subscriber_that_begins_anew_has_lost_its_place(story):
    again = [*START, *received(1, 2, story=story), *START, *received(*range(1, 11), story=story)]
    assert story.judged(again).violations[0].kind == "resumed"


STOOD = Opened(0.0, None, EventId("epoch-000", 2), resumed=False)


@pytest.mark.parametrize(
    ("records", "text"),
    [
        ([], "never knew where it stands; the log ends at epoch-001.1"),
        ([STOOD], "stands at epoch-000.2, which the log that ends at epoch-001.1 does not continue"),
        (
            [STOOD, Declared(0.0, Gap("epoch", "epoch-000.2", 1, 1, None))],
            "a gap was declared and nothing came after it",
        ),
    ],
)
def test_a_subscriber_that_is_not_at_the_end_is_told_from_one_that_is(records, text):
    story = Story(None).play([("publish", 2), ("flush", 0)])
    assert [(each.kind, each.text) for each in story.judged(records).violations] == [("incomplete", text)]


def test_a_gap_must_say_where_the_subscriber_stood(story):
    lost = Declared(0.0, Gap("trimmed", "somewhere", 1, 10, 2))
    (found, *_) = story.judged([*START, *received(1, 2, story=story), lost]).violations
    assert (found.kind, found.text.endswith("does not say where the subscriber stood")) == ("gap", True)


def test_what_a_broker_lost_without_being_told_to_is_counted():
    history = History()
    history.stands(Position("epoch-000", 1, 0))
    history.published("epoch-000", 1, [Entry(n, "agent_started", 0.0) for n in range(10)])
    history.stands(Position("epoch-001", 1, 7, (EventId("epoch-000", 7),)))
    assert history.lost == 3


def test_what_a_recorder_kept_must_follow_one_another_in_the_log():
    history = History()
    history.stands(Position("epoch-000", 1, 0))
    history.published("epoch-000", 1, [Entry(n, "agent_started", 0.0) for n in (7, 8, 7, 9)])
    history.stands(Position("epoch-001", 1, 4, (EventId("epoch-000", 4),)))
    history.published("epoch-001", 5, [Entry(10, "agent_started", 0.0)])
    for run in ([], [7], [7, 9, 10], [7, 8, 7, 9, 10]):
        assert history.has_run(run), run
    for run in ([6], [7, 10], [8, 9], [9, 10, 11]):
        assert not history.has_run(run), run


def test_a_plan_follows_from_level_and_seed_and_quick_has_every_fault():
    for level in LEVELS.values():
        faults = plan(level, 7)
        assert faults == plan(level, 7) != plan(level, 8)
        assert {fault.kind for fault in faults} == set(FAULTS) - set(OF_CLUSTER)
        assert {fault.kind for fault in plan(level, 7, cluster=True)} == set(FAULTS)
        assert len(faults) == level.faults
        assert max(fault.at_s for fault in faults) < 0.95 * level.duration_s
    shuffled = [[fault.kind for fault in plan(LEVELS["quick"], seed)] for seed in range(5)]
    assert len({tuple(kinds) for kinds in shuffled}) == 5
