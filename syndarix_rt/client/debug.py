"""`DebugClient`: steers the runs that play into a project, over a WebSocket that it opens anew when it is cut.

=============  ==========================================  =============
state          on                                          becomes
=============  ==========================================  =============
``connecting`` the server takes the socket                 ``open``
``connecting`` no connection, 429, 5xx                     ``waiting``
``open``       cut, silent, or closed to come back         ``waiting``
``waiting``    the delay is over                           ``connecting``
any            a refusal for good, or ``aclose()``         ``closed``
=============  ==========================================  =============
"""

from __future__ import annotations

import asyncio
import itertools
import random
from collections import deque
from collections.abc import Awaitable, Callable, Iterator, Sequence
from http import HTTPStatus
from types import TracebackType
from typing import Any, Literal, Self

import aiohttp
import msgspec

from syndarix_rt.client.http import CONNECT_S, Unavailable, open_session, translated
from syndarix_rt.client.url import parse_server_url
from syndarix_rt.delivery import RunState, backoff, jsonrpc
from syndarix_rt.delivery.steering import Notice
from syndarix_rt.errors import RpcError, StreamError
from syndarix_rt.events import is_project_name

__all__ = ["DebugClient"]

PROTOCOL = "syndarix.debug.v1"

FIRST_DELAY_S = 0.5
CAP_S = 5.0
"""The longest delay: a run waits 15 s for those who steer it before it plays on."""

SILENCE_S = 45.0
"""A socket without a word for so long is dead: the server asks for a sign of life every 15 s."""

ANSWER_S = 70.0
"""A run answers within milliseconds, and a server itself after a minute at most."""

MAX_NOTICES = 1_000
"""Notices that wait to be taken; the oldest go first, the newest tell the state."""

MAX_ASKED_BYTES = 64 * 1024
"""A server closes a socket over a larger message."""

MAX_ANSWER_BYTES = 4 * 1024 * 1024
"""A list of many runs; anything else has at most 64 KiB."""

_FOR_GOOD = {
    4401: "the server wants its key; use the URL that it printed, with its ?key=",
    4403: "this key does not reach so far",
    4404: "there is no such project",
}

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


_message = msgspec.json.Decoder(_Message).decode


class DebugClient:
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
        on_notice: called with each notice, instead of iterating.
        rng: the source of the jitter.
        sleep: waits a number of seconds; for tests.

    Raises:
        StreamError: the URL or the project's name is wrong.
    """

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
        server = parse_server_url(base_url)
        if not is_project_name(project):
            raise StreamError(f"not a project name: {project!r} (1 to 64 of letters, digits, '_' and '-')")
        self.project = project
        self._url = f"{server.base_url}/projects/{project}/debug"
        self._token = token or server.token
        self._on_notice = on_notice
        self._rng = rng or random.Random()  # noqa: S311 - jitter, no secret
        self._sleep = sleep

        self._state: Literal["connecting", "open", "waiting", "closed"] = "connecting"
        self._reason = ""
        self._failure: StreamError | None = None
        self._socket: aiohttp.ClientWebSocketResponse | None = None
        self._task: asyncio.Task[None] | None = None
        self._numbers = itertools.count(1)
        self._pending: dict[int, asyncio.Future[_Message]] = {}
        self._attached: dict[str, RunState] = {}
        self._notices: deque[Notice] = deque(maxlen=MAX_NOTICES)
        self._changed = asyncio.Condition()

    # ---- what can be seen -----------------------------------------------------------------------------------------

    @property
    def state(self) -> Literal["connecting", "open", "waiting", "closed"]:
        """Where it stands in the module's table."""
        return self._state

    @property
    def reason(self) -> str:
        """Why it waits or is closed, for a person; empty while all is well."""
        return self._reason

    @property
    def attached(self) -> dict[str, RunState]:
        """The runs that it is attached to, as they last told."""
        return dict(self._attached)

    # ---- steering -------------------------------------------------------------------------------------------------

    async def runs(self) -> list[RunState]:
        """The runs that play into the project."""
        return msgspec.json.decode(await self._ask("run.list", {}), type=list[RunState])

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
        state = msgspec.json.decode(await self._ask(method, _params(run, **params)), type=RunState)
        if state.run not in self._attached:
            self._attached[state.run] = state
        return state

    # ---- notices --------------------------------------------------------------------------------------------------

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Notice:
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
            self._on_notice(notice)
        else:
            self._notices.append(notice)

    # ---- life -----------------------------------------------------------------------------------------------------

    async def __aenter__(self) -> Self:
        self._task = asyncio.create_task(self._run(), name=f"debug client of {self.project}")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Close the socket; who waits for an answer gets an error."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.wait({task})

    async def _run(self) -> None:
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_S)
        try:
            async with open_session(self._token, timeout, keep_connections=False) as session:
                delays: Iterator[float] | None = None
                while True:
                    await self._move("connecting")
                    try:
                        socket = await self._connect(session)
                        try:
                            await self._use(socket)
                        finally:
                            if self._socket is not None:
                                delays, self._socket = None, None
                            await socket.close()
                    except Unavailable as error:
                        self._cut(error)
                        delays = delays or backoff(self._rng, first_s=FIRST_DELAY_S, cap_s=CAP_S)
                        await self._move("waiting", str(error))
                        await self._sleep(error.retry_after_s + next(delays))
        except StreamError as error:
            self._failure = error
        finally:
            self._cut(self._failure or Unavailable(f"{self._url}: closed here"))
            await self._move("closed", str(self._failure or "closed here"))

    async def _connect(self, session: aiohttp.ClientSession) -> aiohttp.ClientWebSocketResponse:
        with translated(self._url):
            try:
                return await session.ws_connect(
                    self._url, protocols=(PROTOCOL,), max_msg_size=MAX_ANSWER_BYTES, compress=0
                )
            except aiohttp.WSServerHandshakeError as error:
                text = f"{self._url}: {error.status}: the server does not take a debugger"
                if error.status == HTTPStatus.TOO_MANY_REQUESTS or error.status >= HTTPStatus.INTERNAL_SERVER_ERROR:
                    raise Unavailable(text, error.status) from error
                raise StreamError(text, error.status) from error

    async def _use(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        """Receive until the socket ends, which raises; attach again meanwhile.

        Raises:
            Unavailable: it was cut.
            StreamError: it was closed for good.
        """
        self._socket = socket
        attaching = asyncio.create_task(self._attach_again())
        try:
            await self._move("open")
            while True:
                with translated(self._url):
                    message = await socket.receive(timeout=SILENCE_S)
                if message.type is not aiohttp.WSMsgType.TEXT:
                    break
                await self._take(socket, message.data)
        finally:
            attaching.cancel()
            await asyncio.wait({attaching})
        reason = _FOR_GOOD.get(socket.close_code or 0)
        if reason is not None:
            raise StreamError(f"{self._url}: {reason}")
        raise Unavailable(f"{self._url}: the server ended the connection ({message.extra or socket.close_code})")

    async def _take(self, socket: aiohttp.ClientWebSocketResponse, text: str) -> None:
        try:
            message = _message(text)
            if message.method == "ping":
                with translated(self._url):
                    await socket.send_str(jsonrpc.encode(jsonrpc.notice("pong", {})))
            elif message.method in ("run.state", "run.stopped"):
                notice = Notice(message.method, msgspec.json.decode(message.params, type=RunState))  # type: ignore[arg-type]  # one of the two
                async with self._changed:
                    self._note(notice)
                    self._changed.notify_all()
            elif message.method is None:
                asked = self._pending.pop(message.id, None)
                if asked is not None and not asked.done():
                    asked.set_result(message)
        except (msgspec.DecodeError, TypeError) as error:
            raise StreamError(f"{self._url}: what answers there does not speak {PROTOCOL}: {error}") from error

    async def _attach_again(self) -> None:
        """After a reconnect; a run that has ended meanwhile is told of as ended."""
        for run, known in list(self._attached.items()):
            try:
                state = msgspec.json.decode(await self._ask("run.attach", {"run": run}), type=RunState)
            except RpcError as error:
                if error.code != jsonrpc.UNKNOWN_RUN:
                    continue
                state = msgspec.structs.replace(known, state="ended", stopped=None)
            except StreamError:
                return  # cut again
            async with self._changed:
                self._note(Notice("run.state", state))
                self._changed.notify_all()

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
        if self._task is None and self._state != "closed":
            raise RuntimeError("enter the client first: async with DebugClient(…) as debug")
        async with self._changed:
            await self._changed.wait_for(lambda: self._state in ("open", "closed"))
        socket = self._socket
        if self._state == "closed" or socket is None:
            raise self._failure or Unavailable(f"{self._url}: {self._reason or 'the connection was cut'}")
        call_id = next(self._numbers)
        text = jsonrpc.encode({"jsonrpc": "2.0", "id": call_id, "method": method, "params": params})
        if len(text.encode()) > MAX_ASKED_BYTES:
            raise RpcError(jsonrpc.INVALID_PARAMS, f"a request has at most {MAX_ASKED_BYTES} bytes")
        asked: asyncio.Future[_Message] = asyncio.get_running_loop().create_future()
        self._pending[call_id] = asked
        try:
            with translated(self._url):
                await socket.send_str(text)
            return await asked
        except Unavailable:
            self._pending.pop(call_id, None)
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

    async def _move(self, state: Literal["connecting", "open", "waiting", "closed"], reason: str = "") -> None:
        async with self._changed:
            self._state = state
            self._reason = reason
            self._changed.notify_all()


def _params(run: str | None, **params: Any) -> dict[str, Any]:
    named = {} if run is None else {"run": run}
    return named | {name: value for name, value in params.items() if value is not None}
