"""The way back from a frame of `events_frame` to events, as far as a fit needs them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import datetime
from typing import TYPE_CHECKING, Any, NamedTuple

from syndarix_rt.errors import ScenarioError
from syndarix_rt.events import Event
from syndarix_rt.simulation.reading import read_events

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["FrameRow", "rows_of"]


class FrameRow(NamedTuple):
    """A row of `events_frame`; its first fields are columns."""

    id: str
    type: str
    time: datetime
    project: str
    cause: str | None
    simulation: str | None
    data: dict[str, Any]


_KEYS = {
    "operation": "gen_ai.operation.name",
    "model": "gen_ai.request.model",
    "input_tokens": "gen_ai.usage.input_tokens",
    "output_tokens": "gen_ai.usage.output_tokens",
    "run_cost_usd": "cost_usd",
    "data.implied": "implied",
    "data.repo": "repo",
}
"""Columns of `events_frame` whose name is not the payload's key."""

_KEPT = (
    *("run_id", "role", "issue_id", "branch", "pr_id", "pipeline_id", "approval_id", "end_reason", "attempt", "status"),
    *("prefix_tokens", "append_tokens", "cached_tokens", "duration_s", "queued_s", "busy_s", "reason", "decision"),
    "gated",
)
_COMMITS = "data.snapshot.commits"


def rows_of(events: Iterable[Event | bytes] | pd.DataFrame) -> Iterator[Event | FrameRow]:
    """Events, lines of a recording or a frame of `events_frame`, one by one.

    Raises:
        EventError: a line is no event.
        ScenarioError: a frame lacks a column.
        SyndarixError: as `read_events`.
    """
    if hasattr(events, "columns"):
        yield from _frame_rows(events)
        return
    yield from read_events(events)


def _frame_rows(frame: Any) -> Iterator[FrameRow]:
    heads = FrameRow._fields[:-1]
    missing = [name for name in (*heads, *_KEPT) if name not in frame.columns]
    if missing:
        raise ScenarioError(f"has no column {', '.join(missing)}; make it with events_frame()", "frame")
    keys = {name: _KEYS.get(name, name) for name in (*_KEPT, *_KEYS, _COMMITS) if name in frame.columns}
    columns = [_plain(frame[name]) for name in (*heads, *keys)]
    for cells in zip(*columns, strict=True):
        named = zip(keys.values(), cells[len(heads) :], strict=True)
        data = {key: cell for key, cell in named if cell is not None}
        if _COMMITS in data:
            data["snapshot"] = {"commits": data.pop(_COMMITS)}
        yield FrameRow._make((*cells[: len(heads)], data))


def _plain(column: pd.Series[Any]) -> list[Any]:
    """Python's values; None where there is nothing."""
    return column.astype(object).where(column.notna(), None).tolist()
