"""Checked parts of a scenario: immutable structs whose errors name the key, its unit, and the key that was meant.

Units stand in the names of the keys, so an error can tell them: ``rate_per_h`` is per hour, ``gap_min`` in minutes.
"""

from __future__ import annotations

import re
import reprlib
from difflib import get_close_matches
from functools import cache
from typing import Any, Literal, TypeVar, get_args, get_origin

import msgspec

from syndarix_rt.errors import ScenarioError

__all__ = ["Section", "build", "merge", "near_miss", "plain"]

_Section = TypeVar("_Section", bound="Section")

_UNITS = {
    "_per_h": "per hour",
    "_h": "hours",
    "_min": "minutes",
    "_s": "seconds",
    "_share": "a share from 0 to 1",
    "_tokens": "tokens",
}
_WORDS = {
    "float": "number",
    "int": "whole number",
    "str": "text",
    "object": "table",
    "array": "list",
    "bool": "boolean",
}
_AT = re.compile(r"(?s)(.*) - at `\$\.?(.*)`")


class Section(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Part of a scenario; checks itself however it is made, and takes dicts and lists where it holds sections.

    Raises:
        ScenarioError: from the constructor, with the path of the field within this section.
    """

    def __post_init__(self) -> None:
        for field in _fields(type(self)):
            given = getattr(self, field.name)
            value = _convert(plain(given, field.name), field.type, field.name)
            msgspec.structs.force_setattr(self, field.name, value)


def build(raw: Any, kind: type[_Section], path: str = "") -> _Section:
    """A section from plain values, as a TOML file holds them.

    Args:
        raw: the table.
        kind: the section's type.
        path: where the table stands in its document, such as ``projects[0]``; empty for the document itself.

    Raises:
        ScenarioError: for the first key or value that is wrong.
    """
    _refuse_unknown_words(raw, kind, path)
    section: _Section = _convert(raw, kind, path)
    return section


def merge(base: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """``base`` with ``changes`` on top; tables are merged, everything else is replaced."""
    merged = dict(base)
    for key, value in changes.items():
        below = merged.get(key)
        merged[key] = merge(below, value) if isinstance(below, dict) and isinstance(value, dict) else value
    return merged


def plain(value: Any, path: str) -> Any:
    """The value as a TOML file would hold it: sections become tables."""
    try:
        return msgspec.to_builtins(value)
    except TypeError:
        raise ScenarioError(f"a scenario cannot hold a value of type {type(value).__name__}", path) from None


def near_miss(word: str, known: list[str]) -> str:
    """``; did you mean 'x'?`` when a known word is near, else nothing."""
    with_unit = [key for key in known if key.startswith(word + "_")]
    close = with_unit or get_close_matches(word, known, n=1)
    return f"; did you mean {close[0]!r}{_unit(close[0])}?" if close else ""


def _refuse_unknown_words(raw: Any, kind: Any, path: str) -> None:
    """Msgspec refuses such keys and values as well, but cannot say which one was meant."""
    if get_origin(kind) is Literal and isinstance(raw, str) and raw not in get_args(kind):
        words = list(get_args(kind))
        raise ScenarioError(f"expected one of {', '.join(words)}, not {raw!r}{near_miss(raw, words)}", path)
    section = next((part for part in (kind, *get_args(kind)) if _is_section(part)), None)
    if section is None or not isinstance(raw, dict):
        return
    fields = {field.name: field.type for field in _fields(section)}
    for key, value in raw.items():
        where = f"{path}.{key}".removeprefix(".")
        if key not in fields:
            hint = near_miss(key, list(fields)) or f"; known here: {', '.join(fields)}"
            raise ScenarioError(f"unknown key{hint}", where)
        _refuse_unknown_words(value, fields[key], where)


def _convert(raw: Any, kind: Any, path: str) -> Any:
    try:
        return msgspec.convert(raw, kind)
    except msgspec.ValidationError as error:
        match = _AT.fullmatch(str(error))
        reason, below = match.groups() if match else (str(error), "")
        if isinstance(error.__cause__, ScenarioError):  # a section below refused itself
            reason = error.__cause__.reason
            below = f"{below}.{error.__cause__.path}".removeprefix(".")
        where = ".".join(part for part in (path, below) if part).replace(".[", "[")
        if not isinstance(error.__cause__, ScenarioError):
            reason = re.sub(r"`(\w+)( \| null)?`", lambda word: _WORDS.get(word[1], word[1]), reason)
            reason = f"{reason[0].lower()}{reason[1:]}{_unit(where)}"
            if not reason.startswith("object missing"):
                reason += f", not {reprlib.repr(_value_at(raw, below))}"
        raise ScenarioError(reason, where) from None


_fields = cache(msgspec.structs.fields)  # it evaluates the annotations, which takes a while


def _is_section(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, Section)


def _value_at(raw: Any, path: str) -> Any:
    for name, index in re.findall(r"(\w+)|\[(\d+)\]", path):
        raw = raw[name] if name else raw[int(index)]
    return raw


def _unit(path: str) -> str:
    """The unit that the last key with a unit in its name tells: of ``runs.llm_s.median`` it is seconds."""
    for key in reversed(path.split(".")):
        for suffix, unit in _UNITS.items():
            if key.endswith(suffix):
                return f" ({unit})"
    return ""
