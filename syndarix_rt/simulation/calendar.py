"""The calendar week (UTC) along simulated time: when people are at work, and which hours are busy ones.

Times are seconds since the simulation's start. They are taken to the whole microsecond, as simulated time runs, and
all arithmetic is done in whole microseconds, so it is exact.
"""

from __future__ import annotations

from bisect import bisect_right
from datetime import UTC, datetime, timedelta

from syndarix_rt.simulation.settings import Calendar, Office

__all__ = ["WEEK_S", "OfficeHours", "WeeklyWeights"]

_HOUR_US = 3_600_000_000
_DAY_US = 24 * _HOUR_US
_WEEK_US = 7 * _DAY_US
WEEK_S = _WEEK_US / 1e6


class OfficeHours:
    """When people work.

    Args:
        office: days and hours; None: they work round the clock.
        start: the time of the simulation's start.
    """

    def __init__(self, office: Office | None, start: datetime) -> None:
        from_h, to_h, days = (0, 24, range(7)) if office is None else (office.from_h, office.to_h, office.days)
        self._start_us = _in_week_us(start)
        self._opens = [day * _DAY_US + round(from_h * _HOUR_US) for day in days]
        # At least one: hours may differ by less than simulated time can tell, and work must end some time.
        self._open_us = max(round(to_h * _HOUR_US) - round(from_h * _HOUR_US), 1)
        """Of each working day."""

    def open_at(self, t_s: float) -> bool:
        """Whether people work at this moment; the first moment of a working day counts, the last does not."""
        _, index, within = self._place(t_s)
        return index >= 0 and within < self._open_us

    def next_open(self, t_s: float) -> float:
        """The first moment from ``t_s`` on at which people work."""
        week, index, within = self._place(t_s)
        if index >= 0 and within < self._open_us:
            return t_s
        return self._moment(week * len(self._opens) + index + 1, 0)

    def after(self, t_s: float, work_s: float) -> float:
        """The first moment at which people have worked ``work_s`` seconds since ``t_s``; work pauses while closed.

        It may be the moment of closing. For no work it is ``t_s``, open or closed.
        """
        work_us = round(work_s * 1e6)
        if work_us == 0:
            return t_s
        week, index, within = self._place(t_s)
        # Work done since the beginning of the first week, as if all of it had been used.
        done_us = (week * len(self._opens) + index) * self._open_us + min(within, self._open_us) + work_us
        days = (done_us - 1) // self._open_us  # so that work which fills a day ends on it
        return self._moment(days, done_us - days * self._open_us)

    def _place(self, t_s: float) -> tuple[int, int, int]:
        """Which week, which working day began last in it (-1: none yet), and the microseconds since then."""
        week, in_week_us = divmod(self._start_us + round(t_s * 1e6), _WEEK_US)
        index = bisect_right(self._opens, in_week_us) - 1
        # Before the first working day of the week, the last one of the week before is over, full.
        within = in_week_us - self._opens[index] if index >= 0 else self._open_us
        return week, index, within

    def _moment(self, day: int, within_us: int) -> float:
        """So many microseconds into a working day; counted from the first of the first week."""
        week, index = divmod(day, len(self._opens))
        return (week * _WEEK_US + self._opens[index] + within_us - self._start_us) / 1e6


class WeeklyWeights:
    """Factor on a rate for each hour of the week.

    Args:
        calendar: weights of weekdays and of hours, which are multiplied.
        start: the time of the simulation's start.

    Attributes:
        week_s: the factors of a week, each times the seconds it holds.
    """

    def __init__(self, calendar: Calendar, start: datetime) -> None:
        self._start_us = _in_week_us(start)
        self._factors = [weekday * hour for weekday in calendar.weekdays for hour in calendar.hours]
        self.week_s = 3600 * sum(self._factors)
        hours = range(len(self._factors))
        self._changes = [hour * _HOUR_US for hour in hours if self._factors[hour] != self._factors[hour - 1]]

    def at(self, t_s: float) -> float:
        """The factor at this moment."""
        return self._factors[(self._start_us + round(t_s * 1e6)) % _WEEK_US // _HOUR_US]

    def until(self, t_s: float) -> float:
        """When the factor changes next; infinite if it is always the same."""
        if not self._changes:
            return float("inf")
        week, in_week_us = divmod(self._start_us + round(t_s * 1e6), _WEEK_US)
        index = bisect_right(self._changes, in_week_us)
        if index == len(self._changes):
            week, index = week + 1, 0
        return (week * _WEEK_US + self._changes[index] - self._start_us) / 1e6


def _in_week_us(moment: datetime) -> int:
    """Microseconds since Monday, 00:00 UTC."""
    moment = moment.astimezone(UTC)
    midnight = moment.replace(hour=0, minute=0, second=0, microsecond=0)
    return moment.weekday() * _DAY_US + (moment - midnight) // timedelta(microseconds=1)
