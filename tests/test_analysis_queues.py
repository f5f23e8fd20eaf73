"""Queues: what is measured is what a count of heads gives, and Little's law holds where it must."""

import math
from datetime import UTC, datetime, timedelta
from itertools import islice, pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from syndarix_rt import Event, Scenario, Simulation
from syndarix_rt.simulation.analysis.queues import Queue, Queues, pool_sizes
from syndarix_rt.simulation.analysis.theory import mmc

START = datetime(2026, 1, 5, 9, tzinfo=UTC)
US = 1_000_000


def fifo(gaps_us, services_us, servers):
    """(arrived, started, ended) of each visit to a pool of servers, whole microseconds; first come first served."""
    free, now, visits = [0] * servers, 0, []
    for gap, service in zip(gaps_us, services_us, strict=True):
        now += gap
        free.sort()
        started = max(now, free[0])
        free[0] = started + service
        visits.append((now, started, free[0]))
    return visits


def event(kind, at_us, number, **data):
    return Event.new(kind, data, project="apollo", id=f"e-{number}", time=START + timedelta(microseconds=at_us))


def runner_events(visits):
    told = []
    for number, (arrived, started, ended) in enumerate(visits):
        name = {"pipeline_id": f"p-{number}", "runner": "any"}
        told.append((started, 1, "pipeline_started", name | {"queued_s": (started - arrived) / US}))
        told.append((ended, 0, "pipeline_completed", name))
    told.sort(key=lambda line: line[:2])
    return [event(kind, at, number, **data) for number, (at, _, kind, data) in enumerate(told)]


def queue_of(events, name="runners"):
    queues = Queues()
    for each in events:
        queues.feed(each, (each.time - START).total_seconds())
    return queues["apollo", name]


def heads(visits, from_us, until_us, first=0, last=2):
    """Time average of the number between arrival (0) or start (1), and start (1) or end (2), counted by heads."""
    instants = sorted({from_us, until_us, *(t for visit in visits for t in visit if from_us < t < until_us)})
    area = 0
    for since, until in pairwise(instants):
        area += (until - since) * sum(visit[first] <= since and visit[last] >= until for visit in visits)
    return area / (until_us - from_us)


jobs = st.lists(st.tuples(st.integers(0, 50 * US), st.integers(1, 100 * US)), min_size=1, max_size=25)


@given(jobs, st.integers(1, 4))
def test_little_is_exact_between_two_instants_at_which_the_queue_is_empty(pairs, servers):
    visits = fifo([gap for gap, _ in pairs], [service for _, service in pairs], servers)
    until_us = max(ended for _, _, ended in visits)
    found = queue_of(runner_events(visits)).measure(0, until_us / US, servers)
    assert found.number_mean == pytest.approx(heads(visits, 0, until_us), rel=1e-9, abs=1e-9)
    assert found.number_mean == pytest.approx(found.arrivals_per_h / 3600 * found.sojourn_mean_s, rel=1e-9)
    assert found.waiting_mean == pytest.approx(found.arrivals_per_h / 3600 * found.wait_mean_s, rel=1e-9, abs=1e-9)
    assert found.utilisation * servers == pytest.approx(found.number_mean - found.waiting_mean, rel=1e-9, abs=1e-9)


@given(jobs, st.integers(1, 4), st.floats(0, 1), st.floats(0, 1))
def test_averages_over_time_take_of_every_visit_the_part_in_the_window(pairs, servers, cut, other_cut):
    visits = fifo([gap for gap, _ in pairs], [service for _, service in pairs], servers)
    end_us = max(ended for _, _, ended in visits)
    from_us, until_us = sorted((int(cut * end_us), int(other_cut * end_us)))
    queue = queue_of(runner_events(visits))
    if until_us > from_us:
        found = queue.measure(from_us / US, until_us / US, servers)
        assert found.number_mean == pytest.approx(heads(visits, from_us, until_us), rel=1e-9, abs=1e-9)
        assert found.waiting_mean == pytest.approx(heads(visits, from_us, until_us, last=1), rel=1e-9, abs=1e-9)
        inside = [visit for visit in visits if from_us <= visit[0] <= until_us]
        assert found.arrivals == len(inside)
        if inside:
            assert found.wait_mean_s == pytest.approx(np.mean([v[1] - v[0] for v in inside]) / US, abs=1e-6)


@pytest.mark.parametrize("seed", [1, 2])
def test_littles_law_holds_in_every_queue_of_a_simulation(seed):
    queues = Queues()
    for each in islice(Simulation(Scenario.preset("demo_small"), seed=seed), 20_000):
        queues.feed(each, (each.time - START).total_seconds())
    assert len(queues) == 6
    for (_, name), queue in queues.items():
        arrived, _, ended = queue.visits
        assert not np.isnan(arrived).any(), name
        until = np.nanmax(ended)
        empty = [at for at in ended if not ((arrived <= at) & ~(ended <= at)).any()]  # nobody is there just after
        assert len(empty) > 2, name
        last = max(at for at in empty if at <= until)
        found = queue.measure(empty[0], last)
        assert found.arrivals > 2, name
        assert found.number_mean == pytest.approx(found.arrivals_per_h / 3600 * found.sojourn_mean_s, rel=1e-9), name
        assert found.waiting_mean == pytest.approx(found.arrivals_per_h / 3600 * found.wait_mean_s, rel=1e-9), name


def test_a_poisson_queue_is_measured_as_theory_says():
    rng = np.random.default_rng(5)
    gaps = (rng.exponential(1 / 3.2, 40_000) * US).astype(int).tolist()
    services = (rng.exponential(1.0, 40_000) * US).astype(int).tolist()
    visits = fifo(gaps, services, 4)
    queue = Queue()
    for number, (arrived, started, ended) in enumerate(visits):
        queue.start(str(number), "s", started / US, (started - arrived) / US)
        queue.end(str(number), ended / US)
    found, expected = queue.measure(500, visits[-1][0] / US, 4), mmc(3.2, 1.0, 4)
    assert found.utilisation == pytest.approx(expected.utilisation, rel=0.02)
    assert found.delayed_share == pytest.approx(expected.delayed_share, rel=0.05)
    assert found.wait_mean_s == pytest.approx(expected.wait_mean_s, rel=0.15)
    assert found.arrival_cv2 == pytest.approx(1, abs=0.05)
    assert found.service_cv2 == pytest.approx(1, abs=0.05)


def test_what_is_still_served_counts_up_to_the_end_of_the_window():
    queue = Queue()
    queue.start("a", "runner-1", 10.0, 4.0)
    found = queue.measure(0.0, 30.0)
    assert found.number_mean == pytest.approx((4 + 20) / 30)
    assert found.waiting_mean == pytest.approx(4 / 30)
    assert found.utilisation == pytest.approx(20 / 30)
    assert math.isnan(found.sojourn_mean_s)
    assert found.wait_mean_s == 4.0


def test_a_trace_that_tells_no_waits_has_service_but_no_queue():
    who = {"run_id": "r", "agent_id": "a", "role": "developer"}
    trace = [event("agent_started", 0, 1, **who), event("agent_completed", 60 * US, 2, **who, end_reason="completed")]
    found = queue_of(trace, "agents.developer").measure(0, 120)
    assert found.utilisation == pytest.approx(0.5)
    assert found.service_mean_s == 60.0
    assert math.isnan(found.wait_mean_s)
    assert math.isnan(found.waiting_mean)
    assert math.isnan(found.number_mean)


def test_a_human_is_visited_when_somebody_has_taken_notice_and_until_the_decision():
    decision = {"decision": "approved", "by": "human-1", "waited_s": 900.0, "queued_s": 60.0, "busy_s": 240.0}
    trace = [
        event("approval_required", 0, 1, approval_id="a"),
        event("approval_resolved", 900 * US, 2, approval_id="a", **decision),
    ]
    arrived, started, ended = queue_of(trace, "humans").visits
    assert (arrived[0], started[0], ended[0]) == (600.0, 660.0, 900.0)


def test_an_approval_that_does_not_say_how_long_it_took_a_human_is_no_visit():
    queues = Queues()
    queues.feed(event("approval_resolved", US, 1, approval_id="a", decision="approved", waited_s=1.0), 1.0)
    assert not queues


def test_a_decision_that_kept_nobody_busy_went_past_the_queue():
    queues = Queues()
    data = {"approval_id": "a", "decision": "approved", "by": "a watcher", "queued_s": 0.0, "busy_s": 0.0}
    queues.feed(event("approval_resolved", US, 1, **data), 1.0)
    assert not queues


def test_ends_without_a_start_are_no_visits():
    trace = [
        event("pipeline_failed", 0, 1, pipeline_id="p"),
        event("agent_error", 0, 2, run_id="r", agent_id="a", role="tester", end_reason="cancelled"),
    ]
    queues = Queues()
    for each in trace:
        queues.feed(each, 0.0)
    assert not queues.merged()


def test_pools_of_several_projects_are_taken_together_but_keep_their_members():
    queues = Queues()
    for number, project in enumerate(("apollo", "gemini")):
        data = {"pipeline_id": "p", "runner": "runner-1", "queued_s": 0.0}
        at = START + timedelta(seconds=10 * number)
        queues.feed(Event.new("pipeline_started", data, project=project, id=f"e-{number}", time=at), 10.0 * number)
    found = queues.merged()["runners"].measure(0, 20)
    assert (found.servers, found.arrivals, found.utilisation) == (2.0, 2.0, pytest.approx(30 / 40))


def test_a_scenario_says_how_many_servers_there_are():
    scenario = Scenario.preset("steady_sprint").replace({"pipelines.runners": 3})
    name = scenario.projects[0].name
    sizes = pool_sizes(scenario, 0, 3600)
    assert sizes[name, "runners"] == 3.0
    assert sizes[name, "agents.developer"] == float(scenario.projects[0].agents.developers)
    assert {queue for _, queue in sizes} == {
        "agents.planner", "agents.developer", "agents.tester", "agents.reviewer", "runners", "humans",
    }  # fmt: skip


def test_a_pool_that_grows_has_its_average_size():
    steps = [{"at_h": 1.0, "developers": 10}, {"at_h": 2.0, "testers": 2}, {"at_h": 3.0, "developers": 20}]
    scenario = Scenario.preset("steady_sprint").replace({"agents.developers": 5, "agents.steps": steps})
    name = scenario.projects[0].name
    assert pool_sizes(scenario, 0, 4 * 3600)[name, "agents.developer"] == pytest.approx((5 + 2 * 10 + 20) / 4)
    assert pool_sizes(scenario, 1.5 * 3600, 2.5 * 3600)[name, "agents.developer"] == pytest.approx(10)
    assert pool_sizes(scenario, 1.5 * 3600, 2.5 * 3600)[name, "agents.tester"] == pytest.approx((1 + 2) / 2)
