"""`Writer`: whatever a client takes at once, it gets every byte once and in order, on each event loop."""

import asyncio
import errno
import os
import random
import socket
import ssl
import struct
from contextlib import asynccontextmanager, suppress

import pytest
import uvloop
from hypercorn.asyncio.tcp_server import TCPServer
from hypercorn.asyncio.worker_context import WorkerContext
from hypercorn.config import Config
from hypercorn.protocol.h11 import H11Protocol
from hypercorn.protocol.http_stream import HTTPStream
from hypercorn.typing import ConnectionState

from syndarix_rt.cli.certificate import self_signed
from syndarix_rt.server.writer import Writer, chunk_of

TIMEOUT_S = 30
LOOPS = [asyncio.new_event_loop, uvloop.new_event_loop]


def run(loop_factory, work):
    async def limited():
        async with asyncio.timeout(TIMEOUT_S):
            return await work()

    with asyncio.Runner(loop_factory=loop_factory) as runner:
        return runner.run(limited())


def writer_to(reader, writer, closing=None):
    """As Hypercorn would have it."""
    config = Config()
    tcp = TCPServer(None, asyncio.get_running_loop(), config, WorkerContext(None), None, reader, writer)
    about = {"app": None, "config": config, "context": tcp.context, "task_group": None}
    about |= {"ssl": False, "client": None, "server": None}
    protocol = H11Protocol(**about, connection_state=ConnectionState({}), send=tcp.protocol_send)
    send = HTTPStream(**about, send=protocol.stream_send, stream_id=1).app_send
    return Writer(send, chunked=True, closing=closing)


@asynccontextmanager
async def connected(closing=None):
    """A client's socket that takes little at once, and the writer to it."""
    accepted = asyncio.get_running_loop().create_future()
    server = await asyncio.start_server(lambda *pair: accepted.set_result(pair), "127.0.0.1", 0)
    client = socket.socket()
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8_192)
    client.settimeout(0)
    loop = asyncio.get_running_loop()
    try:
        await loop.sock_connect(client, server.sockets[0].getsockname())
        reader, writer = await accepted
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 8_192)
        ours = writer_to(reader, writer, closing)
        yield client, ours
        ours.abort()
    finally:
        client.close()
        server.close()


@pytest.mark.parametrize("loop_factory", LOOPS)
def test_each_byte_comes_once_and_in_order_whatever_the_socket_takes(loop_factory):
    rng = random.Random(7)

    async def work():
        loop = asyncio.get_running_loop()
        expected, blocked = bytearray(), 0
        async with connected() as (client, writer):
            got = bytearray()

            async def read(bytes_):
                while len(got) < bytes_:
                    got.extend(await loop.sock_recv(client, rng.choice([100, 5_000, 200_000])))

            for number in range(300):
                data = rng.choice([b"%d;", b"%d" + b"." * 3_000 + b";", b"%d" + b"." * 130_000 + b";"]) % number
                expected += chunk_of(data)
                if not writer.write(data, chunk_of(data)):
                    blocked += 1
                    await asyncio.gather(writer.free(), read(len(expected)))
                elif rng.random() < 0.2:
                    await read(len(expected) - rng.randrange(100_000))
            await read(len(expected))
        assert got == expected
        return blocked

    assert run(loop_factory, work) > 10


@pytest.mark.parametrize("loop_factory", LOOPS)
def test_nothing_overtakes_what_the_transport_still_has(loop_factory):
    async def work():
        async with connected() as (client, writer):
            first, second = b"1" * 40_000, b"2"
            assert writer.write(first, chunk_of(first))
            transport = writer._transport
            waits = transport.get_write_buffer_size()
            assert 0 < waits < len(first)
            received = len(client.recv(100_000))  # so there is room again, and the loop has not seen it
            assert received > 0
            assert writer.write(second, chunk_of(second))
            assert transport.get_write_buffer_size() == waits + len(chunk_of(second))

    run(loop_factory, work)


@pytest.mark.parametrize("loop_factory", LOOPS)
def test_a_client_that_is_gone_is_heard_of_by_the_transport(loop_factory):
    async def work():
        async with connected() as (client, writer):
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            client.close()
            while not writer._transport.is_closing():
                assert writer.write(b"x", chunk_of(b"x"))
                await asyncio.sleep(0)

    run(loop_factory, work)


def reset(client, writer):
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    client.close()


def reset_and_written_to(client, writer):
    reset(client, writer)
    writer.write(b"x", chunk_of(b"x"))


def aborted(client, writer):
    writer.abort()


def closed(client, writer):
    writer._transport.close()


def closed_with_something_waiting(client, writer):
    data = b"x" * 40_000
    assert writer.write(data, chunk_of(data))
    assert writer.lags
    writer._transport.close()


@pytest.mark.parametrize("end", [reset, reset_and_written_to, aborted, closed, closed_with_something_waiting])
@pytest.mark.parametrize("loop_factory", LOOPS)
def test_that_a_descriptor_is_closed_is_told_once_and_before_it_can_be_anothers(loop_factory, end):
    async def work():
        told = []
        async with connected(lambda: told.append(os.fstat(descriptor).st_ino)) as (client, writer):
            descriptor, streamer = writer.descriptor, writer._below._writer
            protocol = streamer.transport.get_protocol()
            socket_ = os.fstat(descriptor).st_ino
            end(client, writer)
            while is_open(descriptor, socket_):
                await asyncio.sleep(0)
                with suppress(OSError):
                    client.recv(100_000)
            assert told == [socket_]
            assert "connection_lost" not in vars(protocol)  # it would keep itself
            assert writer.lags
            with suppress(OSError):
                await streamer.wait_closed()  # it was told as well
            late = Writer(writer._send, chunked=True, closing=lambda: told.append("late"))
            assert late.descriptor < 0
            late.close()
            assert told == [socket_]

    run(loop_factory, work)


def is_open(descriptor, inode):
    try:
        return os.fstat(descriptor).st_ino == inode
    except OSError:
        return False


@pytest.mark.parametrize("loop_factory", LOOPS)
def test_a_connection_that_the_stream_has_let_go_of_is_not_watched_any_more(loop_factory):
    async def work():
        told = []
        async with connected(lambda: told.append("first")) as (_, writer):
            streamer = writer._below._writer
            writer.close()
            second = Writer(writer._send, chunked=True, closing=lambda: told.append("second"))  # it was kept alive
            second.abort()
            with suppress(OSError):
                await streamer.wait_closed()
        assert told == ["second"]

    run(loop_factory, work)


@pytest.mark.parametrize("loop_factory", LOOPS)
def test_what_is_encrypted_does_not_go_to_the_socket(loop_factory, monkeypatch, tmp_path):
    monkeypatch.setenv("SYNDARIX_RT_STATE_DIR", str(tmp_path))
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    certificate = self_signed("127.0.0.1")
    context.load_cert_chain(certificate)
    trusting = ssl.create_default_context(cafile=certificate)

    async def work():
        accepted = asyncio.get_running_loop().create_future()
        server = await asyncio.start_server(lambda *pair: accepted.set_result(pair), "127.0.0.1", 0, ssl=context)
        port = server.sockets[0].getsockname()[1]
        reader, client = await asyncio.open_connection("127.0.0.1", port, ssl=trusting)
        writer = writer_to(*await accepted)
        assert writer.write(b"secret", chunk_of(b"secret"))
        assert await reader.readexactly(len(chunk_of(b"secret"))) == chunk_of(b"secret")
        client.close()
        writer.abort()
        server.close()

    run(loop_factory, work)


async def test_a_write_that_blocks_is_finished_in_order_and_tells_when_it_is_free():
    sent, gate = [], asyncio.Event()

    async def send(message):
        await asyncio.sleep(0)
        await gate.wait()
        sent.append(message["body"])

    one = Writer(send, chunked=True)
    assert one.write(b"a", chunk_of(b"a")) is False
    assert one.blocked_s is not None
    gate.set()
    await one.free()
    assert (one.blocked_s, sent) == (None, [b"a"])
    await one.end(b"b")
    assert sent == [b"a", b"b"]


@pytest.mark.parametrize("error", [ConnectionResetError(), TimeoutError(errno.ETIMEDOUT, "by TCP_USER_TIMEOUT")])
async def test_a_connection_that_breaks_is_no_fault_of_ours(error):
    async def at_once(_):
        raise error

    async def later(_):
        await asyncio.sleep(0)
        raise error

    assert Writer(at_once, chunked=True).write(b"a", chunk_of(b"a")) is True
    one = Writer(later, chunked=True)
    assert one.write(b"a", chunk_of(b"a")) is False
    await one.free()
    assert one.blocked_s is None
