"""Importers: real traces become our events at their real times.

An importer is a function ``(path, project) -> Imported``. It says of every row of every file whether it was mapped or
why it was ignored; of every event whether the trace has it or merely implies it (``data.implied``).

* :mod:`~syndarix_rt.playback.importers.aidev`: pull requests of coding agents on GitHub (AIDev-pop)
* :mod:`~syndarix_rt.playback.importers.aidev_files`: simulated events in the format of that trace
* :mod:`~syndarix_rt.playback.importers.azure_llm`: requests to two LLM services (Azure), and simulated ones as such
* :mod:`~syndarix_rt.playback.importers.mooncake`: requests to a chat service, with their common prefixes (Mooncake)
"""

from collections.abc import Callable
from pathlib import Path

from syndarix_rt.playback.importers.aidev import import_aidev
from syndarix_rt.playback.importers.azure_llm import import_azure_llm, write_azure
from syndarix_rt.playback.importers.imported import FileRows, Imported
from syndarix_rt.playback.importers.mooncake import import_mooncake

__all__ = ["IMPORTERS", "FileRows", "Imported", "import_aidev", "import_azure_llm", "import_mooncake", "write_azure"]

IMPORTERS: dict[str, Callable[[Path, str], Imported]] = {
    "aidev": import_aidev,
    "azure-llm": import_azure_llm,
    "mooncake": import_mooncake,
}
"""By the name that the command line gives them."""
