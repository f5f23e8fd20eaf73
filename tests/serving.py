"""A real server of ours on a loopback port, inside the test's loop, and a plain client for it."""

from __future__ import annotations

import asyncio
import io
import ssl
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from datetime import UTC, datetime

import aiohttp

from syndarix_rt.broker.memory import MemoryBroker
from syndarix_rt.delivery.sse import Decoder
from syndarix_rt.events import Event
from syndarix_rt.server import Settings, bind, serve

TIMEOUT_S = 60


class Server:
    """A running server; ``url`` without a slash at its end."""

    def __init__(self, url, broker, app, http, shutdown, task):
        self.url, self.broker, self.app, self.http = url, broker, app, http
        self.hub = app.extensions["syndarix_rt"]
        self._shutdown, self.task = shutdown, task

    @asynccontextmanager
    async def stream(self, project="apollo", headers=None, **params):
        """An event stream, as `Subscriber`."""
        url = f"{self.url}/projects/{project}/events"
        async with self.http.get(url, params=params, headers=headers) as response:
            yield Subscriber(response)

    async def get(self, path, **kwargs):
        """Status, headers and decoded JSON (or text) of a GET."""
        return await self._answer("GET", path, **kwargs)

    async def post(self, path, body, content_type="application/json", **kwargs):
        headers = {"content-type": content_type} | kwargs.pop("headers", {})
        # aiohttp warns of large bodies that are no file
        return await self._answer("POST", path, data=io.BytesIO(body), headers=headers, **kwargs)

    async def _answer(self, method, path, **kwargs):
        async with self.http.request(method, self.url + path, allow_redirects=False, **kwargs) as response:
            kind = response.content_type
            body = await (
                response.json(content_type=None)
                if kind in ("application/json", "application/problem+json")
                else response.text()
            )
            return response.status, response.headers, body

    async def publish(self, first, count=1, project="apollo", **kwargs):
        """Publish numbered events straight into the broker."""
        entries = [event(n, project, **kwargs).encode() for n in range(first, first + count)]
        return await self.broker.publish(f"project:{{{project}}}", entries)

    async def stop(self):
        """Drain and end it; returns when it has ended."""
        self._shutdown.set()
        await self.task


class Subscriber:
    """Reads one stream with our own decoder, and keeps the raw text."""

    def __init__(self, response):
        self.response = response
        self.decoder = Decoder()
        self.raw = b""
        self._frames = []

    async def until(self, done):
        """Read until ``done(self)``; all frames since the last call. A stream that is cut is closed."""
        async with asyncio.timeout(TIMEOUT_S):
            while not done(self):
                try:
                    chunk = await self.response.content.readany()
                except aiohttp.ClientError:
                    self.response.close()  # or it is reported as unclosed, in whichever test it is collected
                    raise
                if not chunk:
                    raise EOFError(f"the stream ended: {self.raw[-300:]!r}")
                self.raw += chunk
                self._frames += self.decoder.feed(chunk)
        frames, self._frames = self._frames, []
        return frames

    async def opened(self):
        """Read the beginning of the stream, up to its first id-only block; its control frames."""
        frames = await self.until(lambda me: me.decoder.last_event_id)
        self._frames = [frame for frame in frames if is_data(frame)]
        return [frame for frame in frames if not is_data(frame)]

    async def events(self, count):
        """The next ``count`` data frames."""
        frames = await self.until(lambda me: sum(is_data(frame) for frame in me._frames) >= count)
        return [frame for frame in frames if is_data(frame)]

    async def end(self):
        """All frames to the stream's end."""
        with suppress(EOFError):
            await self.until(lambda _: False)
        frames, self._frames = self._frames, []
        return frames


def is_data(frame):
    """Types have an underscore, control frames have none."""
    return "_" in frame.event


def offsets(frames):
    return [int(frame.id.rpartition(".")[2]) for frame in frames]


def event(number=1, project="apollo", type="my_event", data=None, **attributes):
    time = datetime.fromtimestamp(1_790_000_000 + number, UTC).replace(microsecond=number % 1_000_000)
    return Event.new(
        type, {"n": number} if data is None else data, project=project, id=f"event-{number}", time=time, **attributes
    )


@asynccontextmanager
async def running(broker=None, port=0, **settings):
    """A server with these settings over the broker (a MemoryBroker of its own without one); HTTPS if ``tls_cert``."""
    async with AsyncExitStack() as stack:
        if broker is None:
            broker = MemoryBroker()
            stack.push_async_callback(broker.aclose)
        sock = bind("127.0.0.1", port)
        stack.callback(sock.close)  # a server that does not come up leaves it to us
        certificate = settings.get("tls_cert")
        url = f"{'https' if certificate else 'http'}://127.0.0.1:{sock.getsockname()[1]}"
        shutdown, ready = asyncio.Event(), asyncio.get_running_loop().create_future()

        async def on_ready(app):
            ready.set_result(app)

        task = asyncio.create_task(serve(broker, Settings(**settings), sock, shutdown=shutdown, ready=on_ready))
        await asyncio.wait({task, ready}, return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            await task
        trusted = ssl.create_default_context(cafile=certificate) if certificate else True
        connector = aiohttp.TCPConnector(limit=0, ssl=trusted)
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=5, sock_read=TIMEOUT_S)
        http = await stack.enter_async_context(aiohttp.ClientSession(connector=connector, timeout=timeout))
        server = Server(url, broker, ready.result(), http, shutdown, task)
        try:
            yield server
        finally:
            shutdown.set()
            await asyncio.wait_for(task, TIMEOUT_S)
