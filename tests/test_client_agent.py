"""`ChatAgent`: functions that answer in the chat, over real servers; crashes, kills and cuts of them."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from contextlib import asynccontextmanager

import pytest
from serving import TIMEOUT_S, running

from syndarix_rt.broker import Chat
from syndarix_rt.client import ChatAgent, ChatClient
from syndarix_rt.delivery.chat import Delta, Done, Said, Say, Stream, is_addressed
from syndarix_rt.errors import StreamError
from syndarix_rt.server.tokens import issue

KEY = "a key that signs tokens, too"


@asynccontextmanager
async def here(server, answer, name="dev", **options):
    agent = ChatAgent(server.url, "apollo", name, answer, **options)
    task = asyncio.create_task(agent.run())
    try:
        await eventually(lambda: agent.client.state == "open")
        await agent.client.ready()
        yield agent
    finally:
        task.cancel()
        await asyncio.wait({task})


@asynccontextmanager
async def person(server, name="ana", **options):
    async with ChatClient(server.url, "apollo", name=name, **options) as chat:
        await chat.ready()
        yield chat


async def eventually(condition):
    async with asyncio.timeout(TIMEOUT_S):
        while not condition():
            await asyncio.sleep(0.01)


async def asked(chat, text, to="dev"):
    async with asyncio.timeout(TIMEOUT_S):
        return await chat.reply(await chat.say(text, to=to))


async def echo(said):
    for word in said.text.split():
        yield word + " "


@pytest.fixture
async def server():
    async with running() as server:
        yield server


async def test_a_generator_and_a_coroutine_answer_what_is_meant_for_them(server):
    async def twice(said):
        return said.text * 2

    async def nothing(_):
        return None

    class Pieces:
        """An iterator that is no generator, as clients of models return."""

        def __init__(self, said):
            self.pieces = iter(said.text)

        def __aiter__(self):
            return self

        async def __anext__(self):
            for piece in self.pieces:
                return piece
            raise StopAsyncIteration

    async with (
        here(server, echo),
        here(server, Pieces, "it"),
        here(server, twice, "two"),
        here(server, nothing, "shy"),
        person(server) as ana,
        person(server, "dev-1") as other,
    ):
        assert (await asked(ana, "a b c")).text == "a b c "
        assert (await asked(ana, "ab", to="it")).text == "ab"
        assert (await asked(ana, "ab", to="two")).text == "abab"
        assert (await asked(ana, "ab", to="shy")).text == ""
        await other.say("dev-1 speaks to everybody, and devs listen")
        named = await ana.say("@dev and two: hello")
        await eventually(lambda: sum(m.reply_to == named.id for m in ana.transcript.messages) == 2)
        answers = [message for message in ana.transcript.messages if message.answer]
        assert {message.to for message in answers} == {"ana"}, "nobody else was meant"
        assert {message.speaker for message in answers if message.reply_to == named.id} == {"dev", "two"}


@pytest.mark.parametrize(
    ("to", "text", "meant"),
    [
        ("dev", "x", True),
        ("dev-1", "dev", False),
        ("all", "hello dev!", True),
        ("all", "@dev", True),
        ("all", "dev-1", False),
        ("all", "devs", False),
        ("all", "hello?", False),
    ],
)
def test_who_is_meant(to, text, meant):
    said = Said(id="1", speaker="ana", to=to, text=text, time="2026-01-05T09:00:00Z")
    assert is_addressed(said, "dev") is meant


async def test_a_crash_ends_that_answer_and_not_the_agent(server):
    async def moody(said):
        yield "I think "
        if said.text == "crash":
            raise LookupError("no model")
        if said.text == "number":
            yield 7
        if said.text == "surrogate":
            yield "\ud800"
        if said.text == "long":
            yield "x" * 70_000
        yield "so"

    def no_coroutine(_):
        return "at once"

    async with here(server, moody) as agent, here(server, no_coroutine, "sync"), person(server) as ana:
        for text, error in (
            ("crash", "LookupError: no model"),
            ("number", "TypeError"),
            ("surrogate", "ChatError"),
            ("long", "ChatError"),
        ):
            answer = await asked(ana, text)
            assert answer.text == "I think "
            assert answer.error.startswith(error), answer.error
        assert (await asked(ana, "well")).text == "I think so"
        await eventually(lambda: (agent.failed, agent.answered) == (4, 1))
        assert agent.error.startswith("ChatError")
        assert (await asked(ana, "x", "sync")).error.startswith("TypeError")


async def test_so_many_answers_at_once_and_who_asks_beyond_is_told(server):
    go, now, most = asyncio.Event(), 0, 0

    async def slow(said):
        nonlocal now, most
        now += 1
        most = max(most, now)
        yield "wait "
        await go.wait()
        now -= 1
        yield said.text

    async with here(server, slow, at_once=2), person(server) as ana:
        first = [await ana.say(f"{n}", to="dev") for n in range(2)]
        await eventually(lambda: now == 2)
        answer = await asked(ana, "more")
        assert (answer.text, answer.error) == ("", "Busy: 2 answers are on their way; ask again later")
        go.set()
        async with asyncio.timeout(TIMEOUT_S):
            assert [(await ana.reply(said)).text for said in first] == ["wait 0", "wait 1"]
        assert (await asked(ana, "again")).text == "wait again"
        assert most == 2


async def test_what_was_said_before_it_came_is_not_answered_and_what_was_asked_while_it_was_cut_off_is(server):
    async with person(server) as ana:
        await ana.say("before", to="dev")
        async with here(server, echo) as agent:
            agent.client._socket._response.connection.transport.abort()
            answer = await asked(ana, "meanwhile")
        assert answer.text == "meanwhile "
        assert [message.text for message in ana.transcript.messages] == ["before", "meanwhile", "meanwhile "]


async def test_an_agent_that_is_stopped_breaks_off_what_it_was_saying(server):
    async def forever(_):
        yield "once upon a time "
        await asyncio.Event().wait()

    async with person(server) as ana:
        async with here(server, forever):
            said = await ana.say("tell", to="dev")
            await eventually(lambda: ana.transcript.answers)
        async with asyncio.timeout(TIMEOUT_S):
            answer = await ana.reply(said)
        assert (answer.text, answer.error) == ("once upon a time ", "broken off")


KILLED = """
import asyncio, sys
from syndarix_rt.client import ChatAgent

async def forever(said):
    for n in range(100_000):
        yield f"{n} "
        await asyncio.sleep(0.01)

asyncio.run(ChatAgent(sys.argv[1], "apollo", "dev", forever).run())
"""


async def test_an_agent_that_was_killed_and_is_started_again_ends_what_it_was_saying_and_answers_anew(server):
    async with person(server) as ana:
        with subprocess.Popen([sys.executable, "-c", KILLED, server.url]) as process:  # noqa: ASYNC220 - takes no time
            try:
                await eventually(lambda: "dev" in {member.name for member in ana.members})
                said = await ana.say("count", to="dev")
                await eventually(lambda: any(len(m.text) > 20 for m in ana.transcript.answers.values()))
            finally:
                process.kill()
        # The server would end the answer after 20 s, and say something else: who is cut off may come back.
        async with here(server, echo):
            async with asyncio.timeout(TIMEOUT_S):
                answer = await ana.reply(said)
            assert answer.error == "dev was started again"
            assert answer.text == "".join(f"{n} " for n in range(answer.text.count(" ")))
            assert len(answer.text) > 20
            assert (await asked(ana, "and now?")).text == "and now? "


async def test_it_leaves_the_open_answers_of_others_alone(server):
    chat = Chat(server.broker, "apollo")
    await chat.send("ed", Stream(id="a", at=0, text="I am ", to="ana"))
    await chat.send("ana", Say(id="1", text="hello"))
    async with here(server, echo), person(server) as ana:
        assert (await asked(ana, "well")).text == "well "
        assert [message.speaker for message in ana.transcript.answers.values()] == ["ed"]


async def test_under_a_token_its_name_is_the_subject():
    async with running(token=KEY) as server:
        token = issue(KEY, ["chat:apollo"], name="dev", life_s=60)
        async with here(server, echo, token=token), person(server, token=KEY) as ana:
            assert (await asked(ana, "hello")).text == "hello "
        with pytest.raises(StreamError, match="does not reach so far"):
            await ChatAgent(server.url, "apollo", "somebody", echo, token=token).run()


async def test_answers_of_agents_are_no_questions_to_other_agents(server):
    async def gossip(said):
        return f"ask dev, {said.text}, and echo"

    async with here(server, gossip), here(server, gossip, "echo"), person(server) as ana:
        said = await ana.say("dev and echo: hello")
        await eventually(lambda: sum(m.answer for m in ana.transcript.messages) == 2)
        await asked(ana, "more")
        assert [m.reply_to == said.id for m in ana.transcript.messages if m.answer] == [True, True, False]


async def test_its_answer_is_streamed(server):
    go = asyncio.Event()

    async def slow(_):
        yield "one "
        await go.wait()
        yield "two"

    async with here(server, slow), person(server) as ana:
        said = await ana.say("count", to="dev")
        async with asyncio.timeout(TIMEOUT_S):
            async for frame in ana:
                if isinstance(frame, Delta) and not go.is_set():
                    assert (frame.text, frame.reply_to) == ("one ", said.id)
                    go.set()
                elif isinstance(frame, Done):
                    assert frame.text == "one two"
                    break
