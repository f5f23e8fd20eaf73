from __future__ import annotations

import pytest
import redis.asyncio

pytest.register_assert_rewrite("broker_contract")

from broker_contract import BrokerContract
from redis_server import RedisServer

from syndarix_rt.broker import RedisBroker


@pytest.fixture(scope="module", params=["valkey", "redis"])
def shared_server(request, tmp_path_factory):
    """One server of each kind for the tests that leave it alive."""
    with RedisServer(tmp_path_factory.mktemp(request.param), name=request.param) as server:
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
