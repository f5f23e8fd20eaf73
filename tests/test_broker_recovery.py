"""Servers that restart, lose data, run out of memory, move or hang, and what publishers and tails make of it."""

from __future__ import annotations

import asyncio
import contextlib
import random

import pytest
import redis.asyncio
import uvloop
from broker_contract import (
    CHANNEL,
    DEADLINE_S,
    Consumer,
    asked,
    decide,
    events_of,
    eventually,
    following,
    happened,
    numbered,
    once_it_is_back,
)
from redis_server import RedisServer

from syndarix_rt.broker import Publisher, RedisBroker
from syndarix_rt.delivery.resume import Position, judge
from syndarix_rt.errors import BrokerError, BrokerUnavailable, EmbeddedServerError
from syndarix_rt.events import Event, EventId
from syndarix_rt.verification.link import Link


@pytest.fixture(params=["valkey", "redis"])
async def server(request, tmp_path):
    with RedisServer(tmp_path, name=request.param) as server:
        yield server


@pytest.fixture
async def broker(server):
    broker = RedisBroker(server.url)
    yield broker
    await broker.aclose()


async def away(change):
    """Do something to the server, while the event loop goes on."""
    await asyncio.to_thread(change)


# ---- epochs


async def test_a_restart_without_loss_lets_every_cursor_go_on(server, broker):
    old = await broker.publish(CHANNEL, numbered(1, 5))
    await away(server.restart)
    position = await broker.position(CHANNEL)
    assert position.epoch != old.epoch
    assert (position.first, position.last) == (1, 5)
    assert position.survived == (EventId(old.epoch, 5),)
    for offset in range(6):
        assert judge(EventId(old.epoch, offset), position) == (offset, None)
    assert await broker.position(CHANNEL) == position
    new = await broker.publish(CHANNEL, numbered(6, 7))
    assert (new.epoch, new.first) == (position.epoch, 6)
    assert (await broker.read(CHANNEL, 0, 10)).entries == numbered(1, 7)


async def test_publishing_first_after_a_restart_starts_the_epoch_as_well(server, broker):
    old = await broker.publish(CHANNEL, numbered(1, 5))
    await away(server.restart)
    new = await broker.publish(CHANNEL, numbered(6, 6))
    assert new.epoch != old.epoch
    assert (await broker.position(CHANNEL)) == Position(new.epoch, 1, 6, (EventId(old.epoch, 5),))


async def test_what_a_crash_lost_is_a_declared_gap(server, broker):
    await broker.publish(CHANNEL, numbered(1, 5))
    server.save_data()
    old = await broker.publish(CHANNEL, numbered(6, 9))
    await away(server.lose_data_since)
    position = await broker.position(CHANNEL)
    assert (position.last, position.survived) == (5, (EventId(old.epoch, 5),))
    new = await broker.publish(CHANNEL, [b'"other"'])
    assert (new.epoch, new.first) == (position.epoch, 6)
    position = await broker.position(CHANNEL)
    assert judge(EventId(old.epoch, 5), position) == (5, None)
    for offset in (6, 9):
        after, gap = judge(EventId(old.epoch, offset), position)
        assert (after, gap.reason) == (5, "epoch")


async def test_a_crash_that_lost_even_the_epoch_leaves_no_cursor_in_doubt(server, broker):
    server.save_data()
    old = await broker.publish(CHANNEL, numbered(1, 5))
    await away(server.lose_data_since)
    new = await broker.publish(CHANNEL, numbered(1, 7))
    assert (new.first, new.epoch == old.epoch) == (1, False)
    _, gap = judge(EventId(old.epoch, 3), await broker.position(CHANNEL))
    assert (gap.reason, gap.missed) == ("epoch", None)


async def test_a_flush_begins_an_unknown_epoch(server, broker):
    old = await broker.publish(CHANNEL, numbered(1, 5))
    async with redis.asyncio.Redis.from_url(server.url) as client:
        await client.flushall()
    new = await broker.publish(CHANNEL, numbered(1, 1))
    assert (new.first, new.epoch == old.epoch) == (1, False)
    position = await broker.position(CHANNEL)
    assert position.survived == ()
    assert judge(EventId(old.epoch, 1), position).gap.reason == "epoch"


async def test_the_last_16_epochs_are_known_and_none_is_used_twice(server, broker):
    epochs = []
    async with redis.asyncio.Redis.from_url(server.url) as client:
        for n in range(1, 21):
            epochs.append((await broker.publish(CHANNEL, numbered(n, n))).epoch)
            await client.hset(f"srt:meta:{CHANNEL}", "run", f"another-{n}")  # as if by another server process
    position = await broker.position(CHANNEL)
    assert len({*epochs, position.epoch}) == 21
    assert position.survived == tuple(EventId(epoch, n) for n, epoch in enumerate(epochs, 1))[-16:]
    assert judge(EventId(epochs[3], 1), position).gap.reason == "epoch"
    assert judge(EventId(epochs[4], 1), position) == (1, None)


async def test_a_batch_whose_reply_was_lost_in_a_restart_is_added_once(server, broker):
    first = await broker.publish(CHANNEL, numbered(1, 3), producer="p", sequence=1)
    await away(server.restart)
    again = await broker.publish(CHANNEL, numbered(1, 3), producer="p", sequence=1)
    assert (again.epoch, again.first, again.last, again.duplicates) == (first.epoch, 1, 3, 3)
    assert (await broker.position(CHANNEL)).last == 3


async def test_a_batch_lost_in_a_crash_is_added_when_it_is_sent_again(server, broker):
    await broker.publish(CHANNEL, numbered(1, 1), producer="p", sequence=1)
    server.save_data()
    await broker.publish(CHANNEL, numbered(2, 3), producer="p", sequence=2)
    await away(server.lose_data_since)
    again = await broker.publish(CHANNEL, numbered(2, 3), producer="p", sequence=2)
    assert (again.first, again.last, again.duplicates) == (2, 3, 0)


# ---- decisions


async def test_approvals_and_decisions_survive_a_restart(server, broker):
    await broker.publish(CHANNEL, [asked(1, "a-1"), asked(1, "a-2"), happened(5)])
    first = await decide(broker, "rejected", "a-1")
    await away(server.restart)
    assert await once_it_is_back(lambda: decide(broker, "approved", "a-1")) == first
    second = await decide(broker, "approved", "a-2")
    position = await broker.position(CHANNEL)
    assert judge(EventId(first.epoch, first.offset), position) == (first.offset, None)
    assert (second.epoch, second.offset, second.time) == (position.epoch, 5, first.time)
    assert position.last == 5


async def test_a_decision_lost_in_a_crash_is_made_when_it_is_sent_again(server, broker):
    await broker.publish(CHANNEL, [asked(1)])
    server.save_data()
    await decide(broker)
    await away(server.lose_data_since)
    assert (await once_it_is_back(lambda: decide(broker))).offset == 2
    assert [event.type for event in await events_of(broker)] == ["approval_required", "approval_resolved"]


@pytest.mark.parametrize("forgets", ["flushall", "reset"])
async def test_a_flush_or_reset_between_question_and_decision_leaves_nothing_to_decide(server, broker, forgets):
    await broker.publish(CHANNEL, [asked(1)])
    if forgets == "reset":
        await broker.reset(CHANNEL)
    else:
        async with redis.asyncio.Redis.from_url(server.url) as client:
            await client.flushall()
    assert await decide(broker) is None
    assert (await broker.position(CHANNEL)).last == 0


async def test_a_decision_whose_reply_was_lost_is_there_once_when_it_is_made_again(broker, monkeypatch):
    run = broker._endpoint.run

    async def run_and_lose_the_reply(*what):
        reply = await run(*what)
        if reply and reply.startswith(b"decided"):
            raise BrokerUnavailable("the reply was lost")
        return reply

    await broker.publish(CHANNEL, [asked(1)])
    with monkeypatch.context() as patch:
        patch.setattr(broker._endpoint, "run", run_and_lose_the_reply)
        with pytest.raises(BrokerUnavailable, match="lost"):
            await decide(broker, "approved")
    assert (await decide(broker, "approved")).offset == 2
    assert [event.type for event in await events_of(broker)] == ["approval_required", "approval_resolved"]


async def test_two_who_decide_through_kills_make_each_decision_once(server, broker):
    other = RedisBroker(server.url)
    await broker.publish(CHANNEL, [asked(1, f"a-{n}") for n in range(40)])
    told = []

    async def click(broker, name, decision):
        told.extend([await once_it_is_back(lambda n=n: decide(broker, decision, f"a-{n}", by=name)) for n in range(40)])

    async def kill_again_and_again():
        for _ in range(3):
            await asyncio.sleep(0.05)
            await away(server.restart)

    await asyncio.gather(click(broker, "Ana", "approved"), click(other, "Ben", "rejected"), kill_again_and_again())
    await other.aclose()
    events = await events_of(broker, 40)
    stands = {event.data["approval_id"]: (event.data["decision"], event.data["by"]) for event in events}
    assert len(events) == len(stands) == 40
    assert all(stands[decision.approval_id] == (decision.decision, decision.by) for decision in told)


async def test_without_memory_a_decision_is_refused_whole(server, broker):
    await broker.publish(CHANNEL, [asked(1)])
    async with redis.asyncio.Redis.from_url(server.url) as client:
        await client.config_set("maxmemory", 1)
        with pytest.raises(BrokerUnavailable, match="memory"):
            await decide(broker)
        assert len(await broker.approvals(CHANNEL)) == 1
        await client.config_set("maxmemory", 0)
    assert (await decide(broker)).offset == 2


# ---- tails


async def test_a_tail_survives_kills_and_its_consumer_misses_nothing(server, broker):
    publisher = RedisBroker(server.url)
    async with Consumer(broker) as consumer:
        n = 0
        for _ in range(3):
            for _ in range(20):
                n += 1
                await once_it_is_back(
                    lambda: publisher.publish(CHANNEL, numbered(n, n), producer="p", sequence=n)  # noqa: B023 - called before n changes
                )
            server.kill()
            server.start()
        await eventually(lambda: len(consumer.seen) == n)
    await publisher.aclose()
    assert consumer.seen == list(enumerate(numbered(1, n), 1))
    assert consumer.gaps == []


async def test_a_tail_says_none_once_while_the_broker_is_away_and_then_a_position(server, broker):
    published = await broker.publish(CHANNEL, numbered(1, 3))
    async with following(broker) as tail:
        server.kill()
        assert await tail.next() is None
        after = asyncio.create_task(tail.next())
        await asyncio.sleep(0.3)  # several attempts fail meanwhile
        assert not after.done()
        server.start()
        position = await after
        assert (position.last, position.survived) == (3, (EventId(published.epoch, 3),))
        tail.position = position
        await broker.publish(CHANNEL, numbered(4, 4))
        assert await tail.entries(4) == numbered(4, 4)


async def test_a_tail_may_begin_while_the_broker_is_away(server, broker):
    server.kill()
    async with contextlib.aclosing(broker.tail(CHANNEL)) as tail:
        assert await asyncio.wait_for(anext(tail), DEADLINE_S) is None
        server.start()
        assert isinstance(await asyncio.wait_for(anext(tail), DEADLINE_S), Position)


async def test_a_tail_says_none_once_while_only_its_log_cannot_be_read(broker, monkeypatch):
    read, failures = broker.read, 4

    async def failing(*arguments):
        nonlocal failures
        failures -= 1
        if failures >= 0:
            raise BrokerUnavailable("loading")
        return await read(*arguments)

    monkeypatch.setattr(broker, "read", failing)
    async with contextlib.aclosing(broker.tail(CHANNEL)) as tail:
        assert await asyncio.wait_for(anext(tail), DEADLINE_S) is None
        assert isinstance(await asyncio.wait_for(anext(tail), DEADLINE_S), Position)


async def test_a_broker_is_closed_while_the_server_is_away(server, broker):
    async with following(broker) as tail:
        server.kill()
        assert await tail.next() is None
        async with asyncio.timeout(DEADLINE_S):
            await broker.aclose()
        with pytest.raises(StopAsyncIteration):
            await tail.next()


async def test_a_crash_with_loss_is_a_gap_for_a_live_consumer(server, broker):
    publisher = RedisBroker(server.url)
    async with Consumer(broker) as consumer:
        await publisher.publish(CHANNEL, numbered(1, 5))
        server.save_data()
        await publisher.publish(CHANNEL, numbered(6, 9))
        await eventually(lambda: len(consumer.seen) == 9)
        await away(server.lose_data_since)
        await once_it_is_back(lambda: publisher.publish(CHANNEL, [b'"other"']))
        await eventually(lambda: consumer.seen[-1] == (6, b'"other"'))
    await publisher.aclose()
    assert [gap.reason for gap in consumer.gaps] == ["epoch"]
    assert consumer.seen == [*enumerate(numbered(1, 9), 1), (6, b'"other"')]


async def test_a_flush_is_a_gap_for_a_live_consumer(server, broker):
    async with Consumer(broker) as consumer, redis.asyncio.Redis.from_url(server.url) as client:
        await broker.publish(CHANNEL, numbered(1, 5))
        await eventually(lambda: len(consumer.seen) == 5)
        await client.flushall()
        await eventually(lambda: consumer.gaps)  # found by comparison, before anything is published
        await broker.publish(CHANNEL, numbered(1, 2))
        await eventually(lambda: len(consumer.seen) == 7)
    assert consumer.seen[5:] == list(enumerate(numbered(1, 2), 1))
    assert [gap.reason for gap in consumer.gaps] == ["epoch"]


# ---- a server that hangs, is full, loads, or is elsewhere


async def test_a_server_that_hangs_is_given_up_and_found_again(server, broker, monkeypatch):
    monkeypatch.setattr("syndarix_rt.broker.endpoint.COMMAND_S", 1)
    monkeypatch.setattr("syndarix_rt.broker.endpoint.CONNECT_S", 1)
    monkeypatch.setattr("syndarix_rt.broker.subscriptions.SILENCE_S", 1)
    monkeypatch.setattr("syndarix_rt.broker.subscriptions.PING_S", 0.3)
    async with following(broker) as tail:
        await broker.publish(CHANNEL, numbered(1, 1))
        assert await tail.entries(1) == numbered(1, 1)
        server.pause()
        try:
            for call in (broker.publish(CHANNEL, numbered(2, 2), producer="p", sequence=1), broker.position(CHANNEL)):
                with pytest.raises(BrokerUnavailable, match="no answer"):
                    await call
            assert await tail.next() is None
        finally:
            server.resume()
        # Whether the batch that got no reply was added or not: sent again, it is there once.
        again = await once_it_is_back(lambda: broker.publish(CHANNEL, numbered(2, 2), producer="p", sequence=1))
        assert (again.first, again.last) == (2, 2)
        position = await tail.next()
        assert isinstance(position, Position)
        assert position.epoch == again.epoch, "the same server: nothing was lost"
        assert (await broker.read(CHANNEL, 0, 9)).entries == numbered(1, 2)


async def test_without_memory_publishing_is_refused_whole_and_reading_goes_on(server, broker):
    entry = b"x" * 60_000
    async with redis.asyncio.Redis.from_url(server.url) as client:
        used = (await client.info("memory"))["used_memory"]
        server.maxmemory = used + 3_000_000
        await client.config_set("maxmemory", server.maxmemory)
    with pytest.raises(BrokerUnavailable, match="memory"):
        for _ in range(100):
            published = await broker.publish(CHANNEL, [entry] * 3)
    position = await broker.position(CHANNEL)
    assert position.last == published.last
    assert (await broker.read(CHANNEL, position.last - 1, 10)).entries == [entry]
    async with following(broker) as tail:
        assert tail.position == position
    server.maxmemory = 1_500_000  # below what the data need
    await away(server.restart)
    after = await broker.position(CHANNEL)
    assert (after.last, after.survived) == (position.last, (position.top,))
    with pytest.raises(BrokerUnavailable, match="memory"):
        await broker.publish(CHANNEL, [entry])


async def test_a_server_that_is_loading_counts_as_away(server, broker):
    for start in range(1, 4000, 1000):
        await broker.publish(CHANNEL, numbered(start, start + 999))
    server.kill()
    server.start("key-load-delay 500", wait=False)  # microseconds for each command

    async def loading():
        try:
            await broker.ping()
        except BrokerUnavailable as error:
            return "loading" in str(error)
        pytest.fail("it has loaded already")

    await eventually(loading)
    async with contextlib.aclosing(broker.tail(CHANNEL)) as tail:
        while (position := await asyncio.wait_for(anext(tail), DEADLINE_S)) is None:
            pass
        assert position.last == 4000


async def test_before_a_reconnect_the_url_is_asked_for(server, tmp_path):
    """As the embedded server does it: whoever finds it dead starts another and says where."""
    other = RedisServer(tmp_path / "other", name=server.name)
    asked = []

    async def resolve():
        asked.append(1)
        if len(asked) == 1:
            raise EmbeddedServerError("not yet")
        if other.process is None:
            other.directory.mkdir()
            await asyncio.to_thread(other.start)
        return other.url

    broker = RedisBroker(server.url, resolve=resolve)
    try:
        async with following(broker) as tail:
            await broker.publish(CHANNEL, numbered(1, 1))
            assert await tail.entries(1) == numbered(1, 1)
            assert not asked
            server.kill()
            assert (await once_it_is_back(lambda: broker.publish(CHANNEL, numbered(1, 2)))).last == 2
            update = await tail.next()
            if update is None:
                update = await tail.next()
            assert (update.last, update.survived) == (2, ())
            await broker.publish(CHANNEL, numbered(3, 3))
            tail.position = update
            assert await tail.entries(3) == numbered(3, 3)
    finally:
        await broker.aclose()
        other.stop()


async def test_all_who_wait_for_the_url_share_one_answer(server):
    asked = []

    async def resolve():
        asked.append(1)
        await asyncio.sleep(0.05)
        raise EmbeddedServerError("no server to be had")

    broker = RedisBroker(server.url, resolve=resolve)
    try:
        server.kill()
        with pytest.raises(BrokerUnavailable):
            await broker.ping()
        replies = await asyncio.gather(*(broker.ping() for _ in range(50)), return_exceptions=True)
        assert all(isinstance(reply, BrokerUnavailable) and "no server to be had" in str(reply) for reply in replies)
        assert len(asked) == 1
    finally:
        await broker.aclose()


async def test_closing_does_not_wait_for_the_url(server):
    asked = asyncio.Event()

    async def resolve():
        asked.set()
        await asyncio.Event().wait()

    broker = RedisBroker(server.url, resolve=resolve)
    server.kill()
    with pytest.raises(BrokerUnavailable):
        await broker.ping()
    waiting = asyncio.create_task(broker.ping())
    await asked.wait()
    await asyncio.wait_for(broker.aclose(), DEADLINE_S)
    with pytest.raises(BrokerError, match="closed"):
        await waiting


# ---- publishers


def event(n):
    return Event.new(
        "issue_created", {"issue_id": f"i{n}"}, project="apollo", id=f"e{n}", time=Event.decode(SAMPLE).time
    )


SAMPLE = (
    b'{"specversion":"1.0","id":"a","source":"/x","type":"issue_created","time":"2026-01-01T00:00:00.000001Z",'
    b'"project":"apollo","data":{"issue_id":"a"}}'
)


async def test_publishers_put_every_event_in_once_through_kills(server, broker):
    events = [event(n) for n in range(1500)]
    mine = RedisBroker(server.url)
    publisher = Publisher(mine, "apollo")
    stop = asyncio.Event()

    async def kill_again_and_again():
        kills = 0
        while not stop.is_set() or kills < 3:
            await asyncio.sleep(0.05)
            await asyncio.to_thread(server.restart)
            kills += 1
        return kills

    async with Consumer(broker) as consumer:
        killing = asyncio.create_task(kill_again_and_again())
        for start in range(0, 1500, 5):
            await publisher.publish(events[start : start + 5])
        stop.set()
        assert await killing >= 3
        await eventually(lambda: len(consumer.seen) >= 1500)
    await mine.aclose()
    assert [offset for offset, _ in consumer.seen] == list(range(1, 1501))
    assert [Event.decode(entry).id for _, entry in consumer.seen] == [e.id for e in events]
    assert consumer.gaps == []


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_reset_connections_cost_one_error_and_no_tail_whatever_the_event_loop(loop, tmp_path):
    # uvloop says of a write to a connection that was reset a moment ago what is no error of a connection.
    factory = uvloop.new_event_loop if loop == "uvloop" else None
    with RedisServer(tmp_path) as server, asyncio.Runner(loop_factory=factory) as runner:
        runner.run(cut_and_go_on(server))


async def cut_and_go_on(server):
    async with Link(lambda: [server.port], random.Random(1)) as link:
        broker = RedisBroker(server.url.replace(f":{server.port}", f":{link.port}"))
        try:
            async with following(broker) as tail:
                await asyncio.gather(*(broker.position(f"project:{{p{number}}}") for number in range(8)))
                link.cut()
                errors = 0
                while True:
                    try:
                        published = await broker.publish(CHANNEL, numbered(1, 1), producer="p", sequence=1)
                    except BrokerUnavailable:
                        errors += 1
                    else:
                        break
                assert errors <= 1, "each of the connections that waited failed by itself"
                async with asyncio.timeout(DEADLINE_S):
                    while (update := await tail.next()) is None or update.last < published.last:
                        pass
        finally:
            await broker.aclose()
