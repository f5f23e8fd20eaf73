"""`HttpPublisher` and `Api` against a scripted server: lost replies, refusals, limits."""

import asyncio
import random
import ssl
from pathlib import Path

import aiohttp
import msgspec
import pytest
from scripted_server import TIMEOUT_S, ScriptedServer, answer, event

from syndarix_rt.client import Api, HttpPublisher, Reporter
from syndarix_rt.client.http import Unavailable, retry_after_s, translated
from syndarix_rt.delivery import MAX_BATCH_BYTES, Published
from syndarix_rt.errors import BrokerUnavailable, EventError, StreamError

DETAIL = "$[1].data.run_id: is missing"
PROBLEM = b'{"title":"Bad Request","status":400,"detail":"%b"}' % DETAIL.encode()


class Clock:
    """Time that passes only when somebody sleeps."""

    def __init__(self):
        self.now_s = 0.0
        self.slept = []

    def __call__(self):
        return self.now_s

    async def sleep(self, seconds):
        self.slept.append(seconds)
        self.now_s += seconds
        await asyncio.sleep(0)


class LogServer(ScriptedServer):
    """Stores batches like our server does: the same key adds nothing. ``faults`` happen to the first requests."""

    def __init__(self, *faults):
        super().__init__(self.serve)
        self.faults = list(faults)
        self.ids = []
        self.replies = {}

    async def serve(self, exchange):
        fault = self.faults.pop(0) if self.faults else None
        if fault == "refused before it was stored":
            return await exchange.send(answer("503 Service Unavailable", retry_after=1))
        lines = exchange.body.split(b"\n")
        key = exchange.headers["idempotency-key"]
        known = self.replies.get(key)
        if known is None:
            first = len(self.ids) + 1
            self.ids += [msgspec.json.decode(line)["id"] for line in lines]
            known = self.replies[key] = {"epoch": "epoch-one", "first": first, "last": len(self.ids), "duplicates": 0}
            reply = known
        else:
            reply = known | {"duplicates": len(lines)}
        response = answer("202 Accepted", msgspec.json.encode(reply), content_type="application/json")
        if fault == "reply lost":
            return exchange.reset()
        if fault == "reply cut":
            await exchange.send(response[:-5])
            return exchange.cut()
        return await exchange.send(response)


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def publisher(clock):
    def make(server, **options):
        options = {"sleep": clock.sleep, "clock": clock, "rng": random.Random(1)} | options
        return HttpPublisher(server.url, "apollo", **options)

    return make


def batch(count):
    return [event(n) for n in range(1, count + 1)]


def ids(count):
    return [f"event-{n}" for n in range(1, count + 1)]


async def test_a_batch_goes_as_one_request_with_key_and_token():
    async with LogServer() as server, HttpPublisher(f"{server.url}/hub/p/apollo?key=s3cret", "apollo") as publisher:
        assert await publisher.publish(batch(3)) == Published("epoch-one", 1, 3)
        request = server.requests[0]
        assert (request.method, request.target) == ("POST", "/hub/projects/apollo/events")
        assert request.headers["authorization"] == "Bearer s3cret"
        assert request.headers["content-type"] == "application/x-ndjson"
        assert request.body == b"\n".join(item.encode() for item in batch(3))


@pytest.mark.parametrize("fault", ["reply lost", "reply cut", "refused before it was stored"])
async def test_a_batch_whose_reply_was_lost_is_stored_once(fault, publisher, clock):
    async with LogServer(fault, fault) as server, publisher(server) as http:
        published = await http.publish(batch(5))
        assert (published.first, published.last) == (1, 5)
        assert published.duplicates == (0 if fault.startswith("refused") else 5)
        assert server.ids == ids(5)
        assert len({request.headers["idempotency-key"] for request in server.requests}) == 1
        assert len(clock.slept) == 2


async def test_any_faults_leave_all_events_stored_once_in_order(publisher):
    rng = random.Random(3)
    faults = rng.choices(["reply lost", "reply cut", "refused before it was stored", None], k=40)
    async with LogServer(*faults) as server, publisher(server) as http:
        async with asyncio.TaskGroup() as group:  # calls at the same time queue up
            for start in range(1, 200, 10):
                group.create_task(http.publish([event(n) for n in range(start, start + 10)]))
        assert server.ids == ids(200)


async def test_more_than_a_batch_goes_as_several_within_the_limits(publisher):
    big = {"text": "x" * 40_000}
    events = batch(2_500) + [event(n, data=big) for n in range(2_501, 2_801)]
    async with LogServer() as server, publisher(server) as http:
        assert await http.publish(events) == Published("epoch-one", 1, 2_800)
        assert server.ids == ids(2_800)
        for request in server.requests:
            lines = request.body.split(b"\n")
            assert len(lines) <= 1_000
            assert sum(len(line) + 50 for line in lines) <= MAX_BATCH_BYTES + 5_000
        assert len({request.headers["idempotency-key"] for request in server.requests}) == len(server.requests)


async def test_a_refusal_says_what_the_server_said_and_is_not_tried_again(publisher, clock):
    async def refuse(exchange):
        await exchange.send(answer("400 Bad Request", PROBLEM, content_type="application/problem+json"))

    async with ScriptedServer(refuse) as server, publisher(server) as http:
        with pytest.raises(StreamError) as caught:
            await http.publish(batch(2))
        expected = f"0 of 2 events are published: {server.url}/projects/apollo/events: 400 Bad Request: {DETAIL}"
        assert str(caught.value) == expected
        assert caught.value.status == 400
        assert not isinstance(caught.value, BrokerUnavailable)
        assert clock.slept == []


async def test_a_server_that_stays_away_is_given_up_with_the_number_of_stored_events(publisher, clock):
    async with LogServer() as server:
        http = publisher(server)
        server.faults = [None, *["refused before it was stored"] * 50]
        with pytest.raises(BrokerUnavailable, match="1000 of 1500 events are published: gave up after 30 s") as caught:
            await http.publish(batch(1_500))
        assert caught.value.status == 503
        assert clock.now_s <= 30
        server.faults = []
        assert (await http.publish([event(2_000)])).first == 1_001
        await http.aclose()
        await server.closed()


async def test_mistakes_are_told_before_anything_is_sent():
    with pytest.raises(StreamError, match="not a project name"):
        HttpPublisher("http://localhost:1", "a b")
    http = HttpPublisher("http://localhost:1", "apollo")
    with pytest.raises(ValueError, match="no events"):
        await http.publish([])
    with pytest.raises(EventError, match=r"\$\[1\].project: is 'other', but this publishes to 'apollo'"):
        await http.publish([event(1), event(2, project="other")])
    with pytest.raises(EventError, match=r"\$\[0\]: the event is"):
        await http.publish([event(1, data={"text": "x" * 70_000})])
    await http.aclose()


async def test_a_redirect_is_named_instead_of_turning_a_post_into_a_get(publisher):
    async def moved(exchange):
        await exchange.send(answer("301 Moved Permanently", location="https://hub.example/"))

    async with ScriptedServer(moved) as server, publisher(server) as http:
        with pytest.raises(StreamError, match=r"it points to 'https://hub.example/'; use that server's URL"):
            await http.publish(batch(1))
        assert len(server.requests) == 1


@pytest.mark.parametrize("body", [b"", b"<html>", b'{"first":1}', b"[]", b"\xff"])
async def test_an_answer_that_is_not_ours_is_an_error(body, publisher):
    async def script(exchange):
        await exchange.send(answer("200 OK", body))

    async with ScriptedServer(script) as server, publisher(server) as http:
        with pytest.raises(StreamError, match="not the answer of a Syndarix RT server"):
            await http.publish(batch(1))


async def test_a_server_that_never_answers_is_left_by_cancelling():
    async def silent(exchange):
        await exchange.gone()

    async with ScriptedServer(silent) as server:
        async with HttpPublisher(server.url, "apollo") as http:
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(http.publish(batch(1)), 0.05)
        await server.closed()


async def test_a_question_without_an_answer_is_a_broker_that_is_away():
    async with ScriptedServer() as server:
        url = server.url
    async with Api(url) as api:
        with pytest.raises(BrokerUnavailable, match="cannot connect: Connection refused") as caught:
            await api.projects()
    assert isinstance(caught.value, StreamError)
    assert caught.value.status is None


async def test_an_unknown_host_is_named():
    async with Api("http://host.invalid") as api:
        with pytest.raises(BrokerUnavailable, match=r"cannot find the host host.invalid"):
            await api.position("apollo")


@pytest.mark.parametrize("host", ["a..b", "x" * 64, "a\u2028b"])
async def test_a_host_that_none_can_have_is_named(host):
    async with Api(f"http://{host}") as api:
        with pytest.raises(StreamError, match="not a URL that can be asked") as caught:
            await api.projects()
    assert not isinstance(caught.value, BrokerUnavailable)


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (aiohttp.ConnectionTimeoutError(), "no connection within 10 s"),
        (TimeoutError(), "it fell silent"),
        (ConnectionResetError(), "the connection was cut"),
        (aiohttp.ClientConnectionError("Connection closed"), "Connection closed"),
        (aiohttp.ClientError(), "ClientError"),
    ],
)
def test_what_happened_to_a_connection_is_told_in_few_words(error, told):
    with pytest.raises(Unavailable) as caught, translated("http://host"):
        raise error
    assert str(caught.value) == f"http://host: {told}"


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("7", 7), (" 7 ", 7), ("99999999999999", 300), ("-1", 0), ("1.5", 0), ("", 0), ("soon", 0),
        ("Fri, 31 Dec 9999 23:59:59 GMT", 300), ("Fri, 31 Dec 9999 23:59:59 -0000", 300),
        ("Fri, 31 Dec 1999 23:59:59 GMT", 0), ("Mon, 20 Nov 99999999999999 19:12:08 GMT", 0),
    ],
)  # fmt: skip
def test_a_retry_after_is_seconds_or_a_date(value, seconds):
    assert retry_after_s(value) == seconds


async def test_a_certificate_that_nobody_trusts_is_named():
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(Path(__file__).parent / "localhost.pem")
    async with await asyncio.start_server(lambda *_: None, "127.0.0.1", 0, ssl=context) as server:
        url = f"https://localhost:{server.sockets[0].getsockname()[1]}"
        async with Api(url) as api:
            with pytest.raises(StreamError, match=r"the server's certificate is not trusted: .*self.signed") as caught:
                await api.projects()
        assert not isinstance(caught.value, BrokerUnavailable)
        reporter = Reporter(url, project="apollo", disk_bytes=0)  # which has a client of its own
        reporter.event("my_event", {})
        async with asyncio.timeout(TIMEOUT_S):
            while "certificate verify failed" not in reporter.delivery.trouble:
                await asyncio.sleep(0.01)
        assert not await asyncio.to_thread(reporter.close, 0.0)


async def test_tls_that_is_none_is_named():
    async def plain(reader, writer):
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        await reader.read()
        writer.close()

    async with await asyncio.start_server(plain, "127.0.0.1", 0) as server:
        async with Api(f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}") as api:
            with pytest.raises(BrokerUnavailable, match=r"cannot connect by TLS: .*WRONG_VERSION"):
                await api.projects()
