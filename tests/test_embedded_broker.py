"""Which broker one gets, and how a broker on the embedded server outlives it."""

import asyncio
import contextlib
import os
import signal
from datetime import UTC, datetime

import pytest
from broker_contract import CHANNEL, Consumer, eventually, following, numbered, once_it_is_back
from embedded_users import endpoint, own_state, poll, processes, servers
from redis_server import RedisServer

from syndarix_rt import Event
from syndarix_rt.broker import MemoryBroker, Publisher, RedisBroker, Retention
from syndarix_rt.broker.factory import broker_or_memory, durability_warnings, open_broker, without_credentials
from syndarix_rt.errors import BrokerError, BrokerUnavailable, EmbeddedServerError

NOW = datetime(2026, 11, 23, tzinfo=UTC)
RETENTION = Retention(entries=10)


@pytest.fixture(autouse=True)
def state(tmp_path, monkeypatch):
    with own_state(tmp_path, monkeypatch) as directory:
        yield directory


@pytest.fixture(autouse=True)
def no_url(monkeypatch):
    monkeypatch.delenv("SYNDARIX_RT_REDIS_URL", raising=False)


@contextlib.asynccontextmanager
async def opened(*args, **options):
    broker = await open_broker(*args, **options)
    async with contextlib.aclosing(broker):
        yield broker


def events(count):
    return [
        Event.new("custom_step", {"n": number}, project="apollo", id=f"e{number}", time=NOW)
        for number in range(1, count + 1)
    ]


# ---- which one ------------------------------------------------------------------------------------------------------


async def test_a_named_redis_is_used_and_nothing_embedded_started(redis_url, state):
    async with opened(redis_url, namespace="n:", retention=RETENTION) as broker:
        assert (await broker.publish(CHANNEL, numbered(1, 1))).last == 1
        assert broker.retention == RETENTION
    async with opened(redis_url) as broker:
        assert (await broker.position(CHANNEL)).last == 0
    assert not state.exists()


async def test_the_environment_names_it_too(redis_url, state, monkeypatch):
    monkeypatch.setenv("SYNDARIX_RT_REDIS_URL", redis_url)
    async with opened() as broker:
        await broker.ping()
    assert not state.exists()


async def test_an_empty_name_is_none(monkeypatch, state):
    monkeypatch.setenv("SYNDARIX_RT_REDIS_URL", "")
    async with opened() as broker:
        await broker.ping()
        assert len(servers(state)) == 1


async def test_memory_can_be_named():
    async with opened("memory://", retention=RETENTION) as broker:
        assert isinstance(broker, MemoryBroker)
        assert broker.retention == RETENTION


@pytest.mark.parametrize(
    "url",
    ["http://u:s3cret@host/?key=s3cret", "localhost:6379", "redis://:s3cret@host:port", "://", "redis", "redis://["],
)
async def test_what_is_no_url_of_a_broker_is_refused_without_its_secrets(url):
    with pytest.raises(BrokerError, match="URL") as refused:
        await open_broker(url)
    assert "s3cret" not in str(refused.value)


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("redis://:s3cret@127.0.0.1:6379/0", "redis://127.0.0.1:6379/0"),
        ("rediss://user:p@ss@host", "rediss://host"),
        ("unix://user:pw@/run/redis.sock?db=1&password=pw", "unix:///run/redis.sock"),
        ("http://127.0.0.1:8000/p/a?key=s3cret#x", "http://127.0.0.1:8000/p/a"),
        ("redis://[::1]:6379", "redis://[::1]:6379"),
        ("redis://u:s3cret@[", "redis://["),
        ("redis://:s3/c?r#e@t@host:1", "redis://host:1"),
        ("redis", "redis"),
    ],
)
def test_a_url_is_shown_without_its_secrets(url, shown):
    assert without_credentials(url) == shown


# ---- the embedded one -----------------------------------------------------------------------------------------------


async def test_without_a_name_it_is_the_embedded_one_for_as_long_as_it_is_open(state):
    async with opened(retention=RETENTION) as broker:
        await broker.publish(CHANNEL, numbered(1, 3))
        async with opened() as another:
            assert (await another.position(CHANNEL)).last == 3
        assert (await broker.position(CHANNEL)).last == 3
    await asyncio.to_thread(poll, lambda: not processes(state))
    async with opened() as later:
        assert (await later.read(CHANNEL, 0, 10)).entries == numbered(1, 3)


async def test_a_closed_broker_starts_nothing(state):
    async with opened() as broker:
        pass
    with pytest.raises(BrokerError):
        await broker.publish(CHANNEL, numbered(1, 1))
    await asyncio.to_thread(poll, lambda: not processes(state))


async def test_a_tail_alone_starts_a_killed_server_again(state):
    async with opened() as broker, following(broker):
        before = endpoint(state)
        os.kill(before["pid"], signal.SIGKILL)
        await eventually(lambda: endpoint(state)["run_token"] != before["run_token"])
        await broker.ping()


async def test_a_publisher_alone_starts_a_killed_server_again(state):
    async with opened() as broker:
        publisher = Publisher(broker, "apollo")
        await publisher.publish(events(1))
        os.kill(endpoint(state)["pid"], signal.SIGKILL)
        assert (await publisher.publish(events(1))).last == 2


async def test_nothing_is_doubled_or_lost_in_silence_while_the_server_is_killed_again_and_again(state):
    sent = events(600)
    published = 0

    async def kill_again_and_again():
        for count in (100, 200, 300, 400, 500):
            await eventually(lambda count=count: published >= count)
            os.kill(endpoint(state)["pid"], signal.SIGKILL)

    async with opened() as broker, opened() as mine, Consumer(broker) as consumer:
        publisher = Publisher(mine, "apollo")
        killing = asyncio.create_task(kill_again_and_again())
        for start in range(0, len(sent), 5):
            await publisher.publish(sent[start : start + 5])
            published += 5
        await killing
        top = (await once_it_is_back(lambda: broker.position(CHANNEL))).top  # the last kill may just have been
        await eventually(lambda: consumer.cursor == top)
    seen = [Event.decode(entry).id for _, entry in consumer.seen]
    if consumer.gaps:  # a disk so slow that the server answered before it had written, and was killed then
        assert {gap.reason for gap in consumer.gaps} == {"epoch"}
        assert seen == [event.id for event in sent if event.id in set(seen)]
    else:
        assert seen == [event.id for event in sent]


# ---- where there is none --------------------------------------------------------------------------------------------


async def test_without_any_redis_a_serving_process_gets_memory_and_a_line_about_it(monkeypatch):
    monkeypatch.setenv("SYNDARIX_RT_EMBEDDED", "off")
    with pytest.raises(EmbeddedServerError):
        await open_broker()
    broker, remark = await broker_or_memory(retention=RETENTION)
    assert isinstance(broker, MemoryBroker)
    assert broker.retention == RETENTION
    assert "publish over HTTP, history ends with it (the embedded Redis is switched off" in remark
    assert "\n" not in remark


async def test_with_the_embedded_one_there_is_nothing_to_say(state):
    broker, remark = await broker_or_memory()
    async with contextlib.aclosing(broker):
        assert isinstance(broker, RedisBroker)
        assert remark is None


async def test_memory_that_was_asked_for_needs_no_remark():
    assert (await broker_or_memory("memory://"))[1] is None


async def test_a_redis_that_loses_or_evicts_is_warned_of(tmp_path):
    with RedisServer(tmp_path) as server:
        broker, remark = await broker_or_memory(server.url)
        async with contextlib.aclosing(broker):
            assert remark is None
        server.stop()
        server.start("appendonly no\nmaxmemory-policy allkeys-lru")
        broker, remark = await broker_or_memory(server.url)
        async with contextlib.aclosing(broker):
            append_only, eviction = await durability_warnings(broker)
    assert "has no append-only file" in append_only
    assert "evicts when its memory is full (maxmemory-policy allkeys-lru)" in eviction
    assert remark == f"{append_only}; {eviction}"
    assert "@" not in remark


async def test_a_redis_that_may_not_be_asked_is_not_warned_of(tmp_path):
    with RedisServer(tmp_path) as server:
        server.stop()
        server.start("user default on >a-password-of-the-tests ~* &* +@all -info")
        broker, remark = await broker_or_memory(server.url)
        async with contextlib.aclosing(broker):
            assert remark is None


async def test_a_redis_that_is_away_at_the_start_is_waited_for(tmp_path):
    with RedisServer(tmp_path) as server:
        server.stop()
        broker, remark = await broker_or_memory(server.url)
        async with contextlib.aclosing(broker):
            assert "cannot be reached" in remark
            assert "trying again until it answers" in remark
            server.start()
            await eventually(lambda: answers(broker))


async def answers(broker):
    with contextlib.suppress(BrokerUnavailable):
        await broker.ping()
        return True
    return False


async def test_refused_credentials_end_it(redis_url):
    with pytest.raises(BrokerError, match="refuses these credentials"):
        await broker_or_memory(redis_url.replace("a-password", "another-password"))
