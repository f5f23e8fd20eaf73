"""`RunChat`: the chat for the agents of a run that publishes over HTTP; a `syndarix_rt.playback.agents.ChatLine`.

All of them share one socket (``?kind=run``), whose frames name who answers.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import ClassVar

import msgspec

from syndarix_rt.client.chat_socket import ChatSocket
from syndarix_rt.client.outbox import Draft
from syndarix_rt.delivery.chat import (
    MAX_AGENTS,
    Delta,
    Done,
    Entry,
    Finish,
    Member,
    Missed,
    RunAgents,
    Said,
    Say,
    Stream,
    encode,
)
from syndarix_rt.delivery.resume import Gap
from syndarix_rt.errors import ChatError

__all__ = ["RunChat"]


class RunChat(ChatSocket):
    """Opened by `follow`, and open until ``aclose()``, so that what is broken off can still be told.

    Args:
        base_url: the server's URL, also as printed or pasted.
        project: whose chat.
        token: the secret, if it is not in the URL.
    """

    SEND_S: ClassVar[float] = 0.02
    """50 messages a second, of the 60 that a server takes from a run."""

    def __init__(self, base_url: str, project: str, *, token: str | None = None) -> None:
        super().__init__(base_url, project, token=token, history=0)
        self._agents: set[str] = set()
        self._announced: set[str] | None = None
        self._speakers: set[str] = set()

    async def follow(self) -> AsyncGenerator[Entry | Gap]:
        """What is said from now on.

        Raises:
            StreamError: the server refuses the socket for good.
        """
        await self.__aenter__()
        async for frame in self:
            if isinstance(frame, Said | Delta | Done):
                yield frame
            elif isinstance(frame, Missed):
                yield Gap(frame.reason, frame.requested, frame.first, frame.last, frame.missed)

    async def send(self, speaker: str, frame: Say | Stream | Finish, *, give_up_after_s: float = 0.0) -> None:  # noqa: ARG002 - it is sent again for as long as this is open
        """Answer for an agent. A piece is sent when the socket has room for it; the whole until it is acknowledged.

        Raises:
            ChatError: it cannot be said, or was said otherwise before.
            StreamError: the socket is closed.
        """
        self._speakers.add(speaker)
        if isinstance(frame, Say):
            raise ChatError("not-yours", "a run answers, and says nothing by itself", "$.type", frame.id)
        if isinstance(frame, Finish):
            self._outbox.drafts.pop(frame.id, None)
            await self._deliver(msgspec.structs.replace(frame, speaker=speaker))
            return
        self._check_open()
        draft = self._outbox.drafts.get(frame.id)
        if draft is None:
            draft = self._outbox.drafts[frame.id] = Draft(frame.id, frame.to, frame.reply_to, speaker)
        draft.add(frame.text)
        self._work.set()

    async def arrive(self, member: Member, session: str) -> None:  # noqa: ARG002 - the socket has one
        """An agent is there, as long as the socket is."""
        if len(self._agents) < MAX_AGENTS:
            self._agents.add(member.name)
            self._work.set()

    async def leave(self, member: Member, session: str) -> None:  # noqa: ARG002 - see `arrive`
        """An agent is gone."""
        self._agents.discard(member.name)
        self._work.set()

    def _query(self) -> dict[str, str]:
        return super()._query() | {"kind": "run"}

    def _is_ours(self, speaker: str) -> bool:
        return speaker in self._speakers

    async def _begin(self) -> None:
        self._announced = None
        await super()._begin()

    def _next(self) -> str | None:
        if self._announced != self._agents:
            self._announced = set(self._agents)
            return encode(RunAgents(names=sorted(self._agents))).decode()
        return super()._next()
