"""`Parts`: what a workbench holds, and ends."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from contextlib import AsyncExitStack, suppress
from functools import partial
from typing import Any, Literal

from syndarix_rt.client.url import checked_project
from syndarix_rt.notebook.background import Background
from syndarix_rt.notebook.children import Child
from syndarix_rt.notebook.control import Controls
from syndarix_rt.notebook.dashboard import Dashboard
from syndarix_rt.notebook.feed import Feed
from syndarix_rt.notebook.outlet import Outlet
from syndarix_rt.notebook.playing import Playing
from syndarix_rt.notebook.recording import Recording
from syndarix_rt.notebook.runs import Run
from syndarix_rt.notebook.talking import Talking
from syndarix_rt.simulation import Scenario
from syndarix_rt.state import ServerEndpoint

__all__ = ["Parts"]


class Parts:
    """What a workbench holds and must end; it knows nothing of the workbench, which may thus be forgotten.

    Args:
        url: the server's, with its key.
        redis: the server as it announced itself, to publish into its Redis; None: over HTTP.
        server: its process, if it is ours.

    Attributes:
        background: the thread that all of it lives on.
        outlet: publishes what this notebook makes.
        playing: its runs.
        talking: its chats, agents and debuggers.
    """

    def __init__(self, url: str, redis: ServerEndpoint | None, server: Child | None) -> None:
        self.url = url
        self.closed = False
        self.background = Background("syndarix-rt workbench")
        self.outlet = Outlet(url, redis)
        self.playing = Playing(url, self.background, self.outlet)
        self.talking = Talking(url)
        self._server = server
        self._feeds: dict[str, Feed] = {}
        self._dashboards: dict[str, Dashboard] = {}
        self._recordings: list[Recording] = []

    def feed(self, project: str, replay: int | Literal["all"] = 0) -> Feed:
        """The project's feed, opened if need be."""
        feed = self._feeds.get(checked_project(project))
        if feed is None:
            feed = Feed(self.url, project, replay=replay)
            self.background.run(feed.start())
            self._feeds[project] = feed
        return feed

    def record(self, path: str | os.PathLike[str], project: str, replay: int | Literal["all"]) -> Recording:
        """A recording of what the feed receives; with what a new feed has received by then."""
        since = self._feeds[project].store.received if project in self._feeds else 0
        recording = Recording(self.feed(project, replay), path, self.background, since)
        self._recordings.append(recording)
        return recording

    def show(self, feed: Feed, **options: Any) -> Dashboard:
        """A dashboard over the feed, instead of the last one, which stays if this one cannot be made."""
        project = feed.project

        def play(name: str, speed: float | None) -> Run:
            return self.playing.preset(name, Scenario.preset(name), project, speed, 1, replace=True, append=False)

        dashboard = Dashboard(feed, self.background, Controls(play, partial(self.playing.latest, project)), **options)
        if project in self._dashboards:
            self._dashboards.pop(project).close()
        self._dashboards[project] = dashboard
        return dashboard

    def close(self) -> None:
        """End runs, dashboards, streams, the server and the thread, in this order. Never raises."""
        if self.background.is_here:  # garbage is collected on any thread; this one is waited for
            threading.Thread(target=self.close, name="syndarix-rt close", daemon=True).start()
            return
        if self.closed:
            return
        self.closed = True
        shown = [*self._dashboards.values(), *self.talking.panels.values()]
        stops: list[Callable[[], object]] = [run.stop for run in self.playing.runs]
        stops += [part.stop for part in (*self.talking.agents.values(), *self._recordings, *shown)]
        for stop in stops:
            with suppress(Exception):  # at the kernel's exit widgets may be gone already
                stop()
        with suppress(Exception):
            self.background.run(self._close_connections())
        self.background.close()
        if self._server is not None:
            self._server.stop()

    async def _close_connections(self) -> None:
        async with AsyncExitStack() as stack:  # each is closed, whatever the others do
            stack.push_async_callback(self.outlet.aclose)
            stack.push_async_callback(self.playing.aclose)
            stack.push_async_callback(self.talking.aclose)
            for feed in self._feeds.values():
                stack.push_async_callback(feed.aclose)
