"""Arrivals: each process as theory has it, from the first moment on, at whatever rate the moment asks for."""

import math
from bisect import bisect_left
from datetime import UTC, datetime, timedelta
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from scipy import stats

from syndarix_rt.simulation.arrivals import Arrivals
from syndarix_rt.simulation.settings import (
    Calendar,
    GammaArrivals,
    Issues,
    Mmpp2Arrivals,
    PoissonArrivals,
    ReplayArrivals,
    ShapeStep,
    WeibullArrivals,
)

MONDAY = datetime(2026, 1, 5, tzinfo=UTC)
POISSON = PoissonArrivals()
BURSTS = Mmpp2Arrivals(burst_factor=20, calm_h=3, burst_h=0.5)
RENEWAL = [POISSON, WeibullArrivals(shape=0.47), WeibullArrivals(shape=2), GammaArrivals(cv=3), GammaArrivals(cv=0.3)]
WORK = Calendar(weekdays=(1, 1.3, 1.1, 1.2, 1.2, 0, 0.55), hours=[0.0] * 6 + [0.7, 1.1, 1.5, 1.5] * 4 + [1.0, 0.2])
STEPS = (ShapeStep(from_h=10, factor=3), ShapeStep(from_h=30, factor=0), ShapeStep(from_h=60, factor=0.5))


def arrivals(process=POISSON, seed=7, start=MONDAY, rate_per_h=60, **more):
    return Arrivals(Issues(arrivals=process, rate_per_h=rate_per_h, **more), np.random.default_rng(seed), start)


def times_of(source, until_s=math.inf, count=None):
    """Arrivals in seconds until a time or up to a number."""
    now_s, times = 0.0, []
    while len(times) != count and (now_s := source.next_s(now_s)) is not None and now_s < until_s:
        times.append(now_s)
        source.arrived(now_s)
    return times


def cv(process):
    match process:
        case PoissonArrivals():
            return 1
        case GammaArrivals():
            return process.cv
        case WeibullArrivals():
            return math.sqrt(math.gamma(1 + 2 / process.shape) / math.gamma(1 + 1 / process.shape) ** 2 - 1)


def factor_at(t_s, calendar, steps):
    when = MONDAY + timedelta(seconds=t_s)
    factor = 1.0
    for step in steps:
        if t_s >= 3600 * step.from_h:
            factor = step.factor
    return factor * calendar.weekdays[when.weekday()] * calendar.hours[when.hour]


# ---- processes ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("process", RENEWAL, ids=repr)
def test_gaps_have_the_mean_and_the_variation_asked_for(process):
    gaps = np.diff(times_of(arrivals(process), count=60_000))
    assert gaps.mean() == pytest.approx(60, rel=5 * cv(process) / math.sqrt(len(gaps)))
    assert gaps.std() / gaps.mean() == pytest.approx(cv(process), rel=0.05)
    assert abs(np.corrcoef(gaps[1:], gaps[:-1])[0, 1]) < 0.02


def test_poisson_gaps_are_exponential_and_counts_have_the_variance_of_their_mean():
    times = times_of(arrivals(POISSON), count=50_000)
    assert stats.kstest(np.diff(times), stats.expon(scale=60).cdf).pvalue > 0.01
    counts = np.bincount((np.array(times) // 3600).astype(int))[:-1]
    assert counts.var() / counts.mean() == pytest.approx(1, abs=0.15)


@pytest.mark.parametrize("process", [*RENEWAL, BURSTS], ids=repr)
def test_the_first_moments_expect_as_many_arrivals_as_any_others(process):
    issues = Issues(arrivals=process, rate_per_h=10)
    starts = [times_of(Arrivals(issues, np.random.default_rng(seed), MONDAY), 3600) for seed in range(3_000)]
    for hours in (0.02, 1.0):
        counts = np.array([bisect_left(times, 3600 * hours) for times in starts])
        assert counts.mean() == pytest.approx(10 * hours, abs=4 * counts.std() / math.sqrt(len(counts)))


def test_bursts_keep_the_mean_rate_and_have_the_dispersion_of_theory():
    hours, window_h, per_h = 60_000, 50, 3  # the precision comes from the number of windows, not of arrivals
    times = np.array(times_of(arrivals(BURSTS, rate_per_h=per_h), 3600 * hours))
    counts = np.bincount((times // (3600 * window_h)).astype(int), minlength=hours // window_h)
    # Two-state modulated Poisson process: rates and switching rates per hour.
    calm = per_h * 3.5 / (3 + 20 * 0.5)
    burst, ends, begins = 20 * calm, 1 / 0.5, 1 / 3
    assert (calm * 3 + burst * 0.5) / 3.5 == pytest.approx(per_h)
    covariance = begins * ends * (burst - calm) ** 2 / (begins + ends) ** 2
    speed = begins + ends
    excess = 2 * covariance / speed * (1 - (1 - math.exp(-speed * window_h)) / (speed * window_h)) / per_h
    assert counts.mean() == pytest.approx(per_h * window_h, rel=0.03)
    assert counts.var() / counts.mean() == pytest.approx(1 + excess, rel=0.12)
    assert excess > 8


def test_bursts_as_fast_as_the_calm_are_poisson():
    process = Mmpp2Arrivals(burst_factor=1, calm_h=3, burst_h=0.5)
    assert times_of(arrivals(process), count=1000) == pytest.approx(times_of(arrivals(POISSON), count=1000))


def test_given_times_are_replayed_as_they_are():
    process = ReplayArrivals(times_h=(0, 0.5, 0.5, 2.25))
    source = arrivals(process, rate_per_h=0, shape=STEPS, calendar=WORK)
    assert source.set_factor(0, 20) == 0
    assert times_of(source) == [0, 1800, 1800, 8100]
    assert source.next_s(9000) is None
    assert source.set_factor(9000, 20) is None


def test_an_overdue_arrival_comes_now():
    assert arrivals(ReplayArrivals(times_h=(1,))).next_s(4000) == 4000


@pytest.mark.parametrize("process", [*RENEWAL, BURSTS], ids=repr)
def test_another_rate_changes_the_times_but_not_the_luck(process):
    if process is BURSTS:  # bursts have a length of their own, so only the same rate gives the same times
        assert times_of(arrivals(process), count=300) == times_of(arrivals(process), count=300)
        return
    slow, fast = (times_of(arrivals(process, rate_per_h=rate), count=300) for rate in (2, 20))
    assert [10 * t_s for t_s in fast] == pytest.approx(slow)


# ---- rates that change --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("process", [POISSON, WeibullArrivals(shape=0.47), BURSTS], ids=repr)
def test_each_hour_of_the_week_gets_its_share(process):
    weeks, rate_per_h = 150, 5
    times = np.array(times_of(arrivals(process, rate_per_h=rate_per_h, calendar=WORK), weeks * 168 * 3600))
    counts = np.bincount((times // 3600 % 168).astype(int), minlength=168)
    expected = weeks * rate_per_h * np.array([factor_at(3600 * hour, WORK, ()) for hour in range(168)])
    assert (counts[expected == 0] == 0).all()
    open_hours = expected > 0
    scores = (counts - expected)[open_hours] / np.sqrt(expected[open_hours])
    if process is POISSON:
        assert stats.chi2.sf((scores**2).sum(), open_hours.sum()) > 0.01
    assert counts.sum() == pytest.approx(expected.sum(), rel=0.05)
    assert np.corrcoef(counts, expected)[0, 1] > 0.9


def test_the_shape_says_how_many_come_and_when_none():
    counts = np.zeros(100)
    for seed in range(200):
        times = times_of(arrivals(POISSON, seed, rate_per_h=5, shape=STEPS), 100 * 3600)
        counts += np.bincount((np.array(times) // 3600).astype(int), minlength=100)
    for begin, end, factor in ((0, 10, 1), (10, 30, 3), (30, 60, 0), (60, 100, 0.5)):
        expected = 200 * 5 * factor * (end - begin)
        assert counts[begin:end].sum() == pytest.approx(expected, abs=4 * math.sqrt(expected))


def test_the_calendar_is_that_of_the_start():
    calendar = Calendar(weekdays=(0, 0, 0, 1, 0, 0, 0), hours=[0.0] * 9 + [1.0] + [0.0] * 14)  # Thursday, 9 h
    wednesday = MONDAY + timedelta(days=2, hours=20)
    times = times_of(arrivals(POISSON, start=wednesday, calendar=calendar), count=300)
    when = [wednesday + timedelta(seconds=t_s) for t_s in times]
    assert {(moment.weekday(), moment.hour) for moment in when} == {(3, 9)}


def integral(begin_s, end_s, changes, calendar, steps):
    """Expected arrivals at 1 per second: calendar, shape and changes of the factor, cut at every change."""
    cuts = {begin_s, end_s, *(at_s for at_s, _ in changes), *(3600 * step.from_h for step in steps)}
    cuts |= {3600.0 * hour for hour in range(int(begin_s // 3600) + 1, int(end_s // 3600) + 1)}
    total = 0.0
    for low, high in pairwise(sorted(cut for cut in cuts if begin_s <= cut <= end_s)):
        middle = (low + high) / 2
        factor = ([1.0] + [factor for at_s, factor in changes if at_s <= middle])[-1]
        total += (high - low) * factor * factor_at(middle, calendar, steps)
    return total


@given(
    changes=st.lists(
        st.tuples(st.floats(0, 400_000), st.sampled_from([0.0, 0.5, 1.0, 20.0])), max_size=8, unique_by=lambda it: it[0]
    ).map(sorted),
    process=st.sampled_from(RENEWAL),
    steps=st.sampled_from([(), STEPS]),
    calendar=st.sampled_from([Calendar(), WORK]),
)
@hypothesis_settings(max_examples=60)
def test_a_new_factor_at_any_time_keeps_the_operational_time(changes, process, steps, calendar):
    source = arrivals(process, rate_per_h=1, shape=steps, calendar=calendar)
    luck = times_of(arrivals(process, rate_per_h=1), count=200)  # without any factor, an hour is one unit
    pending, times, now_s = list(changes), [], 0.0
    while len(times) < 30:
        due_s = source.next_s(now_s)
        assert source.next_s(now_s) == due_s
        if pending and (due_s is None or pending[0][0] <= due_s):
            now_s, factor = pending.pop(0)
            assert source.set_factor(now_s, factor) == source.next_s(now_s)
        elif due_s is None:
            break
        else:
            now_s = due_s
            times.append(now_s)
            source.arrived(now_s)
    for number, t_s in enumerate(times):
        if t_s > 5_000_000:
            break  # years of hours take long to sum up
        assert integral(0, t_s, changes, calendar, steps) == pytest.approx(luck[number], rel=1e-6, abs=1e-3)


def test_bursts_that_were_looked_at_stay_as_they_are():
    plain, asked = arrivals(BURSTS, rate_per_h=5), arrivals(BURSTS, rate_per_h=5)
    now_s = 0.0
    for _ in range(300):
        due_s = plain.next_s(now_s)
        for share in (0.2, 0.7):  # look far ahead and come back
            between_s = now_s + share * (due_s - now_s)
            asked.set_factor(between_s, 1e-4)
            asked.set_factor(between_s, 1)
        assert asked.next_s(now_s) == pytest.approx(due_s, abs=1e-6)
        now_s = due_s
        plain.arrived(now_s)
        asked.arrived(now_s)


def test_a_factor_of_0_stops_arrivals_until_there_is_another():
    source = arrivals(POISSON, rate_per_h=1)
    due_s = source.next_s(0)
    assert source.set_factor(due_s / 2, 0) is None
    assert source.set_factor(due_s, 0.5) == pytest.approx(2 * due_s)


@pytest.mark.parametrize("process", [*RENEWAL, BURSTS], ids=repr)
def test_no_rate_means_never(process):
    assert arrivals(process, rate_per_h=0).next_s(0) is None
    assert arrivals(process, shape=(ShapeStep(from_h=0, factor=0),)).next_s(0) is None


def test_more_bursts_between_two_arrivals_than_anybody_could_count_average_out():
    process = Mmpp2Arrivals(burst_factor=20, calm_h=1e-7, burst_h=1e-7)
    assert times_of(arrivals(process), count=12) == pytest.approx(times_of(arrivals(POISSON), count=12), rel=0.01)
    times = times_of(arrivals(BURSTS, rate_per_h=1e-8), count=3)
    assert len(times) == 3
    assert times[0] > 1e9


def test_a_rate_of_once_in_a_thousand_years_is_found_at_once():
    due_s = arrivals(POISSON, rate_per_h=1e-7, calendar=WORK).next_s(0)
    assert due_s > 1e9
    assert arrivals(POISSON, rate_per_h=1e-300, calendar=WORK).next_s(0) is None
