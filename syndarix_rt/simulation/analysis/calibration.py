"""`Calibration`: is what is simulated like what was measured of real agents?

The figures of real agents are constants of the profile ``default``, with their sources. A scenario that changes what
they measure differs from them as it should; the preset ``calibrated`` is the one that claims to be like them.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np

from syndarix_rt.events import Event
from syndarix_rt.simulation.analysis.comparison import kolmogorov_smirnov
from syndarix_rt.simulation.analysis.observations import Observations
from syndarix_rt.simulation.profile import Profile
from syndarix_rt.table import aligned

__all__ = ["KS_MOST", "Calibration", "CalibrationReport", "Compared"]

KS_MOST = 0.04
"""The runs of the model, with nothing fitted to Copilot's but the tool's cap and the speed that a run's calls have in
common, come as near to them. With 2,000 runs chance alone may add 0.01; take 6,000 (900,000 events)."""

_RUNS = "trace.runs.duration_min"
_QUANTILES = {"p10": 10, "p50": 50, "p90": 90, "p99": 99}
_MEANS = {"trace.prs.commits": "trace.aidev.commits_per_pr", "trace.prs.runs": "trace.copilot.runs_per_pr"}
_SHARES = {
    "trace.runs.error_share": "trace.copilot.run_error_share",
    "pipelines.fail_after_failure_share": "pipelines.fail_after_failure_share",
    "pipelines.fail_after_success_share": "pipelines.fail_after_success_share",
    "changes.closed_unmerged_share": "changes.closed_unmerged_share",
}
"""What `Observations` calls it, and the constant that holds the real one."""


class Compared(NamedTuple):
    """One figure beside the real one."""

    key: str
    """Of the real one in the profile ``default``."""
    unit: str
    simulated: float
    """NaN: nothing was there to be measured."""
    n: int
    """Observations in the simulation."""
    real: float
    source: str


class CalibrationReport(NamedTuple):
    """What the comparison found."""

    compared: tuple[Compared, ...]
    ks: float | None = None
    """Two-sample distance of the durations of developers' completed runs; None: there are no real ones, or none."""
    real_runs: int = 0

    def __str__(self) -> str:
        """A table, then a line about the distance."""
        rows = [("SIMULATED", "REAL", "UNIT", "N", "FIGURE", "SOURCE")]
        rows += [
            (f"{each.simulated:.4g}", f"{each.real:.4g}", each.unit, f"{each.n:,}", each.key, each.source)
            for each in self.compared
        ]
        lines = aligned(rows, numbers=(0, 1, 3))
        if self.ks is None:
            lines.append("No KS of run durations: it takes real ones (--traces) and simulated ones.")
        else:
            verdict = "is" if self.ks <= KS_MOST else "is not"
            lines.append(
                f"KS of developers' completed runs to {self.real_runs:,} real ones: {self.ks:.3f}, "
                f"which {verdict} at most {KS_MOST}"
            )
        return "\n".join(lines)


class Calibration:
    """Takes the events of a simulation one by one.

    Example:
        ``calibration = Calibration()``, ``for event in Simulation(...): calibration.feed(event)``,
        ``print(calibration.report(import_aidev(path).events))``
    """

    def __init__(self) -> None:
        self._seen = Observations()

    def feed(self, event: Event) -> None:
        """Take the next event."""
        # No figure is made of single calls, which are nine events of ten: their durations would fill the memory.
        if event.type != "agent_activity":
            self._seen.feed(event)

    def report(self, real: Iterable[Event] | None = None) -> CalibrationReport:
        """Compare; call it once, after the last event.

        Args:
            real: events of the trace AIDev-pop; their runs are Copilot's.
        """
        seen, default = self._seen, Profile.load("default")
        seen.finish()
        minutes = np.array(seen.samples.get(_RUNS, []), float)
        figures = {
            f"trace.copilot.run_success_{name}_min": (
                float(np.percentile(minutes, share)) if len(minutes) else math.nan,
                len(minutes),
            )
            for name, share in _QUANTILES.items()
        }
        figures["trace.copilot.run_success_mean_min"] = (
            float(minutes.mean()) if len(minutes) else math.nan,
            len(minutes),
        )
        for key, real_key in _MEANS.items():
            values = seen.samples.get(key, [])
            figures[real_key] = (float(np.mean(values)) if values else math.nan, len(values))
        for key, real_key in _SHARES.items():
            yes, possible, n = seen.shares.get(key, (0.0, 0.0, 0))
            figures[real_key] = (yes / possible if possible else math.nan, n)
        constants = {key: default[key] for key in figures}
        compared = tuple(
            Compared(key, constants[key].unit, simulated, n, constants[key].value, constants[key].source)
            for key, (simulated, n) in figures.items()
        )
        if real is None:
            return CalibrationReport(compared)
        runs = np.array(Observations.of(real).samples.get(_RUNS, []), float)
        if not len(runs) or not len(minutes):
            return CalibrationReport(compared, real_runs=len(runs))
        return CalibrationReport(compared, kolmogorov_smirnov(minutes, runs)[0], len(runs))
