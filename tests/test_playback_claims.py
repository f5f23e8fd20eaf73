from __future__ import annotations

import asyncio
import math

import pytest
from playback_clock import Clock, settle, ticks

from syndarix_rt.broker import MemoryBroker, Publisher
from syndarix_rt.broker.protocol import project_channel
from syndarix_rt.errors import BrokerUnavailable, ProjectBusy
from syndarix_rt.playback import Player, claim

APOLLO = project_channel("apollo")


def refuse(error):
    raise AssertionError(f"lost: {error}")


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
async def broker(clock):
    broker = MemoryBroker(clock=clock.monotonic)
    yield broker
    await broker.aclose()


async def test_a_second_run_is_refused_and_told_who_plays_and_what_to_do(broker):
    async with claim(Publisher(broker, "apollo"), "first", on_lost=refuse):
        with pytest.raises(ProjectBusy) as caught:
            async with claim(Publisher(broker, "apollo"), "second", on_lost=refuse):
                pytest.fail("entered")
        text = str(caught.value)
        assert "first plays into project 'apollo'" in text
        assert "replace" in text
        assert "append" in text
        async with claim(Publisher(broker, "zeus"), "second", on_lost=refuse):
            pass  # another project is free
    async with claim(Publisher(broker, "apollo"), "second", on_lost=refuse):
        pass  # the first one let it go


async def test_a_claim_is_kept_for_as_long_as_the_run_plays(broker, clock):
    async with claim(Publisher(broker, "apollo"), "first", on_lost=refuse, sleep=clock.sleep):
        for _ in range(20):
            await clock.advance(3)
            assert await broker.claim(APOLLO, "second", 10) == "first"


async def test_the_claim_of_a_killed_run_lapses(broker, clock):
    assert await broker.claim(APOLLO, "killed", 10) == "killed"
    clock.now += 9.9
    with pytest.raises(ProjectBusy, match="killed plays"):
        async with claim(Publisher(broker, "apollo"), "next", on_lost=refuse):
            pytest.fail("entered")
    clock.now += 0.2
    async with claim(Publisher(broker, "apollo"), "next", on_lost=refuse):
        pass


async def test_appending_plays_beside_the_run_that_holds_the_project(broker, clock):
    async with claim(Publisher(broker, "apollo"), "first", on_lost=refuse, sleep=clock.sleep):
        async with claim(Publisher(broker, "apollo"), "second", append=True, on_lost=refuse, sleep=clock.sleep):
            await clock.advance(60)
        await clock.advance(60)
        assert await broker.claim(APOLLO, "third", 10) == "first"
    async with claim(Publisher(broker, "apollo"), "second", append=True, on_lost=refuse):
        assert await broker.claim(APOLLO, "third", 10) == "second"


async def test_replacing_stops_the_other_run_and_begins_a_new_epoch_that_has_none_of_its_events(broker, clock):
    first = Player(ticks(100_000), Publisher(broker, "apollo").publish, monotonic=clock.monotonic, sleep=clock.sleep)

    async def play_first():
        async with claim(Publisher(broker, "apollo"), "first", on_lost=first.stop, sleep=clock.sleep):
            await first.run()

    async def play_second():
        player = Player(iter(ticks(3)), Publisher(broker, "apollo").publish, speed=math.inf)
        async with claim(Publisher(broker, "apollo"), "second", replace=True, on_lost=refuse, sleep=clock.sleep):
            await player.run()

    running = asyncio.create_task(play_first())
    await clock.advance(7.5)
    before = await broker.position(APOLLO)
    assert before.last == 8
    replacing = asyncio.create_task(play_second())
    await clock.advance(60)
    with pytest.raises(ProjectBusy, match="second took over project 'apollo' from first"):
        await running
    assert first.state == "failed"
    await replacing
    after = await broker.position(APOLLO)
    assert after.epoch != before.epoch
    assert after.last == 3


async def test_replacing_and_appending_at_once_is_refused(broker):
    with pytest.raises(ValueError, match="give one of them"):
        async with claim(Publisher(broker, "apollo"), "first", replace=True, append=True, on_lost=refuse):
            pytest.fail("entered")


async def test_replacing_begins_a_new_epoch_also_where_nobody_plays(broker):
    before = await broker.position(APOLLO)
    async with claim(Publisher(broker, "apollo"), "first", replace=True, on_lost=refuse):
        pass
    assert (await broker.position(APOLLO)).epoch != before.epoch


async def test_a_broker_that_is_away_for_a_while_ends_no_run(broker, clock, monkeypatch):
    async with claim(Publisher(broker, "apollo"), "first", on_lost=refuse, sleep=clock.sleep):
        with monkeypatch.context() as patch:

            async def away(*_):
                raise BrokerUnavailable("no connection")

            patch.setattr(broker, "claim", away)
            await clock.advance(60)
        await clock.advance(3)
        assert await broker.claim(APOLLO, "second", 10) == "first"


async def test_a_run_whose_claim_lapsed_and_was_taken_is_told(broker, clock):
    lost = []
    async with claim(Publisher(broker, "apollo"), "first", on_lost=lost.append, sleep=clock.sleep):
        await settle()
        clock.now += 11  # this process stood still
        assert await broker.claim(APOLLO, "second", 10) == "second"
        await clock.advance(3)
        assert [str(error) for error in lost] == ["second took over project 'apollo' from first"]
    assert await broker.claim(APOLLO, "third", 10) == "second", "leaving does not release what another one holds"


async def test_the_claim_goes_when_playing_fails(broker):
    with pytest.raises(ZeroDivisionError):
        async with claim(Publisher(broker, "apollo"), "first", on_lost=refuse):
            raise ZeroDivisionError
    async with claim(Publisher(broker, "apollo"), "second", on_lost=refuse):
        pass


async def test_every_run_that_plays_into_a_project_is_known_for_as_long_as_it_does(broker, clock):
    async with claim(Publisher(broker, "apollo"), "first", on_lost=refuse, sleep=clock.sleep):
        with pytest.raises(ProjectBusy):
            async with claim(Publisher(broker, "apollo"), "refused", on_lost=refuse):
                pytest.fail("entered")
        assert await broker.claimants(APOLLO) == ["first"]
        async with claim(Publisher(broker, "apollo"), "second", append=True, on_lost=refuse, sleep=clock.sleep):
            await clock.advance(60)
            assert await broker.claimants(APOLLO) == ["first", "second"]
        assert await broker.claimants(APOLLO) == ["first"]
    assert await broker.claimants(APOLLO) == []


async def test_a_run_that_plays_beside_another_holds_the_project_after_it(broker, clock):
    lost = []
    first = claim(Publisher(broker, "apollo"), "first", on_lost=refuse, sleep=clock.sleep)
    await first.__aenter__()
    async with claim(Publisher(broker, "apollo"), "second", append=True, on_lost=lost.append, sleep=clock.sleep):
        await clock.advance(60)
        await first.__aexit__(None, None, None)
        await clock.advance(3)
        assert await broker.claim(APOLLO, "third", 10) == "second"
        await broker.release(APOLLO, "second")
        assert await broker.claim(APOLLO, "third", 10) == "third"
        await clock.advance(3)
        assert [str(error) for error in lost] == ["third took over project 'apollo' from second"]
