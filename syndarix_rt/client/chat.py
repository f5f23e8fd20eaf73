"""`ChatClient`: a member of a project's chat, person or agent; `Answer`: what an agent writes piece by piece."""

from __future__ import annotations

import asyncio
import math
import random
import secrets
from collections.abc import Awaitable, Callable
from contextlib import suppress
from types import TracebackType
from typing import Self

from syndarix_rt.client.chat_socket import ChatSocket, Heard
from syndarix_rt.client.outbox import Draft
from syndarix_rt.delivery.chat import (
    EVERYBODY,
    Finish,
    Kind,
    Member,
    Message,
    Said,
    Say,
    answer_id,
    failure_text,
)
from syndarix_rt.errors import ChatError, StreamError
from syndarix_rt.events import EventId

__all__ = ["Answer", "ChatClient", "Heard"]

TOLD_S = 1.0
"""A person's keys are told of so often at most."""


class ChatClient(ChatSocket):
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
    on, whoever takes them slowly holds up the socket, rather than that any is lost, unless one of the methods here
    waits for something to be heard. Members and `transcript` are kept in any case, so somebody who only looks at those
    need not iterate.

    Every method that waits raises `StreamError` if the server refuses the socket for good, or it is closed here; what a
    call that was cancelled had to say may be said nevertheless.

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
        super().__init__(
            base_url, project, name=name, kind=kind, token=token, last_event_id=last_event_id, history=history,
            on_change=on_change, rng=rng, sleep=sleep,
        )  # fmt: skip
        self._told_s = -math.inf

    @property
    def members(self) -> list[Member]:
        """Who is here, by name; as of the last connection while there is none."""
        return sorted(self._members)

    @property
    def typing(self) -> list[str]:
        """Who is writing."""
        return list(self._typing)

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

        await self._hear_until(lambda: found() is not None)
        answer = found()
        if answer is None:
            raise self._closed("closed before it was answered")
        return answer

    def answer(self, question: Said | None = None, *, to: str = EVERYBODY, id: str | None = None) -> Answer:  # noqa: A002 - the frame's word
        """Begin an answer, to a message or to somebody; see `Answer`.

        Args:
            question: what it answers.
            to: whom it answers, without a question.
            id: its name. None: for a question that which belongs to it (`answer_id`), so that it is answered once,
                whoever was started again meanwhile; a second answer to it needs an id of its own.
        """
        if question is None:
            return Answer(self, Draft(id, to, None))
        return Answer(self, Draft(id or answer_id(question, self._name or ""), question.speaker, question.id))

    async def break_off(self, answer: Message, why: str) -> None:
        """End an answer under this name with what there is of it: one that an earlier process left open.

        Raises:
            ChatError: it has ended, or gone on, meanwhile.
        """
        frame = Finish(id=answer.id, text=answer.text, to=answer.to, reply_to=answer.reply_to, error=why)
        await self._deliver(frame)

    def show_typing(self) -> None:
        """Show to others that somebody writes here; call it with each key."""
        now_s = asyncio.get_running_loop().time()
        if now_s - self._told_s >= TOLD_S:
            self._told_s = now_s
            self._outbox.typing()
            self._work.set()


class Answer:
    """An answer that is written piece by piece while others read it; an asynchronous context manager.

    At the end of the block the whole of it is sent, and acknowledged. If the block raises, the answer ends with what
    there is, and its ``error`` says why; what the block raised goes on its way, also if that could not be told.

    Raises:
        ChatError: from `write`, if it becomes longer than a message may be; from entering, if an answer under the same
            id is being written already.

    Attributes:
        id: its name.
        to: whom it answers.
        reply_to: the id of the message that it answers.
    """

    def __init__(self, client: ChatClient, draft: Draft) -> None:
        self.id, self.to, self.reply_to = draft.id, draft.to, draft.reply_to
        self._client = client
        self._draft = draft

    @property
    def text(self) -> str:
        """What has been written."""
        return self._draft.text

    async def write(self, text: str) -> None:
        """Add to it; what is added faster than it can be sent goes out together."""
        client = self._client
        client._check_open()  # noqa: SLF001 - of one client
        if client._outbox.drafts.get(self.id) is not self._draft:  # noqa: SLF001 - of one client
            raise RuntimeError("write an answer within its block: async with chat.answer(…) as answer")
        self._draft.add(text)
        client._work.set()  # noqa: SLF001 - of one client
        await asyncio.sleep(0)

    async def __aenter__(self) -> Self:
        drafts = self._client._outbox.drafts  # noqa: SLF001 - of one client
        if self.id in drafts:
            raise ChatError(
                "conflict", "an answer under this id is being written; give the second one its own", id=self.id
            )
        drafts[self.id] = self._draft
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        client = self._client
        del client._outbox.drafts[self.id]  # noqa: SLF001 - of one client
        if error is None:
            await client._deliver(self._draft.whole(None))  # noqa: SLF001 - of one client
            return
        with suppress(ChatError, StreamError):  # the error that is on its way says more
            if isinstance(error, asyncio.CancelledError):
                client._post(self._draft.whole("broken off"))  # noqa: SLF001 - of one client; nobody waits any more
            else:
                await client._deliver(self._draft.whole(failure_text(error)))  # noqa: SLF001 - of one client
