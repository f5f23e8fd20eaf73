"""How streams reach their clients: on every path, whatever clients do, and what it costs the others."""

import asyncio
import json
import os
import re
import socket
import ssl
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager, suppress
from pathlib import Path
from types import SimpleNamespace

import h2.config
import h2.connection
import h2.events
import pytest
import uvloop
from hypothesis import given
from hypothesis import strategies as st
from serving import TIMEOUT_S, Subscriber, event, offsets, running
from structlog.testing import capture_logs

from syndarix_rt.broker.memory import MemoryBroker
from syndarix_rt.broker.protocol import Batch
from syndarix_rt.server import below, crowd
from syndarix_rt.server.channel import Joint
from syndarix_rt.server.wheel import Wheel
from syndarix_rt.server.writer import Writer

CERTIFICATE = Path(__file__).parent / "localhost.pem"
PATH = "/projects/apollo/events"
PAD = {"pad": "x" * 30_000}


async def until(true):
    async with asyncio.timeout(TIMEOUT_S):
        while not true():
            await asyncio.sleep(0.01)


class Raw(Subscriber):
    """A stream over a socket of its own, as ``Subscriber``; over HTTP/1.0 the body has no chunks, so none is undone."""

    def __init__(self, reader, streamer):
        super().__init__(self)
        self.content, self.reader, self.streamer = self, reader, streamer

    async def readany(self):
        return await self.reader.read(65_536)


@asynccontextmanager
async def raw(server, request, *, receive_bytes=None):
    """Reader and writer of a connection on which ``request`` was sent."""
    sock = socket.socket()
    if receive_bytes:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)
    sock.setblocking(False)  # noqa: FBT003 - the standard library's
    port = int(server.url.rpartition(":")[2])
    await asyncio.get_running_loop().sock_connect(sock, ("127.0.0.1", port))
    secure = {}
    if server.url.startswith("https:"):
        secure = {"ssl": ssl.create_default_context(cafile=CERTIFICATE), "server_hostname": "127.0.0.1"}
    reader, streamer = await asyncio.open_connection(sock=sock, **secure)
    streamer.write(request)
    try:
        yield reader, streamer
    finally:
        streamer.transport.abort()
        await asyncio.sleep(0)


def get(query="", version="1.1", **headers):
    lines = [f"GET {PATH}{query} HTTP/{version}", "host: localhost", *(f"{k}: {v}" for k, v in headers.items())]
    return "\r\n".join([*lines, "", ""]).encode()


@asynccontextmanager
async def http_1_0(server, headers, query=""):
    async with raw(server, get(query, "1.0", **headers)) as streams:
        status = int((await streams[0].readuntil(b"\r\n\r\n")).split()[1])
        yield status, Raw(*streams)


class Multiplexed(Subscriber):
    """One stream of an HTTP/2 connection."""

    def __init__(self, reader, streamer):
        super().__init__(self)
        self.content, self.reader, self.streamer = self, reader, streamer
        self.connection = h2.connection.H2Connection(h2.config.H2Configuration(header_encoding="ascii"))
        self.status, self._data, self._ended = None, b"", False

    def ask(self, query, headers):
        self.connection.initiate_connection()
        names = {":method": "GET", ":path": PATH + query, ":scheme": "http", ":authority": "localhost"}
        self.connection.send_headers(1, list((names | headers).items()), end_stream=True)
        self.streamer.write(self.connection.data_to_send())

    async def readany(self):
        while not (self._data or self._ended):
            received = await self.reader.read(65_536)
            if not received:
                return b""
            for told in self.connection.receive_data(received):
                if isinstance(told, h2.events.ResponseReceived):
                    self.status = int(dict(told.headers)[":status"])
                elif isinstance(told, h2.events.DataReceived):
                    self._data += told.data
                    self.connection.acknowledge_received_data(told.flow_controlled_length, 1)
                elif isinstance(told, h2.events.StreamEnded):
                    self._ended = True
            self.streamer.write(self.connection.data_to_send())
        data, self._data = self._data, b""
        return data


@asynccontextmanager
async def http_2(server, headers, query=""):
    async with raw(server, b"") as streams:
        subscriber = Multiplexed(*streams)
        subscriber.ask(query, headers)
        subscriber.raw = await subscriber.readany()
        subscriber._frames = subscriber.decoder.feed(subscriber.raw)
        yield subscriber.status, subscriber


@asynccontextmanager
async def http_1_1(server, headers, query=""):
    async with server.http.get(server.url + PATH + query, headers=headers) as response:
        yield response.status, Subscriber(response)


@pytest.fixture(params=["direct", "https", "switched_off", "http/1.0", "http/2"])
def connect(request):
    """Each way from the hub to a client."""
    connect = {"http/1.0": http_1_0, "http/2": http_2}.get(request.param, http_1_1)
    connect.detour = "" if request.param in ("direct", "https") else request.param
    connect.settings = {"fast_path": request.param != "switched_off"}
    if request.param == "https":
        connect.settings["tls_cert"] = CERTIFICATE
    return connect


async def test_every_path_checks_the_key_counts_and_delivers_the_same(connect):
    async with running(**connect.settings, token="s3cret") as server:
        done = await server.publish(1, 3)
        async with connect(server, {"authorization": "Bearer wrong"}) as (status, _):
            assert status == 401
        assert server.hub.streams == []
        key = {"authorization": "Bearer s3cret"}
        async with connect(server, key, f"?last_event_id={done.epoch}.1") as (status, subscriber):
            assert status == 200
            await until(lambda: server.hub.streams)
            assert server.hub.streams[0].detour == connect.detour
            await server.publish(4, 2)
            assert offsets(await subscriber.events(4)) == [2, 3, 4, 5]
            await until(lambda: server.hub.streams[0].is_live)
            large = await server.publish(6, 20, data=PAD)  # more than one window of HTTP/2
            frames = await subscriber.events(20)
            assert offsets(frames) == list(range(6, 26))
            assert json.loads(frames[-1].data)["data"] == PAD
            assert frames[-1].id == f"{done.epoch}.{large.last}"
            figures = (await server.get("/metrics", headers=key))[2]
            assert 'syndarix_rt_streams{project="apollo"} 1.0' in figures
            path = "asgi" if connect.detour else "direct"
            assert f'syndarix_rt_stream_paths{{path="{path}",reason="{connect.detour}"}} 1.0' in figures
            assert 'syndarix_rt_streams_opened_total{how="resumed"} 1.0' in figures
            server.hub.streams[0].end("drained")
            assert [frame.event for frame in await subscriber.end()] == ["server-draining"]
        await until(lambda: not server.hub.streams)
        assert server.hub.ended == {"drained": 1}


@pytest.mark.parametrize("missing", ["protocol_send", "writer"])
async def test_under_a_hypercorn_of_another_shape_it_says_so_and_goes_the_usual_way(missing, monkeypatch):
    class Other(below.TCPServer):
        def __init__(self, *args):
            super().__init__(*args)
            setattr(self, missing, None)

    monkeypatch.setattr(below, "TCPServer", Other)
    with capture_logs() as logs:
        async with running() as server, http_1_1(server, {}) as (_, subscriber):
            await subscriber.opened()
            assert server.hub.streams[0].detour == "hypercorn"
            told = below.told(fast_path=True)
            assert re.search(r"through ASGI: Hypercorn \d\S+ is not what the fast path is made for \(.+\)$", told)
            await server.publish(1, 3)
            assert offsets(await subscriber.events(3)) == [1, 2, 3]
    (line,) = [line for line in logs if "fast path" in line["event"]]
    assert line["log_level"] == "warning"
    assert line["reason"]


async def test_a_client_that_leaves_is_noticed_on_every_path(connect):
    async with running(**connect.settings) as server:
        async with connect(server, {}) as (_, subscriber):
            await subscriber.opened()
        await until(lambda: not server.hub.streams)
        assert server.hub.ended == {"left": 1}


async def test_a_page_in_which_nothing_passes_the_filter_is_no_end_of_the_stream(connect):
    async with running(**connect.settings) as server:
        await server.publish(1, 900)
        await server.publish(901, 3, type="other_event")
        async with connect(server, {}, "?types=other_*&replay=all") as (_, subscriber):
            assert offsets(await subscriber.events(3)) == [901, 902, 903]
            await server.publish(904, 900)
            await server.publish(1_804, type="other_event")
            assert offsets(await subscriber.events(1)) == [1_804]


async def test_clients_that_do_not_read_are_given_up_and_cost_the_others_nothing(connect):
    async with running(**connect.settings, stall_s=1.5, keepalive_s=0.5) as server, AsyncExitStack() as stack:
        stuck = [await stack.enter_async_context(raw(server, get(), receive_bytes=4_096)) for _ in range(3)]
        for _, streamer in stuck:
            streamer.transport.pause_reading()
        _, subscriber = await stack.enter_async_context(connect(server, {}))
        await subscriber.opened()
        await until(lambda: sum(stream.is_live for stream in server.hub.streams) == 4)
        for first in range(1, 401, 50):  # 12 MB: no socket swallows that
            await server.publish(first, 50, data=PAD)
            assert offsets(await subscriber.events(50)) == list(range(first, first + 50))
        await until(lambda: server.hub.ended["stalled"] == 3)
        assert server.hub.counts["blocked"] >= 3
        assert server.hub.subscribers("project:{apollo}") == 1
        await server.publish(401)
        assert offsets(await subscriber.events(1)) == [401]
        figures = (await server.get("/metrics"))[2]
        assert 'syndarix_rt_streams_ended_total{reason="stalled"} 3.0' in figures


async def test_a_client_that_does_not_read_is_given_little_that_the_kernel_must_keep():
    async with running() as server, raw(server, get(), receive_bytes=65_536) as (_, streamer):
        streamer.transport.pause_reading()
        await until(lambda: [stream.is_live for stream in server.hub.streams] == [True])
        (stream,) = server.hub.streams
        for first in range(1, 401, 50):  # 12 MB
            await server.publish(first, 50, data=PAD)
        await until(lambda: stream._writer.blocked_s is not None)
        assert stream.cursor.size_bytes < 2 << 20


async def test_a_client_that_falls_out_of_memory_and_reads_again_gets_all_of_it_from_pages(connect):
    async with running(**connect.settings) as server, AsyncExitStack() as stack:
        _, slow = await stack.enter_async_context(connect(server, {}))
        await slow.opened()
        (stream,) = server.hub.streams
        await until(lambda: stream.is_live)
        log = server.hub._channels["project:{apollo}"].log
        log.max_entries, log.max_bytes = 100, 1 << 20
        for first in range(1, 701, 50):  # 21 MB
            await server.publish(first, 50, data=PAD)
        await until(lambda: stream._writer.blocked_s is not None)
        assert not log.holds(stream.cursor.offset)
        assert offsets(await slow.events(700)) == list(range(1, 701))
        assert server.hub.counts["pages"] > 0
        await server.publish(701)
        assert offsets(await slow.events(1)) == [701]
        assert server.hub.gaps == {}


async def test_a_peer_that_sent_a_second_request_and_left_is_found_by_writing():
    """Hypercorn reads no more after a pipelined request, so it does not see the end."""
    async with running(keepalive_s=0.05) as server:
        async with raw(server, get() + get()) as (reader, streamer):
            await reader.readuntil(b": keepalive")
            streamer.close()
        await until(lambda: not server.hub.streams)
        assert server.hub.ended == {"left": 1}
        # Neither does it wait for ever for a response that is over.
        await until(lambda: not any("_server_callback" in repr(task) for task in asyncio.all_tasks()))


@pytest.fixture(params=[asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
def on_each_loop(request):
    """Runs a coroutine."""

    def run(work):
        with asyncio.Runner(loop_factory=request.param) as runner:
            runner.run(asyncio.wait_for(work, TIMEOUT_S))

    return run


def in_crowd(server):
    return [stream for stream in server.hub.streams if stream._crowd is not None]


async def joined(server):
    """The only stream, once it is one of the crowd."""
    await until(lambda: any(stream.is_live for stream in server.hub.streams))
    await server.publish(1)
    await until(lambda: in_crowd(server))
    return server.hub.streams[0]


def test_who_opens_the_descriptor_of_a_client_that_left_gets_nothing_of_what_was_its(on_each_loop):
    async def work():
        async with running() as server, raw(server, get()):
            stream = await joined(server)
            descriptor, channel = stream.descriptor, stream._channel
            one, other = socket.socketpair()
            inode = os.fstat(descriptor).st_ino
            with one, other, ExitStack() as copies:
                stream._writer.abort()
                while os.fstat(descriptor).st_ino == inode:
                    await asyncio.sleep(0)
                    copy = -1
                    while copy < descriptor:  # the lowest is taken that is free
                        copy = os.dup(one.fileno())
                        copies.callback(os.close, copy)
                assert copy == descriptor
                assert stream in channel.streams  # Hypercorn has not told it yet
                for number in range(2, 4):
                    channel._apply(Batch(channel.log.epoch, number, [event(number).encode()]))
                    channel._flush()
                one.close()
                copies.close()
                assert other.recv(1_000) == b""

    on_each_loop(work())


def fill(stream):
    """Its client's socket, and ours to it; how many bytes that took."""
    filled = 0
    with suppress(BlockingIOError):
        while True:
            filled += os.write(stream.descriptor, b"~" * 4_096)
    return filled


def test_who_leaves_the_crowd_in_the_middle_of_what_it_is_given_gets_the_rest(on_each_loop, monkeypatch):
    def some(descriptor, chunk):
        return os.write(descriptor, chunk[:90_000])

    async def work():
        async with running(keepalive_s=60) as server, raw(server, get()) as (reader, _):
            stream = await joined(server)
            await reader.readuntil(b'"n":1}')
            monkeypatch.setattr(crowd, "os", SimpleNamespace(write=some))
            done = await server.publish(2, 20, data=PAD)  # in several pieces, and no news after it
            received = b""
            while b"id: %b.21\n" % done.epoch.encode() not in received:
                received += await reader.read(65_536)
            ids = re.findall(rb"\nid: \S+\.(\d+)\n", b"\n" + received)
            assert ids == [b"%d" % number for number in range(2, 22)]
            await until(lambda: not stream._writer.lags)
            await server.publish(22)
            await until(lambda: in_crowd(server) == [stream])

    on_each_loop(work())


def test_what_the_crowd_is_given_does_not_overtake_a_comment_that_waits(on_each_loop):
    async def work():
        async with running(keepalive_s=60) as server, raw(server, get(), receive_bytes=4_096) as (reader, streamer):
            stream = await joined(server)
            await reader.readuntil(b'"n":1}')
            streamer.transport.pause_reading()
            filled = fill(stream)
            stream.put(b": comment\n\n")
            assert in_crowd(server) == []
            await server.publish(2, 3)
            await until(lambda: stream.cursor.offset == 4)
            streamer.transport.resume_reading()
            received = b""
            while b'"n":4}' not in received:
                received += await reader.read(65_536)
            assert received.count(b"~") == filled
            numbers = re.findall(rb'comment|"n":\d', received)
            assert numbers == [b"comment", b'"n":2', b'"n":3', b'"n":4']
            await until(lambda: not stream._writer.lags)
            await server.publish(5)
            await until(lambda: in_crowd(server) == [stream])

    on_each_loop(work())


async def test_an_old_stream_is_ended_with_its_place_and_comes_back():
    async with running(max_age_s=1) as server:
        done = await server.publish(1, 3)
        async with server.stream(types="other_*") as subscriber:
            await subscriber.opened()
            await server.publish(4, 2)
            assert await subscriber.end() == []
        assert subscriber.decoder.last_event_id == f"{done.epoch}.5"
        assert 1_000 <= subscriber.decoder.retry_ms <= 5_000
        assert server.hub.ended == {"aged": 1}


async def test_a_fault_in_one_stream_ends_that_one_alone(monkeypatch, capsys):
    async with running(fast_path=False) as server, server.stream() as one, server.stream() as other:
        await one.opened()
        await other.opened()
        await until(lambda: all(stream.is_live for stream in server.hub.streams))
        broken = server.hub.streams[0]._writer
        write = Writer.write

        def write_or_fail(self, *what):
            if self is broken:
                raise RuntimeError("planted")
            return write(self, *what)

        monkeypatch.setattr(Writer, "write", write_or_fail)
        await server.publish(1, 2)
        await until(lambda: server.hub.ended["failed"] == 1)
        await server.publish(3)
        ends = await asyncio.gather(one.events(3), other.events(3), return_exceptions=True)
        assert [offsets(each) for each in ends if isinstance(each, list)] == [[1, 2, 3]]
        assert server.hub.subscribers("project:{apollo}") == 1
    assert "planted" in capsys.readouterr().out


class Counting(MemoryBroker):
    def __init__(self):
        super().__init__()
        self.reads, self.positions = 0, 0

    async def read(self, channel, after, limit):
        self.reads += 1
        await asyncio.sleep(0.01)  # a round trip
        return await super().read(channel, after, limit)

    async def position(self, channel):
        self.positions += 1
        await asyncio.sleep(0.01)
        return await super().position(channel)


async def test_clients_that_come_back_at_once_share_what_is_asked_of_the_broker():
    broker = Counting()
    async with running(broker) as server, AsyncExitStack() as stack:
        for first in (1, 1_001, 2_001):
            done = await server.publish(first, 1_000)
        behind = [f"{done.epoch}.{after}" for after in [0] * 50 + list(range(0, 1_000, 20))]
        opening = [stack.enter_async_context(server.stream(last_event_id=cursor)) for cursor in behind]
        streams = await asyncio.gather(*opening)
        for last_event_id, subscriber in zip(behind, streams, strict=True):
            after = int(last_event_id.rpartition(".")[2])
            assert offsets(await subscriber.events(3_000 - after)) == list(range(after + 1, 3_001))
        assert broker.reads < 50  # of 300
        assert broker.positions < 20
        await stack.aclose()
    await broker.aclose()


async def test_what_is_asked_jointly_is_never_older_than_the_question():
    answers, running_ = iter(range(100)), 0

    async def ask():
        nonlocal running_
        running_ += 1
        assert running_ == 1
        answer = next(answers)  # what was true when it was asked
        await asyncio.sleep(0.01)
        running_ -= 1
        return answer

    joint = Joint(ask)
    first = [asyncio.create_task(joint()) for _ in range(5)]
    await asyncio.sleep(0.005)
    later = [asyncio.create_task(joint()) for _ in range(5)]
    assert await asyncio.gather(*first) == [0] * 5
    assert await asyncio.gather(*later) == [1] * 5
    assert await joint() == 2


class Standing:
    slot = None


@given(st.lists(st.tuples(st.floats(0, 20), st.booleans()), min_size=1, max_size=60), st.sampled_from([0.01, 0.25, 1]))
def test_a_wheel_gives_each_once_not_early_and_at_most_a_slot_late(puts, slot_s):
    wheel = Wheel(slot_s, 100.0)
    due = {}
    for after_s, again in puts:
        standing = Standing()
        due[standing] = 100 + after_s
        wheel.put(standing, due[standing])
        if again:  # a later date is no reason to move, an earlier one is
            wheel.put(standing, due[standing] + 5)
            due[standing] -= min(after_s, 1.5)
            wheel.put(standing, due[standing])
    now_s, taken = 100.0, []
    while now_s < 125:
        for standing in wheel.take(now_s):
            assert due[standing] <= now_s + 1e-6
            assert now_s <= due[standing] + 2 * slot_s + 1e-6
            assert standing.slot is None
            taken.append(standing)
        now_s += slot_s
    assert sorted(map(id, taken)) == sorted(map(id, due))
