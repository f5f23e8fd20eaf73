"""`ChatClient`: a member of a project's chat, person or agent, over a `SocketClient`.

Whatever was given to it and is not acknowledged when the socket is cut is sent again on the next one, in order, at a
pace that no server cuts. It resumes exactly after the last frame that it took in; `Missed` says what is gone for good.
"""

from __future__ import annotations

import asyncio
import random
import secrets
from collections import OrderedDict, deque
from collections.abc import Awaitable, Callable
from contextlib import suppress
from types import TracebackType
from typing import ClassVar, Self

import msgspec

from syndarix_rt.client.http import Unavailable
from syndarix_rt.client.socket import MAX_SENT_BYTES, SocketClient
from syndarix_rt.delivery import chat as wire
from syndarix_rt.delivery.chat import (
    EVERYBODY,
    Delta,
    Done,
    Finish,
    Kind,
    Member,
    Message,
    Missed,
    Presence,
    Ready,
    Refused,
    Said,
    Say,
    Stream,
    Transcript,
    Typing,
)
from syndarix_rt.errors import ChatError, StreamError
from syndarix_rt.events import EventId

__all__ = ["Answer", "ChatClient", "Heard"]

BURST = 16
"""Messages that are sent at once; after that they are spread (`ChatClient.SEND_S`)."""

AGAIN_S = 1.0
"""What a server could not pass on because its broker was away is sent again after so long."""

SETTLE_S = 2.0
"""What came while we were away is waited for so long before an answer goes on."""

MAX_HEARD = 1_000
"""Frames that wait to be taken."""

MAX_WAITING = 256
"""Messages that wait for their acknowledgement; whoever says more waits, too."""

PIECE = 8_000
"""Characters in one delta; what has piled up while we were cut off goes as several."""

MAX_ANSWER_BYTES = MAX_SENT_BYTES - 4 * 1024
"""Of a whole answer, which is one message in the end; the rest is for what stands around it."""

TOLD_S = 1.0
"""A person's keys are told of so often at most."""

Heard = Said | Delta | Done | Missed | Presence
"""What an iteration gives."""


class ChatClient(SocketClient):
    """Talks in a project's chat; an asynchronous context manager, and an iterator of what is heard.

    ::

        async with ChatClient("http://127.0.0.1:8765/?key=…", "apollo", name="ana") as chat:
            await chat.say("why did the pipeline fail?", to="developer-1")
            async for frame in chat:
                match frame:
                    case Done(speaker="developer-1", text=text):
                        print(text)

    and for an agent::

        async with ChatClient(url, "apollo", name="echo", kind="agent") as chat:
            async for frame in chat:
                if isinstance(frame, Said) and frame.to == "echo":
                    async with chat.answer(frame) as answer:
                        await answer.write(frame.text)

    An iteration gives every frame once and in order. Before the first one, the newest 1,000 frames are kept; from then
    on, whoever takes them slowly holds up the socket, rather than that any is lost. Members and `transcript` are kept
    in any case, so somebody who only looks at those need not iterate.

    Every method raises `StreamError` if the server refuses the socket for good.

    Args:
        base_url: the server's URL, also as printed or pasted.
        project: whose chat.
        name: under which to speak, where the token does not say it; None: the server gives one.
        kind: ``person``, or ``agent``: one that answers.
        token: the secret, if it is not in the URL.
        last_event_id: continue after this position; else with the last messages.
        history: how many of these; None: as many as the server gives.
        on_change: called after each frame, when members, typing or transcript may have changed. If it raises, that is
            logged.
        rng: the source of the jitter.
        sleep: waits a number of seconds; for tests.

    Attributes:
        transcript: what was said, and the answers on their way.

    Raises:
        StreamError: the URL or the project's name is wrong.
        EventError: ``last_event_id`` is no event id.
    """

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
        self._position = None if last_event_id is None else str(EventId.parse(str(last_event_id)))
        self._on_change = on_change
        self._ready: Ready | None = None
        self._members: set[Member] = set()
        self._typing: list[str] = []
        self._told_s = 0.0
        self._heard: deque[Heard] = deque()
        self._iterated = False
        # Whole messages by id, until they are acknowledged, and answers that are still being written.
        self._waiting: OrderedDict[str, _Waiting] = OrderedDict()
        self._answers: OrderedDict[str, Answer] = OrderedDict()
        self._known: OrderedDict[str, Said | Done] = OrderedDict()  # the last that were acknowledged
        self._signs: deque[str] = deque(maxlen=1)
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
        return self._position

    @property
    def members(self) -> list[Member]:
        """Who is here, by name; as of the last connection while there is none."""
        return sorted(self._members)

    @property
    def typing(self) -> list[str]:
        """Who is writing."""
        return self._typing

    async def ready(self) -> Ready:
        """Wait for the first connection; what the server said then."""
        async with self._changed:
            await self._changed.wait_for(lambda: self._ready is not None or self._state == "closed")
        if self._ready is None:
            raise self._failure or Unavailable(f"{self._url}: {self._reason}")
        return self._ready

    # ---- speaking -------------------------------------------------------------------------------------------------

    async def say(self, text: str, *, to: str = EVERYBODY, reply_to: str | None = None, id: str | None = None) -> Said:  # noqa: A002 - the frame's word
        """Say something; what all heard of it, with its position. Returns when it stands in the log.

        Args:
            text: what.
            to: whom it is meant for.
            reply_to: the id of the message of ``to`` that it answers.
            id: its name; said again under the same one, also by another process, it is there once.

        Raises:
            ChatError: it cannot be said so: it is empty or too long, or came with other content before.
        """
        said = await self._deliver(Say(id=id or secrets.token_hex(8), text=text, to=to, reply_to=reply_to))
        assert isinstance(said, Said)
        return said

    async def reply(self, said: Said) -> Message:
        """Wait for the first answer to a message that is complete."""

        def found() -> Message | None:
            answers = (message for message in self.transcript.messages if message.answer)
            return next((answer for answer in answers if (answer.to, answer.reply_to) == (said.speaker, said.id)), None)

        async with self._changed:
            await self._changed.wait_for(lambda: found() is not None or self._state == "closed")
        answer = found()
        if answer is None:
            raise self._failure or Unavailable(f"{self._url}: closed before it was answered")
        return answer

    def answer(self, question: Said | None = None, *, to: str = EVERYBODY, id: str | None = None) -> Answer:  # noqa: A002 - the frame's word
        """Begin an answer, to a message or to somebody; see `Answer`.

        Args:
            question: what it answers.
            to: whom it answers, without a question.
            id: its name. None: for a question that which belongs to it (`answer_id`), so that it is answered once,
                whoever was started again meanwhile; a second answer to it needs an id of its own.
        """
        if question is not None:
            name = id or wire.answer_id(question, self._name or "")
            return Answer(self, name, question.speaker, question.id)
        return Answer(self, id or secrets.token_hex(8), to, None)

    async def break_off(self, answer: Message, why: str) -> None:
        """End an answer under this name with what there is of it: one that an earlier process left open.

        Raises:
            ChatError: it has ended, or gone on, meanwhile.
        """
        frame = Finish(id=answer.id, text=answer.text, to=answer.to, reply_to=answer.reply_to, error=why)
        await self._deliver(frame)

    async def flush(self) -> None:
        """Wait until whole messages and the ends of answers are acknowledged, or the socket is closed."""
        async with self._changed:
            await self._changed.wait_for(lambda: not self._waiting or self._state == "closed")

    def is_typing(self) -> None:
        """Tell that somebody writes here; call it with each key."""
        now_s = asyncio.get_running_loop().time()
        if now_s - self._told_s >= TOLD_S:
            self._told_s = now_s
            self._signs.append(wire.encode(Typing()).decode())
            self._work.set()

    async def _deliver(self, frame: Say | Finish) -> Said | Done:
        """Have a message sent until it is acknowledged."""
        async with self._changed:
            await self._changed.wait_for(lambda: len(self._waiting) < MAX_WAITING or self._state == "closed")
            known = self._known.get(frame.id)
            if known is not None and (known.text, known.to) == (frame.text, frame.to):
                return known  # the server acknowledges it once on a connection
            waiting = self._post(frame)
            self._changed.notify_all()  # who holds up the socket lets it go on
            await self._changed.wait_for(lambda: waiting.done or self._state == "closed")
        if waiting.error is not None:
            raise waiting.error
        if waiting.heard is None:
            raise self._failure or Unavailable(f"{self._url}: closed before it was acknowledged")
        return waiting.heard

    def _post(self, frame: Say | Finish) -> _Waiting:
        if self._state == "closed":
            raise self._failure or Unavailable(f"{self._url}: {self._reason}")
        if self._task is None:
            raise RuntimeError("enter the client first: async with ChatClient(…) as chat")
        text = wire.encode(frame).decode()
        if len(text.encode()) > MAX_SENT_BYTES:
            raise ChatError("too-large", f"a message has at most {MAX_SENT_BYTES} bytes", "$.text", frame.id)
        waiting = self._waiting.setdefault(frame.id, _Waiting(text))
        self._work.set()
        return waiting

    # ---- hearing --------------------------------------------------------------------------------------------------

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Heard:
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

    # ---- the socket -----------------------------------------------------------------------------------------------

    def _query(self) -> dict[str, str]:
        self._target = None
        query: dict[str, str] = {"kind": self._kind}
        if self._name is not None:
            query["name"] = self._name
        if self._ready is not None:
            query["session"] = self._ready.session
        if self._position is not None:
            query["last_event_id"] = self._position
        elif self._history is not None:
            query["history"] = str(self._history)
        return query

    async def _begin(self) -> None:
        """Send what is to be sent, at our pace; the whole of it again on each socket."""
        loop = asyncio.get_running_loop()
        for waiting in self._waiting.values():
            waiting.sent = False
        with suppress(TimeoutError):  # if what was to come is no frame of ours
            async with asyncio.timeout(SETTLE_S), self._changed:
                await self._changed.wait_for(self._settled)
        for answer in self._answers.values():
            answer.sent = answer.known
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
        position = EventId.parse(self._position)
        return position.epoch != self._target.epoch or position.offset >= self._target.offset

    def _next(self) -> str | None:
        """What to send next: whole messages in their order, then what was added to answers, one after the other."""
        if self._signs:
            return self._signs.popleft()
        for waiting in self._waiting.values():
            if not waiting.sent:
                waiting.sent = True
                return waiting.text
        for name, answer in self._answers.items():
            if answer.sent < len(answer.text):
                self._answers.move_to_end(name)
                piece = answer.text[answer.sent : answer.sent + PIECE]
                frame = Stream(
                    id=answer.id,
                    at=answer.sent,
                    text=piece,
                    to=answer.to,
                    reply_to=answer.reply_to,
                    speaker=answer.speaker,
                )
                answer.sent += len(piece)
                return wire.encode(frame).decode()
        return None

    async def _take(self, text: str) -> None:
        try:
            frame = wire.decode_server(text)
        except ChatError as error:
            raise StreamError(f"{self._url}: what answers there does not speak {self.PROTOCOL}: {error}") from error
        async with self._changed:
            match frame:
                case Ready():
                    self._open(frame)
                case Said() | Delta() | Done():
                    if self._is_ours(frame.speaker):
                        self._acknowledge(frame)
                    if self._passes(frame.position):
                        self.transcript.apply(frame)
                        await self._put(frame)
                case Missed():
                    self._position = frame.position
                    await self._put(frame)
                case Presence():
                    self._members = (self._members - set(frame.left)) | set(frame.joined)
                    self._typing = frame.typing
                    await self._put(frame)
                case Refused():
                    self._refused(frame)
            self._changed.notify_all()
        if self._on_change is not None:
            self._call(self._on_change)

    def _is_ours(self, speaker: str) -> bool:
        return speaker == self._name

    def _open(self, ready: Ready) -> None:
        self._ready, self._name = ready, ready.name
        self._position = ready.position if self._position is None else self._position
        self._target = EventId(ready.epoch, ready.last)
        self._members, self._typing = set(ready.members), ready.typing

    def _passes(self, position: object) -> bool:
        """Move on to a position; False for one that we have passed: it only acknowledges what was sent again."""
        if not isinstance(position, str):
            return False
        new = EventId.parse(position)
        old = EventId.parse(self._position) if self._position else None
        if old is not None and new.epoch == old.epoch and new.offset <= old.offset:
            return False
        self._position = position
        return True

    def _acknowledge(self, frame: Said | Delta | Done) -> None:
        """Something that we have sent stands in the log."""
        if isinstance(frame, Delta):
            answer = self._answers.get(frame.id)
            if answer is not None and frame.at == answer.known:
                answer.known += len(frame.text)
            return
        self._known[frame.id] = frame
        if len(self._known) > MAX_WAITING:
            self._known.popitem(last=False)
        waiting = self._waiting.pop(frame.id, None)
        if waiting is not None:
            waiting.heard, waiting.done = frame, True

    def _refused(self, frame: Refused) -> None:
        waiting = self._waiting.get(frame.id or "")
        if waiting is None or frame.path == "$.at":
            return  # a delta, for which the whole answer makes up, or why the socket is about to be closed
        if frame.code in ("broker-away", "broker-error"):
            asyncio.get_running_loop().call_later(AGAIN_S, self._again, waiting)
        elif waiting.sent:
            waiting.error, waiting.done = ChatError(frame.code, frame.detail, frame.path or "$", frame.id), True
            del self._waiting[frame.id or ""]

    def _again(self, waiting: _Waiting) -> None:
        waiting.sent = False
        self._work.set()

    async def _put(self, frame: Heard) -> None:
        """Keep it for whoever iterates; who has begun to is waited for, unless it waits for us to hear something."""
        self._changed.notify_all()  # of what it acknowledges
        if self._iterated:
            await self._changed.wait_for(lambda: len(self._heard) < MAX_HEARD or self._waiting)
        elif len(self._heard) >= MAX_HEARD:
            self._heard.popleft()
        self._heard.append(frame)


class _Waiting:
    """A message that is not acknowledged yet."""

    __slots__ = ("done", "error", "heard", "sent", "text")

    def __init__(self, text: str) -> None:
        self.text = text
        self.sent = False
        self.done = False
        self.heard: Said | Done | None = None
        self.error: ChatError | None = None


class Answer:
    """An answer that is written piece by piece while others read it; an asynchronous context manager.

    At the end of the block the whole of it is sent, and acknowledged. If the block raises, the answer ends with what
    there is, and its ``error`` says why.

    Raises:
        ChatError: from `write`, if it becomes longer than a message may be.

    Attributes:
        id: its name.
        to: whom it answers.
        reply_to: the id of the message that it answers.
        speaker: which agent of a run answers; None: the client itself.
        text: what has been written.
    """

    def __init__(
        self, client: ChatClient, name: str, to: str, reply_to: str | None, speaker: str | None = None
    ) -> None:
        self._client = client
        self.id, self.to, self.reply_to, self.speaker = name, to, reply_to, speaker
        self.text = ""
        self._bytes = 0
        self.sent = 0
        """Characters that went out on the present socket, or are known to stand in the log."""
        self.known = 0
        """Characters that are known to stand in the log."""

    async def write(self, text: str) -> None:
        """Add to it; what is added faster than it can be sent goes out together."""
        size = len(msgspec.json.encode(text)) - 2
        if self._bytes + size > MAX_ANSWER_BYTES:
            raise ChatError("too-large", f"an answer has at most {MAX_ANSWER_BYTES} bytes", "$.text", self.id)
        self._bytes += size
        self.text += text
        self._client._work.set()  # noqa: SLF001 - one module
        await asyncio.sleep(0)

    async def __aenter__(self) -> Self:
        self._client._answers[self.id] = self  # noqa: SLF001 - one module
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        client = self._client
        del client._answers[self.id]  # noqa: SLF001 - one module
        reason = None if error is None else f"{type(error).__name__}: {error}"[:1_000]
        if isinstance(error, asyncio.CancelledError):
            reason = "broken off"
        frame = Finish(id=self.id, text=self.text, to=self.to, reply_to=self.reply_to, error=reason)
        if isinstance(error, asyncio.CancelledError):
            client._post(frame)  # noqa: SLF001 - one module; who is cancelled does not wait
        else:
            await client._deliver(frame)  # noqa: SLF001 - one module
