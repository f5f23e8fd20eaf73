"""What a stream that says nothing keeps in memory, and that what keeps it small holds what it stands for."""

import asyncio
import gc
import logging
import socket
import tracemalloc
from contextlib import ExitStack

import pytest
from hypercorn.asyncio import serve
from hypercorn.config import Config
from serving import TIMEOUT_S, running

from syndarix_rt.server import bind, footprint
from syndarix_rt.server.footprint import Event, Inbox

REQUEST = b"GET /projects/apollo/events HTTP/1.1\r\nHost: localhost\r\nAccept: text/event-stream\r\n\r\n"


async def until(true):
    async with asyncio.timeout(TIMEOUT_S):
        while not true():
            await asyncio.sleep(0.01)


def kept_bytes():
    gc.collect()
    return tracemalloc.get_traced_memory()[0]


async def test_a_stream_keeps_little_memory():
    """By what Python allocates: 15 to 16 KiB on asyncio's loop; 20 to 21 with Hypercorn's own queues and events."""
    async with running() as server:
        with ExitStack() as sockets:

            async def more(count):
                port = int(server.url.rpartition(":")[2])
                for _ in range(count):
                    sock = sockets.enter_context(socket.create_connection(("127.0.0.1", port), TIMEOUT_S))
                    sock.sendall(REQUEST)
                    await asyncio.sleep(0)
                await until(lambda: sum(stream.is_live for stream in server.hub.streams) == opened)
                return kept_bytes()

            tracemalloc.start()
            try:
                opened = 50  # what is made once is made now
                before = await more(50)
                opened += 100
                each = (await more(100) - before) / 100
            finally:
                tracemalloc.stop()
    assert each < 18 * 1024


async def test_an_inbox_gives_in_order_and_holds_no_more_than_it_may():
    inbox, brought = Inbox(2), []

    async def bring(numbers):
        for number in numbers:
            await inbox.put(number)
            brought.append(number)

    async with asyncio.timeout(TIMEOUT_S), asyncio.TaskGroup() as tasks:
        tasks.create_task(bring(range(50)))
        tasks.create_task(bring(range(50, 100)))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert len(brought) == 2
        taken = []
        while len(taken) < 100:
            taken.append(await inbox.get())
            await asyncio.sleep(0)
            assert len(brought) <= len(taken) + 2
    assert [number for number in taken if number < 50] == list(range(50))
    assert [number for number in taken if number >= 50] == list(range(50, 100))


async def test_a_receiver_that_is_cancelled_takes_nothing_with_it():
    inbox = Inbox(10)
    waiting = asyncio.create_task(inbox.get())
    await asyncio.sleep(0)
    await inbox.put("first")  # it is woken, but has not run yet
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    await inbox.put("second")
    async with asyncio.timeout(TIMEOUT_S):
        assert [await inbox.get(), await inbox.get()] == ["first", "second"]


async def test_a_bringer_that_is_cancelled_leaves_its_place_to_the_next():
    inbox = Inbox(1)
    await inbox.put("first")
    given_up, next_one = (asyncio.create_task(inbox.put(word)) for word in ("given up", "next"))
    await asyncio.sleep(0)
    given_up.cancel()
    async with asyncio.timeout(TIMEOUT_S):
        assert await inbox.get() == "first"
        assert await inbox.get() == "next"
        await next_one
    assert given_up.cancelled()


async def test_an_event_wakes_all_who_wait_until_it_is_cleared():
    event = Event()
    waiting = [asyncio.create_task(event.wait()) for _ in range(3)]
    await asyncio.sleep(0)
    waiting[0].cancel()
    await event.set()
    async with asyncio.timeout(TIMEOUT_S):
        await asyncio.gather(*waiting[1:])
        await event.wait()
    assert event.is_set()
    await event.clear()
    assert not event.is_set()
    late = asyncio.create_task(event.wait())
    await asyncio.sleep(0)
    assert not late.done()
    await event.set()
    await late


async def test_an_app_that_fails_is_logged_and_answered_and_one_that_is_slow_gets_all_of_a_body(caplog):
    """Under a Hypercorn with our parts, apart from Quart."""
    body = bytes(range(256)) * 8_192  # 2 MiB: many more pieces than may wait

    async def app(scope, receive, send):
        if scope["type"] == "lifespan":
            return
        if scope["path"] == "/fails":
            raise RuntimeError("on purpose")
        received = bytearray()
        while True:
            message = await receive()
            received += message["body"]
            await asyncio.sleep(0)
            if not message["more_body"]:
                break
        await send({"type": "http.response.start", "status": 200 if received == body else 400, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    async def status(request):
        reader, writer = await asyncio.open_connection(*address)
        writer.write(request)
        line = await reader.readline()
        writer.close()
        await writer.wait_closed()
        return line.split()[1]

    footprint.install()
    sock = bind("127.0.0.1", 0)
    address, ending, config = sock.getsockname()[:2], asyncio.Event(), Config()
    config.bind, config.errorlog = [f"fd://{sock.detach()}"], logging.getLogger("tests.hypercorn")
    server = asyncio.create_task(serve(app, config, shutdown_trigger=ending.wait, mode="asgi"))
    async with asyncio.timeout(TIMEOUT_S):
        assert await status(b"GET /fails HTTP/1.1\r\nHost: localhost\r\n\r\n") == b"500"
        head = b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n" % len(body)
        assert await status(head + body) == b"200"
        ending.set()
        await server
    assert "on purpose" in caplog.text
