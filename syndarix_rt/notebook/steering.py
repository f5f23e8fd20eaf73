"""`Steering`: pause, step, speed and faults of a run, from cells that need not wait for it."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Coroutine, Generator, Mapping
from concurrent.futures import Future
from typing import Any, Generic, TypeVar

import msgspec

from syndarix_rt.client import DebugClient
from syndarix_rt.delivery import RunState
from syndarix_rt.delivery.steering import described
from syndarix_rt.events import Event
from syndarix_rt.notebook.background import Background
from syndarix_rt.simulation.settings import AnyFault

__all__ = ["Asked", "RemoteRun", "Steering"]

T = TypeVar("T")


class Asked(Generic[T]):
    """What a run was asked, and its answer when it comes: ``await`` it, take its ``result()``, or leave it."""

    def __init__(self, what: str, answer: Future[T]) -> None:
        self._what = what
        self._answer = answer

    def __await__(self) -> Generator[Any, None, T]:
        # Shielded: whoever stops waiting does not take back what the run was asked.
        return asyncio.shield(asyncio.wrap_future(self._answer)).__await__()

    @property
    def done(self) -> bool:
        """Whether the answer is there."""
        return self._answer.done()

    def result(self, timeout_s: float | None = None) -> T:
        """Wait for the answer here.

        Raises:
            RpcError: the run refuses.
            StreamError: the server does, or is away.
            TimeoutError: it took longer than ``timeout_s``.
        """
        return self._answer.result(timeout_s)

    def __repr__(self) -> str:
        if not self._answer.done():
            return f"<{self._what} …>"
        error = None if self._answer.cancelled() else self._answer.exception()
        if error is not None:
            return f"<{self._what}: {error}>"
        answer = "given up" if self._answer.cancelled() else self._answer.result()
        return f"<{self._what}: {described(answer) if isinstance(answer, RunState) else answer}>"


class Steering(ABC):
    """What can be done to a run that plays. Every method returns at once; awaiting what it returns gives the answer."""

    def __init__(self, background: Background) -> None:
        self._background = background
        self._trouble = ""

    def pause(self) -> Asked[RunState]:
        """Publish nothing more; the answer is how it stands."""
        return self._steer("pause", "run.pause")

    def resume(self) -> Asked[RunState]:
        """Play on."""
        return self._steer("resume", "run.resume")

    def step(self, events: int = 1) -> Asked[RunState]:
        """Publish exactly so many events, at once; the answer comes when it stands, at a breakpoint perhaps before."""
        return self._steer(f"step {events}", "run.step", events=events)

    def set_speed(self, speed: float) -> Asked[RunState]:
        """Play at another speed, simulated seconds per second; ``math.inf``: as fast as it goes."""
        return self._steer(f"speed {speed:g}", "run.setSpeed", speed="max" if speed == float("inf") else speed)

    def inject(self, what: str | AnyFault | Event | Mapping[str, Any], **settings: Any) -> Asked[RunState]:
        """Begin a fault, or put an event into the stream; in a simulation, after what was read of it already.

        Args:
            what: a kind of fault with its settings (``"ci_outage", minutes=30``), a fault of
                `syndarix_rt.simulation.settings`, an `Event`, or one as ``{"type": …, "data": {…}}``.
            settings: of the fault.
        """
        if isinstance(what, Event):
            return self._steer(f"inject {what.type}", "run.inject", event={"type": what.type, "data": what.data})
        if isinstance(what, Mapping) and "type" in what:
            return self._steer(f"inject {what['type']}", "run.inject", event=dict(what))
        fault = {"kind": what} if isinstance(what, str) else dict(msgspec.to_builtins(what))
        fault = {name: value for name, value in (fault | settings).items() if value is not None}
        return self._steer(f"inject {fault.get('kind')}", "run.inject", fault=fault)

    def set_breakpoints(self, *breakpoints: str | Mapping[str, str]) -> Asked[RunState]:
        """Stop right after events that match; without any, no more.

        Args:
            breakpoints: types of events, or ``{"type": …, "where": "duration_s > 600"}``. They replace those before.
        """
        points = [{"type": point} if isinstance(point, str) else dict(point) for point in breakpoints]
        return self._steer("breakpoints", "run.setBreakpoints", breakpoints=points)

    def inspect(self, entity: str = "project") -> Asked[Any]:
        """What the published events say about ``project``, ``agents``, ``agent:developer-1``, ``queues`` …."""
        return self._submit(f"inspect {entity}", self._ask("run.inspect", {"entity": entity}))

    @abstractmethod
    async def _ask(self, method: str, params: dict[str, Any]) -> Any:
        """Ask the run, on the background's loop; the answer as JSON values or a `RunState`."""

    def _steer(self, what: str, method: str, **params: Any) -> Asked[RunState]:
        async def work() -> RunState:
            return msgspec.convert(msgspec.to_builtins(await self._ask(method, params)), RunState)

        return self._submit(what, work())

    def _submit(self, what: str, work: Coroutine[Any, Any, T]) -> Asked[T]:
        answer = self._background.submit(work)
        answer.add_done_callback(lambda done: self._note(what, done))
        return Asked(what, answer)

    def _note(self, what: str, done: Future[Any]) -> None:
        """Keep why it did not work: most who ask do not wait."""
        error = None if done.cancelled() else done.exception()
        self._trouble = f"{what}: {error}" if error else ""


class RemoteRun(Steering):
    """The run of somebody else, in any process: the only one that plays into a project."""

    def __init__(self, background: Background, debugger: Callable[[], Awaitable[DebugClient]]) -> None:
        super().__init__(background)
        self._debugger = debugger

    async def _ask(self, method: str, params: dict[str, Any]) -> Any:
        return await (await self._debugger()).call(method, params)
