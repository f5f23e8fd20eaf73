"""``doctor``: looks at what a server needs here, and measures what a proxy does to its streams."""

# ruff: noqa: PLC0415 - what a command needs is loaded when it runs; see serving.py

from __future__ import annotations

import asyncio
import os
import re
import secrets
import socket
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from http import HTTPStatus
from importlib import metadata
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, NamedTuple

import click

from syndarix_rt.cli.console import run
from syndarix_rt.cli.options import PORTS, option, redis_url_option, url_option
from syndarix_rt.cli.serving import PORT
from syndarix_rt.errors import BrokerError, StreamError, SyndarixError

if TYPE_CHECKING:
    from syndarix_rt.client import Api

__all__ = ["Finding"]

PROJECT = "doctor-check"
ROUNDS = 5
PAUSE_S = 0.1
ARRIVE_S = 3.0
"""An event that takes longer was kept back by somebody: no network is so slow that anybody would watch over it."""

DESCRIPTORS = 4096
"""Each stream takes one; fewer than these are used up by a demo with many tabs, or by a benchmark."""

BACKLOG = 2048
"""As the server asks for: the clients of a restarted one come all at once."""

MIN_REDIS = 7


class Finding(NamedTuple):
    """One thing that was looked at."""

    what: str
    text: str
    """What was seen, and what to do about it unless it is good."""
    is_good: bool


def _good(what: str, text: str) -> Finding:
    return Finding(what, text, is_good=True)


def _mend(what: str, text: str) -> Finding:
    return Finding(what, text, is_good=False)


@click.command("doctor")
@redis_url_option
@url_option
@option("--port", type=PORTS, metavar="N", default=PORT, help="Where a server is to listen.")
def doctor_command(*, redis_url: str | None, url: str | None, port: int) -> None:
    """Look at Redis, ports, limits and packages, and measure whether events arrive at once.

    With --url they are sent and received through that address, with every proxy on the way, in the project
    "doctor-check", which is emptied again. Exits with 1 if there is anything to mend.
    """
    from syndarix_rt.state import running_servers

    if not url and (running := running_servers()):
        url = running[0].url
    mend = 0

    async def examine() -> None:
        nonlocal mend
        async for finding in _findings(redis_url, url, port):
            mend += not finding.is_good
            mark = click.style("good", fg="green") if finding.is_good else click.style("mend", fg="red", bold=True)
            click.echo(f"{mark}  {finding.what:<9} {finding.text}")

    run(examine())
    if mend:
        sys.exit(1)


async def _findings(redis_url: str | None, url: str | None, port: int) -> AsyncIterator[Finding]:
    for finding in (*_packages(), *_limits(), _port(port)):
        yield finding
    async for finding in _redis(redis_url):
        yield finding
    if url is None:
        yield _good("server", "none of yours runs here; name one with --url to measure the way to it")
    else:
        async for finding in _way(url):
            yield finding


# ---- this machine ---------------------------------------------------------------------------------------------------


def _packages() -> Iterator[Finding]:
    """What our own distribution asks for, beside what is installed; extras that lack something are named only."""
    import syndarix_rt

    wrong: list[str] = []
    lacking: dict[str, list[str]] = {}
    for line in metadata.requires("syndarix-rt") or []:
        requirement, _, marker = line.partition(";")
        match = re.match(r"[\w.-]+", requirement)
        assert match
        extra = re.search(r"extra == '(\w+)'", marker)
        bounds = re.findall(r"(>=|<|==)\s*([\d.]+)", requirement)
        try:
            found = metadata.version(match[0])
        except metadata.PackageNotFoundError:
            if extra:
                lacking.setdefault(extra[1], []).append(match[0])
            elif not marker:  # else it is none for this platform
                wrong.append(f"{match[0]} is missing")
            continue
        if not all(_holds(found, sign, bound) for sign, bound in bounds):
            wrong.append(f"{match[0]} {found} is installed, {requirement.strip()} is needed")
    ours = f"syndarix-rt {syndarix_rt.__version__}, Python {sys.version.split()[0]}"
    if wrong:
        yield _mend("packages", f"{ours}: {'; '.join(wrong)}; install it anew: pip install -U syndarix-rt")
        return
    lacking.pop("test", None)
    rest = "; ".join(f"without [{name}] ({', '.join(names)})" for name, names in sorted(lacking.items()))
    yield _good("packages", f"{ours}, all that it needs" + (f"; {rest}" if rest else " and all extras"))


def _holds(version: str, sign: str, bound: str) -> bool:
    have, want = ([int(part) for part in re.findall(r"\d+", text)[:4]] for text in (version, bound))
    have += [0] * (len(want) - len(have))
    return {">=": have >= want, "<": have < want, "==": have[: len(want)] == want}[sign]


def _limits() -> Iterator[Finding]:
    try:
        import resource
    except ImportError:  # Windows has no such limits
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    many = soft == resource.RLIM_INFINITY or soft >= DESCRIPTORS
    text = f"{'any number of' if soft == resource.RLIM_INFINITY else soft} open files; each stream takes one"
    if not many:
        allowed = (
            "" if hard == resource.RLIM_INFINITY or hard >= 16 * DESCRIPTORS else f" (at most {hard} as this user)"
        )
        text += f": ulimit -n {16 * DESCRIPTORS} in the shell that starts the server{allowed}"
    yield Finding("limits", text, is_good=many)
    with suppress(OSError, ValueError):  # Linux
        queue = int(Path("/proc/sys/net/core/somaxconn").read_text("ascii"))
        text = f"{queue} connections may wait to be accepted"
        if queue < BACKLOG:
            text += f", fewer than come after a restart: sysctl -w net.core.somaxconn={2 * BACKLOG}"
        yield Finding("limits", text, is_good=queue >= BACKLOG)


def _port(port: int) -> Finding:
    from syndarix_rt.state import running_servers

    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            if any(f":{port}/" in server.url for server in running_servers()):
                return _good("port", f"{port} is taken by a server of yours")
            reason = error.strerror or str(error)
            return _mend("port", f"{port} cannot be had ({reason}); choose another: --port 0 takes a free one")
    return _good("port", f"{port} is free")


# ---- Redis ----------------------------------------------------------------------------------------------------------


async def _redis(url: str | None) -> AsyncIterator[Finding]:
    from syndarix_rt.broker import MemoryBroker
    from syndarix_rt.broker.factory import durability_warnings, open_broker, redis_facts, without_credentials

    url = url or os.environ.get("SYNDARIX_RT_REDIS_URL")
    place = f"at {without_credentials(url)}" if url else "embedded"
    try:
        broker = await open_broker(url)
    except (SyndarixError, OSError) as error:
        yield _mend("redis", f"{place}: {error}")
        return
    try:
        if isinstance(broker, MemoryBroker):
            yield _good("redis", "none: events are kept in the server's process, and end with it")
            return
        delays_ms = []
        for _ in range(ROUNDS):
            began_s = time.perf_counter()
            await broker.ping()
            delays_ms.append((time.perf_counter() - began_s) * 1e3)
        facts = next(iter((await redis_facts(broker)).values()), {})  # the masters of a cluster are much alike
        version = facts.get("valkey_version") or facts.get("redis_version")
        if version is None:
            yield _good("redis", f"{place} answers; this user may not ask for its version and durability")
            return
        name = "Valkey" if "valkey_version" in facts else "Redis"
        text = f"{name} {version} {place}, {median(delays_ms):.1f} ms away, {facts.get('used_memory_human', '?')} used"
        old = int(version.partition(".")[0]) < MIN_REDIS
        yield _mend("redis", f"{text}; version {MIN_REDIS} or later is needed") if old else _good("redis", text)
        warnings = await durability_warnings(broker)
        for warning in warnings:
            yield _mend("redis", warning)
        if not warnings:
            yield _good("redis", "writes an append-only file, and evicts nothing")
    except BrokerError as error:
        yield _mend("redis", str(error))
    finally:
        await broker.aclose()


# ---- the way to a server --------------------------------------------------------------------------------------------


async def _way(url: str) -> AsyncIterator[Finding]:
    from syndarix_rt.client import Api, parse_server_url
    from syndarix_rt.delivery import Position

    try:
        base = parse_server_url(url).base_url
        async with Api(url) as api:
            await api.position(PROJECT)
            arrival = await _arrival(url, base)
            yield arrival
            yield await _socket(url, base)
            if arrival.is_good:
                yield await _path(url, api)
            with suppress(StreamError):  # may publish, may not reset
                await api.ask(Position, "DELETE", f"/projects/{PROJECT}/events")
    except StreamError as error:
        yield _mend("server", str(error))


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
        return _mend(
            "stream",
            f"{base}: what the server sends is held back for more than {ARRIVE_S:.0f} s; a proxy on the way buffers. "
            "It must heed X-Accel-Buffering, or not buffer text/event-stream (nginx: proxy_buffering off), "
            "nor compress it",
        )
    except StreamError as error:
        return _mend("stream", str(error))
    return _good("stream", f"{base}: events arrive at once, {median(delays_ms):.1f} ms after they are sent")


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
            return _good("path", "this token may not ask which way streams take inside the server")
        return _mend("path", str(error))
    except TimeoutError:
        return _mend("path", "the server does not say which way streams take inside it; is it of this version?")
    text = ", ".join(f"{count} {_PATHS.get(reason, reason)}" for reason, count in counts.items() if count)
    if counts.get("hypercorn"):
        return _mend("path", f"{text}; install what is needed: pip install -U syndarix-rt")
    return _good("path", f"of the streams that are open now: {text}")


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
        async with asyncio.timeout(ARRIVE_S), ChatClient(url, PROJECT, name="doctor") as chat:
            await chat.ready()
    except (TimeoutError, StreamError) as error:
        return _mend(
            "socket",
            f"{base}: no WebSocket comes through ({error or 'no answer'}); the proxy must pass on Upgrade and "
            "Connection, as docs/nginx.conf does",
        )
    return _good("socket", f"{base}: WebSockets come through")
