"""Behind a real nginx, configured as `docs/nginx.conf` says: events at once, streams that stay, instances that die."""

from __future__ import annotations

import asyncio
import io
import ssl
from contextlib import AsyncExitStack, asynccontextmanager

import aiohttp
import httpx
import pytest
from aiohttp import web
from command_line import Command
from nginx_proxy import CERTIFICATE, Nginx
from serving import TIMEOUT_S, Subscriber, event, offsets, running

from syndarix_rt.broker import MemoryBroker, RedisBroker
from syndarix_rt.client import ChatClient, EventStream
from syndarix_rt.delivery.sse import Decoder

CHANNEL = "project:{apollo}"
SHORT = "proxy_read_timeout 1500ms; proxy_send_timeout 1500ms;"
"""As the 60 s of the example, so that a test need not wait for them."""


def port_of(url):
    return int(url.rstrip("/").rpartition(":")[2])


@pytest.fixture
def in_front(tmp_path):
    """An nginx in front of one server, or of two."""

    def in_front(*urls, extra=""):
        ports = [port_of(url) for url in urls]
        return Nginx(tmp_path / "nginx", (ports[0], ports[-1]), extra=extra)

    return in_front


async def eventually(found):
    async with asyncio.timeout(TIMEOUT_S):
        while not found():
            await asyncio.sleep(0.02)


@asynccontextmanager
async def http_1(url):
    """Bytes of the stream, over HTTP/1.1."""
    async with aiohttp.ClientSession() as http, http.get(url) as response:
        assert response.version == aiohttp.HttpVersion11
        yield response.content.iter_any()


@asynccontextmanager
async def http_2(url):
    """Bytes of the stream, over HTTP/2."""
    context = ssl.create_default_context(cafile=CERTIFICATE)
    async with httpx.AsyncClient(http2=True, verify=context, timeout=TIMEOUT_S) as http:
        async with http.stream("GET", url) as response:
            assert response.http_version == "HTTP/2"
            yield response.aiter_raw()


@pytest.mark.parametrize(("connect", "scheme"), [(http_1, "url"), (http_2, "tls_url")], ids=["HTTP/1.1", "HTTP/2"])
async def test_each_event_arrives_before_the_next_is_published(connect, scheme, in_front):
    """A proxy that kept it for more to come would keep it for ever."""
    async with running() as server:
        with in_front(server.url) as nginx:
            async with connect(f"{getattr(nginx, scheme)}/projects/apollo/events") as chunks:
                decoder, found = Decoder(), []
                async with asyncio.timeout(TIMEOUT_S):
                    while not decoder.last_event_id:  # the stream's beginning
                        decoder.feed(await anext(chunks))
                    for n in range(1, 6):
                        await server.publish(n)
                        while not (found := decoder.feed(await anext(chunks))):
                            pass
                        assert offsets(found) == [n]


@pytest.mark.parametrize("keepalive_s", [0.1, TIMEOUT_S])
async def test_comments_keep_an_idle_stream_open_beyond_the_proxys_timeout(keepalive_s, in_front):
    async with running(keepalive_s=keepalive_s) as server:
        with in_front(server.url, extra=SHORT) as nginx:
            async with server.http.get(f"{nginx.url}/projects/apollo/events") as response:
                subscriber = Subscriber(response)
                await subscriber.opened()
                if keepalive_s < 1:
                    await subscriber.until(lambda me: me.raw.count(b": keepalive") >= 20)  # 2 s
                    await server.publish(1)
                    assert offsets(await subscriber.events(1)) == [1]
                else:  # what they are for: without them, nginx cuts it
                    with pytest.raises((aiohttp.ClientPayloadError, EOFError)):
                        await subscriber.until(lambda _: False)


async def test_pings_keep_an_idle_socket_open_beyond_the_proxys_timeout(in_front):
    async with running(ping_s=0.5) as server:
        with in_front(server.url, extra=SHORT) as nginx:
            url = f"{nginx.url}/projects/apollo/chat".replace("http", "ws", 1)
            async with server.http.ws_connect(url, protocols=["syndarix.chat.v1"], autoping=False) as socket:
                pings = 0
                async with asyncio.timeout(TIMEOUT_S):
                    while pings < 4:  # 2 s
                        message = await socket.receive()
                        assert message.type in (aiohttp.WSMsgType.TEXT, aiohttp.WSMsgType.PING), message
                        if message.type == aiohttp.WSMsgType.PING:
                            pings += 1
                            await socket.pong(message.data)
                    await socket.send_json({"type": "say", "id": "1", "text": "still here"})
                    while (frame := await socket.receive_json())["type"] != "said":
                        pass
                assert frame["text"] == "still here"


async def test_what_the_proxy_says_of_the_client_is_taken_and_a_large_batch_passes(in_front):
    async with running(token="s3cret", proxy_hops=1) as server:
        with in_front(server.url) as nginx:
            forged = {"x-forwarded-proto": "http", "x-forwarded-for": "10.6.6.6", "x-forwarded-host": "evil.example"}
            context = ssl.create_default_context(cafile=CERTIFICATE)
            async with server.http.get(
                f"{nginx.tls_url}/p/apollo?key=s3cret", headers=forged, ssl=context, allow_redirects=False
            ) as answer:
                assert answer.status == 303
                assert "Secure" in answer.headers["set-cookie"]
                assert f"syndarix-rt-{port_of(nginx.tls_url)}=" in answer.headers["set-cookie"]
            large = [event(n, data={"text": "x" * 50_000}).encode() for n in range(1, 60)]
            batch = b"[" + b",".join(large) + b"]"
            assert len(batch) > 2 << 20
            headers = {"authorization": "Bearer s3cret", "content-type": "application/json"}
            async with server.http.post(
                f"{nginx.url}/projects/apollo/events", data=io.BytesIO(batch), headers=headers
            ) as answer:
                assert (await answer.json())["last"] == 59


@pytest.mark.browser
async def test_the_page_works_below_a_path_that_nginx_takes_away(browser, in_front):
    async with running(token="s3cret", root_path="/rt", proxy_hops=1) as server, AsyncExitStack() as stack:
        nginx = in_front(server.url)
        nginx.change("location / {", "location /rt/ {")
        nginx.change("proxy_pass http://syndarix_rt;", "proxy_pass http://syndarix_rt/;")
        stack.enter_context(nginx)
        context = await browser.new_context(ignore_https_errors=True)
        stack.push_async_callback(context.close)
        page = await context.new_page()
        await page.goto(f"{nginx.tls_url}/rt/p/apollo?key=s3cret")
        assert page.url == f"{nginx.tls_url}/rt/p/apollo"
        await page.wait_for_function("() => document.getElementById('connection').textContent === 'live'")
        [cookie] = await context.cookies()
        assert (cookie["path"], cookie["secure"], cookie["httpOnly"]) == ("/rt", True, True)
        await server.publish(1, 2)
        await page.wait_for_function("() => document.getElementById('received').textContent === '2'")


async def test_streams_and_chat_go_on_exactly_when_either_instance_is_killed(redis_url, in_front):
    """Two instances behind one address and nothing sticky: each is killed in turn, and started again in between."""
    broker = RedisBroker(redis_url)
    serve = ("serve", "--token", "", "--redis-url", redis_url, "--keepalive", "1", "--port")
    async with AsyncExitStack() as stack:
        stack.push_async_callback(broker.aclose)
        instances = [stack.enter_context(Command(*serve, "0")) for _ in range(2)]
        urls = [await asyncio.to_thread(each.url) for each in instances]
        nginx = stack.enter_context(in_front(*urls))
        streams = [await stack.enter_async_context(EventStream(nginx.url, "apollo", keepalive_s=1)) for _ in range(6)]
        received = [[] for _ in streams]

        async def read(stream, into):
            async for item in stream:
                into.append(item)

        reading = [asyncio.create_task(read(*pair)) for pair in zip(streams, received, strict=True)]
        ana = await stack.enter_async_context(ChatClient(nginx.url, "apollo", name="ana"))
        ben = await stack.enter_async_context(ChatClient(nginx.url, "apollo", name="ben"))
        published = 0

        async def publish(count):
            nonlocal published
            batch = [event(n).encode() for n in range(published + 1, published + count + 1)]
            await broker.publish(CHANNEL, batch)
            published += count

        async def all_received():
            await eventually(lambda: min(map(len, received)) >= published)

        said = []
        await publish(50)
        await all_received()
        for n, instance in enumerate(instances):
            instance.process.kill()
            await publish(50)
            said.append(f"after the end of instance {n + 1}")
            await ana.say(said[-1])
            await all_received()
            await eventually(lambda: [each.text for each in ben.transcript.messages] == said)
            await asyncio.to_thread(instance.process.wait)
            again = stack.enter_context(Command(*serve, str(port_of(urls[n]))))
            await asyncio.to_thread(again.url)
            await publish(50)
            await all_received()
        for task in reading:
            task.cancel()
        await asyncio.wait(reading)
        expected = [f"event-{n}" for n in range(1, published + 1)]
        assert all([item.id for item in items] == expected for items in received)
        assert all(stream.ledger.clean and stream.ledger.events == published for stream in streams)
        assert all(stream.ledger.gaps == [] for stream in streams)
        assert sum(stream.ledger.connections - 1 for stream in streams) >= len(streams), "either had some of them"


@asynccontextmanager
async def refusing(port):
    """A server that has no room: 503 and when to come back, as limits answer."""
    asked = []

    async def answer(request):
        asked.append(request.path)
        return web.Response(status=503, headers={"retry-after": "1"})

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", answer)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port, reuse_address=True).start()
    yield asked
    await runner.cleanup()


LONGEST_DELAY_MS = 31_000
"""A page that was refused asks again by then."""


async def soon(delay_s):
    await asyncio.sleep(min(delay_s, 0.2))


@pytest.mark.browser
async def test_client_and_page_come_back_by_themselves_after_502_and_503(browser, in_front):
    broker = MemoryBroker()
    async with AsyncExitStack() as stack:
        stack.push_async_callback(broker.aclose)
        async with running(broker, retry_ms=(50, 100)) as server:
            port = port_of(server.url)
            nginx = stack.enter_context(in_front(server.url))
            client = await stack.enter_async_context(EventStream(nginx.url, "apollo", sleep=soon))
            context = await browser.new_context(ignore_https_errors=True)
            stack.push_async_callback(context.close)
            page = await context.new_page()
            await page.clock.install()
            await page.goto(f"{nginx.tls_url}/p/apollo")
            await page.wait_for_function("() => document.getElementById('connection').textContent === 'live'")
            await server.publish(1, 3)
            assert [(await anext(client)).id for _ in range(3)] == ["event-1", "event-2", "event-3"]
            received = "(count) => document.getElementById('received').textContent === count"
            await page.wait_for_function(received, arg="3")
        reading = asyncio.create_task(anext(client))
        says = "(text) => document.getElementById('connection').textContent.includes(text)"
        await page.wait_for_function(says, arg="the server answers 502")
        await broker.publish(CHANNEL, [event(4).encode()])
        async with refusing(port) as asked:
            await page.clock.fast_forward(LONGEST_DELAY_MS)
            await page.wait_for_function(says, arg="the server answers 503")
            before = len(asked)
            await eventually(lambda: len(asked) >= before + 2)
        await broker.publish(CHANNEL, [event(5).encode()])
        assert not reading.done()
        async with running(broker, port) as server:
            async with asyncio.timeout(3 * TIMEOUT_S):
                assert (await reading).id == "event-4"
                assert (await anext(client)).id == "event-5"
            await page.clock.fast_forward(LONGEST_DELAY_MS)
            await page.wait_for_function(received, arg="5")
            assert await page.locator("#gaps").inner_text() == "0"
            assert client.ledger.clean
            assert client.ledger.gaps == []
            await client.aclose()
        assert {502, 503} <= {*nginx.answered()}


@pytest.mark.browser
async def test_over_http_2_a_page_has_any_number_of_streams(browser, in_front):
    """Over HTTP/1.1 a browser opens six connections to a server, for all tabs together."""
    async with running() as server, AsyncExitStack() as stack:
        nginx = stack.enter_context(in_front(server.url))
        context = await browser.new_context(ignore_https_errors=True)
        stack.push_async_callback(context.close)
        page = await context.new_page()
        await page.goto(f"{nginx.tls_url}/")
        await page.evaluate(
            """() => {
              window.heard = Array(20).fill(0);
              window.open = 0;
              for (const n of window.heard.keys()) {
                const source = new EventSource("projects/apollo/events");
                source.addEventListener("my_event", () => (window.heard[n] += 1));
                source.addEventListener("stream-open", () => (window.open += 1));
              }
            }"""
        )
        await page.wait_for_function("() => window.open === 20")
        await server.publish(1, 3)
        await page.wait_for_function("() => window.heard.every((count) => count === 3)")
        protocol = "() => performance.getEntriesByType('navigation')[0].nextHopProtocol"
        assert await page.evaluate(protocol) == "h2"
