"""`Connection`: Quart routes, authorises and answers; then an event stream leaves its response machinery.

Quart serves a request with two tasks. A route that returns a `StreamResponse` ends both: the response is begun, and
the connection's own task goes on alone, waiting for the client to leave, while the hub writes.

Here a request is counted, too, as long as it is under way, and so are the bytes of its body: what is too much is
answered before anything else looks at it.
"""

from __future__ import annotations

import asyncio
from functools import lru_cache
from typing import Any

from hypercorn.typing import (
    ASGIReceiveCallable,
    ASGIReceiveEvent,
    ASGISendCallable,
    HTTPResponseStartEvent,
    HTTPScope,
    WebsocketScope,
)
from quart import Quart, Request, Response, Websocket
from quart.asgi import ASGIHTTPConnection, ASGIWebsocketConnection
from quart.typing import ResponseTypes
from quart.utils import encode_headers
from quart.wrappers.request import Body

from syndarix_rt.server.access import OPEN_PATHS, SAFE_METHODS
from syndarix_rt.server.limits import REQUEST_BYTES, Limits, client_of
from syndarix_rt.server.problems import Problem
from syndarix_rt.server.stream import Stream
from syndarix_rt.server.throttle import PUBLISHER

__all__ = ["BoundedRequest", "Connection", "SocketConnection", "StreamResponse", "hold_history"]

UNCOUNTED = (*OPEN_PATHS, "/metrics")
"""Paths that answer at any load: of those who look why there is so much."""

HISTORY = "syndarix_rt.history"
"""In a request's scope: it holds a page of history."""


class _Body(Body):
    """A request's body, which may turn out to be too much."""

    @property
    def failed(self) -> bool:
        """Whether nobody will read it."""
        return self._must_raise is not None

    def fail(self, error: Exception) -> None:
        """Raise this where it is read, and forget what came."""
        self._must_raise = error
        self.clear()
        self.set_complete()


class BoundedRequest(Request):
    """Quart's, for ``app.request_class``."""

    body_class = _Body
    body: _Body


def hold_history(request: Request, limits: Limits) -> None:
    """Count a page of history, until the response has gone out.

    Raises:
        Problem: there are too many.
    """
    scope: Any = request.scope  # a dict, in which ASGI leaves room for more
    limits.histories.take(_client(scope))
    scope[HISTORY] = True


def _client(scope: Any) -> str:
    return client_of((scope.get("client") or ("",))[0])


def _limits(app: Quart) -> Limits:
    limits: Limits = app.extensions["syndarix_rt"].limits
    return limits


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
        self._body_bytes = 0
        self._is_whole = scope["method"] in SAFE_METHODS

    async def __call__(self, receive: ASGIReceiveCallable, send: ASGISendCallable) -> None:
        """Serve a request, unless there are too many."""
        quota, client = _limits(self.app).requests, _client(self.scope)
        is_counted = self.scope["path"] not in UNCOUNTED
        try:
            if is_counted:
                quota.take(client)
        except Problem as problem:
            await _refuse(problem, "http", send, closes=self.scope["http_version"] == "1.1")
            return
        try:
            try:
                await super().__call__(receive, send)
            finally:
                self._give_back()
            if self._stream is not None and not self._gone:
                self.scope["headers"] = ()  # read by now, and kept by the server below as long as the stream
                await self._stream.serve(receive, send, chunked=self.scope["http_version"] == "1.1")
        finally:
            if is_counted:
                quota.give(client)

    def _give_back(self) -> None:
        """What it held but for itself; and what it has published counts."""
        limits, client = _limits(self.app), _client(self.scope)
        if self._body_bytes:
            limits.bodies.give(client, self._body_bytes)
        scope: Any = self.scope
        if HISTORY in scope:
            limits.histories.give(client)
        if (publisher := scope.get(PUBLISHER)) is not None:
            limits.publish.charge(publisher, max(REQUEST_BYTES, self._body_bytes))

    async def handle_request(self, request: Request, send: ASGISendCallable) -> None:
        """Answer it. Quart 0.23 would go on receiving until the client has left."""
        await super().handle_request(request, send)
        if self._stream is not None and self._receiving is not None:
            self._receiving.cancel()

    async def handle_messages(self, request: Request, receive: ASGIReceiveCallable, *request_task: Any) -> None:
        """Receive the request; it returns when the client has left, which is said once, or as a stream begins."""
        self._receiving = asyncio.current_task()
        bodies, client = _limits(self.app).bodies, _client(self.scope)

        async def counted() -> ASGIReceiveEvent:
            message = await receive()
            assert isinstance(request, BoundedRequest)
            if message["type"] == "http.request" and not message["more_body"]:
                self._is_whole = True
            if message["type"] == "http.request" and (size := len(message["body"])) and not request.body.failed:
                try:
                    bodies.take(client, size)
                    self._body_bytes += size
                except Problem as problem:
                    request.body.fail(problem)
            return message

        try:
            if self._stream is None:
                await super().handle_messages(request, counted, *request_task)
                self._gone = True
        except asyncio.CancelledError:
            if self._stream is None:
                raise
        finally:
            self._receiving = None  # a task that has ended keeps all that it was made of

    async def _send_response(self, send: ASGISendCallable, response: ResponseTypes) -> None:
        if isinstance(response, StreamResponse) and self.scope["method"] != "HEAD":
            await send(_start(response.status_code, tuple(encode_headers(response.headers))))
            self._stream = response.stream
        else:  # HEAD asks for the headers, and waits for the end
            if not self._is_whole and self.scope["http_version"] == "1.1" and isinstance(response, Response):
                response.headers["connection"] = "close"  # what is left of the request is not read: it is not kept
            await super()._send_response(send, response)


class SocketConnection(ASGIWebsocketConnection):
    """Quart's, for ``app.asgi_websocket_class``: it ends with its route, where Quart 0.23 waits for the client."""

    def __init__(self, app: Quart, scope: WebsocketScope) -> None:
        super().__init__(app, scope)
        self._receiving: asyncio.Task[None] | None = None
        self._ended = False

    async def __call__(self, receive: ASGIReceiveCallable, send: ASGISendCallable) -> None:
        """Serve a WebSocket, unless there are too many; then the upgrade is refused."""
        quota, client = _limits(self.app).requests, _client(self.scope)
        try:
            quota.take(client)
        except Problem as problem:
            await _refuse(problem, "websocket.http", send, closes=self.scope["http_version"] == "1.1")
            return
        try:
            await super().__call__(receive, send)
        finally:
            quota.give(client)

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
        finally:
            self._receiving = None


async def _refuse(problem: Problem, kind: str, send: Any, *, closes: bool = False) -> None:
    """Answer with a problem in the place of the app."""
    response = problem.response()
    if closes:
        response.headers["connection"] = "close"
    status, headers = response.status_code, encode_headers(response.headers)
    await send({"type": f"{kind}.response.start", "status": status, "headers": headers})
    await send({"type": f"{kind}.response.body", "body": await response.get_data(as_text=False), "more_body": False})


@lru_cache(64)  # the server below keeps it as long as the stream, so one serves all that are alike
def _start(status: int, headers: tuple[tuple[bytes, bytes], ...]) -> HTTPResponseStartEvent:
    return {"type": "http.response.start", "status": status, "headers": headers}
