"""``serve``: a broker and a server in one process, or as many as are asked for."""

# ruff: noqa: PLC0415 - what a command needs is loaded when it runs: all of it takes a second, --help should not

from __future__ import annotations

import socket
import ssl
from pathlib import Path
from typing import TYPE_CHECKING

import click

from syndarix_rt.cli.console import run
from syndarix_rt.cli.listening import PORT, certificate, checked_token, listening, open_server, present
from syndarix_rt.cli.options import COUNT, ORIGIN, PATH, PORTS, RETENTION, SIZE, TOKEN, namespace_option, option
from syndarix_rt.errors import SyndarixError

if TYPE_CHECKING:
    from syndarix_rt.broker import Retention

__all__: list[str] = []


@click.command("serve")
@listening
@option("--port", type=PORTS, metavar="N", default=PORT, help="Where to listen; 0: any free port.")
@option("--workers", type=COUNT, metavar="N", default=1, help="Processes that serve, on one port.")
@option(
    "--retention",
    type=RETENTION,
    default="100000,24h,256MiB",
    help="What each project's log keeps: events, age (s, m, h, d), size (KiB, MiB, GiB).",
)
@option(
    "--keepalive",
    type=click.FloatRange(0, 3600, min_open=True),
    default=15,
    metavar="SECONDS",
    help="A connection that had no traffic for so long gets a comment.",
)
@option(
    "--cors-origin",
    type=ORIGIN,
    multiple=True,
    show_default="none",
    help="A site whose pages may read and write here. Repeatable.",
)
@option(
    "--allow-host",
    multiple=True,
    show_default="none",
    metavar="NAME",
    help="Another name of this server, as a proxy's. Repeatable.",
)
@option(
    "--proxy-hops",
    type=click.IntRange(0, 9),
    default=0,
    metavar="N",
    help="Proxies of yours in front; so many values of X-Forwarded-For, -Proto and -Host are believed.",
)
@option(
    "--root-path",
    type=PATH,
    default="",
    show_default="none",
    metavar="PATH",
    help="Where a proxy shows the server, such as /rt.",
)
@namespace_option
@option(
    "--tls-cert",
    type=click.Path(path_type=Path),
    show_default="none: HTTP",
    metavar="FILE",
    help="Certificate chain (PEM) for HTTPS.",
)
@option(
    "--tls-key",
    type=click.Path(path_type=Path),
    show_default="in the same file",
    metavar="FILE",
    help="The certificate's private key (PEM).",
)
@option(
    "--fast-path",
    type=click.Choice(["on", "off"]),
    default="on",
    help="Write streams over HTTP/1.1 straight to their connections.",
)
@option(
    "--max-connections",
    type=COUNT,
    default=20_000,
    metavar="N",
    help="Connections open at a time, each worker's; more get 503. Less where fewer files may be open.",
)
@option(
    "--max-client-connections",
    type=COUNT,
    metavar="N",
    show_default="nine tenths of all",
    help="… of one address; more get 429.",
)
@option(
    "--publish-rate",
    type=SIZE,
    default="16MiB",
    help="What one client may publish over HTTP in a second; ten times as much at once. More gets 429.",
)
@option(
    "--new-projects",
    type=COUNT,
    default=2_000,
    metavar="N",
    help="Projects without an event that one client may ask for in an hour; more get 429.",
)
@option(
    "--body-timeout",
    type=click.FloatRange(0, 3600, min_open=True),
    default=60,
    metavar="SECONDS",
    help="A request's body is here within this, or gets 408.",
)
@option(
    "--github-secret",
    type=TOKEN,
    metavar="SECRET",
    show_default="no webhooks",
    help="The secret of GitHub webhooks, which are sent to /projects/PROJECT/github.",
)
def serve_command(
    *,
    redis_url: str | None,
    token: str | None,
    host: str,
    port: int,
    workers: int,
    retention: Retention,
    keepalive: float,
    cors_origin: tuple[str, ...],
    allow_host: tuple[str, ...],
    proxy_hops: int,
    root_path: str,
    namespace: str,
    tls: str | None,
    tls_cert: Path | None,
    tls_key: Path | None,
    max_connections: int,
    max_client_connections: int | None,
    publish_rate: float,
    new_projects: int,
    body_timeout: float,
    fast_path: str,
    github_secret: str | None,
) -> None:
    """Serve event streams, publishing, history and the web page.

    Without --redis-url the embedded Redis is used, which all processes of a user share. Ctrl-C ends the server once
    its streams have been told; a second one ends it at once.
    """
    from syndarix_rt.server import Settings, delivery_path, loop_factory

    if workers > 1 and not hasattr(socket, "SO_REUSEPORT"):
        raise click.BadParameter("this system cannot share a port; leave it out.", param_hint="--workers")
    if tls and tls_cert:
        raise click.BadParameter("there is a certificate already: --tls-cert.", param_hint="--tls")
    _check_tls(tls_cert, tls_key)
    settings = Settings(
        host=host,
        hosts=allow_host,
        token=checked_token(token, host),
        cors_origins=cors_origin,
        proxy_hops=proxy_hops,
        root_path=root_path,
        keepalive_s=keepalive,
        log_clients=True,
        alone=workers == 1,
        fast_path=fast_path == "on",
        github_secret=github_secret or None,
        tls_cert=certificate(tls, host) or tls_cert,
        tls_key=tls_key,
        max_connections=max_connections,
        max_client_connections=max_client_connections or 0,
        publish_bytes_per_s=publish_rate,
        new_projects_per_h=new_projects,
        body_timeout_s=body_timeout,
    )

    async def serve() -> None:
        async with open_server(
            settings, port, redis_url, namespace=namespace, retention=retention, workers=workers
        ) as server:
            path = delivery_path(fast_path=settings.fast_path, tls=settings.tls_cert is not None)
            await server.serve(lambda: present(f"serves; {path}", server.url("/")))

    run(serve(), loop_factory())


def _check_tls(cert: Path | None, key: Path | None) -> None:
    if key is not None and cert is None:
        raise click.BadParameter("it needs the certificate: --tls-cert FILE.", param_hint="--tls-key")
    if cert is not None:
        try:
            ssl.create_default_context(ssl.Purpose.CLIENT_AUTH).load_cert_chain(cert, key)
        except OSError as error:  # an SSLError is one, too
            files = f"{cert} with {key}" if key else f"{cert}"
            raise SyndarixError(f"cannot use the certificate {files}: {error.strerror or error}") from error
