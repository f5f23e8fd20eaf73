"""`Summary`: metrics add up with the events they are made of."""

import math
from datetime import UTC, datetime, timedelta
from functools import cache
from itertools import islice, pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from syndarix_rt import Event, Scenario, Simulation
from syndarix_rt.simulation.analysis.summary import Summary

START = datetime(2026, 1, 5, 9, tzinfo=UTC)


@cache
def stream():
    return tuple(islice(Simulation(Scenario.preset("demo_small"), seed=3), 20_000))


def summed(events, **options):
    summary = Summary(**options)
    for event in events:
        summary.feed(event)
    return summary


def told(*lines, project="apollo"):
    """Events from (hour, type, data)."""
    return [
        Event.new(kind, data, project=project, id=f"{project}-{number}", time=START + timedelta(hours=hour))
        for number, (hour, kind, data) in enumerate(lines)
    ]


def run(number, role="developer"):
    return {"run_id": f"run-{number}", "agent_id": f"{role}-{number}", "role": role}


CHAT = {"gen_ai.operation.name": "chat"}


def test_counts_agree_with_a_count_of_the_events():
    metrics = summed(stream()).metrics()
    by_type = {}
    for event in stream():
        by_type[event.type] = by_type.get(event.type, 0) + 1
    assert metrics["events"] == len(stream())
    assert metrics["issues.created"] == by_type["issue_created"]
    assert metrics["issues.closed"] == by_type["issue_closed"]
    assert metrics["changes.commits"] == by_type["commit_pushed"]
    assert metrics["runs.started"] == by_type["agent_started"]
    assert metrics["runs.ended"] == by_type["agent_completed"] + by_type["agent_error"]
    assert metrics["llm.calls"] + metrics["tools.calls"] == by_type["agent_activity"]
    assert metrics["approvals.required"] == by_type["approval_required"]


def test_what_began_has_ended_or_is_open():
    metrics = summed(stream()).metrics()
    assert metrics["issues.created"] == metrics["issues.closed"] + metrics["issues.open"]
    assert metrics["runs.started"] == metrics["runs.ended"] + metrics["runs.open"]
    assert metrics["approvals.required"] == metrics["approvals.resolved"] + metrics["approvals.pending"]
    reasons = sum(value for name, value in metrics.items() if name.startswith("runs.end_reason."))
    assert reasons == metrics["runs.ended"]


def test_what_is_told_twice_counts_as_open_once():
    """A recording may hold what somebody reported again; the id of the issue or pipeline says that it is the same."""
    issue, one, other = {"issue_id": "i"}, {"pipeline_id": "p"}, {"pipeline_id": "q"}
    metrics = summed(
        told(
            *[(0, "issue_created", issue)] * 2,
            *[(0, "pipeline_started", one)] * 2,
            (1, "pipeline_failed", one),
            (1, "pipeline_started", other),
            (2, "pipeline_failed", other),
            (2, "issue_closed", issue),
        )
    ).metrics()
    assert (metrics["issues.backlog_max"], metrics["issues.open"]) == (1, 0)
    assert metrics["pipelines.fail_after_failure_share"] == 1


def test_tokens_and_costs_of_runs_are_those_of_their_calls():
    closed = [event for event in stream() if event.type in ("agent_completed", "agent_error")]
    ended = {event.data["run_id"] for event in closed}
    metrics = summed(event for event in stream() if event.data.get("run_id") in ended).metrics()
    assert metrics["llm.input_tokens"] == sum(event.data["input_tokens"] for event in closed)
    assert metrics["llm.output_tokens"] == sum(event.data["output_tokens"] for event in closed)
    assert metrics["llm.cost_usd"] == pytest.approx(sum(event.data["cost_usd"] for event in closed))
    assert metrics["llm.calls"] == sum(event.data["llm_calls"] for event in closed)


def test_names_are_the_same_for_every_stream_but_for_its_queues():
    names = {name for name in summed(stream()).metrics() if not name.startswith("queues.")}
    assert names == set(Summary().metrics())
    assert all(isinstance(value, float) for value in summed(stream()).metrics().values())


def test_an_empty_stream_has_counts_of_zero_and_no_shares():
    metrics = Summary().metrics()
    assert (metrics["events"], metrics["simulated_h"], metrics["issues.open"]) == (0.0, 0.0, 0.0)
    assert math.isnan(metrics["issues.closed_per_h"])
    assert math.isnan(metrics["runs.duration_p50_min"])


def test_durations_and_rates_of_a_small_day():
    metrics = summed(
        told(
            (0, "issue_created", {"issue_id": "i"}),
            (1, "issue_created", {"issue_id": "j"}),
            (1, "agent_started", run(1)),
            (1.5, "agent_completed", run(1) | {"end_reason": "completed", "input_tokens": 9, "cost_usd": 3.0}),
            (1.5, "pr_created", {"pr_id": "p"}),
            (2, "agent_started", run(2, "tester")),
            (2.25, "agent_error", run(2, "tester") | {"end_reason": "rate_limited"}),
            (3.5, "pr_merged", {"pr_id": "p"}),
            (4, "issue_closed", {"issue_id": "i", "resolution": "done"}),
        )
    ).metrics()
    assert metrics["simulated_h"] == 4
    assert metrics["issues.closed_per_h"] == 0.25
    assert metrics["issues.lead_time_mean_h"] == 4
    assert metrics["issues.interarrival_p50_min"] == 60
    assert metrics["issues.backlog_mean"] == pytest.approx((1 * 1 + 3 * 2) / 4)
    assert metrics["issues.backlog_max"] == 2
    assert metrics["issues.open"] == 1
    assert metrics["runs.duration_p50_min"] == pytest.approx((15 + 30) / 2)
    assert metrics["runs.developer_completed_duration_mean_min"] == 30
    assert metrics["runs.error_share"] == 0.5
    assert metrics["runs.input_mean_tokens"] == 9
    assert metrics["changes.merge_time_mean_h"] == 2
    assert metrics["changes.merged_share"] == 1


def test_calls_retries_and_refusals():
    refused = {"status": "error", "error": "rate_limited"}
    answered = {"gen_ai.usage.input_tokens": 100, "gen_ai.usage.output_tokens": 10, "cached_tokens": 40}
    metrics = summed(
        told(
            (0, "agent_activity", run(1) | CHAT | refused | {"attempt": 1}),
            (0, "agent_activity", run(1) | CHAT | {"status": "error", "error": "overloaded", "attempt": 2}),
            (0, "agent_activity", run(1) | CHAT | answered | {"attempt": 3, "cost_usd": 0.5}),
            (0, "agent_activity", run(1) | CHAT | answered | {"attempt": 1, "cost_usd": 0.25}),
            (0.5, "agent_activity", run(1) | {"gen_ai.operation.name": "execute_tool", "status": "error"}),
            (1, "issue_closed", {"issue_id": "i", "resolution": "wont_do"}),
        )
    ).metrics()
    assert metrics["llm.calls"] == 4
    assert metrics["llm.retry_share"] == 0.5
    assert metrics["llm.error_share"] == 0.5
    assert metrics["llm.rate_limited_share"] == 0.25
    assert metrics["llm.cached_share"] == 0.4
    assert metrics["llm.tokens_per_min"] == pytest.approx(220 / 60)
    assert metrics["llm.cost_per_closed_issue_usd"] == 0.75
    assert metrics["tools.error_share"] == 1
    assert metrics["issues.open"] == 0  # it was closed, but nobody saw it opened


def test_a_run_that_was_cancelled_is_no_error():
    metrics = summed(
        told(
            (0, "agent_error", run(1) | {"end_reason": "cancelled"}),
            (0, "agent_error", run(2) | {"end_reason": "melted"}),
            (0, "agent_completed", run(3) | {"end_reason": "completed"}),
        )
    ).metrics()
    assert metrics["runs.error_share"] == 0.5
    assert metrics["runs.end_reason.cancelled"] == 1
    assert metrics["runs.end_reason.melted"] == 1


def pipelines(verdicts, ends):
    """Pipelines that start in order and end in another one."""
    starts = [(0.001 * n, "pipeline_started", {"pipeline_id": f"p{n}"}) for n in range(len(verdicts))]
    kinds = {"s": ("pipeline_completed", {}), "f": ("pipeline_failed", {"reason": "tests"})}
    kinds |= {"i": ("pipeline_failed", {"reason": "infra"}), "c": ("pipeline_failed", {"reason": "cancelled"})}
    done = [(1 + 0.001 * at, kinds[verdicts[n]][0], {"pipeline_id": f"p{n}"} | kinds[verdicts[n]][1]) for at, n in ends]
    return told(*starts, *done)


@given(st.text("sfic", min_size=1, max_size=12), st.randoms(use_true_random=False))
def test_streaks_are_read_in_the_order_in_which_pipelines_started(verdicts, random):
    order = list(range(len(verdicts)))
    random.shuffle(order)
    metrics = summed(pipelines(verdicts, list(enumerate(order)))).metrics()
    told_of = verdicts.replace("i", "").replace("c", "")  # the others say nothing about the change
    pairs = list(pairwise(told_of))
    for state, name in (("f", "pipelines.fail_after_failure_share"), ("s", "pipelines.fail_after_success_share")):
        after = [later for earlier, later in pairs if earlier == state]
        expected = after.count("f") / len(after) if after else math.nan
        assert metrics[name] == pytest.approx(expected, nan_ok=True)
    assert metrics["pipelines.failed_infra"] == verdicts.count("i")


def test_the_warm_up_counts_for_nothing_but_what_it_left_open_stays_open():
    metrics = summed(
        told(
            (0, "issue_created", {"issue_id": "early"}),
            (0, "agent_started", run(1)),
            (1, "pr_created", {"pr_id": "p"}),
            (2, "issue_created", {"issue_id": "late"}),
            (2, "agent_activity", run(1) | CHAT | {"cost_usd": 1.0}),
            (3, "agent_completed", run(1) | {"end_reason": "completed", "input_tokens": 5}),
            (3, "pr_merged", {"pr_id": "p"}),
            (4, "issue_closed", {"issue_id": "late", "resolution": "done"}),
            (6, "issue_closed", {"issue_id": "early", "resolution": "done"}),
        ),
        warmup_h=2,
    ).metrics()
    assert metrics["simulated_h"] == 4
    assert metrics["events"] == 6
    assert metrics["issues.created"] == 1
    assert metrics["issues.closed"] == 2
    assert metrics["issues.open"] == 0
    assert metrics["issues.lead_time_p90_h"] == 2
    assert metrics["issues.backlog_mean"] == pytest.approx((2 * 2 + 2 * 1) / 4)
    assert metrics["runs.ended"] == 1
    assert metrics["llm.cost_usd"] == 1
    assert math.isnan(metrics["runs.duration_mean_min"])
    assert math.isnan(metrics["changes.merge_time_mean_h"])
    assert math.isnan(metrics["runs.input_mean_tokens"])


def test_a_stream_that_ends_in_its_warm_up_has_no_metrics():
    metrics = summed(stream()[:100], warmup_h=1_000).metrics()
    assert metrics["events"] == 0
    assert metrics["simulated_h"] == 0
    assert math.isnan(metrics["events_per_h"])


@settings(max_examples=25)
@given(st.integers(1, 4_999))
def test_metrics_may_be_read_at_any_time_without_harm(cut):
    summary = summed(stream()[:cut], warmup_h=0.5)
    summary.metrics()
    for event in stream()[cut:5_000]:
        summary.feed(event)
    assert summary.metrics() == pytest.approx(summed(stream()[:5_000], warmup_h=0.5).metrics(), nan_ok=True)


def test_projects_are_added_up_and_their_gaps_are_not_mixed():
    one = told((0, "issue_created", {"issue_id": "i"}), (2, "issue_created", {"issue_id": "j"}))
    other = told((1, "issue_created", {"issue_id": "i"}), (3, "issue_created", {"issue_id": "j"}), project="gemini")
    metrics = summed(sorted(one + other, key=lambda event: event.time)).metrics()
    assert metrics["issues.open"] == 4
    assert metrics["issues.interarrival_p90_min"] == 120


def test_a_reopened_issue_is_open_again():
    lines = [
        (0, "issue_created", {"issue_id": "i"}),
        (1, "issue_closed", {"issue_id": "i", "resolution": "done"}),
        (2, "issue_updated", {"issue_id": "i", "state": "reopened"}),
        (5, "issue_closed", {"issue_id": "i", "resolution": "done"}),
    ]
    assert summed(told(*lines[:3])).metrics()["issues.open"] == 1
    assert summed(told(*lines)).samples["issues.lead_time_h"].tolist() == [1, 3]


def test_quantiles_are_those_of_the_samples():
    summary = summed(stream())
    minutes = summary.samples["runs.duration_min"]
    assert len(minutes) > 300
    assert summary.metrics()["runs.duration_p90_min"] == pytest.approx(np.quantile(minutes, 0.9))


def test_utilisation_is_that_of_the_agents_that_the_scenario_has():
    scenario = Scenario.preset("demo_small")
    seen = summed(stream()[:200]).metrics()
    had = summed(stream()[:200], scenario=scenario).metrics()
    name, developers = "queues.agents.developer", scenario.projects[0].agents.developers
    assert had[f"{name}.servers"] == developers
    assert had[f"{name}.utilisation"] * developers == pytest.approx(
        seen[f"{name}.utilisation"] * seen[f"{name}.servers"]
    )
