"""``WS /projects/{p}/debug``: runs are steered by JSON-RPC 2.0 (``syndarix.debug.v1``, DESIGN §7).

``run.list`` and ``run.attach`` are answered here, everything else by the run itself, over its control channel: so it
does not matter through which instance somebody comes, and all who are attached to a run are told the same. Every method
takes ``run``; without it the one that the socket is attached to is meant, else the only one that plays. Steering a run
attaches to it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import Any

import msgspec
from quart import Blueprint, current_app

from syndarix_rt.delivery import jsonrpc
from syndarix_rt.delivery.jsonrpc import Call
from syndarix_rt.delivery.steering import RunState
from syndarix_rt.errors import RpcError
from syndarix_rt.events import is_project_name
from syndarix_rt.server.hub import Hub
from syndarix_rt.server.socket import POLICY, RESTART, UNKNOWN, Socket
from syndarix_rt.server.steering import Link, Links

__all__ = ["PROTOCOL", "debug"]

debug = Blueprint("debug", __name__, url_prefix="/projects")

PROTOCOL = "syndarix.debug.v1"

METHODS = (
    "run.attach",
    "run.pause",
    "run.resume",
    "run.step",
    "run.setSpeed",
    "run.setBreakpoints",
    "run.inspect",
    "run.inject",
)

LIST_S = 2.0
"""``run.list`` waits so long for a run to tell its state; one that is alive answers within milliseconds."""

ANSWER_S = 10.0
STEP_S = 60.0
"""``run.step`` answers when the steps are taken: a hundred thousand of them, if need be."""

MAX_OPEN = 64
"""Messages of one socket that are not answered yet."""

MAX_ATTACHED = 16
"""Runs that one socket is attached to."""


@debug.websocket("/<project>/debug")
async def debug_socket(project: str) -> None:
    """Steer the project's runs."""
    if not await Socket.accept(PROTOCOL):
        return
    if not is_project_name(project):
        await Socket.turn_away(UNKNOWN, "not a project name")
        return
    hub: Hub = current_app.extensions["syndarix_rt"]
    links: Links = current_app.extensions["syndarix_rt_links"]
    session = _Session(hub, links, project)
    try:
        await session.socket.run(session.take)
    finally:
        session.leave()


class _Session:
    """One debugger."""

    def __init__(self, hub: Hub, links: Links, project: str) -> None:
        self.socket = Socket(hub, jsonrpc.encode(jsonrpc.notice("ping", {})))
        self._links = links
        self._project = project
        self._attached: dict[str, Link] = {}
        self._open: set[asyncio.Task[None]] = set()

    def leave(self) -> None:
        """Let everything go; never waits, for the socket's task may be cancelled."""
        for task in self._open:
            task.cancel()
        for link in self._attached.values():
            link.listeners.discard(self)
            self._links.let_go(link)

    # ---- what runs tell (`Listener`) ------------------------------------------------------------------------------

    def notice(self, message: msgspec.Raw) -> None:
        """Pass on what a run has told."""
        self.socket.send(bytes(message).decode())

    def lost(self) -> None:
        """Let the client come back and attach anew."""
        self.socket.close(RESTART, "the broker was lost")

    # ---- what the client asks -------------------------------------------------------------------------------------

    async def take(self, text: str) -> None:
        """One message: its calls go to the runs in their order, the answers come when they come."""
        calls, batch = jsonrpc.decode(text)
        answers: list[Awaitable[dict[str, Any] | None]] = [await self._begin(call) for call in calls]
        task = asyncio.create_task(self._finish(answers, batch=batch))
        self._open.add(task)
        task.add_done_callback(self._open.discard)
        if len(self._open) > MAX_OPEN:
            self.socket.close(POLICY, f"more than {MAX_OPEN} messages without an answer")

    async def _finish(self, answers: list[Awaitable[dict[str, Any] | None]], *, batch: bool) -> None:
        found = [answer for answer in await asyncio.gather(*answers) if answer is not None]
        text = jsonrpc.message(found, batch=batch)
        if text is not None:
            self.socket.send(text)

    async def _begin(self, call: Call | dict[str, Any]) -> Awaitable[dict[str, Any] | None]:
        if isinstance(call, dict):
            return _known(call)
        try:
            return self._end(call, await self._start(call))
        except RpcError as error:
            return self._end(call, _raise(error))

    async def _end(self, call: Call, result: Awaitable[Any]) -> dict[str, Any] | None:
        """The answer to a call; None to a notification."""
        try:
            answer = jsonrpc.result(call.id, await result)
        except RpcError as error:
            answer = jsonrpc.failure(call.id, error)
        return None if call.is_notification else answer

    async def _start(self, call: Call) -> Awaitable[Any]:
        """Do what a call wants as far as order matters; the rest of it.

        Raises:
            RpcError: it is refused.
        """
        match call.method:
            case "ping" | "pong":
                return _known("pong")
            case "run.list":
                return self._list()
            case method if method in METHODS:
                params = call.params
                name = None
                if isinstance(params, dict):
                    params = dict(params)
                    name = params.pop("run", None)
                link = await self._link(name)
                asked = await link.ask(method, params)
                return self._answer(link, asked, STEP_S if method == "run.step" else ANSWER_S)
            case method:
                text = f"there is no method {method[:100]!r}; there are run.list, {', '.join(METHODS)}"
                raise RpcError(jsonrpc.METHOD_NOT_FOUND, text, {"path": "$.method"})

    async def _answer(self, link: Link, asked: Any, timeout_s: float) -> Any:
        answer = await link.answer(asked, timeout_s)
        error = msgspec.json.decode(answer.error, type=_Error | None)
        if error is None:
            return answer.result
        raise RpcError(error.code, error.message, error.data)

    async def _list(self) -> list[RunState]:
        """All runs of the project, as they are now."""
        return await asyncio.gather(*(self._ask_state(run) for run in await self._links.runs(self._project)))

    async def _ask_state(self, run: str) -> RunState:
        try:
            link = await self._links.open(self._project, run)
            try:
                answer = await link.answer(await link.ask("run.state", {}), LIST_S)
                return msgspec.json.decode(answer.result, type=RunState)
            finally:
                self._links.let_go(link)
        except (RpcError, msgspec.DecodeError):
            return RunState(run=run, project=self._project, state="unknown")

    async def _link(self, name: Any) -> Link:
        """The run that is meant; attached to from now on.

        Raises:
            RpcError: there is none, or it is not clear which one.
        """
        if name is None:
            names = list(self._attached) or await self._links.runs(self._project)
            if len(names) != 1:
                which = f"there are {', '.join(names)}" if names else f"none plays into {self._project!r}"
                code = jsonrpc.INVALID_PARAMS if names else jsonrpc.UNKNOWN_RUN
                raise RpcError(code, f"which run? {which}", {"path": "$.params.run"})
            name = names[0]
        if not isinstance(name, str):
            raise RpcError(jsonrpc.INVALID_PARAMS, "run is a text", {"path": "$.params.run"})
        link = self._attached.get(name)
        if link is None:
            if len(self._attached) >= MAX_ATTACHED:
                text = f"a socket is attached to at most {MAX_ATTACHED} runs; open another one"
                raise RpcError(jsonrpc.REFUSED, text)
            link = await self._links.open(self._project, name)
            link.listeners.add(self)
            self._attached[name] = link
        return link


class _Error(msgspec.Struct):
    code: int
    message: str
    data: Any = None


async def _known(value: Any) -> Any:
    return value


async def _raise(error: RpcError) -> Any:
    raise error
