"""`Channel`: one tail and one in-memory log for all streams of a channel in this process.

The tail (repaired by the broker's room) fills the log, and the channel writes to all streams that stand at its head:
at once when nothing was written for a while, else after a pause in which more comes together. What many streams ask
of the broker at the same time is asked once.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Awaitable, Callable
from contextlib import aclosing
from traceback import format_exc
from typing import TYPE_CHECKING, Generic, NamedTuple, TypeVar
from weakref import WeakValueDictionary

import structlog

from syndarix_rt.broker.protocol import Batch, TailUpdate
from syndarix_rt.delivery import Log, Piece, Pieces, Position, Span, TypeFilter
from syndarix_rt.errors import BrokerError
from syndarix_rt.server.crowd import Crowds

if TYPE_CHECKING:
    from syndarix_rt.server.hub import Hub
    from syndarix_rt.server.stream import Stream

__all__ = ["SLICE_S", "Channel"]

SLICE_S = 0.002
"""Written at a stretch; then everything else has its turn: news, too, for those who have not had theirs."""

PAUSE_COSTS = 3
"""From one flush to the next passes so many times what it takes: a channel uses a third of the worker at most …"""

PAUSE_S = 0.0225
"""… or until so much has passed; the events that come together then are written as one. Longer costs less, and is seen
later: a thousand subscribers to 100 events/s take about half a core, and see 99 of 100 within about 30 ms."""

BUSY_PAUSE_COSTS = 1.5
"""Where a flush takes long, so many times that passes in any case: a third of the worker is left to all else …"""

BUSY_PAUSE_S = 0.050
"""… or until so much has passed. Larger writes cost less an event, and nobody sees twentieths of a second."""

PAGE_ENTRIES = 1_000
"""Entries read from the broker at once: one script, about a millisecond of Redis."""

PAGES = 8
"""Pages kept for others who follow: of up to 4 MiB each, mostly a tenth of that …"""

PAGES_S = 2.0
"""… and for so long."""

FOLLOW_AGAIN_S = 2.0
"""Between two attempts to follow a channel that failed for more than absence: what a person mends, seen in the log."""

_log = structlog.get_logger("syndarix_rt.server")

T = TypeVar("T")


class Channel:
    """What this process holds of one channel, and who listens.

    Attributes:
        name: the channel's.
        log: its newest entries.
        started: whether the log is contiguous to what the tail gives; false while the broker is away.
        streams: who listens …
        crowds: … those who are live, most at one place …
        alone: … and those who are not, or have a filter, or have just become live.
        pages: of the broker's log, read lately.
        version: changes with what the tail says.
    """

    def __init__(self, name: str, hub: Hub) -> None:
        self.name = name
        self.log = Log()
        self.started = False
        self.streams: set[Stream] = set()
        self.alone: set[Stream] = set()
        self.crowds = Crowds(self.log)
        self.pages = Pages()
        self.version = 0
        self.position: Joint[Position] = Joint(lambda: hub.broker.position(name))
        self._hub = hub
        self._filters: WeakValueDictionary[frozenset[str], TypeFilter] = WeakValueDictionary()
        self._reading: dict[tuple[str, int], asyncio.Task[Paged]] = {}
        self._round: list[Stream] | None = []  # who has not had a turn; None: not all crowds have
        self._round_began_s = 0.0
        self._flush_at_s = 0.0
        self._flushing: asyncio.Handle | None = None
        self._has_news = False
        self._task = asyncio.create_task(self._follow(), name=f"tail {name}")

    # ---- what comes -----------------------------------------------------------------------------------------------

    async def _follow(self) -> None:
        broker = self._hub.broker
        while True:
            # A tail never ends by itself; if it does, the streams must not hang for ever.
            try:
                async with aclosing(broker.tail(self.name, at_once=self._apply)) as tail:
                    async for update in tail:
                        self._apply(update)
            except BrokerError as error:  # what a person must mend, such as a changed password
                _log.error("a channel cannot be followed; trying again", channel=self.name, reason=str(error))
            except Exception:  # noqa: BLE001 - logged with its traceback, and the channel must live on
                # As text: the log's own formatter may show local variables, and passwords are among them.
                _log.error("a channel's tail failed; trying again", channel=self.name, exception=format_exc())
            self.started = False
            await asyncio.sleep(FOLLOW_AGAIN_S)

    def _apply(self, update: TailUpdate) -> None:
        """Bring the log up to what the tail says, and the streams up to the log."""
        self.version += 1
        tally = self._hub.tally
        if isinstance(update, Batch):
            tally.received(update.entries)
            began_s = time.perf_counter()
            self.log.append(update.first, update.entries)
            tally.encode_s += time.perf_counter() - began_s
        elif isinstance(update, Position):
            self.log.start(update.epoch, update.last)
            self.started = True
        else:
            self.started = False
            tally.counts["broker_lost"] += 1
            return
        self._has_news = True
        if self._flushing is None:
            self._schedule()

    # ---- what goes out --------------------------------------------------------------------------------------------

    def _schedule(self) -> None:
        """Flush as soon as the pause allows."""
        wait_s = self._flush_at_s - time.monotonic()
        if wait_s <= 0:
            self._flush()
        else:
            self._flushing = asyncio.get_running_loop().call_later(wait_s, self._flush)

    def _flush(self) -> None:
        """Write to the streams, a slice of them at a time; a round is over when all have had their turn."""
        self._flushing = None
        now_s = time.monotonic()
        until_s = now_s + SLICE_S
        if self._round == []:
            self._has_news = False
            self._round_began_s = now_s
            self._round = None
            self.crowds.begin()
        if self._round is None and self.crowds.write(until_s):
            self._round = list(self.alone)  # with those who have just left a crowd, and lack what it was given since
        now_s = time.monotonic()
        while self._round and now_s < until_s:
            stream = self._round.pop()
            if stream.is_live:
                stream.advance(now_s)
                stream.join_crowd()
            else:
                stream.wake()
            now_s = time.monotonic()
        # A loop may hold writes back until its callbacks have run (uvloop does): they belong to what the round takes.
        is_over = self._round == []
        self._flushing = asyncio.get_running_loop().call_soon(self._flushed if is_over else self._flush)

    def _flushed(self) -> None:
        """The round is over; the next one comes after a pause."""
        self._flushing = None
        took_s = time.monotonic() - self._round_began_s
        self._hub.tally.flush_s.observe(took_s)
        pause_s = max(min(PAUSE_S, PAUSE_COSTS * took_s), min(BUSY_PAUSE_S, BUSY_PAUSE_COSTS * took_s))
        self._flush_at_s = self._round_began_s + pause_s
        if self._has_news:
            self._schedule_later()

    def _schedule_later(self) -> None:
        """After a round that took longer than the pause, the next one still leaves a turn to everything else."""
        loop = asyncio.get_running_loop()
        self._flushing = loop.call_later(max(0.0, self._flush_at_s - time.monotonic()), self._flush)

    # ---- who listens ----------------------------------------------------------------------------------------------

    def add(self, stream: Stream) -> None:
        """Let it listen."""
        self.streams.add(stream)
        self.alone.add(stream)

    def discard(self, stream: Stream) -> None:
        """It does not listen any more."""
        self.streams.discard(stream)
        self.alone.discard(stream)

    # ---- what streams ask for -------------------------------------------------------------------------------------

    def shared(self, types: TypeFilter | None) -> TypeFilter | None:
        """One object for all equal filters, so that what it has learned serves all."""
        return types if types is None else self._filters.setdefault(types.words, types)

    async def read(self, epoch: str, after: int) -> Paged:
        """A page of the broker's log; one read for all who stand at the same place.

        Raises:
            BrokerUnavailable: the broker is away.
        """
        key = (epoch, after)
        task = self._reading.get(key)
        if task is None:
            task = self._reading[key] = asyncio.create_task(self._read(epoch, after))
            task.add_done_callback(lambda done: (self._reading.pop(key), done.cancelled() or done.exception()))
        return await asyncio.shield(task)

    async def _read(self, epoch: str, after: int) -> Paged:
        hub = self._hub
        async with hub.page_reads:
            held = self.pages.holding(epoch, after)  # read for another while this one waited
            if held is not None:
                return held
            page = await hub.broker.read(self.name, after, PAGE_ENTRIES)
        hub.counts["pages"] += 1
        position = page.position
        paged = Paged(position, Span.encode(position.epoch, page.first, page.entries), Pieces())
        self.pages.keep(paged)
        return paged

    async def aclose(self) -> None:
        """Stop following."""
        if self._flushing is not None:
            self._flushing.cancel()
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)


class Paged(NamedTuple):
    """A page of the broker's log, encoded."""

    position: Position
    span: Span
    pieces: Pieces

    def piece(self, after: int, types: TypeFilter | None) -> Piece:
        """What follows offset ``after``, the same object for all who stand there."""
        return self.pieces.of(self.span, after, types)


class Pages:
    """The pages that were read lately: streams that resume at places near to each other soon share them."""

    def __init__(self) -> None:
        self._kept: deque[Paged] = deque(maxlen=PAGES)

    def keep(self, page: Paged) -> None:
        """Keep it for a while."""
        if page.span.frames:
            self._kept.append(page)
            asyncio.get_running_loop().call_later(PAGES_S, self._drop, page)

    def _drop(self, page: Paged) -> None:
        # The oldest goes first, or has been pushed out by others.
        if self._kept and self._kept[0] is page:
            self._kept.popleft()

    def holding(self, epoch: str, after: int) -> Paged | None:
        """The page that has the entry after an offset."""
        for page in self._kept:
            span = page.span
            if page.position.epoch == epoch and span.first <= after + 1 < span.first + len(span.frames):
                return page
        return None


class Joint(Generic[T]):
    """A question that many ask at once: who asks while an answer is under way shares the next one.

    Not the one that is under way: it may be older than what made them ask.
    """

    def __init__(self, ask: Callable[[], Awaitable[T]]) -> None:
        self._ask = ask
        self._running: asyncio.Task[T] | None = None
        self._next: asyncio.Task[T] | None = None

    async def __call__(self) -> T:
        """Ask; raises what asking raises."""
        if self._next is None:
            self._next = asyncio.create_task(self._after(self._running))
            self._next.add_done_callback(lambda done: done.cancelled() or done.exception())  # all may have left
        return await asyncio.shield(self._next)

    async def _after(self, running: asyncio.Task[T] | None) -> T:
        if running is not None:
            await asyncio.wait({running})
        self._running, self._next = self._next, None
        return await self._ask()
