"""Importers: real traces become our events at their real times.

An importer is a function ``(path, project) -> Imported``. It says of every row of every file whether it was mapped or
why it was ignored; of every event whether the trace has it or merely implies it (``data.implied``).

* :mod:`~syndarix_rt.playback.importers.aidev`: pull requests of coding agents on GitHub (AIDev-pop)
* :mod:`~syndarix_rt.playback.importers.aidev_files`: simulated events in the format of that trace
"""

from collections.abc import Callable
from pathlib import Path

from syndarix_rt.playback.importers.aidev import import_aidev
from syndarix_rt.playback.importers.imported import FileRows, Imported

__all__ = ["IMPORTERS", "FileRows", "Imported", "import_aidev"]

IMPORTERS: dict[str, Callable[[Path, str], Imported]] = {"aidev": import_aidev}
"""By the name that the command line gives them."""
