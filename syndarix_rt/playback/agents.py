"""`Agents`: the agents of a run that plays take part in its project's chat, and answer for themselves.

They are there from their first event on, as long as the run plays. One answers what is said to it; to what is said to
everybody all answer that are named in it, or, if it is a question, all (at most `MAX_AT_ONCE`). What they say is in
:mod:`~syndarix_rt.playback.answers`, read from the run's state when the question comes; it is streamed as by a model.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing, suppress
from typing import Any, Protocol

from syndarix_rt.delivery.chat import EVERYBODY, MAX_AGENTS, Entry, Finish, Member, Said, Say, Stream, is_addressed
from syndarix_rt.delivery.replies import Reply
from syndarix_rt.delivery.resume import Gap
from syndarix_rt.errors import SyndarixError
from syndarix_rt.playback.answers import answer
from syndarix_rt.playback.inspection import Inspection

__all__ = ["Agents", "ChatLine"]

TOKENS_PER_S = 60.0
"""As fast as hosted models write; a person reads along at a tenth of it."""

MAX_AT_ONCE = 8
"""Agents that answer one message; more is no talk."""

MAX_ANSWERS = 32
"""Answers on their way at the same time; what is asked meanwhile is not answered."""

ARRIVE_S = 2.0
"""A new agent is seen so soon."""

GIVE_UP_AFTER_S = 5.0

FAREWELL_S = 1.0
"""When the run ends, an answer on its way is broken off, and that may take so long to be told."""


class ChatLine(Protocol):
    """A project's chat, as `syndarix_rt.broker.chat.Chat` is one, and `syndarix_rt.client.run_chat.RunChat`."""

    def follow(self) -> AsyncGenerator[Entry | Gap]:
        """What is said from now on."""
        ...

    async def send(self, speaker: str, frame: Say | Stream | Finish, *, give_up_after_s: float = 0.0) -> Any:
        """Say something."""
        ...

    async def arrive(self, member: Member, session: str) -> None:
        """Be there for some seconds."""
        ...

    async def leave(self, member: Member, session: str) -> None:
        """Be gone."""
        ...


class Agents:
    """The agents of one run in one project.

    Args:
        chat: the project's.
        known: its state, as far as it is published.
        seed: the simulation's id; with the question it decides about the words.
        session: the run's id.
        sleep: waits that many seconds, between the tokens.
    """

    def __init__(
        self,
        chat: ChatLine,
        known: Inspection,
        seed: str,
        session: str,
        *,
        sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
    ) -> None:
        self._chat = chat
        self._known = known
        self._seed = seed
        self._session = session
        self._sleep = sleep
        self._here: set[str] = set()
        self._answers: set[asyncio.Task[None]] = set()

    async def run(self) -> None:
        """Be there and answer until cancelled.

        Raises:
            SyndarixError: the chat cannot be followed.
        """
        presence = asyncio.create_task(self._be_there(), name=f"agents of {self._session}")
        try:
            async with aclosing(self._chat.follow()) as frames:
                async for frame in frames:
                    if isinstance(frame, Said):
                        self._hear(frame)
        finally:
            for task in (presence, *self._answers):
                task.cancel()
            await asyncio.gather(presence, *self._answers, return_exceptions=True)
            for name in self._here:
                with suppress(SyndarixError):
                    await self._chat.leave(Member(name, "agent"), self._session)

    async def _be_there(self) -> None:
        renewed = 0
        while True:
            agents = set(self._known.agents[:MAX_AGENTS])
            due = agents if renewed == 0 else agents - self._here
            renewed = (renewed + 1) % 3  # a claim lasts three times as long
            for name in sorted(due):
                self._here.add(name)  # first: who is cancelled in the midst of it has to leave, too
                try:
                    await self._chat.arrive(Member(name, "agent"), self._session)
                except SyndarixError:  # the broker is away; the next round may find it
                    self._here.discard(name)
            await self._sleep(ARRIVE_S)

    def _hear(self, said: Said) -> None:
        agents = self._known.agents
        if said.speaker in agents:
            return
        asked = [name for name in agents if is_addressed(said, name)]
        if not asked and said.to == EVERYBODY and "?" in said.text:
            asked = agents
        for name in asked[:MAX_AT_ONCE]:
            if len(self._answers) < MAX_ANSWERS:
                text = answer(self._known, name, said.text, self._seed)
                task = asyncio.create_task(self._answer(name, said, text), name=f"answer of {name}")
                self._answers.add(task)
                task.add_done_callback(self._answers.discard)

    async def _answer(self, name: str, said: Said, text: str) -> None:
        reply, failure = Reply(said, name), None
        loop = asyncio.get_running_loop()
        with suppress(SyndarixError):  # another run has an agent of that name, or the broker stays away
            try:
                async with aclosing(self._tokens(text)) as tokens:
                    async for token in tokens:
                        reply.add(token)
                        frame = reply.take(loop.time())
                        if frame is not None:
                            await self._chat.send(name, frame, give_up_after_s=GIVE_UP_AFTER_S)
            except SyndarixError:
                raise
            except asyncio.CancelledError:
                with suppress(TimeoutError):
                    async with asyncio.timeout(FAREWELL_S):
                        await self._chat.send(name, reply.finish("the run has ended"))
                raise
            except Exception as error:  # noqa: BLE001 - whoever asked must not wait for ever
                failure = error
            await self._chat.send(name, reply.finish(failure), give_up_after_s=GIVE_UP_AFTER_S)

    async def _tokens(self, text: str) -> AsyncGenerator[str]:
        for token in re.findall(r"\s*\S{1,6}", text):
            await self._sleep(1 / TOKENS_PER_S)
            yield token
