"""What an operator reads: figures and log lines, and that no secret is among the latter."""

import asyncio
import logging
import sys

import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families
from serving import running

from syndarix_rt.server.logs import redacted
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


async def test_the_figures_are_those_of_what_happened():
    async with running() as server:
        done = await server.publish(1, 3)
        async with (
            server.stream() as live,
            server.stream(last_event_id=f"{done.epoch}.1") as resumed,
            server.stream("zeus", last_event_id="epoch-other.1") as lost,
        ):
            for stream in (live, resumed, lost):
                await stream.opened()
            status, headers, text = await server.get("/metrics")
            assert status == 200
            assert headers["content-type"].startswith("text/plain")
            found = figures(text)
        assert found["syndarix_rt_streams", "apollo"] == 2
        assert found["syndarix_rt_streams", "zeus"] == 1
        assert [found["syndarix_rt_streams_opened_total", how] for how in ("live", "resumed", "gap")] == [1, 1, 1]
        assert found["syndarix_rt_gaps_total", "epoch"] == 1
        assert found[("syndarix_rt_sockets",)] == found[("syndarix_rt_draining",)] == 0
