"""Runs that are steered from a notebook: presets in their own process, scenarios and iterables beside the cells."""

from __future__ import annotations

import asyncio
import math
from datetime import UTC, datetime, timedelta

import pytest
from steering import undisturbed

from syndarix_rt.client import DebugClient
from syndarix_rt.errors import RpcError, StreamError, SyndarixError
from syndarix_rt.events import Event
from syndarix_rt.notebook import Workbench
from syndarix_rt.simulation import Scenario
from syndarix_rt.simulation.settings import CiOutage

DEADLINE_S = 60


@pytest.fixture
async def bench(redis_url):
    """A workbench with a server of its own, over the real Redis."""
    async with await Workbench.start(redis_url=redis_url, project="apollo") as bench:
        yield bench


def ticks():
    start = datetime(2026, 1, 1, tzinfo=UTC)
    for n in range(100_000):
        yield Event.new("my_tick", {"n": n}, project="apollo", id=f"tick-{n}", time=start + timedelta(seconds=n))


def published(bench):
    return bench.frame("apollo", replay="all")


@pytest.mark.parametrize("kind", ["preset", "scenario"])
async def test_a_run_is_paused_stepped_sped_up_and_given_a_fault(bench, kind):
    what = "demo_small" if kind == "preset" else Scenario.preset("demo_small")
    run = bench.play(what, speed=60, seed=7)
    assert not run.pause().done or kind == "scenario"  # a process is not up at once, and nobody waits for it here
    paused = await run.pause()
    assert paused.state == "paused"
    state = await run.step(20)
    assert state.published == paused.published + 20 == len(published(bench))
    assert run.state.state == "paused"
    assert run.status.startswith("demo_small (seed 7) stands at 2026-01-05 09:")
    assert (await run.set_breakpoints("fault_started")).breakpoints == [{"type": "fault_started"}]
    for how in (("ci_outage", {"minutes": 5}), (CiOutage(minutes=5), {}), ({"kind": "ci_outage", "minutes": 5}, {})):
        await run.inject(how[0], **how[1])
    await run.inject({"type": "my_note", "data": {"text": "here"}})
    await run.inject(Event.new("my_note", {}, project="apollo", id="e-1", time=datetime(2026, 1, 5, tzinfo=UTC)))
    assert (await run.set_speed(math.inf)).speed == "max"
    await run.resume()
    while run.state.state != "paused":
        await asyncio.sleep(0.01)
    frame = published(bench)
    assert frame["type"].iloc[-1] == "fault_started"
    assert "at a breakpoint (fault_started)" in run.status
    assert (await run.inspect("faults"))["count"] == 1
    await run.set_breakpoints()
    await run.step(500)
    assert (published(bench)["type"] == "fault_started").sum() == 3
    assert (published(bench)["type"] == "my_note").sum() == 2
    run.stop()


async def test_a_run_that_was_steered_says_the_same_as_an_undisturbed_one(bench):
    run = bench.play("demo_small", speed=600, seed=7)
    for _ in range(3):
        await run.pause()
        await run.step(7)
        await run.resume()
    state = await run.pause()
    frame = published(bench)
    assert frame["id"].tolist() == [event.id for event in undisturbed(state.published)]
    run.stop()


async def test_an_iterable_is_steered_and_takes_no_faults(bench):
    run = bench.play(ticks(), speed=10)
    state = await run.pause()
    assert (state.state, state.simulation) == ("paused", None)
    assert (await run.step(5)).published == state.published + 5
    with pytest.raises(RpcError, match="there already"):
        await run.inject("ci_outage", minutes=5)
    assert "there already" in run.status
    asked = run.step(3)
    assert asked.result(20).published == state.published + 8
    assert repr(asked) == (
        f"<step 3: stands at {run.state.time:%Y-%m-%d %H:%M:%S} of simulated time, {run.published} events published>"
    )
    run.stop()
    with pytest.raises(SyndarixError, match="ended after"):
        await run.resume()


@pytest.mark.parametrize("kind", ["preset", "scenario"])
async def test_others_find_and_steer_what_a_notebook_plays_and_the_notebook_sees_it(bench, kind):
    run = bench.play("demo_small" if kind == "preset" else Scenario.preset("demo_small"), speed=60, seed=7)
    async with DebugClient(bench.url, "apollo") as debug:
        while not (runs := await debug.runs()):
            await asyncio.sleep(0.05)
        (found,) = runs
        assert found.name == "demo_small (seed 7)"
        state = await debug.pause(found.run)
        async with asyncio.timeout(DEADLINE_S):
            while not run.stands:
                await asyncio.sleep(0.01)
        assert (run.state.state, run.state.published) == ("paused", state.published)
        assert (await bench.step(3)).published == state.published + 3
        assert (await debug.attach()).published == state.published + 3
    run.stop()


async def test_the_workbench_steers_what_plays_into_a_project_whoever_began_it(bench):
    with pytest.raises(RpcError, match="none plays into 'apollo'"):
        await bench.pause()
    async with await Workbench.connect(bench.url, project="apollo") as other:
        run = other.play("demo_small", speed=60, seed=7)
        assert (await run.pause()).state == "paused"
        before = (await bench.pause()).published
        assert (await bench.step(4)).published == before + 4
        assert (await bench.set_speed(120)).speed == 120
        await bench.inject("ci_outage", minutes=5)
        assert (await bench.resume()).state == "playing"
        assert run.state.speed == 120
        run.stop()


async def test_a_preset_that_does_not_come_up_says_so(bench):
    first = bench.play(ticks(), speed=10)
    await first.pause()
    second = bench.play("demo_small", speed=60)
    with pytest.raises((SyndarixError, StreamError), match="plays into project 'apollo'"):
        await second.pause()
    first.stop()
