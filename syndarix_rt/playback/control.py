"""`Control`: a playing run takes requests from those who steer it, and tells them what becomes of it.

Requests are entries of the run's control channel, answers and notices too (`syndarix_rt.delivery.steering`), so nothing
is lost when a connection is. Many may steer a run; all see the same.

================================  =================================================================================
method                            what it does; the answer
================================  =================================================================================
``run.attach``                    nothing; a `RunState`, as of all that name no other
``run.pause``                     publishes nothing more; answers once nothing is in flight
``run.resume``                    goes on
``run.step {events}``             publishes exactly so many events, at once; answers when it stands
``run.setSpeed {speed}``          simulated seconds per wall second, or ``max``
``run.setBreakpoints``            ``[{type?, where?}, …]`` or ``{breakpoints: […]}``; replaces those that were set
``run.inspect {entity}``          what the published events say about it
``run.inject {fault}``            begins a fault (`Inject`), in a simulation
``run.inject {event}``            puts ``{type, data}`` into the stream (`Emit`), in a simulation
================================  =================================================================================

**Lease.** A run stands still only as long as somebody is there. Each request holds it for some seconds, and so does
``run.renew``, which servers send while anybody is attached. When the last one has gone without a word, breakpoints go
and a run that stands plays on.

**What was read ahead.** When a run is paused, the player has read the next event (at full speed, the next batch), and
what is injected comes after that. At a breakpoint nothing was read ahead.

**Agents.** Those of a simulation answer in the project's chat, from their state in the run (`Agents`).

**Decisions.** When a person decides about an approval that the simulation asked for, it goes on from that decision.
"""

from __future__ import annotations

import asyncio
import math
import secrets
import time
from collections import deque
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import aclosing, suppress
from datetime import UTC, datetime
from types import TracebackType
from typing import Any, Literal, Self

import msgspec
from msgspec import UNSET

from syndarix_rt.delivery import jsonrpc
from syndarix_rt.delivery.approvals import DECISION_SOURCE
from syndarix_rt.delivery.steering import ANSWER, NOTICE, SOURCE, RunState, Stop
from syndarix_rt.errors import CommandError, EventError, RpcError, ScenarioError, SyndarixError
from syndarix_rt.events import Event
from syndarix_rt.playback.agents import Agents
from syndarix_rt.playback.breakpoints import Breakpoint
from syndarix_rt.playback.inspection import ENTITIES, Inspection
from syndarix_rt.playback.lines import Line
from syndarix_rt.playback.player import Player
from syndarix_rt.playback.requests import Call, InjectInto, Inspect, Params, SetBreakpoints, SetSpeed, Step, read
from syndarix_rt.simulation import Decide, Emit, Inject, Simulation

__all__ = ["Control"]

LEASE_S = 15.0
"""How long a request holds the run: three renewals, or a client that connects anew to another server."""

FLUSH_S = 2.0
"""At the end the last notice may take so long; who misses it learns from the project's claims."""

MAX_ANSWER_BYTES = 56 * 1024
"""An answer is the payload of an event, which has 64 KiB."""

_OUTBOX = 1_000
"""Messages that wait for a broker that is away; the oldest go first, nobody waits for them any more."""

_BATCH = 50


class Control:
    """Steers one run; an asynchronous context manager around it. Belongs to the player's event loop.

    ::

        async with Control("demo_small-7-1f03ab", player, simulation=simulation) as control:
            await control.join(line)
            await player.run()

    Args:
        run: its id, unique.
        player: plays it.
        name: what it plays, for a person; else the id.
        simulation: what the player reads, if that is one: then things can be injected, and it goes on from people's
            decisions.
        attended: whether somebody in this process looks after the run; then no lease is needed.
        warn: takes one line when steering does not work; the run plays on.
        monotonic: the wall clock, seconds.
        sleep: waits that many seconds of that clock.

    Attributes:
        run: its id.
        simulation: see the argument; set anew by a source that goes on with another simulation.
    """

    def __init__(
        self,
        run: str,
        player: Player,
        *,
        name: str = "",
        simulation: Simulation | None = None,
        attended: bool = False,
        warn: Callable[[str], None] = lambda _: None,
        monotonic: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
    ) -> None:
        self.run = run
        self._player = player
        self._name = name or run
        self.simulation = simulation
        self._attended = attended
        self._warn = warn
        self._monotonic = monotonic
        self._sleep = sleep

        self._lines: dict[str, Line] = {}
        self._inspections: dict[str, Inspection] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._outbox: deque[Event] = deque(maxlen=_OUTBOX)
        self._news = asyncio.Event()
        self._written = asyncio.Event()
        self._written.set()
        self._held = asyncio.Event()
        self._held_until = 0.0
        self._breakpoints: list[Breakpoint] = []
        self._tests: list[Callable[[Event], bool]] = []
        self._reason: Literal["pause", "step"] = "pause"
        self._hit: tuple[int, Event] | None = None
        self._last: Event | None = None
        self._stopped: Stop | None = None
        self._told: Any = None
        self._methods: dict[str, Callable[[Any, str], Awaitable[Any] | Any]] = {
            "run.attach": self._look,
            "run.state": self._look,
            "run.renew": self._look,
            "run.pause": self._pause,
            "run.resume": self._resume,
            "run.step": self._step,
            "run.setSpeed": self._set_speed,
            "run.setBreakpoints": self._set_breakpoints,
            "run.inspect": self._inspect,
            "run.inject": self._inject,
        }
        player.watcher = self

    async def __aenter__(self) -> Self:
        self._start(self._write(), "writes")
        if not self._attended:
            self._start(self._lapse(), "lease")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._player.watcher = None
        with suppress(TimeoutError):
            async with asyncio.timeout(FLUSH_S):
                await self._written.wait()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def join(self, line: Line) -> None:
        """The run plays into this project, too: listen there. Before its first event is published.

        The line must stay open until this is left, for the last notice goes over it.
        """
        first = not self._lines
        self._lines[line.project] = line
        if first:
            self._start(self._read(line.requests(), self._take), "requests")
        if self.simulation is not None:
            self._start(self._read(line.decisions(), self._decide), "decisions")
            agents = Agents(line.chat(), self._inspection(line.project), self.simulation.id, self.run)
            self._start(self._talk(agents), "agents")

    def state(self, project: str | None = None) -> RunState:
        """The run as it is now."""
        player = self._player
        return RunState(
            run=self.run,
            name=self._name,
            project=project or next(iter(self._lines), ""),
            state=player.state,
            speed=player.speed if math.isfinite(player.speed) else "max",
            published=player.published,
            left_out=player.left_out,
            time=player.time,
            position=None if player.position is None else str(player.position),
            lag_s=round(player.lag_s, 6),
            simulation=None if self.simulation is None else self.simulation.id,
            breakpoints=[msgspec.to_builtins(point) for point in self._breakpoints],
            stopped=self._stopped,
        )

    async def ask(self, method: str, params: Any = None, *, project: str | None = None) -> Any:
        """The same from inside this process, where nothing need be sent.

        Raises:
            RpcError: it is refused.
        """
        done = self._methods.get(method, _unknown)(
            {} if params is None else params, project or next(iter(self._lines), "")
        )
        return await done if isinstance(done, Awaitable) else done

    # ---- what the player tells (`Watcher`) ------------------------------------------------------------------------

    def breaks(self, event: Event) -> bool:
        """Whether a breakpoint is at this event."""
        for number, stops in enumerate(self._tests):
            if stops(event):
                self._hit = (number, event)
                return True
        return False

    def published(self, events: Sequence[Event]) -> None:
        """Follow what is published."""
        self._last = events[-1]
        for event in events:
            self._inspection(event.project).add(event)

    def changed(self) -> None:
        """Tell everybody, if there is something to tell."""
        player = self._player
        stood = self._stopped is not None
        if not player.stands:
            self._stopped = None
        elif self._stopped is None:
            self._stopped = self._why()
        if self._told != (told := (player.state, player.speed, self._stopped, self._breakpoints)):
            self._told = told
            self._tell("run.state")
        if self._stopped is not None and not stood:
            self._tell("run.stopped")

    def _why(self) -> Stop:
        if self._hit is None or self._hit[1] is not self._last:
            return Stop(self._reason)
        (number, event), self._hit = self._hit, None
        about = {"id": event.id, "type": event.type, "time": event.time, "subject": event.subject}
        return Stop("breakpoint", about | {"position": str(self._player.position)}, number)

    def _tell(self, method: str) -> None:
        for project in self._lines:
            self._put(NOTICE, project, jsonrpc.notice(method, msgspec.to_builtins(self.state(project))))

    # ---- requests -------------------------------------------------------------------------------------------------

    def _take(self, event: Event) -> None:
        """One request; the answer may come later, and another request before it."""
        if event.project not in self._lines:
            return  # whoever sent it may steer runs of another project
        try:
            call = msgspec.convert(event.data, Call)
        except msgspec.ValidationError:
            return  # no server wrote that
        if call.method != "run.state":  # asked of all runs that play, by people who want another one
            self._held_until = self._monotonic() + LEASE_S
            self._held.set()
        try:
            done = self._methods.get(call.method, _unknown)(call.params, event.project)
        except RpcError as error:
            self._answer(call, event.project, error)
        else:
            if isinstance(done, Awaitable):
                self._start(self._answer_later(call, event.project, done), call.method)
            else:
                self._answer(call, event.project, done)

    async def _answer_later(self, call: Call, project: str, done: Awaitable[Any]) -> None:
        self._answer(call, project, await done)

    def _answer(self, call: Call, project: str, done: Any) -> None:
        if call.id is UNSET:
            return
        if isinstance(done, RpcError):
            answer = jsonrpc.failure(call.id, done)
        else:
            answer = jsonrpc.result(call.id, msgspec.to_builtins(done))
            if len(msgspec.json.encode(answer)) > MAX_ANSWER_BYTES:
                error = RpcError(jsonrpc.REFUSED, "that is more than an answer holds; ask for one entity of it")
                answer = jsonrpc.failure(call.id, error)
        self._put(ANSWER, project, answer)

    def _look(self, params: Any, project: str) -> RunState:
        read(params, Params)
        return self.state(project)

    def _pause(self, params: Any, project: str) -> Awaitable[RunState]:
        read(params, Params)
        self._reason = "pause"
        self._player.pause()
        return self._settled(project)

    def _resume(self, params: Any, project: str) -> RunState:
        read(params, Params)
        self._player.resume()
        return self.state(project)

    def _step(self, params: Any, project: str) -> Awaitable[RunState]:
        events = read(params, Step).events
        self._reason = "step"
        self._player.step(events)
        return self._settled(project)

    def _set_speed(self, params: Any, project: str) -> RunState:
        speed = read(params, SetSpeed).speed
        self._player.set_speed(math.inf if speed == "max" else speed)
        return self.state(project)

    def _set_breakpoints(self, params: Any, project: str) -> RunState:
        given = {"breakpoints": params} if isinstance(params, list) else params
        self._break_at(read(given, SetBreakpoints).breakpoints)
        return self.state(project)

    def _break_at(self, breakpoints: list[Breakpoint]) -> None:
        self._breakpoints = breakpoints
        self._tests = [point.compile() for point in breakpoints]
        self.changed()

    def _inspect(self, params: Any, project: str) -> Any:
        entity = read(params, Inspect).entity
        if entity == "run":
            return self.state(project)
        found = self._inspection(project).look(entity)
        if found is None:
            text = f"nothing is known of {entity!r} here; there are {ENTITIES}"
            raise RpcError(jsonrpc.INVALID_PARAMS, text, {"path": "$.params.entity"})
        return found

    def _inject(self, params: Any, project: str) -> RunState:
        what = read(params, InjectInto)
        if (what.fault is None) == (what.event is None):
            raise RpcError(jsonrpc.INVALID_PARAMS, "give a fault or an event", {"path": "$.params"})
        simulation = self.simulation
        if simulation is None:
            raise RpcError(jsonrpc.REFUSED, "this run plays events that are there already; nothing can be injected")
        into = next((known.name for known in simulation.scenario.projects if known.name == project), None)
        try:
            if what.event is not None:
                simulation.send(Emit(type=what.event.type, data=what.event.data, project=into), self._player.time)
            else:
                fault: Any = what.fault
                simulation.send(Inject(fault=fault, project=into), self._player.time)
        except (ScenarioError, EventError) as error:
            inside = "$.params.event" if what.event is not None else "$.params"  # of a fault they name it themselves
            path = f"{inside}.{error.path.removeprefix('$.')}"
            raise RpcError(jsonrpc.INVALID_PARAMS, str(error), {"path": path}) from error
        except CommandError as error:
            raise RpcError(jsonrpc.REFUSED, str(error)) from error
        return self.state(project)

    async def _settled(self, project: str) -> RunState:
        await self._player.settled()
        return self.state(project)

    # ---- people's decisions ---------------------------------------------------------------------------------------

    def _decide(self, event: Event) -> None:
        """Let the simulation go on from a person's decision; not from its own, which stand in the log, too."""
        simulation = self.simulation
        if simulation is None or event.simulation != simulation.id:
            return
        if event.type != "approval_resolved" or event.source != DECISION_SOURCE:  # anybody may name that source
            return
        self._inspection(event.project).add(event)
        told = event.data
        # Too late if the simulation has decided by itself meanwhile: its decision is then left out by the player.
        with suppress(CommandError):
            simulation.send(
                Decide(
                    project=event.project if len(simulation.scenario.projects) > 1 else None,
                    approval_id=told["approval_id"],
                    decision=told["decision"],
                    by=(told.get("by") or "somebody")[:200],
                    comment=told.get("comment") or "",
                    event_id=event.id,
                ),
                event.time,
            )

    # ---- the lease ------------------------------------------------------------------------------------------------

    async def _lapse(self) -> None:
        """Play on when nobody is there any more."""
        while True:
            await self._held.wait()
            while (left_s := self._held_until - self._monotonic()) > 0:
                await self._sleep(left_s)
            self._held.clear()
            self._break_at([])
            self._player.resume()

    # ---- the chat -------------------------------------------------------------------------------------------------

    async def _talk(self, agents: Agents) -> None:
        try:
            await agents.run()
        except SyndarixError as error:
            self._warn(f"this run's agents do not answer any more: {error}")

    # ---- in and out -----------------------------------------------------------------------------------------------

    async def _read(self, events: AsyncGenerator[Event], take: Callable[[Event], None]) -> None:
        try:
            async with aclosing(events):
                async for event in events:
                    take(event)
        except SyndarixError as error:
            self._warn(f"this run cannot be steered from outside any more: {error}")

    def _put(self, event_type: str, project: str, message: dict[str, Any]) -> None:
        now = datetime.now(UTC)
        event_id = secrets.token_hex(8)
        self._outbox.append(Event.new(event_type, message, project=project, id=event_id, time=now, source=SOURCE))
        self._written.clear()
        self._news.set()

    async def _write(self) -> None:
        while True:
            await self._news.wait()
            self._news.clear()
            while self._outbox:
                project = self._outbox[0].project
                batch: list[Event] = []
                while self._outbox and self._outbox[0].project == project and len(batch) < _BATCH:
                    batch.append(self._outbox.popleft())
                try:
                    await self._lines[project].send(batch)
                except SyndarixError as error:
                    self._warn(f"those who steer this run were not answered: {error}")
            self._written.set()

    def _inspection(self, project: str) -> Inspection:
        found = self._inspections.get(project)
        if found is None:
            found = self._inspections[project] = Inspection(project)
        return found

    def _start(self, work: Any, name: str) -> None:
        task = asyncio.create_task(work, name=f"{name} of {self.run}")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def _unknown(_: Any, __: str) -> Any:
    raise RpcError(jsonrpc.METHOD_NOT_FOUND, "a run has no such method", {"path": "$.method"})
