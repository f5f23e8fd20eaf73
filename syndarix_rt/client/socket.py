"""`SocketClient`: a WebSocket to a server, opened anew when it is cut; what `ChatClient` and `DebugClient` share.

=============  ==========================================  =============
state          on                                          becomes
=============  ==========================================  =============
``connecting`` the server takes the socket                 ``open``
``connecting`` no connection, 429, 5xx                     ``waiting``
``open``       cut, silent, or closed to come back         ``waiting``
``waiting``    the delay is over                           ``connecting``
any            a refusal for good, or ``aclose()``         ``closed``
=============  ==========================================  =============

A callback of the user's that raises is logged with its traceback, and the connection goes on: a display that fails must
not cut off whoever talks. Anything else that fails here ends the client, and everybody who waits gets it as the cause
of a `StreamError`.
"""

from __future__ import annotations

import asyncio
import logging
import random
from abc import abstractmethod
from collections.abc import Awaitable, Callable, Iterator
from contextlib import suppress
from http import HTTPStatus
from typing import ClassVar, Literal, ParamSpec, Self

import aiohttp

from syndarix_rt.client.closing import Closing
from syndarix_rt.client.http import CONNECT_S, HINTS, Unavailable, open_session, phrase, refusal, translated
from syndarix_rt.client.url import checked_project, parse_server_url
from syndarix_rt.delivery import backoff
from syndarix_rt.errors import StreamError

__all__ = ["MAX_SENT_BYTES", "SocketClient", "State"]

FIRST_DELAY_S = 0.5
CAP_S = 5.0
"""The longest delay: a run waits 15 s for those who steer it, a chat 20 s for who was cut off."""

MAX_SENT_BYTES = 64 * 1024
"""A server closes a socket over a larger message."""

MAX_RECEIVED_BYTES = 4 * 1024 * 1024
"""A list of many runs or members; anything else has at most some more than 64 KiB."""

State = Literal["connecting", "open", "waiting", "closed"]

_REFUSED = range(4400, 4500)
"""Close codes of a server that does not take this client: 4000 and the HTTP status that says the same."""

_log = logging.getLogger(__name__)

P = ParamSpec("P")


class SocketClient(Closing):
    """An asynchronous context manager around one socket after another; what is said on it is the subclass's.

    Args:
        base_url: the server's URL, also as printed or pasted.
        project: of which project.
        what: the last part of the socket's path.
        token: the secret, if it is not in the URL.
        rng: the source of the jitter.
        sleep: waits a number of seconds; for tests.

    Raises:
        StreamError: the URL or the project's name is wrong.
    """

    PROTOCOL: ClassVar[str]
    SILENCE_S: ClassVar[float]
    """A socket without a word for so long is dead."""

    def __init__(
        self,
        base_url: str,
        project: str,
        what: str,
        *,
        token: str | None,
        rng: random.Random | None,
        sleep: Callable[[float], Awaitable[object]],
    ) -> None:
        server = parse_server_url(base_url)
        self.project = checked_project(project)
        self._url = f"{server.base_url}/projects/{project}/{what}"
        self._token = token or server.token
        self._rng = rng or random.Random()  # noqa: S311 - jitter, no secret
        self._sleep = sleep

        self._state: State = "connecting"
        self._reason = ""
        self._failure: StreamError | None = None
        self._socket: aiohttp.ClientWebSocketResponse | None = None
        self._task: asyncio.Task[None] | None = None
        self._changed = asyncio.Condition()

    @property
    def state(self) -> State:
        """Where it stands in the module's table."""
        return self._state

    @property
    def reason(self) -> str:
        """Why it waits or is closed, for a person; empty while all is well."""
        return self._reason

    # ---- what the subclass says -----------------------------------------------------------------------------------

    def _query(self) -> dict[str, str]:
        """The query of the next upgrade."""
        return {}

    async def _begin(self) -> None:
        """A task of its own for as long as a socket is open."""

    @abstractmethod
    async def _take(self, text: str) -> None:
        """A message has come.

        Raises:
            StreamError: the server does not speak the protocol.
        """

    def _cut(self, error: StreamError) -> None:
        """The socket is gone: nothing that was asked on it is answered."""

    # ---- life -----------------------------------------------------------------------------------------------------

    async def __aenter__(self) -> Self:
        if self._task is not None:
            raise RuntimeError("a client is entered once; make another one")
        self._task = asyncio.create_task(self._run(), name=f"client of {self._url}")
        return self

    async def aclose(self) -> None:
        """Close the socket; who waits for something gets an error."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait({self._task})

    def _check_entered(self) -> None:
        if self._task is None:
            raise RuntimeError(f"enter the client first: async with {type(self).__name__}(…) as client")

    async def _run(self) -> None:
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_S, sock_read=CONNECT_S)  # of the upgrade
        try:
            async with open_session(self._token, timeout, keep_connections=False, check=self._check) as session:
                delays: Iterator[float] | None = None
                while True:
                    await self._move("connecting")
                    try:
                        socket = await self._connect(session)
                        try:
                            await self._use(socket)
                        finally:
                            delays, self._socket = None, None
                            await socket.close()
                    except Unavailable as error:
                        self._cut(error)
                        delays = delays or backoff(self._rng, first_s=FIRST_DELAY_S, cap_s=CAP_S)
                        await self._move("waiting", str(error))
                        await self._sleep(error.retry_after_s + next(delays))
        except StreamError as error:
            self._failure = error
        except Exception as error:  # noqa: BLE001 - whatever it is, nobody may wait for ever
            _log.exception("%s: the client has ended", self._url)
            self._failure = StreamError(f"{self._url}: the client has ended: {type(error).__name__}: {error}")
            self._failure.__cause__ = error
        finally:
            self._cut(self._failure or Unavailable(f"{self._url}: closed here"))
            await self._move("closed", str(self._failure or "closed here"))

    async def _connect(self, session: aiohttp.ClientSession) -> aiohttp.ClientWebSocketResponse:
        with translated(self._url):
            return await session.ws_connect(
                self._url,
                params=self._query(),
                protocols=(self.PROTOCOL,),
                max_msg_size=MAX_RECEIVED_BYTES,
                compress=0,
            )

    async def _check(self, response: aiohttp.ClientResponse) -> None:
        """Raise what an answer means that is no upgrade."""
        if response.status != HTTPStatus.SWITCHING_PROTOCOLS:
            try:
                raise await refusal(response, self._url, "WebSocket")
            finally:
                response.close()

    async def _use(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        """Receive until the socket ends, which raises.

        Raises:
            Unavailable: it was cut.
            StreamError: it was closed for good.
        """
        self._socket = socket
        begun = asyncio.create_task(self._begin_on(socket))
        try:
            await self._move("open")
            while True:
                with translated(self._url):
                    message = await socket.receive(timeout=self.SILENCE_S)
                if message.type is not aiohttp.WSMsgType.TEXT:
                    break
                await self._take(message.data)
        finally:
            begun.cancel()
            await asyncio.wait({begun})
        if not begun.cancelled() and (error := begun.result()):
            raise error
        code, reason = socket.close_code or 0, message.extra or ""
        if code in _REFUSED:
            status = code - 4000
            told = "; ".join(filter(None, [reason, HINTS.get(status)]))
            raise StreamError(f"{self._url}: {status} {phrase(status)}: {told}", status, close_code=code)
        raise Unavailable(f"{self._url}: the server ended the connection ({reason or socket.close_code})")

    async def _begin_on(self, socket: aiohttp.ClientWebSocketResponse) -> Exception | None:
        """Begin; if that fails, close the socket, so that the receiving side ends. The failure, if there is one."""
        try:
            await self._begin()
        except Exception as error:  # noqa: BLE001 - whatever it is, see the module
            with suppress(asyncio.CancelledError):  # by the receiving side, which has just ended
                await socket.close()
            return error
        return None

    def _call(self, callback: Callable[P, object], *args: P.args, **kwargs: P.kwargs) -> None:
        """Call something of the user's, whose failure is not ours."""
        try:
            callback(*args, **kwargs)
        except Exception:  # noqa: BLE001 - the user's, see above
            _log.exception("%s: a callback has failed; the connection goes on", self._url)

    async def _send(self, text: str) -> None:
        """Send on the socket that is open.

        Raises:
            Unavailable: it has just been cut.
        """
        assert self._socket is not None
        with translated(self._url):
            await self._socket.send_str(text)

    async def _move(self, state: State, reason: str = "") -> None:
        async with self._changed:
            self._state = state
            self._reason = reason
            self._changed.notify_all()
