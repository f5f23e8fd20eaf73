"""A trace becomes a scenario's settings, value by value, and the scenario plays it again."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from syndarix_rt import Scenario, Simulation, validate
from syndarix_rt.errors import ScenarioError
from syndarix_rt.playback.importers.azure_llm import import_azure_llm, write_azure
from syndarix_rt.simulation import events_frame, replay
from syndarix_rt.simulation.analysis.replay import _thinned

HOURS = 20
STEADY = Scenario.preset("steady_sprint").replace(horizon_h=HOURS)
OTHER = Scenario.preset("night_and_weekend").replace(horizon_h=HOURS)
"""A scenario of which the trace must replace nearly everything."""


@pytest.fixture(scope="module")
def trace():
    return list(Simulation(STEADY.replace({"issues.initial": 3}), 7))


def created_h(events):
    times = [event.time for event in events if event.type == "issue_created"]
    return np.array([(time - times[0]).total_seconds() / 3600 for time in times])


def calls(events, key):
    chats = (event.data for event in events if event.data.get("gen_ai.operation.name") == "chat")
    return [data[key] for data in chats if data["status"] == "ok" and data["prefix_tokens"]]


def test_issues_come_again_at_their_times_and_tokens_from_their_values(trace):
    again = list(Simulation(OTHER.replace(replay(trace)), 8))
    assert validate(again).ok
    before, after = created_h(trace), created_h(again)
    assert after == pytest.approx(before[before < HOURS], abs=1e-6)
    for key in ("append_tokens", "gen_ai.usage.output_tokens"):
        old, new = calls(trace, key), calls(again, key)
        # Of two samples of one law, one pair in 1,000 is farther apart; runs begin with calls of their own size.
        limit = 1.95 * math.sqrt(1 / len(old) + 1 / len(new))
        assert stats.ks_2samp(old, new).statistic < limit
    assert set(calls(again, "append_tokens")) <= set(calls(trace, "append_tokens"))


def test_shares_and_means_are_those_that_were_seen(trace):
    changes = replay(trace)
    pipelines = [event.type for event in trace if event.type in ("pipeline_completed", "pipeline_failed")]
    share = pipelines.count("pipeline_failed") / len(pipelines)
    after_success, after_failure = (changes[f"pipelines.fail_after_{each}_share"] for each in ("success", "failure"))
    assert after_success / (after_success + 1 - after_failure) == pytest.approx(share, abs=0.05)
    assert changes["runs.first_context_tokens"] == 12_400
    assert changes["runs.tools_per_call"] == pytest.approx(1.2, abs=0.1)
    commits = sum(event.type == "commit_pushed" for event in trace)
    runs = sum(event.type == "agent_completed" and event.data["role"] == "developer" for event in trace)
    assert changes["changes.commits_per_run"] == pytest.approx(commits / runs, rel=0.1)


def test_waits_for_people_are_taken_as_they_were_and_not_scaled_twice(trace):
    changes = replay(trace)
    scaled = changes["approvals.review_min"]["values"]
    busy = [event.data["busy_s"] / 60 for event in trace if event.type == "approval_resolved"]
    assert np.median(scaled) == pytest.approx(np.median(busy), rel=1e-4)
    (project,) = OTHER.replace(changes).projects
    assert (project.human_time_scale, project.approvals.office) == (1, None)
    only_runs = [event for event in trace if event.type.startswith("agent_")]
    assert "human_time_scale" not in replay(only_runs[:200])


def test_a_frame_and_lines_say_the_same_as_events(trace):
    part = trace[:3_000]
    assert replay(events_frame(part)) == replay(event.encode() for event in part) == replay(part)


def test_long_traces_are_thinned_and_arrivals_cut(trace):
    whole, small = replay(trace), replay(trace, most=30)
    assert small["issues.arrivals"]["times_h"] == whole["issues.arrivals"]["times_h"][:30]
    for key in ("runs.llm_s", "runs.output_tokens"):
        many, few = whole[key]["values"], small[key]["values"]
        assert len(few) == 30
        assert stats.ks_2samp(many, few).statistic <= 1 / 30 + 0.02  # half a step of rank, and ties
    assert len(whole["runs.llm_s"]["values"]) == 2_000


@given(st.lists(st.integers(0, 10**6), min_size=1, max_size=60), st.integers(1, 80))
def test_thinned_values_are_evenly_spread_ones(values, most):
    values.sort()
    thinned = _thinned(np.array(values, float), most)
    assert len(thinned) == min(most, len(values))
    assert set(thinned) <= set(values)
    if most >= len(values):
        assert thinned == values
    assert thinned == sorted(thinned)


def test_requests_of_an_imported_trace_arrive_again(trace, tmp_path):
    path = tmp_path / "requests.csv"
    rows = write_azure(trace[:2_000], path)
    imported = import_azure_llm(path).events
    changes = replay(imported)
    times_h = changes["issues.arrivals"]["times_h"]
    assert len(times_h) == rows
    requests = [event.time for event in imported if event.type == "agent_activity"]
    assert times_h[-1] == pytest.approx((max(requests) - min(requests)).total_seconds() / 3600)
    outputs = [event.data["gen_ai.usage.output_tokens"] for event in imported if event.type == "agent_activity"]
    assert changes["runs.output_tokens"]["values"] == sorted(outputs)
    assert changes.keys() == {"issues.arrivals", "issues.initial", "runs.output_tokens"}
    again = Simulation(STEADY.replace(changes, allow_overload=True, horizon_h=times_h[-1]), 7)
    created = created_h(again)
    assert created == pytest.approx(times_h[: len(created)], abs=1e-6)
    assert len(created) > 0.9 * rows


def test_a_trace_that_tells_nothing_is_refused(trace):
    with pytest.raises(ScenarioError, match="trace: has nothing that could be replayed"):
        replay(trace[:3])
