"""The client against our real server over loopback."""

import asyncio

import pytest
from serving import TIMEOUT_S, event, running

from syndarix_rt import EventId, Gap
from syndarix_rt.broker import MemoryBroker
from syndarix_rt.client import Api, EventStream, HttpPublisher, StreamState
from syndarix_rt.errors import ApprovalDecided, BrokerUnavailable, StreamError

CHANNEL = "project:{apollo}"


async def read(stream, count):
    async with asyncio.timeout(TIMEOUT_S):
        return [await anext(stream) for _ in range(count)]


def numbers(items):
    return [item.data["n"] for item in items]


async def test_what_is_published_after_entering_is_received_with_its_very_bytes():
    async with running(token="s3cret") as server:
        async with (
            EventStream(f"{server.url}/p/apollo?key=s3cret", "apollo") as stream,
            HttpPublisher(server.url, "apollo", token="s3cret") as publisher,
        ):
            assert stream.state is StreamState.OPEN
            published = await publisher.publish([event(n) for n in range(1, 2_501)])
            assert (published.first, published.last, published.duplicates) == (1, 2_500, 0)
            events = await read(stream, 2_500)
            assert numbers(events) == list(range(1, 2_501))
            assert stream.position == EventId(published.epoch, 2_500)
            assert stream.ledger.clean
            entries = []
            while len(entries) < 2_500:
                entries += (await server.broker.read(CHANNEL, len(entries), 1_000)).entries
            assert [item.raw for item in events] == entries


async def test_a_wrong_key_ends_with_what_to_do():
    async with running(token="s3cret") as server:
        async with EventStream(f"{server.url}/?key=wrong", "apollo") as stream:
            with pytest.raises(StreamError, match=r"401 Unauthorized: .*key") as caught:
                await read(stream, 1)
        assert caught.value.status == 401
        async with Api(server.url) as api:
            with pytest.raises(StreamError, match="401"):
                await api.projects()


async def test_replay_and_resume_with_a_filter():
    async with running() as server:
        await server.publish(1, 10)
        await server.publish(11, 10, type="other_event")
        async with EventStream(server.url, "apollo", replay="all", types=["my_*"]) as stream:
            events = await read(stream, 10)
        async with EventStream(server.url, "apollo", replay=3) as stream:
            assert numbers(await read(stream, 3)) == [18, 19, 20]
        async with EventStream(server.url, "apollo", last_event_id=events[4].position) as stream:
            assert numbers(await read(stream, 15)) == list(range(6, 21))
            assert stream.opened.resumed


async def test_a_server_that_is_stopped_and_started_again_is_resumed_exactly():
    broker = MemoryBroker()
    states = []
    async with running(broker) as server:
        stream = EventStream(server.url, "apollo", on_state=lambda state, _: states.append(state))
        await stream.__aenter__()
        await server.publish(1, 5)
        assert numbers(await read(stream, 5)) == [1, 2, 3, 4, 5]
    await broker.publish(CHANNEL, [event(n).encode() for n in range(6, 9)])  # while no server is there
    reading = asyncio.create_task(read(stream, 5))
    async with asyncio.timeout(TIMEOUT_S):
        while StreamState.WAITING not in states:
            await asyncio.sleep(0.01)
    port = int(server.url.rpartition(":")[2])
    async with running(broker, port=port) as server:
        await server.publish(9, 2)
        assert numbers(await reading) == [6, 7, 8, 9, 10]
        assert stream.ledger.clean
        assert stream.ledger.resumed == 1
        await stream.aclose()
    await broker.aclose()


async def test_a_flushed_log_is_a_declared_gap_and_the_stream_goes_on():
    async with running() as server:
        await server.publish(1, 5)
        async with EventStream(server.url, "apollo", replay="all") as stream:
            await read(stream, 5)
            old = stream.position
            async with HttpPublisher(server.url, "apollo") as publisher:
                new = await publisher.reset()
                await publisher.publish([event(6)])
            gap, after = await read(stream, 2)
            assert isinstance(gap, Gap)
            assert (gap.reason, gap.requested) == ("epoch", str(old))
            assert after.position == EventId(new.epoch, 1)
            assert stream.ledger.holes == []


async def test_bad_events_are_refused_with_the_element_and_nothing_is_stored():
    async with running() as server, HttpPublisher(server.url, "apollo") as publisher:
        decision = event(2, type="approval_resolved", data={"approval_id": "a", "decision": "approved"})
        with pytest.raises(StreamError, match="403 Forbidden: approval_resolved"):
            await publisher.publish([event(1), decision])
        async with Api(server.url) as api:
            assert (await api.position("apollo")).last == 0
        assert await publisher.claim("run-1", 10) == "run-1"
        assert (await publisher.publish([event(1), decision])).last == 2  # a run's own people decide


async def test_a_runs_decisions_that_come_too_late_are_named_over_http_too():
    async with running() as server, HttpPublisher(server.url, "apollo") as publisher, Api(server.url) as api:
        await publisher.claim("run-1", 10)
        await publisher.publish([event(1, type="approval_required", data={"approval_id": "a"})])
        await api.decide("apollo", "a", "rejected", by="Ana")
        events = [event(n) for n in range(1100)]
        events[1050] = event(2, type="approval_resolved", data={"approval_id": "a", "decision": "approved"})
        with pytest.raises(ApprovalDecided, match=r"1000 of 1100 events are published: .*409 Conflict") as raised:
            await publisher.publish(events)
        assert isinstance(raised.value, StreamError)
        assert (raised.value.status, raised.value.late, raised.value.stored) == (409, (1050,), 1000)
        assert (await api.position("apollo")).last == 1002


async def test_a_claim_over_http_is_held_by_one_run_until_it_is_released():
    async with running() as server:
        async with HttpPublisher(server.url, "apollo") as one, HttpPublisher(server.url, "apollo") as two:
            assert await one.claim("run-1", 10) == "run-1"
            assert await two.claim("run-2", 10) == "run-1"
            await two.release("run-2")
            assert await two.claim("run-2", 10) == "run-1"
            await one.release("run-1")
            assert await two.claim("run-2", 10) == "run-2"


async def test_a_server_is_asked_for_its_projects_and_their_positions():
    async with running() as server, Api(server.url) as api:
        assert await api.projects() == []
        await server.publish(1, 3)
        (state,) = await api.projects()
        position = await api.position("apollo")
        assert (state.project, state.epoch, state.first, state.last) == ("apollo", position.epoch, 1, 3)
        with pytest.raises(StreamError, match=r"400 Bad Request: .*project"):
            await api.position("not a project")


async def test_streams_that_are_closed_are_gone_from_the_server():
    async with running(linger_s=0.05) as server:
        streams = [EventStream(server.url, "apollo") for _ in range(20)]
        for stream in streams:
            await stream.__aenter__()
        assert len(server.hub.streams) == 20
        await asyncio.gather(*(stream.aclose() for stream in streams))
        async with asyncio.timeout(TIMEOUT_S):
            while server.hub.streams:
                await asyncio.sleep(0.01)


async def test_a_server_that_drains_is_left_and_nothing_is_lost():
    reasons = []
    async with running(drain_s=0.05) as server:
        stream = EventStream(server.url, "apollo", on_state=lambda _, reason: reasons.append(reason))
        await stream.__aenter__()
        await server.publish(1, 3)
        reading = asyncio.create_task(read(stream, 4))
        async with asyncio.timeout(TIMEOUT_S):
            while stream.ledger.events < 3:
                await asyncio.sleep(0.01)
        await server.stop()
        async with asyncio.timeout(TIMEOUT_S):
            while "the server is shutting down" not in reasons:
                await asyncio.sleep(0.01)
        await stream.aclose()
        with pytest.raises(StopAsyncIteration):
            await reading
        assert stream.position.offset == 3


async def test_publishing_into_a_server_that_is_gone_gives_up():
    async with running() as server:
        url = server.url
    async with HttpPublisher(url, "apollo", give_up_after_s=0.1) as publisher:
        with pytest.raises(BrokerUnavailable, match=r"gave up after 0.1 s"):
            await publisher.publish([event(1)])
