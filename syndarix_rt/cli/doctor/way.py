"""The way to a server: what is sent through it, with every proxy on it, is timed until it comes back."""

# ruff: noqa: PLC0415 - what a command needs is loaded when it runs; see serving.py

from __future__ import annotations

import asyncio
import re
import secrets
import time
from collections.abc import AsyncIterator
from contextlib import suppress
from http import HTTPStatus
from statistics import median
from typing import TYPE_CHECKING

from syndarix_rt.cli.doctor.finding import PROJECT, Finding, good, mend
from syndarix_rt.errors import StreamError

if TYPE_CHECKING:
    from syndarix_rt.client import Api

__all__ = ["findings"]

ROUNDS = 5
PAUSE_S = 0.1
ARRIVE_S = 3.0
"""An event that takes longer was kept back by somebody: no network is so slow that anybody would watch over it."""

ANSWER_S = 10.0
"""A server that has not answered by then is one that hangs, or none."""


async def findings(url: str) -> AsyncIterator[Finding]:
    """Measure the way to the server of a URL, key included."""
    from syndarix_rt.client import Api, parse_server_url
    from syndarix_rt.delivery import Position

    base = parse_server_url(url).base_url
    try:
        async with Api(url) as api:
            async with asyncio.timeout(ANSWER_S):
                await api.position(PROJECT)
            arrival = await _arrival(url, base)
            yield arrival
            yield await _socket(url, base)
            if arrival.is_good:
                yield await _path(url, api)
            with suppress(StreamError):  # may publish, may not reset
                await api.ask(Position, "DELETE", f"/projects/{PROJECT}/events")
    except StreamError as error:
        yield mend("server", str(error))
    except TimeoutError:
        yield mend("server", f"{base}: no answer within {ANSWER_S:g} s")


async def _arrival(url: str, base: str) -> Finding:
    """Publish an event, wait until it comes back through the stream, then the next."""
    from datetime import UTC, datetime

    from syndarix_rt.client import EventStream, HttpPublisher
    from syndarix_rt.events import Event

    delays_ms: list[float] = []
    try:
        async with HttpPublisher(url, PROJECT, give_up_after_s=ARRIVE_S) as publisher:
            async with asyncio.timeout(ARRIVE_S), EventStream(url, PROJECT) as stream:
                pass  # that far it comes: the stream's beginning
            async with EventStream(url, PROJECT) as stream:
                for number in range(ROUNDS):
                    now = datetime.now(UTC)
                    event = Event.new(
                        "doctor_checked", {"n": number}, project=PROJECT, id=secrets.token_hex(8), time=now
                    )
                    began_s = time.perf_counter()
                    await publisher.publish([event])
                    async with asyncio.timeout(ARRIVE_S):
                        while getattr(await anext(stream), "id", "") != event.id:
                            pass
                    delays_ms.append((time.perf_counter() - began_s) * 1e3)
    except TimeoutError:
        return mend(
            "stream",
            f"{base}: what the server sends is held back for more than {ARRIVE_S:.0f} s; a proxy on the way buffers. "
            "It must heed X-Accel-Buffering, or not buffer text/event-stream (nginx: proxy_buffering off), "
            "nor compress it",
        )
    except StreamError as error:
        return mend("stream", str(error))
    return good("stream", f"{base}: events arrive at once, {median(delays_ms):.1f} ms after they are sent")


async def _path(url: str, api: Api) -> Finding:
    """Which way streams take inside the server, this one among them."""
    from syndarix_rt.client import EventStream

    counts: dict[str, int] = {}
    try:
        async with asyncio.timeout(ARRIVE_S), EventStream(url, PROJECT):
            while not any(counts.values()):  # of several workers, another may have it, and tell a second later
                counts = {reason: int(count) for reason, count in _STREAM_PATHS.findall(await api.metrics())}
                await asyncio.sleep(PAUSE_S)
    except StreamError as error:
        if error.status == HTTPStatus.FORBIDDEN:
            return good("path", "this token may not ask which way streams take inside the server")
        return mend("path", str(error))
    except TimeoutError:
        return mend("path", "the server does not say which way streams take inside it; is it of this version?")
    text = ", ".join(f"{count} {_PATHS.get(reason, reason)}" for reason, count in counts.items() if count)
    if counts.get("hypercorn"):
        return mend("path", f"{text}; install what is needed: pip install -U syndarix-rt")
    return good("path", f"of the streams that are open now: {text}")


_STREAM_PATHS = re.compile(r'^syndarix_rt_stream_paths{path="\w+",reason="([^"]*)"} (\d+)', re.MULTILINE)
_PATHS = {
    "": "straight to the connection",
    "http/1.0": "through ASGI (HTTP/1.0: a proxy that could speak 1.1?)",
    "http/2": "through ASGI (HTTP/2)",
    "switched_off": "through ASGI (--fast-path off)",
    "hypercorn": "through ASGI (this Hypercorn is not what the fast path is made for)",
}


async def _socket(url: str, base: str) -> Finding:
    from syndarix_rt.client import ChatClient

    try:
        async with asyncio.timeout(ARRIVE_S), ChatClient(url, PROJECT) as chat:
            await chat.ready()
    except (TimeoutError, StreamError) as error:
        if not (isinstance(error, StreamError) and error.close_code):  # it came through, but may not chat
            return mend(
                "socket",
                f"{base}: no WebSocket comes through ({str(error) or 'no answer'}); the proxy must pass on Upgrade and "
                "Connection, as docs/nginx.conf does",
            )
    return good("socket", f"{base}: WebSockets come through")
