"""Every preset shows what it promises, as far as theory says how much.

Bounds on what chance decides are four standard deviations of the measured number, worked out beside each: right for all
but one seed in 16,000. A scenario and its variant have the same seed, so they have the same issues and the same luck.
"""

import gc
import math
from collections import Counter, defaultdict
from datetime import timedelta
from itertools import islice

import numpy as np
import pytest
from scipy import stats

from syndarix_rt import Scenario, Simulation, validate
from syndarix_rt.simulation import Inject, presets, replay
from syndarix_rt.simulation.analysis.queues import Queues
from syndarix_rt.simulation.analysis.summary import Summary
from syndarix_rt.simulation.analysis.theory import (
    backlog_slope_per_h,
    drain_time_h,
    mean_failure_streak,
    stationary_failure_share,
    token_bucket_limit,
)
from syndarix_rt.simulation.calendar import WeeklyWeights
from syndarix_rt.simulation.issue import IssueLife
from syndarix_rt.simulation.load import expected_load
from syndarix_rt.simulation.settings import PoissonArrivals
from syndarix_rt.simulation.simulation import START

# One LLM call a run: for tests of what happens to issues, pull requests, pipelines and approvals, in fewer events.
SHORT_RUNS = {"runs.calls": {"law": "constant", "value": 1}, "runs.tools_per_call": 0}
UNDISTURBED = {"faults": []}


def preset(name, changes=None):
    return Scenario.preset(name).replace(changes or {})


def simulate(scenario, hours, seed=7):
    return list(Simulation(scenario.replace(horizon_h=hours), seed))


def metrics(scenario, hours, seed=7, *, warmup_h=0):
    summary = Summary(scenario=scenario, warmup_h=warmup_h)
    for event in Simulation(scenario.replace(horizon_h=hours), seed):
        summary.feed(event)
    return summary.metrics()


def hour(event):
    return (event.time - START) / timedelta(hours=1)


def times_h(events, *types):
    return np.array([hour(event) for event in events if event.type in types])


def visits_h(events, name):
    """Arrival, start and end of each visit to a queue, in hours; the end of one that goes on is infinite."""
    queues = Queues()
    for event in events:
        queues.feed(event, 3600 * hour(event))
    arrived, started, ended = queues.merged()[name].visits
    return arrived / 3600, started / 3600, np.where(np.isnan(ended), math.inf, ended / 3600)


def waiting(events, name, at_h):
    arrived, started, _ = visits_h(events, name)
    return int(((arrived <= at_h) & (at_h < started)).sum())


def load(scenario, queue):
    return next(load for load in expected_load(scenario) if load.queue == queue)


@pytest.mark.parametrize("name", presets())
def test_a_preset_gives_a_possible_stream(name):
    assert str(validate(islice(Simulation(preset(name), 7), 20_000))).endswith(" events, 0 violations")


# ---- everyday -----------------------------------------------------------------------------------------------------


def test_steady_sprint_keeps_agents_at_18_percent_and_closes_what_arrives():
    scenario = preset("steady_sprint")
    assert load(scenario, "agents.developer").rho == pytest.approx(0.18, abs=0.005)
    seen = metrics(scenario, 200, warmup_h=40)
    # The work of an issue has a coefficient of variation of 0.9, so that of n of them varies by sqrt((1 + 0.9²) / n).
    noise = math.sqrt(1.8 / seen["issues.created"])
    assert seen["queues.agents.developer.utilisation"] == pytest.approx(0.18, rel=4 * noise)
    assert seen["queues.runners.utilisation"] < 0.3
    # They differ by what the backlog has grown: the difference of two numbers of about its mean.
    grown = 4 * math.sqrt(2 * seen["issues.backlog_mean"])
    assert seen["issues.closed"] == pytest.approx(seen["issues.created"], abs=grown)


def test_calibrated_has_the_arrivals_the_streaks_and_the_outcomes_that_were_measured():
    weeks, scenario = 10, preset("calibrated", SHORT_RUNS)
    (project,) = scenario.projects
    assert project.human_time_scale == 1
    events = simulate(scenario, 168 * weeks)
    created = 3600 * times_h(events, "issue_created")
    # Weekend: with a calendar, 1.3 / 7 of the arrivals. Their variance is that of Poisson times the squared
    # coefficient of variation of the gaps, 2.33² for the shape 0.47.
    weights = WeeklyWeights(project.issues.calendar, START)
    weekend = np.isin([(START + timedelta(seconds=t_s)).weekday() for t_s in created], (5, 6)).sum()
    expected = weeks * 168 * project.issues.rate_per_h * 1.3 / 7
    assert weekend == pytest.approx(expected, abs=4 * 2.33 * math.sqrt(expected))
    assert weekend + 4 * 2.33 * math.sqrt(expected) < len(created) * 2 / 7
    # Without the calendar's part, gaps follow the Weibull law; 1.95 / sqrt(n) is what one sample in 1,000 exceeds.
    hourly = np.cumsum([0.0, *(weights.at(3600.0 * h) for h in range(168 * weeks + 1))])
    gaps = np.diff(np.interp(created / 3600, np.arange(len(hourly)), hourly))
    law = stats.weibull_min(0.47, scale=gaps.mean() / math.gamma(1 + 1 / 0.47))
    assert stats.kstest(gaps, law.cdf).statistic < 1.95 / math.sqrt(len(gaps))
    summary = Summary()
    for event in events:
        summary.feed(event)
    seen = summary.metrics()
    pipelines = seen["pipelines.ended"]
    for after, share, stationary in (("failure", 0.64, 0.28), ("success", 0.14, 0.72)):
        noise = math.sqrt(share * (1 - share) / (pipelines * stationary))
        assert seen[f"pipelines.fail_after_{after}_share"] == pytest.approx(share, abs=4 * noise)
    # 0.519 of real pull requests are merged and 0.372 closed; here a few more are given up after eight runs.
    ended = seen["changes.prs_merged"] + seen["changes.prs_closed"]
    assert seen["changes.merged_share"] == pytest.approx(0.519 / 0.891, abs=0.02 + 4 * 0.5 / math.sqrt(ended))


def test_replay_repeats_what_calibrated_recorded():
    recorded = replay(Simulation(preset("calibrated").replace(horizon_h=48), seed=7), most=200)
    scenario = preset("replay")
    (project,) = scenario.projects
    given_h = np.array(project.issues.arrivals.times_h)
    assert given_h == pytest.approx(np.array(recorded["issues.arrivals"]["times_h"]), abs=1e-4)
    events = list(Simulation(scenario, 8))
    assert times_h(events, "issue_created") == pytest.approx(given_h, abs=1e-6)
    calls = [event.data for event in events if event.data.get("gen_ai.operation.name") == "chat"]
    answered = [call for call in calls if call["status"] == "ok"]
    grown = [call for call in answered if call["prefix_tokens"]]
    for name, key, of in (
        ("append_tokens", "append_tokens", grown),
        ("output_tokens", "gen_ai.usage.output_tokens", answered),
    ):
        law = getattr(project.runs, name)
        values = recorded[f"runs.{name}"]["values"]
        assert list(law.values) == values
        drawn = [call[key] for call in of]
        assert set(drawn) == set(values)
        # 1.95 / sqrt(n) is what one sample in 1,000 exceeds.
        share = np.searchsorted(np.sort(drawn), values, "right") / len(drawn)
        assert np.abs(law.cdf(values) - share).max() < 1.95 / math.sqrt(len(drawn))


def test_idle_is_silent_in_most_hours():
    events = simulate(preset("idle"), 400)
    created = len(times_h(events, "issue_created"))
    assert created == pytest.approx(20, abs=4 * math.sqrt(20))
    assert len({int(hour(event)) for event in events}) < 0.3 * 400


def test_multi_tenant_gives_five_of_fifty_half_of_the_work():
    events = simulate(preset("multi_tenant", SHORT_RUNS), 20)
    issues = Counter(event.project for event in events if event.type == "issue_created")
    assert len({event.project for event in events}) == 50
    top = sum(count for _, count in issues.most_common(5)) / issues.total()
    # The largest five that were seen are hardly ever others than those of the largest rates, 50.7 %.
    assert top == pytest.approx(0.507, abs=4 * 0.5 / math.sqrt(issues.total()))


def test_a_tenant_that_leaves_changes_no_byte_of_the_others():
    def others(scenario):
        # The id of the simulation is that of the whole scenario.
        return [
            event.encode().replace(event.simulation.encode(), b"")
            for event in simulate(scenario, 2)
            if event.project != "tenant-02"
        ]

    scenario = preset("multi_tenant")
    left = scenario.replace(projects=[tenant for tenant in scenario.projects if tenant.name != "tenant-02"])
    assert len(others(left)) > 5_000
    assert others(left) == others(scenario)


def test_firehose_keeps_few_issues_and_objects_alive():
    simulation = Simulation(preset("firehose"), 7)
    issues, objects = [], []
    for _ in range(3):
        assert sum(1 for _ in islice(simulation, 50_000)) == 50_000
        gc.collect()
        alive = gc.get_objects()
        objects.append(len(alive))
        issues.append(sum(isinstance(each, IssueLife) for each in alive))
    assert max(issues) < 400  # of 3,000 that have arrived; on average there are some 190
    assert objects[2] - objects[0] < 2_500  # one object for every fortieth event would be as many


# ---- more work than usual -----------------------------------------------------------------------------------------


def test_bursty_arrivals_pile_up_more_work_than_poisson_arrivals_of_the_same_rate():
    scenario = preset("bursty_arrivals")
    poisson = scenario.replace({"issues.arrivals": PoissonArrivals()})
    assert load(scenario, "agents.developer") == load(poisson, "agents.developer")
    bursty, steady = ([metrics(each, 30, seed) for seed in range(5)] for each in (scenario, poisson))
    peaks, waits_s = (
        np.array([[seen[name] for seen in each] for each in (bursty, steady)])
        for name in ("issues.backlog_max", "queues.agents.planner.wait_mean_s")
    )
    # From seed to seed the difference of the peaks, 13 on average, varies by 11; that of the waits is far larger.
    assert peaks[0].mean() > peaks[1].mean()
    assert waits_s[0].mean() > 4 * waits_s[1].mean()
    assert (waits_s[0] > waits_s[1]).all()


def test_incident_storm_leaves_a_queue_that_drains_as_fast_as_planners_have_time_left():
    seeds, scenario = 20, preset("incident_storm")
    planner = load(preset("incident_storm", UNDISTURBED), "agents.planner")
    per_h, service_h = planner.rate_per_h, planner.service_s / 3600
    numbers, drained, displaced = [], [], 0
    for seed in range(seeds):
        events = simulate(scenario, 5, seed)
        arrived, _, ended = visits_h(events, "agents.planner")
        moments = np.arange(2.5, 5, 0.01)
        there = [((arrived <= moment) & (moment < ended)).sum() for moment in moments]
        numbers.append(there[0])
        drained.append(np.argmin(there) * 0.01)
        assert min(there) == 0
        displaced += sum(event.data.get("end_reason") == "cancelled" for event in events)
        storm = [event for event in events if event.type == "issue_created" and 2 <= hour(event) <= 2.5]
        assert {event.data.get("priority") for event in storm} <= {"critical"}
    # Arrivals of half an hour at 20 times the rate, less what one planner does in it: both vary as Poisson numbers.
    excess = 0.5 * backlog_slope_per_h(20 * per_h, service_h, 1)
    noise = math.sqrt((20 * per_h + 1 / service_h) * 0.5 / seeds)
    assert np.mean(numbers) == pytest.approx(excess, abs=4 * noise)
    # From n to none takes n first passages from one to none, whose coefficient of variation is about 1.
    per_passage_h = drain_time_h(1, per_h, service_h, 1)
    expected = np.mean(numbers) * per_passage_h
    assert np.mean(drained) == pytest.approx(expected, abs=4 * per_passage_h * math.sqrt(np.mean(numbers) / seeds))
    assert displaced


def test_swarm_scale_up_ends_at_the_runners_however_many_developers_there_are():
    scenario, seeds = preset("swarm_scale_up"), 3
    developers = {0: 4, 1: 16, 2: 64, 3: 64, 4: 64, 5: 64}
    checked, agents_busy, runners_busy = (defaultdict(list) for _ in range(3))
    for seed in range(seeds):
        events = simulate(scenario, 6, seed)
        ended = times_h(events, "pipeline_completed", "pipeline_failed")
        _, run_from, run_to = visits_h(events, "agents.developer")
        _, pipeline_from, pipeline_to = visits_h(events, "runners")
        for h, there in developers.items():
            checked[h].append(((h <= ended) & (ended < h + 1)).sum())
            agents_busy[h].append(busy(run_from, run_to, h) / there)
            runners_busy[h].append(busy(pipeline_from, pipeline_to, h) / 4)
    busiest = {h: (np.mean(agents_busy[h]), np.mean(runners_busy[h])) for h in developers}
    assert busiest[0][0] > 0.8  # four developers are the bottleneck
    assert busiest[0][1] < 0.5
    assert min(busiest[1]) > 0.75  # sixteen are about as many as the runners can check
    for h in (2, 3, 4, 5):  # sixty-four wait for the runners
        assert busiest[h][0] < 0.35
        assert busiest[h][1] > 0.99
    per_h = 4 / (load(scenario, "runners").service_s / 3600)
    later = [np.mean(checked[h]) for h in (2, 3, 4, 5)]
    # Service times have a coefficient of variation below 2, mostly from red pipelines.
    assert np.mean(later) == pytest.approx(per_h, abs=4 * 2 * math.sqrt(per_h / (4 * seeds)))
    assert np.mean(checked[1]) > 2 * np.mean(checked[0])  # four times as many agents help
    assert np.mean(later) < 1.5 * np.mean(checked[1])  # and four times as many again hardly do


def busy(started, ended, h):
    """How many are busy in an hour, on average."""
    return np.maximum(np.minimum(ended, h + 1) - np.maximum(started, h), 0).sum()


# ---- CI -----------------------------------------------------------------------------------------------------------


def test_ci_outage_holds_what_would_have_been_checked_and_the_queue_empties_as_computed():
    scenario, seeds = preset("ci_outage"), 8
    calm = scenario.replace(UNDISTURBED)
    runners = load(scenario, "runners")
    held, emptied = [], []
    for seed in range(seeds):
        disturbed, undisturbed = simulate(scenario, 5, seed), simulate(calm, 5, seed)
        asked, started, ended = visits_h(undisturbed, "runners")
        would_begin = ((asked >= 3) & (asked < 3.75)).sum()
        broken = ((started < 3) & (ended > 3)).sum()
        held.append(waiting(disturbed, "runners", 3.75 - 1e-6))
        assert held[-1] == would_begin + broken
        assert waiting(undisturbed, "runners", 3.75 - 1e-6) == 0
        asked, started, ended = visits_h(disturbed, "runners")
        moments = np.arange(3.75, 4.8, 0.005)
        queue = [((asked <= moment) & (moment < started)).sum() for moment in moments]
        emptied.append(np.argmin(queue) * 0.005)
        assert queue[-1] == 0
    # λ x 0.75 h, and those that ran when the outage began.
    expected = runners.rate_per_h * (0.75 + runners.service_s / 3600)
    assert np.mean(held) == pytest.approx(expected, abs=4 * math.sqrt(expected / seeds))
    # All but four, which start at once, at the rate that the runners have left.
    waits = drain_time_h(np.mean(held) - 4, runners.rate_per_h, runners.service_s / 3600, 4)
    noise = math.sqrt(np.mean(held) / seeds) / (4 / (runners.service_s / 3600) - runners.rate_per_h)
    assert np.mean(emptied) == pytest.approx(waits, abs=4 * noise)


def test_ci_outage_is_the_same_when_it_is_injected():
    scenario = preset("ci_outage")
    (fault,) = scenario.projects[0].faults
    planned, injected = Simulation(scenario, 7), Simulation(scenario.replace(UNDISTURBED), 7)
    injected.send(Inject(fault=fault))
    for one, other in islice(zip(planned, injected, strict=True), 10_000):
        assert one.encode().replace(planned.id.encode(), injected.id.encode()) == other.encode()
    assert hour(one) > 4


def test_ci_flaky_is_red_as_often_as_the_chain_but_not_in_streaks():
    for name, after_failure in (("ci_flaky", 0.28), ("steady_sprint", 0.64)):
        ended = [
            (hour(event) - event.data["duration_s"] / 3600, event.type == "pipeline_failed")
            for event in simulate(preset(name, SHORT_RUNS), 600)
            if event.type in ("pipeline_completed", "pipeline_failed")
        ]
        red = np.array([failed for _, failed in sorted(ended)])
        assert stationary_failure_share(0.14, 0.64) == pytest.approx(0.28)
        correlation = after_failure - (0.14 if name == "steady_sprint" else 0.28)
        noise = math.sqrt(0.28 * 0.72 * (1 + correlation) / (1 - correlation) / len(red))
        assert red.mean() == pytest.approx(0.28, abs=4 * noise)
        streaks = np.diff(np.flatnonzero(np.diff(np.concatenate([[0], red, [0]]))))[::2]
        longer = [(streaks > length).sum() / (streaks >= length).sum() for length in (1, 2)]
        for length, share in enumerate(longer, start=1):
            n = (streaks >= length).sum()
            assert share == pytest.approx(after_failure, abs=4 * 0.5 / math.sqrt(n))
        mean = mean_failure_streak(after_failure)
        assert streaks.mean() == pytest.approx(mean, abs=4 * mean * math.sqrt(after_failure / len(streaks)))


# ---- people -------------------------------------------------------------------------------------------------------


def test_approval_bottleneck_keeps_up_by_day_and_falls_behind_by_the_week():
    scenario = preset("approval_bottleneck", SHORT_RUNS)
    humans = load(scenario, "humans")
    open_share = 40 / 168
    assert humans.rho * open_share == pytest.approx(0.83, abs=0.005)
    events = simulate(scenario, 168)
    asked, resolved = times_h(events, "approval_required"), times_h(events, "approval_resolved")
    assert len(resolved) == pytest.approx(6 * 40, abs=4 * math.sqrt(6 * 40 * math.expm1(1)))  # reviews have Cs² = e - 1
    noise = math.sqrt(5 * 168 + 6 * 40 * math.expm1(1))
    slope_per_h = backlog_slope_per_h(5, 1 / 6 / open_share, 1)
    assert slope_per_h == pytest.approx(humans.slope_per_h, rel=0.01)
    assert len(asked) - len(resolved) == pytest.approx(168 * slope_per_h, abs=4 * noise)
    # It begins on a Monday at 9, so days end at 8 h, and a review that is not done by then pauses.
    assert ((resolved % 24) <= 8).all()
    at_17, next_9 = ((asked < h).sum() - (resolved < h).sum() for h in (8, 24))
    assert at_17 < 20
    assert next_9 - at_17 == pytest.approx(16 * 5, abs=4 * math.sqrt(16 * 5))


def test_night_and_weekend_pile_up_approvals_that_office_hours_work_off():
    scenario = preset("night_and_weekend", SHORT_RUNS)
    events = simulate(scenario, 168)
    resolved = [event.time for event in events if event.type == "approval_resolved"]
    assert len(resolved) > 100
    for time in resolved:
        assert time.weekday() < 5
        assert 9 <= time.hour + time.minute / 60 < 17
    asked, answered = times_h(events, "approval_required"), times_h(events, "approval_resolved")
    pending = [(asked < h).sum() - (answered < h).sum() for h in range(169)]
    nights = [pending[24 * day] - pending[24 * day - 16] for day in (1, 2, 3, 4)]
    assert min(nights) > 5
    assert pending[168 - 1] - pending[4 * 24 + 8] > max(nights)  # the weekend
    days = [pending[24 * day + 8] - pending[24 * day] for day in (1, 2, 3, 4)]
    assert np.mean(days) < 0.3 * np.mean(nights)


# ---- the provider, tokens and tools -------------------------------------------------------------------------------


def test_rate_limited_llm_is_clamped_at_the_limit_in_every_window():
    scenario = preset("rate_limited_llm")
    limits = scenario.projects[0].provider
    events = simulate(scenario, 2)
    tries = [event.data for event in events if event.data.get("gen_ai.operation.name") == "chat"]
    # A call is let in when it begins. What is read from the cache does not count.
    rows = sorted(
        (
            60 * hour(event) - event.data["duration_s"] / 60,
            event.data["gen_ai.usage.input_tokens"]
            - event.data["cached_tokens"]
            + event.data["gen_ai.usage.output_tokens"],
        )
        for event in events
        if event.data.get("gen_ai.operation.name") == "chat" and event.data["status"] == "ok"
    )
    at_min, tokens = np.array(rows).T
    for amounts, per_min in ((tokens, limits.tokens_per_min), (np.ones(len(tokens)), limits.requests_per_min)):
        # The most that any window let in beyond the limit times its length; calls that still go on are not seen.
        beyond = np.cumsum(amounts) - per_min * at_min
        excess = max(beyond - np.minimum.accumulate(beyond - amounts))
        assert excess <= token_bucket_limit(per_min, per_min * limits.burst, 1e-6)
    assert load(scenario, "provider.tokens").rho > 2
    busy_min = at_min[-1] - 20
    assert tokens[at_min > 20].sum() / busy_min > 0.9 * limits.tokens_per_min
    refused = [call for call in tries if call.get("retry_after_s")]
    assert len(refused) > 0.05 * len(tries)
    assert all(call["error"] == "rate_limited" and call["status"] == "error" for call in refused)
    assert all(call["backoff_s"] >= call["retry_after_s"] for call in refused if call["attempt"] <= 6)
    assert [call for call in tries if call["status"] == "ok" and call["attempt"] > 1]


def test_provider_brownout_makes_runs_long_and_is_the_only_reason_of_errors():
    def runs(scenario):
        minutes, ended, calls, llm_h = [], Counter(), Counter(), 0.0
        for seed in range(12):
            for event in simulate(scenario, 3.5, seed):
                data, now_h = event.data, hour(event)
                if data.get("gen_ai.operation.name") == "chat":
                    during = 2 <= now_h - data["duration_s"] / 3600 < 2 + 1 / 3
                    llm_h += data["duration_s"] / 3600 * (during and data["status"] == "ok")
                    calls[during, data["status"]] += 1
                    calls[during, data["status"], data["attempt"]] += 1
                elif "end_reason" in data and data["role"] == "developer":
                    met = now_h - data["duration_s"] / 3600 < 2 + 1 / 3 and now_h > 2
                    minutes += [data["duration_s"] / 60] * met
                    ended[data["end_reason"]] += met
        return minutes, ended, calls, llm_h

    brown, ended, calls, llm_h = runs(preset("provider_brownout"))
    calm, calm_ended, calm_calls, calm_llm_h = runs(preset("provider_brownout", UNDISTURBED))
    # Of 170 lognormal runs, ratios of medians and of 90 % quantiles vary by 0.1; these are about 1.4.
    assert np.quantile(brown, 0.9) > np.quantile(calm, 0.9)
    assert np.median(brown) > np.median(calm)
    # Of lognormal calls with sigma 1.153, the coefficient of variation is 1.67.
    noise = 1.67 * math.sqrt(1 / calls[True, "ok"] + 1 / calm_calls[True, "ok"])
    longer = (llm_h / calls[True, "ok"]) / (calm_llm_h / calm_calls[True, "ok"])
    assert longer == pytest.approx(4, rel=4 * noise)
    assert calm_ended.keys() <= {"completed", "max_iters"}
    assert not calm_calls[True, "error"]
    assert calls[False, "error"] <= 0.01 * calls[True, "ok"]  # a second try may fall behind the end
    tries = calls[True, "ok"] + calls[True, "error"]
    assert calls[True, "error"] / tries == pytest.approx(0.1, abs=4 * math.sqrt(0.09 / tries))
    # Of calls, one in a hundred fails twice, and with it the run.
    assert calls[True, "error", 2] / tries == pytest.approx(0.01, abs=4 * math.sqrt(0.01 / tries))
    assert ended["llm_failure"] / ended.total() > 0.05


def test_error_cascade_retries_much_and_makes_merges_dear():
    scenarios = preset("error_cascade"), preset("steady_sprint")
    cascade, steady = ([metrics(scenario, 80, seed) for seed in (7, 8)] for scenario in scenarios)

    def share(seen, part, whole):
        return sum(each[part] for each in seen) / sum(each[whole] for each in seen)

    tools = sum(seen["tools.calls"] for seen in cascade)
    assert share(cascade, "tools.errors", "tools.calls") == pytest.approx(0.25, abs=4 * math.sqrt(0.25 * 0.75 / tools))
    assert share(cascade, "runs.errors", "runs.ended") > 2 * share(steady, "runs.errors", "runs.ended")
    assert share(cascade, "pipelines.failed", "pipelines.ended") == pytest.approx(0.6, abs=0.1)
    per_merge, usual = (share(seen, "llm.cost_usd", "changes.prs_merged") for seen in (cascade, steady))
    assert per_merge > 1.5 * usual


def test_long_context_compacts_and_costs_twice_as_much():
    compacted, cost_usd, issues = {}, {}, {}
    for scenario in (preset("long_context"), preset("steady_sprint")):
        name = scenario.name
        events = simulate(scenario, 60)
        developers = [event.data for event in events if event.data.get("role") == "developer"]
        ran = {data["run_id"] for data in developers if "end_reason" in data}
        compacted[name] = len({data["run_id"] for data in developers if data.get("compacted")} & ran) / len(ran)
        cost_usd[name] = sum(event.data.get("cost_usd", 0) for event in events if event.type == "agent_activity")
        issues[name] = len(times_h(events, "issue_created"))
        largest = max(event.data.get("gen_ai.usage.input_tokens", 0) for event in events)
        assert largest <= 200_000
    assert issues["long_context"] == issues["steady_sprint"]
    # A call adds 4,350 tokens on average, so 60,000 become 200,000 in the 33rd; 45 % of runs have more calls than 32.
    assert compacted["long_context"] == pytest.approx(0.45, abs=4 * 0.5 / math.sqrt(2.2 * issues["long_context"]))
    assert compacted["steady_sprint"] < 0.05
    assert cost_usd["long_context"] > 1.8 * cost_usd["steady_sprint"]
