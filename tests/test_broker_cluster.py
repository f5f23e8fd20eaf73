"""`RedisBroker` on a real cluster of three masters: the contract, slots that move, masters that fail or hang."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial

import pytest
from broker_contract import CHANNEL, DEADLINE_S, BrokerContract, Consumer, eventually, numbered, once_it_is_back
from redis_cluster import RedisCluster

from syndarix_rt.broker import RedisBroker
from syndarix_rt.broker.factory import open_broker
from syndarix_rt.broker.protocol import project_channel
from syndarix_rt.errors import BrokerError, BrokerUnavailable

CHANNELS = [project_channel(f"p-{number}") for number in range(12)]  # spread over all masters


@pytest.fixture(scope="module")
def shared_cluster(tmp_path_factory):
    with RedisCluster(tmp_path_factory.mktemp("cluster"), calm=True) as cluster:
        yield cluster


@pytest.fixture
def cluster(shared_cluster):
    shared_cluster.empty()
    return shared_cluster


@pytest.fixture
async def open_broker_of(cluster):
    brokers = []

    def open_broker_of(**options):
        brokers.append(RedisBroker(cluster.url, **options))
        return brokers[-1]

    yield open_broker_of
    for broker in brokers:
        await broker.aclose()


@pytest.fixture
async def broker(open_broker_of):
    return open_broker_of()


class TestClusterBroker(BrokerContract):
    @pytest.fixture
    def open_broker(self, open_broker_of):
        return open_broker_of


@asynccontextmanager
async def publishing(broker, channels, *, pause_s=0.005):
    """Publish numbered entries to all channels until the end; how many each has had, and who publishes what now."""
    counts = dict.fromkeys(channels, 0)
    stop = asyncio.Event()

    async def publish(channel):
        while not stop.is_set():
            n = counts[channel] + 1
            await once_it_is_back(lambda: broker.publish(channel, numbered(n, n), producer="p", sequence=n))  # noqa: B023 - called before n changes
            counts[channel] = n
            await asyncio.sleep(pause_s)

    async with asyncio.TaskGroup() as group:
        for channel in channels:
            group.create_task(publish(channel))
        try:
            yield counts
        finally:
            stop.set()


async def more(counts, by=20):
    """Wait until every channel has had so many more entries."""
    before = dict(counts)
    await eventually(lambda: all(counts[channel] >= before[channel] + by for channel in counts))


@asynccontextmanager
async def consuming(broker, channels):
    async with AsyncExitStack() as stack:
        yield {channel: await stack.enter_async_context(Consumer(broker, channel)) for channel in channels}


async def exactly_once(consumers, counts):
    """Wait until every consumer has had everything, each entry once, in order and without a gap."""
    for channel, consumer in consumers.items():
        await eventually(lambda: len(consumer.seen) >= counts[channel])  # noqa: B023 - awaited at once
        assert consumer.seen == list(enumerate(numbered(1, counts[channel]), 1))
        assert consumer.gaps == []


async def test_channels_are_on_all_masters_and_each_master_has_one_subscriber(cluster, open_broker_of):
    consuming_broker, publishing_broker = open_broker_of(), open_broker_of()
    async with consuming(consuming_broker, CHANNELS) as consumers:
        async with publishing(publishing_broker, CHANNELS) as counts:
            await more(counts)
        await exactly_once(consumers, counts)
        masters = [cluster.owner(channel) for channel in CHANNELS]
        assert len({master.port for master in masters}) == 3
        for master in masters:
            clients = master.raw("CLIENT", "LIST", "TYPE", "pubsub").decode().splitlines()
            assert len(clients) == 1
    assert await consuming_broker.projects() == sorted(f"p-{number}" for number in range(12))


async def test_a_slot_that_moves_takes_its_readers_and_writers_along(cluster, open_broker_of):
    consuming_broker, publishing_broker = open_broker_of(), open_broker_of()
    async with consuming(consuming_broker, CHANNELS) as consumers:
        async with publishing(publishing_broker, CHANNELS) as counts:
            await more(counts)
            for channel in CHANNELS[:2]:
                to = cluster.others(cluster.owner(channel))[0]
                await asyncio.to_thread(cluster.move, channel, to)
                assert cluster.owner(channel) is to
                await more(counts)
        await exactly_once(consumers, counts)


class TestNodesThatFail:
    @pytest.fixture
    def cluster(self, tmp_path):
        """One of its own, to do harm to."""
        with RedisCluster(tmp_path) as cluster:
            yield cluster

    async def test_a_master_that_fails_is_replaced_and_nothing_is_lost_or_doubled(self, cluster, open_broker_of):
        consuming_broker, publishing_broker = open_broker_of(), open_broker_of()
        failing = cluster.owner(CHANNELS[0])
        mine = [channel for channel in CHANNELS if cluster.owner(channel) is failing]
        others = [channel for channel in CHANNELS if channel not in mine]
        async with consuming(consuming_broker, CHANNELS) as consumers, publishing(publishing_broker, others) as counts:
            for channel in mine:
                await publishing_broker.publish(channel, numbered(1, 20))
            await more(counts)
            await asyncio.to_thread(cluster.until_replicated, failing)
            await asyncio.to_thread(cluster.fail_over, failing)
            for channel in mine:
                await once_it_is_back(
                    partial(publishing_broker.publish, channel, numbered(21, 40), producer="p", sequence=1)
                )
            await more(counts)
            await asyncio.to_thread(failing.start)  # as a replica now
            for channel in mine:
                await once_it_is_back(
                    partial(publishing_broker.publish, channel, numbered(41, 60), producer="p", sequence=2)
                )
            await more(counts)
        await exactly_once(consumers, counts | dict.fromkeys(mine, 60))

    async def test_a_failover_that_loses_acknowledged_writes_declares_each_loss(self, cluster, open_broker_of):
        consuming_broker, publishing_broker = open_broker_of(), open_broker_of()
        async with Consumer(consuming_broker) as consumer:
            await publishing_broker.publish(CHANNEL, numbered(1, 5))
            await eventually(lambda: len(consumer.seen) == 5)
            master = cluster.owner(CHANNEL)
            await asyncio.to_thread(cluster.until_replicated, master)
            replica = cluster.replica_of(master)
            replica.pause()
            master.raw("CLIENT", "KILL", "TYPE", "replica")  # else its kernel would take what comes
            await publishing_broker.publish(CHANNEL, numbered(6, 9))  # acknowledged, and gone with the master
            await eventually(lambda: len(consumer.seen) == 9)
            await asyncio.to_thread(master.kill)
            replica.resume()
            await asyncio.to_thread(cluster.until, lambda: replica.has("role:master"))
            await once_it_is_back(lambda: publishing_broker.publish(CHANNEL, [b'"other"'], producer="p", sequence=1))
            await eventually(lambda: consumer.seen[-1] == (6, b'"other"'))
        assert [gap.reason for gap in consumer.gaps] == ["epoch"]
        assert consumer.seen == [*enumerate(numbered(1, 9), 1), (6, b'"other"')]

    async def test_a_master_that_hangs_holds_up_no_other_masters_channels(self, cluster, open_broker_of):
        consuming_broker, publishing_broker = open_broker_of(), open_broker_of()
        async with (
            consuming(consuming_broker, CHANNELS) as consumers,
            publishing(publishing_broker, CHANNELS) as counts,
        ):
            await more(counts)
            hanging = cluster.owner(CHANNELS[0])
            others = [channel for channel in CHANNELS if cluster.owner(channel) is not hanging]
            for node in cluster.nodes:  # else the others end, too, once they agree that it has failed
                node.call("CONFIG", "SET", "cluster-require-full-coverage", "no")
            cluster.replica_of(hanging).kill()  # so that nobody takes its place
            hanging.pause()
            before = dict(counts)
            await eventually(lambda: all(counts[channel] >= before[channel] + 100 for channel in others))
            assert counts[CHANNELS[0]] <= before[CHANNELS[0]] + 1
            for channel in others:
                await eventually(lambda: len(consumers[channel].seen) >= before[channel] + 100)  # noqa: B023 - awaited at once
            hanging.resume()
            await more(counts)
        await exactly_once(consumers, counts)

    async def test_it_is_away_while_no_node_answers_and_back_with_them(self, cluster, broker, monkeypatch):
        await broker.publish(CHANNEL, numbered(1, 2))
        monkeypatch.setattr("syndarix_rt.broker.endpoint.COMMAND_S", 1)
        for node in cluster.nodes:
            node.pause()
        with pytest.raises(BrokerUnavailable):
            await asyncio.wait_for(broker.ping(), DEADLINE_S)
        for node in cluster.nodes:
            node.resume()
        await once_it_is_back(broker.ping)
        assert (await once_it_is_back(lambda: broker.read(CHANNEL, 0, 10))).entries == numbered(1, 2)


async def test_one_server_s_url_says_what_a_cluster_s_is(cluster):
    node = next(node for node in cluster.nodes if node.has("role:master") and node is not cluster.owner(CHANNEL))
    async with _opened(node.url) as broker:
        with pytest.raises(
            BrokerError, match=rf"node of a cluster: give it as redis\+cluster://127.0.0.1:{node.port}$"
        ):
            await broker.position(CHANNEL)


async def test_one_server_is_no_cluster(redis_url):
    async with _opened(redis_url.replace("redis://", "redis+cluster://")) as broker:
        with pytest.raises(BrokerError, match="is no node of a cluster"):
            await broker.position(CHANNEL)


async def test_a_url_without_a_node_is_none():
    with pytest.raises(BrokerError, match=r"cannot use the broker's URL 'redis\+cluster://'.*names no node"):
        await open_broker("redis+cluster://user:secret@")


@asynccontextmanager
async def _opened(url):
    broker = await open_broker(url)
    try:
        yield broker
    finally:
        await broker.aclose()
