from __future__ import annotations

import asyncio
import contextlib
import math
import time
from datetime import timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from playback_clock import START, Clock, Sink, event_at, settle, ticks

from syndarix_rt.broker.protocol import MAX_BATCH_EVENTS
from syndarix_rt.events import EventId
from syndarix_rt.playback import Player


@contextlib.asynccontextmanager
async def playing(events, *, speed=1.0, takes_s=0.0, watcher=None):
    clock = Clock()
    sink = Sink(clock, takes_s)
    player = Player(events, sink.publish, speed=speed, monotonic=clock.monotonic, sleep=clock.sleep)
    player.watcher = watcher
    task = asyncio.create_task(player.run())
    await settle()
    try:
        yield player, sink, clock, task
    finally:
        task.cancel()
        await clock.advance(100)  # a batch in flight is waited for
        await asyncio.wait({task})


def walls(sink, clock_start=1000.0):
    return [(pytest.approx(wall - clock_start), [event.data["n"] for event in batch]) for wall, batch in sink.batches]


async def test_events_are_published_when_the_speed_makes_them_due():
    events = [event_at(0, 0), event_at(60, 1), event_at(60, 2), event_at(150, 3)]
    async with playing(events, speed=60) as (player, sink, clock, task):
        assert sink.numbers == [0]
        await clock.advance(0.9)
        assert sink.numbers == [0]
        await clock.advance(10)
        assert walls(sink) == [(0.0, [0]), (1.0, [1, 2]), (2.5, [3])]
        await task
    assert player.state == "ended"
    assert player.published == 4
    assert player.position == EventId("testepoch", 4)
    assert player.time == START + timedelta(seconds=150)
    assert player.lag_s == 0.0


async def test_simulated_time_runs_while_playing_and_stands_while_paused():
    async with playing([event_at(0, 0), event_at(600, 1)], speed=60) as (player, _, clock, _):
        await clock.advance(2)
        assert player.time == START + timedelta(seconds=120)
        player.pause()
        await clock.advance(100)
        assert player.time == START + timedelta(seconds=120)


async def test_a_pause_holds_and_resuming_goes_on_without_a_jump():
    async with playing(ticks(4, every_s=10)) as (player, sink, clock, _):
        await clock.advance(14)
        player.pause()
        assert player.state == "paused"
        await clock.advance(1000)
        assert sink.numbers == [0, 1]
        player.resume()
        assert player.state == "playing"
        await clock.advance(5.9)
        assert sink.numbers == [0, 1]
        await clock.advance(0.1)
        assert sink.numbers == [0, 1, 2]
        await clock.advance(9.9)
        assert sink.numbers == [0, 1, 2]


async def test_another_speed_holds_at_once_and_does_not_jump():
    async with playing(ticks(5, every_s=100), speed=1) as (player, sink, clock, _):
        await clock.advance(50)
        player.set_speed(100)
        await clock.advance(0.49)
        assert sink.numbers == [0]
        await clock.advance(0.01)
        assert sink.numbers == [0, 1]
        player.set_speed(10)
        await clock.advance(9.9)
        assert sink.numbers == [0, 1]
        await clock.advance(0.1)
        assert sink.numbers == [0, 1, 2]
        player.set_speed(math.inf)
        await settle()
        assert sink.numbers == [0, 1, 2, 3, 4]


async def test_slowing_down_from_full_speed_continues_at_the_newest_event():
    source = iter(ticks(10_000, every_s=1))
    async with playing(source, speed=math.inf, takes_s=1) as (player, sink, clock, _):
        await clock.advance(1.5)
        player.set_speed(1)
        await clock.advance(0.5)
        assert len(sink.events) == 2000
        await clock.advance(1.0)
        assert sink.numbers[-1] <= 2002
        await clock.advance(10)
        assert sink.numbers == list(range(len(sink.numbers)))
        assert 2005 <= len(sink.numbers) <= 2015


@pytest.mark.parametrize("count", [1, 3, 999, 1000, 1001, 2500])
async def test_stepping_publishes_exactly_the_events_asked_for_and_pauses(count):
    async with playing(ticks(5000, every_s=3600), speed=1) as (player, sink, clock, _):
        player.pause()
        player.step(count)
        assert player.state == "stepping"
        await settle()
        assert player.state == "paused"
        assert sink.numbers == list(range(count + 1))
        await clock.advance(1e6)
        assert len(sink.events) == count + 1
        assert player.time == START + timedelta(hours=count)


async def test_steps_add_up_while_stepping():
    async with playing(ticks(100), takes_s=1) as (player, sink, clock, _):
        player.step(2)
        await clock.advance(0.5)
        player.step(3)
        await clock.advance(100)
        assert player.state == "paused"
        assert sink.numbers == list(range(1 + 2 + 3))


async def test_stepping_past_the_end_ends():
    async with playing(ticks(3, every_s=3600)) as (player, sink, _, task):
        player.step(10)
        await task
        assert sink.numbers == [0, 1, 2]
        assert player.state == "ended"


async def test_a_player_paused_before_it_runs_starts_paused():
    sink = Sink(clock := Clock())
    player = Player(ticks(3), sink.publish, monotonic=clock.monotonic, sleep=clock.sleep)
    player.pause()
    task = asyncio.create_task(player.run())
    await clock.advance(100)
    assert sink.numbers == []
    assert player.time is None
    player.step()
    await settle()
    assert sink.numbers == [0]
    player.set_speed(math.inf)
    player.resume()
    await task
    assert sink.numbers == [0, 1, 2]


async def test_being_late_never_raises_loses_nothing_and_is_reported():
    async with playing(ticks(50, every_s=0.1), takes_s=2) as (player, sink, clock, task):
        await clock.advance(2.1)
        assert player.lag_s == pytest.approx(1.9)
        await clock.advance(100)
        await task
        assert sink.numbers == list(range(50))
        assert len(sink.batches) == 4  # what became due while a batch was in flight goes in one


async def test_an_event_that_is_due_within_the_timers_grain_goes_at_once_and_is_not_late():
    async with playing([event_at(0, 0), event_at(1, 1)]) as (player, sink, clock, _):
        await clock.advance(0.9995)
        player.set_speed(1)
        await settle()
        assert sink.numbers == [0, 1]
        assert player.lag_s == 0.0


async def test_after_a_late_stretch_it_is_back_on_the_line():
    events = [*ticks(30, every_s=0.1), event_at(60, 30), event_at(70, 31)]
    async with playing(events, takes_s=2) as (player, sink, clock, _):
        await clock.advance(100)
        assert walls(sink)[-2:] == [(60.0, [30]), (70.0, [31])]
        assert player.lag_s == 0.0


async def test_a_pause_forgives_what_it_is_late_by():
    async with playing(ticks(10, every_s=1), takes_s=6.5) as (player, sink, clock, _):
        await clock.advance(6)  # the first is in flight; 1 to 5 are due, and 6 soon
        player.pause()
        assert player.time == START + timedelta(seconds=1)
        await clock.advance(50)
        player.resume()
        await clock.advance(0.5)
        assert sink.numbers == [0, 1]


async def test_an_earlier_time_than_the_one_before_is_due_at_once():
    async with playing([event_at(0, 0), event_at(10, 1), event_at(5, 2), event_at(11, 3)]) as (_, sink, clock, _):
        await clock.advance(10)
        assert sink.numbers == [0, 1, 2]
        await clock.advance(1)
        assert sink.numbers == [0, 1, 2, 3]


async def test_full_speed_sends_full_batches_in_order():
    async with playing(iter(ticks(3500, every_s=3600)), speed=math.inf) as (player, sink, _, task):
        await task
        assert [len(batch) for _, batch in sink.batches] == [1000, 1000, 1000, 500]
        assert sink.numbers == list(range(3500))
        assert player.time == START + timedelta(hours=3499)


async def test_the_next_batch_is_read_while_one_is_in_flight():
    read = []

    def source():
        for event in ticks(5000):
            read.append(event)
            yield event

    async with playing(source(), speed=math.inf, takes_s=1) as (_, sink, clock, _):
        assert len(sink.events) == MAX_BATCH_EVENTS
        assert len(read) == 2 * MAX_BATCH_EVENTS
        await clock.advance(1)
        assert len(sink.events) == 2 * MAX_BATCH_EVENTS


async def test_while_pacing_the_source_is_read_one_event_ahead():
    read = []

    def source():
        for event in ticks(100):
            read.append(event.data["n"])
            yield event

    async with playing(source()) as (_, sink, clock, _):
        await clock.advance(2.5)
        assert sink.numbers == [0, 1, 2]
        assert read == [0, 1, 2, 3]


async def test_a_slow_source_does_not_starve_the_event_loop():
    def slow():
        for event in ticks(30):
            time.sleep(0.006)  # longer than a slice, so the loop gets its turn after each event
            yield event

    turns = 0
    sink = Sink(Clock())
    player = Player(slow(), sink.publish, speed=math.inf)
    task = asyncio.create_task(player.run())
    while not sink.batches:
        turns += 1
        await asyncio.sleep(0)
    assert turns >= 30
    await task


async def test_stopping_ends_after_the_batch_in_flight():
    async with playing(ticks(5000), speed=math.inf, takes_s=1) as (player, sink, clock, task):
        player.stop()
        await clock.advance(1)
        await task
        assert player.state == "ended"
        assert player.published == len(sink.events) == 1000


async def test_stopping_with_an_error_raises_it_even_while_paused():
    async with playing(ticks(5000)) as (player, _, _, task):
        player.pause()
        player.stop(OSError("the project was taken over"))
        with pytest.raises(OSError, match="taken over"):
            await task
        assert player.state == "failed"


async def test_a_cancelled_player_waits_for_its_last_batch_and_closes_the_source():
    closed = []

    def source():
        try:
            yield from ticks(5000)
        finally:
            closed.append(True)

    async with playing(source(), speed=math.inf, takes_s=1) as (player, sink, clock, task):
        task.cancel()
        await clock.advance(1)
        with pytest.raises(asyncio.CancelledError):
            await task
        assert player.state == "cancelled"
        assert player.published == len(sink.events) == 1000
        assert closed == [True]


@pytest.mark.parametrize("moment", [0, 0.5])
async def test_a_player_is_cancelled_cleanly_while_it_waits(moment):
    async with playing(ticks(10)) as (player, sink, clock, task):
        await clock.advance(moment)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert player.published == len(sink.events) == 1


async def test_when_the_source_fails_all_events_before_it_are_published_and_its_error_is_raised():
    def source():
        yield from ticks(5, every_s=10)
        raise ValueError("line 6 is cut")

    async with playing(source()) as (player, sink, clock, task):
        await clock.advance(39)
        assert not task.done()
        await clock.advance(1)
        with pytest.raises(ValueError, match="line 6 is cut"):
            await task
        assert sink.numbers == [0, 1, 2, 3, 4]
        assert player.state == "failed"


async def test_when_the_publisher_fails_its_error_is_raised():
    async def publish(events):
        raise ConnectionError("no broker")

    player = Player(ticks(5), publish)
    with pytest.raises(ConnectionError, match="no broker"):
        await player.run()
    assert player.state == "failed"
    assert player.published == 0
    assert player.position is None


async def test_an_empty_source_ends_at_once():
    player = Player([], Sink(Clock()).publish)
    await player.run()
    assert player.state == "ended"
    assert player.time is None


async def test_after_the_end_commands_change_nothing_and_it_does_not_run_again():
    sink = Sink(Clock())
    player = Player(ticks(2), sink.publish, speed=math.inf)
    await player.run()
    player.pause()
    player.resume()
    player.step(3)
    player.stop(OSError())
    assert player.state == "ended"
    with pytest.raises(RuntimeError, match="has run already"):
        await player.run()
    assert sink.numbers == [0, 1]


@pytest.mark.parametrize("speed", [0, -1, math.nan, -math.inf])
async def test_a_speed_must_be_positive(speed):
    with pytest.raises(ValueError, match="speed must be above 0"):
        Player([], Sink(Clock()).publish, speed=speed)
    player = Player([], Sink(Clock()).publish)
    with pytest.raises(ValueError, match="speed must be above 0"):
        player.set_speed(speed)
    with pytest.raises(ValueError, match="step 0 events"):
        player.step(0)


COMMANDS = st.one_of(
    st.tuples(st.just("advance"), st.floats(0, 30)),
    st.tuples(st.just("pause")),
    st.tuples(st.just("resume")),
    st.tuples(st.just("step"), st.integers(1, 7)),
    st.tuples(st.just("set_speed"), st.sampled_from([0.1, 1.0, 7.0, 1000.0, math.inf])),
)


@settings(max_examples=60, deadline=None)
@given(
    gaps=st.lists(st.sampled_from([0.0, 0.5, 1.0, 30.0]), max_size=40),
    takes_s=st.sampled_from([0.0, 0.3, 5.0]),
    commands=st.lists(COMMANDS, max_size=25),
)
def test_whatever_the_commands_each_event_is_published_once_in_order_and_never_early(gaps, takes_s, commands):
    times = [sum(gaps[: n + 1]) for n in range(len(gaps))]
    events = [event_at(at, number) for number, at in enumerate(times)]

    async def play():
        async with playing(events, takes_s=takes_s) as (player, sink, clock, task):
            for name, *arguments in commands:
                before = len(sink.events)
                if name == "advance":
                    speed, state, now = player.speed, player.state, player.time
                    await clock.advance(*arguments)
                    fresh = sink.events[before:]
                    if state == "paused":
                        assert not fresh
                    elif state == "playing" and math.isfinite(speed) and now is not None:
                        horizon = now + timedelta(seconds=(arguments[0] + 0.01) * speed)
                        assert all(event.time <= horizon for event in fresh)
                else:
                    getattr(player, name)(*arguments)
                assert sink.numbers == list(range(len(sink.numbers)))
            player.set_speed(math.inf)
            player.resume()
            await clock.advance(10_000)
            await task
            assert sink.numbers == list(range(len(events)))
            assert player.published == len(events)

    asyncio.run(play())


class Stops:
    """Looks on, and pauses at some events."""

    def __init__(self, *numbers):
        self.numbers, self.seen, self.changes = set(numbers), [], 0

    def breaks(self, event):
        return event.data["n"] in self.numbers

    def published(self, events):
        self.seen += [event.data["n"] for event in events]

    def changed(self):
        self.changes += 1


@pytest.mark.parametrize("speed", [1, 60, math.inf])
async def test_at_a_break_nothing_was_read_beyond_its_event(speed):
    read = []

    def source():
        for event in ticks(5000):
            read.append(event.data["n"])
            yield event

    watcher = Stops(7, 8, 1500)
    async with playing(source(), speed=speed, takes_s=0.5, watcher=watcher) as (player, sink, clock, _):
        for stop in (7, 8, 1500):
            player.resume()
            await clock.advance(2000)
            assert player.state == "paused"
            assert player.stands
            assert sink.numbers == watcher.seen == list(range(stop + 1))
            assert len(read) == stop + 1
            assert player.time == START + timedelta(seconds=stop)
        watcher.numbers = {1600}
        player.step(50)
        await clock.advance(10)
        assert (len(read), player.published) == (1551, 1551)
        player.step(1000)
        await clock.advance(10)
        assert read[-1] == sink.numbers[-1] == 1600
        watcher.numbers = set()
        player.set_speed(math.inf)
        player.resume()
        await clock.advance(10)
        assert player.state == "ended"
        assert sink.numbers == watcher.seen == list(range(5000))


async def test_a_break_that_is_taken_back_before_its_event_stops_nothing():
    watcher = Stops(5)
    async with playing(ticks(20), speed=1, watcher=watcher) as (player, sink, clock, _):
        await clock.advance(4.5)  # the event at 5 s was read and found to be one
        watcher.numbers = set()
        await clock.advance(10)
        assert player.state == "playing"
        assert sink.numbers == list(range(15))


async def test_settled_waits_for_the_batch_in_flight_and_for_steps():
    async with playing(ticks(20), speed=1, takes_s=3) as (player, sink, clock, _):
        player.pause()
        settled = asyncio.create_task(player.settled())
        await settle()
        assert not player.stands
        assert not settled.done()
        await clock.advance(3)
        assert player.stands
        await settled
        player.step(2)
        settled = asyncio.create_task(player.settled())
        await clock.advance(2)
        assert not settled.done()
        await clock.advance(2)
        await settled
        assert sink.numbers == [0, 1, 2]
