"""`Playing`: the runs that a workbench began, and those of others that it steers."""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Iterator
from contextlib import AsyncExitStack
from functools import partial

import msgspec

from syndarix_rt.client import DebugClient
from syndarix_rt.events import Event
from syndarix_rt.notebook.background import Background
from syndarix_rt.notebook.children import Child
from syndarix_rt.notebook.outlet import Outlet
from syndarix_rt.notebook.runs import PlayerRun, ProcessRun, Run
from syndarix_rt.notebook.server import stopped_by_error
from syndarix_rt.notebook.steering import RemoteRun, Steering
from syndarix_rt.playback import Control, Player
from syndarix_rt.simulation import Scenario, Simulation

__all__ = ["Playing"]


class Playing:
    """Begins runs, and finds the one that plays into a project.

    Args:
        url: the server's, with its key.
        background: the thread that they live on.
        outlet: takes the events of iterables.

    Attributes:
        runs: all that were begun, the newest last.
    """

    def __init__(self, url: str, background: Background, outlet: Outlet) -> None:
        self.runs: list[Run] = []
        self._url = url
        self._background = background
        self._outlet = outlet
        self._debuggers: dict[str, DebugClient] = {}

    def preset(
        self,
        name: str,
        scenario: Scenario,
        project: str,
        speed: float | None,
        seed: int,
        *,
        replace: bool,
        append: bool,
    ) -> Run:
        """Begin a preset or a scenario's file in a process of its own; arguments as of `Workbench.play`."""
        arguments = ["play", name, "--project", project, "--seed", str(seed), *(["--replace"] if replace else [])]
        speed = scenario.speed if speed is None else speed
        arguments += [*(["--append"] if append else []), "--speed", _speed_word(speed)]
        # Over HTTP, to the very server that is watched; the URL, with its key, not on a command line.
        environment = {"SYNDARIX_RT_URL": self._url, "SYNDARIX_RT_REDIS_URL": None, "SYNDARIX_RT_EVENTS": None}
        run_id = f"notebook-{secrets.token_hex(6)}"
        child = Child([*arguments, "--run", run_id], environment)
        title = f"{scenario.name} (seed {seed})"
        with stopped_by_error(child):  # the workbench may have been closed meanwhile
            run = ProcessRun(title, project, child, run_id, self._background, partial(self._debugger, project))
        self.runs.append(run)
        return run

    def events(
        self, name: str, events: Iterable[Event], project: str, speed: float, *, replace: bool, append: bool
    ) -> Run:
        """Begin an iterable of events on the background's thread; arguments as of `Workbench.play`."""
        player = Player(_moved(events, project), self._outlet.publish, speed=speed)
        run_id = f"notebook-{secrets.token_hex(6)}"
        simulation = events if isinstance(events, Simulation) else None
        control = Control(run_id, player, name=name, simulation=simulation, attended=True)

        async def play() -> None:
            claimed = self._outlet.claim(project, run_id, on_lost=player.stop, replace=replace, append=append)
            async with claimed, control:
                await control.join(await self._outlet.line(project, run_id))
                await player.run()

        run = PlayerRun(name, project, player, control, self._background, self._background.submit(play()))
        self.runs.append(run)
        return run

    def steering(self, project: str) -> Steering:
        """The project's run."""
        run = self.latest(project)
        if run is not None and not run.done:
            return run
        return RemoteRun(self._background, partial(self._debugger, project))

    def latest(self, project: str) -> Run | None:
        """The run that was begun last in a project."""
        return next((run for run in reversed(self.runs) if run.project == project), None)

    async def _debugger(self, project: str) -> DebugClient:
        """The project's debug client, opened if need be; on the background's loop."""
        client = self._debuggers.get(project)
        if client is None or client.state == "closed":
            client = self._debuggers[project] = DebugClient(self._url, project, on_notice=lambda _: None)
            await client.__aenter__()  # it lives as long as the workbench
        return client

    async def aclose(self) -> None:
        """Close what it steers by; on the background's loop."""
        async with AsyncExitStack() as stack:  # each is closed, whatever the others do
            for debugger in self._debuggers.values():
                stack.push_async_callback(debugger.aclose)


def _moved(events: Iterable[Event], project: str) -> Iterator[Event]:
    for event in events:
        yield event if event.project == project else msgspec.structs.replace(event, project=project)


def _speed_word(speed: float) -> str:
    return "max" if speed == float("inf") else repr(speed)
