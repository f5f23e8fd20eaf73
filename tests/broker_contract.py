"""What every broker must do: the same tests for each implementation.

A test module makes a subclass and gives it the fixture ``open_broker``: a function that opens another broker on the
same data, with any of the options ``retention``.
"""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import json
import random
from collections import defaultdict
from contextlib import aclosing
from datetime import UTC, datetime, timedelta

import pytest

from syndarix_rt.broker import Batch, Retention
from syndarix_rt.broker.protocol import follow
from syndarix_rt.delivery import Approval, Position, judge
from syndarix_rt.errors import ApprovalDecided, BrokerError, BrokerUnavailable, EventError, PublishConflict
from syndarix_rt.events import Event, EventId

CHANNEL = "project:{apollo}"
DEADLINE_S = 60


def numbered(first, last):
    return [b'{"n":%d}' % n for n in range(first, last + 1)]


START = datetime(2026, 1, 5, 9, tzinfo=UTC)
NOW = datetime(2026, 3, 1, 12, 0, 0, 5, tzinfo=UTC)
"""The wall time of every decision in these tests."""


def at(time_s):
    return START + timedelta(seconds=time_s)


def happened(time_s, type="my_event", *, simulation="sim-1", **data):
    """An encoded event of the project, so many seconds after the start."""
    event = Event.new(
        type, data, project="apollo", id=f"{type}-{time_s}".replace(".", "_"), time=at(time_s), simulation=simulation
    )
    return event.encode()


def asked(time_s, approval_id="a-1", **more):
    return happened(time_s, "approval_required", approval_id=approval_id, **more)


def resolved(time_s, approval_id="a-1", decision="approved", by="human-1", **more):
    return happened(time_s, "approval_resolved", approval_id=approval_id, decision=decision, by=by, **more)


async def events_of(broker, after=0):
    page = await broker.read(CHANNEL, after, 1000)
    return [Event.decode(entry) for entry in page.entries]


async def decide(broker, decision="approved", approval_id="a-1", by="Ana", **more):
    return await broker.decide(CHANNEL, approval_id, decision, at=NOW, by=by, **more)


async def once_it_is_back(call):
    """The result of ``call()``, tried again while the broker is away."""
    async with asyncio.timeout(DEADLINE_S):
        while True:
            try:
                return await call()
            except BrokerUnavailable:
                await asyncio.sleep(0.01)


async def eventually(check):
    """Wait until ``check()``, which may be async, gives something true, and give it back."""
    async with asyncio.timeout(DEADLINE_S):
        while True:
            found = check()
            if inspect.isawaitable(found):
                found = await found
            if found:
                return found
            await asyncio.sleep(0.01)


@contextlib.asynccontextmanager
async def following(broker, channel=CHANNEL):
    """A tail, its first position taken, in which each wait has a deadline."""
    tail = broker.tail(channel)
    async with contextlib.aclosing(tail):
        yield _Following(tail, await asyncio.wait_for(anext(tail), DEADLINE_S))


class _Following:
    def __init__(self, tail, position):
        assert isinstance(position, Position)
        self.tail = tail
        self.position = position

    async def next(self):
        return await asyncio.wait_for(anext(self.tail), DEADLINE_S)

    async def entries(self, last):
        """Everything up to offset ``last``, which must come in batches that follow each other."""
        entries = []
        expected = self.position.last + 1
        while expected <= last:
            update = await self.next()
            assert isinstance(update, Batch)
            assert (update.epoch, update.first) == (self.position.epoch, expected)
            assert update.entries
            entries += update.entries
            expected = update.last + 1
        self.position = Position(self.position.epoch, 1, expected - 1)
        return entries


class Consumer:
    """What the server does with a tail: a cursor that is judged at each position, and pages for what lies between.

    Attributes:
        seen: (offset, entry) in the order in which they came.
        gaps: what was declared.
        away: how often the broker was away.
    """

    def __init__(self, broker, channel=CHANNEL):
        self.broker = broker
        self.channel = channel
        self.cursor = None
        self.seen = []
        self.gaps = []
        self.away = 0

    async def __aenter__(self):
        self.task = asyncio.create_task(self._follow())
        await eventually(lambda: self.cursor)
        return self

    async def __aexit__(self, *_):
        self.task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self.task

    async def _follow(self):
        async with contextlib.aclosing(self.broker.tail(self.channel, at_once=self._next)) as tail:
            async for update in tail:
                if isinstance(update, Batch):
                    self._next(update)
                elif isinstance(update, Position):
                    self.position = update
                    await self._catch_up()
                else:
                    self.away += 1

    def _next(self, batch):
        assert (batch.epoch, batch.first) == (self.cursor.epoch, self.cursor.offset + 1)
        self._take(batch)

    async def _catch_up(self):
        position = self.position
        if self.cursor is None:
            self.cursor = position.top
        after, gap = judge(self.cursor, position, live=True)
        if gap:
            self.gaps.append(gap)
        self.cursor = EventId(position.epoch, after)
        while self.cursor.offset < position.last:
            try:
                page = await self.broker.read(
                    self.channel, self.cursor.offset, min(1000, position.last - self.cursor.offset)
                )
            except BrokerUnavailable:
                return  # the tail will notice too, and give a position again
            if page.position.epoch != position.epoch or page.first != self.cursor.offset + 1:
                return
            self._take(Batch(position.epoch, page.first, page.entries))

    def _take(self, batch):
        self.seen += zip(range(batch.first, batch.last + 1), batch.entries, strict=True)
        self.cursor = EventId(batch.epoch, batch.last)


class BrokerContract:
    """Subclass it as ``Test…`` and give it ``open_broker``."""

    @pytest.fixture
    async def broker(self, open_broker):
        return open_broker()

    # ---- positions and offsets

    async def test_an_unknown_channel_gets_an_epoch_and_an_empty_log(self, broker):
        position = await broker.position(CHANNEL)
        assert (position.first, position.last, position.survived) == (1, 0, ())
        assert EventId.parse(f"{position.epoch}.0") == position.top
        assert await broker.position(CHANNEL) == position
        assert (await broker.position("project:{other}")).epoch != position.epoch

    async def test_offsets_count_from_1_without_holes(self, broker):
        epoch = (await broker.position(CHANNEL)).epoch
        first = await broker.publish(CHANNEL, numbered(1, 3))
        second = await broker.publish(CHANNEL, numbered(4, 4))
        assert (first.epoch, first.first, first.last, first.duplicates) == (epoch, 1, 3, 0)
        assert (second.epoch, second.first, second.last, second.duplicates) == (epoch, 4, 4, 0)
        assert await broker.position(CHANNEL) == Position(epoch, 1, 4)
        assert (await broker.read(CHANNEL, 0, 10)).entries == numbered(1, 4)

    async def test_bytes_pass_untouched(self, broker):
        entries = [b'{"t":"\xc3\xa9\xe2\x98\x83"}', b"\r", b"\x00\xff", b" {} ", b"1 epochepoch 1 1"]
        async with following(broker) as tail:
            await broker.publish(CHANNEL, entries)
            assert await tail.entries(5) == entries
        assert (await broker.read(CHANNEL, 0, 10)).entries == entries

    async def test_parallel_publishers_share_one_order_and_no_batch_is_torn(self, open_broker):
        brokers = [open_broker() for _ in range(4)]
        sizes = random.Random(1)

        async def publish(name, broker):
            for batch in range(25):
                entries = [b"[%d,%d,%d]" % (name, batch, n) for n in range(sizes.randint(1, 30))]
                published = await broker.publish(CHANNEL, entries, producer=f"p{name}", sequence=batch)
                placed[published.first] = entries
                assert published.last - published.first + 1 == len(entries)

        placed = {}
        async with following(brokers[0]) as tail:
            await asyncio.gather(*(publish(name, broker) for name, broker in enumerate(brokers)))
            expected = [entry for first in sorted(placed) for entry in placed[first]]
            assert await tail.entries(len(expected)) == expected
        position = await brokers[0].position(CHANNEL)
        assert (position.first, position.last) == (1, len(expected))
        assert (await brokers[0].read(CHANNEL, 0, len(expected))).entries == expected
        order = defaultdict(list)
        for first in sorted(placed):
            name, batch, _ = json.loads(placed[first][0])
            order[name].append(batch)
        assert all(batches == list(range(25)) for batches in order.values())

    @pytest.mark.parametrize(
        "entries",
        [[], [b"1"] * 1001, [b"x" * (1024 * 1024)] * 4 + [b"1"], [b"1", b""], [b"1", b"2\n3"]],
        ids=["none", "too many", "too large", "an empty entry", "a line end"],
    )
    async def test_what_is_no_batch_is_refused_and_nothing_of_it_is_stored(self, broker, entries):
        with pytest.raises(ValueError, match=r"batch|entry"):
            await broker.publish(CHANNEL, entries)
        assert (await broker.position(CHANNEL)).last == 0

    async def test_the_largest_batches_are_taken(self, broker):
        async with following(broker) as tail:
            await broker.publish(CHANNEL, numbered(1, 1000))
            await broker.publish(CHANNEL, [b"x" * (1024 * 1024)] * 4)
            entries = await tail.entries(1004)
        assert entries[:1000] == numbered(1, 1000)
        assert [len(entry) for entry in entries[1000:]] == [1024 * 1024] * 4

    # ---- sending again

    async def test_a_batch_sent_again_adds_nothing_and_gets_the_first_reply(self, broker):
        first = await broker.publish(CHANNEL, numbered(1, 3), producer="p", sequence=7)
        await broker.publish(CHANNEL, numbered(4, 5))
        again = await broker.publish(CHANNEL, numbered(1, 3), producer="p", sequence=7)
        assert (again.epoch, again.first, again.last, again.duplicates) == (first.epoch, 1, 3, 3)
        assert (await broker.read(CHANNEL, 0, 10)).entries == numbered(1, 5)

    async def test_a_batch_sent_many_times_at_once_is_added_once(self, open_broker):
        brokers = [open_broker() for _ in range(3)]
        replies = await asyncio.gather(
            *(broker.publish(CHANNEL, numbered(1, 2), producer="p", sequence=1) for broker in brokers * 3)
        )
        assert {(reply.first, reply.last) for reply in replies} == {(1, 2)}
        assert sorted(reply.duplicates for reply in replies) == [0] + [2] * 8
        assert (await brokers[0].position(CHANNEL)).last == 2

    async def test_a_lower_sequence_is_a_conflict(self, broker):
        await broker.publish(CHANNEL, [b"1"], producer="p", sequence=7)
        with pytest.raises(PublishConflict, match="7"):
            await broker.publish(CHANNEL, [b"2"], producer="p", sequence=6)
        assert (await broker.position(CHANNEL)).last == 1

    async def test_the_same_sequence_with_another_content_is_a_conflict(self, broker):
        await broker.publish(CHANNEL, [b"1"], producer="p", sequence=0, fingerprint="a b")
        assert (await broker.publish(CHANNEL, [b"1"], producer="p", sequence=0, fingerprint="a b")).duplicates == 1
        for fingerprint in ("a", ""):
            with pytest.raises(PublishConflict, match="another content"):
                await broker.publish(CHANNEL, [b"1"], producer="p", sequence=0, fingerprint=fingerprint)
        assert (await broker.position(CHANNEL)).last == 1

    async def test_producers_and_channels_do_not_know_each_other(self, broker):
        for channel in (CHANNEL, "project:{other}", "chat:{apollo}"):
            for producer in ("p", "q", "key with spaces / and ünïcode"):
                reply = await broker.publish(channel, [b"1"], producer=producer, sequence=3)
                assert reply.duplicates == 0
            assert (await broker.position(channel)).last == 3

    async def test_sequences_may_skip_and_be_large(self, broker):
        for sequence in (5, 9, 2**53 - 1):
            assert (await broker.publish(CHANNEL, [b"1"], producer="p", sequence=sequence)).duplicates == 0
        assert (await broker.publish(CHANNEL, [b"1"], producer="p", sequence=2**53 - 1)).duplicates == 1

    async def test_a_batch_sent_again_after_a_reset_is_not_added_to_the_new_history(self, broker):
        first = await broker.publish(CHANNEL, [b"1"], producer="p", sequence=1)
        await broker.reset(CHANNEL)
        again = await broker.publish(CHANNEL, [b"1"], producer="p", sequence=1)
        assert (again.epoch, again.duplicates) == (first.epoch, 1)
        assert (await broker.position(CHANNEL)).last == 0

    # ---- reading

    async def test_pages_follow_each_other(self, broker):
        await broker.publish(CHANNEL, numbered(1, 250))
        for limit in (1, 7, 100, 101, 250, 1000):
            after, entries = 0, []
            while after < 250:
                page = await broker.read(CHANNEL, after, limit)
                assert page.first == after + 1
                assert 1 <= len(page.entries) <= limit
                assert page.position.last == 250
                entries += page.entries
                after = page.last
            assert entries == numbered(1, 250)

    async def test_a_page_at_the_end_is_empty(self, broker):
        await broker.publish(CHANNEL, numbered(1, 3))
        for after in (3, 4):
            page = await broker.read(CHANNEL, after, 10)
            assert (page.first, page.entries) == (after + 1, [])
            assert page.position.last == 3

    async def test_a_page_of_large_entries_ends_early_and_is_never_empty(self, broker):
        for _ in range(3):
            await broker.publish(CHANNEL, [b"x" * 500_000] * 8)
        page = await broker.read(CHANNEL, 0, 1000)
        assert 8 <= len(page.entries) < 24
        assert (await broker.read(CHANNEL, page.last, 1)).first == page.last + 1

    # ---- retention

    async def test_retention_by_count_keeps_at_least_what_was_asked_and_not_much_more(self, open_broker):
        broker = open_broker(retention=Retention(entries=1000))
        for start in range(1, 3001, 100):
            await broker.publish(CHANNEL, numbered(start, start + 99))
        position = await broker.position(CHANNEL)
        assert position.last == 3000
        assert 1000 <= position.last - position.first + 1 <= 1200
        page = await broker.read(CHANNEL, 0, 1)
        assert (page.first, page.entries) == (position.first, numbered(position.first, position.first))

    async def test_retention_by_bytes(self, open_broker):
        broker = open_broker(retention=Retention(bytes=1_000_000))
        entry = b"x" * 10_000
        for _ in range(40):
            await broker.publish(CHANNEL, [entry] * 10)
        position = await broker.position(CHANNEL)
        kept = (position.last - position.first + 1) * len(entry)
        assert position.last == 400
        assert 800_000 <= kept <= 1_200_000

    async def test_retention_by_age_takes_the_log_and_leaves_the_epoch(self, open_broker):
        broker = open_broker(retention=Retention(age_s=0.2))
        published = await broker.publish(CHANNEL, numbered(1, 3))

        async def expired():
            position = await broker.position(CHANNEL)
            return position if position.first > 3 else None

        assert await eventually(expired) == Position(published.epoch, 4, 3)
        page = await broker.read(CHANNEL, 1, 10)
        assert (page.first, page.entries) == (4, [])
        assert (await broker.publish(CHANNEL, [b"4"])).first == 4
        page = await broker.read(CHANNEL, 0, 10)
        assert (page.first, page.entries) in [(4, [b"4"]), (5, [])]  # that one may have expired, too

    async def test_publishing_keeps_a_log_alive(self, open_broker):
        broker = open_broker(retention=Retention(age_s=30))
        for _ in range(3):
            await broker.publish(CHANNEL, [b"1"])
        assert (await broker.position(CHANNEL)).first == 1

    # ---- reset

    async def test_reset_begins_a_new_epoch_at_1(self, broker):
        before = await broker.publish(CHANNEL, numbered(1, 3))
        position = await broker.reset(CHANNEL)
        assert position == await broker.position(CHANNEL) == Position(position.epoch, 1, 0)
        assert position.epoch != before.epoch
        after = await broker.publish(CHANNEL, [b"1"])
        assert (after.epoch, after.first) == (position.epoch, 1)
        assert judge(EventId(before.epoch, 1), await broker.position(CHANNEL)).gap.reason == "epoch"

    # ---- tails

    async def test_a_tail_begins_with_the_position_and_misses_nothing_after_it(self, broker):
        await broker.publish(CHANNEL, numbered(1, 5))
        async with following(broker) as tail:
            assert tail.position == await broker.position(CHANNEL)
            await broker.publish(CHANNEL, numbered(6, 6))
            await broker.publish(CHANNEL, numbered(7, 9))
            assert await tail.entries(9) == numbered(6, 9)

    async def test_a_tail_follows_an_unknown_channel(self, broker):
        async with following(broker) as tail:
            await broker.publish(CHANNEL, numbered(1, 2))
            assert await tail.entries(2) == numbered(1, 2)

    async def test_tails_that_come_and_go_each_see_everything_after_their_position(self, open_broker):
        publisher, reader = open_broker(), open_broker()
        stop = asyncio.Event()

        async def publish():
            n = 0
            while not stop.is_set():
                n += 1
                await publisher.publish(CHANNEL, numbered(n, n))
            return n

        publishing = asyncio.create_task(publish())
        for _ in range(15):
            async with following(reader) as tail:
                start = tail.position.last
                entries = await tail.entries(start + 3)
                assert entries == numbered(start + 1, start + len(entries))
        stop.set()
        published = await publishing
        assert (await reader.position(CHANNEL)).last == published

    async def test_a_tail_read_slowly_still_gives_everything(self, open_broker):
        publisher, reader = open_broker(), open_broker()
        async with following(reader) as tail:
            for start in range(1, 2201, 2):  # more messages than wait for a tail
                await publisher.publish(CHANNEL, numbered(start, start + 1))
            assert await tail.entries(2200) == numbered(1, 2200)

    async def test_tails_of_several_channels_get_their_own(self, broker):
        channels = [f"project:{{p{n}}}" for n in range(5)]
        async with contextlib.AsyncExitStack() as stack:
            tails = [await stack.enter_async_context(following(broker, channel)) for channel in channels]
            twin = await stack.enter_async_context(following(broker, channels[0]))
            for n, channel in enumerate(channels):
                await broker.publish(channel, [b"%d" % n])
            for n, tail in enumerate(tails):
                assert await tail.entries(1) == [b"%d" % n]
            assert await twin.entries(1) == [b"0"]

    async def test_a_tail_announces_a_reset_with_a_position(self, broker):
        async with following(broker) as tail:
            await broker.publish(CHANNEL, numbered(1, 2))
            await tail.entries(2)
            position = await broker.reset(CHANNEL)
            assert await tail.next() == position
            tail.position = position
            await broker.publish(CHANNEL, numbered(1, 1))
            assert await tail.entries(1) == numbered(1, 1)

    async def test_a_consumer_that_judges_its_cursor_goes_on_after_a_reset(self, open_broker):
        broker = open_broker()
        async with Consumer(open_broker()) as consumer:
            await broker.publish(CHANNEL, numbered(1, 5))
            await broker.reset(CHANNEL)
            await broker.publish(CHANNEL, numbered(1, 3))
            new = list(enumerate(numbered(1, 3), 1))
            await eventually(lambda: consumer.seen[-3:] == new and consumer.gaps)
        assert consumer.seen[:-3] == list(enumerate(numbered(1, len(consumer.seen) - 3), 1))
        assert [gap.reason for gap in consumer.gaps] == ["epoch"]

    async def test_a_tail_overtaken_by_retention_gives_a_new_position(self, open_broker):
        broker = open_broker(retention=Retention(entries=100))
        async with following(broker) as tail:
            for _ in range(25):  # more than any buffer holds
                await broker.publish(CHANNEL, [b"x" * 4000] * 1000)
            seen = 0
            while seen < 25_000:
                update = await tail.next()
                if isinstance(update, Position):
                    assert update.first > seen + 1
                    assert judge(EventId(update.epoch, seen), update, live=True).gap.reason == "slow"
                    break
                assert update.first == seen + 1
                seen = update.last
            else:
                pytest.fail("retention never overtook the tail")

    async def test_closing_a_broker_ends_its_tails_and_refuses_the_rest(self, open_broker):
        broker = open_broker()
        async with following(broker) as tail:
            waiting = asyncio.create_task(tail.next())
            await asyncio.sleep(0)
            await broker.aclose()
            with pytest.raises(StopAsyncIteration):
                await waiting
        for call in (broker.ping(), broker.position(CHANNEL), broker.publish(CHANNEL, [b"1"])):
            with pytest.raises(BrokerError, match="closed"):
                await call

    # ---- approvals

    async def test_what_is_asked_for_waits_until_it_is_resolved(self, broker):
        assert await broker.approvals(CHANNEL) == []
        await broker.publish(CHANNEL, [b"1", asked(60, "a-1", title="Größe\n?", kind="merge", pr_id="pr-1"), b"2"])
        await broker.publish(CHANNEL, [asked(5, "a-2", run_id="run-1", issue_id="issue-1", simulation=None)])
        epoch = (await broker.position(CHANNEL)).epoch
        first = Approval(
            approval_id="a-1",
            since=at(60),
            epoch=epoch,
            offset=2,
            event="approval_required-60",
            title="Größe\n?",
            kind="merge",
            pr_id="pr-1",
            simulation="sim-1",
        )
        second = Approval(
            approval_id="a-2",
            since=at(5),
            epoch=epoch,
            offset=4,
            event="approval_required-5",
            run_id="run-1",
            issue_id="issue-1",
        )
        assert await broker.approvals(CHANNEL) == [first, second]
        assert await broker.approvals("project:{other}") == []
        await broker.publish(CHANNEL, [resolved(70, "a-1")])
        assert await broker.approvals(CHANNEL) == [second]
        await decide(broker, approval_id="a-2")
        assert await broker.approvals(CHANNEL) == []

    async def test_a_decision_is_an_event_that_everybody_gets(self, broker):
        await broker.publish(CHANNEL, [asked(60, pr_id="pr-1", run_id="run-1", issue_id="issue-1", title="Merge it")])
        await broker.publish(CHANNEL, [happened(90.25)])
        async with following(broker) as tail:
            decision = await decide(broker, "rejected", comment='not "now"\n\N{SNOWMAN}')
            (entry,) = await tail.entries(3)
        event = Event.decode(entry)
        assert event.data == {
            "approval_id": "a-1",
            "decision": "rejected",
            "waited_s": 30.25,
            "by": "Ana",
            "comment": 'not "now"\n\N{SNOWMAN}',
            "pr_id": "pr-1",
            "run_id": "run-1",
            "issue_id": "issue-1",
        }
        assert (event.type, event.project, event.subject) == ("approval_resolved", "apollo", "a-1")
        assert (event.cause, event.simulation) == ("approval_required-60", "sim-1")
        assert (event.time, event.recordedtime) == (at(90.25), NOW)
        assert entry == event.encode(), "as any event of ours is written"
        assert (await broker.read(CHANNEL, 2, 10)).entries == [entry]
        position = await broker.position(CHANNEL)
        assert (position.first, position.last) == (1, 3)
        assert (decision.epoch, decision.offset, decision.time) == (position.epoch, 3, event.time)
        assert (decision.approval_id, decision.decision) == ("a-1", "rejected")
        assert (decision.by, decision.comment) == ("Ana", 'not "now"\n\N{SNOWMAN}')

    async def test_the_first_decision_stands_and_asking_again_adds_nothing(self, broker):
        await broker.publish(CHANNEL, [asked(60)])
        first = await decide(broker, "approved")
        await broker.publish(CHANNEL, [happened(100)])
        assert await decide(broker, "approved") == first
        assert await decide(broker, "rejected", by="Ben") == first
        assert (await broker.position(CHANNEL)).last == 3

    async def test_a_simulated_decision_stands_too(self, broker):
        await broker.publish(CHANNEL, [asked(60), resolved(70, decision="rejected", comment="no")])
        epoch = (await broker.position(CHANNEL)).epoch
        stands = await decide(broker, "approved")
        assert (stands.decision, stands.by, stands.comment, stands.time) == ("rejected", "human-1", "no", at(70))
        assert (stands.epoch, stands.offset) == (epoch, 2)
        await broker.publish(CHANNEL, [resolved(80, decision="approved")])  # a run that contradicts itself
        assert await decide(broker, "approved") == stands
        assert (await broker.position(CHANNEL)).last == 3

    async def test_what_nobody_asked_for_cannot_be_decided(self, broker):
        assert await decide(broker) is None
        await broker.publish(CHANNEL, [asked(60), resolved(60, "a-3")])
        for unknown in ("a-2", "a-3", "", "ünïcode and spaces"):
            assert await decide(broker, approval_id=unknown) is None
        assert await broker.decide("project:{other}", "a-1", "approved", at=NOW) is None
        assert (await broker.position(CHANNEL)).last == 2

    async def test_a_decision_that_is_no_event_is_refused_and_the_approval_still_waits(self, broker):
        await broker.publish(CHANNEL, [asked(60)])
        for wrong in ({"by": ""}, {"by": "x" * 4097}, {"comment": "x" * 4097}):
            with pytest.raises(EventError):
                await decide(broker, **wrong)
        assert len(await broker.approvals(CHANNEL)) == 1
        largest = await decide(broker, by="\x00" * 4096, comment="\x00" * 4096)
        assert (largest.by, largest.comment) == ("\x00" * 4096, "\x00" * 4096)
        assert await decide(broker) == largest

    async def test_time_does_not_go_back_within_a_simulation(self, broker):
        other = happened(900, simulation="sim-2", note={"simulation": "sim-1", "time": "2027-01-01T00:00:00.000000Z"})
        custom = b'{"simulation":"sim-1","time":"soon"}'
        await broker.publish(CHANNEL, [asked(60), happened(3600.000001), *[other] * 300, custom, b"[]"])
        await decide(broker)
        event = (await events_of(broker, 304))[0]
        assert (event.time, event.data["waited_s"]) == (at(3600.000001), 3540.000001)

    async def test_days_and_years_are_counted_when_somebody_waited_long(self, broker):
        days = 3 * 365 + 1 + 58  # over the 29th of February 2028
        await broker.publish(CHANNEL, [asked(0.75), happened(days * 86400 + 0.5)])
        await decide(broker)
        event = (await events_of(broker, 2))[0]
        assert event.data["waited_s"] == days * 86400 - 0.25

    async def test_an_odd_simulation_is_found_as_it_is_written(self, broker):
        odd = 'a "simulation"\\ %d+ ünïcode\n'
        await broker.publish(CHANNEL, [asked(60, simulation=odd), happened(61, simulation=odd), happened(62)])
        await decide(broker)
        event = (await events_of(broker, 3))[0]
        assert (event.simulation, event.time) == (odd, at(61))

    async def test_real_approvals_are_decided_in_wall_time(self, broker):
        await broker.publish(CHANNEL, [asked(60, simulation=None), happened(70, simulation=None)])
        later = NOW + timedelta(days=1)
        ahead = Event.new("approval_required", {"approval_id": "a-2"}, project="apollo", id="x", time=later)
        await broker.publish(CHANNEL, [ahead.encode()])
        await decide(broker)
        await decide(broker, approval_id="a-2")
        first, second = await events_of(broker, 3)
        assert (first.time, first.simulation) == (NOW, None)
        assert first.data["waited_s"] == (NOW - at(60)).total_seconds()
        assert (second.time, second.data["waited_s"]) == (NOW, 0), "clocks differ; nobody waits for less than no time"

    async def test_a_run_that_resolves_what_a_person_decided_is_refused_with_its_batch(self, broker):
        await broker.publish(CHANNEL, [asked(1, "a-1"), asked(1, "a-2"), asked(1, "a-3")])
        await decide(broker, "rejected", "a-1")
        await decide(broker, "approved", "a-3")
        batch = [happened(2), resolved(2, "a-1"), resolved(2, "a-2"), resolved(3, "a-3"), happened(4)]
        with pytest.raises(ApprovalDecided, match=r"person.* 1, 3 ") as raised:
            await broker.publish(CHANNEL, batch, producer="p", sequence=1)
        assert (raised.value.late, raised.value.stored) == ((1, 3), 0)
        assert (await broker.position(CHANNEL)).last == 5
        assert [waits.approval_id for waits in await broker.approvals(CHANNEL)] == ["a-2"]
        rest = [batch[0], batch[2], batch[4]]
        assert (await broker.publish(CHANNEL, rest, producer="p", sequence=1)).duplicates == 0
        assert (await broker.read(CHANNEL, 5, 10)).entries == rest

    async def test_a_batch_sent_again_does_not_ask_again(self, broker):
        batch = [asked(60)]
        await broker.publish(CHANNEL, batch, producer="p", sequence=1)
        first = await decide(broker, "rejected")
        assert (await broker.publish(CHANNEL, batch, producer="p", sequence=1)).duplicates == 1
        assert await decide(broker, "approved") == first
        await broker.publish(CHANNEL, [asked(61, "a-2"), resolved(62, "a-2")], producer="p", sequence=2)
        again = await broker.publish(CHANNEL, [asked(61, "a-2"), resolved(62, "a-2")], producer="p", sequence=2)
        assert again.duplicates == 2
        assert await broker.approvals(CHANNEL) == []

    async def test_what_is_asked_anew_can_be_decided_anew(self, broker):
        await broker.publish(CHANNEL, [asked(60)])
        await decide(broker, "rejected")
        await broker.publish(CHANNEL, [asked(5)])  # the same run, played again
        assert [waits.since for waits in await broker.approvals(CHANNEL)] == [at(5)]
        assert (await decide(broker, "approved")).offset == 4
        await broker.publish(CHANNEL, [asked(6), resolved(7, decision="rejected"), resolved(8)])
        assert (await decide(broker)).offset == 6
        await broker.publish(CHANNEL, [resolved(9), asked(10)])
        assert [waits.offset for waits in await broker.approvals(CHANNEL)] == [9]

    async def test_what_only_looks_like_an_approval_is_an_entry_like_any_other(self, broker):
        entries = [
            b'{"type":"approval_required"}',
            b'{"type":"approval_required","id":"e","time":"now","data":{"approval_id":"a-1"}}',
            b'{"type":"approval_required","id":"e","time":"2026-99-99T00:00:00.000000Z","data":{"approval_id":"a-1"}}',
            b'{"type":"approval_required","id":"e\\n","time":"2026-01-01T00:00:00.000000Z","data":{"approval_id":"a-1"}}',
            b'{"type":"approval_resolved","id":"e","time":"2026-01-01T00:00:00.000000Z","data":{"approval_id":"a-1"}}',
            b'{"type":"approval_required","id":"e"',
            b'\xff"type":"approval_required"',
            happened(1, note={"type": "approval_required", "data": {"approval_id": "a-1"}}),
        ]
        await broker.publish(CHANNEL, entries)
        await broker.publish("chat:{apollo}", [asked(1)])
        assert await broker.approvals(CHANNEL) == await broker.approvals("chat:{apollo}") == []
        assert (await broker.read(CHANNEL, 0, 10)).entries == entries

    async def test_a_reset_takes_the_approvals_with_it(self, broker):
        await broker.publish(CHANNEL, [asked(60, "a-1"), asked(60, "a-2")])
        await decide(broker, approval_id="a-2")
        await broker.reset(CHANNEL)
        assert await decide(broker, approval_id="a-1") is await decide(broker, approval_id="a-2") is None
        assert await broker.approvals(CHANNEL) == []
        await broker.publish(CHANNEL, [resolved(61, "a-2")])
        assert (await broker.position(CHANNEL)).last == 1

    async def test_an_approval_waits_although_its_log_has_expired(self, open_broker):
        broker = open_broker(retention=Retention(age_s=0.2))
        await broker.publish(CHANNEL, [happened(50), asked(60)])

        async def expired():
            return (await broker.position(CHANNEL)).first > 2

        await eventually(expired)
        assert [waits.offset for waits in await broker.approvals(CHANNEL)] == [2]
        decision = await decide(broker)
        assert (decision.offset, decision.time) == (3, at(60))

    async def test_an_approval_waits_although_its_event_was_trimmed(self, open_broker):
        broker = open_broker(retention=Retention(entries=100))
        await broker.publish(CHANNEL, [asked(60)])
        for n in range(10):
            await broker.publish(CHANNEL, [happened(61 + n)] * 100)
        assert (await broker.position(CHANNEL)).first > 1
        assert [waits.offset for waits in await broker.approvals(CHANNEL)] == [1]
        decision = await decide(broker)
        assert (decision.offset, decision.time) == (1002, at(70))

    async def test_of_very_many_approvals_those_that_wait_are_known_longest(self, broker):
        await broker.publish(CHANNEL, [asked(1, f"early-{n}") for n in range(10)])
        for part in range(5):
            ids = [f"a-{part}-{n}" for n in range(450)]
            await broker.publish(CHANNEL, [entry for name in ids for entry in (asked(2, name), resolved(3, name))])
        for part in range(2):
            await broker.publish(CHANNEL, [asked(4, f"late-{part}-{n}") for n in range(1000)])
        waiting = await broker.approvals(CHANNEL)
        assert len(waiting) == 2010
        assert waiting[0].approval_id == "early-0"
        assert await decide(broker, approval_id="a-0-0") is None
        assert (await decide(broker, approval_id="a-4-449")).by == "human-1"
        for part in range(2, 4):
            await broker.publish(CHANNEL, [asked(4, f"late-{part}-{n}") for n in range(1000)])
        waiting = await broker.approvals(CHANNEL)
        assert len(waiting) == 3072
        assert waiting[-1].approval_id == "late-3-999"
        assert await decide(broker, approval_id="a-4-449") is None

    async def test_of_many_who_decide_at_once_one_does(self, open_broker):
        brokers = [open_broker() for _ in range(4)]
        await brokers[0].publish(CHANNEL, [asked(60, f"a-{n}") for n in range(20)])

        async def click(name, broker):
            for n in range(20):
                verdict = "approved" if (n + name) % 2 else "rejected"
                decisions[n].append(await decide(broker, verdict, f"a-{n}", by=f"person-{name}"))

        decisions = defaultdict(list)
        await asyncio.gather(*(click(name, broker) for name, broker in enumerate(brokers)))
        told = {event.data["approval_id"]: event.data for event in await events_of(brokers[0], 20)}
        assert (await brokers[0].position(CHANNEL)).last == 40
        for n in range(20):
            (stands,) = set(decisions[n])
            assert (told[f"a-{n}"]["decision"], told[f"a-{n}"]["by"]) == (stands.decision, stands.by)

    async def test_of_a_person_and_a_run_that_decide_at_once_one_does(self, open_broker):
        person, run = open_broker(), open_broker()
        await person.publish(CHANNEL, [asked(60, f"a-{n}") for n in range(60)])
        refused = []

        async def play():
            for n in range(60):
                try:
                    await run.publish(CHANNEL, [resolved(61, f"a-{n}", "rejected")], producer="run", sequence=n)
                except ApprovalDecided:
                    refused.append(n)

        async def click():
            return [await decide(person, "approved", f"a-{n}") for n in range(59, -1, -1)]

        decisions, _ = await asyncio.gather(click(), play())
        told = [event.data for event in await events_of(person, 60)]
        assert sorted(data["approval_id"] for data in told) == sorted(f"a-{n}" for n in range(60))
        by_id = {data["approval_id"]: data for data in told}
        assert all(by_id[decision.approval_id]["by"] == decision.by for decision in decisions)
        assert {f"a-{n}" for n in refused} == {name for name, data in by_id.items() if data["by"] == "Ana"}
        assert refused

    # ---- claims, projects, ping

    async def test_the_first_to_claim_holds_until_it_releases(self, broker):
        assert await broker.claim(CHANNEL, "run-1", 60) == "run-1"
        assert await broker.claim(CHANNEL, "run-2", 60) == "run-1"
        assert await broker.claim(CHANNEL, "run-1", 60) == "run-1"
        assert await broker.claim("project:{other}", "run-2", 60) == "run-2"
        await broker.release(CHANNEL, "run-2")
        assert await broker.claim(CHANNEL, "run-2", 60) == "run-1"
        await broker.release(CHANNEL, "run-1")
        assert await broker.claim(CHANNEL, "run-2", 60) == "run-2"

    async def test_a_claim_lapses_unless_it_is_prolonged(self, broker):
        assert await broker.claim(CHANNEL, "run-1", 0.1) == "run-1"

        async def lapsed():
            return await broker.claim(CHANNEL, "run-2", 60) == "run-2"

        await eventually(lapsed)

    async def test_everybody_whose_claim_stands_is_a_claimant(self, broker):
        assert await broker.claimants(CHANNEL) == []
        for run in ("run-3", "run-1", "run-2"):
            await broker.claim(CHANNEL, run, 60)
        await broker.claim("project:{other}", "run-4", 60)
        assert await broker.claimants(CHANNEL) == ["run-1", "run-2", "run-3"]
        await broker.claim(CHANNEL, "run-2", 0.1)
        await broker.release(CHANNEL, "run-3")
        await broker.release(CHANNEL, "run-4")

        async def lapsed():
            return await broker.claimants(CHANNEL) == ["run-1"]

        await eventually(lapsed)
        assert await broker.claim(CHANNEL, "run-1", 0.1) == "run-1"

        async def nobody():
            return await broker.claimants(CHANNEL) == []

        await eventually(nobody)

    # ---- what is taken once

    async def test_what_is_kept_is_taken_by_one_of_all_who_ask(self, broker):
        await broker.keep("ticket", b"old", 60)
        await broker.keep("ticket", b"value", 60)
        await broker.keep("other", b"another", 60)
        taken = await asyncio.gather(*(broker.take("ticket") for _ in range(5)))
        assert (taken.count(b"value"), taken.count(None)) == (1, 4)
        assert await broker.take("never") is None

    async def test_what_is_kept_goes_when_its_time_is_over(self, broker):
        await broker.keep("brief", b"1", 0.05)
        await broker.claim(CHANNEL, "run-1", 0.2)  # begins later and lasts longer: once it is over, so is the other

        async def lapsed():
            return await broker.claimants(CHANNEL) == []

        await eventually(lapsed)
        assert await broker.take("brief") is None

    # ---- following from a cursor

    async def test_following_begins_after_a_cursor_and_goes_on_with_what_comes(self, broker):
        for first in (1, 751):
            await broker.publish(CHANNEL, [b"%d" % n for n in range(first, first + 750)])
        epoch = (await broker.position(CHANNEL)).epoch
        seen = []

        async def collect(count):
            async with aclosing(follow(broker, CHANNEL, EventId(epoch, 3))) as updates:
                async for update in updates:
                    assert isinstance(update, Batch)
                    assert update.epoch == epoch
                    seen.extend(enumerate(update.entries, update.first))
                    if len(seen) >= count:
                        return

        collecting = asyncio.create_task(collect(1_797))

        async def caught_up():
            return len(seen) >= 1_497

        await eventually(caught_up)
        for n in range(1_501, 1_801, 100):
            await broker.publish(CHANNEL, [b"%d" % m for m in range(n, n + 100)])
        await asyncio.wait_for(collecting, 20)
        assert seen == [(n, b"%d" % n) for n in range(4, 1_801)]

    async def test_following_tells_of_a_gap_where_the_cursor_is_of_another_history(self, broker):
        await broker.publish(CHANNEL, [b"1", b"2"])
        async with aclosing(follow(broker, CHANNEL, EventId("anotherone", 7))) as updates:
            gap = await asyncio.wait_for(anext(updates), 20)
            assert (gap.reason, gap.requested, gap.missed) == ("epoch", "anotherone.7", None)
            assert (await asyncio.wait_for(anext(updates), 20)).entries == [b"1", b"2"]
            before = await broker.position(CHANNEL)
            await broker.reset(CHANNEL)
            await broker.publish(CHANNEL, [b"3"])
            gap = await asyncio.wait_for(anext(updates), 20)
            assert (gap.reason, gap.requested) == ("epoch", str(before.top))
            assert (await asyncio.wait_for(anext(updates), 20)).entries == [b"3"]

    async def test_projects_that_were_published_to_are_listed(self, broker):
        assert await broker.projects() == []
        await broker.position("project:{only-looked-at}")
        for channel in ("project:{b}", "project:{a}", "project:{b}", "chat:{c}"):
            await broker.publish(channel, [b"1"])
        assert await broker.projects() == ["a", "b"]

    async def test_ping_returns(self, broker):
        await broker.ping()
