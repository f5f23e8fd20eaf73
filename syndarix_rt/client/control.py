"""`HttpLine`: how a run that publishes over HTTP is steered; a `syndarix_rt.playback.Line`."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from types import TracebackType
from typing import Self

from syndarix_rt.client.api import Api
from syndarix_rt.client.publisher import HttpPublisher
from syndarix_rt.client.run_chat import RunChat
from syndarix_rt.client.stream import EventStream
from syndarix_rt.delivery.steering import REQUEST
from syndarix_rt.events import Event, EventId

__all__ = ["HttpLine"]

GIVE_UP_AFTER_S = 5.0
"""An answer is tried for so long; whoever asked does not wait longer."""


class HttpLine:
    """The line of one run through one project; an asynchronous context manager.

    Args:
        base_url: the server's URL, also as printed or pasted.
        project: into which project the run plays.
        run: the run's id.
        token: the secret, if it is not in the URL.
    """

    def __init__(self, base_url: str, project: str, run: str, *, token: str | None = None) -> None:
        self.project = project
        self._base_url = base_url
        self._run = run
        self._token = token
        self._after: EventId | None = None
        self._chat = RunChat(base_url, project, token=token)
        self._publisher = HttpPublisher(base_url, project, token=token, control_of=run, give_up_after_s=GIVE_UP_AFTER_S)

    async def __aenter__(self) -> Self:
        """Note where the project stands, so that no decision is missed about what is published from now on.

        Raises:
            StreamError: the server refuses, or does not answer.
        """
        async with Api(self._base_url, token=self._token) as api:
            self._after = (await api.position(self.project)).top
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._chat.aclose()
        await self._publisher.aclose()

    def requests(self) -> AsyncGenerator[Event]:
        """See `Line.requests`."""
        stream = EventStream(
            self._base_url, self.project, token=self._token, run=self._run, types=REQUEST, replay="all"
        )
        return _events(stream)

    def decisions(self) -> AsyncGenerator[Event]:
        """See `Line.decisions`."""
        stream = EventStream(
            self._base_url, self.project, token=self._token, types="approval_resolved", last_event_id=self._after
        )
        return _events(stream)

    async def send(self, events: Sequence[Event]) -> None:
        """See `Line.send`."""
        await self._publisher.publish(events)

    def chat(self) -> RunChat:
        """See `Line.chat`."""
        return self._chat


async def _events(stream: EventStream) -> AsyncGenerator[Event]:
    async with stream:
        async for item in stream:
            if isinstance(item, Event):  # after a gap, whoever asked has no answer, and asks again
                yield item
