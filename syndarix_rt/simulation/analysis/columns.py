"""Columns of frames: what payloads say under plain names, with proper types."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import numpy as np

from syndarix_rt.errors import MissingExtra
from syndarix_rt.events import Event, category_of
from syndarix_rt.events.payloads import MAX_COUNT

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["event_columns", "fits", "flatten", "pandas", "time_column", "typed_column", "untyped_column"]


_COLUMNS = {
    "run_id": "string",
    "agent_id": "string",
    "role": "category",
    "issue_id": "string",
    "branch": "string",
    "commit": "string",
    "pr_id": "string",
    "pipeline_id": "string",
    "approval_id": "string",
    "sprint_id": "string",
    "state": "category",
    "resolution": "category",
    "priority": "category",
    "end_reason": "category",
    "operation": "category",
    "model": "category",
    "tool": "category",
    "tool_call_id": "string",
    "attempt": "Int64",
    "status": "category",
    "error": "category",
    "input_tokens": "Int64",
    "output_tokens": "Int64",
    "prefix_tokens": "Int64",
    "append_tokens": "Int64",
    "cached_tokens": "Int64",
    "cost_usd": "float64",
    "duration_s": "float64",
    "queued_s": "float64",
    "waited_s": "float64",
    "busy_s": "float64",
    "backoff_s": "float64",
    "retry_after_s": "float64",
    "runner": "category",
    "reason": "category",
    "gated": "boolean",
    "require_green": "boolean",
    "decision": "category",
    "by": "category",
    "run_llm_calls": "Int64",
    "run_tool_calls": "Int64",
    "run_input_tokens": "Int64",
    "run_output_tokens": "Int64",
    "run_cost_usd": "float64",
}
"""What payloads say, and as what."""

_TOTALS = {key: f"run_{key}" for key in ("llm_calls", "tool_calls", "input_tokens", "output_tokens", "cost_usd")}
"""Keys at the end of a run that sum up its calls; apart from those of calls, so that nobody adds them up twice."""

_PLAIN = {name: name for name in _COLUMNS if not name.startswith("run_") or name == "run_id"} | {
    "gen_ai.operation.name": "operation",
    "gen_ai.request.model": "model",
    "gen_ai.tool.name": "tool",
    "gen_ai.tool.call.id": "tool_call_id",
    "gen_ai.usage.input_tokens": "input_tokens",
    "gen_ai.usage.output_tokens": "output_tokens",
}
"""The column of a payload's key."""

_OF_ENDS = _PLAIN | _TOTALS
_ENDS = ("agent_completed", "agent_error")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


def event_columns(rows: Sequence[Event]) -> dict[str, Any]:
    """The columns of `events_frame` by name, each with one value a row."""
    pd = pandas("a frame")
    columns: dict[str, Any] = {
        "time": time_column([row.time for row in rows]),
        "project": pd.Categorical([row.project for row in rows]),
        "type": pd.Categorical([row.type for row in rows]),
        "category": pd.Categorical([category_of(row.type) for row in rows]),
        "id": pd.array([row.id for row in rows], dtype="string"),
        "cause": pd.array([row.cause for row in rows], dtype="string"),
        "subject": pd.array([row.subject for row in rows], dtype="string"),
        "simulation": pd.Categorical([row.simulation for row in rows]),
    }
    payload: dict[str, list[Any]] = {name: [None] * len(rows) for name in _COLUMNS}
    others: dict[str, list[Any]] = {}
    for line, row in enumerate(rows):
        plain = _OF_ENDS if row.type in _ENDS else _PLAIN
        for key, value in row.data.items():
            name = plain.get(key)
            if name is not None and fits(value, _COLUMNS[name]):
                payload[name][line] = value
            elif value is not None:
                flatten(f"data.{key}", value, line, len(rows), others)
    columns |= {name: typed_column(payload[name], dtype) for name, dtype in _COLUMNS.items()}
    return columns | {name: untyped_column(values) for name, values in sorted(others.items())}


def time_column(values: Sequence[datetime | None]) -> pd.Series[Any]:
    """A column of ``datetime64[us, UTC]``; by whole microseconds, since nanoseconds reach to the year 2262 only."""
    missing = np.iinfo(np.int64).min  # how NaT is stored
    whole = [missing if value is None else (value - _EPOCH) // _MICROSECOND for value in values]
    times = np.array(whole, dtype="int64").view("datetime64[us]")
    column: pd.Series[Any] = pandas("a frame").Series(times).dt.tz_localize("UTC")
    return column


def pandas(feature: str) -> Any:
    """The module, for those who have it.

    Raises:
        MissingExtra: it is not installed.
    """
    try:
        import pandas as pd  # noqa: PLC0415 - an extra, and half a second
    except ImportError:
        raise MissingExtra("analysis", feature) from None
    return pd


def fits(value: Any, dtype: str) -> bool:
    """Whether a column can hold a value; the catalogue checks what its types say, but they may say more."""
    if dtype in ("string", "category"):
        return isinstance(value, str)
    if dtype == "boolean":
        return isinstance(value, bool)
    if isinstance(value, bool):
        return False
    if dtype == "Int64":
        return isinstance(value, int) and abs(value) <= MAX_COUNT
    return isinstance(value, float) or (isinstance(value, int) and abs(value) <= sys.float_info.max)


def typed_column(values: list[Any], dtype: str) -> Any:
    """A column with missing values where there is None; ``time`` beside pandas' own names of types."""
    pd = pandas("a frame")
    if dtype == "time":
        return time_column(values)
    if dtype == "category":
        return pd.Categorical(values)
    if dtype == "float64":
        return np.array(values, dtype="float64")  # None becomes NaN
    return pd.array(values, dtype=dtype)


def untyped_column(values: list[Any]) -> pd.Series[Any]:
    """What pandas makes of the values; pandas 2 cannot tell what a whole number beyond a float's range is."""
    new_column = pandas("a frame").Series
    try:
        column: pd.Series[Any] = new_column(values)
    except OverflowError:
        column = new_column(values, dtype="object")
    return column


def flatten(name: str, value: Any, line: int, lines: int, columns: dict[str, list[Any]]) -> None:
    """Put the leaves of a value into their columns, which are named by their path."""
    if isinstance(value, dict) and value:
        for key, inner in value.items():
            flatten(f"{name}.{key}", inner, line, lines, columns)
        return
    column = columns.get(name)
    if column is None:  # once a column, not once a value: as long as all of them
        column = columns[name] = [None] * lines
    column[line] = value
