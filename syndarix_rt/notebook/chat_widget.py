"""`ChatWidget`: a project's chat, to be read and to talk in."""

from __future__ import annotations

import secrets
from collections import deque
from itertools import chain
from typing import Any

from syndarix_rt.client import ChatClient
from syndarix_rt.delivery.chat import Message
from syndarix_rt.errors import SyndarixError
from syndarix_rt.notebook.background import Background
from syndarix_rt.notebook.panel_widget import PanelWidget, module
from syndarix_rt.notebook.upkeep import Upkeep

__all__ = ["ChatWidget"]

MAX_SHOWN = 100
"""Messages in the browser, the newest …"""

MAX_CHARACTERS = 200_000
"""… and fewer of long ones: all are sent whenever one changes."""

MAX_FAILED = 20
"""Messages that could not be said, each with the reason."""


class ChatWidget(PanelWidget):
    """Talks in a chat until it is stopped, through a `ChatClient` on the background's loop.

    Args:
        url: the server's, with its key.
        project: whose chat.
        background: where the connection lives.
        name: under which to speak; None: the token's, or one from the server.
    """

    _esm = module("chat")

    def __init__(self, url: str, project: str, background: Background, *, name: str | None = None) -> None:
        self.project = project
        self.client = ChatClient(url, project, name=name, on_change=self._note)
        super().__init__({"title": "Chat"})
        self._background = background
        self._failed: deque[dict[str, Any]] = deque(maxlen=MAX_FAILED)
        self._version = 0
        self._told: tuple[int, str] = (-1, "")
        self._upkeep = Upkeep(background, self.client, self.push, self.end)

    def _note(self) -> None:
        self._version += 1

    # ---- what is seen ---------------------------------------------------------------------------------------------

    @property
    def status(self) -> str:
        """What is wrong with the connection; empty while all is well."""
        state = self.client.state
        if self._ended or state == "open":
            return self._ended
        return {"closed": self.client.reason, "waiting": "reconnecting"}.get(state, state)

    def news(self, now_s: float, *, whole: bool) -> dict[str, Any] | None:  # noqa: ARG002 - the base's signature
        """All messages, when anything has changed."""
        told = (self._version, self.status)
        if not whole and told == self._told:
            return None
        self._told = told
        mine = self.client.name or ""
        members = {member.name for member in self.client.members} - {mine}
        return {
            "messages": self._messages(mine),
            "members": [*sorted(members), *filter(None, [mine])],
            "status": self.status,
        }

    def _messages(self, mine: str) -> list[dict[str, Any]]:
        transcript = self.client.transcript
        shown: deque[dict[str, Any]] = deque()
        characters = 0
        for message in chain(reversed(transcript.answers.values()), reversed(transcript.messages)):
            characters += len(message.text)
            if len(shown) == MAX_SHOWN or (shown and characters > MAX_CHARACTERS):
                break
            shown.appendleft(_seen(message, mine))
        return [*shown, *self._failed]

    # ---- what a person does ---------------------------------------------------------------------------------------

    def asked_for(self, content: dict[str, Any]) -> None:
        """Somebody types, or has said something."""
        match content:
            case {"op": "typing"}:
                self._background.spawn(self._type())
            case {"op": "say", "text": str(text), "to": str(to)}:
                self._background.spawn(self._say(text, to))

    async def _type(self) -> None:
        if self.client.state == "open":
            self.client.show_typing()

    async def _say(self, text: str, to: str) -> None:
        try:
            await self.client.say(text, to=to)
        except SyndarixError as error:
            self._failed.append(
                {
                    "key": f"failed {secrets.token_hex(8)}", "from": self.client.name or "", "to": to, "words": text,
                    "isMine": True, "isOpen": False, "error": str(error),
                }
            )  # fmt: skip
            self._note()

    # ---- the end --------------------------------------------------------------------------------------------------

    def stop(self) -> None:
        """Leave the chat; what was said stays to be read."""
        self._upkeep.stop()

    def close(self) -> None:
        """Leave, and remove it from wherever it is shown."""
        self.stop()
        self.layout.close()
        super().close()


def _seen(message: Message, mine: str) -> dict[str, Any]:
    return {
        "key": f"{message.speaker} {message.id}",
        "from": message.speaker,
        "to": message.to,
        "words": message.text,
        "isMine": message.speaker == mine,
        "isOpen": not message.done,
        "error": message.error or "",
    }
