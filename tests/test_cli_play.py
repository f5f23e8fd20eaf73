from __future__ import annotations

import asyncio
import json
import os
import re
import ssl
import subprocess
import urllib.request
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import partial

import pytest
from command_line import PROGRAM, TIMEOUT_S, Command, call, environment, wait_until
from system_tools import ROOT

from syndarix_rt.broker import RedisBroker, project_channel
from syndarix_rt.cli.watching import _write_line
from syndarix_rt.client import DebugClient
from syndarix_rt.events import Event
from syndarix_rt.playback import read_recording

CERTIFICATE = ROOT / "tests" / "localhost.pem"


@contextmanager
def serving(*args, warning="", path="event streams go straight to their connections"):
    """A server on a port of its own; its URL. It says which path streams take, and nothing else but the warning."""
    with Command("serve", "--port", "0", *args) as server:
        url = server.url()
        assert f"serves; {path}. Ctrl-C" in server.out.text
        yield url
        assert server.interrupt() == 0
        lines = server.err.rest().splitlines(keepends=True)  # without who came and went
        said = "".join(line for line in lines if not re.search(r"\[info +\] (stream|socket|drained)", line))
        assert re.fullmatch(warning, said)


@pytest.fixture
def cli(capsys):
    return partial(call, capsys)


@pytest.fixture
def server(redis_url):
    """A server on a real Redis, and the Redis."""
    with serving("--redis-url", redis_url) as url:
        yield url


def stored(redis_url, project="apollo", **settings):
    """The bytes in a project's log."""

    async def read():
        broker = RedisBroker(redis_url, **settings)
        try:
            return (await broker.read(project_channel(project), 0, 10_000)).entries
        finally:
            await broker.aclose()

    return asyncio.run(read())


def told(entries):
    """Events without what publication adds."""
    documents = [json.loads(entry) for entry in entries]
    return [{key: value for key, value in document.items() if key != "recordedtime"} for document in documents]


def test_a_scenario_is_played_to_where_the_running_server_reads(cli, server, redis_url):
    done = cli("play", "steady_sprint", "--project", "apollo", "--seed", 7, "--events", 1_500, "--speed", "max")
    assert done.code == 0, done.err
    chosen, last = done.err.splitlines()
    assert chosen == f"publishing to the server at {server.partition('/?')[0]}"
    assert last.startswith("1,500 events published, up to ")
    entries = stored(redis_url)
    assert len(entries) == 1_500
    assert last.endswith(".1500")
    events = [Event.decode(entry) for entry in entries]
    assert {event.project for event in events} == {"apollo"}
    assert len({event.simulation for event in events}) == 1
    assert all(event.recordedtime for event in events)


def test_what_watch_and_record_write_are_the_bytes_that_were_published(cli, server, redis_url, tmp_path):
    assert cli("play", "demo_small", "--project", "apollo", "--events", 1_200, "--speed", "max").code == 0
    published = b"".join(entry + b"\n" for entry in stored(redis_url))
    watched = cli("watch", "apollo", "--url", server, "--json", "--replay", "all", "--events", 1_200)
    assert (watched.code, watched.err) == (0, "")
    assert watched.out.encode() == published
    recording = tmp_path / "apollo.jsonl"
    recorded = cli("record", "apollo", "-o", recording, "--url", server, "--replay", "all", "--events", 1_200)
    assert (recorded.code, recorded.err) == (0, "")
    assert recorded.out == f"{recording}: 1200 events, 0 gaps, 0 undeclared holes, 0 duplicates, 0 reconnects\n"
    assert recording.read_bytes() == published


def test_a_recording_is_replayed_with_its_ids_and_times(cli, server, redis_url, tmp_path):
    recording = tmp_path / "a.jsonl"
    cli("simulate", "demo_small", "--seed", 3, "--events", 1_200, "-o", recording)
    over_http = cli("replay", recording, "--speed", "max", "--url", server)
    assert over_http.code == 0, over_http.err
    assert "1,200 events published" in over_http.err
    straight = cli("replay", recording, "--speed", "max", "--redis-url", redis_url, "--project", "zeus")
    assert straight.code == 0, straight.err
    original = [json.loads(line) for line in recording.read_bytes().splitlines()]
    assert told(stored(redis_url, "demo_small")) == original
    assert told(stored(redis_url, "zeus")) == [event | {"project": "zeus"} for event in original]


def test_a_recording_of_several_projects_goes_into_each_or_all_into_one(cli, server, redis_url, tmp_path):
    scenario, recording = tmp_path / "two.toml", tmp_path / "two.jsonl"
    scenario.write_text(
        'allow_overload = true\nissues.rate_per_h = 20\n[[projects]]\nname = "mars"\n[[projects]]\nname = "venus"\n'
    )
    cli("simulate", scenario, "--events", 500, "-o", recording)
    assert cli("replay", recording, "--speed", "max").code == 0
    lines = recording.read_bytes().splitlines()
    for project in ("mars", "venus"):
        assert told(stored(redis_url, project)) == [
            document for line in lines if (document := json.loads(line))["project"] == project
        ]
    assert cli("replay", recording, "--speed", "max", "--project", "sun").code == 0
    assert len(stored(redis_url, "sun")) == 500
    refused = cli("play", scenario, "--project", "sun", "--events", 1)
    assert refused.code == 1
    assert "mars, venus" in refused.err


def test_watch_continues_after_a_position_and_takes_only_some_types(cli, server):
    played = cli("play", "demo_small", "--project", "apollo", "--events", 300, "--speed", "max")
    epoch = re.search(r"up to (\S+)\.300\n", played.err)[1]
    everything = cli("watch", "apollo", "--json", "--replay", "all", "--events", 300).out.splitlines()
    after = cli("watch", "apollo", "--json", "--last-event-id", f"{epoch}.200", "--events", 100)
    assert (after.out.splitlines(), after.err) == (everything[200:], "")
    runs = [line for line in everything if json.loads(line)["type"] in ("agent_started", "agent_completed")]
    types = cli("watch", "apollo", "--json", "--replay", "all", "--types", "agent_*ed", "--events", len(runs))
    assert types.out.splitlines() == runs
    lost = cli("watch", "apollo", "--json", "--last-event-id", "another1.7", "--events", 300)
    assert lost.out.splitlines() == everything
    assert lost.err == "gap (epoch) after another1.7; events lost: unknown; kept: 1 to 300\n"


def test_a_person_sees_a_line_for_each_event_that_moves_no_cursor(capsys):
    data = {"text": "\x1b[2J\rgone\n", "number": 7, "list": [1]}
    _write_line(Event.new("my_event", data, project="apollo", id="e1", time=datetime(2026, 1, 5, 9, tzinfo=UTC)))
    assert capsys.readouterr().out == "09:00:00  my_event            text=?[2J?gone?  number=7\n"


def test_who_watches_a_project_of_no_such_name_at_a_terminal_is_told_so(server):
    ours, terminal = os.openpty()
    command = [*PROGRAM, "watch", "apolo", "--url", server]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=terminal, env=environment()) as watching:
        os.close(terminal)
        try:
            assert b"watching apolo, into which nothing has been published yet, at http" in os.read(ours, 1_000)
        finally:
            watching.kill()
    os.close(ours)


def test_who_watches_at_a_terminal_is_told_that_the_stream_is_open(cli, server):
    assert cli("play", "demo_small", "--project", "apollo", "--events", 1, "--speed", "max").code == 0
    ours, terminal = os.openpty()
    command = [*PROGRAM, "watch", "apollo", "--replay", "all", "--events", "1"]
    done = subprocess.run(
        command, stdout=subprocess.PIPE, stderr=terminal, env=environment(), timeout=TIMEOUT_S, check=True
    )
    told = os.read(ours, 1_000).decode()
    os.close(terminal)
    os.close(ours)
    assert told == f"watching apollo at {server.partition('/?')[0]}; Ctrl-C ends it\r\n"
    assert done.stdout.count(b"\n") == 1


def test_a_busy_project_is_refused_unless_on_purpose(cli, server):
    with Command("play", "demo_small", "--project", "apollo", "--speed", "60") as playing:
        cli("watch", "apollo", "--events", 1)
        refused = cli("play", "steady_sprint", "--project", "apollo", "--events", 1, "--url", server)
        assert refused.code == 1
        assert refused.err.count("\n") == 1
        assert "plays into project 'apollo'" in refused.err
        assert cli("play", "steady_sprint", "--project", "apollo", "--events", 1, "--append").code == 0
        replaced = cli("play", "steady_sprint", "--project", "apollo", "--events", 5, "--speed", "max", "--replace")
        assert replaced.code == 0, replaced.err
        assert replaced.err.endswith(".5\n")
        assert playing.process.wait(TIMEOUT_S) == 1
        assert "took over project 'apollo'" in playing.err.rest()


def test_an_interrupted_play_says_how_far_it_came_and_lets_the_project_go(cli, server):
    with Command("play", "demo_small", "--project", "apollo", "--speed", "600") as playing:
        cli("watch", "apollo", "--events", 1)
        assert playing.interrupt() == 130
        assert "events published, up to " in playing.err.rest()
    assert cli("play", "demo_small", "--project", "apollo", "--events", 1).code == 0


def test_an_interrupted_recording_is_complete(server, redis_url, tmp_path):
    recording = tmp_path / "a.jsonl"
    partial_file = tmp_path / "a.jsonl.partial"
    with (
        Command("record", "apollo", "-o", recording, "--url", server, "--replay", "all") as recorder,
        Command("play", "demo_small", "--project", "apollo", "--speed", "600") as playing,
    ):
        wait_until(lambda: partial_file.exists() and partial_file.stat().st_size, "events come into the recording")
        assert recorder.interrupt() == 0
        assert recorder.err.rest() == ""
        assert playing.interrupt() == 130
    recorded = list(read_recording(recording))
    assert recorder.out.text.startswith(f"{recording}: {len(recorded)} events, 0 gaps, 0 undeclared holes")
    assert [event.raw for event in recorded] == stored(redis_url)[: len(recorded)]
    assert not partial_file.exists()


def test_watching_ends_quietly_at_an_interrupt(cli, server):
    with Command("watch", "apollo", "--json", "--replay", "all") as watching:
        cli("play", "demo_small", "--project", "apollo", "--events", 1, "--speed", "max")
        assert watching.out.line()
        assert watching.interrupt() == 0
        assert watching.out.rest().count("\n") == 1
        assert watching.err.rest() == ""


def test_a_namespace_is_found_by_who_publishes_without_a_url(cli, redis_url):
    with serving("--redis-url", redis_url, "--namespace", "lab:"):
        assert cli("play", "demo_small", "--project", "apollo", "--events", 10, "--speed", "max").code == 0
        assert cli("watch", "apollo", "--events", 10, "--replay", "all").out.count("\n") == 10
    assert len(stored(redis_url, namespace="lab:")) == 10
    assert stored(redis_url) == []


def test_a_certificate_makes_it_https(cli, redis_url):
    path = "event streams go straight to their connections, over HTTP/2 through ASGI"
    with serving("--redis-url", redis_url, "--tls-cert", CERTIFICATE, "--token", "", path=path) as url:
        assert url.startswith("https://127.0.0.1:")
        assert "key=" not in url
        trusting = ssl.create_default_context(cafile=CERTIFICATE)
        with urllib.request.urlopen(url + "readyz", context=trusting, timeout=TIMEOUT_S) as answer:
            assert answer.read() == b"ready\n"
        done = cli("watch", "apollo", "--url", url, "--events", 1)
        assert done.code == 1
        assert "certificate is not trusted" in done.err


def test_a_certificate_is_made_that_our_clients_can_be_told_to_trust(cli, redis_url, state_dir, monkeypatch):
    path = state_dir / "tls" / "self-signed.pem"
    options = ["--redis-url", redis_url, "--tls", "self-signed", "--token", ""]
    said = {"path": "event streams go straight to their connections, over HTTP/2 through ASGI"}
    with serving(*options, warning=rf"nobody has signed .* SSL_CERT_FILE={path}\n", **said) as url:
        assert path.stat().st_mode & 0o777 == 0o600
        assert cli("watch", "apollo", "--url", url, "--events", 1).code == 1
        monkeypatch.setenv("SSL_CERT_FILE", str(path))  # read once by a process
        with Command("watch", "apollo", "--url", url, "--events", 10, "--replay", "all", "--json") as watching:
            publish = ("play", "demo_small", "--project", "apollo", "--url", url, "--events", 10, "--speed", "max")
            with Command(*publish) as playing:
                assert "10 events published" in playing.err.rest()
            assert watching.out.rest().count("\n") == 10


def test_serve_listens_where_it_is_told_and_answers_to_the_names_it_is_given(cli, redis_url):
    options = ["--redis-url", redis_url, "--token", "s3cret", "--allow-host", "hub.example"]
    with serving(*options, "--cors-origin", "https://site.example") as url:
        assert url.endswith("/?key=s3cret")
        headers = {"host": "hub.example", "origin": "https://site.example"}
        request = urllib.request.Request(url.replace("/?", "/projects?"), headers=headers)
        with urllib.request.urlopen(request, timeout=TIMEOUT_S) as answer:
            assert json.load(answer) == {"projects": []}
            assert answer.headers["access-control-allow-origin"] == "https://site.example"


@pytest.mark.parametrize("way", ["--redis-url", "--url"])
def test_a_run_that_plays_is_steered_over_the_server(server, redis_url, way):
    target = redis_url if way == "--redis-url" else server

    async def steer():
        async with DebugClient(server, "apollo") as debug:
            while not (runs := await debug.runs()):
                await asyncio.sleep(0.1)
            (run,) = runs
            assert re.fullmatch(r"demo_small-7-[0-9a-f]{6}", run.run)
            assert (run.name, run.state, run.speed) == ("demo_small (seed 7)", "playing", 60)
            paused = await debug.pause()
            assert len(await log()) == paused.published
            stepped = await debug.step(events=10)
            assert len(await log()) == stepped.published == paused.published + 10
            await debug.inject(fault={"kind": "ci_outage", "minutes": 5})
            await debug.set_breakpoints([{"type": "fault_started", "where": 'kind == "ci_outage"'}])
            await debug.set_speed("max")
            await debug.resume()
            async for notice in debug:
                if notice.method == "run.stopped" and notice.state.stopped.reason == "breakpoint":
                    break
            assert (await log())[-1].type == "fault_started"

    async def log():
        return [Event.decode(entry) for entry in await asyncio.to_thread(stored, redis_url)]

    with Command("play", "demo_small", "--project", "apollo", "--seed", 7, "--speed", 60, way, target) as playing:
        asyncio.run(asyncio.wait_for(steer(), TIMEOUT_S))
        assert playing.interrupt() == 130
        assert re.fullmatch(r"[0-9,]+ events published, up to \S+\n\n", playing.err.rest())
