"""The broker's contract: one log per channel, published to atomically, read exactly.

A *channel* is a name such as ``project:{apollo}``; the braces are literal (a Redis Cluster hash tag). Its log holds
entries, each one event's encoded JSON (or, on other channels, any JSON object), at contiguous offsets 1, 2, 3 … within
an epoch. `tests/broker_contract.py` is the same suite for every implementation.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing, suppress
from datetime import datetime
from typing import NamedTuple, Protocol, runtime_checkable

import msgspec

from syndarix_rt.delivery.approvals import Approval, Decision, Verdict
from syndarix_rt.delivery.batch import MAX_BATCH_BYTES, MAX_BATCH_EVENTS, Published
from syndarix_rt.delivery.resume import Gap, Position, judge
from syndarix_rt.errors import BrokerUnavailable
from syndarix_rt.events import EventId, is_project_name

__all__ = [
    "MAX_BATCH_BYTES",
    "MAX_BATCH_EVENTS",
    "Batch",
    "Broker",
    "Page",
    "Published",
    "Retention",
    "TailUpdate",
    "chat_channel",
    "check_batch",
    "control_channel",
    "follow",
    "is_run_name",
    "project_channel",
    "project_of",
]


PAGE_ENTRIES = 1_000
"""Entries that are read at once to catch up: one batch."""

AGAIN_S = 0.5
"""How long to wait before asking a broker again that did not answer."""

_RUN = re.compile(r"[A-Za-z0-9_-]{1,128}")

MAX_AGE_S = 10 * 365 * 24 * 3600.0
"""Longest age of a log: 10 years, far from where Redis refuses an expiry."""


def project_channel(project: str) -> str:
    """The channel of a project's events: ``project:{apollo}``."""
    if not is_project_name(project):
        raise ValueError(f"not a project name: {project!r} (1 to 64 of letters, digits, '_' and '-')")
    return f"project:{{{project}}}"


def project_of(channel: str) -> str | None:
    """The project of a project channel; None for any other channel."""
    return channel[9:-1] if channel.startswith("project:{") and channel.endswith("}") else None


def is_run_name(name: str) -> bool:
    """Whether ``name`` may name a run: 1 to 128 of letters, digits, ``_`` and ``-``."""
    return _RUN.fullmatch(name) is not None


def control_channel(run: str) -> str:
    """The channel on which a run is steered, and answers: ``control:{demo_small-7-1f03ab}``."""
    if not is_run_name(run):
        raise ValueError(f"not a run's name: {run!r} (1 to 128 of letters, digits, '_' and '-')")
    return f"control:{{{run}}}"


def chat_channel(project: str) -> str:
    """The channel of what is said in a project: ``chat:{apollo}``."""
    return "chat" + project_channel(project).removeprefix("project")


def check_batch(entries: Sequence[bytes]) -> bytes:
    """Join a batch's entries by line ends, and refuse what is no batch.

    Raises:
        ValueError: none or too many entries, too many bytes, an empty entry, or one with a line end in it.
    """
    size = sum(map(len, entries))
    if not 1 <= len(entries) <= MAX_BATCH_EVENTS:
        raise ValueError(f"a batch has 1 to {MAX_BATCH_EVENTS} entries, this one {len(entries)}")
    if size > MAX_BATCH_BYTES:
        raise ValueError(f"a batch has at most {MAX_BATCH_BYTES} bytes, this one {size}")
    if not all(entries) or b"\n" in b"".join(entries):  # a tenth of the time of looking into each
        raise ValueError("an entry is one line, neither empty nor with a line end in it")
    return b"\n".join(entries)


class Retention(msgspec.Struct, frozen=True):
    """How much of each channel's log is kept; whichever limit is met first."""

    entries: int = 100_000
    """Most entries. A project's day at about one event a second."""
    age_s: float = 24 * 3600.0
    """The log goes this long after its last publish; what is known about it stays 7 days longer."""
    bytes: int = 256 * 1024 * 1024
    """Most bytes, approximately."""

    def __post_init__(self) -> None:
        if self.entries < 1 or self.bytes < 1 or not 0 < self.age_s <= MAX_AGE_S:
            raise ValueError(f"retention needs at least 1 entry, 1 byte, and up to 10 years: {self}")


class Batch(NamedTuple):
    """Entries of a log in order, without a hole: offset ``first`` and those that follow it."""

    epoch: str
    first: int
    entries: list[bytes]

    @property
    def last(self) -> int:
        """Offset of the last entry."""
        return self.first + len(self.entries) - 1


class Page(NamedTuple):
    """A read of the log, with the position it was read at (both by one script, so they agree).

    Offsets mean nothing without their epoch, and the log may have begun another one since: compare
    ``position.epoch`` before using the entries.
    """

    position: Position
    first: int
    """Offset of the first entry; if it is not the one after what was asked for, retention took what is missing."""
    entries: list[bytes]
    """Without a hole. May be fewer than asked for: at the end of the log, or when they are large."""

    @property
    def last(self) -> int:
        """Offset of the last entry; ``first - 1`` if there is none."""
        return self.first + len(self.entries) - 1


TailUpdate = Batch | Position | None
"""What a tail yields; see `Broker.tail`."""


@runtime_checkable
class Broker(Protocol):
    """What publishers, the server and tests need.

    All methods but ``tail`` raise `BrokerUnavailable` while the broker is away, and `BrokerError` for what waiting does
    not mend (a wrong password, keys in use for something else, a broker that has been closed).
    """

    async def publish(
        self,
        channel: str,
        entries: Sequence[bytes],
        *,
        producer: str | None = None,
        sequence: int = 0,
        fingerprint: str = "",
    ) -> Published:
        """Append a batch, atomically, and announce it.

        With a ``producer``, a batch sent again with the same ``sequence`` adds nothing and gives the first reply with
        ``duplicates`` set, for 24 hours. One batch per producer and channel may be in flight.

        Args:
            channel: the channel's name.
            entries: encoded events, each one line without its end; 1 to `MAX_BATCH_EVENTS`, at most `MAX_BATCH_BYTES`.
            producer: who sends, random per publisher object (or an idempotency key with its scope).
            sequence: counts this producer's batches, from 0.
            fingerprint: of the batch's content; the same sequence with another one is refused.

        Raises:
            ValueError: too many or too large entries, or none.
            PublishConflict: a lower sequence than the producer's last, or another fingerprint.
            ApprovalDecided: it holds an ``approval_resolved`` that comes after a person's decision.
            BrokerUnavailable: it may or may not have been added; sending it again with the same sequence is safe.
        """
        ...

    async def position(self, channel: str) -> Position:
        """What the log holds now. A channel not known yet gets its epoch by this."""
        ...

    async def read(self, channel: str, after: int, limit: int) -> Page:
        """Up to ``limit`` entries after offset ``after``, from the log itself."""
        ...

    def tail(self, channel: str, *, at_once: Callable[[Batch], None] | None = None) -> AsyncGenerator[TailUpdate]:
        """Follow a channel from its top on; an async generator that does not end before the broker is closed.

        It yields:

        * a `Position` first: nothing that is published after it was read is missed. Another one whenever the epoch
          changes (a reset, a flush, a restart of Redis: also one without loss), when retention took entries before
          they could be read, and after each None.
        * a `Batch`: the next entries. It has the epoch of the last `Position` and begins right after the last `Batch`,
          or at ``last + 1`` of the `Position` if none came since.
        * None: the broker is away. The next thing is a `Position`. It may come first, too.

        So the tail never says what lies between the last `Batch` and a new `Position`. Whoever must know (the server's
        streams) keeps a cursor, asks `delivery.resume.judge` about it with that position, declares the gap if there is
        one, and fetches what is left, from the verdict's ``after`` up to ``last``, with `read`.

        A `Batch` may be given to ``at_once`` instead, the moment it is there, while the next update is awaited and no
        other is on its way: its consumer's task need not be woken then, which takes about as long as to read it. It
        must not wait; what it raises, the tail raises.

        However slowly it is consumed, it holds a bounded number of entries: what it dropped it reads from the log.
        ``aclose()`` it (`contextlib.aclosing`) to unsubscribe at once.

        Raises:
            BrokerError: something that waiting does not mend; never for a broker that is away.
        """
        ...

    def lag(self, channel: str) -> int:
        """How many entries a tail of the channel here lacks of what the log was last seen to have.

        It is compared about once a second; 0 where there is no tail, or the broker is away.
        """
        ...

    async def reset(self, channel: str) -> Position:
        """Delete the channel's log and begin a new epoch at offset 1. Tails learn of it within about a second."""
        ...

    async def approvals(self, channel: str) -> list[Approval]:
        """The approvals of a project that wait for a decision, in the order in which they were asked for.

        They are known from the ``approval_required`` and ``approval_resolved`` that were published; the module
        `syndarix_rt.broker.approvals` has the rules.
        """
        ...

    async def decide(
        self,
        channel: str,
        approval_id: str,
        decision: Verdict,
        *,
        at: datetime,
        by: str | None = None,
        comment: str | None = None,
    ) -> Decision | None:
        """Decide an approval for a person: append its ``approval_resolved`` and announce it, unless it is decided.

        Of several who decide at once the first one wins; asking again changes nothing.

        Args:
            channel: the project's.
            approval_id: which one.
            decision: ``approved`` or ``rejected``.
            at: the wall time; the event's ``recordedtime``, and its ``time`` unless a simulation asked.
            by: who decides.
            comment: why.

        Returns:
            The decision that stands, this one or an earlier one; None if no such approval is known.

        Raises:
            EventError: ``by`` or ``comment`` is too long, or ``by`` empty.
            BrokerUnavailable: it may be decided or not; deciding again is safe.
        """
        ...

    async def projects(self) -> list[str]:
        """Names of the projects that were ever published to, sorted; may be some seconds behind."""
        ...

    async def claim(self, channel: str, holder: str, ttl_s: float) -> str:
        """Say that ``holder`` (a run, a member of a chat) is there for the next ``ttl_s``; returns who holds it then.

        The first one to claim holds it until it lets it lapse or releases it; claiming again prolongs it.
        """
        ...

    async def release(self, channel: str, holder: str) -> None:
        """End a claim, also one that waits for another's to end."""
        ...

    async def claimants(self, channel: str) -> list[str]:
        """Everybody whose claim has not lapsed, the holder and those beside it, sorted."""
        ...

    async def keep(self, name: str, value: bytes, ttl_s: float) -> None:
        """Keep a value under a name until it is taken, for ``ttl_s`` at most; what was kept under that name is gone."""
        ...

    async def take(self, name: str) -> bytes | None:
        """Give what is kept under a name, to one alone of all who ask; None if nothing is."""
        ...

    async def ping(self) -> None:
        """Return when the broker answers."""
        ...

    async def aclose(self) -> None:
        """Give back connections; tails end, and everything else raises `BrokerError` from then on."""
        ...


async def follow(broker: Broker, channel: str, cursor: EventId) -> AsyncGenerator[Batch | Gap]:
    """What stands after a cursor and what comes, each entry once and in order; `Gap` where some are lost for good.

    While the broker is away it waits. ``aclose()`` it (`contextlib.aclosing`) to stop at once.
    """
    async with aclosing(broker.tail(channel)) as tail:
        async for update in tail:
            if isinstance(update, Batch):
                if update.epoch != cursor.epoch:
                    continue  # a page has told of a newer one, and the tail will
                new = Batch(update.epoch, cursor.offset + 1, update.entries[cursor.offset + 1 - update.first :])
                if new.entries:  # else a page had them already
                    cursor = EventId(new.epoch, new.last)
                    yield new
            elif update is not None:
                last = update.last
                position = update
                while True:
                    after, gap = judge(cursor, position, live=True)
                    cursor = EventId(position.epoch, after)
                    if gap is not None:
                        yield gap
                    if cursor.offset >= last or position.epoch != update.epoch:  # the tail tells of a newer epoch
                        break
                    page = None
                    with suppress(BrokerUnavailable):
                        page = await broker.read(channel, cursor.offset, PAGE_ENTRIES)
                        position = page.position
                    if page and page.entries and position.epoch == cursor.epoch and page.first == cursor.offset + 1:
                        cursor = EventId(cursor.epoch, page.last)
                        yield Batch(cursor.epoch, page.first, page.entries)
                    else:
                        await asyncio.sleep(AGAIN_S)
