"""The Azure LLM inference traces: arrivals and token counts of the requests to two production services.

Source: Patel et al., Splitwise (ISCA 2024); github.com/Azure/AzurePublicDataset, ``AzureLLMInferenceTrace_code.csv``
(code completion) and ``AzureLLMInferenceTrace_conv.csv`` (chat), November 2023; those of 2024 have the same columns:

* ``TIMESTAMP``, arrival, such as ``2023-11-16 18:17:03.9799600``: without a zone, taken as UTC; cut to microseconds;
* ``ContextTokens``, tokens of the prompt;
* ``GeneratedTokens``, tokens of the answer.

Each row becomes an ``agent_activity`` of operation ``chat``. :mod:`~syndarix_rt.playback.importers.requests` says which
run it stands in, and why.
"""

from __future__ import annotations

import csv
import os
from collections.abc import Iterable, Iterator
from contextlib import suppress
from datetime import timedelta
from pathlib import Path

from syndarix_rt.events import Event
from syndarix_rt.playback.importers.imported import Imported
from syndarix_rt.playback.importers.requests import Request, import_requests, trace_files
from syndarix_rt.playback.importers.tables import read_table

__all__ = ["AZURE_COLUMNS", "import_azure_llm", "write_azure"]

AZURE_COLUMNS = ("TIMESTAMP", "ContextTokens", "GeneratedTokens")

_PREFIX = "AzureLLMInferenceTrace_"


def import_azure_llm(path: str | os.PathLike[str], project: str = "azure-llm") -> Imported:
    """Read the trace and make events of it.

    Args:
        path: one of the CSV files, of any name, or the directory that holds ``AzureLLMInferenceTrace_*.csv``.
        project: all events go into this one; each file has a run of its own in it.

    Raises:
        RecordingError: a file cannot be read, a column is missing, a cell is no count or no time.
        ValueError: ``project`` is no project name.
    """
    files = trace_files(Path(path), f"{_PREFIX}*.csv")
    return import_requests(
        ((file.stem.removeprefix(_PREFIX), file, _requests(file)) for file in files),
        project,
        "/syndarix-rt/import/azure-llm",
    )


def _requests(path: Path) -> Iterator[Request]:
    time, prompt, answer = AZURE_COLUMNS
    for row in read_table(path, AZURE_COLUMNS):
        yield Request(row.time(time, zone_is_utc=True), row.needed_count(prompt), row.needed_count(answer))


def write_azure(events: Iterable[Event], path: str | os.PathLike[str]) -> int:
    """Write the LLM calls among the events in the format of the trace.

    A row's time is that of the request: an event's ``time`` less its ``duration_s``. Calls that say nothing of their
    tokens, such as failed ones, have no row, nor have those that would have begun before the year 1.

    Args:
        events: of any number of runs and projects, in any order.
        path: the CSV file.

    Returns:
        The number of rows.
    """
    rows = []
    for event in events:
        data = event.data
        tokens = data.get("gen_ai.usage.input_tokens"), data.get("gen_ai.usage.output_tokens")
        if event.type == "agent_activity" and None not in tokens:
            with suppress(OverflowError):
                rows.append((event.time - timedelta(seconds=data.get("duration_s") or 0), *tokens))
    rows.sort()
    with Path(path).open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(AZURE_COLUMNS)
        # Seven digits, as in the trace: it counts in 100 ns.
        writer.writerows((f"{time:%Y-%m-%d %H:%M:%S.%f}0", put_in, output) for time, put_in, output in rows)
    return len(rows)
