from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta, timezone

import pytest

from syndarix_rt.broker import MemoryBroker, Publisher
from syndarix_rt.broker.protocol import MAX_BATCH_BYTES, MAX_BATCH_EVENTS
from syndarix_rt.errors import ApprovalDecided, BrokerError, BrokerUnavailable, EventError
from syndarix_rt.events import Event

CHANNEL = "project:{apollo}"
TIME = datetime(2026, 1, 1, 12, tzinfo=UTC)
NOW = datetime(2026, 11, 23, 8, 0, 0, 123456, tzinfo=UTC)


def event(n=0, *, project="apollo", filler=0, **attributes):
    data = {"issue_id": f"i{n}"} | ({"filler": "x" * filler} if filler else {})
    return Event.new("issue_created", data, project=project, id=f"e{n}", time=TIME, **attributes)


class Recording(MemoryBroker):
    """Keeps what it was sent, and is away as often as a test says."""

    def __init__(self):
        super().__init__()
        self.sent = []
        self.away = 0
        self.in_flight = 0
        self.reply_lost = False

    async def publish(self, channel, entries, **batch):
        assert self.in_flight == 0, "one batch in flight"
        self.in_flight += 1
        try:
            await asyncio.sleep(0)
            self.sent.append((list(entries), batch))
            if self.away:
                self.away -= 1
                if self.reply_lost:
                    await super().publish(channel, entries, **batch)
                raise BrokerUnavailable("the server is away")
            return await super().publish(channel, entries, **batch)
        finally:
            self.in_flight -= 1


@pytest.fixture
async def broker():
    broker = Recording()
    yield broker
    await broker.aclose()


@pytest.fixture
def publisher(broker):
    return Publisher(broker, "apollo", clock=lambda: NOW)


async def stored(broker):
    position = await broker.position(CHANNEL)
    entries = []
    while len(entries) < position.last:
        entries += (await broker.read(CHANNEL, len(entries), 1000)).entries
    return entries


async def test_events_are_stored_in_order_as_their_own_encoding(broker, publisher):
    events = [event(n, recordedtime=NOW, cause=f"e{n + 1}", extensions={"tenant": "t"}) for n in range(5)]
    published = await publisher.publish(events)
    assert (published.first, published.last, published.duplicates) == (1, 5, 0)
    assert await stored(broker) == [e.encode() for e in events]


async def test_recordedtime_is_set_where_it_is_absent_and_kept_where_it_is_not(broker, publisher):
    earlier = NOW - timedelta(days=1)
    await publisher.publish([event(1), event(2, recordedtime=earlier)])
    recorded = [Event.decode(entry).recordedtime for entry in await stored(broker)]
    assert recorded == [NOW, earlier]


async def test_the_callers_events_stay_as_they_are(publisher):
    mine = Event.decode(event(1).encode())
    raw = mine.raw
    await publisher.publish([mine])
    assert mine.recordedtime is None
    assert mine.raw == raw


async def test_a_clock_of_another_zone_is_written_in_utc(broker):
    zone = timezone(timedelta(hours=2))
    await Publisher(broker, "apollo", clock=lambda: NOW.astimezone(zone)).publish([event(1)])
    assert b'"recordedtime":"2026-11-23T08:00:00.123456Z"' in (await stored(broker))[0]


async def test_many_events_go_in_as_few_batches_as_the_limits_allow(broker, publisher):
    published = await publisher.publish([event(n) for n in range(2500)])
    assert [len(entries) for entries, _ in broker.sent] == [MAX_BATCH_EVENTS, MAX_BATCH_EVENTS, 500]
    assert (published.first, published.last) == (1, 2500)
    assert [Event.decode(entry).id for entry in await stored(broker)] == [f"e{n}" for n in range(2500)]


async def test_batches_are_split_by_bytes(broker, publisher):
    await publisher.publish([event(n, filler=60_000) for n in range(200)])
    sizes = [sum(map(len, entries)) for entries, _ in broker.sent]
    assert all(size <= MAX_BATCH_BYTES for size in sizes)
    assert len(sizes) == 3
    assert len(await stored(broker)) == 200


async def test_every_batch_has_its_own_sequence_and_every_publisher_its_own_name(broker, publisher):
    await publisher.publish([event(n) for n in range(1500)])
    await publisher.publish([event(9)])
    await Publisher(broker, "apollo").publish([event(10)])
    producers = [batch["producer"] for _, batch in broker.sent]
    assert [batch["sequence"] for _, batch in broker.sent] == [1, 2, 3, 1]
    assert len(set(producers[:3])) == 1
    assert producers[3] != producers[0]


async def test_calls_at_the_same_time_queue_up(broker, publisher):
    replies = await asyncio.gather(*(publisher.publish([event(n), event(n)]) for n in range(20)))
    assert sorted(reply.first for reply in replies) == list(range(1, 40, 2))
    assert len(await stored(broker)) == 40


@pytest.mark.parametrize("reply_lost", [False, True])
async def test_while_the_broker_is_away_the_same_batch_is_sent_again(broker, publisher, reply_lost):
    broker.away, broker.reply_lost = 3, reply_lost
    published = await publisher.publish([event(1), event(2)])
    assert (published.first, published.last) == (1, 2)
    assert published.duplicates == (2 if reply_lost else 0)
    assert len(await stored(broker)) == 2
    assert len({(batch["producer"], batch["sequence"]) for _, batch in broker.sent}) == 1


async def test_giving_up_says_how_many_are_in(broker):
    publisher = Publisher(broker, "apollo", give_up_after_s=0.1)
    await publisher.publish([event(0)])
    publish = broker.publish

    async def away_after_the_first(channel, entries, **batch):
        if batch["sequence"] > 2:
            raise BrokerUnavailable("the server is away")
        return await publish(channel, entries, **batch)

    broker.publish = away_after_the_first
    with pytest.raises(BrokerUnavailable, match=r"1000 of 1500 events.*0\.1 s.*the server is away"):
        await publisher.publish([event(n) for n in range(1500)])
    broker.publish = publish
    await publisher.publish([event(7)])
    assert len(await stored(broker)) == 1002


async def test_after_a_cancelled_publish_the_next_one_counts_as_new(broker, publisher):
    broker.away = 10**9
    publishing = asyncio.create_task(publisher.publish([event(1)]))
    while not broker.sent:
        await asyncio.sleep(0)
    publishing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await publishing
    broker.away = 0
    assert (await publisher.publish([event(2)])).duplicates == 0
    assert [Event.decode(entry).id for entry in await stored(broker)] == ["e2"]


async def test_an_event_of_another_project_is_named_and_nothing_is_stored(broker, publisher):
    with pytest.raises(EventError) as raised:
        await publisher.publish([event(1), event(2, project="gemini")])
    assert raised.value.path == "$[1].project"
    assert "'gemini'" in raised.value.reason
    assert broker.sent == []


async def test_an_event_that_recordedtime_makes_too_large_is_named_and_nothing_is_stored(broker, publisher):
    filler = 64 * 1024 - len(event(2, filler=1).encode()) + 1
    assert len(event(2, filler=filler).encode()) == 64 * 1024
    with pytest.raises(EventError, match="65581 bytes") as raised:
        await publisher.publish([event(1), event(2, filler=filler)])
    assert raised.value.path == "$[1]"
    assert broker.sent == []


async def test_no_events_are_refused(publisher):
    with pytest.raises(ValueError, match="no events"):
        await publisher.publish([])


async def test_a_refusal_is_not_tried_again(broker, publisher):
    await broker.aclose()
    with pytest.raises(BrokerError, match="closed"):
        await publisher.publish([event(1)])
    assert len(broker.sent) == 1


async def test_of_several_batches_the_decisions_that_come_too_late_are_named_by_their_place_in_all(broker, publisher):
    asked = {"approval_id": "a-1"}
    await publisher.publish([Event.new("approval_required", asked, project="apollo", id="ask", time=TIME)])
    await broker.decide(CHANNEL, "a-1", "rejected", at=NOW)
    events = [event(n) for n in range(2500)]
    for n in (1200, 1999):
        told = asked | {"decision": "approved"}
        events[n] = Event.new("approval_resolved", told, project="apollo", id=f"r{n}", time=TIME)
    with pytest.raises(ApprovalDecided, match="1000 of 2500 events are published") as raised:
        await publisher.publish(events)
    assert (raised.value.late, raised.value.stored) == ((1200, 1999), 1000)
    assert [Event.decode(entry).id for entry in (await stored(broker))[2:]] == [f"e{n}" for n in range(1000)]
    rest = [event for n, event in enumerate(events) if n >= raised.value.stored and n not in raised.value.late]
    await publisher.publish(rest)
    assert len(await stored(broker)) == 2 + 2498


def test_a_wrong_project_name_is_refused():
    with pytest.raises(ValueError, match="project name"):
        Publisher(MemoryBroker(), "no/pe")
