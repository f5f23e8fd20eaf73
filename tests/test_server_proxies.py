"""Behind proxies: whose word counts, and below which path; forged headers change nothing."""

import asyncio

import aiohttp
import pytest
from quart import jsonify, request, websocket
from serving import running

SEEN = "/seen"


def shows(server):
    """Two routes of the test's own, that say what the app believes."""

    @server.app.get(SEEN)
    async def seen():
        return jsonify([request.remote_addr, request.scheme, request.host, request.root_path])

    @server.app.websocket(SEEN + "-socket")
    async def seen_socket():
        await websocket.send_json([websocket.remote_addr, websocket.scheme, websocket.host])


def told(client, scheme="https", host="rt.example.org"):
    return {"x-forwarded-for": client, "x-forwarded-proto": scheme, "x-forwarded-host": host}


async def believed(server, headers):
    status, _, document = await server.get(SEEN, headers=headers)
    assert status == 200, document
    return document[:3]


@pytest.mark.parametrize(
    ("hops", "headers", "expected"),
    [
        (1, told("203.0.113.7"), ["203.0.113.7", "https", "rt.example.org"]),
        (1, told("[2001:db8::7]:443"), ["2001:db8::7", "https", "rt.example.org"]),
        (1, told("203.0.113.7:5000"), ["203.0.113.7", "https", "rt.example.org"]),
        (2, told("203.0.113.7, 10.0.0.9", "https, http", "rt.example.org, inner"),
         ["203.0.113.7", "https", "rt.example.org"]),
        # What the client wrote itself stands to the left of what our proxies added.
        (1, told("10.6.6.6, 203.0.113.7", "https, http", "evil.example, rt.example.org"),
         ["203.0.113.7", "http", "rt.example.org"]),
        (2, told("10.6.6.6, 203.0.113.7, 10.0.0.9", "http, https, http", "evil.example, rt.example.org, inner"),
         ["203.0.113.7", "https", "rt.example.org"]),
    ],
)  # fmt: skip
async def test_the_outermost_proxy_of_ours_is_believed(hops, headers, expected):
    async with running(proxy_hops=hops, hosts=("rt.example.org",)) as server:
        shows(server)
        assert await believed(server, headers) == expected
        ws = server.url.replace("http", "ws") + SEEN + "-socket"
        async with asyncio.timeout(10), server.http.ws_connect(ws, headers=headers) as socket:
            client, scheme, host = expected
            assert await socket.receive_json() == [client, scheme.replace("http", "ws"), host]


@pytest.mark.parametrize(
    ("hops", "headers"),
    [
        (0, told("10.6.6.6")),  # no proxy: anybody's word
        (2, told("10.6.6.6")),  # one proxy too few has spoken
        (1, {"forwarded": "for=10.6.6.6;proto=https;host=evil.example", "x-real-ip": "10.6.6.6"}),
        (1, {"x-forwarded-proto": "gopher"}),
        (1, {"x-forwarded-for": "", "x-forwarded-host": " , "}),
    ],
)
async def test_what_no_proxy_of_ours_can_have_written_changes_nothing(hops, headers):
    async with running(proxy_hops=hops) as server:
        shows(server)
        assert await believed(server, headers) == ["127.0.0.1", "http", server.url.partition("//")[2]]


async def test_values_in_several_headers_are_one_list():
    async with running(proxy_hops=2) as server:
        shows(server)
        headers = [("x-forwarded-for", "10.6.6.6"), ("x-forwarded-for", "203.0.113.7"), ("x-forwarded-for", "10.0.0.9")]
        assert (await believed(server, headers))[0] == "203.0.113.7"


async def test_a_host_that_a_proxy_names_must_be_one_of_ours():
    async with running(proxy_hops=1, hosts=("rt.example.org",)) as server:
        status, _, problem = await server.get("/projects", headers=told("203.0.113.7", host="evil.example"))
        assert (status, problem["type"]) == (403, "urn:syndarix-rt:problem:unknown-host")
    async with running(hosts=("rt.example.org",)) as server:  # nor does a forged one get a wrong Host past the check
        headers = {"host": "evil.example"} | told("203.0.113.7")
        assert (await server.get("/projects", headers=headers))[0] == 403


async def test_over_https_at_the_proxy_the_cookie_is_for_https_alone():
    async with running(token="s3cret", proxy_hops=1, hosts=("rt.example.org",)) as server:
        for scheme, secure in (("https", True), ("http", False)):
            status, headers, _ = await server.get("/?key=s3cret", headers=told("203.0.113.7", scheme))
            assert status == 303
            assert ("Secure" in headers["set-cookie"]) == secure


@pytest.mark.parametrize("prefix", ["", "/rt"], ids=["taken away", "left"])
async def test_below_a_prefix_that_the_proxy_takes_away_or_leaves(prefix):
    async with running(token="s3cret", root_path="/rt") as server:
        shows(server)
        key = {"authorization": "Bearer s3cret"}
        assert (await server.get(prefix + SEEN, headers=key))[2][3] == "/rt"
        status, headers, _ = await server.get(prefix + "/p/apollo?key=s3cret&theme=dark")
        assert (status, headers["location"]) == (303, "/rt/p/apollo?theme=dark")
        assert "Path=/rt" in headers["set-cookie"]
        assert (await server.get(prefix + "/projects", headers=key))[0] == 200
        assert (await server.get(prefix + "/healthz"))[0] == 200
        assert (await server.get(prefix + "/rtx", headers=key))[0] == 404
        with pytest.raises(aiohttp.WSServerHandshakeError):
            await server.http.ws_connect(server.url + prefix + "/projects/apollo/nothing", headers=key)
        async with (
            asyncio.timeout(10),
            server.http.ws_connect(
                server.url + prefix + "/projects/apollo/chat", headers=key, protocols=["syndarix.chat.v1"]
            ) as socket,
        ):
            assert (await socket.receive_json())["type"] == "ready"
