"""`sweep`: a scenario at several points, each simulated several times, with confidence intervals.

.. code-block:: python

    result = sweep("steady_sprint", over={"agents.developers": [2, 4, 8]}, replications=10, seed=7, horizon_h=80)
    result.frame  # one row for each point and metric
    result.plot("…")  # a metric, with its confidence band
    result.against(2).plot("…")  # what the others do differently

Replication ``r`` has the same seed at every point, so it meets the same issues with the same luck there (common random
numbers): points differ by what was changed and much less by chance. :meth:`Sweep.against` makes use of that.
"""

from __future__ import annotations

import inspect
import math
import os
import reprlib
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from contextlib import ExitStack, closing, suppress
from datetime import timedelta
from itertools import islice, product, starmap
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import numpy as np

from syndarix_rt._version import __version__
from syndarix_rt.errors import MissingExtra, ScenarioError, SyndarixError
from syndarix_rt.events import Event
from syndarix_rt.simulation.analysis.orphan import end_with
from syndarix_rt.simulation.analysis.progress import Progress, progress_of
from syndarix_rt.simulation.analysis.replications import Sweep
from syndarix_rt.simulation.analysis.store import Store, digest
from syndarix_rt.simulation.analysis.summary import Summary
from syndarix_rt.simulation.scenario import Scenario
from syndarix_rt.simulation.section import plain
from syndarix_rt.simulation.simulation import Simulation

__all__ = ["Measure", "sweep"]

_IDLE_WORKER_S = 30.0
"""How long a worker process waits for the next sweep. Starting one takes half a second, so a sweep that is run again at
once finds them; longer than that they would only hold memory (joblib's own: 5 min)."""

Measure = Callable[[Iterable[Event]], Mapping[str, float]]
"""From the events of one replication, which can be read once, to its metrics by name."""


def sweep(
    scenario: Scenario | str | Path,
    over: Mapping[str, Iterable[Any]],
    replications: int = 10,
    seed: int = 0,
    *,
    horizon_h: float | None = None,
    events: int | None = None,
    warmup_h: float = 0.0,
    measure: Measure | None = None,
    jobs: int | None = None,
    progress: bool | Progress = True,
    store: str | os.PathLike[str] | None = None,
) -> Sweep:
    """Simulate a scenario at every combination of some values, each ``replications`` times.

    The result is the same with any number of jobs, and on any machines. To use a Dask cluster, wrap the call:
    ``with joblib.parallel_config(backend="dask"): sweep(…)``; its size then decides how many run at a time.

    Args:
        scenario: where to start from; a preset's name and the path of a TOML file will do.
        over: the values of each key, as :meth:`Scenario.replace` takes them: numbers, or tables for laws and whole
            sections. A dict of values gives each a label to be known by in frames and plots.
        replications: at each point, from 1; a confidence interval needs 2, a good one 10.
        seed: of the experiment, a whole number from 0. The seeds of the replications are spawned from it
            (``numpy.random.SeedSequence.spawn``) and stand in the result: ``Simulation`` with one of them gives the
            events of that replication again. More replications leave the first ones as they are.
        horizon_h: how long to simulate, simulated hours; the scenario's own if neither this nor ``events`` is given.
        events: how many events to simulate, if that is to decide; after them or the scenario's horizon it ends.
        warmup_h: what happens before counts for nothing, simulated hours.
        measure: what to make of a replication's events after the warm-up; :class:`Summary` if None.
        jobs: processes at a time; None: as many as this machine has cores. 1 stays in this process, for a debugger.
        progress: True shows a bar on a terminal and in a notebook, not in files and pipes; or a function that is called
            with the number of replications that are done, and of all.
        store: a file to keep finished replications in. A sweep that was interrupted, or gets more points or
            replications, then simulates only what is missing. It takes a named function as ``measure``, and does not
            notice a change in what that one calls.

    Raises:
        ScenarioError: a value at some point is wrong, or nothing says when to stop.
        SyndarixError: the measure gives no metrics, or the store belongs to another experiment.
        MissingExtra: an optional dependency is not installed.
    """
    _require_extra()
    base = _with_stop_rule(scenario if isinstance(scenario, Scenario) else Scenario.load(scenario), horizon_h, events)
    how = _How(events, warmup_h, measure)
    tasks = [
        _Task(labels, at, replication, spawned)
        for labels, at in _points(base, over, warmup_h)
        for replication, spawned in enumerate(_seeds(seed, replications))
    ]
    if jobs is not None and jobs < 1:
        raise SyndarixError(f"jobs: must be a whole number from 1, not {jobs!r}")
    show = progress_of(progress, "replications")
    with ExitStack() as stack:
        kept = None if store is None else stack.enter_context(Store(store, _experiment(base, seed, how)))
        done = {} if kept is None else dict(kept.done)
        # One replication of every point after the other: what there is of an interrupted sweep can be compared.
        missing = sorted((task for task in tasks if task.key not in done), key=lambda task: task.replication)
        show(len(tasks) - len(missing), len(tasks))
        outcomes = stack.enter_context(closing(_outcomes(missing, how, jobs)))
        for count, (index, metrics) in enumerate(outcomes, start=1):
            task = missing[index]
            if kept is not None:
                kept.add(task.key, task.labels, task.replication, metrics)
            done[task.key] = metrics
            show(len(tasks) - len(missing) + count, len(tasks))
    return _sweep(over, tasks, done)


class _How(NamedTuple):
    """What holds for every replication."""

    events: int | None
    warmup_h: float
    measure: Measure | None


class _Task(NamedTuple):
    """One replication at one point."""

    labels: dict[str, Any]
    scenario: Scenario
    replication: int
    seed: int

    @property
    def key(self) -> str:
        return digest((self.scenario, self.seed))


def _require_extra() -> None:
    try:
        import joblib  # noqa: F401, PLC0415 - an extra
        import pandas as pd  # noqa: F401, PLC0415 - an extra
        import scipy  # noqa: F401, PLC0415 - an extra
    except ImportError:
        raise MissingExtra("analysis", "sweep") from None


def _with_stop_rule(scenario: Scenario, horizon_h: float | None, events: int | None) -> Scenario:
    if events is not None and events < 1:
        raise ScenarioError(f"must be a whole number from 1, not {events!r}", "events")
    if horizon_h is not None:
        if events is not None:
            raise ScenarioError("give either this or events, not both", "horizon_h")
        return scenario.replace(horizon_h=horizon_h)
    if events is None and scenario.horizon_h is None:
        raise ScenarioError("nothing says when a replication ends: give horizon_h (hours) or events", "horizon_h")
    return scenario


def _points(
    base: Scenario, over: Mapping[str, Iterable[Any]], warmup_h: float
) -> Iterator[tuple[dict[str, Any], Scenario]]:
    """The labels of each point, and its scenario."""
    if not isinstance(over, Mapping):
        raise ScenarioError(
            f'must be lists of values by key, as in {{"agents.developers": [2, 4]}}, not {over!r}', "over"
        )
    values = {key: _labelled(key, given) for key, given in over.items()}
    for labels in product(*values.values()):
        point = dict(zip(values, labels, strict=True))
        scenario = base.replace({key: values[key][label] for key, label in point.items()})
        end_h = math.inf if scenario.horizon_h is None else scenario.horizon_h
        if not 0 <= warmup_h < end_h:
            raise ScenarioError(f"must be from 0 to less than the horizon, {end_h:g} h, not {warmup_h!r}", "warmup_h")
        yield point, scenario


def _labelled(key: str, values: Iterable[Any]) -> dict[Any, Any]:
    """The values of a key by what they are called in frames."""
    if isinstance(values, str) or not isinstance(values, Iterable):
        raise ScenarioError(f"expected a list of values, not {values!r}", key)
    pairs = list(values.items() if isinstance(values, Mapping) else ((_label(key, value), value) for value in values))
    labels = [label for label, _ in pairs]
    if not labels:
        raise ScenarioError("has no values", key)
    twice = next((label for label in labels if labels.count(label) > 1), None)
    if twice is not None:
        raise ScenarioError(f"{twice!r} comes twice", key)
    return dict(pairs)


def _label(key: str, value: Any) -> Any:
    value = plain(value, key)
    return msgspec.json.encode(value).decode() if isinstance(value, dict | list) else value


def _seeds(seed: int, replications: int) -> list[int]:
    if not isinstance(seed, int) or seed < 0:
        raise ScenarioError(f"must be a whole number from 0, not {seed!r}", "seed")
    if not isinstance(replications, int) or replications < 1:
        raise SyndarixError(f"replications: must be a whole number from 1, not {replications!r}")
    spawned = np.random.SeedSequence(seed).spawn(replications)
    # 53 bits: whole in a float, so no table, spreadsheet or JSON reader changes them.
    return [int(one.generate_state(1, np.uint64)[0]) >> 11 for one in spawned]


def _experiment(scenario: Scenario, seed: int, how: _How) -> dict[str, Any]:
    """What all replications in a store must have in common."""
    return {
        "version": __version__,
        "seed": seed,
        "horizon_h": scenario.horizon_h,
        "events": how.events,
        "warmup_h": how.warmup_h,
        "measure": _name(how.measure),
        "scenario": scenario.name,
        "scenario_digest": digest(scenario),
    }


def _name(measure: Measure | None) -> str:
    if measure is None:
        return "Summary"
    name = getattr(measure, "__qualname__", "<lambda>")
    if "<lambda>" in name:
        raise SyndarixError(f"measure: a store knows it by its name, which {measure!r} has not; define a function")
    try:
        return f"{measure.__module__}.{name} {digest(inspect.getsource(measure))}"
    except (OSError, TypeError):  # its source is nowhere
        return f"{measure.__module__}.{name}"


def _outcomes(tasks: list[_Task], how: _How, jobs: int | None) -> Generator[tuple[int, dict[str, float]]]:
    """Index and metrics of each task, as they finish."""
    calls = [(index, task.scenario, task.seed, how) for index, task in enumerate(tasks)]
    if jobs == 1 or not calls:
        yield from starmap(_replicate, calls)
        return
    import joblib  # noqa: PLC0415 - an extra

    parallel = joblib.Parallel(
        min(jobs or joblib.cpu_count(), len(calls)),
        return_as="generator_unordered",
        idle_worker_timeout=_IDLE_WORKER_S,
        initializer=end_with,
        initargs=(os.getpid(),),
    )
    outcomes = parallel(joblib.delayed(_replicate)(*call) for call in calls)
    for outcome in outcomes:
        try:
            yield outcome
        except GeneratorExit:
            with suppress(KeyboardInterrupt):  # ends the workers; merely closed, joblib would warn of it
                outcomes.throw(KeyboardInterrupt())
            raise


def _replicate(index: int, scenario: Scenario, seed: int, how: _How) -> tuple[int, dict[str, float]]:
    simulation = Simulation(scenario, seed)
    stream = islice(simulation, how.events)
    found: Mapping[str, float]
    if how.measure is None:
        summary = Summary(warmup_h=how.warmup_h, scenario=scenario)
        for event in stream:
            summary.feed(event)
        found = summary.metrics()
    else:
        counts_from = simulation.start + timedelta(hours=how.warmup_h)
        found = how.measure(event for event in stream if event.time >= counts_from)
    try:
        return index, {name: float(value) for name, value in found.items()}
    except (AttributeError, TypeError, ValueError):
        raise SyndarixError(f"measure: must return numbers by name, not {reprlib.repr(found)}") from None


def _sweep(over: Iterable[str], tasks: list[_Task], metrics: Mapping[str, dict[str, float]]) -> Sweep:
    import pandas as pd  # noqa: PLC0415 - an extra

    rows = []
    for task in tasks:
        row = {**task.labels, "replication": task.replication, "seed": task.seed}
        if clash := row.keys() & metrics[task.key].keys():
            raise SyndarixError(f"measure: {clash.pop()!r} is the name of another column; choose another one")
        rows.append(row | metrics[task.key])
    return Sweep(pd.DataFrame(rows), over)
