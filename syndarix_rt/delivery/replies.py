"""`Reply`: an agent's answer as frames of the chat, without I/O: pieces of text go in as they come into being."""

from __future__ import annotations

from bisect import bisect_right

from syndarix_rt.delivery.chat import (
    DELTA_S,
    MAX_ANSWER_BYTES,
    Finish,
    Said,
    Stream,
    answer_id,
    failure_text,
    json_bytes,
)

__all__ = ["Reply"]


class Reply:
    """The answer to one message.

    Args:
        said: what is answered.
        agent: who answers.

    Attributes:
        id: its `answer_id`.
        text: all of it so far.
        full: whether it has become longer than `MAX_ANSWER_BYTES`; what is added then is left out.
    """

    def __init__(self, said: Said, agent: str) -> None:
        self.id = answer_id(said, agent)
        self.text = ""
        self.full = False
        self._said = said
        self._sent = 0
        self._bytes = 0
        self._due_s = 0.0

    def add(self, piece: str) -> None:
        """What comes next; characters that can be written nowhere become question marks."""
        if self.full:
            return
        piece = piece.encode(errors="replace").decode()
        room = MAX_ANSWER_BYTES - self._bytes
        if json_bytes(piece) > room:
            self.full = True
            fits = bisect_right(range(len(piece)), room, key=lambda end: json_bytes(piece[:end])) - 1
            piece = piece[:fits]
        self._bytes += json_bytes(piece)
        self.text += piece

    def due_s(self) -> float | None:
        """When `take` has something, on the caller's clock; None if nothing waits."""
        return None if self._sent == len(self.text) else self._due_s

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
        told = failure_text(error) if isinstance(error, Exception) else error
        if self.full and told is None:
            told = f"cut off after {MAX_ANSWER_BYTES} bytes"
        return Finish(id=self.id, text=self.text, to=self._said.speaker, reply_to=self._said.id, error=told)
