"""The axes of a still picture, and the words on them; as of ``web/chart-axes.js``."""

from __future__ import annotations

import math
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta, tzinfo
from typing import NamedTuple
from xml.sax.saxutils import escape

import numpy as np
from numpy.typing import NDArray

__all__ = ["Clock", "Frame", "scale", "short", "text", "time_axis", "value_axis"]

WIDTH = 620
LEFT, RIGHT, TOP = 58, 14, 52
CHARACTER_PX = 6.2
"""Mean width of a character at 11 px, generously; nothing here can measure a text."""

INK, MUTED, LINE, GRID = "#1f2933", "#5b6672", "#b6bfc9", "#e8ebef"
_STEPS_S = (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 10800, 21600, 43200, 86400)
_DAY_S = 86_400
_FIRST_S = datetime(1, 1, 2, tzinfo=UTC).timestamp()  # a day from the ends, so that they are times in any zone
_LAST_S = datetime(9999, 12, 30, tzinfo=UTC).timestamp()
_UNITS = ((1e9, 1e9, " G"), (1e6, 1e6, " M"), (1e4, 1e3, " k"))


class Frame(NamedTuple):
    """Where on the picture is what: times in seconds on the chart's axis, the rest in pixels."""

    from_s: float
    to_s: float
    top: float
    """The value at the upper edge."""
    height: float
    left: float = LEFT

    def x(self, time_s: float) -> float:
        """Pixels from the left of the picture; what is beyond an edge of the window is on it."""
        share = (time_s - self.from_s) / (self.to_s - self.from_s)
        return self.left + min(max(share, 0.0), 1.0) * (WIDTH - self.left - RIGHT)

    def y(self, value: float) -> float:
        """Pixels from the top of the picture."""
        return TOP + self.height * (1 - value / self.top)

    @property
    def bottom(self) -> float:
        """Where the time axis is."""
        return TOP + self.height


def value_axis(frame: Frame, step: float) -> Iterator[str]:
    """A line and its value at each step, as SVG."""
    for tick in range(round(frame.top / step) + 1):
        y = frame.y(tick * step)
        yield f'<path d="M{frame.left:g} {y:.1f}H{WIDTH - RIGHT}" stroke="{LINE if tick == 0 else GRID}"/>'
        yield text(frame.left - 7, y + 4, short(tick * step), "end")


class Clock(NamedTuple):
    """How a time axis is read; as of ``web/chart-axes.js``."""

    simulated: bool
    start_s: float | None
    """A moment of day 1 of simulated time; None: days have dates."""

    def zone(self, time_s: float) -> tzinfo:
        """This machine's, as it is at a time; simulated time has none, and is in UTC."""
        return UTC if self.simulated else _moment(time_s, UTC).astimezone().tzinfo or UTC

    def name(self, time_s: float) -> str:
        """What is said beside the axis."""
        offset = _moment(time_s, self.zone(time_s)).isoformat()[-6:]  # its format has no colon
        return "simulated time" if self.simulated else "UTC" if offset == "+00:00" else f"UTC{offset}"

    def day(self, time: datetime) -> str:
        """The name of a day."""
        if self.simulated and self.start_s is not None:
            return f"day {int(time.timestamp() // _DAY_S - self.start_s // _DAY_S) + 1}"
        return f"{time:%m-%d}"


def _moment(time_s: float, zone: tzinfo) -> datetime:
    """As near as a `datetime` comes: simulated time may reach beyond its last year."""
    return datetime.fromtimestamp(min(max(time_s, _FIRST_S), _LAST_S), zone)


def time_axis(frame: Frame, clock: Clock) -> Iterator[str]:
    """A tick and its time at each round step, and the zone, as SVG."""
    zone = clock.zone(frame.to_s)
    window_s = frame.to_s - frame.from_s
    step = next((step for step in _STEPS_S if window_s / step <= 6), math.ceil(window_s / 6 / _DAY_S) * _DAY_S)  # noqa: PLR2004 - labels have room
    shift_s = (_moment(frame.to_s, zone).utcoffset() or timedelta()).total_seconds()
    name = clock.name(frame.to_s)
    yield text(WIDTH - RIGHT, frame.bottom + 16, name, "end")
    limit = WIDTH - RIGHT - CHARACTER_PX * len(name) - 24
    time_s = math.ceil((frame.from_s + shift_s) / step) * step - shift_s
    told = not clock.simulated  # the day, once
    while time_s <= frame.to_s:
        x = frame.x(time_s)
        time = _moment(time_s, zone)
        label = f"{time:%H:%M}" if step >= 60 else f"{time:%H:%M:%S}"  # noqa: PLR2004 - a minute
        if step >= _DAY_S or (step >= 60 and label == "00:00"):  # noqa: PLR2004 - a minute
            label = clock.day(time)
        elif not told:
            label = f"{clock.day(time)} {label}"
        told = True
        yield f'<path d="M{x:.1f} {frame.bottom:g}v4" stroke="{LINE}"/>'
        if x < limit:
            yield text(x, frame.bottom + 16, label, "middle")
        time_s += step


def scale(values: NDArray[np.float64], *, stacked: bool, least: float) -> tuple[float, float]:
    """The value at the upper edge, and the step between two ticks, of ``least`` at least."""
    known = np.nan_to_num(values)
    highest = float((known.sum(axis=1) if stacked else known.max(axis=1)).max()) or 1.0
    rough = max(highest / 5, least)
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough * (1 - 1e-9))
    return math.ceil(highest / step - 1e-9) * step, step


def short(value: float) -> str:
    """A number in four digits, such as ``12.5 k``; of NaN, ``unknown``."""
    if math.isnan(value):
        return "unknown"
    for limit, unit, sign in _UNITS:
        if abs(value) >= limit:
            return f"{value / unit:.4g}{sign}"
    return f"{value:.4g}"


def text(
    x: float, y: float, text: str, anchor: str = "start", *, size: int = 11, color: str = MUTED, weight: int = 400
) -> str:
    """A text at a place, as SVG; nothing of an empty one."""
    if not text:
        return ""
    bold = f' font-weight="{weight}"' if weight != 400 else ""  # noqa: PLR2004 - normal
    larger = f' font-size="{size}"' if size != 11 else ""  # noqa: PLR2004 - that of the picture
    place = f' text-anchor="{anchor}"' if anchor != "start" else ""
    return f'<text x="{x:.4g}" y="{y:.4g}" fill="{color}"{place}{larger}{bold}>{escape(text)}</text>'
