"""From what real agents reported to a scenario that simulates their team."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from itertools import islice

import pytest

from syndarix_rt.events import Event
from syndarix_rt.simulation import Scenario, Simulation, compare, events_frame, fit, validate

TRUTH = Scenario.preset("steady_sprint").replace(
    {
        "agents.developers": 4,
        "agents.planners": 0,
        "issues.rate_per_h": 4,
        "human_time_scale": 0.05,
        "runs.llm_s": {"law": "lognormal", "median": 3, "sigma": 0.6},
        "runs.output_tokens": {"law": "lognormal", "median": 90, "sigma": 0.7},
        "runs.model": "gpt-5",
    }
)


def as_reported(event):
    """As a reporter tells it: its own words for roles, and nothing of what only a simulation knows."""
    data = {key: value for key, value in event.data.items() if key not in ("prefix_tokens", "append_tokens")}
    if data.get("role") == "developer":
        data["role"] = "coder"
    return Event.new(
        event.type, data, project=event.project, id=event.id, time=event.time, source=event.source, cause=event.cause
    )


@pytest.fixture(scope="module")
def reported():
    return [as_reported(event) for event in islice(Simulation(TRUTH, seed=3), 30_000)]


def test_the_team_is_found_again(reported):
    assert validate(reported).ok
    scenario = fit(reported, name="team").scenario
    (project,) = scenario.projects
    agents = project.agents
    assert (agents.planners, agents.developers, agents.testers, agents.reviewers) == (0, 4, 1, 1)
    assert project.runs.model == "gpt-5"
    assert project.human_time_scale == 1
    created = [event for event in reported if event.type == "issue_created"]
    hours = (reported[-1].time - reported[0].time) / timedelta(hours=1)
    assert project.issues.rate_per_h == pytest.approx(len(created) / hours)
    assert project.runs.llm_s.median == pytest.approx(3, rel=0.05)
    assert project.runs.append_tokens.median == pytest.approx(875, rel=0.05)  # what a prompt has beyond the one before
    assert Scenario.from_toml(scenario.to_toml()).projects == scenario.projects  # it can be kept in a file


def test_a_frame_tells_as_much_of_the_team(reported):
    some = reported[:3_000]
    assert fit(events_frame(some)).scenario == fit(some).scenario


def test_what_it_simulates_is_like_what_was_reported(reported):
    scenario = fit(reported, name="team").scenario
    simulated = list(islice(Simulation(scenario, seed=4), 30_000))
    assert validate(simulated).ok
    distances = {each.name: each for each in compare(reported, simulated).samples}
    for name in ("llm.call_duration_s", "llm.call_output_tokens", "llm.call_input_tokens", "tools.call_duration_s"):
        assert distances[name].ks < 0.05, name
    for name in ("runs.duration_min", "runs.input_tokens", "runs.output_tokens", "pipelines.duration_min"):
        assert distances[name].ks < distances[name].ks_chance + 0.02, name


def told(kind, second, **data):
    time = datetime.fromtimestamp(1_790_000_000 + second, UTC)
    return Event.new(kind, data, project="apollo", id=f"event-{second}-{kind}-{data['run_id']}", time=time)


def test_agents_alone_are_enough_for_a_team():
    """As OpenTelemetry tells it: runs and calls, and nothing of issues and changes."""
    events = []
    for number in range(24):
        who = {"run_id": f"run-{number}", "agent_id": f"coder-{number % 3}", "role": "Coder"}
        start = 600 * number
        for second, kind, more in [
            (0, "agent_started", {}),
            *[
                (
                    100 * call,
                    "agent_activity",
                    {
                        "gen_ai.operation.name": "chat", "gen_ai.request.model": "gpt-5",
                        "gen_ai.usage.input_tokens": 1_000 + 500 * call, "gen_ai.usage.output_tokens": 40 + number,
                        "duration_s": 2.0 + number / 10,
                    },
                )
                for call in (1, 2, 3)
            ],
            (1_500, "agent_completed", {"end_reason": "completed"}),
        ]:  # fmt: skip
            events.append(told(kind, start + second, **who, **more))
    events.sort(key=lambda event: event.time)
    assert validate(events).ok
    profile = fit(events, name="otel")
    (project,) = profile.scenario.projects
    assert project.agents.developers == 3  # runs of 1,500 s, one begun every 600 s
    assert (project.agents.planners, project.agents.testers, project.agents.reviewers) == (0, 0, 0)
    hours = (events[-1].time - events[0].time) / timedelta(hours=1)
    assert project.issues.rate_per_h == pytest.approx(24 / hours)
    assert project.runs.calls.mean() == pytest.approx(3, rel=0.1)
    assert json.loads(next(iter(Simulation(profile.scenario, seed=1))).encode())["type"]


def test_a_profile_from_a_file_makes_a_scenario_too(tmp_path, reported):
    (tmp_path / "team.toml").write_text(fit(reported, name="team").to_toml(), encoding="utf-8")
    scenario = Scenario.from_toml(f'name = "a"\nprofile = "{tmp_path / "team.toml"}"')
    assert scenario.projects[0].runs.llm_s.median == pytest.approx(3, rel=0.05)
