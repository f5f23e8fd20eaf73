"""`Connection`: Quart routes, authorises and answers; then an event stream leaves its response machinery.

Quart serves a request with two tasks. A route that returns a `StreamResponse` ends both: the response is begun, and
the connection's own task goes on alone, waiting for the client to leave, while the hub writes.
"""

from __future__ import annotations

import asyncio
from functools import lru_cache
from typing import Any

from hypercorn.typing import ASGIReceiveCallable, ASGISendCallable, HTTPResponseStartEvent, HTTPScope, WebsocketScope
from quart import Quart, Request, Response, Websocket
from quart.asgi import ASGIHTTPConnection, ASGIWebsocketConnection
from quart.typing import ResponseTypes
from quart.utils import encode_headers

from syndarix_rt.server.stream import Stream

__all__ = ["Connection", "SocketConnection", "StreamResponse"]


class StreamResponse(Response):
    """What a route returns to let the connection become an event stream."""

    def __init__(self, stream: Stream) -> None:
        super().__init__(
            b"",
            content_type="text/event-stream; charset=utf-8",
            headers={"cache-control": "no-store, no-transform", "x-accel-buffering": "no"},
        )
        del self.headers["content-length"]
        self.stream = stream


class Connection(ASGIHTTPConnection):
    """Quart's, for ``app.asgi_http_class``. Overrides one underscore method, which a test holds to the pinned Quart."""

    def __init__(self, app: Quart, scope: HTTPScope) -> None:
        super().__init__(app, scope)
        self._stream: Stream | None = None
        self._receiving: asyncio.Task[None] | None = None
        self._gone = False

    async def __call__(self, receive: ASGIReceiveCallable, send: ASGISendCallable) -> None:
        """Serve a request."""
        await super().__call__(receive, send)
        if self._stream is not None and not self._gone:
            self.scope["headers"] = ()  # read by now, and kept by the server below as long as the stream
            await self._stream.serve(receive, send, chunked=self.scope["http_version"] == "1.1")

    async def handle_request(self, request: Request, send: ASGISendCallable) -> None:
        """Answer it. Quart 0.23 would go on receiving until the client has left."""
        await super().handle_request(request, send)
        if self._stream is not None and self._receiving is not None:
            self._receiving.cancel()

    async def handle_messages(self, request: Request, receive: ASGIReceiveCallable, *request_task: Any) -> None:
        """Receive the request; it returns when the client has left, which is said once, or as a stream begins."""
        self._receiving = asyncio.current_task()
        try:
            if self._stream is None:
                await super().handle_messages(request, receive, *request_task)
                self._gone = True
        except asyncio.CancelledError:
            if self._stream is None:
                raise

    async def _send_response(self, send: ASGISendCallable, response: ResponseTypes) -> None:
        if isinstance(response, StreamResponse) and self.scope["method"] != "HEAD":
            await send(_start(response.status_code, tuple(encode_headers(response.headers))))
            self._stream = response.stream
        else:  # HEAD asks for the headers, and waits for the end
            await super()._send_response(send, response)


class SocketConnection(ASGIWebsocketConnection):
    """Quart's, for ``app.asgi_websocket_class``: it ends with its route, where Quart 0.23 waits for the client."""

    def __init__(self, app: Quart, scope: WebsocketScope) -> None:
        super().__init__(app, scope)
        self._receiving: asyncio.Task[None] | None = None
        self._ended = False

    async def handle_websocket(self, websocket: Websocket, send: ASGISendCallable) -> None:
        """Run the route."""
        await super().handle_websocket(websocket, send)
        self._ended = True
        if self._receiving is not None:
            self._receiving.cancel()

    async def handle_messages(self, *args: Any) -> None:
        """Receive for the route, until it has ended."""
        self._receiving = asyncio.current_task()
        try:
            if not self._ended:
                await super().handle_messages(*args)
        except asyncio.CancelledError:
            if not self._ended:
                raise


@lru_cache(64)  # the server below keeps it as long as the stream, so one serves all that are alike
def _start(status: int, headers: tuple[tuple[bytes, bytes], ...]) -> HTTPResponseStartEvent:
    return {"type": "http.response.start", "status": status, "headers": headers}
