"""The frames of ``syndarix.chat.v1`` and how they are read and written, and who may be called what."""

from __future__ import annotations

import hashlib
import re
from datetime import datetime
from typing import Annotated, Any, Literal, get_args

import msgspec
from msgspec import UNSET, Meta, UnsetType

from syndarix_rt.delivery.resume import GapReason
from syndarix_rt.errors import ChatError
from syndarix_rt.events import as_text

__all__ = [
    "DELTA_S",
    "EVERYBODY",
    "MAX_AGENTS",
    "MAX_ANSWER_BYTES",
    "MAX_ENTRY_BYTES",
    "PROTOCOL",
    "ClientFrame",
    "Delta",
    "Done",
    "Entry",
    "Finish",
    "Kind",
    "Member",
    "Missed",
    "Ping",
    "Pong",
    "Presence",
    "Ready",
    "Refused",
    "RunAgents",
    "Said",
    "Say",
    "ServerFrame",
    "Stream",
    "Typing",
    "answer_id",
    "decode_client",
    "decode_entry",
    "decode_server",
    "encode",
    "failure_text",
    "is_addressed",
    "is_member_name",
    "json_bytes",
    "placed",
]

PROTOCOL = "syndarix.chat.v1"

EVERYBODY = "all"
"""The ``to`` of what is said to everybody; no member is called so."""

DELTA_S = 0.05
"""An agent sends so often at most: a reader sees text flow, and an answer of ten seconds is 200 entries."""

MAX_ENTRY_BYTES = 64 * 1024
"""Largest entry, as of an event."""

MAX_ANSWER_BYTES = 56 * 1024
"""Of a whole answer as JSON, which is one entry in the end; the rest is for ids, names and why it broke off."""

MAX_AGENTS = 64
"""Agents of one run that are shown as being there."""

MAX_NAME = 64
_MAX_FAILURE = 1_000  # characters: where it happened is in the agent's own log

Id = Annotated[str, Meta(min_length=1, max_length=128, description="Random, or counted: unique for its speaker.")]
Name = Annotated[str, Meta(min_length=1, max_length=MAX_NAME, description="A member's name, or `all`.")]
Text = Annotated[str, Meta(min_length=1)]
Offset = Annotated[int, Meta(ge=0, description="Unicode characters of the answer before this delta.")]
Kind = Literal["person", "agent"]


def is_member_name(name: str) -> bool:
    """Whether a member may be called so: 1 to 64 printable characters, no space at either end, and not ``all``."""
    return 0 < len(name) <= MAX_NAME and name.isprintable() and name == name.strip() and name != EVERYBODY


def answer_id(question: Said, agent: str) -> str:
    """The id of the one answer that an agent gives to a message: the same whoever works it out, and whenever."""
    name = f"{agent}\n{question.speaker}\n{question.id}".encode(errors="replace")
    return "re-" + hashlib.sha256(name).hexdigest()[:24]


def is_addressed(said: Said, name: str) -> bool:
    """Whether a message is meant for somebody: it is said to them, or to everybody and names them."""
    if said.to != EVERYBODY:
        return said.to == name
    return re.search(rf"(?<![\w-]){re.escape(name)}(?![\w-])", said.text) is not None


class _Frame(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, tag_field="type"):
    pass


# ---- what clients send --------------------------------------------------------------------------------------------


class Say(_Frame, frozen=True, kw_only=True, tag="say"):
    """Say something; `Said` with the same ``id`` acknowledges it. Without that after a reconnect, it is sent again."""

    id: Id
    text: Text
    to: Name = EVERYBODY
    """Whom it is meant for; everybody reads it."""
    reply_to: Id | None = None
    """The ``id`` of the message that it answers, if it answers one of ``to``."""


class Stream(_Frame, frozen=True, kw_only=True, tag="delta"):
    """The next piece of an answer, as it comes into being; `Delta` acknowledges it."""

    id: Id
    at: Offset
    text: Text
    to: Name = EVERYBODY
    reply_to: Id | None = None
    speaker: Name | None = msgspec.field(name="from", default=None)
    """Which agent of a run answers; looked at on a run's socket alone."""


class Finish(_Frame, frozen=True, kw_only=True, tag="done"):
    """The whole answer, at its end; `Done` acknowledges it."""

    id: Id
    text: str
    to: Name = EVERYBODY
    reply_to: Id | None = None
    error: str | None = None
    """Why it ends here, if it broke off."""
    speaker: Name | None = msgspec.field(name="from", default=None)
    """Which agent of a run answers; looked at on a run's socket alone."""


class RunAgents(_Frame, frozen=True, kw_only=True, omit_defaults=False, tag="agents"):
    """All agents of a run that are here now; on a run's socket alone."""

    names: Annotated[list[Name], Meta(max_length=MAX_AGENTS)]


class Typing(_Frame, frozen=True, kw_only=True, tag="typing"):
    """This member is writing; holds for five seconds, or until it has said something."""


class Ping(_Frame, frozen=True, kw_only=True, tag="ping"):
    """Asks for `Pong`."""


ClientFrame = Say | Stream | Finish | RunAgents | Typing | Ping


# ---- what servers send --------------------------------------------------------------------------------------------


class Said(_Frame, frozen=True, kw_only=True, tag="said"):
    """Somebody has said something."""

    position: str | UnsetType = UNSET
    """Where it stands, ``<epoch>.<offset>``; in the log itself it is absent."""
    id: Id
    speaker: Name = msgspec.field(name="from")
    to: Name
    text: Text
    time: datetime
    reply_to: Id | None = None


class Delta(_Frame, frozen=True, kw_only=True, tag="delta"):
    """The next piece of an answer."""

    position: str | UnsetType = UNSET
    id: Id
    """The answer's; all its deltas and its `Done` have the same."""
    speaker: Name = msgspec.field(name="from")
    to: Name
    at: Offset
    text: Text
    reply_to: Id | None = None
    """The ``id`` of the message of ``to`` that it answers."""


class Done(_Frame, frozen=True, kw_only=True, tag="done"):
    """An answer is complete."""

    position: str | UnsetType = UNSET
    id: Id
    speaker: Name = msgspec.field(name="from")
    to: Name
    text: str
    """All of it, whatever deltas there were."""
    time: datetime
    reply_to: Id | None = None
    error: str | None = None
    """Why it ends here, if it broke off."""


class Member(msgspec.Struct, frozen=True, order=True):
    """Somebody who is here, through whatever instance and however many times."""

    name: Name
    kind: Kind = "person"


class Ready(_Frame, frozen=True, kw_only=True, omit_defaults=False, tag="ready"):
    """The first frame: who you are, where you stand, who is here."""

    project: str
    name: Name | None
    """Under which this member speaks; null on a run's socket."""
    session: str
    """Give it as ``?session=`` after a reconnect: the same member comes back, rather than another one of that name."""
    position: str
    """What follows begins after this."""
    epoch: str
    first: int
    """Oldest offset retained."""
    last: int
    """Newest offset; what stands after it is live."""
    resumed: bool
    """Whether it continues exactly after the ``last_event_id`` that was given."""
    members: list[Member]
    typing: list[Name]


class Missed(_Frame, frozen=True, kw_only=True, omit_defaults=False, tag="gap"):
    """What stood here is gone for good; it goes on after ``position``. The other fields as in `Gap`."""

    position: str
    reason: GapReason
    requested: str
    first: int
    last: int
    missed: int | None


class Presence(_Frame, frozen=True, kw_only=True, omit_defaults=False, tag="presence"):
    """Who came and who left since `Ready` or the last one, and who is typing now."""

    joined: list[Member]
    left: list[Member]
    typing: list[Name]
    count: int
    """How many are here now."""


class Refused(_Frame, frozen=True, kw_only=True, tag="error"):
    """Something that the client sent was not taken; before a socket is closed, why."""

    code: str
    """``invalid-json``, ``invalid-frame``, ``conflict`` (this id came with other content before), ``not-yours`` (a name
    that one may not speak under), ``broker-away`` and ``broker-error`` (send it again later), ``rate-limit``,
    ``too-large``, ``too-slow``, ``silent``; the last four close the socket."""
    detail: str
    """For a person."""
    path: str | None = None
    """Where in the frame, as a JSON path such as ``$.text``."""
    id: str | None = None
    """The ``id`` of the frame, if it has one."""


class Pong(_Frame, frozen=True, kw_only=True, tag="pong"):
    """Answers `Ping`."""


Entry = Said | Delta | Done
"""What the log holds."""

ServerFrame = Ready | Said | Delta | Done | Missed | Presence | Refused | Pong


class _Tagged(msgspec.Struct):
    type: Any


_client: msgspec.json.Decoder[ClientFrame] = msgspec.json.Decoder(ClientFrame)
_entry: msgspec.json.Decoder[Entry] = msgspec.json.Decoder(Entry)
_server: msgspec.json.Decoder[ServerFrame] = msgspec.json.Decoder(ServerFrame)
_json = msgspec.json.Decoder()
_tagged = msgspec.json.Decoder(_Tagged)
_encode = msgspec.json.Encoder().encode
_SERVER_TAGS = {kind.__struct_config__.tag for kind in get_args(ServerFrame)}


def decode_client(text: str | bytes) -> ClientFrame:
    """Read what a client sent.

    Raises:
        ChatError: ``invalid-json`` or ``invalid-frame``, with the path and, where there is one, the frame's id.
    """
    try:
        try:
            return _client.decode(text)
        except msgspec.ValidationError as error:  # found before all of it was read
            document: Any = _json.decode(text)
            reason, _, path = str(error).removesuffix("`").partition(" - at `")
            frame_id = document.get("id") if isinstance(document, dict) else None
            frame_id = frame_id[:128] if isinstance(frame_id, str) else None
            raise ChatError("invalid-frame", reason, path or "$", frame_id) from None
    except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
        raise ChatError("invalid-json", f"not JSON: {error}", "$") from None


def decode_entry(entry: bytes) -> Entry | None:
    """Read an entry of the log; None if no chat of ours wrote it."""
    try:
        return _entry.decode(entry)
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        return None


def decode_server(text: str | bytes) -> ServerFrame | None:
    """Read what a server sent; None if it is a frame of a newer version, which may be skipped.

    Raises:
        ChatError: it is no frame.
    """
    try:
        try:
            return _server.decode(text)
        except msgspec.ValidationError as error:
            kind = _tagged.decode(text).type
            if isinstance(kind, str) and kind not in _SERVER_TAGS:
                return None
            raise ChatError("invalid-frame", str(error)) from error
    except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
        raise ChatError("invalid-json", f"not JSON: {error}") from error


def encode(frame: ClientFrame | ServerFrame) -> bytes:
    """One line of JSON.

    Raises:
        ChatError: the text is none that can be written (a lone surrogate).
    """
    return _encoded(frame)


def json_bytes(text: str) -> int:
    """How many bytes a text takes within a frame.

    Raises:
        ChatError: as of `encode`.
    """
    return len(_encoded(text)) - len('""')


def _encoded(value: ClientFrame | ServerFrame | str) -> bytes:
    try:
        return _encode(value)
    except UnicodeError as error:
        raise ChatError("invalid-frame", f"cannot be written as JSON: {error}", "$.text") from error


def failure_text(error: BaseException) -> str:
    """An exception, as the ``error`` of a `Finish`."""
    return f"{type(error).__name__}: {as_text(error, longest=_MAX_FAILURE) or ''}"[:_MAX_FAILURE]


def placed(entry: bytes, epoch: str, offset: int) -> bytes:
    """The frame that tells of an entry: the entry with its position."""
    return b'{"position":"%s.%d",%s' % (epoch.encode(), offset, entry[1:])
