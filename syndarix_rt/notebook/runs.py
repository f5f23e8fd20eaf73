"""`Run`: what plays into a project, in a child process (presets) or on the workbench's thread (iterables)."""

from __future__ import annotations

import asyncio
import re
import time
from abc import abstractmethod
from collections.abc import Awaitable, Callable
from concurrent.futures import CancelledError, Future
from contextlib import suppress
from typing import Any

from syndarix_rt.client import DebugClient
from syndarix_rt.delivery import RunState
from syndarix_rt.delivery.jsonrpc import UNKNOWN_RUN
from syndarix_rt.delivery.steering import described
from syndarix_rt.errors import RpcError, SyndarixError
from syndarix_rt.notebook.background import Background
from syndarix_rt.notebook.children import Child
from syndarix_rt.notebook.steering import Steering
from syndarix_rt.playback import Control, Player

__all__ = ["PlayerRun", "ProcessRun", "Run"]

POLL_S = 0.05

_REPORT = re.compile(r"([\d,]+) events published")


STOP_S = 5.0
"""The batch in flight gets so long; a server that is gone would have it tried again for half a minute."""


START_S = 60.0
"""A child that has not begun to play after so long will not."""


class Run(Steering):
    """Something that plays events into a project.

    Attributes:
        name: what it plays.
        project: where to.
    """

    def __init__(self, name: str, project: str, background: Background) -> None:
        super().__init__(background)
        self.name = name
        self.project = project

    @property
    @abstractmethod
    def done(self) -> bool:
        """Whether it has ended, in whatever way."""

    @property
    @abstractmethod
    def published(self) -> int | None:
        """Events published; None while that is not known."""

    @property
    @abstractmethod
    def state(self) -> RunState | None:
        """How it stands; None while that is not known."""

    @property
    @abstractmethod
    def error(self) -> str:
        """Why it failed; empty if it did not."""

    @abstractmethod
    def stop(self) -> None:
        """End it; what is published stays."""

    async def wait(self) -> int | None:
        """Wait until it has ended; the number of events it published.

        Raises:
            SyndarixError: it failed.
        """
        while not self.done:  # noqa: ASYNC110 - it ends in another thread or process
            await asyncio.sleep(POLL_S)
        return self._outcome()

    def wait_sync(self) -> int | None:
        """As `wait`, for code that cannot await."""
        while not self.done:
            time.sleep(POLL_S)
        return self._outcome()

    def _outcome(self) -> int | None:
        if self.error:
            raise SyndarixError(self.error)
        return self.published

    async def stopped(self) -> RunState:
        """Wait until it stands, at a breakpoint or because somebody paused it; how.

        Raises:
            SyndarixError: it has ended.
        """
        while not self.done:
            state = self.state
            if state is not None and state.state == "paused" and state.stopped is not None:
                return state
            await asyncio.sleep(POLL_S)
        raise SyndarixError(self.status)

    @property
    def stands(self) -> bool:
        """Whether it publishes nothing, or only what it is stepped."""
        state = self.state
        return state is not None and state.state in ("paused", "stepping")

    @property
    def status(self) -> str:
        """One line for people."""
        if not self.done:
            state = self.state
            text = f"{self.name} {described(state) if state and self.stands else 'plays'}"
            return f"{text} ({self._trouble})" if self._trouble else text
        if self.error:
            return f"{self.name} failed: {self.error}"
        return f"{self.name} ended" + ("" if self.published is None else f" after {self.published:,} events")

    def __repr__(self) -> str:
        return f"<Run into {self.project!r}: {self.status}>"


class ProcessRun(Run):
    """``syndarix-rt play`` in a child process: a cell that blocks does not slow it down."""

    def __init__(
        self,
        name: str,
        project: str,
        child: Child,
        run_id: str,
        background: Background,
        debugger: Callable[[], Awaitable[DebugClient]],
    ) -> None:
        super().__init__(name, project, background)
        self._child = child
        self._id = run_id
        self._debugger = debugger
        self._debug: DebugClient | None = None
        self._turn = asyncio.Lock()
        self._stopped = False
        background.spawn(self._follow())

    @property
    def done(self) -> bool:
        """Whether the process has ended."""
        return self._child.returncode is not None

    @property
    def published(self) -> int | None:
        """Events published; None until it has ended."""
        found = [match for line in self._child.tail if (match := _REPORT.search(line))]
        return int(found[-1][1].replace(",", "")) if found else (0 if self.done else None)

    @property
    def error(self) -> str:
        """The last line that it said before it failed."""
        failed = self.done and self._child.returncode != 0 and not self._stopped
        return self._child.last_words() or f"exit code {self._child.returncode}" if failed else ""

    @property
    def state(self) -> RunState | None:
        """How it stands, as it last told, whoever steers it; None before it plays."""
        return self._debug.attached.get(self._id) if self._debug else None

    async def _follow(self) -> None:
        """Be told from its start what others do with it."""
        with suppress(SyndarixError):  # `error` tells why it does not play
            await self._ask("run.attach", {})

    async def _ask(self, method: str, params: dict[str, Any]) -> Any:
        async with self._turn:  # what is asked first arrives first
            debug = self._debug = self._debug or await self._meet()
        return await debug.call(method, params | {"run": self._id})

    async def _meet(self) -> DebugClient:
        """The client, attached to the run; a child needs a moment until it plays."""
        debug = await self._debugger()
        deadline_s = time.monotonic() + START_S
        while True:
            try:
                await debug.attach(self._id)
            except RpcError as error:
                if self.done:
                    raise SyndarixError(self.status) from error
                if error.code != UNKNOWN_RUN or time.monotonic() > deadline_s:
                    raise
                await asyncio.sleep(POLL_S)
            else:
                return debug

    def stop(self) -> None:
        """End the process."""
        if not self.done:
            self._stopped = True
            self._child.stop()


class PlayerRun(Run):
    """A `Player` on the workbench's thread."""

    def __init__(
        self, name: str, project: str, player: Player, control: Control, background: Background, task: Future[None]
    ) -> None:
        super().__init__(name, project, background)
        self._player = player
        self._control = control
        self._task = task

    @property
    def done(self) -> bool:
        """Whether it has ended."""
        return self._task.done()

    @property
    def published(self) -> int:
        """Events published so far."""
        return self._player.published

    @property
    def error(self) -> str:
        """What its source or its publisher raised."""
        try:
            error = self._task.exception() if self._task.done() else None
        except CancelledError:
            return ""
        return "" if error is None else str(error) or type(error).__name__

    @property
    def state(self) -> RunState:
        """How it stands."""
        return self._control.state(self.project)

    async def _ask(self, method: str, params: dict[str, Any]) -> Any:
        if self.done:
            raise SyndarixError(self.status)
        return await self._control.ask(method, params, project=self.project)

    def stop(self) -> None:
        """End it after the batch in flight."""
        if not self._task.done():
            self._background.run(self._stop())

    async def _stop(self) -> None:
        self._player.stop()
        task = asyncio.wrap_future(self._task)
        await asyncio.wait([task], timeout=STOP_S)
        task.cancel()
