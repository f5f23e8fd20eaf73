"""`Links`: a server process's ways to the runs that are steered through it, over their control channels."""

from __future__ import annotations

import asyncio
import itertools
import secrets
from contextlib import aclosing
from datetime import UTC, datetime
from typing import Any, Protocol

import msgspec
import structlog

from syndarix_rt.broker.protocol import Batch, Broker, control_channel, follow, is_run_name, project_channel
from syndarix_rt.delivery import jsonrpc
from syndarix_rt.delivery.steering import ANSWER, NOTICE, REQUEST, SOURCE
from syndarix_rt.errors import BrokerError, BrokerUnavailable, EventError, RpcError
from syndarix_rt.events import Event, EventId

__all__ = ["Link", "Links", "Listener"]

RENEW_S = 5.0
"""How often a run is told that somebody is attached; it takes 15 s without a word for "nobody"."""

_log = structlog.get_logger("syndarix_rt.server")


class Listener(Protocol):
    """Who is attached to a run."""

    def notice(self, message: msgspec.Raw) -> None:
        """The run has told something."""
        ...

    def lost(self) -> None:
        """What the run tells does not come any more; attach anew."""
        ...


class _Entry(msgspec.Struct):
    type: str
    project: str
    data: msgspec.Raw


class _Answer(msgspec.Struct):
    id: str
    result: msgspec.Raw = msgspec.Raw(b"null")
    error: msgspec.Raw = msgspec.Raw(b"null")


_entry = msgspec.json.Decoder(_Entry).decode
_answer = msgspec.json.Decoder(_Answer).decode


class Link:
    """The way to one run through one project."""

    def __init__(self, broker: Broker, project: str, run: str) -> None:
        self.users = 0
        self.listeners: set[Listener] = set()
        self.opened = asyncio.Lock()
        self._broker = broker
        self._project = project
        self._run = run
        self._channel = control_channel(run)
        self._ids = (f"{secrets.token_hex(6)}-{number}" for number in itertools.count(1))
        self._pending: dict[str, asyncio.Future[_Answer]] = {}
        self._tasks: list[asyncio.Task[None]] = []

    async def open(self) -> None:
        """Begin to listen, if that has not begun, or has ended with the broker.

        Raises:
            RpcError: no such run plays into the project.
            BrokerError: the broker is away, or refuses.
        """
        async with self.opened:
            if not self._tasks or self._tasks[0].done():
                self.close()
                if self._run not in await self._broker.claimants(project_channel(self._project)):
                    raise _unknown(self._run, self._project)
                top = (await self._broker.position(self._channel)).top
                self._tasks = [asyncio.create_task(work) for work in (self._follow(top), self._renew())]

    def close(self) -> None:
        """Listen no more."""
        for task in self._tasks:
            task.cancel()

    async def ask(self, method: str, params: Any) -> asyncio.Future[_Answer]:
        """Send a request; its answer comes later.

        Raises:
            RpcError: it cannot be sent.
        """
        call_id = next(self._ids)
        answer: asyncio.Future[_Answer] = asyncio.get_running_loop().create_future()
        self._pending[call_id] = answer
        answer.add_done_callback(lambda _: self._pending.pop(call_id, None))
        try:
            await self._send({"jsonrpc": "2.0", "id": call_id, "method": method, "params": params})
        except BrokerUnavailable as error:
            answer.cancel()
            text = "the broker cannot be reached; the run may have been asked or not"
            raise RpcError(jsonrpc.BROKER_AWAY, text) from error
        except BrokerError as error:
            answer.cancel()
            raise _away(error) from error
        except EventError as error:
            answer.cancel()
            raise RpcError(jsonrpc.INVALID_PARAMS, f"that is too much: {error.reason}", {"path": "$.params"}) from error
        return answer

    async def answer(self, answer: asyncio.Future[_Answer], timeout_s: float) -> _Answer:
        """Wait for the answer to what was asked.

        Raises:
            RpcError: none came.
        """
        try:
            async with asyncio.timeout(timeout_s):
                return await answer
        except TimeoutError:
            if await self._plays():
                text = f"the run {self._run!r} has not answered within {timeout_s:g} s; it may do so yet"
                raise RpcError(jsonrpc.NO_ANSWER, text) from None
            raise RpcError(jsonrpc.UNKNOWN_RUN, f"the run {self._run!r} has ended") from None

    async def _plays(self) -> bool:
        try:
            return self._run in await self._broker.claimants(project_channel(self._project))
        except BrokerError:
            return True  # for all we know

    async def _send(self, message: dict[str, Any]) -> None:
        event = Event.new(
            REQUEST, message, project=self._project, id=secrets.token_hex(8), time=datetime.now(UTC), source=SOURCE
        )
        await self._broker.publish(self._channel, [event.encode()])

    async def _follow(self, top: EventId) -> None:
        try:
            async with aclosing(follow(self._broker, self._channel, top)) as updates:
                async for update in updates:
                    for entry in update.entries if isinstance(update, Batch) else ():
                        self._hear(entry)
        except BrokerError as error:
            _log.error("a run's control channel cannot be followed", run=self._run, reason=str(error))
        for listener in self.listeners:
            listener.lost()

    def _hear(self, entry: bytes) -> None:
        try:
            heard = _entry(entry)
            if heard.project != self._project:
                return
            if heard.type == NOTICE:
                for listener in self.listeners:
                    listener.notice(heard.data)
            elif heard.type == ANSWER:
                answer = _answer(heard.data)
                asked = self._pending.get(answer.id)
                if asked is not None and not asked.done():
                    asked.set_result(answer)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return  # no run wrote that

    async def _renew(self) -> None:
        """The run's lease, as long as anybody is attached."""
        while True:
            if self.listeners:
                try:
                    await self._send({"jsonrpc": "2.0", "method": "run.renew"})
                except BrokerError as error:
                    _log.warning("a run's lease was not renewed", run=self._run, reason=str(error))
            await asyncio.sleep(RENEW_S)


class Links:
    """All runs that are steered through this process."""

    def __init__(self, broker: Broker) -> None:
        self._broker = broker
        self._links: dict[tuple[str, str], Link] = {}

    async def runs(self, project: str) -> list[str]:
        """The runs that play into a project.

        Raises:
            RpcError: the broker is away, or refuses.
        """
        try:
            return [name for name in await self._broker.claimants(project_channel(project)) if is_run_name(name)]
        except BrokerError as error:
            raise _away(error) from error

    async def open(self, project: str, run: str) -> Link:
        """The way to a run, shared by all who use it; each lets it go in the end.

        Raises:
            RpcError: no such run plays into the project, or the broker is away, or refuses.
        """
        if not is_run_name(run):
            raise _unknown(run[:100], project)
        key = (project, run)
        link = self._links.get(key)
        if link is None:
            link = self._links[key] = Link(self._broker, project, run)
        link.users += 1
        try:
            await link.open()
        except BaseException as error:
            self.let_go(link)
            if isinstance(error, BrokerError):
                raise _away(error) from error
            raise
        return link

    def let_go(self, link: Link) -> None:
        """Need it no more. Never waits, for whoever leaves may be cancelled."""
        link.users -= 1
        if not link.users:
            link.close()
            self._links = {key: other for key, other in self._links.items() if other is not link}


def _unknown(run: str, project: str) -> RpcError:
    text = f"no run {run!r} plays into {project!r} now"
    return RpcError(jsonrpc.UNKNOWN_RUN, text, {"path": "$.params.run"})


def _away(error: BrokerError) -> RpcError:
    """Of one that refuses, such as after a change of its password, with its reason: a person must mend that."""
    away = isinstance(error, BrokerUnavailable)
    return RpcError(jsonrpc.BROKER_AWAY, "the broker cannot be reached; try again" if away else str(error))
