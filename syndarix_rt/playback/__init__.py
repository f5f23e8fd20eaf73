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
* :mod:`~syndarix_rt.playback.importers`: real traces as events
* :mod:`~syndarix_rt.playback.exports`: recordings in the formats of other tools
"""

from syndarix_rt.playback.claims import claim
from syndarix_rt.playback.control import Control
from syndarix_rt.playback.lines import BrokerLine, Line
from syndarix_rt.playback.player import Player
from syndarix_rt.playback.recording import (
    RecordingWriter,
    decode_lines,
    read_lines,
    read_recording,
    replay,
    write_recording,
)

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
