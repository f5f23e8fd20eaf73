"""Chat: the frames of ``syndarix.chat.v1``, each a JSON object with a ``type``, and what a member makes of them.

* :mod:`~syndarix_rt.delivery.chat.frames`: the frames, read and written
* :mod:`~syndarix_rt.delivery.chat.transcript`: a member's `Transcript` of them

What a client sends: `Say`, `Typing`, `Ping`; an agent's client also `Stream` and `Finish`, in pieces and as a whole
what it answers. What a server sends: `Ready` first, then `Said`, `Delta` and `Done` in the order of the log, each with
its ``position``; and, in between, `Missed`, `Presence`, `Refused` and `Pong`.

The log of ``chat:{project}`` holds `Said`, `Delta` and `Done` as they are sent, but for the ``position``, which is
where they stand. **Everything that is said is durable, the deltas of an answer too**: they are entries like any other,
so every member sees the same order, and whoever resumes in the middle of an answer gets the deltas that it lacks.
Nothing beside the log has to be repaired. A delta says at which character it begins, and `Done` repeats the whole text,
which is what counts: deltas of an answer that has its `Done` may be left out of history and of what a member catches up
on, and are. An agent keeps the log small by sending what came within `DELTA_S` as one delta.

Who speaks (``from``) is set by the server, from the credential; a run that plays speaks for its agents over one socket,
and says itself which of them it is. A message is named by its speaker and the ``id`` that its client gave it: said
again under the same id, it is there once. An answer has the id that follows from who answers what (`answer_id`), so an
agent that is started again cannot answer the same message twice.
"""

from syndarix_rt.delivery.chat.frames import (
    DELTA_S,
    EVERYBODY,
    MAX_AGENTS,
    MAX_ANSWER_BYTES,
    MAX_ENTRY_BYTES,
    PROTOCOL,
    ClientFrame,
    Delta,
    Done,
    Entry,
    Finish,
    Kind,
    Member,
    Missed,
    Ping,
    Pong,
    Presence,
    Ready,
    Refused,
    RunAgents,
    Said,
    Say,
    ServerFrame,
    Stream,
    Typing,
    answer_id,
    decode_client,
    decode_entry,
    decode_server,
    encode,
    failure_text,
    is_addressed,
    is_member_name,
    json_bytes,
    placed,
)
from syndarix_rt.delivery.chat.transcript import Message, Transcript

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
    "Message",
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
    "Transcript",
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
