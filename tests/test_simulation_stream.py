"""`Simulation`: the same bytes for the same seed, projects apart, every type of event, and no end unless asked for."""

import gc
import hashlib
import subprocess
import sys
from collections import Counter
from datetime import UTC, datetime, timedelta, timezone
from itertools import islice, pairwise

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from syndarix_rt import Event, Scenario, Simulation, validate
from syndarix_rt.errors import ScenarioError
from syndarix_rt.events import CORE_TYPES
from syndarix_rt.playback.inspection import Inspection
from syndarix_rt.simulation.analysis.summary import Summary
from syndarix_rt.simulation.settings import Project
from syndarix_rt.simulation.validation import Validator

DEMO = Scenario.preset("demo_small")
STEADY = Scenario.preset("steady_sprint")


def lines(scenario, seed=7, count=3_000, **more):
    return [event.encode() for event in islice(Simulation(scenario, seed, **more), count)]


def of_project(scenario, name, seconds):
    """A project's events of the first ``seconds``, without the id of the whole simulation."""
    simulation = Simulation(scenario, 7)
    until = simulation.start + timedelta(seconds=seconds)
    events = iter(simulation)
    taken = []
    while (event := next(events)).time < until:
        if event.project == name:
            taken.append(msgspec.structs.replace(event, simulation=None).encode())
    return taken


# ---- determinism --------------------------------------------------------------------------------------------------

PRINT_DIGEST = """
import hashlib, itertools
from syndarix_rt import Scenario, Simulation
digest = hashlib.sha256()
for event in itertools.islice(Simulation(Scenario.load("steady_sprint"), 7), 10_000):
    digest.update(event.encode() + b"\\n")
print(digest.hexdigest())
"""


def test_the_same_seed_gives_the_same_bytes_in_every_process():
    here = hashlib.sha256(b"".join(line + b"\n" for line in lines(STEADY, count=10_000))).hexdigest()
    for hash_seed in ("0", "12345"):
        there = subprocess.run(
            [sys.executable, "-c", PRINT_DIGEST],
            env={"PYTHONHASHSEED": hash_seed},
            capture_output=True,
            text=True,
            check=True,
            timeout=60,
        )
        assert there.stdout.strip() == here


def test_a_simulation_says_what_it_is_and_how_far_it_is():
    simulation = Simulation(DEMO, 7)
    list(islice(simulation, 3))
    assert repr(simulation) == "<Simulation of 'demo_small', seed 7, 3 events taken>"


def test_another_seed_gives_another_story():
    assert {line for line in lines(DEMO, 1) if b"issue_created" in line}.isdisjoint(lines(DEMO, 2))
    assert Simulation(DEMO, 1).id != Simulation(DEMO, 2).id


def test_seeds_may_be_of_any_size():
    assert lines(DEMO, 2**200, count=50) == lines(DEMO, 2**200, count=50) != lines(DEMO, 2**200 + 1, count=50)


@pytest.mark.parametrize("seed", [-1, 1.0, "7", None, True])
def test_a_seed_that_is_none_is_refused(seed):
    with pytest.raises(ScenarioError, match="seed: must be a whole number from 0, not"):
        Simulation(DEMO, seed)


def test_speed_description_and_horizon_change_no_byte():
    shown = DEMO.replace(speed=1, description="the same", horizon_h=5)
    assert lines(shown) == lines(DEMO)


def test_who_looks_on_changes_no_byte():
    simulation, watched = Simulation(DEMO, 7), []
    inspection, summary, validator = Inspection("apollo"), Summary(scenario=DEMO), Validator()
    for number, event in enumerate(islice(simulation, 3_000)):
        for look in (inspection.add, summary.feed, validator.feed):
            look(event)
        if number % 100 == 0:
            assert inspection.look("project")
            assert repr(simulation)
            assert simulation.commands == ()
            assert list(islice(Simulation(DEMO, number), 3))  # another one, in the midst of it
        watched.append(event.encode())
    assert watched == lines(DEMO)
    assert summary.metrics()


def test_another_start_moves_the_times_only():
    start = datetime(2031, 6, 1, 12, tzinfo=UTC)
    moved = list(islice(Simulation(DEMO, 7, start), 500))
    usual = list(islice(Simulation(DEMO, 7), 500))
    assert moved[0].time == start
    assert [e.time - start for e in moved] == [e.time - usual[0].time for e in usual]
    assert [(e.type, e.data.get("duration_s")) for e in moved] == [(e.type, e.data.get("duration_s")) for e in usual]
    assert lines(DEMO, start=start) == lines(DEMO, start=start.astimezone(timezone(timedelta(hours=5))))


def test_a_start_without_a_time_zone_is_refused():
    with pytest.raises(ScenarioError, match="start: must be a datetime with a time zone"):
        Simulation(DEMO, 7, datetime(2031, 6, 1))  # noqa: DTZ001 - the point


def test_a_renamed_project_tells_the_same_story():
    def story(scenario):
        return [(e.type, e.time, e.data.get("title")) for e in islice(Simulation(scenario, 7), 2_000)]

    renamed = DEMO.for_project("apollo")
    assert story(renamed) == story(DEMO)
    assert {event.project for event in islice(Simulation(renamed, 7), 100)} == {"apollo"}


# ---- several projects ---------------------------------------------------------------------------------------------

APOLLO, HERMES, ZEUS = (Project(name=name, issues={"rate_per_h": 20}) for name in ("apollo", "hermes", "zeus"))
TWO = Scenario(name="team", projects=[APOLLO, HERMES], allow_overload=True)


def test_adding_a_project_leaves_the_others_as_they_are():
    three = TWO.replace(projects=[ZEUS, HERMES, APOLLO])
    for name in ("apollo", "hermes"):
        before, after = of_project(TWO, name, 3_600), of_project(three, name, 3_600)
        assert len(before) > 100
        assert before == after


def test_changing_a_project_leaves_the_others_as_they_are():
    busier = TWO.replace({"projects.hermes.issues.rate_per_h": 90, "projects.hermes.agents.developers": 20})
    assert of_project(TWO, "apollo", 3_600) == of_project(busier, "apollo", 3_600)
    assert of_project(TWO, "hermes", 3_600) != of_project(busier, "hermes", 3_600)


def test_projects_are_merged_in_time_and_do_not_resemble_each_other():
    events = list(islice(Simulation(TWO, 7), 3_000))
    assert [e.time for e in events] == sorted(e.time for e in events)
    arrivals = {name: [e.time for e in events if (e.project, e.type) == (name, "issue_created")] for name in TWO_NAMES}
    assert not set(arrivals["apollo"]) & set(arrivals["hermes"])
    assert validate(events).ok


TWO_NAMES = ("apollo", "hermes")


def test_more_agents_do_not_change_when_and_which_issues_arrive():
    def arrivals(scenario):
        events = islice(Simulation(scenario, 7), 20_000)
        return [(e.time, e.data["title"]) for e in events if e.type == "issue_created"]

    few, many = arrivals(STEADY), arrivals(STEADY.replace({"agents.developers": 50, "runs.calls.median": 5}))
    shared = min(len(few), len(many))
    assert shared > 20
    assert few[:shared] == many[:shared]


# ---- what is in a stream ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(20))
def test_demo_small_shows_every_type_within_two_minutes_at_its_speed(seed):
    simulation = Simulation(DEMO, seed)
    two_minutes = simulation.start + timedelta(seconds=120 * DEMO.speed)
    seen = set()
    while not seen.issuperset(CORE_TYPES):
        event = next(simulation)
        assert event.time <= two_minutes, set(CORE_TYPES) - seen
        seen.add(event.type)


def test_in_demo_small_something_happens_nearly_every_second():
    simulation = Simulation(DEMO.replace(horizon_h=2), 7)
    seconds = {int((event.time - simulation.start).total_seconds() / DEMO.speed) for event in simulation}
    assert len(seconds) > 110  # of 120


def test_every_event_but_a_root_has_an_earlier_cause_and_all_ids_differ():
    seen = set()
    for event in islice(Simulation(STEADY, 7), 10_000):
        assert event.id not in seen
        if event.type in ("sprint_started", "issue_created"):
            assert event.cause is None
        else:
            assert event.cause in seen
        seen.add(event.id)


SUBJECTS = {"agent": "run_id", "issue": "issue_id", "pr": "pr_id", "pipeline": "pipeline_id", "sprint": "sprint_id"}
SUBJECTS |= {"branch": "branch", "commit": "commit", "approval": "approval_id"}


def test_every_event_names_its_simulation_project_and_subject():
    simulation = Simulation(DEMO, 7)
    for event in islice(simulation, 5_000):
        assert event.simulation == simulation.id
        assert event.project == "demo_small"
        assert event.subject == event.data[SUBJECTS[event.type.split("_")[0]]]


def test_events_are_what_a_decoder_would_accept():
    for event in islice(Simulation(DEMO, 7), 3_000):
        assert Event.decode(event.encode()) == event


def test_unfinished_issues_are_carried_over():
    events = list(islice(Simulation(DEMO, 7), 10_000))
    first = next(e for e in events if e.type == "sprint_completed")
    second = [e for e in events if e.type == "sprint_started"][1]
    carried = [e for e in events if e.data.get("state") == "carried_over" and e.cause == second.id]
    assert first.data["issues_carried_over"] == second.data["issues_planned"] == len(carried) > 0
    assert {e.data["sprint_id"] for e in carried} == {second.data["sprint_id"]}


def test_runs_retry_back_off_and_end_for_different_reasons():
    events = list(islice(Simulation(DEMO, 7), 15_000))
    ends = Counter(e.data["end_reason"] for e in events if e.type == "agent_error")
    assert min(ends["llm_failure"], ends["tool_failure"]) > 10
    assert not ends["rate_limited"]  # the provider has no limits
    backoffs = Counter(e.data["backoff_s"] for e in events if "backoff_s" in e.data)
    assert set(backoffs) == {2.0, 4.0, 8.0}
    short = DEMO.replace({"runs.calls_max": 3})
    assert any(e.data.get("end_reason") == "max_iters" for e in islice(Simulation(short, 7), 1_000))


def test_failures_of_pipelines_come_in_streaks_as_the_scenario_says():
    # Failures that take no longer than successes: or else the order of the ends is not the order of the starts.
    quick = {"median": 0.1, "sigma": 0}
    scenario = STEADY.replace(
        {"runs.calls.median": 1, "pipelines.success_min": quick, "pipelines.failure_min": quick, "pipelines.runners": 1}
    )
    events = islice(Simulation(scenario, 7), 25_000)
    outcomes = [e.type == "pipeline_failed" for e in events if e.type in ("pipeline_completed", "pipeline_failed")]
    pairs = Counter(pairwise(outcomes))
    assert len(outcomes) > 1_000
    assert pairs[True, True] / (pairs[True, True] + pairs[True, False]) == pytest.approx(0.64, abs=0.05)
    assert pairs[False, True] / (pairs[False, True] + pairs[False, False]) == pytest.approx(0.14, abs=0.03)


def test_a_run_takes_as_long_as_copilots_do():
    # Copilot in AIDev, minutes: p10 3.8, p50 9.7, p90 21.7, mean 11.8.
    events = islice(Simulation(STEADY, 7), 40_000)
    ends = (e.data for e in events if e.type == "agent_completed" and e.data["role"] == "developer")
    minutes = sorted(data["duration_s"] / 60 for data in ends)
    quantiles = [minutes[int(len(minutes) * share)] for share in (0.1, 0.5, 0.9)]
    assert quantiles == pytest.approx([3.8, 9.7, 21.7], rel=0.2)


def test_a_context_that_outgrows_the_window_is_compacted():
    scenario = STEADY.replace({"runs.window_tokens": 20_000})
    calls = [e.data for e in islice(Simulation(scenario, 7), 5_000) if "prefix_tokens" in e.data]
    assert all(call["prefix_tokens"] + call["append_tokens"] <= 20_000 for call in calls)


# ---- any scenario -------------------------------------------------------------------------------------------------

shares = st.sampled_from([0.0, 0.3, 1.0])
few = st.integers(0, 2)


@settings(max_examples=30)
@given(
    st.fixed_dictionaries(
        {
            **dict.fromkeys(
                (
                    "runs.tool_error_share",
                    "runs.fatal_error_share",
                    "runs.cache_hit_share",
                    "changes.rework_share",
                    "changes.closed_unmerged_share",
                    "pipelines.fail_after_success_share",
                    "pipelines.fail_after_failure_share",
                    "approvals.gated_share",
                ),
                shares,
            ),
            **dict.fromkeys(("agents.planners", "agents.testers", "agents.reviewers", "runs.retries_max"), few),
            **dict.fromkeys(("agents.developers", "pipelines.runners", "approvals.humans"), st.integers(1, 2)),
            "changes.runs_max": st.integers(1, 3),
            "changes.commits_per_run": st.sampled_from([1.0, 1.8, 50.0]),
            "runs.tools_per_call": st.sampled_from([0.0, 1.2]),
            "runs.calls_max": st.sampled_from([1, 150]),
            "runs.window_tokens": st.sampled_from([12_400, 200_000]),
            "issues.rate_per_h": st.sampled_from([0.0, 5.0, 1e6]),
            "issues.arrivals": st.sampled_from([{"process": "poisson"}, {"process": "weibull", "shape": 0.47}]),
            "sprints.length_h": st.sampled_from([1e-4, 0.5]),
            "approvals.response_h.sigma": st.sampled_from([0.0, 10.0]),
        }
    ),
    st.integers(0, 2**64),
)
def test_any_scenario_gives_a_possible_stream(changes, seed):
    assert (
        str(validate(islice(Simulation(DEMO.replace(changes, allow_overload=True), seed), 600)))
        == "600 events, 0 violations"
    )


# ---- time and memory ----------------------------------------------------------------------------------------------


def test_a_horizon_ends_the_stream_and_falsifies_nothing():
    simulation = Simulation(DEMO.replace(horizon_h=1), 7)
    events = list(simulation)
    assert [event.encode() for event in events] == lines(DEMO, count=len(events))
    assert max(event.time for event in events) <= simulation.start + timedelta(hours=1)
    assert Counter(e.type for e in events)["agent_started"] > sum(
        e.type in ("agent_completed", "agent_error") for e in events
    )
    assert next(simulation, None) is None
    assert validate(events).ok


def test_a_simulation_goes_on_where_it_was_left():
    simulation = Simulation(DEMO, 7)
    parts = [event.encode() for _ in range(3) for event in islice(simulation, 100)]
    assert parts == lines(DEMO, count=300)


def test_a_simulation_ends_with_the_calendar():
    simulation = Simulation(DEMO.replace({"issues.rate_per_h": 0, "issues.initial": 0, "sprints.length_h": 1e7}), 7)
    assert 2 < len(list(simulation)) < 20


def test_memory_stays_flat_in_a_long_run():
    simulation = Simulation(STEADY, 7)
    objects = []
    for _ in range(3):
        for _event in islice(simulation, 15_000):
            pass
        gc.collect()
        objects.append(len(gc.get_objects()))
    assert objects[2] - objects[1] < 3_000  # one object for every seventh event would be as many
