"""`RedisBroker` on a master that a real Sentinel looks after, which fails."""

from __future__ import annotations

import asyncio
import re
import time
from contextlib import ExitStack, suppress

import pytest
import redis
from broker_contract import CHANNEL, Consumer, eventually, numbered, once_it_is_back
from redis_server import PASSWORD, RedisServer, Sentinel

from syndarix_rt.broker import RedisBroker
from syndarix_rt.broker.factory import open_broker
from syndarix_rt.errors import BrokerError, BrokerUnavailable

READY_S = 20
REPLICATION = f"masterauth {PASSWORD}\nrepl-diskless-sync-delay 0\n"


class Watched:
    """A master, its replica and a Sentinel."""

    def __init__(self, directory):
        self.master, self.replica = (RedisServer(_folder(directory, name)) for name in ("master", "replica"))
        self.sentinel = Sentinel(_folder(directory, "sentinel"), self.master)

    def start(self, stack):
        self.master.start(REPLICATION)
        stack.callback(self.master.stop)
        self.replica.start(f"{REPLICATION}replicaof 127.0.0.1 {self.master.port}")
        stack.callback(self.replica.stop)
        self.until(self.master, "INFO", "replication", has=b"state=online")
        self.sentinel.start()
        stack.callback(self.sentinel.stop)
        self.ask(self.sentinel, "SENTINEL", "DEBUG", "info-period", "100", "ask-period", "100")  # ms, of 10 s and 1 s
        self.until(self.sentinel, "INFO", "sentinel", has=b"status=ok,address=127.0.0.1:%d,slaves=1" % self.master.port)

    def until(self, server, *command, has):
        deadline = time.monotonic() + READY_S
        while has not in self.ask(server, *command):
            assert time.monotonic() < deadline, self.ask(server, *command)
            time.sleep(0.02)

    def until_replicated(self):
        """Wait until the replica has all that the master had at some moment."""
        reached = re.search(rb"master_repl_offset:(\d+)", self.ask(self.master, "INFO", "replication"))[1]
        deadline = time.monotonic() + READY_S
        while int(
            re.search(rb"slave_repl_offset:(\d+)|$", self.ask(self.replica, "INFO", "replication"))[1] or 0
        ) < int(reached):
            assert time.monotonic() < deadline
            time.sleep(0.02)

    @staticmethod
    def ask(server, *command):
        with suppress(redis.RedisError), redis.Redis.from_url(server.url, socket_timeout=5) as client:
            connection = client.connection_pool.get_connection()
            connection.send_command(*command)
            return connection.read_response()
        return b""

    @property
    def url(self):
        silent = "127.0.0.1:1"  # where none is
        place = f"{silent},127.0.0.1:{self.sentinel.port}"
        return f"redis+sentinel://:{PASSWORD}@{place}/ours?sentinel_password={PASSWORD}"


def _folder(directory, name):
    (directory / name).mkdir()
    return directory / name


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
    await asyncio.to_thread(watched.until, watched.sentinel, "SENTINEL", "FAILOVER", "ours", has=b"OK")
    switched = b"status=ok,address=127.0.0.1:%d" % watched.replica.port
    await asyncio.to_thread(watched.until, watched.sentinel, "INFO", "sentinel", has=switched)
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
