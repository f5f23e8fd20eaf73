"""Simulated time to wall time, and files of events.

* :mod:`~syndarix_rt.playback.player`: `Player` publishes events at a speed; pause, resume, step
* :mod:`~syndarix_rt.playback.control`: `Control` steers a run from outside, over a `Line` of
  :mod:`~syndarix_rt.playback.lines`, with the :mod:`~syndarix_rt.playback.requests` it checks
* :mod:`~syndarix_rt.playback.breakpoints`: at which events a run stops
* :mod:`~syndarix_rt.playback.inspection`: what its events say about a project
* :mod:`~syndarix_rt.playback.agents`: a run's agents in the chat, with what they say from
  :mod:`~syndarix_rt.playback.answers`
* :mod:`~syndarix_rt.playback.claims`: `claim` sees to it that one run plays into a project
* :mod:`~syndarix_rt.playback.recording`: JSON Lines files, one event a line, written, read and replayed
* :mod:`~syndarix_rt.playback.output`: a file that gets its name when it is complete
* :mod:`~syndarix_rt.playback.importers`: real traces as events
* :mod:`~syndarix_rt.playback.exports`: recordings in the formats of other tools
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from syndarix_rt.playback.recording import (
    RecordingWriter,
    decode_lines,
    read_lines,
    read_recording,
    replay,
    write_recording,
)

if TYPE_CHECKING:
    from syndarix_rt.playback.claims import claim
    from syndarix_rt.playback.control import Control
    from syndarix_rt.playback.lines import BrokerLine, Line
    from syndarix_rt.playback.player import Player

__all__ = [
    "BrokerLine",
    "Control",
    "Line",
    "Player",
    "RecordingWriter",
    "claim",
    "decode_lines",
    "read_lines",
    "read_recording",
    "replay",
    "write_recording",
]

_LATER = {"BrokerLine": "lines", "Control": "control", "Line": "lines", "Player": "player", "claim": "claims"}
"""Loaded when first asked for: they bring brokers and asyncio, which files do not need."""


def __getattr__(name: str) -> Any:
    if name not in _LATER:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_LATER[name]}"), name)
