"""`Chat`: a project's chat over a broker: what servers do for their members, and agents beside one for themselves.

The log of ``chat:{project}`` holds what is said (`syndarix_rt.delivery.chat`). A message is one batch whose producer is
its speaker and id, so that it is there once, through whichever instance it was sent again; of an answer the deltas are
that producer's batches in order, and the whole of it the last. Who is here is a claim on the same channel for each
session, prolonged while it lasts: it lapses by itself when a process is killed.
"""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from datetime import UTC, datetime
from typing import NamedTuple

import msgspec

from syndarix_rt.broker.protocol import Batch, Broker, Published, chat_channel, follow
from syndarix_rt.broker.retry import pauses
from syndarix_rt.delivery.chat import (
    MAX_ENTRY_BYTES,
    Delta,
    Done,
    Entry,
    Finish,
    Kind,
    Member,
    Message,
    Said,
    Say,
    Stream,
    Transcript,
    decode_entry,
    encode,
)
from syndarix_rt.delivery.resume import Gap
from syndarix_rt.errors import BrokerUnavailable, ChatError, PublishConflict
from syndarix_rt.events import EventId

__all__ = ["HERE_S", "RENEW_S", "TYPING_S", "Chat", "Here"]

HERE_S = 20.0
"""A member is here for so long after its last sign: a reconnect within it is nobody's coming or going, and the members
of an instance that was killed are gone after it."""

RENEW_S = 6.0
"""Signs are given so often: two may be lost."""

TYPING_S = 5.0
"""Somebody who stops in the middle of a sentence is typing for so long."""

PAGE_ENTRIES = 1_000
SCAN_ENTRIES = 10_000
"""Entries that are looked at to find the last messages; the deltas of a long answer are many."""

_WHOLE = 2**40
"""The sequence of a whole message: above that of any delta, which is its offset."""

_DELTA = b'{"type":"delta",'


class Here(NamedTuple):
    """Who is here."""

    members: frozenset[Member]
    typing: frozenset[str]


class _Present(msgspec.Struct, frozen=True, array_like=True, tag="here"):
    name: str
    kind: Kind
    session: str


class _Types(msgspec.Struct, frozen=True, array_like=True, tag="typing"):
    name: str


_sign = msgspec.json.Decoder(_Present | _Types).decode


class Chat:
    """The chat of a project.

    All methods raise `BrokerUnavailable` while the broker is away.

    Args:
        broker: stays the caller's.
        project: whose chat.
        clock: the wall time.
    """

    def __init__(self, broker: Broker, project: str, *, clock: Callable[[], datetime] | None = None) -> None:
        self.project = project
        self.channel = chat_channel(project)
        self._broker = broker
        self._clock = clock or (lambda: datetime.now(UTC))

    async def send(self, speaker: str, frame: Say | Stream | Finish, *, give_up_after_s: float = 0.0) -> Published:
        """Say something, or a part of an answer; sent again, it is there once.

        Args:
            speaker: who says it.
            frame: what.
            give_up_after_s: try again for so long while the broker is away.

        Raises:
            ChatError: ``conflict``: this id came with other content before, or more of this answer did, or all of it;
                ``invalid-frame``: it is too long.
        """
        entry = encode(self._entry(speaker, frame))
        if len(entry) > MAX_ENTRY_BYTES:
            text = f"with who says it when it is {len(entry)} bytes; at most {MAX_ENTRY_BYTES}"
            raise ChatError("invalid-frame", text, "$.text", frame.id)
        producer = "chat-" + hashlib.sha256(f"{speaker}\n{frame.id}".encode()).hexdigest()[:40]
        sequence = frame.at if isinstance(frame, Stream) else _WHOLE
        fingerprint = hashlib.sha256(encode(frame)).hexdigest()[:32]
        deadline_s = time.monotonic() + give_up_after_s
        for pause_s in pauses():
            try:
                return await self._broker.publish(
                    self.channel, [entry], producer=producer, sequence=sequence, fingerprint=fingerprint
                )
            except PublishConflict as error:
                text = "this id came with other content before, or with more of this answer"
                path = "$.at" if isinstance(frame, Stream) else "$.id"
                raise ChatError("conflict", text, path, frame.id) from error
            except BrokerUnavailable:
                if time.monotonic() + pause_s > deadline_s:
                    raise
            await asyncio.sleep(pause_s)
        raise AssertionError("pauses never end")

    def _entry(self, speaker: str, frame: Say | Stream | Finish) -> Entry:
        match frame:
            case Say(id=name, to=to, reply_to=reply_to, text=text):
                return Said(id=name, speaker=speaker, to=to, text=text, time=self._clock(), reply_to=reply_to)
            case Stream(id=name, to=to, reply_to=reply_to, at=at, text=text):
                return Delta(id=name, speaker=speaker, to=to, at=at, text=text, reply_to=reply_to)
            case Finish(id=name, to=to, reply_to=reply_to, text=text, error=error):
                return Done(
                    id=name, speaker=speaker, to=to, text=text, time=self._clock(), reply_to=reply_to, error=error
                )

    async def follow(self, after: EventId | None = None) -> AsyncGenerator[Entry | Gap]:
        """What is said, with its position: all after ``after``, or from now on; `Gap` where some of it is gone.

        While the broker is away it waits. ``aclose()`` it (`contextlib.aclosing`) to stop at once.
        """
        cursor = after or (await self._broker.position(self.channel)).top
        async with aclosing(follow(self._broker, self.channel, cursor)) as updates:
            async for update in updates:
                if not isinstance(update, Batch):
                    yield update
                    continue
                for offset, entry in enumerate(update.entries, update.first):
                    frame = decode_entry(entry)
                    if frame is not None:
                        yield msgspec.structs.replace(frame, position=f"{update.epoch}.{offset}")

    async def before(self, messages: int) -> EventId:
        """The place before the last so many messages, as far as that can be found within the last 10,000 entries."""
        position = await self._broker.position(self.channel)
        after, oldest = position.last, max(position.first - 1, position.last - SCAN_ENTRIES)
        while messages > 0 and after > oldest:
            start = max(oldest, after - PAGE_ENTRIES)
            page = await self._broker.read(self.channel, start, after - start)
            if page.position.epoch != position.epoch:
                return await self.before(messages)
            if page.last < after:  # large entries fill a page, or retention took them: less history will do
                return EventId(position.epoch, page.last)
            for offset in range(after, page.first - 1, -1):
                messages -= not page.entries[offset - page.first].startswith(_DELTA)
                after = offset - 1
                if messages == 0:
                    break
            if page.first > start + 1:
                break
        return EventId(position.epoch, after)

    async def unfinished(self) -> list[Message]:
        """The answers that are on their way, as far as the last 10,000 entries tell."""
        position = await self._broker.position(self.channel)
        transcript = Transcript(keep=SCAN_ENTRIES)
        after = max(position.first - 1, position.last - SCAN_ENTRIES)
        while after < position.last:
            page = await self._broker.read(self.channel, after, PAGE_ENTRIES)
            if page.position.epoch != position.epoch or not page.entries:
                break
            for entry in page.entries:
                frame = decode_entry(entry)
                if frame is not None:
                    transcript.apply(frame)
            after = page.last
        return list(transcript.answers.values())

    async def break_off(self, answer: Message, why: str) -> bool:
        """End somebody's answer with what there is of it; false if it has been ended, or gone on, meanwhile.

        Whoever does the same at the same time, such as another server, has the same success.
        """
        frame = Finish(id=answer.id, text=answer.text, to=answer.to, reply_to=answer.reply_to, error=why)
        try:
            await self.send(answer.speaker, frame)
        except ChatError:
            return False
        return True

    # ---- who is here ----------------------------------------------------------------------------------------------

    async def arrive(self, member: Member, session: str) -> None:
        """Be here for the next `HERE_S`; again every `RENEW_S` as long as that lasts."""
        await self._broker.claim(self.channel, _here(member, session), HERE_S)

    async def leave(self, member: Member, session: str) -> None:
        """Be gone at once, rather than after `HERE_S`."""
        await self._broker.release(self.channel, _here(member, session))

    async def typing(self, name: str, *, over: bool = False) -> None:
        """Tell that a member is writing, or that it has written."""
        holder = msgspec.json.encode(_Types(name)).decode()
        if over:
            await self._broker.release(self.channel, holder)
        else:
            await self._broker.claim(self.channel, holder, TYPING_S)

    async def here(self) -> Here:
        """Everybody, through all instances."""
        members, typing = set(), set()
        for holder in await self._broker.claimants(self.channel):
            try:
                sign = _sign(holder)
            except msgspec.DecodeError:
                continue  # of no member of ours
            if isinstance(sign, _Types):
                typing.add(sign.name)
            else:
                members.add(Member(sign.name, sign.kind))
        names = {member.name for member in members}
        return Here(frozenset(members), frozenset(typing & names))


def _here(member: Member, session: str) -> str:
    return msgspec.json.encode(_Present(member.name, member.kind, session)).decode()
