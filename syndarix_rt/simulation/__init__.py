"""A seeded workload of coding agents in simulated time, and the check that a stream of events is a possible one.

* :mod:`~syndarix_rt.simulation.scenario`: `Scenario`, presets
* :mod:`~syndarix_rt.simulation.profile`: `Profile`: the constants that are its defaults, with their sources
* :mod:`~syndarix_rt.simulation.simulation`: `Simulation`: a scenario and a seed give events
* :mod:`~syndarix_rt.simulation.commands`: what may be said to it between two of them
* :mod:`~syndarix_rt.simulation.validation`: `validate`: the invariants, also on recordings of real agents
* :mod:`~syndarix_rt.simulation.analysis.frames`: `events_frame`, `runs_frame`, `queues_frame`: for pandas
* :mod:`~syndarix_rt.simulation.analysis.comparison`: `compare`: two streams, real or simulated, side by side
* :mod:`~syndarix_rt.simulation.analysis.fit`: `fit`: a profile from a trace, with how well each law does
* :mod:`~syndarix_rt.simulation.analysis.replay`: `replay`: a scenario's settings from a trace, value by value
* :mod:`~syndarix_rt.simulation.analysis.sweep`: `sweep`: points and replications over processes, with intervals

Inside: a :mod:`~syndarix_rt.simulation.world` for each project, in it the life of each
:mod:`~syndarix_rt.simulation.issue` and each :mod:`~syndarix_rt.simulation.run` of an agent;
:mod:`~syndarix_rt.simulation.laws`, :mod:`~syndarix_rt.simulation.randomness` and the
:mod:`~syndarix_rt.simulation.agenda` below them. For the check, the
:mod:`~syndarix_rt.simulation.invariants` with their ids, and the :mod:`~syndarix_rt.simulation.checker`.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from syndarix_rt.simulation.commands import Command, Decide, Emit, Inject, Sent, SetAgents
from syndarix_rt.simulation.profile import Profile, profiles
from syndarix_rt.simulation.scenario import Scenario, presets
from syndarix_rt.simulation.simulation import Simulation
from syndarix_rt.simulation.validation import Report, Validator, validate

if TYPE_CHECKING:
    from syndarix_rt.simulation.analysis.comparison import Comparison, compare
    from syndarix_rt.simulation.analysis.fit import Fit, fit
    from syndarix_rt.simulation.analysis.frames import events_frame, queues_frame, runs_frame
    from syndarix_rt.simulation.analysis.replay import replay
    from syndarix_rt.simulation.analysis.sweep import sweep

__all__ = [
    "Command",
    "Comparison",
    "Decide",
    "Emit",
    "Fit",
    "Inject",
    "Profile",
    "Report",
    "Scenario",
    "Sent",
    "SetAgents",
    "Simulation",
    "Validator",
    "compare",
    "events_frame",
    "fit",
    "presets",
    "profiles",
    "queues_frame",
    "replay",
    "runs_frame",
    "sweep",
    "validate",
]

_LATER = {
    "Comparison": "comparison",
    "Fit": "fit",
    "compare": "comparison",
    "events_frame": "frames",
    "fit": "fit",
    "queues_frame": "frames",
    "replay": "replay",
    "runs_frame": "frames",
    "sweep": "sweep",
}
"""Modules of the analysis, loaded when first asked for: a command that only simulates starts a tenth sooner."""


def __getattr__(name: str) -> Any:
    if name not in _LATER:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.analysis.{_LATER[name]}"), name)
