"""LLM requests of which a trace knows the arrival and the tokens, but neither client, session nor latency.

An event ``agent_activity`` belongs to a run, and such a trace has none. A run for each request would claim that every
client called once and took no time; one run for all of them, with an end, that a single agent made thousands of calls.
So there is one run for each file, which the trace implies (``data.implied``) and which **stays open**: it says that
the requests were made, and nothing about runs. No figure of runs (duration, calls, totals) comes of it, as those are
taken from runs that ended. ``time`` is the request's arrival; there is no ``duration_s``.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple

from syndarix_rt.errors import RecordingError
from syndarix_rt.events import Event, is_project_name
from syndarix_rt.playback.importers.imported import FileRows, Imported

__all__ = ["Request", "import_requests", "trace_files"]

_NOT_IN_A_NAME = re.compile(r"[^A-Za-z0-9_-]+")

_IMPLIED_NOTE = "events implied by the trace, not in it (data.implied)"


class Request(NamedTuple):
    """A row of the trace."""

    time: datetime
    """Arrival, UTC."""
    input_tokens: int
    output_tokens: int
    known_tokens: int | None = None
    """Of the input, how many at its beginning stood in earlier requests; None: the trace does not say."""


def trace_files(path: Path, *patterns: str) -> list[Path]:
    """The file itself, or those of a directory whose names match, by name.

    Raises:
        RecordingError: a directory without such files.
    """
    if not path.is_dir():
        return [path]
    files = sorted({file for pattern in patterns for file in path.glob(pattern)})
    if not files:
        raise RecordingError(f"{path}: there is no file {' or '.join(patterns)}")
    return files


def import_requests(files: Iterable[tuple[str, Path, Iterable[Request]]], project: str, source: str) -> Imported:
    """Make events of requests.

    Args:
        files: of each its label, from which the ids are made, its path and its requests in the order of the rows.
        project: all events go into this one.
        source: who says so.

    Raises:
        RecordingError: from reading the requests.
        ValueError: ``project`` is no project name.
    """
    if not is_project_name(project):
        raise ValueError(f"not a project name: {project!r} (1 to 64 of letters, digits, '_' and '-')")
    events: list[Event] = []
    accounts: list[FileRows] = []
    notes: Counter[str] = Counter()
    names: set[str] = set()
    for label, path, rows in files:
        name = _NOT_IN_A_NAME.sub("-", label)[:40].strip("-")
        if not name or name in names:
            name = f"{name or 'requests'}-file{len(accounts) + 1}"
        names.add(name)
        requests = sorted(rows, key=lambda request: request.time)  # stable: at the same time in the order of the rows
        accounts.append(FileRows(path.name, rows=len(requests), mapped=len(requests)))
        if requests:
            events += _events(name, requests, project, source)
            notes[_IMPLIED_NOTE] += 1
    events.sort(key=lambda event: event.time)
    return Imported(events, tuple(accounts), notes)


def _events(name: str, requests: list[Request], project: str, source: str) -> list[Event]:
    who = {"run_id": f"{name}-clients", "agent_id": f"{name}-clients", "role": "clients"}

    def event(kind: str, number: int, time: datetime, data: dict[str, Any], cause: str | None = None) -> Event:
        id_ = f"{name}-{number}"
        return Event.new(kind, who | data, project=project, id=id_, time=time, source=source, subject=name, cause=cause)

    events = [event("agent_started", 0, requests[0].time, {"implied": True})]
    for number, request in enumerate(requests, start=1):
        data: dict[str, Any] = {
            "gen_ai.operation.name": "chat",
            "gen_ai.usage.input_tokens": request.input_tokens,
            "gen_ai.usage.output_tokens": request.output_tokens,
        }
        if request.known_tokens is not None:
            data["prefix_tokens"] = data["cached_tokens"] = request.known_tokens
            data["append_tokens"] = request.input_tokens - request.known_tokens
        events.append(event("agent_activity", number, request.time, data, events[0].id))
    return events
