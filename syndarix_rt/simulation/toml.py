"""TOML text: read with errors that name place and line, written so that a person would have written it so."""

from __future__ import annotations

import json
import re
import tomllib
from pathlib import Path
from typing import Any

from syndarix_rt.errors import ScenarioError
from syndarix_rt.simulation.tables import TAGS, Table

__all__ = ["parse", "path_of", "read", "write"]

_EXACT = 2**53  # below, whole floats are written without a point, as people do
_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+")


def path_of(given: str | Path, key: str) -> Path:
    """What should be a path, as one.

    Raises:
        ScenarioError: it is something else.
    """
    if not isinstance(given, str | Path):
        raise ScenarioError(f"must be a name or the path of a TOML file, not {given!r}", key)
    return Path(given)


def read(path: Path) -> str:
    """The text of a file.

    Raises:
        ScenarioError: it cannot be read.
    """
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ScenarioError(f"cannot be read: {getattr(error, 'strerror', None) or error}", str(path)) from error


def parse(text: str, where: str) -> Table:
    """The document.

    Args:
        text: of it.
        where: the file, for the error.

    Raises:
        ScenarioError: it is not TOML; names the line.
    """
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ScenarioError(f"not TOML: {error}", where) from error


def write(document: Table) -> str:
    """The text of a document; values of None are left out, tables that name their law, process or kind are one line."""
    return "\n".join(_lines(document, "")) + "\n"


def _lines(table: Table, path: str) -> list[str]:
    values, tables = [], []
    for key, value in table.items():
        name = key if _BARE_KEY.fullmatch(key) else _text(key)
        where = f"{path}.{name}".removeprefix(".")
        if value is None:
            continue
        if isinstance(value, dict) and not any(tag in value for tag in TAGS):
            lines = _lines(value, where)
            # The header of a table that only holds tables says nothing.
            tables += ["", f"[{where}]", *lines] if not lines or lines[0] else lines
        elif isinstance(value, list | tuple) and value and all(isinstance(item, dict) for item in value):
            for item in value:
                tables += ["", f"[[{where}]]", *_lines(item, where)]
        else:
            values.append(f"{name} = {_value(value)}")
    return values + tables


def _value(value: Any) -> str:
    if isinstance(value, str):
        return _text(value)
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, dict):
        pairs = (f"{key} = {_value(item)}" for key, item in value.items() if item is not None)
        return f"{{ {', '.join(pairs)} }}"
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_value, value))}]"
    return repr(int(value) if isinstance(value, float) and value.is_integer() and abs(value) < _EXACT else value)


def _text(value: str) -> str:
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")  # JSON lets DEL stand, TOML does not
