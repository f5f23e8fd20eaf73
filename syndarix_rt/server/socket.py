"""`Socket`: one WebSocket that is bounded both ways, alive or closed, and ends with a code that says why.

====  =====================================================================================
code  why it was closed
====  =====================================================================================
1000  the client wanted it
1008  too many messages, too slow in taking ours, or no sign of life
1009  a message of more than 64 KiB
1012  this server ends; come back, other instances or its successor have everything
4401  no key, or the wrong one
4403  a key that does not reach so far
4404  no such project
====  =====================================================================================

What a page of another site asks for is refused before the upgrade, with 403.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from quart import g, websocket

from syndarix_rt.server.problems import Problem

if TYPE_CHECKING:
    from syndarix_rt.server.hub import Hub

__all__ = ["FORBIDDEN", "MAX_MESSAGE_BYTES", "POLICY", "RESTART", "TOO_BIG", "UNAUTHORIZED", "UNKNOWN", "Socket"]

POLICY = 1008
TOO_BIG = 1009
RESTART = 1012
UNAUTHORIZED = 4401
FORBIDDEN = 4403
UNKNOWN = 4404

MAX_MESSAGE_BYTES = 64 * 1024
"""As an event has: no person writes more at once."""

INBOX = 64
OUTBOX = 1_000
"""Messages that wait; a client that is further behind finds what it missed when it comes back."""

RATE_PER_S = 50.0
BURST = 200.0
"""Messages a client may send, lasting and at once: a person's clicks by far, a script's loop nearly."""

CLOSE_S = 2.0
"""A client that takes nothing is not waited for."""

_rng = random.SystemRandom()


class Socket:
    """The socket of the present request.

    Args:
        hub: ends it when the server ends.
        ping: sent when nothing came for a while, to be answered with anything.
    """

    def __init__(self, hub: Hub, ping: str) -> None:
        self._hub = hub
        self._ping = ping
        self._inbox: asyncio.Queue[str] = asyncio.Queue(INBOX)
        self._outbox: asyncio.Queue[str] = asyncio.Queue(OUTBOX)
        self._heard_s = time.monotonic()
        self._tokens, self._counted_s = BURST, self._heard_s
        self._end: asyncio.Future[tuple[int, str]] = asyncio.get_running_loop().create_future()

    @staticmethod
    async def accept(subprotocol: str) -> bool:
        """Take the upgrade; false if it was closed at once for lack of a key.

        A page is told by a close code what it cannot see of a refused upgrade.

        Raises:
            Problem: the client does not speak the subprotocol.
        """
        if subprotocol not in websocket.requested_subprotocols:
            raise Problem(400, "unknown-subprotocol", f"This socket speaks {subprotocol!r}; name it in the upgrade.")
        await websocket.accept(subprotocol=subprotocol)
        if g.principal is None:
            await websocket.close(UNAUTHORIZED, "this server wants its key")
            return False
        return True

    def send(self, text: str) -> None:
        """Send it when the client takes it."""
        try:
            self._outbox.put_nowait(text)
        except asyncio.QueueFull:
            self.close(POLICY, "too slow in taking messages")

    def close(self, code: int, reason: str) -> None:
        """End it; the first reason counts."""
        if not self._end.done():
            self._end.set_result((code, reason))

    def drain(self, *, within_s: float) -> None:
        """End it at a random moment within ``within_s``, because the server ends."""
        asyncio.get_running_loop().call_later(_rng.random() * within_s, self.close, RESTART, "this server ends")

    async def run(self, take: Callable[[str], Awaitable[None]]) -> None:
        """Give what comes to ``take``, one after the other, until it is closed by either side."""
        works = (self._receive(), self._work(take), self._write(), self._watch())
        tasks = [asyncio.create_task(work) for work in works]
        with self._hub.holding(self):
            try:
                ends: list[asyncio.Future[Any]] = [self._end, *tasks]
                await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
                if self._end.done():
                    with suppress(TimeoutError):
                        async with asyncio.timeout(CLOSE_S):
                            await websocket.close(*self._end.result())
            finally:
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
            self._tokens = min(BURST, self._tokens + RATE_PER_S * (now_s - self._counted_s)) - 1
            self._counted_s = now_s
            if len(text) > MAX_MESSAGE_BYTES or len(text.encode(errors="replace")) > MAX_MESSAGE_BYTES:
                self.close(TOO_BIG, f"a message has at most {MAX_MESSAGE_BYTES} bytes")
            elif self._tokens < 0 or self._inbox.full():
                self.close(POLICY, f"too many messages; at most {RATE_PER_S:g} a second")
            else:
                self._inbox.put_nowait(text)
        await asyncio.Event().wait()  # until the end has been told

    async def _work(self, take: Callable[[str], Awaitable[None]]) -> None:
        while True:
            await take(await self._inbox.get())

    async def _write(self) -> None:
        while True:
            await websocket.send(await self._outbox.get())

    async def _watch(self) -> None:
        """Ask for a sign of life, and close without one: a peer that vanished sends nothing, not even a close."""
        wait_s = self._hub.settings.ping_s
        while True:
            silent_s = time.monotonic() - self._heard_s
            if silent_s < wait_s:
                await asyncio.sleep(wait_s - silent_s)
                continue
            asked_s = time.monotonic()
            self.send(self._ping)
            await asyncio.sleep(wait_s)
            if self._heard_s < asked_s:
                self.close(POLICY, "no sign of life")
                return
