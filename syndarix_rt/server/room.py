"""`Room`: what this process holds of one project's chat: the newest of what was said, who is here, its own sessions.

The log is followed once for all sessions, and each entry becomes a frame once; a session is a place in it (`after`).
Who is here is asked of the broker, again and again, and at once when somebody comes or goes through this process.

**Answers of who has gone.** An agent that is killed leaves an answer open for which others wait. When it is not here
any more and has added nothing for as long as a reconnect may take, the room breaks the answer off; the rooms of all
instances do, and the log takes it once. An agent that comes back later finds that its answer has ended.
"""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import AsyncIterator, Sequence
from contextlib import aclosing, asynccontextmanager, suppress
from functools import lru_cache
from typing import Protocol

import structlog

from syndarix_rt.broker.chat import HERE_S, RENEW_S, Chat, Here
from syndarix_rt.broker.protocol import Batch, Broker, TailUpdate
from syndarix_rt.delivery.chat import Delta, Done, Member, Presence, decode_entry, encode, placed
from syndarix_rt.delivery.resume import Position
from syndarix_rt.errors import BrokerError, BrokerUnavailable

__all__ = ["Room", "Rooms", "Session", "change", "frames_of"]

MAX_ENTRIES = 2_000
MAX_BYTES = 8 * 1024 * 1024
"""Entries kept in memory, and their bytes: who is further behind reads the broker's log."""

PIECE_ENTRIES = 500
"""Entries that a session takes at once."""

LOOK_S = 1.0
"""How often the broker is asked who is here."""

LOOK_AGAIN_S = 0.25
"""… and how soon again when somebody comes or goes: a crowd that comes together is told of together."""

WAKE_S = 0.0001
"""A room is told of what is said so often at most, for each of its sessions: one of 500 every 50 ms, so that what came
in between goes out together, and a write to each costs a third of a core rather than one."""

WAKE_SESSIONS = 25
"""Sessions that write at once; between them everything else has its turn, such as what others say."""

FOLLOW_AGAIN_S = 2.0

MAX_OPEN = 1_000
"""Answers on their way that are looked after; more is no talk."""

_log = structlog.get_logger("syndarix_rt.server")


class Session(Protocol):
    """One connection: of a member, or of a run with its agents."""

    members: frozenset[Member]
    session: str
    told: Here | None
    """Who is here as far as the client knows."""

    def wake(self) -> None:
        """There may be something to take."""
        ...


class Room:
    """A project's chat in this process.

    Attributes:
        epoch: of the log.
        first: offset of the oldest entry in memory.
        last: of the newest entry.
        started: whether memory is level with the log; false while the broker is away.
        here: who is here; None until the broker has told.
        here_s: when that was asked, monotonic clock.
    """

    def __init__(self, broker: Broker, project: str) -> None:
        self.broker = broker
        self.chat = Chat(broker, project)
        self.epoch = ""
        self.first, self.last = 1, 0
        self.started = False
        self.here: Here | None = None
        self.here_s = 0.0
        self.sessions: set[Session] = set()
        self._frames: list[str] = []
        self._bytes = 0
        self._look = asyncio.Event()
        self._leaving: list[Session] = []
        # Answers on their way, by speaker and id: when something was last added to them.
        self._open: OrderedDict[tuple[str, str], float] = OrderedDict()
        self._looked_back = False
        self._news = asyncio.Event()
        self._tasks = [asyncio.create_task(work) for work in (self._follow(), self._tell(), self._watch())]

    # ---- what is said ---------------------------------------------------------------------------------------------

    def holds(self, after: int) -> bool:
        """Whether the entry after an offset is in memory, or is the next to come."""
        return self.first - 1 <= after <= self.last

    def after(self, offset: int) -> tuple[list[str], int]:
        """The next frames after an offset that it holds, and the offset that they reach."""
        start = offset + 1 - self.first
        piece = self._frames[start : start + PIECE_ENTRIES]
        return [frame for frame in piece if frame], offset + len(piece)

    async def _follow(self) -> None:
        while True:
            try:
                async with aclosing(self.broker.tail(self.chat.channel)) as tail:
                    async for update in tail:
                        self._apply(update)
            except BrokerError as error:  # what a person must mend, such as a changed password
                _log.error("a chat cannot be followed; trying again", channel=self.chat.channel, reason=str(error))
            self.started = False
            await asyncio.sleep(FOLLOW_AGAIN_S)

    def _apply(self, update: TailUpdate) -> None:
        if isinstance(update, Batch):
            self._note_answers(update.entries)
            frames = frames_of(update.epoch, update.first, update.entries, fold=False)
            self._frames += frames
            self._bytes += sum(map(len, frames))
            self.last = update.last
            self._trim()
        elif isinstance(update, Position):
            self.epoch, self.first, self.last = update.epoch, update.last + 1, update.last
            self._frames, self._bytes, self.started = [], 0, True
        else:
            self.started = False
            return
        self._news.set()

    def _note_answers(self, entries: Sequence[bytes]) -> None:
        for raw in entries:
            entry = decode_entry(raw)
            if isinstance(entry, Done):
                self._open.pop((entry.speaker, entry.id), None)
            elif isinstance(entry, Delta):
                self._open[entry.speaker, entry.id] = time.monotonic()
                if len(self._open) > MAX_OPEN:
                    self._open.popitem(last=False)

    async def _break_off(self, here: Here) -> None:
        """End the answers of who has gone."""
        now_s = time.monotonic()
        if not self._looked_back:  # what was begun before this room was opened has its time from now on
            for answer in await self.chat.unfinished():
                self._open.setdefault((answer.speaker, answer.id), now_s)
            self._looked_back = True
        names = {member.name for member in here.members}
        gone = {key for key, heard_s in self._open.items() if key[0] not in names and now_s - heard_s > HERE_S}
        if gone:
            for answer in await self.chat.unfinished():
                if (answer.speaker, answer.id) in gone:
                    await self.chat.break_off(answer, f"{answer.speaker} has gone")
            for key in gone:
                self._open.pop(key, None)

    async def _tell(self) -> None:
        """Wake the sessions when there is news for them."""
        while True:
            await self._news.wait()
            self._news.clear()
            again_s = time.monotonic() + WAKE_S * len(self.sessions)
            sessions = list(self.sessions)
            for start in range(0, len(sessions), WAKE_SESSIONS):
                for session in sessions[start : start + WAKE_SESSIONS]:
                    session.wake()
                await asyncio.sleep(0)
            await asyncio.sleep(max(0.0, again_s - time.monotonic()))

    def _trim(self) -> None:
        """Cut down to the bounds, but only once a quarter too much is there."""
        if len(self._frames) <= MAX_ENTRIES * 5 // 4 and self._bytes <= MAX_BYTES * 5 // 4:
            return
        drop = 0
        while drop < len(self._frames) and (len(self._frames) - drop > MAX_ENTRIES or self._bytes > MAX_BYTES):
            self._bytes -= len(self._frames[drop])
            drop += 1
        del self._frames[:drop]
        self.first += drop

    # ---- who is here ----------------------------------------------------------------------------------------------

    def look(self) -> None:
        """Something has changed here; the others are told soon."""
        self._look.set()

    def arrived(self, session: Session) -> None:
        """With it: its claim stands already, and is renewed from now on."""
        self.sessions.add(session)
        self.look()

    def gone(self, session: Session, *, left: bool) -> None:
        """Without it; unless it has left, it stays here for others until its claim lapses, so that it may come back."""
        self.sessions.discard(session)
        if left:
            self._leaving.append(session)
            self.look()

    async def _watch(self) -> None:
        """Renew the claims of our sessions, take back those of who has left, and see who is here."""
        renewed_s = time.monotonic()
        while True:
            try:
                while self._leaving:
                    session = self._leaving[-1]
                    if not any(other.session == session.session for other in self.sessions):
                        for member in session.members:
                            await self.chat.leave(member, session.session)
                    self._leaving.pop()
                if time.monotonic() - renewed_s >= RENEW_S:
                    renewed_s = time.monotonic()
                    for session in list(self.sessions):
                        for member in session.members:
                            await self.chat.arrive(member, session.session)
                asked_s = time.monotonic()
                here = await self.chat.here()
                self.here, self.here_s = self.here if here == self.here else here, asked_s
                for session in self.sessions:
                    if session.told is not self.here:
                        session.wake()
                await self._break_off(here)
            except BrokerUnavailable:
                pass  # nobody comes or goes meanwhile
            except BrokerError as error:
                _log.error("nobody knows who is in a chat", channel=self.chat.channel, reason=str(error))
            await asyncio.sleep(LOOK_AGAIN_S)
            with suppress(TimeoutError):
                async with asyncio.timeout(LOOK_S - LOOK_AGAIN_S):
                    await self._look.wait()
            self._look.clear()

    async def settle(self) -> None:
        """See to those who have left, at the end."""
        for session in self._leaving:
            try:
                for member in session.members:
                    await self.chat.leave(member, session.session)
            except BrokerError:
                return  # the claims lapse by themselves

    async def aclose(self) -> None:
        """Stop following."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self.settle()


class Rooms:
    """All rooms of a server process; a room is open as long as it has sessions."""

    def __init__(self, broker: Broker) -> None:
        self._broker = broker
        self._rooms: dict[str, tuple[Room, int]] = {}
        self._closing: set[asyncio.Task[None]] = set()

    @asynccontextmanager
    async def enter(self, project: str) -> AsyncIterator[Room]:
        """The room of a project."""
        room, users = self._rooms.get(project) or (Room(self._broker, project), 0)
        self._rooms[project] = (room, users + 1)
        try:
            yield room
        finally:  # never waits: whoever leaves may be cancelled
            room, users = self._rooms[project]
            if users > 1:
                self._rooms[project] = (room, users - 1)
            else:
                del self._rooms[project]
                closing = asyncio.create_task(room.aclose())
                self._closing.add(closing)
                closing.add_done_callback(self._closing.discard)

    async def aclose(self) -> None:
        """Wait for the rooms that are closing."""
        await asyncio.gather(*self._closing, return_exceptions=True)


def frames_of(epoch: str, first: int, entries: Sequence[bytes], *, fold: bool) -> list[str]:
    """The frames of entries, empty for an entry that no chat of ours wrote.

    Args:
        epoch: of the log.
        first: offset of the first entry.
        entries: consecutive ones.
        fold: leave out the deltas of answers whose whole text is among the entries.
    """
    known = [decode_entry(entry) for entry in entries]
    whole = {(entry.speaker, entry.id) for entry in known if isinstance(entry, Done)} if fold else set()
    return [
        placed(raw, epoch, offset).decode()
        if entry is not None and not (isinstance(entry, Delta) and (entry.speaker, entry.id) in whole)
        else ""
        for offset, (raw, entry) in enumerate(zip(entries, known, strict=True), first)
    ]


@lru_cache(64)
def change(told: Here, here: Here) -> str:
    """The frame that tells somebody who knew of ``told`` who is here now."""
    joined, left = here.members - told.members, told.members - here.members
    presence = Presence(joined=sorted(joined), left=sorted(left), typing=sorted(here.typing), count=len(here.members))
    return encode(presence).decode()
