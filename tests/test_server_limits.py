"""Limits: refused with 429 or 503 and a time, before any work, on every path alike; and nobody else notices."""

import asyncio
from contextlib import AsyncExitStack
from urllib.parse import urlsplit

import aiohttp
import pytest
from prometheus_client.parser import text_string_to_metric_families
from serving import TIMEOUT_S, event, running

from syndarix_rt.broker.memory import MemoryBroker
from syndarix_rt.client import ChatClient, EventStream
from syndarix_rt.server import limits
from syndarix_rt.server.limits import Allowance, Limits, Quota, Refusals, client_of
from syndarix_rt.server.problems import Problem
from syndarix_rt.server.settings import Settings
from syndarix_rt.server.tokens import issue

EVENTS = "/projects/apollo/events"
KEY = "k" * 48


def as_client(address):
    """Behind one proxy that is believed."""
    return {"x-forwarded-for": address}


async def refused(server):
    """What ``/metrics`` counts."""
    _, _, text = await server.get("/metrics")
    return {
        (sample.labels["limit"], sample.labels["status"]): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.name == "syndarix_rt_refused_total" and sample.value
    }


async def until(condition):
    async with asyncio.timeout(TIMEOUT_S):
        while not condition():
            await asyncio.sleep(0.01)


# ---- the accounts ---------------------------------------------------------------------------------------------------


def test_a_quota_is_of_each_client_and_of_all():
    refusals = Refusals()
    quota = Quota(refusals, "connections", of_client=2, in_all=3, again_s=5)
    quota.take("a")
    quota.take("a")
    with pytest.raises(Problem) as own:
        quota.take("a")
    quota.take("b")
    with pytest.raises(Problem) as all_of_it:
        quota.take("c")
    assert [error.value.document["status"] for error in (own, all_of_it)] == [429, 503]
    assert own.value.headers == {"retry-after": "5"}
    quota.give("a")
    quota.take("c")
    for client in "abc":
        quota.give(client)
    assert quota.held == 0
    assert not quota._by_client, "nothing is remembered of who holds nothing"
    assert refusals.counts == {("connections", 429): 1, ("connections", 503): 1}


def test_an_allowance_comes_back_with_time_and_says_when():
    now = 100.0
    allowance = Allowance(Refusals(), "publish", at_once=10, per_s=2, clock=lambda: now)
    allowance.check("a")
    allowance.charge("a", 30)  # one piece of work may be more than there is
    with pytest.raises(Problem) as error:
        allowance.check("a")
    assert error.value.headers == {"retry-after": "10"}
    allowance.check("b")
    now += 10.5
    allowance.check("a")


def test_of_a_flood_of_clients_no_more_is_remembered_than_some(monkeypatch):
    monkeypatch.setattr(limits, "MAX_CLIENTS", 10)
    allowance = Allowance(Refusals(), "publish", at_once=1, per_s=1)
    for number in range(100):
        allowance.charge(f"10.0.0.{number}", 1)
    assert len(allowance._used) == 10


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("203.0.113.1", "203.0.113.2", False),
        ("2001:db8::1", "2001:db8::ffff:1", True),
        ("2001:db8::1", "2001:db8:0:1::1", False),
        ("::ffff:203.0.113.1", "203.0.113.1", True),
        ("<local>", "<local>", True),
    ],
)
def test_a_client_is_an_address_and_of_ipv6_a_network(one, other, same):
    assert (client_of(one) == client_of(other)) is same


def test_by_default_one_client_cannot_take_all_connections():
    bounds = Limits(Settings(max_connections=1000))
    assert (bounds.connections.of_client, bounds.connections.in_all) == (900, 1000)
    assert Limits(Settings(max_connections=1000, proxy_hops=1)).connections.of_client == 1000, "a proxy is many"
    assert Limits(Settings(max_connections=10, max_client_connections=50)).requests.of_client == 10


# ---- on every path --------------------------------------------------------------------------------------------------


async def asked(server, how, headers):
    """Status and ``Retry-After`` of one request of each kind."""
    url = server.url
    if how in ("chat", "debug"):
        try:
            protocol = f"syndarix.{how}.v1"
            async with server.http.ws_connect(
                f"{url}/projects/apollo/{how}", protocols=(protocol,), headers=headers
            ) as socket:
                await socket.close()
                return 101, None
        except aiohttp.WSServerHandshakeError as error:
            return error.status, error.headers.get("retry-after")
    method, path, body = {
        "stream": ("GET", EVENTS, None),
        "history": ("GET", f"{EVENTS}?limit=1", None),
        "publish": ("POST", EVENTS, event(1).encode()),
        "control": ("PUT", "/projects/apollo/claim", b'{"holder": "run-1", "ttl_s": 5}'),
        "page": ("GET", "/", None),
    }[how]
    headers = headers | ({"content-type": "application/json"} if body else {})
    if how == "history":
        headers["accept"] = "application/json"
    async with server.http.request(method, url + path, data=body, headers=headers) as answer:
        return answer.status, answer.headers.get("retry-after")


WAYS = ("stream", "chat", "debug", "history", "publish", "control", "page")


async def test_connections_of_one_client_and_in_all_are_bounded_on_every_path():
    async with running(proxy_hops=1, max_connections=3, max_client_connections=2) as server, AsyncExitStack() as stack:
        server.hub.limits.connections.in_all = server.hub.limits.connections.of_client = (
            100  # here it is what is on them that is looked at
        )
        for _ in range(2):
            await (await stack.enter_async_context(server.stream(headers=as_client("203.0.113.1")))).opened()
        for how in WAYS:
            assert await asked(server, how, as_client("203.0.113.1")) == (429, "5"), how
        assert (await asked(server, "publish", as_client("203.0.113.2")))[0] == 202
        await (await stack.enter_async_context(server.stream(headers=as_client("203.0.113.2")))).opened()
        for how in WAYS:
            assert await asked(server, how, as_client("203.0.113.3")) == (503, "5"), how
        assert (await server.get("/healthz", headers=as_client("203.0.113.1")))[0] == 200, "probes come through"
        assert await refused(server) == {("connections", "429"): len(WAYS), ("connections", "503"): len(WAYS)}
        await stack.aclose()
        await until(lambda: server.hub.limits.requests.held == 0)
        assert (await asked(server, "chat", as_client("203.0.113.1")))[0] == 101


async def test_publishing_too_much_is_refused_by_token_before_the_body_is_read():
    async with running(token=KEY, publish_bytes_per_s=0.001) as server:
        busy, calm = (
            {"authorization": f"Bearer {issue(KEY, ['publish:*', 'subscribe:*'], name=name, life_s=60)}"}
            for name in ("busy", "calm")
        )
        assert (await asked(server, "publish", busy))[0] == 202
        for how in ("publish", "control"):
            status, again = await asked(server, how, busy)
            assert status == 429
            assert int(again) > 1000, "until so much has come back"
        assert (await server.post(EVENTS, b"no JSON at all", headers=busy))[0] == 429, "nobody has looked at it"
        assert (await asked(server, "history", busy))[0] == 200, "reading is not publishing"
        assert (await asked(server, "publish", calm))[0] == 202
        assert (await server.broker.position("project:{apollo}")).last == 2
        server.http.headers["authorization"] = f"Bearer {KEY}"
        assert await refused(server) == {("publish", "429"): 3}


async def test_a_flood_of_project_names_leaves_nothing_behind_in_the_broker():
    async with running(new_projects_per_h=3) as server:
        await server.publish(1, project="known")
        for number in range(3):
            assert (await server.get(f"/projects/p{number}/position"))[0] == 200
        known = {*server.broker._channels}
        for number in range(3, 40):
            for path in ("position", "approvals", "events"):
                status, headers, _ = await server.get(f"/projects/p{number}/{path}")
                assert status == 429
                assert int(headers["retry-after"]) >= 1
            url = f"{server.url}/projects/p{number}/chat"
            with pytest.raises(aiohttp.WSServerHandshakeError) as error:
                await server.http.ws_connect(url, protocols=("syndarix.chat.v1",))
            assert error.value.status == 429
            body = event(1, f"p{number}").encode()
            assert (await server.post(f"/projects/p{number}/events", body))[0] == 429
        assert {*server.broker._channels} == known
        for name in ("p0", "known"):  # what has been asked for before, and what has events
            assert (await server.get(f"/projects/{name}/position"))[0] == 200
        assert (await refused(server))["projects", "429"] == 37 * 5


async def test_bodies_that_stay_half_hold_no_more_than_their_share(monkeypatch):
    monkeypatch.setattr(limits, "BODIES_OF_CLIENT", 100_000)
    async with running() as server, AsyncExitStack() as stack, server.stream() as stream:
        await stream.opened()
        at = urlsplit(server.url)
        head = (
            f"POST {EVENTS} HTTP/1.1\r\nhost: {at.netloc}\r\ncontent-type: application/json\r\n"
            "content-length: 60000\r\n\r\n"
        ).encode()
        readers = []
        for _ in range(20):
            reader, writer = await asyncio.open_connection(at.hostname, at.port)
            stack.callback(writer.close)
            writer.write(head + b"[" + b" " * 19_999)
            readers.append(reader)
        # Five of them are held; of the others all are told that it is too much.
        waiting = [asyncio.create_task(reader.readuntil(b"\r\n\r\n")) for reader in readers]
        await until(lambda: sum(task.done() for task in waiting) >= 15)
        answers = [task.result() for task in waiting if task.done()]
        assert all(answer.startswith(b"HTTP/1.1 429") and b"retry-after: 1" in answer for answer in answers)
        assert server.hub.limits.bodies.held <= 100_000
        await server.publish(1)
        await stream.events(1)
        await stack.aclose()
        await asyncio.gather(*waiting, return_exceptions=True)
        await until(lambda: server.hub.limits.bodies.held == 0)


async def test_pages_of_history_are_bounded_in_number_and_size(monkeypatch):
    monkeypatch.setattr(limits, "HISTORIES_OF_CLIENT", 1)
    broker = MemoryBroker()
    go = asyncio.Event()
    read = broker.read

    async def slow(*args):
        await go.wait()
        return await read(*args)

    async with running(broker) as server:
        for first in (1, 51):
            await server.publish(first, 50, data={"text": "x" * 60_000})
        monkeypatch.setattr(broker, "read", slow)
        one = asyncio.create_task(server.get(f"{EVENTS}?limit=1000", headers={"accept": "application/json"}))
        await until(lambda: server.hub.limits.histories.held == 1)
        assert await asked(server, "history", {}) == (429, "1")
        go.set()
        status, _, page = await one
        assert status == 200
        assert 60 < len(page["events"]) < 80, "4 MiB, and where to go on"
        assert page["next"] == page["events"][-1]["position"]
        await until(lambda: server.hub.limits.histories.held == 0)
    await broker.aclose()


# ---- connections that say nothing -----------------------------------------------------------------------------------


async def test_silent_and_half_connections_are_bounded_and_others_go_on():
    async with running(max_connections=60, max_client_connections=40) as server, AsyncExitStack() as stack:
        at = urlsplit(server.url)
        stream = await stack.enter_async_context(server.stream())
        await stream.opened()
        writers = []
        for number in range(100):
            _, writer = await asyncio.open_connection(at.hostname, at.port)
            writers.append(writer)
            if number % 2:
                writer.write(b"GET / HTTP/1.1\r\nhost: ")
        await until(lambda: server.hub.limits.connections.held == 40)
        await server.publish(1, 3)
        assert len(await stream.events(3)) == 3
        async with aiohttp.ClientSession() as newcomer, newcomer.get(f"{server.url}/projects") as answer:
            assert (answer.status, answer.headers["retry-after"]) == (429, "5")
            assert (await answer.json())["detail"].startswith("This client has too many connections")
        assert server.hub.limits.refused["connections", 429] >= 60
        for writer in writers:
            writer.close()


async def test_a_flood_of_a_thousand_sockets_leaves_nothing_behind_and_keeps_nobody_out():
    async with running(max_connections=200, max_client_connections=40) as server, AsyncExitStack() as stack:
        at = urlsplit(server.url)
        stream = await stack.enter_async_context(server.stream())
        await stream.opened()
        connector = aiohttp.TCPConnector(local_addr=("127.0.0.2", 0))
        other = await stack.enter_async_context(aiohttp.ClientSession(connector=connector))
        begun = len(asyncio.all_tasks())
        sockets = []
        async with asyncio.timeout(TIMEOUT_S):
            for number in range(1_000):
                _, writer = await asyncio.open_connection(at.hostname, at.port)
                stack.callback(writer.close)
                writer.write((b"", b"GET / HTTP/1.1\r\nhost: ", b"POST /v1/traces HTTP/1.1\r\ncontent-")[number % 3])
                sockets.append(writer)
                if number % 100 == 0:  # in the midst of it
                    await server.publish(number, 1)
                    assert len(await stream.events(1)) == 1
                    async with other.get(f"{server.url}/projects") as answer:
                        assert answer.status == 200
        # What is held of a connection hangs on its tasks; they go with those that were refused.
        refused = server.hub.limits.refused
        await until(lambda: refused["connections", 429] >= 1_000 - 40)
        assert server.hub.limits.connections.held <= 42
        await until(lambda: len(asyncio.all_tasks()) - begun <= 4 * 42)
        for writer in sockets:
            writer.close()
        await until(lambda: server.hub.limits.connections.held <= 2)
        async with aiohttp.ClientSession() as newcomer, newcomer.get(f"{server.url}/projects") as answer:
            assert answer.status == 200
        await server.publish(2_000, 1)
        assert len(await stream.events(1)) == 1


# ---- clients --------------------------------------------------------------------------------------------------------


async def test_clients_wait_as_they_are_told_and_come_back_without_a_loss():
    slept = []

    async def sleep(delay_s):
        slept.append(delay_s)
        await asyncio.sleep(0.01)

    async with running(proxy_hops=1, max_client_connections=2, retry_ms=(1, 2)) as server, AsyncExitStack() as stack:
        server.hub.limits.connections.of_client = 100
        await server.publish(1, 2)
        client = await stack.enter_async_context(EventStream(server.url, "apollo", replay="all", sleep=sleep))
        assert [(await anext(client)).id for _ in range(2)] == ["event-1", "event-2"]
        for stream in server.hub.streams:
            stream.end("drained")
        await until(lambda: server.hub.limits.requests.held == 0)
        blocking = [await stack.enter_async_context(server.stream("zeus")) for _ in range(2)]
        reading = asyncio.create_task(anext(client))
        await until(lambda: any(delay_s >= 5 for delay_s in slept))
        slept.clear()
        chat = await stack.enter_async_context(ChatClient(server.url, "apollo", name="Ada", sleep=sleep))
        await until(lambda: len([delay_s for delay_s in slept if delay_s >= 5]) >= 4)
        assert chat.state in ("waiting", "connecting")
        await server.publish(3)
        for stream in blocking:
            stream.response.close()
        assert (await asyncio.wait_for(reading, TIMEOUT_S)).id == "event-3"
        await until(lambda: chat.state == "open")
        assert client.ledger.clean
        assert client.ledger.gaps == []
