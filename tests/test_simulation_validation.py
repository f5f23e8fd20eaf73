"""`validate`: nothing against good streams, and each invariant named when it alone is broken."""

import pickle
from datetime import UTC, datetime, timedelta
from functools import cache
from itertools import islice

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from syndarix_rt import Event, Scenario, Simulation, validate
from syndarix_rt.events import CATALOGUE
from syndarix_rt.simulation import Validator
from syndarix_rt.simulation.idset import IdSet
from syndarix_rt.simulation.invariants import INVARIANTS

# ---- good streams ---------------------------------------------------------------------------------------------------


@cache
def good_stream():
    """Long enough that every kind of thing has happened, and more than once."""
    return tuple(islice(Simulation(Scenario.preset("demo_small"), seed=3), 6_000))


def test_the_stream_that_the_mutations_start_from_is_good():
    assert validate(good_stream()).ok


def test_a_hundred_thousand_events_violate_nothing_and_leave_nothing_behind():
    validator = Validator()
    for event in islice(Simulation(Scenario.preset("steady_sprint"), seed=7), 100_000):
        validator.feed(event)
    assert str(validator.report()) == "100000 events, 0 violations"
    assert len(pickle.dumps(validator)) < 30_000  # bytes; the ids alone would take millions


def test_a_recording_is_checked_line_by_line():
    assert validate(event.encode() for event in good_stream()).ok


def test_a_stream_cut_anywhere_violates_nothing():
    validator = Validator()
    for event in good_stream():
        validator.feed(event)
        assert not validator.report().violations
    assert validator.report().events == len(good_stream())


def test_several_projects_and_simulations_in_one_stream_are_judged_apart():
    late = datetime(2030, 1, 1, tzinfo=UTC)
    first = list(islice(Simulation(Scenario.preset("demo_small"), seed=1, start=late), 500))
    second = list(islice(Simulation(Scenario.preset("demo_small"), seed=2), 500))
    elsewhere = list(islice(Simulation(Scenario.preset("steady_sprint"), seed=2), 500))
    mixed = [event for together in zip(first, second, elsewhere, strict=True) for event in together]
    assert validate(mixed).ok


# ---- traces of real agents say less ---------------------------------------------------------------------------------


def real(number, kind, minute=0, **data):
    return Event.new(
        kind,
        data,
        project="apollo",
        id=f"trace-{number}",
        time=datetime(2025, 5, 1, 12, minute, tzinfo=UTC),
        source="/trace",
    )


WHO = {"run_id": "r1", "agent_id": "copilot", "role": "developer"}


def test_a_trace_without_tokens_sprints_causes_and_ends_is_possible():
    trace = [
        real(1, "branch_created", branch="b"),
        real(2, "commit_pushed", branch="b", commit="c"),
        real(3, "pr_created", pr_id="p", branch="b"),
        real(4, "agent_started", 1, **WHO),
        real(5, "agent_completed", 2, **WHO, end_reason="unknown", duration_s=60.0),
        real(6, "agent_started", 3, **WHO | {"run_id": "r2"}),
        real(7, "pr_merged", 4, pr_id="p"),
    ]
    assert validate(trace).ok


def test_an_agent_that_says_so_may_work_on_several_things_at_once():
    starts = [real(n, "agent_started", **WHO | {"run_id": f"r{n}", "concurrency": 2}) for n in (1, 2)]
    assert validate(starts).ok
    third = real(3, "agent_started", **WHO | {"run_id": "r3", "concurrency": 2})
    assert [v.invariant for v in validate([*starts, third]).violations] == ["A4"]


def test_totals_without_activities_cannot_be_judged():
    assert validate(
        [real(1, "agent_started", **WHO), real(2, "agent_completed", 1, **WHO, end_reason="completed", input_tokens=5)]
    ).ok


def test_a_real_agent_may_call_in_parallel():
    calls = [real(n, "agent_activity", 1, **WHO, duration_s=50.0) for n in (2, 3)]
    assert validate(
        [real(1, "agent_started", **WHO), *calls, real(4, "agent_completed", 1, **WHO, end_reason="completed")]
    ).ok


def test_a_real_run_may_count_only_what_it_was_busy_but_not_more_than_the_time_it_had():
    def took(duration_s):
        end = real(2, "agent_completed", 1, **WHO, end_reason="completed", duration_s=duration_s)
        return [violation.invariant for violation in validate([real(1, "agent_started", **WHO), end]).violations]

    assert took(20.0) == took(62.0) == []  # times and duration rounded to whole seconds differ by two at most
    assert took(62.1) == ["A8"]


def test_a_real_approval_waited_from_the_question_to_the_decision():
    def waited(waited_s, **data):
        resolved = real(2, "approval_resolved", 1, approval_id="a", decision="approved", waited_s=waited_s, **data)
        asked = real(1, "approval_required", approval_id="a")
        return [violation.invariant for violation in validate([asked, resolved]).violations]

    assert waited(58.0) == waited(62.0) == waited(60.0, queued_s=31.0, busy_s=31.0) == []
    assert waited(57.9) == waited(62.1) == waited(60.0, queued_s=40.0, busy_s=40.0) == ["H3"]


def test_a_real_branch_may_be_forced_back_and_its_reporter_may_repeat_what_holds():
    pushed = [real(n, "commit_pushed", branch="b", commit=commit) for n, commit in enumerate("aba", start=2)]
    trace = [real(1, "branch_created", branch="b"), *pushed]
    assert validate(trace).ok
    again = real(9, "commit_pushed", branch="b", commit="a")
    assert [violation.invariant for violation in validate([*trace, again]).violations] == ["C1"]
    planned = real(5, "sprint_started", sprint_id="s", issues_planned=7)
    opened = real(6, "issue_created", issue_id="i")
    updates = [real(n, "issue_updated", issue_id="i", state="blocked") for n in (7, 8)]
    assert validate([planned, opened, *updates]).ok


def test_a_reopened_issue_may_be_closed_again():
    assert validate(
        [
            real(1, "issue_created", issue_id="i"),
            real(2, "issue_closed", 1, issue_id="i", resolution="wont_do"),
            real(3, "issue_updated", 2, issue_id="i", state="reopened"),
            real(4, "issue_closed", 3, issue_id="i", resolution="no_change"),
        ]
    ).ok


def test_work_goes_on_at_a_branch_whose_request_was_closed():
    trace = [
        real(1, "branch_created", branch="b"),
        real(2, "commit_pushed", branch="b", commit="c1"),
        real(3, "pr_created", pr_id="p1", branch="b"),
        real(4, "pr_closed", pr_id="p1"),
        real(5, "pr_created", pr_id="p2", branch="b"),
        real(6, "commit_pushed", branch="b", commit="c2"),
        real(7, "pipeline_started", pipeline_id="x", branch="b", commit="c2"),
        real(8, "pr_merged", pr_id="p2"),
    ]
    assert validate(trace).ok


def test_custom_events_are_judged_by_their_envelope_only():
    assert validate([real(1, "lunch_served"), real(2, "lunch_served")]).ok


few = st.sampled_from(["a", "b"])
anything = st.fixed_dictionaries(
    {
        **dict.fromkeys(("run_id", "agent_id", "role", "issue_id", "branch", "commit", "pr_id", "pipeline_id"), few),
        **dict.fromkeys(("approval_id", "sprint_id", "end_reason"), few),
        "decision": st.sampled_from(["approved", "rejected"]),
    },
    optional={
        **dict.fromkeys(("runner", "state", "resolution"), st.none() | st.sampled_from(["a", "done", "reopened"])),
        **dict.fromkeys(("duration_s", "queued_s", "backoff_s"), st.none() | st.floats(0, 1e300)),
        **dict.fromkeys(("attempt", "concurrency"), st.none() | st.integers(1, 3)),
        **dict.fromkeys(("gated", "require_green"), st.none() | st.booleans()),
        **dict.fromkeys(
            ("prefix_tokens", "append_tokens", "cached_tokens", "llm_calls"), st.none() | st.integers(0, 2)
        ),
        **dict.fromkeys(("issues_completed", "issues_carried_over"), st.none() | st.integers(0, 2)),
    },
)


@given(st.lists(st.tuples(st.sampled_from(list(CATALOGUE)), anything), max_size=20))
def test_whatever_events_come_there_is_a_report(stream):
    report = validate(real(number, kind, **data) for number, (kind, data) in enumerate(stream))
    assert report.events == len(stream)
    assert {violation.invariant for violation in report.violations} <= set(INVARIANTS)


# ---- each invariant, broken alone -----------------------------------------------------------------------------------


class Mutant:
    """A good stream to be spoilt in one place; ``spoilt`` is the id of the event that cannot be true."""

    def __init__(self):
        self.events = list(good_stream())
        self.spoilt = None

    def find(self, kind, *, after=None, start=1_000, **data):
        """The index of the next event of a type with this data; by default late enough that much has happened."""
        begin = start if after is None else after + 1
        for index in range(begin, len(self.events)):
            event = self.events[index]
            if event.type == kind and all(event.data.get(key) == value for key, value in data.items()):
                return index
        raise LookupError(kind)

    def change(self, index, data=None, **attributes):
        event = self.events[index]
        self.events[index] = msgspec.structs.replace(event, data=event.data | (data or {}), **attributes)
        self.spoilt = self.events[index].id

    def insert(self, index, kind, data, *, spoils=True):
        """A further event after the one at ``index``, at its time and caused by it."""
        before = self.events[index]
        event = Event.new(
            kind,
            data,
            project=before.project,
            id=f"extra-{len(self.events)}",
            time=before.time,
            cause=before.id,
            simulation=before.simulation,
        )
        self.events.insert(index + 1, event)
        if spoils:
            self.spoilt = event.id

    def copy(self, index, **data):
        """The same thing once more, right after it."""
        self.insert(index, self.events[index].type, self.events[index].data | data)

    def leaf(self):
        """An event that nothing follows from and that changes nothing."""
        return self.find("issue_updated", state="in_review")


def i1_an_id_comes_twice(m):
    m.change(m.leaf(), id=m.events[0].id)


def i1_a_sprint_ends_under_another_id(m):
    m.change(m.find("sprint_completed"), id=m.events[0].id)


def i2_time_goes_back(m):
    leaf = m.leaf()
    m.change(leaf, time=m.events[leaf - 1].time - timedelta(microseconds=1))


def i2_a_run_ends_an_hour_too_early(m):
    end = m.find("agent_completed")
    m.change(end, time=m.events[end].time - timedelta(hours=1))


def i2_a_pipeline_starts_an_hour_too_early(m):
    start = m.find("pipeline_started")
    m.change(start, {"queued_s": None}, time=m.events[start].time - timedelta(hours=1))


def i3_a_line_cannot_be_read(m):
    leaf = m.leaf()
    m.events[leaf] = m.events[leaf].encode().replace(b'"issue_id"', b'"issue"')
    m.spoilt = ""


def i4_a_cause_comes_from_nowhere(m):
    m.change(m.leaf(), cause="nowhere-1")


def i4_a_cause_comes_later(m):
    m.change(m.leaf(), cause=m.events[-1].id)


def i4_a_cause_is_the_event_itself(m):
    m.change(m.leaf(), cause=m.events[m.leaf()].id)


def i4_a_cause_is_missing(m):
    m.change(m.leaf(), cause=None)


def a1_an_activity_has_no_start(m):
    m.insert(1_000, "agent_activity", WHO)


def a1_a_run_starts_twice(m):
    m.copy(m.find("agent_started"))


def a2_a_run_ends_twice(m):
    m.copy(m.find("agent_completed"))


def a3_a_run_goes_on_after_its_end(m):
    end = m.find("agent_completed")
    who = {key: m.events[end].data[key] for key in WHO}
    m.insert(end, "agent_activity", who)


def a3_a_run_starts_again_after_its_end(m):
    end = m.find("agent_error")
    who = {key: m.events[end].data[key] for key in WHO}
    m.insert(end, "agent_started", who)


def a4_an_agent_does_two_things_at_once(m):
    start = m.find("agent_started")
    who = {key: m.events[start].data[key] for key in WHO} | {"run_id": "second"}
    m.insert(start, "agent_completed", who | {"end_reason": "completed"}, spoils=False)
    m.insert(start, "agent_started", who)


def a5_tokens_do_not_add_up(m):
    end = m.find("agent_completed")
    m.change(end, {"input_tokens": m.events[end].data["input_tokens"] + 1})


def a5_costs_do_not_add_up(m):
    end = m.find("agent_completed")
    m.change(end, {"cost_usd": m.events[end].data["cost_usd"] + 0.001})


def a5_calls_do_not_add_up(m):
    end = m.find("agent_error")
    m.change(end, {"llm_calls": m.events[end].data["llm_calls"] + 1})


def a6_a_prompt_is_more_than_its_parts(m):
    call = m.find("agent_activity", **{"gen_ai.operation.name": "chat", "status": "ok"})
    m.change(call, {"append_tokens": m.events[call].data["append_tokens"] - 1})


def a6_more_is_cached_than_was_put_in(m):
    call = m.find("agent_activity", **{"gen_ai.operation.name": "chat", "status": "ok"})
    m.change(call, {"cached_tokens": m.events[call].data["prefix_tokens"] * 2 + 10**6})


def a7_a_try_is_left_out(m):
    m.change(m.find("agent_activity", attempt=2, status="ok"), {"attempt": 3})


def a7_a_first_try_is_not_the_first(m):
    m.change(m.find("agent_activity", attempt=1, status="ok"), {"attempt": 2})


def a7_the_backoff_shrinks(m):
    m.change(m.find("agent_activity", attempt=2, status="error"), {"backoff_s": 0.1})


def a8_a_call_begins_before_its_run(m):
    m.change(m.find("agent_activity"), {"duration_s": 86_400.0})


def a8_the_calls_of_a_run_take_longer_than_the_run(m):
    ends = (i for i in range(1_000, 6_000) if m.events[i].type == "agent_completed")
    end = next(i for i in ends if m.events[i].data["duration_s"] > 200)
    run_id = m.events[end].data["run_id"]
    last = max(i for i in range(end) if m.events[i].data.get("run_id") == run_id and "duration_s" in m.events[i].data)
    m.change(last, {"duration_s": m.events[last].data["duration_s"] + 100})
    m.spoilt = m.events[end].id


def a8_a_run_says_that_it_took_longer_than_it_did(m):
    later(m, "agent_completed", "duration_s", 0.002)


def a8_a_run_says_that_it_took_less_than_it_did(m):
    later(m, "agent_error", "duration_s", -0.002)


def later(m, kind, key, by_s):
    end = m.find(kind)
    m.change(end, {key: m.events[end].data[key] + by_s})


def s1_an_issue_is_created_twice(m):
    m.copy(m.find("issue_created"))


def s1_an_issue_was_never_created(m):
    m.insert(m.leaf(), "issue_updated", {"issue_id": "never", "state": "assigned"})


def s2_a_closed_issue_is_updated(m):
    close = m.find("issue_closed")
    m.insert(close, "issue_updated", {"issue_id": m.events[close].data["issue_id"], "state": "blocked"})


def s2_an_update_comes_twice(m):
    m.copy(m.find("issue_updated", state="in_progress"))


def s3_an_issue_is_closed_twice(m):
    m.copy(m.find("issue_closed"))


def s3_an_open_issue_is_reopened(m):
    leaf = m.leaf()
    m.insert(leaf, "issue_updated", {"issue_id": m.events[leaf].data["issue_id"], "state": "reopened"})


def s4_an_issue_is_done_without_a_merge(m):
    m.change(m.find("issue_closed", resolution="wont_do"), {"resolution": "done"})


def s5_an_issue_is_in_two_sprints(m):
    m.change(m.leaf(), {"sprint_id": "another"})


def c1_a_commit_goes_to_no_branch(m):
    m.insert(1_000, "commit_pushed", {"branch": "nowhere", "commit": "c"})


def c1_a_branch_is_created_twice(m):
    m.copy(m.find("branch_created"))


def c1_a_commit_is_pushed_twice(m):
    m.copy(m.find("commit_pushed"))


def c1_an_older_commit_is_pushed_again(m):
    newer = m.find("commit_pushed")
    while (older := m.find("commit_pushed", start=0, branch=m.events[newer].data["branch"])) == newer:
        newer = m.find("commit_pushed", after=newer)
    m.copy(newer, commit=m.events[older].data["commit"])


def c2_a_request_has_no_commit(m):
    branch = m.find("branch_created")
    m.insert(branch, "pr_closed", {"pr_id": "early"}, spoils=False)
    m.insert(branch, "pr_created", {"pr_id": "early", "branch": m.events[branch].data["branch"]})


def c3_a_request_is_merged_twice(m):
    m.copy(m.find("pr_merged"))


def c3_a_merged_request_is_closed(m):
    merge = m.find("pr_merged")
    m.insert(merge, "pr_closed", {"pr_id": m.events[merge].data["pr_id"]})


def c3_a_request_was_never_created(m):
    m.insert(1_000, "pr_merged", {"pr_id": "never"})


def c3_a_request_is_created_twice(m):
    m.copy(m.find("pr_created"))


def c4_a_commit_goes_to_a_merged_branch(m):
    merge = m.find("pr_merged")
    m.insert(merge, "commit_pushed", {"branch": m.events[merge].data["branch"], "commit": "late"})


def c5_a_branch_has_two_requests(m):
    m.copy(m.find("pr_created"), pr_id="second")


def c6_a_commit_is_the_work_of_an_ended_run(m):
    ended = m.events[m.find("agent_completed", start=0)].data["run_id"]
    m.change(m.find("commit_pushed"), {"run_id": ended})


def c6_a_branch_is_the_work_of_nobody(m):
    m.change(m.find("branch_created"), {"run_id": "nobody"})


def p1_a_pipeline_ends_twice(m):
    m.copy(m.find("pipeline_completed"))


def p1_a_pipeline_never_started(m):
    m.insert(1_000, "pipeline_failed", {"pipeline_id": "never"})


def p1_a_pipeline_starts_twice(m):
    m.copy(m.find("pipeline_started"))


def p1_a_pipeline_says_that_it_took_longer_than_it_did(m):
    later(m, "pipeline_completed", "duration_s", 0.002)


def p1_a_failed_pipeline_says_that_it_took_less_than_it_did(m):
    later(m, "pipeline_failed", "duration_s", -0.002)


def p2_a_pipeline_checks_no_commit(m):
    m.change(m.find("pipeline_started"), {"commit": "f" * 40})


def p3_a_runner_runs_two(m):
    busy = {}
    for index, event in enumerate(m.events):
        if event.type == "pipeline_started":
            if index > 1_000 and busy:
                return m.change(index, {"runner": next(iter(busy.values()))})
            busy[event.data["pipeline_id"]] = event.data["runner"]
        elif event.category == "pipeline":
            del busy[event.data["pipeline_id"]]
    raise LookupError


def p4_a_pipeline_overtakes(m):
    start = m.find("pipeline_started")
    m.change(start, {"queued_s": m.events[start].data["queued_s"] + 7_200.0})


def p5_red_is_merged(m):
    pr_id = m.events[m.find("pr_merged")].data["pr_id"]
    last = [i for i in range(len(m.events)) if m.events[i].type == "pipeline_completed"]
    last = max(i for i in last if m.events[i].data["pr_id"] == pr_id)
    m.change(last, type="pipeline_failed")
    m.spoilt = m.events[m.find("pr_merged")].id


def h1_a_request_is_merged_against_the_decision(m):
    decision = m.find("approval_resolved", decision="approved")
    m.change(decision, {"decision": "rejected"})
    m.spoilt = m.events[m.find("pr_merged", after=decision, pr_id=m.events[decision].data["pr_id"])].id


def h1_an_approval_is_made_up(m):
    m.change(m.find("pr_merged", gated=None), {"approval_id": "made-up"})


def h2_an_approval_is_about_nothing(m):
    m.change(m.find("approval_required"), {"pr_id": "nothing"})


def h3_an_approval_is_resolved_twice(m):
    m.copy(m.find("approval_resolved"))


def h3_an_approval_is_resolved_unasked(m):
    m.insert(1_000, "approval_resolved", {"approval_id": "unasked", "decision": "approved"})


def h3_an_approval_waited_longer_than_it_did(m):
    later(m, "approval_resolved", "waited_s", 0.002)


def h3_an_approval_waited_less_than_for_its_parts(m):
    decision = m.find("approval_resolved")
    m.change(decision, {"queued_s": m.events[decision].data["waited_s"] + 0.002, "busy_s": 0.0})


def t1_sprints_overlap(m):
    start = m.find("sprint_started")
    m.insert(start, "sprint_started", {"sprint_id": "second"})
    m.events[start], m.events[start + 1] = m.events[start + 1], m.events[start]
    m.events[start] = msgspec.structs.replace(m.events[start], cause=None)
    m.spoilt = m.events[start + 1].id


def t1_a_sprint_ends_that_never_started(m):
    m.change(m.find("sprint_completed"), {"sprint_id": "never"})


def t2_an_open_issue_is_not_planned(m):
    later(m, "sprint_started", "issues_planned", -1)


def t2_an_issue_is_planned_that_is_not_open(m):
    later(m, "sprint_started", "issues_planned", 1)


def t2_a_closed_issue_is_not_counted(m):
    end = m.find("sprint_completed")
    m.change(end, {"issues_completed": m.events[end].data["issues_completed"] - 1})


def t2_an_open_issue_is_not_counted(m):
    end = m.find("sprint_completed")
    m.change(end, {"issues_carried_over": m.events[end].data["issues_carried_over"] + 1})


MUTATIONS = [f for name, f in list(globals().items()) if name[:2].upper() in INVARIANTS and callable(f)]


@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda f: f.__name__)
def test_a_broken_invariant_is_named_alone_with_its_event(mutation):
    mutant = Mutant()
    mutation(mutant)
    report = validate(mutant.events)
    expected = (mutation.__name__[:2].upper(), mutant.spoilt)
    assert [(violation.invariant, violation.event_id) for violation in report.violations] == [expected]
    assert not report.ok
    line, summary = str(report).splitlines()
    assert line.startswith(expected[0])
    assert summary == f"{len(mutant.events)} events, 1 violations"


def test_every_invariant_is_broken_by_a_mutation():
    assert {mutation.__name__[:2].upper() for mutation in MUTATIONS} == set(INVARIANTS)


def test_a_duplicated_event_is_one_violation():
    events = list(good_stream())
    for index in (100, 2_000, 5_000):
        events.insert(index, events[index])
    assert [violation.invariant for violation in validate(events).violations] == ["I1", "I1", "I1"]


def test_a_violation_says_the_line_and_the_reason():
    broken = b'{"specversion":"1.0"'
    report = validate([good_stream()[0].encode(), broken])
    assert report.violations[0].number == 2
    assert "not JSON" in str(report)


# ---- the set of ids -------------------------------------------------------------------------------------------------

id_texts = st.one_of(
    st.builds("{}-{}{}".format, st.sampled_from("ab"), st.sampled_from(["", "0", "x", "-"]), st.integers(0, 12)),
    st.text("a-019", max_size=4),
)


@given(st.lists(id_texts))
def test_a_set_of_ids_is_a_set(names):
    ours, plain = IdSet(), set()
    for name in names:
        assert (name in ours) == (name in plain)
        assert ours.add(name) == (name not in plain)
        plain.add(name)
    assert all(name in ours for name in plain)


def test_ids_that_count_up_take_no_room():
    ids = IdSet()
    for number in range(10_000):
        ids.add(f"event-{number}")
    assert len(pickle.dumps(ids)) < 200
