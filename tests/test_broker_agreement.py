"""`RedisBroker` and the reference agree over any sequence of calls."""

from __future__ import annotations

import asyncio
import re

import pytest
import redis
from broker_contract import CHANNEL, asked, decide, happened, resolved
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from syndarix_rt.broker import MemoryBroker, RedisBroker
from syndarix_rt.errors import ApprovalDecided, PublishConflict

CHANNELS = ("project:{a}", "chat:{a}")

calls = st.lists(
    st.one_of(
        st.tuples(
            st.just("publish"),
            st.sampled_from(CHANNELS),
            st.integers(1, 30),
            st.sampled_from([None, "p", "q"]),
            st.integers(0, 3),
            st.sampled_from(["", "f"]),
        ),
        st.tuples(st.just("position"), st.sampled_from(CHANNELS)),
        st.tuples(st.just("read"), st.sampled_from(CHANNELS), st.integers(0, 40), st.integers(0, 40)),
        st.tuples(st.just("reset"), st.sampled_from(CHANNELS)),
        st.tuples(st.just("claim"), st.sampled_from(CHANNELS), st.sampled_from(["r", "s"])),
        st.tuples(st.just("release"), st.sampled_from(CHANNELS), st.sampled_from(["r", "s"])),
        st.tuples(st.just("claimants"), st.sampled_from(CHANNELS)),
        st.tuples(st.just("projects")),
    ),
    min_size=1,
    max_size=25,
)


async def replay(broker, calls):
    """What each call gave, with epochs numbered in the order in which they appeared."""
    epochs = {}

    def number(epoch):
        return epochs.setdefault(epoch, len(epochs))

    def place(position):
        return number(position.epoch), position.first, position.last

    results = []
    for name, *arguments in calls:
        if name == "publish":
            channel, size, producer, sequence, fingerprint = arguments
            entries = [b"%d/%d" % (size, n) for n in range(size)]
            try:
                reply = await broker.publish(
                    channel, entries, producer=producer, sequence=sequence, fingerprint=fingerprint
                )
                results.append((*place(reply), reply.duplicates))
            except PublishConflict as conflict:
                results.append(str(conflict))
        elif name == "position":
            results.append(place(await broker.position(*arguments)))
        elif name == "reset":
            results.append(place(await broker.reset(*arguments)))
        elif name == "read":
            page = await broker.read(*arguments)
            results.append((place(page.position), page.first, page.entries))
        elif name == "claim":
            results.append(await broker.claim(*arguments, 60))
        elif name == "claimants":
            results.append(await broker.claimants(*arguments))
        elif name == "release":
            results.append(await broker.release(*arguments))
        else:
            results.append(await broker.projects())
    await broker.aclose()
    return results


@pytest.fixture
def client(redis_url):
    with redis.Redis.from_url(redis_url) as client:
        yield client


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(calls)
def test_redis_gives_what_the_reference_gives(redis_url, client, calls):
    client.flushall()
    expected = asyncio.run(replay(MemoryBroker(), calls))
    assert asyncio.run(replay(RedisBroker(redis_url), calls)) == expected


ids = st.sampled_from(["a-1", "a-2", "a-3"])
times_s = st.one_of(st.integers(0, 10**9), st.integers(0, 10**15).map(lambda us: us / 1e6))
simulations = st.sampled_from([None, "sim-1", 'sim "2"'])
verdicts = st.sampled_from(["approved", "rejected"])
stories = st.lists(
    st.one_of(
        st.lists(
            st.one_of(
                st.tuples(st.just(happened), times_s, st.fixed_dictionaries({"simulation": simulations})),
                st.tuples(
                    st.just(asked), times_s, st.fixed_dictionaries({"approval_id": ids, "simulation": simulations})
                ),
                st.tuples(
                    st.just(resolved), times_s, st.fixed_dictionaries({"approval_id": ids, "decision": verdicts})
                ),
            ),
            min_size=1,
            max_size=6,
        ),
        st.tuples(verdicts, ids, st.sampled_from(["Ana", "B\n\\é", None])),
        st.just("reset"),
    ),
    max_size=15,
)


async def tell(broker, story):
    """What each step gave, and in the end the log and what still waits."""
    results = []
    for step in story:
        if step == "reset":
            await broker.reset(CHANNEL)
        elif isinstance(step, list):
            try:
                reply = await broker.publish(CHANNEL, [make(time_s, **more) for make, time_s, more in step])
                results.append((reply.first, reply.last))
            except ApprovalDecided as conflict:
                results.append((str(conflict), conflict.late))
        else:
            decision = await decide(broker, *step)
            results.append(decision and (decision.decision, decision.by, decision.time, decision.offset))
    page = await broker.read(CHANNEL, 0, 1000)
    waiting = [(waits.approval_id, waits.offset, waits.since) for waits in await broker.approvals(CHANNEL)]
    await broker.aclose()
    return results, [re.sub(rb"decision-[0-9a-f]{16}", b"decision", entry) for entry in page.entries], waiting


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(stories)
def test_redis_decides_as_the_reference_does(redis_url, client, story):
    client.flushall()
    expected = asyncio.run(tell(MemoryBroker(), story))
    assert asyncio.run(tell(RedisBroker(redis_url), story)) == expected
