"""The event stream over a real Hypercorn: order, resume, replay, gaps, filters, keepalive, draining."""

import asyncio
import json
from contextlib import AsyncExitStack

import pytest
from serving import TIMEOUT_S, event, is_data, offsets, running

from syndarix_rt.broker.memory import MemoryBroker
from syndarix_rt.broker.protocol import Retention


async def test_a_stream_begins_with_retry_then_stream_open_then_its_place():
    async with running() as server:
        done = await server.publish(1, 3)
        async with server.stream() as subscriber:
            frames = await subscriber.opened()
            headers = subscriber.response.headers
    blocks = subscriber.raw.split(b"\n\n")
    assert blocks[0].startswith(b"retry: ")
    assert blocks[1].startswith(b"event: stream-open\ndata: ")
    assert blocks[2] == f"id: {done.epoch}.3".encode()
    assert 1_000 <= subscriber.decoder.retry_ms <= 3_000
    (opened,) = frames
    assert opened.id == ""
    assert json.loads(opened.data) == {"epoch": done.epoch, "first": 1, "last": 3, "resumed": False}
    assert headers["content-type"] == "text/event-stream; charset=utf-8"
    assert headers["cache-control"] == "no-store, no-transform"
    assert headers["x-accel-buffering"] == "no"


async def test_a_head_request_gets_the_headers_and_ends():
    async with running() as server:
        async with server.http.head(f"{server.url}/projects/apollo/events") as response:
            assert response.status == 200
            assert response.headers["content-type"] == "text/event-stream; charset=utf-8"
            assert await response.read() == b""
        assert server.hub.streams == []


async def test_live_events_arrive_with_id_name_and_the_published_bytes():
    async with running() as server, server.stream() as subscriber:
        await subscriber.opened()
        done = await server.publish(1, 2)
        frames = await subscriber.events(2)
    assert [frame.id for frame in frames] == [f"{done.epoch}.1", f"{done.epoch}.2"]
    assert [frame.event for frame in frames] == ["my_event", "my_event"]
    assert [frame.data.encode() for frame in frames] == [event(1).encode(), event(2).encode()]


@pytest.mark.parametrize("how", ["header", "query", "header wins", "an empty header counts as absent", "a polyfill"])
async def test_a_cursor_resumes_exactly(how):
    async with running() as server:
        done = await server.publish(1, 10)
        cursor, other = f"{done.epoch}.4", f"{done.epoch}.1"
        headers, params = {
            "header": ({"last-event-id": cursor}, {}),
            "query": ({}, {"last_event_id": cursor}),
            "header wins": ({"last-event-id": cursor}, {"last_event_id": other}),
            "an empty header counts as absent": ({"last-event-id": ""}, {"last_event_id": cursor}),
            "a polyfill": ({}, {"last_event_id": other, "lastEventId": cursor}),  # behind the address it was given
        }[how]
        async with server.stream(headers=headers, **params) as subscriber:
            (opened,) = await subscriber.opened()
            assert json.loads(opened.data)["resumed"] is True
            await server.publish(11, 2)
            assert offsets(await subscriber.events(8)) == list(range(5, 13))


@pytest.mark.parametrize(
    ("replay", "expected"), [("3", [8, 9, 10]), ("all", list(range(1, 11))), ("99", list(range(1, 11)))]
)
async def test_replay_sends_the_last_retained(replay, expected):
    async with running() as server:
        await server.publish(1, 10)
        async with server.stream(replay=replay) as subscriber:
            (opened,) = await subscriber.opened()
            assert json.loads(opened.data)["resumed"] is False
            await server.publish(11)
            assert offsets(await subscriber.events(1 + len(expected))) == [*expected, 11]


async def test_a_replay_larger_than_memory_is_paged_and_goes_over_into_live():
    async with running() as server:
        for first in range(1, 15_001, 1_000):
            await server.publish(first, 1_000)
        async with server.stream(replay="all") as early, server.stream(replay="all") as late:
            assert offsets(await early.events(15_000)) == list(range(1, 15_001))
            await server.publish(15_001, 1_000)
            assert offsets(await early.events(1_000)) == list(range(15_001, 16_001))
            assert offsets(await late.events(16_000)) == list(range(1, 16_001))


async def test_what_retention_took_is_declared_before_any_data():
    broker = MemoryBroker(retention=Retention(entries=10))
    async with running(broker) as server:
        done = await server.publish(1, 5)
        await server.publish(6, 95)
        position = await broker.position("project:{apollo}")
        async with server.stream(headers={"last-event-id": f"{done.epoch}.2"}) as subscriber:
            frames = await subscriber.opened()
            assert [frame.event for frame in frames] == ["stream-open", "gap"]
            assert json.loads(frames[0].data)["resumed"] is False
            first = position.first
            assert json.loads(frames[1].data) == {
                "reason": "trimmed",
                "requested": f"{done.epoch}.2",
                "first": first,
                "last": 100,
                "missed": first - 3,
            }
            assert f"\n\nid: {done.epoch}.{first - 1}\n\n".encode() in subscriber.raw
            assert offsets(await subscriber.events(101 - first)) == list(range(first, 101))
    await broker.aclose()


async def test_another_epoch_is_declared_with_what_is_unknown():
    async with running() as server:
        done = await server.publish(1, 5)
        async with server.stream(last_event_id="another-epoch.3") as subscriber:
            frames = await subscriber.opened()
            gap = json.loads(frames[1].data)
            assert gap == {"reason": "epoch", "requested": "another-epoch.3", "first": 1, "last": 5, "missed": None}
            assert offsets(await subscriber.events(5)) == [1, 2, 3, 4, 5]
        async with server.stream(last_event_id=f"{done.epoch}.6") as subscriber:
            gap = json.loads((await subscriber.opened())[1].data)
            assert (gap["reason"], gap["missed"]) == ("epoch", 0)


async def test_a_reset_under_a_live_stream_is_declared_and_the_stream_goes_on():
    async with running() as server, server.stream() as subscriber:
        await subscriber.opened()
        old = await server.publish(1, 3)
        await subscriber.events(3)
        await server.broker.reset("project:{apollo}")
        new = await server.publish(4, 2)
        assert new.epoch != old.epoch
        frames = await subscriber.until(lambda me: me.decoder.last_event_id == f"{new.epoch}.2")
    gaps = [json.loads(frame.data) for frame in frames if frame.event == "gap"]
    assert [(gap["reason"], gap["requested"]) for gap in gaps] == [("epoch", f"{old.epoch}.3")]
    assert [frame.id for frame in frames if is_data(frame)] == [f"{new.epoch}.1", f"{new.epoch}.2"]


async def test_a_filtered_stream_gets_its_types_and_checkpoints():
    async with running() as server, server.stream(types="other_*") as subscriber:
        await subscriber.opened()
        done = await server.publish(1, 1_000)
        await subscriber.until(lambda me: me.decoder.last_event_id == f"{done.epoch}.1000")
        assert subscriber.raw.count(b"my_event") == 0
        await server.publish(1_001, 3, type="other_event")
        frames = await subscriber.events(3)
    assert offsets(frames) == [1_001, 1_002, 1_003]
    assert {frame.event for frame in frames} == {"other_event"}


async def test_resuming_with_another_filter_applies_it_from_the_cursor_on():
    async with running() as server:
        await server.publish(1, 3, type="other_event")
        done = await server.publish(4, 3)
        async with server.stream(types="my_*", last_event_id=f"{done.epoch}.1") as subscriber:
            assert offsets(await subscriber.events(3)) == [4, 5, 6]
        async with server.stream(types="other_*", last_event_id=f"{done.epoch}.1") as subscriber:
            assert offsets(await subscriber.events(2)) == [2, 3]


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/projects/apollo/events?last_event_id=7", "invalid-event-id"),
        ("/projects/apollo/events?last_event_id=epoch-aa.07", "invalid-event-id"),
        ("/projects/apollo/events?last_event_id=epoch-aa.-1", "invalid-event-id"),
        ("/projects/apollo/events?types=", "invalid-filter"),
        ("/projects/apollo/events?types=nonsense", "invalid-filter"),
        ("/projects/apollo/events?types=agent_*,%0Aevil", "invalid-filter"),
        ("/projects/apollo/events?replay=-1", "bad-request"),
        ("/projects/apollo/events?replay=%D9%A3", "bad-request"),
        ("/projects/apollo/events?replay=1.5", "bad-request"),
        ("/projects/apollo/events?lastEventId=7", "invalid-event-id"),
        ("/projects/apollo/events?typs=agent_*", "bad-request"),
        ("/projects/apollo/events?Last-Event-ID=epoch-aa.7", "bad-request"),
        ("/projects/apollo/events?_=1&replays=all", "bad-request"),
        ("/projects/apollo/runs/run/control?type=agent_*", "bad-request"),
        ("/projects/a.b/events", "invalid-project"),
        (f"/projects/{'x' * 65}/events", "invalid-project"),
        ("/projects/a%7Db/position", "invalid-project"),
    ],
)
async def test_bad_input_gets_a_problem_document(path, kind):
    async with running() as server:
        status, headers, problem = await server.get(path)
    assert status == problem["status"] == 400
    assert headers["content-type"] == "application/problem+json"
    assert problem["type"].endswith(":" + kind)
    assert problem["detail"]


async def test_parameters_of_everybodys_own_are_left_alone():
    foreign = ("_", "t", "ts", "time", "cb", "nocache", "v", "evs_preventcache", "utm_source", "fbclid", "token", "id")
    async with running() as server, server.stream(**dict.fromkeys(foreign, "1")) as subscriber:
        assert [frame.event for frame in await subscriber.opened()] == ["stream-open"]


async def test_a_parameter_that_was_misspelt_is_told_the_right_one():
    async with running() as server:
        for name, meant in (("type", "types"), ("Types", "types"), ("last-event-id", "last_event_id"), ("x" * 9, None)):
            accept = {"accept": "application/json"}
            status, _, answer = await server.get("/projects/apollo/events", params={name: "my_*"}, headers=accept)
            assert status == (400 if meant else 200)
            assert meant is None or answer["detail"] == f"There is no parameter {name!r}; did you mean {meant!r}?"


async def test_an_idle_stream_gets_comments():
    async with running(keepalive_s=0.05) as server, server.stream() as subscriber:
        await subscriber.until(lambda me: me.raw.count(b": keepalive\n\n") >= 3)
        await server.publish(1)
        assert offsets(await subscriber.events(1)) == [1]


async def test_200_idle_streams_outlive_the_limits_that_end_other_responses():
    """`make soak` does the same with the real limits, over three minutes."""
    async with running(keepalive_s=0.2) as server:
        server.app.config["RESPONSE_TIMEOUT"] = 0.1
        async with AsyncExitStack() as stack:
            streams = [await stack.enter_async_context(server.stream()) for _ in range(200)]
            await asyncio.gather(*(each.until(lambda me: me.raw.count(b": keepalive") >= 3) for each in streams))
            await server.publish(1)
            assert {offset for each in streams for offset in offsets(await each.events(1))} == {1}


async def test_draining_gives_each_stream_its_last_data_a_checkpoint_and_a_farewell():
    async with running() as server:
        done = await server.publish(1, 2)
        async with server.stream(types="other_*") as subscriber, server.stream() as plain:
            await subscriber.opened()
            await plain.opened()
            await server.publish(3, 5)
            await server.stop()
            frames, everything = await subscriber.end(), await plain.end()
    assert [frame.event for frame in frames] == ["server-draining"]
    assert subscriber.decoder.last_event_id == f"{done.epoch}.7"
    assert 1_000 <= subscriber.decoder.retry_ms <= 5_000
    assert offsets(frame for frame in everything if is_data(frame)) == [3, 4, 5, 6, 7]
    assert everything[-1].event == "server-draining"


async def test_a_draining_server_answers_new_streams_with_a_farewell_and_is_not_ready():
    async with running(drain_s=30, drain_per_s=0.05) as server, server.stream() as holding:
        await holding.opened()
        assert (await server.get("/readyz"))[0] == 200
        draining = asyncio.create_task(server.stop())
        while not server.hub.draining:
            await asyncio.sleep(0)
        status, _, text = await server.get("/readyz")
        assert (status, text) == (503, "draining\n")
        async with server.stream() as newcomer:
            assert newcomer.response.status == 200
            assert [frame.event for frame in await newcomer.end()] == ["server-draining"]
        server.hub.streams[0].drain(within_s=0)
        await draining


async def test_many_streams_end_when_the_server_does():
    async with running() as server:
        streams = [server.stream() for _ in range(100)]
        subscribers = await asyncio.gather(*(stream.__aenter__() for stream in streams))
        await asyncio.gather(*(subscriber.opened() for subscriber in subscribers))
        await server.stop()
        ends = await asyncio.gather(*(subscriber.end() for subscriber in subscribers))
        assert {frames[-1].event for frames in ends} == {"server-draining"}
        await asyncio.gather(*(stream.__aexit__(None, None, None) for stream in streams))


async def test_a_client_that_leaves_in_the_middle_of_a_replay_does_not_stop_the_server():
    async with running() as server:
        for first in range(1, 3_000, 100):
            await server.publish(first, 100, data={"pad": "x" * 3_000})
        for _ in range(5):
            async with server.stream(replay="all") as subscriber:
                await subscriber.events(1)
                subscriber.response.close()
        assert (await server.get("/healthz"))[0] == 200
        async with asyncio.timeout(TIMEOUT_S):
            while server.hub.streams:
                await asyncio.sleep(0.01)


async def test_a_channel_is_given_up_soon_after_its_last_subscriber_left():
    async with running(linger_s=0.05) as server:
        async with server.stream() as subscriber:
            await subscriber.opened()
            assert server.hub.subscribers("project:{apollo}") == 1
            assert server.hub._channels
        async with asyncio.timeout(TIMEOUT_S):
            while server.hub._channels:
                await asyncio.sleep(0.01)


async def test_200_subscribers_get_everything_once_and_in_order():
    async with running() as server:
        streams = [server.stream(f"p{n % 4}") for n in range(200)]
        subscribers = await asyncio.gather(*(stream.__aenter__() for stream in streams))
        await asyncio.gather(*(subscriber.opened() for subscriber in subscribers))
        for first in range(1, 501, 50):
            await asyncio.gather(*(server.publish(first, 50, project=f"p{n}") for n in range(4)))
        received = await asyncio.gather(*(subscriber.events(500) for subscriber in subscribers))
        assert all(offsets(frames) == list(range(1, 501)) for frames in received)
        for stream in streams:
            await stream.__aexit__(None, None, None)


class LateTail(MemoryBroker):
    """Its tails learn of a reset when told to; counts what is read."""

    def __init__(self):
        super().__init__()
        self.reads = 0
        self.tell = asyncio.Event()

    async def tail(self, channel, **_):
        yield await self.position(channel)
        await self.tell.wait()
        async for update in super().tail(channel):
            yield update

    async def read(self, channel, after, limit):
        self.reads += 1
        return await super().read(channel, after, limit)


async def test_a_stream_that_knows_of_a_new_epoch_first_waits_for_the_tail_quietly():
    broker = LateTail()
    async with running(broker) as server:
        await server.publish(1, 3)
        async with server.stream() as early:
            await early.opened()
            await broker.reset("project:{apollo}")
            async with server.stream() as late:
                await late.opened()
                for _ in range(1000):  # turns of the loop, in which nothing happens
                    await asyncio.sleep(0)
                assert broker.reads <= 2
                broker.tell.set()
                await server.publish(4, 2)
                assert offsets(await late.events(2)) == [1, 2]
                assert offsets(await early.events(2)) == [1, 2]
    await broker.aclose()
