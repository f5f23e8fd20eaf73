"""A run's agents in the chat: what they say is what the run's state says, there and then."""

from __future__ import annotations

import asyncio
import math
import re
from contextlib import AsyncExitStack, aclosing

import msgspec
import pytest
from serving import running
from steering import DEADLINE_S, demo, plain, steered, undisturbed

from syndarix_rt.broker import Chat, MemoryBroker, RedisBroker
from syndarix_rt.broker.chat import HERE_S
from syndarix_rt.delivery.chat import (
    Delta,
    Done,
    Member,
    Said,
    Say,
    Transcript,
)
from syndarix_rt.delivery.replies import Reply
from syndarix_rt.playback import agents
from syndarix_rt.playback.answers import answer
from syndarix_rt.playback.inspection import Inspection

QUESTIONS = (
    "What are you working on?",
    "Which tool did you call last?",
    "Why did the pipeline fail?",
    "How many tokens have you used so far?",
    "What did it cost?",
    "What are you waiting for?",
    "Is there a pull request?",
    "Any errors?",
    "How many runs have you had?",
    "How does the project stand?",
)
FACT = re.compile(r"[a-z]+-[0-9a-f]{6}-\d+|[a-z]+-\d+|\d\d:\d\d:\d\d|\$?\d[\d,]*(?:\.\d+)?(?:e-\d+)?")


class Visitor:
    """A person in the chat."""

    def __init__(self, broker, name="Ana"):
        self.chat, self.name = Chat(broker, "apollo"), name
        self.transcript, self.frames = Transcript(), []
        self._news = asyncio.Condition()
        self._count = 0

    async def __aenter__(self):
        position = await self.chat._broker.position(self.chat.channel)
        self._task = asyncio.create_task(self._listen(position.top))
        return self

    async def __aexit__(self, *_):
        self._task.cancel()
        await asyncio.wait({self._task})

    async def _listen(self, top):
        async with aclosing(self.chat.follow(top)) as frames:
            async for frame in frames:
                async with self._news:
                    self.frames.append(frame)
                    self.transcript.apply(frame)
                    self._news.notify_all()

    async def say(self, text, to="all"):
        self._count += 1
        say = Say(id=f"{self.name}-{self._count}", to=to, text=text)
        await self.chat.send(self.name, say)
        return say.id

    async def answers(self, said, count=1):
        """The complete answers to a message."""

        def found():
            return [message for message in self.transcript.messages if message.answer and message.reply_to == said]

        async with asyncio.timeout(DEADLINE_S), self._news:
            await self._news.wait_for(lambda: len(found()) >= count)
        return found()

    async def ask(self, text, to):
        return (await self.answers(await self.say(text, to)))[0].text


@pytest.fixture(autouse=True)
def fast_tokens(monkeypatch):
    monkeypatch.setattr(agents, "TOKENS_PER_S", 5_000.0)


@pytest.fixture(params=["memory", "redis", "http"])
async def place(request, redis_url):
    """Where a run plays: its broker, and the URL of a server over it if it reaches that over HTTP."""
    broker = RedisBroker(redis_url) if request.param == "redis" else MemoryBroker()
    async with AsyncExitStack() as stack:
        stack.push_async_callback(broker.aclose)
        server = await stack.enter_async_context(running(broker)) if request.param == "http" else None
        yield {"broker": broker, "url": server and server.url}


async def facts_of(run, agent):
    """All ids, moments and numbers that ``run.inspect`` shows, as people write them."""
    entities = ("project", f"agent:{agent}", "issues", "prs", "pipelines", "approvals", "faults")
    found = [await run.ask("run.inspect", {"entity": entity}) for entity in entities]
    me = found[1]
    if me.get("issue_id"):
        found.append(await run.ask("run.inspect", {"entity": f"issue:{me['issue_id']}"}))
    texts = set()

    def collect(value):
        if isinstance(value, dict):
            for each in value.values():
                collect(each)
        elif isinstance(value, list):
            for each in value:
                collect(each)
        elif isinstance(value, bool) or value is None:
            return
        elif isinstance(value, int):
            texts.add(f"{value:,}")
        elif isinstance(value, float):
            texts.update({f"{value:g}", f"${value:.6f}"})
        else:
            texts.update(FACT.findall(str(value)), re.findall(r"\d\d:\d\d:\d\d", str(value)))

    collect(found)
    return texts, me


async def test_ten_questions_at_two_places_are_answered_with_what_is_inspected_there(place):
    async with steered(demo(), **place, run="sim-1", speed=math.inf) as run, Visitor(run.broker) as ana:
        told = []
        for stop in (["pipeline_failed"], ["approval_required"]):
            await run.ask("run.setBreakpoints", [{"type": kind} for kind in stop])
            before = run.player.published
            await run.ask("run.resume")
            await run.told(lambda method, state, n=before: method == "run.stopped" and state.published > n)
            agent = next(
                event.data["agent_id"]
                for event in reversed(await run.log())
                if event.type == "agent_activity" and event.data["role"] == "developer"
            )
            facts, me = await facts_of(run, agent)
            pipelines = [e.subject for e in await run.log() if e.type == "pipeline_failed"]
            for pipeline in pipelines:
                failed = await run.ask("run.inspect", {"entity": f"pipeline:{pipeline}"})
                facts |= {pipeline, f"{failed['duration_s']:g}", failed["issue_id"]}
            answers = {question: await ana.ask(question, agent) for question in QUESTIONS}
            assert await run.ask("run.inspect", {"entity": f"agent:{agent}"}) == me, "asking changes nothing"
            for question, text in answers.items():
                for fact in FACT.findall(text):
                    assert fact in facts, (question, text, fact)
            assert f"{me['input_tokens']:,} input and {me['output_tokens']:,} output" in answers[QUESTIONS[3]]
            assert f"${me['cost_usd']:.6f}" in answers[QUESTIONS[4]]
            assert me["last_tool"]["gen_ai.tool.name"] in answers[QUESTIONS[1]]
            assert me["run_id"] in answers[QUESTIONS[0]]
            told.append(answers)
        for question in (QUESTIONS[0], *QUESTIONS[1:5], QUESTIONS[9]):
            assert told[0][question] != told[1][question]
        assert plain(await run.log()) == plain(undisturbed(run.player.published)), "nobody's question moved the run"


def test_the_same_question_at_the_same_place_gets_the_same_answer_and_others_get_others():
    known = Inspection("apollo")
    for event in undisturbed(300):
        known.add(event)
    first = answer(known, "planner-1", QUESTIONS[0], "sim-a")
    assert first == answer(known, "planner-1", QUESTIONS[0], "sim-a")
    assert first != answer(known, "developer-2", QUESTIONS[0], "sim-a")
    assert len({answer(known, "planner-1", QUESTIONS[0], f"sim-{seed}") for seed in range(20)}) > 1
    assert answer(known, "nobody-1", "hello", "sim-a") == "I have not begun to work yet."


def test_what_is_counted_of_an_agent_is_the_same_however_often_somebody_looks():
    events = undisturbed(2_000)
    once, often = Inspection("apollo"), Inspection("apollo")
    for event in events:
        once.add(event)
        often.add(event)
        often.look("agents")
    assert once.look("agents") == often.look("agents")
    ended = [event for event in events if event.type in ("agent_completed", "agent_error")]
    name = next(agent for agent in once.agents if once.look(f"agent:{agent}")["state"] == "idle")
    totals = [event.data for event in ended if event.data["agent_id"] == name]
    agent = once.look(f"agent:{name}")
    for key in ("input_tokens", "output_tokens", "llm_calls", "tool_calls"):
        assert agent[key] == sum(total[key] for total in totals)
    assert agent["cost_usd"] == pytest.approx(sum(total["cost_usd"] for total in totals))


def test_an_agent_tells_what_it_has_not_done_which_sprint_it_is_and_what_it_waits_for():
    known, sprint, begun, failed = Inspection("apollo"), None, None, None

    def says(question):
        return answer(known, begun.data["agent_id"], question, "sim-a")

    for event in undisturbed(5_000):
        known.add(event)
        if begun is None and event.type == "agent_started":
            begun = event
            assert "I have called no tool in this run yet." in says("Which tool?")
        elif event.type == "sprint_started" and sprint is None:
            sprint = event
        elif begun and failed is None and event.type == "agent_activity" and event.subject == begun.subject:
            trouble = {"status": "error", "error": "rate_limit", "backoff_s": 2.5}
            failed = msgspec.structs.replace(event, data=event.data | trouble)
            known.add(failed)
            assert "I try again after 2.5 s, for the last call failed: rate_limit." in says("What are you waiting for?")
        elif failed and event.type == "agent_completed" and event.data["run_id"] == begun.data["run_id"]:
            assert "I wait for work." in says("What are you waiting for?")
            break
    else:
        pytest.fail("that agent's first run has not ended")
    began = f"{sprint.time:%H:%M:%S}"
    assert f"We are in {sprint.data['sprint_id']}, which began at {began}." in says("Which sprint is it?")


async def test_an_answer_is_streamed_and_its_parts_are_the_whole(place, monkeypatch):
    monkeypatch.setattr(agents, "TOKENS_PER_S", 100.0)
    async with steered(demo(), **place) as run, Visitor(run.broker) as ana:
        await run.ask("run.step", {"events": 300})
        said = await ana.say("What are you working on, and what did it cost? Any errors?", "planner-1")
        (message,) = await ana.answers(said)
        deltas = [frame for frame in ana.frames if isinstance(frame, Delta)]
        assert len(deltas) >= 2
        assert message.text.startswith("".join(delta.text for delta in deltas))  # the last piece comes with the whole
        assert [delta.at for delta in deltas] == [
            sum(len(before.text) for before in deltas[:number]) for number in range(len(deltas))
        ]
        assert {(frame.id, frame.to) for frame in deltas} == {(message.id, "Ana")}
        assert (message.speaker, message.error, message.done) == ("planner-1", None, True)
        assert [type(frame) for frame in ana.frames] == [Said, *[Delta] * len(deltas), Done]
        assert message.id == Reply(ana.frames[0], "planner-1").id


async def test_to_everybody_those_answer_who_are_named_or_to_a_question_all():
    broker = MemoryBroker()
    async with steered(demo(), broker=broker) as run, Visitor(broker) as ana, Visitor(broker, "planner-1") as other:
        await run.ask("run.step", {"events": 300})
        await ana.say("Nice work.")
        await ana.say("Are you there?", "Ben")
        await other.say("What are you doing?", "tester-1")  # in an agent's name: no talk of agents with themselves
        named = await ana.say("planner-1 and tester-1, what do you do now")
        assert {message.speaker for message in await ana.answers(named, 2)} == {"planner-1", "tester-1"}
        asked = await ana.say("What is everybody doing?")
        working = {agent["agent_id"] for agent in (await run.ask("run.inspect", {"entity": "agents"}))["agents"]}
        answers = await ana.answers(asked, min(len(working), agents.MAX_AT_ONCE))
        assert {message.speaker for message in answers} <= working
        assert {message.reply_to for message in ana.transcript.messages if message.answer} == {named, asked}
    await broker.aclose()


async def test_the_agents_are_there_while_the_run_plays(place, monkeypatch):
    monkeypatch.setattr(agents, "ARRIVE_S", 0.02)
    chat = Chat(place["broker"], "apollo")
    async with steered(demo(), **place) as run:
        await run.ask("run.step", {"events": 300})
        async with asyncio.timeout(DEADLINE_S):
            while Member("planner-1", "agent") not in (await chat.here()).members:
                await asyncio.sleep(0.01)
    assert (await chat.here()).members == frozenset()
    assert HERE_S > 9 * 2.0, "two signs may be lost"


async def test_a_question_that_breaks_the_answer_is_told_and_ends_nothing(monkeypatch):
    broker = MemoryBroker()

    async def broken(_, __):
        yield "I think "
        raise LookupError("no model")

    async with steered(demo(), broker=broker) as run, Visitor(broker) as ana:
        await run.ask("run.step", {"events": 100})
        with monkeypatch.context() as patch:
            patch.setattr(agents.Agents, "_tokens", broken)
            (message,) = await ana.answers(await ana.say("hello", "planner-1"))
        assert (message.text, message.error) == ("I think ", "LookupError: no model")
        assert (await ana.ask("hello", "planner-1")).count("planner") == 1
        for text in ("\x00", "?" * 5_000, "pipeline " * 500, msgspec.json.decode(b'"\\u202e"')):
            assert await ana.ask(text, "planner-1")
    await broker.aclose()
