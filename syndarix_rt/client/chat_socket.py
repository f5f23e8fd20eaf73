"""`ChatSocket`: hears and says in a project's chat over one socket after another; under `ChatClient` and `RunChat`.

Whatever was given to it and is not acknowledged when the socket is cut is sent again on the next one (see `outbox`), at
a pace that no server cuts. It resumes exactly after the last frame that it took in; `Missed` says what is gone for
good.
"""

from __future__ import annotations

import asyncio
import random
from collections import deque
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import ClassVar, Self

from syndarix_rt.client.http import Unavailable
from syndarix_rt.client.outbox import Outbox, Posted
from syndarix_rt.client.socket import SocketClient
from syndarix_rt.delivery import chat as wire
from syndarix_rt.delivery.chat import (
    Delta,
    Done,
    Finish,
    Kind,
    Member,
    Missed,
    Presence,
    Ready,
    Refused,
    Said,
    Say,
    Transcript,
)
from syndarix_rt.errors import ChatError, EventError, StreamError
from syndarix_rt.events import EventId

__all__ = ["ChatSocket", "Heard"]

BURST = 16
"""Messages that are sent at once; after that they are spread (`ChatClient.SEND_S`)."""

AGAIN_S = 1.0
"""What a server could not pass on because its broker was away is sent again after so long."""

SETTLE_S = 2.0
"""What came while we were away is waited for so long before an answer goes on."""

MAX_HEARD = 1_000
"""Frames that wait to be taken."""

Heard = Said | Delta | Done | Missed | Presence
"""What an iteration gives."""


class ChatSocket(SocketClient):
    """What a member's client and a run's have in common; the arguments are those of `ChatClient`."""

    PROTOCOL: ClassVar[str] = wire.PROTOCOL
    SILENCE_S: ClassVar[float] = 45.0
    """A server pings who is silent after 15 s, and we are when it is."""
    SEND_S: ClassVar[float] = 0.06
    """Between two messages in the long run: 16 a second, of the 20 that a server takes."""

    def __init__(
        self,
        base_url: str,
        project: str,
        *,
        name: str | None = None,
        kind: Kind = "person",
        token: str | None = None,
        last_event_id: EventId | str | None = None,
        history: int | None = None,
        on_change: Callable[[], None] | None = None,
        rng: random.Random | None = None,
        sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
    ) -> None:
        super().__init__(base_url, project, "chat", token=token, rng=rng, sleep=sleep)
        self.transcript = Transcript()
        self._name = name
        self._kind: Kind = kind
        self._history = history
        self._position = EventId.parse(str(last_event_id)) if last_event_id else None
        self._on_change = on_change
        self._ready: Ready | None = None
        self._members: set[Member] = set()
        self._typing: list[str] = []
        self._heard: deque[Heard] = deque()
        self._iterated = False
        self._listening = 0  # calls that wait for something to be heard
        self._outbox = Outbox()
        self._target: EventId | None = None  # where the log ended when the present socket was opened
        self._work = asyncio.Event()

    # ---- what can be seen -----------------------------------------------------------------------------------------

    @property
    def name(self) -> str | None:
        """Under which it speaks; None until the server has said so, if none was given."""
        return self._name

    @property
    def position(self) -> str | None:
        """Where to continue, ``<epoch>.<offset>``: after all frames that it took in."""
        return None if self._position is None else str(self._position)

    async def ready(self) -> Ready:
        """Wait for the first connection; what the server said then."""
        await self._hear_until(lambda: self._ready is not None)
        if self._ready is None:
            raise self._closed(self._reason)
        return self._ready

    async def flush(self) -> None:
        """Wait until whole messages and the ends of answers are acknowledged, or the socket is closed."""
        await self._hear_until(lambda: not self._outbox.waiting)

    # ---- saying ---------------------------------------------------------------------------------------------------

    async def _deliver(self, frame: Say | Finish) -> Said | Done:
        """Have a message sent until it is acknowledged."""
        await self._hear_until(lambda: self._outbox.has_room)
        posted = self._post(frame)
        await self._hear_until(lambda: posted.is_done)
        if posted.error is not None:
            raise posted.error
        if posted.heard is None:
            raise self._closed("closed before it was acknowledged")
        return posted.heard

    def _post(self, frame: Say | Finish) -> Posted:
        self._check_open()
        posted = self._outbox.post(frame)
        self._work.set()
        return posted

    def _check_open(self) -> None:
        self._check_entered()
        if self._state == "closed":
            raise self._closed(self._reason)

    def _closed(self, why: str) -> StreamError:
        return self._failure or Unavailable(f"{self._url}: {why}")

    # ---- hearing --------------------------------------------------------------------------------------------------

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Heard:
        self._check_entered()
        self._iterated = True
        async with self._changed:
            await self._changed.wait_for(lambda: self._heard or self._state == "closed")
            if self._heard:
                frame = self._heard.popleft()
                self._changed.notify_all()
                return frame
        if self._failure is not None:
            raise self._failure
        raise StopAsyncIteration

    async def _hear_until(self, condition: Callable[[], bool]) -> None:
        """Wait until what is heard makes a condition true, or this is closed; nobody holds up the socket meanwhile."""
        self._check_entered()
        self._listening += 1
        try:
            async with self._changed:
                self._changed.notify_all()  # `_put` lets it go on
                await self._changed.wait_for(lambda: condition() or self._state == "closed")
        finally:
            self._listening -= 1

    # ---- the socket -----------------------------------------------------------------------------------------------

    def _query(self) -> dict[str, str]:
        self._target = None
        query: dict[str, str] = {"kind": self._kind}
        if self._name is not None:
            query["name"] = self._name
        if self._ready is not None:
            query["session"] = self._ready.session
        if self._position is not None:
            query["last_event_id"] = str(self._position)
        elif self._history is not None:
            query["history"] = str(self._history)
        return query

    async def _begin(self) -> None:
        """Send what is to be sent, at our pace; the whole of it again on each socket."""
        loop = asyncio.get_running_loop()
        self._outbox.reopen()
        with suppress(TimeoutError):  # if what was to come is no frame of ours
            async with asyncio.timeout(SETTLE_S), self._changed:
                await self._changed.wait_for(self._settled)
        self._outbox.resume()
        tokens, counted_s = float(BURST), loop.time()
        try:
            while True:
                self._work.clear()
                text = self._next()
                if text is None:
                    await self._work.wait()
                    continue
                now_s = loop.time()
                tokens = min(BURST, tokens + (now_s - counted_s) / self.SEND_S)
                counted_s = now_s
                if tokens < 1:
                    await asyncio.sleep((1 - tokens) * self.SEND_S)
                tokens -= 1
                await self._send(text)
        except Unavailable:
            return  # the receiving side finds it out, too

    def _settled(self) -> bool:
        """Whether all that had been said when this socket was opened has come."""
        if self._target is None or self._position is None:
            return False
        return self._position.epoch != self._target.epoch or self._position.offset >= self._target.offset

    def _next(self) -> str | None:
        """What to send next."""
        return self._outbox.next()

    async def _take(self, text: str) -> None:
        try:
            async with self._changed:
                await self._hear(wire.decode_server(text))
                self._changed.notify_all()
        except (ChatError, EventError) as error:
            raise StreamError(f"{self._url}: what answers there does not speak {self.PROTOCOL}: {error}") from error
        if self._on_change is not None:
            self._call(self._on_change)

    async def _hear(self, frame: wire.ServerFrame | None) -> None:
        match frame:
            case Ready():
                self._open(frame)
            case Said() | Delta() | Done():
                if self._is_ours(frame.speaker):
                    self._outbox.acknowledge(frame)
                if self._passes(EventId.parse(str(frame.position))):
                    self.transcript.apply(frame)
                    await self._put(frame)
            case Missed():
                self._position = EventId.parse(frame.position)
                self.transcript.missed()
                await self._put(frame)
            case Presence():
                self._members = (self._members - set(frame.left)) | set(frame.joined)
                self._typing = frame.typing
                await self._put(frame)
            case Refused():
                posted = self._outbox.refuse(frame)
                if posted is not None:
                    asyncio.get_running_loop().call_later(AGAIN_S, self._again, posted)

    def _is_ours(self, speaker: str) -> bool:
        return speaker == self._name

    def _open(self, ready: Ready) -> None:
        self._ready, self._name = ready, ready.name
        if self._position is None:
            self._position = EventId.parse(ready.position)
        self._target = EventId(ready.epoch, ready.last)
        self._members, self._typing = set(ready.members), ready.typing

    def _passes(self, new: EventId) -> bool:
        """Move on to a position; False for one that we have passed: it only acknowledges what was sent again."""
        old = self._position
        if old is not None and new.epoch == old.epoch and new.offset <= old.offset:
            return False
        self._position = new
        return True

    def _again(self, posted: Posted) -> None:
        posted.sent = False
        self._work.set()

    async def _put(self, frame: Heard) -> None:
        """Keep it for whoever iterates; who has begun to is waited for, unless somebody waits to hear something."""
        self._changed.notify_all()  # of what it acknowledges
        if self._iterated:
            await self._changed.wait_for(lambda: len(self._heard) < MAX_HEARD or self._listening)
        elif len(self._heard) >= MAX_HEARD:
            self._heard.popleft()
        self._heard.append(frame)
