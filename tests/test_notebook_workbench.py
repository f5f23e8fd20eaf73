"""The workbench with a real server, a real Redis and real child processes."""

from __future__ import annotations

import asyncio
import gc
import math
import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psutil
import pytest
from command_line import children
from embedded_users import is_running
from serving import running

from syndarix_rt.client import StreamState
from syndarix_rt.errors import EventError, RecordingError, ScenarioError, StreamError, SyndarixError
from syndarix_rt.events import Event
from syndarix_rt.notebook import Dashboard, Workbench
from syndarix_rt.notebook import dashboard as dashboard_module
from syndarix_rt.notebook.feed import Feed
from syndarix_rt.notebook.panels.log import EventLog
from syndarix_rt.notebook.server import redis_behind
from syndarix_rt.playback import read_recording
from syndarix_rt.simulation import Scenario
from syndarix_rt.state import announce_server

DEADLINE_S = 60


@pytest.fixture
async def bench(redis_url):
    """A workbench with a server of its own, over the real Redis."""
    async with await Workbench.start(redis_url=redis_url) as bench:
        yield bench


@pytest.fixture(autouse=True)
def no_thread_left():
    yield
    left = until(lambda: not ours() or None, "threads are gone", strict=False)
    assert left, ours()


@contextmanager
def started(script, *arguments):
    """A Python process in a session of its own; killed at the end or when it takes too long."""
    command = [sys.executable, "-c", script, *arguments]
    with subprocess.Popen(command, stdout=subprocess.PIPE, start_new_session=True) as process:
        timer = threading.Timer(DEADLINE_S, process.kill)
        timer.start()
        try:
            yield process
        finally:
            timer.cancel()
            process.kill()


def our_children():
    return children("child.py")


def ours():
    return [thread.name for thread in threading.enumerate() if thread.name.startswith(("syndarix-rt", "output of"))]


def until(condition, what, *, strict=True):
    deadline = time.monotonic() + DEADLINE_S
    while not (found := condition()):
        if time.monotonic() > deadline:
            assert not strict, f"not in time: {what}"
            return found
        time.sleep(0.01)
    return found


async def awaited(condition, what):
    return await asyncio.to_thread(until, condition, what)


def ticks(count, project="elsewhere", every_s=1.0):
    start = datetime(2026, 1, 1, tzinfo=UTC)
    for n in range(count):
        time_ = start + timedelta(seconds=n * every_s)
        yield Event.new("my_tick", {"n": n}, project=project, id=f"tick-{n}", time=time_)


def aggregate(frame):
    """Events by type and second of publication, as a chart shall draw them."""
    seconds = frame["recordedtime"].dt.floor("1s")
    types = frame["type"].where(frame["category"].notna(), "custom types")
    return Counter(zip(types, seconds, strict=True))


def shown(dashboard):
    table = dashboard.frame("events").stack()
    return Counter({(name, second): count for (second, name), count in table.items() if count > 0})


async def test_a_preset_plays_in_a_process_of_its_own_and_all_of_it_is_received_and_shown(bench):
    run = bench.play("demo_small", project="apollo", speed=1200, seed=7)
    dashboard = bench.dashboard("apollo")
    await awaited(lambda: bench.ledger("apollo").events > 500, "events come")
    assert run.done is False
    assert repr(run) == "<Run into 'apollo': demo_small (seed 7) plays>"
    run.stop()
    frame, ledger = bench.frame("apollo"), bench.ledger("apollo")
    assert len(frame) == ledger.events == run.published > 500
    assert await run.wait() == run.published
    assert ledger.clean
    assert frame["offset"].tolist() == list(range(1, len(frame) + 1))
    assert frame["epoch"].nunique() == 1
    assert shown(dashboard) == aggregate(frame)
    assert len(bench.frame("apollo", simulation=frame["simulation"].iloc[0])) == len(frame)
    assert bench.frame("apollo", simulation="another").empty


async def test_a_plain_redis_subscriber_in_another_process_sees_what_a_cell_publishes(bench, redis_url):
    script = (
        "import redis, sys\n"
        "with redis.Redis.from_url(sys.argv[1]) as client, client.pubsub() as pubsub:\n"
        "    pubsub.subscribe('project:{apollo}')\n"
        "    for message in pubsub.listen():\n"
        "        if message['type'] == 'subscribe': print('ready', flush=True)\n"
        "        else: sys.stdout.buffer.write(message['data']); break\n"
    )
    with started(script, redis_url) as subscriber:
        assert await asyncio.to_thread(subscriber.stdout.readline) == b"ready\n"
        published = await bench.publish("my_note", {"text": "hello"}, project="apollo", subject="greeting")
        head, _, entry = (await asyncio.to_thread(subscriber.stdout.read)).partition(b"\n")
    assert head == f"1 {published.epoch} {published.first} 1".encode()
    event = Event.decode(entry)
    assert (event.type, event.data, event.subject) == ("my_note", {"text": "hello"}, "greeting")
    assert event.source == "/syndarix-rt/notebook"


async def test_ones_own_events_are_in_the_frame_as_soon_as_they_are_published(bench):
    bench.frame()  # received from here on
    await bench.publish("my_note", {"n": 1})
    bench.publish_sync("issue_created", {"issue_id": "I-1"})
    frame = bench.frame()
    assert frame["type"].tolist() == ["my_note", "issue_created"]
    with pytest.raises(EventError, match="issue_id"):
        await bench.publish("issue_created", {})
    assert len(bench.frame()) == 2


async def test_what_was_there_before_can_be_asked_for(bench):
    for n in range(3):
        await bench.publish("my_note", {"n": n}, project="old")
    assert bench.frame("old", replay="all")["data.n"].tolist() == [0, 1, 2]


async def test_iterables_and_scenarios_play_beside_the_cells(bench):
    run = bench.play(ticks(50), speed=math.inf)
    assert await run.wait() == 50
    frame = bench.frame()
    assert frame["data.n"].tolist() == list(range(50))
    scenario = Scenario.preset("demo_small").replace(horizon_h=0.2)
    run = bench.play(scenario, project="simulated", speed=math.inf, seed=3)
    assert await run.wait() == len(bench.frame("simulated")) > 20


async def test_a_run_that_fails_says_why(bench):
    def broken():
        yield from ticks(3)
        raise RuntimeError("the source is broken")

    run = bench.play(broken(), speed=math.inf)
    with pytest.raises(SyndarixError, match="the source is broken"):
        await run.wait()
    assert run.published == 3
    assert repr(run) == "<Run into 'notebook': events failed: the source is broken>"
    with pytest.raises(ScenarioError):
        bench.play("no_such_preset")


@pytest.mark.parametrize("second", ["preset", "iterable"])
async def test_two_runs_in_one_project_are_refused_unless_asked_for(bench, second):
    first = bench.play(ticks(1000), speed=1)
    await awaited(lambda: first.published, "the first run plays")

    def play(**how):
        if second == "preset":
            return bench.play("demo_small", speed=1000, **how)
        return bench.play(ticks(5), speed=math.inf, **how)

    with pytest.raises(SyndarixError, match="plays into project 'notebook'"):
        await play().wait()
    beside = play(append=True)
    await awaited(lambda: len(bench.frame()) > 5, "it plays beside the first")
    beside.stop()
    first.stop()
    assert first.done
    assert not first.error
    with pytest.raises(ValueError, match="one of them"):
        play(append=True, replace=True)


async def test_what_arrives_is_written_into_a_recording_byte_for_byte(bench, tmp_path):
    await bench.publish("my_note", {"n": 0})
    with bench.record(tmp_path / "all.jsonl.gz", replay="all") as everything:
        bench.play(ticks(30), speed=math.inf)
        await awaited(lambda: bench.ledger().events == 31, "all is here")
        rest = bench.record(tmp_path / "rest.jsonl")
        assert await bench.play(ticks(50), speed=math.inf, append=True).wait() == 50
        assert rest.stop() == rest.stop() == tmp_path / "rest.jsonl"  # with what is on its way
    assert repr(rest) == "<Recording 'rest.jsonl': 50 events, 0 gaps, complete>"
    raws = [item.raw for item in bench._parts.feed("notebook").store.since(0)]
    assert len(raws) == everything.events == 81
    assert [event.raw for event in read_recording(everything.path)] == raws
    assert rest.path.read_bytes() == b"".join(raw + b"\n" for raw in raws[31:])
    with pytest.raises(RecordingError, match="cannot write"):
        bench.record(tmp_path / "nowhere" / "x.jsonl")


@pytest.mark.parametrize("count", [1, 20], ids=["found at the end", "found on the way"])
async def test_a_recording_whose_disk_is_full_says_so_and_the_stream_goes_on(bench, count):
    recording = bench.record("/dev/full")
    for _ in range(count):  # 20 are more than what waits to be written
        await bench.publish("my_note", {"text": "x" * 60_000})
    assert len(bench.frame()) == count
    with pytest.raises(RecordingError, match="No space left"):
        recording.stop()
    assert "/dev/full" not in opened(), "it is closed"
    assert await bench.play(ticks(5), speed=math.inf).wait() == 5
    assert len(bench.frame()) == count + 5


def opened():
    """The paths of the files that this process has open."""
    return {str(descriptor.resolve()) for descriptor in Path("/proc/self/fd").iterdir()}


def test_a_plain_script_needs_no_await(redis_url, tmp_path):
    """Neither needs a cell that calls a function, within the kernel's running loop."""
    with Workbench.start_sync(redis_url=redis_url) as bench:
        dashboard = bench.dashboard()
        with bench.record(tmp_path / "run.jsonl") as recording:
            scenario = Scenario.preset("demo_small").replace(horizon_h=0.2)
            assert bench.play(scenario, speed=math.inf, seed=7).wait_sync() > 20
        bench.publish_sync("my_note", {"n": 1})

        async def cell():
            return bench.frame()

        frame = asyncio.run(cell())
        assert len(frame) == recording.events + 1
        assert sum(shown(dashboard).values()) == len(frame)
        other = Workbench.connect_sync(redis_url=redis_url)
        assert other.publish_sync("my_note", {"n": 2}).last == len(frame) + 1
        other.close_sync()
        assert len(bench.frame()) == len(frame) + 1
    assert not our_children()


async def test_a_run_that_replaces_begins_an_epoch_which_is_a_declared_gap(bench):
    dashboard = bench.dashboard()
    await bench.publish("my_note", {"n": 1})
    assert len(bench.frame()) == 1
    assert await bench.play(ticks(2), replace=True, speed=math.inf).wait() == 2
    await awaited(lambda: len(bench.frame()) == 3, "the new epoch's events")
    frame, ledger = bench.frame(), bench.ledger()
    assert frame["data.n"].tolist() == [1, 0, 1]
    assert frame["epoch"].nunique() == 2
    assert [gap.reason for gap in ledger.gaps] == ["epoch"]
    await awaited(lambda: "1 gap" in dashboard.status, "the line says so")


async def test_a_reset_begins_an_epoch_straight_and_over_http(bench):
    old = await bench.publish("my_note", {"n": 1})
    assert len(bench.frame(replay="all")) == 1
    position = bench.reset()
    assert (position.first, position.last) == (1, 0)
    new = await bench.publish("my_note", {"n": 2})
    assert old.epoch != new.epoch == position.epoch
    await awaited(lambda: bench.frame()["data.n"].tolist() == [1, 2], "the new epoch's event")
    assert [gap.reason for gap in bench.ledger().gaps] == ["epoch"]
    async with await Workbench.connect(bench.url) as other:
        assert other.reset("notebook").epoch not in (old.epoch, new.epoch)
        with pytest.raises(StreamError, match="not a project name"):
            other.reset("no name")


async def test_a_dashboard_is_closed_once_and_redraws_ten_times_a_second_at_most(bench):
    dashboard = bench.dashboard("apollo", fps=10)
    assert repr(dashboard) == "<Dashboard of 'apollo': live>"
    dashboard.close()
    dashboard.close()
    assert repr(dashboard) == "<Dashboard of 'apollo': ended>"
    with pytest.raises(ValueError, match="at most 10"):
        bench.dashboard("apollo", fps=11)


async def test_the_time_axis_can_be_changed_while_it_is_watched(bench):
    dashboard = bench.dashboard("apollo", fps=10)
    scenario = Scenario.preset("demo_small").replace(horizon_h=0.5)
    assert await bench.play(scenario, project="apollo", speed=math.inf, seed=3).wait() > 50
    frame = bench.frame("apollo")
    await awaited(lambda: shown(dashboard) == aggregate(frame), "all is shown at its publication")
    assert dashboard.axis == "wall"

    def simulated():
        table = dashboard.frame("events")
        assert table.index.max() <= frame["time"].max() < datetime(2026, 1, 6, tzinfo=UTC)
        return table.to_numpy().sum()

    dashboard.axis = "simulated"
    in_minutes = 60 / dashboard._charts["events"].model.bin_s
    assert simulated() == pytest.approx(len(frame) * in_minutes)
    assert "day 1 " in dashboard.snapshot().pictures["events"]
    dashboard._status._handle_custom_msg({"op": "axis", "value": "wall"}, [])  # as the view asks
    await awaited(lambda: dashboard.axis == "wall" and shown(dashboard) == aggregate(frame), "it is back")
    with pytest.raises(ValueError, match="'wall' or 'simulated'"):
        dashboard.axis = "lunar"
    await bench.publish("my_note", {}, project="apollo")
    assert len(bench.frame("apollo")) == len(frame) + 1
    assert sum(shown(dashboard).values()) == len(frame) + 1, "one timeline counts"
    dashboard.stop()
    dashboard.axis = "simulated"
    assert dashboard.axis == "wall"


async def test_a_dashboard_may_show_one_simulation(bench):
    start = datetime.now(UTC)
    for simulation in ("sim-1", "sim-2", "sim-1"):
        await bench.publish("my_note", {}, simulation=simulation, time=start)
    bench.frame(replay="all")
    dashboard = bench.dashboard(simulation="sim-1")
    await bench.publish("my_note", {}, simulation="sim-1")
    await bench.publish("my_note", {}, simulation="sim-2")
    assert len(bench.frame()) == 5
    assert sum(shown(dashboard).values()) == 3


async def test_after_closing_everything_received_is_still_there(redis_url):
    bench = await Workbench.start(redis_url=redis_url)
    dashboard = bench.dashboard()
    run = bench.play(ticks(1000), speed=10)
    await awaited(lambda: run.published > 3, "it plays")
    await bench.close()
    await bench.close()
    assert repr(bench) == "<Workbench closed>"
    assert len(bench.frame()) == bench.ledger().events > 3
    assert run.done
    assert isinstance(dashboard, Dashboard)
    assert not dashboard.frame("events").empty
    with pytest.raises(RuntimeError, match="closed"):
        await bench.publish("my_note", {})
    assert not our_children()


async def test_a_forgotten_workbench_is_closed(redis_url):
    bench = await Workbench.start(redis_url=redis_url)
    bench.play("demo_small")
    bench.dashboard()
    assert len(our_children()) == 2
    del bench
    gc.collect()
    assert not our_children()


async def test_children_end_with_a_killed_kernel_and_outlive_an_interrupt(redis_url):
    script = (
        "import asyncio, os, psutil, signal, sys, time\n"
        "from syndarix_rt.notebook import Workbench\n"
        "bench = asyncio.run(Workbench.start(redis_url=sys.argv[1]))\n"
        "bench.play('demo_small')\n"
        "signal.signal(signal.SIGINT, lambda *_: os.write(1, b'interrupted\\n'))\n"  # before anybody can send one
        "print(*(child.pid for child in psutil.Process().children()), flush=True)\n"
        "time.sleep(60)\n"
    )
    with started(script, redis_url) as kernel:
        left = [psutil.Process(int(pid)) for pid in (await asyncio.to_thread(kernel.stdout.readline)).split()]
        assert len(left) == 2
        os.killpg(kernel.pid, signal.SIGINT)  # as Jupyter does
        assert await asyncio.to_thread(kernel.stdout.readline) == b"interrupted\n"
        assert all(child.is_running() for child in left)
        kernel.kill()
    await awaited(lambda: not any(is_running(child.pid) for child in left), "they end")


async def test_a_running_server_is_found_or_named_by_its_pasted_url(bench):
    async with await Workbench.connect() as found:
        found.frame("apollo")
        await found.publish("my_note", {"n": 1}, project="apollo")  # over HTTP
        assert len(found.frame("apollo")) == 1
    pasted = bench.url.replace("/p/notebook", "/p/borealis")
    async with await Workbench.connect(pasted) as named:
        assert named.project == "borealis"
        assert named.url == pasted
        assert await named.play(ticks(5), speed=math.inf).wait() == 5
        with pytest.raises(StreamError, match="not a project name"):
            named.frame("no name")
    async with await Workbench.connect(bench.url.partition("?")[0]) as stranger:
        with pytest.raises(StreamError, match="401"):
            stranger.dashboard()
        with pytest.raises(StreamError, match="wants its key"):
            stranger.agent("poet")(lambda said: said.text)


async def test_what_is_published_past_the_server_is_kept_as_long_as_the_server_keeps_it(redis_url, monkeypatch):
    monkeypatch.setenv("SYNDARIX_RT_RETENTION", "500,24h,256MiB")
    async with await Workbench.start(redis_url=redis_url) as bench:
        monkeypatch.delenv("SYNDARIX_RT_RETENTION")
        assert await bench.play(ticks(2000), speed=math.inf).wait() == 2000
        assert bench.frame().offset.max() == 2000
        async with await Workbench.connect(bench.url) as later:
            kept = later.frame(replay="all")
    assert 500 <= len(kept) < 1000, "trimmed by whole blocks"


async def test_a_redis_may_be_named_and_gets_a_server_if_it_has_none(redis_url):
    async with await Workbench.connect(redis_url=redis_url) as first:
        first.frame()
        async with await Workbench.connect(redis_url=redis_url) as second:
            assert second.url == first.url
            await second.publish("my_note", {})
        assert len(first.frame()) == 1


def test_the_namespace_of_a_server_is_known_by_the_url_of_a_page_too():
    redis_url = "redis://127.0.0.1:1"
    with announce_server("http://127.0.0.1:1/?key=k", memory=False, broker_url=redis_url, namespace="team:"):
        assert redis_behind("http://127.0.0.1:1/p/apollo?key=k", redis_url).namespace == "team:"
        assert redis_behind("http://127.0.0.1:2/?key=k", redis_url).namespace == ""


async def test_a_feed_that_ends_by_a_fault_of_ours_does_not_look_live():
    def broken_clock():
        raise OSError("no clock")

    async with running() as server:
        feed = Feed(server.url, "apollo", clock=broken_clock)
        await feed.start()
        await server.publish(1)
        async with asyncio.timeout(DEADLINE_S):
            while feed.state is not StreamState.CLOSED:
                await asyncio.sleep(0.01)
        assert feed.reason == "no clock"
        with pytest.raises(OSError, match="no clock"):
            await feed.aclose()


class _Broken(EventLog):
    """A panel with a fault: it cannot bear events of one type."""

    def see(self, event, time_s):
        if event.type == "my_poison":
            raise KeyError("role")
        super().see(event, time_s)


async def test_a_panel_that_breaks_ends_its_dashboard_and_nothing_else(bench, monkeypatch, caplog):
    monkeypatch.setattr(dashboard_module, "EventLog", _Broken)
    dashboard = bench.dashboard(panels=["log"])
    for while_live in (True, False):
        if while_live:
            await bench.publish("my_poison", {})
        else:
            dashboard = bench.dashboard(panels=["log"])
        await awaited(lambda: "Stopped by a fault (KeyError: 'role')" in dashboard.status, "it says so")  # noqa: B023 - awaited here
        await awaited(lambda: repr(dashboard) == "<Dashboard of 'notebook': ended>", "it has ended")  # noqa: B023
    assert caplog.text.count("in see\n") == 2, "where it broke is logged"
    await bench.publish("my_note", {})
    assert bench.frame()["type"].tolist() == ["my_poison", "my_note"]
    assert bench.ledger().clean


async def test_a_dashboard_that_cannot_be_made_leaves_the_last_one(bench):
    dashboard = bench.dashboard(panels=["events"], axis="simulated")
    with pytest.raises(ValueError, match="fps"):
        bench.dashboard(fps=100)
    # It shows times that pandas has no nanoseconds for, too.
    await bench.publish("my_note", {}, time=datetime(2300, 1, 2, 3, 4, 5, 6, tzinfo=UTC), simulation="s-1")
    assert len(bench.frame()) == 1
    assert [str(time) for time in dashboard.frame("events").index] == ["2300-01-02 03:04:00+00:00"]


NOBODY = "http://127.0.0.1:1/"
"""No server is there, and none is asked."""


def test_a_workbench_that_is_forgotten_on_its_own_thread_is_closed():
    bench = Workbench.connect_sync(NOBODY)

    async def collect():
        bench._close()  # as garbage collection does, on whatever thread it runs

    bench._parts.background.submit(collect())
    until(lambda: not ours(), "its threads end")
    assert repr(bench) == "<Workbench closed>"


async def test_a_wrong_name_or_speed_is_told_before_anything_begins(redis_url):
    for start in (Workbench.start, Workbench.connect):
        with pytest.raises(StreamError, match="not a project name: ''"):
            await start(redis_url=redis_url, project="")
    for start in (Workbench.start_sync, Workbench.connect_sync):
        with pytest.raises(StreamError, match="not a project name: 'no name'"):
            start(redis_url=redis_url, project="no name")
    with pytest.raises(StreamError, match="not a project name"):
        Workbench.connect_sync(NOBODY, project="no name")
    assert not our_children()
    assert not ours()
    with Workbench.connect_sync(NOBODY) as bench:
        for what in ("demo_small", ticks(1)):
            with pytest.raises(ValueError, match="speed must be above 0"):
                bench.play(what, speed=0)
        with pytest.raises(StreamError, match="not a project name: ''"):
            bench.frame("")


def test_a_run_that_comes_after_the_close_leaves_no_process():
    bench = Workbench.connect_sync(NOBODY)
    bench.close_sync()
    scenario = Scenario.preset("demo_small")
    with pytest.raises(RuntimeError, match="closed"):  # such as of a button that was pressed just before
        bench._parts.playing.preset("demo_small", scenario, "apollo", None, 1, replace=True, append=False)
    assert not our_children()


async def test_without_any_server_connecting_says_what_to_do():
    with pytest.raises(SyndarixError, match=r"syndarix-rt demo"):
        await Workbench.connect()


async def test_a_server_that_cannot_start_says_why():
    with pytest.raises(SyndarixError, match="is not the URL of a broker"):
        await Workbench.start(redis_url="ftp://nowhere")
