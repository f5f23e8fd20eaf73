"""``WS /projects/{p}/chat``: people and agents talk (``syndarix.chat.v1``, DESIGN §7).

The upgrade's query says who comes and from where:

=================  ====================================================================================================
``name``           the member's name, where the credential does not say it: with the server's one key, or without any,
                   everybody says themselves who they are. A token's subject is its name; another one is refused (4403)
``kind``           ``person``; ``agent``: one that answers; or ``run``, which speaks for its agents and has no name
``session``        the ``session`` of `Ready` before a reconnect; the member was then never gone
``last_event_id``  continue after this ``position``, exactly, or with a ``gap`` that says what is missing
``history``        without it: begin with the last so many messages, 50, at most 500, as far as they are among the last
                   10,000 entries of the log
=================  ====================================================================================================

**A run** that plays through this server has many agents and one socket. On it ``agents`` says which of them are here,
and ``delta`` and ``done`` say by ``from`` whose answer they are. That takes the right to publish beside that to chat,
for who may publish a run says anyway what its agents do. It goes no further: a run answers and says nothing by itself,
and never under the name of a person who is here (``not-yours``).

What is wrong there is a 400 before the upgrade, and so is another subprotocol; the codes with which a socket is closed
are in `syndarix_rt.server.socket`. A bad frame is answered by ``error``. Before a socket is closed over a limit, an
``error`` says over which; messages of more than 64 KiB (1009) may end it at once. A client that is silent is asked for
a sign of life by a ping of the WebSocket protocol, which every client answers by itself.
"""

from __future__ import annotations

import asyncio
import re
import secrets
import time
from collections.abc import Sequence

import msgspec
from quart import Blueprint, current_app, g, websocket

from syndarix_rt.broker.chat import Here
from syndarix_rt.delivery.chat import (
    PROTOCOL,
    Finish,
    Kind,
    Member,
    Missed,
    Ping,
    Pong,
    Ready,
    Refused,
    RunAgents,
    Say,
    ServerFrame,
    Stream,
    Typing,
    decode_client,
    encode,
    is_member_name,
)
from syndarix_rt.delivery.resume import Gap, Resumption, judge
from syndarix_rt.errors import BrokerError, BrokerUnavailable, ChatError
from syndarix_rt.events import EventId, is_project_name
from syndarix_rt.server.hub import Hub
from syndarix_rt.server.problems import bad_request
from syndarix_rt.server.room import Room, Rooms, change, frames_of
from syndarix_rt.server.socket import FORBIDDEN, UNKNOWN, Socket
from syndarix_rt.server.tokens import NAMELESS

__all__ = ["chat"]

chat = Blueprint("chat", __name__, url_prefix="/projects")

HISTORY = 50
MAX_HISTORY = 500

RATE_PER_S = 20.0
BURST = 40.0
"""Messages: an agent that streams an answer sends 20 a second. Each of them goes to everybody in the room."""

RUN_RATE_PER_S = 60.0
RUN_BURST = 60.0
"""… of a run, of which some agents answer at once: fewer pieces of each, so that all of them are seen to flow."""

PAGE_ENTRIES = 1_000

AWAY_S = 0.5
"""How long to wait before asking a broker again that did not answer."""

TYPING_AGAIN_S = 1.0
"""Each key that is pressed need not be told."""

_SESSION = re.compile(r"[A-Za-z0-9_-]{8,64}")


@chat.websocket("/<project>/chat")
async def chat_socket(project: str) -> None:
    """Talk with who is in the project's chat."""
    wanted = _wanted()
    if not await Socket.accept(PROTOCOL):
        return
    if not is_project_name(project):
        await Socket.turn_away(UNKNOWN, "not a project name")
        return
    if wanted.member is None and not g.grant.may("publish", project):
        await Socket.turn_away(FORBIDDEN, "no right to publish, which a run has")
        return
    if wanted.member is not None and g.principal not in (*NAMELESS, wanted.member.name):
        await Socket.turn_away(FORBIDDEN, f"this token speaks for {g.principal!r:.80}")
        return
    hub: Hub = current_app.extensions["syndarix_rt"]
    rooms: Rooms = current_app.extensions["syndarix_rt_rooms"]
    async with rooms.enter(project) as room:
        visit = _Visit(hub, room, wanted)
        try:
            await visit.socket.run(visit.take, visit.pull)
        finally:
            room.gone(visit, left=visit.socket.left)


class _Wanted(msgspec.Struct, frozen=True):
    member: Member | None
    """None: a run comes."""
    session: str
    cursor: EventId | None
    requested: str
    history: int


def _wanted() -> _Wanted:
    """What the query asks for.

    Raises:
        Problem: what is wrong with it.
        EventError: ``last_event_id`` is none.
    """
    query = websocket.args
    named = g.principal if g.principal not in (None, *NAMELESS) else f"guest-{secrets.token_hex(3)}"
    name = query.get("name", named)
    if not is_member_name(name):
        raise bad_request("name must be 1 to 64 printable characters, not 'all', without a space at either end.")
    kind: Kind = "agent" if query.get("kind") == "agent" else "person"
    is_run = query.get("kind") == "run"
    if query.get("kind", kind) != kind and not is_run:
        raise bad_request("kind must be person, agent or run.")
    if is_run and "name" in query:
        raise bad_request("A run has no name: its agents have.")
    session = query.get("session", secrets.token_urlsafe(12))
    if not _SESSION.fullmatch(session):
        raise bad_request("session must be that of a frame 'ready'.")
    history = query.get("history", str(HISTORY))
    if not (history.isascii() and history.isdigit() and len(history) <= 9):  # noqa: PLR2004 - cut to MAX_HISTORY below
        raise bad_request(f"history must be a number of messages, at most {MAX_HISTORY}.")
    requested = query.get("last_event_id", "")
    cursor = EventId.parse(requested) if requested else None
    return _Wanted(None if is_run else Member(name, kind), session, cursor, requested, min(int(history), MAX_HISTORY))


class _Visit:
    """One connection of a member, or of a run; a `Session` of its room."""

    def __init__(self, hub: Hub, room: Room, wanted: _Wanted) -> None:
        self.member = wanted.member
        self.members = frozenset(filter(None, [wanted.member]))
        self.session = wanted.session
        rate = (RATE_PER_S, BURST) if wanted.member else (RUN_RATE_PER_S, RUN_BURST)
        self.socket = Socket(hub, None, refuse=_farewell, rate_per_s=rate[0], burst=rate[1])
        self.wake = self.socket.wake
        self._hub = hub
        self._room = room
        self._wanted = wanted
        self._cursor: EventId | None = None
        self._began = EventId("", 0)
        self.told: Here | None = None
        self._told_s = 0.0
        self._typing_s = 0.0
        self._opened = asyncio.Event()

    # ---- what goes to the client ----------------------------------------------------------------------------------

    async def pull(self) -> Sequence[str]:
        """What stands next for this client."""
        room = self._room
        try:
            if self._cursor is None:
                return await self._open()
            cursor = self._cursor
            if room.started and cursor.epoch == room.epoch and room.holds(cursor.offset):
                frames, upto = room.after(cursor.offset)
                if upto > cursor.offset:
                    self._cursor = EventId(cursor.epoch, upto)
                    return frames or await self.pull()
            elif room.started:  # else the broker is away, and the room wakes us when it is back
                page = await self._page(cursor)
                if page:
                    return page
        except BrokerUnavailable:
            asyncio.get_running_loop().call_later(AWAY_S, self.wake)
            return ()
        told, here = self.told, room.here
        if told is not None and here is not None and told is not here and room.here_s > self._told_s:
            self.told = here
            return [change(told, here)] if told != here else ()
        return ()

    async def _open(self) -> Sequence[str]:
        """The first frames: who and where; the gap, if there is one."""
        room, wanted = self._room, self._wanted
        for member in self.members:
            await room.chat.arrive(member, self.session)
        async with self._hub.page_reads:
            before = await room.chat.before(wanted.history) if wanted.cursor is None else wanted.cursor
            position = await self._hub.broker.position(room.chat.channel)
        verdict = judge(before, position, requested=wanted.requested or None)
        if wanted.cursor is None and verdict.gap is not None:  # trimmed or begun anew just now: there is less history
            verdict = Resumption(verdict.after, None)
        self._told_s = time.monotonic()
        here = self.told = await room.chat.here()
        self._cursor = self._began = EventId(position.epoch, verdict.after)
        room.arrived(self)
        self._opened.set()
        ready = Ready(
            project=room.chat.project,
            name=None if self.member is None else self.member.name,
            session=self.session,
            position=str(self._cursor),
            epoch=position.epoch,
            first=position.first,
            last=position.last,
            resumed=wanted.cursor is not None and verdict.gap is None,
            members=sorted(here.members),
            typing=sorted(here.typing),
        )
        return [_text(ready)] if verdict.gap is None else [_text(ready), self._missed(verdict.gap)]

    async def _page(self, cursor: EventId) -> Sequence[str]:
        """What the broker's log has for a cursor that memory cannot serve."""
        room = self._room
        async with self._hub.page_reads:
            page = await self._hub.broker.read(room.chat.channel, cursor.offset, PAGE_ENTRIES)
        after, gap = judge(cursor, page.position, live=True)
        self._cursor = EventId(page.position.epoch, after)
        if gap is not None:
            return [self._missed(gap)]
        if page.first != after + 1 and page.entries:  # somebody deleted entries by hand
            self._cursor = EventId(page.position.epoch, page.first - 1)
            lost = page.first - 1 - after
            return [self._missed(Gap("slow", str(cursor), page.position.first, page.position.last, lost))]
        self._cursor = EventId(page.position.epoch, max(after, page.last))
        frames = [frame for frame in frames_of(page.position.epoch, page.first, page.entries, fold=True) if frame]
        if not frames:
            self.wake()
            await asyncio.sleep(0 if page.entries else 0.02)  # the room is about to be told of a newer epoch
        return frames

    def _missed(self, gap: Gap) -> str:
        return _text(
            Missed(
                position=str(self._cursor),
                reason=gap.reason,
                requested=gap.requested,
                first=gap.first,
                last=gap.last,
                missed=gap.missed,
            )
        )

    # ---- what comes from it ---------------------------------------------------------------------------------------

    async def take(self, text: str) -> None:
        """One frame."""
        try:
            frame = decode_client(text)
        except ChatError as error:
            self._refuse(error.code, error.reason, error.path, error.id)
            return
        frame_id = getattr(frame, "id", None)
        await self._opened.wait()  # nothing goes out before 'ready'
        try:
            if isinstance(frame, Ping):
                self.socket.send(_text(Pong()))
            elif isinstance(frame, Typing):
                await self._type()
            elif isinstance(frame, RunAgents):
                await self._bring(frame)
            else:
                await self._say(frame)
        except ChatError as error:
            self._refuse(error.code, error.reason, error.path, error.id)
        except BrokerUnavailable:
            self._refuse("broker-away", "the broker cannot be reached; send it again", None, frame_id)
        except BrokerError as error:
            self._refuse("broker-error", str(error), None, frame_id)

    async def _say(self, frame: Say | Stream | Finish) -> None:
        room = self._room
        name = self._speaker(frame)
        if not isinstance(frame, Say):
            frame = msgspec.structs.replace(frame, speaker=None)  # it has it from `name`, however it came
        published = await room.chat.send(name, frame)
        if self._typing_s and not isinstance(frame, Stream):
            self._typing_s = 0.0
            await room.chat.typing(name, over=True)
        if published.duplicates and not (
            published.epoch == self._began.epoch and published.first > self._began.offset
        ):  # this connection began behind it, so the stream does not acknowledge it
            page = await self._hub.broker.read(room.chat.channel, published.first - 1, 1)
            if page.first == published.first and page.entries:
                for text in frames_of(page.position.epoch, page.first, page.entries, fold=False):
                    self.socket.send(text)

    def _speaker(self, frame: Say | Stream | Finish) -> str:
        """Who says it.

        Raises:
            ChatError: nobody may, here.
        """
        if self.member is not None:
            return self.member.name
        if isinstance(frame, Say):
            raise ChatError("not-yours", "a run answers, and says nothing by itself", "$.type", frame.id)
        if frame.speaker is None:
            raise ChatError("not-yours", "a run says which of its agents answers", "$.from", frame.id)
        self._check_agent(frame.speaker, "$.from", frame.id)
        return frame.speaker

    def _check_agent(self, name: str, path: str, frame_id: str | None = None) -> None:
        here = self._room.here or self.told
        if not is_member_name(name) or (here is not None and Member(name, "person") in here.members):
            raise ChatError("not-yours", f"no agent may be called {name!r:.80} here", path, frame_id)

    async def _bring(self, frame: RunAgents) -> None:
        """The run's agents that are here now."""
        if self.member is not None:
            raise ChatError("not-yours", "only a run has agents", "$.type")
        for number, name in enumerate(frame.names):
            self._check_agent(name, f"$.names[{number}]")
        known, self.members = self.members, frozenset(Member(name, "agent") for name in frame.names)
        for member in self.members - known:
            await self._room.chat.arrive(member, self.session)
        for member in known - self.members:
            await self._room.chat.leave(member, self.session)
        self._room.look()

    async def _type(self) -> None:
        now_s = asyncio.get_running_loop().time()
        if self.member is not None and now_s - self._typing_s >= TYPING_AGAIN_S:
            self._typing_s = now_s
            await self._room.chat.typing(self.member.name)
            self._room.look()

    def _refuse(self, code: str, detail: str, path: str | None, frame_id: str | None) -> None:
        self.socket.send(_text(Refused(code=code, detail=detail, path=path, id=frame_id)))


def _farewell(code: str, detail: str) -> str:
    return _text(Refused(code=code, detail=detail))


def _text(frame: ServerFrame) -> str:
    return encode(frame).decode()
