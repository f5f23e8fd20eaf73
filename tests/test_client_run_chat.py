"""The agents of a run that publishes over HTTP: one socket for all of them, and what it may not do."""

from __future__ import annotations

import asyncio
import math
from contextlib import AsyncExitStack, aclosing, asynccontextmanager

import aiohttp
import pytest
from scripted_server import scripted_socket
from serving import TIMEOUT_S, running
from steering import demo
from test_playback_agents import Visitor

from syndarix_rt.broker import Chat
from syndarix_rt.client import HttpLine, HttpPublisher
from syndarix_rt.client.run_chat import RunChat
from syndarix_rt.delivery import Gap
from syndarix_rt.delivery.chat import MAX_AGENTS, Member, Said, Say
from syndarix_rt.errors import ChatError
from syndarix_rt.playback import Control, Player, agents, claim
from syndarix_rt.server.tokens import issue

KEY = "a key that signs tokens, too"
PROTOCOL = "syndarix.chat.v1"


@pytest.fixture(autouse=True)
def fast_tokens(monkeypatch):
    monkeypatch.setattr(agents, "TOKENS_PER_S", 5_000.0)
    monkeypatch.setattr(agents, "ARRIVE_S", 0.05)


class Playing:
    """A run over HTTP with a token, at full speed up to its 300th event."""

    def __init__(self, player, line, warnings):
        self.player, self.line, self.warnings = player, line, warnings


@asynccontextmanager
async def playing(server, token=None):
    simulation, warnings = demo(), []
    async with AsyncExitStack() as stack:
        publisher = await stack.enter_async_context(HttpPublisher(server.url, "apollo", token=token))
        player = Player(simulation, publisher.publish, speed=math.inf)
        player.step(300)
        await stack.enter_async_context(claim(publisher, "sim-1", on_lost=player.stop))
        line = await stack.enter_async_context(HttpLine(server.url, "apollo", "sim-1", token=token))
        control = Control("sim-1", player, simulation=simulation, attended=True, warn=warnings.append)
        await stack.enter_async_context(control)
        await control.join(line)
        task = asyncio.create_task(player.run())
        try:
            await player.settled()
            yield Playing(player, line, warnings)
        finally:
            player.stop()
            await asyncio.wait({task})


async def eventually(condition):
    async with asyncio.timeout(TIMEOUT_S):
        while not condition():
            await asyncio.sleep(0.01)


async def here(server):
    return (await Chat(server.broker, "apollo").here()).members


@asynccontextmanager
async def socket(server, token=None, **query):
    """A plain client: sends frames, gives the next one that is no presence."""
    url = f"{server.url}/projects/apollo/chat"
    headers = {"authorization": f"Bearer {token}"} if token else {}
    async with server.http.ws_connect(url, params=query, headers=headers, protocols=(PROTOCOL,)) as ws:
        yield ws


async def answered(ws, frame):
    """What the server says to a frame."""
    await ws.send_json(frame)
    while True:
        found = await ws.receive_json(timeout=TIMEOUT_S)
        if found["type"] not in ("ready", "presence"):
            return found


async def test_with_the_rights_to_publish_and_to_chat_a_run_speaks_for_all_its_agents():
    async with running(token=KEY) as server, Visitor(server.broker) as ana:
        token = issue(
            KEY, ["publish:apollo", "approve:apollo", "subscribe:apollo", "chat:apollo"], name="ci", life_s=60
        )
        async with playing(server, token) as run:
            async with asyncio.timeout(TIMEOUT_S):
                while not {Member("planner-1", "agent"), Member("tester-1", "agent")} <= await here(server):
                    await asyncio.sleep(0.01)
            asked = await ana.say("planner-1 and tester-1, what do you do?")
            answers = await ana.answers(asked, 2)
            assert {answer.speaker for answer in answers} == {"planner-1", "tester-1"}
            assert all(answer.text and answer.error is None for answer in answers)
            assert run.warnings == []
        assert await here(server) == frozenset(), "with the run its agents are gone"


@pytest.mark.parametrize("rights", [["publish:*"], ["publish:*", "chat:zeus"]])
async def test_a_run_that_may_not_chat_plays_on(rights):
    async with running(token=KEY) as server, Visitor(server.broker) as ana:
        token = issue(KEY, [*rights, "approve:*", "subscribe:*"], name="ci", life_s=60)
        async with playing(server, token) as run:
            await eventually(lambda: run.warnings)
            (warning,) = run.warnings
            assert "agents do not answer any more" in warning
            assert "does not reach so far" in warning
            await ana.say("planner-1, what do you do?")
            published = run.player.published
            run.player.step(100)
            await run.player.settled()
            assert run.player.published == published + 100
            assert [type(frame) for frame in ana.frames] == [Said]


async def test_who_may_chat_but_not_publish_speaks_for_no_run():
    async with running(token=KEY) as server:
        async with socket(server, issue(KEY, ["chat:*", "publish:zeus"], name="ada", life_s=60), kind="run") as ws:
            assert (await ws.receive(TIMEOUT_S)).type is aiohttp.WSMsgType.CLOSE
            assert ws.close_code == 4403


async def test_a_run_answers_only_and_not_in_the_name_of_a_person_who_is_here():
    async with running() as server, socket(server, kind="run") as run, socket(server, name="ana") as ana:
        ready = await run.receive_json(timeout=TIMEOUT_S)
        assert (ready["name"], ready["members"]) == (None, [])
        assert (await ana.receive_json(timeout=TIMEOUT_S))["name"] == "ana"
        await Chat(server.broker, "apollo").arrive(Member("ben", "person"), "session-1")
        room = server.app.extensions["syndarix_rt_rooms"]._rooms["apollo"][0]
        await eventually(lambda: room.here and Member("ben", "person") in room.here.members)
        done = {"type": "done", "id": "1", "text": "x"}
        for frame, path in (
            ({"type": "say", "id": "1", "text": "x"}, "$.type"),
            (done, "$.from"),
            (done | {"from": "ben"}, "$.from"),
            (done | {"from": "ana"}, "$.from"),
            (done | {"from": "all"}, "$.from"),
            ({"type": "agents", "names": ["dev", "ben"]}, "$.names[1]"),
        ):
            error = await answered(run, frame)
            assert (error["type"], error["code"], error["path"]) == ("error", "not-yours", path), frame
        assert (await answered(ana, {"type": "agents", "names": ["dev"]}))["code"] == "not-yours"
        too_many = await answered(run, {"type": "agents", "names": [f"dev-{n}" for n in range(65)]})
        assert (too_many["code"], too_many["path"]) == ("invalid-frame", "$.names")
        told = await answered(run, done | {"from": "dev"})
        assert (told["type"], told["from"], told["text"]) == ("done", "dev", "x")
        # On anybody else's socket ``from`` says nothing: the server knows who it is.
        await ana.send_json(done | {"from": "dev", "id": "2"})
        async with asyncio.timeout(TIMEOUT_S):
            while (told := await ana.receive_json()).get("id") != "2":
                pass
        assert (told["type"], told["from"]) == ("done", "ana")
        async with server.http.get(
            f"{server.url}/projects/apollo/chat",
            params={"kind": "run", "name": "dev"},
            headers={
                "upgrade": "websocket",
                "connection": "Upgrade",
                "sec-websocket-version": "13",
                "sec-websocket-key": "x3JJHMbDL1EzLkh9GBhXDw==",
                "sec-websocket-protocol": PROTOCOL,
            },
        ) as refused:
            assert refused.status == 400


async def test_answers_over_a_socket_that_is_cut_again_and_again_are_whole_and_nobody_leaves(monkeypatch):
    monkeypatch.setattr(agents, "TOKENS_PER_S", 50.0)
    monkeypatch.setattr("syndarix_rt.client.socket.FIRST_DELAY_S", 0.02)
    async with running() as server, Visitor(server.broker) as ana, playing(server) as run:
        await eventually(lambda: run.line.chat().state == "open")
        asked = await ana.say("What is everybody doing, what did it cost, and are there any errors?")
        async with asyncio.timeout(TIMEOUT_S):
            for _ in range(5):
                while run.line.chat().state != "open" or not ana.transcript.answers:
                    if sum(message.reply_to == asked for message in ana.transcript.messages) >= 4:
                        break
                    await asyncio.sleep(0.01)
                chat_socket = run.line.chat()._socket
                if chat_socket is not None and chat_socket._response.connection is not None:
                    chat_socket._response.connection.transport.abort()
                await asyncio.sleep(0.05)
                assert Member("planner-1", "agent") in await here(server)
        answers = await ana.answers(asked, 4)
        assert len({answer.speaker for answer in answers}) == len(answers)
        assert all(answer.error is None and answer.text.endswith(".") for answer in answers)


async def test_an_answer_that_the_run_does_not_live_to_finish_is_broken_off(monkeypatch):
    monkeypatch.setattr(agents, "TOKENS_PER_S", 20.0)
    async with running() as server, Visitor(server.broker) as ana:
        async with playing(server):
            asked = await ana.say("What are you doing, what did it cost, any errors?", "planner-1")
            await eventually(lambda: ana.transcript.answers)
        (answer,) = await ana.answers(asked)
        assert answer.error == "the run has ended"
        assert answer.text


async def test_a_run_is_told_of_a_hole_and_shows_a_bounded_number_of_agents():
    announced = []

    async def script(ws):
        for frame in (
            {
                "type": "ready", "project": "apollo", "name": None, "session": "session-1", "position": "epoch-aa.0",
                "epoch": "epoch-aa", "first": 1, "last": 0, "resumed": False, "members": [], "typing": [],
            },
            {
                "type": "gap", "position": "epoch-aa.6", "reason": "trimmed", "requested": "epoch-aa.0", "first": 7,
                "last": 9, "missed": 6,
            },
        ):  # fmt: skip
            await ws.send_json(frame)
        announced.append((await ws.receive()).json())
        await ws.receive()

    async with scripted_socket(script) as url:
        chat = RunChat(url, "apollo")
        for number in range(MAX_AGENTS + 1):
            await chat.arrive(Member(f"agent-{number}", "agent"), "sim-1")
        async with aclosing(chat.follow()) as frames:
            assert await anext(frames) == Gap("trimmed", "epoch-aa.0", 7, 9, 6)
            await eventually(lambda: announced)
            assert len(announced[0]["names"]) == MAX_AGENTS
            with pytest.raises(ChatError, match="says nothing by itself"):
                await chat.send("agent-1", Say(id="m", text="hello"))
        await chat.aclose()
