"""Behind proxies: whose word on the client is believed, and the path below which the world sees us.

A proxy appends to ``X-Forwarded-For`` whom it heard; what stands further left came from outside, and anybody may have
written it. So the value that counts is the one that the outermost proxy of ours wrote: the n-th from the right of n.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hypercorn.typing import ASGIReceiveCallable, ASGISendCallable
    from quart import Quart

    from syndarix_rt.server.settings import Settings

__all__ = ["install"]

Headers = list[tuple[bytes, bytes]]

SCHEMES = {b"http": "http", b"https": "https", b"ws": "http", b"wss": "https"}


def install(app: Quart, settings: Settings) -> None:
    """Put the correction of scopes before the app, where one is asked for."""
    if settings.proxy_hops or settings.root_path:
        app.asgi_app = _Behind(app.asgi_app, settings)  # type: ignore[method-assign]  # Quart's way to add middleware


class _Behind:
    def __init__(self, app: Any, settings: Settings) -> None:
        self._app = app
        self._hops = settings.proxy_hops
        self._root_path = settings.root_path

    async def __call__(self, scope: Any, receive: ASGIReceiveCallable, send: ASGISendCallable) -> None:
        if scope["type"] in ("http", "websocket"):
            scope = self._corrected(scope)
        await self._app(scope, receive, send)

    def _corrected(self, scope: dict[str, Any]) -> dict[str, Any]:
        scope = dict(scope)  # the server's own is left as it was
        if self._root_path:
            scope["root_path"] = self._root_path
            if not scope["path"].startswith(self._root_path + "/"):  # a proxy that takes the prefix away
                scope["path"] = self._root_path + scope["path"]
        if self._hops:
            headers: Headers = list(scope["headers"])
            if client := self._told(headers, b"x-forwarded-for"):
                scope["client"] = (_address(client), 0)
            if scheme := SCHEMES.get(self._told(headers, b"x-forwarded-proto").lower()):
                socket = scope["type"] == "websocket"
                scope["scheme"] = scheme.replace("http", "ws") if socket else scheme
            if host := self._told(headers, b"x-forwarded-host"):
                scope["headers"] = [(name, value) for name, value in headers if name.lower() != b"host"]
                scope["headers"].append((b"host", host))
        return scope

    def _told(self, headers: Iterable[tuple[bytes, bytes]], name: bytes) -> bytes:
        """What the outermost trusted proxy said; empty if fewer than those have spoken, so somebody went round them."""
        values = [part.strip() for key, value in headers if key.lower() == name for part in value.split(b",")]
        return values[-self._hops] if len(values) >= self._hops else b""


def _address(text: bytes) -> str:
    """The address alone: some proxies add the port, and IPv6 stands in brackets then."""
    address = text.decode("latin-1")
    if address.startswith("["):
        return address[1:].partition("]")[0]
    return address.partition(":")[0] if address.count(":") == 1 else address
