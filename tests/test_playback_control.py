"""A playing run and those who steer it, over its control channel in a broker."""

from __future__ import annotations

import asyncio
import math
from datetime import timedelta
from itertools import count, islice

import msgspec
import pytest
from playback_clock import Clock, event_at, ticks
from steering import DEADLINE_S, demo, plain, steered, undisturbed

from syndarix_rt.broker import MemoryBroker, RedisBroker
from syndarix_rt.broker.protocol import control_channel, project_channel
from syndarix_rt.delivery import jsonrpc
from syndarix_rt.delivery.approvals import DECISION_SOURCE
from syndarix_rt.errors import RpcError
from syndarix_rt.events import Event
from syndarix_rt.playback.control import LEASE_S
from syndarix_rt.playback.inspection import Inspection
from syndarix_rt.simulation import Simulation, validate


def endless(every_s=1):
    return (event_at(n * every_s, n) for n in count())


def at_a_breakpoint(method, state):
    return method == "run.stopped" and state.stopped.reason == "breakpoint"


@pytest.fixture(params=["memory", "redis"])
async def broker(request, redis_url):
    broker = MemoryBroker() if request.param == "memory" else RedisBroker(redis_url)
    yield broker
    await broker.aclose()


async def test_a_pause_holds_after_what_is_published_and_loses_nothing(broker):
    async with steered(demo(), broker=broker, speed=600) as run:
        await run.ask("run.resume")
        while run.player.published < 50:
            await asyncio.sleep(0.01)
        state = await run.ask("run.pause")
        assert (state.state, state.stopped.reason) == ("paused", "pause")
        log = await run.log()
        assert len(log) == state.published == run.player.published >= 50
        position = await broker.position(project_channel("apollo"))
        assert state.position == str(position.top)
        await run.ask("run.setSpeed", {"speed": "max"})
        await run.ask("run.resume")
        while run.player.published < 2_000:
            await asyncio.sleep(0.01)
        await run.ask("run.pause")
        log = await run.log()
        assert plain(log) == plain(undisturbed(len(log)))


async def test_steps_publish_exactly_so_many_events_and_the_answer_comes_when_they_stand(broker):
    async with steered(demo(), broker=broker) as run:
        for steps in (1, 10, 1_500):
            before = len(await run.log())
            state = await run.ask("run.step", {"events": steps})
            assert (state.state, state.stopped.reason) == ("paused", "step")
            assert len(await run.log()) == state.published == before + steps
        assert plain(await run.log()) == plain(undisturbed(1_511))


async def test_commands_reach_a_run_that_steps(broker):
    async with steered(endless(), broker=broker) as run:
        stepping = await run.asker.send("run.step", {"events": 1_000_000})
        await run.told(lambda _, state: state.state == "stepping")
        while not run.player.published:
            await asyncio.sleep(0)
        paused = await run.ask("run.pause")
        assert 0 < paused.published < 1_000_000
        assert (await run.asker.answer(stepping))["state"] == "paused"


async def test_another_speed_holds_at_once_and_is_told():
    clock = Clock()
    async with steered(ticks(1_000), clock=clock, speed=1, attended=True) as run:
        await run.ask("run.resume")
        await clock.advance(2.5)
        assert run.player.published == 3
        state = await run.ask("run.setSpeed", {"speed": 10})
        assert state.speed == 10
        await clock.advance(1)
        assert run.player.published == 13
        assert (await run.ask("run.setSpeed", {"speed": "max"})).speed == "max"
        assert run.player.speed == math.inf
        await run.told(lambda _, state: state.speed == 10)
        await run.told(lambda _, state: state.speed == "max")


async def test_a_breakpoint_stops_right_after_its_event(broker):
    async with steered(demo(), broker=broker, speed=math.inf) as run:
        where = 'reason == "tests" and duration_s > 1'
        state = await run.ask("run.setBreakpoints", [{"type": "pipeline_failed", "where": where}])
        assert state.breakpoints == [{"type": "pipeline_failed", "where": where}]
        for _ in range(3):
            before = len(await run.log())
            await run.ask("run.resume")
            _, state = await run.told(
                lambda method, state, before=before: method == "run.stopped" and state.published > before
            )
            log = await run.log()
            assert len(log) == state.published
            assert [event.type for event in log[before:]].count("pipeline_failed") == 1
            assert log[-1].type == "pipeline_failed"
            assert (state.stopped.reason, state.stopped.breakpoint) == ("breakpoint", 0)
            about = state.stopped.event
            assert (about["id"], about["position"]) == (log[-1].id, state.position)
            assert state.time == log[-1].time
        assert plain(log) == plain(undisturbed(len(log)))
        assert (await run.ask("run.setBreakpoints", {"breakpoints": []})).breakpoints == []


async def test_a_breakpoint_cuts_steps_short():
    async with steered(ticks(100)) as run:
        await run.ask("run.setBreakpoints", [{"where": "n == 4"}, {"type": "test_*", "where": "n == 7"}])
        state = await run.ask("run.step", {"events": 50})
        assert (state.published, state.stopped.reason, state.stopped.breakpoint) == (5, "breakpoint", 0)
        state = await run.ask("run.step", {"events": 2})
        assert (state.published, state.stopped.reason) == (7, "step")
        state = await run.ask("run.step", {"events": 50})
        assert (state.published, state.stopped.breakpoint) == (8, 1)


async def test_what_is_inspected_at_a_breakpoint_is_what_the_simulation_says_by_itself_up_to_there(broker):
    async with steered(demo(), broker=broker, speed=math.inf) as run:
        await run.ask("run.setBreakpoints", [{"type": "pipeline_failed"}])
        await run.ask("run.resume")
        _, state = await run.told(at_a_breakpoint)
        known = Inspection("apollo")
        for event in undisturbed(state.published):
            known.add(event)
        agents = (await run.ask("run.inspect", {"entity": "agents"}))["agents"]
        assert any(agent["state"] == "working" for agent in agents)
        for entity in ("project", "queues", "agents", "prs", "issues", "pipelines", "agent_runs", "sprints"):
            assert await run.ask("run.inspect", {"entity": entity}) == msgspec.to_builtins(known.look(entity))
        pipeline = await run.ask("run.inspect", {"entity": f"pipeline:{state.stopped.event['subject']}"})
        assert pipeline["state"] == "failed"
        for agent in agents:
            entity = f"agent:{agent['agent_id']}"
            assert await run.ask("run.inspect", {"entity": entity}) == msgspec.to_builtins(known.look(entity))
        assert await run.ask("run.inspect") == await run.ask("run.attach")


async def test_a_fault_and_an_event_that_are_injected_are_seen_in_the_stream_and_can_be_had_again(broker):
    simulation = demo()
    async with steered(simulation, broker=broker) as run:
        await run.ask("run.step", {"events": 300})
        await run.ask("run.inject", {"fault": {"kind": "ci_outage", "minutes": 5}})
        await run.ask("run.inject", {"event": {"type": "note_made", "data": {"text": "here"}}})
        await run.ask("run.step", {"events": 2_000})
        log = await run.log()
        assert plain(log[:300]) == plain(undisturbed(300))
        begin, note = (next(e for e in log if e.type == kind) for kind in ("fault_started", "note_made"))
        assert begin.data["kind"] == "ci_outage"
        assert log.index(begin) <= 303
        assert log.index(note) <= 303
        assert note.data == {"text": "here"}
        end = next(e for e in log if e.type == "fault_ended")
        assert end.time - begin.time == timedelta(minutes=5)
        assert validate(log).ok
        again = Simulation(simulation.scenario, 7, commands=simulation.commands)
        assert plain(islice(again, len(log))) == plain(log)


async def test_a_run_goes_on_from_a_persons_decision_and_does_not_decide_again(broker):
    simulation = demo()
    async with steered(simulation, broker=broker) as run:
        await run.ask("run.setBreakpoints", [{"type": "approval_required"}])
        await run.ask("run.setSpeed", {"speed": "max"})
        await run.ask("run.resume")
        _, state = await run.told(at_a_breakpoint)
        asked = (await run.log())[-1]
        approval = asked.data["approval_id"]
        channel = project_channel("apollo")
        decided = await broker.decide(channel, approval, "rejected", at=asked.time, by="Ana", comment="not now")
        while not simulation.commands:
            await asyncio.sleep(0.01)
        await run.ask("run.setBreakpoints", [])
        await run.ask("run.step", {"events": 1_500})
        log = await run.log()
        resolved = [e for e in log if e.type == "approval_resolved" and e.data["approval_id"] == approval]
        assert [event.data["by"] for event in resolved] == ["Ana"]
        assert decided.offset == state.published + 1
        closed = next(e for e in log if e.type == "pr_closed" and e.data["pr_id"] == asked.data["pr_id"])
        assert closed.cause == resolved[0].id
        assert run.player.left_out == 0
        assert len(log) == run.player.published + 1
        assert (await run.ask("run.inspect", {"entity": f"approval:{approval}"}))["by"] == "Ana"
        assert validate(log).ok


async def test_an_event_of_another_type_that_names_the_source_of_decisions_is_none_and_ends_nothing():
    simulation = demo()
    async with steered(simulation, speed=math.inf) as run:
        await run.ask("run.setBreakpoints", [{"type": "approval_required"}])
        await run.ask("run.resume")
        await run.told(at_a_breakpoint)
        asked = (await run.log())[-1]
        about = {"project": "apollo", "id": "x-1", "time": asked.time, "simulation": simulation.id}
        foreign = Event.new("notes_decided", {}, source=DECISION_SOURCE, **about)
        channel = project_channel("apollo")
        await run.broker.publish(channel, [foreign.encode()])
        await run.broker.decide(channel, asked.data["approval_id"], "rejected", at=asked.time)
        async with asyncio.timeout(DEADLINE_S):
            while not simulation.commands:
                await asyncio.sleep(0.01)
        assert [sent.command.decision for sent in simulation.commands] == ["rejected"]


async def test_all_who_steer_are_told_the_same():
    async with steered(ticks(1_000)) as run:
        await run.ask("run.step", {"events": 3})
        await run.ask("run.resume")
        states = [(method, state.state, state.stopped and state.stopped.reason) for method, state in run.asker.notices]
        assert states == [
            ("run.state", "stepping", None),
            ("run.state", "paused", "step"),
            ("run.stopped", "paused", "step"),
            ("run.state", "playing", None),
        ]


async def test_the_end_is_told():
    async with steered(ticks(3)) as run:
        await run.ask("run.setSpeed", {"speed": "max"})
        await run.ask("run.resume")
        _, state = await run.told(lambda _, state: state.state == "ended")
        assert state.published == 3


async def test_without_a_word_from_anybody_a_run_plays_on_and_forgets_its_breakpoints():
    clock = Clock()
    async with steered(endless(every_s=100), clock=clock) as run:
        await run.ask("run.pause")
        await run.ask("run.setBreakpoints", [{"where": "n == 900000"}])
        for _ in range(4):
            await clock.advance(LEASE_S - 1)
            assert run.player.state == "paused"
            await run.asker.send("run.renew")
            await run.ask("run.attach")
        await run.ask("run.state")
        await clock.advance(LEASE_S - 1)
        assert run.player.state == "paused"
        await run.ask("run.state")  # looking from afar holds nothing
        await clock.advance(1.1)
        assert run.player.state == "playing"
        state = await run.ask("run.state")
        assert (state.breakpoints, state.stopped) == ([], None)
        await run.ask("run.pause")
        await clock.advance(LEASE_S + 0.1)
        assert run.player.state == "playing"


async def test_a_run_that_somebody_here_looks_after_needs_no_lease():
    clock = Clock()
    async with steered(ticks(1_000), clock=clock, attended=True) as run:
        await run.ask("run.pause")
        await clock.advance(1_000)
        assert run.player.state == "paused"


@pytest.mark.parametrize(
    ("method", "params", "code", "path"),
    [
        ("run.fly", {}, jsonrpc.METHOD_NOT_FOUND, "$.method"),
        ("run.pause", {"now": True}, jsonrpc.INVALID_PARAMS, "$.params"),
        ("run.pause", [1], jsonrpc.INVALID_PARAMS, "$.params"),
        ("run.step", {"events": 0}, jsonrpc.INVALID_PARAMS, "$.params.events"),
        ("run.step", {"events": "1"}, jsonrpc.INVALID_PARAMS, "$.params.events"),
        ("run.setSpeed", {}, jsonrpc.INVALID_PARAMS, "$.params"),
        ("run.setSpeed", {"speed": -1}, jsonrpc.INVALID_PARAMS, "$.params.speed"),
        ("run.setSpeed", {"speed": "fast"}, jsonrpc.INVALID_PARAMS, "$.params.speed"),
        ("run.setBreakpoints", {}, jsonrpc.INVALID_PARAMS, "$.params"),
        ("run.setBreakpoints", [{}], jsonrpc.INVALID_PARAMS, "$.params.breakpoints[0]"),
        ("run.setBreakpoints", [{"type": "x_*"}, {"where": "n ="}], jsonrpc.INVALID_PARAMS, "$.params.breakpoints[1]"),
        ("run.setBreakpoints", [{"type": "x_*"}] * 33, jsonrpc.INVALID_PARAMS, "$.params.breakpoints"),
        ("run.inspect", {"entity": "agent:nobody"}, jsonrpc.INVALID_PARAMS, "$.params.entity"),
        ("run.inspect", {"entity": "everything"}, jsonrpc.INVALID_PARAMS, "$.params.entity"),
        ("run.inject", {}, jsonrpc.INVALID_PARAMS, "$.params"),
        ("run.inject", {"fault": {"kind": "flood"}}, jsonrpc.INVALID_PARAMS, "$.params.fault.kind"),
        (
            "run.inject",
            {"fault": {"kind": "ci_outage", "minutes": -1}},
            jsonrpc.INVALID_PARAMS,
            "$.params.fault.minutes",
        ),
        ("run.inject", {"event": {"type": "NoType"}}, jsonrpc.INVALID_PARAMS, "$.params.event.type"),
        ("run.inject", {"event": {"type": "agent_started"}}, jsonrpc.INVALID_PARAMS, "$.params.event.data"),
    ],
)
async def test_what_a_run_cannot_do_is_refused_with_code_and_path_and_changes_nothing(method, params, code, path):
    async with steered(demo()) as run:
        before = await run.ask("run.step", {"events": 3})
        with pytest.raises(RpcError) as caught:
            await run.ask(method, params)
        assert caught.value.code == code
        assert (caught.value.data or {}).get("path") == path
        assert str(caught.value)
        assert await run.ask("run.attach") == before
        assert run.simulation.commands == ()


async def test_nothing_can_be_injected_into_what_is_there_already():
    async with steered(ticks(10)) as run:
        with pytest.raises(RpcError, match="events that are there already") as caught:
            await run.ask("run.inject", {"event": {"type": "note_made", "data": {}}})
        assert caught.value.code == jsonrpc.REFUSED


async def test_an_answer_that_is_too_large_is_refused():
    source = [
        msgspec.structs.replace(tick, type="issue_created", data={"issue_id": f"i-{n}", "text": "x" * 40_000})
        for n, tick in enumerate(ticks(3))
    ]
    async with steered(source) as run:
        await run.ask("run.step", {"events": 2})
        assert (await run.ask("run.inspect", {"entity": "issue:i-1"}))["issue_id"] == "i-1"
        with pytest.raises(RpcError, match="more than an answer holds"):
            await run.ask("run.inspect", {"entity": "issues"})


async def test_only_who_comes_through_a_project_of_the_run_is_heard():
    source = [event for n in range(50) for event in (event_at(n, 2 * n), event_at(n, 2 * n + 1, project="zeus"))]

    def alternating(events):
        yield from events

    async with steered(alternating(source), projects=("apollo", "zeus"), run="run-2") as run:
        run.asker._project = "hermes"
        await run.asker.send("run.resume")
        await run.asker.send("no request", jsonrpc=7)
        run.asker._project = "zeus"
        state = await run.ask("run.attach")
        assert (state.state, state.project, state.run) == ("paused", "zeus", "run-2")
        run.player.resume()
        await run.told(lambda _, state: state.project == "zeus" and state.state == "playing")
        await run.told(lambda _, state: state.project == "apollo" and state.state == "playing")


async def test_what_is_written_by_others_into_the_channel_ends_nothing():
    async with steered(ticks(10)) as run:
        await run.broker.publish(control_channel("run-1"), [b"7", b"{}", b'{"type":"control_request"}', b"\xff"])
        async with asyncio.timeout(DEADLINE_S):
            while len((await run.broker.read(control_channel("run-1"), 0, 100)).entries) < 4:
                await asyncio.sleep(0.01)
        run.asker._answers.clear()
        await run.asker.send("run.resume")
        while run.player.state == "paused":
            await asyncio.sleep(0.01)
