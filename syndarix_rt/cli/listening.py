"""A server and what it listens on, for ``serve`` and ``demo``: socket, certificate, secret, and how it is found."""

# ruff: noqa: PLC0415 - what a command needs is loaded when it runs; see serving.py

from __future__ import annotations

import errno
import ipaddress
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import quote

import click

from syndarix_rt._version import __version__
from syndarix_rt.cli.certificate import self_signed
from syndarix_rt.cli.console import say
from syndarix_rt.cli.options import TOKEN, option, redis_url_option
from syndarix_rt.cli.tools import new_token
from syndarix_rt.errors import SyndarixError

if TYPE_CHECKING:
    from syndarix_rt.broker import Broker, Retention
    from syndarix_rt.cli.workers import Workers
    from syndarix_rt.server import Settings

__all__ = ["PORT", "Server", "certificate", "checked_token", "listening", "open_server", "present"]

PORT = 8765
"""Near Jupyter's 8888, and nothing well known listens there."""


def listening(command: Any) -> Any:
    """The options of whatever listens."""
    for decorate in (
        redis_url_option,
        option(
            "--token",
            type=TOKEN,
            show_default="a new one",
            help="The secret that clients must show. '' switches it off; on a loopback address only.",
        ),
        option(
            "--host", default="127.0.0.1", metavar="NAME", help="Where to listen: a name or address of this machine."
        ),
        option(
            "--tls",
            type=click.Choice(["self-signed"]),
            show_default="HTTP",
            help="HTTPS and HTTP/2 with a certificate made now, which browsers warn of.",
        ),
    ):
        command = decorate(command)
    return command


def certificate(tls: str | None, host: str) -> Path | None:
    """The certificate that ``--tls`` asks for; None if it does not."""
    if tls is None:
        return None
    path = self_signed(host)
    say(f"nobody has signed the certificate, so browsers warn; clients of ours trust it with SSL_CERT_FILE={path}")
    return path


def checked_token(token: str | None, host: str) -> str | None:
    """The token to use: a new one if none was given; None if it is switched off."""
    if token is None:
        return new_token()
    if token == "" and not _is_loopback(host):
        raise click.BadParameter(
            f"{host} can be reached from other machines, so a secret is needed; leave --token out to get one.",
            param_hint="--token",
        )
    return token or None


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"


class Server(NamedTuple):
    """What listens, and where events are kept."""

    broker: Broker
    sock: socket.socket
    settings: Settings
    base_url: str
    workers: Workers | None = None
    """Who serves, if not this process."""

    def url(self, path: str) -> str:
        """The URL to be printed: with the key, so that whoever sees the terminal can open it."""
        token = self.settings.token
        return f"{self.base_url}{path}" + (f"?key={quote(token, safe='')}" if token else "")

    async def serve(self, ready: Callable[[], None]) -> None:
        """Serve until a signal; ``ready`` is called once requests are answered."""
        from syndarix_rt.server import serve

        if self.workers is not None:
            await self.workers.serve(ready)
            return

        async def on_ready(_: object) -> None:
            ready()

        await serve(self.broker, self.settings, self.sock, ready=on_ready)


@asynccontextmanager
async def open_server(
    settings: Settings,
    port: int | None,
    redis_url: str | None,
    *,
    namespace: str = "",
    retention: Retention | None = None,
    workers: int = 1,
) -> AsyncIterator[Server]:
    """Listen, open the broker, and let other commands find the server; all of it ends with the context.

    Args:
        settings: of the server.
        port: None for the default or the next free one.
        redis_url: None for the embedded one.
        namespace: of the names in Redis.
        retention: of the logs.
        workers: processes that serve; this one, or so many others.
    """
    import structlog

    from syndarix_rt.broker import MemoryBroker, Retention
    from syndarix_rt.broker.factory import broker_or_memory
    from syndarix_rt.cli.workers import Workers
    from syndarix_rt.server.logs import StandardError
    from syndarix_rt.state import announce_server

    # The log is for people: it must not mix with what the command prints.
    structlog.configure(logger_factory=lambda *_: StandardError())
    retention = retention or Retention()
    with _bind(settings, port, shared=workers > 1) as sock:
        broker, remark = await broker_or_memory(redis_url, namespace=namespace, retention=retention)
        try:
            if remark:
                say(remark)
            in_memory = isinstance(broker, MemoryBroker)
            bound = sock.getsockname()[1]
            group = None
            if workers > 1:
                if in_memory:
                    raise SyndarixError("several workers need a Redis that all of them reach: see --redis-url")
                group = Workers(workers, bound, settings, redis_url=redis_url, namespace=namespace, retention=retention)
            server = Server(broker, sock, settings, _base_url(settings, bound), group)
            with announce_server(
                server.url("/"),
                memory=in_memory,
                broker_url=redis_url,
                namespace=namespace,
                retention=(retention.entries, retention.age_s, retention.bytes),
            ):
                yield server
        finally:
            await broker.aclose()


def _bind(settings: Settings, port: int | None, *, shared: bool) -> socket.socket:
    """The server's socket; if it is shared by workers, one that only holds the port for theirs."""
    from syndarix_rt.server import bind

    wanted = PORT if port is None else port
    try:
        if shared:  # shared from the start, it would also fit beside another server's workers
            bind(settings.host, wanted, or_next_free=port is None).close()
        return bind(
            settings.host,
            wanted,
            or_next_free=port is None,
            stall_s=settings.stall_s,
            shared=shared,
            listen=not shared,
        )
    except OSError as error:
        reason = error.strerror or str(error)
        hint = (
            "choose another with --port (0: any free one)" if error.errno == errno.EADDRINUSE else "see --host, --port"
        )
        raise SyndarixError(
            f"cannot listen on {settings.host}, port {PORT if port is None else port}: {reason}; {hint}"
        ) from error


def _base_url(settings: Settings, port: int) -> str:
    host = settings.host
    if host in ("", "0.0.0.0", "::"):  # noqa: S104 - all addresses: this machine reaches it by this one
        host = "127.0.0.1" if host != "::" else "::1"
    return f"{'https' if settings.tls_cert else 'http'}://{f'[{host}]' if ':' in host else host}:{port}"


def present(about: str, url: str) -> None:
    """Say what runs, and the URL last."""
    click.echo(f"Syndarix RT {__version__} {about}. Ctrl-C ends it.\n\n    {click.style(url, bold=True)}\n")
