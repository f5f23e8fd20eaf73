"""A clock that stands until a test moves it, and what plays on it."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta

from syndarix_rt.broker.protocol import Published
from syndarix_rt.events import Event

START = datetime(2026, 1, 1, 9, tzinfo=UTC)


def event_at(seconds, number=0, project="apollo", **data):
    return Event.new(
        "test_tick",
        {"n": number, **data},
        project=project,
        id=f"tick-{number}",
        time=START + timedelta(seconds=seconds),
    )


def ticks(count, every_s=1.0):
    return [event_at(number * every_s, number) for number in range(count)]


def lines_of(events):
    """The recording of these events."""
    return b"".join(event.encode() + b"\n" for event in events)


class Clock:
    """Wall time by hand: ``monotonic`` and ``sleep`` for a `Player`."""

    def __init__(self):
        self.now = 1000.0
        self._sleepers = []

    def monotonic(self):
        return self.now

    async def sleep(self, seconds):
        wake = asyncio.get_running_loop().create_future()
        self._sleepers.append((self.now + seconds, wake))
        await wake

    async def advance(self, seconds):
        """Let time pass, stopping wherever somebody wakes up."""
        await settle()
        end = self.now + seconds
        while True:
            self._sleepers = [(at, wake) for at, wake in self._sleepers if not wake.done()]
            due = [(at, wake) for at, wake in self._sleepers if at <= end]
            if not due:
                break
            at, wake = min(due, key=lambda sleeper: sleeper[0])
            self.now = max(self.now, at)
            wake.set_result(None)
            await settle()
        self.now = end
        await settle()


async def settle():
    """Until nothing can happen without the clock; no task here waits for anything else."""
    for _ in range(50):
        await asyncio.sleep(0)


class Sink:
    """A publisher that keeps what it got, with the wall time at which it got it."""

    def __init__(self, clock, takes_s=0.0):
        self.batches = []
        self.in_flight = 0
        self._clock = clock
        self._takes_s = takes_s

    @property
    def events(self):
        return [event for _, batch in self.batches for event in batch]

    @property
    def numbers(self):
        return [event.data["n"] for event in self.events]

    async def publish(self, events):
        assert not self.in_flight, "one batch at a time"
        self.in_flight += 1
        first = len(self.events) + 1
        self.batches.append((self._clock.now, list(events)))
        try:
            if self._takes_s:
                await self._clock.sleep(self._takes_s)
            else:
                await asyncio.sleep(0)
        finally:
            self.in_flight -= 1
        return Published(epoch="testepoch", first=first, last=first + len(events) - 1)
