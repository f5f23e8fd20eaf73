"""What an inspection of a run found, for people: a table, or a field a line."""

from __future__ import annotations

import re
import shutil
from typing import Any

import msgspec

from syndarix_rt.cli.terminal import Terminal, printable
from syndarix_rt.table import aligned

__all__ = ["show"]

COLUMNS = ("id", "state", "role", "since", "issue_id", "branch", "title", "reason", "runs", "cost_usd")
"""What a table of entities shows, as far as they have it."""

CELL = 24


def show(terminal: Terminal, kind: str, found: dict[str, Any]) -> None:
    """Show it.

    Args:
        terminal: where.
        kind: what was asked for, such as ``pipelines`` or ``agent``.
        found: the answer.
    """
    rows = found.get(kind)
    if isinstance(rows, list):
        _table(terminal, kind, rows)
        terminal.say(f"{found['count']} {kind.replace('_', ' ')}")
    else:
        _fields(terminal, found)


def _fields(terminal: Terminal, found: dict[str, Any]) -> None:
    """One field a line."""
    width = max((len(name) for name in found), default=0)
    for name, value in found.items():
        flat = terminal.interactive and isinstance(value, dict)
        text = ", ".join(f"{key} {_shown(part)}" for key, part in value.items()) if flat else _shown(value)
        terminal.say(f"  {name:<{width}}  {text}")


def _table(terminal: Terminal, kind: str, rows: list[dict[str, Any]]) -> None:
    name = "run_id" if kind == "agent_runs" else f"{kind.removesuffix('s')}_id"
    columns = [name, *(column for column in COLUMNS if column != name and any(column in row for row in rows))]
    cells = [[column.removesuffix("_id") for column in columns]]
    cells += [[_shown(row.get(column, ""))[:CELL] for column in columns] for row in rows]
    room = shutil.get_terminal_size().columns if terminal.interactive else None
    for number, line in enumerate(aligned(cells)):
        terminal.say(f"  {line}"[:room], **({"bold": True} if number == 0 else {}))


def _shown(value: Any) -> str:
    if isinstance(value, float):
        value = round(value, 6)  # sums of dollars have tails that mean nothing
    text = value if isinstance(value, str) else msgspec.json.encode(value).decode()
    if isinstance(value, str):  # a moment: microseconds tell a person nothing
        text = re.sub(r"^(\d{4}-\d\d-\d\d)T(\d\d:\d\d:\d\d)(\.\d+)?(Z|\+00:00)$", r"\1 \2", text)
    return printable(text).replace("\n", " ")
