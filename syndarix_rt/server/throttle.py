"""Where the limits on use over time apply: in front of the routes, once it is known who asks.

Whatever writes counts against the publish rate. Whatever names a project that nobody has published to counts against
the new projects, for the broker keeps something of each channel that anybody asks for.
"""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from quart import Quart, Request, Websocket, current_app, g, request, websocket

from syndarix_rt.broker.protocol import Broker
from syndarix_rt.errors import BrokerError
from syndarix_rt.events import is_project_name
from syndarix_rt.server.access import SAFE_METHODS, SIGNED
from syndarix_rt.server.limits import Limits, client_of
from syndarix_rt.server.problems import Problem

if TYPE_CHECKING:
    from syndarix_rt.server.hub import Hub

__all__ = ["PUBLISHER", "KnownProjects", "check_project", "install"]

PUBLISHER = "syndarix_rt.publisher"
"""In a request's scope: against whose publish rate it counts."""

MAX_KNOWN = 10_000
"""Projects without an event that are remembered; who asks again for a forgotten one is counted again."""

LIST_S = 5.0
"""How old the broker's list of projects may be when a name is looked for that is not in it."""


class KnownProjects:
    """Which projects are there, as far as this process knows without waiting for the broker.

    A name that it does not know counts as new, and so does one whose first event came from elsewhere a moment ago.

    Args:
        broker: has the list.
        limits: what one client and all of them may bring up.
    """

    def __init__(self, broker: Broker, limits: Limits) -> None:
        self._broker = broker
        self._limits = limits
        self._published: frozenset[str] = frozenset()
        self._asked: OrderedDict[str, None] = OrderedDict()
        self._listed_s = -LIST_S
        self._listing: asyncio.Task[None] | None = None

    def check(self, project: str, client: str) -> None:
        """Let a client ask for a project.

        Raises:
            Problem: it has asked for too many that are new, or all together have.
        """
        if project in self._published or not is_project_name(project):  # the latter is its route's to refuse
            return
        if project not in self._asked:
            self._look()
            for allowance, whose in ((self._limits.projects, client), (self._limits.all_projects, "")):
                allowance.check(whose, 1)
            self._limits.projects.charge(client, 1)
            self._limits.all_projects.charge("", 1)
            self._asked[project] = None
            if len(self._asked) > MAX_KNOWN:
                self._asked.popitem(last=False)
        self._asked.move_to_end(project)

    def _look(self) -> None:
        if time.monotonic() - self._listed_s >= LIST_S and (self._listing is None or self._listing.done()):
            self._listing = asyncio.create_task(self._list(), name="list of projects")

    async def _list(self) -> None:
        with suppress(BrokerError):
            self._published = frozenset(await self._broker.projects())
        self._listed_s = time.monotonic()

    async def aclose(self) -> None:
        """Ask no more."""
        if self._listing is not None:
            self._listing.cancel()
            await asyncio.gather(self._listing, return_exceptions=True)


def install(app: Quart, hub: Hub, known: KnownProjects) -> None:
    """Put it in front of every route of the app, behind the question who may come in."""

    @app.before_request
    async def _check() -> None:
        if request.endpoint is None or (g.get("grant") is None and request.endpoint not in SIGNED):
            return  # answered by a 404; or a probe, or a file of the page
        if request.method not in SAFE_METHODS:
            publisher = _publisher(request)
            hub.limits.publish.check(publisher)
            scope: Any = request.scope  # a dict, in which ASGI leaves room for more
            scope[PUBLISHER] = publisher
        if request.endpoint not in SIGNED:  # of those nobody knows yet who asks
            _check_project(request)

    @app.before_websocket
    async def _check_socket() -> None:
        if g.grant is None or g.lacking is not None:  # it is told so by a close code
            return
        try:
            _check_project(websocket)
        except Problem as problem:
            if websocket.http_version == "1.1":
                problem.headers["connection"] = "close"  # Hypercorn does not keep it after an upgrade
            raise

    def _check_project(asked: Request | Websocket) -> None:
        project = (asked.view_args or {}).get("project")
        if project is not None:
            known.check(project, client_of(asked.remote_addr or ""))


def check_project(project: str) -> None:
    """Let the present request ask for a project that its path does not name, or that was not to be believed before.

    Raises:
        Problem: as of `KnownProjects.check`.
    """
    known: KnownProjects = current_app.extensions["syndarix_rt_known"]
    known.check(project, client_of(request.remote_addr or ""))


def _publisher(request: Request) -> str:
    grant = g.get("grant")
    return grant.id if grant is not None and grant.id else client_of(request.remote_addr or "")
