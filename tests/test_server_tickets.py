"""Tickets for streams that can send no header, the cookie that follows, and tokens that are taken back."""

import asyncio
import json
import time
from contextlib import asynccontextmanager

import pytest
from aiohttp import web
from serving import TIMEOUT_S, offsets, running

from syndarix_rt.broker.memory import MemoryBroker
from syndarix_rt.errors import BrokerUnavailable
from syndarix_rt.server import tickets
from syndarix_rt.server.tokens import Grant, issue

KEY = "k" * 48
EVENTS = "/projects/apollo/events"
OWNER = {"authorization": f"Bearer {KEY}"}


def bearer(*rights, life_s=60, name="Ada"):
    return {"authorization": f"Bearer {issue(KEY, rights, name=name, life_s=life_s)}"}


async def ticket_of(server, headers, project="apollo"):
    status, _, given = await server.post(f"/projects/{project}/ticket", b"", headers=headers)
    assert status == 200
    return given["ticket"]


async def status_of(server, path=EVENTS, headers=None, **params):
    async with server.http.get(server.url + path, params=params, headers=headers) as response:
        return response.status


async def until_ended(stream, socket=None):
    """All frames of a stream to its end, and the socket's to its own."""
    async with asyncio.timeout(TIMEOUT_S):
        ending = asyncio.create_task(stream.end())
        if socket is not None:
            async for _ in socket:
                pass
        return [frame.event for frame in await ending]


class Away(MemoryBroker):
    away = False

    async def take(self, name):
        if self.away:
            raise BrokerUnavailable("away")
        return await super().take(name)


# ---- tickets --------------------------------------------------------------------------------------------------------


async def test_a_ticket_opens_one_stream_of_its_project_once_on_any_worker():
    async with running(token=KEY) as server, running(server.broker, token=KEY) as other:
        ticket = await ticket_of(server, bearer("subscribe:apollo"))
        async with other.stream(ticket=ticket) as stream:
            assert stream.response.status == 200
            await stream.opened()
            await server.publish(1)
            assert offsets(await stream.events(1)) == [1]
        for again in (server, other):
            assert await status_of(again, ticket=ticket) == 401
        for wrong in ("x" * 32, "", "../../etc", "x" * 5_000, "%00"):
            assert await status_of(server, ticket=wrong) == 401


async def test_a_ticket_opens_nothing_else():
    async with running(token=KEY) as server:
        for path in ("/projects", "/projects/apollo/position", "/projects/zeus/events", "/p/apollo", "/metrics"):
            ticket = await ticket_of(server, bearer("subscribe:*"))
            assert await status_of(server, path, ticket=ticket) == 401
        ticket = await ticket_of(server, OWNER)
        assert (await server.post(EVENTS, b"{}", params={"ticket": ticket}))[0] == 401
        status, _, problem = await server.post("/projects/zeus/ticket", b"", headers=bearer("subscribe:apollo"))
        assert (status, problem["type"]) == (403, "urn:syndarix-rt:problem:missing-right")
        assert (await server.post("/projects/apollo/ticket", b""))[0] == 401
        assert (await server.post("/projects/a%20b/ticket", b"", headers=OWNER))[0] == 400


async def test_a_ticket_lasts_a_minute():
    now_s = 0.0
    broker = MemoryBroker(clock=lambda: now_s)
    grant = Grant("Ada", frozenset(), time.time() + 600, "id")
    for at_s, found in ((59.9, True), (60.1, False)):
        now_s = 0.0
        ticket = await tickets.issue(broker, "apollo", grant)
        now_s = at_s
        assert (await tickets.redeem(broker, "apollo", ticket) is not None) == found
    await broker.aclose()


async def test_the_cookie_of_a_ticket_opens_that_stream_again_and_nothing_else():
    async with running(token=KEY) as server, running(server.broker, token=KEY) as other:
        ticket = await ticket_of(server, bearer("subscribe:*", "publish:*", life_s=60))
        async with server.stream(ticket=ticket) as stream:
            cookie, _, attributes = stream.response.headers["set-cookie"].partition(";")
        assert "HttpOnly" in attributes
        assert "SameSite=Strict" in attributes
        assert "Path=/projects/apollo/events" in attributes
        assert 50 < int(attributes.partition("Max-Age=")[2].partition(";")[0]) <= 60
        assert KEY not in cookie
        name, _, value = cookie.partition("=")
        jars = {each: {"cookie": f"{name.replace(server.url[-5:], each.url[-5:])}={value}"} for each in (server, other)}
        for each, jar in jars.items():  # the ticket is spent, and that is ignored
            assert await status_of(each, headers=jar, ticket=ticket) == 200
            assert await status_of(each, headers=jar) == 200
            for path in ("/projects/zeus/events", "/projects/apollo/position", "/projects", "/p/apollo"):
                assert await status_of(each, path, headers=jar) == 401
            jar |= {"origin": each.url}
            assert (await each.post(EVENTS, b"{}", headers=jar))[0] == 401
        content, _, signature = value.partition(".")
        for bad in (content, f"{content}.", f"{content}x.{signature}", f"{content}.{signature[:-1]}0x", "é", "." * 9):
            assert await status_of(server, headers={"cookie": f"{name}={bad}"}) == 401


async def test_a_ticket_and_its_cookie_end_with_their_token():
    async with running(token=KEY) as server:
        token = bearer("subscribe:*", life_s=5)
        ticket, unused = await ticket_of(server, token), await ticket_of(server, token)
        async with server.stream(ticket=ticket) as stream:
            jar = {"cookie": stream.response.headers["set-cookie"].partition(";")[0]}
            assert (await until_ended(stream))[-1] == "auth-expiring"
        assert await status_of(server, headers=jar) == 401
        assert await status_of(server, ticket=unused) == 401


async def test_a_browsers_cookie_holds_where_the_broker_is_away():
    async with running(broker := Away(), token=KEY) as server:
        async with server.stream(ticket=await ticket_of(server, OWNER)) as stream:
            jar = {"cookie": stream.response.headers["set-cookie"].partition(";")[0]}
        broker.away = True
        assert await status_of(server, headers=jar, ticket="t" * 32) == 200
        async with server.http.get(server.url + EVENTS, params={"ticket": "t" * 32}) as response:
            assert response.status == 503  # nobody knows
            assert int(response.headers["retry-after"]) > 0
        await broker.aclose()


@asynccontextmanager
async def page_elsewhere():
    """A page of another origin that does nothing by itself."""

    async def blank(_):
        return web.Response(text="<!doctype html><title>elsewhere</title>", content_type="text/html")

    app = web.Application()
    app.router.add_get("/", blank)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    await runner.cleanup()


FOLLOW = """async ([url, authorization]) => {
    const answer = await fetch(`${url}/projects/apollo/ticket`, { method: "POST", headers: { authorization } });
    const { ticket } = await answer.json();
    const source = new EventSource(`${url}/projects/apollo/events?ticket=${ticket}`, { withCredentials: true });
    window.opens = 0;
    window.seen = [];
    source.onopen = () => { window.opens += 1; };
    source.addEventListener("my_event", ({ data }) => window.seen.push(JSON.parse(data).data.n));
}"""


@pytest.mark.browser
async def test_a_native_event_source_of_another_origin_resumes_by_itself(browser):
    async with (
        page_elsewhere() as elsewhere,
        running(token=KEY, cors_origins=(elsewhere,), retry_ms=(50, 60)) as server,
    ):
        page = await (await browser.new_context()).new_page()
        await page.goto(elsewhere)
        await page.evaluate(FOLLOW, [server.url, bearer("subscribe:apollo")["authorization"]])
        await page.wait_for_function("window.opens === 1")
        await server.publish(1, 2)
        await page.wait_for_function("window.seen.length === 2")
        (stream,) = server.hub.streams
        stream.end("aged")  # the browser connects again with a ticket that is spent, and the stream's cookie
        await server.publish(3, 2)
        await page.wait_for_function("window.opens === 2 && window.seen.length === 4")
        assert await page.evaluate("window.seen") == [1, 2, 3, 4]
        assert await page.evaluate("document.cookie") == ""


# ---- tokens that are taken back -------------------------------------------------------------------------------------


async def test_a_revoked_token_ends_streams_and_sockets_on_every_instance():
    async with running(token=KEY) as server, running(server.broker, token=KEY) as other:
        headers, kept = bearer("subscribe:*", "chat:*"), bearer("subscribe:*", name="Grace")
        ticket = await ticket_of(server, headers)
        unused = await ticket_of(server, headers)
        chat = f"{other.url}/projects/apollo/chat"
        async with (
            server.stream(headers=headers) as first,
            other.stream(ticket=ticket) as second,
            other.stream(headers=kept) as third,
            other.http.ws_connect(chat, protocols=["syndarix.chat.v1"], headers=headers) as socket,
        ):
            jar = {"cookie": second.response.headers["set-cookie"].partition(";")[0]}
            for stream in (first, second, third):
                await stream.opened()
            await server.publish(1)
            secret = headers["authorization"].removeprefix("Bearer ")
            body = json.dumps({"token": secret}).encode()
            status, _, revoked = await server.post("/tokens/revoke", body, headers=OWNER)
            assert (status, revoked["name"]) == (200, "Ada")
            assert await status_of(server, headers=headers) == 401  # at once, where it was said
            assert (await until_ended(first))[-1] == "auth-expiring"
            assert (await until_ended(second, socket))[-1] == "auth-expiring"
            assert first.decoder.last_event_id.endswith(".1")
            assert socket.close_code == 4401
            for refused in ({"headers": headers}, {"headers": jar}, {"ticket": unused}):
                assert await status_of(other, **refused) == 401
            await server.publish(2)
            assert offsets(await third.events(2)) == [1, 2]
        async with running(server.broker, token=KEY) as later:  # knows it from the start
            assert await status_of(later, headers=headers) == 401
            assert await status_of(later, headers=kept) == 200


async def test_only_the_servers_key_revokes_and_only_tokens_of_its_own():
    async with running(token=KEY) as server:
        secret = bearer("subscribe:*")["authorization"].removeprefix("Bearer ")
        body = json.dumps({"token": secret}).encode()
        assert (await server.post("/tokens/revoke", body, headers=bearer("publish:*", "approve:*")))[0] == 403
        foreign = issue("o" * 48, ["subscribe:*"], name="Ada", life_s=60)
        for bad in ({"token": foreign}, {"token": KEY}):
            status, _, problem = await server.post("/tokens/revoke", json.dumps(bad).encode(), headers=OWNER)
            assert (status, problem["type"]) == (404, "urn:syndarix-rt:problem:unknown-token")
        assert (await server.post("/tokens/revoke", b'{"token":3}', headers=OWNER))[0] == 400
        assert (await server.post("/tokens/revoke", body, "text/plain", headers=OWNER))[0] == 415
        assert await status_of(server, headers={"authorization": f"Bearer {secret}"}) == 200
