"""Frames of events: one row an event, a run, or a queue. For pandas (``pip install 'syndarix-rt[analysis]'``).

Every function takes events from anywhere, in the order in which they happened: a `Simulation`, `read_recording`, an
import, or lines of JSON. Times are columns of ``datetime64[us, UTC]``; units stand in the names of the columns.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from contextlib import suppress
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from syndarix_rt.events import Event, category_of
from syndarix_rt.events.payloads import LLM_OPERATIONS, MAX_COUNT
from syndarix_rt.simulation.analysis.columns import event_columns, fits, pandas, typed_column
from syndarix_rt.simulation.analysis.queues import Measured, Queues, pool_sizes
from syndarix_rt.simulation.analysis.theory import Expected, allen_cunneen, mmc
from syndarix_rt.simulation.reading import read_events
from syndarix_rt.simulation.scenario import Scenario

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["events_frame", "queues_frame", "runs_frame"]


def events_frame(events: Iterable[Event | bytes]) -> pd.DataFrame:
    """One row an event.

    Columns: ``time``, ``project``, ``type``, ``category``, ``id``, ``cause``, ``subject``, ``simulation``, then what
    payloads say, under plain names (``gen_ai.usage.input_tokens`` is ``input_tokens``) and always the same: ids and
    names, ``state``, ``end_reason``, ``duration_s``, ``queued_s``, ``cost_usd`` … Totals of a run, which stand in its
    last event, are ``run_llm_calls``, ``run_input_tokens``, ``run_cost_usd`` …, so that ``frame["cost_usd"].sum()``
    counts every call once. Whatever else payloads hold follows as ``data.<path>``, sorted by name.

    Texts of few values are categoricals, ids are strings, counts nullable integers, times in seconds floats.

    Raises:
        EventError: bytes are no event.
        SyndarixError: these are no events, such as a path, or a simulation without a horizon, which never ends.
        MissingExtra: pandas is not installed.
    """
    frame: pd.DataFrame = pandas("events_frame").DataFrame(event_columns(list(read_events(events))))
    return frame


def runs_frame(events: Iterable[Event | bytes]) -> pd.DataFrame:
    """One row a run, in the order in which they were first seen.

    Columns: ``simulation``, ``project``, ``run_id``, ``agent_id``, ``role``, ``issue_id``, ``attempt``, ``queued_s``
    (before the start), ``start``, ``end``, ``duration_s``, ``end_reason``, ``truncated`` (the end was not seen),
    ``llm_calls``, ``tool_calls`` (tries, failed ones included), ``failed_calls``, ``input_tokens``, ``output_tokens``,
    ``cached_tokens``, ``cost_usd``. What the run's end says of calls, tokens and cost counts; before the end, and where
    it says nothing, the sums over its activities. A run whose start was not seen starts ``duration_s`` before its end.

    Raises:
        EventError: bytes are no event.
        SyndarixError: these are no events, such as a path, or a simulation without a horizon, which never ends.
        MissingExtra: pandas is not installed.
    """
    new_frame = pandas("runs_frame").DataFrame  # before the work, since it may be missing
    runs: dict[tuple[str | None, str, str], dict[str, Any]] = {}
    for event in read_events(events):
        if category_of(event.type) != "agent":
            continue
        data = event.data
        key = event.simulation, event.project, data["run_id"]
        run = runs.get(key)
        if run is None:
            run = runs[key] = dict.fromkeys(_RUN) | dict(zip(("simulation", "project", "run_id"), key, strict=True))
            run |= dict.fromkeys(("llm_calls", "tool_calls", "failed_calls"), 0) | {"truncated": True}
        run |= {name: data[name] for name in ("agent_id", "role", "issue_id") if data.get(name) is not None}
        if event.type == "agent_started":
            run |= {"start": event.time, "attempt": data.get("attempt"), "queued_s": data.get("queued_s")}
        elif event.type == "agent_activity":
            _add_call(run, data)
        else:
            _end_run(run, event)
    for run in runs.values():
        run |= {name: min(run[name], MAX_COUNT) for name in _COUNTS if run[name] is not None}
    frame: pd.DataFrame = new_frame(
        {name: typed_column([run[name] for run in runs.values()], dtype) for name, dtype in _RUN.items()}
    )
    return frame


def queues_frame(
    events: Iterable[Event | bytes], scenario: Scenario | None = None, *, warmup_h: float = 0.0
) -> pd.DataFrame:
    """One row a queue of each project and simulation: as measured, by Little's law and by theory.

    Columns: ``simulation``, ``project``, ``queue`` (``agents.<role>``, ``runners``, ``humans``); those of `Measured`;
    ``number_little`` = λ W and ``waiting_little`` = λ Wq, which differ from the measured ``number_mean`` and
    ``waiting_mean`` by what the ends of the window cut (see :meth:`Queue.measure`); with ``mmc_`` before the names of
    `Expected`, M/M/c (Erlang C), and with ``ggc_`` G/G/c (Allen-Cunneen), both from the measured λ, E[S], Ca², Cs² and
    c. Theory takes arrivals as independent, so it is far off where issues come in bursts or people keep office hours:
    that is what the comparison shows.

    Args:
        events: with all their agent, pipeline and approval events.
        scenario: tells how many servers there are; None: the members that were seen at work.
        warmup_h: hours after the first event of a simulation that are left out.

    Raises:
        EventError: bytes are no event.
        SyndarixError: these are no events, such as a path, or a simulation without a horizon, which never ends.
        MissingExtra: pandas is not installed.
    """
    new_frame = pandas("queues_frame").DataFrame  # before the work, since it may be missing
    spans: dict[str | None, list[datetime]] = {}
    queues: dict[str | None, Queues] = {}
    for event in read_events(events):
        span = spans.get(event.simulation)
        if span is None:
            span = spans[event.simulation] = [event.time, event.time]
            queues[event.simulation] = Queues()
        span[1] = max(event.time, span[1])
        queues[event.simulation].feed(event, (event.time - span[0]).total_seconds())
    rows = []
    for simulation, (first, last) in spans.items():
        from_s, until_s = 3600 * warmup_h, (last - first).total_seconds()
        sizes = {} if scenario is None else pool_sizes(scenario, from_s, until_s)
        for (project, name), queue in sorted(queues[simulation].items()):
            measured = queue.measure(from_s, until_s, sizes.get((project, name)))
            rows.append((simulation, project, name, *measured, *_expected(measured)))
    names = ["simulation", "project", "queue", *Measured._fields, *_EXPECTED]
    frame: pd.DataFrame = new_frame(rows, columns=names)
    return frame


_RUN = {
    "simulation": "category",
    "project": "category",
    "run_id": "string",
    "agent_id": "string",
    "role": "category",
    "issue_id": "string",
    "attempt": "Int64",
    "queued_s": "float64",
    "start": "time",
    "end": "time",
    "duration_s": "float64",
    "end_reason": "category",
    "truncated": "bool",
    "llm_calls": "Int64",
    "tool_calls": "Int64",
    "failed_calls": "Int64",
    "input_tokens": "Int64",
    "output_tokens": "Int64",
    "cached_tokens": "Int64",
    "cost_usd": "float64",
}
_COUNTS = [name for name, dtype in _RUN.items() if dtype == "Int64"]
_SUMS = {
    "input_tokens": "gen_ai.usage.input_tokens",
    "output_tokens": "gen_ai.usage.output_tokens",
    "cached_tokens": "cached_tokens",
    "cost_usd": "cost_usd",
}


def _add_call(run: dict[str, Any], data: dict[str, Any]) -> None:
    operation = data.get("gen_ai.operation.name")
    run["llm_calls"] += operation in LLM_OPERATIONS
    run["tool_calls"] += operation == "execute_tool"
    run["failed_calls"] += data.get("status") == "error"
    for name, key in _SUMS.items():
        if data.get(key) is not None:
            run[name] = (run[name] or 0) + data[key]


def _end_run(run: dict[str, Any], event: Event) -> None:
    data = event.data
    run |= {"end": event.time, "end_reason": data["end_reason"], "truncated": False}
    if run["start"] is None and data.get("duration_s") is not None:
        with suppress(OverflowError):  # before all calendars
            run["start"] = event.time - timedelta(seconds=data["duration_s"])
    if run["start"] is not None:
        run["duration_s"] = (event.time - run["start"]).total_seconds()
    for name in ("llm_calls", "tool_calls", *_SUMS):
        if fits(data.get(name), _RUN[name]):
            run[name] = data[name]


_EXPECTED = (
    "number_little",
    "waiting_little",
    *(f"{model}_{name}" for model in ("mmc", "ggc") for name in Expected._fields),
)


def _expected(measured: Measured) -> list[float]:
    """L and Lq by Little, then M/M/c and G/G/c.

    Of theory NaN, where the number of servers is not a whole one, or ends stand before their starts: reporters may have
    no common clock.
    """
    arrivals_per_s, servers = measured.arrivals_per_h / 3600, measured.servers
    if not (servers >= 1 and servers.is_integer() and arrivals_per_s * measured.service_mean_s >= 0):
        theory = [math.nan] * 2 * len(Expected._fields)
    else:
        arguments = arrivals_per_s, measured.service_mean_s, int(servers)
        theory = [*mmc(*arguments), *allen_cunneen(*arguments, measured.arrival_cv2, measured.service_cv2)]
    return [arrivals_per_s * measured.sojourn_mean_s, arrivals_per_s * measured.wait_mean_s, *theory]
