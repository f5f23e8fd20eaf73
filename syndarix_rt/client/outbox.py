"""`Outbox`: what a member of the chat has to send, until it is acknowledged, without I/O.

Whole messages go first, in order, and again on each socket until they stand in the log. Then come the pieces of answers
that are still being written, one answer after the other; on a new socket they go on from what is known to stand there.
"""

from __future__ import annotations

import secrets
from collections import OrderedDict

from syndarix_rt.client.socket import MAX_SENT_BYTES
from syndarix_rt.delivery.chat import (
    MAX_ANSWER_BYTES,
    Delta,
    Done,
    Finish,
    Refused,
    Said,
    Say,
    Stream,
    Typing,
    encode,
    json_bytes,
)
from syndarix_rt.errors import ChatError

__all__ = ["Draft", "Outbox", "Posted"]

MAX_WAITING = 256
"""Messages that wait for their acknowledgement; whoever says more waits, too."""

MAX_KNOWN = 256
"""Acknowledgements that are remembered, for who says the same again: a server gives one once on a connection."""

PIECE = 8_000
"""Characters in one delta; what has piled up while we were cut off goes as several."""

_AGAIN = ("broker-away", "broker-error")
"""The server could not pass it on; it may be able to later."""


class Posted:
    """A whole message.

    Attributes:
        frame: the message.
        text: as it is sent.
        sent: on the present socket.
        heard: how it stands in the log; None before.
        error: why it never will; None before.
    """

    __slots__ = ("error", "frame", "heard", "sent", "text")

    def __init__(self, frame: Say | Finish, text: str) -> None:
        self.frame = frame
        self.text = text
        self.sent = False
        self.heard: Said | Done | None = None
        self.error: ChatError | None = None

    @property
    def is_done(self) -> bool:
        """Whether the server has said what became of it."""
        return self.heard is not None or self.error is not None


class Draft:
    """An answer that is being written.

    Args:
        name: its id; None: any.
        to: whom it answers.
        reply_to: the id of the message that it answers.
        speaker: which agent of a run answers; None: the client itself.

    Attributes:
        text: what has been written.
        sent: characters that went out on the present socket, or are known to stand in the log.
        known: characters that are known to stand in the log.
    """

    def __init__(self, name: str | None, to: str, reply_to: str | None, speaker: str | None = None) -> None:
        self.id = name or secrets.token_hex(8)
        self.to, self.reply_to, self.speaker = to, reply_to, speaker
        self.text = ""
        self.sent = 0
        self.known = 0
        self._bytes = 0

    def add(self, text: str) -> None:
        """What comes next.

        Raises:
            ChatError: it becomes longer than a message may be, or cannot be written as JSON; nothing is added.
        """
        size = json_bytes(text)
        if self._bytes + size > MAX_ANSWER_BYTES:
            raise ChatError("too-large", f"an answer has at most {MAX_ANSWER_BYTES} bytes", "$.text", self.id)
        self._bytes += size
        self.text += text

    def piece(self) -> Stream | None:
        """What was not sent yet, or the first part of it; None if all was."""
        if self.sent == len(self.text):
            return None
        at, self.sent = self.sent, min(len(self.text), self.sent + PIECE)
        text = self.text[at : self.sent]
        return Stream(id=self.id, at=at, text=text, to=self.to, reply_to=self.reply_to, speaker=self.speaker)

    def whole(self, error: str | None) -> Finish:
        """All of it, at its end; ``error`` is why it ends before that."""
        return Finish(id=self.id, text=self.text, to=self.to, reply_to=self.reply_to, error=error, speaker=self.speaker)


class Outbox:
    """What a client has to send.

    Attributes:
        waiting: whole messages that are not acknowledged, by id, in their order.
        drafts: answers that are being written, by id.
    """

    def __init__(self) -> None:
        self.waiting: OrderedDict[str, Posted] = OrderedDict()
        self.drafts: OrderedDict[str, Draft] = OrderedDict()
        self._known: OrderedDict[str, Said | Done] = OrderedDict()
        self._is_typing = False

    @property
    def has_room(self) -> bool:
        """Whether one more message may be posted."""
        return len(self.waiting) < MAX_WAITING

    def post(self, frame: Say | Finish) -> Posted:
        """Have a message sent; one that is the same, under the same id, is not sent twice.

        Raises:
            ChatError: it cannot be sent: it is too long, no JSON, or another one waits under its id.
        """
        waiting = self.waiting.get(frame.id)
        if waiting is not None:
            if waiting.frame == frame:
                return waiting
            raise ChatError("conflict", "another message waits under this id", "$.id", frame.id)
        raw = encode(frame)
        if len(raw) > MAX_SENT_BYTES:
            raise ChatError("too-large", f"a message has at most {MAX_SENT_BYTES} bytes", "$.text", frame.id)
        posted = Posted(frame, raw.decode())
        known = self._known.get(frame.id)
        if known is not None and _is(frame, known):
            posted.heard = known
        else:
            self.waiting[frame.id] = posted
        return posted

    def typing(self) -> None:
        """Tell that somebody writes."""
        self._is_typing = True

    def reopen(self) -> None:
        """There is a new socket, to which nothing was sent. `resume` follows when all that was missed has come."""
        self._is_typing = False  # that was then
        for posted in self.waiting.values():
            posted.sent = False

    def resume(self) -> None:
        """All has come that was acknowledged before: answers go on from what is known."""
        for draft in self.drafts.values():
            draft.sent = draft.known

    def next(self) -> str | None:
        """What to send next; None if there is nothing."""
        if self._is_typing:
            self._is_typing = False
            return encode(Typing()).decode()
        for posted in self.waiting.values():
            if not posted.sent:
                posted.sent = True
                return posted.text
        for name, draft in self.drafts.items():
            piece = draft.piece()
            if piece is not None:
                self.drafts.move_to_end(name)
                return encode(piece).decode()
        return None

    def acknowledge(self, frame: Said | Delta | Done) -> None:
        """Something of ours stands in the log, sent by this client or by an earlier one."""
        if isinstance(frame, Delta):
            draft = self.drafts.get(frame.id)
            if draft is not None and frame.at == draft.known:
                draft.known += len(frame.text)
            return
        self._known[frame.id] = frame
        if len(self._known) > MAX_KNOWN:
            self._known.popitem(last=False)
        posted = self.waiting.get(frame.id)
        if posted is not None and _is(posted.frame, frame):  # else the server will refuse it
            posted.heard = frame
            del self.waiting[frame.id]

    def refuse(self, refused: Refused) -> Posted | None:
        """Something was not taken; what is to be sent again (``sent`` = False), after a moment.

        For a piece of an answer nothing is done: the whole makes up for it.
        """
        posted = self.waiting.get(refused.id or "")
        if posted is None or not posted.sent or refused.path == "$.at":
            return None
        if refused.code in _AGAIN:
            return posted
        posted.error = ChatError(refused.code, refused.detail, refused.path or "$", refused.id)
        del self.waiting[posted.frame.id]
        return None


def _is(frame: Say | Finish, heard: Said | Done) -> bool:
    """Whether a message is the one that stands in the log."""
    if (frame.text, frame.to, frame.reply_to) != (heard.text, heard.to, heard.reply_to):
        return False
    if isinstance(frame, Finish):
        return isinstance(heard, Done) and frame.error == heard.error and frame.speaker in (None, heard.speaker)
    return isinstance(heard, Said)
