"""`DebugClient` with real servers: steering, reconnects, the lease, two instances, runs that publish over HTTP."""

from __future__ import annotations

import asyncio
import gc
import json
import math
import random
from contextlib import AsyncExitStack, asynccontextmanager

import aiohttp
import aiohttp.web
import msgspec
import pytest
from playback_clock import ticks
from scripted_server import scripted_socket
from serving import running
from steering import demo, plain, steered, undisturbed

from syndarix_rt.broker import RedisBroker
from syndarix_rt.broker.protocol import control_channel, project_channel
from syndarix_rt.client import Api, DebugClient, HttpLine, HttpPublisher
from syndarix_rt.client.http import Unavailable
from syndarix_rt.delivery import jsonrpc
from syndarix_rt.errors import BrokerUnavailable, RpcError, StreamError
from syndarix_rt.events import Event
from syndarix_rt.playback import Control, Player, claim
from syndarix_rt.playback.inspection import Inspection
from syndarix_rt.server import steering

DEADLINE_S = 60


async def told(debug, condition):
    async with asyncio.timeout(DEADLINE_S):
        async for notice in debug:
            if condition(notice):
                return notice
    raise AssertionError("the notices ended")


def stopped_at_a_breakpoint(notice):
    return notice.method == "run.stopped" and notice.state.stopped.reason == "breakpoint"


@pytest.fixture
async def server():
    async with running() as server:
        yield server


@asynccontextmanager
async def over_http(server, run, source, simulation=None):
    """A run that knows its server's URL only."""
    async with AsyncExitStack() as stack:
        publisher = await stack.enter_async_context(HttpPublisher(server.url, "apollo"))
        player = Player(source, publisher.publish, speed=math.inf)
        player.pause()
        await stack.enter_async_context(claim(publisher, run, on_lost=player.stop))
        line = await stack.enter_async_context(HttpLine(server.url, "apollo", run))
        control = await stack.enter_async_context(Control(run, player, simulation=simulation))
        await control.join(line)
        task = asyncio.create_task(player.run())
        try:
            yield player
        finally:
            player.stop()
            await asyncio.wait({task})


async def log_of(broker):
    events = []
    while (page := await broker.read(project_channel("apollo"), len(events), 1000)).entries:
        events += [Event.decode(entry) for entry in page.entries]
    return events


@pytest.mark.parametrize("way", ["broker", "http"])
async def test_a_run_is_found_paused_stepped_inspected_and_plays_on_as_if_nothing_had_been(server, way):
    simulation = demo()
    async with AsyncExitStack() as stack:
        if way == "http":
            await stack.enter_async_context(over_http(server, "sim-1", simulation, simulation))
        else:
            await stack.enter_async_context(steered(simulation, broker=server.broker, run="sim-1", speed=math.inf))
        debug = await stack.enter_async_context(DebugClient(server.url, "apollo"))
        (found,) = await debug.runs()
        assert (found.run, found.state, found.simulation) == ("sim-1", "paused", simulation.id)
        await debug.set_breakpoints([{"type": "pipeline_failed"}], "sim-1")
        ahead = [event.type for event in undisturbed(1_000)].index("pipeline_failed")
        await debug.step("sim-1", events=ahead - 10)  # so that 60 times real time are no minute here
        await debug.set_speed(60)
        assert (await debug.resume("sim-1")).state == "playing"
        notice = await told(debug, stopped_at_a_breakpoint)
        assert (notice.state.speed, notice.state.published) == (60, ahead + 1)
        log = await log_of(server.broker)
        assert log[-1].type == "pipeline_failed"
        assert notice.state.published == len(log)
        known = Inspection("apollo")
        for event in undisturbed(len(log)):
            known.add(event)
        for entity in ("project", "agents", "queues", "pipelines", f"pipeline:{notice.state.stopped.event['subject']}"):
            assert await debug.inspect(entity) == msgspec.to_builtins(known.look(entity))
        assert (await debug.step(events=10)).published == len(log) + 10
        assert len(await log_of(server.broker)) == len(log) + 10
        await debug.set_breakpoints([])
        assert (await debug.set_speed(7)).speed == 7
        assert (await debug.set_speed(math.inf)).speed == "max"
        assert debug.attached["sim-1"].speed == "max"
        await debug.resume()
        while len(await log_of(server.broker)) < 1_000:
            await asyncio.sleep(0.01)
        await debug.pause()
        log = await log_of(server.broker)
        assert plain(log) == plain(undisturbed(len(log)))
        await debug.inject(fault={"kind": "ci_outage", "minutes": 5})
        await debug.step(events=1_500)
        assert "fault_started" in {event.type for event in await log_of(server.broker)}


async def test_a_run_that_publishes_over_http_goes_on_from_a_persons_decision(server):
    simulation = demo()
    async with (
        over_http(server, "sim-1", simulation, simulation) as player,
        DebugClient(server.url, "apollo") as debug,
        Api(server.url) as api,
    ):
        await debug.set_breakpoints([{"type": "approval_required"}])
        await debug.resume()
        await told(debug, stopped_at_a_breakpoint)
        (approval,) = await api.approvals("apollo")
        await api.decide("apollo", approval.approval_id, "rejected", by="Ana")
        while not simulation.commands:
            await asyncio.sleep(0.01)
        await debug.set_breakpoints([])
        await debug.step(events=1_000)
        log = await log_of(server.broker)
        resolved = [event for event in log if event.data.get("approval_id") == approval.approval_id]
        assert [event.data.get("by") for event in resolved] == [None, "Ana"]
        assert player.left_out == 0
        assert next(event for event in log if event.type == "pr_closed").cause == resolved[1].id


async def test_a_debugger_that_was_killed_does_not_leave_the_run_standing(server, monkeypatch):
    monkeypatch.setattr("syndarix_rt.playback.control.LEASE_S", 2)
    monkeypatch.setattr(steering, "RENEW_S", 0.1)
    async with steered(ticks(1_000), broker=server.broker) as run:
        async with server.http.ws_connect(
            f"{server.url}/projects/apollo/debug", protocols=("syndarix.debug.v1",)
        ) as ws:
            await ws.send_json({"jsonrpc": "2.0", "method": "run.pause", "id": 1})
            while "id" not in await ws.receive_json():
                pass
            loop = asyncio.get_running_loop()
            held_until = loop.time() + 4  # two leases
            while loop.time() < held_until:
                assert run.player.state == "paused"
                await asyncio.sleep(0.05)
            ws._response.connection.transport.abort()
        async with asyncio.timeout(DEADLINE_S):
            while run.player.state != "playing":
                await asyncio.sleep(0.01)


async def test_two_servers_on_one_redis_steer_the_same_run(redis_url):
    async with AsyncExitStack() as stack:
        brokers = [RedisBroker(redis_url) for _ in range(3)]
        for broker in brokers:
            stack.push_async_callback(broker.aclose)
        one, two = [await stack.enter_async_context(running(broker)) for broker in brokers[:2]]
        await stack.enter_async_context(steered(demo(), broker=brokers[2], run="sim-1", speed=math.inf))
        ana = await stack.enter_async_context(DebugClient(one.url, "apollo"))
        ben = await stack.enter_async_context(DebugClient(two.url, "apollo"))
        await ben.attach("sim-1")
        await ana.set_breakpoints([{"type": "pipeline_failed"}])
        await ana.resume("sim-1")
        first, second = await told(ana, stopped_at_a_breakpoint), await told(ben, stopped_at_a_breakpoint)
        assert first == second
        assert await ana.inspect("agents") == await ben.inspect("agents")
        stepped = await ben.step(events=5)
        assert await ana.attach() == stepped
        assert [run.run for run in await ana.runs()] == ["sim-1"]


async def test_after_a_restart_of_the_server_it_is_attached_again_and_told_how_the_run_is(redis_url):
    async with AsyncExitStack() as stack:
        broker = RedisBroker(redis_url)
        stack.push_async_callback(broker.aclose)
        run = await stack.enter_async_context(steered(ticks(100), broker=broker, attended=True))
        async with running(broker) as server:
            port = int(server.url.rpartition(":")[2])
            debug = await stack.enter_async_context(DebugClient(server.url, "apollo", rng=random.Random(1)))
            await debug.step(events=3)
        assert debug.attached["run-1"].published == 3
        while debug.state == "open":
            await asyncio.sleep(0.01)
        asking = asyncio.create_task(debug.inspect("run"))
        run.player.step(4)
        await run.player.settled()
        async with running(broker, port=port):
            notice = await told(debug, lambda notice: notice.state.published == 7)
            assert notice.method == "run.state"
            assert (await asking)["published"] == 7
            assert (await debug.step(events=1)).published == 8


async def test_what_is_refused_is_raised_with_its_code(server):
    async with DebugClient(server.url, "apollo") as debug:
        with pytest.raises(RpcError, match="none plays into 'apollo'") as caught:
            await debug.pause()
        assert caught.value.code == jsonrpc.UNKNOWN_RUN
        async with steered(ticks(9), broker=server.broker):
            with pytest.raises(RpcError, match="expected") as caught:
                await debug.set_breakpoints([{"where": "a ="}])
            assert (caught.value.code, caught.value.data) == (-32602, {"path": "$.params.breakpoints[0]"})
            with pytest.raises(RpcError, match="there already"):
                await debug.inject(fault={"kind": "ci_outage"})
            with pytest.raises(RpcError, match="65536 bytes"):
                await debug.inject(event={"type": "my_note", "data": {"text": "x" * 70_000}})
            assert debug.state == "open"


async def test_a_question_that_could_not_be_sent_leaves_no_error_behind_that_nobody_asks_for():
    complaints = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: complaints.append(context))
    async with running(token="s3cret") as server, DebugClient(server.url, "apollo", token="wrong") as debug:

        async def send(text):
            raise Unavailable("planted: the socket has just been cut")

        debug._send = send
        with pytest.raises(StreamError, match="wants its key"):
            await debug.runs()
    del debug, send
    gc.collect()
    assert complaints == []


async def test_a_refusal_for_good_ends_it_and_says_why():
    async with running(token="s3cret") as server:
        async with DebugClient(server.url, "apollo", token="wrong") as debug:
            with pytest.raises(StreamError, match="wants its key"):
                await debug.runs()
            with pytest.raises(StreamError, match="wants its key"):
                await anext(debug)
            assert debug.state == "closed"
        async with DebugClient(f"{server.url}/?key=s3cret", "apollo") as debug:
            assert await debug.runs() == []
    with pytest.raises(StreamError, match="project name"):
        DebugClient("http://127.0.0.1:1", "a b")


async def test_closing_ends_the_iteration_and_those_who_wait(server):
    await server.broker.claim(project_channel("apollo"), "silent", 60)
    async with DebugClient(server.url, "apollo") as debug:
        waiting = asyncio.create_task(debug.pause("silent"))
        reading = asyncio.create_task(anext(debug, None))
        while not (await server.broker.position(control_channel("silent"))).last:
            await asyncio.sleep(0.01)
    with pytest.raises(StreamError, match="closed here"):
        await waiting
    assert await reading is None
    with pytest.raises(StreamError, match="closed here"):
        await debug.runs()


async def test_a_run_that_ended_while_the_line_was_cut_is_told_of_as_ended(server):
    may_come_back = asyncio.Event()

    async def wait(_):
        await may_come_back.wait()

    async with DebugClient(server.url, "apollo", sleep=wait) as debug:
        async with steered(ticks(9), broker=server.broker):
            await debug.attach()
            debug._socket._response.connection.transport.abort()
            while debug.state != "waiting":
                await asyncio.sleep(0.01)
        may_come_back.set()
        notice = await told(debug, lambda notice: notice.state.state == "ended")
        assert notice.state.run == "run-1"
        assert debug.attached == {}


async def test_a_run_that_cannot_be_reached_just_after_a_reconnect_is_attached_to_again(monkeypatch):
    """What cut the debugger off may have cut off the broker, too."""
    monkeypatch.setattr("syndarix_rt.client.debug.AGAIN_S", 0.01)
    asked = []

    async def answer(ws):
        call = json.loads((await ws.receive()).data)
        asked.append(call["method"])
        number = len(asked)
        if number in (2, 3):
            code = {2: jsonrpc.BROKER_AWAY, 3: jsonrpc.NO_ANSWER}[number]
            await ws.send_str(jsonrpc.encode(jsonrpc.failure(call["id"], RpcError(code, "later"))))
        else:
            state = {"run": "run-1", "project": "apollo", "state": "playing", "published": number}
            await ws.send_str(jsonrpc.encode(jsonrpc.result(call["id"], state)))

    async def script(ws):
        for _ in range(3 if asked else 1):
            await answer(ws)
        if len(asked) == 4:
            await ws.receive()
        else:
            await ws.close()

    async def no_sleep(_):
        pass

    async with scripted_socket(script) as url, DebugClient(url, "apollo", sleep=no_sleep) as debug:
        await debug.attach("run-1")
        notice = await told(debug, lambda _: True)
        assert (notice.method, notice.state.published) == ("run.state", 4)
        assert asked == ["run.attach"] * 4


@pytest.mark.parametrize(
    ("answer", "when"),
    [
        ("{", "at once"),
        ('{"jsonrpc":"2.0","method":"run.state","params":{"run":7}}', "at once"),
        ('{"jsonrpc":"2.0","id":1,"result":{"run":7}}', "asked"),
    ],
)
async def test_what_does_not_speak_the_protocol_is_said_to_be_none(answer, when):
    async def script(ws):
        if when == "asked":
            await ws.receive()
        await ws.send_str('{"jsonrpc":"2.0","id":[],"result":1}')  # an answer to nobody's question is none of ours
        await ws.send_str(answer)
        await ws.receive()

    async with scripted_socket(script) as url, DebugClient(url, "apollo") as debug:
        with pytest.raises(StreamError, match=r"does not speak syndarix\.debug\.v1"):
            await debug.attach("run-1")


async def test_a_run_that_refuses_to_be_attached_to_again_is_left_alone():
    asked = []

    async def script(ws):
        call = json.loads((await ws.receive()).data)
        asked.append(call["method"])
        if len(asked) == 1:
            state = {"run": "run-1", "project": "apollo", "state": "playing"}
            await ws.send_str(jsonrpc.encode(jsonrpc.result(call["id"], state)))
            await ws.close()
            return
        await ws.send_str(jsonrpc.encode(jsonrpc.failure(call["id"], RpcError(jsonrpc.REFUSED, "16 at most"))))
        call = json.loads((await ws.receive()).data)
        asked.append(call["method"])
        await ws.send_str(jsonrpc.encode(jsonrpc.result(call["id"], [])))
        await ws.receive()

    async def no_sleep(_):
        pass

    async with scripted_socket(script) as url, DebugClient(url, "apollo", sleep=no_sleep) as debug:
        await debug.attach("run-1")
        while len(asked) < 2:
            await asyncio.sleep(0.01)
        assert await debug.runs() == []
        assert asked == ["run.attach", "run.attach", "run.list"]


async def test_a_question_that_does_no_harm_is_asked_again_after_a_cut_and_no_other():
    asked = []

    async def script(ws):
        await ws.send_str('{"jsonrpc":"2.0","id":77,"result":1}')  # to a question that nobody has asked
        asked.append(json.loads((await ws.receive()).data))
        if len(asked) == 2:
            await ws.send_str(jsonrpc.encode(jsonrpc.result(asked[-1]["id"], [])))
            asked.append(json.loads((await ws.receive()).data))
        await ws.close()

    async def no_sleep(_):
        pass

    async with scripted_socket(script) as url, DebugClient(url, "apollo", sleep=no_sleep) as debug:
        assert await debug.call("run.list") == []
        with pytest.raises(BrokerUnavailable, match="the server ended the connection"):
            await debug.step("run-1")
    assert [call["method"] for call in asked] == ["run.list", "run.list", "run.step"]


async def test_a_question_that_is_never_answered_or_given_up_harms_nobody(monkeypatch):
    async def script(ws):
        async for _ in ws:
            pass

    async with scripted_socket(script) as url, DebugClient(url, "apollo") as debug:
        asking = asyncio.create_task(debug.pause("run-1"))
        while not debug._pending:
            await asyncio.sleep(0)
        asking.cancel()
        debug._cut(StreamError("cut just now"))
        with pytest.raises(asyncio.CancelledError):
            await asking
        monkeypatch.setattr("syndarix_rt.client.debug.ANSWER_S", 0.05)
        with pytest.raises(BrokerUnavailable, match=r"no answer within 0\.05 s: run\.pause"):
            await debug.pause("run-1")


async def test_it_answers_the_servers_question_for_a_sign_of_life():
    async with running(ping_s=0.4) as server, DebugClient(server.url, "apollo") as debug:
        await debug.runs()
        (socket,) = server.hub._sockets
        await asyncio.sleep(2)  # without an answer it is closed after 0.8
        assert server.hub._sockets == {socket}
        assert debug.state == "open"


async def test_a_server_that_knows_no_debugging_is_said_to_be_none():
    async def hello(_):
        return aiohttp.web.Response(text="hello")

    app = aiohttp.web.Application()
    app.router.add_get("/{anything:.*}", hello)
    runner = aiohttp.web.AppRunner(app)
    await runner.setup()
    site = aiohttp.web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        port = site._server.sockets[0].getsockname()[1]
        async with DebugClient(f"http://127.0.0.1:{port}", "apollo") as debug:
            with pytest.raises(StreamError, match="text/plain, which is no WebSocket; is this the server's URL"):
                await debug.runs()
    finally:
        await runner.cleanup()
