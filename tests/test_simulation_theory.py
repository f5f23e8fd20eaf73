"""The model against queueing theory: waits, loads and probabilities that have exact or well-known answers."""

import math
from datetime import UTC, datetime
from itertools import islice, pairwise

import numpy as np
import pytest
import simpy

from syndarix_rt import Scenario, Simulation, validate
from syndarix_rt.simulation.analysis.frames import queues_frame
from syndarix_rt.simulation.analysis.theory import allen_cunneen, mg1, mmc, stationary_failure_share
from syndarix_rt.simulation.arrivals import Arrivals
from syndarix_rt.simulation.laws import Constant, Exponential, Lognormal
from syndarix_rt.simulation.pool import Pool
from syndarix_rt.simulation.settings import Issues

START = datetime(2026, 1, 5, 9, tzinfo=UTC)
WARM_UP, JOBS, SEEDS = 2_000, 40_000, 5


def queue(servers, rate_per_h, service, seed):
    """Jobs through the arrivals, the laws and the pool that the model is made of: waits and utilisation.

    Service times are in hours.
    """
    env = simpy.Environment(initial_time=0)
    pool = Pool(env, "server", servers)
    arrivals_rng, service_rng = (np.random.default_rng([seed, purpose]) for purpose in (1, 2))
    arrivals = Arrivals(Issues(rate_per_h=rate_per_h, arrivals={"process": "poisson"}), arrivals_rng, START)
    services_h = service.draws(service_rng, WARM_UP + JOBS)
    waits_h = np.zeros(WARM_UP + JOBS)

    def job(number):
        asked = env.now
        member = yield pool.request()
        waits_h[number] = env.now - asked
        yield env.timeout(services_h[number])
        pool.release(member)

    def source():
        for number in range(WARM_UP + JOBS):
            yield env.timeout(arrivals.next_s(env.now * 3600) / 3600 - env.now)
            arrivals.arrived(env.now * 3600)
            env.process(job(number))

    env.process(source())
    env.run()
    waits_h = waits_h[WARM_UP:]
    return waits_h.mean(), (waits_h > 1e-9).mean(), services_h.sum() / env.now / servers


def mean_over_seeds(servers, rate_per_h, service):
    return np.mean([queue(servers, rate_per_h, service, seed) for seed in range(SEEDS)], axis=0)


@pytest.mark.parametrize(("servers", "rate_per_h"), [(1, 0.7), (2, 1.5), (4, 3.2)])
def test_poisson_arrivals_and_exponential_service_wait_as_erlang_c_says(servers, rate_per_h):
    wait_h, delayed, utilisation = mean_over_seeds(servers, rate_per_h, Exponential(scale=1))
    theory = mmc(rate_per_h / 3600, 3600, servers)
    assert delayed == pytest.approx(theory.delayed_share, rel=0.01)
    assert utilisation == pytest.approx(theory.utilisation, rel=0.01)
    # From seed to seed Wq differs by 5 to 6 %, so the mean of five by 2.5 %.
    assert wait_h * 3600 == pytest.approx(theory.wait_mean_s, rel=0.06)


@pytest.mark.parametrize("service", [Constant(value=1), Lognormal(median=math.exp(-0.18), sigma=0.6)])
def test_poisson_arrivals_and_any_service_wait_as_pollaczek_and_khinchine_say(service):
    wait_h, delayed, utilisation = mean_over_seeds(1, 0.7, service)
    cv2 = 0 if isinstance(service, Constant) else math.expm1(0.6**2)
    theory = mg1(0.7 / 3600, 3600, cv2)
    assert delayed == pytest.approx(0.7, rel=0.015)
    assert utilisation == pytest.approx(0.7, rel=0.01)
    assert wait_h * 3600 == pytest.approx(theory.wait_mean_s, rel=0.06)


# ---- the whole model ----------------------------------------------------------------------------------------------

ONE_CALL = Scenario.preset("steady_sprint").replace(
    {
        # An issue is one run of one developer, which is one LLM call: a job of exponential service time.
        "issues.rate_per_h": 32,
        "agents.planners": 0,
        "agents.developers": 4,
        "agents.testers": 0,
        "agents.reviewers": 0,
        "runs.calls": {"law": "constant", "value": 1},
        "runs.llm_s": {"law": "exponential", "scale": 360},
        "runs.tools_per_call": 0,
        "runs.fatal_error_share": 0,
        "changes.commits_per_run": 1,
        "changes.rework_share": 0,
        "pipelines.fail_after_success_share": 0,
        "pipelines.fail_after_failure_share": 0,
        "approvals.gated_share": 0,
        "changes.merge_h": {"law": "constant", "value": 0},
    }
)


def test_the_developers_of_a_simulated_team_are_an_m_m_c_queue():
    events = list(islice(Simulation(ONE_CALL, 7), 200_000))
    assert validate(events).ok
    row = queues_frame(events, ONE_CALL).query("queue == 'agents.developer'").iloc[0]
    theory = mmc(32 / 3600, 360, 4)
    assert row["servers"] == 4
    assert row["utilisation"] == pytest.approx(theory.utilisation, rel=0.02)
    assert row["delayed_share"] == pytest.approx(theory.delayed_share, rel=0.03)
    assert row["wait_mean_s"] == pytest.approx(theory.wait_mean_s, rel=0.12)
    assert row["number_mean"] == pytest.approx(row["number_little"], rel=0.01)


def test_saturated_runners_wait_as_the_approximation_for_general_service_says():
    scenario = Scenario.preset("ci_saturated")
    events = [
        event for event in islice(Simulation(scenario, 7), 700_000) if event.type.startswith(("pipeline", "sprint"))
    ]
    row = queues_frame(events, scenario).query("queue == 'runners'").iloc[0]
    theory = allen_cunneen(21 / 3600, 4.883 * 60, 2, 1.0, math.expm1(0.54**2))
    assert theory.utilisation == pytest.approx(0.85, abs=0.01)
    assert row["utilisation"] == pytest.approx(theory.utilisation, rel=0.03)
    assert row["delayed_share"] == pytest.approx(theory.delayed_share, rel=0.05)
    assert row["wait_mean_s"] == pytest.approx(theory.wait_mean_s, rel=0.15)


def test_failures_come_in_streaks_of_the_length_that_the_chain_says():
    quick = {"law": "constant", "value": 0.1}
    scenario = ONE_CALL.replace(
        {
            "pipelines.fail_after_success_share": 0.14,
            "pipelines.fail_after_failure_share": 0.64,
            "pipelines.success_min": quick,
            "pipelines.failure_min": quick,
            "pipelines.fix_share": 0,
            "pipelines.runners": 1,
        }
    )
    outcomes = [
        event.type == "pipeline_failed"
        for event in islice(Simulation(scenario, 7), 150_000)
        if event.type in ("pipeline_completed", "pipeline_failed")
    ]
    streaks = sum(failed and not before for before, failed in pairwise([False, *outcomes]))
    share = sum(outcomes) / len(outcomes)
    assert share == pytest.approx(stationary_failure_share(0.14, 0.64), rel=0.05)
    assert sum(outcomes) / streaks == pytest.approx(1 / (1 - 0.64), rel=0.05)
