"""What an operator reads: figures and log lines, and that no secret is among the latter."""

import asyncio
import json
import logging
import sys
from datetime import UTC, datetime

import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families
from serving import TIMEOUT_S, event, running

from syndarix_rt.server.figures import Family, merged
from syndarix_rt.server.logs import StandardError, redacted
from syndarix_rt.server.tokens import issue

KEY = "k3y-" + "0123456789abcdef" * 3


@pytest.mark.parametrize(
    "text",
    [
        "GET /projects?key=sEcret-1 HTTP/1.1",
        "'http://127.0.0.1/p/a?theme=dark&key=sEcret-1'",
        "authorization: Bearer sEcret-1",
        "{'Authorization': 'bearer sEcret-1'}",
        "cookie: a=b; syndarix-rt-8765=sEcret-1; c=d",
        "cannot reach redis://default:sEcret-1@127.0.0.1:6379/0",
        "rediss://:sEcret-1@h/0",
        "GET /projects/a/events?ticket=sEcret-1",
    ],
)
def test_what_looks_like_a_credential_is_hidden(text):
    assert "sEcret-1" not in redacted(text)
    assert "***" in redacted(text)


@given(st.text(max_size=30), st.text(max_size=30))
def test_the_key_and_tokens_are_hidden_wherever_they_stand(before, after):
    token = issue(KEY, ["subscribe:*"], name="Ada", life_s=60)
    line = redacted(f"{before}{KEY}{after} {before}{token} {after}", KEY)
    assert KEY not in line
    assert token not in line
    assert token.rpartition(".")[2] not in line


def test_ordinary_lines_stay_as_they_are():
    line = "a channel cannot be followed; trying again channel=project:{apollo} reason='see http://127.0.0.1/x, a@b'"
    assert redacted(line, KEY) == line


@pytest.fixture
def structlog_restored():
    before = structlog.get_config()
    yield
    structlog.configure(**before)


async def test_nothing_that_a_server_prints_has_a_secret_in_it(capfd, structlog_restored):
    """Credentials in every place, a fault in a route and one in a task: all that is printed is searched."""
    token = issue(KEY, ["subscribe:*", "publish:*"], name="Ada", life_s=60)
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))
    async with running(token=KEY) as server:

        @server.app.get("/projects/<project>/fault")
        async def fault(project):  # what a route of ours would do at worst
            raise RuntimeError(f"broken at ?key={KEY} with {token} and redis://u:{KEY}@h")

        for headers, params in (
            ({"authorization": f"Bearer {KEY}"}, {}),
            ({"authorization": f"Bearer {token}"}, {"key": KEY}),
            ({"cookie": f"syndarix-rt-1={token}"}, {"key": KEY}),
        ):
            for path in ("/projects", "/p/apollo", "/projects/apollo/fault", "/nope"):
                await server.get(path, headers=headers, params=params)
        structlog.get_logger("syndarix_rt.server").error("it failed", url=f"http://h/?key={KEY}", token=token)
        logging.getLogger("hypercorn.error").error("Error in ASGI Framework %s %s", KEY, token)
        await asyncio.sleep(0)
    printed = "".join(capfd.readouterr())
    assert "RuntimeError: broken at" in printed
    assert "it failed" in printed
    assert "Error in ASGI Framework" in printed
    assert KEY not in printed
    assert token not in printed


def figures(text):
    return {
        (sample.name, *sample.labels.values()): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


async def scraped(server):
    status, headers, text = await server.get("/metrics")
    assert status == 200
    assert headers["content-type"].startswith("text/plain")
    return figures(text)


async def eventually(ask, expected):
    """What is asked becomes what is expected."""
    async with asyncio.timeout(TIMEOUT_S):
        while (found := await ask()) != expected:
            await asyncio.sleep(0.02)
    return found


async def test_the_figures_are_those_of_what_happened():
    async with running() as server:
        done = await server.publish(1, 3, recordedtime=datetime.now(UTC))
        async with (
            server.stream() as live,
            server.stream(last_event_id=f"{done.epoch}.1") as resumed,
            server.stream("zeus", last_event_id="epoch-other.1") as lost,
            server.stream(types="nothing_*") as filtered,
        ):
            for stream in (live, resumed, lost, filtered):
                await stream.opened()
            await resumed.events(2)
            found = await scraped(server)
            assert found["syndarix_rt_streams", "apollo"] == 3
            assert found["syndarix_rt_streams", "zeus"] == 1
            assert [found["syndarix_rt_streams_opened_total", how] for how in ("live", "resumed", "gap")] == [2, 1, 1]
            assert found["syndarix_rt_gaps_total", "epoch"] == 1
            assert found[("syndarix_rt_sockets",)] == found[("syndarix_rt_draining",)] == 0
            assert found[("syndarix_rt_tasks",)] >= 4  # one for each stream, at least
            assert found[("syndarix_rt_events_sent_total",)] == 2
            assert found["syndarix_rt_replay_events_bucket", "10.0"] == found[("syndarix_rt_replay_events_count",)] == 1
            assert found["syndarix_rt_replay_events_bucket", "1.0"] == 0
            assert found[("syndarix_rt_replay_events_sum",)] == 2
            assert 0 < found[("syndarix_rt_replay_seconds_sum",)] < TIMEOUT_S

            before = found
            now = datetime.now(UTC)
            sent = [event(n, recordedtime=now).encode() for n in (4, 5)]
            await server.broker.publish("project:{apollo}", sent)
            await live.events(2)
            await resumed.events(2)
            found = await scraped(server)
            assert found[("syndarix_rt_events_sent_total",)] == 6
            frames = len(live.raw) - live.raw.index(b"event: my_event") + len(b"id: .4\n") + len(done.epoch)
            added = found[("syndarix_rt_bytes_sent_total",)] - before[("syndarix_rt_bytes_sent_total",)]
            assert added == 2 * frames
            assert found[("syndarix_rt_writes_total",)] - before[("syndarix_rt_writes_total",)] == 2, (
                "a batch, one write"
            )
            assert found[("syndarix_rt_events_received_total",)] == 2
            assert found[("syndarix_rt_delay_seconds_count",)] == 1
            assert 0 <= found[("syndarix_rt_delay_seconds_sum",)] < TIMEOUT_S
            assert found[("syndarix_rt_encode_seconds_total",)] > 0
            assert found[("syndarix_rt_log_bytes",)] >= frames
            assert found["syndarix_rt_stream_lag_events", "+Inf"] == 4
            assert found[("syndarix_rt_stream_lag_max_events",)] == 0

        async def left():
            found = await scraped(server)
            return found["syndarix_rt_streams_ended_total", "left"], found[("syndarix_rt_events_sent_total",)]

        await eventually(left, (4, 6.0))  # what they were sent stays counted


async def test_publishing_is_counted_and_what_is_refused_is_logged(capfd, structlog_restored):
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))
    async with running() as server:
        body = event(1).encode()
        assert (await server.post("/projects/apollo/events", body))[0] == 202
        once = {"headers": {"idempotency-key": "k"}}
        for _ in range(2):
            assert (await server.post("/projects/apollo/events", body, **once))[0] == 202
        assert (await server.post("/projects/apollo/events", b'{"type": "my_event"}'))[0] == 400
        assert (await server.post("/projects/apollo/events", body, content_type="text/plain"))[0] == 415
        for kind in ("application/x-protobuf", "application/json"):
            sent = {"data": b"\xff", "headers": {"content-type": kind}}
            async with server.http.post(f"{server.url}/v1/traces", **sent) as response:
                assert response.status == 400
        found = await scraped(server)
    assert found[("syndarix_rt_events_published_total",)] == 2
    assert [found["syndarix_rt_publishes_total", status] for status in ("202", "400", "415")] == [3, 3, 1]
    lines = [line for line in capfd.readouterr().err.splitlines() if "not published" in line]
    assert len(lines) == 4
    assert all("the body is no ExportTraceServiceRequest" in line for line in lines[2:])
    assert "missing" in lines[0]
    assert "status=400" in lines[0]
    assert "status=415" in lines[1]
    assert "client=127.0.0.1" in lines[0]


async def test_who_comes_and_goes_is_logged_with_what_they_got(capfd, structlog_restored):
    structlog.configure(
        logger_factory=structlog.PrintLoggerFactory(sys.stderr), processors=[structlog.processors.JSONRenderer()]
    )
    async with running(token=KEY, log_clients=True, proxy_hops=1) as server:
        headers = {"authorization": f"Bearer {issue(KEY, ['subscribe:*', 'chat:*'], name='Ada', life_s=60)}"}
        headers["x-forwarded-for"] = "203.0.113.7"
        async with server.stream(headers=headers) as stream:
            await stream.opened()
            await server.publish(1, 3)
            await stream.events(3)
        url = server.url.replace("http", "ws") + "/projects/apollo/chat"
        async with server.http.ws_connect(url, protocols=["syndarix.chat.v1"], headers=headers) as socket:
            await socket.receive_json()
        async with server.stream(headers=headers) as drained:
            await drained.opened()
            await server.stop()
    found = [json.loads(line) for line in capfd.readouterr().err.splitlines() if line.startswith("{")]
    by_event = {}
    for line in found:
        by_event.setdefault(line.pop("event"), []).append(line)
    assert [line["client"] for line in by_event["stream opened"]] == ["203.0.113.7 Ada"] * 2
    ended = {line["reason"]: line for line in by_event["stream ended"]}
    assert ended["left"]["events"] == 3
    assert ended["left"]["bytes"] > 300
    assert ended["left"]["channel"] == "project:{apollo}"
    assert ended["left"]["position"].endswith(".3")
    assert 0 < ended["left"]["seconds"] < TIMEOUT_S
    assert ended["drained"]["events"] == 0
    assert [line["path"] for line in by_event["socket opened"]] == ["/projects/apollo/chat"]
    assert len(by_event["socket ended"]) == 1
    assert by_event["drained"][0]["left"] == 0


async def test_a_server_that_is_part_of_something_says_nothing_of_its_clients(capfd):
    async with running() as server, server.stream() as stream:
        await stream.opened()
    printed = "".join(capfd.readouterr())
    assert "stream" not in printed


def family(name, kind, value, *, merge="sum", **labels):
    return Family(name, kind, "…", [("_total" if kind == "counter" else "", labels, value)], merge)


def test_what_the_dead_have_counted_stays_and_what_they_had_open_goes():
    own = [family("a", "counter", 1), family("b", "gauge", 2, project="p"), family("m", "gauge", 3, merge="max")]
    lives = [family("a", "counter", 10), family("b", "gauge", 20, project="q"), family("m", "gauge", 1, merge="max")]
    dead = [family("a", "counter", 100), family("b", "gauge", 200, project="p"), family("m", "gauge", 9, merge="max")]
    found = {
        (sample.name, *sample.labels.values()): sample.value
        for metric in merged(own, [(True, lives), (False, dead)])
        for sample in metric.samples
    }
    assert found == {
        ("syndarix_rt_a_total",): 111,
        ("syndarix_rt_b", "p"): 2,
        ("syndarix_rt_b", "q"): 20,
        ("syndarix_rt_m",): 3,
    }


class Closed:
    """A terminal that has been closed."""

    def write(self, _):
        raise ValueError("I/O operation on closed file.")

    flush = write


async def test_where_no_log_can_be_written_requests_are_answered_all_the_same(monkeypatch):
    before = structlog.get_config()
    structlog.configure(logger_factory=lambda *_: StandardError())
    try:
        async with running() as server:
            monkeypatch.setattr(sys, "stderr", Closed())
            refused = {"specversion": "1.0", "type": "approval_resolved"}
            status, _, problem = await server.post("/projects/apollo/events", json.dumps(refused).encode())
            assert (status, problem["status"]) == (403, 403)
    finally:
        structlog.configure(**before)
