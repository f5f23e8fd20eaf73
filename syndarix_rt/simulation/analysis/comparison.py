"""`compare`: two streams of events side by side, such as a recording of real agents and a simulation.

What one of them does not tell (a trace of pull requests knows no tokens) is left out, by name.
"""

from __future__ import annotations

import math
from array import array
from collections.abc import Iterable
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from syndarix_rt.events import Event
from syndarix_rt.events.payloads import LLM_OPERATIONS
from syndarix_rt.simulation.analysis.columns import pandas
from syndarix_rt.simulation.analysis.metric_names import sample_metrics
from syndarix_rt.simulation.analysis.summary import Summary
from syndarix_rt.simulation.reading import read_events
from syndarix_rt.table import aligned

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["ComparedMetric", "ComparedSamples", "Comparison", "compare", "kolmogorov_smirnov"]

Samples = NDArray[np.float64]

_TOLD_BY = {
    "issues": "issues.created",
    "runs": "runs.ended",
    "llm": "llm.calls",
    "tools": "tools.calls",
    "changes": "changes.prs_created",
    "pipelines": "pipelines.ended",
    "approvals": "approvals.resolved",
}
"""What a family of metrics needs one of, to say anything."""


class ComparedMetric(NamedTuple):
    """One metric of `Summary`, side by side."""

    name: str
    a: float
    b: float

    @property
    def ratio(self) -> float:
        """Of b over a; NaN over 0."""
        return _ratio(self.b, self.a)


class ComparedSamples(NamedTuple):
    """One distribution, side by side: sizes, means, quantiles, and how far the two are apart."""

    name: str
    n_a: int
    n_b: int
    mean_a: float
    mean_b: float
    p50_a: float
    p50_b: float
    p90_a: float
    p90_b: float
    ks: float
    """Two-sample Kolmogorov-Smirnov distance, 0 to 1: the largest gap between the shares up to a value. An effect size:
    up to 0.05 is good, up to 0.10 usable agreement."""
    ks_at: float
    """The value with the largest gap, in the unit of the name."""
    share_a: float
    """Share of a up to that value."""
    share_b: float
    """Share of b up to that value."""

    @property
    def ks_chance(self) -> float:
        """The distance that two samples of one law, of these sizes, exceed in 5 % of cases (Smirnov 1939, large n)."""
        return 1.358 * math.sqrt((self.n_a + self.n_b) / (self.n_a * self.n_b))


class Comparison(NamedTuple):
    """What two streams have in common, and where they differ; shown as a table."""

    names: tuple[str, str]
    metrics: tuple[ComparedMetric, ...]
    samples: tuple[ComparedSamples, ...]
    """Those that differ most come first."""
    left_out: tuple[str, ...]
    """Metrics and distributions that one stream, or both, say nothing of."""

    @property
    def frame(self) -> pd.DataFrame:
        """One row a distribution and a metric.

        Columns: ``kind`` (``distribution`` or ``metric``), ``name``, ``a``, ``b`` (of a distribution its median) and
        ``ratio`` b/a; of distributions the rest as in `ComparedSamples`.

        Raises:
            MissingExtra: pandas is not installed.
        """
        more = ("n_a", "n_b", "mean_a", "mean_b", "p90_a", "p90_b", "ks", "ks_at", "ks_chance")
        rows: list[tuple[object, ...]] = []
        for s in self.samples:
            medians = (s.p50_a, s.p50_b, _ratio(s.p50_b, s.p50_a))
            rows.append(("distribution", s.name, *medians, *(getattr(s, name) for name in more)))
        rows += [("metric", m.name, m.a, m.b, m.ratio, *[None] * len(more)) for m in self.metrics]
        columns = ["kind", "name", "a", "b", "ratio", *more]
        frame: pd.DataFrame = pandas("Comparison.frame").DataFrame(rows, columns=columns)
        counts = {"n_a": "Int64", "n_b": "Int64"}
        return frame.astype(dict.fromkeys(columns[2:], "float64") | counts)

    def __str__(self) -> str:
        a, b = self.names
        sides = [f"{what} {side}" for what in ("N", "MEAN", "P50", "P90") for side in (a, b)]
        distributions = [("DISTRIBUTION", "KS", "CHANCE", *sides)]
        for s in self.samples:
            cells = (s.n_a, s.n_b, s.mean_a, s.mean_b, s.p50_a, s.p50_b, s.p90_a, s.p90_b)
            distributions.append((s.name, f"{s.ks:.3f}", f"{s.ks_chance:.3f}", *(f"{cell:.5g}" for cell in cells)))
        metrics = [("METRIC", a, b, "RATIO")]
        metrics += [(m.name, f"{m.a:.5g}", f"{m.b:.5g}", f"{m.ratio:.3g}".replace("nan", "-")) for m in self.metrics]
        tables = [aligned(rows, numbers=range(1, len(rows[0]))) for rows in (distributions, metrics)]
        blocks = [self._summary(), *tables[0], "", *tables[1]]
        if self.left_out:
            blocks += ["", f"Left out, since one of them does not tell: {', '.join(self.left_out)}"]
        return "\n".join(blocks)

    def __repr__(self) -> str:
        return str(self)

    def _summary(self) -> str:
        a, b = self.names
        if not self.samples:
            return f"{a} and {b} have no distribution in common.\n"
        far = self.samples[0]
        return (
            f"{a} and {b} differ most in {far.name}: up to {far.ks_at:.4g} are {far.share_a:.0%} and {far.share_b:.0%} "
            f"(KS {far.ks:.3f}; by chance up to {far.ks_chance:.3f}).\n"
        )


def compare(
    a: Iterable[Event | bytes],
    b: Iterable[Event | bytes],
    *,
    names: tuple[str, str] = ("a", "b"),
    warmup_h: float = 0.0,
) -> Comparison:
    """Compare two streams: every metric of `Summary`, and the distributions behind them.

    Distributions are durations of runs, issues, pipelines and of LLM and tool calls, waits for approvals and merges,
    times between arrivals, tokens and costs. Counts and rates say most where both streams cover as much time; shares,
    durations and distances do not depend on it.

    Args:
        a: events, or lines of a recording, in the order in which they happened; of one simulation.
        b: the other ones.
        names: what to call the two.
        warmup_h: hours after the first event of each that are left out; of calls, none are.

    Example:
        ``print(compare(read_recording("real.jsonl"), Simulation(scenario, seed=7), names=("real", "simulated")))``

    Raises:
        EventError: bytes are no event.
        SyndarixError: these are no events, such as a path, or a simulation without a horizon, which never ends.
    """
    metrics_a, samples_a = _measured(a, warmup_h)
    metrics_b, samples_b = _measured(b, warmup_h)
    stems = {_stem(name) for name in (*metrics_a, *metrics_b)}
    silent = {stem for stem in stems if not (_tells(metrics_a, stem) and _tells(metrics_b, stem))}
    left_out = dict.fromkeys(f"{stem}.*" for stem in sorted(silent))
    samples = []
    for name in samples_a:
        if len(samples_a[name]) and len(samples_b[name]):
            samples.append(_compared(name, samples_a[name], samples_b[name]))
        elif _stem(name) not in silent:
            left_out[name] = None
    samples.sort(key=lambda each: -each.ks)
    metrics = []
    shown = {of_sample for name in samples_a for of_sample in sample_metrics(name)}
    for name in dict.fromkeys((*metrics_a, *metrics_b)):
        if _stem(name) not in silent and name not in shown:
            metric = ComparedMetric(name, metrics_a.get(name, math.nan), metrics_b.get(name, math.nan))
            if math.isnan(metric.a + metric.b):
                left_out[name] = None
            else:
                metrics.append(metric)
    return Comparison(names, tuple(metrics), tuple(samples), tuple(left_out))


def kolmogorov_smirnov(a: Samples, b: Samples) -> tuple[float, float]:
    """The largest gap between the distribution functions of two samples, and the value where it is.

    Args:
        a: (n,) values, n from 1, no NaN.
        b: (m,) values.

    Returns:
        The distance, 0 to 1, and the smallest value at which it is reached.
    """
    a, b = np.sort(a), np.sort(b)
    values = np.concatenate((a, b))
    values.sort()
    gaps = np.abs(np.searchsorted(a, values, side="right") / len(a) - np.searchsorted(b, values, side="right") / len(b))
    at = int(gaps.argmax())
    return float(gaps[at]), float(values[at])


def _measured(events: Iterable[Event | bytes], warmup_h: float) -> tuple[dict[str, float], dict[str, Samples]]:
    """Metrics and samples by name."""
    summary, calls = Summary(warmup_h=warmup_h), _Calls()
    for event in read_events(events):
        summary.feed(event)
        if event.type == "agent_activity":
            calls.feed(event)
    return summary.metrics(), summary.samples | {name: np.array(values) for name, values in calls.samples.items()}


def _stem(name: str) -> str:
    """What a metric is about: ``runs``, or ``queues.agents.tester``."""
    return name.rpartition(".")[0] if name.startswith("queues.") else name.partition(".")[0]


def _tells(metrics: dict[str, float], stem: str) -> bool:
    """Whether there is anything that metrics with this stem could be about."""
    if stem.startswith("queues."):
        return f"{stem}.arrivals" in metrics
    return stem not in _TOLD_BY or metrics[_TOLD_BY[stem]] > 0


class _Calls:
    """LLM and tool calls that went well, one by one; `Summary` keeps none of them."""

    def __init__(self) -> None:
        names = ("llm.call_duration_s", "llm.call_input_tokens", "llm.call_output_tokens", "tools.call_duration_s")
        self.samples: dict[str, array[float]] = {name: array("d") for name in names}

    def feed(self, event: Event) -> None:
        data = event.data
        if data.get("status") == "error":
            return
        operation = data.get("gen_ai.operation.name")
        if operation in LLM_OPERATIONS:
            self._add("llm.call_duration_s", data.get("duration_s"))
            self._add("llm.call_input_tokens", data.get("gen_ai.usage.input_tokens"))
            self._add("llm.call_output_tokens", data.get("gen_ai.usage.output_tokens"))
        elif operation == "execute_tool":
            self._add("tools.call_duration_s", data.get("duration_s"))

    def _add(self, name: str, value: float | None) -> None:
        if value is not None:
            self.samples[name].append(value)


def _ratio(b: float, a: float) -> float:
    return b / a if a else math.nan


def _compared(name: str, a: Samples, b: Samples) -> ComparedSamples:
    ks, at = kolmogorov_smirnov(a, b)
    (p50_a, p90_a), (p50_b, p90_b) = np.quantile(a, (0.5, 0.9)).tolist(), np.quantile(b, (0.5, 0.9)).tolist()
    return ComparedSamples(
        name=name,
        n_a=len(a),
        n_b=len(b),
        mean_a=float(a.mean()),
        mean_b=float(b.mean()),
        p50_a=p50_a,
        p50_b=p50_b,
        p90_a=p90_a,
        p90_b=p90_b,
        ks=ks,
        ks_at=at,
        share_a=float((a <= at).mean()),
        share_b=float((b <= at).mean()),
    )
