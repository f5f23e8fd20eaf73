"""The server over a real Redis: what happens to streams when it is killed, flushed or left."""

import asyncio
import io
import json
import secrets
import signal
import subprocess
import sys
from contextlib import AsyncExitStack

import aiohttp
import pytest
import structlog
from playback_clock import ticks
from prometheus_client.parser import text_string_to_metric_families
from redis import asyncio as redis
from redis_server import PASSWORD, RedisServer
from serving import TIMEOUT_S, is_data, offsets, running
from steering import steered

from syndarix_rt.broker import RedisBroker
from syndarix_rt.broker.chat import Chat
from syndarix_rt.broker.protocol import Retention
from syndarix_rt.delivery.chat import Say
from syndarix_rt.errors import BrokerUnavailable
from syndarix_rt.server import revocation, room
from syndarix_rt.server.tokens import issue

CHANNEL = "project:{apollo}"


@pytest.fixture
def own_redis(tmp_path):
    with RedisServer(tmp_path) as server:
        yield server


async def channels(url):
    """The Pub/Sub channels that somebody subscribes to."""
    client = redis.Redis.from_url(url)
    try:
        return [name.decode() for name in await client.pubsub_channels()]
    finally:
        await client.aclose()


async def eventually(condition):
    async with asyncio.timeout(TIMEOUT_S):
        while not await condition():
            await asyncio.sleep(0.02)


async def test_streams_go_on_exactly_over_a_kill_of_redis_that_loses_nothing(own_redis):
    broker = RedisBroker(own_redis.url)
    async with running(broker, keepalive_s=0.1) as server:
        async with server.stream() as live, server.stream(types="other_*") as filtered:
            await live.opened()
            await filtered.opened()
            before = await server.publish(1, 3)
            assert offsets(await live.events(3)) == [1, 2, 3]
            own_redis.kill()
            quiet = live.raw.count(b": keepalive")
            await live.until(lambda me: me.raw.count(b": keepalive") >= quiet + 2)
            assert (await server.get("/readyz"))[0] == 503
            status, _headers, _ = await server.post("/projects/apollo/events", b"{}")
            assert status == 400
            async with server.stream(last_event_id=f"{before.epoch}.1") as waiting:
                await waiting.until(lambda me: b": keepalive" in me.raw)
                assert waiting.response.status == 200
                assert b"stream-open" not in waiting.raw
                own_redis.start()
                after = await publish_when_back(server, 4, 3)
                assert json.loads((await waiting.opened())[0].data)["resumed"] is True
                assert offsets(await waiting.events(5)) == [2, 3, 4, 5, 6]
            frames = await live.events(3)
            await server.publish(7, 2, type="other_event")
            assert offsets(await filtered.events(2)) == [7, 8]
    assert after.epoch != before.epoch
    assert [frame.id for frame in frames] == [f"{after.epoch}.{n}" for n in (4, 5, 6)]
    assert b"event: gap" not in live.raw + filtered.raw + waiting.raw
    await broker.aclose()


async def publish_when_back(server, first, count):
    async with asyncio.timeout(TIMEOUT_S):
        while True:
            try:
                return await server.publish(first, count)
            except BrokerUnavailable:
                await asyncio.sleep(0.02)


async def test_a_flush_is_declared_and_the_stream_goes_on(own_redis):
    broker = RedisBroker(own_redis.url)
    async with running(broker) as server, server.stream() as live:
        await live.opened()
        old = await server.publish(1, 3)
        await live.events(3)
        client = redis.Redis.from_url(own_redis.url)
        await client.flushall()
        await client.aclose()
        new = await server.publish(4, 2)
        frames = await live.until(lambda me: me.decoder.last_event_id == f"{new.epoch}.2")
    assert [frame.event for frame in frames] == ["gap", "my_event", "my_event"]
    gap = json.loads(frames[0].data)
    assert (gap["reason"], gap["requested"], gap["missed"]) == ("epoch", f"{old.epoch}.3", None)
    assert [frame.id for frame in frames if is_data(frame)] == [f"{new.epoch}.1", f"{new.epoch}.2"]
    await broker.aclose()


async def test_the_subscription_ends_when_the_last_subscriber_leaves_also_by_kill(own_redis):
    broker = RedisBroker(own_redis.url)
    reader = "import sys, urllib.request as u\nr = u.urlopen(sys.argv[1])\nprint(r.readline(), flush=True)\nr.read()"
    async with running(broker, linger_s=0.1) as server:

        async def subscribed():
            return await channels(own_redis.url) == [CHANNEL]

        async def given_up():
            return await channels(own_redis.url) == []

        async with server.stream() as one, server.stream() as two:
            await one.opened()
            await two.opened()
            assert await subscribed()
            one.response.close()
            await two.until(lambda me: True)
            assert await subscribed()
        await eventually(given_up)

        process = subprocess.Popen(  # noqa: ASYNC220 - starting takes no time
            [sys.executable, "-c", reader, f"{server.url}/projects/apollo/events"], stdout=-1
        )
        try:
            await asyncio.to_thread(process.stdout.readline)
            await eventually(subscribed)
            process.send_signal(signal.SIGKILL)
            await eventually(given_up)
        finally:
            process.kill()
            process.communicate()
    await broker.aclose()


async def test_a_live_stream_that_retention_overtakes_is_told_so(own_redis):
    """The tail is cut off; what was published and trimmed meanwhile is a declared loss."""
    broker = RedisBroker(own_redis.url, retention=Retention(entries=100))
    other = RedisBroker(own_redis.url, retention=Retention(entries=100))
    async with running(broker) as server, server.stream() as live:
        await live.opened()
        done = await server.publish(1, 3)
        await live.events(3)
        # The tail loses its connection while another publisher pushes everything out.
        client = redis.Redis.from_url(own_redis.url)
        entries = [b'{"type":"my_event","n":%d}' % n for n in range(1_000)]
        await client.client_kill_filter(_type="pubsub")
        for _ in range(5):
            await other.publish(CHANNEL, entries)
        frames = await live.until(lambda me: me.decoder.last_event_id == f"{done.epoch}.5003")
        await client.aclose()
    data = offsets(frame for frame in frames if is_data(frame))
    gaps = [json.loads(frame.data) for frame in frames if frame.event == "gap"]
    # Whether the tail was back in time is a race; that every offset is either there or declared is not.
    expected = 4
    for frame in frames:
        if frame.event == "gap":
            gap = json.loads(frame.data)
            assert gap["reason"] == "slow"
            assert gap["missed"] == gap["first"] - expected
            expected = gap["first"]
        else:
            assert offsets([frame]) == [expected]
            expected += 1
    assert expected == 5_004
    assert data[-1] == 5_003
    assert len(gaps) <= 5
    await other.aclose()
    await broker.aclose()


async def test_entries_deleted_by_hand_are_declared(own_redis):
    broker = RedisBroker(own_redis.url)
    async with running(broker) as server:
        done = await server.publish(1, 9)
        client = redis.Redis.from_url(own_redis.url)
        assert await client.xdel(f"srt:log:{CHANNEL}", "4-0", "5-0") == 2
        await client.aclose()
        async with server.stream(replay="all") as subscriber:
            frames = await subscriber.until(lambda me: me.decoder.last_event_id == f"{done.epoch}.9")
    (gap,) = [json.loads(frame.data) for frame in frames if frame.event == "gap"]
    assert (gap["reason"], gap["requested"], gap["missed"]) == ("slow", f"{done.epoch}.3", 2)
    assert offsets(frame for frame in frames if is_data(frame)) == [1, 2, 3, 6, 7, 8, 9]
    await broker.aclose()


async def test_chat_entries_deleted_by_hand_are_declared(own_redis):
    broker = RedisBroker(own_redis.url)
    async with running(broker) as server:
        for n in range(1, 10):
            await Chat(broker, "apollo").send("ben", Say(id=f"m-{n}", text=str(n)))
        client = redis.Redis.from_url(own_redis.url)
        assert await client.xdel("srt:log:chat:{apollo}", "4-0", "5-0") == 2
        await client.aclose()
        epoch = (await broker.position("chat:{apollo}")).epoch
        url = f"{server.url}/projects/apollo/chat?last_event_id={epoch}.0"
        async with server.http.ws_connect(url, protocols=("syndarix.chat.v1",)) as ws:
            frames = []
            while not frames or frames[-1].get("text") != "9":
                frames.append(await ws.receive_json(timeout=TIMEOUT_S))
    (gap,) = [frame for frame in frames if frame["type"] == "gap"]
    assert (gap["reason"], gap["requested"].rpartition(".")[2], gap["missed"]) == ("slow", "3", 2)
    assert [frame["text"] for frame in frames if frame["type"] == "said"] == ["1", "2", "3", "6", "7", "8", "9"]
    await broker.aclose()


@pytest.mark.parametrize("fault", ["the password was changed", "a fault of ours"])
async def test_the_log_says_why_a_channel_cannot_be_followed_and_never_the_password(own_redis, monkeypatch, fault):
    said = io.StringIO()
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(said), cache_logger_on_first_use=False)
    broker = RedisBroker(own_redis.url.replace(PASSWORD, "an-old-password") if "changed" in fault else own_redis.url)
    if "ours" in fault:

        async def tail(_channel, **_):
            password = PASSWORD
            raise KeyError(len(password))
            yield

        monkeypatch.setattr(broker, "tail", tail)
    try:
        async with running(broker) as server, server.stream():

            async def told():
                return "trying again" in said.getvalue()

            await eventually(told)
    finally:
        structlog.reset_defaults()
        await broker.aclose()
    assert ("refuses these credentials" if "changed" in fault else "KeyError") in said.getvalue()
    assert PASSWORD not in said.getvalue()
    assert "an-old-password" not in said.getvalue()


async def test_the_figures_tell_what_the_reader_lacks_of_the_log(redis_url, monkeypatch):
    async with AsyncExitStack() as stack:
        broker = RedisBroker(redis_url, namespace=f"lag-{secrets.token_hex(4)}:")
        stack.push_async_callback(broker.aclose)
        go, read = asyncio.Event(), broker.read

        async def held(channel, after, limit):
            if limit:
                await go.wait()
            return await read(channel, after, limit)

        monkeypatch.setattr(broker, "read", held)
        server = await stack.enter_async_context(running(broker))
        stream = await stack.enter_async_context(server.stream())
        await stream.opened()

        async def lag():
            _, _, text = await server.get("/metrics")
            return {
                sample.name: sample.value
                for family in text_string_to_metric_families(text)
                for sample in family.samples
                if "reader_lag" in sample.name
            }

        async def shows(expected):
            names = ("syndarix_rt_reader_lag_events", "syndarix_rt_reader_lag_max_events")
            async with asyncio.timeout(TIMEOUT_S):
                while await lag() != dict.fromkeys(names, expected):
                    await asyncio.sleep(0.02)

        await server.publish(1, 7, data={"text": "x" * 50_000})  # more than Pub/Sub carries: it is read from the log
        await shows(7)
        go.set()
        await stream.events(7)
        await shows(0)


async def test_who_steers_and_talks_is_told_when_redis_refuses_the_server_and_goes_on_when_it_does_no_more(
    own_redis, monkeypatch
):
    monkeypatch.setattr(room, "FOLLOW_AGAIN_S", 0.05)
    client = redis.Redis.from_url(own_redis.url)
    await client.execute_command("ACL", "SETUSER", "server", "on", ">first", "~*", "&*", "+@all")
    runs, broker = RedisBroker(own_redis.url), RedisBroker(own_redis.url.replace(f":{PASSWORD}", "server:first"))
    async with AsyncExitStack() as stack:
        stack.push_async_callback(client.aclose)
        stack.push_async_callback(runs.aclose)
        stack.push_async_callback(broker.aclose)
        server = await stack.enter_async_context(running(broker))
        await stack.enter_async_context(steered(ticks(9), broker=runs))

        async def socket(what):
            url = f"{server.url}/projects/apollo/{what}"
            return await stack.enter_async_context(server.http.ws_connect(url, protocols=(f"syndarix.{what}.v1",)))

        async def call(debugger, method):
            await debugger.send_json({"jsonrpc": "2.0", "id": method, "method": method})
            while (answer := await debugger.receive_json(timeout=TIMEOUT_S)).get("id") != method:
                pass
            return answer

        first, member = await socket("debug"), await socket("chat")
        assert (await member.receive_json(timeout=TIMEOUT_S))["type"] == "ready"
        assert (await call(first, "run.attach"))["result"]["run"] == "run-1"
        await client.execute_command("ACL", "SETUSER", "server", "resetpass", ">second")
        await client.execute_command("CLIENT", "KILL", "USER", "server")
        second = await socket("debug")
        for method in ("run.list", "run.attach"):
            error = (await call(second, method))["error"]
            assert (error["code"], "refuses these credentials" in error["message"]) == (-32003, True)
        (link,) = server.app.extensions["syndarix_rt_links"]._links.values()
        await asyncio.wait({link._tasks[0]}, timeout=TIMEOUT_S)  # it has learnt, too, and the first socket is closing
        await client.execute_command("ACL", "SETUSER", "server", ">first")
        assert (await call(second, "run.attach"))["result"]["run"] == "run-1"
        await second.send_json({"jsonrpc": "2.0", "method": "run.resume"})
        while (await second.receive_json(timeout=TIMEOUT_S))["params"]["state"] != "playing":
            pass
        while (message := await first.receive(TIMEOUT_S)).type is aiohttp.WSMsgType.TEXT:
            pass
        assert (message.type, message.data) == (aiohttp.WSMsgType.CLOSE, 1012)
        await Chat(runs, "apollo").send("ben", Say(id="a", text="Back?"))
        while (await member.receive_json(timeout=TIMEOUT_S)).get("text") != "Back?":
            pass


async def test_while_redis_refuses_the_server_the_log_says_what_nobody_knows_and_then_it_is_asked_again(
    own_redis, monkeypatch
):
    monkeypatch.setattr(revocation, "LOOK_S", 0.05)
    said = io.StringIO()
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(said), cache_logger_on_first_use=False)
    client = redis.Redis.from_url(own_redis.url)
    await client.execute_command("ACL", "SETUSER", "server", "on", ">first", "~*", "&*", "+@all")
    key = "k" * 48
    async with AsyncExitStack() as stack:
        stack.callback(structlog.reset_defaults)
        stack.push_async_callback(client.aclose)
        brokers = [RedisBroker(own_redis.url.replace(f":{PASSWORD}", who)) for who in (f":{PASSWORD}", "server:first")]
        for broker in brokers:
            stack.push_async_callback(broker.aclose)
        other, server = [await stack.enter_async_context(running(broker, token=key)) for broker in brokers]
        token = issue(key, ["chat:apollo"], name="Ada", life_s=600)
        url, headers = f"{server.url}/projects/apollo/chat", {"authorization": f"Bearer {token}"}
        ada = await stack.enter_async_context(
            server.http.ws_connect(url, protocols=("syndarix.chat.v1",), headers=headers)
        )
        assert (await ada.receive_json(timeout=TIMEOUT_S))["type"] == "ready"

        async def told():
            return all(f"nobody knows {what}" in said.getvalue() for what in ("who is in a chat", "which tokens are"))

        await client.execute_command("ACL", "SETUSER", "server", "resetpass", ">second")
        await client.execute_command("CLIENT", "KILL", "USER", "server")
        await eventually(told)
        body, owner = json.dumps({"token": token}).encode(), {"authorization": f"Bearer {key}"}
        assert (await other.post("/tokens/revoke", body, headers=owner))[0] == 200
        await client.execute_command("ACL", "SETUSER", "server", ">first")
        async with asyncio.timeout(TIMEOUT_S):
            async for _ in ada:
                pass
        assert ada.close_code == 4401
