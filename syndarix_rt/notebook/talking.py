"""`Talking`: what a workbench says and shows in the chats of its projects, and its agents there."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import AsyncExitStack
from typing import TypeVar

from syndarix_rt.client import ChatClient
from syndarix_rt.client.agent import Answering
from syndarix_rt.errors import SyndarixError
from syndarix_rt.notebook.agent import NotebookAgent
from syndarix_rt.notebook.chat_widget import ChatWidget
from syndarix_rt.notebook.debugger import Debugger

__all__ = ["Talking"]

_Talk = TypeVar("_Talk", ChatWidget, Debugger)


class Talking:
    """Panels with a connection of their own, agents, and questions to others.

    Args:
        url: the server's, with its key.

    Attributes:
        panels: the newest by kind and project.
        agents: by project and name.
    """

    def __init__(self, url: str) -> None:
        self.panels: dict[tuple[str, str], ChatWidget | Debugger] = {}
        self.agents: dict[tuple[str, str], NotebookAgent] = {}
        self._url = url
        self._clients: dict[str, ChatClient] = {}

    def show(self, what: str, project: str, make: Callable[[], _Talk]) -> _Talk:
        """A panel of its own connection, instead of the last one of that kind and project."""
        if (what, project) in self.panels:
            self.panels.pop((what, project)).close()
        panel = self.panels[what, project] = make()
        return panel

    def bring(self, name: str, project: str, answer: Answering, at_once: int) -> NotebookAgent:
        """An agent of this notebook, instead of the last one of that name and project."""
        if (project, name) in self.agents:
            self.agents.pop((project, name)).stop()
        agent = self.agents[project, name] = NotebookAgent(self._url, project, name, answer, at_once=at_once)
        return agent

    async def ask(self, project: str, text: str, to: str, timeout_s: float) -> str:
        """The answer of an agent; on the background's loop."""
        chat = self._clients.get(project)
        if chat is None or chat.state == "closed":
            chat = self._clients[project] = ChatClient(self._url, project)
            await chat.__aenter__()  # it lives as long as the workbench
        try:
            async with asyncio.timeout(timeout_s):
                answer = await chat.reply(await chat.say(text, to=to))
        except TimeoutError:
            members = ", ".join(member.name for member in chat.members if member.name != chat.name)
            raise SyndarixError(f"{to} gave no answer within {timeout_s:g} s; here are: {members or 'none'}") from None
        if answer.error is not None:
            raise SyndarixError(
                f"{to} broke off: {answer.error}" + (f" (after {answer.text!r})" if answer.text else "")
            )
        return answer.text

    async def aclose(self) -> None:
        """Close what it asks by; on the background's loop."""
        async with AsyncExitStack() as stack:  # each is closed, whatever the others do
            for client in self._clients.values():
                stack.push_async_callback(client.aclose)
