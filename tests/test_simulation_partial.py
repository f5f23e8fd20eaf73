"""`validate` of a stream that was joined midway: what came before is believed, what contradicts is still named."""

import pickle
from datetime import timedelta
from functools import cache
from itertools import islice

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_simulation_validation import MUTATIONS, WHO, Mutant, good_stream, real

from syndarix_rt import Scenario, Simulation, validate
from syndarix_rt.simulation import Validator


def named(events):
    return [violation.invariant for violation in validate(events, partial=True).violations]


# ---- good streams ---------------------------------------------------------------------------------------------------


@cache
def troubled_stream():
    """Outages, storms and brownouts; runs that are cut short, pipelines that fail with their runner."""
    faults = [
        {"kind": "ci_outage", "at_h": 1.0, "minutes": 20},
        {"kind": "provider_brownout", "at_h": 1.5, "minutes": 20},
        {"kind": "incident_storm", "at_h": 2.0, "minutes": 20},
    ]
    scenario = Scenario.preset("demo_small").replace({"faults": faults, "pipelines.runners": 2})
    return tuple(islice(Simulation(scenario, seed=5), 6_000))


def test_the_troubled_stream_is_a_good_one():
    assert validate(troubled_stream()).ok
    assert validate(troubled_stream(), partial=True).ok


@settings(max_examples=30)
@given(st.integers(0, 5_999), st.sampled_from([good_stream, troubled_stream]))
def test_every_end_of_a_good_stream_is_good(cut, stream):
    report = validate(stream()[cut:], partial=True)
    assert str(report) == f"{6_000 - cut} events, 0 violations"


def test_the_end_of_a_stream_is_not_good_unless_it_is_called_partial():
    assert not validate(good_stream()[100:]).ok


def test_memory_follows_what_is_open_in_a_partial_stream_too():
    validator = Validator(partial=True)
    for event in islice(Simulation(Scenario.preset("steady_sprint"), seed=7), 100, 30_000):
        validator.feed(event)
    assert len(pickle.dumps(validator)) < 30_000  # bytes; the ids alone would take a million


# ---- faults after the cut -------------------------------------------------------------------------------------------

UNDECIDABLE = {
    "i4_a_cause_comes_from_nowhere",
    "a1_an_activity_has_no_start",
    "s1_an_issue_was_never_created",
    "c1_a_commit_goes_to_no_branch",
    "c3_a_request_was_never_created",
    "p1_a_pipeline_never_started",
    "h2_an_approval_is_about_nothing",
    "h3_an_approval_is_resolved_unasked",
    "t2_an_issue_is_planned_that_is_not_open",
    "t2_an_open_issue_is_not_counted",  # it may not have been heard of since the cut
}
"""These could be true of a stream that began earlier."""

DECIDED_BY_THE_REST = {
    "i1_an_id_comes_twice": {"I1", "I4"},  # the first time was before the cut, but it may be a cause of others
    "i1_a_sprint_ends_under_another_id": {"I1", "I4"},
    "s5_an_issue_is_in_two_sprints": {"S5"},  # nobody may have said yet which sprint is open
    "t1_a_sprint_ends_that_never_started": {"T1"},
    "p2_a_pipeline_checks_no_commit": {"P5"},  # if its request is merged, whose head is not what was checked
}
"""What may be found, depending on what else happens."""


@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda f: f.__name__)
def test_a_broken_invariant_is_named_unless_what_came_before_could_mend_it(mutation):
    mutant, name = Mutant(), mutation.__name__
    mutation(mutant)
    violations = validate(mutant.events[1:], partial=True).violations
    if name in UNDECIDABLE:
        assert not violations
    elif name in DECIDED_BY_THE_REST:
        assert {violation.invariant for violation in violations} <= DECIDED_BY_THE_REST[name]
    elif name == "i4_a_cause_comes_later":
        assert [(each.invariant, each.event_id) for each in violations] == [("I4", mutant.events[-1].id)]  # as it comes
    else:
        assert [(each.invariant, each.event_id) for each in violations] == [(name[:2].upper(), mutant.spoilt)]


# ---- what is believed is known from then on -------------------------------------------------------------------------

END = WHO | {"end_reason": "completed"}


def chat(number, minute=0, **data):
    return real(number, "agent_activity", minute, **WHO | {"gen_ai.operation.name": "chat"}, **data)


def test_a_run_that_was_seen_at_work_cannot_start():
    assert named([chat(1), real(2, "agent_started", **WHO)]) == ["A1"]


def test_an_agent_that_was_seen_at_work_takes_up_nothing_else():
    other = WHO | {"run_id": "r2"}
    assert named([chat(1), real(2, "agent_started", **other)]) == ["A4"]
    assert named([chat(1), real(2, "agent_completed", **END), real(3, "agent_started", **other)]) == []


def test_an_agent_that_was_seen_to_start_had_nothing_else_to_do():
    started, other = real(1, "agent_started", **WHO), WHO | {"run_id": "r2"}
    assert named([started, real(2, "agent_activity", **other)]) == ["A1"]
    assert named([started, real(2, "agent_completed", **END | other)]) == ["A1"]
    assert named([started, real(2, "branch_created", branch="b", run_id="r2", agent_id="copilot")]) == ["C6"]
    assert named([real(1, "agent_started", **WHO, concurrency=2), real(2, "agent_activity", **other)]) == []


def test_a_run_that_was_believed_wrongly_is_in_nobodys_way():
    one, two = WHO | {"run_id": "r2"}, WHO | {"run_id": "r3"}
    trace = [chat(1), real(2, "agent_started", **one), real(3, "agent_completed", **END | one)]
    assert named([*trace, real(4, "agent_started", **two)]) == ["A4"]


def test_a_run_has_at_least_the_tokens_that_were_seen():
    call = chat(1, **{"gen_ai.usage.input_tokens": 100})
    assert named([call, real(2, "agent_completed", **END, input_tokens=99)]) == ["A5"]
    assert named([call, real(2, "agent_completed", **END, input_tokens=1_000)]) == []


def test_a_simulated_run_takes_at_least_as_long_as_its_calls_that_were_seen():
    call = msgspec.structs.replace(chat(1, 1, duration_s=50.0), simulation="sim", cause="trace-0")
    end = msgspec.structs.replace(
        real(2, "agent_completed", 2, **END, duration_s=40.0), simulation="sim", cause=call.id
    )
    assert named([call, end]) == ["A8"]


def test_tries_count_on_from_the_first_one_that_was_seen():
    failed = {"status": "error", "backoff_s": 2.0}
    assert named([chat(1, attempt=2, **failed), chat(2, attempt=3)]) == []
    assert named([chat(1, attempt=2, **failed), chat(2, attempt=4)]) == ["A7"]
    assert named([chat(1, attempt=2), chat(2, attempt=3)]) == ["A7"]


def test_a_cause_that_comes_after_its_effect_is_none():
    first = msgspec.structs.replace(real(1, "lunch_served"), cause="trace-2")
    assert named([first, real(2, "lunch_served")]) == ["I4"]


def test_an_event_is_not_its_own_cause():
    assert named([msgspec.structs.replace(real(1, "lunch_served"), cause="trace-1")]) == ["I4"]


def test_an_issue_that_was_seen_cannot_be_created():
    assert named([real(1, "issue_updated", issue_id="i"), real(2, "issue_created", issue_id="i")]) == ["S1"]


def test_an_issue_from_before_may_be_done_and_reopened_once():
    reopened = real(2, "issue_updated", issue_id="i", state="reopened")
    assert named([real(1, "issue_closed", issue_id="i", resolution="done"), reopened]) == []
    assert named([reopened, real(3, "issue_updated", issue_id="i", state="reopened")]) == ["S3"]


def test_one_sprint_may_have_begun_before():
    first, second = (real(n, "sprint_completed", sprint_id=f"s{n}") for n in (1, 2))
    assert named([first]) == []
    assert named([first, second]) == ["T1"]
    assert named([first, real(2, "sprint_started", sprint_id="s2"), real(3, "sprint_completed", sprint_id="s2")]) == []


def test_an_issue_is_in_one_sprint_as_soon_as_it_is_known_which_is_open():
    placed = [real(n, "issue_updated", issue_id="i", sprint_id=f"s{n}") for n in (2, 3)]
    assert named(placed) == []
    assert named([real(1, "sprint_started", sprint_id="s2"), *placed]) == ["S5"]


def test_a_sprint_from_before_has_at_least_the_issues_that_were_seen():
    closed = [real(n, "issue_closed", issue_id=f"i{n}") for n in (1, 2)]
    assert named([*closed, real(3, "sprint_completed", sprint_id="s", issues_completed=1)]) == ["T2"]
    assert named([*closed, real(3, "sprint_completed", sprint_id="s", issues_completed=9)]) == []
    kept = real(4, "issue_updated", issue_id="i", sprint_id="s")
    assert named([kept, real(5, "sprint_completed", sprint_id="s", issues_carried_over=0)]) == ["T2"]


def test_a_branch_with_commits_cannot_be_created():
    assert named([real(1, "commit_pushed", branch="b", commit="c"), real(2, "branch_created", branch="b")]) == ["C1"]


def test_a_branch_from_before_may_be_proposed_once_at_a_time():
    one, two = (real(n, "pr_created", pr_id=f"p{n}", branch="b") for n in (1, 2))
    assert named([one]) == []
    assert named([one, two]) == ["C5"]


def test_a_request_from_before_ends_once_and_takes_its_branch_with_it():
    merged = real(1, "pr_merged", pr_id="p", branch="b")
    assert named([merged, real(2, "pr_closed", pr_id="p")]) == ["C3"]
    assert named([merged, real(2, "commit_pushed", branch="b", commit="c")]) == ["C4"]


def test_an_issue_whose_request_from_before_was_merged_is_done():
    trace = [
        real(1, "issue_created", issue_id="i"),
        real(2, "pr_merged", pr_id="p", issue_id="i"),
        real(3, "issue_closed", issue_id="i", resolution="done"),
    ]
    assert named(trace) == []
    assert named([trace[0], trace[2]]) == ["S4"]


def test_a_run_that_ended_makes_no_commits():
    trace = [real(1, "agent_completed", **END), real(2, "commit_pushed", branch="b", commit="c", run_id="r1")]
    assert named(trace) == ["C6"]
    assert named([trace[1], trace[0]]) == []


def test_the_last_pipeline_that_was_seen_must_be_green():
    opened = real(1, "pr_created", pr_id="p", branch="b", require_green=True)
    started = real(2, "pipeline_started", pipeline_id="x", branch="b", commit="c")
    merged = real(9, "pr_merged", pr_id="p", branch="b")
    assert named([opened, merged]) == []  # it may have been checked before
    assert named([opened, started, merged]) == ["P5"]
    assert named([opened, started, real(3, "pipeline_failed", pipeline_id="x"), merged]) == ["P5"]
    assert named([opened, started, real(3, "pipeline_completed", pipeline_id="x"), merged]) == []
    assert named([opened, real(4, "commit_pushed", branch="b", commit="d"), merged]) == ["P5"]


def test_an_approval_from_before_counts_but_not_one_that_was_seen_to_fail():
    merged = real(9, "pr_merged", pr_id="p", approval_id="a")
    asked = real(1, "approval_required", approval_id="a", pr_id="p")
    assert named([merged]) == []
    assert named([asked, merged]) == ["H1"]
    assert named([asked, real(2, "approval_resolved", approval_id="a", decision="rejected"), merged]) == ["H1"]
    assert named([asked, real(2, "approval_resolved", approval_id="a", decision="approved"), merged]) == []
    late = real(2, "approval_resolved", approval_id="a", decision="rejected", pr_id="p")
    assert named([late, merged]) == ["H1"]


def test_an_approval_from_before_is_resolved_once():
    resolved = [real(n, "approval_resolved", approval_id="a", decision="approved") for n in (1, 2)]
    assert named(resolved) == ["H3"]


def test_nobody_asks_about_what_is_over():
    over = [real(1, "pr_closed", pr_id="p"), real(2, "agent_completed", **END)]
    assert named([*over, real(3, "approval_required", approval_id="a", pr_id="p")]) == ["H2"]
    assert named([*over, real(3, "approval_required", approval_id="a", run_id="r1")]) == ["H2"]
    assert named([real(3, "approval_required", approval_id="a", run_id="r1"), *over]) == []


def test_a_runner_that_was_busy_before_the_cut_is_free_after_the_end_that_was_seen():
    about = {"pipeline_id": "x", "runner": "runner-1"}
    started = real(2, "pipeline_started", pipeline_id="y", runner="runner-1")
    assert named([real(1, "pipeline_failed", **about, reason="infra"), started]) == []
    assert named([started, real(3, "pipeline_started", pipeline_id="z", runner="runner-1")]) == ["P3"]


def test_what_began_before_may_have_taken_as_long_as_it_says():
    about = {"approval_id": "a", "decision": "approved"}
    ends = [
        real(1, "agent_completed", **END, duration_s=1e6),
        real(2, "pipeline_failed", pipeline_id="x", duration_s=1e6),
        real(3, "approval_resolved", **about, waited_s=1e6),
    ]
    assert named(ends) == []
    begun = [
        real(4, "agent_started", **WHO),
        real(5, "pipeline_started", pipeline_id="x"),
        real(6, "approval_required", approval_id="a"),
    ]
    assert named([*begun, *ends]) == ["A8", "P1", "H3"]
    assert named([real(1, "approval_resolved", **about, waited_s=1.0, queued_s=9.0)]) == ["H3"]


def test_time_does_not_go_back():
    late = msgspec.structs.replace(chat(2), time=chat(1).time - timedelta(seconds=1))
    assert named([chat(1), late]) == ["I2"]


# ---- whole streams --------------------------------------------------------------------------------------------------


def test_a_branch_that_is_proposed_again_was_checked_before():
    trace = [
        real(1, "branch_created", branch="b"),
        real(2, "commit_pushed", branch="b", commit="c"),
        real(3, "pr_created", pr_id="p1", branch="b"),
        real(4, "pr_closed", pr_id="p1"),
        real(5, "pr_created", pr_id="p2", branch="b", require_green=True),
        real(6, "pipeline_started", pipeline_id="x", branch="b", commit="c"),
        real(7, "pipeline_completed", pipeline_id="x"),
        real(8, "pr_merged", pr_id="p2"),
    ]
    assert validate(trace).ok
    assert [v.invariant for v in validate([*trace[:6], trace[7]]).violations] == ["P5"]
