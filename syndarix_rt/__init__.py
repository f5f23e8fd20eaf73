"""Syndarix RT: simulate LLM coding agents, stream their events without undeclared loss, watch them live.

The rooms, in the order in which an event passes them:

* :mod:`syndarix_rt.events`: the words: `Event`, `EventId`, the catalogue of types
* :mod:`syndarix_rt.simulation`: a `Scenario` and a seed give a stream of events in simulated time
* :mod:`syndarix_rt.adapters`: what real agents and their tools say, as events: OpenTelemetry's spans, webhooks
* :mod:`syndarix_rt.playback`: simulated time to wall time; recordings; importers of real traces
* :mod:`syndarix_rt.broker`: one log per channel, in memory or in Redis
* :mod:`syndarix_rt.delivery`: the rules of delivery without I/O: SSE, log and cursors, resume, filters, ledger
* :mod:`syndarix_rt.server`: Quart and Hypercorn
* :mod:`syndarix_rt.client`: aiohttp
* :mod:`syndarix_rt.notebook`: ipywidgets
* :mod:`syndarix_rt.cli`: the command line

Beside them: :mod:`syndarix_rt.verification`, which breaks a stack on purpose and judges what every subscriber received;
:mod:`syndarix_rt.benchmark`; ``web/``, the page's files and the chart that the notebook shares;
:mod:`syndarix_rt.state`, how processes of one user find each other; :mod:`syndarix_rt.table`;
:mod:`syndarix_rt.errors`.

Importing this package loads none of the heavy libraries; what needs them is loaded when first asked for.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from syndarix_rt._version import __version__
from syndarix_rt.delivery.resume import Gap
from syndarix_rt.errors import SyndarixError
from syndarix_rt.events import Event, EventId

if TYPE_CHECKING:
    from syndarix_rt.broker.memory import MemoryBroker
    from syndarix_rt.simulation import Scenario, Simulation, validate

__all__ = [
    "Event",
    "EventId",
    "Gap",
    "MemoryBroker",
    "Scenario",
    "Simulation",
    "SyndarixError",
    "__version__",
    "validate",
]

_LATER = {
    "MemoryBroker": "syndarix_rt.broker.memory",
    "Scenario": "syndarix_rt.simulation",
    "Simulation": "syndarix_rt.simulation",
    "validate": "syndarix_rt.simulation",
}


def __getattr__(name: str) -> Any:
    if name not in _LATER:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_LATER[name]), name)
