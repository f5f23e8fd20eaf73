"""``doctor``: looks at what a server needs here, and measures what a proxy does to its streams.

* :mod:`~syndarix_rt.cli.doctor.machine`: packages, limits and the port
* :mod:`~syndarix_rt.cli.doctor.redis`: the Redis that holds the logs
* :mod:`~syndarix_rt.cli.doctor.way`: the way to a server, with every proxy on it
"""

# ruff: noqa: PLC0415 - what a command needs is loaded when it runs; see serving.py

from __future__ import annotations

import sys
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

import click

from syndarix_rt.cli.console import run
from syndarix_rt.cli.doctor.finding import PROJECT, Finding, good
from syndarix_rt.cli.listening import PORT
from syndarix_rt.cli.options import PORTS, namespace_option, option, redis_url_option, url_option

if TYPE_CHECKING:
    from syndarix_rt.state import ServerEndpoint

__all__: list[str] = []


@click.command(
    "doctor",
    help=f"""Look at packages, limits, port and Redis, and measure whether events arrive at once.

    They are stored in Redis, and sent and received through --url with every proxy on the way, in the project
    "{PROJECT}", which is emptied again. The Redis is that of your running server unless it is named. Exits with 1 if
    there is anything to mend.
    """,
)
@redis_url_option
@namespace_option
@url_option
@option("--port", type=PORTS, metavar="N", default=PORT, help="Where a server is to listen.")
def doctor_command(*, redis_url: str | None, namespace: str, url: str | None, port: int) -> None:
    """See above."""
    from syndarix_rt.state import running_servers

    ours = [server for server in running_servers() if url in (None, server.url)]
    mended = 0

    async def examine() -> None:
        nonlocal mended
        async for finding in _findings(redis_url, namespace, url, port, ours[0] if ours else None):
            mended += not finding.is_good
            mark = click.style("good", fg="green") if finding.is_good else click.style("mend", fg="red", bold=True)
            click.echo(f"{mark}  {finding.what:<9} {finding.text}")

    run(examine())
    if mended:
        sys.exit(1)


async def _findings(
    redis_url: str | None, namespace: str, url: str | None, port: int, server: ServerEndpoint | None
) -> AsyncIterator[Finding]:
    """All of them.

    Args:
        redis_url: the Redis that was named.
        namespace: of the names in it.
        url: the server that was named.
        port: where a server is to listen.
        server: one of this user's that runs: the one that was named, or the newest.
    """
    from syndarix_rt.cli.doctor import machine, redis, way

    for finding in (machine.packages(), *machine.limits(), machine.port(port)):
        yield finding
    if server is not None and redis_url is None:
        redis_url, namespace = "memory://" if server.memory else server.broker_url, server.namespace
    async for finding in redis.findings(redis_url, namespace):
        yield finding
    if url is None and server is None:
        yield good("server", "none of yours runs here; name one with --url to measure the way to it")
    else:
        async for finding in way.findings(url or server.url):  # type: ignore[union-attr]  # one of them is there
            yield finding
