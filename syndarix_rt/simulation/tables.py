"""Settings as plain tables, as a TOML file holds them: one over another, what differs, and one value by its path.

A table that names its ``law``, ``process`` or ``kind`` is complete: it replaces the one below. A table that does not
changes single values of the one below.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import reduce
from typing import Any

from syndarix_rt.errors import ScenarioError

__all__ = ["TAGS", "Table", "common", "difference", "merge", "nested", "path_parts"]

Table = dict[str, Any]

TAGS = ("law", "process", "kind")
"""Keys that say which of several kinds a table is."""

_PART = re.compile(r"([^.\[\]]+)|\[(\d+)\]")
_ABSENT = object()


def merge(base: Table, changes: Table) -> Table:
    """``base`` with ``changes`` on top; tables are merged unless they are complete, everything else is replaced.

    Changes by index, as :func:`nested` makes them, go into a list's elements.

    Raises:
        ScenarioError: an index is not in the list.
    """
    merged = dict(base)
    for key, value in changes.items():
        merged[key] = _over(merged.get(key), value, key)
    return merged


def difference(table: Table, base: Table) -> Table:
    """The least that makes ``table`` when it is merged into ``base``.

    Raises:
        ScenarioError: ``base`` has a value where ``table`` has None, which TOML cannot say.
    """
    changes = {}
    for key, value in table.items():
        below = base.get(key)
        if value == below:
            continue
        if value is None:
            raise ScenarioError(f"cannot be unset over {below!r}", key)
        if isinstance(value, dict) and isinstance(below, dict) and not any(tag in value for tag in TAGS):
            changes[key] = difference(value, below)
        else:
            changes[key] = value
    return changes


def common(tables: Iterable[Table]) -> Table:
    """What all of some tables say."""
    return reduce(_shared, tables)


def path_parts(path: str) -> list[str | int]:
    """``["faults", 0, "minutes"]`` of ``faults[0].minutes``.

    Raises:
        ScenarioError: it is no path.
    """
    if not isinstance(path, str):
        raise ScenarioError(f"keys are text, not {path!r}", "scenario")
    parts = [name or int(index) for name, index in _PART.findall(path)]
    if not parts or isinstance(parts[0], int) or _written(parts) != path:
        raise ScenarioError("is no key; keys look like agents.developers or faults[0].minutes", path or "scenario")
    return parts


def nested(parts: list[str | int], value: Any) -> Any:
    """A value in tables of its own, so that it can be merged: an index becomes a key that is a number."""
    for part in reversed(parts):
        value = {part: value}
    return value


def _over(below: Any, value: Any, path: str) -> Any:
    if not isinstance(value, dict):
        return value
    if any(isinstance(key, int) for key in value):
        if not isinstance(below, list | tuple):
            raise ScenarioError("is no list", path)
        elements = list(below)
        for index, change in value.items():
            if index >= len(elements):
                raise ScenarioError(f"has no element {index}; it has {len(elements)}, counted from 0", path)
            elements[index] = _over(elements[index], change, f"{path}[{index}]")
        return elements
    if not isinstance(below, dict) or any(tag in value for tag in TAGS):
        return value
    return {**below, **{key: _over(below.get(key), change, f"{path}.{key}") for key, change in value.items()}}


def _shared(one: Table, other: Table) -> Table:
    shared = {}
    for key, value in one.items():
        theirs = other.get(key, _ABSENT)
        if value == theirs:
            shared[key] = value
        elif isinstance(value, dict) and isinstance(theirs, dict) and not any(tag in value for tag in TAGS):
            shared[key] = _shared(value, theirs)
    return shared


def _written(parts: list[str | int]) -> str:
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in parts).removeprefix(".")
