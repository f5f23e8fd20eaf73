"""`EventStream` against a scripted server: every fault that a network or a bad server can show, on a real socket."""

import asyncio
import random
from contextlib import suppress
from email.utils import formatdate
from types import SimpleNamespace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scripted_server import (
    END,
    EPOCH,
    HEAD,
    TIMEOUT_S,
    ScriptedServer,
    answer,
    checkpoint,
    chunk,
    event,
    frame,
    no_more,
    opening,
)

from syndarix_rt import EventId, Gap
from syndarix_rt.client import EventStream, StreamState
from syndarix_rt.delivery.sse import MAX_BLOCK_BYTES, encode
from syndarix_rt.errors import BrokerUnavailable, DecodeError, EventError, FilterError, StreamError


class Clock:
    """Time that passes only when somebody sleeps; ``slept`` has what they asked for."""

    def __init__(self):
        self.now_s = 1000.0
        self.slept = []

    def __call__(self):
        return self.now_s

    async def sleep(self, seconds):
        self.slept.append(round(seconds, 6))
        self.now_s += seconds
        await asyncio.sleep(0)


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def client(clock):
    """An `EventStream` whose delays take no time."""

    def make(server, **options):
        return EventStream(server.url, "apollo", **{"sleep": clock.sleep, "clock": clock} | options)

    return make


def whole(*parts):
    """A script: a stream that sends these bytes and ends in order."""

    async def script(exchange):
        await exchange.send(HEAD, chunk(b"".join(parts)), END)

    return script


def held(*parts):
    """A script: a stream that sends these bytes and then stays open, silent."""

    async def script(exchange):
        await exchange.send(HEAD, chunk(b"".join(parts)))
        await exchange.gone()

    return script


async def read_all(stream):
    async with asyncio.timeout(TIMEOUT_S):
        return [item async for item in stream]


async def read(stream, count):
    async with asyncio.timeout(TIMEOUT_S):
        return [await anext(stream) for _ in range(count)]


def numbers(items):
    return [item.data["n"] for item in items]


# ---- exactly once ---------------------------------------------------------------------------------------------------


class LogServer(ScriptedServer):
    """Serves a log of ``count`` events as our server does; one response for each of ``cuts`` ends after so many bytes.

    ``last`` is the newest offset until a subscriber has been told that its stream is open; then everything is there.
    """

    def __init__(self, count, cuts):
        super().__init__(self.serve)
        self.count = self.last = count
        self.cuts = list(cuts)

    async def serve(self, exchange):
        cursor = exchange.headers.get("last-event-id")
        without = 0 if "replay=all" in exchange.target else self.last
        offset = int(cursor.rpartition(".")[2]) if cursor else without
        if offset == self.count and not self.cuts:
            return await no_more(exchange)
        start = opening(offset, self.last, resumed=cursor is not None)
        events = b"".join(chunk(frame(n)) for n in range(offset + 1, self.count + 1))
        response = HEAD + chunk(start) + events + END
        if self.cuts:
            response = response[: self.cuts.pop(0)]
        if start[: start.rindex(b"id:")] in response:
            self.last = self.count
        await exchange.send(response)
        return exchange.cut()


RESPONSE = HEAD + chunk(opening(0, 3)) + b"".join(chunk(frame(n)) for n in (1, 2, 3)) + END


@pytest.mark.parametrize("live", [False, True])
async def test_a_connection_cut_after_any_byte_costs_no_event_and_doubles_none(live, client):
    async with LogServer(3, []) as server:
        for cut in range(len(RESPONSE) + 1):
            server.cuts = [cut]
            server.last = 0 if live else 3
            async with client(server, replay=None if live else "all") as stream:
                assert numbers(await read_all(stream)) == [1, 2, 3], cut
                assert stream.position == EventId(EPOCH, 3)
                assert stream.ledger.clean, stream.ledger
                assert stream.ledger.events == 3


@settings(max_examples=60, deadline=None)
@given(cuts=st.lists(st.integers(0, 1500), max_size=12))
def test_any_sequence_of_cuts_gives_every_event_once_in_order(cuts):
    async def check():
        clock = Clock()
        async with (
            LogServer(5, cuts) as server,
            EventStream(server.url, "apollo", replay="all", sleep=clock.sleep, clock=clock) as stream,
        ):
            assert numbers(await read_all(stream)) == [1, 2, 3, 4, 5]
            assert stream.ledger.clean

    asyncio.run(check())


@settings(max_examples=150, deadline=None)
@given(at=st.integers(0, len(RESPONSE)), drop=st.integers(0, 40), junk=st.binary(max_size=40))
def test_whatever_a_server_sends_only_errors_of_ours_come_out(at, drop, junk):
    async def script(exchange):
        await exchange.send(RESPONSE[:at] + junk + RESPONSE[at + drop :])
        exchange.cut()

    async def check():
        clock = Clock()
        async with (
            ScriptedServer(script, no_more) as server,
            EventStream(server.url, "apollo", replay="all", sleep=clock.sleep, clock=clock) as stream,
        ):
            with suppress(StreamError, DecodeError):
                await read_all(stream)
            assert stream.state is StreamState.CLOSED

    asyncio.run(check())


@pytest.mark.parametrize("ending", ["cut", "reset"])
async def test_a_connection_that_is_reset_is_resumed_like_one_that_is_closed(ending, client):
    async def broken(exchange):
        await exchange.send(HEAD, chunk(opening(0, 2) + frame(1) + frame(2)[:-1]))
        getattr(exchange, ending)()

    async with ScriptedServer(broken, held(opening(1, 2, resumed=True), frame(2))) as server, client(server) as stream:
        assert numbers(await read(stream, 2)) == [1, 2]
        assert server.requests[1].headers["last-event-id"] == f"{EPOCH}.1"
        assert stream.ledger.resumed == 1


async def test_bytes_that_come_one_at_a_time_make_the_same_events(client):
    text = event(1, data={"n": 1, "text": "größer, 日本語 🎈"}).encode()
    body = b"\xef\xbb\xbf" + (b": hello\n\n" + opening(0, 2) + frame(1, raw=text) + frame(2)).replace(b"\n", b"\r\n")

    async def drip(exchange):
        await exchange.send(HEAD)
        for byte in body:
            await exchange.send(chunk(bytes([byte])))
            await asyncio.sleep(0)
        await exchange.gone()

    async with ScriptedServer(drip) as server, client(server) as stream:
        first, second = await read(stream, 2)
    assert first.data["text"] == "größer, 日本語 🎈"
    assert first.raw == text
    assert second.position == EventId(EPOCH, 2)


async def test_an_event_that_came_before_is_dropped_and_counted(client):
    body = [opening(0, 0), frame(1), frame(2), frame(1), frame(2), frame(3), frame(2)]
    async with ScriptedServer(whole(*body), no_more) as server, client(server) as stream:
        assert numbers(await read_all(stream)) == [1, 2, 3]
        assert stream.ledger.duplicates == 3
        assert stream.position == EventId(EPOCH, 3)
        assert server.requests[1].headers["last-event-id"] == f"{EPOCH}.3"


async def test_a_gap_may_lead_back_within_an_epoch(client):
    gap = b'{"reason":"epoch","requested":"epoch-one.500","first":1,"last":2,"missed":0}'
    body = [opening(0, 2, gap=gap), frame(1)]
    async with ScriptedServer(whole(*body), no_more) as server, client(server, last_event_id="epoch-one.500") as stream:
        (_, after) = await read_all(stream)
        assert after.position == stream.position == EventId(EPOCH, 1)
        assert stream.ledger.clean


async def test_an_id_that_cannot_be_ours_is_never_sent_back(client):
    body = [opening(0, 1), frame(1), encode(id="\x01"), encode(id="é.7")]
    async with ScriptedServer(whole(*body), no_more) as server, client(server) as stream:
        await read_all(stream)
        assert server.requests[1].headers["last-event-id"] == f"{EPOCH}.1"


async def test_a_hole_that_nobody_declared_is_in_the_ledger(client):
    async with ScriptedServer(whole(opening(0, 9), frame(1), frame(4)), no_more) as server, client(server) as stream:
        assert numbers(await read_all(stream)) == [1, 4]
        assert [(hole.first, hole.last) for hole in stream.ledger.holes] == [(2, 3)]


async def test_a_gap_is_yielded_before_what_follows_it_and_is_no_hole(client):
    gap = b'{"reason":"trimmed","requested":"epoch-one.2","first":8,"last":9,"missed":5}'
    start = opening(7, 9, gap=gap)
    half = start.index(b"id:")  # the checkpoint after the gap comes in a packet of its own

    async def script(exchange):
        await exchange.send(HEAD, chunk(start[:half]))
        await went_on.wait()
        await exchange.send(chunk(start[half:] + frame(8)))
        await exchange.gone()

    went_on = asyncio.Event()
    async with ScriptedServer(script) as server, client(server, last_event_id="epoch-one.2") as stream:
        assert await read(stream, 1) == [Gap("trimmed", "epoch-one.2", 8, 9, 5)]
        assert stream.position == EventId(EPOCH, 2)  # who stops here is told of the gap again
        went_on.set()
        assert numbers(await read(stream, 1)) == [8]
        assert stream.ledger.gaps == [Gap("trimmed", "epoch-one.2", 8, 9, 5)]
        assert stream.ledger.holes == []


async def test_a_new_epoch_that_kept_everything_goes_on_without_a_gap(client):
    again = [opening(2, 3, epoch="epoch-two", resumed=True), frame(3, epoch="epoch-two")]
    async with ScriptedServer(whole(opening(0, 2), frame(1), frame(2)), held(*again)) as server:
        async with client(server) as stream:
            events = await read(stream, 3)
            assert [str(item.position) for item in events] == ["epoch-one.1", "epoch-one.2", "epoch-two.3"]
            assert stream.ledger.clean


@pytest.mark.parametrize(
    "bad",
    [
        encode(b"not json", event="message", id=f"{EPOCH}.2"),
        encode(b'{"type":"my_event"}', event="my_event", id=f"{EPOCH}.2"),
        frame(2, raw=b'"' + b"x" * 70_000 + b'"'),
        frame(2, raw=b"[" * 60_000),
    ],
)
async def test_an_entry_that_is_no_event_is_counted_and_does_not_end_the_stream(bad, client):
    async with ScriptedServer(whole(opening(0, 3), frame(1), bad, frame(3)), no_more) as server:
        async with client(server) as stream:
            assert numbers(await read_all(stream)) == [1, 3]
            assert stream.ledger.unreadable == 1
            assert stream.ledger.clean


async def test_an_event_without_a_position_of_ours_is_counted_and_skipped(client):
    foreign = encode(event(1).encode(), event="my_event", id="42")
    async with ScriptedServer(whole(opening(0, 2), foreign, frame(1)), no_more) as server, client(server) as stream:
        assert numbers(await read_all(stream)) == [1]
        assert stream.ledger.unreadable == 1


async def test_control_frames_of_a_newer_server_are_passed_over(client):
    body = [opening(0, 2), encode(b"whatever", event="quota-low"), frame(1)]
    async with ScriptedServer(whole(*body), no_more) as server, client(server) as stream:
        assert numbers(await read_all(stream)) == [1]


@pytest.mark.parametrize("gap", [b'{"reason":"cosmic"}', b'{"a":' + b"[" * 60_000])
async def test_a_gap_that_cannot_be_read_ends_the_stream_instead_of_hiding_a_loss(gap, client):
    body = [opening(0, 2), frame(1), encode(gap, event="gap"), frame(2)]
    async with ScriptedServer(whole(*body)) as server, client(server) as stream:
        assert numbers(await read(stream, 1)) == [1]
        with pytest.raises(StreamError, match="cannot read the server's frame 'gap'"):
            await anext(stream)
        assert stream.state is StreamState.CLOSED


async def test_a_block_beyond_all_limits_ends_the_stream(client):
    async with ScriptedServer(whole(b"data: " + b"x" * (MAX_BLOCK_BYTES + 1))) as server, client(server) as stream:
        with pytest.raises(DecodeError):
            await read(stream, 1)
        await server.closed()


# ---- position -------------------------------------------------------------------------------------------------------


async def test_the_position_is_that_of_the_last_event_yielded_not_of_the_last_received(client):
    async with ScriptedServer(held(opening(0, 3), frame(1), frame(2), frame(3))) as server, client(server) as stream:
        await read(stream, 1)
        assert stream.position == EventId(EPOCH, 1)
        await read(stream, 2)
        assert stream.position == EventId(EPOCH, 3)


async def test_a_checkpoint_moves_the_position_and_the_resume(client):
    body = [opening(0, 900), frame(1), checkpoint(900)]
    async with ScriptedServer(whole(*body), no_more) as server, client(server, types="my_event") as stream:
        assert numbers(await read_all(stream)) == [1]
        assert stream.position == EventId(EPOCH, 900)
        assert server.requests[1].headers["last-event-id"] == f"{EPOCH}.900"
        assert stream.ledger.clean


@pytest.mark.parametrize("cursor", ["epoch-one.41", EventId("epoch-one", 41)])
async def test_a_cursor_is_sent_with_the_first_request(cursor, client):
    body = [opening(41, 42, resumed=True), frame(42)]
    async with ScriptedServer(held(*body)) as server, client(server, last_event_id=cursor) as stream:
        assert numbers(await read(stream, 1)) == [42]
        assert server.requests[0].headers["last-event-id"] == "epoch-one.41"
        assert stream.opened.resumed
        assert stream.ledger.clean


async def test_latency_is_booked_for_live_events_only(client):
    old = event(1, recordedtime="2020-01-01T00:00:00.000001Z").encode()
    body = [opening(0, 1), frame(1, raw=old), frame(2, raw=old)]
    async with ScriptedServer(held(*body)) as server, client(server, replay="all") as stream:
        await read(stream, 2)
        assert sum(stream.ledger.latency_counts) == 1


async def test_after_a_reset_the_ages_of_what_the_new_log_had_are_no_latencies_but_of_what_follows(client):
    old = event(1, recordedtime="2020-01-01T00:00:00.000001Z").encode()
    gap = b'{"reason":"epoch","requested":"epoch-one.7","first":1,"last":2,"missed":null}'
    body = [opening(7, 7), encode(gap, event="gap"), *(frame(n, "epoch-two", raw=old) for n in (1, 2, 3))]
    async with ScriptedServer(held(*body)) as server, client(server) as stream:
        await read(stream, 4)
        assert sum(stream.ledger.latency_counts) == 1


# ---- the request ----------------------------------------------------------------------------------------------------


async def test_a_pasted_url_keeps_its_prefix_and_gives_its_key():
    async with ScriptedServer(held(opening(0, 0))) as server:
        url = f"{server.url}/user/ada/proxy/8765/p/other?key=s3cret"
        async with EventStream(url, "apollo", types=["agent_*", "git"], replay=5) as stream:
            request = server.requests[0]
            assert stream.state is StreamState.OPEN
    assert request.target == "/user/ada/proxy/8765/projects/apollo/events?types=agent_*,git&replay=5"
    assert request.headers["authorization"] == "Bearer s3cret"
    assert request.headers["accept"] == "text/event-stream"
    assert request.headers["accept-encoding"] == "identity"
    assert "last-event-id" not in request.headers


async def test_a_token_given_beside_the_url_wins():
    async with ScriptedServer(held(opening(0, 0))) as server:
        async with EventStream(f"{server.url}/?key=old", "apollo", token="new"):
            assert server.requests[0].headers["authorization"] == "Bearer new"


async def test_mistakes_are_told_before_anything_is_asked():
    with pytest.raises(StreamError, match="not a server's URL"):
        EventStream("localhost:8765", "apollo")
    with pytest.raises(StreamError, match="not a project name"):
        EventStream("http://localhost:8765", "../etc")
    with pytest.raises(FilterError):
        EventStream("http://localhost:8765", "apollo", types="agents")
    with pytest.raises(EventError, match="not an event id"):
        EventStream("http://localhost:8765", "apollo", last_event_id="41")
    with pytest.raises(RuntimeError, match="async with"):
        await anext(EventStream("http://localhost:8765", "apollo"))


# ---- answers --------------------------------------------------------------------------------------------------------


async def test_204_ends_the_iteration_cleanly(client):
    async with ScriptedServer(no_more) as server, client(server) as stream:
        assert await read_all(stream) == []
        assert stream.state is StreamState.CLOSED
        assert await read_all(stream) == []  # and it stays so
        assert len(server.requests) == 1


PROBLEM = b'{"type":"about:blank","title":"Unauthorized","status":401,"detail":"This server wants its key."}'


async def test_a_refusal_says_what_the_server_said(client, clock):
    refused = answer("401 Unauthorized", PROBLEM, content_type="application/problem+json")

    async def script(exchange):
        await exchange.send(refused)

    async with ScriptedServer(script) as server, client(server) as stream:
        with pytest.raises(StreamError) as caught:
            await read(stream, 1)
    assert caught.value.status == 401
    assert str(caught.value) == f"{server.url}/projects/apollo/events: 401 Unauthorized: This server wants its key."
    assert not isinstance(caught.value, BrokerUnavailable)
    assert stream.reason == str(caught.value)
    assert len(server.requests) == 1
    assert clock.slept == []


@pytest.mark.parametrize(
    ("response", "text"),
    [
        (answer("400 Bad Request", b"<html>", content_type="text/html"), "400 Bad Request"),
        (answer("401 Unauthorized"), r"\?key="),
        (answer("403 Forbidden", b'{"title":"No"}', content_type="application/json"), "403 Forbidden: No"),
        (answer("404 Not Found", b"{not json", content_type="application/json"), "is this the server's URL"),
        (answer("404 Not Found", b"x" * 70_000, content_type="application/json"), "is this the server's URL"),
        (answer("404 Not Found", b'{"a":' + b"[" * 60_000, content_type="application/json"), "is this the server's"),
        (answer("499 Whatever"), "499"),
        (answer("200 OK", b"<html>", content_type="text/html"), "text/html, which is no event stream"),
        (answer("304 Not Modified"), "304"),
        (b"HTTP/1.1 410 Gone\r\ncontent-type: application/json\r\ncontent-length: 99\r\n\r\n{", "410 Gone"),
        (b"-ERR unknown command 'GET'\r\n", "does not speak HTTP"),
        (b"\x15\x03\x01\x00\x02\x02\x46", "does not speak HTTP"),
    ],
)
async def test_other_answers_end_it_with_a_reason(response, text, client):
    async def script(exchange):
        await exchange.send(response)
        exchange.cut()

    async with ScriptedServer(script) as server, client(server) as stream:
        with pytest.raises(StreamError, match=text):
            await read(stream, 1)
        assert len(server.requests) == 1
        await server.closed()


async def test_a_redirect_is_followed_and_the_token_stays_with_its_server(client):
    async with ScriptedServer(held(opening(0, 1), frame(1))) as there:

        async def here(exchange):
            if exchange.target.startswith("/moved"):
                await exchange.send(answer("307 Temporary Redirect", location=f"{there.url}/elsewhere"))
            else:
                await exchange.send(answer("307 Temporary Redirect", location="/moved"))

        async with ScriptedServer(here) as server, client(server, token="s3cret") as stream:
            assert numbers(await read(stream, 1)) == [1]
        assert [request.headers.get("authorization") for request in server.requests] == ["Bearer s3cret"] * 2
        assert "authorization" not in there.requests[0].headers


async def test_redirects_without_end_are_a_refusal(client):
    async def script(exchange):
        await exchange.send(answer("302 Found", location="/again"))

    async with ScriptedServer(script) as server, client(server) as stream:
        with pytest.raises(StreamError, match="redirected too often"):
            await read(stream, 1)


# ---- trying again ---------------------------------------------------------------------------------------------------


def refused(status, **headers):
    async def script(exchange):
        await exchange.send(answer(status, **headers))

    return script


def jitter(share):
    """A source of chance that always draws the same."""
    return SimpleNamespace(random=lambda: share)


@pytest.mark.parametrize("status", ["429 Too Many Requests", "500 Internal Server Error", "503 Service Unavailable"])
async def test_429_and_5xx_are_tried_again_no_earlier_than_retry_after(status, client, clock):
    later = formatdate(2_000_000_000, usegmt=True)
    odd = ["soon", "Mon, 20 Nov 99999999999999 19:12:08 GMT"]
    scripts = [refused(status, retry_after=value) for value in (7, later, *odd)]
    async with ScriptedServer(*scripts, no_more) as server, client(server, rng=jitter(1.0)) as stream:
        assert await read_all(stream) == []
    assert clock.slept == [7 + 1, 300 + 2, 4, 8]  # Retry-After (capped) plus a delay that doubles


async def test_delays_double_up_to_30_s_and_half_of_each_is_chance(client, clock):
    scripts = [refused("500 Oops")] * 7
    async with ScriptedServer(*scripts, no_more) as server, client(server, rng=jitter(0.0)) as stream:
        await read_all(stream)
    assert clock.slept == [0.5, 1, 2, 4, 8, 15, 15]


async def test_retry_is_the_base_of_the_delays_and_never_undercut(client, clock):
    scripts = [whole(opening(0, 0, retry_ms=3000)), *[refused("500 Oops")] * 3]
    async with ScriptedServer(*scripts, no_more) as server, client(server, rng=jitter(0.0)) as stream:
        await read_all(stream)
    assert clock.slept == [3, 3, 6, 12]


@pytest.mark.parametrize(("retry_ms", "delay_s"), [(0, 0.1), (10**15, 300)])
async def test_an_absurd_retry_is_neither_a_busy_loop_nor_for_ever(retry_ms, delay_s, client, clock):
    body = opening(0, 0, retry_ms=retry_ms)
    async with ScriptedServer(whole(body), no_more) as server, client(server, rng=jitter(1.0)) as stream:
        await read_all(stream)
    assert clock.slept == [delay_s]


async def test_delays_begin_anew_after_a_connection_that_opened(client, clock):
    scripts = [refused("500 Oops")] * 3 + [whole(opening(0, 0, retry_ms=1000)), refused("500 Oops")]
    async with ScriptedServer(*scripts, no_more) as server, client(server, rng=jitter(1.0)) as stream:
        await read_all(stream)
    assert clock.slept == [1, 2, 4, 1, 2]


async def test_a_server_that_is_draining_is_asked_again_when_it_says_and_counts_as_no_connection(client, clock):
    farewell = encode(retry_ms=4000) + encode(b"{}", event="server-draining")
    scripts = [whole(opening(0, 1, retry_ms=1000), frame(1), farewell), whole(farewell), whole(farewell), no_more]
    states = []
    async with ScriptedServer(*scripts) as server:
        options = {"rng": jitter(1.0), "on_state": lambda *change: states.append(change)}
        async with client(server, **options) as stream:
            assert numbers(await read_all(stream)) == [1]
    assert clock.slept == [4, 8, 16]
    assert [reason for state, reason in states if state is StreamState.WAITING] == ["the server is shutting down"] * 3
    assert [state for state, _ in states].count(StreamState.OPEN) == 1


async def test_a_server_that_is_not_there_yet_is_waited_for(client):
    async with ScriptedServer(no_more) as server:
        url = server.url
    gone = SimpleNamespace(url=url)
    async with client(gone) as stream:
        assert stream.state is StreamState.WAITING
        assert stream.reason == f"{url}/projects/apollo/events: cannot connect: Connection refused"
        reading = asyncio.create_task(read(stream, 1))
        late = ScriptedServer(held(opening(0, 1), frame(1)))
        late._server = await asyncio.start_server(late._serve, "127.0.0.1", int(url.rpartition(":")[2]))
        try:
            assert numbers(await reading) == [1]
        finally:
            await late.__aexit__()


@pytest.mark.parametrize("start", [b"", HEAD, HEAD + chunk(opening(0, 1)), HEAD + chunk(opening(0, 1) + frame(1))])
async def test_silence_of_three_keepalives_is_a_dead_connection(start, client):
    async def silent(exchange):
        await exchange.send(start)
        await exchange.gone()

    async with ScriptedServer(silent, no_more) as server, client(server, keepalive_s=0.3) as stream:
        events = await read_all(stream)
        assert len(events) == start.count(b"event-1")
        assert len(server.requests) == 2


async def test_comments_keep_a_connection_alive(client):
    async def alive(exchange):
        await exchange.send(HEAD, chunk(opening(0, 1)))
        for _ in range(7):  # longer than three keepalives
            await asyncio.sleep(0.3)
            await exchange.send(chunk(b": keepalive\n\n"))
        await exchange.send(chunk(frame(1)))
        await exchange.gone()

    async with ScriptedServer(alive) as server, client(server, keepalive_s=0.6) as stream:
        assert numbers(await read(stream, 1)) == [1]
        assert len(server.requests) == 1


# ---- states and closing ---------------------------------------------------------------------------------------------


async def test_every_change_of_state_is_told_with_its_reason(client):
    states = []
    scripts = [refused("503 Service Unavailable"), whole(opening(0, 1), frame(1)), no_more]
    async with ScriptedServer(*scripts) as server:
        url = f"{server.url}/projects/apollo/events"
        async with client(server, on_state=lambda *change: states.append(change)) as stream:
            await read_all(stream)
    assert states == [
        ("waiting", f"{url}: 503 Service Unavailable"),
        ("connecting", ""),
        ("open", ""),
        ("waiting", f"{url}: the server ended the connection"),
        ("connecting", ""),
        ("closed", "the server ended the stream for good"),
    ]


async def test_entering_returns_with_the_stream_open_so_nothing_published_after_it_is_missed(client):
    async with ScriptedServer(held(opening(7, 7))) as server, client(server) as stream:
        assert stream.state is StreamState.OPEN
        assert (stream.opened.epoch, stream.opened.first, stream.opened.last) == (EPOCH, 1, 7)
        assert stream.ledger.connections == 1


async def test_entering_does_not_wait_for_ever_for_a_server_whose_broker_is_away(client, monkeypatch):
    monkeypatch.setattr("syndarix_rt.client.stream.ENTER_S", 0.05)
    back = asyncio.Event()

    async def script(exchange):
        await exchange.send(HEAD, chunk(encode(retry_ms=10) + b": keepalive\n\n"))
        await back.wait()
        await exchange.send(chunk(opening(0, 0) + frame(1)))
        await exchange.gone()

    async with ScriptedServer(script) as server, client(server) as stream:
        assert stream.state is StreamState.CONNECTING
        assert stream.opened is None
        back.set()
        assert numbers(await read(stream, 1)) == [1]
        assert len(server.requests) == 1


async def test_the_end_of_the_token_is_announced(client):
    body = [opening(0, 1), encode(b"{}", event="auth-expiring"), frame(1)]
    async with ScriptedServer(held(*body)) as server, client(server) as stream:
        await read(stream, 1)
        assert stream.reason == "the token is about to expire"


async def hold(exchange):
    await exchange.gone()


async def wait_for(condition):
    async with asyncio.timeout(TIMEOUT_S):
        while not condition():
            await asyncio.sleep(0.001)


@pytest.mark.parametrize("state", list(StreamState)[:3])
async def test_closing_ends_an_iteration_of_another_task_at_once(state):
    script = {"connecting": hold, "open": held(opening(0, 0)), "waiting": refused("500 Oops", retry_after=300)}[state]
    async with ScriptedServer(script) as server:
        stream = EventStream(server.url, "apollo")
        entering = asyncio.create_task(stream.__aenter__())
        await wait_for(lambda: server.requests and stream.state is state)
        if state == "connecting":
            await stream.aclose()
            await entering
            assert await read_all(stream) == []
        else:
            await entering
            readers = [asyncio.create_task(read_all(stream)) for _ in range(2)]
            await wait_for(lambda: stream._step_scope is not None)
            await stream.aclose()
            assert await asyncio.gather(*readers) == [[], []]
        assert stream.state is StreamState.CLOSED
        assert stream.reason == "closed here"
        await stream.aclose()  # again does nothing
        await server.closed()


@pytest.mark.parametrize("last_words", [chunk(frame(1)), chunk(b"data: \xff\n\n"), b"junk", END, b""])
async def test_closing_at_any_moment_of_an_arrival_is_quiet(last_words, client):
    async def script(exchange):
        await exchange.send(HEAD)
        await arrive.wait()
        await exchange.send(last_words)
        if not last_words.startswith(b"5"):
            exchange.cut()
        await exchange.gone()

    for turns in range(12):  # of the event loop, between the arrival and the close
        arrive = asyncio.Event()
        async with ScriptedServer(script) as server:
            stream = client(server)
            entering = asyncio.create_task(stream.__aenter__())
            await wait_for(lambda stream=stream: stream._response is not None)
            arrive.set()
            for _ in range(turns):
                await asyncio.sleep(0)
            await stream.aclose()
            await entering
            assert await read_all(stream) == []
            assert stream.state is StreamState.CLOSED


async def test_closing_drops_what_was_received_but_not_yielded(client):
    async with ScriptedServer(held(opening(0, 2), frame(1), frame(2))) as server, client(server) as stream:
        await read(stream, 1)
        await stream.aclose()
        assert await read_all(stream) == []
        assert stream.position == EventId(EPOCH, 1)
        await server.closed()


async def test_cancelling_the_entry_leaves_no_connection():
    async with ScriptedServer(hold) as server:
        stream = EventStream(server.url, "apollo")
        entering = asyncio.create_task(stream.__aenter__())
        await wait_for(lambda: server.requests)
        entering.cancel()
        with suppress(asyncio.CancelledError):
            await entering
        assert entering.cancelled()
        await server.closed()


async def test_an_iteration_that_is_cancelled_can_be_taken_up_again(client):
    more = asyncio.Event()

    async def script(exchange):
        await exchange.send(HEAD, chunk(opening(0, 1) + frame(1)[:20]))
        await more.wait()
        await exchange.send(chunk(frame(1)[20:]))
        await exchange.gone()

    async with ScriptedServer(script) as server, client(server) as stream:
        for _ in range(3):
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(anext(stream), 0.01)
        more.set()
        assert numbers(await read(stream, 1)) == [1]
        assert len(server.requests) == 1


async def test_a_cancelled_wait_does_not_begin_again():
    clock = Clock()
    asleep = asyncio.Event()

    async def sleep(seconds):
        clock.slept.append(seconds)
        asleep.set()
        await asyncio.sleep(60)

    async with ScriptedServer(refused("500 Oops")) as server:
        async with EventStream(server.url, "apollo", sleep=sleep, clock=clock, rng=jitter(1.0)) as stream:
            for _ in range(2):
                asleep.clear()
                reading = asyncio.create_task(anext(stream))
                await asleep.wait()
                reading.cancel()
                with suppress(asyncio.CancelledError):
                    await reading
                clock.now_s += 0.4
    assert clock.slept == [1.0, pytest.approx(0.6)]


async def test_a_reader_that_does_not_read_stops_the_server_and_loses_nothing(client):
    sent = 0
    filler = "x" * 1000
    total = 30_000

    async def flood(exchange):
        nonlocal sent
        await exchange.send(HEAD, chunk(opening(0, total)))
        for number in range(1, total + 1):
            await exchange.send(chunk(frame(number, raw=event(number, data={"n": number, "f": filler}).encode())))
            sent = number
        await exchange.gone()

    async with ScriptedServer(flood) as server, client(server) as stream:
        await read(stream, 1)
        before = -1
        while before != sent:  # until the kernel's buffers are full
            before = sent
            await asyncio.sleep(0.2)
        assert sent < total
        assert len(stream._reception._frames) < 2000
        assert numbers(await read(stream, total - 1)) == list(range(2, total + 1))
        assert stream.ledger.clean


async def test_hundreds_of_reconnects_leave_no_connection():
    clock = Clock()
    cuts = random.Random(5).choices(range(len(RESPONSE)), k=300)
    async with LogServer(3, cuts) as server:
        async with EventStream(server.url, "apollo", replay="all", sleep=clock.sleep, clock=clock) as stream:
            assert numbers(await read_all(stream)) == [1, 2, 3]
        assert server.connections == 301
        await server.closed()
