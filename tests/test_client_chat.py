"""`ChatClient` and real servers: what is said arrives once, and answers whole, whatever is cut, stopped or killed."""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import random
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from contextlib import AsyncExitStack, asynccontextmanager, suppress

import pytest
from scripted_server import scripted_socket
from serving import TIMEOUT_S, running

from syndarix_rt.broker import Chat, MemoryBroker, RedisBroker
from syndarix_rt.broker import chat as broker_chat
from syndarix_rt.client import ChatClient, chat_socket
from syndarix_rt.delivery.chat import Delta, Done, Finish, Missed, Presence, Said, Say, Stream
from syndarix_rt.errors import BrokerUnavailable, ChatError, EventError, StreamError
from syndarix_rt.events import EventId
from syndarix_rt.server import room as server_room


async def no_sleep(_seconds):
    await asyncio.sleep(0.01)


def client(url, name=None, project="apollo", **options):
    return ChatClient(url, project, name=name, rng=random.Random(1), sleep=no_sleep, **options)


async def until(chat, condition):
    """Iterate to the first frame that meets the condition; all that came."""
    frames = []
    async with asyncio.timeout(TIMEOUT_S):
        async for frame in chat:
            frames.append(frame)
            if condition(frame):
                break
    return frames


async def eventually(condition):
    async with asyncio.timeout(TIMEOUT_S):
        while not condition():
            await asyncio.sleep(0.01)


def texts(chat):
    return [message.text for message in chat.transcript.messages]


@pytest.fixture
async def server():
    async with running() as server:
        yield server


async def test_people_and_an_agent_talk(server):
    async with (
        client(server.url, "ana") as ana,
        client(server.url + "/p/apollo", "ben") as ben,
        client(server.url, "echo", kind="agent") as echo,
    ):
        for chat in (ana, ben, echo):
            assert (await chat.ready()).project == "apollo"
        said = await ana.say("hello echo", to="echo")
        assert (said.speaker, said.to, said.position) == ("ana", "echo", f"{(await ana.ready()).epoch}.1")
        (question,) = [frame for frame in await until(echo, lambda f: isinstance(f, Said)) if isinstance(frame, Said)]
        assert question == said
        async with echo.answer(question) as answer:
            for word in ("hello", " ", "ana"):
                await answer.write(word)
                await asyncio.sleep(0.02)
        frames = await until(ben, lambda frame: isinstance(frame, Done))
        assert "".join(frame.text for frame in frames if isinstance(frame, Delta)) in ("hello ana", "hello ", "hello")
        assert (frames[-1].text, frames[-1].reply_to, frames[-1].to) == ("hello ana", said.id, "ana")
        await eventually(lambda: len(ana.members) == 3)
        assert [(who.name, who.kind) for who in ana.members] == [
            ("ana", "person"),
            ("ben", "person"),
            ("echo", "agent"),
        ]
        ben.show_typing()
        ben.show_typing()  # with the next key; so soon it is not told again
        await eventually(lambda: ana.typing == ["ben"])
        await eventually(lambda: texts(ana) == texts(ben) == texts(echo) == ["hello echo", "hello ana"])
    with pytest.raises(StreamError, match="closed"):
        await ana.say("too late")


async def test_what_is_said_while_the_broker_is_away_is_said_again_and_stands_once(monkeypatch):
    monkeypatch.setattr(chat_socket, "AGAIN_S", 0.01)

    class Away(MemoryBroker):
        """Refuses the first message; stores the second time and loses the reply; then is well."""

        told = 0

        async def publish(self, channel, entries, **more):
            if not channel.startswith("chat:") or b"hello" not in entries[0]:
                return await super().publish(channel, entries, **more)
            self.told += 1
            done = await super().publish(channel, entries, **more) if self.told > 1 else None
            if self.told < 3:
                raise BrokerUnavailable("away")
            return done

    broker = Away()
    async with running(broker) as server, client(server.url, "ana") as ana, client(server.url, "ben") as ben:
        await ben.ready()
        async with asyncio.timeout(TIMEOUT_S):
            said = await ana.say("hello")
            await ana.say("bye")
        await eventually(lambda: texts(ben)[-1:] == ["bye"])
        assert texts(ana) == texts(ben) == ["hello", "bye"]
        assert said.position.endswith(".1")
        assert broker.told >= 2
    await broker.aclose()


async def test_what_cannot_be_said_is_an_error_and_an_answer_that_fails_says_so(server):
    async with client(server.url, "dev", kind="agent") as dev, client(server.url, "ana") as ana:
        for text, code in (("", "invalid-frame"), ("x" * 70_000, "too-large"), ("\ud800", "invalid-frame")):
            with pytest.raises(ChatError) as raised:
                await ana.say(text)
            assert raised.value.code == code
        first = await ana.say("once", id="m1")
        assert await ana.say("once", id="m1") == first
        with pytest.raises(ChatError, match="content"):
            await ana.say("twice", id="m1")
        with pytest.raises(ZeroDivisionError):
            async with dev.answer(first) as answer:
                await answer.write("It is ")
                raise ZeroDivisionError("no")
        done = (await until(ana, lambda frame: isinstance(frame, Done)))[-1]
        assert (done.text, done.error, done.reply_to) == ("It is ", "ZeroDivisionError: no", "m1")
        with pytest.raises(ChatError, match="at most"):
            async with dev.answer(first, id="again") as answer:
                for _ in range(100):
                    await answer.write("\x00" * 1_000)
        done = (await until(ana, lambda frame: isinstance(frame, Done)))[-1]
        assert "at most" in done.error
        assert set(done.text) == {"\x00"}


async def test_over_many_cuts_everything_is_there_once_and_in_order(server):
    """Both sides lose their connection again and again, at any moment; nothing is lost or doubled."""
    chance = random.Random(7)

    async def cut(chats):
        while True:
            await asyncio.sleep(chance.random() * 0.05)
            socket = chance.choice(chats)._socket
            if socket is not None and socket._response.connection is not None:
                socket._response.connection.transport.abort()

    async with (
        client(server.url, "ana") as ana,
        client(server.url, "dev", kind="agent") as dev,
        client(server.url, "ben") as ben,
    ):
        for chat in (ana, dev, ben):
            await chat.ready()
        cutting = asyncio.create_task(cut([ana, dev, ben]))
        said = await asyncio.gather(*(ana.say(f"message {n}") for n in range(20)))
        whole = "".join(f"{n} " for n in range(300))
        async with dev.answer(to="ana", id="long") as answer:
            for n in range(300):
                await answer.write(f"{n} ")
                await asyncio.sleep(0.002)
        await ana.say("the end")
        cutting.cancel()
        frames = await until(ben, lambda frame: isinstance(frame, Said) and frame.text == "the end")
        await eventually(lambda: "the end" in texts(ana) and "the end" in texts(dev))
        positions = [EventId.parse(frame.position) for frame in frames if not isinstance(frame, Presence)]
        assert positions == sorted(set(positions), key=lambda position: position.offset)
        assert not any(isinstance(frame, Missed) for frame in frames)
        assert sorted(frame.text for frame in frames if isinstance(frame, Said)) == sorted(
            [frame.text for frame in said] + ["the end"]
        )
        assert [frame.text for frame in frames if isinstance(frame, Done)] == [whole]
        assert texts(ana) == texts(dev) == texts(ben)


async def test_a_client_that_starts_anew_continues_where_the_last_one_stood(server):
    async with client(server.url, "ana") as ana:
        await ana.say("one")
        position = ana.position
    chat = Chat(server.broker, "apollo")
    for n in range(3):
        await chat.send("ben", Say(id=f"{n}", text=f"missed {n}"))
    async with client(server.url, "ana", last_event_id=position) as ana:
        frames = await until(ana, lambda frame: isinstance(frame, Said) and frame.text == "missed 2")
        assert [frame.text for frame in frames if isinstance(frame, Said)] == ["missed 0", "missed 1", "missed 2"]
    async with client(server.url, "ana", history=1) as ana:
        assert (await until(ana, lambda frame: isinstance(frame, Said)))[-1].text == "missed 2"
    await server.broker.reset(chat.channel)
    async with client(server.url, "ana", last_event_id=position) as ana:
        (gap,) = await until(ana, lambda frame: isinstance(frame, Missed))
        assert (gap.reason, gap.requested) == ("epoch", position)


async def test_whoever_takes_slowly_misses_nothing_and_whoever_never_takes_can_talk(server, monkeypatch):
    monkeypatch.setattr(chat_socket, "MAX_HEARD", 10)
    chat = Chat(server.broker, "apollo")
    async with client(server.url, "slow") as slow, client(server.url, "deaf") as deaf:
        await slow.ready()
        await until(slow, lambda frame: isinstance(frame, Presence))
        for n in range(200):
            await chat.send("ben", Say(id=f"{n}", text=f"{n}"))
        await deaf.say("I only talk")
        assert len(deaf._heard) == 10
        assert len(slow._heard) <= 10
        await slow.say("in between")
        frames = await until(slow, lambda frame: isinstance(frame, Said) and frame.text == "in between")
        said = [frame.text for frame in frames if isinstance(frame, Said)]
        assert said == [*map(str, range(200)), "I only talk", "in between"]


async def test_who_iterates_may_wait_for_a_reply_however_much_is_said_meanwhile(server, monkeypatch):
    monkeypatch.setattr(chat_socket, "MAX_HEARD", 10)
    async with client(server.url, "ana") as ana, client(server.url, "dev", kind="agent") as dev:
        await ana.ready()

        async def answer():
            (question,) = [
                frame for frame in await until(dev, lambda frame: isinstance(frame, Said)) if isinstance(frame, Said)
            ]
            chat = Chat(server.broker, "apollo")
            for n in range(50):
                await chat.send("ben", Say(id=f"{n}", text=f"{n}"))
            async with dev.answer(question) as answer:
                await answer.write("yes")

        answering = asyncio.create_task(answer())
        async for frame in ana:
            if isinstance(frame, Presence):
                said = await ana.say("well?", to="dev")
                async with asyncio.timeout(TIMEOUT_S):
                    assert (await ana.reply(said)).text == "yes"
                break
        await answering
        frames = await until(ana, lambda frame: isinstance(frame, Done))
        assert [frame.text for frame in frames if isinstance(frame, Said)] == ["well?", *map(str, range(50))]


async def test_an_answer_is_written_once_at_a_time_and_within_its_block(server):
    async with client(server.url, "dev", kind="agent") as dev:
        async with dev.answer(to="ana", id="a") as answer:
            with pytest.raises(ChatError, match="is being written") as caught:
                async with dev.answer(to="ana", id="a"):
                    pass
            assert caught.value.code == "conflict"
            await answer.write("once")
            assert answer.text == "once"
        with pytest.raises(RuntimeError, match="within its block"):
            await answer.write("more")
        await eventually(lambda: texts(dev) == ["once"])
        saying = asyncio.create_task(dev.say("one", id="m"))
        await asyncio.sleep(0)
        with pytest.raises(ChatError, match="another message waits under this id"):
            await dev.say("two", id="m")
        assert (await saying).text == "one"


class Odd(Exception):  # noqa: N818 - a name for a test
    """Says what no JSON can."""

    def __str__(self):
        return "\ud800"


async def test_what_a_block_raises_is_told_whatever_it_says_and_goes_on_its_way_whatever_became_of_the_socket(server):
    async with client(server.url, "dev", kind="agent") as dev:
        with pytest.raises(Odd):
            async with dev.answer(to="ana", id="odd"):
                raise Odd
        await eventually(lambda: [message.error for message in dev.transcript.messages] == ["Odd: ?"])
        with pytest.raises(ZeroDivisionError):
            async with dev.answer(to="ana", id="a"):
                await dev.aclose()
                raise ZeroDivisionError
    async with client(server.url, "dev", kind="agent") as dev:
        written = asyncio.Event()

        async def write():
            async with dev.answer(to="ana", id="b") as answer:
                await dev.aclose()
                with pytest.raises(StreamError, match="closed here"):
                    await answer.write("text")
                written.set()
                await asyncio.Event().wait()

        writing = asyncio.create_task(write())
        await written.wait()
        writing.cancel()
        with pytest.raises(asyncio.CancelledError):
            await writing


async def test_a_client_is_entered_once_before_anything_else(server):
    chat = client(server.url, "ana")
    for call in (chat.ready, chat.flush, lambda: chat.say("hello"), lambda: anext(chat)):
        with pytest.raises(RuntimeError, match="async with ChatClient"):
            await call()
    async with chat:
        with pytest.raises(RuntimeError, match="entered once"):
            await chat.__aenter__()
        assert (await chat.say("hello")).text == "hello"
    with pytest.raises(EventError, match="not an event id"):
        client(server.url, last_event_id="x")
    await client(server.url).aclose()  # there is nothing to close


@pytest.mark.parametrize(
    "frame",
    [
        "{",
        "[]",
        '{"type":"said","id":"1","from":"ana","to":"all","text":"x","time":"2026-01-05T09:00:00Z"}',
        '{"type":"said","position":"41","id":"1","from":"ana","to":"all","text":"x","time":"2026-01-05T09:00:00Z"}',
        '{"type":"gap","position":"","reason":"epoch","requested":"","first":1,"last":1,"missed":null}',
    ],
)
async def test_what_does_not_speak_the_protocol_is_left_for_good(frame):
    async def script(ws):
        await ws.send_str(frame)
        await ws.receive()

    async with scripted_socket(script) as url, client(url, "ana") as ana:
        with pytest.raises(StreamError, match=r"does not speak syndarix\.chat\.v1"):
            await anext(ana)


READY = {
    "type": "ready", "project": "apollo", "name": "ana", "session": "session-1", "position": "epoch-aa.0",
    "epoch": "epoch-aa", "first": 1, "last": 0, "resumed": False, "members": [], "typing": [],
}  # fmt: skip


def said(offset, text):
    return {
        "type": "said", "position": f"epoch-aa.{offset}", "id": f"m{offset}", "from": "ben", "to": "all", "text": text,
        "time": "2026-01-05T09:00:00Z",
    }  # fmt: skip


async def test_what_came_before_and_what_a_newer_server_says_is_passed_over():
    async def script(ws):
        for frame in (READY, said(1, "one"), {"type": "weather"}, said(1, "one"), {"type": "pong"}, said(2, "two")):
            await ws.send_json(frame)
        await ws.receive()

    async with scripted_socket(script) as url, client(url) as chat:
        frames = await until(chat, lambda frame: frame.text == "two")
        assert [frame.text for frame in frames] == texts(chat) == ["one", "two"]
        assert (chat.name, chat.position) == ("ana", "epoch-aa.2")
        assert repr(chat.transcript.messages[0]) == "<ben to all: 'one'>"


async def test_closing_ends_the_iteration_and_those_who_wait():
    async def script(ws):
        await ws.send_json(READY)
        await ws.send_json(said(1, "well?"))
        async for _ in ws:
            pass

    async with scripted_socket(script) as url:
        async with client(url) as chat:
            (question,) = await until(chat, lambda frame: True)
            saying = asyncio.create_task(chat.say("hello"))
            waiting = asyncio.create_task(chat.reply(question))
            reading = asyncio.create_task(anext(chat, None))
            await eventually(lambda: all(posted.sent for posted in chat._outbox.waiting.values()))
        for task, why in ((saying, "before it was acknowledged"), (waiting, "before it was answered")):
            with pytest.raises(BrokerUnavailable, match=why):
                await task
        assert await reading is None


async def test_what_is_said_while_there_is_no_server_is_said_when_there_is_one():
    async with running() as server:
        port = int(server.url.rpartition(":")[2])
        broker = server.broker
        async with client(server.url, "ana") as ana:
            await ana.say("before")
            await server.stop()
            await eventually(lambda: ana.state == "waiting")
            saying = asyncio.create_task(ana.say("meanwhile"))
            async with running(broker, port=port) as again:
                assert (await asyncio.wait_for(saying, TIMEOUT_S)).text == "meanwhile"
                assert texts(ana) == ["before", "meanwhile"]
                assert again.url == server.url


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ({"token": "wrong"}, "401 Unauthorized: this server wants its key; use the URL"),
        ({"name": "all"}, "400 Bad Request: name must be 1 to 64 printable characters, not 'all'"),
        ({"history": -1}, "400 Bad Request: history must be a number"),
    ],
)
async def test_a_refusal_for_good_is_an_error_everywhere(options, why):
    async with running(token="s3cret") as server, client(server.url, **({"token": "s3cret"} | options)) as ana:
        with pytest.raises(StreamError, match=why):
            await ana.ready()
        with pytest.raises(StreamError, match=why):
            await ana.say("hello")
        with pytest.raises(StreamError, match=why):
            await anext(ana)
        assert ana.state == "closed"


# ---- two servers, and an agent in a process of its own ------------------------------------------------------------

AGENT = """
import asyncio, json, sys
from syndarix_rt.client import ChatClient
from syndarix_rt.delivery.chat import Said

async def main(url):
    async with ChatClient(url, "apollo", name="dev", kind="agent", history=0) as chat:
        async for frame in chat:
            if isinstance(frame, Said) and frame.to == "dev":
                async with chat.answer(frame) as answer:
                    for n in range(int(frame.text)):
                        await answer.write(f"{n} ")
                        await asyncio.sleep(0.01)
            elif isinstance(frame, Said) and frame.text == "thanks":
                print(json.dumps([message.text for message in chat.transcript.messages]), flush=True)

asyncio.run(main(sys.argv[1]))
"""


@asynccontextmanager
async def serving(redis_url):
    """A server in a process of its own: its URL and the process, which may be killed."""
    with subprocess.Popen(  # noqa: ASYNC220 - starting takes no time
        [sys.executable, "-m", "syndarix_rt", "serve", "--port", "0", "--token", "", "--redis-url", redis_url],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=os.environ | {"PYTHONUNBUFFERED": "1"},
    ) as process:
        try:
            line = ""
            while "http://" not in line:
                line = await asyncio.to_thread(process.stdout.readline)
                assert line, "the server ended"
            url = "http://" + line.split("http://")[1].split()[0].rstrip("/.,")
            draining = asyncio.create_task(asyncio.to_thread(process.stdout.read))
            async with asyncio.timeout(TIMEOUT_S):
                while not await asyncio.to_thread(_is_ready, url):
                    await asyncio.sleep(0.02)
            yield url, process
        finally:
            process.kill()
            process.wait()
            await draining


def _is_ready(url):
    with suppress(urllib.error.URLError, OSError), urllib.request.urlopen(f"{url}/readyz", timeout=2) as reply:
        return reply.status == 200
    return False


@asynccontextmanager
async def balanced(*ports):
    """One address before several servers: each connection goes to the next one that takes it."""
    turns = itertools.cycle(ports)

    async def pipe(reader, writer):
        with suppress(ConnectionError):
            while data := await reader.read(65_536):
                writer.write(data)
                await writer.drain()
        writer.close()

    async def connected(reader, writer):
        for _ in ports:
            with suppress(OSError):
                there, back = await asyncio.open_connection("127.0.0.1", next(turns))
                await asyncio.gather(pipe(reader, back), pipe(there, writer))
                return
        writer.close()

    server = await asyncio.start_server(connected, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()


async def test_an_instance_is_killed_in_the_middle_of_an_answer(redis_url):
    """Two people on two instances and an agent in a third process; the first instance is killed, its people go on."""
    async with AsyncExitStack() as stack:
        (one, killed), (two, _) = [await stack.enter_async_context(serving(redis_url)) for _ in range(2)]
        ports = [int(url.rpartition(":")[2]) for url in (one, two)]
        address = await stack.enter_async_context(balanced(*ports))
        ana = await stack.enter_async_context(client(address, "ana"))  # the first connection goes to the first one
        await ana.ready()
        ben = await stack.enter_async_context(client(two, "ben"))
        agent = subprocess.Popen([sys.executable, "-c", AGENT, two], stdout=subprocess.PIPE)  # noqa: ASYNC220 - starting takes no time
        stack.callback(agent.stdout.close)
        stack.callback(agent.wait)
        stack.callback(agent.kill)
        await eventually(lambda: {"ana", "ben", "dev"} == {who.name for who in ana.members})

        await ana.say("200", to="dev")
        frames = await until(ana, lambda frame: isinstance(frame, Delta) and frame.at > 100)
        killed.send_signal(signal.SIGKILL)
        ben_said = await ben.say("in between")
        frames += await until(ana, lambda frame: isinstance(frame, Done))
        await ana.say("thanks")
        await eventually(lambda: texts(ben)[-1:] == ["thanks"])

        whole = "".join(f"{n} " for n in range(200))
        heard = await asyncio.wait_for(asyncio.to_thread(agent.stdout.readline), TIMEOUT_S)
        assert texts(ana) == texts(ben) == json.loads(heard), "the same order for people and agent"
        assert sorted(texts(ana)) == sorted(["200", "in between", whole, "thanks"])
        assert ben_said in frames
        assert not any(isinstance(frame, Missed) for frame in frames)
        offsets = [EventId.parse(frame.position).offset for frame in frames if not isinstance(frame, Presence)]
        assert offsets == list(range(1, offsets[-1] + 1)), "each entry of the log once"
        deltas = "".join(frame.text for frame in frames if isinstance(frame, Delta))
        assert whole.startswith(deltas)
        assert len(deltas) > 400
        gone = [who.name for frame in frames if isinstance(frame, Presence) for who in frame.left]
        assert gone == [], "who comes back in time was never gone"


async def test_an_agent_beside_the_broker_answers_through_it(redis_url):
    broker = RedisBroker(redis_url)
    other = RedisBroker(redis_url)
    beside = Chat(other, "apollo")
    async with running(broker) as server, client(server.url, "ana") as ana:
        await ana.ready()
        asked = await ana.say("status?", to="dev")
        for at, text in ((0, "all "), (4, "well")):
            await beside.send("dev", Stream(id="a", at=at, text=text, to="ana", reply_to=asked.id))
        await eventually(lambda: [answer.text for answer in ana.transcript.answers.values()] == ["all well"])
        await beside.send("dev", Finish(id="a", text="all well", to="ana", reply_to=asked.id))
        frames = await until(ana, lambda frame: isinstance(frame, Done))
        assert (frames[-1].text, frames[-1].reply_to) == ("all well", asked.id)
    await broker.aclose()
    await other.aclose()


@pytest.fixture
def brief_absence(monkeypatch):
    """Who is cut off is gone after three seconds: less is what a busy machine takes to say that somebody is here."""
    monkeypatch.setattr(broker_chat, "HERE_S", 3.0)
    for name, seconds in {"HERE_S": 3.0, "RENEW_S": 0.1, "LOOK_S": 0.2, "LOOK_AGAIN_S": 0.1}.items():
        monkeypatch.setattr(server_room, name, seconds)


@asynccontextmanager
async def agent_at(url):
    with subprocess.Popen([sys.executable, "-c", AGENT, url]) as process:  # noqa: ASYNC220 - starting takes no time
        try:
            yield process
        finally:
            process.kill()


async def test_the_answer_of_an_agent_that_was_killed_is_broken_off_where_it_stood(redis_url, brief_absence):
    """By two servers at the same time, and it is there once; whoever comes later finds it ended, too."""
    async with AsyncExitStack() as stack:
        brokers = [RedisBroker(redis_url) for _ in range(2)]
        for broker in brokers:
            stack.push_async_callback(broker.aclose)
        one, two = [await stack.enter_async_context(running(broker)) for broker in brokers]
        ana = await stack.enter_async_context(client(one.url, "ana"))
        ben = await stack.enter_async_context(client(two.url, "ben"))
        await ben.ready()
        async with agent_at(two.url) as agent:
            await eventually(lambda: "dev" in {who.name for who in ana.members})
            asked = await ana.say("100000", to="dev")
            await until(ana, lambda frame: isinstance(frame, Delta) and frame.at > 20)
            agent.kill()
        frames = await until(ana, lambda frame: isinstance(frame, Done))
        await eventually(lambda: texts(ben) == texts(ana))
        done = frames[-1]
        assert (done.speaker, done.to, done.reply_to, done.error) == ("dev", "ana", asked.id, "dev has gone")
        assert done.text == "".join(f"{n} " for n in range(done.text.count(" ")))
        assert len(done.text) > 20
        assert not ana.transcript.answers
        late = await stack.enter_async_context(client(one.url, "carol"))
        assert [await ana.say("well"), await ben.say("well")]
        frames = await until(late, lambda frame: isinstance(frame, Said) and frame.speaker == "ben")
        assert [frame.error for frame in frames if isinstance(frame, Done)] == ["dev has gone"]


async def test_an_answer_that_was_open_when_nobody_was_here_is_broken_off_for_who_comes_later(server, brief_absence):
    chat = Chat(server.broker, "apollo")
    await chat.send("dev", Stream(id="a", at=0, text="I think ", to="ana", reply_to="q"))
    await chat.send("ed", Stream(id="a", at=0, text="I am ", to="ana", reply_to="q"))
    await chat.send("flo", Stream(id="a", at=0, text="Yes.", to="ana", reply_to="q"))
    await chat.send("flo", Finish(id="a", text="Yes.", to="ana", reply_to="q"))
    async with client(server.url, "ana") as ana, client(server.url, "ed", kind="agent"):
        frames = await until(ana, lambda frame: isinstance(frame, Done) and frame.error)
        assert (frames[-1].speaker, frames[-1].text, frames[-1].error) == ("dev", "I think ", "dev has gone")
        await ana.say("hello")
        assert [(m.speaker, m.text) for m in ana.transcript.answers.values()] == [("ed", "I am ")], "ed is still here"
        assert texts(ana) == ["Yes.", "I think ", "hello"]
