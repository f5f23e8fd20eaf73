"""`Feed`: one project's stream, kept in a store and counted as it comes. It lives on the workbench's thread."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable
from datetime import datetime
from typing import Any, Literal, NamedTuple

import msgspec

from syndarix_rt.client import Api, EventStream, StreamState
from syndarix_rt.delivery import Gap, Ledger
from syndarix_rt.errors import SyndarixError
from syndarix_rt.events import Event, EventId
from syndarix_rt.notebook.panels.timeline import Timeline
from syndarix_rt.notebook.store import CAPACITY, Received, Store

__all__ = ["Feed", "Loss"]

GIVE_WAY_EVERY = 200
"""Events between two turns of other tasks: some milliseconds, so a pump is never late by a frame."""

SETTLE_POLL_S = 0.01


class _Seen(msgspec.Struct):
    """What panels need of an event that was checked when it came: a fraction of the time of decoding all of it."""

    id: str
    type: str
    time: datetime
    data: dict[str, Any]
    recordedtime: datetime | None = None
    simulation: str | None = None
    subject: str | None = None
    cause: str | None = None
    raw: bytes = b""


_decode_seen = msgspec.json.Decoder(_Seen).decode


class Loss(NamedTuple):
    """A declared loss."""

    gap: Gap
    after: int
    """How many events had been received."""
    now_s: float
    """When it was declared, seconds since 1970."""

    @property
    def label(self) -> str:
        """A word for it."""
        return "gap: unknown" if self.gap.missed is None else f"gap: {self.gap.missed:,} missed"


class Feed:
    """Receives everything of one project from now on; any number of dashboards share it.

    Args:
        url: the server's, with its key.
        project: whose events.
        replay: begin with so many of the newest entries, or with ``"all"``.
        capacity: events kept at most.
        clock: wall time, seconds since 1970.

    Attributes:
        url: the server's, with its key.
        store: what was received.
        losses: what the stream declared as missing, in the order it came.
    """

    def __init__(
        self,
        url: str,
        project: str,
        *,
        replay: int | Literal["all"] = 0,
        capacity: int = CAPACITY,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.project = project
        self.store = Store(capacity)
        self._clock = clock
        self.url = url
        self._stream = EventStream(url, project, replay=replay)
        self._timelines: list[Timeline] = []
        self._listeners: list[Callable[[Event], None]] = []
        self.losses: list[Loss] = []
        self._task: asyncio.Task[None] | None = None
        self._failure = ""

    # ---- what can be seen -----------------------------------------------------------------------------------------

    @property
    def state(self) -> StreamState:
        """Where the stream stands."""
        return StreamState.CLOSED if self._failure else self._stream.state

    @property
    def reason(self) -> str:
        """Why it waits or is closed; empty while all is well."""
        return self._failure or self._stream.reason

    @property
    def position(self) -> EventId | None:
        """The newest position received or passed."""
        return self._stream.position

    @property
    def ledger(self) -> Ledger:
        """What was received, as evidence; it goes on counting."""
        return self._stream.ledger

    # ---- who counts -----------------------------------------------------------------------------------------------

    async def attach(self, timeline: Timeline) -> None:
        """Show a timeline everything that is kept, then whatever comes. Others have their turn meanwhile.

        A timeline that raises has the error as its ``fault``, and is shown no more: neither what is received nor
        another timeline depends on it.
        """
        try:
            await self._catch_up(timeline)
        except Exception as error:  # noqa: BLE001 - told by whoever draws it
            timeline.fault = error
        else:
            self._timelines.append(timeline)

    async def _catch_up(self, timeline: Timeline) -> None:
        shown = told = 0  # events, and losses
        while items := self.store.since(shown):
            shown = max(shown, self.store.received - len(items))
            for item in items:
                while told < len(self.losses) and self.losses[told].after <= shown:
                    timeline.gap(self.losses[told].now_s, self.losses[told].label)
                    told += 1
                event = _decode_seen(item.raw)
                event.raw = item.raw
                timeline.add(event, item.position.offset, item.received_s)
                shown += 1
                if shown % GIVE_WAY_EVERY == 0:
                    await asyncio.sleep(0)
        for loss in self.losses[told:]:
            timeline.gap(loss.now_s, loss.label)

    def detach(self, timeline: Timeline) -> None:
        """Show it nothing any more."""
        if timeline in self._timelines:
            self._timelines.remove(timeline)

    def listen(self, hear: Callable[[Event], None], since: int) -> None:
        """Have a function called with each event that comes; first with what is kept, but for the first ``since``."""
        for item in self.store.since(since):
            hear(Event.decode(item.raw))
        self._listeners.append(hear)

    def leave(self, hear: Callable[[Event], None]) -> None:
        """Have it called no more."""
        if hear in self._listeners:
            self._listeners.remove(hear)

    # ---- life -----------------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Open the stream; everything published from now on is received. A server that is away is tried again.

        Raises:
            StreamError: the server refuses.
        """
        await self._stream.__aenter__()
        if self._stream.state is StreamState.CLOSED:
            try:
                await anext(self._stream)  # raises the refusal
            finally:
                await self._stream.aclose()
        self._task = asyncio.create_task(self._receive())

    async def aclose(self) -> None:
        """Close the stream; what was received stays."""
        await self._stream.aclose()
        if self._task is not None:
            with contextlib.suppress(asyncio.CancelledError):
                await self._task

    def advance(self, now_s: float) -> None:
        """Let time go on, as far as the stream proves it."""
        if self.state is StreamState.OPEN:
            self._show(lambda timeline: timeline.advance(now_s))

    async def settle(self, timeout_s: float) -> bool:
        """Wait until everything is here that the server has now; False if that takes too long."""
        with contextlib.suppress(TimeoutError, SyndarixError):
            async with asyncio.timeout(timeout_s):
                async with Api(self.url) as api:
                    top = await api.position(self.project)
                while self.state is not StreamState.CLOSED:
                    here = self.position
                    if here and here.epoch == top.epoch and here.offset >= top.last:
                        return True
                    await asyncio.sleep(SETTLE_POLL_S)
        return False

    async def _receive(self) -> None:
        count = 0
        try:
            async for item in self._stream:
                if isinstance(item, Gap):
                    self._lose(item)
                else:
                    self._keep(item)
                count += 1
                if count % GIVE_WAY_EVERY == 0:
                    await asyncio.sleep(0)
        except Exception as error:
            self._failure = str(error) or type(error).__name__  # whatever it is: a feed that ended must not look live
            if not isinstance(error, SyndarixError):
                raise

    def _keep(self, event: Event) -> None:
        assert event.position is not None
        now_s = self._clock()
        self.store.add(Received(event.position, now_s, event.raw))
        offset = event.position.offset
        self._show(lambda timeline: timeline.add(event, offset, now_s))
        for hear in list(self._listeners):
            hear(event)

    def _lose(self, gap: Gap) -> None:
        loss = Loss(gap, self.store.received, self._clock())
        self.losses.append(loss)
        self._show(lambda timeline: timeline.gap(loss.now_s, loss.label))

    def _show(self, show: Callable[[Timeline], None]) -> None:
        for timeline in list(self._timelines):
            try:
                show(timeline)
            except Exception as error:  # noqa: BLE001 - see attach
                self.detach(timeline)
                timeline.fault = error
