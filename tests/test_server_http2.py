"""HTTP/2 frame by frame: many streams on one connection, and windows that close."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager

import h2.config
import h2.connection
import h2.events
from h2.errors import ErrorCodes
from h2.settings import SettingCodes, Settings
from serving import TIMEOUT_S, is_data, offsets, running

from syndarix_rt.delivery.sse import Decoder

WINDOW = 65_535  # of HTTP/2, where nobody says otherwise
PAD = {"pad": "x" * 3_000}


class Client:
    """One connection, which makes no room by itself."""

    def __init__(self, reader, streamer, window):
        self.reader, self.streamer = reader, streamer
        self.connection = h2.connection.H2Connection(h2.config.H2Configuration(header_encoding="ascii"))
        initial = {SettingCodes.INITIAL_WINDOW_SIZE: window, SettingCodes.ENABLE_PUSH: 0}
        self.connection.local_settings = Settings(client=True, initial_values=initial)
        self.connection.initiate_connection()
        self.connection.increment_flow_control_window(2**24)
        self.decoders, self.frames, self.sizes, self.ended, self.reset = {}, {}, {}, set(), {}
        self.say()

    def say(self):
        self.streamer.write(self.connection.data_to_send())

    def ask(self, path):
        """The number of the stream on which the answer will be."""
        stream = self.connection.get_next_available_stream_id()
        about = [(":method", "GET"), (":path", path), (":scheme", "http"), (":authority", "localhost")]
        self.decoders[stream], self.frames[stream], self.sizes[stream] = Decoder(), [], 0
        self.connection.send_headers(stream, about, end_stream=True)
        self.say()
        return stream

    def follow(self, project):
        return self.ask(f"/projects/{project}/events")

    def allow(self, window):
        """Change the window of all streams, also of those that are open."""
        self.connection.update_settings({SettingCodes.INITIAL_WINDOW_SIZE: window})
        self.say()

    async def until(self, true):
        async with asyncio.timeout(TIMEOUT_S):
            while not true():
                received = await self.reader.read(65_536)
                assert received, "the server ended the connection"
                for event in self.connection.receive_data(received):
                    if isinstance(event, h2.events.DataReceived):
                        self.sizes[event.stream_id] += len(event.data)
                        self.frames[event.stream_id] += self.decoders[event.stream_id].feed(event.data)
                    elif isinstance(event, h2.events.StreamEnded):
                        self.ended.add(event.stream_id)
                    elif isinstance(event, h2.events.StreamReset):
                        self.reset[event.stream_id] = event.error_code
                self.say()

    async def opened(self, *streams):
        await self.until(lambda: all(self.decoders[stream].last_event_id for stream in streams))

    async def events(self, stream, count):
        await self.until(lambda: sum(map(is_data, self.frames[stream])) >= count)
        return [frame for frame in self.frames[stream] if is_data(frame)]


@asynccontextmanager
async def connected(server, window=WINDOW):
    streams = await asyncio.open_connection("127.0.0.1", int(server.url.rpartition(":")[2]))
    try:
        yield Client(*streams, window)
    finally:
        streams[1].transport.abort()
        await asyncio.sleep(0)


async def test_what_all_streams_of_a_connection_have_to_say_is_one_write(monkeypatch):
    async with running() as server, connected(server) as client:
        streams = [client.follow("apollo") for _ in range(100)]
        await client.opened(*streams)
        writes = []
        write = asyncio.StreamWriter.write
        port = client.streamer.get_extra_info("sockname")[1]

        def counted(streamer, data):
            if streamer.get_extra_info("peername")[1] == port:
                writes.append(len(data))
            write(streamer, data)

        monkeypatch.setattr(asyncio.StreamWriter, "write", counted)
        await server.publish(1)
        for stream in streams:
            assert offsets(await client.events(stream, 1)) == [1]
        assert len(writes) <= 10  # one, on a machine that does not let the server wait meanwhile


async def test_a_stream_whose_window_is_closed_holds_up_no_other():
    async with running() as server, connected(server, window=4096) as client:
        full, other = client.follow("apollo"), client.follow("zeus")
        await client.opened(full, other)
        await server.publish(1, 3, data=PAD)  # more than there is room for
        await client.until(lambda: client.sizes[full] == 4096)
        await server.publish(1, 1, project="zeus")
        assert offsets(await client.events(other, 1)) == [1]
        assert client.sizes[full] == 4096


async def test_a_window_that_is_taken_back_is_waited_for():
    async with running() as server, connected(server, window=4096) as client:
        stream = client.follow("apollo")
        await client.opened(stream)
        await server.publish(1, 3, data=PAD)
        await client.until(lambda: client.sizes[stream] == 4096)
        client.allow(1024)  # of which four times as much is used already
        await server.publish(4, 3, data=PAD)
        health = client.ask("/healthz")
        await client.until(lambda: health in client.ended)
        assert client.sizes[stream] == 4096
        client.allow(WINDOW)
        assert offsets(await client.events(stream, 6)) == [1, 2, 3, 4, 5, 6]


async def test_a_stream_that_its_client_resets_ends_alone():
    async with running() as server, connected(server) as client:
        leaving, staying = client.follow("apollo"), client.follow("apollo")
        await client.opened(leaving, staying)
        client.connection.reset_stream(leaving)
        client.say()
        for n in range(1, 6):
            await server.publish(n)
        assert offsets(await client.events(staying, 5)) == [1, 2, 3, 4, 5]
        async with asyncio.timeout(TIMEOUT_S):
            while len(server.hub.streams) > 1:
                await asyncio.sleep(0.01)


async def test_a_stream_that_makes_no_room_is_given_up_alone():
    async with running(stall_s=0.3, keepalive_s=0.1) as server, connected(server, window=4096) as client:
        full, other = client.follow("apollo"), client.follow("zeus")
        await client.opened(full, other)
        await server.publish(1, 100, data=PAD)
        await client.until(lambda: full in client.reset)
        assert client.reset == {full: ErrorCodes.CANCEL}
        assert server.hub.ended == {"stalled": 1}
        await server.publish(1, 1, project="zeus")
        assert offsets(await client.events(other, 1)) == [1]


async def test_what_a_client_says_of_priorities_is_left_alone():
    async with running() as server, connected(server) as client:
        stream = client.follow("apollo")
        client.connection.prioritize(stream, weight=256, depends_on=0, exclusive=True)
        client.say()
        await client.opened(stream)
        await server.publish(1)
        assert offsets(await client.events(stream, 1)) == [1]
