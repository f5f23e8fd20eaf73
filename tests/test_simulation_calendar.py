"""The calendar week: office hours and busy hours, exact to the microsecond."""

import math
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from syndarix_rt.simulation.calendar import WEEK_S, OfficeHours, WeeklyWeights
from syndarix_rt.simulation.settings import Calendar, Office

MONDAY = datetime(2026, 1, 5, tzinfo=UTC)
HOUR_US, DAY_US, WEEK_US = 3_600_000_000, 86_400_000_000, 604_800_000_000

days = st.sets(st.integers(0, 6), min_size=1).map(lambda days: tuple(sorted(days)))
hours = st.tuples(st.floats(0, 24), st.floats(0, 24)).filter(lambda pair: pair[1] - pair[0] > 1e-6)
offices = st.builds(lambda hours, days: Office(from_h=hours[0], to_h=hours[1], days=days), hours, days)
starts = st.datetimes(
    datetime(2020, 1, 1),  # noqa: DTZ001 - hypothesis adds the zone
    datetime(2030, 1, 1),  # noqa: DTZ001 - the same
    timezones=st.sampled_from([UTC, timezone(timedelta(hours=-9.5))]),
)
moments_us = st.integers(0, 30 * WEEK_US)


def moment(start, t_us):
    return start.astimezone(UTC) + timedelta(microseconds=t_us)


def is_open(office, when):
    """Office hours as one would say them."""
    within_us = (when - when.replace(hour=0, minute=0, second=0, microsecond=0)) // timedelta(microseconds=1)
    return when.weekday() in office.days and round(office.from_h * HOUR_US) <= within_us < round(office.to_h * HOUR_US)


def open_us(office, start, from_us, to_us):
    """Open microseconds between two moments, day by day."""
    begin, end = moment(start, from_us), moment(start, to_us)
    midnight = begin.replace(hour=0, minute=0, second=0, microsecond=0)
    total = timedelta(0)
    while midnight < end:
        if midnight.weekday() in office.days:
            opens = midnight + timedelta(microseconds=round(office.from_h * HOUR_US))
            closes = midnight + timedelta(microseconds=round(office.to_h * HOUR_US))
            total += max(min(closes, end) - max(opens, begin), timedelta(0))
        midnight += timedelta(days=1)
    return total // timedelta(microseconds=1)


# ---- office hours -------------------------------------------------------------------------------------------------


@given(office=offices, start=starts, t_us=moments_us)
def test_it_is_open_in_office_hours_of_working_days(office, start, t_us):
    assert OfficeHours(office, start).open_at(t_us / 1e6) == is_open(office, moment(start, t_us))


@given(office=offices, start=starts, t_us=moments_us)
def test_it_opens_next_after_closed_time_only(office, start, t_us):
    opening = OfficeHours(office, start)
    next_us = round(opening.next_open(t_us / 1e6) * 1e6)
    assert next_us >= t_us
    assert is_open(office, moment(start, next_us))
    assert open_us(office, start, t_us, next_us) == 0


@given(office=offices, start=starts, t_us=moments_us, work_us=st.integers(0, 3 * DAY_US))
def test_the_open_time_until_after_is_the_work(office, start, t_us, work_us):
    end_us = round(OfficeHours(office, start).after(t_us / 1e6, work_us / 1e6) * 1e6)
    # A microsecond earlier it is less: this is the first such moment. Years of short days would take long to count.
    if end_us - t_us < 60 * WEEK_US:
        assert open_us(office, start, t_us, end_us) == work_us
        assert work_us == 0 or open_us(office, start, t_us, end_us - 1) == work_us - 1


@given(office=offices, start=starts, t_us=moments_us, first_us=st.integers(1, DAY_US), second_us=st.integers(1, DAY_US))
def test_work_may_be_done_in_parts(office, start, t_us, first_us, second_us):
    opening = OfficeHours(office, start)
    parts = opening.after(opening.after(t_us / 1e6, first_us / 1e6), second_us / 1e6)
    assert parts == opening.after(t_us / 1e6, (first_us + second_us) / 1e6)


@given(start=starts, t_us=moments_us, work_us=st.integers(0, 3 * WEEK_US))
@pytest.mark.parametrize("office", [None, Office(from_h=0, to_h=24, days=tuple(range(7)))])
def test_without_office_hours_it_is_always_open(office, start, t_us, work_us):
    always = OfficeHours(office, start)
    assert always.open_at(t_us / 1e6)
    assert always.next_open(t_us / 1e6) == t_us / 1e6
    assert always.after(t_us / 1e6, work_us / 1e6) == (t_us + work_us) / 1e6


def test_hours_too_short_for_simulated_time_are_open_for_a_microsecond():
    opening = OfficeHours(Office(from_h=9, to_h=math.nextafter(9, 10), days=(0,)), MONDAY)
    assert opening.after(0, 2e-6) == WEEK_S + 9 * 3600 + 1e-6


def test_a_review_that_begins_on_friday_ends_on_monday():
    opening = OfficeHours(Office(from_h=9, to_h=17, days=(0, 1, 2, 3, 4)), MONDAY)
    friday_16 = (4 * 24 + 16) * 3600
    assert opening.after(friday_16, 3600) == friday_16 + 3600  # at closing time, not on Monday
    assert opening.after(friday_16, 7200) == (7 * 24 + 10) * 3600
    assert opening.next_open(friday_16 + 3600) == (7 * 24 + 9) * 3600
    assert [opening.open_at(t) for t in (friday_16, friday_16 + 3599.999999, friday_16 + 3600)] == [True, True, False]


# ---- weights ------------------------------------------------------------------------------------------------------

weights = st.lists(st.sampled_from([0.0, 0.5, 1.0, 2.0]), min_size=24, max_size=24).filter(any)
calendars = st.builds(lambda hours, days: Calendar(hours=hours, weekdays=[*days[:6], 1.0]), weights, weights)


@given(calendar=calendars, start=starts, t_us=moments_us)
def test_a_factor_is_the_weekdays_weight_times_the_hours(calendar, start, t_us):
    when = moment(start, t_us)
    expected = calendar.weekdays[when.weekday()] * calendar.hours[when.hour]
    assert WeeklyWeights(calendar, start).at(t_us / 1e6) == expected


@given(calendar=calendars, start=starts, t_us=moments_us)
def test_a_factor_stays_until_it_changes(calendar, start, t_us):
    week = WeeklyWeights(calendar, start)
    until = week.until(t_us / 1e6)
    assert until > t_us / 1e6
    if math.isinf(until):
        assert len({weekday * hour for weekday in calendar.weekdays for hour in calendar.hours}) == 1
        return
    until_us = round(until * 1e6)
    assert until_us - t_us <= WEEK_US
    assert week.at((until_us - 1) / 1e6) == week.at(t_us / 1e6) != week.at(until)
    hourly = {week.at(between / 1e6) for between in range(t_us, until_us, HOUR_US)}
    assert hourly == {week.at(t_us / 1e6)}


@given(calendar=calendars, start=starts)
def test_the_factors_of_a_week_add_up(calendar, start):
    week = WeeklyWeights(calendar, start)
    t_s, total = 0.0, 0.0
    while t_s < WEEK_S:
        until = min(week.until(t_s), WEEK_S)
        total += week.at(t_s) * (until - t_s)
        t_s = until
    assert week.week_s == pytest.approx(total)
