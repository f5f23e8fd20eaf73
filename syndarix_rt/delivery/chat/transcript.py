"""`Transcript`: what one member makes of the frames that it hears."""

from __future__ import annotations

from collections import OrderedDict, deque
from datetime import datetime

from syndarix_rt.delivery.chat.frames import Delta, Done, Entry, Said
from syndarix_rt.events import EventId

__all__ = ["Message", "Transcript"]

MAX_MESSAGES = 1_000
"""What is kept: more than anybody scrolls back through, and at most some MiB."""


class Message:
    """Something that was said, or an answer that may still be on its way.

    Attributes:
        id: as its speaker's client named it.
        speaker: who says it.
        to: whom it is meant for; `EVERYBODY`.
        text: all of it that is known.
        time: when it was said; None of an answer that is on its way.
        reply_to: the id of the message of ``to`` that it answers.
        position: where it stands in the log; None of an answer that is on its way.
        answer: whether it came as the stream of an answer.
        done: whether it is complete.
        error: why it broke off.
    """

    __slots__ = ("answer", "done", "error", "id", "position", "reply_to", "speaker", "text", "time", "to")

    def __init__(self, frame: Entry) -> None:
        self.id, self.speaker, self.to, self.reply_to = frame.id, frame.speaker, frame.to, frame.reply_to
        self.answer = not isinstance(frame, Said)
        self.text = ""
        self.time: datetime | None = None
        self.position: EventId | None = None
        self.done = False
        self.error: str | None = None
        self.apply(frame)

    def apply(self, frame: Entry) -> None:
        """Take what more is known of it. A delta that does not follow on is left to `Done`."""
        if isinstance(frame, Delta):
            if frame.at <= len(self.text) < frame.at + len(frame.text):
                self.text = self.text[: frame.at] + frame.text
            return
        self.text, self.time, self.done = frame.text, frame.time, True
        if isinstance(frame.position, str):
            self.position = EventId.parse(frame.position)
        if isinstance(frame, Done):
            self.error = frame.error

    def __repr__(self) -> str:
        return f"<{self.speaker} to {self.to}: {self.text[:40]!r}{'' if self.done else ' …'}>"


class Transcript:
    """What was said, as one member knows it: in the order of the log, each message once, at most ``keep`` of them.

    Attributes:
        messages: what was said and the answers that are complete, in the order of the log.
        answers: those on their way, by speaker and id, in the order in which they began.
    """

    def __init__(self, *, keep: int = MAX_MESSAGES) -> None:
        self.messages: deque[Message] = deque(maxlen=keep)
        self.answers: OrderedDict[tuple[str, str], Message] = OrderedDict()
        self._finished: OrderedDict[tuple[str, str], None] = OrderedDict()
        self._keep = keep

    def apply(self, frame: Entry) -> Message | None:
        """Take a frame; the message that it made or changed, None if it told nothing new."""
        name = (frame.speaker, frame.id)
        if name in self._finished:
            return None
        message = self.answers.get(name)
        if message is None:
            message = Message(frame)
        else:
            known = message.text
            message.apply(frame)
            if not message.done and message.text == known:
                return None
        if message.done:
            self.answers.pop(name, None)
            self.messages.append(message)
            self._finished[name] = None
            while len(self._finished) > self._keep:
                self._finished.popitem(last=False)
        else:
            self.answers[name] = message
            while len(self.answers) > self._keep:
                self.answers.popitem(last=False)
        return message

    def missed(self) -> None:
        """Some frames are gone for good: an answer on its way may have ended among them."""
        self.answers.clear()
