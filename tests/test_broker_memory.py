from __future__ import annotations

import pytest
from broker_contract import CHANNEL, BrokerContract, asked, decide, numbered

from syndarix_rt.broker import MemoryBroker, Retention


class TestMemoryBroker(BrokerContract):
    @pytest.fixture
    async def open_broker(self):
        brokers = []

        def open_broker(**options):
            if not brokers:  # what it holds is in the object, so all users of the same data share it
                brokers.append(MemoryBroker(**options))
            return brokers[0]

        yield open_broker
        for broker in brokers:
            await broker.aclose()


@pytest.mark.parametrize(
    "limit", [{"entries": 0}, {"bytes": 0}, {"age_s": 0.0}, {"age_s": float("inf")}, {"age_s": float("nan")}]
)
def test_a_retention_that_keeps_nothing_or_has_no_end_is_refused(limit):
    with pytest.raises(ValueError, match="at least 1 entry"):
        Retention(**limit)


async def test_an_epoch_outlives_its_log_by_a_week():
    now_s = 0.0
    broker = MemoryBroker(retention=Retention(age_s=60), clock=lambda: now_s)
    published = await broker.publish(CHANNEL, numbered(1, 3))
    now_s = 60.0
    position = await broker.position(CHANNEL)
    assert (position.epoch, position.first, position.last) == (published.epoch, 4, 3)
    now_s = 60.0 + 7 * 24 * 3600
    position = await broker.position(CHANNEL)
    assert position.epoch != published.epoch
    assert (position.first, position.last) == (1, 0)


async def test_approvals_outlive_the_log_by_a_week_since_one_was_mentioned():
    now_s = 0.0
    broker = MemoryBroker(retention=Retention(age_s=60), clock=lambda: now_s)
    await broker.publish(CHANNEL, [asked(1, "a-1"), asked(1, "a-2")])
    now_s = 1000.0
    await decide(broker, approval_id="a-1")
    now_s = 1000 + 60 + 7 * 24 * 3600 - 1
    await broker.publish(CHANNEL, numbered(1, 3))
    assert [waits.approval_id for waits in await broker.approvals(CHANNEL)] == ["a-2"]
    now_s += 1
    assert await broker.approvals(CHANNEL) == []
    assert await decide(broker, approval_id="a-1") is None


async def test_what_producers_sent_is_forgotten_after_a_day():
    now_s = 0.0
    broker = MemoryBroker(clock=lambda: now_s)
    for n in range(100):
        now_s = float(n)
        await broker.publish(CHANNEL, [b"1"], producer=f"p{n}", sequence=1)
    now_s = 24 * 3600 + 49.5
    await broker.publish(CHANNEL, [b"1"], producer="new", sequence=1)
    assert sorted(broker._channels[CHANNEL].records) == sorted(["new"] + [f"p{n}" for n in range(50, 100)])
    assert (await broker.publish(CHANNEL, [b"1"], producer="p0", sequence=1)).duplicates == 0
    assert (await broker.publish(CHANNEL, [b"1"], producer="p99", sequence=1)).duplicates == 1
