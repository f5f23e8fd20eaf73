"""`Reply`: an agent's answer as frames of the chat, without I/O: pieces of text go in as they come into being."""

from __future__ import annotations

from syndarix_rt.delivery.chat import DELTA_S, Finish, Said, Stream, answer_id

__all__ = ["MAX_REPLY_BYTES", "Reply"]

MAX_REPLY_BYTES = 40 * 1024
"""An answer stands in one entry of the log at its end, where a quote takes two bytes."""


class Reply:
    """The answer to one message.

    Args:
        said: what is answered.
        agent: who answers.

    Attributes:
        id: its `answer_id`.
        text: all of it so far.
        full: whether it has become too long; what is added then is left out.
    """

    def __init__(self, said: Said, agent: str) -> None:
        self.id = answer_id(said, agent)
        self.text = ""
        self.full = False
        self._said = said
        self._sent = 0
        self._bytes = 0
        self._due_s: float | None = None

    def add(self, piece: str) -> None:
        """What comes next; characters that can be written nowhere become question marks."""
        encoded = piece.encode(errors="replace")
        room = MAX_REPLY_BYTES - self._bytes
        self.full = self.full or len(encoded) > room
        encoded = encoded[:room]
        self._bytes += len(encoded)
        self.text += encoded.decode(errors="ignore")

    def due_s(self) -> float | None:
        """When `take` has something, on the caller's clock; None if nothing waits."""
        return None if self._sent == len(self.text) else self._due_s or 0.0

    def take(self, now_s: float) -> Stream | None:
        """The frame to send now, at most one every `DELTA_S`."""
        due_s = self.due_s()
        if due_s is None or now_s < due_s:
            return None
        frame = Stream(
            id=self.id, at=self._sent, text=self.text[self._sent :], to=self._said.speaker, reply_to=self._said.id
        )
        self._sent, self._due_s = len(self.text), now_s + DELTA_S
        return frame

    def finish(self, error: Exception | str | None = None) -> Finish:
        """The last frame; ``error`` is what broke it off."""
        told = f"{type(error).__name__}: {error}"[:1_000] if isinstance(error, Exception) else error
        if self.full and told is None:
            told = f"cut off after {MAX_REPLY_BYTES} bytes"
        return Finish(id=self.id, text=self.text, to=self._said.speaker, reply_to=self._said.id, error=told)
