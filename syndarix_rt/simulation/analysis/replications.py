"""`Sweep`: what came out of a sweep, as tidy frames with confidence intervals, and plotted."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from syndarix_rt.errors import SyndarixError
from syndarix_rt.simulation.section import near_miss, unit_of

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

__all__ = ["CONFIDENCE", "Sweep"]

CONFIDENCE = 0.95
"""Of all intervals: that of nearly all published figures, so they can be compared."""

_KEYS = ("replication", "seed")
_BESIDE = 0.1  # of the way to the next value, so that bars of several lines do not hide each other


class Sweep:
    """The metrics of all replications at all points.

    Attributes:
        over: the keys that were varied.
        metrics: the names of what was measured; units stand at their ends, counts have none.
        replications: one row for each point and replication: the value of each key in ``over`` (or its label), the
            number of the ``replication``, its ``seed``, and a column for each metric.
    """

    def __init__(self, replications: pd.DataFrame, over: Iterable[str], compared_with: str = "") -> None:
        self.over = tuple(over)
        self.metrics = tuple(name for name in replications.columns if name not in (*self.over, *_KEYS))
        self.replications = replications
        self._compared_with = compared_with

    @cached_property
    def frame(self) -> pd.DataFrame:
        """One row for each point and metric.

        The columns are those of ``over``, then ``metric``; ``mean`` over the replications; ``half_width`` of its 95 %
        confidence interval (Student's t, NaN for fewer than 2); ``sd``, the standard deviation between replications;
        and ``n``, how many of them have a value.
        """
        import pandas as pd  # noqa: PLC0415 - an extra

        rows = [
            {**point, "metric": metric} | _estimate(values)
            for point, table in self._points()
            for metric, values in zip(self.metrics, table.T, strict=True)
        ]
        return pd.DataFrame(rows)

    def against(self, point: Any) -> Sweep:
        """What every point does differently from this one: paired differences, replication by replication.

        Both have the same luck, so most of the noise cancels out, and an interval without zero in it is a difference
        at the 95 % level.

        Args:
            point: the value of each key in ``over`` (or its label), as a dict; alone if there is one key.

        Raises:
            SyndarixError: there is no such point.
        """
        wanted = point if isinstance(point, dict) else dict.fromkeys(self.over[:1], point)
        base = [table for at, table in self._points() if at == wanted]
        if not base:
            there = "; ".join(_described(at) for at, _ in self._points())
            raise SyndarixError(f"there is no point {_described(wanted)}; there are {there}")
        changed = self.replications.copy()
        with np.errstate(invalid="ignore"):  # infinity less infinity is NaN, as it should be
            changed[[*self.metrics]] = np.concatenate([table - base[0] for _, table in self._points()])
        return Sweep(changed, self.over, _described(wanted))

    def plot(self, metric: str, ax: Axes | None = None) -> Axes:
        """Draw the mean of a metric over the first key, a line for each value of the others.

        Bands (bars, where the key has no numbers) are 95 % confidence intervals.

        Args:
            metric: one of ``metrics``.
            ax: where to draw; a new figure if None.

        Raises:
            SyndarixError: there is no such metric, or nothing was varied.
        """
        if metric not in self.metrics:
            hint = near_miss(metric, [*self.metrics]) or f"; there are {', '.join(self.metrics)}"
            raise SyndarixError(f"there is no metric {metric!r}{hint}")
        if not self.over:
            raise SyndarixError("a sweep over nothing has one point, which makes no line; see its frame")
        import pandas as pd  # noqa: PLC0415 - an extra

        if ax is None:
            from matplotlib import pyplot as plt  # noqa: PLC0415 - an extra, slow to load

            _, ax = plt.subplots()
        first, *others = self.over
        rows = self.frame[self.frame["metric"] == metric]
        lines = [*rows.groupby(others, sort=False)] if others else [((), rows)]
        has_numbers = pd.api.types.is_numeric_dtype(rows[first])
        for number, (values, line) in enumerate(lines):
            label = ", ".join(f"{key} = {value}" for key, value in zip(others, values, strict=True))
            if has_numbers:
                _draw_band(ax, line.sort_values(first), first, label)
            else:
                x = np.arange(len(line)) + (number - (len(lines) - 1) / 2) * _BESIDE
                ax.errorbar(x, line["mean"], line["half_width"], fmt="o", capsize=5, label=label)
                ax.set_xticks(range(len(line)), line[first].astype(str))
        if others:
            ax.legend()
        ax.spines[["top", "right"]].set_visible(False)
        ax.set_xlabel(axis_label(first) if has_numbers else first)
        ax.set_ylabel(axis_label(metric) + (f"\nagainst {self._compared_with}" if self._compared_with else ""))
        ax.set_title(f"mean of {rows['n'].max()} replications, 95 % confidence", loc="left", fontsize="medium")
        return ax

    def __repr__(self) -> str:
        return repr(self.frame)

    def _repr_html_(self) -> str:
        return str(self.frame._repr_html_())  # type: ignore[operator] # the stubs miss it

    def _points(self) -> Iterator[tuple[dict[str, Any], NDArray[np.float64]]]:
        """Each point and its table, replications by metrics."""
        size = self.replications["replication"].nunique()
        for start in range(0, len(self.replications), size):
            rows = self.replications.iloc[start : start + size]
            yield {key: rows[key].tolist()[0] for key in self.over}, rows[[*self.metrics]].to_numpy(dtype=float)


def axis_label(name: str) -> str:
    """A metric or a key of a scenario with its unit written out, such as ``issues.rate_per_h (per hour)``."""
    _, words = unit_of(name) or ("", "number")
    return f"{name} ({words})"


def _estimate(values: NDArray[np.float64]) -> dict[str, float]:
    from scipy.special import stdtrit  # noqa: PLC0415 - an extra

    values = values[~np.isnan(values)]
    n = len(values)
    mean = float(values.mean()) if n else math.nan
    with np.errstate(invalid="ignore"):  # infinite values have no deviation
        sd = float(values.std(ddof=1)) if n > 1 else math.nan
    quantile = float(stdtrit(n - 1, (1 + CONFIDENCE) / 2)) if n > 1 else math.nan
    return {"mean": mean, "half_width": quantile * sd / math.sqrt(n) if n else math.nan, "sd": sd, "n": n}


def _draw_band(ax: Axes, line: pd.DataFrame, key: str, label: str) -> None:
    x, mean, half_width = (line[name].to_numpy() for name in (key, "mean", "half_width"))
    (drawn,) = ax.plot(x, mean, marker="o", label=label)
    ax.fill_between(x, mean - half_width, mean + half_width, color=drawn.get_color(), alpha=0.2, linewidth=0)
    if np.issubdtype(x.dtype, np.integer):
        ax.locator_params(axis="x", integer=True)  # there are no half developers


def _described(point: dict[str, Any]) -> str:
    return ", ".join(f"{key} = {value}" for key, value in point.items())
