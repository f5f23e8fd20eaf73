"""`ChatAgent`: an agent in a project's chat whose answers a function of yours makes, such as one that asks a model."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, aclosing, suppress
from inspect import isasyncgen

from syndarix_rt.client.chat import ChatClient
from syndarix_rt.delivery.chat import Said, failure_text, is_addressed
from syndarix_rt.errors import ChatError
from syndarix_rt.events import EventId

__all__ = ["MAX_AT_ONCE", "Answering", "Busy", "ChatAgent"]

MAX_AT_ONCE = 4
"""Answers on their way at the same time: what a model's provider takes from one account without throttling it."""

HISTORY = 50
"""Messages that are looked at for answers that an earlier process left open."""

FLUSH_S = 1.0
"""At the end, what is broken off may take so long to be told."""

Answering = Callable[[Said], AsyncIterator[str] | Awaitable[str | None]]
"""Makes an answer: an async generator of its pieces, or an async function that returns all of it (None: no words)."""


class Busy(Exception):  # noqa: N818 - a state, and what is read in the chat
    """Too many answers are on their way."""


class ChatAgent:
    """Answers in a project's chat until it is cancelled.

    ::

        async def poet(said):
            async for piece in model.stream(said.text):
                yield piece

        await ChatAgent("http://127.0.0.1:8765/?key=…", "apollo", "poet", poet).run()

    It answers what is said to it, and what is said to everybody and names it; not what was said before it came, not
    itself, and not the answers of others, so that agents do not talk among themselves without end. If making an answer
    raises, that answer ends there, and the error is told in the chat; the agent stays. It comes back after every cut
    and answers what was asked meanwhile. One name is one agent: an answer that an earlier process of that name left
    open is broken off when the next one starts.

    Args:
        base_url: the server's URL, also as printed or pasted.
        project: whose chat.
        name: the agent's; under a token its subject.
        answer: makes an answer, on the event loop of `run`: what blocks there holds up the other answers.
        token: the secret, if it is not in the URL.
        at_once: so many answers are made at the same time; who asks beyond is told that it is busy.

    Attributes:
        client: its connection.
        answered: answers that are complete.
        failed: answers that were broken off by an error.
        error: the last such error, as it was told in the chat.

    Raises:
        StreamError: the URL or the project's name is wrong.
    """

    def __init__(
        self,
        base_url: str,
        project: str,
        name: str,
        answer: Answering,
        *,
        token: str | None = None,
        at_once: int = MAX_AT_ONCE,
    ) -> None:
        self.name = name
        self.client = ChatClient(base_url, project, name=name, kind="agent", token=token, history=HISTORY)
        self.answered = self.failed = 0
        self.error = ""
        self._make = answer
        self._at_once = at_once
        self._making = 0
        self._answers: set[asyncio.Task[None]] = set()

    async def run(self) -> None:
        """Be there and answer.

        Raises:
            StreamError: the server refuses the agent for good.
        """
        async with self.client as chat:
            try:
                ready = await chat.ready()
                began = EventId(ready.epoch, ready.last)
                looked_back = False
                async for frame in self.client:
                    if not looked_back and _reached(str(chat.position), began):
                        looked_back = True
                        await self._break_off()
                    if isinstance(frame, Said) and not _is_history(frame, began) and self._is_asked(frame):
                        task = asyncio.create_task(self._answer(frame), name=f"answer of {self.name}")
                        self._answers.add(task)
                        task.add_done_callback(self._answers.discard)
            finally:
                for task in self._answers:
                    task.cancel()
                await asyncio.gather(*self._answers, return_exceptions=True)
                with suppress(TimeoutError):
                    async with asyncio.timeout(FLUSH_S):
                        await chat.flush()

    def _is_asked(self, said: Said) -> bool:
        return said.speaker != self.name and is_addressed(said, self.name)

    async def _break_off(self) -> None:
        """End what an earlier process of this name has left open."""
        for answer in list(self.client.transcript.answers.values()):
            if answer.speaker == self.name:
                with suppress(ChatError):  # the server was first
                    await self.client.break_off(answer, f"{self.name} was started again")

    async def _answer(self, said: Said) -> None:
        try:
            async with self.client.answer(said) as answer:
                if self._making >= self._at_once:
                    raise Busy(f"{self._making} answers are on their way; ask again later")  # noqa: TRY301 - told as an error of the answer
                self._making += 1
                try:
                    made = self._make(said)
                    if isinstance(made, AsyncIterator):
                        async with AsyncExitStack() as stack:
                            if isasyncgen(made):
                                await stack.enter_async_context(aclosing(made))
                            async for piece in made:
                                await answer.write(piece)
                    else:
                        await answer.write(await made or "")
                finally:
                    self._making -= 1
            self.answered += 1
        except Exception as error:  # noqa: BLE001 - the chat has been told; the agent goes on
            self.failed += 1
            self.error = failure_text(error)


def _is_history(said: Said, began: EventId) -> bool:
    """Whether it was said before the agent came."""
    position = EventId.parse(str(said.position))
    return position.epoch == began.epoch and position.offset <= began.offset


def _reached(position: str, target: EventId) -> bool:
    found = EventId.parse(position)
    return found.epoch != target.epoch or found.offset >= target.offset
