"""The whole way on real input: trace, player, Redis, Hypercorn over HTTP, 200 clients, recording."""

import asyncio
import hashlib
import math

import pytest
from serving import event, running

from syndarix_rt.broker import Publisher, RedisBroker
from syndarix_rt.broker.protocol import project_channel
from syndarix_rt.client import EventStream
from syndarix_rt.delivery import Span
from syndarix_rt.events import EventId
from syndarix_rt.playback import Player, RecordingWriter, replay
from syndarix_rt.playback.importers import import_aidev
from syndarix_rt.simulation import Scenario, Simulation, validate

PROJECT = "aidev"
CLIENTS = 200
LAST = "trace_ended"
DECODING = 5  # these are our own client, decoding every event; the others are raw HTTP, judged by their bytes


async def wire(broker):
    """Every entry of the log, and the bytes that each stream from its beginning must consist of."""
    channel = project_channel(PROJECT)
    last = (await broker.position(channel)).last
    entries = []
    while len(entries) < last:
        page = await broker.read(channel, len(entries), 1_000)
        assert page.first == len(entries) + 1
        entries += page.entries
    return entries, b"".join(Span.encode(page.position.epoch, 1, entries).frames)


async def raw_client(server, opened):
    """Read up to the last event; size and SHA-256 of all frames, without the stream's beginning."""
    digest, received, tail = hashlib.sha256(), 0, b""
    async with server.http.get(f"{server.url}/projects/{PROJECT}/events") as response:
        while tail.count(b"\n\n") < 3:  # retry, stream-open, the place
            tail += await response.content.readany()
        chunk = tail.split(b"\n\n", 3)[3]
        opened.release()
        while True:
            digest.update(chunk)
            received += len(chunk)
            tail = (tail + chunk)[-1_000:]
            if LAST.encode() in tail and tail.endswith(b"\n\n"):
                return received, digest.hexdigest()
            chunk = await response.content.readany()
            assert chunk, "the stream ended"


async def our_client(server, path, opened):
    """Record up to the last event with our own client; its ledger and the offsets it saw."""
    offsets = []
    async with EventStream(server.url, PROJECT) as stream:
        with RecordingWriter(path) as recording:
            opened.release()
            async for event in stream:
                offsets.append(event.position.offset)
                recording.write(event)
                if event.type == LAST:
                    break
        return stream.ledger, offsets


@pytest.mark.traces
async def test_a_real_trace_reaches_200_clients_exactly_once_in_order_and_byte_for_byte(
    traces_dir, redis_url, tmp_path
):
    imported = import_aidev(traces_dir / "aidev_pop", PROJECT)
    files = {file.name: file for file in imported.files}
    assert (files["timeline_events.csv"].rows, files["pr_lifecycle.csv"].rows) == (19_289, 4_988)
    assert all(file.rows == file.mapped + file.ignored.total() for file in imported.files)
    assert validate(imported.events).ok

    last = event(1, PROJECT, LAST)
    broker = RedisBroker(redis_url)
    async with running(broker, keepalive_s=600) as server:  # so that nothing else is in the bytes on a slow machine
        opened = asyncio.Semaphore(0)
        paths = [tmp_path / f"client-{n}.jsonl" for n in range(DECODING)]
        async with asyncio.TaskGroup() as group:
            raw = [group.create_task(raw_client(server, opened)) for _ in range(CLIENTS - DECODING)]
            ours = [group.create_task(our_client(server, path, opened)) for path in paths]
            for _ in range(CLIENTS):
                await opened.acquire()
            assert len(server.hub.streams) == CLIENTS
            player = Player([*imported.events, last], Publisher(broker, PROJECT).publish, speed=math.inf)
            await player.run()
        entries, frames = await wire(broker)
    assert len(entries) == player.published == len(imported.events) + 1
    assert {task.result() for task in raw} == {(len(frames), hashlib.sha256(frames).hexdigest())}
    published = b"".join(entry + b"\n" for entry in entries)
    for task, path in zip(ours, paths, strict=True):
        ledger, offsets = task.result()
        assert offsets == list(range(1, len(entries) + 1))
        assert ledger.clean
        assert ledger.events == len(entries)
        assert path.read_bytes() == published
    await broker.aclose()


async def test_a_recording_replayed_arrives_as_it_was_recorded(redis_url, tmp_path):
    """Events keep their id and time; only the time of recording is new."""
    broker = RedisBroker(redis_url)
    events = [event for event, _ in zip(Simulation(Scenario.preset("demo_small"), 7), range(500), strict=False)]
    project = events[0].project
    first, second = tmp_path / "first.jsonl", tmp_path / "second.jsonl"
    async with running(broker) as server:
        for source, target in ((events, first), (None, second)):
            async with EventStream(server.url, project, last_event_id=None) as stream:
                await anext_open(stream)
                publisher = Publisher(broker, project)
                await Player(source or replay(first), publisher.publish, speed=math.inf).run()
                with RecordingWriter(target) as recording:
                    async for event in stream:
                        assert isinstance(event.position, EventId)
                        recording.write(event)
                        if recording.events == len(events):
                            break
    await broker.aclose()
    kept = [
        [line.replace(line[line.index(b'"recordedtime"') :][:47], b"") for line in path.read_bytes().splitlines()]
        for path in (first, second)
    ]
    assert kept[0] == kept[1]
    assert first.read_bytes() != second.read_bytes()


async def anext_open(stream):
    async with asyncio.timeout(20):
        while stream.opened is None:
            await asyncio.sleep(0.01)
