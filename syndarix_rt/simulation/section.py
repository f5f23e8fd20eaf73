"""Checked parts of a scenario: immutable structs whose errors name the key, its unit, and the key that was meant.

Units stand in the names of the keys, so an error can tell them: ``rate_per_h`` is per hour, ``gap_min`` in minutes.
A table of several kinds says which one it is: ``law`` of a law of chance, ``process`` of arrivals, ``kind`` of a fault.
"""

from __future__ import annotations

import re
import reprlib
from difflib import get_close_matches
from functools import cache
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import msgspec
import numpy as np

from syndarix_rt.errors import ScenarioError

__all__ = ["Section", "build", "near_miss", "plain", "unit_of"]

_UNITS = {
    "_per_h": ("1/h", "per hour"),
    "_per_min": ("1/min", "per minute"),
    "_per_s": ("1/s", "per second"),
    "_h": ("h", "hours"),
    "_min": ("min", "minutes"),
    "_s": ("s", "seconds"),
    "_share": ("share", "a share from 0 to 1"),
    "_tokens": ("tokens", "tokens"),
    "_usd": ("USD", "US dollars"),
}
_TAG_IF_NONE = {"law": "lognormal"}  # the law of most durations and sizes; other tables must say what they are
_WORDS = {
    "float": "number",
    "int": "whole number",
    "str": "text",
    "object": "table",
    "array": "list",
    "bool": "boolean",
}
_MISSING = re.compile(r"Object missing required field `(.+)`")
_AT = re.compile(r"(?s)(.*) - at `\$\.?(.*)`")


class Section(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Part of a scenario; checks itself however it is made, and takes dicts and lists where it holds sections.

    Raises:
        ScenarioError: from the constructor, with the path of the field within this section.
    """

    def __post_init__(self) -> None:
        for field in _fields(type(self)):
            given = getattr(self, field.name)
            msgspec.structs.force_setattr(self, field.name, build(given, field.type, field.name))


def build(raw: Any, kind: Any, path: str = "") -> Any:
    """A section, or anything that one holds, from plain values, as a TOML file holds them.

    Args:
        raw: the value; sections stay as they are.
        kind: the type.
        path: where the value stands in its document, such as ``projects[0]``; empty for the document itself.

    Raises:
        ScenarioError: for the first key or value that is wrong.
    """
    return _convert(_prepared(raw, kind, path), kind, path)


def plain(value: Any, path: str) -> Any:
    """The value as a TOML file would hold it: sections become tables, and NumPy's numbers and arrays Python's."""
    try:
        return msgspec.to_builtins(value, enc_hook=_from_numpy)
    except TypeError:
        raise ScenarioError(f"a scenario cannot hold a value of type {type(value).__name__}", path) from None


def near_miss(word: str, known: list[str]) -> str:
    """``; did you mean 'x'?`` when a known word is near, else nothing."""
    with_unit = [key for key in known if key.startswith(word + "_")]
    close = with_unit or get_close_matches(word, known, n=1)
    return f"; did you mean {close[0]!r}{_in_unit(close[0])}?" if close else ""


def unit_of(path: str) -> tuple[str, str] | None:
    """Symbol and words of the unit that the last key with one in its name tells: seconds for ``runs.llm_s.median``."""
    for key in reversed(path.split(".")):
        for suffix, unit in _UNITS.items():
            if key.endswith(suffix):
                return unit
    return None


def _from_numpy(value: Any) -> Any:
    if isinstance(value, np.generic | np.ndarray):
        return value.tolist()
    raise TypeError


def _prepared(raw: Any, kind: Any, path: str) -> Any:
    """The value with every table's tag; refuses unknown words: msgspec does, but cannot say which one was meant."""
    if isinstance(raw, Section):
        return raw
    if get_origin(kind) is Annotated:
        kind = get_args(kind)[0]
    if get_origin(kind) is Literal and isinstance(raw, str):
        return _one_of(raw, list(get_args(kind)), path)
    if get_origin(kind) is tuple and isinstance(raw, list | tuple):
        return [_prepared(item, get_args(kind)[0], f"{path}[{index}]") for index, item in enumerate(raw)]
    sections = [part for part in _parts(kind) if isinstance(part, type) and issubclass(part, Section)]
    if not sections:
        return plain(raw, path)
    if isinstance(raw, dict):
        return _prepared_table(raw, sections, path)
    if sections[0].__struct_config__.tag_field is not None and type(raw) in (str, float, int):
        raise ScenarioError(f"expected table, as in {_example(sections, raw)}, not {raw!r}", path)
    return plain(raw, path)


def _prepared_table(raw: dict[str, Any], sections: list[type[Section]], path: str) -> dict[str, Any]:
    section = sections[0]
    tag_field = section.__struct_config__.tag_field
    if tag_field is not None:
        tags = {str(part.__struct_config__.tag): part for part in sections}
        tag = raw.get(tag_field, _TAG_IF_NONE.get(tag_field))
        if tag is None:
            raise ScenarioError(f"needs {tag_field!r}: one of {', '.join(tags)}", path)
        raw = {tag_field: tag, **raw}
        if isinstance(tag, str):
            section = tags[_one_of(tag, list(tags), f"{path}.{tag_field}")]
    fields = {field.name: field.type for field in _fields(section)}
    prepared = {}
    for key, value in raw.items():
        where = f"{path}.{key}".removeprefix(".")
        if key not in fields and key != tag_field:
            hint = near_miss(key, list(fields)) or f"; known here: {', '.join(fields) or 'none'}"
            raise ScenarioError(f"unknown key{hint}", where)
        prepared[key] = _prepared(value, fields.get(key, str), where)
    return prepared


def _example(sections: list[type[Section]], raw: Any) -> str:
    """What somebody may have meant who wrote no table: ``{ process = "poisson" }`` for ``"poisson"``."""
    tags = [str(section.__struct_config__.tag) for section in sections]
    tag_field = sections[0].__struct_config__.tag_field
    if raw in tags:
        return f'{{ {tag_field} = "{raw}" }}'
    if tag_field == "law" and "constant" in tags and not isinstance(raw, str):
        return f'{{ law = "constant", value = {raw} }}'
    return f'{{ {tag_field} = "{tags[0]}", … }}'


def _one_of(word: str, known: list[str], path: str) -> str:
    if word not in known:
        raise ScenarioError(f"expected one of {', '.join(known)}, not {word!r}{near_miss(word, known)}", path)
    return word


def _convert(raw: Any, kind: Any, path: str) -> Any:
    try:
        return msgspec.convert(raw, kind)
    except msgspec.ValidationError as error:
        match = _AT.fullmatch(str(error))
        reason, below = match.groups() if match else (str(error), "")
        if isinstance(error.__cause__, ScenarioError):  # a section below refused itself
            reason = error.__cause__.reason
            below = f"{below}.{error.__cause__.path}".removeprefix(".")
        if missing := _MISSING.fullmatch(reason):
            reason, below = "is missing", f"{below}.{missing[1]}".removeprefix(".")
        where = ".".join(part for part in (path, below) if part).replace(".[", "[")
        if not missing and not isinstance(error.__cause__, ScenarioError):
            reason = reason.removesuffix(", got `null`")  # what it is not stands at the end
            reason = re.sub(r"`(\w+)( \| null)?`", lambda word: _WORDS.get(word[1], word[1]), reason)
            reason = f"{reason[0].lower()}{reason[1:]}{_in_unit(where)}, not {reprlib.repr(_value_at(raw, below))}"
        raise ScenarioError(reason, where) from None


_fields = cache(msgspec.structs.fields)  # it evaluates the annotations, which takes a while


@cache
def _parts(kind: Any) -> tuple[Any, ...]:
    """The members of a union; of anything else, itself."""
    return get_args(kind) if get_origin(kind) in (Union, UnionType) else (kind,)


def _value_at(raw: Any, path: str) -> Any:
    for name, index in re.findall(r"(\w+)|\[(\d+)\]", path):
        raw = raw[name] if name else raw[int(index)]
    return raw


def _in_unit(path: str) -> str:
    return f" ({unit[1]})" if (unit := unit_of(path)) else ""
