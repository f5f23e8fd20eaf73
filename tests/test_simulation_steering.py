"""Commands between two steps: faults, events, decisions, agents; a steered simulation can be had again."""

import re
from collections import Counter
from datetime import timedelta
from itertools import islice
from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from syndarix_rt import Scenario, Simulation, validate
from syndarix_rt.errors import CommandError, EventError, ScenarioError
from syndarix_rt.simulation import Decide, Emit, Inject, Sent, SetAgents
from syndarix_rt.simulation.settings import CiOutage, IncidentStorm, ProviderBrownout

DEMO = Scenario.preset("demo_small")
BUSY = DEMO.replace({"agents.developers": 8, "pipelines.runners": 6, "allow_overload": True})


def hours(simulation, event):
    return (event.time - simulation.start) / timedelta(hours=1)


def until(simulation, hour):
    """The events up to this hour of simulated time; one more is taken."""
    events = []
    for event in simulation:
        events.append(event)
        if hours(simulation, event) >= hour:
            return events
    return events


def raw(events):
    return [event.encode() for event in events]


# ---- recorded, and played again -----------------------------------------------------------------------------------

faults = st.one_of(
    st.builds(CiOutage, minutes=st.floats(0.1, 30), at_h=st.none() | st.floats(0, 1)),
    st.builds(ProviderBrownout, minutes=st.floats(0.1, 30), error_share=st.sampled_from([0.0, 0.1, 0.9])),
    st.builds(IncidentStorm, minutes=st.floats(0.1, 10), rate_factor=st.sampled_from([0.5, 2, 10])),
)
commands = st.one_of(
    st.builds(Inject, fault=faults),
    st.builds(Emit, type=st.just("note_made"), data=st.just({"text": "here"})),
    st.builds(SetAgents, role=st.sampled_from(["planner", "developer", "tester", "reviewer"]), count=st.integers(0, 6)),
    st.just("decide"),
)
moments = st.none() | st.floats(-10, 600)
scripts = st.lists(st.tuples(st.integers(0, 400), commands, moments), max_size=6)


def steer(simulation, script, count=900):
    """Take events, and send what the script says after so many of them; approvals are decided when there are any."""
    events, pending = [], []
    script = sorted(script, key=lambda line: line[0])
    while len(events) < count:
        while script and script[0][0] <= len(events):
            _, command, later_s = script.pop(0)
            if command == "decide":
                if not pending:
                    continue
                command = Decide(approval_id=pending.pop(), decision="rejected", by="ada", comment="not now")
            now = events[-1].time if events else simulation.start
            simulation.send(command, None if later_s is None else now + timedelta(seconds=later_s))
        event = next(simulation)
        events.append(event)
        if event.type == "approval_required":
            pending.append(event.data["approval_id"])
        elif event.type == "approval_resolved" and event.data["approval_id"] in pending:
            pending.remove(event.data["approval_id"])
    return events


@settings(max_examples=40)
@given(scripts, st.integers(0, 1000))
def test_a_steered_simulation_is_possible_and_its_recorded_commands_make_it_again(script, seed):
    simulation = Simulation(DEMO, seed)
    events = steer(simulation, script)
    assert str(validate(events)) == "900 events, 0 violations"
    stored = msgspec.json.encode(simulation.commands)
    again = Simulation(DEMO, seed, commands=msgspec.json.decode(stored, type=tuple[Sent, ...]))
    assert raw(islice(again, 900)) == raw(events)
    assert again.commands == simulation.commands


def test_without_commands_nothing_differs():
    simulation = Simulation(DEMO, 7, commands=())
    assert raw(islice(simulation, 2_000)) == raw(islice(Simulation(DEMO, 7), 2_000))
    assert simulation.commands == ()


def test_a_command_in_one_project_leaves_the_others_as_they_are():
    two = DEMO.for_project("apollo").projects + DEMO.for_project("hermes").projects
    scenario = Scenario(name="two", projects=two)

    def hermes(simulation):
        return raw(event for event in until(simulation, 1.0) if event.project == "hermes")

    steered = Simulation(scenario, 7)
    before = list(islice(steered, 300))
    steered.send(SetAgents(role="developer", count=0, project="apollo"))
    steered.send(Inject(fault=CiOutage(minutes=30), project="apollo"))
    whole = raw(event for event in before if event.project == "hermes") + hermes(steered)
    undisturbed = hermes(Simulation(scenario, 7))
    shorter = min(len(whole), len(undisturbed))
    assert shorter > 200
    assert whole[:shorter] == undisturbed[:shorter]


def test_a_command_is_sent_at_a_time_between_two_events():
    simulation = Simulation(DEMO.replace({"issues.initial": 0, "issues.rate_per_h": 0}), 7)
    first = next(simulation)
    moment = simulation.start + timedelta(minutes=5)
    simulation.send(Emit(type="note_made", data={}), moment)
    simulation.send(Emit(type="note_made", data={}), simulation.start)
    simulation.send(Emit(type="note_made", data={}), simulation.start + timedelta(days=400))
    notes = list(islice(simulation, 3))
    assert [note.type for note in notes] == ["note_made"] * 3
    assert [first.time, *(note.time for note in notes[:2])] == [simulation.start, moment, moment]
    assert notes[2].time == moment  # two events of that time were waiting
    assert next(simulation).type == "sprint_completed"


# ---- faults -------------------------------------------------------------------------------------------------------


def waiting_for_runners(events, simulation, hour):
    """How many pull requests or commits wait for a runner at this hour; each start tells how long it has waited."""
    at = simulation.start + timedelta(hours=hour)
    starts = [event for event in events if event.type == "pipeline_started"]
    return sum(e.time - timedelta(seconds=e.data["queued_s"]) <= at < e.time for e in starts)


def test_an_outage_of_the_runners_fails_what_runs_and_holds_what_comes():
    undisturbed, simulation = Simulation(BUSY, 7), Simulation(BUSY, 7)
    events = until(simulation, 1.0)
    while events[-1].type != "pipeline_started":
        events.append(next(simulation))
    simulation.send(Inject(fault=CiOutage(minutes=45)))
    events += until(simulation, 4.0)
    calm = until(undisturbed, 4.0)
    assert validate(events).ok
    begin = next(e for e in events if e.type == "fault_started")
    end = next(e for e in events if e.type == "fault_ended")
    assert end.time - begin.time == timedelta(minutes=45)
    assert end.cause == begin.id
    broken = [e for e in events if e.data.get("reason") == "infra"]
    assert broken
    assert {(e.type, e.time, e.cause) for e in broken} == {("pipeline_failed", begin.time, begin.id)}
    assert not [e for e in events if e.type == "pipeline_started" and begin.time < e.time < end.time]
    before_the_end = hours(simulation, end) - 0.001
    assert waiting_for_runners(events, simulation, before_the_end) > 5
    assert waiting_for_runners(calm, undisturbed, before_the_end) <= 1
    # What was broken is checked again, and hours later nobody waits any more.
    assert {e.data["commit"] for e in broken} <= {
        e.data["commit"] for e in events if e.type == "pipeline_started" and e.time >= end.time
    }
    assert waiting_for_runners(events, simulation, 3.5) <= 1


def test_two_outages_that_overlap_end_with_the_later_one():
    simulation = Simulation(BUSY, 7)
    events = until(simulation, 1.0)
    simulation.send(Inject(fault=CiOutage(minutes=30)))
    simulation.send(Inject(fault=CiOutage(minutes=60)))
    events += until(simulation, 3.0)
    begin = next(e for e in events if e.type == "fault_started")
    starts = [e.time for e in events if e.type == "pipeline_started" and e.time > begin.time]
    assert min(starts) == begin.time + timedelta(minutes=60)


def test_a_storm_brings_critical_issues_that_displace_others():
    few = DEMO.replace({"agents.developers": 2, "runs.calls.median": 30, "allow_overload": True})
    simulation = Simulation(few, 7)
    events = until(simulation, 0.5)
    simulation.send(Inject(fault=IncidentStorm(minutes=20, rate_factor=8)))
    events += until(simulation, 12.0)
    assert validate(events).ok
    begin, end = (next(e for e in events if e.type == f"fault_{word}") for word in ("started", "ended"))
    during = [e for e in events if e.type == "issue_created" and begin.time < e.time < end.time]
    others = [e for e in events if e.type == "issue_created" and not begin.time < e.time < end.time]
    assert len(during) > 20  # 32 expected, 4 without the storm
    assert {(e.data.get("priority"), e.cause) for e in during} == {("critical", begin.id)}
    assert {e.data.get("priority") for e in others} == {None}
    critical = {e.data["issue_id"] for e in during}
    displaced = [e for e in events if e.data.get("end_reason") == "cancelled"]
    assert displaced
    assert not critical & {e.data["issue_id"] for e in displaced}
    # Whoever was displaced is tried again when the storm is over.
    again = {e.data["issue_id"] for e in events if e.type == "agent_started" and e.time > end.time}
    assert again & {e.data["issue_id"] for e in displaced}


def test_in_a_brownout_calls_take_longer_and_fail_more_often():
    def calls(fault):
        simulation = Simulation(DEMO, 7)
        events = until(simulation, 0.2)
        if fault:
            simulation.send(Inject(fault=fault))
        events = until(simulation, 1.0)
        assert validate(events, partial=True).ok
        return [e.data for e in events if e.data.get("gen_ai.operation.name") == "chat"]

    def mean_s(of):
        durations = [call["duration_s"] for call in of if call["status"] == "ok"]
        return sum(durations) / len(durations)

    calm, brown = calls(None), calls(ProviderBrownout(minutes=60, latency_factor=4, error_share=0.3))
    assert mean_s(brown) / mean_s(calm) == pytest.approx(4, rel=0.25)
    overloaded = sum(call.get("error") == "overloaded" for call in brown)
    assert overloaded / len(brown) == pytest.approx(0.3, abs=0.08)
    assert not any(call.get("error") == "overloaded" for call in calm)


def test_a_fault_may_be_planned_by_the_scenario_or_by_a_command():
    planned = DEMO.replace({"faults": [{"kind": "ci_outage", "at_h": 0.5, "minutes": 6}]})
    commanded = Simulation(DEMO, 7)
    commanded.send(Inject(fault=CiOutage(at_h=0.5, minutes=6)))
    for simulation in (Simulation(planned, 7), commanded):
        events = until(simulation, 1.0)
        assert [(e.type, hours(simulation, e)) for e in events if e.type.startswith("fault")] == [
            ("fault_started", pytest.approx(0.5)),
            ("fault_ended", pytest.approx(0.6)),
        ]


# ---- decisions ----------------------------------------------------------------------------------------------------


def asked(simulation):
    return next(event for event in simulation if event.type == "approval_required")


SLOW_HUMANS = DEMO.replace({"approvals.gated_share": 1, "approvals.response_h.median": 1e4, "allow_overload": True})


@pytest.mark.parametrize(("decision", "outcome"), [("approved", "pr_merged"), ("rejected", "pr_closed")])
def test_a_decision_takes_the_place_of_the_simulated_human(decision, outcome):
    simulation = Simulation(SLOW_HUMANS, 7)
    question = asked(simulation)
    approval_id = question.data["approval_id"]
    simulation.send(Decide(approval_id=approval_id, decision=decision, by="ada", comment="seen"))
    answer = next(event for event in simulation if event.type == "approval_resolved")
    assert (
        answer.data.items()
        >= {"approval_id": approval_id, "decision": decision, "by": "ada", "comment": "seen"}.items()
    )
    assert answer.time == question.time
    end = next(event for event in simulation if event.data.get("pr_id") == question.data["pr_id"])
    assert (end.type, end.cause) == (outcome, answer.id)


def test_a_decision_comes_in_time_while_a_human_reviews():
    slow_review = SLOW_HUMANS.replace({"approvals.response_h.median": 1e-6, "approvals.review_min.median": 1e6})
    simulation = Simulation(slow_review.replace({"approvals.humans": 1}), 7)
    first, second = asked(simulation), asked(simulation)  # one is with the human, one waits for them
    for question in (second, first):
        simulation.send(Decide(approval_id=question.data["approval_id"], decision="approved", by="ada"))
    decided = [event for event in islice(simulation, 50) if event.type == "approval_resolved"]
    assert [e.data["approval_id"] for e in decided[:2]] == [second.data["approval_id"], first.data["approval_id"]]
    third = asked(simulation)  # the human is free again
    noticed = [event for event in islice(simulation, 3_000) if event.data.get("by", "").startswith("human")]
    assert not noticed
    assert third


def test_a_decision_that_stands_in_the_log_already_is_not_said_again():
    simulation = Simulation(SLOW_HUMANS, 7)
    question = asked(simulation)
    approval_id = question.data["approval_id"]
    simulation.send(Decide(approval_id=approval_id, decision="approved", by="ada", event_id="from-the-server"))
    answer = next(event for event in simulation if event.data.get("pr_id") == question.data["pr_id"])
    assert (answer.type, answer.cause, answer.data["approval_id"]) == ("pr_merged", "from-the-server", approval_id)


def test_nobody_can_decide_what_was_not_asked_or_is_decided():
    simulation = Simulation(SLOW_HUMANS, 7)
    approval_id = asked(simulation).data["approval_id"]
    with pytest.raises(CommandError, match=f"no approval 'approval-x' is pending .* pending: {approval_id}"):
        simulation.send(Decide(approval_id="approval-x", decision="approved", by="ada"))
    simulation.send(Decide(approval_id=approval_id, decision="approved", by="ada"))
    with pytest.raises(CommandError, match="pending: none"):
        simulation.send(Decide(approval_id=approval_id, decision="approved", by="ada"))
    assert len(simulation.commands) == 1
    with pytest.raises(ScenarioError, match="decision: "):
        Decide(approval_id=approval_id, decision="maybe", by="ada")
    for no_id in ("from the server", "x" * 129, "a\n"):
        with pytest.raises(ScenarioError, match="event_id: "):
            Decide(approval_id=approval_id, decision="approved", by="ada", event_id=no_id)


# ---- agents and events --------------------------------------------------------------------------------------------


def open_runs(events):
    """The most developer runs open at a time."""
    most, now = 0, 0
    for event in events:
        if event.data.get("role") == "developer":
            now += {"agent_started": 1, "agent_completed": -1, "agent_error": -1}.get(event.type, 0)
            most = max(most, now)
    return most


def test_agents_come_at_once_and_leave_after_their_run():
    simulation = Simulation(BUSY.replace({"agents.developers": 2}), 7)
    assert open_runs(until(simulation, 1.0)) == 2
    simulation.send(SetAgents(role="developer", count=6))
    more = until(simulation, 2.0)
    assert [e.data for e in more if e.type == "agents_changed"] == [{"role": "developer", "count": 6}]
    assert {e.data["agent_id"] for e in more if e.data.get("role") == "developer" and "agent_id" in e.data} == {
        f"developer-{number}" for number in range(1, 7)
    }
    simulation.send(SetAgents(role="developer", count=1))
    fewer = until(simulation, 3.0)
    starts = [e.data["agent_id"] for e in fewer if e.type == "agent_started" and e.data["role"] == "developer"]
    assert set(starts) == {"developer-1"}
    ends = Counter(e.data.get("end_reason") for e in fewer if e.type == "agent_error")
    assert ends["cancelled"] == 0


def test_an_injected_event_is_in_the_stream_and_a_bad_one_changes_nothing():
    simulation = Simulation(DEMO, 7)
    taken = list(islice(simulation, 100))
    for kind, data in (("Wrong", {}), ("agent_started", {}), ("note_made", {"text": "x" * 70_000})):
        with pytest.raises(EventError):
            simulation.send(Emit(type=kind, data=data))
    undisturbed = raw(islice(Simulation(DEMO, 7), 200))
    assert raw(taken) + raw(islice(simulation, 100)) == undisturbed
    simulation.send(Emit(type="note_made", data={"text": "here"}))
    note = next(event for event in simulation if event.type == "note_made")
    assert (note.data, note.simulation) == ({"text": "here"}, simulation.id)


def test_a_refused_command_at_a_later_time_spoils_nothing_that_comes_after_it():
    simulation = Simulation(DEMO, 7)
    events = list(islice(simulation, 50))
    soon = timedelta(milliseconds=1)  # before the next event
    for wrong in (Decide(approval_id="none", decision="approved", by="ada"), Emit(type="Wrong", data={})):
        with pytest.raises((CommandError, EventError)):
            simulation.send(wrong, events[-1].time + soon)
        simulation.send(Emit(type="note_made", data={}), events[-1].time)
        events += islice(simulation, 50)
    assert validate(events).ok
    assert raw(islice(Simulation(DEMO, 7, commands=simulation.commands), len(events))) == raw(events)


def test_with_several_projects_a_command_says_to_which():
    scenario = Scenario(name="two", projects=DEMO.for_project("apollo").projects + DEMO.for_project("hermes").projects)
    simulation = Simulation(scenario, 7)
    with pytest.raises(CommandError, match="to which project\\? There are apollo, hermes"):
        simulation.send(SetAgents(role="tester", count=1))
    with pytest.raises(CommandError, match="no project 'appollo'; did you mean 'apollo'"):
        simulation.send(SetAgents(role="tester", count=1, project="appollo"))


def test_what_is_no_command_or_no_time_is_refused_in_one_line():
    simulation = Simulation(DEMO, 7)
    command = SetAgents(role="tester", count=1)
    with pytest.raises(CommandError, match="the time must be a datetime with a time zone, such as 2026-01-05T09"):
        simulation.send(command, simulation.start.replace(tzinfo=None))
    with pytest.raises(CommandError, match="a command is Inject, Emit, Decide or SetAgents, not 1"):
        simulation.send(1)
    with pytest.raises(ScenarioError, match="commands: must be those of a steered simulation"):
        Simulation(DEMO, 7, commands=[1])
    assert simulation.commands == ()


def test_a_name_is_no_scenario_yet():
    for name in ("demo_small", Path("a.toml")):
        with pytest.raises(ScenarioError, match=re.escape(f"scenario: must be a Scenario: Scenario.load('{name}')")):
            Simulation(name, seed=1)
    with pytest.raises(ScenarioError, match=r"scenario: must be a Scenario: as Scenario\.load"):
        Simulation(None, seed=1)
    with pytest.raises(ScenarioError, match="start: must be a datetime with a time zone"):
        Simulation(DEMO, seed=1, start="2026-01-05")


def test_after_the_horizon_nothing_can_be_sent():
    simulation = Simulation(DEMO.replace(horizon_h=0.1), 7)
    with pytest.raises(CommandError, match="horizon"):
        list(simulation)
        simulation.send(SetAgents(role="tester", count=1), simulation.start + timedelta(hours=1))
