"""What load the settings let expect: by hand where it can be counted, beside simulations, and refused if too much."""

import math
import re
from collections import defaultdict
from statistics import mean, stdev

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from syndarix_rt.errors import ScenarioError
from syndarix_rt.simulation import Scenario, Simulation
from syndarix_rt.simulation.load import expected_load

# ---- by hand ------------------------------------------------------------------------------------------------------

PLAIN = """
horizon_h = 100
human_time_scale = 0.5
[issues]
rate_per_h = 4
[agents]
planners = 0
testers = 1
[runs]
calls = { law = "constant", value = 10 }
llm_s = { law = "constant", value = 6 }
tool_s = { law = "constant", value = 5 }
tools_per_call = 2
tool_error_share = 0
fatal_error_share = 0
append_tokens = { law = "constant", value = 1_000 }
output_tokens = { law = "constant", value = 100 }
first_context_tokens = 10_000
cache_hit_share = 0.5
[changes]
rework_share = 0
reviewed_share = 0.25
[pipelines]
fail_after_success_share = 0
success_min = { law = "constant", value = 3 }
[approvals]
gated_share = 0.75
review_min = { law = "constant", value = 10 }
"""


def loads(text=PLAIN, **changes):
    scenario = Scenario.from_toml(text).replace(changes, allow_overload=True)
    return {load.queue: load for load in expected_load(scenario)}


def per_issue(queue="agents.developer", **changes):
    return loads(**changes)[queue].rate_per_h / 4


def test_a_load_that_can_be_counted_by_hand():
    plain = loads()
    assert list(plain) == ["agents.developer", "agents.tester", "agents.reviewer", "runners", "humans"]
    figures = {name: (load.rate_per_h, load.service_s, load.servers) for name, load in plain.items()}
    assert figures["agents.developer"] == pytest.approx((4, 10 * (6 + 2 * 5), 5))
    assert figures["agents.tester"] == pytest.approx((1, 5 * 16, 1))
    assert figures["agents.reviewer"] == pytest.approx((1, 4 * 16, 1))  # 3.5 calls, which rounds to 4
    assert figures["runners"] == pytest.approx((4, 180, 4))
    assert figures["humans"] == pytest.approx((3, 300, 2))
    assert plain["runners"].rho == pytest.approx(4 * 180 / 3600 / 4)
    assert plain["runners"].slope_per_h == 0


def test_attempts_end_with_success_or_at_the_cap():
    assert per_issue(**{"changes.rework_share": 0.5}) == pytest.approx((1 - 0.5**8) / 0.5)
    assert per_issue(**{"changes.rework_share": 1, "changes.runs_max": 3}) == pytest.approx(3)
    red = {"pipelines.fail_after_success_share": 0.2, "pipelines.fail_after_failure_share": 0.6}  # one in three
    assert per_issue(**red, **{"changes.runs_max": 1000}) == pytest.approx(1.5)
    assert per_issue(**red, **{"pipelines.fix_share": 0}) == pytest.approx(1)
    assert per_issue("humans", **red, **{"pipelines.fix_share": 0}) == pytest.approx(0.75 * 2 / 3)


def test_runs_that_fail_are_counted_as_far_as_they_come():
    cut = loads(**{"runs.calls_max": 5})
    assert cut["agents.developer"].rate_per_h == pytest.approx(8 * 4)
    assert cut["agents.developer"].service_s == pytest.approx(5 * 16)
    assert cut["runners"].rate_per_h == 0
    fatal = loads(**{"runs.fatal_error_share": 1, "runs.retries_max": 2, "runs.tools_per_call": 0})
    assert fatal["agents.developer"].service_s == pytest.approx(2 + 4)
    retried = loads(**{"runs.tool_error_share": 0.5, "runs.retries_max": 1, "runs.backoff_s": 3})
    assert retried["agents.developer"].rate_per_h > 8 * 3.9  # two failures in a row are likely in 20 tool calls


def test_what_changes_in_time_is_averaged_over_the_horizon():
    assert loads(**{"issues.shape": [{"from_h": 50, "factor": 3}]})["agents.developer"].rate_per_h == pytest.approx(8)
    calendar = {"issues.calendar.weekdays": [1, 1, 1, 1, 1, 0, 0], "issues.calendar.hours": [0.5] * 12 + [1.5] * 12}
    assert loads(**calendar)["agents.developer"].rate_per_h == pytest.approx(4 * 5 / 7)
    replay = {"issues.arrivals": {"process": "replay", "times_h": [0, 1, 2, 99, 101]}}
    assert loads(**replay)["agents.developer"].rate_per_h == pytest.approx(4 / 100)
    assert loads(**{"agents.steps": [{"at_h": 20, "developers": 10}]})["agents.developer"].servers == pytest.approx(9)
    office = loads(**{"approvals.office": {"from_h": 9, "to_h": 17}})
    assert office["humans"].servers == pytest.approx(2 * 40 / 168)


def test_a_provider_counts_calls_and_the_tokens_that_it_has_not_cached():
    limits = {"provider.tokens_per_min": 100_000, "provider.requests_per_min": 60, "agents.testers": 0}
    limited = loads(**limits, **{"agents.reviewers": 0})
    assert limited["provider.requests"].rate_per_h == pytest.approx(40)
    assert limited["provider.requests"].rho == pytest.approx(40 / 3600)
    contexts = [10_000 + 1_100 * call - 1_000 for call in range(1, 10)]  # what the later calls find
    tokens = 10_100 + sum(0.5 * context + 1_100 for context in contexts)
    assert limited["provider.tokens"].rate_per_h == pytest.approx(4 * tokens)
    window = loads(**limits, **{"agents.reviewers": 0, "runs.window_tokens": 11_000})
    assert window["provider.tokens"].rate_per_h == pytest.approx(4 * 10 * 10_100)  # compacted before every call


# ---- beside simulations -------------------------------------------------------------------------------------------

SHORT = {"runs.calls.median": 6, "horizon_h": 150, "issues.rate_per_h": 8, "issues.initial": 0, "changes.runs_max": 4}
SIMULATED = {
    "demo_small": SHORT,
    "steady_sprint": SHORT | {"changes.reviewed_share": 1},
    "error_cascade": SHORT | {"runs.calls_max": 8, "runs.fatal_error_share": 0.02, "provider.error_share": 0.3},
    "long_context": SHORT | {"pipelines.fix_share": 0.5, "runs.retries_max": 0},
}


@pytest.mark.parametrize("name", SIMULATED)
def test_simulations_are_as_loaded_as_expected(name):
    scenario = Scenario.preset(name).replace(SIMULATED[name], allow_overload=True)
    expected = {load.queue: load for load in expected_load(scenario)}
    took_s = defaultdict(list)
    for event in Simulation(scenario, 5):
        match event.type:
            case "agent_completed" | "agent_error":
                took_s[f"agents.{event.data['role']}"].append(event.data["duration_s"])
            case "pipeline_completed" | "pipeline_failed":
                took_s["runners"].append(event.data["duration_s"])
            case "approval_resolved":
                took_s["humans"].append(event.data["busy_s"])
            case "issue_created":
                took_s["issues"].append(0)
    issues = len(took_s.pop("issues"))
    assert issues > 1_000
    assert expected.keys() == took_s.keys()
    for queue, load in expected.items():
        taken = took_s[queue]
        noise = 1 / math.sqrt(len(taken))
        # Four standard errors: numbers vary somewhat more than Poisson's, since red pipelines come in streaks.
        assert len(taken) / issues == pytest.approx(load.rate_per_h / 8, rel=4 * 1.3 * noise), queue
        assert mean(taken) == pytest.approx(load.service_s, abs=4 * stdev(taken) * noise), queue


# ---- too much -----------------------------------------------------------------------------------------------------


def test_a_scenario_that_cannot_keep_up_is_refused_with_remedies():
    with pytest.raises(ScenarioError) as caught:
        Scenario.from_toml("issues.rate_per_h = 20")
    assert re.fullmatch(
        r"agents\.developers: is too little for the queue 'agents\.developer': rho is 1\.80, so its backlog grows by "
        r"21 per h; raise it to 10, lower issues\.rate_per_h to 10, or allow_overload = true",
        str(caught.value),
    )


def test_a_scenario_may_be_overloaded_if_it_says_so():
    scenario = Scenario.from_toml("allow_overload = true\nissues.rate_per_h = 20")
    worst = max(expected_load(scenario), key=lambda load: load.rho)
    assert worst.slope_per_h == pytest.approx(worst.rate_per_h - worst.servers * 3600 / worst.service_s)
    with pytest.raises(ScenarioError, match=r"agents\.developers: is too little"):
        scenario.replace(allow_overload=False)
    with pytest.raises(ScenarioError, match=r"projects\.b\.agents\.developers: is too little"):
        Scenario.from_toml("[[projects]]\nname='a'\n[[projects]]\nname='b'\nissues.rate_per_h = 20")


def test_a_replay_has_no_rate_that_could_be_lowered():
    with pytest.raises(ScenarioError, match=r"raise it to \d+, or allow_overload = true"):
        Scenario.from_toml("horizon_h = 1\nissues.arrivals = { process = 'replay', times_h = [" + "0.1, " * 40 + "] }")


@settings(deadline=None, max_examples=25)
@given(
    st.floats(0.01, 500),
    st.integers(1, 5),
    st.fixed_dictionaries(
        {},
        optional={
            "provider.requests_per_min": st.integers(1, 500),
            "provider.tokens_per_min": st.integers(1_000, 10**6),
            "approvals.office": st.just({"from_h": 9, "to_h": 17}),
            "runs.tool_error_share": st.sampled_from([0.1, 0.6]),
        },
    ),
)
def test_the_remedies_help(rate_per_h, servers, changes):
    changes |= {"issues.rate_per_h": rate_per_h, "agents.developers": servers, "pipelines.runners": servers}
    for _ in range(20):  # one queue after the other
        try:
            Scenario.preset("steady_sprint").replace(changes)
        except ScenarioError as error:
            text, setting = str(error), error.path
        else:
            return
        rate = float(re.search(r"lower issues\.rate_per_h to (\S+),", text)[1])
        Scenario.preset("steady_sprint").replace(changes | {"issues.rate_per_h": rate})
        changes[setting] = int(re.search(r"raise it to ([\d,]+)", text)[1].replace(",", ""))
    pytest.fail("more remedies than queues")
