"""Queueing theory: textbook values, the limits where formulas meet, and big systems."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from syndarix_rt.simulation.analysis.theory import (
    allen_cunneen,
    backlog_slope_per_h,
    drain_time_h,
    erlang_c,
    mean_failure_streak,
    mg1,
    mmc,
    stationary_failure_share,
    token_bucket_limit,
)


def erlang_c_by_its_definition(servers, offered):
    term = offered**servers / math.factorial(servers) * servers / (servers - offered)
    return term / (sum(offered**k / math.factorial(k) for k in range(servers)) + term)


# c, λ, P(wait), Wq in units of the service time: computed by hand from the definition.
TABLE = [(1, 0.7, 0.7000, 2.333), (2, 1.5, 0.6429, 1.286), (4, 3.2, 0.5964, 0.7455)]


@pytest.mark.parametrize(("servers", "arrivals", "delayed", "wait"), TABLE)
def test_the_tabled_queues(servers, arrivals, delayed, wait):
    expected = mmc(arrivals, 1.0, servers)
    assert expected.delayed_share == pytest.approx(delayed, abs=5e-5)
    assert expected.wait_mean_s == pytest.approx(wait, rel=3e-4)
    assert expected.utilisation == pytest.approx(arrivals / servers)


def test_a_textbook_call_centre():
    # Ten agents, 8 Erlangs of calls of 3 minutes: C = 0.409, mean wait C E[S] / (c - a) = 0.61 minutes.
    expected = mmc(8 / 180, 180.0, 10)
    assert expected.delayed_share == pytest.approx(0.4092, abs=1e-4)
    assert expected.wait_mean_s == pytest.approx(36.82, abs=0.01)


def test_one_server_is_the_classic_m_m_1():
    expected = mmc(0.5, 1.0, 1)
    assert expected == pytest.approx((0.5, 0.5, 1.0, 2.0, 0.5, 1.0))


def test_deterministic_service_halves_the_wait():
    assert mg1(0.8, 1.0, 0.0).wait_mean_s == pytest.approx(mmc(0.8, 1.0, 1).wait_mean_s / 2)
    assert mg1(0.8, 1.0, 0.0).wait_mean_s == pytest.approx(0.8 / (2 * 0.2))


def test_pollaczek_and_khinchine():
    load, cv2 = 0.6, math.exp(0.6**2) - 1  # lognormal service, sigma 0.6
    assert mg1(load, 1.0, cv2).wait_mean_s == pytest.approx(load / (1 - load) * (1 + cv2) / 2)


@given(st.integers(1, 60), st.floats(0.01, 0.99))
def test_erlang_c_is_what_its_definition_says(servers, load):
    assert erlang_c(servers, servers * load) == pytest.approx(erlang_c_by_its_definition(servers, servers * load))


def test_thousands_of_servers_neither_overflow_nor_vanish():
    # Square-root staffing (Halfin and Whitt 1981): at c = a + sqrt(a), P(wait) tends to 1 / (1 + Φ(1) / φ(1)).
    density, distribution = math.exp(-0.5) / math.sqrt(2 * math.pi), 0.5 * (1 + math.erf(1 / math.sqrt(2)))
    limit = 1 / (1 + distribution / density)
    for offered in (10_000, 1_000_000):
        servers = round(offered + math.sqrt(offered))
        assert erlang_c(servers, offered) == pytest.approx(limit, rel=0.03 * math.sqrt(10_000 / offered))
    assert erlang_c(5_000, 100.0) == 0.0


@given(st.integers(1, 3_000), st.floats(0, 2), st.floats(0, 20), st.floats(0, 20))
def test_everything_stays_in_its_range_and_keeps_littles_law(servers, load, arrival_cv2, service_cv2):
    arrivals = servers * load / 10.0
    expected = allen_cunneen(arrivals, 10.0, servers, arrival_cv2, service_cv2)
    assert 0 <= expected.delayed_share <= 1
    assert 0 <= expected.utilisation <= 1
    assert expected.wait_mean_s >= 0
    if arrivals * 10.0 < servers:
        assert expected.number_mean == pytest.approx(arrivals * expected.sojourn_mean_s)
        assert expected.number_mean == pytest.approx(expected.waiting_mean + servers * expected.utilisation)
    else:
        assert expected.wait_mean_s == math.inf


@given(st.integers(1, 50), st.floats(0.05, 0.9))
def test_one_more_server_never_makes_anybody_wait_longer(servers, load):
    fewer, more = mmc(servers * load, 1.0, servers), mmc(servers * load, 1.0, servers + 1)
    assert more.wait_mean_s <= fewer.wait_mean_s


@pytest.mark.parametrize(("servers", "offered"), [(0, 1.0), (2, -0.1), (2, math.nan)])
def test_what_is_no_queue_is_refused(servers, offered):
    with pytest.raises(ValueError, match="at least 1 server"):
        erlang_c(servers, offered)


def test_failures_in_streaks():
    assert stationary_failure_share(0.1415, 0.6375) == pytest.approx(0.281, abs=5e-4)
    assert mean_failure_streak(0.64) == pytest.approx(2.8, abs=0.03)
    assert stationary_failure_share(0.3, 0.3) == pytest.approx(0.3)
    assert math.isnan(stationary_failure_share(0.0, 1.0))
    assert mean_failure_streak(1.0) == math.inf


def test_limits_and_overload():
    assert token_bucket_limit(200_000, 400_000, 10) == 2_400_000
    assert backlog_slope_per_h(30, 0.1, 2) == pytest.approx(10)
    assert drain_time_h(40, 10, 0.1, 2) == pytest.approx(4)
    assert drain_time_h(40, 30, 0.1, 2) == math.inf
