from __future__ import annotations

import asyncio
import contextlib
import re
from pathlib import Path

import pytest
import redis.asyncio
from broker_contract import (
    CHANNEL,
    DEADLINE_S,
    BrokerContract,
    Consumer,
    asked,
    decide,
    eventually,
    following,
    happened,
    numbered,
    resolved,
)
from redis_server import PASSWORD, RedisServer

from syndarix_rt.broker import RedisBroker, Retention
from syndarix_rt.broker.endpoint import CONNECTIONS
from syndarix_rt.broker.reader import Announcement, Top
from syndarix_rt.broker.scripts import PUBLISH
from syndarix_rt.broker.subscriptions import Feed
from syndarix_rt.delivery.resume import Position
from syndarix_rt.errors import BrokerError, BrokerUnavailable

CERTIFICATE = Path(__file__).parent / "localhost.pem"


@pytest.fixture(scope="module", params=["valkey", "redis"])
def shared_server(request, tmp_path_factory):
    """One server of each kind for the tests that leave it alive."""
    with RedisServer(tmp_path_factory.mktemp(request.param), name=request.param, appendfsync="no") as server:
        yield server


@pytest.fixture
async def client(shared_server):
    """A plain redis-py client of an empty server."""
    async with redis.asyncio.Redis.from_url(shared_server.url) as client:
        await client.flushall()
        yield client


@pytest.fixture
async def open_broker(client, shared_server):
    brokers = []

    def open_broker(**options):
        brokers.append(RedisBroker(shared_server.url, **options))
        return brokers[-1]

    yield open_broker
    for broker in brokers:
        await broker.aclose()


class TestRedisBroker(BrokerContract):
    pass


# ---- what others see: keys, messages, lifetimes


async def test_a_plain_subscriber_gets_one_message_per_batch(open_broker, client):
    broker = open_broker()
    async with client.pubsub(ignore_subscribe_messages=True) as plain:
        await plain.subscribe(CHANNEL)
        published = await broker.publish(CHANNEL, numbered(1, 3))
        assert await message_of(plain) == b'1 %s 1 3\n{"n":1}\n{"n":2}\n{"n":3}' % published.epoch.encode()
        await broker.publish(CHANNEL, numbered(4, 4))
        assert await message_of(plain) == b'1 %s 4 1\n{"n":4}' % published.epoch.encode()


@pytest.mark.parametrize("over", [0, 1])
async def test_above_256_kib_only_the_first_line_is_sent(open_broker, client, over):
    broker = open_broker()
    epoch = (await broker.position(CHANNEL)).epoch
    head = b"1 %s 1 1\n" % epoch.encode()
    entry = b"x" * (256 * 1024 - len(head) + over)
    async with client.pubsub(ignore_subscribe_messages=True) as plain, following(broker) as tail:
        await plain.subscribe(CHANNEL)
        await broker.publish(CHANNEL, [entry])
        assert await message_of(plain) == head + (b"" if over else entry)
        assert await tail.entries(1) == [entry]


async def message_of(plain):
    async with asyncio.timeout(DEADLINE_S):
        while (message := await plain.get_message(timeout=1)) is None:
            pass
        return message["data"]


async def test_the_log_is_a_stream_with_offsets_as_ids(open_broker, client):
    broker = open_broker()
    await broker.publish(CHANNEL, numbered(1, 2))
    assert await client.xrange(f"srt:log:{CHANNEL}") == [(b"1-0", {b"e": b'{"n":1}'}), (b"2-0", {b"e": b'{"n":2}'})]


async def test_a_namespace_is_put_before_every_key_and_channel(open_broker, client):
    one, other, plain = open_broker(namespace="lab:"), open_broker(namespace="lab2:"), open_broker()
    async with following(one) as tail, following(other) as silent:
        channels = {name.decode() for name in await client.pubsub_channels()}
        assert channels == {f"lab:{CHANNEL}", f"lab2:{CHANNEL}"}
        await one.publish(CHANNEL, numbered(1, 1), producer="p", sequence=1)
        await one.publish(CHANNEL, [asked(1)])
        await one.claim(CHANNEL, "run", 60)
        assert await tail.entries(2) == [*numbered(1, 1), asked(1)]
        keys = {key.decode() for key in await client.keys() if key.startswith(b"lab:")}
        kinds = ("log", "meta", "seq", "approvals", "claim", "claims")
        assert keys == {f"lab:srt:{kind}:{CHANNEL}" for kind in kinds} | {"lab:srt:projects"}
        assert (await plain.position(CHANNEL)).last == (await other.position(CHANNEL)).last == silent.position.last == 0
    assert await one.projects() == ["apollo"]
    assert await plain.projects() == []


def test_a_namespace_with_braces_is_refused():
    with pytest.raises(ValueError, match="braces"):
        RedisBroker("redis://localhost", namespace="{lab}")


def test_a_url_that_is_none_is_refused():
    with pytest.raises(ValueError, match="redis://"):
        RedisBroker("localhost:6379")


async def test_meta_outlives_the_log_by_a_week_and_records_live_a_day(open_broker, client):
    broker = open_broker(retention=Retention(age_s=3600))
    await broker.publish(CHANNEL, [b"1"], producer="p", sequence=1)
    lives = {kind: (await client.pttl(f"srt:{kind}:{CHANNEL}")) / 1000 for kind in ("log", "meta", "seq")}
    day = 24 * 3600
    assert lives == {
        "log": pytest.approx(3600, abs=30),
        "meta": pytest.approx(3600 + 7 * day, abs=30),
        "seq": pytest.approx(day, abs=30),
    }
    await broker.position("project:{looked-at}")
    assert await client.pttl("srt:meta:project:{looked-at}") > 7 * day * 1000


async def test_without_meta_the_log_is_deleted_and_a_new_epoch_begins(open_broker, client):
    broker = open_broker()
    old = await broker.publish(CHANNEL, numbered(1, 3))
    await client.delete(f"srt:meta:{CHANNEL}")
    new = await broker.publish(CHANNEL, numbered(1, 1))
    assert (new.first, new.last) == (1, 1)
    assert new.epoch != old.epoch
    assert (await broker.read(CHANNEL, 0, 10)).entries == numbered(1, 1)
    await client.delete(f"srt:meta:{CHANNEL}")
    position = await broker.position(CHANNEL)
    assert position == Position(position.epoch, 1, 0)
    assert not await client.exists(f"srt:log:{CHANNEL}")
    assert len({old.epoch, new.epoch, position.epoch}) == 3


async def test_records_of_producers_are_pruned_while_others_come(open_broker, client):
    broker = open_broker()
    key = f"srt:seq:{CHANNEL}"
    day_ms = 24 * 3600 * 1000
    now_ms = int((await client.time())[0]) * 1000
    fingerprint = "f" * 64  # a body's digest: so the hash is no short list that is always looked at as a whole
    await client.hset(key, mapping={f"old{n}": f"0 epochepoch 1 1 {now_ms - day_ms} {fingerprint}" for n in range(600)})
    for n in range(400):
        await broker.publish(CHANNEL, [b"1"], producer=f"new{n}", sequence=0, fingerprint=fingerprint)
    left = {name.decode() for name in await client.hkeys(key)}
    assert {name for name in left if name.startswith("new")} == {f"new{n}" for n in range(400)}
    assert len(left) < 500


async def test_a_record_of_yesterday_no_longer_counts(open_broker, client):
    broker = open_broker()
    now_ms = int((await client.time())[0]) * 1000
    await client.hset(f"srt:seq:{CHANNEL}", "p", f"9 epochepoch 1 1 {now_ms - 24 * 3600 * 1000} ")
    assert (await broker.publish(CHANNEL, [b"1"], producer="p", sequence=1)).duplicates == 0


async def test_approvals_live_a_week_longer_than_the_log_since_one_was_mentioned(open_broker, client):
    broker = open_broker(retention=Retention(age_s=3600))
    key = f"srt:approvals:{CHANNEL}"
    await broker.publish(CHANNEL, [happened(1)])
    assert not await client.exists(key)
    for call in (lambda: broker.publish(CHANNEL, [asked(1)]), lambda: decide(broker)):
        await call()
        assert await client.pttl(key) / 1000 == pytest.approx(3600 + 7 * 24 * 3600, abs=30)
        await client.persist(key)


async def test_approvals_of_an_older_log_are_none_of_the_new_one(open_broker, client):
    broker = open_broker()
    for call in (
        lambda: broker.position(CHANNEL),
        lambda: broker.publish(CHANNEL, [b"1"]),
        lambda: broker.publish(CHANNEL, [resolved(3)]),
    ):
        await broker.publish(CHANNEL, [asked(1, "a-0"), asked(1)])
        assert await decide(broker)
        await client.delete(f"srt:meta:{CHANNEL}")
        assert await decide(broker) is None
        await call()
        assert not await client.exists(f"srt:approvals:{CHANNEL}")


async def test_a_decision_is_announced_like_any_batch(open_broker, client):
    broker = open_broker()
    await broker.publish(CHANNEL, [asked(1)])
    async with client.pubsub(ignore_subscribe_messages=True) as plain:
        await plain.subscribe(CHANNEL)
        decision = await decide(broker)
        head, _, event = (await message_of(plain)).partition(b"\n")
    assert head == b"1 %s 2 1" % decision.epoch.encode()
    assert (await broker.read(CHANNEL, 1, 10)).entries == [event]


async def test_a_decision_keeps_the_log_within_its_limits(open_broker):
    broker = open_broker(retention=Retention(entries=100, bytes=50_000))
    await broker.publish(CHANNEL, [asked(1, f"a-{n}") for n in range(300)])
    for n in range(300):
        await decide(broker, approval_id=f"a-{n}", comment="x" * 1000)
    position = await broker.position(CHANNEL)
    assert position.last == 600
    assert position.last - position.first + 1 < 150


async def test_scripts_are_sent_anew_to_a_server_that_forgot_them(open_broker, client):
    broker = open_broker()
    await broker.publish(CHANNEL, numbered(1, 1))
    await client.script_flush()
    assert (await broker.publish(CHANNEL, numbered(2, 2), producer="p", sequence=1)).last == 2
    await client.script_flush()
    assert (await broker.read(CHANNEL, 0, 9)).entries == numbered(1, 2)


async def test_the_project_list_comes_back_after_a_flush(open_broker, client, monkeypatch):
    monkeypatch.setattr("syndarix_rt.broker.redis.PROJECT_S", 0.0)
    broker = open_broker()
    await broker.publish(CHANNEL, [b"1"])
    await client.flushall()
    assert await broker.projects() == []
    await broker.publish(CHANNEL, [b"1"])
    assert await broker.projects() == ["apollo"]


# ---- what is refused leaves nothing half done


async def dump(client):
    """Everything that the server holds."""
    return {key: (await client.dump(key), await client.expiretime(key)) for key in await client.keys()}


@pytest.mark.parametrize("kind", ["log", "meta", "seq", "approvals"])
async def test_a_key_that_is_in_use_for_something_else_is_named_and_left_alone(open_broker, client, kind):
    broker = open_broker()
    await broker.publish(CHANNEL, [asked(1)], producer="p", sequence=1)
    key = f"srt:{kind}:{CHANNEL}"
    await client.delete(key)
    await client.set(key, "precious")
    before = await dump(client)
    calls = [lambda: broker.publish(CHANNEL, [asked(2)], producer="p", sequence=2)]
    if kind != "seq":
        calls += [lambda: broker.reset(CHANNEL), lambda: broker.publish(CHANNEL, [asked(2)]), lambda: decide(broker)]
    if kind in ("log", "meta"):
        calls.append(lambda: broker.position(CHANNEL))
    for call in calls:
        with pytest.raises(BrokerError, match=rf"{re.escape(key)} is a string") as raised:
            await call()
        assert not isinstance(raised.value, BrokerUnavailable)
    assert await dump(client) == before


async def test_a_foreign_log_without_meta_is_left_alone(open_broker, client):
    broker = open_broker()
    await client.set(f"srt:log:{CHANNEL}", "precious")
    for call in (broker.publish(CHANNEL, [b"1"]), broker.position(CHANNEL)):
        with pytest.raises(BrokerError, match="is a string"):
            await call
    assert await client.keys() == [f"srt:log:{CHANNEL}".encode()]


async def test_a_tail_says_that_a_key_is_in_use_for_something_else(open_broker, client):
    await client.set(f"srt:meta:{CHANNEL}", "precious")
    async with contextlib.aclosing(open_broker().tail(CHANNEL)) as tail:
        with pytest.raises(BrokerError, match="is a string"):
            await asyncio.wait_for(anext(tail), DEADLINE_S)


async def test_a_log_that_something_else_writes_to_is_named_and_left_alone(open_broker, client):
    broker = open_broker()
    await broker.publish(CHANNEL, numbered(1, 3))
    await client.xadd(f"srt:log:{CHANNEL}", {"x": "y"})
    before = await dump(client)
    with pytest.raises(BrokerError, match="something else has written"):
        await broker.publish(CHANNEL, numbered(4, 6), producer="p", sequence=1)
    assert await dump(client) == before
    assert (await broker.read(CHANNEL, 0, 10)).entries == numbered(1, 3)
    await broker.reset(CHANNEL)
    assert (await broker.publish(CHANNEL, numbered(1, 1))).first == 1


async def test_entries_deleted_by_hand_are_a_hole_that_pages_show(open_broker, client):
    broker = open_broker()
    await broker.publish(CHANNEL, numbered(1, 9))
    await client.xdel(f"srt:log:{CHANNEL}", "4-0", "5-0", "9-0")
    assert (await broker.read(CHANNEL, 0, 100)).entries == numbered(1, 3)
    page = await broker.read(CHANNEL, 3, 100)
    assert (page.first, page.entries) == (6, numbered(6, 8))
    page = await broker.read(CHANNEL, 8, 100)
    assert (page.first, page.entries) == (10, [])


async def test_offsets_end_at_2_to_the_53(open_broker, client):
    broker = open_broker()
    await broker.publish(CHANNEL, [b"1"])
    await client.delete(f"srt:log:{CHANNEL}")
    await client.hset(f"srt:meta:{CHANNEL}", "last", 2**53 - 4)
    async with following(broker) as tail:
        published = await broker.publish(CHANNEL, numbered(1, 2), producer="p", sequence=1)
        assert (published.first, published.last) == (2**53 - 3, 2**53 - 2)
        assert await tail.entries(2**53 - 2) == numbered(1, 2)
    assert (await broker.publish(CHANNEL, numbered(1, 2), producer="p", sequence=1)).last == 2**53 - 2
    with pytest.raises(BrokerError, match="last offset"):
        await broker.publish(CHANNEL, numbered(1, 2))
    assert (await broker.read(CHANNEL, 2**53 - 4, 10)).entries == numbered(1, 2)


async def test_a_wrong_password_is_no_absence(shared_server):
    broker = RedisBroker(shared_server.url.replace(":a-password", ":another"))
    try:
        for call in (broker.ping(), broker.publish(CHANNEL, [b"1"]), anext(broker.tail(CHANNEL))):
            with pytest.raises(BrokerError, match="credentials") as raised:
                await asyncio.wait_for(call, DEADLINE_S)
            assert not isinstance(raised.value, BrokerUnavailable)
            assert "another" not in str(raised.value)
    finally:
        await broker.aclose()


async def test_a_read_only_server_counts_as_away_and_can_still_be_read(open_broker, client):
    broker = open_broker()
    published = await broker.publish(CHANNEL, numbered(1, 2))
    await client.replicaof("127.0.0.1", "1")
    try:
        with pytest.raises(BrokerUnavailable, match="read only"):
            await broker.publish(CHANNEL, numbered(3, 3))
        assert (await broker.position(CHANNEL)).last == 2
    finally:
        await client.replicaof("NO", "ONE")
    after = await broker.publish(CHANNEL, numbered(3, 3))
    assert (after.epoch, after.first) == (published.epoch, 3)


# ---- Pub/Sub: shared, bounded, repaired


async def test_all_tails_of_a_broker_share_one_connection_and_leave_at_once(open_broker, client):
    broker = open_broker()

    async def pubsub_clients():
        return [c for c in await client.client_list() if "P" in c["flags"]]

    async with contextlib.AsyncExitStack() as stack:
        for n in range(20):
            await stack.enter_async_context(following(broker, f"project:{{p{n}}}"))
        async with following(broker, "project:{p0}"):
            assert len(await client.pubsub_channels()) == 20
        assert len(await client.pubsub_channels()) == 20, "another tail still listens"
        assert len(await pubsub_clients()) == 1
        async with following(broker, "project:{last}"):
            assert len(await client.pubsub_channels()) == 21
        await eventually(lambda: has_channels(client, 20))
        assert len(broker._subscriptions._standing) == 20, "nothing is compared for nobody"
    await eventually(lambda: has_channels(client, 0))
    assert await pubsub_clients() == []


async def test_tails_that_leave_before_they_are_subscribed_do_no_harm(open_broker):
    broker = open_broker()
    for n in range(50):
        tail = broker.tail(CHANNEL)
        beginning = asyncio.create_task(anext(tail))
        for _ in range(n % 7):
            await asyncio.sleep(0)
        beginning.cancel()
        await asyncio.gather(beginning, return_exceptions=True)
        await tail.aclose()
        async with contextlib.aclosing(broker.tail(CHANNEL)) as other:
            assert isinstance(await asyncio.wait_for(anext(other), DEADLINE_S), Position)


async def test_nothing_is_compared_for_tails_that_left_before_they_were_subscribed(open_broker):
    broker = open_broker()
    async with following(broker, "project:{first}"):
        for n in range(50):
            beginning = asyncio.create_task(anext(tail := broker.tail(f"project:{{p{n}}}")))
            for _ in range(n % 10):
                await asyncio.sleep(0)
            beginning.cancel()
            await asyncio.gather(beginning, return_exceptions=True)
            await tail.aclose()
        async with following(broker, "project:{last}"):  # its acknowledgement comes after all others
            assert broker._subscriptions._standing == {"project:{first}", "project:{last}"}


async def test_a_command_that_waits_in_line_leaves_no_connection_behind_a_close(open_broker, client):
    broker = open_broker()
    async with asyncio.TaskGroup() as group:
        for _ in range(CONNECTIONS):
            group.create_task(broker._endpoint.command("BLPOP", "held", 0))
        waiting = group.create_task(broker.ping())
        await asyncio.sleep(0)
        assert broker._endpoint._slots.locked()
        await broker.aclose()
        await client.rpush("held", *range(CONNECTIONS))
    assert waiting.done()
    assert broker._endpoint._idle == []


async def test_a_connection_that_the_server_closes_while_it_is_idle_costs_nobody_an_error(open_broker, client):
    broker = open_broker()
    for _ in range(3):
        await asyncio.gather(*(broker.ping() for _ in range(4)))
        await client.client_kill_filter(_type="normal", skipme=True)
        while any(line.is_free for line in broker._endpoint._idle):
            await asyncio.sleep(0.01)
        await broker.ping()
        assert len(broker._endpoint._idle) == 1


async def test_who_does_not_wait_for_a_reply_any_more_costs_no_connection_but_its_own(open_broker, client):
    broker = open_broker()
    async with asyncio.TaskGroup() as group:
        for _ in range(4):
            group.create_task(broker._endpoint.command("BLPOP", "held", 0))
        while (await client.info("clients"))["blocked_clients"] < 4:
            await asyncio.sleep(0.01)
        await client.rpush("held", *range(4))
    lines = set(broker._endpoint._idle)
    waiting = asyncio.create_task(broker._endpoint.command("BLPOP", "held", 0))
    while len(broker._endpoint._idle) == 4:
        await asyncio.sleep(0)
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    assert len(broker._endpoint._idle) == 3
    assert lines > set(broker._endpoint._idle)
    await asyncio.gather(*(broker.ping() for _ in range(3)))
    assert lines > set(broker._endpoint._idle)


async def test_a_server_that_has_too_many_clients_says_so_at_once(open_broker, client):
    most = (await client.config_get("maxclients"))["maxclients"]
    try:
        await client.config_set("maxclients", len(await client.client_list()))
        with pytest.raises(BrokerUnavailable, match="max number of clients reached"):
            await open_broker().ping()
    finally:
        await client.config_set("maxclients", most)


async def test_a_command_that_is_given_up_takes_its_connection_along_and_no_reply_reaches_another(open_broker, client):
    broker = open_broker()
    given_up = asyncio.create_task(broker._endpoint.command("BLPOP", "given-up", 0))
    while not (await client.info("clients"))["blocked_clients"]:
        await asyncio.sleep(0.01)
    given_up.cancel()
    await asyncio.gather(given_up, return_exceptions=True)
    assert await broker._endpoint.command("ECHO", "mine") == b"mine"
    while (await client.info("clients"))["blocked_clients"]:  # the connection is gone, not only its owner
        await asyncio.sleep(0.01)


async def test_a_user_who_may_not_subscribe_is_told(open_broker, client, shared_server):
    await client.acl_setuser("limited", enabled=True, passwords=["+p"], commands=["+@all"], keys=["*"], reset=True)
    broker = RedisBroker(shared_server.url.replace("redis://:", "redis://limited:").replace(PASSWORD, "p"))
    try:
        await broker.ping()
        async with contextlib.aclosing(broker.tail(CHANNEL)) as tail:
            with pytest.raises(BrokerError, match="permit its user 'limited'") as raised:
                await asyncio.wait_for(anext(tail), DEADLINE_S)
        assert not isinstance(raised.value, BrokerUnavailable)
    finally:
        await broker.aclose()
        await client.acl_deluser("limited")


async def has_channels(client, count):
    return len(await client.pubsub_channels()) == count


async def publish_unheard(client, broker, entries, channel=CHANNEL):
    """As the script does, but announced where nobody listens: what a lost message looks like."""
    keys = [f"srt:{kind}:{channel}" for kind in ("log", "meta", "seq", "approvals")]
    limits = [broker.retention.entries, broker.retention.bytes]
    await client.eval(
        PUBLISH.text, len(keys), *keys, "unused-epoch", 60_000, "elsewhere", *limits, b"\n".join(entries), "", 0, ""
    )


async def test_a_message_lost_in_the_middle_is_read_from_the_log(open_broker, client):
    broker = open_broker()
    async with following(broker) as tail:
        await broker.publish(CHANNEL, numbered(1, 2))
        await publish_unheard(client, broker, numbered(3, 2500))
        await broker.publish(CHANNEL, numbered(2501, 2502))
        assert await tail.entries(2502) == numbered(1, 2502)


async def test_a_message_lost_at_the_end_is_found_by_comparison(open_broker, client):
    broker = open_broker()
    async with following(broker) as tail:
        await publish_unheard(client, broker, numbered(1, 3))
        assert await tail.entries(3) == numbered(1, 3)


async def test_foreign_and_old_messages_change_nothing(open_broker, client):
    broker = open_broker()
    async with following(broker) as tail:
        epoch = tail.position.epoch.encode()
        await broker.publish(CHANNEL, numbered(1, 2))
        for message in (
            b"",
            b"hello",
            b"2 something new",
            b"1 %s 1 2\n" % epoch,
            b"1 %s 1 1\nold" % epoch,
            b"1 %s 7 1\nfuture" % epoch,
            b"1 another-epoch 3 1\nx",
            b"1 %s 3 2\none line" % epoch,
            b"1 %s 3 one\nx" % epoch,
            b"1 %s 3 0\n" % epoch,
            b"1 %s -3 1\nx" % epoch,
            b"1 %s 0 3\na\nb\nc" % epoch,
            b"\xff\xfe\n",
        ):
            await client.publish(CHANNEL, message)
        await broker.publish(CHANNEL, numbered(3, 4))
        assert await tail.entries(4) == numbered(1, 4)


async def test_a_tail_goes_on_when_its_connection_is_killed(open_broker, client):
    broker = open_broker()
    async with Consumer(broker) as consumer:
        for n in range(1, 301):
            if n % 100 == 50:
                await client.client_kill_filter(_type="pubsub")
            await broker.publish(CHANNEL, numbered(n, n))
        await eventually(lambda: len(consumer.seen) == 300)
    assert consumer.seen == list(enumerate(numbered(1, 300), 1))
    assert (consumer.gaps, consumer.away) == ([], 0)


async def test_a_tail_goes_on_when_redis_drops_it_for_being_slow(open_broker, client):
    limits = "normal 0 0 0 replica 0 0 0 pubsub 300kb 0 0"
    before = await client.config_get("client-output-buffer-limit")
    await client.config_set("client-output-buffer-limit", limits)
    try:
        broker, publisher = open_broker(), open_broker()
        async with following(broker) as tail:
            entry = b"x" * 200_000
            for _ in range(50):
                await publisher.publish(CHANNEL, [entry])
            assert await tail.entries(50) == [entry] * 50
    finally:
        await client.config_set("client-output-buffer-limit", before["client-output-buffer-limit"])


async def test_what_was_lost_in_a_reconnect_is_read_at_once(open_broker, client, monkeypatch):
    monkeypatch.setattr("syndarix_rt.broker.subscriptions.COMPARE_S", 60.0)
    broker = open_broker()
    async with following(broker) as tail:
        for n in range(1, 31):
            await client.client_kill_filter(_type="pubsub")
            await publish_unheard(client, broker, numbered(n, n))
            assert await tail.entries(n) == numbered(n, n)


async def test_what_is_lost_of_any_of_many_channels_is_found_by_comparing_some_at_a_time(
    open_broker, client, monkeypatch
):
    monkeypatch.setattr("syndarix_rt.broker.subscriptions.COMPARED_AT_ONCE", 2)
    monkeypatch.setattr("syndarix_rt.broker.subscriptions.COMPARE_S", 0.1)
    broker = open_broker()
    asked = []
    tops = broker._subscriptions._tops

    async def counted(names):
        asked.append(len(names))
        return await tops(names)

    monkeypatch.setattr(broker._subscriptions, "_tops", counted)
    channels = [f"project:{{p{n}}}" for n in range(5)]
    async with contextlib.AsyncExitStack() as stack:
        tails = [await stack.enter_async_context(following(broker, channel)) for channel in channels]
        for channel, tail in zip(channels, tails, strict=True):
            await publish_unheard(client, broker, numbered(1, 3), channel)
            assert await tail.entries(3) == numbered(1, 3)
    assert max(asked) == 2


def test_a_comparison_wakes_no_tail_that_has_been_told_so_far():
    class Nobody:
        def attach(self, name, feed): ...

        detach = attach

    feed = Feed(Nobody(), "apollo")

    def woken():
        woken = feed._wake.is_set()
        feed._wake.clear()
        return woken

    feed.compared(Top("", 0))  # the log was deleted
    assert woken()
    feed.put(Announcement("epoch-01", 1, 3, [b"1", b"2", b"3"]), 3)
    assert woken()
    feed.compared(Top("epoch-01", 3))
    assert not woken()
    feed.compared(Top("epoch-01", 4))
    assert woken()
    feed.compared(Top("epoch-01", 4))
    assert not woken()
    feed.compared(Top("epoch-02", 4))
    assert woken()


async def test_what_a_tail_holds_is_bounded_while_nobody_takes_it(open_broker, monkeypatch):
    monkeypatch.setattr("syndarix_rt.broker.subscriptions.COMPARE_S", 60.0)
    monkeypatch.setattr("syndarix_rt.broker.subscriptions.FEED_MESSAGES", 8)
    broker = open_broker()
    async with following(broker) as tail, following(broker) as watch:
        feeds = broker._subscriptions._feeds[CHANNEL]
        for n in range(1, 199):  # so that the last one is dropped: nine messages are one too many
            await broker.publish(CHANNEL, numbered(n, n))
            assert all(len(feed._messages) <= 8 for feed in feeds)
        await eventually(lambda: all(feed._lost and not feed._messages for feed in feeds))
        assert await watch.entries(198) == numbered(1, 198)
        assert await tail.entries(198) == numbered(1, 198)


async def test_a_silent_connection_is_replaced(open_broker, monkeypatch):
    monkeypatch.setattr("syndarix_rt.broker.subscriptions.SILENCE_S", 0.2)
    monkeypatch.setattr("syndarix_rt.broker.subscriptions.PING_S", 60.0)  # so that nothing answers
    monkeypatch.setattr("syndarix_rt.broker.subscriptions.COMPARE_S", 60.0)
    broker = open_broker()
    connections = []
    connect = broker._endpoint.connect

    async def counted():
        connections.append(await connect())
        return connections[-1]

    monkeypatch.setattr(broker._endpoint, "connect", counted)
    async with following(broker) as tail:
        await eventually(lambda: len(connections) >= 3)
        await broker.publish(CHANNEL, numbered(1, 1))
        assert await tail.entries(1) == numbered(1, 1)
    assert not connections[0].is_connected


@pytest.mark.parametrize("query", ["", "?health_check_interval=1"])  # redis-py's own would wait for a reply in vain
async def test_pings_keep_an_idle_connection(shared_server, monkeypatch, client, query):
    monkeypatch.setattr("syndarix_rt.broker.subscriptions.SILENCE_S", 1.5)
    monkeypatch.setattr("syndarix_rt.broker.subscriptions.PING_S", 0.1)
    broker = RedisBroker(shared_server.url + query)
    async with contextlib.aclosing(broker), following(broker):
        first = [c["id"] for c in await client.client_list() if "P" in c["flags"]]
        pings = int((await client.info("commandstats"))["cmdstat_ping"]["calls"])

        async def pinged():
            return int((await client.info("commandstats"))["cmdstat_ping"]["calls"]) > pings + 20  # two seconds

        await eventually(pinged)
        assert [c["id"] for c in await client.client_list() if "P" in c["flags"]] == first


async def test_over_tls_with_a_certificate_that_is_trusted_and_no_other(tmp_path, port):
    tls = f"tls-port {port}\ntls-cert-file {CERTIFICATE}\ntls-key-file {CERTIFICATE}\ntls-auth-clients no"
    with RedisServer(tmp_path, name="redis") as server:
        server.stop()
        server.start(tls)
        url = f"rediss://:{PASSWORD}@127.0.0.1:{port}"
        broker, wary = RedisBroker(f"{url}?ssl_ca_certs={CERTIFICATE}"), RedisBroker(url)
        async with following(broker) as tail:
            await broker.publish(CHANNEL, numbered(1, 3))
            assert await tail.entries(3) == numbered(1, 3)
        with pytest.raises(BrokerUnavailable, match="not to be trusted: self-signed certificate"):
            await wary.position(CHANNEL)
        await broker.aclose()
        await wary.aclose()


async def test_a_tail_that_waits_gives_at_once_what_follows_on(open_broker):
    came = []
    broker = open_broker()
    async with contextlib.aclosing(broker.tail(CHANNEL, at_once=came.append)) as tail:
        position = await asyncio.wait_for(anext(tail), DEADLINE_S)
        waiting = asyncio.create_task(anext(tail))
        for n in range(1, 8):
            await broker.publish(CHANNEL, numbered(n, n))
        await eventually(lambda: came and came[-1].last == 7)
        assert [batch.first for batch in came] == [1, *(batch.last + 1 for batch in came[:-1])]
        assert not waiting.done()
        reset = await broker.reset(CHANNEL)
        assert await asyncio.wait_for(waiting, DEADLINE_S) == reset != position


async def test_what_taking_raises_ends_that_tail_alone(open_broker):
    broker = open_broker()

    def refuse(_):
        raise KeyError("planted")

    async with following(broker) as other:
        tail = broker.tail(CHANNEL, at_once=refuse)
        async with contextlib.aclosing(tail):
            await asyncio.wait_for(anext(tail), DEADLINE_S)
            waiting = asyncio.create_task(anext(tail))
            await asyncio.sleep(0)  # so that it waits
            await broker.publish(CHANNEL, numbered(1, 1))
            with pytest.raises(KeyError, match="planted"):
                await asyncio.wait_for(waiting, DEADLINE_S)
        assert await other.entries(1) == numbered(1, 1)
