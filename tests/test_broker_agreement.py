"""`RedisBroker` and the reference agree over any sequence of calls."""

from __future__ import annotations

import asyncio

import pytest
import redis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from syndarix_rt.broker import MemoryBroker, RedisBroker
from syndarix_rt.errors import PublishConflict

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
