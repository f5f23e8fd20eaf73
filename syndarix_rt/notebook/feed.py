"""`Feed`: one project's stream, kept in a store and counted as it comes. It lives on the workbench's thread."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable
from datetime import datetime
from typing import Literal

import msgspec

from syndarix_rt.client import Api, EventStream, StreamState
from syndarix_rt.delivery import Gap, Ledger
from syndarix_rt.errors import SyndarixError
from syndarix_rt.events import Event, EventId
from syndarix_rt.notebook.metrics import EVENT_SERIES, EventRate
from syndarix_rt.notebook.store import CAPACITY, Received, Store

__all__ = ["Feed"]

GIVE_WAY_EVERY = 200
"""Events between two turns of other tasks: some milliseconds, so a pump is never late by a frame."""

SETTLE_POLL_S = 0.01


class _Counted(msgspec.Struct):
    """What a rate needs of an event that was checked when it came: a thirtieth of the time of decoding all of it."""

    type: str
    time: datetime
    recordedtime: datetime | None = None
    simulation: str | None = None


_decode_counted = msgspec.json.Decoder(_Counted).decode


class Feed:
    """Receives everything of one project from now on; any number of dashboards share it.

    Args:
        url: the server's, with its key.
        project: whose events.
        replay: begin with so many of the newest entries, or with ``"all"``.
        capacity: events kept at most.
        clock: wall time, seconds since 1970.

    Attributes:
        store: what was received.
        gaps: how many losses were declared.
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
        self._url = url
        self._stream = EventStream(url, project, replay=replay)
        self._rates: dict[str | None, EventRate] = {}  # by simulation; None: all events
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

    def rate(self, simulation: str | None = None) -> EventRate:
        """The event rate by type, of all events or of one simulation's; the same object each time."""
        rate = self._rates.get(simulation)
        if rate is None:
            rate = self._rates[simulation] = EventRate([line["name"] for line in EVENT_SERIES])
            whole = self._rates.get(None)
            if whole is not None:
                rate.gaps = list(whole.gaps)
            for item in self.store.items():
                event = _decode_counted(item.raw)
                if simulation in (None, event.simulation):
                    rate.add(event.type, _published_s(event, item.received_s))
        return rate

    # ---- life -----------------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Open the stream; everything published from now on is received. A server that is away is tried again.

        Raises:
            StreamError: the server refuses.
        """
        self.rate()
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
        """Let time go on in the rates, as far as the stream proves it."""
        if self.state is StreamState.OPEN:
            for rate in self._rates.values():
                rate.advance(now_s)

    async def settle(self, timeout_s: float) -> bool:
        """Wait until everything is here that the server has now; False if that takes too long."""
        with contextlib.suppress(TimeoutError, SyndarixError):
            async with asyncio.timeout(timeout_s):
                async with Api(self._url) as api:
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
        published_s = _published_s(event, now_s)
        for simulation, rate in self._rates.items():
            if simulation in (None, event.simulation):
                rate.add(event.type, published_s)

    def _lose(self, gap: Gap) -> None:
        label = "gap: unknown" if gap.missed is None else f"gap: {gap.missed:,} missed"
        for rate in self._rates.values():
            rate.gap(self._clock(), label)


def _published_s(event: Event | _Counted, received_s: float) -> float:
    """When it was published; never after it came, whatever the publisher's clock says."""
    return min((event.recordedtime or event.time).timestamp(), received_s)
