"""`Socket`: one WebSocket that is bounded both ways, alive or closed, and ends with a code that says why.

The codes are in `CLOSE_CODES`. What a page of another site asks for is refused before the upgrade, with 403.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from quart import g, websocket

from syndarix_rt.server import wire
from syndarix_rt.server.problems import Problem
from syndarix_rt.server.wire import Wire

if TYPE_CHECKING:
    from syndarix_rt.server.hub import Hub

__all__ = [
    "CLOSE_CODES",
    "FORBIDDEN",
    "MAX_MESSAGE_BYTES",
    "POLICY",
    "RESTART",
    "TOO_BIG",
    "UNAUTHORIZED",
    "UNKNOWN",
    "Socket",
]

POLICY = 1008
TOO_BIG = 1009
RESTART = 1012
UNAUTHORIZED = 4401
FORBIDDEN = 4403
UNKNOWN = 4404

CLOSE_CODES = {
    1000: "the client wanted it",
    1002: "frames that are no WebSocket's",
    1007: "a text that is no UTF-8",
    POLICY: "too many messages, too slow in taking ours, or no sign of life",
    TOO_BIG: "a message of more than 64 KiB",
    RESTART: "this server ends, or has lost its broker; come back, other instances or its successor have everything",
    UNAUTHORIZED: "no key, the wrong one, or a token that has ended",
    FORBIDDEN: "a token that does not reach so far, or speaks for another name",
    UNKNOWN: "no such project",
}
"""Why a socket ends; a client comes back after 1012 and after a cut, and not after what stays as it is (44xx)."""

MAX_MESSAGE_BYTES = 64 * 1024
"""As an event has: no person writes more at once."""

INBOX = 64
OUTBOX = 1_000
"""Messages that wait; a client that is further behind finds what it missed when it comes back."""

MAX_REASON = 120
"""Characters of a close reason: RFC 6455 has room for 123 bytes."""

RATE_PER_S = 50.0
BURST = 200.0
"""Messages a client may send, lasting and at once: a person's clicks by far, a script's loop nearly."""

MAX_LIFE_S = 24 * 3600.0
"""A socket that came with a token is closed after a day at the latest; its client comes back."""

CLOSE_S = 2.0
"""So long a client may take to answer our close frame; then it is cut."""

_rng = random.SystemRandom()


class Socket:
    """The socket of the present request.

    Args:
        hub: ends it when the server ends.
        ping: sent when nothing came for a while, to be answered with anything; None: a ping of the WebSocket protocol,
            which every client answers by itself.
        refuse: the message to send before the socket is closed over a limit, of a code and a text.
        rate_per_s: messages a client may send, lasting.
        burst: … and at once.
    """

    def __init__(
        self,
        hub: Hub,
        ping: str | None,
        *,
        refuse: Callable[[str, str], str] | None = None,
        rate_per_s: float | None = None,
        burst: float | None = None,
    ) -> None:
        self.path, self.client = websocket.path, f"{websocket.remote_addr} {g.principal}"
        self.token_id: str = g.grant.id
        self._hub = hub
        self._ping = ping
        self._refuse = refuse
        self._rate_per_s = RATE_PER_S if rate_per_s is None else rate_per_s
        self._burst = BURST if burst is None else burst
        self._inbox: asyncio.Queue[str] = asyncio.Queue(INBOX)
        self._outbox: deque[str] = deque()
        self._woken = asyncio.Event()
        self._wire = Wire(self._too_large)
        self._heard_s = time.monotonic()
        self._tokens, self._counted_s = self._burst, self._heard_s
        self._end: asyncio.Future[tuple[int, str, str]] = asyncio.get_running_loop().create_future()

    @staticmethod
    async def accept(subprotocol: str) -> bool:
        """Take the upgrade; false if it was closed at once for lack of a key.

        A page is told by a close code what it cannot see of a refused upgrade.

        Raises:
            Problem: the client does not speak the subprotocol.
        """
        if subprotocol not in websocket.requested_subprotocols:
            raise Problem(400, "unknown-subprotocol", f"This socket speaks {subprotocol!r}; name it in the upgrade.")
        await wire.accept(subprotocol)
        if g.principal is None:
            await Socket.turn_away(UNAUTHORIZED, "this server wants its key")
            return False
        if g.lacking is not None:
            await Socket.turn_away(FORBIDDEN, f"no right to {g.lacking}")
            return False
        return True

    @property
    def code(self) -> int | None:
        """The code that it was closed with by us; None if its client left."""
        return self._end.result()[0] if self._end.done() else None

    @staticmethod
    async def turn_away(code: int, reason: str) -> None:
        """Close a socket that was accepted only to say why it is not taken."""
        way = Wire(lambda: None)
        await _farewell(way, code, reason)

    @property
    def left(self) -> bool:
        """Whether the client has said that it leaves, rather than been cut off or closed."""
        return self._wire.left and not self._end.done()

    def send(self, text: str) -> None:
        """Send it when the client takes it."""
        if len(self._outbox) >= OUTBOX:
            self._limit(POLICY, "too-slow", "too slow in taking messages")
        else:
            self._outbox.append(text)
            self._woken.set()

    def wake(self) -> None:
        """There may be something to pull."""
        self._woken.set()

    def close(self, code: int, reason: str) -> None:
        """End it; the first reason counts."""
        if not self._end.done():
            self._end.set_result((code, reason, ""))

    def _limit(self, code: int, kind: str, reason: str) -> None:
        """End it over a limit."""
        if not self._end.done():
            self._end.set_result((code, reason, self._refuse(kind, reason) if self._refuse else ""))

    def _too_large(self) -> None:
        self._limit(TOO_BIG, "too-large", f"a message has at most {MAX_MESSAGE_BYTES} bytes")

    def drain(self, *, within_s: float) -> None:
        """End it at a random moment within ``within_s``, because the server ends."""
        asyncio.get_running_loop().call_later(_rng.random() * within_s, self.close, RESTART, "this server ends")

    async def run(
        self, take: Callable[[str], Awaitable[None]], pull: Callable[[], Awaitable[Sequence[str]]] | None = None
    ) -> None:
        """Give what comes to ``take``, one after the other, until it is closed by either side.

        Args:
            take: takes a message.
            pull: gives what is there to be sent beside what `send` was given; asked again until it is nothing, then
                after each `wake`. What it gives first is sent first.
        """
        works = (self._receive(), self._work(take), self._write(pull), self._watch())
        tasks = [asyncio.create_task(work) for work in works]
        expires_s = g.grant.expires_s
        expiry = None
        if expires_s is not None:
            wait_s = min(max(0.0, expires_s - time.time()), MAX_LIFE_S)
            expiry = asyncio.get_running_loop().call_later(wait_s, self.close, UNAUTHORIZED, "the token has ended")
        with self._hub.holding(self):
            try:
                ends: list[asyncio.Future[Any]] = [self._end, *tasks]
                await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
                if self._end.done():
                    code, reason, farewell = self._end.result()
                    tasks[2].cancel()  # nothing else is written after the farewell
                    await asyncio.wait({tasks[2]}, timeout=CLOSE_S)
                    await _farewell(self._wire, code, reason, farewell)
            finally:
                if expiry is not None:
                    expiry.cancel()
                for task in tasks:
                    task.cancel()
                done = await asyncio.gather(*tasks, return_exceptions=True)
        for error in done:
            if isinstance(error, Exception):
                raise error

    async def _receive(self) -> None:
        """Always receiving: what waits before us is not bounded."""
        while not self._end.done():
            data = await websocket.receive()
            now_s = self._heard_s = time.monotonic()
            text = data if isinstance(data, str) else ""  # nothing of ours is binary
            self._tokens = min(self._burst, self._tokens + self._rate_per_s * (now_s - self._counted_s)) - 1
            self._counted_s = now_s
            if len(text) > MAX_MESSAGE_BYTES or len(text.encode(errors="replace")) > MAX_MESSAGE_BYTES:
                self._too_large()
            elif self._tokens < 0 or self._inbox.full():
                self._limit(POLICY, "rate-limit", f"too many messages; at most {self._rate_per_s:g} a second")
            else:
                self._inbox.put_nowait(text)
        await asyncio.Event().wait()  # until the end has been told

    async def _work(self, take: Callable[[str], Awaitable[None]]) -> None:
        while True:
            await take(await self._inbox.get())

    async def _write(self, pull: Callable[[], Awaitable[Sequence[str]]] | None) -> None:
        while True:
            self._woken.clear()
            pulled = await pull() if pull is not None else ()
            if pulled:
                await self._wire.send(pulled)
            if self._outbox:
                waiting = list(self._outbox)
                self._outbox.clear()
                await self._wire.send(waiting)
            if not pulled:
                await self._woken.wait()

    async def _watch(self) -> None:
        """Ask for a sign of life, and close without one: a peer that vanished sends nothing, not even a close."""
        wait_s = self._hub.settings.ping_s
        while True:
            silent_s = time.monotonic() - self._heard()
            if silent_s < wait_s:
                await asyncio.sleep(wait_s - silent_s)
                continue
            asked_s = time.monotonic()
            if self._ping is None:
                await self._wire.ping()
            else:
                self.send(self._ping)
            await asyncio.sleep(wait_s)
            if self._heard() < asked_s:
                self._limit(POLICY, "silent", "no sign of life")
                return

    def _heard(self) -> float:
        return max(self._heard_s, self._wire.heard_s)


async def _farewell(way: Wire, code: int, reason: str, text: str = "") -> None:
    """Say why, and wait for the answer: whoever still sends would else see a cut, and come back in vain."""
    with suppress(TimeoutError):
        async with asyncio.timeout(CLOSE_S):
            if text:
                await websocket.send(text)
            await websocket.close(code, reason[:MAX_REASON])
            await way.ended()
