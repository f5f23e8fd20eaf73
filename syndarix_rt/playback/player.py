"""Playing: events at their simulated times become publications in wall time.

The states and what changes them:

============  ===========  ============================================================
state         on           becomes
============  ===========  ============================================================
``playing``   ``pause``    ``paused``
``playing``   ``step``     ``stepping``
``playing``   ``break``    ``paused`` (the event of a breakpoint is published, and none after it)
``paused``    ``resume``   ``playing``
``paused``    ``step``     ``stepping``
``stepping``  ``stepped``  ``paused`` (exactly the events asked for are published)
``stepping``  ``pause``    ``paused``
``stepping``  ``break``    ``paused``
``stepping``  ``resume``   ``playing``
any of these  ``end``      ``ended`` (no more events, or stopped)
any of these  ``cancel``   ``cancelled`` (the task that runs it was)
any of these  ``fail``     ``failed`` (the source or the publisher raised)
============  ===========  ============================================================

What is not in the table changes nothing: pausing a paused player, or any command after the end.

**The clock.** While playing, simulated time is a straight line over the monotonic clock: an event of time ``t`` is due
at ``anchor_wall + (t - anchor_time) / speed``. The anchor is set anew at the first event and whenever the line bends
(resume, another speed), at the place where the player stands then, so nothing jumps. A player that is late (a slow
publisher, a busy machine) publishes as fast as it can until it is back on the line; it never raises and never skips.
Bending the line also forgives what it is late by, since it stands at the event that it must publish next.

**People.** The first decision about an approval wins. When a person has decided it, the run's own decision that comes
after is left out and counted; what follows from that in the run is played all the same. A source that can go on from
a person's decision should be told of it: then this happens only when both decide at the same moment.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections import deque
from collections.abc import Awaitable, Callable, Generator, Iterable, Iterator, Sequence
from datetime import UTC, datetime
from typing import Any, Literal, NamedTuple, Protocol

from syndarix_rt.broker.protocol import MAX_BATCH_EVENTS, Published
from syndarix_rt.errors import ApprovalDecided
from syndarix_rt.events import Event, EventId

__all__ = ["Player", "State", "Watcher"]

State = Literal["playing", "paused", "stepping", "ended", "cancelled", "failed"]
_Cause = Literal["pause", "resume", "step", "stepped", "break", "end", "cancel", "fail"]

_RUNNING: tuple[State, ...] = ("playing", "paused", "stepping")

_TRANSITIONS: dict[tuple[State, _Cause], State] = {
    ("playing", "pause"): "paused",
    ("playing", "step"): "stepping",
    ("playing", "break"): "paused",
    ("paused", "resume"): "playing",
    ("paused", "step"): "stepping",
    ("stepping", "stepped"): "paused",
    ("stepping", "pause"): "paused",
    ("stepping", "break"): "paused",
    ("stepping", "resume"): "playing",
    **{(state, "end"): "ended" for state in _RUNNING},
    **{(state, "cancel"): "cancelled" for state in _RUNNING},
    **{(state, "fail"): "failed" for state in _RUNNING},
}

_SLICE_S = 0.005
"""The source may generate for so long before other tasks get their turn: no frame of a chart is late by it."""

_EARLY_S = 0.001
"""An event is due this much before its time: the event loop's timers are no finer (epoll counts milliseconds)."""

_LAST_BATCH_S = 5.0
"""A cancelled player waits so long for the reply to the batch in flight, to know whether it counts."""


class Watcher(Protocol):
    """Who looks on while a player plays."""

    def breaks(self, event: Event) -> bool:
        """Whether to pause once this event is published; asked when it is read, and again before it is published."""
        ...

    def published(self, events: Sequence[Event]) -> None:
        """These are published."""
        ...

    def changed(self) -> None:
        """The state or the speed is another, or a paused player has got the reply to its last batch."""
        ...


class Player:
    """Plays events into a publisher at a speed.

    ``await player.run()`` plays until the events end. Everything else may be called at any time from the same event
    loop, before it too: a player that was paused first starts paused.

    Args:
        events: what to play, ordered by time (an earlier time than the one before is due at once). It is read
            lazily: when pacing, at most one event beyond what is due; at full speed, one batch ahead; never past an
            event at which it will pause. Other tasks get their turn every few milliseconds, or after each event of a
            source that takes longer for one.
        publish: sends events and returns where they stand, such as a publisher's ``publish``; it gets 1 to
            `MAX_BATCH_EVENTS` of them and is called again when it has returned.
        speed: simulated seconds per wall second; ``math.inf`` plays as fast as the publisher takes it.
        monotonic: the wall clock, seconds.
        sleep: waits that many seconds of that clock.

    Attributes:
        watcher: looks on; None: nobody does.
    """

    def __init__(
        self,
        events: Iterable[Event],
        publish: Callable[[Sequence[Event]], Awaitable[Published]],
        *,
        speed: float = 1.0,  # real time
        monotonic: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
    ) -> None:
        self._events: Iterator[Event] = iter(events)
        self._publish = publish
        self._speed = _checked_speed(speed)
        self._monotonic = monotonic
        self._sleep = sleep

        self.watcher: Watcher | None = None
        self._state: State = "playing"
        self._changed = asyncio.Event()
        self._started = False
        self._buffer: deque[_Waiting] = deque()
        self._exhausted = False
        self._error: Exception | None = None  # raised by the source, or given to stop()
        self._steps = 0  # events still to be published while stepping
        self._dammed = False  # the newest event in the buffer is one to pause at: the source must not run past it
        self._breaks = False  # at the end of the batch in flight
        self._in_flight = False
        self._settled = asyncio.Event()  # set for a moment, for those who wait

        self._anchor_wall = 0.0
        self._anchor_time: float | None = None  # simulated seconds since 1970; None before the first event
        self._newest_s: float | None = None  # simulated time of the newest event taken out of the buffer
        self._published = 0
        self._left_out = 0
        self._position: EventId | None = None
        self._lag_s = 0.0

    # ---- what can be seen -----------------------------------------------------------------------------------------

    @property
    def state(self) -> State:
        """Where it stands in the table above."""
        return self._state

    @property
    def stands(self) -> bool:
        """Whether it is paused and nothing is in flight."""
        return self._state == "paused" and not self._in_flight

    @property
    def speed(self) -> float:
        """Simulated seconds per wall second."""
        return self._speed

    @property
    def published(self) -> int:
        """Events that were published."""
        return self._published

    @property
    def left_out(self) -> int:
        """Decisions of the run that were not published because a person's came first."""
        return self._left_out

    @property
    def position(self) -> EventId | None:
        """Where the last of them stands in its log; None before the first."""
        return self._position

    @property
    def time(self) -> datetime | None:
        """The simulated time it stands at, never past an event that is still to be published; None before the first."""
        now_s = self._now_s()
        return None if now_s is None else datetime.fromtimestamp(now_s, UTC)

    @property
    def lag_s(self) -> float:
        """How late the newest batch was handed to the publisher, wall seconds; 0 at full speed and when stepping."""
        return self._lag_s

    # ---- commands -------------------------------------------------------------------------------------------------

    def pause(self) -> None:
        """Publish nothing more; a batch in flight is still counted."""
        self._bend()
        self._move("pause")

    def resume(self) -> None:
        """Go on from where it stands."""
        self._bend()
        self._move("resume")

    def step(self, events: int = 1) -> None:
        """Publish exactly so many events at once, then pause; while it steps already, so many more.

        Raises:
            ValueError: if ``events`` is not positive.
        """
        if events < 1:
            raise ValueError(f"cannot step {events} events; give 1 or more")
        self._bend()
        self._steps = events + (self._steps if self._state == "stepping" else 0)
        self._move("step")

    def set_speed(self, speed: float) -> None:
        """Go on at another speed from where it stands.

        Raises:
            ValueError: if it is not above 0 (``pause()`` stops time; ``math.inf`` is full speed).
        """
        checked = _checked_speed(speed)
        self._bend()
        self._speed = checked
        self._changed.set()
        self._tell()

    def stop(self, error: Exception | None = None) -> None:
        """End after the batch in flight; with an ``error``, ``run()`` raises it."""
        if self._state in _RUNNING:
            self._error = error
            self._exhausted = True
            self._buffer.clear()
            self._changed.set()

    async def settled(self) -> None:
        """Return once the last command has had its effect: steps are taken, a paused player has nothing in flight."""
        while self._state == "stepping" or (self._state == "paused" and self._in_flight):
            await self._settled.wait()

    async def run(self) -> None:
        """Play until the events end, or ``stop()``.

        Raises:
            RuntimeError: if it was run before; a player plays once.
            Exception: whatever the source raised (all events before it are published), or the publisher.
        """
        if self._started:
            raise RuntimeError("this player has run already; make a new one")
        self._started = True
        cause: _Cause = "fail"
        try:
            await self._play()
            cause = "end"
        except asyncio.CancelledError:
            cause = "cancel"
            raise
        finally:
            self._anchor_time = self._newest_s  # not where the line went while the end came late
            self._move(cause)
            if isinstance(self._events, Generator):
                self._events.close()  # it may hold a file

    # ---- playing --------------------------------------------------------------------------------------------------

    async def _play(self) -> None:
        while True:
            self._changed.clear()
            await self._fill()
            batch = self._take()
            if batch:
                await self._send(batch)
            elif self._exhausted and not self._buffer:
                break
            else:
                await self._wait()
        if self._error is not None:
            raise self._error

    async def _fill(self) -> None:
        """Read from the source what may be published now, and with pacing one event more; give way meanwhile."""
        slice_end = self._monotonic() + _SLICE_S
        while self._wants_more():
            try:
                event = next(self._events)
                waiting = _Waiting(event, event.time.timestamp())
            except StopIteration:
                self._exhausted = True
            except Exception as error:  # noqa: BLE001 - raised by _play when the events before it are published
                self._error = error
                self._exhausted = True
            else:
                if self._anchor_time is None:
                    self._anchor_wall = self._monotonic()
                    self._anchor_time = waiting.time_s
                self._buffer.append(waiting)
                self._dammed = self._breaks_at(event)
            if self._monotonic() >= slice_end:
                await asyncio.sleep(0)
                slice_end = self._monotonic() + _SLICE_S

    def _wants_more(self) -> bool:
        if self._exhausted or self._breaks or len(self._buffer) >= self._limit():
            return False
        if self._dammed and self._buffer:
            return False
        return not self._buffer or self._late_s(self._buffer[-1]) >= -_EARLY_S

    def _take(self) -> list[Event]:
        """What is to be published now, out of the buffer."""
        buffer = self._buffer
        limit = self._limit()
        batch: list[Event] = []
        while buffer and len(batch) < limit:
            late_s = self._late_s(buffer[0])
            if late_s < -_EARLY_S:
                break
            if not batch:
                self._lag_s = max(0.0, late_s)
            event, self._newest_s = buffer.popleft()
            batch.append(event)
            if self._breaks_at(event):
                self._breaks = True
                break
        if batch and not self._paces():
            self._anchor_time = self._newest_s
        return batch

    def _breaks_at(self, event: Event) -> bool:
        return self.watcher is not None and self.watcher.breaks(event)

    async def _send(self, batch: list[Event]) -> None:
        """Publish a batch, and read the next one from the source meanwhile."""
        stepping = self._state == "stepping"
        if stepping:
            self._steps -= len(batch)
        sending = asyncio.ensure_future(self._publish_in_time(batch))
        self._in_flight = True
        try:
            await self._fill()
            await asyncio.wait({sending})  # unlike awaiting it, being cancelled here leaves the batch alone
        except asyncio.CancelledError:
            await asyncio.wait({sending}, timeout=_LAST_BATCH_S)
            raise
        finally:
            self._in_flight = False
            sending.cancel()  # of no effect when it is done
            if sending.done() and not sending.cancelled():
                sending.exception()  # seen, also when what is raised here is that we are cancelled
        sending.result()  # raises what the publisher raised
        if self._breaks:
            self._breaks = False
            self._anchor_time = self._newest_s  # it stands at that event, however long publishing it took
            self._move("break")
        elif stepping and not self._steps:
            self._move("stepped")
        if self._state == "paused":
            self._tell()

    async def _publish_in_time(self, batch: Sequence[Event]) -> None:
        """Publish what of a batch does not come after a person's decision, and count it."""
        while batch:
            try:
                reply = await self._publish(batch)
            except ApprovalDecided as error:
                if not error.late:
                    raise  # nothing would change
                self._published += error.stored
                self._left_out += len(error.late)
                self._tell_published(batch[: error.stored])
                batch = [event for n, event in enumerate(batch) if n >= error.stored and n not in error.late]
            else:
                self._published += len(batch)
                self._position = EventId(reply.epoch, reply.last)
                self._tell_published(batch)
                return

    async def _wait(self) -> None:
        """Until the next event is due or a command comes."""
        command = asyncio.ensure_future(self._changed.wait())
        waits: set[asyncio.Future[Any]] = {command}
        if self._paces() and self._buffer:
            waits.add(asyncio.ensure_future(self._sleep(-self._late_s(self._buffer[0]))))
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()

    # ---- the clock ------------------------------------------------------------------------------------------------

    def _paces(self) -> bool:
        """Whether simulated time is a line over wall time now; else it stands at the newest event."""
        return self._state == "playing" and math.isfinite(self._speed)

    def _limit(self) -> int:
        """How many events may be published at once."""
        if self._state == "paused":
            return 0
        return min(self._steps, MAX_BATCH_EVENTS) if self._state == "stepping" else MAX_BATCH_EVENTS

    def _late_s(self, waiting: _Waiting) -> float:
        """How long an event is overdue, wall seconds; negative before. Without pacing everything is due now."""
        if not self._paces():
            return 0.0
        assert self._anchor_time is not None
        return self._monotonic() - self._anchor_wall - (waiting.time_s - self._anchor_time) / self._speed

    def _now_s(self) -> float | None:
        """Simulated seconds since 1970; never past an event that is still to be published."""
        if self._anchor_time is None or not self._paces():
            return self._anchor_time
        line = self._anchor_time + (self._monotonic() - self._anchor_wall) * self._speed
        return max(self._anchor_time, min(line, self._buffer[0].time_s)) if self._buffer else line

    def _bend(self) -> None:
        """Begin a new line where the player stands now."""
        self._anchor_time = self._now_s()
        self._anchor_wall = self._monotonic()

    def _move(self, cause: _Cause) -> None:
        """Change the state by the table, and let ``run()`` look again."""
        before, self._state = self._state, _TRANSITIONS.get((self._state, cause), self._state)
        self._changed.set()
        if self._state != before:
            self._tell()

    def _tell(self) -> None:
        """Wake those who wait for an effect, and tell who looks on."""
        self._settled.set()
        self._settled.clear()
        if self.watcher is not None:
            self.watcher.changed()

    def _tell_published(self, events: Sequence[Event]) -> None:
        if self.watcher is not None and events:
            self.watcher.published(events)


class _Waiting(NamedTuple):
    """An event that was read and not yet published."""

    event: Event
    time_s: float
    """Simulated seconds since 1970."""


def _checked_speed(speed: float) -> float:
    if not speed > 0:  # NaN fails this too
        raise ValueError(f"speed must be above 0, not {speed!r} (simulated seconds per wall second; inf is full speed)")
    return speed
