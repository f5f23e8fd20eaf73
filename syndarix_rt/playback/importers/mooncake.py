"""The Mooncake traces: requests to the chat service Kimi, with what their prompts have in common.

Source: Qin et al., Mooncake (FAST 2025); github.com/kvcache-ai/Mooncake, ``FAST25-release/traces/*.jsonl``. A line is
an object with ``timestamp`` (arrival, milliseconds since the beginning), ``input_length`` and ``output_length``
(tokens) and ``hash_ids``: one for each block of 512 tokens of the prompt, the same for the same block after the same
prefix. A CSV file that has counts in place of the hashes is read too, with the columns ``timestamp_ms``,
``input_length``, ``output_length`` and ``prefix_hit_blocks`` (leading blocks that stood in an earlier prompt).

Each row becomes an ``agent_activity`` of operation ``chat``; :mod:`~syndarix_rt.playback.importers.requests` says which
run it stands in, and why. ``prefix_tokens`` are 512 for each leading block seen before, at most the input;
``cached_tokens`` are the same, which is what a cache that forgets nothing would give: the most that is possible.
Times are steps of 3 s in the conversation trace, so its inter-arrival times are not to be fitted. The trace has no
date: it begins at 2000-01-01T00:00Z, so that nobody takes it for a real one.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated

import msgspec
from msgspec import Meta

from syndarix_rt.errors import RecordingError
from syndarix_rt.playback.importers.imported import Imported
from syndarix_rt.playback.importers.requests import Request, import_requests, trace_files
from syndarix_rt.playback.importers.tables import read_table

__all__ = ["import_mooncake"]

_BLOCK_TOKENS = 512
_START = datetime(2000, 1, 1, tzinfo=UTC)
_LONGEST_MS = 100 * 366 * 24 * 3600 * 1000
"""A later time is a slip, and times with it leave the calendar."""

_COLUMNS = ("timestamp_ms", "input_length", "output_length", "prefix_hit_blocks")

_Tokens = Annotated[int, Meta(ge=0, le=2**53)]


class _Line(msgspec.Struct):
    timestamp: Annotated[float, Meta(ge=0, le=_LONGEST_MS)]
    input_length: _Tokens
    output_length: _Tokens
    hash_ids: list[int]


def import_mooncake(path: str | os.PathLike[str], project: str = "mooncake") -> Imported:
    """Read the trace and make events of it.

    Args:
        path: a ``.jsonl`` or ``.csv`` file, or the directory that holds such files.
        project: all events go into this one; each file has a run of its own in it.

    Raises:
        RecordingError: a file cannot be read, a column is missing, a cell is no count.
        ValueError: ``project`` is no project name.
    """
    files = trace_files(Path(path), "*.jsonl", "*.csv")
    return import_requests(
        ((file.stem, file, _published(file) if file.suffix == ".jsonl" else _reduced(file)) for file in files),
        project,
        "/syndarix-rt/import/mooncake",
    )


def _published(path: Path) -> Iterator[Request]:
    decode = msgspec.json.Decoder(_Line).decode
    seen: set[int] = set()
    number = 0
    try:
        with path.open("rb") as file:
            for number, text in enumerate(file, start=1):  # noqa: B007 - for the errors
                if not text.strip():
                    continue
                line = decode(text)
                hits = 0
                for block in line.hash_ids:
                    if block not in seen:
                        break
                    hits += 1
                seen.update(line.hash_ids)
                yield _request(line.timestamp, line.input_length, line.output_length, hits)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise RecordingError(f"{path}, line {number}: {error}") from error
    except OSError as error:
        raise RecordingError(f"{path}: cannot read: {error.strerror}") from error


def _reduced(path: Path) -> Iterator[Request]:
    time, put_in, output, hits = _COLUMNS
    for row in read_table(path, _COLUMNS):
        at_ms = row.needed_count(time)
        if at_ms > _LONGEST_MS:
            raise row.wrong(time, "is more than 100 years")
        yield _request(at_ms, row.needed_count(put_in), row.needed_count(output), row.needed_count(hits))


def _request(at_ms: float, input_tokens: int, output_tokens: int, hits: int) -> Request:
    time = _START + timedelta(milliseconds=at_ms)
    return Request(time, input_tokens, output_tokens, min(hits * _BLOCK_TOKENS, input_tokens))
