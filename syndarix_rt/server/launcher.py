"""Serve the app with Hypercorn: our socket, our way to end, one process.

Hypercorn's own shutdown knows nothing of streams that never end: on Python 3.12 and later it would wait for them for
ever. So the trigger that we give it first drains the hub, then returns; and a hard deadline stands behind both.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec
import structlog
from hypercorn.asyncio import serve as hypercorn_serve
from quart import Quart

from syndarix_rt.broker.protocol import Broker
from syndarix_rt.server import admission, footprint, http2, logs
from syndarix_rt.server.app import create_app
from syndarix_rt.server.hub import Hub
from syndarix_rt.server.settings import Settings
from syndarix_rt.server.settling import Settling
from syndarix_rt.server.socket import MAX_MESSAGE_BYTES

__all__ = ["bind", "loop_factory", "serve"]

BACKLOG = 2048
"""Connections that may wait to be accepted: all clients of a restarted server come at once."""

UNSENT_BYTES = 128 * 1024
"""What the kernel takes for a client beyond what is under way to it: a piece of the largest kind, or some flushes of a
fire hose. Without a limit it takes 4 MiB for each that does not read, and a few hundred of those use up what there is
for the connections of all; with four times as much, 500 that stopped reading held up the others for 0.7 s, while the
kernel found the memory."""

GRACE_S = 1.0
"""After the drain, requests in flight may still end for so long; then all connections are cut."""

SPARE_FILES = 100
"""Descriptors that are for other things than connections: Redis, logs, and who is being turned away."""

PORTS_TRIED = 100
"""More busy ports in a row than this are no coincidence."""


def bind(
    host: str,
    port: int,
    *,
    or_next_free: bool = False,
    stall_s: float = 30.0,  # as `Settings`
    shared: bool = False,
    listen: bool = True,
) -> socket.socket:
    """A listening socket, whose options its connections inherit.

    Args:
        host: name or address; IPv6 too.
        port: 0 for any free one.
        or_next_free: take one of the next ports if this one is busy.
        stall_s: give a connection up that takes no byte, or does not answer, for so long.
        shared: let other sockets of this user that are shared, too, have the same port (``SO_REUSEPORT``); the kernel
            spreads connections over those that listen.
        listen: false only holds the port.

    Raises:
        OSError: the port is busy, or the address is not ours.
    """
    family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    last = min(port + PORTS_TRIED - 1, 65535) if or_next_free and port else port
    for candidate in range(port, last + 1):
        sock = socket.socket(family, kind, protocol)
        try:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if shared:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            # A peer that vanished without a word (sleep, Wi-Fi, NAT) is found by the kernel: 15 + 3 × 5 seconds.
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            for name, value in (
                ("TCP_KEEPIDLE", 15),
                ("TCP_KEEPINTVL", 5),
                ("TCP_KEEPCNT", 3),
                ("TCP_USER_TIMEOUT", int(stall_s * 1000)),
                ("TCP_NOTSENT_LOWAT", UNSENT_BYTES),
            ):
                if hasattr(socket, name):  # Linux has them all, others some
                    sock.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
            sock.bind((address[0], candidate, *address[2:]))
            if listen:
                sock.listen(BACKLOG)
        except OSError:
            sock.close()
            if candidate == last:
                raise
        else:
            return sock
    raise AssertionError("the last failure was raised")


def loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """Uvloop's where it is installed: less latency under load, and none of asyncio's hang at shutdown."""
    try:
        import uvloop  # noqa: PLC0415 - optional, and not on every platform
    except ImportError:
        return None
    factory: Callable[[], asyncio.AbstractEventLoop] = uvloop.new_event_loop
    return factory


async def serve(
    broker: Broker,
    settings: Settings,
    sock: socket.socket,
    *,
    shutdown: asyncio.Event | None = None,
    ready: Callable[[Quart], Awaitable[None]] | None = None,
) -> None:
    """Serve until SIGINT, SIGTERM or ``shutdown``; then drain and return. A second signal cuts the drain short.

    Args:
        broker: stays open; the caller closes it.
        settings: see there.
        sock: a listening socket from :func:`bind`; closed at the end.
        shutdown: set it to end the server. Without it, the process is the server's: it handles signals (main thread
            only) and tends the collector of garbage.
        ready: awaited once requests are answered.
    """
    settings = msgspec.structs.replace(settings, max_connections=_attainable(settings.max_connections))
    app = create_app(broker, settings)
    hub: Hub = app.extensions["syndarix_rt"]
    ending = shutdown or asyncio.Event()
    hurry = asyncio.Event()
    loop = asyncio.get_running_loop()
    handled: list[signal.Signals] = []
    if shutdown is None:

        def on_signal() -> None:
            (hurry if ending.is_set() else ending).set()

        for number in (signal.SIGINT, signal.SIGTERM):
            try:
                loop.add_signal_handler(number, on_signal)
                handled.append(number)
            except NotImplementedError:  # Windows
                signal.signal(number, lambda *_: loop.call_soon_threadsafe(on_signal))

    sock_port = sock.getsockname()[1]
    admission.install()
    footprint.install()
    config = admission.BoundedConfig()
    config.limits = hub.limits
    config.ssl_handshake_timeout = admission.HANDSHAKE_S
    config.bind = [f"fd://{sock.detach()}"]
    config.accesslog = None  # a stream's line would come at its end; connections are logged by us
    config.errorlog = _quiet_logger()
    logs.install(settings.token, config.errorlog, app.logger)
    config.backlog = BACKLOG
    http2.install()
    config.h2_max_concurrent_streams = http2.MAX_STREAMS
    config.include_server_header = False
    config.websocket_max_message_size = MAX_MESSAGE_BYTES
    config.graceful_timeout = GRACE_S + 2.0  # Hypercorn cancels later than we cut, so it has nothing to cancel
    if settings.tls_cert is not None:
        config.certfile = str(settings.tls_cert)
        config.keyfile = str(settings.tls_key or settings.tls_cert)

    drained = asyncio.Event()

    async def trigger() -> None:
        if ready is not None:
            await ready(app)
        await ending.wait()
        await _first(hub.drain(), hurry.wait())
        drained.set()

    server = asyncio.create_task(hypercorn_serve(app, config, shutdown_trigger=trigger, mode="asgi"))
    settling = asyncio.create_task(Settling(hub).run()) if shutdown is None else None
    try:
        await _first(asyncio.shield(server), drained.wait())
        await _first(asyncio.shield(server), hurry.wait(), asyncio.sleep(GRACE_S))
        if not server.done() and (cut := _cut_connections(sock_port)):
            structlog.get_logger("syndarix_rt.server").warning("connections did not end in time; cut", count=cut)
        await server
    finally:
        tasks = [task for task in (server, settling) if task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for number in handled:
            loop.remove_signal_handler(number)


def _attainable(connections: int) -> int:
    """As many of these as the process may have open: a server that runs out of descriptors takes nobody at all."""
    try:
        import resource  # noqa: PLC0415 - Windows has no such limits
    except ImportError:
        return connections
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return connections if soft == resource.RLIM_INFINITY else min(connections, max(1, soft - SPARE_FILES))


def _cut_connections(port: int) -> int:
    """Shut down every connection that came in at our port; how many there were.

    No public interface of Hypercorn reaches a transport whose peer does not read, so this goes by the descriptors.
    """
    cut = 0
    directory = Path("/dev/fd")  # Linux and macOS; elsewhere the process ends without this
    for entry in list(directory.iterdir()) if directory.is_dir() else ():
        with suppress(OSError):  # not a socket, or gone meanwhile
            number = os.dup(int(entry.name))
            try:
                connection = socket.socket(fileno=number)
            except OSError:
                os.close(number)
                continue
            with connection:
                inet = connection.family in (socket.AF_INET, socket.AF_INET6)
                if inet and connection.getsockname()[1] == port and connection.getpeername():
                    connection.shutdown(socket.SHUT_RDWR)
                    cut += 1
    return cut


async def _first(*awaitables: Any) -> None:
    """Return when the first of them is done; cancel the others."""
    tasks = [asyncio.ensure_future(awaitable) for awaitable in awaitables]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def _quiet_logger() -> logging.Logger:
    """Hypercorn's faults, without its greeting (we print the URL ourselves)."""
    logger = logging.getLogger("hypercorn.error")
    logger.setLevel(logging.WARNING)
    return logger
