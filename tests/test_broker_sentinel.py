"""`RedisBroker` on a master that a real Sentinel looks after, which fails."""

from __future__ import annotations

import asyncio
from contextlib import ExitStack

import pytest
from broker_contract import CHANNEL, Consumer, eventually, numbered, once_it_is_back
from redis_sentinel import Watched

from syndarix_rt.broker import RedisBroker
from syndarix_rt.broker.factory import open_broker
from syndarix_rt.errors import BrokerError, BrokerUnavailable


@pytest.fixture
def watched(tmp_path):
    with ExitStack() as stack:
        watched = Watched(tmp_path)
        watched.start(stack)
        yield watched


async def test_when_the_master_fails_its_replica_is_found_and_nothing_is_lost_or_doubled(watched):
    broker, publisher = RedisBroker(watched.url), RedisBroker(watched.url)
    async with Consumer(broker) as consumer:
        for n in range(1, 21):
            await publisher.publish(CHANNEL, numbered(n, n), producer="p", sequence=n)
        await asyncio.to_thread(watched.until_replicated)
        await asyncio.to_thread(watched.master.kill)
        for n in range(21, 41):
            await once_it_is_back(lambda: publisher.publish(CHANNEL, numbered(n, n), producer="p", sequence=n))  # noqa: B023 - called before n changes
        await eventually(lambda: len(consumer.seen) == 40)
    assert consumer.seen == list(enumerate(numbered(1, 40), 1))
    assert consumer.gaps == []
    assert b"role:master" in watched.ask(watched.replica, "INFO", "replication")
    await broker.aclose()
    await publisher.aclose()


async def test_a_master_that_became_a_replica_is_left_for_the_new_one(watched):
    broker = RedisBroker(watched.url)
    await broker.publish(CHANNEL, numbered(1, 2))
    await asyncio.to_thread(watched.until_replicated)
    await asyncio.to_thread(watched.fail_over)
    watched.ask(watched.master, "REPLICAOF", "127.0.0.1", str(watched.replica.port))  # the Sentinel does so 8 s later
    published = await once_it_is_back(lambda: broker.publish(CHANNEL, numbered(3, 3), producer="p", sequence=1))
    assert published.first == 3
    await broker.aclose()


async def test_an_unknown_master_and_silent_sentinels_are_named(watched):
    broker = RedisBroker(watched.url.replace("/ours", "/theirs"))
    with pytest.raises(
        BrokerUnavailable, match=rf"127.0.0.1:1 cannot be .* 127.0.0.1:{watched.sentinel.port} knows no"
    ):
        await broker.position(CHANNEL)
    await broker.aclose()


@pytest.mark.parametrize("url", ["redis+sentinel://127.0.0.1:1", "redis+sentinel:///ours"])
async def test_a_url_without_sentinel_or_master_is_none(url):
    with pytest.raises(BrokerError, match="names no Sentinel or no master"):
        await open_broker(url)
