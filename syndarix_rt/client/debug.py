"""`DebugClient`: steers the runs that play into a project, over a `SocketClient`."""

from __future__ import annotations

import asyncio
import itertools
import random
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from typing import Any, ClassVar, Literal, Self, TypeVar

import msgspec

from syndarix_rt.client.http import UNREADABLE, Unavailable
from syndarix_rt.client.socket import MAX_SENT_BYTES, SocketClient
from syndarix_rt.delivery import RunState, jsonrpc
from syndarix_rt.delivery.steering import Notice
from syndarix_rt.errors import RpcError, StreamError

__all__ = ["DebugClient"]

ANSWER_S = 70.0
"""A run answers within milliseconds, and a server itself after a minute at most."""

AGAIN_S = 1.0
"""After a reconnect, a run whose server cannot reach it yet is asked for again after so long."""

MAX_NOTICES = 1_000
"""Notices that wait to be taken; the oldest go first, the newest tell the state."""

_REPEATABLE = {
    "run.list", "run.attach", "run.pause", "run.resume", "run.setSpeed", "run.setBreakpoints", "run.inspect",
}  # fmt: skip
"""Asking twice does no more than asking once, so it is asked again after a cut."""


class _Message(msgspec.Struct):
    id: Any = None
    result: msgspec.Raw = msgspec.Raw(b"null")
    error: _Error | None = None
    method: str | None = None
    params: msgspec.Raw = msgspec.Raw(b"null")


class _Error(msgspec.Struct):
    code: int
    message: str
    data: Any = None


T = TypeVar("T")


class DebugClient(SocketClient):
    """Steers runs; an asynchronous context manager, and an iterator of what the runs tell (`Notice`).

    ::

        async with DebugClient("http://127.0.0.1:8765/?key=…", "apollo") as debug:
            for run in await debug.runs():
                await debug.pause(run.run)

    ``run`` is a run's id everywhere; None stands for the one that is attached to, else for the only one that plays.
    Steering a run attaches to it: from then on its notices come, and it waits for us. After a reconnect it is attached
    to again, and a notice tells its state.

    Every method raises `RpcError` if it is refused, and `StreamError` if the server refuses the socket; that is a
    `BrokerUnavailable`, too, if the connection was lost and it is not known what became of the request.

    Args:
        base_url: the server's URL, also as printed or pasted.
        project: whose runs.
        token: the secret, if it is not in the URL.
        on_notice: called with each notice, instead of iterating. If it raises, that is logged.
        rng: the source of the jitter.
        sleep: waits a number of seconds; for tests.

    Raises:
        StreamError: the URL or the project's name is wrong.
    """

    PROTOCOL: ClassVar[str] = "syndarix.debug.v1"
    SILENCE_S: ClassVar[float] = 45.0
    """The server asks for a sign of life every 15 s."""

    def __init__(
        self,
        base_url: str,
        project: str,
        *,
        token: str | None = None,
        on_notice: Callable[[Notice], None] | None = None,
        rng: random.Random | None = None,
        sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
    ) -> None:
        super().__init__(base_url, project, "debug", token=token, rng=rng, sleep=sleep)
        self._on_notice = on_notice
        self._numbers = itertools.count(1)
        self._pending: dict[int, asyncio.Future[_Message]] = {}
        self._attached: dict[str, RunState] = {}
        self._notices: deque[Notice] = deque(maxlen=MAX_NOTICES)

    # ---- what can be seen -----------------------------------------------------------------------------------------

    @property
    def attached(self) -> dict[str, RunState]:
        """The runs that it is attached to, as they last told."""
        return dict(self._attached)

    # ---- steering -------------------------------------------------------------------------------------------------

    async def runs(self) -> list[RunState]:
        """The runs that play into the project."""
        return self._read(await self._ask("run.list", {}), list[RunState])

    async def attach(self, run: str | None = None) -> RunState:
        """Be told what becomes of a run; how it is now."""
        return await self._steer("run.attach", run)

    async def pause(self, run: str | None = None) -> RunState:
        """Stop publishing; how it stands, with nothing in flight. It waits as long as this client is there."""
        return await self._steer("run.pause", run)

    async def resume(self, run: str | None = None) -> RunState:
        """Play on."""
        return await self._steer("run.resume", run)

    async def step(self, run: str | None = None, events: int = 1) -> RunState:
        """Publish exactly so many events; how it stands after them, or at a breakpoint before."""
        return await self._steer("run.step", run, events=events)

    async def set_speed(self, speed: float | Literal["max"], run: str | None = None) -> RunState:
        """Play at another speed, simulated seconds per wall second; ``max`` or infinity: as fast as it goes."""
        return await self._steer("run.setSpeed", run, speed="max" if speed == float("inf") else speed)

    async def set_breakpoints(self, breakpoints: Sequence[dict[str, str]], run: str | None = None) -> RunState:
        """Stop at events: each is ``{"type": …, "where": …}``, or one of the two. They replace those that were set."""
        return await self._steer("run.setBreakpoints", run, breakpoints=list(breakpoints))

    async def inject(
        self, run: str | None = None, *, fault: dict[str, Any] | None = None, event: dict[str, Any] | None = None
    ) -> RunState:
        """Begin a fault (``{"kind": "ci_outage", "minutes": 30}``), or emit an event (``{"type": …, "data": {…}}``)."""
        return await self._steer("run.inject", run, fault=fault, event=event)

    async def call(self, method: str, params: dict[str, Any] | None = None) -> Any:
        """Any method by its name; the result as JSON values."""
        return msgspec.json.decode(await self._ask(method, params or {}))

    async def inspect(self, entity: str = "run", run: str | None = None) -> Any:
        """What is known about an entity of the run: ``run``, ``project``, ``agents`` or ``agent:developer-1``."""
        return msgspec.json.decode(await self._ask("run.inspect", _params(run, entity=entity)))

    async def _steer(self, method: str, run: str | None, **params: Any) -> RunState:
        state = self._read(await self._ask(method, _params(run, **params)), RunState)
        if state.run not in self._attached:
            self._attached[state.run] = state
        return state

    # ---- notices --------------------------------------------------------------------------------------------------

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Notice:
        self._check_entered()
        async with self._changed:
            await self._changed.wait_for(lambda: self._notices or self._state == "closed")
        if self._notices:
            return self._notices.popleft()
        if self._failure is not None:
            raise self._failure
        raise StopAsyncIteration

    def _note(self, notice: Notice) -> None:
        self._attached[notice.state.run] = notice.state
        if notice.state.state in ("ended", "cancelled", "failed"):
            del self._attached[notice.state.run]
        if self._on_notice is not None:
            self._call(self._on_notice, notice)
        else:
            self._notices.append(notice)

    # ---- the socket -----------------------------------------------------------------------------------------------

    async def _take(self, text: str) -> None:
        message = self._read(text, _Message)
        if message.method == "ping":
            await self._send(jsonrpc.encode(jsonrpc.notice("pong", {})))
        elif message.method in ("run.state", "run.stopped"):
            notice = Notice(message.method, self._read(message.params, RunState))  # type: ignore[arg-type]  # one of the two
            async with self._changed:
                self._note(notice)
                self._changed.notify_all()
        elif message.method is None and isinstance(message.id, int):  # others are none of ours
            asked = self._pending.pop(message.id, None)
            if asked is not None and not asked.done():
                asked.set_result(message)

    async def _begin(self) -> None:
        """After a reconnect; a run that has ended meanwhile is told of as ended."""
        with suppress(Unavailable):  # cut again
            await asyncio.gather(*(self._attach_again(run) for run in self._attached.values()))

    async def _attach_again(self, known: RunState) -> None:
        while True:
            try:
                state = self._read(await self._ask("run.attach", {"run": known.run}), RunState)
            except RpcError as error:
                if error.code in (jsonrpc.BROKER_AWAY, jsonrpc.NO_ANSWER):  # as what cut us off may have done, too
                    await asyncio.sleep(AGAIN_S)
                    continue
                if error.code != jsonrpc.UNKNOWN_RUN:
                    return
                state = msgspec.structs.replace(known, state="ended", stopped=None)
            async with self._changed:
                self._note(Notice("run.state", state))
                self._changed.notify_all()
            return

    def _read(self, raw: str | bytes | msgspec.Raw, kind: type[T]) -> T:
        """Read what a server has said.

        Raises:
            StreamError: it is something else.
        """
        try:
            return msgspec.json.decode(raw, type=kind)
        except UNREADABLE as error:
            raise StreamError(f"{self._url}: what answers there does not speak {self.PROTOCOL}: {error}") from error

    async def _ask(self, method: str, params: dict[str, Any]) -> bytes:
        """Ask, again after a cut if that does no harm; the result as JSON.

        Raises:
            RpcError: it was refused.
            StreamError: there is no answer.
        """
        try:
            async with asyncio.timeout(ANSWER_S):
                while True:
                    try:
                        answer = await self._ask_once(method, params)
                    except Unavailable as error:
                        if self._failure is not None:
                            raise self._failure from error
                        if method not in _REPEATABLE or self._state == "closed":
                            raise
                    else:
                        break
        except TimeoutError:
            raise Unavailable(f"{self._url}: no answer within {ANSWER_S:g} s: {self._reason or method}") from None
        if answer.error is not None:
            raise RpcError(answer.error.code, answer.error.message, answer.error.data)
        return bytes(answer.result)

    async def _ask_once(self, method: str, params: dict[str, Any]) -> _Message:
        self._check_entered()
        async with self._changed:
            await self._changed.wait_for(lambda: self._state in ("open", "closed"))
        socket = self._socket
        if self._state == "closed" or socket is None:
            raise self._failure or Unavailable(f"{self._url}: {self._reason or 'the connection was cut'}")
        call_id = next(self._numbers)
        text = jsonrpc.encode({"jsonrpc": "2.0", "id": call_id, "method": method, "params": params})
        if len(text.encode()) > MAX_SENT_BYTES:
            raise RpcError(jsonrpc.INVALID_PARAMS, f"a request has at most {MAX_SENT_BYTES} bytes")
        asked: asyncio.Future[_Message] = asyncio.get_running_loop().create_future()
        asked.add_done_callback(lambda done: done.cancelled() or done.exception())  # the write may have told already
        self._pending[call_id] = asked
        try:
            await self._send(text)
            return await asked
        except Unavailable:
            async with self._changed:  # it may be dead already, and nobody has noticed yet
                await self._changed.wait_for(lambda: self._socket is not socket)
            raise
        finally:
            self._pending.pop(call_id, None)

    def _cut(self, error: StreamError) -> None:
        """Nobody gets an answer any more."""
        pending, self._pending = self._pending, {}
        for asked in pending.values():
            if not asked.done():
                asked.set_exception(error)


def _params(run: str | None, **params: Any) -> dict[str, Any]:
    named = {} if run is None else {"run": run}
    return named | {name: value for name, value in params.items() if value is not None}
