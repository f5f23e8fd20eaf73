"""What Hypercorn keeps of a connection, made small: of a stream that says nothing it is nearly all the memory.

A ``deque`` has room for 64 things from the start, 0.6 KiB, and asyncio puts one into each `asyncio.Event`, four into an
`asyncio.Queue`. Hypercorn has one of each for every request, in which next to nothing ever waits. These here take
memory for what waits only as long as it does. They come in through Hypercorn's own interfaces (``event_class`` of its
context, ``spawn_app`` of its task group), for which its configuration has no place.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import hypercorn.asyncio.run
import hypercorn.asyncio.tcp_server
from hypercorn.app_wrappers import ASGIWrapper
from hypercorn.asyncio.task_group import TaskGroup
from hypercorn.asyncio.worker_context import WorkerContext
from hypercorn.config import Config
from hypercorn.typing import AppWrapper, ASGIReceiveEvent, ASGISendEvent, Scope

__all__ = ["Event", "Inbox", "install"]


class Event:
    """As `asyncio.Event`, with the coroutines that Hypercorn asks of one."""

    __slots__ = ("_is_set", "_waiting")

    def __init__(self) -> None:
        self._is_set = False
        self._waiting: list[asyncio.Future[None]] = []

    def is_set(self) -> bool:
        """Whether nobody has to wait."""
        return self._is_set

    async def set(self) -> None:
        """Wake all who wait."""
        self._is_set = True
        _wake(self._waiting)

    async def clear(self) -> None:
        """Let who comes from now on wait."""
        self._is_set = False

    async def wait(self) -> None:
        """Return when it is set."""
        if not self._is_set:
            await _wait_in(self._waiting)


class Inbox:
    """What an app is to receive: some events, and then whoever brings more waits.

    Args:
        size: how many.
    """

    __slots__ = ("_events", "_getting", "_putting", "_size")

    def __init__(self, size: int) -> None:
        self._size = size
        self._events: list[ASGIReceiveEvent] = []
        self._getting: list[asyncio.Future[None]] = []
        self._putting: list[asyncio.Future[None]] = []

    async def put(self, event: ASGIReceiveEvent) -> None:
        """Bring an event; returns when there is room for it."""
        while len(self._events) >= self._size:
            await _wait_in(self._putting)
        self._events.append(event)
        _wake(self._getting)

    async def get(self) -> ASGIReceiveEvent:
        """The next event, when there is one: ASGI's ``receive``."""
        while not self._events:
            await _wait_in(self._getting)
        event = self._events.pop(0)
        _wake(self._putting)
        return event


async def _wait_in(waiting: list[asyncio.Future[None]]) -> None:
    future = asyncio.get_running_loop().create_future()
    waiting.append(future)
    try:
        await future
    finally:
        waiting.remove(future)


def _wake(waiting: list[asyncio.Future[None]]) -> None:
    for future in waiting:
        if not future.done():
            future.set_result(None)


class _Context(WorkerContext):
    event_class = Event


class _TaskGroup(TaskGroup):
    async def spawn_app(
        self,
        app: AppWrapper,
        config: Config,
        scope: Scope,
        send: Callable[[ASGISendEvent | None], Awaitable[None]],
    ) -> Callable[[ASGIReceiveEvent], Awaitable[None]]:
        if not isinstance(app, ASGIWrapper):  # somebody else's server in this process
            return await super().spawn_app(app, config, scope, send)
        inbox = Inbox(config.max_app_queue_size)
        self.spawn(_run, app, config, scope, inbox.get, send)
        return inbox.put


async def _run(app: ASGIWrapper, config: Config, scope: Scope, receive: Any, send: Any) -> None:
    """Call the app, and tell Hypercorn when it has ended, as Hypercorn itself does."""
    try:
        await app.app(scope, receive, send)
    except Exception:  # noqa: BLE001 - logged with its traceback
        await config.log.exception("Error in ASGI Framework")
    finally:
        await send(None)


def install() -> None:
    """Let Hypercorn use them."""
    hypercorn.asyncio.run.WorkerContext = _Context  # type: ignore[attr-defined]  # imported there, not exported
    hypercorn.asyncio.tcp_server.TaskGroup = _TaskGroup  # type: ignore[attr-defined]
