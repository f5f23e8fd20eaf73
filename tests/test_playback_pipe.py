"""From a recording over the player and a publisher into a broker's log, and out of it into a recording."""

from __future__ import annotations

import asyncio
import math
from contextlib import AsyncExitStack

import msgspec
import pytest
from broker_contract import CHANNEL, asked, decide, happened, resolved
from playback_clock import START, ticks
from serving import running

from syndarix_rt.broker import Publisher, RedisBroker
from syndarix_rt.broker.protocol import project_channel
from syndarix_rt.client import HttpPublisher
from syndarix_rt.events import Event, EventId
from syndarix_rt.playback import Player, RecordingWriter, read_recording, replay, write_recording
from syndarix_rt.playback.importers import import_aidev


@pytest.fixture
async def broker(redis_url):
    broker = RedisBroker(redis_url)
    yield broker
    await broker.aclose()


async def log_of(broker, project):
    """Every entry of a project's log, as a client would receive it."""
    channel = project_channel(project)
    last = (await broker.position(channel)).last
    offset = 0
    while offset < last:
        page = await broker.read(channel, offset, 1000)
        assert page.first == offset + 1
        for raw in page.entries:
            offset += 1
            yield Event.decode(raw, EventId(page.position.epoch, offset))


async def play_and_record(broker, path, source, project):
    """Play ``source`` at full speed; returns the player and the recording of what was published."""
    player = Player(replay(source, project), Publisher(broker, project).publish, speed=math.inf)
    await player.run()
    with RecordingWriter(path) as writer:
        async for event in log_of(broker, project):
            writer.write(event)
    return player


async def check_replay(broker, tmp_path, events):
    source = tmp_path / "source.jsonl"
    write_recording(source, events)
    first = tmp_path / "first.jsonl"
    player = await play_and_record(broker, first, source, "one")
    position = await broker.position(project_channel("one"))
    assert player.published == position.last == len(events)
    assert player.position == position.top
    assert player.state == "ended"
    assert first.read_bytes() == b"".join([event.raw + b"\n" async for event in log_of(broker, "one")])

    # What was published, replayed into another project, is the same but for the project and the time of recording.
    second = tmp_path / "second.jsonl"
    await play_and_record(broker, second, first, "two")
    for event, one, two in zip(events, read_recording(first), read_recording(second), strict=True):
        assert one.recordedtime is not None
        assert two.recordedtime >= one.recordedtime
        assert (one.project, two.project) == ("one", "two")
        for published in (one, two):
            assert msgspec.structs.replace(published, project=event.project, recordedtime=None) == event


async def test_a_recording_goes_through_the_log_and_comes_out_byte_for_byte(broker, tmp_path):
    await check_replay(broker, tmp_path, ticks(3_500))


@pytest.mark.traces
async def test_the_real_trace_goes_through_the_log_and_comes_out_byte_for_byte(broker, tmp_path, traces_dir):
    await check_replay(broker, tmp_path, import_aidev(traces_dir / "aidev_pop").events[:10_000])


async def test_paced_events_arrive_in_the_log_in_order_while_commands_come(broker):
    player = Player(ticks(400, every_s=60), Publisher(broker, "apollo").publish, speed=60_000)
    player.pause()
    player.step(7)

    task = asyncio.create_task(player.run())
    while player.state != "paused":
        await asyncio.sleep(0)
    assert (await broker.position(project_channel("apollo"))).last == player.published == 7
    player.resume()
    await task
    numbers = [event.data["n"] async for event in log_of(broker, "apollo")]
    assert numbers == list(range(400))
    assert player.time is not None
    assert player.time > START


@pytest.mark.parametrize("way", ["redis", "http"])
async def test_a_runs_decisions_that_come_after_a_persons_are_left_out_and_counted(broker, way):
    asks = [asked(n, f"a-{n}") for n in range(4)]
    rest = [happened(10 + n / 1000) for n in range(3000)]
    for at, approval in ((0, "a-1"), (999, "a-0"), (1000, "a-2"), (2999, "a-3")):
        rest[at] = resolved(10 + at / 1000, approval)
    events = [Event.decode(raw) for raw in asks + rest]
    async with AsyncExitStack() as stack:
        publisher = Publisher(broker, "apollo")
        if way == "http":
            server = await stack.enter_async_context(running(broker))
            publisher = await stack.enter_async_context(HttpPublisher(server.url, "apollo"))
            await publisher.claim("a run", 10)
        player = Player(events, publisher.publish, speed=math.inf)
        player.step(len(asks))
        task = asyncio.create_task(player.run())
        while player.state != "paused":
            await asyncio.sleep(0)
        for approval in ("a-1", "a-2", "a-3"):
            await decide(broker, "rejected", approval)
        player.resume()
        await task
    published = [event async for event in log_of(broker, "apollo")]
    assert (player.published, player.left_out) == (3001, 3)
    assert len(published) == 3001 + 3
    assert player.position == (await broker.position(CHANNEL)).top
    decisions = {event.data["approval_id"]: event.data["by"] for event in published if "decision" in event.data}
    assert decisions == {"a-0": "human-1", "a-1": "Ana", "a-2": "Ana", "a-3": "Ana"}
    own = [event.id for event in published if event.source != "/syndarix-rt/approvals"]
    assert own == [
        event.id for event in events if event.data.get("approval_id") == "a-0" or "decision" not in event.data
    ]
