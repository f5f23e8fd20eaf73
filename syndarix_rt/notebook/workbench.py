"""`Workbench`: simulate, publish, receive and watch from a notebook."""

from __future__ import annotations

import os
import secrets
import weakref
from collections.abc import Callable, Iterable, Sequence
from copy import deepcopy
from datetime import UTC, datetime
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, Self
from urllib.parse import quote

import msgspec

from syndarix_rt.client import parse_server_url
from syndarix_rt.client.agent import MAX_AT_ONCE, Answering
from syndarix_rt.client.url import checked_project
from syndarix_rt.delivery import Ledger, Position, Published, RunState
from syndarix_rt.errors import SyndarixError
from syndarix_rt.events import Event
from syndarix_rt.notebook.address import page_url
from syndarix_rt.notebook.agent import NotebookAgent
from syndarix_rt.notebook.background import in_thread
from syndarix_rt.notebook.chat_widget import ChatWidget
from syndarix_rt.notebook.children import Child
from syndarix_rt.notebook.dashboard import Dashboard
from syndarix_rt.notebook.debugger import Debugger
from syndarix_rt.notebook.parts import Parts
from syndarix_rt.notebook.recording import Recording
from syndarix_rt.notebook.runs import Run
from syndarix_rt.notebook.server import redis_behind, serve, stopped_by_error
from syndarix_rt.notebook.steering import Asked, Steering
from syndarix_rt.simulation import Scenario, Simulation
from syndarix_rt.state import running_servers

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Workbench"]

START_S = 60.0
"""A server is up within two seconds; a machine that is starting other things, too, may take some more."""

SETTLE_S = 5.0
"""`Workbench.frame` waits so long for what is on its way; on one machine that is milliseconds."""

ANSWER_S = 30.0
"""An answer of a simulated agent takes a few seconds; a model may think for longer."""

SOURCE = "/syndarix-rt/notebook"

PROJECT = "notebook"
"""The default project. Not the demo's: both share the embedded Redis, and one run plays into a project."""


class Workbench:
    """One server and what a notebook does with it.

    ::

        bench = await Workbench.start()
        run = bench.play("demo_small", project="apollo", speed=60, seed=7)
        bench.dashboard("apollo")
        bench.frame("apollo")
        await bench.close()

    Make one with `start` or `connect`, where code cannot await with `start_sync` or `connect_sync`. Nothing of it
    outlives the kernel; a workbench that is not used any more is closed by itself.

    A project that is named first, in whatever method, is received from then on; ``replay`` says how much of what was
    there before. Without a name it is the bench's default project.

    Attributes:
        project: the default project.
        url: the server's web page for that project, with its key: for the browser, not for others' eyes. On a
            notebook hub it leads through jupyter-server-proxy; ``SYNDARIX_RT_PUBLIC_URL`` names another way.
    """

    def __init__(self, parts: Parts, project: str) -> None:
        self.project = project
        self._parts = parts
        self._close = weakref.finalize(self, parts.close)  # at the kernel's exit, too

    @classmethod
    async def start(cls, *, redis_url: str | None = None, project: str = PROJECT) -> Self:
        """Start a server of your own on a free port, over the embedded Redis.

        Args:
            redis_url: use this Redis instead.
            project: the default project.

        Raises:
            SyndarixError: it did not start, or ``project`` is no name; the text says why.
        """
        checked_project(project)  # before there is something to end
        child = serve(redis_url)
        with stopped_by_error(child):
            url = await in_thread(lambda: child.wait_for_line("http", START_S))
            return cls._over(child, url, project)

    @classmethod
    def start_sync(cls, *, redis_url: str | None = None, project: str = PROJECT) -> Self:
        """As `start`, for code that cannot await, such as a plain script."""
        checked_project(project)
        child = serve(redis_url)
        with stopped_by_error(child):
            url = child.wait_for_line("http", START_S)
            return cls._over(child, url, project)

    @classmethod
    def _over(cls, child: Child, url: str, project: str) -> Self:
        announced = next((server for server in running_servers() if server.pid == child.process.pid), None)
        if announced is None or announced.memory:
            # Once, in the cell that asked for it: what a person must know before losing events.
            print("No Redis here: the server keeps all events in its memory, and they end with this workbench.")  # noqa: T201 - see above
        return cls(Parts(url, announced, child), project)

    @classmethod
    async def connect(cls, url: str | None = None, *, redis_url: str | None = None, project: str | None = None) -> Self:
        """Use a server that runs.

        Args:
            url: the URL that it printed, with its key. Without one, your newest running server's.
            redis_url: publish straight into this Redis. Without a ``url``, your running server over that Redis is used,
                or one is started.
            project: the default project; else the URL's, else ``notebook``.

        Raises:
            SyndarixError: no server runs, or the URL is wrong.
        """
        found = cls._connected(url, redis_url, project)
        return found or await cls.start(redis_url=redis_url, project=PROJECT if project is None else project)

    @classmethod
    def connect_sync(cls, url: str | None = None, *, redis_url: str | None = None, project: str | None = None) -> Self:
        """As `connect`, for code that cannot await."""
        found = cls._connected(url, redis_url, project)
        return found or cls.start_sync(redis_url=redis_url, project=PROJECT if project is None else project)

    @classmethod
    def _connected(cls, url: str | None, redis_url: str | None, project: str | None) -> Self | None:
        """None: there is no server yet over the Redis that was named."""
        if url is None:
            servers = [server for server in running_servers() if redis_url in (None, server.broker_url)]
            if not servers and redis_url is not None:
                return None
            if not servers:
                raise SyndarixError(
                    "no server of yours runs on this machine: give the URL that one printed, "
                    "start one (syndarix-rt demo), or use Workbench.start()"
                )
            url = servers[0].url
        project = checked_project(parse_server_url(url).project or PROJECT if project is None else project)
        return cls(Parts(url, redis_behind(url, redis_url), None), project)

    @property
    def url(self) -> str:
        """The web page of the default project, with the server's key."""
        token = parse_server_url(self._parts.url).token
        key = f"?key={quote(token, safe='')}" if token else ""
        return f"{page_url(self._parts.url, os.environ)}/p/{self.project}{key}"

    # ---- playing --------------------------------------------------------------------------------------------------

    def play(
        self,
        what: str | Scenario | Iterable[Event],
        *,
        project: str | None = None,
        speed: float | None = None,
        seed: int = 1,
        replace: bool = False,
        append: bool = False,
    ) -> Run:
        """Play events into a project, each when its time comes. Returns at once.

        Args:
            what: a preset's name or a scenario's TOML file (played by a process of its own), a `Scenario`, or any
                iterable of events (played beside this notebook's cells).
            project: where to; the events of an iterable are moved there.
            speed: simulated seconds per second; ``math.inf``: as fast as it goes. None: the scenario's own, or 1.
            seed: of the simulation.
            replace: take the project over from a run that plays there, and begin a new epoch.
            append: play beside such a run. Without either, this run then fails with `ProjectBusy`.

        Raises:
            ScenarioError: there is no such preset, or the scenario is wrong.
            StreamError: the server refuses the stream.
            ValueError: ``speed`` is not above 0, or ``replace`` and ``append`` are both given.
        """
        project = self._named(project)
        if replace and append:
            raise ValueError("replace begins anew, append goes on: give one of them")
        if speed is not None and not speed > 0:
            raise ValueError(f"speed must be above 0, not {speed!r}; to let time stand still, pause the run")
        self._parts.feed(project)
        playing = self._parts.playing
        run: Run
        if isinstance(what, str):
            scenario = Scenario.load(what)  # so that a mistake shows here
            run = playing.preset(what, scenario, project, speed, seed, replace=replace, append=append)
        elif isinstance(what, Scenario):
            name = f"{what.name} (seed {seed})"
            simulated = Simulation(what.for_project(project), seed)
            run = playing.events(
                name, simulated, project, what.speed if speed is None else speed, replace=replace, append=append
            )
        else:
            run = playing.events(
                "events", what, project, 1.0 if speed is None else speed, replace=replace, append=append
            )
        return run

    # ---- steering -------------------------------------------------------------------------------------------------
    #
    # The same methods as a run's, for the one that plays into a project: the newest of this workbench, else anybody's.

    def pause(self, project: str | None = None) -> Asked[RunState]:
        """Let the project's run publish nothing more; see `Run.pause`."""
        return self._steering(project).pause()

    def resume(self, project: str | None = None) -> Asked[RunState]:
        """Let it play on."""
        return self._steering(project).resume()

    def step(self, events: int = 1, *, project: str | None = None) -> Asked[RunState]:
        """Let it publish exactly so many events."""
        return self._steering(project).step(events)

    def set_speed(self, speed: float, *, project: str | None = None) -> Asked[RunState]:
        """Let it play at another speed, simulated seconds per second."""
        return self._steering(project).set_speed(speed)

    def inject(self, what: Any, *, project: str | None = None, **settings: Any) -> Asked[RunState]:
        """Begin a fault in it, or put an event into its stream; see `Run.inject`."""
        return self._steering(project).inject(what, **settings)

    def _steering(self, project: str | None) -> Steering:
        return self._parts.playing.steering(self._named(project))

    # ---- publishing -----------------------------------------------------------------------------------------------

    async def publish(self, type: str, data: dict[str, Any] | msgspec.Struct, **attributes: Any) -> Published:  # noqa: A002 - the attribute's name in CloudEvents
        """Publish an event of your own; where it stands when it is stored.

        Args:
            type: a type of the catalogue, or any lower_snake_case name.
            data: its payload.
            attributes: ``project``, and whatever `Event.new` takes: ``subject``, ``cause``, ``time``, ``id`` …

        Raises:
            EventError: it breaks a rule.
            BrokerUnavailable: Redis or the server stays away.
        """
        return await self._parts.background.ask(self._parts.outlet.publish([self._event(type, data, attributes)]))

    def publish_sync(self, type: str, data: dict[str, Any] | msgspec.Struct, **attributes: Any) -> Published:  # noqa: A002 - see publish
        """As `publish`, for code that cannot await."""
        return self._parts.background.run(self._parts.outlet.publish([self._event(type, data, attributes)]))

    def reset(self, project: str | None = None) -> Position:
        """Delete a project's log and begin a new epoch, as ``play(…, replace=True)`` does; where it starts.

        Who receives it is told of a gap. What this notebook received stays in its `frame`.

        Raises:
            BrokerUnavailable: Redis or the server stays away.
        """
        return self._parts.background.run(self._parts.outlet.reset(self._named(project)))

    def _named(self, project: str | None) -> str:
        """The project that is meant: the default one if none is named."""
        return checked_project(self.project if project is None else project)

    def _event(self, event_type: str, data: dict[str, Any] | msgspec.Struct, attributes: dict[str, Any]) -> Event:
        given: dict[str, Any] = {
            "id": secrets.token_hex(8),
            "time": datetime.now(UTC),
            "source": SOURCE,
            "project": self.project,
        }
        return Event.new(event_type, data, **(given | attributes))

    # ---- receiving ------------------------------------------------------------------------------------------------

    def frame(
        self, project: str | None = None, *, simulation: str | None = None, replay: int | Literal["all"] = 0
    ) -> pd.DataFrame:
        """What this notebook received of a project, one row an event; see `Store.frame` for the columns.

        It waits for what was published before the call and is still on its way.

        Args:
            project: whose events.
            simulation: only those of this simulation.
            replay: if the project was not received yet: begin with so many of its newest entries, or with ``"all"``.
        """
        feed = self._parts.feed(self._named(project), replay)
        if not self._parts.closed:
            self._parts.background.run(feed.settle(SETTLE_S))
        return feed.store.frame(simulation)

    def record(
        self, path: str | os.PathLike[str], project: str | None = None, *, replay: int | Literal["all"] = 0
    ) -> Recording:
        """Write what this notebook receives of a project into a recording, from now on, until it is stopped.

        Args:
            path: of the file: JSON Lines, packed if it ends in ``.gz``; `syndarix_rt.playback` reads and plays it.
            project: whose events.
            replay: as in `frame`: what was there before a project was first received.

        Raises:
            RecordingError: the file cannot be written.
        """
        return self._parts.record(path, self._named(project), replay)

    def ledger(self, project: str | None = None) -> Ledger:
        """The evidence: what came, what was declared missing, what came twice; as it is now."""
        return deepcopy(self._parts.feed(self._named(project)).ledger)

    def dashboard(
        self,
        project: str | None = None,
        *,
        panels: Sequence[str] | None = None,
        axis: Literal["wall", "simulated"] = "wall",
        simulation: str | None = None,
        fps: float = 4.0,
        window_s: float | None = None,
        replay: int | Literal["all"] = 0,
    ) -> Dashboard:
        """A live view of a project; the last one of that project is closed.

        Args:
            project: whose events.
            panels: names of `syndarix_rt.notebook.dashboard.PANELS`; None: all.
            axis: time is that of publication (``wall``), or simulated time.
            simulation: only events of this simulation; without it, simulated time is that of the newest one.
            fps: redraws a second, at most 10.
            window_s: how much time a chart shows, on its axis; None: 60 s, or two simulated hours.
            replay: as in `frame`.
        """
        feed = self._parts.feed(self._named(project), replay)
        return self._parts.show(feed, panels=panels, axis=axis, simulation=simulation, fps=fps, window_s=window_s)

    # ---- talking --------------------------------------------------------------------------------------------------

    def chat(self, project: str | None = None, *, name: str | None = None) -> ChatWidget:
        """A panel to talk with the people and agents of a project; the last one of that project is closed.

        Args:
            project: whose chat.
            name: under which to speak; None: the token's, or one from the server.
        """
        project = self._named(project)
        return self._parts.talking.show(
            "chat", project, lambda: ChatWidget(self._parts.url, project, self._parts.background, name=name)
        )

    def ask(self, text: str, *, to: str, project: str | None = None, timeout_s: float = ANSWER_S) -> Asked[str]:
        """Ask an agent in the chat; await the text of its answer, as far as it came.

        Args:
            text: the question.
            to: the agent's name.
            project: in whose chat.
            timeout_s: how long the answer may take.

        Raises:
            SyndarixError: from the answer: there was none, or it broke off.
        """
        project = self._named(project)
        return Asked(
            f"{to}: {text}", self._parts.background.submit(self._parts.talking.ask(project, text, to, timeout_s))
        )

    def agent(
        self, name: str, *, project: str | None = None, at_once: int = MAX_AT_ONCE
    ) -> Callable[[Answering], NotebookAgent]:
        """Make a function an agent in the chat, such as one that asks a model.

        ::

            @bench.agent("poet")
            async def poet(said):
                async for piece in model.stream(said.text):
                    yield piece

        It is an async generator, or an async function that returns the whole answer. It gets what is said to the agent,
        and what is said to everybody and names it. If it raises, that answer ends and the chat is told why. It runs on
        a thread and an event loop of its own. The last agent of that name and project is stopped.

        Args:
            name: the agent's; with a token its subject.
            project: in whose chat.
            at_once: so many answers are made at the same time; who asks beyond is told that it is busy.

        Raises:
            StreamError: from the decorator: the server does not let it in.
        """
        project = self._named(project)
        return lambda answer: self._parts.talking.bring(name, project, answer, at_once)

    def debugger(self, project: str | None = None) -> Debugger:
        """A panel to stop the run that plays into a project, at breakpoints too, and to look into it.

        The last one of that project is closed.
        """
        project = self._named(project)
        return self._parts.talking.show(
            "debug", project, lambda: Debugger(self._parts.url, project, self._parts.background)
        )

    # ---- life -----------------------------------------------------------------------------------------------------

    async def close(self) -> None:
        """End everything that this workbench started; what was received can still be asked for."""
        await in_thread(self._close)

    def close_sync(self) -> None:
        """As `close`, for code that cannot await."""
        self._close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close_sync()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    def __repr__(self) -> str:
        state = "closed" if self._parts.closed else f"at {parse_server_url(self._parts.url).base_url}"
        return f"<Workbench {state}>"
