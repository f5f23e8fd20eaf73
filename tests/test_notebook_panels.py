"""What panels count, against a naive recount of the same events."""

from __future__ import annotations

import itertools
import json
import math
from collections import Counter
from datetime import UTC, datetime
from functools import cache

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from syndarix_rt.delivery import Approval
from syndarix_rt.events import Event
from syndarix_rt.notebook.metrics import Span
from syndarix_rt.notebook.panels import census, changes
from syndarix_rt.notebook.panels import inbox as inbox_module
from syndarix_rt.notebook.panels import timeline as timeline_module
from syndarix_rt.notebook.panels.agents import AGENT_STATES, MAX_LANES, AgentLanes
from syndarix_rt.notebook.panels.catalogue import CHARTS, Axis, make_chart
from syndarix_rt.notebook.panels.census import Census
from syndarix_rt.notebook.panels.changes import CHANGE_SERIES, PIPELINE_SERIES, Changes, Pipelines
from syndarix_rt.notebook.panels.inbox import ApprovalInbox
from syndarix_rt.notebook.panels.log import EventLog, Filter, told
from syndarix_rt.notebook.panels.rates import Cost, Tokens
from syndarix_rt.notebook.panels.timeline import Timeline
from syndarix_rt.notebook.panels.work import ISSUE_SERIES, MAX_AHEAD, SPRINT_SERIES, IssueFlow, SprintProgress
from syndarix_rt.simulation import Scenario, Simulation

T0 = 1_795_386_400
IDLE, BUSY, LLM, TOOL, WAITING, ERROR = range(6)


def names(series):
    return [line["name"] for line in series]


def seen(kind, data, seconds=0.0, **attributes):
    time = datetime.fromtimestamp(T0 + seconds, UTC)
    return Event.new(kind, data, project="apollo", id="event", time=time, **attributes)


def show(panel, *events):
    """Events on an axis of simulated time."""
    for event in events:
        if panel.types is None or event.type in panel.types:
            panel.see(event, event.time.timestamp())
    return panel


def table(panel, since=0):
    return {int(row[0]) - T0: row[1:].tolist() for row in panel.rows(since)}


def last(panel, series):
    """The newest levels that are not zero, by name."""
    return {name: value for name, value in zip(names(series), panel.rows()[-1, 1:], strict=True) if value}


@cache
def simulated(preset, count=4000, seed=7):
    return list(itertools.islice(Simulation(Scenario.preset(preset), seed), count))


def issue(kind, number, seconds=0, **data):
    return seen(kind, {"issue_id": f"I-{number}", **data}, seconds)


def call(agent, seconds, duration_s, tool="", **data):
    operation = {"gen_ai.operation.name": "execute_tool", "gen_ai.tool.name": tool} if tool else {}
    who = {"run_id": f"run-{agent}", "agent_id": agent, "role": "developer"}
    return seen("agent_activity", {**who, **operation, "duration_s": duration_s, **data}, seconds)


def run_of(agent, kind, seconds, **data):
    data = {"run_id": f"run-{agent}", "agent_id": agent, "role": "developer", **data}
    return seen(kind, data, seconds)


# ---- tokens and money ---------------------------------------------------------------------------------------------


def test_tokens_count_once_and_those_from_the_cache_apart():
    usage = {"gen_ai.usage.input_tokens": 100, "gen_ai.usage.output_tokens": 7, "cached_tokens": 80}
    panel = show(
        Tokens(), call("dev-1", 1.5, 1, **usage), call("dev-1", 1.7, 1, **usage), call("dev-1", 2.5, 1, "shell")
    )
    assert table(panel) == {1: [14, 40, 160]}


def test_tokens_and_money_of_a_simulation_add_up():
    events = simulated("demo_small")
    calls = [event.data for event in events if event.type == "agent_activity"]
    tokens = show(Tokens(bin_s=60, bins=1000, unit_s=60), *events)
    minutes = tokens.rows()[:, 1:].sum(axis=0)
    assert minutes[0] == sum(data.get("gen_ai.usage.output_tokens", 0) for data in calls)
    assert minutes[1:].sum() == sum(data.get("gen_ai.usage.input_tokens", 0) for data in calls)
    assert minutes[2] == sum(data.get("cached_tokens", 0) for data in calls)
    spent = show(Cost(bin_s=60, bins=1000), *events).rows()[-1, 1:]
    assert spent.sum() == pytest.approx(sum(data.get("cost_usd", 0) for data in calls))
    assert spent[1] == pytest.approx(sum(data.get("cost_usd", 0) for data in calls if data["role"] == "planner"))


# ---- issues -------------------------------------------------------------------------------------------------------


def test_an_issue_is_in_one_state_at_a_time():
    panel = show(
        IssueFlow(),
        issue("issue_created", 1),
        issue("issue_created", 2),
        issue("issue_updated", 1, 1, state="assigned"),
        issue("issue_updated", 1, 1, state="carried_over"),  # where it was
        issue("issue_updated", 3, 2, state="in_review"),
        issue("issue_closed", 1, 3, resolution="wont_do"),
        issue("issue_closed", 3, 3, resolution="done"),
        issue("issue_updated", 3, 5, state="reopened"),
    )
    states = [dict(zip(names(ISSUE_SERIES), row, strict=True)) for row in table(panel).values()]
    assert [{name: count for name, count in state.items() if count} for state in states] == [
        {"open": 2},
        {"open": 1, "assigned": 1},
        {"open": 1, "assigned": 1, "in review": 1},
        {"open": 1, "dropped": 1, "done": 1},
        {"open": 1, "dropped": 1, "done": 1},
        {"open": 2, "dropped": 1},
    ]


issue_steps = st.lists(
    st.tuples(
        st.sampled_from(["issue_created", "issue_updated", "issue_closed"]),
        st.integers(1, 4),
        st.floats(0, 30, width=32),
        st.sampled_from(["open", "assigned", "in_progress", "in_review", "blocked", "carried_over", "reopened"]),
        st.sampled_from(["done", "wont_do"]),
    ),
    min_size=1,
    max_size=25,
)
NAMED = {"open": "open", "reopened": "open", "in_progress": "in progress", "in_review": "in review"}


@given(steps=issue_steps)
def test_the_flow_of_issues_is_a_recount_at_the_end_of_each_second(steps):
    panel, states, newest, ends = IssueFlow(), {}, 0.0, {}
    for kind, number, seconds, state, resolution in steps:
        panel.see(issue(kind, number, seconds, state=state, resolution=resolution), T0 + seconds)
        newest = max(newest, seconds)
        if kind == "issue_closed":
            states[number] = "done" if resolution == "done" else "dropped"
        elif state != "carried_over" or number not in states or kind == "issue_created":
            states[number] = "open" if state == "carried_over" else NAMED.get(state, state)
        ends[math.floor(newest)] = Counter(states.values())
    rows = table(panel)
    assert sorted(rows) == list(range(min(rows), max(rows) + 1))
    expected = Counter()
    for second, row in rows.items():
        expected = ends.get(second, expected)
        assert {name: count for name, count in zip(names(ISSUE_SERIES), row, strict=True) if count} == expected


def test_after_a_gap_open_issues_are_doubtful_until_they_are_seen_again():
    panel = show(IssueFlow(), *[issue("issue_created", n) for n in (1, 2, 3)], issue("issue_closed", 3))
    panel.advance(T0 + 3)
    panel.gap(T0 + 4.5, "gap: 2 missed")
    show(panel, issue("issue_updated", 1, 5.5, state="in_review"))
    rows = table(panel)
    assert [second for second, row in rows.items() if math.isnan(row[0])] == [1, 2, 3]
    assert last(panel, ISSUE_SERIES) == {"done": 1, "in review": 1, "unknown since a gap": 1}
    assert panel.gaps == [Span(T0, T0 + 4.5, "gap: 2 missed")]
    panel.advance(T0 + 1000)
    assert last(panel, ISSUE_SERIES) == {"done": 1, "in review": 1}


def test_a_log_that_begins_anew_has_no_old_issues():
    timeline = Timeline([panel := IssueFlow()])
    for n in (1, 2):
        timeline.add(issue("issue_created", n, n), n, T0 + n)
    timeline.gap(T0 + 4, "gap: unknown")
    timeline.add(issue("issue_created", 9, 5), 1, T0 + 5)
    assert last(panel, ISSUE_SERIES) == {"open": 1}


# ---- sprints ------------------------------------------------------------------------------------------------------


def sprint(kind, number, seconds, **data):
    return seen(kind, {"sprint_id": f"S-{number}", **data}, seconds)


def test_a_sprint_burns_up_to_its_scope_at_an_ideal_pace():
    panel = show(
        SprintProgress(),
        sprint("sprint_started", 1, 0, duration_s=10, issues_planned=2),
        issue("issue_created", 3, 2, sprint_id="S-1"),
        issue("issue_closed", 1, 4, sprint_id="S-1"),
        issue("issue_closed", 9, 4, sprint_id="S-0"),
        seen("my_event", {}, 5),
        sprint("sprint_completed", 1, 10),
        sprint("sprint_started", 2, 12, duration_s=10, issues_planned=2),
    )
    rows = table(panel)
    assert names(SPRINT_SERIES) == ["scope", "ideal", "closed"]
    assert [rows[second] for second in (0, 2, 4, 5, 12)] == [
        [2, 0, 0],
        [3, pytest.approx(0.6), 0],
        [3, pytest.approx(1.2), 1],
        [3, pytest.approx(1.5), 1],
        [2, 0, 0],
    ]
    assert all(math.isnan(value) for second in (10, 11) for value in rows[second])
    assert panel.span_s == (T0 + 12, None)


def test_a_sprint_that_was_broken_off_is_not_joined_with_the_next():
    panel = show(SprintProgress(), sprint("sprint_started", 1, 0, issues_planned=8))
    rows = table(show(panel, sprint("sprint_started", 1, 30, issues_planned=6)))
    assert [rows[second][0] for second in (0, 28, 30)] == [8, 8, 6]
    assert math.isnan(rows[29][0])


def test_in_simulated_time_the_whole_sprint_is_shown_with_the_ideal_that_is_to_come():
    panel = show(SprintProgress(simulated=True), sprint("sprint_started", 1, 0, duration_s=10, issues_planned=5))
    assert panel.span_s == (T0, T0 + 10)
    ideal = {second: row[1] for second, row in table(panel).items()}
    assert ideal == {second: pytest.approx(second / 2) for second in range(11)}
    version = panel.version
    show(panel, seen("my_event", {}, 4))
    assert sorted(table(panel, since=version)) == [1, 2, 3, 4]
    show(panel, issue("issue_created", 9, 5, sprint_id="S-1"))
    assert table(panel)[10][1] == 6
    assert np.isnan(table(panel)[10][::2]).all()


def test_a_sprint_that_says_it_takes_ages_takes_no_memory():
    panel = show(SprintProgress(simulated=True), sprint("sprint_started", 1, 0, duration_s=1e12, issues_planned=5))
    assert len(panel.rows()) == 1 + MAX_AHEAD


def test_sprints_of_a_simulation_end_with_the_counts_that_they_tell():
    told_, counted = [], []
    panel = SprintProgress(bin_s=60)  # not simulated: without what is to come
    for event in simulated("demo_small"):
        if event.type == "sprint_completed":
            told_.append(event.data["issues_completed"])
            counted.append(panel.rows()[-1, 3])
        show(panel, event)
    assert told_ == counted
    assert len(told_) >= 3
    assert max(told_) > 0


def test_of_a_sprint_with_a_gap_nothing_is_known_until_the_next():
    panel = show(SprintProgress(), sprint("sprint_started", 1, 0, duration_s=10, issues_planned=2))
    panel.gap(T0 + 1, "gap")
    show(panel, issue("issue_closed", 1, 2, sprint_id="S-1"), issue("issue_closed", 2, 3, sprint_id="S-1"))
    panel.advance(T0 + 4)
    assert all(math.isnan(value) for second in (2, 3) for value in table(panel).get(second, [math.nan]))
    assert table(show(panel, sprint("sprint_started", 2, 9, issues_planned=1, duration_s=1)))[9] == [1, 0, 0]


# ---- changes and pipelines ----------------------------------------------------------------------------------------


def test_changes_of_a_simulation_are_a_recount():
    events = simulated("demo_small")
    count = Counter(event.type for event in events)
    levels = last(show(Changes(bin_s=60), *events), CHANGE_SERIES)
    assert levels == {
        "commits": count["commit_pushed"],
        "branches": count["branch_created"],
        "pull requests open": count["pr_created"] - count["pr_merged"] - count["pr_closed"],
        "merged": count["pr_merged"],
        "closed unmerged": count["pr_closed"],
    }


@pytest.mark.parametrize("preset", ["ci_saturated", "ci_outage"])
def test_pipelines_run_and_wait_as_their_own_times_say_afterwards(preset):
    events = simulated(preset, 20_000)
    panel = show(Pipelines(bin_s=60, bins=2000), *events)
    until_s = events[-1].time.timestamp()
    runs, waits, failures = [], [], Counter()
    for event in events:
        data, time_s = event.data, event.time.timestamp()
        match event.type:
            case "pipeline_started":
                waits.append((time_s - data["queued_s"], time_s))
            case "pipeline_completed" | "pipeline_failed":
                runs.append((time_s - data["duration_s"], time_s))
                failures[time_s // 60] += event.type == "pipeline_failed"
    begun = [event.time.timestamp() for event in events if event.type == "pipeline_started"]
    compared = 0
    for time_s, running, waiting, doubtful, failed in panel.rows():
        end_s = time_s + 60
        assert failed == failures[time_s // 60]
        assert doubtful == 0
        assert running == sum(start < end_s for start in begun) - sum(end < end_s for _, end in runs)
        if end_s < until_s - 2 * 3600:  # all that waited then have begun since
            assert waiting == sum(start < end_s <= end for start, end in waits), end_s
            compared += waiting > 0
    assert compared > 10


def test_pipelines_of_which_a_gap_hid_the_end_do_not_run_forever():
    about = {"pipeline_id": "P-1", "pr_id": "PR-1"}
    panel = show(Pipelines(), seen("pipeline_started", about, 1))
    assert last(panel, PIPELINE_SERIES) == {"running": 1}
    panel.gap(T0 + 2.5, "gap")
    panel.advance(T0 + 3)
    assert last(panel, PIPELINE_SERIES) == {"unknown since a gap": 1}
    show(panel, seen("pipeline_failed", {**about, "reason": "tests"}, 4))
    assert last(panel, PIPELINE_SERIES) == {"just failed": 1}


@given(
    steps=st.lists(st.tuples(st.sampled_from("abcd"), st.sampled_from([0, 1, 2, None, "doubt", "forget"])), max_size=40)
)
def test_a_census_is_a_recount(steps):
    census, states = Census(4, final=(2,), doubtful=3), {}
    for who, state in steps:
        if state == "doubt":
            census.doubt()
            states = {name: old if old == 2 else 3 for name, old in states.items()}
        elif state == "forget":
            census.forget_doubtful()
            states = {name: old for name, old in states.items() if old != 3}
        else:
            census.move(who, state)
            states = {**states, who: state}
            if state is None:
                del states[who]
        assert census.counts == [list(states.values()).count(number) for number in range(4)]
        assert census.state(who) == states.get(who)


# ---- agents -------------------------------------------------------------------------------------------------------


def lane(panel, number=0):
    return [(mark[0] - T0, int(mark[2])) for mark in panel.rows() if mark[1] == number]


def test_a_call_reaches_back_by_its_duration_and_what_lies_between_two_is_a_wait():
    panel = show(
        AgentLanes(),
        run_of("dev-1", "agent_started", 0),
        call("dev-1", 4, 4),
        call("dev-1", 6, 2, "shell", status="error", backoff_s=3),
        call("dev-1", 10, 1, "shell"),
    )
    assert lane(panel) == [(0, LLM), (4, ERROR), (6, WAITING), (9, TOOL), (10, BUSY)]
    show(panel, run_of("dev-1", "agent_completed", 11, end_reason="completed"))
    assert lane(panel)[-2:] == [(10, BUSY), (11, IDLE)]


def test_on_an_axis_of_publication_a_call_reaches_back_by_its_share_of_simulated_time():
    panel = AgentLanes()
    for event, published_s in [
        (run_of("dev-1", "agent_started", 0), 100.0),
        (call("dev-1", 60, 60), 101.0),
        (call("dev-1", 180, 60), 103.0),
    ]:
        panel.see(event, T0 + published_s)
    assert lane(panel) == [(100, LLM), (101, WAITING), (102, LLM), (103, BUSY)]


def test_after_a_gap_an_agent_is_unknown_until_it_is_seen_again():
    panel = show(AgentLanes(), run_of("dev-1", "agent_started", 0), run_of("dev-2", "agent_started", 1))
    panel.gap(T0 + 5, "gap: 3 missed")
    show(panel, call("dev-2", 7, 1, "shell"))
    assert lane(panel) == [(0, BUSY), (1, -1)]
    assert lane(panel, 1)[0] == (1, -1)  # it had not been busy for long enough to be seen
    assert [state for _, state in lane(panel, 1)] == [-1, TOOL, BUSY]
    assert panel.gaps == [Span(T0 + 1, T0 + 5, "gap: 3 missed")]


def test_lanes_have_the_order_of_roles_and_numbers_whoever_comes_first():
    panel = AgentLanes()
    for agent in ("reviewer-1", "developer-10", "developer-9", "x-1"):
        show(panel, run_of(agent, "agent_started", 0, role=agent.split("-")[0]))
    assert panel.lanes == ["developer-9", "developer-10", "reviewer-1", "x-1"]


def started(agent, seconds, simulation):
    return msgspec.structs.replace(run_of(agent, "agent_started", seconds), simulation=simulation)


def test_agents_of_two_simulations_have_lanes_of_their_own():
    panel = AgentLanes()
    for simulation in ("sim-aaaa", "sim-bbbb"):
        show(panel, started("dev-1", 0, simulation))
    assert panel.lanes == ["dev-1 (aaaa)", "dev-1 (bbbb)"]


def test_agents_of_a_simulation_that_another_followed_leave_with_what_is_seen_of_them():
    panel, newer = AgentLanes(window_s=60), ("sim-bbbb", "sim-cccc")
    show(panel, *[started(f"dev-{n}", 0, "sim-aaaa") for n in range(MAX_LANES + 1)])
    panel.advance(T0 + 500)
    assert len(panel.lanes) == MAX_LANES + 1  # it is paused, but none came after it
    show(panel, started("dev-1", 500, "sim-bbbb"))
    assert panel.lanes[MAX_LANES:] == [f"dev-{MAX_LANES}", "dev-1"]  # without room
    panel.advance(T0 + 500)
    assert panel.lanes == []
    for second in range(500, 700):  # two are played at once, and of each one agent is heard of but once
        for simulation in newer:
            show(panel, started(f"dev-{min(second, 501)}", second, simulation))
        panel.advance(T0 + second)
    assert panel.lanes == [f"dev-{agent} ({simulation[-4:]})" for agent in (500, 501) for simulation in newer]
    show(panel, run_of("dev-1", "agent_started", 700))
    panel.advance(T0 + 1000)
    assert panel.lanes == ["dev-1"]
    show(panel, started("dev-9", 1000, "sim-cccc"))
    panel.advance(T0 + 2000)
    assert panel.lanes == ["dev-1", "dev-9"]  # a real agent thinks for as long as it likes


def test_more_agents_than_lanes_are_named_and_lanes_are_free_again_when_agents_are_gone():
    panel = show(AgentLanes(), *[run_of(f"dev-{n}", "agent_started", 0) for n in range(MAX_LANES + 5)])
    assert len(panel.lanes) == MAX_LANES + 5
    assert panel.rows()[:, 1].max() == MAX_LANES - 1
    panel.begin()
    panel.advance(T0 + 100)
    assert panel.lanes == []


def test_lanes_keep_no_more_than_can_be_seen():
    panel = AgentLanes(window_s=60)
    for n in range(20_000):
        show(panel, call("dev-1", n / 100, 0.01, "shell" if n % 2 else ""))
        panel.advance(T0 + n / 100)
    assert len(panel.rows()) < 1300


def test_lanes_of_a_simulation_say_at_any_time_what_its_calls_say():
    events = simulated("demo_small", 3000)
    panel = AgentLanes(window_s=1e6)
    panel._step_s = 1e-6
    show(panel, *events)
    states = {}
    for number, name in enumerate(panel.lanes):
        marks = [(mark[0], int(mark[2])) for mark in panel.rows() if mark[1] == number]
        states[name] = marks
    checked = 0
    for event in events:
        if event.type != "agent_activity" or event.data["duration_s"] < 0.1:
            continue
        middle_s = event.time.timestamp() - event.data["duration_s"] / 2
        state = [state for time_s, state in states[event.data["agent_id"]] if time_s <= middle_s][-1]
        failed, tool = event.data["status"] == "error", "gen_ai.tool.name" in event.data
        assert state == (ERROR if failed else TOOL if tool else LLM)
        checked += 1
    assert checked > 1000


# ---- all charts ---------------------------------------------------------------------------------------------------

operations = st.lists(
    st.one_of(
        st.tuples(st.just("events"), st.integers(1, 60)),
        st.tuples(st.just("advance"), st.floats(0, 200)),
        st.tuples(st.just("gap"), st.floats(0, 200)),
        st.tuples(st.just("begin"), st.none()),
    ),
    max_size=12,
)


def perform(panel, events, steps):
    """Events, time that goes on, gaps; times never go back, as those of a stream do not."""
    now_s = events[0].time.timestamp()
    for name, value in steps:
        match name:
            case "events":
                for event in itertools.islice(events_left := iter(events), value):
                    now_s = max(now_s, event.time.timestamp())
                    show(panel, event)
                events = list(events_left)
            case "advance":
                now_s += value
                panel.advance(now_s)
            case "gap":
                now_s += value
                panel.gap(now_s, "gap")
            case "begin":
                panel.begin()


@pytest.mark.parametrize("name", CHARTS)
@settings(max_examples=30)
@given(steps=operations, cut=st.integers(0, 12))
def test_what_changed_completes_what_was_known(name, steps, cut):
    events = simulated("demo_small")[:800]
    panel = make_chart(name, Axis(simulated=True, window_s=14_400)).model
    key = (lambda row: (row[0], row[1])) if name == "agents" else (lambda row: row[0])
    perform(panel, events, steps[:cut])
    known, version = {key(row): row.tolist() for row in panel.rows()}, panel.version
    lanes = list(getattr(panel, "lanes", []))
    perform(panel, events, steps[cut:])
    if lanes != list(getattr(panel, "lanes", [])):  # another lane changes the numbers: all is sent anew
        return
    known.update({key(row): row.tolist() for row in panel.rows(version)})
    whole = {key(row): row.tolist() for row in panel.rows()}
    np.testing.assert_equal({at: row for at, row in known.items() if at in whole}, whole)


@pytest.mark.parametrize("name", CHARTS)
def test_a_chart_says_what_it_shows_in_which_unit_and_that_there_is_nothing_yet(name):
    for axis in (Axis(simulated=True, window_s=7200), Axis(simulated=False, window_s=60)):
        chart = make_chart(name, axis)
        json.dumps(chart.options)
        assert chart.options["title"]
        assert chart.options["empty"]
        assert chart.options["unit"] or name == "agents"
        assert len(chart.model.rows()) == 0
        show(chart.model, *simulated("demo_small")[:2000])
        width = 3 if name == "agents" else 1 + len(chart.options["series"])
        assert chart.model.rows().shape[1] == width
        assert len(chart.model.rows()) > 10


@pytest.mark.parametrize(("window_s", "bin_s"), [(60, 1), (600, 1), (7200, 15), (7 * 86_400, 1800), (1e8, 7200)])
def test_a_bin_is_about_a_pixel(window_s, bin_s):
    assert Axis(simulated=False, window_s=window_s).bin_s == bin_s


# ---- the time axis ------------------------------------------------------------------------------------------------


def times(panel):
    return sorted(table(panel))


def test_on_an_axis_of_publication_no_event_is_later_than_its_reception():
    timeline = Timeline([panel := make_chart("events", Axis(simulated=False, window_s=60)).model])
    timeline.add(seen("my_event", {}, 900), 5, T0 + 2.5)
    recorded = datetime.fromtimestamp(T0 + 3, UTC)
    timeline.add(seen("my_event", {}, -900, recordedtime=recorded), 6, T0 + 5)
    assert times(panel) == [2, 3]
    assert timeline.now_s(T0 + 9) == T0 + 9


def test_simulated_time_is_that_of_the_newest_simulation_and_begins_anew_with_each():
    timeline = Timeline([panel := make_chart("events", Axis(simulated=True, window_s=60)).model], simulated=True)
    assert math.isnan(timeline.now_s(T0))
    timeline.advance(T0)
    for seconds, simulation in [(1, "one"), (2, None), (500, "two"), (3, "one"), (501, "two")]:
        timeline.add(seen("my_event", {}, seconds, simulation=simulation), 9, T0 + 1e6)
    assert times(panel) == [500, 501]
    assert timeline.now_s(T0) == T0 + 501
    timeline.add(seen("my_event", {}, 500, simulation="two", cause="event"), 9, T0)  # late, but of this time
    assert times(panel) == [500, 501]
    timeline.add(seen("my_event", {}, 500, simulation="two"), 10, T0)  # played once more
    assert times(panel) == [500]
    timeline.add(seen("my_event", {}, 1, simulation="one"), 1, T0)  # another log
    assert times(panel) == [1]


def test_simulated_time_begins_with_the_first_sprint_of_what_is_followed():
    timeline = Timeline([make_chart("events", Axis(simulated=True, window_s=60)).model], simulated=True)
    sprint = {"sprint_id": "S"}
    timeline.add(seen("sprint_started", sprint | {"number": 2}, 1, simulation="one"), 9, T0)  # joined midway
    assert timeline.start_s is None
    timeline.add(seen("sprint_started", sprint | {"number": 1}, 500, simulation="two"), 10, T0)
    timeline.add(seen("my_event", {}, 600, simulation="two"), 11, T0)
    assert timeline.start_s == T0 + 500
    timeline.add(seen("my_event", {}, 700, simulation="three"), 12, T0)
    assert timeline.start_s is None


def test_a_gap_in_simulated_time_reaches_to_the_next_event():
    timeline = Timeline([panel := make_chart("events", Axis(simulated=True, window_s=60)).model], simulated=True)
    timeline.add(seen("my_event", {}, 1.5, simulation="one"), 3, T0)
    timeline.gap(T0 + 1e6, "gap: 7 missed")
    timeline.add(seen("my_event", {}, 5.5, simulation="one", cause="x"), 11, T0)
    assert panel.gaps == [Span(T0 + 1.5, T0 + 5.5, "gap: 7 missed")]
    assert times(panel) == [1, 5]


def test_one_simulation_can_be_chosen_and_the_others_prove_the_stream_all_the_same():
    timeline = Timeline([panel := IssueFlow()], simulation="one")
    for n, (seconds, simulation) in enumerate([(1, "one"), (3, "two")], 1):
        event = seen("issue_created", {"issue_id": f"I-{n}"}, seconds, simulation=simulation)
        timeline.add(event, n, T0 + seconds)
    timeline.gap(T0 + 9, "gap")
    assert panel.gaps == [Span(T0 + 3, T0 + 9, "gap")]
    assert table(panel)[2][6] == 1
    timeline.add(seen("issue_created", {"issue_id": "I-9"}, 5, simulation="two"), 9, T0 + 20)
    assert panel.gaps == [Span(T0 + 3, T0 + 5, "gap")]


# ---- the inbox and the log ----------------------------------------------------------------------------------------


def asked(number, seconds=0, **attributes):
    return seen("approval_required", {"approval_id": f"A-{number}", "title": f"<b>{number}</b>"}, seconds, **attributes)


def resolved(number, seconds=0):
    return seen("approval_resolved", {"approval_id": f"A-{number}", "decision": "approved"}, seconds)


def test_what_is_asked_waits_until_it_is_decided():
    inbox = show(ApprovalInbox(), asked(1), asked(2), resolved(1), resolved(7))
    assert list(inbox.pending) == ["A-2"]
    inbox.decide("A-2", "approved")
    assert inbox.pending["A-2"].decided == "approved"
    inbox.decide("A-2", "", "it was rejected before")
    assert inbox.pending["A-2"].error == "it was rejected before"


def test_the_server_knows_what_waits_and_events_know_what_came_since_it_was_asked():
    inbox = show(ApprovalInbox(), asked(1), asked(2))
    inbox.gap(T0 + 5, "gap")
    assert inbox.uncertain
    question = inbox.ask()
    assert not inbox.uncertain
    show(inbox, asked(3), resolved(6))
    common = {"since": datetime.fromtimestamp(T0, UTC), "epoch": "epoch-one", "offset": 1, "event": "e"}
    inbox.correct(question, [Approval(approval_id=name, **common) for name in ("A-2", "A-5", "A-6")])
    assert list(inbox.pending) == ["A-2", "A-5", "A-3"]
    assert inbox.pending["A-2"].title == "<b>2</b>"


def test_an_answer_about_the_log_before_counts_no_more():
    inbox = show(ApprovalInbox(), asked(1))
    question = inbox.ask()
    inbox.begin()  # such as by a reset, while the server answers
    show(inbox, asked(2))
    since = datetime.fromtimestamp(T0, UTC)
    inbox.correct(question, [Approval(approval_id="A-1", since=since, epoch="epoch-one", offset=1, event="e")])
    assert list(inbox.pending) == ["A-2"]


def test_of_two_questions_to_the_server_only_the_answer_to_the_last_counts():
    inbox = show(ApprovalInbox(), asked(1))
    common = {"since": datetime.fromtimestamp(T0, UTC), "epoch": "epoch-one", "offset": 1, "event": "e"}
    answer = [Approval(approval_id="A-1", **common)]  # before it was decided
    first = inbox.ask()
    show(inbox, resolved(1))
    inbox.gap(T0 + 5, "gap")
    second = inbox.ask()
    inbox.correct(first, answer)
    assert list(inbox.pending) == []
    inbox.correct(second, [])
    assert list(inbox.pending) == []


def lines(log, types=(), text="", limit=10, after=0):
    return [line.number for line in log.matching(Filter(frozenset(types), text), limit, after)]


def test_the_log_is_filtered_by_type_category_and_text():
    log = show(EventLog(), asked(1), seen("my_event", {"text": "Straße"}), call("dev-1", 1, 1, "shell"))
    log.gap(T0 + 2, "gap: 3 missed")
    assert lines(log) == [4, 3, 2, 1]
    assert lines(log, ["agent"]) == [4, 3]
    assert lines(log, ["custom", "approval_required"]) == [4, 2, 1]
    assert lines(log, text="STRASS") == [4]
    assert lines(log, text="straß") == [4, 2]
    assert lines(log, limit=2) == [4, 3]
    assert lines(log, after=3) == [4]
    assert log.filters[-4:] == ["custom", "agent_activity", "approval_required", "my_event"]
    assert told(log.find(3))[1] == [
        *[("agent_id", "dev-1"), ("operation.name", "execute_tool"), ("tool.name", "shell"), ("duration_s", "1")],
        *[("role", "developer"), ("run_id", "run-dev-1")],  # what all of a run have in common
    ]
    assert told(log.find(4)) == ("", [("", "gap: 3 missed")])


def test_the_log_keeps_the_newest():
    log = show(EventLog(capacity=3), *[seen("my_event", {"n": n}) for n in range(5)])
    assert lines(log) == [5, 4, 3]
    assert log.find(2) is None
    assert told(log.find(3)) == ("", [("n", "2")])
    assert names(AGENT_STATES)[BUSY] == "in a call"


# ---- bounds -------------------------------------------------------------------------------------------------------


def test_what_panels_remember_is_bounded_and_what_they_count_is_not(monkeypatch):
    for module, name in (
        (census, "MAX_FINAL"),
        (census, "MAX_OPEN"),
        (changes, "MAX_REQUIRED"),
        (inbox_module, "MAX_PENDING"),
        (timeline_module, "MAX_SIMULATIONS"),
    ):
        monkeypatch.setattr(module, name, 3)
    issues, pipelines, inbox = IssueFlow(), Pipelines(), ApprovalInbox()
    timeline = Timeline([], simulated=True)
    for n in range(10):
        show(issues, issue("issue_created", n, n), issue("issue_closed", n + 100, n, resolution="done"))
        show(pipelines, seen("pr_created", {"pr_id": f"P-{n}", "branch": "b", "require_green": True}, n))
        show(inbox, asked(n))
        timeline.add(seen("issue_created", {"issue_id": "I-1", "title": "one"}, n, simulation=f"s-{n}"), n + 2, T0 + n)
    assert len(issues._issues._open) == len(issues._issues._ended) == 3
    assert len(pipelines._required) == 3
    assert list(inbox.pending) == ["A-7", "A-8", "A-9"]
    assert len(timeline._former) == 3
    assert last(pipelines, PIPELINE_SERIES) == {"waiting for a runner": 10}


def test_a_request_that_is_closed_waits_for_no_pipeline_and_one_simulation_may_be_asked_for():
    pipelines = Pipelines()
    show(pipelines, seen("pr_created", {"pr_id": "P-1", "branch": "b", "require_green": True}))
    assert last(pipelines, PIPELINE_SERIES) == {"waiting for a runner": 1}
    show(pipelines, seen("pr_closed", {"pr_id": "P-1"}, 2))
    assert last(pipelines, PIPELINE_SERIES) == {}
    changes_ = show(Changes(), seen("pr_created", {"pr_id": "P-1"}), seen("pr_closed", {"pr_id": "P-1"}, 2))
    assert last(changes_, CHANGE_SERIES) == {"closed unmerged": 1}
    inbox = ApprovalInbox()
    question = inbox.ask()
    common = {"since": datetime.fromtimestamp(T0, UTC), "epoch": "epoch-one", "offset": 1, "event": "e"}
    told_ = [Approval(approval_id=f"A-{name}", simulation=name, **common) for name in ("s-1", "s-2")]
    inbox.correct(question, told_, "s-2")
    assert list(inbox.pending) == ["A-s-2"]
