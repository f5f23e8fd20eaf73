"""Exports: a recording in the formats of other tools.

An export is a function ``(path, events) -> number of events``. It takes the events one by one, so a recording may be
larger than the memory, and gives the file its name when it is complete.

* :mod:`~syndarix_rt.playback.exports.parquet`: one row an event for pandas, DuckDB, Spark …; it can be read back
* :mod:`~syndarix_rt.playback.exports.ocel`: an object-centric event log (OCEL 2.0) for process mining
* :mod:`~syndarix_rt.playback.exports.perfetto`: a timeline of agents and runners for ui.perfetto.dev, written by
  :mod:`~syndarix_rt.playback.exports.trace`
"""

import os
from collections.abc import Callable, Iterable

from syndarix_rt.events import Event
from syndarix_rt.playback.exports.ocel import write_ocel
from syndarix_rt.playback.exports.parquet import read_parquet, write_parquet
from syndarix_rt.playback.exports.perfetto import write_perfetto

__all__ = ["EXPORTS", "read_parquet", "write_ocel", "write_parquet", "write_perfetto"]

EXPORTS: dict[str, Callable[[str | os.PathLike[str], Iterable[Event]], int]] = {
    "parquet": write_parquet,
    "ocel": write_ocel,
    "perfetto": write_perfetto,
}
"""By the name that the command line gives them."""
