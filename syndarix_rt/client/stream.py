"""`EventStream`: one project's events, exactly once and in order, across every cut of the connection.

The states and what leads from one to the next:

==========  ==========================================  ==========
state       on                                          next
==========  ==========================================  ==========
connecting  the stream says where it stands             open
connecting  no connection, silence, 429, 5xx            waiting
open        the connection ends, is cut or falls silent waiting
waiting     the delay is over                           connecting
any         ``aclose()``, 204, a refusal                closed
==========  ==========================================  ==========

Nothing runs in the background: whoever iterates reads the socket, so a slow reader slows the server down (it has the
log) and memory stays bounded. An iteration that is cancelled, as by ``asyncio.wait_for``, may be taken up again.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable, Iterable, Iterator
from contextlib import suppress
from enum import StrEnum
from http import HTTPStatus
from typing import Literal, Self

import aiohttp

from syndarix_rt.client.closing import Closing
from syndarix_rt.client.http import CONNECT_S, MAX_WAIT_S, Unavailable, open_session, refusal, translated
from syndarix_rt.client.reception import Reception, StreamOpen
from syndarix_rt.client.url import checked_project, parse_server_url
from syndarix_rt.delivery import Gap, Ledger, TypeFilter, backoff
from syndarix_rt.errors import DecodeError, StreamError
from syndarix_rt.events import Event, EventId

__all__ = ["EventStream", "StreamState"]

ENTER_S = 10.0
"""``async with`` waits this long for the stream to open: as long as for a connection."""

FIRST_DELAY_S = 1.0
"""The first delay at most, while no server has said ``retry:``; a restarted server is back by then."""

FLOOR_S = 0.1
"""What delays begin with at least: ``retry: 0`` must not become a busy loop."""

CAP_S = 30.0
"""Delays grow up to this: nobody watches a dead line for longer without reloading it."""


class StreamState(StrEnum):
    """Where a stream stands; the module's table has the transitions."""

    CONNECTING = "connecting"
    OPEN = "open"
    WAITING = "waiting"
    CLOSED = "closed"


_NEXT = {
    StreamState.CONNECTING: {StreamState.OPEN, StreamState.WAITING, StreamState.CLOSED},
    StreamState.OPEN: {StreamState.WAITING, StreamState.CLOSED},
    StreamState.WAITING: {StreamState.CONNECTING, StreamState.CLOSED},
}


class EventStream(Closing):
    """An asynchronous context manager and iterator of `Event` (with ``position``) and `Gap`.

    ::

        async with EventStream("http://127.0.0.1:8765/?key=…", "apollo") as stream:
            async for item in stream:
                ...

    Entering makes the first attempt to connect; once it has opened the stream, everything published from then on is
    received. If it fails, iterating goes on trying. All errors come from iterating:

    * A lost connection, 429 and 5xx are tried again after a delay that doubles, with jitter; never earlier than the
      server's ``retry:`` or ``Retry-After`` asks. It resumes after the last position that the stream told.
    * A hole that the server declares is yielded as a `Gap`, before what follows it.
    * 204 ends the iteration. Any other refusal raises `StreamError`, with what the server said.
    * An entry that is no event of ours (somebody wrote into the broker) is skipped and counted in
      ``ledger.unreadable``, with its position, so that one bad entry does not end a stream for good.
    * An event that came before is dropped and counted in ``ledger.duplicates``.

    Args:
        base_url: the server's URL, also as printed or pasted, with ``/p/{project}`` and ``?key=``.
        project: whose events.
        types: which ones: category names, globs and type names, as a comma list or one by one. None: all.
        last_event_id: continue after this position. None: begin with what is published from now on.
        token: the secret, if it is not in the URL.
        run: receive the control channel of this run, which plays into the project, instead of the project's events.
        replay: without a ``last_event_id``, begin with the last N entries that are retained, or ``"all"``.
        keepalive_s: the server's ``--keepalive``. After three times as long without a byte the connection is dead.
        on_state: called at each change of the state, with the state and its reason.
        rng: the source of the jitter.
        sleep: waits a number of seconds; for tests.
        clock: a monotonic clock in seconds that goes with ``sleep``.

    Raises:
        StreamError: the URL or the project's name is wrong (from the constructor); a refusal (from iterating).
        FilterError: ``types`` has a word that means nothing.
        EventError: ``last_event_id`` is no event id.
        DecodeError: from iterating, if the stream has a block beyond all limits.

    Attributes:
        project: whose events.
    """

    def __init__(
        self,
        base_url: str,
        project: str,
        *,
        types: str | Iterable[str] | None = None,
        last_event_id: str | EventId | None = None,
        token: str | None = None,
        run: str | None = None,
        replay: int | Literal["all"] | None = None,
        keepalive_s: float = 15.0,
        on_state: Callable[[StreamState, str], None] | None = None,
        rng: random.Random | None = None,
        sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        server = parse_server_url(base_url)
        self.project = checked_project(project)
        self._url = f"{server.base_url}/projects/{project}/" + (f"runs/{run}/control" if run else "events")
        self._query: dict[str, str] = {}
        if types is not None:
            words = types if isinstance(types, str) else ",".join(types)
            TypeFilter.parse(words)
            self._query["types"] = words
        if replay:
            self._query["replay"] = str(replay)
        self._token = token or server.token
        self._keepalive_s = keepalive_s
        self._on_state = on_state
        self._rng = rng or random.Random()  # noqa: S311 - jitter, no secret
        self._sleep = sleep
        self._clock = clock

        self._state = StreamState.CONNECTING
        self._reason = ""
        self._failure: Exception | None = None
        self._session: aiohttp.ClientSession | None = None
        self._response: aiohttp.ClientResponse | None = None
        self._lock = asyncio.Lock()  # held by whoever reads the socket
        self._step_scope: asyncio.Timeout | None = None
        cursor = EventId.parse(str(last_event_id)) if last_event_id else None
        self._reception = Reception(cursor, live=not replay, filtered=types is not None)  # holds one read of the socket

        self._delays: Iterator[float] | None = None  # while connections fail
        self._due_s = 0.0  # by `clock`, when the present delay is over

    # ---- what can be seen -----------------------------------------------------------------------------------------

    @property
    def state(self) -> StreamState:
        """Where it stands in the module's table."""
        return self._state

    @property
    def reason(self) -> str:
        """Why it waits or is closed, or what the server announced; for a person, empty while all is well."""
        return self._reason or self._reception.announced

    @property
    def position(self) -> EventId | None:
        """Where to resume so that nothing is missed: the last position that was yielded or passed; None at first."""
        return self._reception.position

    @property
    def ledger(self) -> Ledger:
        """What was received, counted as it is yielded."""
        return self._reception.ledger

    @property
    def opened(self) -> StreamOpen | None:
        """What the server said when the stream last opened; None before."""
        return self._reception.opened

    # ---- life -----------------------------------------------------------------------------------------------------

    async def __aenter__(self) -> Self:
        # Three keepalives: one may be late, and one lost to a slow proxy.
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_S, sock_read=3 * self._keepalive_s)
        # A new connection each time: the old one leads to the worker that ended the stream.
        self._session = open_session(self._token, timeout, keep_connections=False)
        try:
            with suppress(TimeoutError):
                async with asyncio.timeout(ENTER_S):
                    while self._state is StreamState.CONNECTING and not self._reception.waiting:
                        await self._step()
        except BaseException:
            await self.aclose()
            raise
        return self

    async def aclose(self) -> None:
        """Close the connection; an iteration that waits in another task ends."""
        self._move(StreamState.CLOSED, "closed here")
        if self._step_scope is not None:
            self._step_scope.reschedule(asyncio.get_running_loop().time())
        async with self._lock:
            self._disconnect()
            if self._session is not None:
                await self._session.close()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Event | Gap:
        if self._session is None:
            raise RuntimeError("enter the stream first: async with EventStream(…) as stream")
        while self._state is not StreamState.CLOSED:
            try:
                item = self._reception.take()
            except StreamError as error:
                self._fail(error)
                break
            if item is not None:
                return item
            await self._step()
        if self._failure is not None:
            raise self._failure
        raise StopAsyncIteration

    # ---- the socket -----------------------------------------------------------------------------------------------

    async def _step(self) -> None:
        """Do the next thing that the state asks for; ``aclose()`` in another task breaks it off."""
        async with self._lock:
            if self._reception.waiting or self._state is StreamState.CLOSED:
                return
            try:
                async with asyncio.timeout(None) as self._step_scope:
                    await self._act()
            except TimeoutError:  # aclose(); those of the connection are `Unavailable`
                assert self.state is StreamState.CLOSED
            except Unavailable as error:
                self._lose(str(error), error.retry_after_s)
            except (StreamError, DecodeError) as error:
                self._fail(error)
            finally:
                self._step_scope = None

    async def _act(self) -> None:
        if self._state is StreamState.WAITING:
            await self._sleep(max(0.0, self._due_s - self._clock()))
            self._move(StreamState.CONNECTING)
        elif self._response is None:
            await self._request()
        else:
            await self._read(self._response)

    async def _request(self) -> None:
        assert self._session is not None
        # A proxy that compresses would hold events back until a block of its codec is full.
        headers = {"Accept": "text/event-stream", "Accept-Encoding": "identity"}
        if cursor := self._reception.connect():
            headers["Last-Event-ID"] = cursor
        with translated(self._url):
            response = await self._session.get(self._url, params=self._query, headers=headers)
        if response.status == HTTPStatus.OK and response.content_type == "text/event-stream":
            self._response = response
            return
        try:
            if response.status == HTTPStatus.NO_CONTENT:
                self._move(StreamState.CLOSED, "the server ended the stream for good")
            else:
                raise await refusal(response, self._url, "event stream")
        finally:
            response.close()

    async def _read(self, response: aiohttp.ClientResponse) -> None:
        with translated(self._url):
            chunk = await response.content.readany()
        if not chunk:
            raise Unavailable(self._reception.announced or f"{self._url}: the server ended the connection")
        begun = self._reception.feed(chunk, time.time())
        if begun and self._state is StreamState.CONNECTING:
            self._delays = None
            self._move(StreamState.OPEN)

    def _lose(self, reason: str, retry_after_s: float) -> None:
        """Wait before the next attempt, at least as long as the server asked for."""
        self._disconnect()
        retry_s = self._reception.retry_s
        if retry_s is not None:
            retry_s = min(retry_s, MAX_WAIT_S)
        if self._delays is None:
            first_s = FIRST_DELAY_S if retry_s is None else max(retry_s, FLOOR_S)
            self._delays = backoff(self._rng, first_s=first_s, cap_s=max(first_s, CAP_S))
        # A `Retry-After` is the same for all who were refused, so jitter is added; `retry:` is jittered by the server.
        self._due_s = self._clock() + max(retry_s or 0.0, retry_after_s + next(self._delays))
        self._move(StreamState.WAITING, reason)

    def _fail(self, error: Exception) -> None:
        self._disconnect()
        if self._state is not StreamState.CLOSED:
            self._failure = error
        self._move(StreamState.CLOSED, str(error))

    def _disconnect(self) -> None:
        if self._response is not None:
            self._response.close()
            self._response = None

    def _move(self, state: StreamState, reason: str = "") -> None:
        if self._state is StreamState.CLOSED:
            return  # by `aclose()`, while what leads elsewhere was already under way
        assert state in _NEXT[self._state], f"{self._state} to {state}"
        self._state = state
        self._reason = reason
        if self._on_state is not None:
            self._on_state(state, reason)
