"""The model against queueing theory: waits, loads and probabilities that have exact or well-known answers.

Theory is asked about the rates that the simulation happened to have, which must be those asked for, within four of
their standard deviations. That takes away the luck of the inputs, half of the noise; what is left was measured over
sixteen seeds and stands beside each tolerance.
"""

import math
from datetime import UTC, datetime
from itertools import islice

import numpy as np
import pytest
import simpy

from syndarix_rt import Scenario, Simulation
from syndarix_rt.simulation.analysis.frames import queues_frame
from syndarix_rt.simulation.analysis.theory import allen_cunneen, mg1, mmc
from syndarix_rt.simulation.arrivals import Arrivals
from syndarix_rt.simulation.laws import Constant, Exponential, Lognormal
from syndarix_rt.simulation.pool import Pool
from syndarix_rt.simulation.settings import Issues

START = datetime(2026, 1, 5, 9, tzinfo=UTC)
JOBS = 40_000


def queue(servers, rate_per_h, service, seed):
    """Jobs through the arrivals, the laws and the pool that the model is made of.

    Service times are in hours.

    Returns:
        Waits in hours, arrivals per hour, services in hours, and utilisation.
    """
    env = simpy.Environment(initial_time=0)
    pool = Pool(env, "server", servers)
    arrivals_rng, service_rng = (np.random.default_rng([seed, purpose]) for purpose in (1, 2))
    arrivals = Arrivals(Issues(rate_per_h=rate_per_h, arrivals={"process": "poisson"}), arrivals_rng, START)
    services_h = service.draws(service_rng, JOBS)
    waits_h = np.zeros(JOBS)

    def job(number):
        asked = env.now
        member = yield pool.request()
        waits_h[number] = env.now - asked
        yield env.timeout(services_h[number])
        pool.release(member)

    def source():
        for number in range(JOBS):
            yield env.timeout(arrivals.next_s(env.now * 3600) / 3600 - env.now)
            arrivals.arrived(env.now * 3600)
            env.process(job(number))

    coming = env.process(source())
    env.run(coming)
    arrived_per_h = JOBS / env.now
    env.run()
    return waits_h, arrived_per_h, services_h, services_h.sum() / env.now / servers


def ratios(servers, rate_per_h, service, seeds, theory):
    """P(wait), utilisation and Wq as measured over what theory says, the mean of so many seeds.

    Args:
        theory: takes arrivals per second and mean service in seconds.
    """
    found = []
    for seed in range(seeds):
        waits_h, arrived_per_h, services_h, utilisation = queue(servers, rate_per_h, service, seed)
        assert arrived_per_h == pytest.approx(rate_per_h, rel=4 / math.sqrt(JOBS))
        noise = services_h.std() / math.sqrt(JOBS)
        assert services_h.mean() == pytest.approx(service.mean(), abs=4 * noise)
        expected = theory(arrived_per_h / 3600, 3600 * services_h.mean())
        delayed = (waits_h > 1e-9).mean()
        found.append(
            (
                delayed / expected.delayed_share,
                utilisation / expected.utilisation,
                3600 * waits_h.mean() / expected.wait_mean_s,
            )
        )
    return np.mean(found, axis=0)


# Over seeds of 40,000 jobs, P(wait) varies by 0.3, 0.35 and 0.55 % with one, two and four servers, and Wq by 2, 3 and
# 4.4 %: so many seeds are taken that 1 % and 8 % are four standard deviations of their mean.
@pytest.mark.parametrize(("servers", "rate_per_h", "seeds"), [(1, 0.7, 2), (2, 1.5, 3), (4, 3.2, 5)])
def test_poisson_arrivals_and_exponential_service_wait_as_erlang_c_says(servers, rate_per_h, seeds):
    delayed, utilisation, wait = ratios(
        servers, rate_per_h, Exponential(scale=1), seeds, lambda per_s, service_s: mmc(per_s, service_s, servers)
    )
    assert delayed == pytest.approx(1, abs=0.01)
    assert utilisation == pytest.approx(1, abs=0.002)
    assert wait == pytest.approx(1, abs=0.08)


@pytest.mark.parametrize("service", [Constant(value=1), Lognormal(median=math.exp(-0.18), sigma=0.6)])
def test_poisson_arrivals_and_any_service_wait_as_pollaczek_and_khinchine_say(service):
    cv2 = 0 if isinstance(service, Constant) else math.expm1(0.6**2)
    delayed, utilisation, wait = ratios(1, 0.7, service, 2, lambda per_s, service_s: mg1(per_s, service_s, cv2))
    assert delayed == pytest.approx(1, abs=0.01)
    assert utilisation == pytest.approx(1, abs=0.002)
    assert wait == pytest.approx(1, abs=0.08)


def test_two_servers_of_lognormal_service_wait_about_as_allen_and_cunneen_say():
    cv2 = math.expm1(0.54**2)
    delayed, utilisation, wait = ratios(
        2,
        1.7,
        Lognormal(median=math.exp(-(0.54**2) / 2), sigma=0.54),
        3,
        lambda per_s, service_s: allen_cunneen(per_s, service_s, 2, 1.0, cv2),
    )
    assert delayed == pytest.approx(1, abs=0.02)  # both are approximations here
    assert utilisation == pytest.approx(1, abs=0.002)
    assert wait == pytest.approx(1, abs=0.1)


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
        "pipelines.success_min": {"law": "constant", "value": 0.1},
    }
)


SEEN = ("agent_started", "agent_completed", "agent_error", "pipeline_started", "pipeline_completed", "sprint_started")


def measured(scenario, queue_name, events):
    """The row of a queue, from as many events of a simulation."""
    seen = (event for event in islice(Simulation(scenario, 7), events) if event.type in SEEN)
    return queues_frame(seen, scenario).set_index("queue").loc[queue_name]


def test_the_developers_of_a_simulated_team_are_an_m_m_c_queue():
    row = measured(ONE_CALL, "agents.developer", 150_000)
    jobs = row["arrivals"]
    assert row["servers"] == 4
    assert row["arrivals_per_h"] == pytest.approx(32, rel=4 / math.sqrt(jobs))
    assert row["service_mean_s"] == pytest.approx(360, rel=4 / math.sqrt(jobs))
    assert row["utilisation"] == pytest.approx(row["mmc_utilisation"], rel=0.002)
    # Of 12,000 jobs, P(wait) varies by 1.2 % and Wq by 10 %.
    assert row["delayed_share"] == pytest.approx(row["mmc_delayed_share"], rel=0.05)
    assert row["wait_mean_s"] == pytest.approx(row["mmc_wait_mean_s"], rel=0.4)
    assert row["number_mean"] == pytest.approx(row["number_little"], rel=0.001)


def test_ci_saturated_waits_for_its_runners_as_erlang_c_and_the_variance_of_ci_say():
    # How long the runs take decides nothing about when the pipelines of all of them ask for a runner.
    scenario = Scenario.preset("ci_saturated").replace(
        {"runs.calls": {"law": "constant", "value": 1}, "runs.tools_per_call": 0}
    )
    service_s, cv2 = 60 * 4.221 * math.exp(0.54**2 / 2), math.expm1(0.54**2)
    theory = mmc(21 / 3600, service_s, 2)
    assert (theory.utilisation, theory.delayed_share) == pytest.approx((0.855, 0.79), abs=0.005)
    assert cv2 == pytest.approx(0.34, abs=0.005)
    row = measured(scenario, "runners", 100_000)
    jobs = row["arrivals"]
    assert row["arrivals_per_h"] == pytest.approx(21, rel=4 / math.sqrt(jobs))
    assert row["service_mean_s"] == pytest.approx(service_s, rel=4 * math.sqrt(cv2 / jobs))
    assert row["utilisation"] == pytest.approx(row["mmc_utilisation"], rel=0.002)
    # Of 7,000 jobs, P(wait) varies by 0.8 % and Wq by 12 %.
    assert row["delayed_share"] == pytest.approx(row["mmc_delayed_share"], rel=0.04)
    assert row["wait_mean_s"] == pytest.approx(row["mmc_wait_mean_s"] * (1 + cv2) / 2, rel=0.4)
