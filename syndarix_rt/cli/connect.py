"""Which server or Redis a command talks to: the one that was named, else the user's running one, else the embedded."""

# ruff: noqa: PLC0415 - what a command needs is loaded when it runs; see serving.py

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING

import click

from syndarix_rt.cli.console import say
from syndarix_rt.cli.options import typed
from syndarix_rt.errors import EmbeddedServerError, ProjectBusy, SyndarixError

if TYPE_CHECKING:
    from syndarix_rt.broker import Broker, Published
    from syndarix_rt.events import Event
    from syndarix_rt.playback import Line

__all__ = ["Outlet", "one_target", "open_outlet", "server_url"]

Publish = Callable[[Sequence["Event"]], Awaitable["Published"]]


def one_target(url: str | None, redis_url: str | None) -> tuple[str | None, str | None]:
    """The one that counts: what stands on the command line, rather than what comes from the environment.

    Raises:
        UsageError: both, in the same place.
    """
    if not (url and redis_url):
        return url, redis_url
    given = typed("url", "redis_url")
    if len(given) != 1:
        raise click.UsageError("give --url or --redis-url, not both.")
    return (url, None) if given == ["url"] else (None, redis_url)


def server_url(url: str | None) -> str:
    """The server that was named, else the newest of this user's that runs.

    Raises:
        SyndarixError: there is none.
    """
    from syndarix_rt.state import running_servers

    if url:
        return url
    running = running_servers()
    if not running:
        raise SyndarixError(
            "no server of yours runs on this machine: start one (syndarix-rt demo), or name one with --url URL"
        )
    return running[0].url


class Outlet:
    """Publishes events as one run, each into its own project.

    A project is opened when its first event comes.

    Attributes:
        lost: called when another run has taken a project over; set it before publishing.
        joined: called when a project is opened, before anything is published there, with how the run is steered
            through it; set it before publishing.
    """

    def __init__(self, open_project: Callable[[str, Outlet], Awaitable[Publish]]) -> None:
        self.lost: Callable[[ProjectBusy], None] = lambda _: None
        self.joined: Callable[[Line], Awaitable[None]] = _ignore
        self._open_project = open_project
        self._projects: dict[str, Publish] = {}

    async def publish(self, events: Sequence[Event]) -> Published:
        """Publish events; those of one project keep their order. Where the last one stands.

        Raises:
            ProjectBusy: another run plays into a project.
            SyndarixError: as the publisher.
        """
        by_project: dict[str, list[Event]] = {}
        for event in events:
            by_project.setdefault(event.project, []).append(event)
        for project, batch in by_project.items():
            if project not in self._projects:
                self._projects[project] = await self._open_project(project, self)
            published = await self._projects[project](batch)
        return published


async def _ignore(_: Line) -> None:
    pass


@asynccontextmanager
async def open_outlet(
    url: str | None, redis_url: str | None, run: str, *, replace: bool, append: bool
) -> AsyncIterator[Outlet]:
    """Open the way into the broker for a run; its projects are let go at the end.

    Args:
        url: publish over HTTP to this server.
        redis_url: publish into this Redis. With neither of them: where the user's newest running server keeps its
            events, else into the embedded Redis.
        run: the run's name, unique.
        replace: take projects over from other runs, and begin new epochs.
        append: play beside other runs.
    """
    from syndarix_rt.broker import Publisher, Retention
    from syndarix_rt.broker.factory import open_broker
    from syndarix_rt.client import HttpLine, HttpPublisher, parse_server_url
    from syndarix_rt.playback import BrokerLine, claim
    from syndarix_rt.state import running_servers

    namespace, retention = "", Retention()
    if not (url or redis_url) and (running := running_servers()):
        server = running[0]
        say(f"publishing to the server at {parse_server_url(server.url).base_url}")
        if server.memory:
            url = server.url
        else:
            redis_url, namespace = server.broker_url, server.namespace
            retention = Retention(*server.retention or ())
    async with AsyncExitStack() as stack:
        broker: Broker | None = None
        if not url:
            try:
                broker = await open_broker(redis_url, namespace=namespace, retention=retention)
            except EmbeddedServerError as error:
                raise SyndarixError(
                    f"no server of yours runs here (start one: syndarix-rt demo), and {error}"
                ) from error
            stack.push_async_callback(broker.aclose)

        async def open_project(project: str, outlet: Outlet) -> Publish:
            publisher: Publisher | HttpPublisher
            line: Line
            if broker is not None:
                publisher = Publisher(broker, project)
            else:
                assert url is not None
                publisher = await stack.enter_async_context(HttpPublisher(url, project))
            await stack.enter_async_context(claim(publisher, run, on_lost=outlet.lost, replace=replace, append=append))
            if broker is not None:
                line = await BrokerLine.open(broker, project, run)
            else:
                assert url is not None
                line = await stack.enter_async_context(HttpLine(url, project, run))
            await outlet.joined(line)
            return publisher.publish

        yield Outlet(open_project)
