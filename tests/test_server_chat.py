"""The chat socket: what is said and by whom, resume, presence, limits, and how it ends."""

from __future__ import annotations

import asyncio
import itertools
import json
from contextlib import AsyncExitStack, asynccontextmanager

import aiohttp
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from serving import TIMEOUT_S, running

from syndarix_rt.broker import Chat, MemoryBroker, chat_channel
from syndarix_rt.broker import chat as broker_chat
from syndarix_rt.broker.protocol import Retention
from syndarix_rt.delivery.chat import Finish, Say, Stream, decode_client
from syndarix_rt.errors import ChatError
from syndarix_rt.server import chat as server_chat
from syndarix_rt.server import room as server_room
from syndarix_rt.server.tokens import issue

PROTOCOL = "syndarix.chat.v1"


class Member:
    """A plain client of the protocol; what it got is in ``frames``."""

    def __init__(self, ws):
        self.ws = ws
        self.frames = []
        self.ready = None

    async def send(self, frame):
        await self.ws.send_str(frame if isinstance(frame, str) else json.dumps(frame))

    async def say(self, text, id=None, **more):
        await self.send({"type": "say", "id": id or text, "text": text} | more)

    async def next(self):
        message = await self.ws.receive(TIMEOUT_S)
        assert message.type is aiohttp.WSMsgType.TEXT, (message, self.ws.close_code)
        frame = json.loads(message.data)
        self.frames.append(frame)
        return frame

    async def until(self, condition):
        """The first frame from now on that meets the condition."""
        while not condition(frame := await self.next()):
            pass
        return frame

    async def told(self, type, **members):
        return await self.until(lambda frame: frame["type"] == type and members.items() <= frame.items())

    @property
    def texts(self):
        return [frame["text"] for frame in self.frames if frame["type"] in ("said", "done")]

    async def closed(self):
        """Read to the end; its code and the last frame."""
        while (message := await self.ws.receive(TIMEOUT_S)).type is aiohttp.WSMsgType.TEXT:
            self.frames.append(json.loads(message.data))
        return self.ws.close_code, self.frames[-1] if self.frames else None

    def cut(self):
        """As a cable that is pulled out."""
        self.ws._response.connection.transport.abort()


@asynccontextmanager
async def member(server, name=None, project="apollo", *, headers=None, protocols=(PROTOCOL,), **query):
    params = query | ({"name": name} if name else {})
    url = f"{server.url}/projects/{project}/chat"
    async with server.http.ws_connect(url, params=params, headers=headers, protocols=protocols, max_msg_size=0) as ws:
        who = Member(ws)
        first = await ws.receive(TIMEOUT_S)
        if first.type is aiohttp.WSMsgType.TEXT:
            who.ready = json.loads(first.data)
            assert who.ready["type"] == "ready"
        yield who


@pytest.fixture
async def server():
    async with running() as server:
        yield server


# ---- talking ------------------------------------------------------------------------------------------------------


async def test_what_one_says_all_hear_with_its_position_and_who_said_it(server):
    async with member(server, "ana") as ana, member(server, "ben") as ben:
        assert ana.ready | {"members": 0, "session": 0, "epoch": 0, "position": 0} == {
            "type": "ready",
            "project": "apollo",
            "name": "ana",
            "session": 0,
            "position": 0,
            "epoch": 0,
            "first": 1,
            "last": 0,
            "resumed": False,
            "members": 0,
            "typing": [],
        }
        await ana.say("hello", id="m1", to="ben", **{"from": "zoe", "position": "x.1"})
        said = await ana.told("said")
        assert await ben.told("said") == said
        assert said.pop("time")
        epoch = ana.ready["epoch"]
        assert said == {
            "type": "said",
            "position": f"{epoch}.1",
            "id": "m1",
            "from": "ana",
            "to": "ben",
            "text": "hello",
        }
        await ben.say("hi", reply_to="m1", to="ana")
        assert (await ana.told("said"))["reply_to"] == "m1"
        await ben.send({"type": "ping"})
        assert await ben.told("pong") == {"type": "pong"}


async def test_all_members_hear_all_in_one_order(server):
    async with AsyncExitStack() as stack:
        members = [await stack.enter_async_context(member(server, f"m{n}")) for n in range(5)]

        async def talk(who):
            for n in range(15):
                await who.say(f"{who.ready['name']} {n}")

        async def listen(who):
            while len(who.texts) < 75:
                await who.next()

        await asyncio.gather(*map(talk, members), *map(listen, members))
        assert len({tuple(who.texts) for who in members}) == 1
        positions = [frame["position"] for frame in members[0].frames if frame["type"] == "said"]
        assert positions == [f"{members[0].ready['epoch']}.{n}" for n in range(1, 76)]


async def test_a_message_sent_again_appears_once_and_is_acknowledged(server):
    async with member(server, "ana") as ana, member(server, "ben") as ben:
        await ana.say("one")
        first = await ana.told("said")
        await ana.say("one")
        await ana.say("two")
        assert (await ana.told("said"))["text"] == "two"
        await ben.told("said", text="two")
        assert ben.texts == ["one", "two"]
        ana.cut()
    async with member(server, "ana", last_event_id=first["position"]) as ana:
        assert ana.ready["resumed"] is True
        await ana.say("two")
        await ana.say("three")
        await ana.told("said", text="three")
        assert ana.texts == ["two", "three"], "the stream has acknowledged it"
        await ana.say("one")
        assert await ana.told("said") == first, "it stands before what this connection began with"
        await ana.say("not one", id="one")
        error = await ana.told("error")
        assert (error["code"], error["path"], error["id"]) == ("conflict", "$.id", "one")


async def test_history_has_the_last_messages_and_no_deltas_of_complete_answers(server):
    chat = Chat(server.broker, "apollo")
    for n in range(60):
        await chat.send("ana", Say(id=f"m{n}", text=f"question {n}"))
        for at in range(5):
            await chat.send("dev", Stream(id=f"a{n}", at=at, text="x"))
        await chat.send("dev", Finish(id=f"a{n}", text="xxxxx"))
    await chat.send("dev", Stream(id="open", at=0, text="I think"))
    for history, count in ((None, 50), (3, 3), (0, 0), (1_000_000, 120)):
        query = {} if history is None else {"history": history}
        async with member(server, "ben", **query) as ben:
            await ben.say(f"now {history}")
            await ben.told("said", text=f"now {history}")
            frames = [frame for frame in ben.frames if frame["type"] in ("said", "done")]
            before = [frame for frame in frames if not frame["text"].startswith("now")]
            assert len(before) <= count
            assert len(before) >= count - len(frames) + len(before)
            deltas = [frame for frame in ben.frames if frame["type"] == "delta"]
            assert [frame["text"] for frame in deltas] == ([] if history in (0, 3) and not deltas else ["I think"])


async def test_who_comes_back_gets_exactly_what_it_missed_also_of_an_answer(server):
    chat = Chat(server.broker, "apollo")
    text = "".join(f"{n} " for n in range(100))
    async with member(server, "ana") as ana:
        await chat.send("dev", Stream(id="a", at=0, text=text[:50], to="ana"))
        await chat.send("dev", Stream(id="a", at=50, text=text[50:60], to="ana"))
        delta = await ana.told("delta", at=50)
        ana.cut()
    for at in range(60, 200, 20):
        await chat.send("dev", Stream(id="a", at=at, text=text[at : at + 20], to="ana"))
    async with member(server, "ana", last_event_id=delta["position"]) as again:
        assert again.ready["position"] == delta["position"]
        await again.told("delta", at=180)
        got = [frame for frame in ana.frames + again.frames if frame["type"] == "delta"]
        assert "".join(frame["text"] for frame in got) == text[:200]
        await chat.send("dev", Finish(id="a", text=text, to="ana"))
        assert (await again.told("done"))["text"] == text
    async with member(server, "ana", last_event_id=delta["position"]) as folded:
        assert (await folded.next())["type"] == "done", "what is complete by now comes whole"


async def test_history_that_is_gone_is_declared_before_anything_else():
    broker = MemoryBroker(retention=Retention(entries=10))
    async with running(broker) as server:
        chat = Chat(broker, "apollo")
        for n in range(30):
            published = await chat.send("ana", Say(id=f"{n}", text=f"{n}"))
        asked = f"{published.epoch}.5"
        async with member(server, "ben", last_event_id=asked) as ben:
            assert ben.ready["resumed"] is False
            assert await ben.next() == {
                "type": "gap",
                "position": f"{published.epoch}.20",
                "reason": "trimmed",
                "requested": asked,
                "first": 21,
                "last": 30,
                "missed": 15,
            }
            for n in range(20, 30):
                assert (await ben.next())["text"] == f"{n}"
            await broker.reset(chat.channel)
            await chat.send("ana", Say(id="new", text="new"))
            gap = await ben.told("gap")
            assert (gap["reason"], gap["requested"]) == ("epoch", f"{published.epoch}.30")
            assert (await ben.told("said"))["text"] == "new"
        async with member(server, "ben", last_event_id="someepoch.7") as ben:
            assert (await ben.next())["reason"] == "epoch"
    await broker.aclose()


async def test_who_is_far_behind_reads_the_log_in_pages(server, monkeypatch):
    monkeypatch.setattr(server_room, "MAX_ENTRIES", 10)
    monkeypatch.setattr(server_chat, "PAGE_ENTRIES", 7)
    chat = Chat(server.broker, "apollo")
    first = await chat.send("ana", Say(id="0", text="0"))
    async with member(server, "here"):
        foreign = [b'{"type":"my_event"}', b"[]", b"\xff"]  # so many of them that there are pages of nothing else
        await server.broker.publish(chat.channel, foreign * 8)
        for n in range(1, 101):
            await chat.send("ana", Say(id=f"{n}", text=f"{n}"))
        async with member(server, "ben", last_event_id=f"{first.epoch}.0") as ben:
            await ben.told("said", text="100")
            assert ben.texts == [f"{n}" for n in range(101)]


async def test_an_agent_streams_its_answer_over_a_socket(server):
    async with member(server, "dev", kind="agent") as dev, member(server, "ana") as ana:
        assert {"name": "dev", "kind": "agent"} in ana.ready["members"]
        await ana.say("why?", to="dev")
        question = await dev.told("said")
        for at, text in ((0, "It "), (3, "works")):
            await dev.send(
                {"type": "delta", "id": "a", "at": at, "text": text, "to": "ana", "reply_to": question["id"]}
            )
        await dev.send({"type": "done", "id": "a", "text": "It works", "to": "ana", "reply_to": question["id"]})
        done = await ana.told("done")
        deltas = [frame for frame in ana.frames if frame["type"] == "delta"]
        assert [(frame["from"], frame["at"], frame["text"]) for frame in deltas] == [
            ("dev", 0, "It "),
            ("dev", 3, "works"),
        ]
        assert (done["from"], done["text"], done["reply_to"]) == ("dev", "It works", "why?")
        assert (await dev.told("done"))["position"] == done["position"]


# ---- who is here --------------------------------------------------------------------------------------------------


async def test_presence_tells_who_comes_who_leaves_and_who_types(server):
    async with member(server, "ana") as ana:
        async with member(server, "ben") as ben:
            frame = await ana.told("presence")
            assert (frame["joined"], frame["left"], frame["count"]) == ([{"name": "ben", "kind": "person"}], [], 2)
            assert [who["name"] for who in ben.ready["members"]] == ["ana", "ben"]
            await ben.send({"type": "typing"})
            assert (await ana.told("presence"))["typing"] == ["ben"]
            await ben.say("hello")
            assert (await ana.told("presence"))["typing"] == []
            async with member(server, "ben"):
                pass
        frame = await ana.told("presence")
        assert (frame["joined"], frame["left"], frame["count"]) == ([], [{"name": "ben", "kind": "person"}], 1)


async def test_who_is_cut_off_and_comes_back_was_never_gone_and_else_is_gone_later(server, monkeypatch):
    monkeypatch.setattr(broker_chat, "HERE_S", 1.0)
    monkeypatch.setattr(server_room, "RENEW_S", 0.1)
    monkeypatch.setattr(server_room, "LOOK_S", 0.26)
    monkeypatch.setattr(server_room, "LOOK_AGAIN_S", 0.05)
    async with member(server, "ana") as ana:
        async with member(server, "ben") as ben:
            await ana.told("presence")
            ben.cut()
        async with member(server, "ben", session=ben.ready["session"]) as ben:
            assert ben.ready["session"] in ben.ready["session"]
            await ben.say("back again")
            await ana.told("said")
            ben.cut()
        frame = await ana.told("presence")
        assert [who["name"] for who in frame["left"]] == ["ben"]
        presences = [frame for frame in ana.frames if frame["type"] == "presence"]
        assert len(presences) == 2, "ben came, and in the end was gone"


# ---- who may come in, and as whom ---------------------------------------------------------------------------------


async def refused(server, *args, **options):
    """The status of a refused upgrade."""
    with pytest.raises(aiohttp.WSServerHandshakeError) as caught:
        async with member(server, *args, **options):
            pytest.fail("accepted")
    return caught.value.status


async def test_a_page_of_another_site_is_refused_before_the_upgrade():
    async with running(token="s3cret", cors_origins=("https://site.example",)) as server:
        key = {"authorization": "Bearer s3cret"}
        assert await refused(server, "ana", headers=key | {"origin": "https://evil.example"}) == 403
        assert await refused(server, "ana", headers={"origin": "https://evil.example"}) == 403
        assert await refused(server, "ana", headers=key | {"host": "evil.example"}) == 403
        for origin in (server.url, "https://site.example"):
            async with member(server, "ana", headers=key | {"origin": origin}) as ana:
                assert ana.ready["name"] == "ana"
        async with member(server, "ana") as ana:
            assert (ana.ready, ana.ws.close_code) == (None, 4401)


@pytest.mark.parametrize(
    "query",
    [{"name": name} for name in (" ", "all", "x" * 65, "a\nb")]
    + [{"kind": "robot"}, {"session": "short"}, {"history": "-1"}, {"history": "many"}, {"history": "9" * 20}]
    + [{"last_event_id": "x"}, {"last_event_id": "someepoch.01"}],
)
async def test_what_is_wrong_with_the_query_is_a_400(server, query):
    assert await refused(server, **query) == 400


async def test_an_unknown_project_another_protocol_and_a_guest(server):
    async with member(server, "ana", "no.name") as nobody:
        assert nobody.ws.close_code == 4404
    assert await refused(server, "ana", protocols=("other.v1",)) == 400
    assert await refused(server, "ana", protocols=()) == 400
    async with member(server) as guest:
        assert guest.ready["name"].startswith("guest-")
        assert guest.ws.protocol == PROTOCOL


# ---- bad frames ---------------------------------------------------------------------------------------------------

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=10), inner, max_size=4),
    max_leaves=20,
)
frames = st.one_of(
    st.text(max_size=200),
    st.binary(max_size=200),
    json_values.map(json.dumps),
    st.integers(1, 30_000).map(lambda depth: "[" * depth),
    st.integers(1, 15_000).map(lambda depth: '{"type":"say","id":"1","text":' + "[" * depth + "]" * depth + "}"),
    st.integers(100, 50_000).map(lambda size: json.dumps({"type": "say", "id": "x" * size, "text": "x"})),
    st.fixed_dictionaries(
        {},
        optional={
            "type": st.sampled_from(["say", "delta", "done", "typing", "ping", "said"]) | json_values,
            "id": st.text(max_size=5) | json_values,
            "to": st.text(max_size=5) | json_values,
            "text": st.text(max_size=5) | json_values,
            "at": st.integers() | json_values,
            "reply_to": json_values,
        },
    ).map(json.dumps),
)


async def test_whatever_comes_the_socket_lives_and_says_what_is_wrong(server, monkeypatch):
    monkeypatch.setattr(server_chat, "BURST", 1e9)
    async with member(server, "ana") as ana, member(server, "ben") as ben:
        loop = asyncio.get_running_loop()
        await ana.told("presence")
        numbers, settled = itertools.count(), len(asyncio.all_tasks())

        async def try_out(frame):
            marker = f"marker {next(numbers)}"
            await (ana.ws.send_bytes if isinstance(frame, bytes) else ana.ws.send_str)(frame)
            await ana.send({"type": "say", "id": marker})
            ana.frames.clear()
            await ana.told("error", id=marker)
            errors = [answer for answer in ana.frames if answer["type"] == "error"]
            for error in errors:
                assert error["code"] in ("invalid-json", "invalid-frame", "conflict")
                assert error["path"].startswith("$")
                assert error["detail"]
            try:
                decode_client("" if isinstance(frame, bytes) else frame)  # nothing of ours is binary
            except ChatError:
                assert len(errors) == 2, "it is answered, too"

        @settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
        @given(frames)
        def fuzz(frame):
            asyncio.run_coroutine_threadsafe(try_out(frame), loop).result(TIMEOUT_S)

        await asyncio.to_thread(fuzz)
        await ana.say("still here", id="the last one of all")
        await ben.told("said", text="still here")
        async with asyncio.timeout(TIMEOUT_S):
            while len(asyncio.all_tasks()) > settled:
                await asyncio.sleep(0.01)


# ---- how it ends --------------------------------------------------------------------------------------------------


async def test_who_closes_is_answered_with_the_code_that_it_gave(server):
    async with member(server, "ana") as ana:
        await ana.ws.close(code=1000)
        assert ana.ws.close_code == 1000
    async with member(server, "ben") as ben:
        assert [who["name"] for who in ben.ready["members"]] == ["ben"]


async def test_a_token_speaks_for_its_own_name_and_project_alone():
    key = "k" * 48
    async with running(token=key) as server:
        bearer = issue(key, ["chat:apollo"], name="ana", life_s=60)
        headers = {"authorization": f"Bearer {bearer}"}
        for name in (None, "ana"):
            async with member(server, name, headers=headers) as ana:
                assert ana.ready["name"] == "ana"
        for name, project in (("ben", "apollo"), ("ana", "zeus"), (None, "zeus")):
            async with member(server, name, project, headers=headers) as other:
                assert (other.ready, other.ws.close_code) == (None, 4403)


async def test_a_message_that_is_too_large_ends_it_with_1009(server):
    for size, sign in ((64 * 1024 + 1, "x"), (40 * 1024, "é")):
        async with member(server, "ana") as ana:
            await ana.send(sign * size)
            assert (await ana.closed())[0] == 1009
    assert (await ana.closed())[1]["code"] == "too-large"
    async with member(server, "ana") as ana:
        await ana.send("x" * 64 * 1024)
        assert (await ana.told("error"))["code"] == "invalid-json"


async def test_a_flood_is_cut_with_an_error_and_1008_while_the_others_talk(server):
    async with member(server, "calm") as calm, member(server, "flooding") as flooding:

        async def flood():
            for n in range(5_000):
                await flooding.say(f"{n}")

        task = asyncio.create_task(flood())
        code, last = await flooding.closed()
        assert (code, last["type"], last["code"]) == (1008, "error", "rate-limit")
        await asyncio.wait({task})
        assert task.exception() is None or isinstance(task.exception(), ConnectionError | aiohttp.ClientError)
        await calm.say("still here")
        await calm.told("said", text="still here")
        assert len(calm.texts) < 120


async def test_who_gives_no_sign_of_life_is_closed_and_who_only_listens_is_not():
    async with running(ping_s=0.6) as server, member(server, "alive") as alive:
        async with server.http.ws_connect(
            f"{server.url}/projects/apollo/chat?name=silent", protocols=(PROTOCOL,), autoping=False
        ) as ws:
            silent = Member(ws)
            listening = asyncio.create_task(alive.told("said"))
            while (message := await ws.receive(TIMEOUT_S)).type in (aiohttp.WSMsgType.TEXT, aiohttp.WSMsgType.PING):
                if message.type is aiohttp.WSMsgType.TEXT:
                    silent.frames.append(json.loads(message.data))
            assert ws.close_code == 1008
            assert silent.frames[-1]["code"] == "silent"
        await alive.say("I only listened")
        assert (await listening)["text"] == "I only listened"


async def test_a_server_that_ends_says_so_with_1012():
    async with running() as server, member(server, "ana") as ana:
        stopping = asyncio.create_task(server.stop())
        assert (await ana.closed())[0] == 1012
        await stopping


async def test_who_leaves_leaves_nothing_behind(server):
    rooms = server.app.extensions["syndarix_rt_rooms"]
    for n in range(6):
        async with member(server, "ana") as ana:
            if n % 2:
                ana.cut()
    async with asyncio.timeout(TIMEOUT_S):
        while rooms._rooms or rooms._closing or server.hub._sockets:
            await asyncio.sleep(0.01)
    assert len(await server.broker.claimants(chat_channel("apollo"))) == 3
