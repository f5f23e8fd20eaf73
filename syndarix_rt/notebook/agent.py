"""`NotebookAgent`: an agent of this notebook in a project's chat, on a thread of its own."""

from __future__ import annotations

import asyncio
import contextlib
from concurrent.futures import CancelledError

from syndarix_rt.client.agent import Answering, ChatAgent
from syndarix_rt.notebook.background import Background

__all__ = ["NotebookAgent"]

COME_S = 5.0
"""A server that takes longer to let it in is away."""

STOP_S = 2.0
"""An agent that blocks its thread is not waited for any longer."""


class NotebookAgent:
    """Answers until it is stopped; see `syndarix_rt.client.ChatAgent` for what it answers.

    It has a thread and an event loop of its own: a function that blocks holds up this agent alone. It is here when it
    has been made, unless the server is away; then it comes when that is back.

    Args:
        url: the server's, with its key.
        project: whose chat.
        name: the agent's.
        answer: makes an answer.
        at_once: so many answers are made at the same time.

    Raises:
        StreamError: the server does not let it in.
    """

    def __init__(self, url: str, project: str, name: str, answer: Answering, *, at_once: int) -> None:
        self.name = name
        self.project = project
        self._agent = ChatAgent(url, project, name, answer, at_once=at_once)
        self._background = Background(f"syndarix-rt agent {name}")
        self._task: asyncio.Task[None] | None = None
        self._running = self._background.submit(self._run())
        try:
            with contextlib.suppress(TimeoutError):
                self._background.submit(self._agent.client.ready()).result(COME_S)
        except BaseException:
            self._background.close()
            raise

    async def _run(self) -> None:
        self._task = asyncio.current_task()
        await self._agent.run()

    @property
    def answered(self) -> int:
        """Answers that are complete."""
        return self._agent.answered

    @property
    def failed(self) -> int:
        """Answers that an error broke off; the last one is in `error`."""
        return self._agent.failed

    @property
    def error(self) -> str:
        """What broke off the last such answer, or ended the agent."""
        if self._running.done():
            with contextlib.suppress(CancelledError):
                return str(self._running.exception() or "") or self._agent.error
        return self._agent.error

    @property
    def status(self) -> str:
        """``here``, ``connecting``, ``waiting`` for a server that is away, or ``stopped``."""
        state = self._agent.client.state
        return {"open": "here", "closed": "stopped"}.get(state, state) if not self._running.done() else "stopped"

    def stop(self) -> None:
        """Leave the chat; answers on their way are broken off."""
        with contextlib.suppress(TimeoutError, RuntimeError):  # it blocks, or has been stopped before
            self._background.submit(self._leave()).result(STOP_S)
        self._background.close()

    async def _leave(self) -> None:
        assert self._task is not None
        self._task.cancel()
        await asyncio.wait({self._task})

    def __repr__(self) -> str:
        counted = f"{self.answered} answered, {self.failed} failed"
        return f"<agent {self.name} in {self.project}: {self.status}; {counted}{self.error and f' ({self.error})'}>"
