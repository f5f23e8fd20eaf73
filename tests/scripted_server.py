"""A real TCP server on loopback that answers each HTTP request with a script, down to the byte and the cut.

For what no well-behaved server does: half an answer, silence, a reset, another protocol.
"""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager

import aiohttp.web

from syndarix_rt.delivery.sse import encode
from syndarix_rt.events import Event

TIMEOUT_S = 60

HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\ntransfer-encoding: chunked\r\n\r\n"
END = b"0\r\n\r\n"


def chunk(data):
    return b"%x\r\n%b\r\n" % (len(data), data)


def answer(status, body=b"", **headers):
    """A whole answer, such as ``answer("429 Too Many Requests", retry_after=2)``."""
    lines = [f"HTTP/1.1 {status}", f"content-length: {len(body)}"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return "\r\n".join([*lines, "", ""]).encode() + body


class Exchange:
    """One request, and the means to answer it."""

    def __init__(self, reader, writer, method, target, headers, body):
        self._reader, self._writer = reader, writer
        self.method, self.target, self.headers, self.body = method, target, headers, body

    async def send(self, *parts):
        self._writer.write(b"".join(parts))
        await self._writer.drain()

    def cut(self):
        """Close the connection in order (FIN)."""
        self._writer.close()

    def reset(self):
        """Tear the connection down (RST)."""
        self._writer.transport.abort()

    async def gone(self):
        """Wait, silently, until the client has closed the connection."""
        while await self._reader.read(65536):
            pass


class ScriptedServer:
    """Runs ``script(exchange)`` for each request; several scripts are taken one after another, the last one again.

    ``requests`` keeps the exchanges. A script that returns after a whole answer lets the connection go on.
    """

    def __init__(self, *scripts):
        self.scripts = list(scripts)
        self.requests = []
        self.connections = 0
        self._writers = set()
        self._tasks = set()

    async def __aenter__(self):
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        return self

    async def __aexit__(self, *_):
        self._server.close()
        for task in self._tasks:
            task.cancel()
        for writer in self._writers:
            writer.transport.abort()
        closing = [writer.wait_closed() for writer in self._writers]
        await asyncio.gather(*self._tasks, *closing, return_exceptions=True)

    async def closed(self):
        """Wait until no connection is left; so a client that leaks one is found out."""
        async with asyncio.timeout(TIMEOUT_S):
            await asyncio.gather(*self._tasks)
            await asyncio.gather(*(writer.wait_closed() for writer in self._writers), return_exceptions=True)

    async def _serve(self, reader, writer):
        task = asyncio.current_task()
        self._tasks.add(task)
        self._writers.add(writer)
        self.connections += 1
        try:
            while exchange := await self._request(reader, writer):
                self.requests.append(exchange)
                script = self.scripts.pop(0) if len(self.scripts) > 1 else self.scripts[0]
                await script(exchange)
        except (ConnectionError, asyncio.CancelledError):  # the client left, or the test is over
            pass
        finally:
            writer.close()
            self._tasks.discard(task)

    async def _request(self, reader, writer):
        try:
            head = await reader.readuntil(b"\r\n\r\n")
        except (asyncio.IncompleteReadError, ConnectionError):
            return None
        first, *lines = head.decode().rstrip().split("\r\n")
        method, target, _ = first.split(" ")
        headers = {name.lower(): value for name, value in (line.split(": ", 1) for line in lines)}
        body = await reader.readexactly(int(headers.get("content-length", 0)))
        return Exchange(reader, writer, method, target, headers, body)


# ---- streams as our server writes them ------------------------------------------------------------------------------

EPOCH = "epoch-one"


def event(number=1, **attributes):
    return Event.from_dict(
        {
            "specversion": "1.0",
            "id": f"event-{number}",
            "source": "/test",
            "type": "my_event",
            "time": "2026-01-01T00:00:00.000001Z",
            "project": "apollo",
            "data": {"n": number},
        }
        | attributes
    )


def frame(number, epoch=EPOCH, raw=None):
    """The data frame of an event."""
    return encode(raw or event(number).encode(), event="my_event", id=f"{epoch}.{number}")


def checkpoint(offset, epoch=EPOCH):
    return encode(id=f"{epoch}.{offset}")


def opening(after, last, *, epoch=EPOCH, resumed=False, retry_ms=10, gap=None):
    """What comes before the first event: retry, stream-open, the gap if any, and the position."""
    state = b'{"epoch":"%b","first":1,"last":%d,"resumed":%b}' % (
        epoch.encode(),
        last,
        b"true" if resumed else b"false",
    )
    parts = [encode(retry_ms=retry_ms), encode(state, event="stream-open")]
    if gap:
        parts.append(encode(gap, event="gap"))
    return b"".join([*parts, checkpoint(after, epoch)])


async def no_more(exchange):
    """204: the stream ends for good."""
    await exchange.send(answer("204 No Content"))


@asynccontextmanager
async def scripted_socket(script):
    """The URL of a server that takes every WebSocket, under any subprotocol, and does with it what a script says."""

    async def upgraded(request):
        wanted = request.headers["sec-websocket-protocol"]
        ws = aiohttp.web.WebSocketResponse(protocols=[wanted])
        await ws.prepare(request)
        await script(ws)
        return ws

    app = aiohttp.web.Application()
    app.router.add_get("/{anything:.*}", upgraded)
    runner = aiohttp.web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    site = aiohttp.web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        yield f"http://127.0.0.1:{site._server.sockets[0].getsockname()[1]}"
    finally:
        await runner.cleanup()
