"""The launcher as a process: signals, streams that stay, clients that do not read, busy ports."""

import asyncio
import fcntl
import signal
import socket
import subprocess
import sys
from contextlib import AsyncExitStack, asynccontextmanager

import pytest
from serving import TIMEOUT_S

from syndarix_rt.server import bind, loop_factory
from syndarix_rt.server.launcher import UNSENT_BYTES

PROGRAM = """
import asyncio, sys
from syndarix_rt.broker.memory import MemoryBroker
from syndarix_rt.server import Settings, bind, loop_factory, serve

async def main():
    broker = MemoryBroker()
    pad = b"x" * 60_000
    for _ in range(40):
        await broker.publish("project:{apollo}", [b'{"type":"my_event","pad":"%b"}' % pad] * 50)
    sock = bind("127.0.0.1", 0)
    port = sock.getsockname()[1]
    async def ready(_):
        print(port, flush=True)
    await serve(broker, Settings(drain_s=2.0), sock, ready=ready)
    await broker.aclose()
    print("ended", flush=True)

factory = loop_factory() if sys.argv[1] == "uvloop" else None
with asyncio.Runner(loop_factory=factory) as runner:
    runner.run(main())
"""


@pytest.fixture(params=["asyncio", "uvloop"])
def server(request):
    if request.param == "uvloop" and loop_factory() is None:
        pytest.fail("uvloop is not installed, though the package depends on it here")
    process = subprocess.Popen(
        [sys.executable, "-W", "error", "-c", PROGRAM, request.param], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    process.port = int(process.stdout.readline())
    yield process
    process.kill()
    process.communicate()


@asynccontextmanager
async def streams(port, count, query=b""):
    """Raw connections to the event stream, past its first bytes; their readers and writers."""
    async with AsyncExitStack() as stack:
        opened = []
        for _ in range(count):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            stack.callback(writer.transport.abort)
            writer.write(b"GET /projects/apollo/events%b HTTP/1.1\r\nhost: localhost\r\n\r\n" % query)
            await asyncio.wait_for(reader.readuntil(b"retry: "), TIMEOUT_S)
            opened.append((reader, writer))
        yield opened
    await asyncio.sleep(0)  # an aborted transport closes in the loop's next round


def ended(process):
    """Wait for the end; what it said."""
    out, err = process.communicate(timeout=TIMEOUT_S)
    return process.returncode, out.decode(), err.decode()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_signal_ends_the_process_with_its_streams_open(server, number):
    async with streams(server.port, 20) as opened:
        server.send_signal(number)
        ends = await asyncio.gather(*(reader.read() for reader, _ in opened))
        code, out, err = await asyncio.to_thread(ended, server)
    assert [end for end in ends if b"event: server-draining" not in end] == []
    assert all(end.endswith(b"0\r\n\r\n") for end in ends)
    assert (code, out, err) == (0, "ended\n", "")


async def test_clients_that_do_not_read_cannot_keep_the_process(server):
    async with streams(server.port, 5) as readers, streams(server.port, 5, b"?replay=all") as stuck:
        for _, writer in stuck:
            writer.transport.pause_reading()
        server.send_signal(signal.SIGTERM)
        ends = await asyncio.gather(*(reader.read() for reader, _ in readers))
        code, out, _ = await asyncio.to_thread(ended, server)
    assert [end for end in ends if b"event: server-draining" not in end] == []
    assert code == 0
    assert out.endswith("ended\n")


async def test_a_second_signal_cuts_the_drain_short(server):
    async with streams(server.port, 1, b"?replay=all") as [(_, writer)]:
        writer.transport.pause_reading()
        server.send_signal(signal.SIGINT)
        server.send_signal(signal.SIGINT)
        code, out, _ = await asyncio.to_thread(ended, server)
    assert code == 0
    assert out.endswith("ended\n")


async def test_an_idle_keep_alive_connection_does_not_keep_the_process(server):
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    writer.write(b"GET /healthz HTTP/1.1\r\nhost: localhost\r\n\r\n")
    assert b"200" in await reader.readline()
    server.send_signal(signal.SIGTERM)
    assert (await asyncio.to_thread(ended, server))[0] == 0
    writer.close()
    await writer.wait_closed()


def test_a_busy_port_is_an_error_or_the_next_one_is_taken():
    with bind("127.0.0.1", 0) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(OSError, match="in use"):
            bind("127.0.0.1", port)
        with bind("127.0.0.1", port, or_next_free=True) as other:
            assert port < other.getsockname()[1] <= port + 100


@pytest.mark.skipif(not hasattr(socket, "TCP_USER_TIMEOUT"), reason="Linux has it")
def test_connections_inherit_the_limits_on_dead_and_stalled_peers():
    with bind("127.0.0.1", 0, stall_s=7) as listening, socket.create_connection(listening.getsockname()):
        accepted, _ = listening.accept()
        with accepted:
            assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 7_000
            assert accepted.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
            assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) == 15


@pytest.mark.skipif(not hasattr(socket, "TCP_NOTSENT_LOWAT"), reason="Linux has it")
def test_the_kernel_keeps_little_for_a_client_that_does_not_read():
    with bind("127.0.0.1", 0) as listening, socket.create_connection(listening.getsockname()):
        accepted, _ = listening.accept()
        with accepted:
            accepted.settimeout(0)
            with pytest.raises(BlockingIOError):
                while True:
                    accepted.send(bytes(4096))
            unsent = fcntl.ioctl(accepted, 0x894B, bytes(4))  # SIOCOUTQNSD of linux/sockios.h
            # What it has begun to fill, it fills: a segment of 64 KiB at the most.
            assert int.from_bytes(unsent, sys.byteorder) <= UNSENT_BYTES + 64 * 1024
